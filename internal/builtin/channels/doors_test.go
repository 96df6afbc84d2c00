package channels_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/wire"
)

// ref names a sub-channel of the room.
func ref(sub wire.SubID) wire.SubRef { return wire.SubRef{Channel: 1, Sub: sub} }

// lists checks what the session has open, and where it may cast.
func (f *fixture) lists(open, writable wire.SubList) {
	f.t.Helper()
	if f.open != open || f.writable != writable {
		f.t.Errorf("open %v, writable %v; want %v and %v", f.open, f.writable, open, writable)
	}
}

func TestOpenAndClose(t *testing.T) {
	f := newRoom(t)
	f.call("regular", "open_sub_ch", "-ch_name rOOM -sub_name inSIDE").End(wire.NoErrors) // a flag stands for level 4
	f.lists(wire.SubList{ref(0)}, wire.SubList{})
	f.call("regular", "open_sub_ch", "-ch_name Room -sub_name Outside").End(wire.NoErrors)
	f.lists(wire.SubList{ref(0), ref(1)}, wire.SubList{1: ref(1)})
	f.call("regular", "open_sub_ch", "-ch_name Room -sub_name Outside").End(wire.NoErrors) // is open already
	f.lists(wire.SubList{ref(0), ref(1)}, wire.SubList{1: ref(1)})

	c := f.call("regular", "ls_open_chs", "")
	c.ExpectText("\n" +
		"channel_name    sub_channel_name    channel_id    sub_channel_id    read_only\n" +
		"-------         -------             -------       -------           -------\n" +
		"Room            Inside              1             0                 1\n" +
		"Room            Outside             1             1                 0\n")
	c.End(wire.NoErrors)

	f.call("regular", "close_sub_ch", "-ch_name Room -sub_name Inside").End(wire.NoErrors)
	f.call("regular", "close_sub_ch", "-ch_name Room -sub_name Inside").End(wire.NoErrors) // is not open
	f.lists(wire.SubList{1: ref(1)}, wire.SubList{1: ref(1)})
	// Nobody needs a level to close.
	f.call("stranger", "close_sub_ch", "-ch_name Room -sub_name Inside").End(wire.NoErrors)
	f.call("stranger", "close_sub_ch", "-ch_name Room -sub_name Outside").End(wire.NoErrors)
	f.lists(wire.SubList{}, wire.SubList{})

	c = f.call("regular", "ls_open_chs", "")
	c.ExpectText("\n" +
		"channel_name    sub_channel_name    channel_id    sub_channel_id    read_only\n" +
		"-------         -------             -------       -------           -------\n")
	c.End(wire.NoErrors)
	f.told() // nobody else is told
}

// A seventh sub-channel is refused, one of the six is not.
func TestOpenFull(t *testing.T) {
	f := newRoom(t)
	f.subs = 10
	for i := range wire.MaxOpenSubs + 1 {
		f.call("owner", "add_sub_ch", fmt.Sprintf("-ch_name Room -sub_name Next%d", i)).End(wire.NoErrors)
	}
	f.told(f.events...)
	for i := range wire.MaxOpenSubs {
		f.call("owner", "open_sub_ch", fmt.Sprintf("-ch_name Room -sub_name Next%d", i)).End(wire.NoErrors)
	}
	before := f.open
	f.call("owner", "open_sub_ch", "-ch_name Room -sub_name Next5").End(wire.NoErrors)
	c := f.call("owner", "open_sub_ch", "-ch_name Room -sub_name Next6")
	c.Expect(wire.Err, "You have 6 sub-channels open, which is the most; close one with close_sub_ch first.\n")
	c.End(wire.ExecutionFail)
	f.lists(before, before)
}

// What changes between the first look and the opening is seen.
func TestOpenMeanwhile(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		change     func(*fixture) error
	}{
		{"removed", "The channel has no such sub-channel.", func(f *fixture) error {
			_, err := f.rules.RemoveSub(f.t.Context(), caller("owner"), "Room", "Inside")
			return err
		}},
		{"channel removed", "There is no such channel.", func(f *fixture) error {
			_, err := f.rules.Remove(f.t.Context(), caller("owner"), "Room")
			return err
		}},
		{"level changed", "It is shut.", func(f *fixture) error {
			_, err := f.rules.RemoveMember(f.t.Context(), caller("owner"), "Room", "regular")
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newRoom(t)
			var failed error
			f.meanwhile = func() { failed = tt.change(f) }
			c := f.call("regular", "open_sub_ch", "-ch_name Room -sub_name Inside")
			c.Expect(wire.Err, tt.text+"\n")
			c.End(wire.InvalidParams)
			f.lists(wire.SubList{}, wire.SubList{})
			if failed != nil {
				t.Fatal(failed)
			}
		})
	}
	t.Run("flag removed", func(t *testing.T) {
		f := newRoom(t)
		f.meanwhile = func() {
			if _, err := f.rules.RemoveFlag(t.Context(), caller("owner"), "Room", channel.Flag{Sub: 0, Level: wire.Regular}); err != nil {
				t.Error(err)
			}
		}
		f.call("regular", "open_sub_ch", "-ch_name Room -sub_name Inside").End(wire.NoErrors)
		f.lists(wire.SubList{ref(0)}, wire.SubList{ref(0)})
	})
}

// A sub-channel that is just going away is not listed.
func TestListOpenRemoved(t *testing.T) {
	f := newRoom(t)
	f.open = wire.SubList{ref(9), {Channel: 8}, ref(1)}
	f.writable = f.open
	c := f.call("regular", "ls_open_chs", "")
	c.ExpectText("\n" +
		"channel_name    sub_channel_name    channel_id    sub_channel_id    read_only\n" +
		"-------         -------             -------       -------           -------\n" +
		"Room            Outside             1             1                 0\n")
	c.End(wire.NoErrors)
}

// Clearing the override closes what the own level does not allow, and takes
// casting where it depended on the override.
func TestOverride(t *testing.T) {
	f := newRoom(t)
	f.call("stranger", "ch_owner_override", "-state 1").End(wire.NoErrors)
	if !f.session.Override {
		t.Error("the override is not set")
	}
	f.call("stranger!", "open_sub_ch", "-ch_name Room -sub_name Inside").End(wire.NoErrors)
	f.call("stranger!", "open_sub_ch", "-ch_name Room -sub_name Outside").End(wire.NoErrors)
	f.lists(wire.SubList{ref(0), ref(1)}, wire.SubList{ref(0), ref(1)})
	f.call("stranger!", "ch_owner_override", "-state 0").End(wire.NoErrors)
	f.lists(wire.SubList{1: ref(1)}, wire.SubList{}) // a flag stands for level 5
	f.call("stranger", "ch_owner_override", "-state 1").End(wire.NoErrors)
	f.lists(wire.SubList{1: ref(1)}, wire.SubList{1: ref(1)})
	if want := []bool{true, false, true}; !slices.Equal(f.sets, want) {
		t.Errorf("set: %v, want %v", f.sets, want)
	}
	f.told() // nobody is told
	for _, on := range []string{"on=true", "on=false"} {
		if want := fmt.Sprintf(`msg="owner override" %s session=%s user=%s`, on, f.session.ID, id("stranger")); !strings.Contains(f.log.String(), want) {
			t.Errorf("the log has no %q:\n%s", want, f.log)
		}
	}
}

func TestSessionFails(t *testing.T) {
	f := newRoom(t)
	f.refuse = errors.New("session is gone")
	for _, call := range [][2]string{{"ch_owner_override", "-state 1"}, {"close_sub_ch", "-ch_name Room -sub_name Inside"}} {
		if r := f.call("owner", call[0], call[1]).End(wire.ExecutionFail); !errors.Is(r.Err, f.refuse) {
			t.Errorf("%s: got %v", call[0], r.Err)
		}
	}
	if f.log.Len() > 0 {
		t.Errorf("logged: %s", f.log)
	}
}
