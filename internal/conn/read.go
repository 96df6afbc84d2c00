package conn

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"mrci.dev/mrci/wire"
)

// Sizes of pooled read buffers, in bytes. One of readSize holds the largest
// frame that a client may send before it has logged in, and keeps such a client
// below 64 KiB in all. One of wideSize is for who may have wide reads and has
// filled the buffer before: each system call and each batch then moves more.
const (
	readSize = 18 << 10
	wideSize = 64<<10 + wire.FrameHeaderSize
)

var (
	readPool = sync.Pool{New: func() any { return &readBuffer{b: make([]byte, readSize)} }}
	widePool = sync.Pool{New: func() any { return &readBuffer{b: make([]byte, wideSize)} }}
)

// readBuffer collects bytes of a connection. n bytes of b are filled.
type readBuffer struct {
	b []byte
	n int
	// reserved bytes of the host's budget stand behind b: all of it, unless it
	// is of readSize.
	reserved int
	// alone: b is for one frame, and not pooled.
	alone bool
}

// Batch holds whole frames, one behind the other, as they arrived.
type Batch struct {
	buf    *readBuffer
	budget Budget
}

// Bytes returns the frames. They are valid until Release.
func (b Batch) Bytes() []byte { return b.buf.b[:b.buf.n] }

// Single reports whether the batch is one large frame in memory of its own,
// which then need not be copied to outlive Release, and which Release does not
// wipe.
func (b Batch) Single() bool { return b.buf.alone }

// Release gives the batch's memory back, wiped: there may be a password in it.
// It is called once.
func (b Batch) Release() {
	if b.buf.alone {
		b.budget.Release(b.buf.reserved)
		return
	}
	releaseBuffer(b.buf, b.budget)
}

// nextBuffer returns an empty pooled buffer for what comes next.
func (c *Conn) nextBuffer() *readBuffer { return c.newBuffer(c.wide && c.wideReads.Load()) }

// newBuffer returns an empty pooled buffer, a wide one if there is memory for
// it.
func (c *Conn) newBuffer(wide bool) *readBuffer {
	if wide && c.cfg.Load().Budget.Reserve(wideSize) {
		buf := widePool.Get().(*readBuffer)
		buf.reserved = wideSize
		return buf
	}
	return readPool.Get().(*readBuffer)
}

func releaseBuffer(buf *readBuffer, budget Budget) {
	clear(buf.b[:buf.n])
	reserved := buf.reserved
	buf.n, buf.reserved = 0, 0
	switch {
	case buf.alone:
	case reserved > 0:
		widePool.Put(buf)
	default:
		readPool.Put(buf)
	}
	if reserved > 0 {
		budget.Release(reserved)
	}
}

// FrameTooLargeError is returned by ReadBatch for a frame above the limit. The
// frame's payload has not been read.
type FrameTooLargeError struct {
	Header wire.FrameHeader
	Limit  int
}

// Error says how large the frame is and what the limit is.
func (e *FrameTooLargeError) Error() string {
	return fmt.Sprintf("frame of %d bytes, the limit is %d", e.Header.Len, e.Limit)
}

// Unwrap makes the error a wire.ErrTooLarge.
func (e *FrameTooLargeError) Unwrap() error { return wire.ErrTooLarge }

// ReadBatch waits until at least one whole frame has arrived and returns all
// that have. While nothing arrives it holds no buffer. A frame that is larger
// than the limit is a *FrameTooLargeError, returned when the frames before it
// have been; the end of the stream is io.EOF between frames and
// io.ErrUnexpectedEOF within one. After an error, which gives all memory back,
// every later call fails with it too. The caller releases the batch, and calls
// DropInput when it stops without an error.
func (c *Conn) ReadBatch() (Batch, error) {
	for c.readErr == nil {
		if c.partial != nil {
			whole, need, err := c.wholeFrames(c.partial)
			if whole > 0 {
				return c.cut(whole), nil
			}
			if err == nil {
				err = c.makeRoom(need)
			}
			if err != nil {
				c.readErr = err
				break
			}
		}
		buf, err := c.stream.read(c.partial)
		switch {
		case err == nil:
			c.partial = buf
		case c.Cause() != nil:
			c.readErr = c.Cause()
		case errors.Is(err, io.EOF) && c.partial != nil:
			c.readErr = io.ErrUnexpectedEOF
		default:
			c.readErr = err
		}
	}
	c.dropPartial()
	return Batch{}, c.readErr
}

// wholeFrames returns how many of the filled bytes are whole frames, and how
// many bytes the frame behind them needs.
func (c *Conn) wholeFrames(buf *readBuffer) (whole, need int, err error) {
	limit := int(c.frameLimit.Load())
	filled := buf.b[:buf.n]
	for {
		left := filled[whole:]
		if len(left) < wire.FrameHeaderSize {
			return whole, wire.FrameHeaderSize, nil
		}
		h := wire.ParseFrameHeader((*[wire.FrameHeaderSize]byte)(left))
		if h.Len > limit && (whole > 0 || !c.admitted) {
			return whole, 0, &FrameTooLargeError{Header: h, Limit: limit}
		}
		need = wire.FrameHeaderSize + h.Len
		if len(left) < need {
			return whole, need, nil
		}
		whole += need
	}
}

// cut makes the first whole bytes of partial a batch and keeps the rest.
func (c *Conn) cut(whole int) Batch {
	buf := c.partial
	rest := buf.b[whole:buf.n]
	c.partial, c.admitted = nil, false
	c.wide = buf.n == len(buf.b) && !buf.alone
	if len(rest) > 0 {
		// At most of wideSize: what is read into the buffer of one frame ends
		// with it.
		next := c.nextBuffer()
		if len(rest) > len(next.b) {
			readPool.Put(next)
			next = c.newBuffer(true)
		}
		if len(rest) > len(next.b) {
			c.readErr = ErrInputBudget
		}
		next.n = copy(next.b, rest)
		clear(rest)
		c.partial = next
	}
	buf.n = whole
	return Batch{buf: buf, budget: c.cfg.Load().Budget}
}

// makeRoom makes room in partial for more of its frame, which needs need bytes
// in all. Memory grows with what has arrived, not with what the header claims.
func (c *Conn) makeRoom(need int) error {
	buf := c.partial
	c.admitted = buf.n >= wire.FrameHeaderSize
	if need <= readSize || buf.n < len(buf.b) {
		return nil
	}
	var grown *readBuffer
	switch size := min(4*len(buf.b), need); {
	case need <= wideSize:
		if grown = c.newBuffer(true); len(grown.b) < need {
			releaseBuffer(grown, c.cfg.Load().Budget)
			return ErrInputBudget
		}
	case !c.cfg.Load().Budget.Reserve(size):
		return ErrInputBudget
	default:
		grown = &readBuffer{b: make([]byte, size), reserved: size, alone: true}
	}
	grown.n = copy(grown.b, buf.b[:buf.n])
	releaseBuffer(buf, c.cfg.Load().Budget)
	c.partial = grown
	return nil
}

// DropInput gives back the memory of a frame that has not arrived whole; later
// calls of ReadBatch fail. It belongs to the reader, who calls it at the end.
func (c *Conn) DropInput() {
	if c.readErr == nil {
		c.readErr = ErrClosed
	}
	c.dropPartial()
}

func (c *Conn) dropPartial() {
	if c.partial != nil {
		releaseBuffer(c.partial, c.cfg.Load().Budget)
		c.partial = nil
	}
}
