package access

import "mrci.dev/mrci/wire"

// MayRelay reports whether a session may have a frame of this type carried to
// the clients of others, by cast and to_peer: not what clients believe of the
// host alone, no IDLE and nothing unknown (modules 1.2).
func MayRelay(t wire.TypeID) bool { return t.Relayable() }
