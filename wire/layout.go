package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Payload is a decoded payload with a layout of this package. Each layout
// states its fields once, in order, with the names that errors, JSON and
// documents use; encoding, decoding and Fields all walk that one statement.
type Payload interface {
	layout(w *walker)
}

// Field is one named value of a payload, in the order of the layout.
type Field struct {
	Name  string // snake_case
	Value any    // string, bool, uint8, uint32, uint64, SessionID, UserID, SubList, []byte
}

// Fields lists the fields of a payload in the order of its layout, for JSON
// and for people.
func Fields(p Payload) []Field {
	w := walker{mode: describe}
	p.layout(&w)
	return w.fields
}

// Append adds the encoded payload to dst. Texts that do not fit their field
// are cut at a character boundary.
func Append(dst []byte, p Payload) []byte {
	w := walker{mode: encode, b: dst}
	p.layout(&w)
	return w.b
}

// Parse decodes b into p, every field of it, and leaves p in an undefined state
// when it returns an error, which is a *FormatError. The value shares no memory
// with b, but for fields of type []byte, which alias it.
func Parse(b []byte, p Payload) error {
	w := walker{mode: decode, b: b}
	p.layout(&w)
	if w.err == nil && w.off != len(b) {
		w.fail("", fmt.Sprintf("%d bytes, not %d", w.off, len(b)))
	}
	if w.err != nil {
		return w.err
	}
	return nil
}

type walkMode uint8

const (
	encode walkMode = iota
	decode
	describe
)

// walker visits the fields of one layout. In encode mode b is the output, in
// decode mode the input with off bytes consumed; after a failure the remaining
// fields are skipped.
type walker struct {
	mode   walkMode
	name   string // of the layout
	b      []byte
	off    int
	err    *FormatError
	fields []Field
}

func (w *walker) is(layout string) { w.name = layout }

func (w *walker) fail(field, want string) {
	if w.err == nil {
		w.err = &FormatError{Layout: w.name, Field: field, Offset: w.off, Want: want}
	}
}

// take consumes n bytes of the input, or fails.
func (w *walker) take(field string, n int) []byte {
	if w.err != nil {
		return nil
	}
	if len(w.b)-w.off < n {
		w.fail(field, fmt.Sprintf("%d bytes", n))
		return nil
	}
	p := w.b[w.off : w.off+n]
	w.off += n
	return p
}

func (w *walker) left() int { return len(w.b) - w.off }

func (w *walker) raw(field string, p []byte, show func() any) {
	switch w.mode {
	case encode:
		w.b = append(w.b, p...)
	case decode:
		copy(p, w.take(field, len(p)))
	case describe:
		w.fields = append(w.fields, Field{field, show()})
	}
}

func (w *walker) session(field string, id *SessionID) {
	w.raw(field, id[:], func() any { return *id })
}

func (w *walker) user(field string, id *UserID) {
	w.raw(field, id[:], func() any { return *id })
}

func (w *walker) u8(field string, v *uint8) {
	switch w.mode {
	case encode:
		w.b = append(w.b, *v)
	case decode:
		if p := w.take(field, 1); p != nil {
			*v = p[0]
		}
	case describe:
		w.fields = append(w.fields, Field{field, *v})
	}
}

func (w *walker) flag(field string, v *bool) {
	switch w.mode {
	case encode:
		if *v {
			w.b = append(w.b, 1)
		} else {
			w.b = append(w.b, 0)
		}
	case decode:
		if p := w.take(field, 1); p != nil {
			if p[0] > 1 {
				w.off--
				w.fail(field, "0 or 1")
				return
			}
			*v = p[0] == 1
		}
	case describe:
		w.fields = append(w.fields, Field{field, *v})
	}
}

func (w *walker) u16(field string, v *uint16) {
	switch w.mode {
	case encode:
		w.b = binary.LittleEndian.AppendUint16(w.b, *v)
	case decode:
		if p := w.take(field, 2); p != nil {
			*v = binary.LittleEndian.Uint16(p)
		}
	case describe:
		w.fields = append(w.fields, Field{field, uint32(*v)})
	}
}

func (w *walker) u32(field string, v *uint32) {
	switch w.mode {
	case encode:
		w.b = binary.LittleEndian.AppendUint32(w.b, *v)
	case decode:
		if p := w.take(field, 4); p != nil {
			*v = binary.LittleEndian.Uint32(p)
		}
	case describe:
		w.fields = append(w.fields, Field{field, *v})
	}
}

func (w *walker) u64(field string, v *uint64) {
	switch w.mode {
	case encode:
		w.b = binary.LittleEndian.AppendUint64(w.b, *v)
	case decode:
		if p := w.take(field, 8); p != nil {
			*v = binary.LittleEndian.Uint64(p)
		}
	case describe:
		w.fields = append(w.fields, Field{field, *v})
	}
}

// channel is a channel id of an existing channel: 0 is refused.
func (w *walker) channel(field string, v *ChannelID) {
	before := w.off
	w.u64(field, (*uint64)(v))
	if w.mode == decode && w.err == nil && *v == 0 {
		w.off = before
		w.fail(field, "a channel id, 1 and up")
	}
}

// fixed is a text field of exactly size bytes, zero padded. Decoding is
// lenient: what stands behind the first zero byte is dropped, bytes that are
// not UTF-8 become U+FFFD.
func (w *walker) fixed(field string, v *string, size int) {
	switch w.mode {
	case encode:
		w.b = appendFixed(w.b, *v, size)
	case decode:
		if p := w.take(field, size); p != nil {
			*v = fixedText(p)
		}
	case describe:
		w.fields = append(w.fields, Field{field, *v})
	}
}

// terminated is a text up to one zero byte. A zero byte in a value that is
// encoded ends it.
func (w *walker) terminated(field string, v *string) {
	switch w.mode {
	case encode:
		text := *v
		if i := strings.IndexByte(text, 0); i >= 0 {
			text = text[:i]
		}
		w.b = append(append(w.b, text...), 0)
	case decode:
		if w.err != nil {
			return
		}
		n := bytes.IndexByte(w.b[w.off:], 0)
		if n < 0 {
			w.fail(field, "text with a zero byte behind it")
			return
		}
		p := w.b[w.off : w.off+n]
		if !utf8.Valid(p) {
			w.fail(field, "UTF-8")
			return
		}
		*v = string(p)
		w.off += n + 1
	case describe:
		w.fields = append(w.fields, Field{field, *v})
	}
}

// extraZero accepts one more zero byte at the end of the layout, which older
// modules send behind a name (protocol 5).
func (w *walker) extraZero() {
	if w.mode == decode && w.err == nil && w.left() == 1 && w.b[w.off] == 0 {
		w.off++
	}
}

// rest is everything behind the other fields. The decoded value aliases the
// input.
func (w *walker) rest(field string, v *[]byte) {
	switch w.mode {
	case encode:
		w.b = append(w.b, *v...)
	case decode:
		if w.err == nil {
			*v = w.b[w.off:len(w.b):len(w.b)]
			w.off = len(w.b)
		}
	case describe:
		w.fields = append(w.fields, Field{field, *v})
	}
}

// restText is everything behind the other fields, as UTF-8.
func (w *walker) restText(field string, v *string) {
	switch w.mode {
	case encode:
		w.b = append(w.b, *v...)
	case decode:
		if w.err == nil {
			p := w.b[w.off:]
			if !utf8.Valid(p) {
				w.fail(field, "UTF-8")
				return
			}
			*v = string(p)
			w.off = len(w.b)
		}
	case describe:
		w.fields = append(w.fields, Field{field, *v})
	}
}

// fixedOrUTF16 is a text field that is the last of its layout: size bytes of
// UTF-8, or, when more bytes are left, wide bytes of UTF-16LE as older modules
// send it (protocol 5).
func (w *walker) fixedOrUTF16(field string, v *string, size, wide int) {
	if w.mode == decode && w.err == nil && w.left() == wide {
		p := w.take(field, wide)
		units := make([]uint16, 0, wide/2)
		for i := 0; i+1 < len(p); i += 2 {
			u := binary.LittleEndian.Uint16(p[i:])
			if u == 0 {
				break
			}
			units = append(units, u)
		}
		*v = CutText(string(utf16.Decode(units)), size)
		return
	}
	w.fixed(field, v, size)
}
