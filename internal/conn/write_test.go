package conn_test

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"mrci.dev/mrci/internal/conn"
	"mrci.dev/mrci/wire"
)

// numbered is a frame of sender's: its payload begins with a number and goes
// on with bytes that follow from it.
func numbered(sender, number, size int) []byte {
	payload := append(strconv.AppendInt(nil, int64(number), 10), ':')
	for len(payload) < size {
		payload = append(payload, byte(number+len(payload)))
	}
	return wire.AppendFrame(nil, wire.Bytes, 256, wire.BranchID(sender), payload)
}

// spoil makes frames useless.
func spoil(b []byte) {
	for i := range b {
		b[i] = 0xee
	}
}

// owner spoils its bytes when nobody holds them any more.
type owner struct {
	b    []byte
	held atomic.Int32
}

func (o *owner) Keep() { o.held.Add(1) }

func (o *owner) Release() {
	switch held := o.held.Add(-1); {
	case held == 0:
		spoil(o.b)
	case held < 0:
		panic("released too often")
	}
}

// moody reads pieces of any size, and now and then not at all.
type moody struct {
	io.Reader
	random *rand.Rand
}

func (m *moody) Read(p []byte) (int, error) {
	for range m.random.IntN(50) {
		runtime.Gosched()
	}
	return m.Reader.Read(p[:1+m.random.IntN(len(p))])
}

// Every sender's frames arrive, whole and in order, whatever the others do.
func TestOrder(t *testing.T) {
	const senders, each = 8, 60
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			cfg, _ := config(m)
			c, client := connect(t, m, cfg)
			var group sync.WaitGroup
			for sender := range senders {
				random := rand.New(rand.NewPCG(uint64(sender), uint64(m)))
				group.Go(func() {
					for number := range each {
						frame := numbered(sender, number, 1+random.IntN(1<<random.IntN(21)))
						switch queue := random.IntN(6); queue {
						case 0, 1:
							queued := c.Append
							if queue == 1 {
								queued = c.AppendShared
							}
							if err := queued(frame); err != nil {
								t.Errorf("queue: %v", err)
								return
							}
						case 2:
							if _, _, ok := c.Offer(frame); !ok {
								t.Error("an offer was not taken")
								return
							}
						case 3:
							if _, _, ok := c.OfferCopy(frame); !ok {
								t.Error("an offer was not taken")
								return
							}
							spoil(frame)
						case 4:
							o := &owner{b: frame}
							o.Keep()
							if _, _, ok := c.OfferShared(frame, o); !ok {
								t.Error("an offer was not taken")
								return
							}
							o.Release()
						case 5: // a frame that is in two pieces stays whole
							cut := random.IntN(len(frame) + 1)
							if err := c.AppendBoth(frame[:cut], frame[cut:]); err != nil {
								t.Errorf("queue: %v", err)
								return
							}
						}
						switch random.IntN(4) {
						case 0:
							c.Flush()
						case 1:
							c.Kick()
						}
						for c.Queued() > 16<<20 {
							runtime.Gosched()
						}
					}
					c.Flush()
				})
			}
			r := wire.NewReader(&moody{client, rand.New(rand.NewPCG(9, 9))}, 0)
			next := make([]int, senders)
			for range senders * each {
				f, err := r.Next()
				if err != nil {
					t.Fatalf("read: %v", err)
				}
				sender := int(f.Branch)
				if sender >= senders {
					t.Fatalf("a frame of branch %d", sender)
				}
				want := numbered(sender, next[sender], len(f.Payload))[wire.FrameHeaderSize:]
				if !bytes.Equal(f.Payload, want) {
					t.Fatalf("frame %d of sender %d is damaged or out of order", next[sender], sender)
				}
				next[sender]++
			}
			group.Wait()
			eventually(t, "Queued() is 0", func() bool { return c.Queued() == 0 })
		})
	}
}

// A small frame between shared ones costs no more memory than it counts for.
func TestChunksAreShared(t *testing.T) {
	if raceEnabled {
		t.Skip("memory means nothing here")
	}
	cfg, _ := config(pipe)
	nc := &stopped{script: script{stream: header()}, stop: make(chan struct{})}
	c, err := conn.Accept(t.Context(), nc, &cfg)
	if err != nil {
		t.Fatalf("Accept: %v", err)
	}
	small, shared := frames(2), frames(100)
	before := memory()
	for c.Queued() < 4<<20 {
		if err := errors.Join(c.Append(small), c.AppendShared(shared)); err != nil {
			t.Fatal(err)
		}
	}
	if held := memory() - before; held > 3*c.Queued() {
		t.Errorf("%d bytes of memory count as %d", held, c.Queued())
	}
	c.End(conn.ErrClosed)
}

// What several queues hold is released when all have written or dropped it, and
// what a queue does not take is not kept.
func TestSharedIsReleased(t *testing.T) {
	cfg, _ := config(clear)
	cfg.QueueBytes = 300 << 10
	one, _ := connect(t, clear, cfg)
	nc := &stopped{script: script{stream: header()}, stop: make(chan struct{})}
	two, err := conn.Accept(t.Context(), nc, &cfg)
	if err != nil {
		t.Fatal(err)
	}
	var all []*owner
	want := frames(50 << 10)
	taken := 0
	for n := range 10 {
		o := &owner{b: bytes.Clone(want)}
		o.Keep()
		if _, _, ok := one.OfferShared(o.b, o); !ok && n < 5 {
			t.Fatalf("offer %d was not taken", n)
		} else if ok {
			taken++
		}
		two.OfferShared(o.b, o)
		o.Release()
		all = append(all, o)
	}
	if taken != 5 {
		t.Fatalf("%d offers were taken", taken)
	}
	if held := all[0].held.Load(); held != 2 {
		t.Errorf("two queues hold it, and %d have kept it", held)
	}
	if held := all[9].held.Load(); held != 0 {
		t.Errorf("no queue has taken it, and %d have kept it", held)
	}
	two.End(conn.ErrClosed)
	if held := all[0].held.Load(); held != 1 {
		t.Errorf("one queue holds it, and %d have kept it", held)
	}
	// Passing the bound drops what is queued, once Overrun says so.
	one.Overrun()
	for n, o := range all {
		if held := o.held.Load(); held != 0 {
			t.Errorf("frame %d: nothing is queued, and %d have kept it", n, held)
		}
	}

	// What has been written is released though more waits behind it.
	pipes, far := connect(t, pipe, cfg)
	var row []*owner
	for range 5 {
		o := &owner{b: bytes.Clone(want)}
		o.Keep()
		pipes.OfferShared(o.b, o)
		o.Release()
		row = append(row, o)
	}
	pipes.Kick()
	for n := range row {
		if _, err := io.ReadFull(far, make([]byte, len(want))); err != nil {
			t.Fatal(err)
		}
		eventually(t, "written and released", func() bool { return row[n].held.Load() == 0 })
		if n+1 < len(row) && row[n+1].held.Load() == 0 {
			t.Fatal("released before it was written")
		}
	}

	three, client := connect(t, clear, cfg)
	for range 100 {
		o := &owner{b: bytes.Clone(want)}
		o.Keep()
		three.OfferShared(o.b, o)
		three.Kick()
		o.Release()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("other bytes than were offered, %v", err)
		}
		eventually(t, "written and released", func() bool { return o.held.Load() == 0 })
	}
}

// A copy costs no more memory than it counts for, whatever its size.
func TestCopiesCount(t *testing.T) {
	if raceEnabled {
		t.Skip("memory means nothing here")
	}
	for _, size := range []int{0, 100, 4 << 10, 5 << 10, 8<<10 + 1, 20 << 10, 31 << 10, 33 << 10, 70 << 10, 97 << 10} {
		cfg, _ := config(pipe)
		nc := &stopped{script: script{stream: header()}, stop: make(chan struct{})}
		c, err := conn.Accept(t.Context(), nc, &cfg)
		if err != nil {
			t.Fatalf("Accept: %v", err)
		}
		b := frames(size)
		before := memory()
		for c.Queued() < 8<<20 {
			if _, _, ok := c.OfferCopy(b); !ok {
				t.Fatal("an offer was not taken")
			}
		}
		if held := memory() - before; held > 3*c.Queued() {
			t.Errorf("%d bytes each: %d bytes of memory count as %d", size, held, c.Queued())
		}
		c.End(conn.ErrClosed)
	}
}

// stopped takes the header's answer and then nothing, until it is closed.
type stopped struct {
	script
	writes atomic.Int32
	once   sync.Once
	stop   chan struct{}
}

func (s *stopped) Write(p []byte) (int, error) {
	if s.writes.Add(1) == 1 {
		return len(p), nil
	}
	<-s.stop
	return 0, net.ErrClosed
}

func (s *stopped) Close() error {
	s.once.Do(func() { close(s.stop) })
	return nil
}

// A client that never reads costs the bound and no more, and nobody waits.
func TestSlowConsumer(t *testing.T) {
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			cfg, _ := config(m)
			cfg.QueueBytes = 1 << 20
			c, _ := connect(t, m, cfg)
			c.OnDrain(func() {})
			frame := frames(1000)
			var err error
			for range 100_000 { // the socket's buffers take some
				if err = c.Append(frame); err != nil {
					break
				}
				if c.Queued() > cfg.QueueBytes {
					t.Fatalf("%d bytes are queued, the bound is %d", c.Queued(), cfg.QueueBytes)
				}
				c.Flush()
				c.Congested()
			}
			checkError(t, err, conn.ErrSlowConsumer)
			<-c.Ended()
			checkError(t, c.Cause(), conn.ErrSlowConsumer)
			checkError(t, c.Append(frame), conn.ErrClosed)
			checkError(t, c.AppendShared(frame), conn.ErrClosed)
			checkError(t, c.AppendBoth(frame, frame), conn.ErrClosed)
			c.Flush()
			c.Kick()
			if c.Queued() != 0 || c.Congested() {
				t.Errorf("Queued() = %d, Congested() = %v after the end", c.Queued(), c.Congested())
			}
			_, err = c.ReadBatch()
			checkError(t, err, conn.ErrSlowConsumer)
			c.Finish(time.Minute, time.Minute) // does not wait
		})
	}
}

// A client that takes a byte now and then stays; one that stops is ended.
func TestWriteTimeout(t *testing.T) {
	for _, secured := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			cfg, _ := config(pipe)
			cfg.WriteTimeout = 10 * time.Second
			cfg.TLSOnLoopback = secured
			client, server := net.Pipe()
			c, _ := connectOver(t, client, server, cfg, clientTLS())
			if err := c.AppendShared(frames(100 << 10)); err != nil {
				t.Fatal(err)
			}
			c.Flush()
			one := make([]byte, 1)
			for range 100 {
				time.Sleep(cfg.WriteTimeout - time.Second)
				if _, err := client.Read(one); err != nil {
					t.Fatalf("read: %v", err)
				}
				if c.Cause() != nil {
					t.Fatalf("a slow client was ended: %v", c.Cause())
				}
			}
			last := time.Now()
			<-c.Ended()
			checkError(t, c.Cause(), conn.ErrSlowConsumer)
			if took := time.Since(last); took < cfg.WriteTimeout || took > 2*cfg.WriteTimeout {
				t.Errorf("a client that stopped was ended after %v, want %v to twice that", took, cfg.WriteTimeout)
			}
		})
	}
}

// A connection that is there gets another bound and another patience.
func TestSetConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := config(pipe)
		cfg.WriteTimeout, cfg.QueueBytes = time.Hour, 1<<20
		c, client := connect(t, pipe, cfg)
		if _, _, ok := c.Offer(frames(600 << 10)); !ok {
			t.Fatal("a frame below the bound was refused")
		}
		next := cfg
		next.WriteTimeout, next.QueueBytes = 10*time.Second, 2<<20
		c.SetConfig(&next)
		if _, _, ok := c.Offer(frames(600 << 10)); !ok || c.Limit() != next.QueueBytes {
			t.Fatalf("queued %v, Limit() = %d; want the new bound", ok, c.Limit())
		}
		c.Kick()
		if _, err := io.ReadFull(client, make([]byte, 9)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		<-c.Ended()
		checkError(t, c.Cause(), conn.ErrSlowConsumer)
		if took := time.Since(began); took < next.WriteTimeout || took > 2*next.WriteTimeout {
			t.Errorf("a client that stopped was ended after %v, want %v to twice that", took, next.WriteTimeout)
		}
	})
}

// untimed is a socket whose deadlines for writing pass when the test says so, and
// not because the machine is busy.
type untimed struct {
	*net.TCPConn

	mu    sync.Mutex
	set   bool // there is a deadline
	hurry bool // those to come pass soon
}

func (u *untimed) SetWriteDeadline(at time.Time) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.set = !at.IsZero()
	if u.set && u.hurry {
		at = time.Now().Add(100 * time.Millisecond)
	}
	return u.TCPConn.SetWriteDeadline(at)
}

// pass lets the deadline pass, if there is one.
func (u *untimed) pass() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.set {
		return nil
	}
	return u.TCPConn.SetWriteDeadline(time.Unix(1, 0))
}

func (u *untimed) hurryUp() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.hurry = true
}

// The same over a socket, where a writer goroutine takes over from Flush, and
// what it leaves must not harm the next Flush.
func TestWriteTimeoutOnSocket(t *testing.T) {
	for _, m := range []mode{clear, secure} {
		t.Run(m.String(), func(t *testing.T) {
			cfg, _ := config(m)
			raw, server := sockets(t)
			host := &untimed{TCPConn: server}
			c, client := connectOver(t, raw, host, cfg, clientTLS())
			large := frames(wire.MaxPayload)
			if err := c.AppendShared(large); err != nil {
				t.Fatal(err)
			}
			c.Flush()
			if _, err := io.ReadFull(client, make([]byte, len(large))); err != nil {
				t.Fatalf("read: %v", err)
			}
			eventually(t, "Queued() is 0", func() bool { return c.Queued() == 0 })
			if err := host.pass(); err != nil {
				t.Fatal(err)
			}
			for range 10 {
				if err := c.Append(frames(1)); err != nil {
					t.Fatal(err)
				}
				c.Flush()
				if _, err := io.ReadFull(client, make([]byte, 9)); err != nil {
					t.Fatalf("read: %v, the cause is %v", err, c.Cause())
				}
			}
			host.hurryUp()
			for range 4 { // now nobody reads: more than the buffers of both sockets
				if err := c.AppendShared(large); err != nil {
					t.Fatal(err)
				}
			}
			c.Flush()
			<-c.Ended()
			checkError(t, c.Cause(), conn.ErrSlowConsumer)
		})
	}
}

// Who has seen Congested is told when the queue has drained, every time.
func TestCongestionEnds(t *testing.T) {
	const total = 96 << 20
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			cfg, _ := config(m)
			cfg.QueueBytes = conn.HighWater + 2<<20
			c, client := connect(t, m, cfg)
			drained := make(chan int, 1)
			c.OnDrain(func() { drained <- c.Queued() })
			random := rand.New(rand.NewPCG(3, uint64(m)))
			var group sync.WaitGroup
			group.Go(func() {
				r := &moody{client, rand.New(rand.NewPCG(4, 4))}
				if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(r, total), make([]byte, 256<<10)); err != nil {
					t.Errorf("read: %v", err)
				}
			})
			for sent := 0; sent < total; {
				size := min(total-sent, 1+random.IntN(1<<random.IntN(20)))
				if err := c.AppendShared(make([]byte, size)); err != nil {
					t.Fatalf("queue: %v", err)
				}
				sent += size
				if random.IntN(3) == 0 || sent == total {
					c.Flush()
				}
				if c.Congested() {
					c.Flush()
					if queued := <-drained; queued > conn.LowWater {
						t.Fatalf("called with %d bytes queued", queued)
					}
				}
			}
			group.Wait()
			eventually(t, "Queued() is 0", func() bool { return c.Queued() == 0 })
			select {
			case <-drained:
				t.Error("called without having been asked to")
			default:
			}
		})
	}
}

// What others have offered makes nobody wait who has output of his own: a client
// must be able to leave those whose frames it cannot read as fast as they come.
// At half the bound it does.
func TestCongestionByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := config(pipe)
		cfg.QueueBytes = 16 * conn.HighWater
		c, client := connect(t, pipe, cfg)
		drained := 0
		c.OnDrain(func() { drained++ })
		offer := func(size int) {
			t.Helper()
			if _, _, ok := c.Offer(make([]byte, size)); !ok {
				t.Fatal("the queue takes nothing")
			}
		}
		own := func(size int) {
			t.Helper()
			if err := c.Append(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
		}
		read := func(size int) {
			t.Helper()
			if _, err := io.ReadFull(client, make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		congested := func(when string, want bool) {
			t.Helper()
			if got := c.Congested(); got != want {
				t.Fatalf("Congested() = %v %s", got, when)
			}
		}
		offer(2 * conn.HighWater)
		congested("with others' frames alone", false)
		own(conn.HighWater / 2)
		offer(2 * conn.HighWater)
		congested("with some output", false)
		own(conn.HighWater)
		congested("with much output", true)
		offer(2 * conn.HighWater)
		c.Kick()
		read(2*conn.HighWater + conn.HighWater/2)
		if drained != 0 {
			t.Errorf("drained while %d bytes of output wait", conn.HighWater)
		}
		read(2*conn.HighWater + conn.HighWater)
		if queued := c.Queued(); drained != 1 || queued < conn.HighWater {
			t.Errorf("drained %d times when the output has left and %d bytes of others wait, want once", drained, queued)
		}
		congested("when the output has left", false)
		offer(7 * conn.HighWater)
		congested("with half the bound of others' frames", true)
		read(2*conn.HighWater + 7*conn.HighWater)
		if drained != 2 || c.Queued() != 0 {
			t.Errorf("drained %d times when all has left, want twice", drained)
		}
	})
}

// recorder keeps the last bytes that were read through it.
type recorder struct {
	net.Conn
	last []byte
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.last = append(r.last, p[:n]...)
	r.last = r.last[max(0, len(r.last)-64):]
	return n, err
}

// Finish sends what is queued, flushed or not, and says that nothing follows.
func TestFinish(t *testing.T) {
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			cfg, _ := config(m)
			var client, server net.Conn
			if m == pipe {
				client, server = net.Pipe()
			} else {
				client, server = sockets(t)
			}
			recorded := &recorder{Conn: client}
			clientCfg := clientTLS()
			clientCfg.MaxVersion = tls.VersionTLS12 // its alerts can be told from data
			c, nc := connectOver(t, recorded, server, cfg, clientCfg)
			want := append(frames(5, 3<<20, 7), frames(1)...)
			if err := errors.Join(c.AppendShared(want[:len(want)-9]), c.Append(want[len(want)-9:])); err != nil {
				t.Fatal(err)
			}
			var group sync.WaitGroup
			group.Go(func() { c.Finish(time.Minute, time.Minute) })
			defer group.Wait()
			got := make([]byte, len(want))
			if _, err := io.ReadFull(nc, got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("read: %v, or other bytes than were queued", err)
			}
			if m != pipe { // which cannot be closed in one direction
				if _, err := nc.Read(got); err != io.EOF {
					t.Errorf("read: %v, want EOF", err)
				}
			}
			const alert = 5 + 8 + 2 + 16 // record header, nonce, close_notify, tag
			if n := len(recorded.last); m == secure && (n < alert || recorded.last[n-alert] != 21) {
				t.Errorf("the last record is no close_notify: %s", hex.EncodeToString(recorded.last))
			}
			checkError(t, c.Append(frames(1)), conn.ErrClosed)
			nc.Close()
			<-c.Ended()
			checkError(t, c.Cause(), conn.ErrClosed)
			if c.Queued() != 0 {
				t.Errorf("Queued() = %d", c.Queued())
			}
		})
	}
}

// The bytes sent last arrive although the client has sent what nobody read.
func TestFinishWithUnreadInput(t *testing.T) {
	for _, m := range []mode{clear, secure} {
		cfg, _ := config(m)
		c, client := connect(t, m, cfg)
		if _, err := client.Write(frames(60<<10, 60<<10)); err != nil {
			t.Fatalf("write: %v", err)
		}
		want := frames(100 << 10)
		if err := c.Append(want); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); c.Finish(time.Minute, time.Minute) }()
		got, err := io.ReadAll(client)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: got %d bytes of %d, %v", m, len(got), len(want), err)
		}
		client.Close()
		<-done
	}
}

func TestFinishIsBounded(t *testing.T) {
	const flush, linger = 5 * time.Second, 2 * time.Second
	tests := map[string]struct {
		queue  int  // bytes
		reads  bool // the client reads until the end
		talks  bool // the client sends without end
		atMost time.Duration
	}{
		"nothing queued, client stays":       {0, true, false, linger},
		"client reads and stays":             {100 << 10, true, false, linger},
		"client does not read":               {100 << 10, false, false, flush},
		"nothing queued, client stays deaf":  {0, false, false, linger},
		"client goes on talking":             {10, true, true, linger},
		"client goes on talking, being deaf": {0, false, true, linger},
	}
	for name, test := range tests {
		for _, secured := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cfg, _ := config(pipe)
					cfg.TLSOnLoopback = secured
					client, server := net.Pipe()
					c, _ := connectOver(t, client, server, cfg, clientTLS())
					var group sync.WaitGroup
					if test.reads {
						group.Go(func() { _, _ = io.Copy(io.Discard, client) })
					}
					if test.talks {
						group.Go(func() {
							for err := error(nil); err == nil; _, err = client.Write([]byte{1}) {
								time.Sleep(time.Millisecond)
							}
						})
					}
					if err := c.AppendShared(make([]byte, test.queue)); err != nil {
						t.Fatal(err)
					}
					begin := time.Now()
					c.Finish(flush, linger)
					if took := time.Since(begin); took > test.atMost {
						t.Errorf("TLS %v: it took %v, want %v at most", secured, took, test.atMost)
					}
					group.Wait()
				})
			})
		}
	}
}

func TestFinishDropsInputBounded(t *testing.T) {
	cfg, _ := config(clear)
	c, client := connect(t, clear, cfg)
	var sent atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 64<<10)
		for {
			n, err := client.Write(b)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	c.Finish(time.Minute, time.Minute) // ends by the bytes, not by the time
	<-done
	if sent.Load() < conn.LingerBytes {
		t.Errorf("only %d bytes were taken", sent.Load())
	}
}

// Others may queue until the last moment; what comes too late is refused.
func TestFinishWhileOthersQueue(t *testing.T) {
	for _, m := range modes {
		for range 30 {
			cfg, _ := config(m)
			c, client := connect(t, m, cfg)
			var group sync.WaitGroup
			var queued atomic.Int64
			first := make(chan struct{}, 8)
			for sender := range 4 {
				group.Go(func() {
					defer func() { first <- struct{}{} }() // with 0 frames, too
					for number := 0; ; number++ {
						frame := numbered(sender, number, 100)
						if err := c.AppendShared(frame); err != nil {
							checkError(t, err, conn.ErrClosed)
							return
						}
						queued.Add(int64(len(frame)))
						c.Kick()
						if number == 20 {
							first <- struct{}{}
						}
					}
				})
			}
			received := drain(client)
			<-first
			finished := make(chan struct{})
			go func() { defer close(finished); c.Finish(time.Minute, time.Minute) }()
			group.Wait()
			if m == pipe { // no end of stream while the host lingers
				eventually(t, "all is written", func() bool { return c.Queued() == 0 })
				client.Close()
			}
			if got := <-received; int64(got) != queued.Load() {
				t.Fatalf("%v: %d bytes arrived of %d", m, got, queued.Load())
			}
			client.Close()
			<-finished
		}
	}
}

func TestEndFromMany(t *testing.T) {
	for _, m := range modes {
		cfg, _ := config(m)
		c, client := connect(t, m, cfg)
		received := drain(client)
		causes := make([]error, 20)
		var group sync.WaitGroup
		for i := range causes {
			causes[i] = errors.New("cause " + strconv.Itoa(i))
			group.Go(func() {
				for range 20 {
					if c.AppendShared(frames(1000)) != nil {
						break
					}
					c.Flush()
				}
				c.End(causes[i])
				<-c.Ended()
			})
		}
		group.Go(func() { _, _ = c.ReadBatch() })
		group.Wait()
		first := c.Cause()
		if first == nil || !strings.HasPrefix(first.Error(), "cause ") {
			t.Errorf("Cause() = %v", first)
		}
		c.End(errors.New("another"))
		if c.Cause() != first {
			t.Errorf("Cause() has become %v, was %v", c.Cause(), first)
		}
		if _, err := c.ReadBatch(); err != first && !errors.Is(err, net.ErrClosed) {
			t.Errorf("ReadBatch: %v, want %v", err, first)
		}
		<-received
	}
}

// A client that is gone ends the connection of who writes to it.
func TestWriteToTheGone(t *testing.T) {
	for _, m := range modes {
		cfg, _ := config(m)
		c, client := connect(t, m, cfg)
		if tc, ok := client.(*tls.Conn); ok {
			client = tc.NetConn()
		}
		client.Close()
		var err error
		eventually(t, "the connection ends", func() bool {
			if err = c.Append(frames(1000)); err != nil {
				return true
			}
			c.Flush()
			return false
		})
		<-c.Ended()
		if c.Cause() == nil || errors.Is(c.Cause(), conn.ErrSlowConsumer) {
			t.Errorf("%v: Cause() = %v", m, c.Cause())
		}
	}
}

// counter counts the calls of Write. It is no syscall.Conn.
type counter struct {
	net.Conn
	writes atomic.Int32
}

func (c *counter) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// The records of up to 64 KiB, and many small pieces, leave in one call.
func TestOneCallPerWrite(t *testing.T) {
	for _, secured := range []bool{false, true} {
		cfg, _ := config(clear)
		cfg.TLSOnLoopback = secured
		raw, server := sockets(t)
		count := &counter{Conn: server}
		c, client := connectOver(t, raw, count, cfg, clientTLS())
		for _, name := range []string{"one large piece", "many small pieces"} {
			var want []byte
			if name == "one large piece" {
				want = frames(64<<10 - 8)
				checkError(t, c.AppendShared(want), nil)
			} else {
				for i := range 500 {
					frame := numbered(1, i, 100)
					want = append(want, frame...)
					if i%2 == 0 {
						checkError(t, c.AppendShared(frame), nil)
					} else {
						checkError(t, c.Append(frame), nil)
					}
				}
			}
			before := count.writes.Load()
			c.Flush()
			got := make([]byte, len(want))
			if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: %v, or other bytes", name, err)
			}
			eventually(t, "Queued() is 0", func() bool { return c.Queued() == 0 })
			if calls := count.writes.Load() - before; calls != 1 {
				t.Errorf("TLS %v, %s: %d calls", secured, name, calls)
			}
		}
	}
}

// A connection that has nothing to write keeps nothing of what it has written:
// most stand idle.
func TestIdleKeepsNothing(t *testing.T) {
	for _, m := range modes {
		cfg, _ := config(m)
		c, client := connect(t, m, cfg)
		for _, size := range []int{100, 10 << 10, 60 << 10} {
			frame := frames(size)
			held := weak.Make(&frame[0])
			got := make([]byte, len(frame))
			checkError(t, c.AppendShared(frame), nil)
			frame = nil
			c.Flush()
			if _, err := io.ReadFull(client, got); err != nil {
				t.Fatal(err)
			}
			eventually(t, fmt.Sprintf("%v: %d bytes are written and kept no longer", m, size), func() bool {
				runtime.GC()
				return held.Value() == nil
			})
		}
		c.End(conn.ErrClosed)
	}
}

// What has been written is kept no longer while the writer stands behind it: a
// queue that is full of small pieces holds no more memory than its bound.
func TestWrittenIsKeptNoLonger(t *testing.T) {
	cfg, _ := config(pipe)
	c, client := connect(t, pipe, cfg)
	const size, pieces = 20 << 10, 12
	var held []weak.Pointer[byte]
	for range pieces {
		frame := frames(size)
		held = append(held, weak.Make(&frame[0]))
		checkError(t, c.AppendShared(frame), nil)
	}
	c.Flush()
	// So much has left whole writes, and the next stands.
	if _, err := io.ReadFull(client, make([]byte, pieces/2*size+1)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "half of it is kept no longer", func() bool {
		runtime.GC()
		return !slices.ContainsFunc(held[:pieces/2], func(p weak.Pointer[byte]) bool { return p.Value() != nil })
	})
	c.End(conn.ErrClosed)
}

func TestEmptyAppend(t *testing.T) {
	cfg, _ := config(pipe)
	c, _ := connect(t, pipe, cfg)
	checkError(t, c.Append(nil), nil)
	checkError(t, c.AppendShared(nil), nil)
	checkError(t, c.AppendBoth(nil, nil), nil)
	c.Flush()
	if c.Queued() != 0 {
		t.Errorf("Queued() = %d for nothing", c.Queued())
	}
}
