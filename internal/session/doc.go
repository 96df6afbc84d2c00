// Package session is one connected client: who is logged in, which commands
// are offered, which calls are running, and what goes back to the client in
// which order.
//
// All of a session's state belongs to its owner, a role that at most one
// goroutine has at a time and that exists only while there is work. The owner
// never waits: for the store, a command, another session or the socket. Run is
// the reader; it returns when the session and everything it started has ended.
// See DESIGN.md beside this file.
//
// Rules: protocol 2 and 4, commands 1.3 and 1.5, state 9.
package session
