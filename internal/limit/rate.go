package limit

import (
	"container/list"
	"math"
	"sync"
	"time"
)

// slots is how many parts a window is counted in. An event counts for the
// window and at most one part longer: five minutes for an hour.
const slots = 12

// DefaultMaxKeys bounds the memory of a Rate to about 4 MB.
const DefaultMaxKeys = 16384

// RateConfig says how many events a Rate allows.
type RateConfig struct {
	Limit   int           // events of one key within Window; 0 is no limit
	Window  time.Duration // 0: an hour
	MaxKeys int           // keys held at once; 0: DefaultMaxKeys
}

// Rate allows each key a number of events within a sliding window. In no
// window, wherever it begins, are there more events of a key than its limit.
//
// When there are more keys than it may hold, the one that was not asked for
// longest is forgotten: under an attack from very many addresses it becomes
// lenient, rather than shut out those who are new.
//
// The times given to its methods need not be in order; one that lies before a
// later one that was seen counts as that one. One that lies more than a window
// before it tells that the clock was wrong and has been set back: time goes on
// from there, and what was counted stays counted for a window.
type Rate[K comparable] struct {
	mu sync.Mutex

	// Fixed after NewRate.
	slot    time.Duration
	maxKeys int

	// Guarded by mu.
	limit    int
	keys     map[K]*list.Element
	recent   *list.List // of *events[K], most recently asked for first
	epoch    time.Time  // when the first slot began
	latest   int64      // newest slot that was seen
	counters RateCounters
}

// RateCounters is what a Rate counts: the keys it holds now, and what happened
// since it was made.
type RateCounters struct {
	Keys      int
	Refused   uint64 // events that were not allowed
	Forgotten uint64 // keys that went, with their events, because there were too many
}

// events is what one key did within the window.
type events[K comparable] struct {
	key    K
	asked  int64          // slot in which it was asked for last
	counts [slots + 1]int // by slot, modulo their number
	sum    int
}

// NewRate returns a Rate that has counted nothing. It panics if Window or
// MaxKeys is negative.
func NewRate[K comparable](cfg RateConfig) *Rate[K] {
	if cfg.Window < 0 || cfg.MaxKeys < 0 {
		panic("limit: negative window or number of keys")
	}
	if cfg.Window == 0 {
		cfg.Window = time.Hour
	}
	if cfg.MaxKeys == 0 {
		cfg.MaxKeys = DefaultMaxKeys
	}
	return &Rate[K]{
		// Rounded up, so that the slots together are never less than the window.
		slot:    max((cfg.Window+slots-1)/slots, 1),
		maxKeys: cfg.MaxKeys,
		limit:   cfg.Limit,
		keys:    make(map[K]*list.Element),
		recent:  list.New(),
	}
}

// SetLimit changes the number of events that a key has; what was counted stays.
func (r *Rate[K]) SetLimit(limit int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limit = limit
}

// Allow counts an event of key and returns true, or returns false and counts
// nothing when the window is full. Who counts failures only asks before the
// try, so that tries at the same time cannot all pass, and calls Refund after a
// success.
func (r *Rate[K]) Allow(key K, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.advanceLocked(now)
	e := r.lookupLocked(key, at)
	if r.limit > 0 && e != nil && e.sum >= r.limit {
		r.counters.Refused++
		return false
	}
	if e == nil {
		e = r.addLocked(key, at)
	}
	e.counts[at%(slots+1)]++
	e.sum++
	return true
}

// Refund takes back the latest event of key that is still counted.
func (r *Rate[K]) Refund(key K, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.advanceLocked(now)
	e := r.lookupLocked(key, at)
	if e == nil {
		return
	}
	for slot := at; slot >= max(at-slots, 0); slot-- {
		if n := &e.counts[slot%(slots+1)]; *n > 0 {
			*n--
			e.sum--
			break
		}
	}
	if e.sum == 0 {
		r.removeLocked(r.keys[key])
	}
}

// Wait returns how long it takes until Allow will be true for key, if nothing
// happens meanwhile; 0 when it is true now. It counts nothing.
func (r *Rate[K]) Wait(key K, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.advanceLocked(now)
	e := r.lookupLocked(key, at)
	if e == nil || r.limit <= 0 || e.sum < r.limit {
		return 0
	}
	left := e.sum
	for slot := max(at-slots, 0); slot <= at; slot++ {
		left -= e.counts[slot%(slots+1)]
		if left < r.limit {
			free := r.epoch.Add(time.Duration(slot+slots+1) * r.slot)
			return max(free.Sub(now), 0)
		}
	}
	return 0
}

// Counters returns a consistent copy of all counters. Keys whose events are
// all over may be among those held until the next event.
func (r *Rate[K]) Counters() RateCounters {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.counters
	c.Keys = len(r.keys)
	return c
}

// advanceLocked returns the slot of now, never an earlier one than before, and
// forgets keys that have not been asked for since their events were over.
func (r *Rate[K]) advanceLocked(now time.Time) int64 {
	if r.epoch.IsZero() {
		r.epoch = now
	}
	slot := int64(now.Sub(r.epoch) / r.slot)
	if slot < r.latest-slots {
		r.epoch, slot = now.Add(-time.Duration(r.latest)*r.slot), r.latest
	}
	// Sub stops at the largest duration; slots are added to this.
	r.latest = min(max(r.latest, slot), math.MaxInt64-2*slots)
	for last := r.recent.Back(); last != nil; last = r.recent.Back() {
		if last.Value.(*events[K]).asked+slots >= r.latest {
			break
		}
		r.removeLocked(last)
	}
	return r.latest
}

// lookupLocked returns what key did within the window before the end of slot
// at, nil for nothing, and marks it as asked for.
func (r *Rate[K]) lookupLocked(key K, at int64) *events[K] {
	element, found := r.keys[key]
	if !found {
		return nil
	}
	e := element.Value.(*events[K])
	// Empty the places of the slots that are new since the last visit; they
	// hold what is a whole round older.
	for slot := max(e.asked+1, at-slots); slot <= at; slot++ {
		n := &e.counts[slot%(slots+1)]
		e.sum -= *n
		*n = 0
	}
	if e.sum == 0 {
		r.removeLocked(element)
		return nil
	}
	e.asked = at
	r.recent.MoveToFront(element)
	return e
}

func (r *Rate[K]) addLocked(key K, at int64) *events[K] {
	if len(r.keys) >= r.maxKeys {
		r.counters.Forgotten++
		r.removeLocked(r.recent.Back())
	}
	e := &events[K]{key: key, asked: at}
	r.keys[key] = r.recent.PushFront(e)
	return e
}

func (r *Rate[K]) removeLocked(element *list.Element) {
	delete(r.keys, r.recent.Remove(element).(*events[K]).key)
}
