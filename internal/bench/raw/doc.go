// Package raw is a client with nothing around the bytes, so that what a figure
// has in it of the client is little, and the same whatever server it talks to.
//
// A Client writes requests as they are handed to it and cuts frames out of one
// buffer, which grows to the largest frame; there is no queue behind it, and who
// does not read slows the server down. It does not tell answers to different
// calls apart, starts no goroutine, and connects to loopback addresses only.
// Package client is the one for everything else.
//
// Dial returns it when the server has offered its commands; New takes a
// connection for which somebody else has done that. One goroutine at a time may
// read and one write.
package raw
