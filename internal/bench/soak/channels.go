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

// This file has what sessions of a soak do in channels: casts and
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
