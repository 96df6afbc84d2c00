package wire

import (
	"encoding/binary"
	"errors"
	"io"
)

// Sizes of a frame, in bytes (protocol 2).
const (
	FrameHeaderSize = 8
	MaxPayload      = 1<<24 - 1
)

// ErrTooLarge is returned when a payload does not fit a frame, or is larger
// than the limit that was set on a Reader.
var ErrTooLarge = errors.New("frame is too large")

// FrameHeader is what stands in front of every payload (protocol 2).
type FrameHeader struct {
	Type   TypeID
	Cmd    CmdID
	Branch BranchID
	Len    int // bytes of payload, 0..MaxPayload
}

// Frame is one frame with its payload. Who hands a Frame on says who owns the
// payload's bytes.
type Frame struct {
	Type    TypeID
	Cmd     CmdID
	Branch  BranchID
	Payload []byte
}

// ParseFrameHeader decodes the first eight bytes of a frame. Every value of
// the eight bytes is a header; there is nothing to refuse.
func ParseFrameHeader(b *[FrameHeaderSize]byte) FrameHeader {
	return FrameHeader{
		Type:   TypeID(b[0]),
		Cmd:    CmdID(binary.LittleEndian.Uint16(b[1:])),
		Branch: BranchID(binary.LittleEndian.Uint16(b[3:])),
		Len:    int(b[5]) | int(b[6])<<8 | int(b[7])<<16,
	}
}

// Append adds the eight bytes of the header to dst. It panics if Len is
// negative or above MaxPayload: the caller has checked what it sends.
func (h FrameHeader) Append(dst []byte) []byte {
	if h.Len < 0 || h.Len > MaxPayload {
		panic("wire: frame payload out of range")
	}
	return append(dst, byte(h.Type),
		byte(h.Cmd), byte(h.Cmd>>8),
		byte(h.Branch), byte(h.Branch>>8),
		byte(h.Len), byte(h.Len>>8), byte(h.Len>>16))
}

// AppendFrame adds one frame to dst. It panics if the payload is larger than
// MaxPayload.
func AppendFrame(dst []byte, t TypeID, cmd CmdID, branch BranchID, payload []byte) []byte {
	dst = FrameHeader{Type: t, Cmd: cmd, Branch: branch, Len: len(payload)}.Append(dst)
	return append(dst, payload...)
}

// AppendText adds one frame with a text payload to dst. It panics if the text
// is larger than MaxPayload.
func AppendText(dst []byte, t TypeID, cmd CmdID, branch BranchID, text string) []byte {
	dst = FrameHeader{Type: t, Cmd: cmd, Branch: branch, Len: len(text)}.Append(dst)
	return append(dst, text...)
}

// AppendIdle adds the IDLE frame that ends a call (protocol 4). data are the
// command's own bytes behind the code, and may be nil; it panics if they are
// larger than MaxPayload-2.
func AppendIdle(dst []byte, cmd CmdID, branch BranchID, code ReturnCode, data []byte) []byte {
	dst = FrameHeader{Type: Idle, Cmd: cmd, Branch: branch, Len: 2 + len(data)}.Append(dst)
	dst = append(dst, byte(code), byte(code>>8))
	return append(dst, data...)
}

// ParseIdle decodes the payload of IDLE. An empty payload means NO_ERRORS, as
// modules send it (protocol 4); one byte is an error.
func ParseIdle(p []byte) (code ReturnCode, data []byte, err error) {
	switch len(p) {
	case 0:
		return NoErrors, nil, nil
	case 1:
		return 0, nil, &FormatError{Layout: "IDLE", Field: "code", Offset: 0, Want: "2 bytes"}
	}
	return ReturnCode(binary.LittleEndian.Uint16(p)), p[2:], nil
}

// CutFrame splits the first frame off b. It returns ok false, and rest b, when
// b does not hold a whole frame. The payload aliases b.
func CutFrame(b []byte) (f Frame, rest []byte, ok bool) {
	if len(b) < FrameHeaderSize {
		return Frame{}, b, false
	}
	h := ParseFrameHeader((*[FrameHeaderSize]byte)(b))
	end := FrameHeaderSize + h.Len
	if len(b) < end {
		return Frame{}, b, false
	}
	return Frame{Type: h.Type, Cmd: h.Cmd, Branch: h.Branch, Payload: b[FrameHeaderSize:end:end]}, b[end:], true
}

// Readdress gives every frame in b, which holds whole frames, the command and
// branch. It panics if b ends within a frame.
func Readdress(b []byte, cmd CmdID, branch BranchID) {
	for len(b) > 0 {
		head, rest := cutWhole(b)
		binary.LittleEndian.PutUint16(head[1:], uint16(cmd))
		binary.LittleEndian.PutUint16(head[3:], uint16(branch))
		b = rest
	}
}

// AppendIdles adds, for every frame in frames, which holds whole frames, an IDLE
// with its command and branch, the code and no data (protocol 4). It panics if
// frames ends within a frame.
func AppendIdles(dst, frames []byte, code ReturnCode) []byte {
	for len(frames) > 0 {
		head, rest := cutWhole(frames)
		dst = append(dst, byte(Idle), head[1], head[2], head[3], head[4], 2, 0, 0, byte(code), byte(code>>8))
		frames = rest
	}
	return dst
}

// cutWhole splits the first frame off b, of which it returns the header. It
// panics if b does not hold all of it.
func cutWhole(b []byte) (head *[FrameHeaderSize]byte, rest []byte) {
	if len(b) >= FrameHeaderSize {
		head = (*[FrameHeaderSize]byte)(b)
		if end := FrameHeaderSize + ParseFrameHeader(head).Len; len(b) >= end {
			return head, b[end:]
		}
	}
	panic("wire: half a frame")
}

// Reader reads frames from a stream. It allocates nothing per frame of up to
// 64 KiB: the payload that Next returns is valid until the following call. A
// larger buffer goes when its frame has been used. A Reader belongs to one
// goroutine.
type Reader struct {
	r     io.Reader
	limit int
	buf   []byte
	// unread bytes of the stream are buf[start:end].
	start, end int
}

// readAhead is how much a Reader asks for at once, in bytes: large enough that
// a burst of small frames costs one system call.
const readAhead = 16 << 10

// NewReader returns a Reader that refuses payloads above limit bytes; limit 0
// means MaxPayload.
func NewReader(r io.Reader, limit int) *Reader {
	if limit <= 0 || limit > MaxPayload {
		limit = MaxPayload
	}
	return &Reader{r: r, limit: limit}
}

// Next reads the next frame. The payload belongs to the Reader and is valid
// until the following call. At the end of the stream, between two frames, it
// returns io.EOF; within a frame io.ErrUnexpectedEOF; for a payload above the
// limit ErrTooLarge, as soon as its header has arrived. The buffer grows with
// the bytes that have arrived, not with the length that a header claims.
func (r *Reader) Next() (Frame, error) {
	for {
		size := readAhead
		if r.end-r.start >= FrameHeaderSize {
			h := ParseFrameHeader((*[FrameHeaderSize]byte)(r.buf[r.start:]))
			if h.Len > r.limit {
				return Frame{}, ErrTooLarge
			}
			size = FrameHeaderSize + h.Len + readAhead
		}
		f, rest, ok := CutFrame(r.buf[r.start:r.end])
		if ok {
			r.start = r.end - len(rest)
			return f, nil
		}
		if err := r.fill(size); err != nil {
			if err == io.EOF && r.end > r.start {
				err = io.ErrUnexpectedEOF
			}
			return Frame{}, err
		}
	}
}

// fill reads once, after it has made room behind the unread bytes. The buffer
// grows by doubling, to no more than size: what the frame that begins at start
// needs, and some of what follows.
func (r *Reader) fill(size int) error {
	have := r.end - r.start
	switch {
	case have <= readAhead && len(r.buf) > 4*readAhead && len(r.buf) >= 2*size:
		// One large frame's buffer must not be kept for ever, nor by a peer
		// that stops within a small frame behind it.
		r.buf = append(make([]byte, 0, readAhead), r.buf[r.start:r.end]...)[:readAhead]
		r.start, r.end = 0, have
	case have == 0:
		r.start, r.end = 0, 0
	case r.start > 0 && r.end == len(r.buf):
		copy(r.buf, r.buf[r.start:r.end])
		r.start, r.end = 0, have
	}
	if r.end == len(r.buf) {
		grown := make([]byte, max(readAhead, min(2*len(r.buf), size)))
		copy(grown, r.buf[:r.end])
		r.buf = grown
	}
	for range 100 {
		n, err := r.r.Read(r.buf[r.end:])
		r.end += n
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// Writer writes frames to a stream, one write per frame, and allocates nothing
// per frame of up to 64 KiB. A Writer belongs to one goroutine.
type Writer struct {
	w   io.Writer
	buf []byte
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// WriteFrame writes one frame. It returns ErrTooLarge, and writes nothing,
// when the payload does not fit.
func (w *Writer) WriteFrame(t TypeID, cmd CmdID, branch BranchID, payload []byte) error {
	if len(payload) > MaxPayload {
		return ErrTooLarge
	}
	w.buf = AppendFrame(w.buf[:0], t, cmd, branch, payload)
	_, err := w.w.Write(w.buf)
	if cap(w.buf) > 4*readAhead {
		w.buf = nil
	}
	return err
}
