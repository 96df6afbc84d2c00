// Package tui is what the terminal client shows and reads: frames as readable
// lines and as JSON objects, what other sessions do as news for a person, and
// lines typed by a person, which it edits, or read from a file.
//
// It knows the protocol's values (wire) and what the client library makes of
// them, and nothing of the host. It opens no connection and decides nothing
// about exit codes. An Input belongs to one goroutine at a time; News and the
// formatting functions may be used from any.
//
// The forms are described in the project's page on the command line, sections
// 2 and 5.
package tui
