// Package client is the Go client of MRCI, protocol revision 2: it connects to
// a host, decides whether to trust it, logs in, calls commands and receives
// what the host and other sessions send.
//
// Dial opens a connection and returns when the host is ready. Client.Run calls
// a command and waits for its end; Client.Call returns a handle to one running
// command, of which any number may run side by side, each on a branch id of
// its own. Config.OnEvent receives async frames (casts, presence, account
// changes) as typed values. What is on the wire stands in package wire; this
// package adds no layouts of its own.
//
// Client.OpenSubChannel opens a sub-channel: from then on what others cast
// there arrives as events, and Client.Cast, or a Caster for many in a row,
// reaches who has it open. Presence comes as events by itself, and
// Client.Peers asks who is there. Client.RequestLink and Client.AcceptLink make
// a Link, which carries messages between this session and one other. The
// commands behind these methods can be called by Run as well, and like all
// commands they are there for who may run them: a *NoCommandError otherwise.
//
// One goroutine per client reads the connection. It hands each frame to the
// queue of the call, or of OnEvent, that it belongs to, so frames of one call
// keep their order, and so do events. Every queue is bounded in bytes
// (Config.QueueBytes). When one is full the client stops reading, and TCP then
// slows the host down, until that queue is half empty; a consumer that does
// not get so far within Config.Stall loses: a call ends with ErrSlowConsumer
// and is terminated on the host, OnEvent misses events, and the next event
// that it gets tells how many (Event.Lost). Other calls therefore wait at most
// Config.Stall for a consumer that stands still. A Link never makes anybody
// wait: when its queue is full it is closed with ErrLinkFull.
//
// An idle client is one goroutine without a read buffer, and clients of one
// process share the texts of the command list, so that a program can hold
// thousands.
//
// The bytes are described in the project's protocol page, trust, prompts and
// time limits in section 1 of the page on the command line, the rules for
// argument words in section 1.2 of the page on commands.
package client
