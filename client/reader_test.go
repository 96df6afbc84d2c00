package client

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"mrci.dev/mrci/wire"
)

// chunks gives its bytes in pieces of the sizes, over and over.
type chunks struct {
	b     []byte
	sizes []byte
	n     int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	size := 1
	if len(c.sizes) > 0 {
		size += int(c.sizes[c.n%len(c.sizes)]) * 97
		c.n++
	}
	n := copy(p, c.b[:min(size, len(c.b))])
	c.b = c.b[n:]
	return n, nil
}

// FuzzFrameReader holds the reader against the plain one of package wire,
// however the stream is cut.
func FuzzFrameReader(f *testing.F) {
	var stream []byte
	for _, size := range []int{0, 1, 600, 100, 100, 503, 504, 505, 3} {
		stream = wire.AppendFrame(stream, wire.Text, 256, 1, bytes.Repeat([]byte{byte(size)}, size))
	}
	f.Add(stream, []byte{})
	f.Add(stream, []byte{255, 0, 3})
	f.Add(stream[:len(stream)-2], []byte{255, 255, 255})
	f.Add(bytes.Repeat(stream, 3), []byte{5})
	f.Add(wire.AppendFrame(stream, wire.Bytes, 256, 2, make([]byte, 70_000)), []byte{255, 200})
	f.Add([]byte{2, 0, 1, 1, 0, 0xff, 0xff, 0xff, 1}, []byte{1})
	f.Fuzz(func(t *testing.T, stream, sizes []byte) {
		const limit = 1 << 17
		want := wire.NewReader(bytes.NewReader(stream), limit)
		got := newFrameReader(&chunks{b: stream, sizes: sizes}, limit)
		defer got.release()
		for n := 0; ; n++ {
			wantFrame, wantErr := want.Next()
			frame, err := got.next()
			if !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
				t.Fatalf("frame %d: error %v, want %v", n, err, wantErr)
			}
			if err != nil {
				return
			}
			if frame.Type != wantFrame.Type || frame.Cmd != wantFrame.Cmd || frame.Branch != wantFrame.Branch ||
				!bytes.Equal(frame.Payload, wantFrame.Payload) {
				t.Fatalf("frame %d: got %s %d/%d with %d bytes, want %s %d/%d with %d", n, frame.Type, frame.Cmd, frame.Branch,
					len(frame.Payload), wantFrame.Type, wantFrame.Cmd, wantFrame.Branch, len(wantFrame.Payload))
			}
		}
	})
}
