// Package soak is the load of a soak: clients that do on a host, in an order that
// chance decides, what clients do, and what they must not do, and that look
// whether each answer is the one that the protocol promises.
//
// Run is for a process that has some of the clients; each does one scene after
// the other (scene.go) until its context ends, and ends the scene it is at. What
// it has met is written line by line, and a Tally in the process that has
// started it understands the lines. MakeAccounts, FillLog and FillCaches prepare
// a host. Which processes there are, and whether the host has grown, is the
// business of package bench.
//
//	client.go    a client, its session, and what it expects of a call
//	scene.go     the scenes, and how a session comes and goes; steps.go is what it does
//	accounts.go  one session that changes the account of another
//	readers.go   clients that read slowly, or not at all
//	stranger.go  who never logs in
//	channels.go  casts and presence in a channel; rights.go is who may do what there
//	room.go      makes the channel; cast.go is what is said and heard
//	links.go     steps over peer links
//	prepare.go   accounts, and logs that are long
//
// A client is one goroutine, and has more while it does several things at once;
// all have ended when Run returns. What a session is told waits in a queue of
// fixed length; what finds no room is dropped, which counts as unexpected if a
// scene waits for it. All addresses are loopback.
package soak
