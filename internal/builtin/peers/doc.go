// Package peers has the built-in commands with which sessions reach each other:
// those that cast (commands 7) and those for links between two sessions
// (commands 8).
//
// All of them are inline: they hand something to Peers, which queues it and
// never waits. The one exception is to_peer at a full link, which asks to be
// run again on a goroutine of its own and waits there for a few seconds.
package peers
