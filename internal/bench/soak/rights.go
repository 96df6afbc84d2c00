package soak

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/wire"
)

// This file has steps that change who may do what in a channel, or what it is
// called, under the casts of those who are in it.

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
