package hub_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/wire"
)

// What clients get of a change, and who does.
func TestChanges(t *testing.T) {
	w := newWorld(t)
	room := channel.Channel{ID: 1, Name: "room"}
	talk := w.sub(1, 0, false)
	owner, user, holder, other := w.guest(1, 1), w.guest(2), w.guest(3), w.guest(4, 2)
	opened := func(g *guest) bool {
		open, _ := w.OpenSubs(g.id)
		return open[0] == talk
	}
	for _, step := range []struct {
		id      wire.AsyncID
		payload wire.Payload
		change  channel.Change
		hear    []*guest
		as      string
		closes  []*guest
	}{
		{wire.AsyncInvitedToCh, &wire.Member{Channel: 1}, member(1, 2), []*guest{owner, user}, "INVITED_TO_CH CH_MEMBER_INFO", nil},
		{wire.AsyncNewSubCh, &wire.SubAdded{Channel: 1}, channel.SubChange{Channel: room}, []*guest{owner}, "NEW_SUB_CH BYTES", nil},
		{wire.AsyncInviteAccepted, &wire.Member{Channel: 1}, member(1, 2), []*guest{owner, user}, "INVITE_ACCEPTED CH_MEMBER_INFO", nil},
		{wire.AsyncRenameSubCh, &wire.SubRenamed{Channel: 1}, channel.SubChange{Channel: room}, []*guest{owner, user}, "RENAME_SUB_CH BYTES", nil},
		{wire.AsyncRenameCh, &wire.ChannelRenamed{Channel: 1}, channel.ChannelChange{Channel: room}, []*guest{owner, user}, "RENAME_CH BYTES", nil},
		{wire.AsyncChActFlag, &wire.SubRef{Channel: 1}, channel.SubChange{Channel: room}, nil, "", nil},
		{wire.AsyncMemLevelChg, &wire.MemberLevel{Channel: 1}, member(1, 2), []*guest{owner, user}, "MEM_LEVEL_CHANGED BYTES", []*guest{user}},
		{wire.AsyncSubChLevelChg, &wire.SubLevel{Channel: 1}, channel.SubChange{Channel: room}, []*guest{owner, user, holder}, "SUB_CH_LEVEL_CHG BYTES", []*guest{owner, user, holder}},
		{wire.AsyncAddRdOnly, &wire.SubLevel{Channel: 1}, channel.FlagChange{Channel: room}, []*guest{owner, user, holder}, "ADD_RDONLY BYTES", []*guest{owner, user, holder}},
		{wire.AsyncRmRdOnly, &wire.SubLevel{Channel: 1}, channel.FlagChange{Channel: room}, []*guest{owner, user, holder}, "RM_RDONLY BYTES", []*guest{owner, user, holder}},
		{wire.AsyncRmSubCh, &wire.SubRef{Channel: 1}, channel.SubChange{Channel: room}, []*guest{owner, user, holder}, "RM_SUB_CH BYTES", []*guest{owner, user, holder}},
		{wire.AsyncRmChMember, &wire.MemberRemoved{Channel: 1}, member(1, 2), []*guest{owner, user}, "RM_CH_MEMBER BYTES", []*guest{user}},
		{wire.AsyncDelCh, &wire.ChannelRef{Channel: 1}, channel.ChannelChange{Channel: room}, []*guest{owner, user, holder}, "DEL_CH CH_ID", []*guest{owner, user, holder}},
		{wire.AsyncNewChMember, &wire.Member{Channel: 1}, member(1, 4), []*guest{other}, "NEW_CH_MEMBER CH_MEMBER_INFO", nil},
	} {
		for _, g := range []*guest{owner, user, holder} {
			w.open(g, talk)
			g.news()
		}
		w.change(step.id, step.payload, step.change)
		for _, g := range []*guest{owner, user, holder, other} {
			var want []string
			for _, who := range step.hear {
				if who == g {
					want = append(want, step.as)
				}
			}
			g.heard(step.id.String(), want...)
			closes := g == other // it never opened it
			for _, who := range step.closes {
				closes = closes || who == g
			}
			if opened(g) == closes {
				t.Errorf("%v: session %d has it open: %v", step.id, g.id[0], !closes)
			}
		}
	}
}

// Who becomes a member keeps what is open to the public, with the rights of a
// member.
func TestJoined(t *testing.T) {
	w := newWorld(t)
	talk, other := w.sub(1, 0, true), w.sub(2, 0, true)
	w.rights.change(func() { w.rights.flags = map[wire.Level]bool{wire.Regular: true} })
	a, b := w.guest(1), w.guest(2)
	w.open(a, talk, other)
	w.open(b, talk, other)
	a.news()
	cast := func() { w.Cast(a.id, wire.Text, []byte("x")) }
	cast()
	b.heard("as the public", `cast "x"`)
	accept := func() error {
		done, err := w.Turn(t.Context())
		if err != nil {
			return err
		}
		defer done()
		w.rights.change(func() { w.rights.levels[userID(1)] = wire.Regular })
		return w.Changed(t.Context(), wire.AsyncInviteAccepted, &wire.Member{Channel: 1}, member(1, 1))
	}
	if err := accept(); err != nil {
		t.Fatal(err)
	}
	if open, writable := w.OpenSubs(a.id); open[0] != talk || writable[0] != (wire.SubRef{}) || writable[1] != other {
		t.Errorf("as a member: open %v, writable %v", open, writable)
	}
	a.heard("a member", "INVITE_ACCEPTED CH_MEMBER_INFO")

	// An opening that has begun as the public ends as that of a member.
	if err := w.Close(t.Context(), a.id, talk); err != nil {
		t.Error(err)
	}
	w.rights.change(func() { delete(w.rights.levels, userID(1)) })
	read, release := make(chan struct{}), make(chan struct{})
	w.rights.read = sync.OnceFunc(func() {
		close(read)
		<-release
	})
	opened := make(chan error, 1)
	go func() {
		_, err := w.Open(t.Context(), a.id, talk)
		opened <- err
	}()
	<-read
	accepted := make(chan error, 1)
	go func() { accepted <- accept() }()
	a.door.WaitFor(a.seen + 1) // the index knows the member
	close(release)
	for _, done := range []chan error{opened, accepted} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if _, writable := w.OpenSubs(a.id); writable[1] != other || writable[0] != (wire.SubRef{}) {
		t.Errorf("as a member: writable %v", writable)
	}

	// What cannot be judged closes, and the change says so.
	b.news()
	w.rights.change(func() { w.rights.failing = errDisk })
	if err := accept(); !errors.Is(err, errDisk) {
		t.Errorf("error: %v", err)
	}
	b.heard("what could not be judged", "1 has 2.0")
	w.bus.fail = errDisk
	if err := accept(); !errors.Is(err, errDisk) {
		t.Errorf("error of the bus: %v", err)
	}
}

func TestDeparted(t *testing.T) {
	w := newWorld(t)
	talk, other := w.sub(1, 0, true), w.sub(2, 0, true)
	gone, a, b := w.guest(1, 1, 2), w.guest(2, 1), w.guest(3, 2)
	w.open(gone, talk, other)
	w.open(a, talk)
	w.open(b, other)
	gone.news()
	a.news()
	b.news()
	done, err := w.Turn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Departed(t.Context(), userID(1), []account.Departure{{Channel: 1}, {Channel: 2}}); err != nil {
		t.Error(err)
	}
	a.heard("in the turn", "RM_CH_MEMBER BYTES")
	b.heard("in the turn", "RM_CH_MEMBER BYTES")
	done()
	a.heard("behind the turn", "1 has")
	b.heard("behind the turn", "1 has") // once, though it was there for both changes
	if open, _ := w.OpenSubs(gone.id); open != (wire.SubList{}) {
		t.Errorf("open: %v", open)
	}
}

// A change that the hub does not know is a mistake of ours, and says so.
func TestUnknownChange(t *testing.T) {
	w := newWorld(t)
	for _, c := range []channel.Change{channel.MemberChange{}, channel.SubChange{}, nil} {
		err := w.Changed(t.Context(), wire.AsyncCast, &wire.ChannelRef{}, c)
		wantErr(t, "change", err, "no such change")
	}
}

// One changes at a time, whoever gives up meanwhile.
func TestTurns(t *testing.T) {
	w := newWorld(t)
	var (
		group sync.WaitGroup
		in    atomic.Int32
		taken atomic.Int32
	)
	for n := range 16 {
		group.Go(func() {
			for i := range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				if (n+i)%3 == 0 {
					go cancel()
				}
				done, err := w.Turn(ctx)
				if err == nil {
					if in.Add(1) != 1 {
						t.Error("two at a time")
					}
					taken.Add(1)
					in.Add(-1)
					done()
				} else if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	group.Wait()
	if taken.Load() == 0 {
		t.Error("nobody had a turn")
	}
	done, err := w.Turn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done()
}
