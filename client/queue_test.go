package client

import (
	"testing"

	"mrci.dev/mrci/wire"
)

// A consumer that is always a little behind never empties its queue. What it
// has taken must not stay in the queue's memory all the same.
func TestQueueNeverEmpty(t *testing.T) {
	q := newQueue(1 << 20)
	const behind, frames = 100, 50_000
	put, taken := 0, 0
	take := func() {
		t.Helper()
		f, ok, _ := q.take()
		if !ok || int(f.Branch) != taken {
			t.Fatalf("got frame %d (%v), want %d", f.Branch, ok, taken)
		}
		taken++
	}
	for put < frames {
		if !q.put(queued{Frame: wire.Frame{Type: wire.Text, Branch: wire.BranchID(put)}}) {
			t.Fatalf("full with %d frames", put-taken)
		}
		if put++; put-taken > behind {
			take()
		}
	}
	if n := cap(q.frames); n > 8*behind {
		t.Errorf("room for %d frames, %d wait", n, behind)
	}
	for taken < put {
		take()
	}
	if f, ok, _ := q.take(); ok {
		t.Errorf("frame %d came again", f.Branch)
	}
}
