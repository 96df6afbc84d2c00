// Package channels has the built-in commands about channels and sub-channels,
// except for those that cast (commands 6 and 7).
//
// Who may do what, and what is stored, is decided in package channel. What a
// command has changed there it hands to Events, which binds every session
// before the command ends. What the caller's own session has open is behind
// Doors, and the owner override behind Overrides.
package channels
