package bus_test

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/wire"
)

// counter is a door that takes a lock, as a send queue does, and counts.
type counter struct {
	mu      sync.Mutex
	bytes   uint64
	pieces  uint64
	flushed bool
}

func (c *counter) Offer(frames []byte) (queued, written uint64, ok bool) {
	c.mu.Lock()
	c.bytes += uint64(len(frames))
	c.pieces++
	at := c.bytes
	c.mu.Unlock()
	return at, at, true
}
func (c *counter) OfferCopy(frames []byte) (queued, written uint64, ok bool) {
	return c.Offer(slices.Clone(frames))
}
func (c *counter) OfferShared(frames []byte, _ bus.Owner) (queued, written uint64, ok bool) {
	return c.Offer(frames)
}
func (c *counter) Overrun() {}
func (c *counter) Flush()   { c.Kick() }
func (c *counter) Kick() {
	c.mu.Lock()
	c.flushed = true
	c.mu.Unlock()
}
func (c *counter) Progress() (queued, written uint64)     { return c.bytes, c.bytes }
func (c *counter) Await(_ uint64, f func()) (stop func()) { f(); return func() {} }
func (c *counter) Limit() int                             { return math.MaxInt }
func (c *counter) Stalled() time.Duration                 { return 0 }

type deaf struct{}

func (deaf) Receive(bus.Delivery) {}
func (deaf) PeerInfo() []byte     { return nil }

var sessions atomic.Uint32

func newSession() (id wire.SessionID) {
	n := sessions.Add(1)
	id[0], id[1], id[2], id[3] = byte(n), byte(n>>8), byte(n>>16), 1
	return id
}

func join(b *testing.B, memory *bus.Memory, sub wire.SubRef, writable bool) bus.Member {
	m := memory.Join(newSession(), deaf{}, new(counter))
	m.Enter(wire.UserID{1})
	o, err := m.Open(sub)
	if err != nil {
		b.Fatal(err)
	}
	o.Enable(writable, false)
	return m
}

// BenchmarkCast is a batch of casts to receivers that only count. A delivery is
// one cast to one receiver.
func BenchmarkCast(b *testing.B) {
	sub := wire.SubRef{Channel: 7, Sub: 1}
	for _, idle := range []int{0, 5000} {
		for _, receivers := range []int{1, 10, 100, 1000} {
			for _, size := range []int{128, 4 << 10, 64 << 10} {
				for _, group := range []int{1, 32} {
					if idle > 0 && (receivers != 100 || size != 128) {
						continue
					}
					b.Run(fmt.Sprintf("idle=%d/receivers=%d/bytes=%d/group=%d", idle, receivers, size, group), func(b *testing.B) {
						memory := bus.NewMemory()
						sender := join(b, memory, sub, true)
						for range receivers {
							join(b, memory, sub, false)
						}
						for n := range idle {
							m := memory.Join(newSession(), deaf{}, new(counter))
							m.Enter(wire.UserID{2})
							m.SetChannels(m.Changes(), []wire.ChannelID{7, wire.ChannelID(100 + n)})
						}
						var batch []byte
						for range group {
							batch = wire.AppendFrame(batch, wire.Text, 300, 0, make([]byte, size))
						}
						b.ReportAllocs()
						for b.Loop() {
							wire.Readdress(batch, wire.CmdID(wire.AsyncCast), 0)
							if sent := sender.CastCopy(batch); sent.Receivers != receivers {
								b.Fatalf("sent to %d", sent.Receivers)
							}
						}
						b.ReportMetric(float64(b.N)*float64(receivers*group)/b.Elapsed().Seconds()/1e6, "Mdeliveries/s")
					})
				}
			}
		}
	}
}

// BenchmarkCastSlots is a cast of somebody who has six sub-channels open, as
// all receivers have.
func BenchmarkCastSlots(b *testing.B) {
	memory := bus.NewMemory()
	var sender bus.Member
	for n := range 101 {
		m := join(b, memory, wire.SubRef{Channel: 1}, true)
		for ch := range 5 {
			o, err := m.Open(wire.SubRef{Channel: wire.ChannelID(ch + 2)})
			if err != nil {
				b.Fatal(err)
			}
			o.Enable(true, false)
		}
		if n == 0 {
			sender = m
		}
	}
	frames := wire.AppendFrame(nil, wire.Text, wire.CmdID(wire.AsyncCast), 0, make([]byte, 128))
	b.ReportAllocs()
	for b.Loop() {
		if sent := sender.Cast(frames); sent.Receivers != 100 {
			b.Fatalf("sent to %d", sent.Receivers)
		}
	}
}

// BenchmarkCastParallel is as many senders as there are cores, in channels of
// their own or in one.
func BenchmarkCastParallel(b *testing.B) {
	for _, shared := range []bool{false, true} {
		b.Run(fmt.Sprintf("shared=%v", shared), func(b *testing.B) {
			memory := bus.NewMemory()
			var channels atomic.Uint64
			frames := wire.AppendFrame(nil, wire.Text, wire.CmdID(wire.AsyncCast), 0, make([]byte, 128))
			if shared {
				for range 100 {
					join(b, memory, wire.SubRef{Channel: 1}, false)
				}
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				sub := wire.SubRef{Channel: 1}
				if !shared {
					sub.Channel = wire.ChannelID(channels.Add(1))
					for range 100 {
						join(b, memory, sub, false)
					}
				}
				sender := join(b, memory, sub, true)
				for pb.Next() {
					sender.Cast(frames)
				}
			})
		})
	}
}

// BenchmarkRelay is one frame over a link.
func BenchmarkRelay(b *testing.B) {
	memory := bus.NewMemory()
	one, two := newSession(), newSession()
	m := memory.Join(one, deaf{}, new(counter))
	other := memory.Join(two, deaf{}, new(counter))
	m.Enter(wire.UserID{1})
	other.Enter(wire.UserID{1})
	if _, err := m.AskLink(two, nil, nil); err != nil {
		b.Fatal(err)
	}
	if err := other.AcceptLink(one, nil); err != nil {
		b.Fatal(err)
	}
	frames := wire.AppendFrame(nil, wire.Text, wire.CmdID(wire.AsyncP2P), 0, make([]byte, 156))
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Relay(two, frames); err != nil {
			b.Fatal(err)
		}
	}
}
