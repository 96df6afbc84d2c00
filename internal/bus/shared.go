package bus

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Owner has the memory of frames that several queues hold. Who keeps them calls
// Keep before the call that gave them returns, and Release, once for each Keep,
// when they are not looked at any more.
type Owner = interface {
	Keep()
	Release()
}

// sharedSizes are those of pooled copies, in bytes: the last holds what a
// session reads at once. A copy fills more than half of its memory, so that
// queues hold no more than twice what they count. Smaller and larger copies are
// left to the garbage collector.
var sharedSizes = [...]int{16 << 10, 32 << 10, 64<<10 + 256}

var sharedPools [len(sharedSizes)]sync.Pool

// shared is a copy of frames in pooled memory. It is an Owner.
type shared struct {
	b     []byte
	class int // of sharedSizes
	held  atomic.Int32
}

// share copies frames for several queues. owner is nil when the memory is not
// pooled; otherwise the caller has kept it.
func share(frames []byte) (b []byte, owner Owner) {
	if len(frames) <= sharedSizes[0]/2 {
		return slices.Clone(frames), nil
	}
	for class, size := range sharedSizes {
		if len(frames) > size {
			continue
		}
		s, ok := sharedPools[class].Get().(*shared)
		if !ok {
			s = &shared{b: make([]byte, size), class: class}
		}
		s.Keep()
		return append(s.b[:0], frames...), s
	}
	return slices.Clone(frames), nil
}

// Keep implements Owner.
func (s *shared) Keep() { s.held.Add(1) }

// Release implements Owner.
func (s *shared) Release() {
	switch held := s.held.Add(-1); {
	case held == 0:
		sharedPools[s.class].Put(s)
	case held < 0:
		panic("bus: shared frames were released too often")
	}
}
