// Package fanout makes and checks the load of one that sends to many, over one
// socket each, in the protocol of a host or in that of NATS.
//
// A Member is one connection. It checks that of each sender nothing is lost and
// the order is kept, notes how long each payload was under way, and sends: as
// fast as the server takes it, or at a rate. What it does with the bytes is the
// same whatever the server, and little: frames are cut where they were read, and
// of a payload only its beginning is looked at, so that the servers are what is
// measured. NATS is spoken by the same few lines and not by a client library,
// whose cost would count against it.
//
// A Floor is the least that a server of casts can do. Connecting, logging in and
// the processes that all this runs in are of package bench.
//
// A Member has a reader, on a goroutine of its owner, and one caller for
// everything else. A Floor serves each connection on the caller's goroutine.
package fanout
