// Package access decides who may do what: which commands a session is offered
// and may run, which accounts a caller may change, and what the members of a
// channel may do there. It is the one place where these decisions stand.
//
// Its functions are pure: they know ranks, classes and levels, and neither
// sessions nor stored data. Rules: commands 1.1 and 1.8.
package access
