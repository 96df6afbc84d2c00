package fanout

import (
	"context"
	"fmt"
	"time"

	"mrci.dev/mrci/wire"
)

// Load is what a sender does in a run. It ends with For or with Casts, whatever
// comes first; one of them is set.
type Load struct {
	Sender int           `json:"sender"` // its number
	Rate   float64       `json:"rate"`   // casts a second; 0: as fast as the server takes them
	For    time.Duration `json:"for"`
	Casts  uint64        `json:"casts"`
	// WarmUp is how long a load with a rate goes on before its times count; it
	// is part of For.
	WarmUp time.Duration `json:"warm_up"`
}

// Sent is what a sender has done.
type Sent struct {
	Casts uint64 `json:"casts"`
	First int64  `json:"first"` // when it began, as a Clock has it
	Last  int64  `json:"last"`  // when the last write ended
}

// sendBytes is how much is sent in one write.
const sendBytes = 64 << 10

// batch has casts that are ready but for their sequence numbers and times.
type batch struct {
	b      []byte
	heads  int // where the first payload begins
	stride int // from one to the next
	casts  int
}

func (m *Member) newBatch(size, sender int) batch {
	var one []byte
	var heads int
	payload := make([]byte, size)
	put16(payload[senderAt:], sender)
	if m.protocol == NATS {
		one = fmt.Appendf(nil, "PUB %s %d\r\n", castSubject, size)
		heads = len(one)
		one = append(append(one, payload...), "\r\n"...)
	} else {
		heads = wire.FrameHeaderSize
		one = wire.AppendFrame(nil, wire.Bytes, m.cast, m.branch, payload)
	}
	t := batch{heads: heads, stride: len(one), casts: max(1, sendBytes/len(one))}
	for range t.casts {
		t.b = append(t.b, one...)
	}
	return t
}

// Send casts, and returns when the server has answered each cast; to NATS,
// when the receivers have told of the last ones.
func (m *Member) Send(ctx context.Context, l Load) (Sent, error) {
	m.mu.Lock()
	size := m.check.size
	m.mu.Unlock()
	b := m.newBatch(size, l.Sender)
	s := Sent{First: m.clock.Now()}
	var err error
	if l.Rate > 0 {
		err = m.sendAtRate(ctx, l, b, &s)
	} else {
		err = m.sendFreely(ctx, l, b, &s)
	}
	s.Last = m.clock.Now()
	if err == nil {
		err = m.await(ctx, func() bool {
			if m.protocol == NATS {
				return m.window.done(s.Casts)
			}
			return m.answers >= s.Casts
		})
	}
	return s, m.explain(err)
}

// explain prefers the server's reason to that of a write that has failed.
func (m *Member) explain(err error) error {
	if err == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended != nil {
		return m.ended
	}
	return err
}

func (m *Member) sendFreely(ctx context.Context, l Load, b batch, s *Sent) error {
	for {
		n := uint64(b.casts)
		if l.Casts > 0 {
			n = min(n, l.Casts-s.Casts)
		}
		over := l.For > 0 && time.Duration(m.clock.Now()-s.First) >= l.For
		if n == 0 || over && s.Casts > 0 {
			return nil
		}
		if err := m.write(ctx, b, n, s, func(uint64) int64 { return 0 }); err != nil {
			return err
		}
	}
}

// sendAtRate casts when each is due. What became due while the sender slept
// counts from when it woke; what became due while the server did not take what
// was written before counts from when it was due.
func (m *Member) sendAtRate(ctx context.Context, l Load, b batch, s *Sent) error {
	total := max(1, uint64(l.For.Seconds()*l.Rate))
	if l.Casts > 0 {
		total = l.Casts
	}
	// At least the last one counts, however few there are.
	warm := min(uint64(l.WarmUp.Seconds()*l.Rate), total-1)
	due := func(n uint64) int64 { return s.First + int64(float64(n)/l.Rate*1e9) }
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	woke := s.First
	for s.Casts < total {
		now := m.clock.Now()
		if wait := due(s.Casts) - now; wait > 0 {
			timer.Reset(time.Duration(wait))
			select {
			case <-timer.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			now = m.clock.Now()
			woke = now
		}
		n := uint64(1)
		for limit := min(uint64(b.casts), total-s.Casts); n < limit && due(s.Casts+n) <= now; {
			n++
		}
		err := m.write(ctx, b, n, s, func(at uint64) int64 {
			if at < warm {
				return 0
			}
			return max(due(at), woke)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// write casts the next n, once there is room for them.
func (m *Member) write(ctx context.Context, b batch, n uint64, s *Sent, stamp func(at uint64) int64) error {
	if m.protocol == NATS {
		// A window may be smaller than a batch.
		if err := m.await(ctx, func() bool { return m.window.room(s.Casts) > 0 }); err != nil {
			return err
		}
		m.mu.Lock()
		n = min(n, m.window.room(s.Casts))
		m.mu.Unlock()
	} else if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for i := range n {
		head := b.b[b.heads+int(i)*b.stride:]
		put64(head, s.Casts+i)
		put64(head[stampAt:], uint64(stamp(s.Casts+i)))
	}
	if _, err := m.nc.Write(b.b[:int(n)*b.stride]); err != nil {
		return err
	}
	s.Casts += n
	return nil
}

// Close ends the connection, and with it Read and Send.
func (m *Member) Close() error { return m.nc.Close() }
