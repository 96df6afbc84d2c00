package channel_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/wire"
)

// Kinds of answers that have no sentinel.
var (
	errMissing = errors.New("something is missing")
	errInvalid = errors.New("a value is invalid")
	errDenied  = errors.New("the level does not allow it")
)

// checkRefusal holds an answer against a sentinel or one of the kinds above,
// and its text against what people can read.
func checkRefusal(t *testing.T, what string, err, want error) {
	t.Helper()
	rule, ok := errors.AsType[*channel.RuleError](err)
	if !ok {
		t.Errorf("%s: got %v, want a rule", what, err)
		return
	}
	switch want {
	case errMissing:
		ok = strings.Contains(rule.Text, "is missing")
	case errInvalid:
		ok = !strings.Contains(rule.Text, "is missing") && !rule.Denied && rule.Code == wire.InvalidParams
	case errDenied:
		ok = rule.Denied
	default:
		ok = err == want && !rule.Denied
	}
	if !ok {
		t.Errorf("%s: got %q, want %v", what, rule.Text, want)
	}
	wantCode := wire.InvalidParams
	if want == channel.ErrTooManyChannels || want == channel.ErrUserFull || want == channel.ErrInvitesFull {
		wantCode = wire.ExecutionFail
	}
	if rule.Code != wantCode {
		t.Errorf("%s: code %v, want %v", what, rule.Code, wantCode)
	}
	if rule.Field == "" || rule.Text == "" || strings.ContainsFunc(rule.Text, unicode.IsControl) ||
		unicode.IsUpper(rune(rule.Text[0])) || strings.HasSuffix(rule.Text, ".") || rule.Error() != rule.Text {
		t.Errorf("%s: field %q, text %q", what, rule.Field, rule.Text)
	}
}

// TestRefusals goes through the checks of each entry in their order: each line
// breaks the rule that it names, and those below it as far as that can be.
func TestRefusals(t *testing.T) {
	f := newRoom(t)
	f.user(t, "other")
	must[channel.MemberChange](t)(f.Add(ctx, caller("other"), "Taken"))
	const bad, nowhere = "x y", "nowhere"
	gone := channel.Caller{User: wire.UserID{9}}
	one := func(err error) error { return err }
	add := func(c channel.Caller, ch string) error { _, err := f.Add(ctx, c, ch); return err }
	remove := func(c channel.Caller, ch string) error { _, err := f.Remove(ctx, c, ch); return err }
	rename := func(c channel.Caller, ch, name string) error { _, err := f.Rename(ctx, c, ch, name); return err }
	invite := func(c channel.Caller, ch, name string) error { _, err := f.Invite(ctx, c, ch, name); return err }
	accept := func(c channel.Caller, ch string) error { _, err := f.Accept(ctx, c, ch); return err }
	decline := func(c channel.Caller, ch string) error { _, err := f.Decline(ctx, c, ch); return err }
	removeMember := func(c channel.Caller, ch, name string) error { _, err := f.RemoveMember(ctx, c, ch, name); return err }
	setLevel := func(c channel.Caller, ch, name string, level wire.Level) error {
		_, err := f.SetLevel(ctx, c, ch, name, level)
		return err
	}
	addSub := func(c channel.Caller, ch, sub string) error { _, err := f.AddSub(ctx, c, ch, sub); return err }
	removeSub := func(c channel.Caller, ch, sub string) error { _, err := f.RemoveSub(ctx, c, ch, sub); return err }
	renameSub := func(c channel.Caller, ch, sub, name string) error {
		_, err := f.RenameSub(ctx, c, ch, sub, name)
		return err
	}
	setSubLevel := func(c channel.Caller, ch, sub string, level wire.Level) error {
		_, err := f.SetSubLevel(ctx, c, ch, sub, level)
		return err
	}
	setActive := func(c channel.Caller, ch, sub string) error { _, err := f.SetActive(ctx, c, ch, sub, true); return err }
	addFlag := func(c channel.Caller, ch string, flag channel.Flag) error {
		_, err := f.AddFlag(ctx, c, ch, flag)
		return err
	}
	removeFlag := func(c channel.Caller, ch string, flag channel.Flag) error {
		_, err := f.RemoveFlag(ctx, c, ch, flag)
		return err
	}
	open := func(c channel.Caller, ch, sub string) error { _, err := f.Open(ctx, c, ch, sub); return err }
	find := func(c channel.Caller, ch, sub string) error { _, err := f.Find(ctx, c, ch, sub); return err }
	members := func(c channel.Caller, ch string) error {
		_, _, err := f.Members(ctx, c, ch, channel.MemberFilter{}, 0, 0)
		return err
	}
	subs := func(c channel.Caller, ch string) error { _, _, err := f.SubChannels(ctx, c, ch, 0, 0); return err }
	flags := func(c channel.Caller, ch string) error { _, _, err := f.Flags(ctx, c, ch, 0, 0); return err }

	owner, admin, officer, regular, invited, stranger := caller("owner"), caller("admin"), caller("officer"), caller("regular"), caller("invited"), caller("stranger")
	for _, tt := range []struct {
		name string
		err  error
		want error
	}{
		{"add: missing", add(gone, ""), errMissing},
		{"add: name", add(gone, bad), errInvalid},
		{"add: gone", add(gone, "taken"), channel.ErrCallerGone},
		{"add: taken", add(owner, "tAKEN"), channel.ErrNameTaken},

		{"remove: missing", remove(gone, ""), errMissing},
		{"remove: name", remove(gone, bad), errInvalid},
		{"remove: gone", remove(gone, nowhere), channel.ErrCallerGone},
		{"remove: no channel", remove(stranger, nowhere), channel.ErrNoChannel},
		{"remove: level", remove(admin, "room"), errDenied},
		{"remove: invited", remove(invited, "room"), errDenied},
		{"remove: gone, with override", remove(channel.Caller{User: gone.User, Override: true}, "room"), channel.ErrCallerGone},

		{"rename: missing", rename(stranger, "", ""), errMissing},
		{"rename: new name missing", rename(stranger, bad, ""), errMissing},
		{"rename: name", rename(stranger, bad, bad), errInvalid},
		{"rename: no channel", rename(stranger, nowhere, bad), channel.ErrNoChannel},
		{"rename: new name", rename(stranger, "room", bad), errInvalid},
		{"rename: level", rename(admin, "room", "taken"), errDenied},
		{"rename: taken", rename(owner, "room", "taken"), channel.ErrNameTaken},
		{"rename: same", rename(owner, "room", "Room"), channel.ErrSameName},

		{"invite: missing", invite(stranger, "", ""), errMissing},
		{"invite: user missing", invite(stranger, bad, ""), errMissing},
		{"invite: name", invite(stranger, bad, bad), errInvalid},
		{"invite: no channel", invite(stranger, nowhere, bad), channel.ErrNoChannel},
		{"invite: user name", invite(stranger, "room", bad), errInvalid},
		{"invite: no user", invite(stranger, "room", nowhere), channel.ErrNoUser},
		{"invite: level", invite(regular, "room", "invited"), errDenied},
		{"invite: invited", invite(officer, "room", "invited"), channel.ErrInvited},
		{"invite: member", invite(officer, "room", "regular"), channel.ErrMember},
		{"invite: oneself", invite(officer, "room", "OFFICER"), channel.ErrMember},

		{"accept: missing", accept(stranger, ""), errMissing},
		{"accept: name", accept(stranger, bad), errInvalid},
		{"accept: no channel", accept(stranger, nowhere), channel.ErrNoChannel},
		{"accept: not invited", accept(stranger, "room"), channel.ErrNoInvite},
		{"accept: member", accept(regular, "room"), channel.ErrNoInvite},
		{"accept: override", accept(override("stranger"), "room"), channel.ErrNoInvite},
		{"decline: missing", decline(stranger, ""), errMissing},
		{"decline: name", decline(stranger, bad), errInvalid},
		{"decline: no channel", decline(stranger, nowhere), channel.ErrNoChannel},
		{"decline: not invited", decline(stranger, "room"), channel.ErrNoInvite},
		{"decline: member", decline(owner, "room"), channel.ErrNoInvite},

		{"remove member: missing", removeMember(stranger, "", ""), errMissing},
		{"remove member: user missing", removeMember(stranger, bad, ""), errMissing},
		{"remove member: name", removeMember(stranger, bad, bad), errInvalid},
		{"remove member: no channel", removeMember(stranger, nowhere, bad), channel.ErrNoChannel},
		{"remove member: user name", removeMember(stranger, "room", bad), errInvalid},
		{"remove member: no user", removeMember(stranger, "room", nowhere), channel.ErrNoUser},
		{"remove member: owner leaves", removeMember(owner, "room", "owner"), channel.ErrOwnerStays},
		{"remove member: owner leaves with override", removeMember(override("owner"), "room", "owner"), channel.ErrOwnerStays},
		{"remove member: no member", removeMember(owner, "room", "stranger"), channel.ErrNotMember},
		{"remove member: stranger leaves", removeMember(stranger, "room", "stranger"), channel.ErrNotMember},
		{"remove member: stranger leaves with override", removeMember(override("stranger"), "room", "stranger"), channel.ErrNotMember},
		{"remove member: stranger asks about a stranger", removeMember(stranger, "room", "other"), errDenied},
		{"remove member: stranger", removeMember(stranger, "room", "regular"), errDenied},
		{"remove member: regular", removeMember(regular, "room", "officer"), errDenied},
		{"remove member: regular cancels an invite", removeMember(regular, "room", "invited"), errDenied},
		{"remove member: officer and admin", removeMember(officer, "room", "admin"), errDenied},
		{"remove member: admin and owner", removeMember(admin, "room", "owner"), errDenied},
		{"remove member: override and owner", removeMember(override("admin"), "room", "owner"), errDenied},

		{"set level: missing", setLevel(stranger, "", "", 9), errMissing},
		{"set level: user missing", setLevel(stranger, bad, "", 9), errMissing},
		{"set level: name", setLevel(stranger, bad, bad, 9), errInvalid},
		{"set level: no channel", setLevel(stranger, nowhere, bad, 9), channel.ErrNoChannel},
		{"set level: user name", setLevel(stranger, "room", bad, 9), errInvalid},
		{"set level: level 0", setLevel(stranger, "room", nowhere, 0), errInvalid},
		{"set level: level 5", setLevel(stranger, "room", nowhere, 5), errInvalid},
		{"set level: no user", setLevel(stranger, "room", nowhere, 4), channel.ErrNoUser},
		{"set level: stranger", setLevel(stranger, "room", "stranger", 1), errDenied},
		{"set level: regular", setLevel(regular, "room", "regular", 1), errDenied},
		{"set level: no member", setLevel(owner, "room", "stranger", 1), channel.ErrNotMember},
		{"set level: invited", setLevel(override("owner"), "room", "invited", 1), channel.ErrPending},
		{"set level: the owner's own", setLevel(owner, "room", "owner", 2), errDenied},
		{"set level: the owner's", setLevel(override("admin"), "room", "owner", 2), errDenied},
		{"set level: equal", setLevel(admin, "room", "admin", 3), errDenied},
		{"set level: above", setLevel(officer, "room", "admin", 4), errDenied},
		{"set level: too high", setLevel(officer, "room", "regular", 2), errDenied},
		{"set level: admin makes an owner", setLevel(admin, "room", "regular", 1), errDenied},

		{"add sub: missing", addSub(stranger, "", ""), errMissing},
		{"add sub: sub missing", addSub(stranger, bad, ""), errMissing},
		{"add sub: name", addSub(stranger, bad, "good"), errInvalid},
		{"add sub: sub name", addSub(stranger, nowhere, bad), errInvalid},
		{"add sub: no channel", addSub(stranger, nowhere, "inside"), channel.ErrNoChannel},
		{"add sub: level", addSub(officer, "room", "inside"), errDenied},
		{"add sub: taken", addSub(admin, "room", "iNSIDE"), channel.ErrSubNameTaken},

		{"remove sub: missing", removeSub(stranger, "", ""), errMissing},
		{"remove sub: sub missing", removeSub(stranger, bad, ""), errMissing},
		{"remove sub: name", removeSub(stranger, bad, "good"), errInvalid},
		{"remove sub: sub name", removeSub(stranger, nowhere, bad), errInvalid},
		{"remove sub: no channel", removeSub(stranger, nowhere, nowhere), channel.ErrNoChannel},
		{"remove sub: level", removeSub(officer, "room", nowhere), errDenied},
		{"remove sub: no sub", removeSub(admin, "room", nowhere), channel.ErrNoSubChannel},

		{"rename sub: missing", renameSub(stranger, "", "", ""), errMissing},
		{"rename sub: new name missing", renameSub(stranger, bad, bad, ""), errMissing},
		{"rename sub: name", renameSub(stranger, bad, "good", bad), errInvalid},
		{"rename sub: sub name", renameSub(stranger, nowhere, bad, bad), errInvalid},
		{"rename sub: no channel", renameSub(stranger, nowhere, nowhere, bad), channel.ErrNoChannel},
		{"rename sub: new name", renameSub(stranger, "room", nowhere, bad), errInvalid},
		{"rename sub: level", renameSub(officer, "room", nowhere, "outside"), errDenied},
		{"rename sub: no sub", renameSub(admin, "room", nowhere, "outside"), channel.ErrNoSubChannel},
		{"rename sub: taken", renameSub(admin, "room", "inside", "outside"), channel.ErrSubNameTaken},
		{"rename sub: same", renameSub(admin, "room", "inside", "Inside"), channel.ErrSameName},

		{"set sub level: missing", setSubLevel(stranger, "", "", 9), errMissing},
		{"set sub level: name", setSubLevel(stranger, bad, bad, 9), errInvalid},
		{"set sub level: no channel", setSubLevel(stranger, nowhere, nowhere, 9), channel.ErrNoChannel},
		{"set sub level: level 0", setSubLevel(stranger, "room", nowhere, 0), errInvalid},
		{"set sub level: level 6", setSubLevel(stranger, "room", nowhere, 6), errInvalid},
		{"set sub level: right", setSubLevel(officer, "room", nowhere, 5), errDenied},
		{"set sub level: no sub", setSubLevel(admin, "room", nowhere, 5), channel.ErrNoSubChannel},

		{"set active: missing", setActive(stranger, "", ""), errMissing},
		{"set active: name", setActive(stranger, bad, bad), errInvalid},
		{"set active: no channel", setActive(stranger, nowhere, nowhere), channel.ErrNoChannel},
		{"set active: right", setActive(officer, "room", nowhere), errDenied},
		{"set active: no sub", setActive(admin, "room", nowhere), channel.ErrNoSubChannel},

		{"add flag: missing", addFlag(stranger, "", channel.Flag{}), errMissing},
		{"add flag: name", addFlag(stranger, bad, channel.Flag{}), errInvalid},
		{"add flag: no channel", addFlag(stranger, nowhere, channel.Flag{}), channel.ErrNoChannel},
		{"add flag: level 0", addFlag(stranger, "room", channel.Flag{}), errInvalid},
		{"add flag: level 6", addFlag(stranger, "room", channel.Flag{Level: 6}), errInvalid},
		{"add flag: right", addFlag(officer, "room", channel.Flag{Sub: 1, Level: 5}), errDenied},
		{"add flag: there", addFlag(admin, "room", channel.Flag{Sub: 1, Level: 5}), channel.ErrFlagExists},
		{"remove flag: missing", removeFlag(stranger, "", channel.Flag{}), errMissing},
		{"remove flag: name", removeFlag(stranger, bad, channel.Flag{}), errInvalid},
		{"remove flag: no channel", removeFlag(stranger, nowhere, channel.Flag{}), channel.ErrNoChannel},
		{"remove flag: level", removeFlag(stranger, "room", channel.Flag{}), errInvalid},
		{"remove flag: right", removeFlag(officer, "room", channel.Flag{Sub: 9, Level: 5}), errDenied},
		{"remove flag: not there", removeFlag(admin, "room", channel.Flag{Sub: 9, Level: 5}), channel.ErrNoFlag},

		{"open: missing", open(stranger, "", ""), errMissing},
		{"open: sub missing", open(stranger, "room", ""), errMissing},
		{"open: no channel", open(stranger, bad, bad), channel.ErrNoChannel},
		{"open: no sub", open(stranger, "room", bad), channel.ErrNoSubChannel},
		{"open: level", open(stranger, "room", "inside"), errDenied},
		{"open: invited", open(invited, "room", "inside"), errDenied},
		{"find: missing", find(stranger, "", ""), errMissing},
		{"find: no channel", find(stranger, bad, bad), channel.ErrNoChannel},
		{"find: no sub", find(stranger, "room", bad), channel.ErrNoSubChannel},

		{"members: missing", members(stranger, ""), errMissing},
		{"members: name", members(stranger, bad), errInvalid},
		{"members: no channel", members(stranger, nowhere), channel.ErrNoChannel},
		{"members: stranger", members(stranger, "room"), errDenied},
		{"members: invited", members(invited, "room"), errDenied},
		{"subs: missing", subs(stranger, ""), errMissing},
		{"subs: name", subs(stranger, bad), errInvalid},
		{"subs: no channel", subs(stranger, nowhere), channel.ErrNoChannel},
		{"flags: missing", flags(stranger, ""), errMissing},
		{"flags: name", flags(stranger, bad), errInvalid},
		{"flags: no channel", flags(stranger, nowhere), channel.ErrNoChannel},
		{"find channel: part too short", one(func() error {
			_, err := f.Channels(ctx, channel.Find{Name: "roo"}, 0, 0)
			return err
		}()), errInvalid},
	} {
		checkRefusal(t, tt.name, tt.err, tt.want)
	}

	f.limit = 2
	checkRefusal(t, "add sub: taken comes before full", addSub(admin, "room", "inside"), channel.ErrSubNameTaken)
	checkRefusal(t, "add sub: full", addSub(admin, "room", "third"), channel.ErrSubChannelsFull)

	// Nothing has changed.
	if got := state(t, f, "Room"); got != roomState {
		t.Errorf("the channel has changed: %s", cmp.Diff(roomState, got))
	}
}

// roomState is what state tells of newRoom.
const roomState = `Room: owner 1, admin 2, officer 3, regular 4, invited invited; Inside 0 4 false, Outside 1 5 false; 1:5`

// state tells all that is stored of a channel.
func state(t testing.TB, f *fixture, name string) string {
	t.Helper()
	ch, members, err := f.Members(ctx, override("owner"), name, channel.MemberFilter{}, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	_, subs, err := f.SubChannels(ctx, override("owner"), name, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	_, flags, err := f.Flags(ctx, override("owner"), name, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var parts [3][]string
	for _, m := range members.Rows {
		level := fmt.Sprint(uint8(m.Level))
		if m.Pending {
			level = "invited"
		}
		parts[0] = append(parts[0], m.Name+" "+level)
	}
	for _, s := range subs.Rows {
		parts[1] = append(parts[1], fmt.Sprintf("%s %d %d %v", s.Name, s.ID, s.Lowest, s.Active))
	}
	for _, flag := range flags.Rows {
		parts[2] = append(parts[2], fmt.Sprintf("%d:%d", flag.Sub, flag.Level))
	}
	if members.Total != len(members.Rows) || subs.Total != len(subs.Rows) || flags.Total != len(flags.Rows) {
		t.Errorf("totals %d, %d, %d", members.Total, subs.Total, flags.Total)
	}
	return fmt.Sprintf("%s: %s; %s; %s", ch.Name, strings.Join(parts[0], ", "), strings.Join(parts[1], ", "), strings.Join(parts[2], ", "))
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		name string
		ok   bool
	}{
		{"room", true},
		{"Zimmer-ä", true},
		{"日本語版", true},
		{"\u65e5\u672c\u8a9e", false}, // three
		{strings.Repeat("a", 32), true},
		{strings.Repeat("é", 32), true}, // characters, not bytes
		{strings.Repeat("😀", 16), true},
		{"😀😀", false},
		{"😀😀😀😀", true},
		{"a@b.c", true},

		{"", false},
		{"abc", false},
		{strings.Repeat("a", 33), false},
		{strings.Repeat("😀", 17), false},
		{"a b c", false}, {"a\tbcd", false}, {"a\x00bcd", false}, {"abcd\n", false}, {"ab\u00a0cd", false}, {"ab\u2028cd", false},
		{"ab\u200bcd", false}, {"ab\u202ecd", false}, {"ab\u2066cd", false}, {"ab\ufeffcd", false}, {"ab\x85cd", false}, {"abcd\xff", false},
	} {
		for what, check := range map[string]func(string) error{"channel": channel.CheckName, "sub": channel.CheckSubName} {
			err := check(tt.name)
			switch {
			case tt.ok && err != nil:
				t.Errorf("%s %q: %v", what, tt.name, err)
			case tt.name == "":
				checkRefusal(t, what, err, errMissing)
			case !tt.ok:
				checkRefusal(t, fmt.Sprintf("%s %q", what, tt.name), err, errInvalid)
			}
		}
	}
}

// Who has lost the account, or has been locked, does nothing any more, with the
// override neither.
func TestLockedCaller(t *testing.T) {
	f := newRoom(t)
	if _, err := f.db.Change(ctx, id("owner"), func(r *account.Record) error { r.Locked = true; return nil }); err != nil {
		t.Fatal(err)
	}
	for _, c := range []channel.Caller{caller("owner"), override("owner")} {
		_, err := f.Remove(ctx, c, "room")
		checkRefusal(t, "locked", err, channel.ErrCallerLocked)
	}
}

// TestChanges has one change after another, what each tells, and what is
// stored then.
func TestChanges(t *testing.T) {
	f := newRoom(t)
	room := must[channel.Rights](t)(f.Find(ctx, caller("owner"), "room", "inside")).Channel
	everybody := []wire.UserID{id("admin"), id("officer"), id("owner"), id("regular")} // in the order of ids
	member := func(name string, level wire.Level) channel.Member {
		return channel.Member{User: user(name), Level: level}
	}
	invite := channel.Member{User: user("invited"), Level: wire.Regular, Pending: true}
	inside := channel.SubChannel{ID: 0, Name: "Inside", Lowest: wire.Regular}
	insideNow := channel.SubChannel{ID: 0, Name: "INSIDE", Lowest: wire.Admin, Active: true}
	outside := channel.SubChannel{ID: 1, Name: "Outside", Lowest: wire.Public}
	with := func(names ...string) []wire.UserID {
		ids := append([]wire.UserID(nil), everybody...)
		for _, name := range names {
			ids = append(ids, id(name))
		}
		return ids
	}
	sub := func(s channel.SubChannel, name string, lowest wire.Level, active bool) channel.SubChannel {
		s.Name, s.Lowest, s.Active = name, lowest, active
		return s
	}
	for _, step := range []struct {
		name string
		got  func() (any, error)
		want any
		then string
	}{
		{"decline", func() (any, error) { return f.Decline(ctx, caller("invited"), "ROOM") },
			channel.MemberChange{Channel: room, Member: invite, OldLevel: 4, WasPending: true, By: user("invited"), Hear: with("invited")},
			"Room: owner 1, admin 2, officer 3, regular 4; Inside 0 4 false, Outside 1 5 false; 1:5"},
		{"invite", func() (any, error) { return f.Invite(ctx, caller("officer"), "room", "INVITED") },
			channel.MemberChange{Channel: room, Member: invite, By: user("officer"), Hear: with("invited")}, roomState},
		{"cancel", func() (any, error) { return f.RemoveMember(ctx, caller("officer"), "room", "invited") },
			channel.MemberChange{Channel: room, Member: invite, OldLevel: 4, WasPending: true, By: user("officer"), Hear: with("invited")},
			"Room: owner 1, admin 2, officer 3, regular 4; Inside 0 4 false, Outside 1 5 false; 1:5"},
		{"invite oneself with the override", func() (any, error) { return f.Invite(ctx, override("invited"), "room", "invited") },
			channel.MemberChange{Channel: room, Member: invite, By: user("invited"), Hear: with("invited")}, roomState},
		{"decline by removing", func() (any, error) { return f.RemoveMember(ctx, caller("invited"), "room", "invited") },
			channel.MemberChange{Channel: room, Member: invite, OldLevel: 4, WasPending: true, By: user("invited"), Hear: with("invited")},
			"Room: owner 1, admin 2, officer 3, regular 4; Inside 0 4 false, Outside 1 5 false; 1:5"},
		{"invite again", func() (any, error) { return f.Invite(ctx, caller("owner"), "room", "invited") },
			channel.MemberChange{Channel: room, Member: invite, By: user("owner"), Hear: with("invited")}, roomState},
		{"accept", func() (any, error) { return f.Accept(ctx, caller("invited"), "room") },
			channel.MemberChange{Channel: room, Member: member("invited", 4), OldLevel: 4, WasPending: true, By: user("invited"),
				Hear: []wire.UserID{id("admin"), id("invited"), id("officer"), id("owner"), id("regular")}},
			"Room: owner 1, admin 2, officer 3, regular 4, invited 4; Inside 0 4 false, Outside 1 5 false; 1:5"},
		{"kick", func() (any, error) { return f.RemoveMember(ctx, caller("officer"), "room", "invited") },
			channel.MemberChange{Channel: room, Member: member("invited", 4), OldLevel: 4, By: user("officer"), Hear: with("invited")},
			"Room: owner 1, admin 2, officer 3, regular 4; Inside 0 4 false, Outside 1 5 false; 1:5"},
		{"set level", func() (any, error) { return f.SetLevel(ctx, caller("officer"), "room", "regular", 3) },
			[]channel.MemberChange{{Channel: room, Member: member("regular", 3), OldLevel: 4, By: user("officer"), Hear: everybody}},
			"Room: owner 1, admin 2, officer 3, regular 3; Inside 0 4 false, Outside 1 5 false; 1:5"},
		{"set the level that is", func() (any, error) { return f.SetLevel(ctx, caller("admin"), "room", "regular", 3) },
			[]channel.MemberChange{{Channel: room, Member: member("regular", 3), OldLevel: 3, By: user("admin"), Hear: everybody}},
			"Room: owner 1, admin 2, officer 3, regular 3; Inside 0 4 false, Outside 1 5 false; 1:5"},
		{"transfer", func() (any, error) { return f.SetLevel(ctx, caller("owner"), "room", "regular", 1) },
			[]channel.MemberChange{
				{Channel: room, Member: member("regular", 1), OldLevel: 3, By: user("owner"), Hear: everybody},
				{Channel: room, Member: member("owner", 2), OldLevel: 1, By: user("owner"), Hear: everybody},
			},
			"Room: owner 2, admin 2, officer 3, regular 1; Inside 0 4 false, Outside 1 5 false; 1:5"},
		{"take back with the override", func() (any, error) { return f.SetLevel(ctx, override("owner"), "room", "owner", 1) },
			[]channel.MemberChange{
				{Channel: room, Member: member("owner", 1), OldLevel: 2, By: user("owner"), Hear: everybody},
				{Channel: room, Member: member("regular", 2), OldLevel: 1, By: user("owner"), Hear: everybody},
			},
			"Room: owner 1, admin 2, officer 3, regular 2; Inside 0 4 false, Outside 1 5 false; 1:5"},
		{"another case", func() (any, error) { return f.Rename(ctx, caller("owner"), "room", "ROOM") },
			channel.ChannelChange{Channel: channel.Channel{ID: room.ID, Name: "ROOM"}, OldName: "Room", By: user("owner"), Hear: everybody},
			"ROOM: owner 1, admin 2, officer 3, regular 2; Inside 0 4 false, Outside 1 5 false; 1:5"},
		{"rename", func() (any, error) { return f.Rename(ctx, override("stranger"), "room", "Room") },
			channel.ChannelChange{Channel: room, OldName: "ROOM", By: user("stranger"), Hear: everybody},
			"Room: owner 1, admin 2, officer 3, regular 2; Inside 0 4 false, Outside 1 5 false; 1:5"},
		{"set sub level", func() (any, error) { return f.SetSubLevel(ctx, caller("admin"), "room", "inside", 2) },
			channel.SubChange{Channel: room, Sub: sub(inside, "Inside", 2, false), Old: inside, By: user("admin"), Hear: everybody},
			"Room: owner 1, admin 2, officer 3, regular 2; Inside 0 2 false, Outside 1 5 false; 1:5"},
		{"set active", func() (any, error) { return f.SetActive(ctx, caller("admin"), "room", "inside", true) },
			channel.SubChange{Channel: room, Sub: sub(inside, "Inside", 2, true), Old: sub(inside, "Inside", 2, false), By: user("admin"), Hear: everybody},
			"Room: owner 1, admin 2, officer 3, regular 2; Inside 0 2 true, Outside 1 5 false; 1:5"},
		{"another case of a sub-channel", func() (any, error) { return f.RenameSub(ctx, caller("admin"), "room", "inside", "INSIDE") },
			channel.SubChange{Channel: room, Sub: insideNow, Old: sub(inside, "Inside", 2, true), By: user("admin"), Hear: everybody},
			"Room: owner 1, admin 2, officer 3, regular 2; INSIDE 0 2 true, Outside 1 5 false; 1:5"},
		{"remove sub", func() (any, error) { return f.RemoveSub(ctx, caller("admin"), "room", "inside") },
			channel.SubChange{Channel: room, Sub: insideNow, Old: insideNow, By: user("admin"), Hear: everybody},
			"Room: owner 1, admin 2, officer 3, regular 2; Outside 1 5 false; 1:5"},
		{"add flag of nothing", func() (any, error) { return f.AddFlag(ctx, caller("admin"), "room", channel.Flag{Sub: 0, Level: 4}) },
			channel.FlagChange{Channel: room, Flag: channel.Flag{Sub: 0, Level: 4}, By: user("admin"), Hear: everybody},
			"Room: owner 1, admin 2, officer 3, regular 2; Outside 1 5 false; 1:5, 0:4"},
		{"add sub, lowest free id", func() (any, error) { return f.AddSub(ctx, caller("admin"), "room", "First") },
			channel.SubChange{Channel: room, Sub: channel.SubChannel{ID: 0, Name: "First", Lowest: 4}, By: user("admin"), Hear: everybody},
			"Room: owner 1, admin 2, officer 3, regular 2; Outside 1 5 false, First 0 4 false; 1:5, 0:4"},
		{"add sub, next id", func() (any, error) { return f.AddSub(ctx, caller("admin"), "room", "Third") },
			channel.SubChange{Channel: room, Sub: channel.SubChannel{ID: 2, Name: "Third", Lowest: 4}, By: user("admin"), Hear: everybody},
			"Room: owner 1, admin 2, officer 3, regular 2; Outside 1 5 false, First 0 4 false, Third 2 4 false; 1:5, 0:4"},
		{"remove flag", func() (any, error) { return f.RemoveFlag(ctx, caller("admin"), "room", channel.Flag{Sub: 1, Level: 5}) },
			channel.FlagChange{Channel: room, Flag: channel.Flag{Sub: 1, Level: 5}, SubName: outside.Name, By: user("admin"), Hear: everybody},
			"Room: owner 1, admin 2, officer 3, regular 2; Outside 1 5 false, First 0 4 false, Third 2 4 false; 0:4"},
		{"leave", func() (any, error) { return f.RemoveMember(ctx, override("regular"), "room", "regular") },
			channel.MemberChange{Channel: room, Member: member("regular", 2), OldLevel: 2, By: user("regular"),
				Hear: []wire.UserID{id("admin"), id("officer"), id("owner"), id("regular")}},
			"Room: owner 1, admin 2, officer 3; Outside 1 5 false, First 0 4 false, Third 2 4 false; 0:4"},
	} {
		got, err := step.got()
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s: %s", step.name, diff)
		}
		if got := state(t, f, "room"); got != step.then {
			t.Errorf("%s: %s", step.name, cmp.Diff(step.then, got))
		}
	}

	must[channel.MemberChange](t)(f.Invite(ctx, caller("officer"), "room", "invited"))
	got := must[channel.ChannelChange](t)(f.Remove(ctx, caller("owner"), "room"))
	want := channel.ChannelChange{Channel: room, OldName: "Room", By: user("owner"),
		Hear: []wire.UserID{id("admin"), id("officer"), id("owner")}, Invited: []channel.User{user("invited")}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// The name is free, the id is not, and nothing is left of what was there.
	again := must[channel.MemberChange](t)(f.Add(ctx, caller("admin"), "Room"))
	if diff := cmp.Diff(channel.MemberChange{Channel: channel.Channel{ID: room.ID + 1, Name: "Room"}, Member: member("admin", 1),
		By: user("admin"), Hear: []wire.UserID{id("admin")}}, again); diff != "" {
		t.Error(diff)
	}
	if got, want := state(t, f, "room"), "Room: admin 1; ; "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRights(t *testing.T) {
	f := newRoom(t)
	must[channel.FlagChange](t)(f.AddFlag(ctx, caller("owner"), "room", channel.Flag{Sub: 0, Level: wire.Regular}))
	must[channel.SubChange](t)(f.SetActive(ctx, caller("owner"), "room", "outside", true))
	for _, tt := range []struct {
		c          channel.Caller
		sub        string
		level      wire.Level
		open, cast bool
	}{
		{caller("owner"), "inside", 1, true, true},
		{caller("officer"), "inside", 3, true, true},
		{caller("regular"), "inside", 4, true, false},
		{caller("invited"), "inside", 5, false, false},
		{caller("stranger"), "inside", 5, false, false},
		{caller("owner"), "OUTSIDE", 1, true, true},
		{caller("regular"), "outside", 4, true, true},
		{caller("invited"), "outside", 5, true, false},
		{caller("stranger"), "outside", 5, true, false},
		{channel.Caller{}, "outside", 5, true, false},
		{override("stranger"), "inside", 1, true, true},
		{override("regular"), "inside", 1, true, true},
	} {
		r := must[channel.Rights](t)(f.Find(ctx, tt.c, "ROOM", tt.sub))
		if r.Level != tt.level || r.MayOpen() != tt.open || r.MayCast() != tt.cast || r.Channel.Name != "Room" || !strings.EqualFold(r.Sub.Name, tt.sub) || r.Sub.Active != (r.Sub.ID == 1) {
			t.Errorf("%s %+v: %+v", tt.sub, tt.c, r)
		}
		again := must[channel.Rights](t)(f.Rights(ctx, tt.c, r.Channel.ID, r.Sub.ID))
		if diff := cmp.Diff(r, again); diff != "" {
			t.Errorf("%s %+v by id: %s", tt.sub, tt.c, diff)
		}
		opened, err := f.Open(ctx, tt.c, "room", tt.sub)
		if tt.open && (err != nil || opened != r) {
			t.Errorf("%s %+v: opened %+v, %v", tt.sub, tt.c, opened, err)
		}
		if !tt.open {
			checkRefusal(t, tt.sub, err, errDenied)
		}
	}
	for _, ch := range []wire.ChannelID{0, 2, 1 << 63, 1<<64 - 1} {
		_, err := f.Rights(ctx, caller("owner"), ch, 0)
		checkRefusal(t, "no channel", err, channel.ErrNoChannel)
	}
	_, err := f.Rights(ctx, caller("owner"), 1, 255)
	checkRefusal(t, "no sub-channel", err, channel.ErrNoSubChannel)
}

// Strangers are shown what is open to the public, and nothing of the rest.
func TestListings(t *testing.T) {
	f := newRoom(t)
	must[channel.FlagChange](t)(f.AddFlag(ctx, caller("owner"), "room", channel.Flag{Sub: 0, Level: 4}))
	must[channel.FlagChange](t)(f.AddFlag(ctx, caller("owner"), "room", channel.Flag{Sub: 9, Level: 5}))
	must[channel.MemberChange](t)(f.Add(ctx, caller("regular"), "Äther"+"-Room"))
	for _, tt := range []struct {
		c           channel.Caller
		subs, flags int
	}{
		{caller("owner"), 2, 3}, {caller("regular"), 2, 3}, {caller("invited"), 1, 1}, {caller("stranger"), 1, 1}, {override("stranger"), 2, 3},
	} {
		ch, subs, err := f.SubChannels(ctx, tt.c, "room", 0, 0)
		if err != nil || len(subs.Rows) != tt.subs || subs.Total != tt.subs || ch.Name != "Room" {
			t.Errorf("%+v: sub-channels %+v, %v", tt.c, subs, err)
		}
		ch, flags, err := f.Flags(ctx, tt.c, "room", 0, 0)
		if err != nil || len(flags.Rows) != tt.flags || flags.Total != tt.flags || ch.Name != "Room" {
			t.Errorf("%+v: flags %+v, %v", tt.c, flags, err)
		}
	}
	for _, tt := range []struct {
		filter channel.MemberFilter
		want   int
	}{
		{channel.MemberFilter{}, 5}, {channel.MemberFilter{UserName: "OWN"}, 1}, {channel.MemberFilter{Display: "the "}, 5},
		{channel.MemberFilter{UserName: "i", Display: "Off"}, 1}, {channel.MemberFilter{UserName: "%"}, 0}, {channel.MemberFilter{UserName: "_"}, 0},
		{channel.MemberFilter{Display: "' OR 1=1 --"}, 0}, {channel.MemberFilter{UserName: "\x00"}, 0}, {channel.MemberFilter{UserName: "\xff"}, 0},
		{channel.MemberFilter{Display: "the", Display2: "OFF"}, 1}, {channel.MemberFilter{Display2: "nobody"}, 0},
		{channel.MemberFilter{Level: "4"}, 2}, {channel.MemberFilter{Level: "4", Pending: "0"}, 1}, {channel.MemberFilter{Level: "44"}, 0},
		{channel.MemberFilter{UserID: id("owner").String()}, 1}, {channel.MemberFilter{UserID: strings.ToUpper(id("owner").String())}, 1},
		{channel.MemberFilter{UserID: id("owner").String() + "0"}, 0}, {channel.MemberFilter{UserID: "x"}, 0},
	} {
		_, page, err := f.Members(ctx, caller("regular"), "room", tt.filter, 0, 0)
		if err != nil || len(page.Rows) != tt.want || page.Total != tt.want || page.More {
			t.Errorf("%+v: %+v, %v", tt.filter, page, err)
		}
	}
	for _, tt := range []struct {
		find channel.Find
		want int
	}{
		{channel.Find{}, 2}, {channel.Find{Name: "ROOM"}, 2}, {channel.Find{Name: "äTHER"}, 1}, {channel.Find{Name: "er-ro"}, 1},
		{channel.Find{ID: 1, ByID: true}, 1}, {channel.Find{ID: 3, ByID: true}, 0}, {channel.Find{ByID: true}, 0},
		{channel.Find{ID: 1<<64 - 1, ByID: true}, 0}, {channel.Find{Name: "nowhere", ID: 1, ByID: true}, 0}, {channel.Find{Name: "%%%%"}, 0},
		{channel.Find{PartOfID: "2"}, 1}, {channel.Find{PartOfID: "12"}, 0}, {channel.Find{PartOfName: "OO"}, 2}, {channel.Find{PartOfName: "Äth"}, 1},
		{channel.Find{Name: "room", PartOfID: "1"}, 1}, {channel.Find{ID: 1, ByID: true, PartOfName: "-"}, 0}, {channel.Find{PartOfName: "_"}, 0},
	} {
		page, err := f.Channels(ctx, tt.find, 0, 0)
		if err != nil || len(page.Rows) != tt.want || page.Total != tt.want || page.More {
			t.Errorf("%+v: %+v, %v", tt.find, page, err)
		}
	}
	mine := must[channel.Page[channel.Membership]](t)(f.Memberships(ctx, id("regular"), 0, 1))
	if !mine.More || mine.Total != 2 || len(mine.Rows) != 1 {
		t.Errorf("got %+v", mine)
	}
	rest := must[channel.Page[channel.Membership]](t)(f.Memberships(ctx, id("regular"), mine.Next, 1))
	if rest.More || rest.Total != 2 || len(rest.Rows) != 1 || rest.Rows[0].Level != wire.Owner {
		t.Errorf("got %+v", rest)
	}
	if diff := cmp.Diff(append(mine.Rows, rest.Rows...), f.memberships(t, "regular")); diff != "" {
		t.Error(diff)
	}
	if list := f.memberships(t, "stranger"); len(list) != 0 {
		t.Errorf("got %+v", list)
	}
}

func TestLimits(t *testing.T) {
	f := newFixture(t)
	ann, bob, full := f.user(t, "ann"), f.user(t, "bob"), f.user(t, "full")
	for i := range channel.MaxChannels {
		must[channel.MemberChange](t)(f.Add(ctx, full, fmt.Sprint("full", i)))
	}
	_, err := f.Add(ctx, full, "more")
	checkRefusal(t, "add", err, channel.ErrTooManyChannels)
	_, err = f.Add(ctx, full, "full0")
	checkRefusal(t, "a taken name comes first", err, channel.ErrNameTaken)

	for i := range channel.MaxInvites + 1 {
		must[channel.MemberChange](t)(f.Add(ctx, ann, fmt.Sprint("anns", i)))
	}
	_, err = f.Invite(ctx, ann, "anns0", "full")
	checkRefusal(t, "invite who is in 200 channels", err, channel.ErrUserFull)
	for i := range channel.MaxInvites {
		must[channel.MemberChange](t)(f.Invite(ctx, ann, fmt.Sprint("anns", i), "bob"))
	}
	_, err = f.Invite(ctx, ann, "anns100", "bob")
	checkRefusal(t, "invite who has 100 invites", err, channel.ErrUserFull)
	// Invites do not keep anybody from making channels or from joining them.
	for i := range channel.MaxChannels {
		must[channel.MemberChange](t)(f.Add(ctx, bob, fmt.Sprint("bobs", i)))
	}
	_, err = f.Accept(ctx, bob, "anns0")
	checkRefusal(t, "accept", err, channel.ErrTooManyChannels)
	// A login is told of all memberships, and not of invites.
	owned := 0
	for _, m := range f.memberships(t, "bob") {
		if !m.Pending {
			owned++
		}
	}
	if _, list, err := f.db.Login(ctx, bob.User); err != nil || len(list) != owned || owned != channel.MaxChannels {
		t.Errorf("%d of %d memberships, %v", len(list), owned, err)
	}
	must[channel.ChannelChange](t)(f.Remove(ctx, bob, "bobs0"))
	must[channel.MemberChange](t)(f.Accept(ctx, bob, "anns0"))

	// The limit of a channel.
	must[channel.ChannelChange](t)(f.Rename(ctx, ann, "anns1", "popular"))
	ch := must[channel.Page[channel.Channel]](t)(f.Channels(ctx, channel.Find{Name: "popular"}, 0, 0)).Rows[0].ID
	f.invite(t, ch, channel.MaxChannelInvites-1) // one is bob's
	f.user(t, "last")
	_, err = f.Invite(ctx, ann, "popular", "last")
	checkRefusal(t, "invite to a channel with 1000 invites", err, channel.ErrInvitesFull)
	_, err = f.Invite(ctx, ann, "popular", "bob")
	checkRefusal(t, "being invited comes first", err, channel.ErrInvited)
	if n := len(must[channel.ChannelChange](t)(f.Remove(ctx, ann, "popular")).Invited); n != channel.MaxChannelInvites {
		t.Errorf("%d invites went with the channel", n)
	}

	// 255 sub-channels at most, whatever is configured.
	must[channel.MemberChange](t)(f.Accept(ctx, f.again(t, "last", "anns2", ann), "anns2"))
	for _, tt := range []struct{ configured, want int }{{0, 50}, {-1, 50}, {1000, 255}} {
		f.limit = tt.configured
		for i := f.subs(t, "anns2"); i < tt.want; i++ {
			must[channel.SubChange](t)(f.AddSub(ctx, ann, "anns2", fmt.Sprint("sub-", i)))
		}
		_, err = f.AddSub(ctx, ann, "anns2", "more")
		checkRefusal(t, "add sub", err, channel.ErrSubChannelsFull)
	}
}

// again invites a user.
func (f *fixture) again(t *testing.T, name, ch string, by channel.Caller) channel.Caller {
	t.Helper()
	must[channel.MemberChange](t)(f.Invite(ctx, by, ch, name))
	return caller(name)
}

func (f *fixture) subs(t *testing.T, ch string) int {
	t.Helper()
	_, page, err := f.SubChannels(ctx, override("ann"), ch, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	return page.Total
}

// A Service that is told nothing has the defaults, and an error of the store
// is no rule.
func TestDefaultsAndErrors(t *testing.T) {
	f := newRoom(t)
	s := channel.New(channel.Config{Store: f.db})
	for i := range 48 {
		must[channel.SubChange](t)(s.AddSub(ctx, caller("owner"), "room", fmt.Sprint("sub-", i)))
	}
	_, err := s.AddSub(ctx, caller("owner"), "room", "more")
	checkRefusal(t, "add sub", err, channel.ErrSubChannelsFull)

	mine := errors.New("mine")
	ended, cancel := context.WithCancelCause(ctx)
	cancel(mine)
	for what, call := range map[string]func() error{
		"Add":         func() error { _, err := s.Add(ended, caller("owner"), "another"); return err },
		"Rename":      func() error { _, err := s.Rename(ended, caller("owner"), "room", "another"); return err },
		"Invite":      func() error { _, err := s.Invite(ended, caller("owner"), "room", "stranger"); return err },
		"SetLevel":    func() error { _, err := s.SetLevel(ended, caller("owner"), "room", "admin", 1); return err },
		"AddFlag":     func() error { _, err := s.AddFlag(ended, caller("owner"), "room", channel.Flag{Level: 1}); return err },
		"Open":        func() error { _, err := s.Open(ended, caller("owner"), "room", "inside"); return err },
		"Rights":      func() error { _, err := s.Rights(ended, caller("owner"), 1, 0); return err },
		"Memberships": func() error { _, err := s.Memberships(ended, id("owner"), 0, 0); return err },
		"SubChannels": func() error { _, _, err := s.SubChannels(ended, caller("owner"), "room", 0, 0); return err },
	} {
		err := call()
		if _, rule := errors.AsType[*channel.RuleError](err); rule || !errors.Is(err, mine) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

// TestRemovedAccount: an account that owns a channel stays, and the channels of
// one that goes are named, with who hears of it.
func TestRemovedAccount(t *testing.T) {
	f := newRoom(t)
	must[channel.MemberChange](t)(f.Add(ctx, caller("admin"), "Second"))
	must[channel.MemberChange](t)(f.Invite(ctx, caller("admin"), "second", "owner"))
	accounts := account.New(account.Config{Store: f.db})
	allow := func(account.User, account.User) error { return nil }
	for _, name := range []string{"owner", "admin"} {
		if err := accounts.CheckRemove(ctx, id(name)); err != account.ErrOwnsChannel {
			t.Errorf("%s: got %v, want ErrOwnsChannel", name, err)
		}
		if _, err := accounts.Remove(ctx, id("stranger"), name, allow); err != account.ErrOwnsChannel {
			t.Errorf("%s: got %v, want ErrOwnsChannel", name, err)
		}
	}
	must[[]channel.MemberChange](t)(f.SetLevel(ctx, caller("owner"), "room", "admin", 1))
	out, err := accounts.Remove(ctx, id("stranger"), "owner", allow)
	if err != nil {
		t.Fatal(err)
	}
	want := []account.Departure{
		{Channel: 1, Name: "Room", Level: wire.Admin, Members: []wire.UserID{id("admin"), id("officer"), id("regular")}},
		{Channel: 2, Name: "Second", Level: wire.Regular, Pending: true, Members: []wire.UserID{id("admin")}},
	}
	if diff := cmp.Diff(want, out.Left); diff != "" {
		t.Error(diff)
	}
	if list := f.memberships(t, "owner"); len(list) != 0 {
		t.Errorf("left: %+v", list)
	}
	if got, want := state(t, f, "room"), "Room: admin 1, officer 3, regular 4, invited invited; Inside 0 4 false, Outside 1 5 false; 1:5"; got != want {
		t.Error(cmp.Diff(want, got))
	}
	if out, err := accounts.Remove(ctx, id("stranger"), "stranger", allow); err != nil || out.Left != nil {
		t.Errorf("got %+v, %v", out, err)
	}
}
