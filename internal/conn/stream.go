package conn

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// stream is the connection's bytes, in clear text or TLS. Where the operating
// system allows it, reads hold no buffer while they wait and writes can be
// tried without waiting; elsewhere, and for connections that are no sockets,
// both simply block.
type stream struct {
	conn *Conn
	nc   net.Conn
	raw  syscall.RawConn // nil: no attempts without waiting
	tls  *tls.Conn       // nil: clear text
	// below is under tls.
	below *below

	// Owned by the reader.
	reading struct {
		run  func(fd uintptr) bool // made once: a closure per read would be garbage
		part *readBuffer
		buf  *readBuffer
		n    int
		err  error
	}

	// Owned by the writer.
	written int64 // bytes that the socket has taken
	attempt struct {
		run func(fd uintptr) bool // made once: a closure per write would be garbage
		p   []byte
		n   int
		err error
	}
}

func (s *stream) init(c *Conn, nc net.Conn) {
	s.conn, s.nc = c, nc
	if !canTry {
		return
	}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			s.raw = raw
			s.attempt.run = func(fd uintptr) bool {
				s.attempt.n, s.attempt.err = rawWrite(fd, s.attempt.p)
				return true
			}
			s.reading.run = s.readReady
		}
	}
}

// startTLS does the server's handshake, on a goroutine of its own so that the
// stack it needs goes with it. The deadlines of the connection bound it.
func (s *stream) startTLS(cfg *tls.Config, turns chan struct{}, deadline time.Time) error {
	s.below = &below{Conn: s.nc, handshake: maxHandshake, turns: turns, deadline: deadline}
	s.below.socket = s.below.readSocket
	s.tls = tls.Server(s.below, cfg)
	done := make(chan error)
	go func() { // ends by the deadline; awaited below
		err := s.tls.Handshake()
		s.below.endTurn()
		done <- err
	}()
	if err := <-done; err != nil {
		return err
	}
	s.below.established.Store(true)
	return nil
}

// read waits for bytes and returns them in a buffer: behind those of part, when
// that is not nil. It returns at least one byte or an error.
func (s *stream) read(part *readBuffer) (*readBuffer, error) {
	if s.raw == nil {
		return s.readBlocking(part)
	}
	r := &s.reading
	r.part, r.buf, r.n, r.err = part, part, 0, nil
	err := s.raw.Read(r.run)
	buf := r.buf
	r.part, r.buf = nil, nil
	if err != nil {
		return nil, err
	}
	return s.finishRead(buf, part, r.n, r.err)
}

// readReady is called when the socket may have bytes. It returns false, and
// holds no buffer of its own, when it has none.
func (s *stream) readReady(fd uintptr) bool {
	r := &s.reading
	if r.buf == nil {
		r.buf = s.conn.nextBuffer()
	}
	r.n, r.err = s.tryRead(fd, r.buf.b[r.buf.n:])
	if r.n == 0 && errors.Is(r.err, errWouldBlock) {
		if r.part == nil {
			releaseBuffer(r.buf, s.conn.cfg.Load().Budget)
			r.buf = nil
		}
		return false
	}
	return true
}

func (s *stream) readBlocking(part *readBuffer) (*readBuffer, error) {
	buf := part
	if buf == nil {
		buf = s.conn.newBuffer(false) // it is held while nothing comes
	}
	var r io.Reader = s.nc
	if s.tls != nil {
		r = s.tls
	}
	n, err := r.Read(buf.b[buf.n:])
	return s.finishRead(buf, part, n, err)
}

func (s *stream) finishRead(buf, part *readBuffer, n int, err error) (*readBuffer, error) {
	if n > 0 { // an error that came with bytes comes again without
		buf.n += n
		return buf, nil
	}
	if part == nil && buf != nil {
		releaseBuffer(buf, s.conn.cfg.Load().Budget)
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return nil, err
}

// tryRead reads what is there without waiting.
func (s *stream) tryRead(fd uintptr, p []byte) (int, error) {
	if s.tls == nil {
		return rawRead(fd, p)
	}
	s.below.fd, s.below.try = fd, true
	n := 0
	for n < len(p) {
		m, err := s.tls.Read(p[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// write moves bytes of p to the socket and returns how many the stream has
// taken. With block false it returns errWouldBlock when the socket takes no
// more; under TLS records may then still wait in below, and the next call,
// with what is left of p, which may be nothing, goes on with them.
func (s *stream) write(p []byte, block bool) (int, error) {
	if s.tls == nil {
		return s.writeSocket(p, block)
	}
	n := 0
	for {
		if err := s.below.flush(s, block); err != nil {
			return n, err
		}
		if n == len(p) {
			return n, nil
		}
		m, err := s.tls.Write(p[n:min(len(p), n+writeSize)])
		n += m
		if err != nil {
			return n, err
		}
	}
}

func (s *stream) writeSocket(p []byte, block bool) (n int, err error) {
	defer func() { s.written += int64(n) }()
	if block || s.raw == nil {
		return s.nc.Write(p)
	}
	a := &s.attempt
	a.p = p
	if err := s.raw.Write(a.run); err != nil {
		return 0, err
	}
	a.p = nil
	return a.n, a.err
}

// closeWrite tells the client that nothing more comes. Nobody else writes.
func (s *stream) closeWrite(deadline time.Time) {
	if s.tls != nil {
		// A client that is gone already cannot be told.
		_ = s.tls.CloseWrite()
		// Behind CloseWrite, which leaves a write deadline that has passed.
		if err := s.nc.SetWriteDeadline(deadline); err != nil {
			return
		}
		_ = s.below.flush(s, true)
	}
	if half, ok := s.nc.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// maxHandshake is how many bytes a client may send before TLS stands: it must
// not make the host keep more (DESIGN 2, promise 2).
const maxHandshake = 16 << 10

// maxCiphertext bounds what below keeps: one write of 64 KiB with its records'
// overhead, and answers of the TLS layer itself.
const maxCiphertext = 128 << 10

var errHandshakeSize = errors.New("more than 16 KiB before the session was agreed on")

// below stands between tls.Conn and the socket. It limits the handshake, reads
// without waiting where told so, wipes what was decrypted, and gathers the
// records of one write into one system call.
type below struct {
	net.Conn
	// Owned by the goroutine that does the handshake, then by the reader.
	handshake int // bytes that may still come before the session stands
	try       bool
	fd        uintptr // valid during one attempt
	records   records
	socket    func(p []byte) (int, error) // readSocket, made once: a closure per read would be garbage
	turns     chan struct{}               // see Config.Handshakes
	hasTurn   bool
	deadline  time.Time // of the handshake

	established atomic.Bool

	// Owned by the writer: ciphertext that the socket has not taken yet.
	sending *writeBuffer

	mu  sync.Mutex
	out *writeBuffer // guarded by mu: ciphertext behind sending
}

func (b *below) Read(p []byte) (int, error) {
	if b.established.Load() {
		return b.records.next(p, b.socket)
	}
	// Between two reads a handshake computes.
	b.endTurn()
	n, err := b.records.next(p, b.socket)
	if n > 0 {
		if turnErr := b.takeTurn(); turnErr != nil {
			return 0, turnErr
		}
	}
	return n, err
}

// takeTurn waits until this handshake may compute.
func (b *below) takeTurn() error {
	if b.turns == nil {
		return nil
	}
	select {
	case b.turns <- struct{}{}:
		b.hasTurn = true
		return nil
	default:
	}
	timer := time.NewTimer(time.Until(b.deadline))
	defer timer.Stop()
	select {
	case b.turns <- struct{}{}:
		b.hasTurn = true
		return nil
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
}

// endTurn lets another handshake compute. It may be called without a turn.
func (b *below) endTurn() {
	if b.hasTurn {
		b.hasTurn = false
		<-b.turns
	}
}

// readSocket reads what the socket has.
func (b *below) readSocket(p []byte) (int, error) {
	if b.established.Load() {
		if b.try {
			return rawRead(b.fd, p)
		}
		return b.Conn.Read(p)
	}
	if b.handshake <= 0 {
		return 0, errHandshakeSize
	}
	n, err := b.Conn.Read(p[:min(len(p), b.handshake)])
	b.handshake -= n
	return n, err
}

func (b *below) Write(p []byte) (int, error) {
	if !b.established.Load() {
		return b.Conn.Write(p)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.out == nil {
		b.out = writePool.Get().(*writeBuffer)
		b.out.b = b.out.b[:0]
	}
	if len(b.out.b)+len(p) > maxCiphertext {
		return 0, ErrSlowConsumer
	}
	b.out.b = append(b.out.b, p...)
	return len(p), nil
}

// flush writes what is gathered. Only the writer calls it.
func (b *below) flush(s *stream, block bool) error {
	for {
		if b.sending == nil {
			b.mu.Lock()
			b.sending, b.out = b.out, nil
			b.mu.Unlock()
			if b.sending == nil {
				return nil
			}
		}
		rest := b.sending.b
		n, err := s.writeSocket(rest, block)
		if n < len(rest) {
			b.sending.b = rest[:copy(rest, rest[n:])]
		} else {
			b.sending.Release()
			b.sending = nil
		}
		if err != nil {
			return err
		}
	}
}
