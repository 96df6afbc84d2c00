// Package wire is the MRCI protocol, revision 2, as Go values: the two headers
// that open a session, the frame, the ids, and the layout of every payload.
//
// It reads and writes bytes and nothing else: it opens no connection, keeps no
// session and makes no decision about rights. Decoders return a complete value
// or a *FormatError, never both, and never panic whatever the bytes are. Append
// encodes and Parse decodes every Payload; each layout states its fields once,
// with the names that JSON output and documents use. Headers and frames have an
// Append method and a Parse function of their own. testdata holds commented
// bytes of every layout, for implementations in other languages too.
//
// Values have no hidden state. A Reader or Writer belongs to one goroutine;
// everything else may be used from any.
//
// The bytes are described in the project's protocol page: section 1 (headers),
// 2 (frames), 3 (type ids and layouts), 4 (return codes), 5 (async ids).
// All integers are little endian and unsigned.
package wire
