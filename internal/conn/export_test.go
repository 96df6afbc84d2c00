package conn

import "net"

// NewSessionID makes ids without a connection for each.
var NewSessionID = newSessionID

// The marks of the send queue.
const (
	HighWater   = highWater
	LowWater    = lowWater
	LingerBytes = lingerBytes
)

// RecordConn hands crypto/tls one record at a time, as the connections of a
// host do. Waiting is called before the socket is asked for more, with all
// buffers that crypto/tls has passed to Read.
type RecordConn struct {
	net.Conn
	Waiting func(buffers map[*byte][]byte)
	Waits   int

	records records
	buffers map[*byte][]byte // by their ends: crypto/tls passes the rest of one buffer again and again
}

// Read implements net.Conn.
func (c *RecordConn) Read(p []byte) (int, error) {
	if c.buffers == nil {
		c.buffers = make(map[*byte][]byte)
	}
	if end := &p[len(p)-1]; len(p) > len(c.buffers[end]) {
		c.buffers[end] = p
	}
	return c.records.next(p, func(p []byte) (int, error) {
		if c.Waiting != nil {
			c.Waits++
			c.Waiting(c.buffers)
		}
		return c.Conn.Read(p)
	})
}
