package modeltest

import (
	"slices"
	"strings"

	"mrci.dev/mrci/wire"
)

// world is what there is, kept in the simplest way.
type world struct {
	users    []*user    // by slot; gone ones stay, without an id
	rooms    []*room    // in the order of their ids
	sessions []*session // by slot; nil: not connected
	lastRoom wire.ChannelID
	serial   lane // of the session that connected last
	came     int  // how many members and invites there have been

	// Links (commands 8): a pair stands once under asked, from who asked to who
	// was asked, and both ways under linked.
	asked, linked map[[2]*session]bool

	commands  []command // in the order of their ids
	byName    map[string]*command
	maxSubs   int  // max_sub_channels
	allActive bool // all_channels_active_update
}

// command is a command as the host lists it.
type command struct {
	name   string
	id     wire.CmdID
	added  []byte // the payload of ADD_CMD
	public bool   // without a login
	exempt bool   // with any rank
	rank   wire.Rank
}

// offered reports whether a session of the rank has the command (commands 1.1).
func (c *command) offered(rank wire.Rank) bool {
	if rank == wire.NoRank {
		return c.public
	}
	return c.exempt || rank <= c.rank
}

type user struct {
	slot    int
	id      wire.UserID // zero: the account has been removed
	name    string
	display string
	email   string
	rank    wire.Rank
	locked  bool
	refused int // logins since the last one that worked
}

func (u *user) exists() bool { return !u.id.IsZero() }

type room struct {
	id      wire.ChannelID
	name    string
	members map[*user]wire.Level
	invited map[*user]bool
	since   map[*user]int // the order in which they came
	subs    map[wire.SubID]*sub
	flags   map[flag]bool
}

type sub struct {
	name   string
	lowest wire.Level
	active bool
}

// flag is a read-only flag: it belongs to the id, not to a sub-channel (state
// 1.6).
type flag struct {
	sub   wire.SubID
	level wire.Level
}

// session is a connected client.
type session struct {
	slot     int
	lane     lane
	id       wire.SessionID
	app      string
	user     *user // nil: not logged in
	rank     wire.Rank
	override bool
	open     [wire.MaxOpenSubs]opened
	list     wire.Rank // the rank whose command list the client has

	inbox
}

// opened is an open sub-channel; the zero value is an empty slot.
type opened struct {
	ref      wire.SubRef
	writable bool
}

func (w *world) room(name string) *room {
	for _, r := range w.rooms {
		if strings.EqualFold(r.name, name) {
			return r
		}
	}
	return nil
}

func (w *world) roomByID(id wire.ChannelID) *room {
	for _, r := range w.rooms {
		if r.id == id {
			return r
		}
	}
	return nil
}

func (w *world) user(name string) *user {
	for _, u := range w.users {
		if u.exists() && strings.EqualFold(u.name, name) {
			return u
		}
	}
	return nil
}

// sub finds a sub-channel by its name.
func (r *room) sub(name string) (wire.SubID, *sub) {
	for id, s := range r.subs {
		if strings.EqualFold(s.name, name) {
			return id, s
		}
	}
	return 0, nil
}

// level is that with which a session acts in a channel (commands 1.8): the
// override, else the membership, a pending invite being none, else public.
func (r *room) level(s *session) wire.Level {
	if s.override {
		return wire.Owner
	}
	if level, ok := r.members[s.user]; ok {
		return level
	}
	return wire.Public
}

// mayCast: no read-only flag for exactly this level (commands 1.8).
func (r *room) mayCast(s *session, id wire.SubID) bool {
	return !r.flags[flag{id, r.level(s)}]
}

// connected are the sessions that there are.
func (w *world) connected() []*session {
	var list []*session
	for _, s := range w.sessions {
		if s != nil {
			list = append(list, s)
		}
	}
	return list
}

// of are the sessions that are logged in as the user.
func (w *world) of(u *user) []*session {
	var list []*session
	for _, s := range w.sessions {
		if s != nil && s.user != nil && s.user == u {
			list = append(list, s)
		}
	}
	return list
}

// The open list of a session.

func (s *session) holds(ref wire.SubRef) bool {
	return slices.ContainsFunc(s.open[:], func(o opened) bool { return o.ref == ref })
}

func (s *session) holdsAny(refs []wire.SubRef) bool { return slices.ContainsFunc(refs, s.holds) }

// refs are the sub-channels that are open.
func (s *session) refs() []wire.SubRef {
	var refs []wire.SubRef
	for _, o := range s.open {
		if o.ref.Channel != 0 {
			refs = append(refs, o.ref)
		}
	}
	return refs
}

// writable are those of them in which the session may cast.
func (s *session) writable() []wire.SubRef {
	var refs []wire.SubRef
	for _, o := range s.open {
		if o.writable {
			refs = append(refs, o.ref)
		}
	}
	return refs
}

// slots is the open list as clients are told it (protocol 3).
func (s *session) slots() (list wire.SubList) {
	for i, o := range s.open {
		list[i] = o.ref
	}
	return list
}

// active: an open sub-channel has the active-update flag, or the host makes
// all active (protocol 6).
func (w *world) active(s *session) bool {
	for _, ref := range s.refs() {
		if w.allActive || w.roomByID(ref.Channel).subs[ref.Sub].active {
			return true
		}
	}
	return false
}

// peer is PEER_INFO of a session (protocol 3).
func (s *session) peer() *wire.Peer {
	p := &wire.Peer{Session: s.id, App: s.app}
	if s.user != nil {
		p.User, p.Name, p.Display = s.user.id, s.user.name, s.user.display
	}
	return p
}

// What sessions get.

func (s *session) get(from lane, t wire.TypeID, id wire.AsyncID, payload []byte) {
	s.expect(want{lane: from, typ: t, cmd: wire.CmdID(id), payload: payload})
}

// words is a text of the host for people, under an async id.
func (s *session) words(t wire.TypeID, id wire.AsyncID) {
	s.expect(want{lane: s.lane, typ: t, cmd: wire.CmdID(id), words: true})
}

// myInfo is MY_INFO under SYS_MSG: the account has changed (protocol 5, 2).
func (s *session) myInfo() {
	u := s.user
	s.get(s.lane, wire.MyInfo, wire.AsyncSysMsg, wire.Append(nil, &wire.Account{Peer: *s.peer(), Email: u.email, Rank: u.rank}))
}

// relist brings the client's command list up to the session's rank: RM_CMD,
// then ADD_CMD, only for what differs (commands 1.3).
func (w *world) relist(s *session) {
	for i := range w.commands {
		if c := &w.commands[i]; c.offered(s.list) && !c.offered(s.rank) {
			s.get(s.lane, wire.CommandID, wire.AsyncRmCmd, wire.Append(nil, &wire.CommandRef{ID: c.id}))
		}
	}
	for i := range w.commands {
		if c := &w.commands[i]; c.offered(s.rank) && !c.offered(s.list) {
			s.get(s.lane, wire.NewCmd, wire.AsyncAddCmd, c.added)
		}
	}
	s.list = s.rank
}

// connect is the start of a session (protocol 1, 4): the public commands, then
// ASYNC_RDY.
func (w *world) connect(slot int, id wire.SessionID, app string) *session {
	w.serial++
	s := &session{slot: slot, lane: w.serial, id: id, app: app}
	for i := range w.commands {
		if c := &w.commands[i]; c.public {
			s.get(s.lane, wire.NewCmd, wire.AsyncAddCmd, c.added)
		}
	}
	s.words(wire.Text, wire.AsyncRdy)
	w.sessions[slot] = s
	return s
}

// disconnect is the end of a session: a logout (state 7.1) of which its own
// client hears nothing.
func (w *world) disconnect(slot int) {
	s := w.sessions[slot]
	w.logout(s)
	w.closeLinks(s) // of a session that was not logged in
	w.sessions[slot] = nil
}
