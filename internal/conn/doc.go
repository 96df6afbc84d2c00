// Package conn is one client's connection: the exchange of headers, TLS,
// frames in and frames out.
//
// Accept does the handshake within its deadlines and returns a Conn. One
// goroutine, the reader, calls ReadBatch; while nothing arrives it holds no
// buffer. Any goroutine may queue frames: queueing never waits, the queue is
// bounded in bytes, and a client that does not read is ended when the bound is
// passed or when it has taken no byte for the write time-out. Whoever calls
// Flush writes what the socket takes at once; the rest is left to a writer
// goroutine that exists only while there is something to write.
//
// What was read is wiped when it has been given back, in the buffers of TLS too:
// it may have been a password.
//
// The package knows frames and nothing of what they mean: who may send what is
// the session's business. Bytes: protocol 1 and 2. Limits: state 4 and 10.
package conn
