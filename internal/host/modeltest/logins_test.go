package modeltest

import (
	"slices"
	"strings"

	"mrci.dev/mrci/wire"
)

// Commands 2 and 3, as far as channels and peers notice.

// logout ends the login of a session (commands 2, auth): its sub-channels
// close with PEER_STAT disconnected 1, CLOSE_P2P goes out, the override is
// cleared. PEER_STAT then carries an empty list (protocol 6).
func (w *world) logout(s *session) {
	if s.user == nil {
		return
	}
	l := loss{s, s.refs(), w.active(s)}
	s.open = [wire.MaxOpenSubs]opened{}
	w.leave(l)
}

// leave is logout for a session that has nothing open any more.
func (w *world) leave(l loss) {
	s := l.session
	if l.active {
		w.limitedCast(s, l.before, wire.PeerStat, goodbye(s))
	}
	w.closeLinks(s)
	s.user, s.rank, s.override = nil, wire.NoRank, false
}

func goodbye(s *session) wire.Payload {
	return &wire.PeerStatus{Session: s.id, Disconnected: true}
}

func (w *world) login(s *session, u *user) {
	w.logout(s)
	s.user, s.rank = u, u.rank
	s.myInfo()
}

// auth is the whole conversation of auth: the name, then the answers to PRIV,
// of which each that is wrong is refused and asked for again. The last is the
// right one, or empty.
func (w *world) auth(c *call, name string, answers ...string) wire.ReturnCode {
	u := w.user(name)
	for _, answer := range answers {
		c.words(wire.PrivText)
		switch {
		case answer == "": // cancelled: a line feed
			c.words(wire.Text)
			return aborted
		case u != nil && !u.locked && answer == password:
			u.refused = 0
			// MY_INFO comes first, then TEXT, IDLE and the list.
			w.login(c.by, u)
			c.words(wire.Text)
			c.relist()
			return done
		}
		if u != nil {
			u.refused++
		}
		c.words(wire.Err)
	}
	panic("a conversation without an end")
}

func (w *world) logoutCmd(c *call) wire.ReturnCode {
	w.logout(c.by)
	c.relist()
	return done
}

// renamed is what set_user_name and set_disp_name do to the user's sessions:
// MY_INFO for all, PEER_INFO by LIMITED_CAST from those that are active
// (protocol 5, 8 and 37), which is for a change (protocol 6).
func (w *world) renamed(u *user, changed bool) {
	for _, s := range w.of(u) {
		s.myInfo()
		if changed && w.active(s) {
			w.limitedCast(s, s.refs(), wire.PeerInfo, s.peer())
		}
	}
}

func (w *world) setUserName(c *call, name string) wire.ReturnCode {
	u := c.by.user
	if len(name) < 2 || len(name) > wire.UserNameSize || strings.Contains(name, " ") {
		return refused
	}
	// Another case of the own name is allowed, the name itself is taken.
	if other := w.user(name); other != nil && (other != u || u.name == name) {
		return refused
	}
	u.name = name
	w.renamed(u, true)
	return done
}

func (w *world) setDisplay(c *call, name string) wire.ReturnCode {
	u := c.by.user
	name = strings.TrimSpace(name)
	if len(name) > wire.DisplayNameSize {
		return refused
	}
	changed := u.display != name
	u.display = name
	w.renamed(u, changed)
	return done
}

// evict ends the logins of a user whose account is locked or gone. Its sessions
// end them at the same time: what one of two would hear of the other it hears
// only if it is the later, and if both are over nobody does.
func (w *world) evict(c *call, u *user, async wire.AsyncID, p wire.Payload) {
	all := w.of(u)
	for i, a := range all {
		for _, b := range all[:i] {
			w.together(a, b)
		}
	}
	var losses []loss
	for _, s := range all {
		s.words(wire.Text, wire.AsyncSysMsg) // why
		if p != nil {
			s.get(s.lane, wire.Bytes, async, wire.Append(nil, p))
		}
		losses = append(losses, loss{s, s.refs(), w.active(s)})
	}
	for _, s := range all {
		s.open = [wire.MaxOpenSubs]opened{}
	}
	for _, l := range losses {
		w.leave(l)
		if l.session == c.by {
			c.relist()
		} else {
			w.relist(l.session)
		}
	}
}

// together is what two sessions hear of each other that log out at once.
func (w *world) together(a, b *session) {
	both := func(id wire.AsyncID, t wire.TypeID, payload func(of *session) wire.Payload) {
		one := new(either)
		for _, pair := range [][2]*session{{a, b}, {b, a}} {
			pair[0].expect(want{
				lane: pair[1].lane, typ: t, cmd: wire.CmdID(id), payload: wire.Append(nil, payload(pair[1])), either: one,
			})
		}
	}
	if a.holdsAny(b.refs()) && w.active(a) && w.active(b) {
		both(wire.AsyncLimitedCast, wire.PeerStat, goodbye)
	}
	if w.forget(a, b) {
		both(wire.AsyncP2P, wire.P2PClose, func(of *session) wire.Payload { return ref(of) })
	}
}

func (w *world) lockAcct(c *call, name string, on bool) wire.ReturnCode {
	u := w.user(name)
	if u == nil || c.by.rank >= u.rank {
		return refused
	}
	u.locked = on
	if on {
		w.evict(c, u, 0, nil)
	} else {
		u.refused = 0
	}
	return done
}

func (w *world) setUserRank(c *call, name string, rank wire.Rank) wire.ReturnCode {
	u := w.user(name)
	if rank == 0 || rank < c.by.rank || u == nil || u != c.by.user && c.by.rank >= u.rank {
		return refused
	}
	u.rank = rank
	for _, s := range w.of(u) {
		s.rank = rank
		s.myInfo()
		if s.override && !w.mayOverride(rank) {
			w.setOverride(s, false)
		}
		if s == c.by {
			c.relist()
		} else {
			w.relist(s)
		}
	}
	return done
}

func (w *world) rmAcct(c *call, name string) wire.ReturnCode {
	u := w.user(name)
	if u == nil || u != c.by.user && c.by.rank >= u.rank {
		return refused
	}
	for _, r := range w.rooms {
		if r.members[u] == wire.Owner {
			return refused
		}
	}
	// First the channels: "members of the user's channels get RM_CH_MEMBER for
	// each" (commands 3), as for everybody who is removed, and as that does the
	// event closes the channel's sub-channels and reaches the user too (protocol
	// 5, 29). Then the sessions are logged out and learn that by USER_DELETED.
	var left []*room
	for _, r := range w.rooms {
		if r.since[u] != 0 {
			left = append(left, r)
		}
	}
	slices.SortFunc(left, func(a, b *room) int { // as ls_chs lists them to a login, invites last
		if a.invited[u] != b.invited[u] {
			return int(bit(a.invited[u])[0]) - int(bit(b.invited[u])[0])
		}
		return a.since[u] - b.since[u]
	})
	// It is one change: what each session has open is told once, in the end.
	var losses []loss
	for _, r := range left {
		losses = append(losses, w.dropMember(c, r, u)...)
	}
	w.tellLosses(losses)
	w.evict(c, u, wire.AsyncUserDeleted, &wire.UserRef{User: u.id})
	u.id = wire.UserID{}
	return done
}

// addAcct is add_acct with a password that is taken at once. The account gets
// its id from who runs the step.
func (w *world) addAcct(c *call, u *user, name, email string) wire.ReturnCode {
	if w.user(name) != nil || u.exists() {
		return refused
	}
	c.words(wire.PrivText)
	c.words(wire.Text)
	*u = user{slot: u.slot, name: name, email: email, rank: initialRank}
	return done
}
