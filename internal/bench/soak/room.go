package soak

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/wire"
)

// This file has the channel of a client of a soak, and who is in it: how it is
// made, filled, used by steps and removed.

// meetingCommands are those that the accounts of a lower rank need to meet
// others.
var meetingCommands = []string{
	"add_ch", "rm_ch", "rename_ch", "find_ch", "ls_chs", "ls_sub_chs", "invite_to_ch", "accept_ch", "decline_ch",
	"remove_ch_member", "set_member_level", "ls_ch_members", "ch_owner_override",
	"add_sub_ch", "rm_sub_ch", "rename_sub_ch", "set_sub_ch_level", "set_active_flag", "add_rdonly_flag", "rm_rdonly_flag",
	"ls_rdonly_flags", "open_sub_ch", "close_sub_ch", "ls_open_chs", "cast", "ping_peers",
	"p2p_request", "p2p_open", "p2p_close", "to_peer", "ls_p2p",
}

// The sub-channel that everybody in a room has open between two steps, and
// others that a step opens. The host counts a receiver once for each that it
// shares with a sender, and from three on it lets them share memory.
const roomSub = "talk"

var roomSides = []string{"side1", "side2"}

func roomName(n int) string { return fmt.Sprintf("room-%03d", n) }

// room is a channel, with who is in it.
type room struct {
	s      *soaker
	name   string
	id     wire.ChannelID
	sub    wire.SubID // of roomSub
	owner  *guest
	member *guest
	third  *guest // another session of one of both; nil: there is none
	broke  uint64 // what sessions have said that broke off, at most
}

// in returns everybody but those who are given.
func (r *room) in(but ...*guest) []*guest {
	all := []*guest{r.owner, r.member}
	if r.third != nil {
		all = append(all, r.third)
	}
	return slices.DeleteFunc(all, func(g *guest) bool { return slices.Contains(but, g) })
}

// of returns the sessions of an account.
func (r *room) of(name string) []*guest {
	return slices.DeleteFunc(r.in(), func(g *guest) bool { return g.account != name })
}

// one returns one of the guests.
func (r *room) one() *guest { return r.any(r.in()) }

func (r *room) any(of []*guest) *guest { return of[r.s.random.IntN(len(of))] }

// call is a call about the channel.
func (r *room) call(name string, args ...string) expect {
	return expect{name: name, args: append([]string{"-ch_name", r.name}, args...)}
}

// talk is a call about the sub-channel.
func (r *room) talk(name string, args ...string) expect {
	return r.call(name, append([]string{"-sub_name", roomSub}, args...)...)
}

// user is a call about the account of the member.
func (r *room) user(name string, args ...string) expect {
	return r.call(name, append([]string{"-user", r.member.account}, args...)...)
}

// open opens the sub-channel for some: from now on they hear everything.
func (r *room) open(ctx context.Context, some ...*guest) error {
	return r.openSub(ctx, roomSub, some...)
}

func (r *room) openSub(ctx context.Context, sub string, some ...*guest) error {
	for _, g := range some {
		for _, other := range r.in(g) {
			g.ear.loosen(other.letter, other.said)
		}
		if err := g.run(ctx, r.call("open_sub_ch", "-sub_name", sub)); err != nil {
			return err
		}
	}
	return nil
}

// say casts, and makes sure that all others hear it.
func (r *room) say(ctx context.Context, from *guest, times, size int) error {
	if err := from.cast(ctx, times, size); err != nil {
		return err
	}
	return r.heard(ctx, from, r.in(from)...)
}

func (r *room) heard(ctx context.Context, from *guest, by ...*guest) error {
	for _, g := range by {
		if err := g.ear.heard(ctx, from.letter, from.said); err != nil {
			return err
		}
	}
	return nil
}

// sayNothing casts what some must not hear.
func (r *room) sayNothing(ctx context.Context, from *guest, to ...*guest) error {
	const times = 5
	for _, g := range to {
		g.ear.bar(from.letter, from.said+1, from.said+times)
	}
	return from.cast(ctx, times, small)
}

// amid makes a change while somebody casts: nobody knows how much of that is
// heard.
func (r *room) amid(ctx context.Context, change func() error) error {
	return r.amidCasts(ctx, r.one(), change)
}

func (r *room) amidCasts(ctx context.Context, from *guest, change func() error) error {
	times := 10 + r.s.random.IntN(50)
	for _, g := range r.in(from) {
		g.ear.loosen(from.letter, from.said+uint64(times))
	}
	var group sync.WaitGroup
	var castErr error
	group.Go(func() { castErr = from.cast(ctx, times, small) })
	err := change()
	group.Wait()
	return errors.Join(err, castErr)
}

// amidCall is amid with a call that everybody is told of.
func amidCall[P wire.Payload](ctx context.Context, r *room, by *guest, want expect, id wire.AsyncID, is func(P) bool) error {
	if err := r.amid(ctx, func() error { return by.run(ctx, want) }); err != nil {
		return err
	}
	return r.allTold(func(g *guest) error { return toldOf(ctx, g, id, is) })
}

func (r *room) allTold(told func(*guest) error) error {
	for _, g := range r.in() {
		if err := told(g); err != nil {
			return fmt.Errorf("%s: %w", g.account, err)
		}
	}
	return nil
}

func (s *soaker) withRoom(ctx context.Context, do func(*room) error) error {
	r := &room{s: s, name: roomName(s.number)}
	var err error
	if r.owner, err = s.enter(ctx, bossName(s.number), 'o'); err != nil {
		return err
	}
	defer r.owner.c.Close()
	if r.member, err = s.enter(ctx, UserName(s.number), 'm'); err != nil {
		return err
	}
	defer r.member.c.Close()
	err = r.furnish(ctx)
	if r.third != nil {
		defer r.third.c.Close()
	}
	if err == nil {
		err = do(r)
	}
	if err == nil {
		err = r.remove(ctx)
	}
	if err != nil { // it must not be in the way of the next one
		return errors.Join(err, s.clear(ctx))
	}
	return nil
}

// furnish makes the channel, and lets everybody in.
func (r *room) furnish(ctx context.Context) error {
	boss := r.owner
	if err := boss.run(ctx, r.call("add_ch")); err != nil {
		return err
	}
	if err := toldOf(ctx, boss, wire.AsyncNewChMember, func(m *wire.Member) bool {
		r.id = m.Channel
		return m.ChannelName == r.name && m.Name == boss.account && m.Level == wire.Owner && !m.Invite
	}); err != nil {
		return err
	}
	if err := r.addSub(ctx); err != nil {
		return err
	}
	for _, sub := range roomSides {
		if err := boss.run(ctx, r.call("add_sub_ch", "-sub_name", sub)); err != nil {
			return err
		}
	}
	if r.s.one(3) {
		if err := r.decline(ctx); err != nil {
			return err
		}
	}
	if err := r.invite(ctx); err != nil {
		return err
	}
	if !r.s.one(3) {
		var err error
		if r.third, err = r.s.enter(ctx, r.any(r.in()).account, 't'); err != nil {
			return err
		}
	}
	return r.open(ctx, r.in()...)
}

// addSub makes the sub-channel, with presence.
func (r *room) addSub(ctx context.Context) error {
	if err := r.owner.run(ctx, r.talk("add_sub_ch")); err != nil {
		return err
	}
	if err := toldOf(ctx, r.owner, wire.AsyncNewSubCh, func(sub *wire.SubAdded) bool {
		r.sub = sub.Sub
		return sub.Channel == r.id && sub.Name == roomSub && sub.Level == wire.Regular
	}); err != nil {
		return err
	}
	return r.owner.run(ctx, r.talk("set_active_flag", "-state", "1"))
}

func (r *room) asks(ctx context.Context) error {
	r.member.forget()
	if err := r.owner.run(ctx, r.user("invite_to_ch")); err != nil {
		return err
	}
	return toldOf(ctx, r.member, wire.AsyncInvitedToCh, func(m *wire.Member) bool {
		return m.Channel == r.id && m.ChannelName == r.name && m.Name == r.member.account && m.Invite && m.Level == wire.Regular
	})
}

func (r *room) invite(ctx context.Context) error {
	if err := r.asks(ctx); err != nil {
		return err
	}
	again := r.user("invite_to_ch")
	again.says = "invited"
	if err := r.owner.refusals(ctx, again); err != nil {
		return err
	}
	if err := r.member.run(ctx, r.call("accept_ch")); err != nil {
		return err
	}
	return toldOf(ctx, r.owner, wire.AsyncInviteAccepted, func(m *wire.Member) bool {
		return m.Channel == r.id && m.Name == r.member.account && !m.Invite && m.Level == wire.Regular
	})
}

// decline ends an invite from either side.
func (r *room) decline(ctx context.Context) error {
	if err := r.asks(ctx); err != nil {
		return err
	}
	by, want := r.member, r.call("decline_ch")
	if r.s.one(2) {
		by, want = r.owner, r.user("remove_ch_member")
	}
	if err := by.run(ctx, want); err != nil {
		return err
	}
	if err := toldOf(ctx, r.owner, wire.AsyncRmChMember, r.isHere); err != nil {
		return err
	}
	none := r.call("accept_ch")
	none.says = "no pending invite"
	return r.member.refusals(ctx, none)
}

func (r *room) isHere(m *wire.MemberRemoved) bool { return m.Channel == r.id }

// remove removes the channel under casts.
func (r *room) remove(ctx context.Context) error {
	if err := amidCall(ctx, r, r.owner, r.call("rm_ch"), wire.AsyncDelCh, func(ch *wire.ChannelRef) bool { return ch.Channel == r.id }); err != nil {
		return err
	}
	from := r.one()
	if err := r.sayNothing(ctx, from, r.in(from)...); err != nil {
		return err
	}
	for _, g := range r.in() {
		// Its answer comes behind every cast.
		if err := g.run(ctx, expect{name: "ls_open_chs", says: "channel_name"}); err != nil {
			return err
		}
		g.leave(r.s.one(2))
		count, wrong := g.ear.state()
		if wrong != nil {
			return wrong
		}
		r.s.work.add("casts heard", count)
	}
	return nil
}

// clear removes what a room has left behind that has not been removed as it
// should.
func (s *soaker) clear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Patience)
	defer cancel()
	v, err := visitHost(ctx, s.addr, s.work)
	if err != nil {
		return err
	}
	defer v.c.Close()
	if err := v.login(ctx, raw.Account{Name: bossName(s.number), Password: password}); err != nil {
		return err
	}
	if err := v.run(ctx, expect{name: "ch_owner_override", args: []string{"-state", "1"}}); err != nil {
		return err
	}
	for _, name := range []string{roomName(s.number), roomName(s.number) + "x"} {
		_, failed := v.c.Run(ctx, "rm_ch", []string{"-ch_name", name}, client.Handlers{}) // whether it is there or not
		err = errors.Join(err, failed)
	}
	return err
}
