package client

import (
	"io"
	"sync"

	"mrci.dev/mrci/wire"
)

// A reader waits with a small buffer, which is all that an idle client keeps,
// and borrows a large one while more arrives than fits.
const (
	idleBuffer  = 512
	burstBuffer = 64 << 10
)

var burstBuffers = sync.Pool{New: func() any { return new([burstBuffer]byte) }}

// frameReader cuts a stream into frames. It belongs to one goroutine.
type frameReader struct {
	r     io.Reader
	limit int
	idle  [idleBuffer]byte
	burst *[burstBuffer]byte // borrowed, or nil
	buf   []byte             // idle, burst, or one of its own for a large frame
	// unread bytes of the stream are buf[start:end].
	start, end int
	full       bool // the last read filled the buffer: more may be waiting
}

func newFrameReader(r io.Reader, limit int) *frameReader {
	if limit <= 0 || limit > wire.MaxPayload {
		limit = wire.MaxPayload
	}
	f := &frameReader{r: r, limit: limit}
	f.buf = f.idle[:]
	return f
}

// next returns the next frame, whose payload is valid until the following
// call. Errors are those of wire.Reader.
func (f *frameReader) next() (wire.Frame, error) {
	for {
		frame, rest, ok := wire.CutFrame(f.buf[f.start:f.end])
		if ok {
			f.start = f.end - len(rest)
			return frame, nil
		}
		need := wire.FrameHeaderSize
		if f.end-f.start >= wire.FrameHeaderSize {
			h := wire.ParseFrameHeader((*[wire.FrameHeaderSize]byte)(f.buf[f.start:]))
			if h.Len > f.limit {
				return wire.Frame{}, wire.ErrTooLarge
			}
			need += h.Len
		}
		if err := f.fill(need); err != nil {
			if err == io.EOF && f.end > f.start {
				err = io.ErrUnexpectedEOF
			}
			return wire.Frame{}, err
		}
	}
}

// fill reads once, after it has made room for a frame of need bytes, or for as
// much of it as the bytes that have arrived justify.
func (f *frameReader) fill(need int) error {
	have := f.end - f.start
	switch {
	case have == 0 && !f.full:
		f.release()
	case have == 0 && len(f.buf) <= burstBuffer:
		f.borrow()
		f.start, f.end = 0, 0
	default:
		if need > len(f.buf) {
			f.grow()
		}
		if f.start > 0 && f.start+need > len(f.buf) {
			copy(f.buf, f.buf[f.start:f.end])
			f.start, f.end = 0, have
		}
	}
	for range 100 {
		n, err := f.r.Read(f.buf[f.end:])
		f.end += n
		f.full = f.end == len(f.buf)
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// grow replaces the buffer by a larger one with the same unread bytes.
func (f *frameReader) grow() {
	unread := f.buf[f.start:f.end]
	if len(f.buf) < burstBuffer {
		f.borrow()
	} else if len(unread) == len(f.buf) {
		f.buf = make([]byte, 2*len(f.buf))
	} else {
		return // what has arrived does not fill this buffer yet
	}
	f.start, f.end = 0, copy(f.buf, unread)
}

func (f *frameReader) borrow() {
	if f.burst == nil {
		f.burst = burstBuffers.Get().(*[burstBuffer]byte)
	}
	f.buf = f.burst[:]
}

// release goes back to the small buffer; nothing is unread.
func (f *frameReader) release() {
	if f.burst != nil {
		burstBuffers.Put(f.burst)
		f.burst = nil
	}
	f.buf = f.idle[:]
	f.start, f.end = 0, 0
}
