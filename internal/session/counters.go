package session

import (
	"sync/atomic"

	"mrci.dev/mrci/wire"
)

// Counters count, over all sessions that share them, what sessions have done
// and what they have refused or cut off, by reason. The zero value is ready.
type Counters struct {
	Calls      atomic.Uint64 // commands started
	Failed     atomic.Uint64 // calls that ended with another code than NO_ERRORS
	Crashed    atomic.Uint64 // of those, with CRASH
	NotOffered atomic.Uint64 // refused: no such command for the session
	TooMany    atomic.Uint64 // refused: max_instances, or 4 before login
	TooLarge   atomic.Uint64 // refused: a frame above the limit before login
	CastBytes  atomic.Uint64 // refused: a cast that is too large
	NoInput    atomic.Uint64 // cut off: a call that takes no input
	Forced     atomic.Uint64 // cut off: a call that did not end after KILL_CMD
}

func (n *Counters) ended(code wire.ReturnCode) {
	switch code {
	case wire.NoErrors:
		return
	case wire.Crash:
		n.Crashed.Add(1)
	}
	n.Failed.Add(1)
}

// Queued returns how many bytes wait to be sent to the client.
func (s *Session) Queued() int { return s.conn.Queued() }
