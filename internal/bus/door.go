package bus

import (
	"math"
	"sync"
	"time"
)

// Door leads to a session's client: its send queue, which counts bytes from
// the beginning of the connection. All methods may be called from any
// goroutine and none waits.
type Door interface {
	// Offer queues frames, which are never changed again, without a copy. It is
	// called under locks: it takes no lock but that of the queue, writes nothing
	// and ends nothing. ok is false when the queue takes nothing any more; the
	// caller calls Overrun when it holds no lock.
	Offer(frames []byte) (queued, written uint64, ok bool)
	// OfferCopy is Offer for frames that the caller uses again. OfferShared is
	// Offer for frames whose owner uses their memory again when all have released
	// them.
	OfferCopy(frames []byte) (queued, written uint64, ok bool)
	OfferShared(frames []byte, owner Owner) (queued, written uint64, ok bool)
	// Overrun ends a client whose queue's bound was passed. It does nothing for
	// another.
	Overrun()
	// Flush writes what can be written without waiting, and leaves the rest to
	// another goroutine. Kick leaves all of it to another goroutine.
	Flush()
	Kick()
	// Progress returns how many bytes have ever been queued, and how many of
	// them have left; Limit how many may wait before Offer takes nothing more,
	// which is 1 MiB at the least.
	Progress() (queued, written uint64)
	Limit() int
	// Await calls f once, when the bytes up to the position have left or the
	// connection has ended, on a goroutine that f must not hold up. stop takes
	// the wish back.
	Await(position uint64, f func()) (stop func())
	// Stalled returns for how long the writer has stood in one write.
	Stalled() time.Duration
}

// noDoor is the door of a session that gets events alone.
type noDoor struct{}

func (noDoor) Offer([]byte) (queued, written uint64, ok bool)              { return 0, 0, false }
func (noDoor) OfferCopy([]byte) (queued, written uint64, ok bool)          { return 0, 0, false }
func (noDoor) OfferShared([]byte, Owner) (queued, written uint64, ok bool) { return 0, 0, false }
func (noDoor) Overrun()                                                    {}
func (noDoor) Flush()                                                      {}
func (noDoor) Kick()                                                       {}
func (noDoor) Progress() (queued, written uint64)                          { return 0, 0 }
func (noDoor) Limit() int                                                  { return math.MaxInt }
func (noDoor) Await(_ uint64, f func()) (stop func())                      { f(); return func() {} }
func (noDoor) Stalled() time.Duration                                      { return 0 }

// maxStall is how long a writer may stand in a write and still count as one
// that moves: senders wait for nobody else (protocol 9).
const maxStall = 20 * time.Millisecond

// fewDoors is up to how many receivers a sender writes to itself. More are left
// to their writers, who run on all cores and gather what comes meanwhile: over
// 100 sockets that is three to twenty times as fast.
const fewDoors = 2

// directBytes is up to how many bytes a sender writes to a few itself: so they
// go out soonest. Of more the writers make better use of the cores, while the
// sender is read on.
const directBytes = 16 << 10

// delivery is what has to be done for the receivers when the locks are
// released.
type delivery struct {
	pace uint64
	open []Door // have got something
	over []Door // take nothing any more
	sent Sent
	most uint64 // that waits for Behind
	size int    // bytes of the most that one has got
}

var deliveries = sync.Pool{New: func() any { return new(delivery) }}

func newDelivery(pace uint64) *delivery {
	d := deliveries.Get().(*delivery)
	d.pace = pace
	return d
}

// offer queues frames, and returns how many bytes have been queued there by
// then.
func (d *delivery) offer(door Door, frames []byte) (end uint64, ok bool) {
	queued, written, ok := door.Offer(frames)
	return d.offered(door, len(frames), queued, written, ok)
}

// offerCopy is offer for frames that the caller uses again.
func (d *delivery) offerCopy(door Door, frames []byte) {
	queued, written, ok := door.OfferCopy(frames)
	d.offered(door, len(frames), queued, written, ok)
}

// offerShared is offer for frames with an owner; nil: none.
func (d *delivery) offerShared(door Door, frames []byte, owner Owner) {
	if owner == nil {
		d.offer(door, frames)
		return
	}
	queued, written, ok := door.OfferShared(frames, owner)
	d.offered(door, len(frames), queued, written, ok)
}

// offered notes what came of an offer.
func (d *delivery) offered(door Door, size int, queued, written uint64, ok bool) (uint64, bool) {
	if !ok {
		d.over = append(d.over, door)
		return queued, false
	}
	d.open = append(d.open, door)
	d.size = max(d.size, size)
	if waiting := queued - written; waiting > d.pace && waiting > d.most && door.Stalled() <= maxStall {
		d.most = waiting
		d.sent.Behind, d.sent.Position = door, queued-d.pace
	}
	return queued, true
}

// finish is called without locks. It gives the delivery back.
func (d *delivery) finish() Sent {
	for _, door := range d.over {
		door.Overrun()
	}
	direct := len(d.open) <= fewDoors && d.size <= directBytes
	for _, door := range d.open {
		if direct {
			door.Flush()
		} else {
			door.Kick()
		}
	}
	sent := d.sent
	sent.Receivers += len(d.open)
	clear(d.open)
	clear(d.over)
	*d = delivery{open: d.open[:0], over: d.over[:0]}
	deliveries.Put(d)
	return sent
}
