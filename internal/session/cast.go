package session

import (
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/wire"
)

// casts sends the casts that a batch goes on with, and reports whether there
// were any that it could deal with. Consecutive ones go as one piece: one copy
// of their bytes, one look into the index, one append per receiver (DESIGN D5).
// What the command itself has to answer is left to it.
func (s *Session) casts(b *slot) bool {
	id := s.cfg.Registry.Cast()
	if id == 0 || len(b.left) < wire.FrameHeaderSize {
		return false
	}
	if f, _, ok := wire.CutFrame(b.left); !ok || f.Cmd != id || f.Type.IsControl() {
		return false
	}
	s.update()
	if s.mayRun(id) == nil {
		return false
	}
	limits := s.cfg.Limits()
	allowed := s.castsAllowed(limits, time.Now())
	size, count := 0, 0
	for left := b.left; ; count++ {
		f, rest, ok := wire.CutFrame(left)
		if !ok || f.Cmd != id || !f.Type.Relayable() || !allowed.take(len(f.Payload)) {
			break
		}
		size += len(left) - len(rest)
		left = rest
	}
	if count == 0 {
		if wait := allowed.wait; wait > 0 {
			s.restFor(wait)
			return true
		}
		f, rest, _ := wire.CutFrame(b.left)
		if allowed.tooLarge {
			s.cfg.Counters.CastBytes.Add(1)
			s.refuse(f.Cmd, f.Branch, wire.InvalidParams,
				fmt.Sprintf("A cast may carry %d bytes on this host, not %d; send it in pieces.", allowed.largest, len(f.Payload)))
			b.left = rest
			return true
		}
		return false
	}
	run := b.left[:size]
	b.left = b.left[size:]
	if s.debug != nil {
		s.logFrames("frame in", run)
	}
	// Collected, not queued: the answers follow what they are for.
	s.idles(run, count)
	wire.Readdress(run, wire.CmdID(wire.AsyncCast), 0)
	if b.batch.Single() { // a large frame, nobody else's
		s.pace(b, s.seat.Cast(run))
	} else {
		s.pace(b, s.seat.CastCopy(run))
	}
	s.cfg.Counters.Calls.Add(uint64(count))
	return true
}

// rest is a time in which the session reads nothing.
type rest struct {
	timer *time.Timer
	stop  func() // takes back the wish to be told; nil: there is none
}

func (r *rest) end() {
	r.timer.Stop()
	if r.stop != nil {
		r.stop()
	}
}

// Pace implements hub.Occupant. Of several only the last counts.
func (s *Session) Pace(sent bus.Sent) {
	if sent.Behind != nil {
		s.paced.Store(&sent)
		s.wake()
	}
}

// takePace does what Pace was called for. b is the batch that is being handled;
// nil: none.
func (s *Session) takePace(b *slot) {
	if s.paced.Load() == nil {
		return
	}
	if sent := s.paced.Swap(nil); sent != nil {
		s.pace(b, *sent)
	}
}

// pace lets the session rest until the slowest of those who have got something,
// and who take it, has taken it. For one batch it rests once.
func (s *Session) pace(b *slot, sent bus.Sent) {
	if sent.Behind == nil || b != nil && b.rested {
		return
	}
	r := s.restFor(s.cfg.Limits().PaceTimeout)
	if r == nil {
		return
	}
	r.stop = sent.Behind.Await(sent.Position, s.rested(r))
	if b != nil {
		b.rested = true
	}
}

// restFor lets frames wait for a time; it returns nil when they do so already.
func (s *Session) restFor(d time.Duration) *rest {
	if s.pause != nil {
		return nil
	}
	r := new(rest)
	s.pause = r
	r.timer = time.AfterFunc(d, s.rested(r))
	return r
}

// rested returns a function that ends a rest, once.
func (s *Session) rested(r *rest) func() {
	return sync.OnceFunc(func() {
		s.post(func() {
			if s.pause == r {
				r.end()
				s.pause = nil
			}
		})
	})
}

// castLimit bounds what a session casts (state 4, cast_rate and cast_bytes).
type castLimit struct {
	rate, bytes int // as configured
	casts, data *rate.Limiter
}

// allowance is what a session may cast now.
type allowance struct {
	limit    *castLimit // nil: at any rate
	now      time.Time
	largest  int           // bytes of a cast; 0: no limit
	wait     time.Duration // the next cast has to
	tooLarge bool          // the next cast is, for ever
}

// castsAllowed returns what the session may cast now under limits.
func (s *Session) castsAllowed(limits *Limits, now time.Time) allowance {
	a := allowance{now: now, largest: limits.CastSize}
	if limits.CastBytes > 0 && (a.largest == 0 || limits.CastBytes < a.largest) {
		a.largest = limits.CastBytes
	}
	if limits.CastRate == 0 && limits.CastBytes == 0 {
		s.casting = nil
		return a
	}
	if s.casting == nil || s.casting.rate != limits.CastRate || s.casting.bytes != limits.CastBytes {
		s.casting = &castLimit{
			rate: limits.CastRate, bytes: limits.CastBytes,
			casts: perSecond(limits.CastRate), data: perSecond(limits.CastBytes),
		}
	}
	a.limit = s.casting
	return a
}

// perSecond allows n in a second, at once or spread; 0: any number.
func perSecond(n int) *rate.Limiter {
	if n == 0 {
		return rate.NewLimiter(rate.Inf, math.MaxInt)
	}
	return rate.NewLimiter(rate.Limit(n), n)
}

// take takes a cast from the allowance, or returns false.
func (a *allowance) take(bytes int) bool {
	if a.largest > 0 && bytes > a.largest {
		a.tooLarge = true
		return false
	}
	l := a.limit
	if l == nil {
		return true
	}
	casts, data := l.casts.ReserveN(a.now, 1), l.data.ReserveN(a.now, bytes)
	if a.wait = max(casts.DelayFrom(a.now), data.DelayFrom(a.now)); a.wait > 0 {
		casts.CancelAt(a.now)
		data.CancelAt(a.now)
		return false
	}
	return true
}
