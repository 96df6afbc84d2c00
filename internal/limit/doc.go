// Package limit counts what addresses, accounts and sessions use, and says when
// it is too much.
//
// A Limiter counts sessions and the half-open connections of each address; a
// Rate counts events for each key within a sliding window, such as failed
// logins of an address in an hour. Neither waits, starts anything or reads a
// clock: the caller gives the time, and closes or refuses what was not allowed.
//
// IPv6 addresses are counted by /64, the smallest part that one customer gets;
// IPv4 addresses in their IPv6 form count as IPv4. Loopback is spared from
// limits per address unless that is configured.
//
// Memory is bounded: an address is held only while something is counted for it,
// and a Rate has a largest number of keys. Everything may be used by any number
// of goroutines at once.
//
// The limits are those of the specification, state 4, 7.1 and 10.
package limit
