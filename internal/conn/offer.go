package conn

import (
	"fmt"
	"slices"
	"time"
)

// waiter is somebody who waits until a position of the queue has been written.
type waiter struct {
	position uint64
	f        func()
}

// Offer queues the frames in b without copying them, as AppendShared does, for
// callers that hold locks: it ends nothing and writes nothing. ok is false when
// nothing can be queued any more; the caller then calls Overrun once it holds
// no lock. queued and written are as Progress returns them.
func (c *Conn) Offer(b []byte) (queued, written uint64, ok bool) {
	return c.offer(b, func(q *sendQueue) int { return q.shareLocked(b, nil) })
}

// Owner has the memory of bytes that several queues hold, see OfferShared.
type Owner = interface {
	Keep()
	Release()
}

// OfferShared is Offer for frames whose memory is used again: it keeps them when
// it has queued them, and releases them when they have been written or dropped.
func (c *Conn) OfferShared(b []byte, owner Owner) (queued, written uint64, ok bool) {
	return c.offer(b, func(q *sendQueue) int {
		owner.Keep()
		return q.shareLocked(b, owner)
	})
}

// OfferCopy is Offer for frames that the caller uses again.
func (c *Conn) OfferCopy(b []byte) (queued, written uint64, ok bool) {
	return c.offer(b, func(q *sendQueue) int { return q.copyLocked(b) })
}

// offer queues b with put, which is called with mu held and returns what it costs.
func (c *Conn) offer(b []byte, put func(q *sendQueue) int) (queued, written uint64, ok bool) {
	q := &c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.full || q.sealed {
		return q.written, q.written, false
	}
	if len(b) > 0 {
		q.bytes += put(q)
		q.full = q.bytes > c.cfg.Load().QueueBytes
	}
	return q.written + uint64(q.bytes), q.written, !q.full
}

// Overrun ends the connection as that of a slow consumer when Offer has passed
// the queue's bound. Otherwise it does nothing.
func (c *Conn) Overrun() {
	c.queue.mu.Lock()
	over := c.queue.full
	c.queue.mu.Unlock()
	if over { // on a connection that has ended the first cause stays
		c.endSlow()
	}
}

func (c *Conn) endSlow() {
	c.End(fmt.Errorf("%w: more than %d bytes wait to be sent", ErrSlowConsumer, c.cfg.Load().QueueBytes))
}

// Progress returns how many bytes have been queued since the connection began,
// and how many of them have left, both with some overhead per piece. What an
// ended connection could not send has left.
func (c *Conn) Progress() (queued, written uint64) {
	q := &c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.written + uint64(q.bytes), q.written
}

// Limit returns how many bytes may wait before the connection ends as that of a
// slow consumer.
func (c *Conn) Limit() int { return c.cfg.Load().QueueBytes }

// Await calls f once, when the bytes up to a position that Offer or Progress
// has returned have left: at once if they have, or else on the goroutine of
// whoever writes, which f must not hold up. stop takes the wish back; f may be
// running by then.
func (c *Conn) Await(position uint64, f func()) (stop func()) {
	q := &c.queue
	q.mu.Lock()
	if q.written >= position || q.full {
		q.mu.Unlock()
		f()
		return func() {}
	}
	w := &waiter{position: position, f: f}
	q.waiters = append(q.waiters, w)
	q.mu.Unlock()
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.waiters = slices.DeleteFunc(q.waiters, func(other *waiter) bool { return other == w })
		q.shrinkLocked()
	}
}

// shrinkLocked lets a queue for which nobody waits hold nothing.
func (q *sendQueue) shrinkLocked() {
	if len(q.waiters) == 0 {
		q.waiters = nil
	}
}

// dueLocked takes out those who wait for a position that has been written.
func (q *sendQueue) dueLocked() (due []*waiter) {
	if len(q.waiters) == 0 {
		return nil
	}
	q.waiters = slices.DeleteFunc(q.waiters, func(w *waiter) bool {
		if w.position > q.written {
			return false
		}
		due = append(due, w)
		return true
	})
	q.shrinkLocked()
	return due
}

// Stalled returns for how long the writer has stood in the write that it is
// making; 0 when nobody writes, or nobody had to wait.
func (c *Conn) Stalled() time.Duration {
	began := c.queue.began.Load()
	if began == 0 {
		return 0
	}
	return max(0, time.Since(c.born)-time.Duration(began-1))
}

// standing notes that the writer is about to make a write that may wait, unless
// it goes on with one that has waited already.
func (q *sendQueue) standing(now time.Time) {
	if q.began.Load() == 0 {
		q.began.Store(max(0, int64(now.Sub(q.conn.born))) + 1)
	}
}
