package conn_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"mrci.dev/mrci/internal/conn"
	"mrci.dev/mrci/wire"
)

// send writes beside the test and fails it when that does not work.
func send(t *testing.T, nc net.Conn, writes ...[]byte) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		for _, b := range writes {
			if _, err := nc.Write(b); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	t.Cleanup(func() {
		nc.Close()
		if err := <-done; err != nil && !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("write: %v", err)
		}
	})
}

// readBytes reads batches until it has want bytes of frames, or an error comes.
func readBytes(t *testing.T, c *conn.Conn, want int) ([]byte, error) {
	t.Helper()
	var got []byte
	for len(got) < want {
		batch, err := c.ReadBatch()
		if err != nil {
			return got, err
		}
		checkWhole(t, batch.Bytes())
		got = append(got, batch.Bytes()...)
		batch.Release()
	}
	return got, nil
}

// checkWhole fails when b is anything but one or more whole frames.
func checkWhole(t *testing.T, b []byte) {
	t.Helper()
	if len(b) == 0 {
		t.Fatal("an empty batch")
	}
	for len(b) > 0 {
		var ok bool
		if _, b, ok = wire.CutFrame(b); !ok {
			t.Fatalf("a batch ends with %d bytes that are no frame", len(b))
		}
	}
}

// frames returns frames with payloads of the given sizes, one behind the other.
func frames(sizes ...int) []byte {
	var b []byte
	for i, size := range sizes {
		payload := bytes.Repeat([]byte{byte(i + 1)}, size)
		b = wire.AppendFrame(b, wire.Bytes, 256, wire.BranchID(i), payload)
	}
	return b
}

func each(b []byte, size int) (pieces [][]byte) {
	for len(b) > 0 {
		n := min(size, len(b))
		pieces = append(pieces, b[:n])
		b = b[n:]
	}
	return pieces
}

func TestReadBatch(t *testing.T) {
	many := make([]int, 3000)
	for i := range many {
		many[i] = i % 97
	}
	tests := map[string]struct {
		stream []byte
		pieces int // size of the client's writes; 0: all at once
	}{
		"one empty frame":         {frames(0), 0},
		"many frames in one read": {frames(many...), 0},
		"split at every byte":     {frames(0, 1, 17, 0, 300), 1},
		"split in headers":        {frames(4, 4, 4, 4, 4, 4, 4, 4, 4), 5},
		"as large as a buffer":    {frames(18<<10-8, 18<<10-8), 0},
		"one more than a buffer":  {frames(3, 18<<10-7, 3), 0},
		"large between small":     {frames(1, 300<<10, 1, 70<<10, 0, 65<<10, 2), 3000},
		"16 MiB":                  {frames(10, wire.MaxPayload, 10), 0},
	}
	for name, test := range tests {
		for _, m := range modes {
			t.Run(name+"/"+m.String(), func(t *testing.T) {
				cfg, budget := config(m)
				c, client := connect(t, m, cfg)
				size := test.pieces
				if size == 0 {
					size = len(test.stream)
				}
				send(t, client, each(test.stream, size)...)
				got, err := readBytes(t, c, len(test.stream))
				if err != nil {
					t.Fatalf("ReadBatch: %v", err)
				}
				if !bytes.Equal(got, test.stream) {
					t.Errorf("got other bytes than were sent (%d, %d)", len(got), len(test.stream))
				}
				checkReleased(t, budget)
				// Growing by four needs the old buffer beside the new one.
				if _, peak := budget.state(); peak > 2*wire.MaxPayload {
					t.Errorf("%d bytes were reserved at once", peak)
				}
				client.Close()
				_, err = c.ReadBatch()
				checkError(t, err, io.EOF)
			})
		}
	}
}

func TestBatchSingle(t *testing.T) {
	cfg, _ := config(clear)
	c, client := connect(t, clear, cfg)
	send(t, client, frames(10, 100<<10))
	for _, want := range []bool{false, true} {
		batch, err := c.ReadBatch()
		if err != nil {
			t.Fatalf("ReadBatch: %v", err)
		}
		if batch.Single() != want {
			t.Errorf("Single() = %v for a batch of %d bytes", batch.Single(), len(batch.Bytes()))
		}
		batch.Release()
	}
}

func TestFrameTooLarge(t *testing.T) {
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			cfg, budget := config(m)
			cfg.FrameLimit = 100
			c, client := connect(t, m, cfg)
			before := frames(100, 0, 5)
			tooLarge := wire.FrameHeader{Type: wire.Text, Cmd: 300, Branch: 4, Len: 101}
			send(t, client, tooLarge.Append(bytes.Clone(before))) // no payload: it is not waited for
			got, err := readBytes(t, c, len(before))
			if err != nil || !bytes.Equal(got, before) {
				t.Fatalf("the frames before: %d bytes of %d, %v", len(got), len(before), err)
			}
			for range 2 { // the second time too
				_, err = c.ReadBatch()
				var e *conn.FrameTooLargeError
				if !errors.As(err, &e) {
					t.Fatalf("ReadBatch: %v, want a FrameTooLargeError", err)
				}
				if e.Header != tooLarge || e.Limit != 100 {
					t.Errorf("the error carries %+v and limit %d", e.Header, e.Limit)
				}
				checkError(t, err, wire.ErrTooLarge)
			}
			checkReleased(t, budget)
		})
	}
}

func TestFrameLimitChanges(t *testing.T) {
	cfg, budget := config(clear)
	cfg.FrameLimit = 10
	c, client := connect(t, clear, cfg)
	budget.reserved = make(chan int, 10)

	// The large frame was read together with the small one, and is judged when
	// its turn comes.
	first, second := frames(10), frames(30)
	send(t, client, append(bytes.Clone(first), second...))
	if got, err := readBytes(t, c, len(first)); err != nil || !bytes.Equal(got, first) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	c.SetFrameLimit(wire.MaxPayload)
	if got, err := readBytes(t, c, len(second)); err != nil || !bytes.Equal(got, second) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}

	// A frame that has been let in is not judged again.
	large := frames(200 << 10)
	done := make(chan error, 1)
	go func() {
		if _, err := client.Write(large[:100<<10]); err != nil {
			done <- err
			return
		}
		<-budget.reserved
		c.SetFrameLimit(5)
		_, err := client.Write(append(large[100<<10:], frames(6)...))
		done <- err
	}()
	if got, err := readBytes(t, c, len(large)); err != nil || !bytes.Equal(got, large) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	if err := <-done; err != nil {
		t.Fatalf("write: %v", err)
	}
	_, err := c.ReadBatch()
	checkError(t, err, wire.ErrTooLarge)
	checkReleased(t, budget)
}

func TestEndOfStream(t *testing.T) {
	whole := frames(5, 30<<10)
	tests := map[string]struct {
		send int
		want error
	}{
		"nothing":        {0, io.EOF},
		"between frames": {13, io.EOF},
		"in a header":    {13 + 3, io.ErrUnexpectedEOF},
		"behind one":     {13 + 8, io.ErrUnexpectedEOF},
		"in a payload":   {13 + 20, io.ErrUnexpectedEOF},
		"in a large one": {len(whole) - 1, io.ErrUnexpectedEOF},
		"at the end":     {len(whole), io.EOF},
	}
	for name, test := range tests {
		for _, m := range []mode{clear, secure} {
			t.Run(name+"/"+m.String(), func(t *testing.T) {
				cfg, budget := config(m)
				c, client := connect(t, m, cfg)
				if _, err := client.Write(whole[:test.send]); err != nil {
					t.Fatalf("write: %v", err)
				}
				if err := client.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
					t.Fatalf("close: %v", err)
				}
				_, err := readBytes(t, c, len(whole)+1)
				if err != test.want {
					t.Errorf("got error %v, want %v", err, test.want)
				}
				checkReleased(t, budget)
			})
		}
	}
}

func TestInputBudget(t *testing.T) {
	for _, limit := range []int{1, 80 << 10, 400 << 10} { // refused at the first, the second, the third step
		for _, m := range modes {
			cfg, budget := config(m)
			budget.limit = limit
			c, client := connect(t, m, cfg)
			go func() { _, _ = client.Write(frames(1, 4<<20)) }() // ends when the connection does
			_, err := readBytes(t, c, 4<<20)
			checkError(t, err, conn.ErrInputBudget)
			_, err = c.ReadBatch()
			checkError(t, err, conn.ErrInputBudget)
			checkReleased(t, budget)
			c.End(err)
			client.Close()
		}
	}
}

func TestEndReleasesInput(t *testing.T) {
	cause := errors.New("enough")
	for _, m := range modes {
		cfg, budget := config(m)
		budget.reserved = make(chan int, 10)
		c, client := connect(t, m, cfg)
		go func() { _, _ = client.Write(frames(1 << 20)[:512<<10]) }() // ends when the connection does
		go func() {
			<-budget.reserved
			c.End(cause)
		}()
		_, err := readBytes(t, c, 1<<20)
		checkError(t, err, cause)
		checkReleased(t, budget)
		client.Close()
	}
}

func TestStopReading(t *testing.T) {
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			cfg, _ := config(m)
			c, client := connect(t, m, cfg)
			send(t, client, frames(1))
			if _, err := readBytes(t, c, 9); err != nil {
				t.Fatalf("ReadBatch: %v", err)
			}
			go c.StopReading()
			_, err := c.ReadBatch()
			checkError(t, err, os.ErrDeadlineExceeded)
			_, err = c.ReadBatch()
			checkError(t, err, os.ErrDeadlineExceeded)

			go func() {
				if err := c.Append(frames(3)); err != nil {
					t.Errorf("Append: %v", err)
				}
				c.Flush()
			}()
			got := make([]byte, 11)
			if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, frames(3)) {
				t.Errorf("got % x, %v behind StopReading", got, err)
			}
		})
	}
}

// Who has logged in and fills the buffer is read from in larger steps, as long
// as there is memory for it; nobody else is.
func TestWideReads(t *testing.T) {
	const narrow = 18 << 10
	run := func(t *testing.T, m mode, wide bool, memory int, done func(batch int) bool) {
		cfg, budget := config(m)
		budget.limit = memory
		c, client := connect(t, m, cfg)
		c.SetWideReads(wide)
		many := bytes.Repeat(frames(100), 4000)
		go func() { // ends with the connection
			for {
				if _, err := client.Write(many); err != nil {
					return
				}
			}
		}()
		frame := frames(100)
		for over := false; !over; {
			batch, err := c.ReadBatch()
			if err != nil {
				t.Fatalf("ReadBatch: %v", err)
			}
			for b := batch.Bytes(); len(b) > 0; b = b[len(frame):] {
				if !bytes.HasPrefix(b, frame) {
					t.Fatal("a batch has other bytes than were sent")
				}
			}
			if batch.Single() {
				t.Fatal("a batch of many frames counts as one")
			}
			over = done(len(batch.Bytes()))
			batch.Release()
		}
		c.DropInput()
		checkReleased(t, budget)
		_, err := c.ReadBatch()
		checkError(t, err, conn.ErrClosed)
		c.End(conn.ErrClosed)
	}
	for _, m := range []mode{clear, secure} {
		t.Run(m.String(), func(t *testing.T) {
			run(t, m, true, 0, func(batch int) bool { return batch > 2*narrow })
		})
		few := func(t *testing.T, wide bool, memory int) {
			bytes := 0
			run(t, m, wide, memory, func(batch int) bool {
				if batch > narrow {
					t.Fatalf("a batch of %d bytes", batch)
				}
				bytes += batch
				return bytes > 4<<20
			})
		}
		t.Run(m.String()+"/before login", func(t *testing.T) { few(t, false, 0) })
		t.Run(m.String()+"/without memory", func(t *testing.T) { few(t, true, 1) })
	}
}

// Idle connections wait without a buffer. TLS has buffers of its own.
func TestIdleMemory(t *testing.T) {
	if raceEnabled || runtime.GOOS == "windows" {
		t.Skip("memory means nothing here")
	}
	const count, most = 200, 8 << 10
	got := idleBytes(t, clear, count)
	if got > most {
		t.Errorf("an idle connection costs %d bytes, want %d at most", got, most)
	}
}

// idleBytes returns how much memory count connections need, each with a reader
// that has read and written a frame and waits for the next.
func idleBytes(t testing.TB, m mode, count int) int {
	t.Helper()
	clients := make([]net.Conn, count)
	conns := make([]*conn.Conn, count)
	frame := frames(20)
	got := make([]byte, len(frame))
	base := connectBase(t, m)
	before := memory()
	for i := range clients {
		conns[i], clients[i] = base()
		if _, err := clients[i].Write(frame); err != nil {
			t.Fatalf("write: %v", err)
		}
		if _, err := io.ReadFull(clients[i], got); err != nil {
			t.Fatalf("read: %v", err)
		}
		if c, ok := clients[i].(*tls.Conn); ok {
			clients[i] = c.NetConn() // the client's state is not what we measure
		}
	}
	after := memory()
	for i := range clients {
		clients[i].Close()
		conns[i].End(conn.ErrClosed)
	}
	return (after - before) / count
}

// memory is what lives in heap and stacks.
func memory() int {
	runtime.GC()
	runtime.GC() // what a pool has kept goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// script is a connection that has given chunks to read, and takes all writes.
type script struct {
	net.Conn
	stream []byte
	chunks []byte
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.stream) == 0 {
		return 0, io.EOF
	}
	size := len(s.stream)
	if len(s.chunks) > 0 {
		size = int(s.chunks[0]) + 1
		s.chunks = s.chunks[1:]
	}
	n := copy(p[:min(len(p), size)], s.stream)
	s.stream = s.stream[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error)      { return len(p), nil }
func (s *script) Close() error                     { return nil }
func (s *script) RemoteAddr() net.Addr             { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// FuzzReadBatch compares batches, read in any pieces, with wire.CutFrame.
func FuzzReadBatch(f *testing.F) {
	f.Add(frames(0, 1, 2, 300), []byte{0, 0, 0, 5, 7}, uint32(1000))
	f.Add(frames(20<<10, 70<<10, 3), []byte{255, 255, 1}, uint32(wire.MaxPayload))
	f.Add(frames(5, 50), []byte{}, uint32(20))
	f.Add(frames(5, 50)[:30], []byte{3}, uint32(100))
	f.Fuzz(func(t *testing.T, stream, chunks []byte, limit uint32) {
		cfg, budget := config(clear)
		cfg.FrameLimit = int(limit % (wire.MaxPayload + 1))
		nc := &script{stream: append(header(), stream...), chunks: chunks}
		c, err := conn.Accept(t.Context(), nc, &cfg)
		if err != nil {
			t.Fatalf("Accept: %v", err)
		}
		var got []byte
		for err == nil {
			var batch conn.Batch
			if batch, err = c.ReadBatch(); err == nil {
				checkWhole(t, batch.Bytes())
				got = append(got, batch.Bytes()...)
				batch.Release()
			}
		}
		checkReleased(t, budget)

		rest, want := stream, io.EOF
		for len(rest) > 0 {
			f, behind, ok := wire.CutFrame(rest)
			if ok && len(f.Payload) <= cfg.FrameLimit {
				rest = behind
				continue
			}
			want = io.ErrUnexpectedEOF
			if len(rest) >= wire.FrameHeaderSize && wire.ParseFrameHeader((*[wire.FrameHeaderSize]byte)(rest)).Len > cfg.FrameLimit {
				want = wire.ErrTooLarge
			}
			break
		}
		if !bytes.Equal(got, stream[:len(stream)-len(rest)]) {
			t.Errorf("got %d bytes of frames, want %d", len(got), len(stream)-len(rest))
		}
		checkError(t, err, want)
	})
}

// TestRandomChunks is the fuzz test over real sockets and TLS.
func TestRandomChunks(t *testing.T) {
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, uint64(m)))
			sizes := make([]int, 400)
			for i := range sizes {
				sizes[i] = random.IntN(1 << random.IntN(17))
			}
			stream := frames(sizes...)
			var writes [][]byte
			for rest := stream; len(rest) > 0; {
				n := min(len(rest), 1+random.IntN(1<<random.IntN(15)))
				writes = append(writes, rest[:n])
				rest = rest[n:]
			}
			cfg, budget := config(m)
			c, client := connect(t, m, cfg)
			send(t, client, writes...)
			got, err := readBytes(t, c, len(stream))
			if err != nil || !bytes.Equal(got, stream) {
				t.Errorf("got %d bytes of %d, %v", len(got), len(stream), err)
			}
			checkReleased(t, budget)
		})
	}
}

// What was read is wiped when it goes back to the pool, whatever stands behind
// it in the buffer; what is handed over is not.
func TestReleaseWipes(t *testing.T) {
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			cfg, _ := config(m)
			c, client := connect(t, m, cfg)
			stream := frames(300, 200, 500)
			cut := len(stream) - 100
			send(t, client, stream[:cut])
			batch, err := c.ReadBatch()
			if err != nil {
				t.Fatal(err)
			}
			if len(batch.Bytes()) > cut {
				t.Fatalf("a batch of %d bytes", len(batch.Bytes()))
			}
			b := batch.Bytes()
			b = b[:cap(b)]
			batch.Release()
			if i := bytes.IndexFunc(b, func(r rune) bool { return r != 0 }); i >= 0 {
				t.Errorf("%d is left at %d", b[i], i)
			}
		})
	}
}
