package bus

import (
	"bytes"
	"errors"
	"sync"

	"mrci.dev/mrci/wire"
)

// MaxLinks is how many requests a session may have open, how many may wait for
// its answer, and how many links it may have (protocol 8).
const MaxLinks = 100

// LinkBytes is how much of one peer may wait in a session's send queue. All
// peers together leave half of the queue to others.
const LinkBytes = 256 << 10

// Reasons for which links refuse something.
var (
	ErrSelf        = errors.New("a session has no link to itself")
	ErrNoPeer      = errors.New("there is no such session")
	ErrLinked      = errors.New("the link stands")
	ErrAsked       = errors.New("the peer has been asked")
	ErrNotAsked    = errors.New("the peer has not asked")
	ErrNotLinked   = errors.New("there is no link to the peer")
	ErrLinks       = errors.New("the session has too many links or requests")
	ErrPeerLinks   = errors.New("the peer has too many links or requests")
	ErrLinkFull    = errors.New("the peer has not taken what was sent before")
	ErrLinkFrame   = errors.New("the frame is larger than what the peer's queue has room for")
	ErrPeerDropped = errors.New("the peer takes nothing any more")
)

// LinkState is what a session knows of a peer.
type LinkState uint8

// The lists of commands 8.
const (
	LinkAsked   LinkState = iota + 1 // the session has asked
	LinkPending                      // the peer has asked
	LinkAccepted
)

// Link is an entry of a session's lists.
type Link struct {
	Peer  wire.SessionID
	State LinkState
}

// Links are a session's peers (protocol 7, commands 8). What a method takes as
// frames is for the peer's client and is queued in the same step.
type Links interface {
	// AskLink asks a peer for a link, and queues request. If the peer has asked
	// already, the link stands from now on, accept is queued instead, and
	// accepted is true. Both take part in channels (Enter): who logs out gives
	// that up first and calls CloseLinks then, and nobody asks in between.
	// ErrNobody, ErrSelf, ErrNoPeer, ErrLinked, ErrAsked, ErrLinks,
	// ErrPeerLinks.
	AskLink(peer wire.SessionID, request, accept []byte) (accepted bool, err error)
	// AcceptLink does what a peer has asked for. ErrLinked, ErrNotAsked,
	// ErrLinks, ErrPeerLinks.
	AcceptLink(peer wire.SessionID, frames []byte) error
	// CloseLink ends a link, declines or withdraws a request. ErrNotLinked.
	CloseLink(peer wire.SessionID, frames []byte) error
	// CloseLinks does so for all and returns how many there were. Before Leave
	// it tells the peers; Leave closes what is left without a word.
	CloseLinks(frames []byte) int
	// Peers returns the lists, in no order.
	Peers() []Link
	// Relay queues frames to a peer. ErrNotLinked; ErrLinkFull: so much of this
	// session, or of all peers, waits there that it has to wait (AwaitLink);
	// ErrLinkFrame: it would have to for ever; ErrPeerDropped.
	Relay(peer wire.SessionID, frames []byte) error
	// AwaitLink calls f once when Relay, after it has returned ErrLinkFull, is
	// worth another try, or the link has ended, on a goroutine that f must not
	// hold up and under locks: f does not call the bus. stop takes the wish back,
	// and is called in the end in any case.
	AwaitLink(peer wire.SessionID, f func()) (stop func())
}

// linkTable has all links and requests. Data goes through it under the read
// lock, so that none follows the end of a link.
type linkTable struct {
	mu sync.RWMutex
	of map[linkKey]*link
}

// linkKey is a pair of sessions, the lower id first.
type linkKey struct{ low, high wire.SessionID }

// side is which of the two a session is: 0 the lower.
type side int

func keyOf(from, to wire.SessionID) (linkKey, side) {
	if bytes.Compare(from[:], to[:]) < 0 {
		return linkKey{from, to}, 0
	}
	return linkKey{to, from}, 1
}

// link is guarded by the table's mu, its flows by their own.
type link struct {
	members  [2]*member
	asked    [2]bool // who has asked; neither once it is accepted
	accepted bool
	flows    [2]flow // what side has sent
}

// linkCounts are the lengths of a session's lists, and its peers.
type linkCounts struct {
	asked, pending, accepted int
	peers                    map[*member]struct{}
}

// flow bounds what waits in the receiver's queue of one sender, by the positions
// up to which that queue has been written. It does not note each frame, but two
// generations: what is being added, and what was added before, which counts
// until all of it has left. So it never counts less than what waits.
type flow struct {
	mu       sync.Mutex
	now, old struct {
		bytes int
		end   uint64
	}
	waiting map[*linkWaiter]struct{} // for room
}

// linkWaiter is one who waits for room in a link.
type linkWaiter struct{ ready func() }

// end wakes those who wait for room in a link that has ended. The caller
// holds the table's lock, and not mu.
func (f *flow) end() {
	f.mu.Lock()
	waiting := f.waiting
	f.waiting = nil
	f.mu.Unlock()
	for w := range waiting {
		w.ready()
	}
}

// waitingLocked returns how much of the flow waits, at most.
func (f *flow) waitingLocked(written uint64) int {
	if written >= f.now.end {
		f.now.bytes, f.old.bytes = 0, 0
	}
	if f.old.bytes == 0 || written >= f.old.end {
		f.old, f.now.bytes = f.now, 0
	}
	return f.old.bytes + f.now.bytes
}

func (f *flow) addLocked(bytes int, end uint64) {
	f.now.bytes += bytes
	f.now.end = end
}

// AskLink implements Links.
func (m *member) AskLink(peer wire.SessionID, request, accept []byte) (bool, error) {
	if peer == m.id {
		return false, ErrSelf
	}
	b := m.bus
	b.mu.RLock()
	other := b.members[peer]
	b.mu.RUnlock()
	if other == nil {
		return false, ErrNoPeer
	}
	key, me := keyOf(m.id, peer)
	t := &b.links
	d := b.delivery()
	defer d.finish()
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.of[key]
	switch {
	case !m.takesPart():
		return false, ErrNobody
	case !other.takesPart():
		return false, ErrNoPeer
	case l == nil:
	case l.accepted:
		return false, ErrLinked
	case l.asked[me]:
		return false, ErrAsked
	default:
		if err := l.accept(me); err != nil {
			return false, err
		}
		d.offer(other.door, accept)
		return true, nil
	}
	switch {
	case m.links.asked >= MaxLinks:
		return false, ErrLinks
	case other.links.pending >= MaxLinks:
		return false, ErrPeerLinks
	}
	l = new(link)
	l.members[me], l.members[1-me] = m, other
	l.asked[me] = true
	t.of[key] = l
	m.links.asked++
	other.links.pending++
	m.links.add(other)
	other.links.add(m)
	d.offer(other.door, request)
	return false, nil
}

func (c *linkCounts) add(peer *member) {
	if c.peers == nil {
		c.peers = make(map[*member]struct{})
	}
	c.peers[peer] = struct{}{}
}

// accept makes a request of the other side a link.
func (l *link) accept(me side) error {
	m, other := l.members[me], l.members[1-me]
	switch {
	case m.links.accepted >= MaxLinks:
		return ErrLinks
	case other.links.accepted >= MaxLinks:
		return ErrPeerLinks
	}
	l.uncount()
	l.asked, l.accepted = [2]bool{}, true
	m.links.accepted++
	other.links.accepted++
	return nil
}

// uncount takes the link out of the counts of both sides.
func (l *link) uncount() {
	for me := range l.members {
		m, other := l.members[me], l.members[1-me]
		switch {
		case l.accepted:
			m.links.accepted--
		case l.asked[me]:
			m.links.asked--
			other.links.pending--
		}
	}
}

// dropLocked removes a link.
func (t *linkTable) dropLocked(key linkKey, l *link) {
	l.uncount()
	for i := range l.flows {
		l.flows[i].end()
	}
	delete(t.of, key)
	for me, m := range l.members {
		delete(m.links.peers, l.members[1-me])
		if len(m.links.peers) == 0 {
			m.links.peers = nil
		}
	}
}

// AcceptLink implements Links.
func (m *member) AcceptLink(peer wire.SessionID, frames []byte) error {
	key, me := keyOf(m.id, peer)
	t := &m.bus.links
	d := m.bus.delivery()
	defer d.finish()
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.of[key]
	switch {
	case l == nil:
		return ErrNotAsked
	case l.accepted:
		return ErrLinked
	case !l.asked[1-me]:
		return ErrNotAsked
	}
	if err := l.accept(me); err != nil {
		return err
	}
	d.offer(l.members[1-me].door, frames)
	return nil
}

// CloseLink implements Links.
func (m *member) CloseLink(peer wire.SessionID, frames []byte) error {
	key, me := keyOf(m.id, peer)
	t := &m.bus.links
	d := m.bus.delivery()
	defer d.finish()
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.of[key]
	if l == nil {
		return ErrNotLinked
	}
	t.dropLocked(key, l)
	if len(frames) > 0 {
		d.offer(l.members[1-me].door, frames)
	}
	return nil
}

// CloseLinks implements Links.
func (m *member) CloseLinks(frames []byte) int {
	d := m.bus.delivery()
	defer d.finish()
	t := &m.bus.links
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closeLocked(m, frames, d)
}

func (t *linkTable) closeLocked(m *member, frames []byte, d *delivery) int {
	n := len(m.links.peers)
	for other := range m.links.peers {
		key, _ := keyOf(m.id, other.id)
		t.dropLocked(key, t.of[key])
		if len(frames) > 0 {
			d.offer(other.door, frames)
		}
	}
	return n
}

// endLinks closes what is left, for good: m takes part in nothing any more.
func (m *member) endLinks() {
	t := &m.bus.links
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closeLocked(m, nil, nil)
}

// takesPart reports whether the session takes part in channels.
func (m *member) takesPart() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.acts.IsZero()
}

// Peers implements Links.
func (m *member) Peers() []Link {
	t := &m.bus.links
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]Link, 0, len(m.links.peers))
	for other := range m.links.peers {
		key, me := keyOf(m.id, other.id)
		state := LinkPending
		switch l := t.of[key]; {
		case l.accepted:
			state = LinkAccepted
		case l.asked[me]:
			state = LinkAsked
		}
		list = append(list, Link{Peer: other.id, State: state})
	}
	return list
}

// Relay implements Links.
func (m *member) Relay(peer wire.SessionID, frames []byte) error {
	key, me := keyOf(m.id, peer)
	t := &m.bus.links
	d := m.bus.delivery()
	defer d.finish()
	t.mu.RLock()
	defer t.mu.RUnlock()
	l := t.of[key]
	if l == nil || !l.accepted {
		return ErrNotLinked
	}
	return l.relay(me, frames, d)
}

func (l *link) relay(me side, frames []byte, d *delivery) error {
	to := l.members[1-me]
	limit := to.door.Limit()
	if len(frames) > limit-2*LinkBytes { // one for what may stand before it, one for others
		return ErrLinkFrame
	}
	f := &l.flows[me]
	f.mu.Lock()
	defer f.mu.Unlock()
	// One at a time: a hundred peers that see the same room would pass it.
	to.relaying.Lock()
	defer to.relaying.Unlock()
	queued, written := to.door.Progress()
	waiting, all := f.waitingLocked(written), int(queued-written)
	switch {
	case all <= LinkBytes && waiting == 0: // there is always room for one
	case len(frames) > LinkBytes, waiting > 0 && waiting+len(frames) > LinkBytes, all+len(frames) > limit/2:
		return ErrLinkFull
	}
	end, ok := d.offer(to.door, frames)
	if !ok {
		return ErrPeerDropped
	}
	f.addLocked(len(frames), end)
	return nil
}

// AwaitLink implements Links. There is more room when the older generation of
// the flow has left; who has nothing there waits for what others have queued.
func (m *member) AwaitLink(peer wire.SessionID, f func()) (stop func()) {
	key, me := keyOf(m.id, peer)
	t := &m.bus.links
	t.mu.RLock()
	l := t.of[key]
	if l == nil || !l.accepted {
		t.mu.RUnlock()
		f()
		return func() {}
	}
	door := l.members[1-me].door
	flow := &l.flows[me]
	flow.mu.Lock()
	queued, written := door.Progress()
	position := queued - min(queued, LinkBytes)
	if flow.waitingLocked(written) > 0 {
		position = flow.old.end
	}
	w := &linkWaiter{ready: sync.OnceFunc(f)}
	if flow.waiting == nil {
		flow.waiting = make(map[*linkWaiter]struct{})
	}
	flow.waiting[w] = struct{}{}
	flow.mu.Unlock()
	t.mu.RUnlock()
	stopDoor := door.Await(position, w.ready)
	return func() {
		stopDoor()
		flow.mu.Lock()
		defer flow.mu.Unlock()
		delete(flow.waiting, w)
	}
}
