package channels_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// member is what a user is in a channel.
func member(name string, level wire.Level, pending bool) channel.Member {
	return channel.Member{User: user(name), Level: level, Pending: pending}
}

// info is CH_MEMBER_INFO of a user in the room.
func info(name string, level wire.Level, invite bool) *wire.Member {
	return &wire.Member{Channel: 1, User: id(name), Invite: invite, Level: level, Name: name, Display: "The " + name, ChannelName: "Room"}
}

var (
	inside = channel.SubChannel{ID: 0, Name: "Inside", Lowest: wire.Regular}
	public = channel.SubChannel{ID: 1, Name: "Outside", Lowest: wire.Public}
)

// A command that changes something says nothing, and hands over what has
// changed with its async.
func TestChanges(t *testing.T) {
	sub := func(by string, now, old channel.SubChannel) channel.SubChange {
		return channel.SubChange{Channel: room, Sub: now, Old: old, By: user(by), Hear: members}
	}
	with := func(s channel.SubChannel, change func(*channel.SubChannel)) channel.SubChannel {
		change(&s)
		return s
	}
	and := func(names ...string) []wire.UserID {
		all := slices.Clone(members)
		for _, name := range names {
			all = append(all, id(name))
		}
		return all
	}
	for _, tt := range []struct {
		command, who, args string
		want               []event
	}{
		{"add_ch", "stranger", "-ch_name Other", []event{{
			wire.AsyncNewChMember,
			&wire.Member{Channel: 2, User: id("stranger"), Level: wire.Owner, Name: "stranger", Display: "The stranger", ChannelName: "Other"},
			channel.MemberChange{
				Channel: channel.Channel{ID: 2, Name: "Other"}, Member: member("stranger", wire.Owner, false), By: user("stranger"),
				Hear: []wire.UserID{id("stranger")},
			},
		}}},
		{"rm_ch", "owner", "-ch_name rOOM", []event{{
			wire.AsyncDelCh, &wire.ChannelRef{Channel: 1},
			channel.ChannelChange{Channel: room, OldName: "Room", By: user("owner"), Hear: members, Invited: []channel.User{user("invited")}},
		}}},
		{"rename_ch", "stranger!", "-ch_name Room -new_name ROOM", []event{{
			wire.AsyncRenameCh, &wire.ChannelRenamed{Channel: 1, Name: "ROOM"},
			channel.ChannelChange{Channel: channel.Channel{ID: 1, Name: "ROOM"}, OldName: "Room", By: user("stranger"), Hear: members},
		}}},
		{"add_sub_ch", "admin", "-ch_name Room -sub_name Third", []event{{
			wire.AsyncNewSubCh, &wire.SubAdded{Channel: 1, Sub: 2, Level: wire.Regular, Name: "Third"},
			sub("admin", channel.SubChannel{ID: 2, Name: "Third", Lowest: wire.Regular}, channel.SubChannel{}),
		}}},
		{"rm_sub_ch", "admin", "-ch_name Room -sub_name outside", []event{{
			wire.AsyncRmSubCh, &wire.SubRef{Channel: 1, Sub: 1}, sub("admin", public, public),
		}}},
		{"rename_sub_ch", "admin", "-ch_name Room -sub_name Outside -new_name outside", []event{{
			wire.AsyncRenameSubCh, &wire.SubRenamed{Channel: 1, Sub: 1, Name: "outside"},
			sub("admin", with(public, func(s *channel.SubChannel) { s.Name = "outside" }), public),
		}}},
		{"set_sub_ch_level", "admin", "-ch_name Room -sub_name Outside -level 3", []event{{
			wire.AsyncSubChLevelChg, &wire.SubLevel{Channel: 1, Sub: 1, Level: wire.Officer},
			sub("admin", with(public, func(s *channel.SubChannel) { s.Lowest = wire.Officer }), public),
		}}},
		{"set_sub_ch_level", "admin", "-ch_name Room -sub_name Outside -level 5", []event{{ // as it is: it closes too
			wire.AsyncSubChLevelChg, &wire.SubLevel{Channel: 1, Sub: 1, Level: wire.Public}, sub("admin", public, public),
		}}},
		{"set_active_flag", "admin", "-ch_name Room -sub_name Inside -state 1", []event{{
			wire.AsyncChActFlag, &wire.SubRef{Channel: 1, Sub: 0},
			sub("admin", with(inside, func(s *channel.SubChannel) { s.Active = true }), inside),
		}}},
		{"add_rdonly_flag", "admin", "-ch_name Room -sub_id 255 -level 1", []event{{
			wire.AsyncAddRdOnly, &wire.SubLevel{Channel: 1, Sub: 255, Level: wire.Owner},
			channel.FlagChange{Channel: room, Flag: channel.Flag{Sub: 255, Level: wire.Owner}, By: user("admin"), Hear: members},
		}}},
		{"rm_rdonly_flag", "admin", "-ch_name Room -sub_id 1 -level 5", []event{{
			wire.AsyncRmRdOnly, &wire.SubLevel{Channel: 1, Sub: 1, Level: wire.Public},
			channel.FlagChange{Channel: room, Flag: channel.Flag{Sub: 1, Level: wire.Public}, SubName: "Outside", By: user("admin"), Hear: members},
		}}},
		{"invite_to_ch", "officer", "-ch_name Room -user STRANGER", []event{{
			wire.AsyncInvitedToCh, info("stranger", wire.Regular, true),
			channel.MemberChange{Channel: room, Member: member("stranger", wire.Regular, true), By: user("officer"), Hear: and("stranger")},
		}}},
		{"accept_ch", "invited", "-ch_name Room", []event{{
			wire.AsyncInviteAccepted, info("invited", wire.Regular, false),
			channel.MemberChange{
				Channel: room, Member: member("invited", wire.Regular, false), OldLevel: wire.Regular, WasPending: true,
				By: user("invited"), Hear: and("invited"),
			},
		}}},
		{"decline_ch", "invited", "-ch_name Room", []event{{
			wire.AsyncRmChMember, &wire.MemberRemoved{Channel: 1, User: id("invited")},
			channel.MemberChange{
				Channel: room, Member: member("invited", wire.Regular, true), OldLevel: wire.Regular, WasPending: true,
				By: user("invited"), Hear: and("invited"),
			},
		}}},
		{"remove_ch_member", "regular!", "-ch_name Room -user regular", []event{{ // leaves, with the override on
			wire.AsyncRmChMember, &wire.MemberRemoved{Channel: 1, User: id("regular")},
			channel.MemberChange{
				Channel: room, Member: member("regular", wire.Regular, false), OldLevel: wire.Regular, By: user("regular"),
				Hear: members,
			},
		}}},
		{"set_member_level", "officer", "-ch_name Room -user regular -level 3", []event{{
			wire.AsyncMemLevelChg, &wire.MemberLevel{Channel: 1, User: id("regular"), Level: wire.Officer},
			channel.MemberChange{
				Channel: room, Member: member("regular", wire.Officer, false), OldLevel: wire.Regular, By: user("officer"), Hear: members,
			},
		}}},
		{"set_member_level", "owner", "-ch_name Room -user regular -level 1", []event{
			{
				wire.AsyncMemLevelChg, &wire.MemberLevel{Channel: 1, User: id("regular"), Level: wire.Owner},
				channel.MemberChange{
					Channel: room, Member: member("regular", wire.Owner, false), OldLevel: wire.Regular, By: user("owner"), Hear: members,
				},
			},
			{
				wire.AsyncMemLevelChg, &wire.MemberLevel{Channel: 1, User: id("owner"), Level: wire.Admin},
				channel.MemberChange{
					Channel: room, Member: member("owner", wire.Admin, false), OldLevel: wire.Owner, By: user("owner"), Hear: members,
				},
			},
		}},
	} {
		t.Run(tt.command+" "+tt.args, func(t *testing.T) {
			f := newRoom(t)
			f.call(tt.who, tt.command, tt.args).End(wire.NoErrors)
			for i := range f.events {
				hear(f.events[i].Change)
			}
			f.told(tt.want...)
		})
	}
}

// hear sorts who hears of a change, as members are.
func hear(change channel.Change) {
	var users []wire.UserID
	switch c := change.(type) {
	case channel.MemberChange:
		users = c.Hear
	case channel.ChannelChange:
		users = c.Hear
	case channel.SubChange:
		users = c.Hear
	case channel.FlagChange:
		users = c.Hear
	}
	order := func(u wire.UserID) int {
		return slices.IndexFunc(people, func(name string) bool { return id(name) == u })
	}
	slices.SortFunc(users, func(a, b wire.UserID) int { return order(a) - order(b) })
}

// Every refusal, where two rules are broken the first of them, with its text
// and code; nothing is told.
func TestRefusals(t *testing.T) {
	const (
		missingCh   = "Missing -ch_name."
		missingSub  = "Missing -sub_name."
		missingNew  = "Missing -new_name."
		missingUser = "Missing -user."
		badCh       = "The channel name is shorter than 4 characters; choose a longer one."
		badSub      = "The sub-channel name is shorter than 4 characters; choose a longer one."
		badNew      = "The new name is shorter than 4 characters; choose a longer one."
		badUser     = "That is not a user name; give one of 2 to 24 characters without blanks."
		noCh        = "There is no such channel."
		noSub       = "The channel has no such sub-channel."
		noUser      = "There is no such user."
		notOwner    = "This takes level 1 (owner) in the channel and yours is 2 (admin); ask its owner."
		notAdmin    = "This takes level 2 (admin) in the channel and yours is 3 (officer); ask its owner or an admin."
		publicAdmin = "This takes level 2 (admin) in the channel and yours is 5 (public); ask its owner or an admin."
		notOfficer  = "This takes level 3 (officer) in the channel and yours is 4 (regular); ask its owner, an admin or an officer."
		noInvite    = "You have no pending invite to this channel."
	)
	type refusal struct{ command, who, args, text string }
	tests := []refusal{
		{"add_ch", "owner", "", missingCh},
		{"add_ch", "owner", "-ch_name ''", missingCh},
		{"add_ch", "owner", "-ch_name abc", badCh},
		{"add_ch", "owner", "-ch_name 'a b c'", "The channel name contains white space or an invisible character; leave it out."},
		{"add_ch", "owner", "-ch_name " + strings.Repeat("x", 33), "The channel name is longer than 32 characters (emoji count twice); choose a shorter one."},
		{"add_ch", "owner", "-ch_name rOOM", "The channel name is taken; choose another one."},

		{"rm_ch", "admin", "", missingCh},
		{"rm_ch", "admin", "-ch_name abc", badCh},
		{"rm_ch", "admin", "-ch_name Nowhere", noCh},
		{"rm_ch", "admin", "-ch_name Room", notOwner},

		{"rename_ch", "admin", "-new_name x", missingCh},
		{"rename_ch", "admin", "-ch_name x", missingNew},
		{"rename_ch", "admin", "-ch_name abc -new_name x", badCh},
		{"rename_ch", "admin", "-ch_name Nowhere -new_name x", noCh},
		{"rename_ch", "admin", "-ch_name Room -new_name x", badNew},
		{"rename_ch", "admin", "-ch_name Room -new_name Other", notOwner},
		{"rename_ch", "owner", "-ch_name Room -new_name Room", "The new name is the current one; choose another one."},
		{"rename_ch", "owner", "-ch_name Room -new_name taken", "The channel name is taken; choose another one."},

		{"invite_to_ch", "regular", "-user x", missingCh},
		{"invite_to_ch", "regular", "-ch_name x", missingUser},
		{"invite_to_ch", "regular", "-ch_name abc -user x", badCh},
		{"invite_to_ch", "regular", "-ch_name Nowhere -user x", noCh},
		{"invite_to_ch", "regular", "-ch_name Room -user x", badUser},
		{"invite_to_ch", "regular", "-ch_name Room -user nobody", noUser},
		{"invite_to_ch", "regular", "-ch_name Room -user invited", notOfficer},
		{"invite_to_ch", "officer", "-ch_name Room -user invited", "The user is invited to the channel already."},
		{"invite_to_ch", "officer", "-ch_name Room -user owner", "The user is a member of the channel already."},

		{"remove_ch_member", "regular", "-user x", missingCh},
		{"remove_ch_member", "regular", "-ch_name x", missingUser},
		{"remove_ch_member", "regular", "-ch_name abc -user x", badCh},
		{"remove_ch_member", "regular", "-ch_name Nowhere -user x", noCh},
		{"remove_ch_member", "regular", "-ch_name Room -user x", badUser},
		{"remove_ch_member", "regular", "-ch_name Room -user nobody", noUser},
		{"remove_ch_member", "owner!", "-ch_name Room -user owner", "You own the channel; make another member its owner first, or remove the channel."},
		{"remove_ch_member", "regular", "-ch_name Room -user stranger", "The user is neither a member of the channel nor invited to it."},
		{"remove_ch_member", "regular", "-ch_name Room -user invited", notOfficer},
		{"remove_ch_member", "officer", "-ch_name Room -user admin", "This takes level 1 (owner) in the channel and yours is 3 (officer); ask its owner."},
		{"remove_ch_member", "stranger!", "-ch_name Room -user owner", "The owner of a channel cannot be removed; the channel needs another owner first."},

		{"set_member_level", "regular", "-user x -level 9", missingCh},
		{"set_member_level", "regular", "-ch_name x -level 9", missingUser},
		{"set_member_level", "regular", "-ch_name x -user x", "Missing -level."},
		{"set_member_level", "regular", "-ch_name Room -user admin -level 5", "-level must be a whole number from 1 to 4, not \"5\"."},
		{"set_member_level", "regular", "-ch_name Room -user admin -level 0", "-level must be a whole number from 1 to 4, not \"0\"."},
		{"set_member_level", "regular", "-ch_name abc -user x -level 1", badCh},
		{"set_member_level", "regular", "-ch_name Nowhere -user x -level 1", noCh},
		{"set_member_level", "regular", "-ch_name Room -user x -level 1", badUser},
		{"set_member_level", "regular", "-ch_name Room -user nobody -level 1", noUser},
		{"set_member_level", "regular", "-ch_name Room -user admin -level 4", notOfficer},
		{"set_member_level", "owner", "-ch_name Room -user invited -level 3", "The user has not accepted the invite to the channel yet."},
		{"set_member_level", "owner!", "-ch_name Room -user stranger -level 1", "The user is neither a member of the channel nor invited to it."},
		{"set_member_level", "stranger!", "-ch_name Room -user owner -level 2", "The level of a channel's owner cannot be changed; make another member the owner instead."},
		{"set_member_level", "officer", "-ch_name Room -user regular -level 2", notAdmin},

		{"open_sub_ch", "stranger", "-sub_name x", missingCh},
		{"open_sub_ch", "stranger", "-ch_name x", missingSub},
		{"open_sub_ch", "stranger", "-ch_name x -sub_name x", noCh}, // no check of the syntax
		{"open_sub_ch", "stranger", "-ch_name Room -sub_name x", noSub},
		{"open_sub_ch", "stranger", "-ch_name Room -sub_name Inside", "This takes level 4 (regular) in the channel and yours is 5 (public); ask for an invite."},
		{"open_sub_ch", "invited", "-ch_name Room -sub_name Inside", "You are invited to the channel, but no member yet; join it with accept_ch first."},
		{"close_sub_ch", "stranger", "-sub_name x", missingCh},
		{"close_sub_ch", "stranger", "-ch_name x", missingSub},
		{"close_sub_ch", "stranger", "-ch_name x -sub_name x", noCh},
		{"close_sub_ch", "stranger", "-ch_name Room -sub_name x", noSub},

		{"ch_owner_override", "owner", "", "Missing -state."},
		{"ch_owner_override", "owner", "-state 2", "-state must be 0 or 1, not \"2\"."},

		{"find_ch", "owner", "-name abc -id 1", "No channel can be found by that; give 4 to 32 characters of a name, without blanks."},
		{"find_ch", "owner", "-id one", "-id must be a whole number from 0 to 18446744073709551615, not \"one\"."},
		{"ls_ch_members", "stranger", "-ch_name Room", "This takes level 4 (regular) in the channel and yours is 5 (public); ask for an invite."},
		{"ls_ch_members", "invited", "-ch_name Room", "You are invited to the channel, but no member yet; join it with accept_ch first."},
	}
	for _, name := range []string{"accept_ch", "decline_ch"} {
		tests = append(tests,
			refusal{name, "stranger", "", missingCh},
			refusal{name, "stranger", "-ch_name abc", badCh},
			refusal{name, "stranger", "-ch_name Nowhere", noCh},
			refusal{name, "stranger", "-ch_name Room", noInvite},
			refusal{name, "regular", "-ch_name Room", noInvite},
		)
	}
	for _, name := range []string{"ls_sub_chs", "ls_rdonly_flags", "ls_ch_members"} {
		tests = append(tests,
			refusal{name, "stranger", "", missingCh},
			refusal{name, "stranger", "-ch_name abc", badCh},
			refusal{name, "stranger", "-ch_name Nowhere", noCh},
		)
	}
	for name, more := range map[string]string{
		"add_sub_ch": "", "rm_sub_ch": "", "rename_sub_ch": " -new_name Third", "set_sub_ch_level": " -level 1", "set_active_flag": " -state 1",
	} {
		tests = append(tests,
			refusal{name, "officer", "-sub_name x" + more, missingCh},
			refusal{name, "officer", "-ch_name x" + more, missingSub},
			refusal{name, "officer", "-ch_name abc -sub_name x" + more, badCh},
			refusal{name, "officer", "-ch_name Nowhere -sub_name x" + more, badSub},
			refusal{name, "officer", "-ch_name Nowhere -sub_name Absent" + more, noCh},
			refusal{name, "officer", "-ch_name Room -sub_name Absent" + more, notAdmin},
			refusal{name, "stranger", "-ch_name Room -sub_name Inside" + more, publicAdmin},
		)
		if name != "add_sub_ch" {
			tests = append(tests, refusal{name, "admin", "-ch_name Room -sub_name Absent" + more, noSub})
		}
	}
	for _, name := range []string{"add_rdonly_flag", "rm_rdonly_flag"} {
		tests = append(tests,
			refusal{name, "officer", "-sub_id 0 -level 1", missingCh},
			refusal{name, "officer", "-ch_name x -level 1", "Missing -sub_id."},
			refusal{name, "officer", "-ch_name x -sub_id 0", "Missing -level."},
			refusal{name, "officer", "-ch_name Room -sub_id 256 -level 9", "-sub_id must be a whole number from 0 to 255, not \"256\"."},
			refusal{name, "officer", "-ch_name Room -sub_id 4294967296 -level 9", "-sub_id must be a whole number from 0 to 255, not \"4294967296\"."},
			refusal{name, "officer", "-ch_name Room -sub_id 255 -level 6", "-level must be a whole number from 1 to 5, not \"6\"."},
			refusal{name, "officer", "-ch_name Room -sub_id 0 -level 0", "-level must be a whole number from 1 to 5, not \"0\"."},
			refusal{name, "officer", "-ch_name abc -sub_id 1 -level 5", badCh},
			refusal{name, "officer", "-ch_name Nowhere -sub_id 1 -level 5", noCh},
			refusal{name, "officer", "-ch_name Room -sub_id 1 -level 5", notAdmin},
		)
	}
	tests = append(tests,
		refusal{"add_sub_ch", "admin", "-ch_name Room -sub_name INSIDE", "The channel has a sub-channel with this name already; choose another name."},
		refusal{"rename_sub_ch", "officer", "-ch_name Room -sub_name Absent", missingNew},
		refusal{"rename_sub_ch", "officer", "-ch_name Room -sub_name Absent -new_name x", badNew},
		refusal{"rename_sub_ch", "admin", "-ch_name Room -sub_name Inside -new_name OUTSIDE", "The channel has a sub-channel with this name already; choose another name."},
		refusal{"rename_sub_ch", "admin", "-ch_name Room -sub_name Inside -new_name Inside", "The new name is the current one; choose another one."},
		refusal{"set_sub_ch_level", "officer", "-ch_name Room -sub_name Absent", "Missing -level."},
		refusal{"set_sub_ch_level", "officer", "-ch_name Room -sub_name Absent -level 6", "-level must be a whole number from 1 to 5, not \"6\"."},
		refusal{"set_active_flag", "officer", "-ch_name Room -sub_name Absent", "Missing -state."},
		refusal{"set_active_flag", "officer", "-ch_name Room -sub_name Absent -state 2", "-state must be 0 or 1, not \"2\"."},
		refusal{"add_rdonly_flag", "admin", "-ch_name Room -sub_id 1 -level 5", "This read-only flag is set already."},
		refusal{"rm_rdonly_flag", "admin", "-ch_name Room -sub_id 2 -level 5", "There is no such read-only flag."},
	)
	f := newRoom(t)
	f.call("stranger", "add_ch", "-ch_name Taken").End(wire.NoErrors)
	f.told(f.events...)
	for _, tt := range tests {
		t.Run(tt.command+" "+tt.who+" "+tt.args, func(t *testing.T) {
			f.t = t
			c := f.call(tt.who, tt.command, tt.args)
			c.Expect(wire.Err, tt.text+"\n")
			c.End(wire.InvalidParams)
			f.told()
			if len(f.sets)+len(f.doors) > 0 {
				t.Errorf("the session was touched: %v %v", f.sets, f.doors)
			}
		})
	}
	for _, cmd := range f.commands {
		t.Run(cmd.Name+" without a login", func(t *testing.T) {
			f.t = t
			c := f.call("", cmd.Name, "-ch_name Room -sub_name Inside -new_name Third -user admin -level 4 -sub_id 0 -state 1")
			for {
				typ, text := c.Next()
				if typ != wire.Err {
					t.Fatalf("got %s %q", typ, text)
				}
				if string(text) == "You are not logged in.\n" {
					break // the others are about switches that the command does not have
				}
			}
			c.End(wire.InvalidParams)
			f.told()
		})
	}
}

// Limits end a call with EXECUTION_FAIL, except for that of sub-channels.
func TestLimits(t *testing.T) {
	f := newRoom(t)
	f.call("owner", "add_sub_ch", "-ch_name Room -sub_name Third").End(wire.NoErrors)
	f.told(f.events...)
	c := f.call("owner", "add_sub_ch", "-ch_name Room -sub_name Fourth")
	c.Expect(wire.Err, "The channel has as many sub-channels as the host allows; remove one first.\n")
	c.End(wire.InvalidParams)
	f.told()

	f.fill("stranger", channel.MaxChannels)
	c = f.call("stranger", "add_ch", "-ch_name OneMore")
	c.Expect(wire.Err, "You are a member of 200 channels, which is the most; leave one first.\n")
	c.End(wire.ExecutionFail)
	f.told()
	c = f.call("owner", "invite_to_ch", "-ch_name Room -user stranger")
	c.Expect(wire.Err, "The user has too many channels or pending invites; ask the user to leave or decline some first.\n")
	c.End(wire.ExecutionFail)
	f.told()
}

// While every sub-channel is active the flag is stored and nobody is told.
func TestActiveWithoutEffect(t *testing.T) {
	f := newRoom(t)
	f.allActive = true
	c := f.call("owner", "set_active_flag", "-ch_name Room -sub_name Inside -state 1")
	c.ExpectText("The flag is stored, but has no effect now: by the host's setting all_channels_active_update every sub-channel is active.\n")
	c.End(wire.NoErrors)
	f.told()
	r, err := f.rules.Find(t.Context(), caller("owner"), "Room", "Inside")
	if err != nil || !r.Sub.Active {
		t.Errorf("active: %v, %v", r.Sub.Active, err)
	}
}

// The call ends when the change binds everybody, and nothing stops it before.
func TestEndsAfterEvent(t *testing.T) {
	for _, stop := range []string{"TERM_CMD", "KILL_CMD"} {
		t.Run(stop, func(t *testing.T) {
			f := newRoom(t)
			entered, done := make(chan struct{}), make(chan struct{})
			var ended error
			f.changed = func(ctx context.Context) {
				close(entered)
				<-done
				ended = ctx.Err()
			}
			c := f.call("owner", "rm_ch", "-ch_name Room")
			<-entered
			if stop == "TERM_CMD" {
				c.Term()
			} else {
				c.Kill()
			}
			c.ExpectNothing()
			close(done)
			c.End(wire.NoErrors)
			if ended != nil {
				t.Errorf("the event was cut off: %v", ended)
			}
		})
	}
}

// A change that cannot be told is the host's failure, and keeps back no other.
func TestEventFails(t *testing.T) {
	f := newRoom(t)
	f.failing = errors.New("bus is gone")
	r := f.call("owner", "set_member_level", "-ch_name Room -user admin -level 1").End(wire.ExecutionFail)
	if !errors.Is(r.Err, f.failing) || errors.As(r.Err, new(*module.Failure)) {
		t.Errorf("got %v", r.Err)
	}
	if len(f.events) != 2 {
		t.Errorf("got %d events, want 2", len(f.events))
	}
}

// What goes wrong on our side is no text for the caller.
func TestStoreFails(t *testing.T) {
	f := newRoom(t)
	if err := f.db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range f.commands {
		switch cmd.Name {
		case "ch_owner_override", "ls_open_chs":
			continue // need no store
		}
		var args strings.Builder
		for _, a := range cmd.Args {
			if a.Required {
				args.WriteString(" -" + a.Name + " " + map[module.Kind]string{module.String: "Room", module.Int: "1", module.Bool: "1"}[a.Kind])
			}
		}
		r := f.call("owner", cmd.Name, args.String()).End(wire.ExecutionFail)
		if errors.As(r.Err, new(*module.Failure)) {
			t.Errorf("%s: got %v", cmd.Name, r.Err)
		}
		f.told()
	}
}

// Descriptions: all are ranked, and every text is there.
func TestDescriptions(t *testing.T) {
	f := newRoom(t)
	if len(f.commands) != 24 {
		t.Errorf("got %d commands", len(f.commands))
	}
	for _, c := range f.commands {
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
		if c.Class != module.Ranked || c.Short == "" || c.Long == "" {
			t.Errorf("%s: class %v, short %q, long %q", c.Name, c.Class, c.Short, c.Long)
		}
		for _, a := range c.Args {
			if a.Doc == "" {
				t.Errorf("%s: -%s is not described", c.Name, a.Name)
			}
		}
		listing := c.Name == "find_ch" || strings.HasPrefix(c.Name, "ls_")
		if c.Hints.ReadOnly != listing {
			t.Errorf("%s: read-only is %v", c.Name, c.Hints.ReadOnly)
		}
	}
}
