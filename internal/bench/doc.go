// Package bench measures a host, and in the same run a floor: a throw-away
// server that speaks just enough of the protocol for the same client code and
// does nothing else, with no rights, no sessions and no store. What a figure is
// worth is its ratio to the floor's, because both change with the machine.
//
// Host, floor and attackers are processes of their own (the program starts
// itself, see Role), the client is this process; rounds of host and floor
// alternate, and each figure is the median of its rounds. Everything stays on
// loopback addresses and in a temporary directory.
//
// The client is that of package raw. Casts have a floor of their own and are
// compared with NATS too, if the program for it is there. Their clients are
// teams (team.go) of which each is a process; what a client does with its socket
// is in package fanout.
//
// A soak has no floor: it compares what the host has in use at rest, before a
// mixed load and after it (soak.go). What its clients do is in package soak.
//
// A Bench belongs to one goroutine.
package bench
