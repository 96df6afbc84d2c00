package fanout

import (
	"bytes"
	"errors"
	"fmt"

	"mrci.dev/mrci/wire"
)

// Protocol is what a server speaks.
type Protocol string

// The protocols.
const (
	MRCI Protocol = "mrci"
	NATS Protocol = "nats"
)

// Subjects of NATS: what is cast, and by which receivers tell the sender how
// far they have come.
const (
	castSubject     = "c"
	progressSubject = "p"
)

// Bounds of what is held of a frame until enough of it has come.
const (
	heldAtOnce = 128
	longestErr = 96 // bytes of a refusal that are shown
	longestOp  = 16 << 10
)

// feed takes what was read. mu is held.
func (m *Member) feed(b []byte, now int64) error {
	m.bytes += uint64(len(b))
	for len(b) > 0 {
		if m.skip > 0 {
			n := min(m.skip, len(b))
			m.skip -= n
			b = b[n:]
			continue
		}
		if len(m.held) > 0 {
			before := len(m.held)
			m.held = append(m.held, b[:min(len(b), heldAtOnce)]...)
			size, err := m.cut(m.held, now)
			switch {
			case err != nil:
				return err
			case size == 0:
				b = b[len(m.held)-before:]
			case size > len(m.held):
				m.skip = size - len(m.held)
				b = b[len(m.held)-before:]
				m.held = m.held[:0]
			default:
				b = b[size-before:]
				m.held = m.held[:0]
			}
			continue
		}
		size, err := m.cut(b, now)
		switch {
		case err != nil:
			return err
		case size == 0:
			// That is at most the beginning of one frame.
			m.held = append(m.held, b...)
			return nil
		case size > len(b):
			m.skip = size - len(b)
			return nil
		}
		b = b[size:]
	}
	return nil
}

// cut acts on the first frame in b and returns its size, which may be more than
// b has; 0: its beginning is not there yet.
func (m *Member) cut(b []byte, now int64) (size int, err error) {
	if m.protocol == NATS {
		return m.cutOp(b, now)
	}
	if len(b) < wire.FrameHeaderSize {
		return 0, nil
	}
	h := wire.ParseFrameHeader((*[wire.FrameHeaderSize]byte)(b))
	look := min(h.Len, headSize)
	if h.Type == wire.Err {
		look = min(h.Len, longestErr)
	}
	if len(b) < wire.FrameHeaderSize+look {
		return 0, nil
	}
	head := b[wire.FrameHeaderSize : wire.FrameHeaderSize+look]
	switch {
	case h.Cmd == wire.CmdID(wire.AsyncCast):
		m.check.take(head, h.Len, now)
	case h.Cmd != m.cast: // of something else that the host has to say
	case h.Type == wire.Err:
		m.refusal = string(head)
	case h.Type == wire.Idle:
		if code, _, err := wire.ParseIdle(head); err != nil || code != wire.NoErrors {
			return 0, fmt.Errorf("a cast ended with %v: %s", code, bytes.TrimSpace([]byte(m.refusal)))
		}
		m.answers++
	}
	return wire.FrameHeaderSize + h.Len, nil
}

var errOp = errors.New("NATS says something that is not known here")

// cutOp is cut for NATS.
func (m *Member) cutOp(b []byte, now int64) (size int, err error) {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if len(b) > longestOp {
			return 0, errOp
		}
		return 0, nil
	}
	op := b[:end]
	switch {
	case len(op) > 5 && op[0] == 'M': // MSG subject sid size
		length, times := 0, 1
		for i := end - 2; i > 0 && op[i] != ' '; i-- {
			if op[i] < '0' || op[i] > '9' || times > 1e8 {
				return 0, fmt.Errorf("%w: %.100q", errOp, op)
			}
			length += int(op[i]-'0') * times
			times *= 10
		}
		head := b[end+1:]
		if len(head) < min(length, headSize) {
			return 0, nil
		}
		head = head[:min(length, headSize)]
		if op[4] == castSubject[0] {
			m.check.take(head, length, now)
		} else if len(head) >= 2 {
			m.window.advance(get16(head))
		}
		return end + 1 + length + 2, nil
	case bytes.HasPrefix(op, []byte("PING")):
		m.pings++
	case bytes.HasPrefix(op, []byte("PONG")):
		m.answers++
	case bytes.HasPrefix(op, []byte("+OK")), bytes.HasPrefix(op, []byte("INFO")):
	default:
		return 0, fmt.Errorf("%w: %.100q", errOp, op)
	}
	return end + 1, nil
}

// window is how far the receivers of a NATS server have come, which has no
// way to slow a sender down that loses nothing.
type window struct {
	every  uint64   // casts after which a receiver tells; 0: there is no window
	size   uint64   // casts that may be under way
	told   []uint64 // by receiver, how often it has told
	least  uint64   // of told
	behind int      // how many receivers have told as often as that
}

func newWindow(receivers int, every, size uint64) window {
	return window{every: every, size: size, told: make([]uint64, receivers), behind: receivers}
}

func (w *window) advance(receiver int) {
	if receiver >= len(w.told) {
		return
	}
	w.told[receiver]++
	if w.told[receiver] != w.least+1 {
		return
	}
	if w.behind--; w.behind > 0 {
		return
	}
	w.least++
	for _, n := range w.told {
		if n == w.least {
			w.behind++
		}
	}
}

// room returns how many casts may be sent when so many have been.
func (w *window) room(sent uint64) uint64 {
	if w.every == 0 {
		return 1 << 62
	}
	return w.least*w.every + w.size - sent
}

// done reports whether everybody has told of all that can be told of.
func (w *window) done(sent uint64) bool { return w.every == 0 || w.least >= sent/w.every }
