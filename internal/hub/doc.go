// Package hub is where the sessions of a host meet: what changes in channels
// reaches those who may hear of it, sub-channels are opened and closed, peers
// learn who is there, and frames go from one client to others. It stands
// between the bus, which knows who may send and hear, and the commands and
// sessions, which know rights and clients.
//
// Changes of channels are made one after the other (Turn): what is stored and
// what the index says then change in the same order, and clients hear of it in
// that order. Openings and re-readings of rights of one session exclude each
// other (Seat.opening). Presence of one session is sent under a lock of its
// own, with what the session has open at that moment, so that the last word is
// true. Nothing of this is held by a cast. docs/ARCHITECTURE.md has the order
// of these locks, and why nothing that is taken away stays open.
//
// Rules: protocol 5 to 7, commands 6 to 8.
package hub
