package host_test

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/internal/host/hosttest/bare"
)

// revocation takes a right from the victim, who goes on trying, and tells what
// is left (commands 1.3).
type revocation struct {
	name   string
	revoke func(r *rig)
	// restore gives the right back; the victim opens again afterwards.
	restore func(r *rig)

	open, cast int  // the codes of calls that the victim starts afterwards
	heard      bool // its casts still reach others
	hears      bool // casts of others still reach it
}

// The victim is an officer of rank 5, in a sub-channel for officers.
var revocations = []revocation{
	{name: "rm_ch", open: 3, cast: 1,
		revoke:  func(r *rig) { r.do("rm_ch -ch_name Lobby") },
		restore: (*rig).build},
	{name: "rm_sub_ch", open: 3, cast: 1,
		revoke:  func(r *rig) { r.do("rm_sub_ch -ch_name Lobby -sub_name Talk") },
		restore: (*rig).buildSub},
	{name: "remove_ch_member", open: 3, cast: 1,
		revoke:  func(r *rig) { r.do("remove_ch_member -ch_name Lobby -user " + r.user) },
		restore: (*rig).admit},
	{name: "set_member_level", open: 3, cast: 1,
		revoke:  func(r *rig) { r.do("set_member_level -ch_name Lobby -user " + r.user + " -level 4") },
		restore: func(r *rig) { r.do("set_member_level -ch_name Lobby -user " + r.user + " -level 3") }},
	{name: "set_sub_ch_level", open: 3, cast: 1,
		revoke:  func(r *rig) { r.do("set_sub_ch_level -ch_name Lobby -sub_name Talk -level 2") },
		restore: func(r *rig) { r.do("set_sub_ch_level -ch_name Lobby -sub_name Talk -level 3") }},
	{name: "add_rdonly_flag", open: 1, cast: 1, hears: true,
		revoke:  func(r *rig) { r.do("add_rdonly_flag -ch_name Lobby -sub_id 0 -level 3") },
		restore: func(r *rig) { r.do("rm_rdonly_flag -ch_name Lobby -sub_id 0 -level 3") }},
	{name: "rm_ranked_cmd cast", open: 1, cast: 3, hears: true,
		revoke:  func(r *rig) { r.do("rm_ranked_cmd -mod builtin -command cast") },
		restore: func(r *rig) { r.do("add_ranked_cmd -mod builtin -command cast -rank 5") }},
	{name: "rm_ranked_cmd open_sub_ch", open: 3, cast: 1, heard: true, hears: true,
		revoke:  func(r *rig) { r.do("rm_ranked_cmd -mod builtin -command open_sub_ch") },
		restore: func(r *rig) { r.do("add_ranked_cmd -mod builtin -command open_sub_ch -rank 5") }},
	{name: "set_user_rank", open: 3, cast: 3, hears: true,
		revoke:  func(r *rig) { r.do("set_user_rank -user " + r.user + " -rank 6") },
		restore: func(r *rig) { r.do("set_user_rank -user " + r.user + " -rank 5") }},
	{name: "lock_acct", open: 3, cast: 3,
		revoke: func(r *rig) { r.do("lock_acct -user " + r.user + " -state 1") },
		restore: func(r *rig) {
			r.do("lock_acct -user " + r.user + " -state 0")
			r.login()
		}},
	{name: "rm_acct", open: 3, cast: 3,
		revoke: func(r *rig) { r.do("rm_acct -name " + r.user + " -force") },
		restore: func(r *rig) {
			r.newVictim()
			r.admit()
		}},
}

// rig is a channel with an owner who takes rights away, a friend who casts and
// listens, and the victim with several sessions: one casts and opens, the
// others open and close.
type rig struct {
	t                     *testing.T
	h                     *hosttest.Host
	user                  string // of the victim
	number                int    // of victims so far
	owner, friend, caster *bare.Client
	openers               []*bare.Client
}

// openerCount is how many sessions of the victim open and close.
const openerCount = 4

// victims are the sessions of the victim.
func (r *rig) victims() []*bare.Client { return append([]*bare.Client{r.caster}, r.openers...) }

func newRig(t *testing.T) *rig {
	t.Helper()
	h := hosttest.Start(t, hosttest.Set("log_level=warn", "cast_bytes=0"))
	r := &rig{t: t, h: h}
	h.User("owner", 1)
	h.User("friend", 1)
	dial := func(name string) *bare.Client { return bare.Dial(t, h.Address(), name) }
	r.owner, r.friend, r.caster = dial("owner"), dial("friend"), dial("caster")
	for range openerCount {
		r.openers = append(r.openers, dial("opener"))
	}
	r.owner.Login("owner", hosttest.Password)
	r.friend.Login("friend", hosttest.Password)
	for _, command := range []string{"cast", "open_sub_ch", "close_sub_ch", "accept_ch", "ch_owner_override"} {
		r.do("add_ranked_cmd -mod builtin -command " + command + " -rank 5")
	}
	r.newVictim()
	r.build()
	return r
}

// do runs a command of the owner.
func (r *rig) do(line string) {
	r.t.Helper()
	r.must(r.owner, 1, line)
}

// must runs a command that ends with the code.
func (r *rig) must(c *bare.Client, code int, line string) {
	r.t.Helper()
	if got, all := run(c, line); got != code {
		r.t.Fatalf("%s: code %d, want %d: %v", line, got, code, all)
	}
}

func run(c *bare.Client, line string) (code int, all []bare.Frame) {
	command, arguments := line, ""
	for i := range line {
		if line[i] == ' ' {
			command, arguments = line[:i], line[i+1:]
			break
		}
	}
	all = c.Call(command, arguments)
	return all[len(all)-1].Code(), all
}

// newVictim makes another account and logs it in.
func (r *rig) newVictim() {
	r.t.Helper()
	r.number++
	r.user = fmt.Sprintf("victim%d", r.number)
	r.h.User(r.user, 5)
	r.login()
}

func (r *rig) login() {
	r.t.Helper()
	for _, c := range r.victims() {
		c.Login(r.user, hosttest.Password)
	}
}

// build makes the channel and admits friend and victim.
func (r *rig) build() {
	r.t.Helper()
	r.do("add_ch -ch_name Lobby")
	r.do("invite_to_ch -ch_name Lobby -user friend")
	r.must(r.friend, 1, "accept_ch -ch_name Lobby")
	r.do("set_member_level -ch_name Lobby -user friend -level 2")
	r.buildSub()
	r.admit()
}

func (r *rig) buildSub() {
	r.t.Helper()
	r.do("add_sub_ch -ch_name Lobby -sub_name Talk")
	r.do("set_sub_ch_level -ch_name Lobby -sub_name Talk -level 3")
}

func (r *rig) admit() {
	r.t.Helper()
	r.do("invite_to_ch -ch_name Lobby -user " + r.user)
	r.must(r.caster, 1, "accept_ch -ch_name Lobby")
	r.do("set_member_level -ch_name Lobby -user " + r.user + " -level 3")
}

const openTalk = "open_sub_ch -ch_name Lobby -sub_name Talk"

// ready makes sure that victim and friend hear each other.
func (r *rig) ready() {
	r.t.Helper()
	for _, c := range r.victims() {
		c.Fence() // the list of commands has come back by its end
		c.SoFar()
	}
	r.must(r.caster, 1, openTalk)
	r.must(r.friend, 1, openTalk)
	for _, c := range r.openers {
		r.must(c, 1, "close_sub_ch -ch_name Lobby -sub_name Talk")
	}
	for _, c := range append(r.victims(), r.friend) {
		c.Fence()
		c.SoFar()
	}
	for _, pair := range [][2]*bare.Client{{r.caster, r.friend}, {r.friend, r.caster}} {
		r.must(pair[0], 1, "cast ready")
		pair[1].Fence()
		if got := pair[1].SoFar(); len(got) != 1 || string(got[0].Payload) != "ready" {
			r.t.Fatalf("before the round, a cast is heard as %v", got)
		}
	}
}

// Who has sent a cast.
const (
	byFriend = 'F'
	byVictim = 'V'
)

// cast is what a cast in a round says.
func castOf(by byte, round int, after bool) []byte {
	late := byte(0)
	if after {
		late = 1
	}
	return bare.Cat(by, uint32(round), late)
}

// party is what one session does in a round, and what it finds out.
type party struct {
	c     *bare.Client
	by    byte
	round int

	castID, openID, closeID uint16

	opened, casts []int // codes of calls that were made afterwards
	// heard are casts that the session has got; late those of them that came
	// behind the end of a call that was made afterwards.
	heard, late []bare.Frame
}

func newParty(c *bare.Client, by byte, round int) *party {
	return &party{c: c, by: by, round: round, castID: c.Cmd("cast"), openID: c.Cmd("open_sub_ch"), closeID: c.Cmd("close_sub_ch")}
}

// castsAtOnce is how many casts go out in one write.
const castsAtOnce = 8

// keepCasting opens and casts until it has done so once after the right was
// taken.
func (p *party) keepCasting(revoked *atomic.Bool, begun func()) error {
	for n := 0; ; n++ {
		after := revoked.Load()
		b := bare.Frame{Type: bare.Text, Cmd: p.openID, Branch: 1, Payload: []byte(openTalk[len("open_sub_ch "):])}.Raw()
		for i := range castsAtOnce {
			b = append(b, bare.Frame{Type: bare.Bytes, Cmd: p.castID, Branch: uint16(i), Payload: castOf(p.by, p.round, after)}.Raw()...)
		}
		if err := p.c.TryWrite(b); err != nil {
			return err
		}
		if err := p.idles(1+castsAtOnce, after); err != nil {
			return err
		}
		if n == 0 {
			begun()
		}
		if after {
			return nil
		}
	}
}

// idles reads up to the end of so many calls.
func (p *party) idles(open int, after bool) error {
	for open > 0 {
		f, err := p.c.Read()
		switch {
		case err != nil:
			return err
		case f.Cmd == bare.CastID:
			p.hear(f)
		case f.Type == bare.Idle:
			open--
			switch {
			case !after:
			case f.Cmd == p.castID:
				p.casts = append(p.casts, f.Code())
			case f.Cmd == p.openID:
				p.opened = append(p.opened, f.Code())
			}
		}
	}
	return nil
}

func (p *party) hear(f bare.Frame) {
	p.heard = append(p.heard, f)
	if len(p.casts) > 0 {
		p.late = append(p.late, f)
	}
}

// keepOpening opens and closes until it has tried to open after the right was
// taken.
func (p *party) keepOpening(revoked *atomic.Bool, begun func()) error {
	call := func(id uint16, after bool) error {
		err := p.c.TryWrite(bare.Frame{Type: bare.Text, Cmd: id, Branch: 1, Payload: []byte(openTalk[len("open_sub_ch "):])}.Raw())
		if err != nil {
			return err
		}
		return p.idles(1, after)
	}
	for n := 0; ; n++ {
		after := revoked.Load()
		if err := call(p.openID, after); err != nil || after {
			return err
		}
		if revoked.Load() { // what was opened too late is found open
			continue
		}
		if err := call(p.closeID, false); err != nil {
			return err
		}
		if n == 0 {
			begun()
		}
	}
}

// rest reads what has come in the end.
func (p *party) rest() {
	for _, f := range p.c.SoFar() {
		if f.Cmd == bare.CastID {
			p.hear(f)
		}
	}
}

// of returns the casts of a sender; after: those that were sent afterwards.
func of(frames []bare.Frame, by byte, round int, after bool) (n int) {
	want := castOf(by, round, after)
	for _, f := range frames {
		if string(f.Payload) == string(want) {
			n++
		}
	}
	return n
}

// revokeRounds is how often a right is taken, of a dozen.
func revokeRounds() int {
	switch {
	case os.Getenv("MRCI_TEST_LONG") != "":
		return 500
	case testing.Short():
		return 5
	}
	return 25
}

// TestRevocation takes each right from somebody who casts and opens all the
// time. Once the call that takes it is over, nothing happens under the old
// right (commands 1.3): what was sent before has arrived by then, or never
// does.
func TestRevocation(t *testing.T) {
	for _, rev := range revocations {
		t.Run(rev.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			for n := range revokeRounds() {
				r.ready()
				r.play(n, rev)
				if t.Failed() {
					t.Fatalf("in round %d", n)
				}
				rev.restore(r)
			}
		})
	}
}

func (r *rig) play(round int, rev revocation) {
	r.t.Helper()
	friend, caster := newParty(r.friend, byFriend, round), newParty(r.caster, byVictim, round)
	parties := []*party{friend, caster}
	keep := []func(*atomic.Bool, func()) error{friend.keepCasting, caster.keepCasting}
	for _, c := range r.openers {
		p := newParty(c, byVictim, round)
		parties, keep = append(parties, p), append(keep, p.keepOpening)
	}
	var (
		revoked  atomic.Bool
		all, run sync.WaitGroup
	)
	errs := make([]error, len(parties))
	run.Add(len(parties))
	for i, keep := range keep {
		all.Go(func() {
			begun := sync.OnceFunc(run.Done)
			errs[i] = keep(&revoked, begun)
			begun()
		})
	}
	run.Wait()
	rev.revoke(r)
	revoked.Store(true)
	all.Wait()
	// When all is quiet everybody casts once more, for who has it open still.
	for _, p := range parties {
		f := bare.Frame{Type: bare.Bytes, Cmd: p.castID, Branch: 1, Payload: castOf(p.by, round, true)}
		errs = append(errs, p.c.TryWrite(f.Raw()), p.idles(1, false))
	}
	if err := errors.Join(errs...); err != nil {
		r.t.Fatal(err)
	}
	for _, p := range parties {
		p.c.Fence()
	}
	for _, p := range parties {
		p.rest()
	}
	r.judge(round, rev, friend, caster, parties[2:]...)
}

// judge looks at what the sessions have got and seen.
func (r *rig) judge(round int, rev revocation, friend, caster *party, openers ...*party) {
	r.t.Helper()
	victims := append([]*party{caster}, openers...)
	opened := 0
	for _, p := range victims {
		for _, code := range p.opened {
			opened++
			if code != rev.open {
				r.t.Errorf("open_sub_ch afterwards ends with %d, want %d", code, rev.open)
			}
		}
	}
	for _, code := range caster.casts {
		if code != rev.cast {
			r.t.Errorf("cast afterwards ends with %d, want %d", code, rev.cast)
		}
	}
	if opened != len(victims) || len(caster.casts) != castsAtOnce {
		r.t.Errorf("afterwards %d calls of open_sub_ch and %d of cast have ended", opened, len(caster.casts))
	}
	heard := of(friend.heard, byVictim, round, true)
	late := of(friend.late, byVictim, round, false)
	switch {
	case rev.heard && heard <= castsAtOnce: // and that when all is quiet
		r.t.Errorf("of the victim's casts %d are heard afterwards, want more than %d", heard, castsAtOnce)
	case !rev.heard && heard+late > 0:
		r.t.Errorf("the victim is heard afterwards: %d casts that it has sent then, %d from before", heard, late)
	}
	for _, p := range victims {
		heard, late := of(p.heard, byFriend, round, true), of(p.late, byFriend, round, false)
		if !rev.hears && heard+late > 0 {
			r.t.Errorf("the victim hears afterwards: %d casts that were sent then, %d from before", heard, late)
		}
	}
}

// TestOverrideRevoked clears the override of a session that opens, casts and
// listens under it, on the same connection.
func TestOverrideRevoked(t *testing.T) {
	r := newRig(t)
	r.do("remove_ch_member -ch_name Lobby -user " + r.user)
	friend, victim := r.friend, r.caster
	clear := bare.Frame{Type: bare.Text, Cmd: victim.Cmd("ch_owner_override"), Branch: 9, Payload: []byte("-state 0")}.Raw()
	for round := range 4 * revokeRounds() {
		r.must(victim, 1, "ch_owner_override -state 1")
		r.must(victim, 1, openTalk)
		r.must(friend, 1, openTalk)
		p, f := newParty(victim, byVictim, round), newParty(friend, byFriend, round)
		var revoked atomic.Bool
		var all sync.WaitGroup
		var failed error
		begun := make(chan struct{})
		all.Go(func() { failed = f.keepCasting(&revoked, func() { close(begun) }) })
		<-begun
		// Casts before, beside and behind it; and an opening beside it.
		var b []byte
		for i := range castsAtOnce {
			if i == round%castsAtOnce {
				b = append(b, clear...)
				b = append(b, bare.Frame{Type: bare.Text, Cmd: p.openID, Branch: 1, Payload: []byte(openTalk[len("open_sub_ch "):])}.Raw()...)
			}
			b = append(b, bare.Frame{Type: bare.Bytes, Cmd: p.castID, Branch: uint16(i), Payload: castOf(byVictim, round, false)}.Raw()...)
		}
		victim.Write(b)
		if err := p.idles(castsAtOnce+2, false); err != nil {
			t.Fatal(err)
		}
		revoked.Store(true)
		err := p.keepCasting(&revoked, func() {})
		all.Wait()
		if err := errors.Join(err, failed); err != nil {
			t.Fatal(err)
		}
		victim.Fence()
		friend.Fence()
		p.rest()
		f.rest()
		r.judge(round, revocation{open: 3, cast: 1}, f, p)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
}
