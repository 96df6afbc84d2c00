package limit_test

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/internal/limit"
)

var start = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestRateWindow(t *testing.T) {
	r := limit.NewRate[string](limit.RateConfig{Limit: 3})
	step := func(after time.Duration, key string, want bool) {
		t.Helper()
		if got := r.Allow(key, start.Add(after)); got != want {
			t.Errorf("event of %s after %v: %v, want %v", key, after, got, want)
		}
	}
	step(0, "a", true)
	step(30*time.Minute, "a", true)
	step(31*time.Minute, "a", true)
	step(32*time.Minute, "a", false)
	step(32*time.Minute, "b", true)
	step(59*time.Minute, "a", false)
	// The first event is over, at the latest a twelfth of the window late.
	step(65*time.Minute, "a", true)
	step(65*time.Minute, "a", false)
	// All are over.
	step(3*time.Hour, "a", true)
	want := limit.RateCounters{Keys: 1, Refused: 3}
	if diff := cmp.Diff(want, r.Counters()); diff != "" {
		t.Errorf("counters (-want +got)\n%s", diff)
	}
}

func TestRateWait(t *testing.T) {
	r := limit.NewRate[int](limit.RateConfig{Limit: 2, Window: time.Minute})
	if got := r.Wait(1, start); got != 0 {
		t.Errorf("before any event: %v", got)
	}
	r.Allow(1, start)
	if got := r.Wait(1, start); got != 0 {
		t.Errorf("with room left: %v", got)
	}
	r.Allow(1, start.Add(20*time.Second))
	now := start.Add(30 * time.Second)
	wait := r.Wait(1, now)
	if wait < 30*time.Second || wait > 35*time.Second {
		t.Errorf("full: %v, want the rest of a minute and at most a twelfth more", wait)
	}
	if r.Allow(1, now.Add(wait-1)) {
		t.Error("allowed before the time that Wait gave")
	}
	if !r.Allow(1, now.Add(wait)) {
		t.Error("refused after the time that Wait gave")
	}
}

func TestRateRefund(t *testing.T) {
	r := limit.NewRate[string](limit.RateConfig{Limit: 2})
	r.Refund("a", start) // nothing there
	r.Allow("a", start)
	r.Allow("a", start.Add(20*time.Minute))
	r.Refund("a", start.Add(40*time.Minute))
	if !r.Allow("a", start.Add(40*time.Minute)) {
		t.Error("refused after a refund")
	}
	if r.Allow("a", start.Add(40*time.Minute)) {
		t.Error("one refund gave two events")
	}
	// The one taken back was the later one: the first is over after an hour.
	if !r.Allow("a", start.Add(65*time.Minute)) || r.Allow("a", start.Add(65*time.Minute)) {
		t.Error("the refund took the wrong event")
	}
	r.Refund("a", start.Add(65*time.Minute))
	r.Refund("a", start.Add(65*time.Minute))
	r.Refund("a", start.Add(65*time.Minute))
	if got := r.Counters().Keys; got != 0 {
		t.Errorf("%d keys without events", got)
	}
}

func TestRateKeysAreBounded(t *testing.T) {
	r := limit.NewRate[int](limit.RateConfig{Limit: 1, MaxKeys: 10})
	for key := range 10 {
		r.Allow(key, start)
	}
	// Key 0 goes on trying, so the others are forgotten before it.
	for key := 10; key < 100; key++ {
		if r.Allow(0, start) {
			t.Fatal("a key that goes on trying was forgotten")
		}
		r.Allow(key, start)
	}
	want := limit.RateCounters{Keys: 10, Refused: 90, Forgotten: 90}
	if diff := cmp.Diff(want, r.Counters()); diff != "" {
		t.Errorf("counters (-want +got)\n%s", diff)
	}
	// Events that are over leave no key behind.
	r.Allow(1000, start.Add(2*time.Hour))
	if got := r.Counters().Keys; got != 1 {
		t.Errorf("%d keys after two hours, want 1", got)
	}
}

func TestRateLimits(t *testing.T) {
	r := limit.NewRate[int](limit.RateConfig{})
	for range 1000 {
		if !r.Allow(1, start) {
			t.Fatal("refused without a limit")
		}
	}
	r.SetLimit(5)
	if r.Allow(1, start) {
		t.Error("what was counted before does not count for a new limit")
	}
	r.SetLimit(1001)
	if !r.Allow(1, start) {
		t.Error("refused below a higher limit")
	}
}

func TestRateOddTimes(t *testing.T) {
	r := limit.NewRate[int](limit.RateConfig{Limit: 1, Window: 1})
	for _, now := range []time.Time{start, start.Add(-time.Hour), {}, time.Unix(math.MaxInt64/2, 0), start} {
		r.Allow(1, now)
		r.Refund(1, now)
		r.Wait(1, now)
	}
	back := limit.NewRate[int](limit.RateConfig{Limit: 1})
	back.Allow(1, start.Add(2*time.Hour))
	if back.Allow(1, start) {
		t.Error("a clock that goes back makes room")
	}
}

// A clock that was wrong for a while shuts nobody out for longer than a window
// after it was set back, and going to and fro makes no room again and again.
func TestRateClockSet(t *testing.T) {
	const events = 3
	r := limit.NewRate[int](limit.RateConfig{Limit: events})
	fill := func(now time.Time) (allowed int) {
		for range 10 {
			if r.Allow(1, now) {
				allowed++
			}
		}
		return allowed
	}
	wrong := start.AddDate(10, 0, 0)
	fill(start)
	if got := fill(wrong); got != events {
		t.Fatalf("%d events in another year, want %d", got, events)
	}
	if got := fill(start); got != 0 {
		t.Errorf("%d events when the clock was set back, want none", got)
	}
	if wait := r.Wait(1, start); wait > time.Hour+5*time.Minute {
		t.Errorf("the wait is %v, want a window and a twelfth at most", wait)
	}
	if got := fill(start.Add(time.Hour + 5*time.Minute)); got != events {
		t.Errorf("%d events a window later, want %d", got, events)
	}
	later, total := start.Add(3*time.Hour), 0
	for range 20 {
		total += fill(later) + fill(later.Add(time.Hour))
	}
	if total > 2*events {
		t.Errorf("%d events while the clock goes to and fro by an hour, want %d at most", total, 2*events)
	}
}

// In no window are there more events than the limit, and an event that is
// older than the window and a twelfth never stands in the way.
func TestRateAgainstLog(t *testing.T) {
	const limitEvents, window = 7, time.Hour
	random := rand.New(rand.NewPCG(1, 2))
	r := limit.NewRate[int](limit.RateConfig{Limit: limitEvents, Window: window})
	var log [3][]time.Time
	within := func(key int, now time.Time, d time.Duration) (n int) {
		for _, at := range log[key] {
			if now.Sub(at) < d {
				n++
			}
		}
		return n
	}
	now := start
	for range 3000 {
		now = now.Add(time.Duration(random.ExpFloat64() * float64(3*time.Minute)))
		key := random.IntN(len(log))
		wait := r.Wait(key, now)
		allowed := r.Allow(key, now)
		if allowed != (wait == 0) {
			t.Fatalf("at %v: Wait %v but Allow %v", now, wait, allowed)
		}
		if allowed {
			log[key] = append(log[key], now)
			if n := within(key, now, window); n > limitEvents {
				t.Fatalf("at %v: %d events within %v", now, n, window)
			}
		} else if n := within(key, now, window+window/12); n < limitEvents {
			t.Fatalf("at %v: refused after %d events", now, n)
		}
		if random.IntN(10) == 0 && within(key, now, window) > 0 {
			r.Refund(key, now)
			log[key] = log[key][:len(log[key])-1]
		}
	}
}

func TestRateConcurrent(t *testing.T) {
	r := limit.NewRate[int](limit.RateConfig{Limit: 100, MaxKeys: 2})
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if r.Allow(1, start) {
					allowed.Add(1)
				}
				r.Counters()
			}
		})
	}
	wg.Wait()
	if got := allowed.Load(); got != 100 {
		t.Errorf("%d events allowed at once, want 100", got)
	}
}
