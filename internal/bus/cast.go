package bus

import (
	"math/bits"

	"mrci.dev/mrci/wire"
)

// shardSet is a set of shards, which are locked in the order of their numbers.
type shardSet uint64

func (s shardSet) with(id wire.ChannelID) shardSet { return s | 1<<shardOf(id) }
func (s shardSet) has(id wire.ChannelID) bool      { return s&(1<<shardOf(id)) != 0 }

func (b *Memory) rlock(set shardSet) {
	for s := uint64(set); s != 0; s &= s - 1 {
		b.shards[bits.TrailingZeros64(s)].mu.RLock()
	}
}

func (b *Memory) runlock(set shardSet) {
	for s := uint64(set); s != 0; s &= s - 1 {
		b.shards[bits.TrailingZeros64(s)].mu.RUnlock()
	}
}

func (b *Memory) delivery() *delivery { return newDelivery(uint64(b.pace.Load())) }

// Cast implements Member.
func (m *member) Cast(frames []byte) Sent { return m.cast(frames, false) }

// CastCopy implements Member. A few receivers get copies of their own, which go
// together with what else is queued there; more share one.
func (m *member) CastCopy(frames []byte) Sent { return m.cast(frames, true) }

func (m *member) cast(frames []byte, reused bool) Sent {
	if len(frames) == 0 {
		return Sent{}
	}
	d := m.bus.delivery()
	m.inWritable(func(subs []*sub) {
		most := 0
		for _, s := range subs {
			most += len(s.holders) - 1
		}
		switch {
		case !reused:
			m.eachListener(subs, func(h *holder) { d.offer(h.door, frames) })
		case most <= fewDoors:
			m.eachListener(subs, func(h *holder) { d.offerCopy(h.door, frames) })
		default:
			copied, owner := share(frames)
			m.eachListener(subs, func(h *holder) { d.offerShared(h.door, copied, owner) })
			if owner != nil {
				owner.Release()
			}
		}
	})
	return d.finish()
}

// Ping implements Member. Who is told and who answers is the same, so that no
// answer comes behind the word that its sender has gone.
func (m *member) Ping(frames []byte) (Sent, bool) {
	if !m.slots().active() {
		return Sent{}, false
	}
	d := m.bus.delivery()
	m.inWritable(func(subs []*sub) {
		var answers []byte
		m.eachListener(subs, func(h *holder) {
			if h.member.slots().active() {
				d.offer(h.door, frames)
				answers = append(answers, h.member.receiver.PeerInfo()...)
			}
		})
		if len(answers) > 0 {
			d.offer(m.door, answers)
			d.sent.Receivers--
		}
	})
	return d.finish(), true
}

// inWritable calls f with the sub-channels in which the session may cast, if
// there are any, under the locks of their shards. The slots are looked at twice:
// which shards they need, and under these shards' locks what they say. A
// sub-channel that was opened between the two is none yet.
func (m *member) inWritable(f func(subs []*sub)) {
	list := m.open.Load()
	if list == nil {
		return
	}
	var set shardSet
	for i := range list {
		if list[i].Writable {
			set = set.with(list[i].Sub.Channel)
		}
	}
	if set == 0 {
		return
	}
	b := m.bus
	b.rlock(set)
	defer b.runlock(set)
	var (
		subs [wire.MaxOpenSubs]*sub
		n    int
	)
	list = m.slots()
	for i := range list {
		if s := &list[i]; s.Writable && set.has(s.Sub.Channel) {
			subs[n] = s.holder.in
			n++
		}
	}
	f(subs[:n])
}

// eachListener calls f for the other sessions that hold one of subs, once each.
// The shards of subs are locked.
func (m *member) eachListener(subs []*sub, f func(*holder)) {
	for i, s := range subs {
		for _, h := range s.holders {
			if h.member != m && (i == 0 || !h.member.holdsAny(subs[:i])) {
				f(h)
			}
		}
	}
}

// holdsAny reports whether the session has any of the sub-channels open, whose
// shards are locked.
func (m *member) holdsAny(subs []*sub) bool {
	list := m.slots()
	for _, s := range subs {
		if list.holds(s.ref) {
			return true
		}
	}
	return false
}

// LimitedCast implements Index.
func (b *Memory) LimitedCast(from wire.SessionID, refs wire.SubList, frames []byte) Sent {
	var set shardSet
	for _, ref := range refs {
		if ref.Channel != 0 {
			set = set.with(ref.Channel)
		}
	}
	d := b.delivery()
	b.rlock(set)
	var (
		subs [wire.MaxOpenSubs]*sub
		n    int
	)
	for _, ref := range refs {
		ch := b.shard(ref.Channel).channelOrNil(set, ref.Channel)
		if ch == nil {
			continue
		}
		if s := ch.subs[ref.Sub]; s != nil {
			subs[n] = s
			n++
		}
	}
	for i, s := range subs[:n] {
		for _, h := range s.holders {
			m := h.member
			if m.id == from || !m.slots().active() || m.holdsAny(subs[:i]) {
				continue
			}
			d.offer(h.door, frames)
		}
	}
	b.runlock(set)
	return d.finish()
}

// channelOrNil returns the channel, if its shard is one of those locked.
func (s *shard) channelOrNil(locked shardSet, id wire.ChannelID) *channel {
	if id == 0 || !locked.has(id) {
		return nil
	}
	return s.channels[id]
}

// ToMembers implements Index.
func (b *Memory) ToMembers(id wire.ChannelID, user wire.UserID, frames []byte) Sent {
	s := b.shard(id)
	d := b.delivery()
	s.mu.RLock()
	b.tellLocked(d, s.channels[id], user, nil, frames)
	s.mu.RUnlock()
	return d.finish()
}

// tellLocked offers frames to the members of a channel, which may be nil, to
// the sessions of the user, and to those of the holders that are open; once to
// each. The caller holds the lock of the channel's shard.
func (b *Memory) tellLocked(d *delivery, ch *channel, user wire.UserID, holders []*holder, frames []byte) {
	if len(frames) == 0 {
		return
	}
	if ch != nil {
		for _, p := range ch.places {
			d.offer(p.member.door, frames)
		}
	}
	told := make(map[*member]struct{})
	if ch != nil && (len(holders) > 0 || !user.IsZero()) {
		for _, p := range ch.places {
			told[p.member] = struct{}{}
		}
	}
	tell := func(m *member) {
		if _, done := told[m]; !done {
			told[m] = struct{}{}
			d.offer(m.door, frames)
		}
	}
	b.eachActor(user, tell)
	for _, h := range holders {
		if h.open {
			tell(h.member)
		}
	}
}
