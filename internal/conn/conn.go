package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"mrci.dev/mrci/wire"
)

// Reasons for which a connection ends. They are logged and counted.
var (
	// ErrNotMRCI: the first bytes are not a client header.
	ErrNotMRCI = errors.New("not an MRCI client")
	// ErrHeaderTimeout: the header was not complete in time.
	ErrHeaderTimeout = errors.New("client header timed out")
	// ErrHandshake: TLS could not be agreed on, or took too long or too many bytes.
	ErrHandshake = errors.New("tls handshake")
	// ErrSlowConsumer: the client does not read what it is sent.
	ErrSlowConsumer = errors.New("slow consumer")
	// ErrInputBudget: the host has no memory left for large frames of clients.
	ErrInputBudget = errors.New("input memory of the host is used up")
	// ErrClosed: the connection was closed from this side.
	ErrClosed = errors.New("connection closed")
)

// Budget is the memory that all connections of a host share for large frames
// that are arriving. Its methods may be called from any goroutine.
type Budget interface {
	Reserve(bytes int) bool
	Release(bytes int)
}

// Config is what a connection needs to know. All fields but Handshakes are set.
type Config struct {
	HeaderTimeout time.Duration // for the client header (state 4)
	TLSTimeout    time.Duration // for the handshake (state 4)
	WriteTimeout  time.Duration // without one byte accepted (state 4)
	QueueBytes    int           // bound of the send queue (state 4)
	FrameLimit    int           // payload bytes of a frame before login (state 4)
	TLS           *tls.Config
	// Handshakes has room for as many elements as TLS handshakes may compute at
	// the same time, so that a thousand of them do not come before everybody
	// else's work; nil: no bound. While a handshake waits for its client it
	// does not count.
	Handshakes    chan struct{}
	TLSOnLoopback bool // reply 2 for loopback peers too (state 4)
	Budget        Budget
}

// The send queue's marks, in bytes of the session's own output: above highWater
// it stops taking work that makes more, and goes on below lowWater. SetHighWater
// keeps their ratio.
const (
	highWater = 256 << 10
	lowWater  = 64 << 10
)

// Conn is one connection after its handshake. ReadBatch belongs to one
// goroutine; everything else may be called from any.
type Conn struct {
	// Fixed after Accept.
	id     wire.SessionID
	header wire.ClientHeader
	remote netip.AddrPort
	born   time.Time
	stream stream

	cfg atomic.Pointer[Config] // what it points to is never changed

	// Owned by the reader.
	partial  *readBuffer // the beginning of a frame that is still arriving
	admitted bool        // the limit has let that frame through
	wide     bool        // the last pooled buffer was full
	// wideReads: who fills a buffer gets one of wideSize next.
	wideReads atomic.Bool
	readErr   error // what ReadBatch fails with from now on

	frameLimit atomic.Int64

	queue sendQueue

	endOnce sync.Once
	ended   chan struct{} // closed when cause is set
	cause   error
}

// Accept exchanges headers on nc and starts TLS where it is due (protocol 1).
// On error it has closed nc. ctx ends the handshake early. Nobody changes cfg any
// more.
func Accept(ctx context.Context, nc net.Conn, cfg *Config) (*Conn, error) {
	c := &Conn{born: time.Now(), ended: make(chan struct{})}
	c.cfg.Store(cfg)
	c.frameLimit.Store(int64(cfg.FrameLimit))
	c.queue.conn = c
	c.queue.high, c.queue.low = highWater, lowWater
	c.remote = remoteAddr(nc)
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	err := c.handshake(nc)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) handshake(nc net.Conn) error {
	if err := nc.SetDeadline(time.Now().Add(c.cfg.Load().HeaderTimeout)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	header, err := readClientHeader(nc)
	if err != nil {
		return err
	}
	c.header = header
	c.id = newSessionID()
	reply := wire.ReplyTLS
	if c.remote.Addr().IsLoopback() && !c.cfg.Load().TLSOnLoopback {
		reply = wire.ReplyClear
	}
	answer := wire.HostHeader{Reply: reply, Version: wire.Served, Session: c.id}.Append(make([]byte, 0, wire.HostHeaderSize))
	if _, err := nc.Write(answer); err != nil {
		return fmt.Errorf("write host header: %w", err)
	}
	c.stream.init(c, nc)
	if reply == wire.ReplyTLS {
		deadline := time.Now().Add(c.cfg.Load().TLSTimeout)
		if err := nc.SetDeadline(deadline); err != nil {
			return fmt.Errorf("set deadline: %w", err)
		}
		if err := c.stream.startTLS(c.cfg.Load().TLS, c.cfg.Load().Handshakes, deadline); err != nil {
			return fmt.Errorf("%w: %v", ErrHandshake, err)
		}
	}
	return nc.SetDeadline(time.Time{})
}

// readClientHeader reads exactly the header: what follows belongs to TLS or to
// the first frame. It gives up at the first byte that no header has.
func readClientHeader(nc net.Conn) (wire.ClientHeader, error) {
	var b [wire.ClientHeaderSize]byte
	for n := 0; n < len(b); {
		m, err := nc.Read(b[n:])
		for i := n; i < n+m && i < len(wire.Tag); i++ {
			if b[i] != wire.Tag[i] {
				return wire.ClientHeader{}, ErrNotMRCI
			}
		}
		n += m
		switch {
		case n == len(b):
		case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF):
			return wire.ClientHeader{}, fmt.Errorf("client header: %w", io.ErrUnexpectedEOF)
		case isTimeout(err):
			return wire.ClientHeader{}, ErrHeaderTimeout
		case err != nil:
			return wire.ClientHeader{}, fmt.Errorf("client header: %w", err)
		}
	}
	return wire.ParseClientHeader(&b)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// remoteAddr is the peer's address, with an IPv4 address as such. What is no
// IP connection (a pipe in a test) is taken for 127.0.0.1.
func remoteAddr(nc net.Conn) netip.AddrPort {
	if tcp, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		ap := tcp.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
}

// SetConfig lets WriteTimeout, for the next write, and QueueBytes be those of
// cfg, which nobody changes any more. Its Budget is that of Accept.
func (c *Conn) SetConfig(cfg *Config) { c.cfg.Store(cfg) }

// ID returns the session id that the client was told.
func (c *Conn) ID() wire.SessionID { return c.id }

// Header returns what the client sent first.
func (c *Conn) Header() wire.ClientHeader { return c.header }

// Remote returns the client's address.
func (c *Conn) Remote() netip.AddrPort { return c.remote }

// Encrypted reports whether the session runs in TLS.
func (c *Conn) Encrypted() bool { return c.stream.tls != nil }

// SetHighWater sets how many bytes Append may have queued before Congested
// reports so; a quarter of them is where the queue counts as drained. It is
// 256 KiB at first; a client that has not logged in is given less.
func (c *Conn) SetHighWater(bytes int) {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	c.queue.high, c.queue.low = bytes, bytes/4
}

// SetFrameLimit sets the largest payload, in bytes, of frames whose header has
// not been read yet.
func (c *Conn) SetFrameLimit(bytes int) { c.frameLimit.Store(int64(bytes)) }

// SetWideReads says whether a client that fills a read buffer of 18 KiB is read
// from in steps of 64 KiB, while the budget has room for them. At first it is
// not: before login a client costs less than that (DESIGN 2, promise 2).
func (c *Conn) SetWideReads(on bool) { c.wideReads.Store(on) }

// End closes the connection at once; what is queued is lost. The first cause
// is kept. It may be called several times.
func (c *Conn) End(cause error) {
	c.endOnce.Do(func() {
		c.cause = cause
		close(c.ended)
		c.stream.nc.Close()
		c.queue.drop()
	})
}

// Ended is closed when the connection has been ended from this side.
func (c *Conn) Ended() <-chan struct{} { return c.ended }

// Cause returns why the connection was ended from this side; nil before.
func (c *Conn) Cause() error {
	select {
	case <-c.ended:
		return c.cause
	default:
		return nil
	}
}

// lingerBytes is how much of what a client still sends is read and dropped
// while the connection closes: closing a socket with unread bytes makes the
// kernel discard what was sent last.
const lingerBytes = 1 << 20

// Finish closes the connection in good order: it takes nothing more into the
// queue, waits until what is there has been written, tells the client that
// nothing more comes, and drops what the client still sends until it closes
// its side. It takes flush plus linger at most. No other goroutine may be in
// ReadBatch. It is called once; End may follow.
func (c *Conn) Finish(flush, linger time.Duration) {
	defer c.End(ErrClosed)
	written := c.queue.seal()
	c.Kick()
	if !c.awaitWritten(written, flush) {
		return
	}
	deadline := time.Now().Add(linger)
	if errors.Is(c.readErr, io.EOF) { // the client has closed its side already
		c.stream.closeWrite(deadline)
		return
	}
	if err := c.stream.nc.SetReadDeadline(deadline); err != nil {
		return
	}
	c.stream.closeWrite(deadline)
	drop := make([]byte, 4<<10)
	defer clear(drop)
	for dropped := 0; dropped < lingerBytes; {
		n, err := c.stream.nc.Read(drop)
		dropped += n
		if err != nil {
			return
		}
	}
}

// awaitWritten waits until written is closed; false when it takes too long or
// the connection ends before.
func (c *Conn) awaitWritten(written <-chan struct{}, flush time.Duration) bool {
	select {
	case <-written: // mostly, and without a timer
		return true
	default:
	}
	timer := time.NewTimer(flush)
	defer timer.Stop()
	select {
	case <-written:
		return true
	case <-timer.C:
	case <-c.ended:
	}
	return false
}

// StopReading makes ReadBatch fail at once and from then on; writing goes on.
func (c *Conn) StopReading() {
	// On a closed connection, the only failure, reading fails anyway.
	_ = c.stream.nc.SetReadDeadline(time.Unix(1, 0))
}
