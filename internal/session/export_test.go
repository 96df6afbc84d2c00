package session

import "time"

// Casting is what a session may cast, as of times that the test gives.
type Casting struct{ s Session }

// Take takes casts of the given sizes, up to the first that is refused, and
// returns how many it took, how long that one has to wait, and whether it is too
// large for ever.
func (c *Casting) Take(limits Limits, now time.Time, sizes ...int) (taken int, wait time.Duration, tooLarge bool) {
	allowed := c.s.castsAllowed(&limits, now)
	for _, size := range sizes {
		if !allowed.take(size) {
			break
		}
		taken++
	}
	return taken, allowed.wait, allowed.tooLarge
}

// Running returns how many calls there are, the ones included that have been
// killed and are not over; 0 when the session has ended.
func (s *Session) Running() int {
	n := make(chan int, 1)
	s.post(func() { n <- len(s.calls) })
	select {
	case running := <-n:
		return running
	case <-s.ctx.Done():
		return 0
	}
}
