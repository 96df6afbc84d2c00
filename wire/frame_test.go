package wire_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/wire"
)

func TestFrameHeaderRoundTrip(t *testing.T) {
	tests := []wire.FrameHeader{
		{},
		{Type: wire.Text, Cmd: 256, Branch: 1, Len: 5},
		{Type: 255, Cmd: 65535, Branch: 65535, Len: wire.MaxPayload},
		{Type: wire.Bytes, Cmd: 0x0102, Branch: 0x0304, Len: 0x050607},
	}
	for _, want := range tests {
		b := want.Append([]byte("front"))
		if len(b) != 5+wire.FrameHeaderSize {
			t.Fatalf("header has %d bytes", len(b)-5)
		}
		if got := wire.ParseFrameHeader((*[wire.FrameHeaderSize]byte)(b[5:])); got != want {
			t.Errorf("decoded %+v, want %+v", got, want)
		}
	}
}

func TestOversizedFramesPanic(t *testing.T) {
	tooLarge := make([]byte, wire.MaxPayload+1)
	tests := map[string]func(){
		"header":          func() { wire.FrameHeader{Len: wire.MaxPayload + 1}.Append(nil) },
		"negative header": func() { wire.FrameHeader{Len: -1}.Append(nil) },
		"frame":           func() { wire.AppendFrame(nil, wire.Bytes, 256, 0, tooLarge) },
		"text":            func() { wire.AppendText(nil, wire.Text, 256, 0, string(tooLarge)) },
		"idle":            func() { wire.AppendIdle(nil, 256, 0, wire.Custom, tooLarge[:wire.MaxPayload-1]) },
	}
	for name, do := range tests {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			do()
		})
	}
}

func TestAppendTextAndIdle(t *testing.T) {
	b := wire.AppendText(nil, wire.Err, 300, 7, "nö")
	f, rest, ok := wire.CutFrame(b)
	want := wire.Frame{Type: wire.Err, Cmd: 300, Branch: 7, Payload: []byte("nö")}
	if diff := cmp.Diff(want, f); !ok || len(rest) != 0 || diff != "" {
		t.Errorf("AppendText: whole %v, %d bytes left, (-want +got):\n%s", ok, len(rest), diff)
	}
	b = wire.AppendIdle(nil, 300, 7, wire.Custom, []byte{9})
	f, _, _ = wire.CutFrame(b)
	code, data, err := wire.ParseIdle(f.Payload)
	if err != nil || f.Type != wire.Idle || code != wire.Custom || !bytes.Equal(data, []byte{9}) {
		t.Errorf("AppendIdle: decoded %v %v %x, %v", f.Type, code, data, err)
	}
}

func TestCutFrame(t *testing.T) {
	one := wire.AppendText(nil, wire.Text, 256, 0, "one")
	both := wire.AppendText(bytes.Clone(one), wire.Text, 257, 0, "two")
	for n := range one {
		if _, rest, ok := wire.CutFrame(both[:n]); ok || len(rest) != n {
			t.Errorf("%d bytes: whole %v with %d bytes left, want none and all", n, ok, len(rest))
		}
	}
	f, rest, ok := wire.CutFrame(both)
	if !ok || f.Cmd != 256 || len(rest) != len(both)-len(one) {
		t.Fatalf("first frame: whole %v, %v under %v, %d bytes left", ok, f.Type, f.Cmd, len(rest))
	}
	// Who appends to the payload must not write into the next frame.
	_ = append(f.Payload, "overwritten"...)
	if f, _, ok = wire.CutFrame(rest); !ok || string(f.Payload) != "two" {
		t.Errorf("second frame: whole %v, payload %q", ok, f.Payload)
	}
}

// frames are frames of several sizes, and their bytes.
func frames(sizes ...int) ([]wire.Frame, []byte) {
	var (
		all    []wire.Frame
		stream []byte
	)
	for i, size := range sizes {
		payload := make([]byte, size)
		for j := range payload {
			payload[j] = byte(i + j)
		}
		f := wire.Frame{Type: wire.TypeID(i%30 + 1), Cmd: wire.CmdID(256 + i), Branch: wire.BranchID(i), Payload: payload}
		all = append(all, f)
		stream = wire.AppendFrame(stream, f.Type, f.Cmd, f.Branch, f.Payload)
	}
	return all, stream
}

func TestReader(t *testing.T) {
	small, smallStream := frames(0, 1, 0, 0, 8, 100, 16376, 16377, 20000, 3)
	large, largeStream := frames(10, 300_000, 0, 65528, 65529, 200_000, 200_000, 1<<20, 5)
	tests := map[string]struct {
		r    io.Reader
		want []wire.Frame
	}{
		"at once":                    {bytes.NewReader(smallStream), small},
		"one byte at a time":         {iotest.OneByteReader(bytes.NewReader(smallStream)), small},
		"half of what is asked for":  {iotest.HalfReader(bytes.NewReader(smallStream)), small},
		"error with the last bytes":  {iotest.DataErrReader(bytes.NewReader(smallStream)), small},
		"large frames":               {bytes.NewReader(largeStream), large},
		"large frames byte by byte":  {iotest.OneByteReader(bytes.NewReader(largeStream)), large},
		"large frames in odd pieces": {&chunkReader{b: largeStream, sizes: []int{1, 7, 0, 4096, 30000, 3}}, large},
		"nothing":                    {strings.NewReader(""), nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := wire.NewReader(test.r, 0)
			for i, want := range test.want {
				got, err := r.Next()
				if err != nil {
					t.Fatalf("frame %d: %v", i, err)
				}
				if got.Type != want.Type || got.Cmd != want.Cmd || got.Branch != want.Branch || !bytes.Equal(got.Payload, want.Payload) {
					t.Fatalf("frame %d: %v under (%d, %d) with %d bytes, want %v under (%d, %d) with %d bytes", i,
						got.Type, got.Cmd, got.Branch, len(got.Payload), want.Type, want.Cmd, want.Branch, len(want.Payload))
				}
			}
			for range 2 {
				if f, err := r.Next(); err != io.EOF || f.Payload != nil {
					t.Errorf("at the end: %v, %v, want no frame and io.EOF", f, err)
				}
			}
		})
	}
}

// chunkReader gives pieces of the sizes, in turn.
type chunkReader struct {
	b     []byte
	sizes []int
	turn  int
}

func (c *chunkReader) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := min(len(p), len(c.b), c.sizes[c.turn%len(c.sizes)])
	c.turn++
	copy(p, c.b[:n])
	c.b = c.b[n:]
	return n, nil
}

func TestReaderEnds(t *testing.T) {
	broken := errors.New("broken")
	_, stream := frames(3, 20000)
	whole := 2*wire.FrameHeaderSize + 20003
	tests := map[string]struct {
		bytes int
		err   error // of the stream
		want  error
	}{
		"before anything":        {0, io.EOF, io.EOF},
		"inside a header":        {5, io.EOF, io.ErrUnexpectedEOF},
		"behind a header":        {8, io.EOF, io.ErrUnexpectedEOF},
		"inside a payload":       {10, io.EOF, io.ErrUnexpectedEOF},
		"between frames":         {11, io.EOF, io.EOF},
		"inside a second header": {12, io.EOF, io.ErrUnexpectedEOF},
		"inside a large payload": {whole - 1, io.EOF, io.ErrUnexpectedEOF},
		"behind the last":        {whole, io.EOF, io.EOF},
		"broken between frames":  {11, broken, broken},
		"broken inside a frame":  {13, broken, broken},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := wire.NewReader(io.MultiReader(bytes.NewReader(stream[:test.bytes]), iotest.ErrReader(test.err)), 0)
			var err error
			for err == nil {
				_, err = r.Next()
			}
			if err != test.want {
				t.Errorf("ended with %v, want %v", err, test.want)
			}
			if _, again := r.Next(); again != test.want {
				t.Errorf("then with %v, want %v", again, test.want)
			}
		})
	}
}

func TestReaderWithoutProgress(t *testing.T) {
	r := wire.NewReader(&chunkReader{b: []byte{1}, sizes: []int{0}}, 0)
	if _, err := r.Next(); err != io.ErrNoProgress {
		t.Errorf("ended with %v, want %v", err, io.ErrNoProgress)
	}
}

func TestReaderLimit(t *testing.T) {
	tests := map[string]struct {
		limit, size int
		want        error
	}{
		"at the limit":               {100, 100, nil},
		"above, all of it has come":  {100, 101, wire.ErrTooLarge},
		"above, most is to come":     {16384, 1 << 20, wire.ErrTooLarge},
		"no limit":                   {0, wire.MaxPayload, nil},
		"negative limit":             {-1, wire.MaxPayload, nil},
		"limit above what can exist": {wire.MaxPayload + 1, wire.MaxPayload, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			first, stream := frames(1, test.size)
			r := wire.NewReader(bytes.NewReader(stream), test.limit)
			if f, err := r.Next(); err != nil || !bytes.Equal(f.Payload, first[0].Payload) {
				t.Fatalf("first frame: %v, %v", f, err)
			}
			for range 2 { // a refusal is for good: the stream cannot go on
				f, err := r.Next()
				if err != test.want || err == nil && len(f.Payload) != test.size {
					t.Fatalf("second frame: %d bytes, %v; want %d bytes, %v", len(f.Payload), err, test.size, test.want)
				}
				if err == nil {
					break
				}
			}
		})
	}
}

// TestReaderBuffer is what a connection costs while it waits: neither a claim
// in a header nor a large frame that is over keeps memory.
func TestReaderBuffer(t *testing.T) {
	const large = 1 << 20
	_, stream := frames(large, 5)
	claim := wire.FrameHeader{Type: wire.Bytes, Cmd: 256, Len: wire.MaxPayload}.Append(nil)
	tests := map[string]struct {
		stream []byte
		most   int
	}{
		"only a claim":                   {claim, 16 << 10},
		"behind a large frame":           {stream[:wire.FrameHeaderSize+large], 16 << 10},
		"in the frame behind it":         {stream[:wire.FrameHeaderSize+large+3], 16 << 10},
		"in the payload of the frame":    {stream[:wire.FrameHeaderSize+large+wire.FrameHeaderSize+2], 16 << 10},
		"at the end of a large frame":    {stream[:wire.FrameHeaderSize+large-1], wire.FrameHeaderSize + large + 16<<10},
		"within a large frame behind it": {append(bytes.Clone(stream[:wire.FrameHeaderSize+large]), claim...), 4 * large},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			waits := errors.New("waits")
			// Pieces as they come from a network, so that reads cross frames.
			r := wire.NewReader(io.MultiReader(&chunkReader{b: test.stream, sizes: []int{60_000}}, iotest.ErrReader(waits)), 0)
			var err error
			for err == nil {
				_, err = r.Next()
			}
			if err != waits {
				t.Fatal(err)
			}
			if got := wire.ReaderBuffer(r); got > test.most {
				t.Errorf("holds %d bytes, want at most %d", got, test.most)
			}
		})
	}
}

// loopReader gives the same bytes for ever.
type loopReader struct {
	b   []byte
	off int
}

func (l *loopReader) Read(p []byte) (int, error) {
	n := copy(p, l.b[l.off:])
	l.off = (l.off + n) % len(l.b)
	return n, nil
}

func TestFramesAllocateNothing(t *testing.T) {
	_, stream := frames(0, 5, 100, 1000, 20000)
	r := wire.NewReader(&loopReader{b: stream}, 0)
	w := wire.NewWriter(io.Discard)
	payload := make([]byte, 20000)
	dst := make([]byte, 0, 64<<10)
	tests := map[string]func(){
		"Reader.Next": func() {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
		},
		"Writer.WriteFrame": func() {
			if err := w.WriteFrame(wire.Bytes, 256, 0, payload); err != nil {
				t.Fatal(err)
			}
		},
		"AppendFrame": func() { dst = wire.AppendFrame(dst[:0], wire.Bytes, 256, 0, payload) },
		"AppendText":  func() { dst = wire.AppendText(dst[:0], wire.Text, 256, 0, "text") },
		"AppendIdle":  func() { dst = wire.AppendIdle(dst[:0], 256, 0, wire.NoErrors, nil) },
	}
	for name, do := range tests {
		t.Run(name, func(t *testing.T) {
			for range 50 { // buffers grow to their size
				do()
			}
			if n := testing.AllocsPerRun(1000, do); n != 0 {
				t.Errorf("%v allocations per frame, want none", n)
			}
		})
	}
}

// countingWriter remembers each write.
type countingWriter struct {
	writes [][]byte
	err    error
}

func (w *countingWriter) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	w.writes = append(w.writes, bytes.Clone(p))
	return len(p), nil
}

func TestWriter(t *testing.T) {
	out := &countingWriter{}
	w := wire.NewWriter(out)
	want, stream := frames(0, 10, 100_000, 3)
	for _, f := range want {
		if err := w.WriteFrame(f.Type, f.Cmd, f.Branch, f.Payload); err != nil {
			t.Fatal(err)
		}
	}
	if len(out.writes) != len(want) {
		t.Errorf("%d writes, want one per frame", len(out.writes))
	}
	if got := bytes.Join(out.writes, nil); !bytes.Equal(got, stream) {
		t.Errorf("wrote %d bytes other than the %d wanted", len(got), len(stream))
	}
	if err := w.WriteFrame(wire.Bytes, 256, 0, make([]byte, wire.MaxPayload+1)); err != wire.ErrTooLarge {
		t.Errorf("too large a frame: %v, want %v", err, wire.ErrTooLarge)
	}
	if len(out.writes) != len(want) {
		t.Error("a frame that is refused was written")
	}
	out.err = errors.New("closed")
	if err := w.WriteFrame(wire.Text, 256, 0, nil); err != out.err {
		t.Errorf("write to a closed stream: %v, want %v", err, out.err)
	}
}

func TestReaddress(t *testing.T) {
	var b, want []byte
	for _, payload := range []string{"", "x", strings.Repeat("y", 70_000)} {
		b = wire.AppendText(b, wire.Bytes, 300, 7, payload)
		want = wire.AppendText(want, wire.Bytes, wire.CmdID(wire.AsyncCast), 0, payload)
	}
	wire.Readdress(b, wire.CmdID(wire.AsyncCast), 0)
	if !bytes.Equal(b, want) {
		t.Error("the frames are not as if they had been made so")
	}
	defer func() {
		if recover() == nil {
			t.Error("half a frame was taken for a whole one")
		}
	}()
	wire.Readdress(want[:len(want)-1], 256, 0)
}

func TestAppendIdles(t *testing.T) {
	var frames []byte
	want := []byte("before")
	for i, payload := range []string{"", "x", strings.Repeat("y", 70_000)} {
		cmd, branch := wire.CmdID(300+i), wire.BranchID(7*i+600)
		frames = wire.AppendText(frames, wire.Bytes, cmd, branch, payload)
		want = wire.AppendIdle(want, cmd, branch, wire.InvalidParams, nil)
	}
	if got := wire.AppendIdles([]byte("before"), frames, wire.InvalidParams); !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
	defer func() {
		if recover() == nil {
			t.Error("half a frame was taken for a whole one")
		}
	}()
	wire.AppendIdles(nil, frames[:len(frames)-1], wire.NoErrors)
}
