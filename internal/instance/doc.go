// Package instance is one running command: it stands between the session that
// received the call and the command's function, and gives both the same
// picture whatever runs the command.
//
// The session delivers frames and control frames (Deliver, Term, Kill, Yield,
// Resume) and takes output (Take) when it was notified; none of these calls
// waits. The command's goroutine waits on its side: for input, while it is
// paused, and while its output has not been taken. The last output of a call
// is its end; whatever the function does, panic included, there is exactly one.
//
// Input that the command does not take is wiped; what it takes is its own.
//
// What control frames do in each state of a call is the table of commands 1.5.
// Order and bounds: DESIGN D4. See DESIGN.md beside this file.
package instance
