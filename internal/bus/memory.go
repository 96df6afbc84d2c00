package bus

import (
	"context"
	"sync"

	"mrci.dev/mrci/wire"
)

// Memory is the bus of a host that is one process.
type Memory struct {
	mu      sync.RWMutex // guards the maps and every member's fields
	members map[wire.SessionID]*member
	users   map[wire.UserID]map[*member]struct{}
}

var _ Bus = (*Memory)(nil)

// NewMemory returns an empty bus.
func NewMemory() *Memory {
	return &Memory{
		members: make(map[wire.SessionID]*member),
		users:   make(map[wire.UserID]map[*member]struct{}),
	}
}

// member is one session. Its fields are guarded by the bus's mu.
type member struct {
	bus      *Memory
	id       wire.SessionID
	receiver Receiver
	user     wire.UserID
	left     bool
	// owed are answers that requests wait for.
	owed map[*request]struct{}
}

// request is a Request under way. open is guarded by the bus's mu.
type request struct {
	open int // members that have not answered
	done chan struct{}
}

// Join implements Bus.
func (b *Memory) Join(id wire.SessionID, r Receiver) Member {
	m := &member{bus: b, id: id, receiver: r}
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
func (m *member) Leave() {
	b := m.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.left {
		return
	}
	m.left = true
	m.moveLocked(wire.UserID{})
	if b.members[m.id] == m {
		delete(b.members, m.id)
	}
	for r := range m.owed {
		m.settleLocked(r)
	}
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
