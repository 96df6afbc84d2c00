package account

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// Delays of refusals (commands 2, auth).
const (
	freeRefusals = 5 // come at once
	firstDelay   = 100 * time.Millisecond
	longestDelay = 500 * time.Millisecond
)

// maxDelayed bounds the names whose refusals are counted. To push one out
// somebody has to pay for a hash for each of as many others.
const maxDelayed = 4096

// delays counts refusals by the name or address that was typed, whether or not
// an account has it, so that the delay tells nothing. When it is full the name
// that was not refused for the longest time is forgotten. The zero value is
// ready.
type delays struct {
	mu sync.Mutex

	// guarded by mu
	names map[Key]*list.Element // of *refusals
	order list.List             // latest refusal first
}

type refusals struct {
	key   Key
	count int
	last  time.Time
}

// refused counts a refusal and waits as long as it is to be held back, or
// until ctx ends.
func (d *delays) refused(ctx context.Context, key Key, now time.Time) error {
	wait := delayOf(d.count(key, now))
	if wait == 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// count returns the number of refusals of key, this one included. Those from
// before the window of state 3.2 are forgotten.
func (d *delays) count(key Key, now time.Time) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.names == nil {
		d.names = make(map[Key]*list.Element)
	}
	e := d.names[key]
	if e == nil {
		if len(d.names) >= maxDelayed {
			oldest := d.order.Back()
			delete(d.names, d.order.Remove(oldest).(*refusals).key)
		}
		e = d.order.PushFront(&refusals{key: key})
		d.names[key] = e
	}
	r := e.Value.(*refusals)
	if now.Sub(r.last) > failureWindow {
		r.count = 0
	}
	r.count++
	r.last = now
	d.order.MoveToFront(e)
	return r.count
}

// forget ends the delays of key: its owner has logged in.
func (d *delays) forget(key Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.names[key]; e != nil {
		d.order.Remove(e)
		delete(d.names, key)
	}
}

// delayOf returns how long the nth refusal is held back.
func delayOf(n int) time.Duration {
	if n <= freeRefusals {
		return 0
	}
	wait := firstDelay
	for range n - freeRefusals - 1 {
		if wait *= 2; wait >= longestDelay {
			return longestDelay
		}
	}
	return wait
}
