package modeltest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"mrci.dev/mrci/wire"
)

// Of a storm: what there is, and how much is done in it. A storm has channels
// and sessions of its own, and ends with a judgement.
const (
	stormSessions = 12
	stormCalls    = 200 // of each session in a storm
	stormChannels = 3
	stormSubs     = 200 // max_sub_channels
	ciStorms      = 12
	longStorms    = 1000
)

// TestConcurrent lets sessions act at the same time. Each of them is a
// goroutine that makes one call after the other, and reads.
func TestConcurrent(t *testing.T) {
	steps, seed := wanted(t)
	storms := max(1, ciStorms*steps/ciSteps)
	if steps > ciSteps {
		storms = min(storms, longStorms)
	}
	h, commands, users := startHost(t, seed%2 == 1, stormSubs)
	w := newWorld(commands)
	link, err := newClients(h, "modeltest", w.byName["my_info"].id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.stop)
	var sent, came, certain, changes int
	for n := range storms {
		s := &storm{w: w, link: link, number: n, users: users}
		if err := s.run(seed + uint64(n)); err != nil {
			t.Fatalf("storm %d: %v", n, err)
		}
		for i, fault := range s.judge() {
			if i == 20 {
				t.Error("and more")
				break
			}
			t.Error(fault)
		}
		if t.Failed() || n == 0 {
			t.Logf("calls of storm %d: %v", n, s.counts())
		}
		if t.Failed() {
			return
		}
		sent, changes = sent+len(s.messages), changes+len(s.changes)
		for _, p := range s.parties {
			came += len(p.got)
			for _, m := range s.messages {
				if _, must := s.mustReach(m, p); must && m.to == nil && m.from != p {
					certain++
				}
			}
		}
	}
	t.Logf("%d storms: %d casts and frames for peers, %d changes; %d frames came, %d of the casts had to", storms, sent, changes, came, certain)
}

// storm is a history, and who makes it.
type storm struct {
	history
	w      *world
	link   *clients
	users  []wire.UserID
	number int
	clock  atomic.Int64

	actors []*actor

	mu    sync.Mutex // guards all below, and the history while the actors act
	halls []*hall
	// byText finds messages by what they carry.
	byText map[string]*message
	peers  map[wire.SessionID]*actor
	calls  map[outcome]int
}

// hall is a channel of a storm.
type hall struct {
	number int
	name   string
	id     wire.ChannelID
	owner  int      // user
	names  []string // of the sub-channels that there may be, the ones that stay first
	// members are toggles by user.
	members map[int]*toggle
}

// quiet is the sub-channel of each hall in which only its owner and its admin
// may cast: a read-only flag stands there for level 4, which everybody else has.
const quiet = "quiet"

// rules reports whether a user is the owner or the admin: the owner of the next
// one.
func (h *hall) rules(user int) bool { return user == h.owner || user == h.admin() }

func (h *hall) admin() int { return (h.owner + 1) % stormChannels }

// actor is a session that acts.
type actor struct {
	*party
	s      *storm
	c      *client
	user   int
	rand   *rand.Rand
	number int // of the session among the actors
	calls  int // that it has made
	casts  int
	data   int
	peer   *actor // that it has a link to; nil: none
	// made are sub-channels that this actor has made and not removed.
	made []madeSub
	// heard are the sub-channels by id, as the actor was told of them: ids are
	// used again.
	heard  map[wire.SubRef]place
	logged bool
}

type madeSub struct {
	hall *hall
	name string
}

func (s *storm) now() tick { return tick(s.clock.Add(1)) }

// counts tells how often calls ended how, for a person.
func (s *storm) counts() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for o, n := range s.calls {
		list = append(list, fmt.Sprintf("%s %d: %d", o.cmd, o.code, n))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// run makes the history.
func (s *storm) run(seed uint64) error {
	s.byText = make(map[string]*message)
	s.peers = make(map[wire.SessionID]*actor)
	s.calls = make(map[outcome]int)
	for i := range stormSessions {
		a, err := s.enter(i, seed)
		if err != nil {
			return err
		}
		s.actors = append(s.actors, a)
	}
	if err := s.build(); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	errs := make(chan error, len(s.actors))
	var group sync.WaitGroup
	for _, a := range s.actors {
		group.Go(func() { errs <- a.act() })
	}
	group.Wait()
	for range s.actors {
		if err := <-errs; err != nil {
			return err
		}
	}
	return s.calm()
}

// enter connects and logs in an actor; every user has one, some have two.
func (s *storm) enter(i int, seed uint64) (*actor, error) {
	s.link.alive()
	c, err := s.link.dial()
	if err != nil {
		return nil, err
	}
	a := &actor{
		party: newParty(fmt.Sprintf("session %d", i)), s: s, c: c, user: i % maxUsers, number: i,
		rand: rand.New(rand.NewPCG(seed, uint64(i))), heard: make(map[wire.SubRef]place),
	}
	a.writable = func(p place) bool { return p.name != quiet || s.halls[p.channel].rules(a.user) }
	s.parties = append(s.parties, a.party)
	s.peers[c.id] = a
	return a, a.auth()
}

// build makes the channels, whose members are all users, and some links.
func (s *storm) build() error {
	for n := range stormChannels {
		h := &hall{number: n, name: fmt.Sprintf("Hall%d.%d", s.number, n), owner: n, members: make(map[int]*toggle)}
		for u := range maxUsers {
			h.members[u] = new(toggle)
		}
		s.halls = append(s.halls, h)
		owner := s.actors[h.owner]
		for _, a := range s.actors {
			a.member[n] = h.members[a.user]
		}
		if err := owner.must("add_ch", "-ch_name "+h.name); err != nil {
			return err
		}
		h.members[h.owner].on = []span{{to: s.now()}}
		for _, name := range []string{quiet, "main", "side"} {
			h.names = append(h.names, name)
			if err := owner.must("add_sub_ch", fmt.Sprintf("-ch_name %s -sub_name %s", h.name, name)); err != nil {
				return err
			}
		}
		if err := owner.must("add_rdonly_flag", fmt.Sprintf("-ch_name %s -sub_id 0 -level 4", h.name)); err != nil {
			return err
		}
		for u := range maxUsers {
			if u == h.owner {
				continue
			}
			if err := owner.must("invite_to_ch", fmt.Sprintf("-ch_name %s -user %s", h.name, userNames[u])); err != nil {
				return err
			}
			if err := s.actors[u].must("accept_ch", "-ch_name "+h.name); err != nil {
				return err
			}
			h.members[u].on = []span{{to: s.now()}}
		}
		if err := owner.must("set_member_level", fmt.Sprintf("-ch_name %s -user %s -level 2", h.name, userNames[h.admin()])); err != nil {
			return err
		}
	}
	for i := 0; i+1 < len(s.actors); i += 4 {
		a, b := s.actors[i], s.actors[i+1]
		if err := a.mustSend("p2p_request", wire.SesID, b.c.id[:]); err != nil {
			return err
		}
		if err := b.mustSend("p2p_open", wire.SesID, a.c.id[:]); err != nil {
			return err
		}
		a.peer, b.peer = b, a
	}
	return nil
}

// calm waits for what may have followed a moment later, and ends the sessions.
// Each channel gets one sub-channel more: who is a member hears of it behind
// everything else of that channel.
func (s *storm) calm() error {
	for _, a := range s.actors {
		if !a.logged {
			if err := a.auth(); err != nil {
				return err
			}
		}
	}
	for _, h := range s.halls {
		last := place{h.number, "last"}
		owner := s.actors[h.owner]
		if code, err := owner.addSub(h, last.name); err != nil || code != done {
			return fmt.Errorf("the last sub-channel of %s: %d, %v", h.name, code, err)
		}
		for _, a := range s.actors {
			now := s.now()
			for h.members[a.user].certain(now, now) && !a.hasHeard(last) {
				if err := a.read(); err != nil {
					return fmt.Errorf("%s waits for the last sub-channel of %s: %w", a.name, h.name, err)
				}
			}
		}
	}
	for _, a := range s.actors {
		if err := a.must("my_info", ""); err != nil {
			return err
		}
	}
	for _, h := range s.halls {
		if err := s.actors[h.owner].must("rm_ch", "-ch_name "+h.name); err != nil {
			return err
		}
	}
	for _, a := range s.actors {
		if err := s.link.drop(a.c); err != nil {
			return err
		}
	}
	return s.link.await(0)
}

// hasHeard reports whether the actor was told that a sub-channel was made.
func (a *actor) hasHeard(p place) bool {
	return slices.ContainsFunc(a.got, func(r receipt) bool { return r.change != nil && !r.change.gone && r.change.place == p })
}

// act makes calls.
func (a *actor) act() error {
	for range stormCalls {
		if err := a.something(); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	return nil
}

func (a *actor) something() error {
	h := a.s.halls[a.rand.IntN(stormChannels)]
	if !a.logged {
		return a.auth()
	}
	// In some storms four sessions do little but change one channel.
	if busy := a.s.halls[0]; a.s.number%3 == 2 && busy.rules(a.user) && a.rand.IntN(4) != 0 {
		return a.rule(busy)
	}
	switch n := a.rand.IntN(100); {
	case n < 25:
		return a.cast()
	case n < 33:
		return a.toPeer()
	case n < 48:
		return a.open(h)
	case n < 58:
		return a.flutter(h)
	case n < 66:
		return a.closeOne()
	case n < 72:
		return a.accept(h)
	case n < 74 && a.peer == nil:
		return a.logout()
	case h.rules(a.user):
		return a.rule(h)
	}
	return a.cast()
}

// rule is what an owner or an admin does. Those stay what they are everywhere, so
// that all is not silent.
func (a *actor) rule(h *hall) error {
	user := stormChannels + a.rand.IntN(maxUsers-stormChannels) // another
	switch a.rand.IntN(12) {
	case 0, 1:
		name := fmt.Sprintf("sub%d.%d", a.number, a.calls)
		code, err := a.addSub(h, name)
		if err == nil && code == done {
			a.made = append(a.made, madeSub{h, name})
		}
		return err
	case 2, 3:
		if len(a.made) == 0 {
			return nil
		}
		gone := a.made[0]
		a.made = a.made[1:]
		return a.rmSub(gone.hall, gone.name)
	case 4, 5:
		name := a.s.nameIn(h, a.rand)
		at, code, err := a.call("set_sub_ch_level", fmt.Sprintf("-ch_name %s -sub_name %s -level 4", h.name, name))
		if code == done {
			a.s.closes(at, func(_ *actor, p place) bool { return p == place{h.number, name} }, a)
		}
		return err
	case 6:
		at, code, err := a.call("set_member_level", fmt.Sprintf("-ch_name %s -user %s -level 4", h.name, userNames[user]))
		if code == done {
			a.s.closes(at, func(of *actor, p place) bool { return of.user == user && p.channel == h.number }, a)
		}
		return err
	case 7, 8, 9:
		at, code, err := a.call("remove_ch_member", fmt.Sprintf("-ch_name %s -user %s", h.name, userNames[user]))
		if code == done {
			a.s.closes(at, func(of *actor, p place) bool { return of.user == user && p.channel == h.number }, a)
			at.own = 0
			a.s.locked(func() { h.members[user].off = append(h.members[user].off, at) })
		}
		return err
	}
	// Who is a member or invited already is refused.
	_, _, err := a.call("invite_to_ch", fmt.Sprintf("-ch_name %s -user %s", h.name, userNames[user]))
	return err
}

func (s *storm) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// closes notes a call that has closed sub-channels of sessions. It may concern
// what somebody opens at the same time and nobody has noted yet: all that there
// is by now and later is looked at when it is judged, so it stands for every
// place of the actors that it concerns.
func (s *storm) closes(at span, which func(of *actor, p place) bool, by *actor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.actors {
		own := at
		if a != by {
			own.own = 0
		}
		for _, h := range s.halls {
			for _, name := range h.names {
				if p := (place{h.number, name}); which(a, p) {
					t := a.at(p)
					t.off = append(t.off, own)
				}
			}
		}
	}
}

// nameIn is a sub-channel that there may be.
func (s *storm) nameIn(h *hall, r *rand.Rand) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	recent := h.names[max(3, len(h.names)-4):]
	if n := r.IntN(3 + len(recent)); n >= 3 {
		return recent[n-3]
	}
	return h.names[r.IntN(3)]
}

func (a *actor) addSub(h *hall, name string) (wire.ReturnCode, error) {
	p := place{h.number, name}
	made := &change{place: p}
	a.s.locked(func() {
		h.names = append(h.names, name)
		a.s.changes = append(a.s.changes, made)
	})
	at, code, err := a.call("add_sub_ch", fmt.Sprintf("-ch_name %s -sub_name %s", h.name, name))
	a.s.locked(func() {
		made.span = at
		made.span.own = 0
		if code != done { // it was not made
			a.s.changes = slices.DeleteFunc(a.s.changes, func(c *change) bool { return c == made })
		}
	})
	// After I1 the caller has its own event already (commands 1.3).
	if err == nil && code == done && !a.hasHeard(p) {
		err = fmt.Errorf("add_sub_ch %s is over, and NEW_SUB_CH has not come", name)
	}
	return code, err
}

func (a *actor) rmSub(h *hall, name string) error {
	p := place{h.number, name}
	gone := &change{place: p, gone: true}
	a.s.locked(func() { a.s.changes = append(a.s.changes, gone) })
	at, code, err := a.call("rm_sub_ch", fmt.Sprintf("-ch_name %s -sub_name %s", h.name, name))
	if err == nil && code != done {
		return fmt.Errorf("rm_sub_ch %s: %d", name, code)
	}
	a.s.locked(func() {
		gone.span = at
		gone.span.own = 0
	})
	a.s.closes(at, func(_ *actor, closed place) bool { return closed == p }, a)
	return err
}

func (a *actor) open(h *hall) error { return a.openAt(place{h.number, a.s.nameIn(h, a.rand)}) }

func (a *actor) openAt(p place) error {
	at, code, err := a.call("open_sub_ch", fmt.Sprintf("-ch_name %s -sub_name %s", a.s.halls[p.channel].name, p.name))
	if code == done {
		a.s.locked(func() { a.at(p).on = append(a.at(p).on, at) })
	}
	return err
}

// flutter closes and opens a sub-channel some times, so that an opening is often
// under way.
func (a *actor) flutter(h *hall) error {
	p := place{h.number, []string{"main", "side"}[a.rand.IntN(2)]}
	for range 2 {
		if err := a.close(p); err != nil {
			return err
		}
		if err := a.openAt(p); err != nil {
			return err
		}
	}
	return nil
}

// closeOne closes something that the actor has opened once.
func (a *actor) closeOne() error {
	var places []place
	a.s.locked(func() {
		for p, t := range a.party.open {
			if len(t.on) > 0 {
				places = append(places, p)
			}
		}
	})
	if len(places) == 0 {
		return nil
	}
	slices.SortFunc(places, func(x, y place) int { return strings.Compare(fmt.Sprint(x), fmt.Sprint(y)) })
	return a.close(places[a.rand.IntN(len(places))])
}

func (a *actor) close(p place) error {
	at, code, err := a.call("close_sub_ch", fmt.Sprintf("-ch_name %s -sub_name %s", a.s.halls[p.channel].name, p.name))
	if code == done {
		a.s.locked(func() { a.at(p).off = append(a.at(p).off, at) })
	}
	return err
}

// accept is refused for who is a member or not invited.
func (a *actor) accept(h *hall) error {
	at, code, err := a.call("accept_ch", "-ch_name "+h.name)
	if code == done {
		at.own = 0 // both sessions of the user are members by it
		a.s.locked(func() { h.members[a.user].on = append(h.members[a.user].on, at) })
	}
	return err
}

func (a *actor) auth() error {
	at, code, err := a.exchange("auth", wire.AppendText(nil, wire.Text, a.s.w.byName["auth"].id, 0, "-user "+userNames[a.user]), password)
	if err == nil && code != done {
		err = fmt.Errorf("auth: %d", code)
	}
	a.login.on = append(a.login.on, at)
	a.logged = true
	return err
}

func (a *actor) logout() error {
	at, code, err := a.call("logout", "")
	if err == nil && code != done {
		err = fmt.Errorf("logout: %d", code)
	}
	a.logged = false
	clear(a.heard)
	a.login.off = append(a.login.off, at)
	a.s.closes(at, func(of *actor, _ place) bool { return of == a }, a)
	return err
}

// cast sends some casts at once.
func (a *actor) cast() error {
	return a.messages("cast", &a.casts, nil)
}

func (a *actor) toPeer() error {
	if a.peer == nil {
		return nil
	}
	return a.messages("to_peer", &a.data, a.peer)
}

// messages sends messages in one piece, without waiting for the end of one
// before the next.
func (a *actor) messages(cmd string, seq *int, to *actor) error {
	id := a.s.w.byName[cmd].id
	n := 1 + a.rand.IntN(3)
	var (
		frames   []byte
		sent     []*message
		branches []wire.BranchID // of the calls that are not over
	)
	for range n {
		*seq++
		m := &message{from: a.party, seq: *seq}
		// The text is found again whole, so no byte of it can have changed.
		text := fmt.Appendf(nil, "%s %d.%d.%d ", cmd, a.s.number, a.number, *seq)
		text = append(text, bytes.Repeat([]byte{byte(*seq)}, a.rand.IntN(200))...)
		payload := text
		if to != nil {
			m.to = to.party
			payload = append(to.c.id[:len(to.c.id):len(to.c.id)], text...)
		}
		// Frames for peers may wait; on one branch they keep their order.
		branch := wire.BranchID(0)
		if to == nil {
			branch = wire.BranchID(a.rand.IntN(3))
		}
		branches = append(branches, branch)
		frames = wire.AppendFrame(frames, wire.Bytes, id, branch, payload)
		sent = append(sent, m)
		a.s.locked(func() {
			a.s.byText[string(text)] = m
			a.s.history.messages = append(a.s.history.messages, m)
		})
	}
	a.calls++
	at := span{from: a.s.now(), own: a.calls}
	// Nobody may judge a message by a span that has not ended; nobody does
	// before all have.
	if err := a.send(frames); err != nil {
		return err
	}
	for range n {
		code, branch, err := a.untilIdle(id)
		if err != nil {
			return err
		}
		i := slices.Index(branches, branch)
		if i < 0 || code != done {
			return fmt.Errorf("%s ended with %d on branch %d; not over are the calls on %d", cmd, code, branch, branches)
		}
		branches = slices.Delete(branches, i, i+1)
	}
	at.to = a.s.now()
	for _, m := range sent {
		m.span = at
	}
	a.s.locked(func() { a.s.calls[outcome{cmd, done}] += n })
	return nil
}

// Calls and frames.

func (a *actor) must(cmd, args string) error { return a.mustSend(cmd, wire.Text, []byte(args)) }

func (a *actor) mustSend(cmd string, t wire.TypeID, payload []byte) error {
	_, code, err := a.exchange(cmd, wire.AppendFrame(nil, t, a.s.w.byName[cmd].id, 0, payload), "")
	if err == nil && code != done {
		err = fmt.Errorf("%s: %s %q: %d", a.name, cmd, payload, code)
	}
	return err
}

func (a *actor) call(cmd, args string) (span, wire.ReturnCode, error) {
	return a.exchange(cmd, wire.AppendText(nil, wire.Text, a.s.w.byName[cmd].id, 0, args), "")
}

// exchange makes a call, with an answer if one will be asked for.
func (a *actor) exchange(cmd string, frame []byte, answer string) (span, wire.ReturnCode, error) {
	id := a.s.w.byName[cmd].id
	a.calls++
	at := span{from: a.s.now(), own: a.calls}
	if answer != "" {
		frame = wire.AppendText(frame, wire.Text, id, 0, answer)
	}
	if err := a.send(frame); err != nil {
		return at, 0, err
	}
	code, _, err := a.untilIdle(id)
	at.to = a.s.now()
	if err == nil {
		a.s.locked(func() { a.s.calls[outcome{cmd, code}]++ })
	}
	return at, code, err
}

func (a *actor) send(frames []byte) error {
	a.s.link.alive()
	_, err := a.c.nc.Write(frames)
	return err
}

func (a *actor) untilIdle(id wire.CmdID) (wire.ReturnCode, wire.BranchID, error) {
	for {
		f, err := a.c.r.Next()
		if err != nil {
			return 0, 0, err
		}
		if f.Cmd == id && f.Type == wire.Idle {
			code, _, err := wire.ParseIdle(f.Payload)
			return code, f.Branch, err
		}
		if err := a.take(f); err != nil {
			return 0, 0, err
		}
	}
}

func (a *actor) read() error {
	f, err := a.c.r.Next()
	if err != nil {
		return err
	}
	return a.take(f)
}

// take notes what the actor gets.
func (a *actor) take(f wire.Frame) error {
	a.s.link.alive() // after a storm there may be much to read before the next call
	switch wire.AsyncID(f.Cmd) {
	case wire.AsyncCast:
		return a.message(f, f.Payload)
	case wire.AsyncP2P:
		if f.Type != wire.Bytes {
			return nil
		}
		var d wire.PeerData
		if err := wire.Parse(f.Payload, &d); err != nil {
			return err
		}
		if err := a.message(f, d.Data); err != nil {
			return err
		}
		m := a.got[len(a.got)-1].message
		if from := a.s.actor(d.Src); from == nil || from.party != m.from {
			return fmt.Errorf("got %s from %s", m, d.Src)
		}
	case wire.AsyncNewSubCh:
		var made wire.SubAdded
		if err := wire.Parse(f.Payload, &made); err != nil {
			return err
		}
		return a.changed(wire.SubRef{Channel: made.Channel, Sub: made.Sub}, made.Name)
	case wire.AsyncRmSubCh:
		var gone wire.SubRef
		if err := wire.Parse(f.Payload, &gone); err != nil {
			return err
		}
		return a.changed(gone, "")
	case wire.AsyncRmChMember:
		var gone wire.MemberRemoved
		if err := wire.Parse(f.Payload, &gone); err != nil {
			return err
		}
		if gone.User == a.s.users[a.user] { // from here on it does not hear which ids go
			for ref := range a.heard {
				if ref.Channel == gone.Channel {
					delete(a.heard, ref)
				}
			}
		}
	case wire.AsyncNewChMember, wire.AsyncInvitedToCh, wire.AsyncInviteAccepted:
		var m wire.Member
		if err := wire.Parse(f.Payload, &m); err != nil {
			return err
		}
		a.s.locked(func() {
			for _, h := range a.s.halls {
				if h.name == m.ChannelName {
					h.id = m.Channel
				}
			}
		})
	}
	return nil
}

func (s *storm) actor(id wire.SessionID) *actor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peers[id]
}

// message notes a message.
func (a *actor) message(f wire.Frame, text []byte) error {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	m := a.s.byText[string(text)]
	if m == nil || f.Type != wire.Bytes || f.Branch != 0 {
		return fmt.Errorf("got %s, which nobody has sent:\n%s", describe(f), hex.Dump(text))
	}
	a.got = append(a.got, receipt{message: m, during: a.calls})
	return nil
}

// changed notes that a sub-channel was made, or with an empty name that the one
// with the id is gone.
func (a *actor) changed(ref wire.SubRef, name string) error {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	if len(a.s.halls) == 0 { // no storm
		return nil
	}
	i := slices.IndexFunc(a.s.halls, func(h *hall) bool { return h.id == ref.Channel })
	if i < 0 {
		return fmt.Errorf("got an event of channel %d, which is none of this storm", ref.Channel)
	}
	p := place{i, name}
	if name != "" {
		if old, there := a.heard[ref]; there {
			return fmt.Errorf("%v was made under the id of %v, which is not gone", p, old)
		}
		a.heard[ref] = p
	} else {
		known := false
		if p, known = a.heard[ref]; !known {
			return nil // made before the actor was a member
		}
		delete(a.heard, ref)
	}
	for _, c := range a.s.changes {
		if c.place == p && c.gone == (name == "") {
			a.got = append(a.got, receipt{change: c, during: a.calls})
			return nil
		}
	}
	if !slices.Contains([]string{quiet, "main", "side"}, p.name) {
		return fmt.Errorf("got a change of %v, which nobody has made", p)
	}
	return nil
}
