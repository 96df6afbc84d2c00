package modeltest

import (
	"slices"
	"strings"
	"unicode/utf8"

	"mrci.dev/mrci/wire"
)

// Commands 6. Refusals are E3 throughout, so their order does not show.

// goodName is the rule for names of channels and sub-channels (state 2.4), as
// far as the generator goes.
func goodName(name string) bool {
	n := utf8.RuneCountInString(name)
	return n >= 4 && n <= 32 && !strings.ContainsAny(name, " \t\u00a0")
}

// tell sends an event of a channel: to the sessions of its members (commands
// 1.9; invitees hear nothing until they accept) and to those that also is true
// for.
func (w *world) tell(c *call, r *room, t wire.TypeID, id wire.AsyncID, payload wire.Payload, also func(s *session) bool) {
	b := wire.Append(nil, payload)
	for _, s := range w.connected() {
		if s.user == nil {
			continue
		}
		if _, member := r.members[s.user]; member || also != nil && also(s) {
			s.get(c.by.lane, t, id, b)
		}
	}
}

func sessionsOf(u *user) func(s *session) bool {
	return func(s *session) bool { return s.user == u }
}

func memberInfo(r *room, u *user, level wire.Level, invite bool) *wire.Member {
	return &wire.Member{
		Channel: r.id, User: u.id, Invite: invite, Level: level,
		Name: u.name, Display: u.display, ChannelName: r.name,
	}
}

func (w *world) addCh(c *call, ch string) wire.ReturnCode {
	if !goodName(ch) || w.room(ch) != nil {
		return refused
	}
	w.lastRoom++ // ids are never used again (state 1.3)
	r := &room{
		id: w.lastRoom, name: ch,
		members: map[*user]wire.Level{c.by.user: wire.Owner}, invited: make(map[*user]bool), since: make(map[*user]int),
		subs: make(map[wire.SubID]*sub), flags: make(map[flag]bool),
	}
	w.rooms = append(w.rooms, r)
	w.enters(r, c.by.user)
	w.tell(c, r, wire.ChMemberInfo, wire.AsyncNewChMember, memberInfo(r, c.by.user, wire.Owner, false), nil)
	return done
}

func (w *world) rmCh(c *call, ch string) wire.ReturnCode {
	r := w.room(ch)
	if r == nil || r.level(c.by) > wire.Owner {
		return refused
	}
	// Members and holders of its sub-channels get CH_ID (protocol 5, 22).
	w.tell(c, r, wire.ChID, wire.AsyncDelCh, &wire.ChannelRef{Channel: r.id}, r.heldBy)
	losses := w.closeWhere(func(_ *session, ref wire.SubRef) bool { return ref.Channel == r.id })
	for i := range w.rooms {
		if w.rooms[i] == r {
			w.rooms = append(w.rooms[:i:i], w.rooms[i+1:]...)
			break
		}
	}
	w.tellLosses(losses)
	return done
}

func (w *world) enters(r *room, u *user) {
	w.came++
	r.since[u] = w.came
}

// heldBy reports whether a session has a sub-channel of the channel open.
func (r *room) heldBy(s *session) bool {
	for _, ref := range s.refs() {
		if ref.Channel == r.id {
			return true
		}
	}
	return false
}

func (w *world) renameCh(c *call, ch, name string) wire.ReturnCode {
	r := w.room(ch)
	if r == nil || !goodName(name) || r.level(c.by) > wire.Owner {
		return refused
	}
	// Another case of the own name is allowed, the name itself is taken.
	if other := w.room(name); other != nil && (other != r || r.name == name) {
		return refused
	}
	r.name = name
	w.tell(c, r, wire.Bytes, wire.AsyncRenameCh, &wire.ChannelRenamed{Channel: r.id, Name: name}, nil)
	return done
}

func (w *world) invite(c *call, ch, name string) wire.ReturnCode {
	r, u := w.room(ch), w.user(name)
	if r == nil || u == nil || r.level(c.by) > wire.Officer || r.invited[u] || r.members[u] != 0 {
		return refused
	}
	r.invited[u] = true
	w.enters(r, u)
	w.tell(c, r, wire.ChMemberInfo, wire.AsyncInvitedToCh, memberInfo(r, u, wire.Regular, true), sessionsOf(u))
	return done
}

func (w *world) accept(c *call, ch string) wire.ReturnCode {
	r, u := w.room(ch), c.by.user
	if r == nil || !r.invited[u] {
		return refused
	}
	delete(r.invited, u)
	r.members[u] = wire.Regular
	// What was open as the public stays open; whether the session may cast there
	// is a matter of its new level (commands 1.8, casting).
	for _, s := range w.of(u) {
		w.judge(s, r)
	}
	w.tell(c, r, wire.ChMemberInfo, wire.AsyncInviteAccepted, memberInfo(r, u, wire.Regular, false), nil)
	return done
}

func (w *world) decline(c *call, ch string) wire.ReturnCode {
	r := w.room(ch)
	if r == nil || !r.invited[c.by.user] {
		return refused
	}
	w.tellLosses(w.dropMember(c, r, c.by.user))
	return done
}

// dropMember removes a member or an invite: the user's sessions close the
// channel's sub-channels, that user and the members get BYTES (protocol 5, 29).
func (w *world) dropMember(c *call, r *room, u *user) []loss {
	delete(r.invited, u)
	delete(r.members, u)
	delete(r.since, u)
	w.tell(c, r, wire.Bytes, wire.AsyncRmChMember, &wire.MemberRemoved{Channel: r.id, User: u.id}, sessionsOf(u))
	return w.closeUser(r, u)
}

// closeUser closes the channel's sub-channels for a user's sessions.
func (w *world) closeUser(r *room, u *user) []loss {
	return w.closeWhere(func(s *session, ref wire.SubRef) bool { return s.user == u && ref.Channel == r.id })
}

func (w *world) removeMember(c *call, ch, name string) wire.ReturnCode {
	r, u := w.room(ch), w.user(name)
	if r == nil || u == nil {
		return refused
	}
	target, self := r.members[u], u == c.by.user
	switch {
	case target == 0 && !r.invited[u]: // neither member nor invited
		return refused
	case target == wire.Owner: // name a new owner first; can never be removed
		return refused
	case self: // leaving looks at the real membership
	case r.invited[u]:
		if r.level(c.by) > wire.Officer {
			return refused
		}
	case r.level(c.by) >= target:
		return refused
	}
	w.tellLosses(w.dropMember(c, r, u))
	return done
}

func (w *world) setMemberLevel(c *call, ch, name string, level wire.Level) wire.ReturnCode {
	r, u := w.room(ch), w.user(name)
	if r == nil || u == nil || level < wire.Owner || level > wire.Regular {
		return refused
	}
	target, own := r.members[u], r.level(c.by)
	// A member, below the caller, and to no more than the caller's own level.
	if target == 0 || own >= target || level < own {
		return refused
	}
	if level != wire.Owner {
		w.tellLosses(w.giveLevel(c, r, u, level))
		return done
	}
	// The former owner becomes admin; the target's event comes first.
	for former, l := range r.members {
		if l == wire.Owner {
			r.members[former] = wire.Admin
			w.tellLosses(append(w.giveLevel(c, r, u, wire.Owner), w.giveLevel(c, r, former, wire.Admin)...))
			break
		}
	}
	return done
}

// giveLevel: the user's sessions close the channel's sub-channels, that user
// and the members get BYTES (protocol 5, 31).
func (w *world) giveLevel(c *call, r *room, u *user, level wire.Level) []loss {
	r.members[u] = level
	w.tell(c, r, wire.Bytes, wire.AsyncMemLevelChg, &wire.MemberLevel{Channel: r.id, User: u.id, Level: level}, nil)
	return w.closeUser(r, u)
}

// ownerOverride is ch_owner_override. No async; nobody is told. What the
// session may do in the sub-channels that it has open is looked at again, with
// its new level: when the flag is cleared, those close that the real level does
// not allow, and write access goes that depended on it.
func (w *world) ownerOverride(c *call, on bool) wire.ReturnCode {
	w.setOverride(c.by, on)
	return done
}

func (w *world) setOverride(s *session, on bool) {
	s.override = on
	losses := w.closeWhere(func(other *session, ref wire.SubRef) bool {
		if other != s {
			return false
		}
		r := w.roomByID(ref.Channel)
		return r.level(s) > r.subs[ref.Sub].lowest
	})
	for _, r := range w.rooms {
		w.judge(s, r)
	}
	w.tellLosses(losses)
}

// mayOverride reports whether sessions of the rank have ch_owner_override. Who
// has it no more has no override.
func (w *world) mayOverride(rank wire.Rank) bool {
	return slices.ContainsFunc(w.commands, func(c command) bool { return c.name == "ch_owner_override" && c.offered(rank) })
}

// judge looks at where in a channel a session may cast, its level having
// changed.
func (w *world) judge(s *session, r *room) {
	for i, o := range s.open {
		if o.ref.Channel == r.id {
			s.open[i].writable = r.mayCast(s, o.ref.Sub)
		}
	}
}
