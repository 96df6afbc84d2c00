package fanout

import "time"

// Clock tells a time that is alike in all processes of this machine and does
// not jump: that of the machine when the Clock was made, carried on by the
// monotonic clock. NewClock makes one.
type Clock struct {
	made time.Time
	at   int64
}

// NewClock returns a Clock.
func NewClock() Clock {
	now := time.Now()
	return Clock{made: now, at: now.UnixNano()}
}

// Now returns the time in nanoseconds.
func (c Clock) Now() int64 { return c.at + int64(time.Since(c.made)) }

// Drift is how far the clock of the machine has been set since the Clock was
// made. Where it is more than a little, a Clock that was made later shows
// another time.
func (c Clock) Drift() time.Duration {
	return time.Duration(time.Now().UnixNano() - c.Now())
}
