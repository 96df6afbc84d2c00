package client

import (
	"context"
	"sync"

	"mrci.dev/mrci/wire"
)

// frameCost is what a queued frame counts beside its payload, so that a flood
// of empty frames is bounded too.
const frameCost = 64

// keptFrames is the largest array that an empty queue keeps.
const keptFrames = 16

// queued is a frame in a queue.
type queued struct {
	wire.Frame
	lost   int  // frames that were dropped in front of it
	inCall bool // a call got it too
}

// queue holds frames between the goroutine that reads the connection and one
// consumer. It is full from limit bytes on; the frame that reaches the limit
// is still taken, so a frame of any size passes.
type queue struct {
	limit int
	ready chan struct{} // holds a token when there may be something to take
	room  chan struct{} // holds a token when the queue was full and is half empty

	// guarded by mu
	mu     sync.Mutex
	frames []queued
	head   int // frames[:head] are taken
	bytes  int
	waits  bool  // the reader waits for room
	end    error // what follows the last frame; nil while more may come
}

func newQueue(limit int) queue {
	return queue{limit: limit, ready: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// put appends a frame, unless the queue is full; it then asks for a token in
// room. A frame for a queue that has ended is dropped.
func (q *queue) put(f queued) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.end != nil {
		return true
	}
	if q.bytes >= q.limit {
		q.waits = true
		return false
	}
	if len(q.frames) == cap(q.frames) && q.head >= len(q.frames)/2 {
		// Most is taken: a consumer that never catches up must not make the array
		// grow with all that it has ever got.
		left := copy(q.frames, q.frames[q.head:])
		clear(q.frames[left:])
		q.frames, q.head = q.frames[:left], 0
	}
	q.frames = append(q.frames, f)
	q.bytes += frameCost + len(f.Payload)
	signal(q.ready)
	return true
}

// take removes the first frame. Without one it returns ok false, and the end
// of the queue if that has come.
func (q *queue) take() (f queued, ok bool, end error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.head == len(q.frames) {
		if cap(q.frames) > keptFrames {
			q.frames, q.head = nil, 0
		}
		if q.end != nil {
			signal(q.ready) // for another consumer that waits
		}
		return queued{}, false, q.end
	}
	f = q.frames[q.head]
	q.frames[q.head] = queued{} // its payload is the consumer's now
	q.head++
	q.bytes -= frameCost + len(f.Payload)
	if q.head < len(q.frames) {
		signal(q.ready) // likewise
	}
	if q.waits && q.bytes <= q.limit/2 {
		q.waits = false
		signal(q.room)
	}
	return f, true, nil
}

// next waits for the first frame and removes it. Without one it returns the end
// of the queue, or why ctx has ended.
func (q *queue) next(ctx context.Context) (wire.Frame, error) {
	for {
		f, ok, end := q.take()
		if ok {
			return f.Frame, nil
		}
		if end != nil {
			return wire.Frame{}, end
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
			return wire.Frame{}, context.Cause(ctx)
		}
	}
}

// halfEmpty reports whether the queue has room again after it was full.
func (q *queue) halfEmpty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes <= q.limit/2
}

// finish states what follows the last frame, once.
func (q *queue) finish(end error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.end == nil {
		q.end = end
		q.waits = false
		signal(q.ready)
		signal(q.room)
	}
}

func signal(token chan struct{}) {
	select {
	case token <- struct{}{}:
	default:
	}
}
