// Package channel holds the rules for channels: what channels and sub-channels
// may be called, who makes, changes and removes them, how users are invited,
// join, leave and change their levels, which sub-channels somebody may open,
// and where they may only listen.
//
// It keeps nothing itself: channels live behind the Store interface, which
// package store implements over SQL. Who may do what with which level is
// decided in package access. It knows no sessions either: what is open, and
// what clients are told, is the business of those that call. For them every
// change returns what has changed, under old and new names and levels, and
// whose sessions are to hear of it (Hear).
//
// Each method of Service is one transaction. The caller's account, the
// channel, levels, limits and names are looked at inside it, in the order that
// the entries in commands 6 and 7 give, and the first rule that is broken is
// the answer. What a caller did wrong comes back as a *RuleError, whose text
// can be shown as it is and which has the code for the IDLE of the call.
//
// Hear names the members at the moment of the change, and the user whom it
// concerns. Somebody who is invited hears only what concerns the own invite.
// Who has a sub-channel open without being a member is not among them: only
// sessions know that.
//
// A channel has exactly one owner at any time. Service is safe for concurrent
// use. See commands 1.8, 1.9, 6 and 7, state 1.3 to 1.6, 2 and 10.
package channel
