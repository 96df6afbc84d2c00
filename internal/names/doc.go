// Package names knows how names are compared, and which characters no name
// may hold: the part of the rules that users, channels, sub-channels and
// commands share. What else a name may be, and what to tell who typed it, is
// decided in the packages of these things (account, channel).
//
// Its functions are pure and safe for concurrent use. See state 1 and 2.
package names
