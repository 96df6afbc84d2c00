package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/internal/access"
	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/internal/names"
	"mrci.dev/mrci/wire"
)

// Channels is a store of channels and of the accounts that they refer to.
type Channels interface {
	account.Store
	channel.Store
}

// RunChannels runs the part of the suite about channels.
func RunChannels(t *testing.T, open func(t *testing.T) Channels) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, Channels)
	}{
		{"channels", testChannel},
		{"members", testChannelMembers},
		{"sub-channels and flags", testSubChannels},
		{"what is removed", testChannelRemoved},
		{"account removed", testMemberRemoved},
		{"facts", testFacts},
		{"pages", testChannelPages},
		{"errors undo and are passed on", testChannelUndo},
		{"hostile texts", testChannelHostile},
		{"transactions do not mix", testChannelIsolation},
		{"cancelled context", testChannelCancelled},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, open(t)) })
	}
}

func update(t *testing.T, s channel.Store, do func(tx channel.Tx) error) {
	t.Helper()
	if err := s.Update(ctx, do); err != nil {
		t.Fatal(err)
	}
}

func view(t *testing.T, s channel.Store, do func(r channel.Reader) error) {
	t.Helper()
	if err := s.View(ctx, do); err != nil {
		t.Fatal(err)
	}
}

// mustAdd stores channels with these names and owners, in turn.
func mustAdd(t *testing.T, s channel.Store, pairs ...string) (ids []wire.ChannelID) {
	t.Helper()
	update(t, s, func(tx channel.Tx) error {
		for i := 0; i < len(pairs); i += 2 {
			ch, err := tx.AddChannel(pairs[i])
			if err != nil {
				return err
			}
			ids = append(ids, ch)
			if err := tx.PutMember(ch, plain(pairs[i+1]).ID, access.Standing{Level: wire.Owner}); err != nil {
				return err
			}
		}
		return nil
	})
	return ids
}

func testChannel(t *testing.T, s Channels) {
	mustCreate(t, s, plain("ann"))
	ids := mustAdd(t, s, "Äther", "ann", "Room", "ann")
	if ids[0] == 0 || ids[1] <= ids[0] {
		t.Fatalf("ids %v", ids)
	}
	find := func(name string) (ch channel.Channel, err error) {
		for _, in := range []func(func(channel.Reader) error) error{
			func(do func(channel.Reader) error) error { return s.View(ctx, do) },
			func(do func(channel.Reader) error) error {
				return s.Update(ctx, func(tx channel.Tx) error { return do(tx) })
			},
		} {
			err = in(func(r channel.Reader) (err error) {
				ch, err = r.Channel(names.Fold(name))
				return err
			})
		}
		return ch, err
	}
	if ch, err := find("äTHER"); err != nil || ch != (channel.Channel{ID: ids[0], Name: "Äther"}) {
		t.Errorf("got %+v, %v", ch, err)
	}
	if _, err := find("nowhere"); err != channel.ErrNoChannel {
		t.Errorf("got %v, want ErrNoChannel", err)
	}
	update(t, s, func(tx channel.Tx) error { return tx.RenameChannel(ids[1], "ROOM-2") })
	if ch, err := find("room-2"); err != nil || ch != (channel.Channel{ID: ids[1], Name: "ROOM-2"}) {
		t.Errorf("got %+v, %v", ch, err)
	}
	if _, err := find("room"); err != channel.ErrNoChannel {
		t.Errorf("got %v, want ErrNoChannel", err)
	}
	// Two of one name are the error of a bug: it is no rule, and undoes.
	for what, do := range map[string]func(tx channel.Tx) error{
		"add":    func(tx channel.Tx) error { _, err := tx.AddChannel("ÄTHER"); return err },
		"rename": func(tx channel.Tx) error { return tx.RenameChannel(ids[1], "äther") },
	} {
		err := s.Update(ctx, do)
		if _, rule := errors.AsType[*channel.RuleError](err); err == nil || rule {
			t.Errorf("%s: got %v", what, err)
		}
	}
	// The id of the newest channel is not used again.
	update(t, s, func(tx channel.Tx) error { return tx.RemoveChannel(ids[1]) })
	if again := mustAdd(t, s, "Room", "ann"); again[0] <= ids[1] {
		t.Errorf("id %d after %d", again[0], ids[1])
	}
	// What is not there is no error.
	update(t, s, func(tx channel.Tx) error {
		return errors.Join(tx.RemoveChannel(999), tx.RenameChannel(999, "x"), tx.RemoveMember(999, plain("ann").ID), tx.RemoveSubChannel(999, 1))
	})
}

func testChannelMembers(t *testing.T, s Channels) {
	ann, bob, cyd := plain("ann"), Record("bob"), plain("cyd")
	mustCreate(t, s, ann, bob, cyd)
	ch := mustAdd(t, s, "Room", "ann")[0]
	invite := access.Standing{Level: wire.Regular, Pending: true}
	update(t, s, func(tx channel.Tx) error {
		return errors.Join(tx.PutMember(ch, bob.ID, invite), tx.PutMember(ch, cyd.ID, access.Standing{Level: wire.Admin}))
	})
	check := func(wantMembers []wire.UserID, wantInvited []channel.User) {
		t.Helper()
		update(t, s, func(tx channel.Tx) error {
			members, err1 := tx.Audience(ch)
			invited, err2 := tx.Invited(ch)
			n, err3 := tx.InviteCount(ch)
			if diff := cmp.Diff(wantMembers, members) + cmp.Diff(wantInvited, invited); diff != "" || n != len(wantInvited) {
				t.Errorf("%d invites: %s", n, diff)
			}
			return errors.Join(err1, err2, err3)
		})
	}
	bobUser := channel.User{ID: bob.ID, Name: "bob", Display: "The bob"}
	check([]wire.UserID{ann.ID, cyd.ID}, []channel.User{bobUser})
	update(t, s, func(tx channel.Tx) error {
		owner, err := tx.Owner(ch)
		if err != nil || owner != (channel.User{ID: ann.ID, Name: "ann"}) {
			t.Errorf("owner %+v, %v", owner, err)
		}
		got, locked, err := tx.Caller(bob.ID)
		if err != nil || got != bobUser || !locked {
			t.Errorf("caller %+v, %v, %v", got, locked, err)
		}
		if _, locked, err = tx.Caller(ann.ID); err != nil || locked {
			t.Errorf("caller locked %v, %v", locked, err)
		}
		if _, _, err := tx.Caller(wire.UserID{9}); err != channel.ErrCallerGone {
			t.Errorf("got %v, want ErrCallerGone", err)
		}
		if got, err := tx.User("bob"); err != nil || got != bobUser {
			t.Errorf("user %+v, %v", got, err)
		}
		if _, err := tx.User("nobody"); err != channel.ErrNoUser {
			t.Errorf("got %v, want ErrNoUser", err)
		}
		for user, want := range map[wire.UserID]access.Standing{ann.ID: {Level: 1}, bob.ID: invite, cyd.ID: {Level: 2}, {9}: {}} {
			if got, err := tx.Standing(ch, user); err != nil || got != want {
				t.Errorf("standing %+v, %v", got, err)
			}
		}
		for user, want := range map[wire.UserID][2]int{ann.ID: {1, 0}, bob.ID: {0, 1}, {9}: {0, 0}} {
			if channels, invites, err := tx.Counts(user); err != nil || [2]int{channels, invites} != want {
				t.Errorf("counts %d, %d, %v", channels, invites, err)
			}
		}
		return nil
	})
	// A second owner, an owner who is invited, and who has no account.
	for what, do := range map[string]func(tx channel.Tx) error{
		"second owner": func(tx channel.Tx) error { return tx.PutMember(ch, cyd.ID, access.Standing{Level: wire.Owner}) },
		"invited admin": func(tx channel.Tx) error {
			return tx.PutMember(ch, cyd.ID, access.Standing{Level: wire.Admin, Pending: true})
		},
		"level 5": func(tx channel.Tx) error { return tx.PutMember(ch, cyd.ID, access.Standing{Level: wire.Public}) },
		"level 0": func(tx channel.Tx) error { return tx.PutMember(ch, cyd.ID, access.Standing{}) },
		"no account": func(tx channel.Tx) error {
			return tx.PutMember(ch, wire.UserID{9}, access.Standing{Level: wire.Regular})
		},
		"no channel": func(tx channel.Tx) error { return tx.PutMember(999, cyd.ID, access.Standing{Level: wire.Regular}) },
	} {
		if err := s.Update(ctx, do); err == nil {
			t.Errorf("%s: stored", what)
		}
	}
	check([]wire.UserID{ann.ID, cyd.ID}, []channel.User{bobUser})
	update(t, s, func(tx channel.Tx) error {
		return errors.Join(
			tx.PutMember(ch, ann.ID, access.Standing{Level: wire.Admin}),
			tx.PutMember(ch, cyd.ID, access.Standing{Level: wire.Owner}),
			tx.PutMember(ch, bob.ID, access.Standing{Level: wire.Regular}))
	})
	check([]wire.UserID{ann.ID, bob.ID, cyd.ID}, nil)
	update(t, s, func(tx channel.Tx) error { return tx.RemoveMember(ch, ann.ID) })
	check([]wire.UserID{bob.ID, cyd.ID}, nil)

	// Memberships and invites come in their order.
	more := mustAdd(t, s, "Second", "ann", "Third", "ann")
	update(t, s, func(tx channel.Tx) error {
		return errors.Join(tx.PutMember(more[0], cyd.ID, invite), tx.PutMember(more[1], cyd.ID, access.Standing{Level: wire.Officer}))
	})
	want := []channel.Membership{
		{Channel: channel.Channel{ID: ch, Name: "Room"}, Level: wire.Owner},
		{Channel: channel.Channel{ID: more[0], Name: "Second"}, Level: wire.Regular, Pending: true},
		{Channel: channel.Channel{ID: more[1], Name: "Third"}, Level: wire.Officer},
	}
	view(t, s, func(r channel.Reader) error {
		got, err := r.Memberships(cyd.ID, 0, 4)
		if diff := cmp.Diff(want, got.Rows); diff != "" || got.Total != 3 || got.More {
			t.Errorf("of %d: %s", got.Total, diff)
		}
		return err
	})
}

func testSubChannels(t *testing.T, s Channels) {
	mustCreate(t, s, plain("ann"))
	ids := mustAdd(t, s, "Room", "ann", "Other", "ann")
	first := channel.SubChannel{ID: 0, Name: "First", Lowest: wire.Owner, Active: true}
	last := channel.SubChannel{ID: 255, Name: "Läst", Lowest: wire.Public}
	update(t, s, func(tx channel.Tx) error {
		return errors.Join(tx.PutSubChannel(ids[0], last), tx.PutSubChannel(ids[0], first), tx.PutSubChannel(ids[1], first))
	})
	update(t, s, func(tx channel.Tx) error {
		if got, err := tx.SubIDs(ids[0]); err != nil || !slices.Equal(got, []wire.SubID{0, 255}) {
			t.Errorf("ids %v, %v", got, err)
		}
		if got, err := tx.SubChannel(ids[0], names.Fold("LÄST")); err != nil || got != last {
			t.Errorf("got %+v, %v", got, err)
		}
		if _, err := tx.SubChannel(ids[1], names.Fold("LÄST")); err != channel.ErrNoSubChannel {
			t.Errorf("got %v, want ErrNoSubChannel", err)
		}
		if name, err := tx.SubName(ids[0], 255); err != nil || name != "Läst" {
			t.Errorf("got %q, %v", name, err)
		}
		if _, err := tx.SubName(ids[0], 1); err != channel.ErrNoSubChannel {
			t.Errorf("got %v, want ErrNoSubChannel", err)
		}
		for _, want := range []bool{true, false} {
			if added, err := tx.AddFlag(ids[0], channel.Flag{Sub: 255, Level: 5}); err != nil || added != want {
				t.Errorf("added %v, %v", added, err)
			}
		}
		_, err1 := tx.AddFlag(ids[0], channel.Flag{Sub: 0, Level: 2})
		_, err2 := tx.AddFlag(ids[0], channel.Flag{Sub: 7, Level: 5})
		return errors.Join(err1, err2)
	})
	flags := func(public bool) (list []channel.Flag) {
		view(t, s, func(r channel.Reader) error {
			page, err := r.Flags(ids[0], public, 0, 10)
			list = page.Rows
			return err
		})
		return list
	}
	if got := flags(false); !slices.Equal(got, []channel.Flag{{Sub: 255, Level: 5}, {Sub: 0, Level: 2}, {Sub: 7, Level: 5}}) {
		t.Errorf("flags %v", got)
	}
	if got := flags(true); !slices.Equal(got, []channel.Flag{{Sub: 255, Level: 5}}) {
		t.Errorf("public flags %v", got)
	}
	for public, want := range map[bool][]channel.SubChannel{false: {last, first}, true: {last}} {
		view(t, s, func(r channel.Reader) error {
			page, err := r.SubChannels(ids[0], public, 0, 10)
			if !slices.Equal(page.Rows, want) || page.Total != len(want) || page.More {
				t.Errorf("public %v: %+v", public, page)
			}
			return err
		})
	}
	// Replaced by id; another one cannot have the name.
	changed := channel.SubChannel{ID: 0, Name: "FIRST", Lowest: wire.Admin}
	update(t, s, func(tx channel.Tx) error { return tx.PutSubChannel(ids[0], changed) })
	for what, sub := range map[string]channel.SubChannel{
		"name of another": {ID: 1, Name: "first", Lowest: 4}, "level 0": {ID: 2, Name: "x"}, "level 6": {ID: 2, Name: "x", Lowest: 6},
	} {
		if err := s.Update(ctx, func(tx channel.Tx) error { return tx.PutSubChannel(ids[0], sub) }); err == nil {
			t.Errorf("%s: stored", what)
		}
	}
	update(t, s, func(tx channel.Tx) error {
		if got, err := tx.SubChannel(ids[0], "first"); err != nil || got != changed {
			t.Errorf("got %+v, %v", got, err)
		}
		if got, err := tx.SubChannel(ids[1], "first"); err != nil || got != first {
			t.Errorf("another channel's: %+v, %v", got, err)
		}
		return tx.RemoveSubChannel(ids[0], 255)
	})
	if got := flags(false); len(got) != 3 {
		t.Errorf("flags went with the sub-channel: %v", got)
	}
	update(t, s, func(tx channel.Tx) error {
		for _, want := range []bool{true, false} {
			if removed, err := tx.RemoveFlag(ids[0], channel.Flag{Sub: 255, Level: 5}); err != nil || removed != want {
				t.Errorf("removed %v, %v", removed, err)
			}
		}
		return nil
	})
	if got := flags(false); !slices.Equal(got, []channel.Flag{{Sub: 0, Level: 2}, {Sub: 7, Level: 5}}) {
		t.Errorf("flags %v", got)
	}
}

func testChannelRemoved(t *testing.T, s Channels) {
	mustCreate(t, s, plain("ann"), plain("bob"))
	ids := mustAdd(t, s, "Room", "ann", "Other", "ann")
	for _, ch := range ids {
		update(t, s, func(tx channel.Tx) error {
			_, err := tx.AddFlag(ch, channel.Flag{Sub: 1, Level: 4})
			return errors.Join(err, tx.PutSubChannel(ch, channel.SubChannel{ID: 1, Name: "sub", Lowest: 4}),
				tx.PutMember(ch, plain("bob").ID, access.Standing{Level: wire.Regular, Pending: true}))
		})
	}
	update(t, s, func(tx channel.Tx) error { return tx.RemoveChannel(ids[0]) })
	for i, want := range []int{0, 1} {
		view(t, s, func(r channel.Reader) error {
			members, err1 := r.Members(ids[i], channel.MemberFilter{}, 0, 10)
			subs, err2 := r.SubChannels(ids[i], false, 0, 10)
			flags, err3 := r.Flags(ids[i], false, 0, 10)
			if members.Total != 2*want || subs.Total != want || flags.Total != want {
				t.Errorf("channel %d: %d members, %d sub-channels, %d flags", i, members.Total, subs.Total, flags.Total)
			}
			return errors.Join(err1, err2, err3)
		})
	}
	view(t, s, func(r channel.Reader) error {
		list, err := r.Memberships(plain("bob").ID, 0, 10)
		if list.Total != 1 {
			t.Errorf("memberships %+v", list)
		}
		return err
	})
}

func testMemberRemoved(t *testing.T, s Channels) {
	ann, bob, cyd := plain("ann"), plain("bob"), plain("cyd")
	mustCreate(t, s, ann, bob, cyd)
	ids := mustAdd(t, s, "Room", "ann", "Other", "cyd", "Third", "cyd")
	update(t, s, func(tx channel.Tx) error {
		return errors.Join(
			tx.PutMember(ids[1], bob.ID, access.Standing{Level: wire.Officer}),
			tx.PutMember(ids[1], ann.ID, access.Standing{Level: wire.Regular}),
			tx.PutMember(ids[0], bob.ID, access.Standing{Level: wire.Regular, Pending: true}))
	})
	for id, want := range map[wire.UserID]int{ann.ID: 1, bob.ID: 0, cyd.ID: 2, {9}: 0} {
		if ties, err := s.Ties(ctx, id); err != nil || ties.OwnedChannels != want {
			t.Errorf("ties %+v, %v", ties, err)
		}
	}
	mine := errors.New("mine")
	_, err := s.RemoveBy(ctx, cyd.ID, account.Key{ID: ann.ID}, func(_, _ account.User, ties account.Ties) error {
		if ties.OwnedChannels != 1 {
			t.Errorf("ties %+v", ties)
		}
		return mine
	})
	if err != mine {
		t.Errorf("got %v", err)
	}
	out, err := s.RemoveBy(ctx, cyd.ID, account.Key{ID: bob.ID}, noTies)
	if err != nil {
		t.Fatal(err)
	}
	want := []account.Departure{
		{Channel: ids[1], Name: "Other", Level: wire.Officer, Members: []wire.UserID{ann.ID, cyd.ID}},
		{Channel: ids[0], Name: "Room", Level: wire.Regular, Pending: true, Members: []wire.UserID{ann.ID}},
	}
	if diff := cmp.Diff(want, out.Left); diff != "" {
		t.Error(diff)
	}
	update(t, s, func(tx channel.Tx) error {
		for i, want := range [][]wire.UserID{{ann.ID}, {ann.ID, cyd.ID}, {cyd.ID}} {
			members, err := tx.Audience(ids[i])
			if n, _ := tx.InviteCount(ids[i]); err != nil || n != 0 || !slices.Equal(members, want) {
				t.Errorf("channel %d: members %v, %d invites, %v", i, members, n, err)
			}
		}
		return nil
	})
}

func testFacts(t *testing.T, s Channels) {
	ann, bob := plain("ann"), plain("bob")
	mustCreate(t, s, ann, bob)
	ids := mustAdd(t, s, "Room", "ann", "Other", "ann")
	sub := channel.SubChannel{ID: 3, Name: "Sub", Lowest: wire.Officer, Active: true}
	update(t, s, func(tx channel.Tx) error {
		for _, f := range []channel.Flag{{Sub: 3, Level: 5}, {Sub: 3, Level: 1}, {Sub: 2, Level: 2}} {
			if _, err := tx.AddFlag(ids[0], f); err != nil {
				return err
			}
		}
		_, err := tx.AddFlag(ids[1], channel.Flag{Sub: 3, Level: 3})
		return errors.Join(err, tx.PutSubChannel(ids[0], sub), tx.PutMember(ids[0], bob.ID, access.Standing{Level: wire.Regular, Pending: true}),
			tx.PutSubChannel(ids[1], channel.SubChannel{ID: 0, Name: "Plain", Lowest: 4}))
	})
	for user, standing := range map[wire.UserID]access.Standing{ann.ID: {Level: 1}, bob.ID: {Level: 4, Pending: true}, {9}: {}} {
		want := channel.Facts{Channel: channel.Channel{ID: ids[0], Name: "Room"}, Sub: sub, Standing: standing, Flags: []wire.Level{1, 5}}
		got, err := s.Facts(ctx, user, ids[0], 3)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("by id: %v, %s", err, diff)
		}
		got, err = s.FactsByName(ctx, user, "room", "sub")
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("by name: %v, %s", err, diff)
		}
	}
	want := channel.Facts{Channel: channel.Channel{ID: ids[1], Name: "Other"}, Sub: channel.SubChannel{ID: 0, Name: "Plain", Lowest: 4}, Standing: access.Standing{Level: 1}}
	if got, err := s.Facts(ctx, ann.ID, ids[1], 0); err != nil || !cmp.Equal(want, got) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, ch := range []wire.ChannelID{0, 999, 1 << 63, 1<<64 - 1} {
		if _, err := s.Facts(ctx, ann.ID, ch, 3); err != channel.ErrNoChannel {
			t.Errorf("channel %d: got %v, want ErrNoChannel", ch, err)
		}
	}
	if _, err := s.Facts(ctx, ann.ID, ids[1], 3); err != channel.ErrNoSubChannel {
		t.Errorf("got %v, want ErrNoSubChannel", err)
	}
	if _, err := s.FactsByName(ctx, ann.ID, "nowhere", "sub"); err != channel.ErrNoChannel {
		t.Errorf("got %v, want ErrNoChannel", err)
	}
	if _, err := s.FactsByName(ctx, ann.ID, "other", "sub"); err != channel.ErrNoSubChannel {
		t.Errorf("got %v, want ErrNoSubChannel", err)
	}
}

func testChannelPages(t *testing.T, s Channels) {
	const n = 7
	mustCreate(t, s, plain("ann"))
	var pairs, want []string
	for i := range n {
		pairs = append(pairs, fmt.Sprintf("room-%d", (i*3)%n), "ann") // not in the order of names
		want = append(want, pairs[2*i])
	}
	ids := mustAdd(t, s, pairs...)
	for limit := 1; limit <= n+1; limit++ {
		var got, mine []string
		var after, afterMine channel.Cursor
		for more := true; more; {
			view(t, s, func(r channel.Reader) error {
				page, err1 := r.Channels(channel.Find{Name: "ROOM"}, after, limit)
				list, err2 := r.Memberships(plain("ann").ID, afterMine, limit)
				if page.Total != n || list.Total != n || page.More != list.More || len(page.Rows) > limit || len(page.Rows) != len(list.Rows) {
					t.Errorf("limit %d: %+v, %+v", limit, page, list)
				}
				for i := range page.Rows {
					got, mine = append(got, page.Rows[i].Name), append(mine, list.Rows[i].Channel.Name)
				}
				after, afterMine, more = page.Next, list.Next, page.More
				return errors.Join(err1, err2)
			})
		}
		if diff := cmp.Diff(want, got) + cmp.Diff(want, mine); diff != "" {
			t.Errorf("limit %d: %s", limit, diff)
		}
	}
	// A place stays valid when what was before it goes, and behind the end
	// there is nothing.
	view(t, s, func(r channel.Reader) error {
		first, err := r.Channels(channel.Find{}, 0, 3)
		if err != nil {
			return err
		}
		update(t, s, func(tx channel.Tx) error { return tx.RemoveChannel(ids[2]) })
		return s.View(ctx, func(r channel.Reader) error {
			rest, err := r.Channels(channel.Find{}, first.Next, 10)
			if len(rest.Rows) != n-3 || rest.Total != n-1 || rest.More {
				t.Errorf("got %+v", rest)
			}
			end, err2 := r.Channels(channel.Find{}, rest.Next, 10)
			if len(end.Rows) != 0 || end.Next != rest.Next || end.More {
				t.Errorf("got %+v", end)
			}
			return errors.Join(err, err2)
		})
	})
}

func testChannelUndo(t *testing.T, s Channels) {
	mustCreate(t, s, plain("ann"))
	mine := errors.New("mine")
	err := s.Update(ctx, func(tx channel.Tx) error {
		if _, err := tx.AddChannel("Room"); err != nil {
			t.Error(err)
		}
		return mine
	})
	if err != mine {
		t.Errorf("%v is not returned as it is", err)
	}
	err = s.View(ctx, func(r channel.Reader) error {
		if page, err := r.Channels(channel.Find{}, 0, 10); err != nil || page.Total != 0 {
			t.Errorf("undone: %+v, %v", page, err)
		}
		return mine
	})
	if err != mine {
		t.Errorf("%v is not returned as it is", err)
	}
}

func testChannelHostile(t *testing.T, s Channels) {
	mustCreate(t, s, plain("ann"))
	ch := mustAdd(t, s, "Room", "ann")[0]
	for i, text := range hostile {
		view(t, s, func(r channel.Reader) error {
			if _, err := r.Channel(text); err != channel.ErrNoChannel {
				t.Errorf("channel %q: %v", text, err)
			}
			if _, err := r.SubChannel(ch, text); err != channel.ErrNoSubChannel {
				t.Errorf("sub-channel %q: %v", text, err)
			}
			for _, f := range []channel.Find{{Name: text}, {PartOfID: text}, {PartOfName: text}} {
				if page, err := r.Channels(f, 0, 10); err != nil || page.Total != 0 {
					t.Errorf("find %+v: %+v, %v", f, page, err)
				}
			}
			for _, f := range []channel.MemberFilter{{UserName: text}, {Display: text}, {UserID: text}, {Display2: text}, {Pending: text}, {Level: text}, {Channel: text}} {
				if page, err := r.Members(ch, f, 0, 10); err != nil || page.Total != 0 {
					t.Errorf("filter %q: %+v, %v", text, page, err)
				}
			}
			return nil
		})
		if _, err := s.FactsByName(ctx, plain("ann").ID, "room", text); err != channel.ErrNoSubChannel {
			t.Errorf("facts %q: %v", text, err)
		}
		// What is stored comes back byte by byte.
		name := fmt.Sprint(text, i)
		update(t, s, func(tx channel.Tx) error {
			id, err := tx.AddChannel(name)
			if err != nil {
				return err
			}
			if got, err := tx.Channel(names.Fold(name)); err != nil || got != (channel.Channel{ID: id, Name: name}) {
				t.Errorf("%q: %+v, %v", name, got, err)
			}
			sub := channel.SubChannel{ID: 1, Name: name, Lowest: 4}
			if err := tx.PutSubChannel(id, sub); err != nil {
				return err
			}
			if got, err := tx.SubChannel(id, names.Fold(name)); err != nil || got != sub {
				t.Errorf("%q: %+v, %v", name, got, err)
			}
			return tx.RemoveChannel(id)
		})
	}
	view(t, s, func(r channel.Reader) error {
		page, err := r.Channels(channel.Find{}, 0, 10)
		if page.Total != 1 {
			t.Errorf("got %+v", page)
		}
		return err
	})
}

// testChannelIsolation lets many count the same thing up at once.
func testChannelIsolation(t *testing.T, s Channels) {
	mustCreate(t, s, plain("ann"))
	ch := mustAdd(t, s, "Room", "ann")[0]
	const workers, each = 8, 10
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				err := s.Update(ctx, func(tx channel.Tx) error {
					ids, err := tx.SubIDs(ch)
					if err != nil {
						return err
					}
					return tx.PutSubChannel(ch, channel.SubChannel{ID: wire.SubID(len(ids)), Name: fmt.Sprint("sub", len(ids)), Lowest: 4})
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	view(t, s, func(r channel.Reader) error {
		page, err := r.SubChannels(ch, false, 0, 1)
		if page.Total != workers*each {
			t.Errorf("%d sub-channels, want %d", page.Total, workers*each)
		}
		return err
	})
}

func testChannelCancelled(t *testing.T, s Channels) {
	mustCreate(t, s, plain("ann"))
	mine := errors.New("mine")
	ended, cancel := context.WithCancelCause(ctx)
	cancel(mine)
	for what, call := range map[string]func() error{
		"Update":      func() error { return s.Update(ended, func(channel.Tx) error { return nil }) },
		"View":        func() error { return s.View(ended, func(channel.Reader) error { return nil }) },
		"Facts":       func() error { _, err := s.Facts(ended, plain("ann").ID, 1, 1); return err },
		"FactsByName": func() error { _, err := s.FactsByName(ended, plain("ann").ID, "room", "sub"); return err },
		"Ties":        func() error { _, err := s.Ties(ended, plain("ann").ID); return err },
	} {
		if err := call(); !errors.Is(err, mine) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	// In the middle: what was done is undone.
	half, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	err := s.Update(half, func(tx channel.Tx) error {
		if _, err := tx.AddChannel("Room"); err != nil {
			t.Error(err)
		}
		stop(mine)
		_, err := tx.AddChannel("Other")
		return err
	})
	if !errors.Is(err, mine) {
		t.Errorf("got %v", err)
	}
	view(t, s, func(r channel.Reader) error {
		page, err := r.Channels(channel.Find{}, 0, 10)
		if page.Total != 0 {
			t.Errorf("stored: %+v", page)
		}
		return err
	})
}
