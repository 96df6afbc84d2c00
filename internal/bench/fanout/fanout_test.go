package fanout

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"mrci.dev/mrci/wire"
)

func TestHistogram(t *testing.T) {
	var whole, half, other Histogram
	for ns := int64(1); ns <= 1_000_000; ns += 7 {
		whole.Add(ns)
		if ns%2 == 0 {
			half.Add(ns)
		} else {
			other.Add(ns)
		}
	}
	half.Merge(&other)
	text, err := json.Marshal(&half)
	if err != nil {
		t.Fatal(err)
	}
	var read Histogram
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*Histogram{&whole, &half, &read} {
		if h.Count() != whole.Count() || h.Max() != whole.Max() {
			t.Errorf("got %d times up to %v, want %d up to %v", h.Count(), h.Max(), whole.Count(), whole.Max())
		}
		for _, share := range []float64{0.01, 0.5, 0.99, 1} {
			want := share * 1e6
			if got := float64(h.Quantile(share)); got < 0.98*want || got > 1.02*want {
				t.Errorf("quantile %v: got %v ns, want about %v", share, got, want)
			}
		}
	}
	if err := json.Unmarshal([]byte(`{"counts":[[99999,1]]}`), &read); err == nil {
		t.Error("a bucket that does not exist was read")
	}
}

func TestHistogramBounds(t *testing.T) {
	var h Histogram
	if h.Quantile(0.99) != 0 {
		t.Error("a histogram without times has a quantile")
	}
	for _, ns := range []int64{-5, 0, 63, 64, 1 << 62} {
		h.Add(ns)
	}
	for bucket := range buckets {
		least, width := edges(bucket)
		if bucketOf(least) != bucket || bucketOf(least+width-1) != bucket {
			t.Fatalf("bucket %d of %d to %d: these are in %d and %d", bucket, least, least+width-1, bucketOf(least), bucketOf(least+width-1))
		}
	}
}

// spoken is what a receiver of three casts is sent, in each protocol.
func spoken(protocol Protocol, size int, order ...uint64) []byte {
	var b []byte
	if protocol == NATS {
		b = append(b, "INFO {\"server_id\":\"x\"}\r\nPING\r\n"...)
	} else {
		b = wire.AppendText(b, wire.Text, wire.CmdID(wire.AsyncSysMsg), 0, strings.Repeat("a word of the host ", 20))
		b = wire.AppendIdle(b, 777, 1, wire.NoErrors, nil)
	}
	for _, seq := range order {
		payload := make([]byte, size)
		put64(payload, seq)
		put64(payload[stampAt:], 1)
		if protocol == NATS {
			b = append(fmt.Appendf(b, "MSG c 1 %d\r\n", size), payload...)
			b = append(b, "\r\nPONG\r\n"...)
		} else {
			b = wire.AppendFrame(b, wire.Bytes, wire.CmdID(wire.AsyncCast), 0, payload)
			b = wire.AppendIdle(b, 777, 1, wire.NoErrors, nil)
		}
	}
	return b
}

func newTestMember(t testing.TB, protocol Protocol, size int) *Member {
	t.Helper()
	m := New(nil, 777, 1, NewClock())
	if protocol == NATS {
		m = NewNATS(nil, 0, NewClock())
	}
	if err := m.Begin(Run{Size: size, Senders: 1, Receivers: 1, Timed: true}); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestPieces has a member read the same bytes in pieces of any size.
func TestPieces(t *testing.T) {
	for _, protocol := range []Protocol{MRCI, NATS} {
		for _, size := range []int{MinSize, 128, 5000} {
			all := spoken(protocol, size, 0, 1, 2)
			for most := 1; most < len(all)+1; most += 1 + most/3 {
				m := newTestMember(t, protocol, size)
				random := rand.New(rand.NewPCG(uint64(size), uint64(most)))
				for b := all; len(b) > 0; {
					n := min(len(b), 1+random.IntN(most))
					if err := m.feed(b[:n], 5); err != nil {
						t.Fatalf("%s, %d bytes, pieces up to %d: %v", protocol, size, most, err)
					}
					b = b[n:]
				}
				c := &m.check
				if c.got != 3 || c.lost != 0 || c.wrong != 0 || c.times.Count() != 3 || len(m.held) > 0 || m.skip != 0 {
					t.Fatalf("%s, %d bytes, pieces up to %d: %d casts, %d lost, %d wrong, %d timed; %d bytes held, %d skipped",
						protocol, size, most, c.got, c.lost, c.wrong, c.times.Count(), len(m.held), m.skip)
				}
				if m.answers == 0 {
					t.Fatalf("%s: no answers were seen", protocol)
				}
			}
		}
	}
}

func TestChecks(t *testing.T) {
	tests := []struct {
		order            []uint64
		got, lost, wrong uint64
	}{
		{order: []uint64{0, 1, 2}, got: 3},
		{order: []uint64{0, 2}, got: 2, lost: 1},
		{order: []uint64{1, 2}, got: 2, lost: 1},
		{order: []uint64{0, 0, 1}, got: 2, wrong: 1},
		{order: []uint64{0, 2, 1}, got: 2, lost: 1, wrong: 1},
	}
	for _, protocol := range []Protocol{MRCI, NATS} {
		for _, test := range tests {
			m := newTestMember(t, protocol, 64)
			if err := m.feed(spoken(protocol, 64, test.order...), 5); err != nil {
				t.Fatal(err)
			}
			if c := m.check; c.got != test.got || c.lost != test.lost || c.wrong != test.wrong {
				t.Errorf("%s, order %v: %d casts, %d lost, %d wrong; want %d, %d, %d", protocol, test.order, c.got, c.lost, c.wrong, test.got, test.lost, test.wrong)
			}
		}
	}
	m := newTestMember(t, MRCI, 64)
	if err := m.feed(spoken(MRCI, 65, 0), 5); err != nil || m.check.wrong != 1 {
		t.Errorf("a payload of another size: %v, %d wrong, want 1", err, m.check.wrong)
	}
}

func TestRefusedCast(t *testing.T) {
	m := newTestMember(t, MRCI, 64)
	b := wire.AppendText(nil, wire.Err, 777, 1, "Nothing of that type may be cast.\n")
	err := m.feed(wire.AppendIdle(b, 777, 1, wire.InvalidParams, nil), 5)
	if err == nil || !strings.Contains(err.Error(), "of that type") {
		t.Errorf("a cast that is refused: got %v, want the host's words", err)
	}
	if err := newTestMember(t, NATS, 64).feed([]byte("-ERR 'Slow Consumer'\r\n"), 5); err == nil || !strings.Contains(err.Error(), "Slow Consumer") {
		t.Errorf("an error of NATS: got %v, want its words", err)
	}
}

func FuzzFeed(f *testing.F) {
	f.Add(spoken(MRCI, 64, 0, 1), 3, false)
	f.Add(spoken(NATS, 64, 0, 1), 7, true)
	f.Add([]byte("MSG c 1 \r\n\nMSG p 1 2\r\n\xff\xff\r\n+OK\r\n"), 1, true)
	f.Fuzz(func(t *testing.T, b []byte, piece int, nats bool) {
		protocol := MRCI
		if nats {
			protocol = NATS
		}
		whole, pieces := newTestMember(t, protocol, 64), newTestMember(t, protocol, 64)
		wholeErr := whole.feed(b, 5)
		piece = max(1, min(piece, len(b)))
		var err error
		for rest := b; len(rest) > 0 && err == nil; rest = rest[min(piece, len(rest)):] {
			err = pieces.feed(rest[:min(piece, len(rest))], 5)
		}
		if (wholeErr == nil) != (err == nil) {
			t.Fatalf("as a whole %v, in pieces %v", wholeErr, err)
		}
		if a, b := whole.check, pieces.check; err == nil && (a.got != b.got || a.lost != b.lost || a.wrong != b.wrong || whole.answers != pieces.answers) {
			t.Fatalf("as a whole %+v, in pieces %+v", a, b)
		}
	})
}

func TestWindow(t *testing.T) {
	w := newWindow(3, 2, 10)
	if w.room(0) != 10 || w.room(10) != 0 {
		t.Errorf("at the beginning: room %d and %d, want 10 and 0", w.room(0), w.room(10))
	}
	for _, receiver := range []int{0, 0, 1, 7, 2, 1} {
		w.advance(receiver)
	}
	if w.least != 1 || w.behind != 1 || w.room(10) != 2 {
		t.Errorf("two have told twice and one once: least %d, behind %d, room %d; want 1, 1, 2", w.least, w.behind, w.room(10))
	}
	if w.done(4) || !w.done(3) {
		t.Error("who has told once has 2 casts, and is done with 3")
	}
	w.advance(2)
	if w.least != 2 || w.behind != 3 || !w.done(4) {
		t.Errorf("all have told twice: least %d, behind %d", w.least, w.behind)
	}
}

// crowd is members of one floor.
type crowd struct {
	members []*Member
	group   sync.WaitGroup
}

// newCrowd connects members to a floor, all of which are in its set.
func newCrowd(t *testing.T, n int) *crowd {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, c := new(Floor), new(crowd)
	clock := NewClock()
	for range n {
		near, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.group.Go(func() { _ = f.Serve(far) })
		if _, err := near.Write(wire.AppendText(nil, wire.Text, FloorOpen, 1, "")); err != nil {
			t.Fatal(err)
		}
		r := wire.NewReader(near, 0)
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		m := New(near, FloorCast, 1, clock)
		c.members = append(c.members, m)
		c.group.Go(func() { _ = m.Read(nil, make([]byte, 16<<10)) })
	}
	t.Cleanup(func() {
		l.Close()
		for _, m := range c.members {
			m.Close()
		}
		c.group.Wait()
	})
	return c
}

func (c *crowd) run(ctx context.Context, r Run, l Load) (s Sent, all Received, err error) {
	for _, m := range c.members {
		if err := m.Begin(r); err != nil {
			return s, all, err
		}
	}
	if s, err = c.members[0].Send(ctx, l); err != nil {
		return s, all, err
	}
	for _, m := range c.members[1:] {
		one, err := m.Receive(ctx, s.Casts)
		if err != nil {
			return s, all, err
		}
		all.Add(&one)
	}
	return s, all, nil
}

func TestFloor(t *testing.T) {
	c := newCrowd(t, 4)
	for _, size := range []int{MinSize, 128, 20_000, 65_536} {
		for _, l := range []Load{{For: 20 * time.Millisecond}, {Casts: 7}, {Rate: 2000, For: 20 * time.Millisecond, WarmUp: 5 * time.Millisecond}} {
			s, all, err := c.run(t.Context(), Run{Size: size, Senders: 1, Receivers: 3, Timed: l.Rate > 0}, l)
			if err != nil {
				t.Fatalf("%d bytes, %+v: %v", size, l, err)
			}
			if s.Casts == 0 || all.Casts != 3*s.Casts || all.Lost != 0 || all.Wrong != 0 {
				t.Errorf("%d bytes, %+v: %d casts sent, %d received, %d lost, %d wrong", size, l, s.Casts, all.Casts, all.Lost, all.Wrong)
			}
			if all.Last < s.First {
				t.Errorf("%d bytes: the last cast came before the first was sent", size)
			}
			if l.Casts > 0 && s.Casts != l.Casts {
				t.Errorf("%d casts were sent, want %d", s.Casts, l.Casts)
			}
			if want := l.Rate > 0; (all.Times.Count() > 0) != want || want && all.Times.Count() != 3*30 {
				t.Errorf("%d bytes, %+v: %d times", size, l, all.Times.Count())
			}
		}
	}
}

// TestFloorSlowReader: whoever sends waits for a receiver that does not read.
func TestFloorSlowReader(t *testing.T) {
	server, client := net.Pipe() // holds nothing, so that the queue fills
	defer client.Close()
	f := new(Floor)
	slow := &floorMember{nc: server}
	slow.some.L, slow.room.L = &slow.mu, &slow.mu
	f.enter(slow, "")
	for slow.queued.Load() <= floorQueue {
		cast(slow.set.all(), nil, wire.AppendFrame(nil, wire.Bytes, FloorCast, 1, make([]byte, 64<<10)))
	}
	waited := make(chan struct{})
	go func() { // awaited below
		slow.awaitRoom()
		close(waited)
	}()
	var writer sync.WaitGroup
	writer.Go(slow.write)
	select {
	case <-waited:
		t.Error("a sender went on although the queue was full")
	default:
	}
	for range 3 { // what the writer holds, and what is above the bound
		if _, err := wire.NewReader(client, 0).Next(); err != nil {
			break
		}
	}
	slow.close()
	<-waited
	writer.Wait()
}

func TestLostTail(t *testing.T) {
	m := newTestMember(t, MRCI, 64)
	if err := m.feed(spoken(MRCI, 64, 0, 1), 5); err != nil {
		t.Fatal(err)
	}
	m.ended = net.ErrClosed
	r, err := m.Receive(t.Context(), 5)
	if err == nil || r.Casts != 2 {
		t.Errorf("a connection that ended early: %d casts, %v; want 2 and its end", r.Casts, err)
	}
	r, err = m.Receive(t.Context(), 2)
	if err != nil || r.Lost != 0 {
		t.Errorf("all has come: %+v, %v", r, err)
	}
}
