package modeltest

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"mrci.dev/mrci/wire"
)

// How much there is of everything: little, so that things meet.
const (
	maxUsers    = 8
	maxSessions = 16
	maxSubs     = 4 // max_sub_channels; there are five names
	initialRank = 2
	password    = "Correct-horse7"
)

var (
	roomNames    = []string{"Lobby", "Market", "Harbour", "Tower", "Garden", "Cellar"}
	subNames     = []string{"main", "side", "back", "deep", "loft"}
	userNames    = []string{"ann", "bob", "cyd", "dan", "eve", "fay", "gus", "hal", "ida", "jon", "kim", "lea"}
	displayNames = []string{"", "Ann", "The-Boss", "Žofie", "nobody", "Twentyfour-bytes-exactly", "-Twenty-five-bytes-long--"}
)

// step is something that somebody does.
type step struct {
	slot int
	note string // for a person
	kind kind

	cmd     string // of a call
	typ     wire.TypeID
	branch  wire.BranchID
	payload []byte
	answers []string // to prompts, which are sent at once
	run     func(c *call) wire.ReturnCode
	made    *user  // whose account the call makes
	more    []step // calls that are sent in one piece with this one
}

type kind uint8

const (
	calls    kind = iota
	controls      // a control frame for a call that there is not: nothing happens (commands 1.5)
	connects
	finishes // a client that closes its side and reads to the end
	resets   // a client that is gone without a word
)

// generator draws steps. The same seed draws the same steps from the same
// world; ids, which differ from run to run, decide nothing.
type generator struct {
	*rand.Rand
	w       *world
	seq     uint64 // of casts
	mails   int    // counts what has to be different
	choices []choice
	total   int
	gone    []wire.SessionID // of sessions that have ended
}

type choice struct {
	weight int
	draw   func() (step, bool)
}

func newGenerator(seed uint64, w *world) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), w: w}
	g.choices = []choice{
		{30, g.connect}, {3, g.leave}, {60, g.auth}, {3, g.logout}, {2, g.wrongAuth},
		{450, g.cast}, {10, g.ping},
		{120, g.open}, {30, g.close},
		{25, g.addCh}, {1, g.rmCh}, {4, g.renameCh},
		{25, g.invite}, {30, g.accept}, {4, g.decline}, {6, g.removeMember}, {12, g.setMemberLevel},
		{40, g.addSub}, {5, g.rmSub}, {6, g.renameSub}, {12, g.setSubLevel}, {15, g.setActive}, {12, g.setFlag},
		{8, g.override},
		{5, g.setUserName}, {5, g.setDisplay},
		{25, g.request}, {15, g.openLink}, {6, g.closeLink}, {60, g.toPeer},
		{2, g.lock}, {6, g.rank}, {1, g.rmAcct}, {20, g.addAcct},
		{12, g.list}, {4, g.wrongType}, {3, g.control},
	}
	for _, c := range g.choices {
		g.total += c.weight
	}
	return g
}

// next draws a step that makes sense in the world as it is.
func (g *generator) next() step {
	for {
		n := g.IntN(g.total)
		for _, c := range g.choices {
			if n -= c.weight; n >= 0 {
				continue
			}
			if s, ok := c.draw(); ok {
				return s
			}
			break
		}
	}
}

func (g *generator) often() bool  { return g.IntN(4) != 0 }
func (g *generator) rarely() bool { return g.IntN(16) == 0 }

func pick[T any](g *generator, list []T) T { return list[g.IntN(len(list))] }

// spelled is a name as somebody types it: case makes no difference.
func (g *generator) spelled(name string) string {
	switch g.IntN(8) {
	case 0:
		return strings.ToUpper(name)
	case 1:
		return strings.ToLower(name)
	}
	return name
}

// somebody is a session, mostly one that is offered the commands for channels.
func (g *generator) somebody() *session {
	all := g.w.connected()
	if len(all) == 0 {
		return nil
	}
	s := pick(g, all)
	for range 4 {
		if s.rank != wire.NoRank && s.rank <= initialRank || g.IntN(32) == 0 {
			break
		}
		s = pick(g, all)
	}
	return s
}

// able is a session that acts in the channel with the level, if there is one;
// sometimes anybody.
func (g *generator) able(r *room, level wire.Level) *session {
	if r != nil && g.IntN(8) != 0 {
		var may []*session
		for _, s := range g.w.connected() {
			if s.user != nil && s.rank <= initialRank && r.level(s) <= level {
				may = append(may, s)
			}
		}
		if len(may) > 0 {
			return pick(g, may)
		}
	}
	return g.somebody()
}

// place is a channel, or rarely none, and what somebody calls it.
func (g *generator) place() (*room, string) {
	switch {
	case g.rarely() || len(g.w.rooms) == 0:
		return nil, pick(g, []string{"Nowhere", "abc"})
	}
	r := pick(g, g.w.rooms)
	return r, g.spelled(r.name)
}

// subOf is a sub-channel of the channel, or rarely none.
func (g *generator) subOf(r *room) string {
	if r != nil && !g.rarely() && len(r.subs) > 0 {
		for {
			if _, s := r.sub(pick(g, subNames)); s != nil {
				return g.spelled(s.name)
			}
		}
	}
	return pick(g, subNames)
}

func (g *generator) anyUser() string {
	for range 8 {
		if u := pick(g, g.w.users); u.exists() {
			return g.spelled(u.name)
		}
	}
	return pick(g, userNames)
}

// text is a call with arguments.
func (g *generator) text(s *session, cmd, args string, run func(c *call) wire.ReturnCode) (step, bool) {
	if s == nil {
		return step{}, false
	}
	return step{
		slot: s.slot, note: cmd + " " + args, cmd: cmd,
		typ: wire.Text, branch: wire.BranchID(g.IntN(3)), payload: []byte(args), run: run,
	}, true
}

// Sessions and logins.

func (g *generator) connect() (step, bool) {
	slot := g.IntN(maxSessions)
	return step{slot: slot, note: "connect", kind: connects}, g.w.sessions[slot] == nil
}

func (g *generator) leave() (step, bool) {
	slot := g.IntN(maxSessions)
	s := step{slot: slot, note: "leave", kind: finishes}
	if g.IntN(2) == 0 {
		s.note, s.kind = "break off", resets
	}
	return s, g.w.sessions[slot] != nil
}

func (g *generator) auth() (step, bool) {
	all := g.w.connected()
	if len(all) == 0 {
		return step{}, false
	}
	s := pick(g, all)
	if s.user != nil && g.IntN(20) != 0 {
		return step{}, false
	}
	u := g.w.users[s.slot*maxUsers/maxSessions] // two sessions each
	if g.rarely() {
		u = pick(g, g.w.users)
	}
	if !u.exists() || u.locked {
		return step{}, false
	}
	name := u.name
	next, ok := g.text(s, "auth", "-user "+name, func(c *call) wire.ReturnCode { return g.w.auth(c, name, password) })
	next.answers = []string{password}
	return next, ok
}

// wrongAuth is an auth that is refused, and cancelled. There are few of them
// for each name: the sixth would have to wait, and many lock it (state 3.2).
func (g *generator) wrongAuth() (step, bool) {
	g.mails++
	name, answers := fmt.Sprintf("stranger%d", g.mails), []string{password, ""}
	if u := pick(g, g.w.users); u.exists() {
		if u.refused >= 3 {
			return step{}, false
		}
		name = u.name
		if !u.locked {
			answers = []string{"Wrong-horse7", ""}
		}
	}
	next, ok := g.text(g.somebody(), "auth", "-user "+name, func(c *call) wire.ReturnCode { return g.w.auth(c, name, answers...) })
	next.answers = answers
	return next, ok
}

func (g *generator) logout() (step, bool) {
	return g.text(g.somebody(), "logout", "", g.w.logoutCmd)
}

// admin is a session of rank 1, mostly.
func (g *generator) admin() *session {
	for range 8 {
		if s := g.somebody(); s != nil && (s.rank == 1 || g.rarely()) {
			return s
		}
	}
	return nil
}

func (g *generator) lock() (step, bool) {
	name, on := g.anyUser(), g.IntN(3) == 0
	return g.text(g.admin(), "lock_acct", fmt.Sprintf("-user %s -state %s", name, bit(on)),
		func(c *call) wire.ReturnCode { return g.w.lockAcct(c, name, on) })
}

// overrides counts the sessions of a user that have the override.
func (g *generator) overrides(name string) (n int) {
	if u := g.w.user(name); u != nil {
		for _, s := range g.w.of(u) {
			if s.override {
				n++
			}
		}
	}
	return n
}

// rank moves users between two ranks: with one they have channels, with the
// other only what everybody has. The administrator stays.
func (g *generator) rank() (step, bool) {
	name, rank, s := g.anyUser(), wire.Rank(initialRank), g.admin()
	if g.IntN(4) == 0 {
		rank = initialRank + 1
	}
	if s != nil && s.user != nil && s.rank == 1 && strings.EqualFold(s.user.name, name) {
		return step{}, false
	}
	if g.overrides(name) > 1 && !g.w.mayOverride(rank) {
		return step{}, false // their sub-channels close in any order
	}
	return g.text(s, "set_user_rank", fmt.Sprintf("-user %s -rank %d", name, rank),
		func(c *call) wire.ReturnCode { return g.w.setUserRank(c, name, rank) })
}

func (g *generator) rmAcct() (step, bool) {
	s := g.admin()
	if s != nil && g.IntN(4) == 0 {
		s = g.somebody()
	}
	name := g.anyUser()
	if s != nil && s.user != nil && g.IntN(4) == 0 {
		name = s.user.name
	}
	if u := g.w.user(name); u == nil || u.rank == 1 {
		return step{}, false // there has to be an administrator
	}
	return g.text(s, "rm_acct", "-force -name "+name, func(c *call) wire.ReturnCode { return g.w.rmAcct(c, name) })
}

func (g *generator) addAcct() (step, bool) {
	u, name := pick(g, g.w.users), pick(g, userNames)
	if u.exists() {
		return step{}, false
	}
	g.mails++
	mail := fmt.Sprintf("user%d@example.org", g.mails)
	next, ok := g.text(g.admin(), "add_acct", fmt.Sprintf("-name %s -email %s", name, mail),
		func(c *call) wire.ReturnCode { return g.w.addAcct(c, u, name, mail) })
	next.answers, next.made = []string{password}, u
	return next, ok
}

func (g *generator) setUserName() (step, bool) {
	name := g.spelled(pick(g, userNames))
	if g.rarely() {
		name = "x"
	}
	return g.text(g.somebody(), "set_user_name", "-new_name "+name, func(c *call) wire.ReturnCode { return g.w.setUserName(c, name) })
}

func (g *generator) setDisplay() (step, bool) {
	name := pick(g, displayNames)
	args := "-new_name '" + name + "'"
	if name == "" {
		args = "-new_name"
	}
	return g.text(g.somebody(), "set_disp_name", args, func(c *call) wire.ReturnCode { return g.w.setDisplay(c, name) })
}

// Channels.

func (g *generator) addCh() (step, bool) {
	name := g.spelled(pick(g, roomNames))
	if g.w.room(name) != nil && !g.rarely() {
		return step{}, false
	}
	if g.rarely() {
		name = "abc"
	}
	return g.text(g.somebody(), "add_ch", "-ch_name "+name, func(c *call) wire.ReturnCode { return g.w.addCh(c, name) })
}

func (g *generator) rmCh() (step, bool) {
	r, ch := g.place()
	return g.text(g.able(r, wire.Owner), "rm_ch", "-ch_name "+ch, func(c *call) wire.ReturnCode { return g.w.rmCh(c, ch) })
}

func (g *generator) renameCh() (step, bool) {
	r, ch := g.place()
	name := g.spelled(pick(g, roomNames))
	return g.text(g.able(r, wire.Owner), "rename_ch", fmt.Sprintf("-ch_name %s -new_name %s", ch, name),
		func(c *call) wire.ReturnCode { return g.w.renameCh(c, ch, name) })
}

func (g *generator) invite() (step, bool) {
	r, ch := g.place()
	name := g.anyUser()
	return g.text(g.able(r, wire.Officer), "invite_to_ch", fmt.Sprintf("-ch_name %s -user %s", ch, name),
		func(c *call) wire.ReturnCode { return g.w.invite(c, ch, name) })
}

// invited is a session of somebody who is invited to a channel, if there is one.
func (g *generator) invited() (*session, string) {
	if g.often() {
		for range 4 {
			if s := g.somebody(); s != nil {
				for _, r := range g.w.rooms {
					if s.user != nil && r.invited[s.user] {
						return s, g.spelled(r.name)
					}
				}
			}
		}
		return nil, ""
	}
	_, ch := g.place()
	return g.somebody(), ch
}

func (g *generator) accept() (step, bool) {
	s, ch := g.invited()
	return g.text(s, "accept_ch", "-ch_name "+ch, func(c *call) wire.ReturnCode { return g.w.accept(c, ch) })
}

func (g *generator) decline() (step, bool) {
	s, ch := g.invited()
	return g.text(s, "decline_ch", "-ch_name "+ch, func(c *call) wire.ReturnCode { return g.w.decline(c, ch) })
}

func (g *generator) removeMember() (step, bool) {
	r, ch := g.place()
	s, name := g.able(r, wire.Officer), g.anyUser()
	if g.IntN(3) == 0 {
		if s = g.somebody(); s != nil && s.user != nil {
			name = s.user.name // leaves
		}
	}
	return g.text(s, "remove_ch_member", fmt.Sprintf("-ch_name %s -user %s", ch, name),
		func(c *call) wire.ReturnCode { return g.w.removeMember(c, ch, name) })
}

func (g *generator) setMemberLevel() (step, bool) {
	r, ch := g.place()
	name, level := g.anyUser(), wire.Level(2+g.IntN(3))
	if g.rarely() {
		level = wire.Level(g.IntN(7))
	}
	return g.text(g.able(r, wire.Officer), "set_member_level", fmt.Sprintf("-ch_name %s -user %s -level %d", ch, name, uint8(level)),
		func(c *call) wire.ReturnCode { return g.w.setMemberLevel(c, ch, name, level) })
}

func (g *generator) override() (step, bool) {
	on := g.IntN(3) == 0
	return g.text(g.somebody(), "ch_owner_override", "-state "+bit(on), func(c *call) wire.ReturnCode { return g.w.ownerOverride(c, on) })
}

// Sub-channels.

func (g *generator) addSub() (step, bool) {
	r, ch := g.place()
	name := g.spelled(pick(g, subNames))
	if r != nil {
		if _, there := r.sub(name); there != nil && !g.rarely() {
			return step{}, false
		}
	}
	return g.text(g.able(r, wire.Admin), "add_sub_ch", fmt.Sprintf("-ch_name %s -sub_name %s", ch, name),
		func(c *call) wire.ReturnCode { return g.w.addSub(c, ch, name) })
}

func (g *generator) rmSub() (step, bool) {
	r, ch := g.place()
	name := g.subOf(r)
	return g.text(g.able(r, wire.Admin), "rm_sub_ch", fmt.Sprintf("-ch_name %s -sub_name %s", ch, name),
		func(c *call) wire.ReturnCode { return g.w.rmSub(c, ch, name) })
}

func (g *generator) renameSub() (step, bool) {
	r, ch := g.place()
	old, name := g.subOf(r), g.spelled(pick(g, subNames))
	return g.text(g.able(r, wire.Admin), "rename_sub_ch", fmt.Sprintf("-ch_name %s -sub_name %s -new_name %s", ch, old, name),
		func(c *call) wire.ReturnCode { return g.w.renameSub(c, ch, old, name) })
}

func (g *generator) setSubLevel() (step, bool) {
	r, ch := g.place()
	name, level := g.subOf(r), wire.Regular+wire.Level(g.IntN(2))
	if g.IntN(4) == 0 {
		level = wire.Level(g.IntN(7))
	}
	return g.text(g.able(r, wire.Admin), "set_sub_ch_level", fmt.Sprintf("-ch_name %s -sub_name %s -level %d", ch, name, uint8(level)),
		func(c *call) wire.ReturnCode { return g.w.setSubLevel(c, ch, name, level) })
}

func (g *generator) setActive() (step, bool) {
	r, ch := g.place()
	name, on := g.subOf(r), g.IntN(2) == 0
	return g.text(g.able(r, wire.Admin), "set_active_flag", fmt.Sprintf("-ch_name %s -sub_name %s -state %s", ch, name, bit(on)),
		func(c *call) wire.ReturnCode { return g.w.setActive(c, ch, name, on) })
}

// setFlag takes flags away twice as often as it sets them.
func (g *generator) setFlag() (step, bool) {
	r, ch := g.place()
	f := flag{wire.SubID(g.IntN(maxSubs + 1)), wire.Level(1 + g.IntN(5))}
	if g.rarely() {
		f.level = 6
	}
	on := g.IntN(3) == 0
	if r != nil && !g.rarely() && !on {
		for try := 0; !r.flags[f]; try++ {
			if try == 20 {
				return step{}, false
			}
			f = flag{wire.SubID(g.IntN(maxSubs + 1)), wire.Level(1 + g.IntN(5))}
		}
	}
	cmd := "rm_rdonly_flag"
	if on {
		cmd = "add_rdonly_flag"
	}
	return g.text(g.able(r, wire.Admin), cmd, fmt.Sprintf("-ch_name %s -sub_id %d -level %d", ch, uint8(f.sub), uint8(f.level)),
		func(c *call) wire.ReturnCode { return g.w.setFlag(c, ch, f, on) })
}

func (g *generator) open() (step, bool) {
	s := g.somebody()
	r, ch := g.place()
	if s == nil {
		return step{}, false
	}
	name := g.subOf(r)
	if r != nil && g.often() { // one that the session may open and has not
		id, sub := r.sub(name)
		if sub == nil || r.level(s) > sub.lowest || s.holds(wire.SubRef{Channel: r.id, Sub: id}) {
			return step{}, false
		}
	}
	return g.text(s, "open_sub_ch", fmt.Sprintf("-ch_name %s -sub_name %s", ch, name),
		func(c *call) wire.ReturnCode { return g.w.openSub(c, ch, name) })
}

func (g *generator) close() (step, bool) {
	s := g.somebody()
	r, ch := g.place()
	name := g.subOf(r)
	if s != nil && g.often() {
		if refs := s.refs(); len(refs) > 0 {
			ref := pick(g, refs)
			r = g.w.roomByID(ref.Channel)
			ch, name = g.spelled(r.name), g.spelled(r.subs[ref.Sub].name)
		}
	}
	return g.text(s, "close_sub_ch", fmt.Sprintf("-ch_name %s -sub_name %s", ch, name),
		func(c *call) wire.ReturnCode { return g.w.closeSub(c, ch, name) })
}

// Casts and peers.

// data is different every time, mostly short, sometimes larger than a read;
// before login a frame has a limit (state 4, pre_login_frame_bytes).
func (g *generator) data(s *session) []byte {
	g.seq++
	n := g.IntN(48)
	switch g.IntN(200) {
	case 0:
		if n = 40 << 10; s.user == nil {
			n = 8 << 10
		}
	case 1, 2, 3:
		n = 2 << 10
	case 4:
		return nil
	}
	b := fmt.Appendf(nil, "%d:", g.seq)
	for i := range n {
		b = append(b, byte(i)+byte(g.seq))
	}
	return b
}

// carriedType is a type that a cast may have, mostly.
func (g *generator) carriedType() wire.TypeID {
	switch g.IntN(16) {
	case 0:
		return wire.TypeID(g.IntN(36)) // also unknown ones
	case 1, 2, 3, 4:
		return wire.Bytes
	}
	return wire.Text
}

// cast is one cast, or some in one piece, on branches of their own.
func (g *generator) cast() (step, bool) {
	s := g.somebody()
	if s == nil || len(s.refs()) == 0 && !g.rarely() {
		return step{}, false
	}
	next := g.oneCast(s)
	if g.IntN(8) == 0 && next.kind == calls {
		for range 1 + g.IntN(5) {
			if another := g.oneCast(s); another.kind == calls {
				next.more = append(next.more, another)
				next.note += "; " + another.note
			}
		}
	}
	return next, true
}

func (g *generator) oneCast(s *session) step {
	t, data := g.carriedType(), g.data(s)
	next := step{
		slot: s.slot, note: fmt.Sprintf("cast %s, %d bytes", t, len(data)), cmd: "cast",
		typ: t, branch: wire.BranchID(g.IntN(3)), payload: data,
		run: func(c *call) wire.ReturnCode { return g.w.cast(c, t, data) },
	}
	if t.IsControl() {
		next.kind = controls
	}
	return next
}

func (g *generator) ping() (step, bool) {
	return g.text(g.somebody(), "ping_peers", "", g.w.pingPeers)
}

// other is a session besides s, or rarely s itself, or one that is gone.
func (g *generator) other(s *session) (wire.SessionID, string) {
	if g.rarely() && len(g.gone) > 0 {
		return g.gone[len(g.gone)-1], "nobody"
	}
	peer := pick(g, g.w.connected())
	if peer == s {
		peer = pick(g, g.w.connected())
	}
	return peer.id, fmt.Sprintf("session %d", peer.slot)
}

// peerOf is a session with which another has something to do; sometimes
// anything. ok is false when there is none.
func (g *generator) peerOf(s *session, related func(peer *session) bool) (id wire.SessionID, who string, ok bool) {
	if g.rarely() {
		id, who = g.other(s)
		return id, who, true
	}
	var peers []*session
	for _, peer := range g.w.connected() {
		if peer != s && related(peer) {
			peers = append(peers, peer)
		}
	}
	if len(peers) == 0 {
		return id, "", false
	}
	peer := pick(g, peers)
	return peer.id, fmt.Sprintf("session %d", peer.slot), true
}

func (g *generator) peerCall(s *session, cmd string, id wire.SessionID, who string, run func(c *call) wire.ReturnCode) (step, bool) {
	return step{
		slot: s.slot, note: cmd + " " + who, cmd: cmd,
		typ: wire.SesID, branch: wire.BranchID(g.IntN(3)), payload: id[:], run: run,
	}, true
}

func (g *generator) request() (step, bool) {
	s := g.somebody()
	if s == nil {
		return step{}, false
	}
	id, who := g.other(s)
	return g.peerCall(s, "p2p_request", id, who, func(c *call) wire.ReturnCode { return g.w.p2pRequest(c, id) })
}

func (g *generator) openLink() (step, bool) {
	s := g.somebody()
	if s == nil {
		return step{}, false
	}
	id, who, ok := g.peerOf(s, func(peer *session) bool { return g.w.asked[[2]*session{peer, s}] })
	if !ok {
		return step{}, false
	}
	return g.peerCall(s, "p2p_open", id, who, func(c *call) wire.ReturnCode { return g.w.p2pOpen(c, id) })
}

func (g *generator) closeLink() (step, bool) {
	s := g.somebody()
	if s == nil {
		return step{}, false
	}
	id, who, ok := g.peerOf(s, func(peer *session) bool {
		return g.w.linked[[2]*session{s, peer}] || g.w.asked[[2]*session{s, peer}] || g.w.asked[[2]*session{peer, s}]
	})
	if !ok {
		return step{}, false
	}
	return g.peerCall(s, "p2p_close", id, who, func(c *call) wire.ReturnCode { return g.w.p2pClose(c, id) })
}

func (g *generator) toPeer() (step, bool) {
	s := g.somebody()
	if s == nil {
		return step{}, false
	}
	id, who, ok := g.peerOf(s, func(peer *session) bool { return g.w.linked[[2]*session{s, peer}] })
	if !ok {
		return step{}, false
	}
	t := g.carriedType()
	next, _ := g.peerCall(s, "to_peer", id, fmt.Sprintf("%s: %s", who, t), nil)
	next.payload = append(id[:], g.data(s)...)
	if g.rarely() {
		next.payload = next.payload[:g.IntN(len(next.payload))]
	}
	next.typ = t
	next.run = func(c *call) wire.ReturnCode { return g.w.toPeer(c, t, next.payload) }
	if t.IsControl() {
		next.kind = controls
	}
	return next, true
}

// What must change nothing.

func (g *generator) list() (step, bool) {
	s := g.somebody()
	switch g.IntN(6) {
	case 0:
		return g.text(s, "ls_open_chs", "", g.w.listOpen)
	case 1:
		return g.text(s, "ls_p2p", "", g.w.listPeers)
	case 2:
		return g.text(s, "ls_chs", "", g.w.listChannels)
	case 3:
		r, ch := g.place()
		return g.text(g.able(r, wire.Regular), "ls_ch_members", "-ch_name "+ch, func(c *call) wire.ReturnCode { return g.w.listMembers(c, ch) })
	case 4:
		_, ch := g.place()
		return g.text(s, "ls_sub_chs", "-ch_name "+ch, func(c *call) wire.ReturnCode { return g.w.listSubs(c, ch) })
	}
	return g.text(s, "my_info", "", g.w.myInfoCmd)
}

// wrongType starts a call with a frame of another type than it takes: E3
// (commands 1.3), and 8 for those that take SESSION_ID of 28 bytes.
func (g *generator) wrongType() (step, bool) {
	_, ch := g.place()
	texts := []string{"open_sub_ch", "close_sub_ch", "add_ch", "rm_ch", "invite_to_ch", "accept_ch", "ch_owner_override", "set_disp_name"}
	cmd, args, t := pick(g, texts), "-ch_name "+ch, wire.Bytes
	if g.IntN(2) == 0 {
		cmd, t = pick(g, []string{"p2p_request", "p2p_open", "p2p_close"}), pick(g, []wire.TypeID{wire.SesID, wire.Text})
	}
	next, ok := g.text(g.somebody(), cmd, args, func(*call) wire.ReturnCode { return refused })
	next.typ, next.note = t, next.note+" as "+t.String()
	return next, ok
}

// control sends TERM_CMD and its like to a call that is not there: nothing
// (commands 1.5).
func (g *generator) control() (step, bool) {
	t := pick(g, []wire.TypeID{wire.TermCmd, wire.KillCmd, wire.YieldCmd, wire.ResumeCmd})
	next, ok := g.text(g.somebody(), pick(g, []string{"cast", "open_sub_ch", "add_ch", "p2p_open"}), t.String(), nil)
	next.typ, next.kind = t, controls
	return next, ok
}
