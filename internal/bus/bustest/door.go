package bustest

import (
	"bytes"
	"math"
	"sync"
	"time"

	"mrci.dev/mrci/internal/bus"
)

// Door is a client's send queue that keeps what it is given. Nothing leaves it
// until Write is called.
type Door struct {
	Bound int // bytes that may wait; 0: any number. Fixed before use

	mu      sync.Mutex
	more    *sync.Cond
	frames  [][]byte
	queued  uint64
	written uint64
	stalled time.Duration
	full    bool
	ended   bool // Overrun was called for good reason
	woken   bool // Flush or Kick was called
	waiting map[*wish]struct{}
}

type wish struct {
	position uint64
	f        func()
}

var _ bus.Door = (*Door)(nil)

// NewDoor returns an empty queue.
func NewDoor() *Door {
	d := &Door{waiting: make(map[*wish]struct{})}
	d.more = sync.NewCond(&d.mu)
	return d
}

// Offer implements bus.Door.
func (d *Door) Offer(frames []byte) (queued, written uint64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full {
		return d.queued, d.written, false
	}
	d.queued += uint64(len(frames))
	d.full = d.Bound > 0 && d.queued-d.written > uint64(d.Bound)
	if !d.full {
		d.frames = append(d.frames, frames)
		d.more.Broadcast()
	}
	return d.queued, d.written, !d.full
}

// OfferCopy implements bus.Door.
func (d *Door) OfferCopy(frames []byte) (queued, written uint64, ok bool) {
	return d.Offer(bytes.Clone(frames))
}

// OfferShared implements bus.Door. The frames are kept for ever.
func (d *Door) OfferShared(frames []byte, owner bus.Owner) (queued, written uint64, ok bool) {
	owner.Keep()
	return d.Offer(frames)
}

// Overrun implements bus.Door.
func (d *Door) Overrun() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = d.full
}

// Flush implements bus.Door.
func (d *Door) Flush() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.woken = true
	d.more.Broadcast()
}

// Kick implements bus.Door.
func (d *Door) Kick() { d.Flush() }

// Progress implements bus.Door.
func (d *Door) Progress() (queued, written uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.queued, d.written
}

// Limit implements bus.Door.
func (d *Door) Limit() int {
	if d.Bound == 0 {
		return math.MaxInt
	}
	return d.Bound
}

// Await implements bus.Door.
func (d *Door) Await(position uint64, f func()) (stop func()) {
	d.mu.Lock()
	if d.written >= position {
		d.mu.Unlock()
		f()
		return func() {}
	}
	w := &wish{position, f}
	d.waiting[w] = struct{}{}
	d.more.Broadcast()
	d.mu.Unlock()
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.waiting, w)
		d.more.Broadcast()
	}
}

// Awaited waits until so many wait for what is queued to leave.
func (d *Door) Awaited(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.waiting) != n {
		d.more.Wait()
	}
}

// Stalled implements bus.Door.
func (d *Door) Stalled() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stalled
}

// Stall sets what Stalled returns.
func (d *Door) Stall(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stalled = t
}

// Write lets up to n bytes leave.
func (d *Door) Write(n int) {
	d.mu.Lock()
	d.written = min(d.queued, d.written+uint64(n))
	var due []func()
	for w := range d.waiting {
		if w.position <= d.written {
			delete(d.waiting, w)
			due = append(due, w.f)
		}
	}
	d.more.Broadcast()
	d.mu.Unlock()
	for _, f := range due {
		f()
	}
}

// Count returns how often frames were queued so far.
func (d *Door) Count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.frames)
}

// Frames returns what was queued from the n-th time on.
func (d *Door) Frames(n int) [][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([][]byte(nil), d.frames[n:]...)
}

// WaitFor waits until frames were queued n times.
func (d *Door) WaitFor(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.frames) < n {
		d.more.Wait()
	}
}

// Texts waits until frames were queued n times and returns all that were,
// joined by spaces.
func (d *Door) Texts(n int) string {
	d.WaitFor(n)
	d.mu.Lock()
	defer d.mu.Unlock()
	return string(bytes.Join(d.frames, []byte(" ")))
}

// Woken waits until somebody has asked for what is queued to be written.
func (d *Door) Woken() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.woken {
		d.more.Wait()
	}
}

// Ended reports whether the client was ended as a slow consumer.
func (d *Door) Ended() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ended
}
