package bus

import (
	"context"
	"slices"
	"sync"

	"mrci.dev/mrci/wire"
)

// shards is how many parts the index has; a set of them fits a shardSet.
const shards = 64

// shard has the channels whose ids fall to it.
type shard struct {
	mu       sync.RWMutex
	channels map[wire.ChannelID]*channel
	_        [96]byte // so that two shards do not share a cache line
}

// channel is a channel of which somebody here is a member or holder. Its fields,
// and those of what it consists of, are guarded by the shard's mu.
type channel struct {
	places []*place
	subs   map[wire.SubID]*sub
}

// sub is a sub-channel that somebody holds or is about to.
type sub struct {
	ref     wire.SubRef
	holders []*holder
	pending []*holder
}

// holder is a session that has a sub-channel open, or is about to.
type holder struct {
	// Fixed.
	member *member
	door   Door
	user   wire.UserID // as whom
	in     *sub
	// Guarded by the shard's mu.
	at   int  // in in.holders or in.pending; gone: -1
	open bool // enabled
}

// place is a session's place among the members of a channel.
type place struct {
	// Fixed.
	member *member
	user   wire.UserID
	// Guarded by the shard's mu.
	at int // in channel.places
}

// slot is one of the sub-channels of a session. A pending one is not open.
type slot struct {
	OpenSub
	holder *holder // nil: empty
}

// slots are never changed, but replaced as a whole: under the write lock of the
// shard that the change concerns, and the member's mu, so that no change of
// another shard is lost. Who holds a shard's lock may rely on the slots that
// belong to it, and reads them without mu.
type slots [wire.MaxOpenSubs]slot

// holds reports whether the sub-channel is open.
func (s *slots) holds(ref wire.SubRef) bool {
	for i := range s {
		if s[i].Sub == ref && s[i].holder != nil {
			return true
		}
	}
	return false
}

func (s *slots) active() bool {
	for i := range s {
		if s[i].Active {
			return true
		}
	}
	return false
}

// find returns the slot with the holder; -1: none.
func (s *slots) find(h *holder) int {
	return slices.IndexFunc(s[:], func(x slot) bool { return x.holder == h })
}

func (s *slots) opened() (o Opened) {
	for i := range s {
		if s[i].Sub.Channel != 0 {
			o[i] = s[i].OpenSub
		}
	}
	return o
}

// noSlots is what a session has that has opened nothing.
var noSlots = new(slots)

func (m *member) slots() *slots {
	if s := m.open.Load(); s != nil {
		return s
	}
	return noSlots
}

// change replaces the slots by those that f has changed. The caller holds the
// write lock of the shard of what it changes.
func (m *member) change(f func(s *slots)) (before, after *slots) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before = m.slots()
	changed := *before
	f(&changed)
	after = &changed
	if *after == *noSlots {
		after = noSlots
		m.open.Store(nil)
	} else {
		m.open.Store(after)
	}
	return before, after
}

func shardOf(id wire.ChannelID) int { return int(uint64(id) % shards) }

// shard locks nothing.
func (b *Memory) shard(id wire.ChannelID) *shard { return &b.shards[shardOf(id)] }

// channelLocked returns the channel, which it makes if there is none.
func (s *shard) channelLocked(id wire.ChannelID) *channel {
	ch := s.channels[id]
	if ch == nil {
		ch = &channel{subs: make(map[wire.SubID]*sub)}
		if s.channels == nil {
			s.channels = make(map[wire.ChannelID]*channel)
		}
		s.channels[id] = ch
	}
	return ch
}

// tidyLocked forgets what nobody holds.
func (s *shard) tidyLocked(id wire.ChannelID) {
	ch := s.channels[id]
	if ch == nil {
		return
	}
	for sub, held := range ch.subs {
		if len(held.holders)+len(held.pending) == 0 {
			delete(ch.subs, sub)
		}
	}
	if len(ch.subs)+len(ch.places) == 0 {
		delete(s.channels, id)
	}
}

// cut takes the element at out of a list whose elements know where they are.
func cut[T any](list []*T, at int, move func(*T, int)) []*T {
	last := len(list) - 1
	if at != last {
		list[at] = list[last]
		move(list[at], at)
	}
	list[last] = nil
	return list[:last]
}

func (h *holder) cutLocked() {
	move := func(h *holder, at int) { h.at = at }
	if h.open {
		h.in.holders = cut(h.in.holders, h.at, move)
	} else {
		h.in.pending = cut(h.in.pending, h.at, move)
	}
	h.at = -1
}

func (ch *channel) cutPlaceLocked(p *place) {
	ch.places = cut(ch.places, p.at, func(p *place, at int) { p.at = at })
}

// takeLocked closes those of the holders that are still there, and returns
// whose open sub-channels it closed. All belong to one shard. Each session
// stands there once.
func takeLocked(holders []*holder) (lost []Loss) {
	of := make(map[*member][]*holder, len(holders))
	for _, h := range holders {
		if h.at >= 0 {
			of[h.member] = append(of[h.member], h)
		}
	}
	for _, h := range holders {
		if mine := of[h.member]; len(mine) > 0 {
			delete(of, h.member)
			if loss, ok := h.member.loseLocked(mine); ok {
				lost = append(lost, loss)
			}
		}
	}
	return lost
}

// loseLocked closes the session's holders, all of one shard. ok is false when
// none of them was open.
func (m *member) loseLocked(holders []*holder) (lost Loss, ok bool) {
	before, after := m.change(func(s *slots) {
		for _, h := range holders {
			s[s.find(h)] = slot{}
		}
	})
	for _, h := range holders {
		ok = ok || h.open
		h.cutLocked()
	}
	return loss(m, holders[0].user, before, after), ok
}

func loss(m *member, user wire.UserID, before, after *slots) Loss {
	was, is := listed(before), listed(after)
	return Loss{Session: m.id, User: user, Before: was, After: is, Active: before.active()}
}

// listed are the slots that are open.
func listed(s *slots) wire.SubList {
	o := s.opened()
	return o.List()
}

// Enter implements Member.
func (m *member) Enter(user wire.UserID) (Loss, bool) {
	lost, ok := m.exit()
	if user.IsZero() {
		return lost, ok
	}
	b := m.bus
	b.who.Lock()
	defer b.who.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return lost, ok
	}
	m.acts = user
	m.changes++
	if b.actors[user] == nil {
		b.actors[user] = make(map[*member]struct{})
	}
	b.actors[user][m] = struct{}{}
	return lost, ok
}

// exit takes the session out of the index.
func (m *member) exit() (lost Loss, ok bool) {
	b := m.bus
	b.who.Lock()
	m.mu.Lock()
	user := m.acts
	m.acts = wire.UserID{} // from here on nothing is added
	places := m.places
	m.places = nil
	before := m.slots()
	m.mu.Unlock()
	if set := b.actors[user]; set != nil {
		delete(set, m)
		if len(set) == 0 {
			delete(b.actors, user)
		}
	}
	b.who.Unlock()
	for id, p := range places {
		s := b.shard(id)
		s.mu.Lock()
		if ch := s.channels[id]; ch != nil && p.at < len(ch.places) && ch.places[p.at] == p {
			ch.cutPlaceLocked(p)
			s.tidyLocked(id)
		}
		s.mu.Unlock()
	}
	var had slots // what is closed here, as it was then: an opening may have been enabled since
	for i := range before {
		h := before[i].holder
		if h == nil {
			continue
		}
		s := b.shard(h.in.ref.Channel)
		s.mu.Lock()
		if h.at >= 0 {
			now := m.slots()
			had[i] = now[now.find(h)]
			_, open := m.loseLocked([]*holder{h})
			ok = ok || open
			s.tidyLocked(h.in.ref.Channel)
		}
		s.mu.Unlock()
	}
	return loss(m, user, &had, noSlots), ok
}

// Changes implements Member.
func (m *member) Changes() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changes + m.bus.removed.Load()
}

// SetChannels implements Member. Each channel is looked at by itself: whoever
// takes one away counts that under the same locks.
func (m *member) SetChannels(since uint64, channels []wire.ChannelID) bool {
	m.mu.Lock()
	acts := m.acts
	var drop []wire.ChannelID
	for id := range m.places {
		if !slices.Contains(channels, id) {
			drop = append(drop, id)
		}
	}
	m.mu.Unlock()
	if acts.IsZero() {
		return true
	}
	set := func(id wire.ChannelID, on bool) bool {
		s := m.bus.shard(id)
		s.mu.Lock()
		defer s.mu.Unlock()
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.changes+m.bus.removed.Load() != since || m.acts != acts {
			return false
		}
		if on {
			m.addPlaceLocked(s, id)
		} else {
			m.dropPlaceLocked(s, id)
		}
		return true
	}
	for _, id := range channels {
		if !set(id, true) {
			return false
		}
	}
	for _, id := range drop {
		if !set(id, false) {
			return false
		}
	}
	return m.Changes() == since
}

// addPlaceLocked wants the shard's write lock and the member's mu.
func (m *member) addPlaceLocked(s *shard, id wire.ChannelID) {
	if m.places[id] != nil {
		return
	}
	ch := s.channelLocked(id)
	p := &place{member: m, user: m.acts, at: len(ch.places)}
	ch.places = append(ch.places, p)
	if m.places == nil {
		m.places = make(map[wire.ChannelID]*place)
	}
	m.places[id] = p
}

// dropPlaceLocked wants the same locks.
func (m *member) dropPlaceLocked(s *shard, id wire.ChannelID) {
	p := m.places[id]
	if p == nil {
		return
	}
	delete(m.places, id)
	s.channels[id].cutPlaceLocked(p)
	s.tidyLocked(id)
}

// Open implements Member.
func (m *member) Open(ref wire.SubRef) (Opening, error) {
	if ref.Channel == 0 {
		return nil, ErrNobody // no channel has the id, so nobody can take part in it
	}
	s := m.bus.shard(ref.Channel)
	s.mu.Lock()
	defer s.mu.Unlock()
	var (
		h   *holder
		err error
	)
	m.change(func(list *slots) {
		free := -1
		for i := range list {
			switch {
			case list[i].holder == nil:
				if free < 0 {
					free = i
				}
			case list[i].Sub == ref:
				err = ErrOpen
				return
			case list[i].holder.in.ref == ref:
				err = ErrOpening
				return
			}
		}
		switch {
		case m.acts.IsZero():
			err = ErrNobody
		case free < 0:
			err = ErrSlots
		default:
			h = &holder{member: m, door: m.door, user: m.acts}
			list[free].holder = h
			h.in = s.subLocked(ref)
		}
	})
	if err != nil {
		return nil, err
	}
	h.at = len(h.in.pending)
	h.in.pending = append(h.in.pending, h)
	return h, nil
}

func (s *shard) subLocked(ref wire.SubRef) *sub {
	ch := s.channelLocked(ref.Channel)
	held := ch.subs[ref.Sub]
	if held == nil {
		held = &sub{ref: ref}
		ch.subs[ref.Sub] = held
	}
	return held
}

// Enable implements Opening.
func (h *holder) Enable(writable, active bool) bool {
	s := h.member.bus.shard(h.in.ref.Channel)
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.at < 0 || h.open {
		return false
	}
	h.cutLocked()
	h.open = true
	h.at = len(h.in.holders)
	h.in.holders = append(h.in.holders, h)
	h.member.change(func(list *slots) {
		list[list.find(h)].OpenSub = OpenSub{Sub: h.in.ref, Writable: writable, Active: active}
	})
	return true
}

// Withdraw implements Opening.
func (h *holder) Withdraw() {
	s := h.member.bus.shard(h.in.ref.Channel)
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.at >= 0 && !h.open {
		h.member.loseLocked([]*holder{h})
		s.tidyLocked(h.in.ref.Channel)
	}
}

// Close implements Member.
func (m *member) Close(ref wire.SubRef) (lost Loss, ok bool) {
	s := m.bus.shard(ref.Channel)
	s.mu.Lock()
	defer s.mu.Unlock()
	list := m.slots()
	for i := range list {
		if h := list[i].holder; h != nil && h.in.ref == ref {
			lost, ok = m.loseLocked([]*holder{h})
			s.tidyLocked(ref.Channel)
			break
		}
	}
	return lost, ok
}

// Holdings implements Member. A holder without its sub-channel is about to be
// entered: whoever enters it reads the rights after this.
func (m *member) Holdings() []Holding {
	var held []Holding
	list := m.slots()
	for i := range list {
		if h := list[i].holder; h != nil {
			held = append(held, holding{h, list[i].Sub.Channel != 0})
		}
	}
	return held
}

// holding is a Holding.
type holding struct {
	*holder
	wasOpen bool
}

// Sub implements Holding.
func (h holding) Sub() wire.SubRef { return h.in.ref }

// Open implements Holding.
func (h holding) Open() bool { return h.wasOpen }

// SetWritable implements Holding.
func (h holding) SetWritable(writable bool) bool {
	s := h.member.bus.shard(h.in.ref.Channel)
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.at < 0 || !h.holder.open {
		return false
	}
	h.member.change(func(list *slots) { list[list.find(h.holder)].Writable = writable })
	return true
}

// Close implements Holding.
func (h holding) Close() (lost Loss, ok bool) {
	s := h.member.bus.shard(h.in.ref.Channel)
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.at >= 0 {
		lost, ok = h.member.loseLocked([]*holder{h.holder})
		s.tidyLocked(h.in.ref.Channel)
	}
	return lost, ok
}

// Opened implements Member.
func (m *member) Opened() Opened { return m.slots().opened() }

// AddChannel implements Index.
func (b *Memory) AddChannel(_ context.Context, id wire.ChannelID, user wire.UserID, frames []byte) error {
	s := b.shard(id)
	d := b.delivery()
	s.mu.Lock()
	b.eachActor(user, func(m *member) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.changes++
		m.addPlaceLocked(s, id)
	})
	b.tellLocked(d, s.channels[id], user, nil, frames)
	s.mu.Unlock()
	d.finish()
	return nil
}

// eachActor calls f for the sessions that take part in channels as the user.
// The caller holds a shard's lock and no member's.
func (b *Memory) eachActor(user wire.UserID, f func(*member)) {
	if user.IsZero() {
		return
	}
	b.who.RLock()
	defer b.who.RUnlock()
	for m := range b.actors[user] {
		f(m)
	}
}

// CloseUser implements Index.
func (b *Memory) CloseUser(_ context.Context, id wire.ChannelID, user wire.UserID, removed bool, frames []byte) ([]Loss, error) {
	s := b.shard(id)
	d := b.delivery()
	s.mu.Lock()
	ch := s.channels[id]
	b.tellLocked(d, ch, user, nil, frames)
	b.eachActor(user, func(m *member) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.changes++
		if removed {
			m.dropPlaceLocked(s, id)
		}
	})
	lost := takeLocked(ch.heldLocked(func(h *holder) bool { return h.user == user }))
	s.tidyLocked(id)
	s.mu.Unlock()
	d.finish()
	return lost, nil
}

// heldLocked returns the holders, pending ones too, that f selects.
func (ch *channel) heldLocked(f func(*holder) bool) (held []*holder) {
	if ch == nil {
		return nil
	}
	for _, held1 := range ch.subs {
		for _, list := range [][]*holder{held1.holders, held1.pending} {
			for _, h := range list {
				if f(h) {
					held = append(held, h)
				}
			}
		}
	}
	return held
}

// CloseHolders implements Index.
func (b *Memory) CloseHolders(_ context.Context, ref wire.SubRef, frames []byte) ([]Loss, error) {
	s := b.shard(ref.Channel)
	d := b.delivery()
	s.mu.Lock()
	ch := s.channels[ref.Channel]
	held := ch.heldLocked(func(h *holder) bool { return h.in.ref == ref })
	b.tellLocked(d, ch, wire.UserID{}, held, frames)
	lost := takeLocked(held)
	s.tidyLocked(ref.Channel)
	s.mu.Unlock()
	d.finish()
	return lost, nil
}

// CloseAll implements Index.
func (b *Memory) CloseAll(_ context.Context, id wire.ChannelID, frames []byte) ([]Loss, error) {
	s := b.shard(id)
	d := b.delivery()
	s.mu.Lock()
	b.removed.Add(1)
	ch := s.channels[id]
	held := ch.heldLocked(func(*holder) bool { return true })
	b.tellLocked(d, ch, wire.UserID{}, held, frames)
	lost := takeLocked(held)
	if ch != nil {
		for _, p := range slices.Clone(ch.places) {
			p.member.mu.Lock()
			if p.member.places[id] == p {
				delete(p.member.places, id)
			}
			p.member.mu.Unlock()
			ch.cutPlaceLocked(p)
		}
	}
	s.tidyLocked(id)
	s.mu.Unlock()
	d.finish()
	return lost, nil
}

// SetActive implements Index. Openings under way may have read the flag as it
// was, so they begin again.
func (b *Memory) SetActive(_ context.Context, ref wire.SubRef, active bool) error {
	s := b.shard(ref.Channel)
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.channels[ref.Channel]
	var pending []*holder
	for _, h := range ch.heldLocked(func(h *holder) bool { return h.in.ref == ref }) {
		if !h.open {
			pending = append(pending, h)
			continue
		}
		h.member.change(func(list *slots) { list[list.find(h)].Active = active })
	}
	takeLocked(pending)
	s.tidyLocked(ref.Channel)
	return nil
}
