package soak

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/wire"
)

// This file has what sessions of a soak do in channels: rights, casts and
// presence. Every client has a channel of its own, and removes it in the end.

// channel makes a channel, does this and that in it, and removes it.
func (s *soaker) channel(ctx, soak context.Context) error {
	return s.withRoom(ctx, func(r *room) error {
		for range 1 + s.random.IntN(12) {
			if !s.rest(soak) {
				break
			}
			if err := r.step(ctx, pick(s.random, roomSteps)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *room) step(ctx context.Context, one roomStep) error {
	for _, g := range r.in() {
		g.forget()
	}
	err := one.do(r, ctx)
	for _, g := range r.in() {
		_, wrong := g.ear.state()
		err = errors.Join(err, wrong)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", one.name, err)
	}
	r.s.work.done("channel: " + one.name)
	return nil
}

// roomStep is something that happens in a room. Behind it everybody has the
// sub-channel open again.
type roomStep struct {
	name   string
	weight int
	do     func(r *room, ctx context.Context) error
}

func (s roomStep) share() int { return s.weight }

var roomSteps = []roomStep{
	{"burst of casts", 20, (*room).burst},
	{"large casts", 6, (*room).largeCasts},
	{"casts of all at once", 8, (*room).together},
	{"ping", 6, (*room).ping},
	{"presence", 6, (*room).presence},
	{"lists", 6, (*room).lists},
	{"refusals", 6, (*room).refused},
	{"six sub-channels", 3, (*room).six},
	{"read-only flag", 5, (*room).readOnly},
	{"level of the sub-channel", 5, (*room).subLevel},
	{"level of a member", 5, (*room).memberLevel},
	{"other owner", 3, (*room).otherOwner},
	{"kick", 5, (*room).kick},
	{"leave the channel", 4, (*room).quit},
	{"owner override", 4, (*room).override},
	{"rename", 4, (*room).rename},
	{"remove the sub-channel", 4, (*room).removeSub},
	{"logout", 3, (*room).logout},
	{"session that breaks off", 4, (*room).breakOff},
	{"receiver that does not read", 3, (*room).deaf},
}

func (r *room) burst(ctx context.Context) error {
	return r.say(ctx, r.one(), 1+r.s.random.IntN(100), r.s.random.IntN(2*small))
}

// largeCasts are heard by all over several sub-channels, and once each.
func (r *room) largeCasts(ctx context.Context) error {
	for _, sub := range roomSides {
		if err := r.openSub(ctx, sub, r.in()...); err != nil {
			return err
		}
	}
	from := r.one()
	err := errors.Join(
		r.say(ctx, from, 1+r.s.random.IntN(30), large),
		r.say(ctx, from, 1+r.s.random.IntN(6), 10_000+r.s.random.IntN(20_000)),
		r.say(ctx, from, 1+r.s.random.IntN(6), huge-10-r.s.random.IntN(huge/2)),
		r.say(ctx, from, 1+r.s.random.IntN(3), huge))
	for _, g := range r.in() {
		for _, sub := range roomSides {
			err = errors.Join(err, g.run(ctx, r.call("close_sub_ch", "-sub_name", sub)))
		}
	}
	return err
}

func (r *room) together(ctx context.Context) error {
	all := r.in()
	failed := make([]error, len(all))
	times := 1 + r.s.random.IntN(50)
	size := r.s.random.IntN(large)
	var group sync.WaitGroup
	for i, g := range all {
		group.Go(func() { failed[i] = g.cast(ctx, times, size) })
	}
	group.Wait()
	for _, g := range all {
		failed = append(failed, r.heard(ctx, g, r.in(g)...))
	}
	return errors.Join(failed...)
}

// ping asks who is there, also where nobody says so.
func (r *room) ping(ctx context.Context) error {
	by := r.one()
	if err := by.run(ctx, expect{name: "ping_peers"}); err != nil {
		return err
	}
	var missing []wire.SessionID
	for _, g := range r.in(by) {
		missing = append(missing, g.c.Session())
		if err := g.told(ctx, "PEER_INFO of who asks", func(e client.Event) bool {
			peer, ok := e.Value.(*wire.Peer)
			return ok && e.ID == wire.AsyncLimitedCast && e.Type == wire.PeerInfo && peer.Session == by.c.Session() && peer.Name == by.account
		}); err != nil {
			return err
		}
	}
	for len(missing) > 0 {
		if err := by.told(ctx, "PEER_INFO", func(e client.Event) bool {
			peer, ok := e.Value.(*wire.Peer)
			if !ok || e.ID != wire.AsyncLimitedCast || e.Type != wire.PeerInfo {
				return false
			}
			i := slices.Index(missing, peer.Session)
			if i >= 0 {
				missing = slices.Delete(missing, i, i+1)
			}
			return i >= 0
		}); err != nil {
			return err
		}
	}
	if !r.s.one(2) {
		return nil
	}
	if err := r.owner.run(ctx, r.talk("set_active_flag", "-state", "0")); err != nil {
		return err
	}
	return errors.Join(
		by.refusals(ctx, expect{name: "ping_peers", says: "no active sub-channel"}),
		r.owner.run(ctx, r.talk("set_active_flag", "-state", "1")))
}

// seen waits until others are told what a session has open.
func (r *room) seen(ctx context.Context, of wire.SessionID, open, gone bool, by ...*guest) error {
	for _, g := range by {
		if err := toldOf(ctx, g, wire.AsyncLimitedCast, func(p *wire.PeerStatus) bool {
			return p.Session == of && p.Disconnected == gone && slices.Contains(p.Open.Open(), wire.SubRef{Channel: r.id, Sub: r.sub}) == open
		}); err != nil {
			return err
		}
	}
	return nil
}

func (r *room) presence(ctx context.Context) error {
	g := r.one()
	if err := r.amid(ctx, func() error { return g.run(ctx, r.talk("close_sub_ch")) }); err != nil {
		return err
	}
	if err := r.seen(ctx, g.c.Session(), false, false, r.in(g)...); err != nil {
		return err
	}
	from := r.any(r.in(g))
	if err := errors.Join(r.sayNothing(ctx, from, g), r.sayNothing(ctx, g, r.in(g)...)); err != nil {
		return err
	}
	if err := r.open(ctx, g); err != nil {
		return err
	}
	if err := r.seen(ctx, g.c.Session(), true, false, r.in(g)...); err != nil {
		return err
	}
	return r.say(ctx, g, 3, small)
}

func (r *room) lists(ctx context.Context) error {
	g := r.one()
	wants := []expect{
		{name: "ls_chs", says: r.name},
		{name: "find_ch", args: []string{"-name", r.name}, says: "1 row"},
		{name: "find_ch", args: []string{"-id", fmt.Sprint(r.id)}, says: r.name},
		{name: "ls_open_chs", says: roomSub},
		r.call("ls_sub_chs"), r.call("ls_ch_members"), r.call("ls_rdonly_flags"),
	}
	wants[4].says, wants[5].says, wants[6].says = roomSides[0], r.member.account, "0 rows"
	for range 1 + r.s.random.IntN(4) {
		if err := g.run(ctx, wants[r.s.random.IntN(len(wants))]); err != nil {
			return err
		}
	}
	return nil
}

// refused changes nothing.
func (r *room) refused(ctx context.Context) error {
	with := func(want expect, says string) expect {
		want.says = says
		return want
	}
	owner := r.user("set_member_level", "-level", "2")
	owner.args[3] = r.owner.account
	err := r.any(r.of(r.member.account)).refusals(ctx,
		with(r.call("rm_ch"), "takes level"), with(r.call("rename_ch", "-new_name", "another"), "takes level"),
		with(r.talk("rm_sub_ch"), "takes level"), with(r.call("add_sub_ch", "-sub_name", "another"), "takes level"), owner)
	err = errors.Join(err, r.one().refusals(ctx,
		with(r.call("add_ch"), "taken"), with(expect{name: "add_ch", args: []string{"-ch_name", "abc"}}, "shorter"),
		with(r.call("open_sub_ch", "-sub_name", "nothing"), "no such sub-channel")))
	err = errors.Join(err, r.owner.refusals(ctx,
		with(r.talk("add_sub_ch"), "already"), with(r.user("invite_to_ch"), "member"), r.talk("set_sub_ch_level", "-level", "6"),
		with(r.call("remove_ch_member", "-user", r.owner.account), "own the channel"),
		with(r.call("rm_rdonly_flag", "-sub_id", "200", "-level", "4"), "no such read-only flag")))
	// What only the host may say.
	r.s.work.call()
	result, castErr := r.one().c.Do(ctx, client.Request{Command: "cast", Type: wire.MyInfo}, client.Handlers{})
	if castErr == nil && result.Code != wire.InvalidParams {
		castErr = fmt.Errorf("cast of MY_INFO ends with %v", result.Code)
	}
	return errors.Join(err, castErr)
}

// six opens as many sub-channels as a session can have, and one more.
func (r *room) six(ctx context.Context) error {
	g := r.one()
	var more []string
	for i := range wire.MaxOpenSubs - len(roomSides) {
		more = append(more, fmt.Sprintf("more%d", i))
	}
	for _, sub := range more {
		if err := r.owner.run(ctx, r.call("add_sub_ch", "-sub_name", sub)); err != nil {
			return err
		}
	}
	all := append(slices.Clone(roomSides), more...)
	last := all[len(all)-1]
	for _, sub := range all[:len(all)-1] {
		if err := r.openSub(ctx, sub, g); err != nil {
			return err
		}
	}
	tooMany := r.call("open_sub_ch", "-sub_name", last)
	tooMany.code, tooMany.says = wire.ExecutionFail, "which is the most"
	if err := errors.Join(g.run(ctx, tooMany), r.say(ctx, g, 3, small), r.say(ctx, r.any(r.in(g)), 3, small)); err != nil {
		return err
	}
	for _, sub := range roomSides {
		if err := g.run(ctx, r.call("close_sub_ch", "-sub_name", sub)); err != nil {
			return err
		}
	}
	for _, sub := range more { // which closes those that are open
		if err := r.owner.run(ctx, r.call("rm_sub_ch", "-sub_name", sub)); err != nil {
			return err
		}
	}
	return g.run(ctx, expect{name: "ls_open_chs", says: roomSub})
}

// isSub tells of a change of the sub-channel.
func (r *room) isSub(level wire.Level) func(*wire.SubLevel) bool {
	return func(sub *wire.SubLevel) bool { return sub.Channel == r.id && sub.Sub == r.sub && sub.Level == level }
}

// readOnly lets members listen only, for a while.
func (r *room) readOnly(ctx context.Context) error {
	flag := func(name string) expect {
		return r.call(name, "-sub_id", fmt.Sprint(r.sub), "-level", fmt.Sprint(uint8(wire.Regular)))
	}
	if err := amidCall(ctx, r, r.owner, flag("add_rdonly_flag"), wire.AsyncAddRdOnly, r.isSub(wire.Regular)); err != nil {
		return err
	}
	from := r.one()
	if err := r.sayNothing(ctx, from, r.in(from)...); err != nil { // everybody has it closed
		return err
	}
	if err := r.open(ctx, r.in()...); err != nil {
		return err
	}
	member := r.any(r.of(r.member.account))
	err := errors.Join(
		r.owner.refusals(ctx, flag("add_rdonly_flag")),
		r.owner.run(ctx, expect{name: "ls_rdonly_flags", args: []string{"-ch_name", r.name}, says: "1 row"}),
		member.run(ctx, expect{name: "ls_open_chs", says: roomSub}),
		r.sayNothing(ctx, member, r.in(member)...),
		r.say(ctx, r.owner, 5, small))
	if err != nil {
		return err
	}
	if err := amidCall(ctx, r, r.owner, flag("rm_rdonly_flag"), wire.AsyncRmRdOnly, r.isSub(wire.Regular)); err != nil {
		return err
	}
	if err := r.open(ctx, r.in()...); err != nil {
		return err
	}
	return r.say(ctx, member, 5, small)
}

// subLevel shuts members out, for a while.
func (r *room) subLevel(ctx context.Context) error {
	level := func(level wire.Level) error {
		return amidCall(ctx, r, r.owner, r.talk("set_sub_ch_level", "-level", fmt.Sprint(uint8(level))), wire.AsyncSubChLevelChg, r.isSub(level))
	}
	if err := level(wire.Officer); err != nil {
		return err
	}
	inside, outside := r.of(r.owner.account), r.of(r.member.account)
	if err := r.open(ctx, inside...); err != nil {
		return err
	}
	member := r.any(outside)
	err := errors.Join(
		member.refusals(ctx, r.talk("open_sub_ch")),
		r.sayNothing(ctx, member, r.in(member)...),
		r.sayNothing(ctx, r.owner, outside...),
		r.heard(ctx, r.owner, r.in(append(outside, r.owner)...)...))
	if err != nil {
		return err
	}
	if err := level(wire.Regular); err != nil {
		return err
	}
	if err := r.open(ctx, r.in()...); err != nil {
		return err
	}
	return r.say(ctx, member, 5, small)
}

// setLevel gives the member another level. Its sessions have everything closed
// then.
func (r *room) setLevel(ctx context.Context, by *guest, level wire.Level) error {
	return amidCall(ctx, r, by, r.user("set_member_level", "-level", fmt.Sprint(uint8(level))), wire.AsyncMemLevelChg,
		func(m *wire.MemberLevel) bool { return m.Channel == r.id && m.Level == level })
}

func (r *room) memberLevel(ctx context.Context) error {
	level := wire.Admin
	if r.s.one(2) {
		level = wire.Officer
	}
	if err := r.setLevel(ctx, r.owner, level); err != nil {
		return err
	}
	member := r.any(r.of(r.member.account))
	if err := r.sayNothing(ctx, member, r.in(member)...); err != nil {
		return err
	}
	if err := r.open(ctx, r.of(r.member.account)...); err != nil {
		return err
	}
	if err := r.say(ctx, member, 5, small); err != nil {
		return err
	}
	// An admin may make sub-channels, an officer may not.
	if level == wire.Admin {
		for _, name := range []string{"add_sub_ch", "rm_sub_ch"} {
			if err := member.run(ctx, r.call(name, "-sub_name", "another")); err != nil {
				return err
			}
		}
	} else if err := member.refusals(ctx, r.call("add_sub_ch", "-sub_name", "another")); err != nil {
		return err
	}
	if err := r.setLevel(ctx, r.owner, wire.Regular); err != nil {
		return err
	}
	return r.open(ctx, r.of(r.member.account)...)
}

// otherOwner gives the channel away, and gets it back.
func (r *room) otherOwner(ctx context.Context) error {
	if err := r.setLevel(ctx, r.owner, wire.Owner); err != nil {
		return err
	}
	if err := r.owner.refusals(ctx, r.call("rm_ch")); err != nil {
		return err
	}
	back := r.call("set_member_level", "-user", r.owner.account, "-level", "1")
	if err := amidCall(ctx, r, r.member, back, wire.AsyncMemLevelChg,
		func(m *wire.MemberLevel) bool { return m.Channel == r.id && m.Level == wire.Owner }); err != nil {
		return err
	}
	if err := r.setLevel(ctx, r.owner, wire.Regular); err != nil {
		return err
	}
	if err := r.open(ctx, r.in()...); err != nil {
		return err
	}
	return r.say(ctx, r.one(), 5, small)
}

// out puts the member out, at its own wish or not, and makes sure that it is.
func (r *room) out(ctx context.Context, by *guest) error {
	if err := amidCall(ctx, r, by, r.user("remove_ch_member"), wire.AsyncRmChMember, r.isHere); err != nil {
		return err
	}
	gone := r.of(r.member.account)
	member := r.any(gone)
	return errors.Join(
		member.refusals(ctx, r.talk("open_sub_ch"), r.call("ls_ch_members"), r.call("accept_ch")),
		r.sayNothing(ctx, member, r.in(member)...),
		r.sayNothing(ctx, r.owner, gone...),
		r.heard(ctx, r.owner, r.in(append(gone, r.owner)...)...))
}

// back lets the member in again.
func (r *room) back(ctx context.Context) error {
	if r.s.one(3) {
		if err := r.decline(ctx); err != nil {
			return err
		}
	}
	if err := r.invite(ctx); err != nil {
		return err
	}
	if err := r.open(ctx, r.of(r.member.account)...); err != nil {
		return err
	}
	return r.say(ctx, r.one(), 5, small)
}

func (r *room) kick(ctx context.Context) error {
	if err := r.out(ctx, r.owner); err != nil {
		return err
	}
	return r.back(ctx)
}

func (r *room) quit(ctx context.Context) error {
	if err := r.out(ctx, r.any(r.of(r.member.account))); err != nil {
		return err
	}
	return r.back(ctx)
}

// override lets somebody in who is no member, for a while.
func (r *room) override(ctx context.Context) error {
	if err := r.out(ctx, r.owner); err != nil {
		return err
	}
	g := r.any(r.of(r.member.account))
	override := func(state string) error {
		return g.run(ctx, expect{name: "ch_owner_override", args: []string{"-state", state}})
	}
	if err := override("1"); err != nil {
		return err
	}
	if err := r.open(ctx, g); err != nil {
		return err
	}
	inside := append(r.of(r.owner.account), g)
	if err := errors.Join(
		g.cast(ctx, 5, small), r.heard(ctx, g, r.of(r.owner.account)...),
		r.owner.cast(ctx, 5, small), r.heard(ctx, r.owner, slices.DeleteFunc(inside, func(g *guest) bool { return g == r.owner })...)); err != nil {
		return err
	}
	if err := r.amid(ctx, func() error { return override("0") }); err != nil {
		return err
	}
	if err := errors.Join(
		g.refusals(ctx, r.talk("open_sub_ch")),
		r.sayNothing(ctx, g, r.in(g)...),
		r.sayNothing(ctx, r.owner, r.of(r.member.account)...)); err != nil {
		return err
	}
	return r.back(ctx)
}

// rename renames what everybody has open, which stays open.
func (r *room) rename(ctx context.Context) error {
	channel := func(to string) error {
		from := r.name
		// Whoever fails leaves a name that is removed.
		if err := r.owner.run(ctx, expect{name: "rename_ch", args: []string{"-ch_name", from, "-new_name", to}}); err != nil {
			return err
		}
		r.name = to
		return r.allTold(func(g *guest) error {
			return toldOf(ctx, g, wire.AsyncRenameCh, func(ch *wire.ChannelRenamed) bool { return ch.Channel == r.id && ch.Name == to })
		})
	}
	sub := func(from, to string) error {
		if err := r.owner.run(ctx, r.call("rename_sub_ch", "-sub_name", from, "-new_name", to)); err != nil {
			return err
		}
		return r.allTold(func(g *guest) error {
			return toldOf(ctx, g, wire.AsyncRenameSubCh, func(s *wire.SubRenamed) bool {
				return s.Channel == r.id && s.Sub == r.sub && s.Name == to
			})
		})
	}
	name := r.name
	from := r.one()
	var group sync.WaitGroup
	var castErr error
	group.Go(func() { castErr = from.cast(ctx, 50, small) }) // all of them are heard
	err := channel(name + "x")
	if err == nil {
		err = sub(roomSub, "other")
	}
	if err == nil {
		err = sub("other", roomSub)
	}
	if err == nil {
		err = channel(name)
	}
	group.Wait()
	if err := errors.Join(err, castErr); err != nil {
		return err
	}
	return r.heard(ctx, from, r.in(from)...)
}

// removeSub removes what everybody has open, and makes it again.
func (r *room) removeSub(ctx context.Context) error {
	if err := amidCall(ctx, r, r.owner, r.talk("rm_sub_ch"), wire.AsyncRmSubCh, func(sub *wire.SubRef) bool {
		return sub.Channel == r.id && sub.Sub == r.sub
	}); err != nil {
		return err
	}
	from := r.one()
	if err := errors.Join(r.sayNothing(ctx, from, r.in(from)...), from.refusals(ctx, r.talk("open_sub_ch"))); err != nil {
		return err
	}
	if err := r.addSub(ctx); err != nil {
		return err
	}
	if err := r.open(ctx, r.in()...); err != nil {
		return err
	}
	return r.say(ctx, from, 5, small)
}

// logout leaves the room without leaving the host.
func (r *room) logout(ctx context.Context) error {
	g := r.one()
	if err := r.amidCasts(ctx, r.any(r.in(g)), func() error { return g.run(ctx, expect{name: "logout"}) }); err != nil {
		return err
	}
	if err := r.seen(ctx, g.c.Session(), false, true, r.in(g)...); err != nil {
		return err
	}
	if err := r.sayNothing(ctx, r.any(r.in(g)), g); err != nil {
		return err
	}
	if err := g.login(ctx, raw.Account{Name: g.account, Password: password}); err != nil {
		return err
	}
	if err := r.open(ctx, g); err != nil {
		return err
	}
	return r.say(ctx, g, 5, small)
}

// breakOff lets a session end while it is cast to and casts itself.
func (r *room) breakOff(ctx context.Context) error {
	g, err := r.s.enter(ctx, r.one().account, 'x')
	if err != nil {
		return err
	}
	defer g.c.Close()
	if err := r.open(ctx, g); err != nil {
		return err
	}
	const times = 30
	g.said = r.broke
	r.broke += times
	for _, other := range r.in() {
		other.ear.loosen(g.letter, r.broke)
	}
	from := r.one()
	size := []int{small, large, huge}[r.s.random.IntN(3)]
	var group sync.WaitGroup
	var castErr error
	group.Go(func() { castErr = from.cast(ctx, times, size) })
	if r.s.one(2) {
		group.Go(func() { _ = g.cast(ctx, times, small) }) // how far it gets nobody knows
	}
	g.leave(!r.s.one(3))
	group.Wait()
	if castErr != nil {
		return castErr
	}
	if err := r.heard(ctx, from, r.in(from)...); err != nil {
		return err
	}
	if err := r.seen(ctx, g.c.Session(), false, true, r.in()...); err != nil {
		return err
	}
	_, err = g.ear.state()
	return err
}

// deaf lets somebody listen who reads little, and leaves, or nothing, and who has
// all of it when it does. Others hear everything.
func (r *room) deaf(ctx context.Context) error {
	p, err := raw.Dial(ctx, r.s.addr)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Enlist(raw.Account{Name: UserName(r.s.number), Password: password}); err != nil {
		return err
	}
	if err := p.Run("open_sub_ch", strings.Join(r.talk("").args, " ")); err != nil {
		return err
	}
	from := r.one()
	last := newEar()
	last.loosen(from.letter, from.said)
	times := 10 + r.s.random.IntN(110) // more than the buffers of the system hold, or less
	if r.s.one(2) {                    // within it
		var group sync.WaitGroup
		var castErr error
		group.Go(func() { castErr = from.cast(ctx, times, huge) })
		sip := make([]byte, 512)
		for range r.s.random.IntN(10) { // in any state of the host's queue
			if _, err := p.Conn.Read(sip); err != nil {
				break
			}
		}
		r.s.part(p)
		group.Wait()
		if castErr != nil {
			return castErr
		}
		return r.heard(ctx, from, r.in(from)...)
	}
	if err := r.say(ctx, from, times, huge); err != nil {
		return err
	}
	p.Renew()
	for count := 0; count < times; {
		f, err := p.Next()
		if err != nil {
			return fmt.Errorf("heard %d of %d casts late: %w", count, times, err)
		}
		if f.Cmd == wire.CmdID(wire.AsyncCast) {
			last.take(f.Type, f.Payload)
			count++
		}
	}
	r.s.part(p)
	count, wrong := last.state()
	r.s.work.add("casts heard late", count)
	return wrong
}
