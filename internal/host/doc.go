// Package host builds a complete host from its configuration, accepts
// connections, hands each to a session, and shuts everything down in order.
//
// Open acquires everything that can fail (database, certificate, port), Run
// serves until its context ends, and Close gives everything back. Shut-down
// stands in Run alone: stop accepting, tell the sessions, wait for them to the
// deadline, end them, close the store.
//
// Limits and places: state 4, 7 and 10.
package host
