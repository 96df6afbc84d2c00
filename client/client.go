package client

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
	"unique"

	"mrci.dev/mrci/wire"
)

// Config is how a client connects and behaves. The zero value is usable: it
// trusts what the system's authorities vouch for.
type Config struct {
	App        string          // name and version of the program, shown to others; at most 32 bytes
	ModInst    string          // arguments for every module process of the session; at most 128 bytes
	Extensions wire.Extensions // wanted; what the host grants is in Client.Extensions

	// AllowPlain accepts clear text from addresses that are not loopback.
	AllowPlain bool
	// Roots are the authorities to believe; nil means those of the system.
	Roots *x509.CertPool
	// Pin is the fingerprint that the host's key must have, whoever vouches
	// for it; see Fingerprint.
	Pin string
	// VerifyKey decides about a key that no authority vouches for, after Pin
	// has matched, if there is one. It may ask a person. Without it such a key
	// needs a Pin. KnownHosts has a ready one.
	VerifyKey func(addr, fingerprint string) error
	// DialContext opens the connection; nil means net.Dialer.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)

	// Timeout bounds connecting, headers and TLS together, and after that the
	// wait for the host to be ready; 0 means 10 s, what the host allows for
	// each (state 4).
	Timeout time.Duration
	// WriteTimeout is for how long the host may take nothing of a frame
	// before the connection counts as lost; 0 means 60 s, as on the host.
	WriteTimeout time.Duration
	// QueueBytes bounds each queue; 0 means 1 MiB. See the package comment.
	QueueBytes int
	// Stall is for how long a full queue may stop all reading; 0 means 10 s,
	// less than 0 for ever. See OnEvent.
	Stall time.Duration
	// Grace is how long a call may go on after its context was cancelled and
	// TERM_CMD was sent; 0 means 3 s (cli 1).
	Grace time.Duration
	// MaxFrame refuses payloads above this many bytes; 0 means what the
	// protocol allows. A larger frame ends the connection.
	MaxFrame int

	// OnEvent receives the async frames that arrive once the host is ready,
	// but for the messages of a Link, one at a time and in order, on a goroutine
	// that exists while there are any. It may call methods of the client, except
	// Close; but while it waits for the host it takes no events, and once
	// QueueBytes of them have arrived the client stops reading, the host's answer
	// included: for Stall, so for ever if that is less than 0. Who answers much
	// does it on another goroutine. Without OnEvent async frames are not kept.
	OnEvent func(Event)
	// Tap sees every frame first, on the goroutine that reads the connection:
	// it must be quick, call no method of the client, and not keep the payload.
	Tap func(wire.Frame)
	// Logger receives a debug line for each frame that belongs to nothing and
	// for what the client gives up; nil means silence.
	Logger *slog.Logger
}

func (cfg Config) withDefaults() Config {
	if cfg.App == "" {
		cfg.App = "mrci-go"
	}
	if cfg.DialContext == nil {
		cfg.DialContext = (&net.Dialer{Control: givePort}).DialContext
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.WriteTimeout <= 0 {
		cfg.WriteTimeout = 60 * time.Second
	}
	if cfg.QueueBytes <= 0 {
		cfg.QueueBytes = 1 << 20
	}
	if cfg.Stall == 0 {
		cfg.Stall = 10 * time.Second
	}
	if cfg.Grace <= 0 {
		cfg.Grace = 3 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// Client is one session with a host. Its methods are safe for concurrent use.
type Client struct {
	// fixed after Dial
	cfg    *Config
	conn   *Connection
	ready  chan struct{} // closed by the reader at ASYNC_RDY
	done   chan struct{} // closed when the reader has ended
	hangup chan struct{} // closed by Close and by the first failure

	events eventQueue

	links linkTable

	// owned by the reader
	isReady bool

	writing  chan struct{} // holds a token while a frame is written
	deadline time.Time     // of writes; belongs to who has put the token there

	// wg counts goroutines that are not the reader; Close waits for them
	wg sync.WaitGroup

	// guarded by mu
	mu        sync.Mutex
	err       error                    // why the connection ends; the first reason counts
	receivers map[instanceKey]receiver // who gets the frames of running instances
	tapping   []*Call                  // running calls that want async frames too
	asking    []*queue                 // of Peers that wait for answers
	commands  []unique.Handle[wire.CommandInfo]
	listSize  int // bytes of the command list
	granted   wire.Extensions
}

// instanceKey names one running command (protocol 2).
type instanceKey struct {
	cmd    wire.CmdID
	branch wire.BranchID
}

// Dial connects to ADDR[:PORT] and returns when the host is ready to take
// commands (ASYNC_RDY). The context bounds the call, not the client. Errors are
// ErrUnreachable, ErrLost, ErrPlain, ErrProtocol and *CertificateError.
func Dial(ctx context.Context, addr string, cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	conn, err := Connect(ctx, addr, cfg)
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg:       &cfg,
		conn:      conn,
		ready:     make(chan struct{}),
		done:      make(chan struct{}),
		hangup:    make(chan struct{}),
		writing:   make(chan struct{}, 1),
		receivers: make(map[instanceKey]receiver),
	}
	c.events.queue = newQueue(cfg.QueueBytes)
	go c.read() // ends with the connection; Close waits for done

	timer := time.NewTimer(cfg.Timeout)
	defer timer.Stop()
	select {
	case <-c.ready:
		return c, nil
	case <-c.done:
		err = c.Err()
	case <-timer.C:
		err = fmt.Errorf("%w: the host did not become ready", ErrLost)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	c.Close()
	return nil, err
}

// Session returns the id of this session.
func (c *Client) Session() wire.SessionID { return c.conn.Session }

// Fingerprint returns the fingerprint of the host's key, or nothing when the
// connection is in clear text.
func (c *Client) Fingerprint() string { return c.conn.Fingerprint }

// RemoteAddr returns the address of the host.
func (c *Client) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// Extensions returns what the host granted of Config.Extensions.
func (c *Client) Extensions() wire.Extensions {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.granted
}

// Done is closed when the connection has ended; Err then tells why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the connection ended: ErrLost, ErrProtocol or ErrClosed,
// with the cause; nil while it lives.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and every call on it, and waits until the
// client's goroutines have ended. OnEvent gets all that has arrived before: it
// must not wait for who calls Close, such as for room in a Go channel that
// nobody empties any more. Close may be called twice, but not by OnEvent.
func (c *Client) Close() error {
	c.fail(ErrClosed)
	<-c.done
	c.wg.Wait()
	return nil
}

// fail ends the connection; the first reason counts. It does not wait.
func (c *Client) fail(reason error) {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = reason
		close(c.hangup)
	}
	c.mu.Unlock()
	if first {
		c.conn.Close() // the reader wakes up and ends what is left
	}
}

// background runs f on a goroutine that Close waits for, unless the
// connection has ended.
func (c *Client) background(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.wg.Go(f)
	}
}

// write sends one frame of a call, unless allowed, which is asked while
// nothing else can be written, returns an error. ctx bounds the wait for other
// frames: of one that is being written a part may be on its way, so it goes on
// for Config.WriteTimeout. sent is false when the host gets nothing of it.
func (c *Client) write(ctx context.Context, t wire.TypeID, key instanceKey, payload []byte, allowed func() error) (sent bool, err error) {
	if len(payload) > wire.MaxPayload {
		return false, wire.ErrTooLarge
	}
	select {
	case c.writing <- struct{}{}:
		defer func() { <-c.writing }()
	default:
		select {
		case c.writing <- struct{}{}:
			defer func() { <-c.writing }()
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	if err := allowed(); err != nil {
		return false, err
	}
	// Moving a deadline costs a timer, so it is moved when half of it is over.
	if now := time.Now(); c.deadline.Sub(now) < c.cfg.WriteTimeout/2 {
		c.deadline = now.Add(c.cfg.WriteTimeout)
		c.conn.SetWriteDeadline(c.deadline)
	}
	buf := writeBuffers.Get().(*[]byte)
	*buf = wire.AppendFrame((*buf)[:0], t, key.cmd, key.branch, payload)
	_, err = c.conn.Write(*buf)
	if cap(*buf) <= burstBuffer {
		writeBuffers.Put(buf)
	}
	if err != nil {
		c.fail(fmt.Errorf("%w: %w", ErrLost, err))
		return true, c.Err()
	}
	return true, nil
}

var writeBuffers = sync.Pool{New: func() any { return new([]byte) }}

// read is the goroutine that reads the connection. It ends when that does, and
// then ends every call and the events.
func (c *Client) read() {
	defer close(c.done)
	err := c.readFrames()
	c.fail(err)
	c.mu.Lock()
	err = c.err
	receivers, asking := c.receivers, c.asking
	c.receivers, c.tapping, c.asking = nil, nil, nil
	c.mu.Unlock()
	for _, r := range receivers {
		r.finish(err)
	}
	for _, q := range asking {
		q.finish(err)
	}
	c.endLinks(err)
	c.events.finish(io.EOF)
}

func (c *Client) readFrames() error {
	in := newFrameReader(c.conn, c.cfg.MaxFrame)
	defer in.release()
	for {
		f, err := in.next()
		switch {
		case errors.Is(err, wire.ErrTooLarge):
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		case err == io.EOF:
			return fmt.Errorf("%w: the host closed it", ErrLost)
		case err != nil:
			return fmt.Errorf("%w: %w", ErrLost, err)
		}
		if c.cfg.Tap != nil {
			c.cfg.Tap(f)
		}
		if f.Cmd >= wire.FirstCmdID {
			err = c.reply(f)
		} else {
			err = c.async(f)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
	}
}

// waitRoom waits until a full queue is half empty, for Config.Stall at most.
func (c *Client) waitRoom(q *queue) bool {
	var stalled <-chan time.Time
	if c.cfg.Stall > 0 {
		timer := time.NewTimer(c.cfg.Stall)
		defer timer.Stop()
		stalled = timer.C
	}
	select {
	case <-q.room:
		return true
	case <-stalled:
	case <-c.hangup:
	}
	return false
}

func clone(f wire.Frame) wire.Frame {
	f.Payload = append([]byte(nil), f.Payload...)
	return f
}
