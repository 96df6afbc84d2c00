package fanout

import (
	"slices"
	"time"
)

// Clock tells a time that is alike in all processes of this machine and does
// not jump: that of the machine when the Clock was made, carried on by the
// monotonic clock. NewClock makes one.
type Clock struct {
	made time.Time
	at   int64 // the machine's time at made
}

// clockReads is how often a new Clock looks at the machine's time: a process
// may lose the processor between its two clocks, but hardly more often than not.
const clockReads = 15

// NewClock returns a Clock.
func NewClock() Clock {
	c := Clock{made: time.Now()}
	at := make([]int64, clockReads)
	for i := range at {
		now := time.Now()
		at[i] = now.UnixNano() - int64(now.Sub(c.made))
	}
	slices.Sort(at)
	c.at = at[clockReads/2]
	return c
}

// Now returns the time in nanoseconds.
func (c Clock) Now() int64 { return c.at + int64(time.Since(c.made)) }

// Drift is how far the clock of the machine has been set since the Clock was
// made. Where it is more than a little, a Clock that was made later shows
// another time.
func (c Clock) Drift() time.Duration {
	now := NewClock()
	return time.Duration(now.at - c.at - int64(now.made.Sub(c.made)))
}
