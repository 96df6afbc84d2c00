package bus

import (
	"context"
	"sync"
	"sync/atomic"

	"mrci.dev/mrci/wire"
)

// Memory is the bus of a host that is one process.
type Memory struct {
	mu      sync.RWMutex // guards the two maps and what members say
	members map[wire.SessionID]*member
	users   map[wire.UserID]map[*member]struct{}

	shards  [shards]shard
	removed atomic.Uint64 // channels that have gone
	who     sync.RWMutex  // guards actors
	actors  map[wire.UserID]map[*member]struct{}

	links linkTable
	pace  atomic.Int64 // bytes
}

// defaultPace is what may wait for a receiver before a sender rests, in bytes
// (state 4).
const defaultPace = 1 << 20

var _ Bus = (*Memory)(nil)

// NewMemory returns an empty bus.
func NewMemory() *Memory {
	b := &Memory{
		members: make(map[wire.SessionID]*member),
		users:   make(map[wire.UserID]map[*member]struct{}),
		actors:  make(map[wire.UserID]map[*member]struct{}),
	}
	b.links.of = make(map[linkKey]*link)
	b.pace.Store(defaultPace)
	return b
}

// SetPace sets above how many bytes that wait for a receiver a sender is told
// to rest (protocol 9). It may be called at any time.
func (b *Memory) SetPace(bytes int) { b.pace.Store(int64(bytes)) }

// member is one session.
type member struct {
	// Fixed.
	bus      *Memory
	id       wire.SessionID
	receiver Receiver
	door     Door

	// Guarded by the bus's mu.
	user wire.UserID
	left bool
	owed map[*request]struct{} // answers that requests wait for

	open atomic.Pointer[slots] // see slots; nil: nothing

	mu      sync.Mutex
	acts    wire.UserID // as whom it takes part in channels; changed under the bus's who too
	ended   bool        // it takes part in nothing any more
	changes uint64      // of the channels that acts belongs to
	places  map[wire.ChannelID]*place

	// Guarded by the link table's mu.
	links linkCounts

	relaying sync.Mutex // held while a frame of a peer finds out whether it has room
}

// request is a Request under way. open is guarded by the bus's mu.
type request struct {
	open int // members that have not answered
	done chan struct{}
}

// Join implements Bus.
func (b *Memory) Join(id wire.SessionID, r Receiver, door Door) Member {
	if door == nil {
		door = noDoor{}
	}
	m := &member{bus: b, id: id, receiver: r, door: door}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.members[id] = m
	return m
}

// SetUser implements Member.
func (m *member) SetUser(id wire.UserID) {
	m.bus.mu.Lock()
	defer m.bus.mu.Unlock()
	if !m.left {
		m.moveLocked(id)
	}
}

func (m *member) moveLocked(id wire.UserID) {
	b := m.bus
	if set := b.users[m.user]; set != nil {
		delete(set, m)
		if len(set) == 0 {
			delete(b.users, m.user)
		}
	}
	m.user = id
	if id.IsZero() {
		return
	}
	if b.users[id] == nil {
		b.users[id] = make(map[*member]struct{})
	}
	b.users[id][m] = struct{}{}
}

// Leave implements Member.
func (m *member) Leave() (Loss, bool) {
	m.mu.Lock()
	m.ended = true
	m.mu.Unlock()
	lost, ok := m.exit()
	m.endLinks()
	b := m.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.left {
		return lost, ok
	}
	m.left = true
	m.moveLocked(wire.UserID{})
	if b.members[m.id] == m {
		delete(b.members, m.id)
	}
	for r := range m.owed {
		m.settleLocked(r)
	}
	return lost, ok
}

// settleLocked counts a member's answer to a request, once.
func (m *member) settleLocked(r *request) {
	if _, owes := m.owed[r]; !owes {
		return
	}
	delete(m.owed, r)
	r.open--
	if r.open == 0 {
		close(r.done)
	}
}

// Publish implements Bus. The receivers are called under the bus's read lock,
// so that nobody is called after Leave; they do not wait.
func (b *Memory) Publish(to Target, e Event) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	b.eachLocked(to, e.From, func(m *member) {
		m.receiver.Receive(Delivery{Event: e, Answer: func() {}})
	})
}

// Request implements Bus.
func (b *Memory) Request(ctx context.Context, to Target, e Event) error {
	r := &request{done: make(chan struct{})}
	b.mu.Lock()
	var asked []*member
	b.eachLocked(to, e.From, func(m *member) {
		if m.owed == nil {
			m.owed = make(map[*request]struct{})
		}
		m.owed[r] = struct{}{}
		r.open++
		asked = append(asked, m)
	})
	for _, m := range asked {
		m.receiver.Receive(Delivery{Event: e, Answer: func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			m.settleLocked(r)
		}})
	}
	b.mu.Unlock()
	if len(asked) == 0 {
		return nil
	}
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range asked {
		delete(m.owed, r)
	}
	select {
	case <-r.done: // the last answer came after all
		return nil
	default:
		return ErrNoAnswer
	}
}

// eachLocked calls f for the members that an event goes to.
func (b *Memory) eachLocked(to Target, from wire.SessionID, f func(*member)) {
	call := func(m *member) {
		if m.id != from {
			f(m)
		}
	}
	switch {
	case to.Session != wire.SessionID{}:
		if m := b.members[to.Session]; m != nil {
			call(m)
		}
	case !to.User.IsZero():
		for m := range b.users[to.User] {
			call(m)
		}
	default:
		for _, m := range b.members {
			call(m)
		}
	}
}
