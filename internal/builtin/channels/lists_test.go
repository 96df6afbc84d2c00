package channels_test

import (
	"fmt"
	"strings"
	"testing"

	"mrci.dev/mrci/internal/access"
	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/wire"
)

// fill makes the user the owner of n channels, past the rules.
func (f *fixture) fill(name string, n int) {
	f.t.Helper()
	err := f.db.Update(f.t.Context(), func(tx channel.Tx) error {
		for i := range n {
			ch, err := tx.AddChannel(fmt.Sprintf("%s%03d", name, i))
			if err != nil {
				return err
			}
			if err := tx.PutMember(ch, id(name), access.Standing{Level: wire.Owner}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// crowd makes n more members of the room, past the rules.
func (f *fixture) crowd(n int) {
	f.t.Helper()
	for i := range n {
		f.user(fmt.Sprint("guest", i))
	}
	err := f.db.Update(f.t.Context(), func(tx channel.Tx) error {
		for i := range n {
			if err := tx.PutMember(room.ID, id(fmt.Sprint("guest", i)), access.Standing{Level: wire.Regular}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// addSubs stores n more sub-channels of the room, past the rules.
func (f *fixture) addSubs(n int) {
	f.t.Helper()
	err := f.db.Update(f.t.Context(), func(tx channel.Tx) error {
		for i := range n {
			level := wire.Regular
			if i%2 == 1 {
				level = wire.Public
			}
			err := tx.PutSubChannel(room.ID, channel.SubChannel{ID: wire.SubID(i + 2), Name: fmt.Sprintf("Next%03d", i), Lowest: level})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// lines makes a text of lines.
func lines(text ...string) string { return strings.Join(text, "\n") + "\n" }

func TestListings(t *testing.T) {
	f := newRoom(t)
	f.fill("stranger", 2) // channels 2 and 3
	f.held = []wire.UserID{id("admin"), id("invited")}
	hex := func(name string) string { return id(name).String() }
	const memberHead = "channel_id    user_name    display_name    user_id"
	rest := func(pending, level, override string) string {
		return fmt.Sprintf("    %-17s %-15s %s", pending, level, override)
	}
	memberLine := func(name, pending, level, override string) string {
		return fmt.Sprintf("1             %-12s %-15s %s", name, "The "+name, hex(name)) + rest(pending, level, override)
	}
	pad := strings.Repeat(" ", len(hex("owner"))-len("user_id"))
	memberTop := []string{
		memberHead + pad + rest("pending_invite", "access_level", "owner_override"),
		"-------       -------      -------         -------" + pad + rest("-------", "-------", "-------"),
	}
	for _, tt := range []struct{ who, command, args, want string }{
		{"invited", "find_ch", "", lines(
			"channel_id    channel_name", "-------       -------",
			"1             Room", "2             stranger000", "3             stranger001", "", "3 rows.")},
		{"invited", "find_ch", "-name RANGER -id 1", lines(
			"channel_id    channel_name", "-------       -------",
			"2             stranger000", "3             stranger001", "", "2 rows.")},
		{"invited", "find_ch", "-id 1", lines("channel_id    channel_name", "-------       -------", "1             Room", "", "1 row.")},
		{"invited", "find_ch", "-id 0", lines("channel_id    channel_name", "-------       -------", "", "0 rows.")},
		{"invited", "find_ch", "-id 18446744073709551615", lines("channel_id    channel_name", "-------       -------", "", "0 rows.")},

		{"invited", "find_ch", "-channel_name GER -channel_id 3", lines(
			"channel_id    channel_name", "-------       -------",
			"3             stranger001", "", "1 row.")},
		{"invited", "find_ch", "-name ranger -channel_name 000 -channel_id 2", lines(
			"channel_id    channel_name", "-------       -------",
			"2             stranger000", "", "1 row.")},
		{"invited", "find_ch", "-channel_name %_", lines("channel_id    channel_name", "-------       -------", "", "0 rows.")},

		{"regular", "ls_chs", "", lines(
			"channel_id    channel_name    pending_invite    access_level",
			"-------       -------         -------           -------",
			"1             Room            0                 4", "", "1 row.")},
		{"invited", "ls_chs", "", lines(
			"channel_id    channel_name    pending_invite    access_level",
			"-------       -------         -------           -------",
			"1             Room            1                 4", "", "1 row.")},
		{"stranger!", "ls_chs", "", lines(
			"channel_id    channel_name    pending_invite    access_level",
			"-------       -------         -------           -------",
			"2             stranger000     0                 1",
			"3             stranger001     0                 1", "", "2 rows.")},
		{"stranger", "ls_chs", "-channel_name GER001 -access_level 1", lines(
			"channel_id    channel_name    pending_invite    access_level",
			"-------       -------         -------           -------",
			"3             stranger001     0                 1", "", "1 row.")},

		{"regular", "ls_sub_chs", "-ch_name rOOM", lines(
			"sub_channel_id    sub_channel_name    lowest_access_level    active_updates",
			"-------           -------             -------                -------",
			"0                 Inside              4                      0",
			"1                 Outside             5                      0", "", "2 rows.")},
		{"invited", "ls_sub_chs", "-ch_name Room", lines(
			"sub_channel_id    sub_channel_name    lowest_access_level    active_updates",
			"-------           -------             -------                -------",
			"1                 Outside             5                      0", "", "1 row.")},
		{"stranger!", "ls_sub_chs", "-ch_name Room -lowest_access_level 4", lines(
			"sub_channel_id    sub_channel_name    lowest_access_level    active_updates",
			"-------           -------             -------                -------",
			"0                 Inside              4                      0", "", "1 row.")},

		{"regular", "ls_rdonly_flags", "-ch_name Room", lines(
			"channel_name    channel_id    sub_channel_id    access_level",
			"-------         -------       -------           -------",
			"Room            1             1                 5",
			"Room            1             0                 4", "", "2 rows.")},
		{"stranger", "ls_rdonly_flags", "-ch_name Room", lines(
			"channel_name    channel_id    sub_channel_id    access_level",
			"-------         -------       -------           -------",
			"Room            1             1                 5", "", "1 row.")},
		{"regular", "ls_rdonly_flags", "-ch_name Room -access_level 4", lines(
			"channel_name    channel_id    sub_channel_id    access_level",
			"-------         -------       -------           -------",
			"Room            1             0                 4", "", "1 row.")},
		{"regular", "ls_rdonly_flags", "-ch_name Room -channel_name OO -channel_id 1 -sub_channel_id 1", lines(
			"channel_name    channel_id    sub_channel_id    access_level",
			"-------         -------       -------           -------",
			"Room            1             1                 5", "", "1 row.")},
		{"regular", "ls_rdonly_flags", "-ch_name Room -channel_id 2", lines(
			"channel_name    channel_id    sub_channel_id    access_level",
			"-------         -------       -------           -------", "", "0 rows.")},

		{"regular", "ls_ch_members", "-ch_name Room", lines(append(memberTop,
			memberLine("owner", "0", "1", "0"), memberLine("admin", "0", "2", "1"), memberLine("officer", "0", "3", "0"),
			memberLine("regular", "0", "4", "0"), memberLine("invited", "1", "4", "0"), "", "5 rows.")...)},
		{"regular", "ls_ch_members", "-ch_name Room -user_name OFF", lines(append(memberTop,
			memberLine("officer", "0", "3", "0"), "", "1 row.")...)},
		{"stranger!", "ls_ch_members", "-ch_name Room -user_name I -disp_name 'the A'", lines(append(memberTop,
			memberLine("admin", "0", "2", "1"), "", "1 row.")...)},
		{"regular", "ls_ch_members", "-ch_name Room -access_level 4 -pending_invite 0", lines(append(memberTop,
			memberLine("regular", "0", "4", "0"), "", "1 row.")...)},
		{"regular", "ls_ch_members", "-ch_name Room -pending_invite 1 -channel_id 1", lines(append(memberTop,
			memberLine("invited", "1", "4", "0"), "", "1 row.")...)},
		{"regular", "ls_ch_members", "-ch_name Room -channel_id 2", lines(append(memberTop, "", "0 rows.")...)},
		{"regular", "ls_ch_members", "-ch_name Room -disp_name the -display_name OFF", lines(append(memberTop,
			memberLine("officer", "0", "3", "0"), "", "1 row.")...)},
		{"regular", "ls_ch_members", "-ch_name Room -user_id " + strings.ToUpper(hex("admin")[:16]), lines(append(memberTop,
			memberLine("admin", "0", "2", "1"), "", "1 row.")...)},
	} {
		t.Run(tt.command+" "+tt.who+" "+tt.args, func(t *testing.T) {
			f.t = t
			c := f.call(tt.who, tt.command, tt.args)
			typ, got := c.Next()
			if typ != wire.Text || fields(string(got)) != fields(tt.want) || tt.command != "ls_ch_members" && string(got) != tt.want {
				t.Errorf("got %s\n%s\nwant\n%s", typ, got, tt.want)
			}
			c.End(wire.NoErrors)
			f.told()
		})
	}
}

// fields is a text with one blank between words.
func fields(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return b.String()
}

// page is what a page of a listing says: its first and last row, and the total.
func page(t *testing.T, typ wire.TypeID, payload []byte) (first, last, end string) {
	t.Helper()
	if typ != wire.Text {
		t.Fatalf("got %s %q", typ, payload)
	}
	rows := strings.Split(strings.TrimSuffix(string(payload), "\n"), "\n")[2:]
	if i := len(rows) - 2; i >= 0 && rows[i] == "" {
		rows, end = rows[:i], rows[i+1]
	}
	if len(rows) == 0 {
		return "", "", end
	}
	return strings.Fields(rows[0])[0], strings.Fields(rows[len(rows)-1])[0], end
}

// Every listing comes in pages of 50.
func TestPages(t *testing.T) {
	f := newRoom(t)
	f.addSubs(118) // 120, the odd ones are for everybody
	f.fill("stranger", 51)
	f.crowd(95) // 100 with who is invited
	for _, tt := range []struct {
		who, command, args string
		want               [][3]string // first and last cell, and the end; the question stands between
		questions          []string
	}{
		{
			"regular", "ls_sub_chs", "-ch_name Room",
			[][3]string{{"0", "49", ""}, {"50", "99", ""}, {"100", "119", "120 rows."}},
			[]string{"50 of 120 rows", "100 of 120 rows"},
		},
		{"stranger", "ls_sub_chs", "-ch_name Room", [][3]string{{"1", "99", ""}, {"101", "119", "60 rows."}}, []string{"50 of 60 rows"}},
		{
			"regular", "ls_sub_chs", "-ch_name Room -sub_channel_name NEXT -lowest_access_level 4",
			[][3]string{{"2", "100", ""}, {"102", "118", "59 rows."}}, []string{"50 of 59 rows"},
		},
		{"regular", "ls_sub_chs", "-ch_name Room -all", [][3]string{{"0", "49", ""}, {"50", "99", ""}, {"100", "119", "120 rows."}}, nil},
		{"stranger", "ls_chs", "", [][3]string{{"2", "51", ""}, {"52", "52", "51 rows."}}, []string{"50 of 51 rows"}},
		{"stranger", "find_ch", "-name ranger0 -all", [][3]string{{"2", "51", ""}, {"52", "52", "51 rows."}}, nil},
		{"stranger", "ls_chs", "-channel_name ER00", [][3]string{{"2", "11", "10 rows."}}, nil},
		{"stranger", "ls_chs", "-pending_invite 1", [][3]string{{"", "", "0 rows."}}, nil},
		// An exact multiple of 50 has no page with headers only.
		{"owner", "ls_ch_members", "-ch_name Room", [][3]string{{"1", "1", ""}, {"1", "1", "100 rows."}}, []string{"50 of 100 rows"}},
	} {
		t.Run(tt.command+" "+tt.who+" "+tt.args, func(t *testing.T) {
			f.t = t
			c := f.call(tt.who, tt.command, tt.args)
			for i, want := range tt.want {
				typ, payload := c.Next()
				first, last, end := page(t, typ, payload)
				if got := [3]string{first, last, end}; got != want {
					t.Fatalf("page %d: got %q, want %q", i+1, got, want)
				}
				if i < len(tt.questions) {
					c.Answer("\n"+tt.questions[i]+" shown. Show the next page (y/n)? ", "y\n")
				}
			}
			c.End(wire.NoErrors)
		})
	}
}

// Control frames and other answers at the question between pages.
func TestPagePrompt(t *testing.T) {
	const question = "\n50 of 60 rows shown. Show the next page (y/n)? "
	f := newRoom(t)
	f.addSubs(58)
	for _, tt := range []struct{ command, args string }{
		{"ls_sub_chs", "-ch_name Room"},
		{"ls_sub_chs", "-ch_name Room -active_updates 0"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			f.t = t
			for _, stop := range []string{"TERM_CMD", "KILL_CMD", "n", "No\r\n"} {
				c := f.call("regular", tt.command, tt.args)
				typ, payload := c.Next()
				if first, last, _ := page(t, typ, payload); first != "0" || last != "49" { // every call begins at the beginning
					t.Fatalf("before %s: got %s to %s", stop, first, last)
				}
				c.Expect(wire.PromptText, question)
				c.WaitInput()
				c.Yield() // nothing happens
				c.Resume()
				c.Send(wire.Bytes, "y") // no TEXT: ignored
				c.Send(wire.Text, "perhaps")
				c.Expect(wire.PromptText, question)
				c.WaitInput()
				c.ExpectNothing()
				switch stop {
				case "TERM_CMD":
					c.Term()
					c.End(wire.Aborted)
				case "KILL_CMD":
					c.Kill()
					c.End(wire.Aborted)
				default:
					c.Send(wire.Text, stop)
					c.End(wire.NoErrors)
				}
			}
		})
	}
	f.told()
}

// A page is shown by the rights of its own moment, not of the call's.
func TestPageAfterRightsAreGone(t *testing.T) {
	const refused = "This takes level 4 (regular) in the channel and yours is 5 (public); ask for an invite.\n"
	f := newRoom(t)
	f.crowd(60)
	start := func(who string) func(text string, code wire.ReturnCode) {
		c := f.call(who, "ls_ch_members", "-ch_name Room")
		c.Next()
		c.Expect(wire.PromptText, "\n50 of 65 rows shown. Show the next page (y/n)? ")
		c.WaitInput()
		s := *f.session
		s.Override = false
		c.SetSession(&s)
		return func(text string, code wire.ReturnCode) {
			c.Send(wire.Text, "y")
			c.Expect(wire.Err, text)
			c.End(code)
		}
	}
	end := start("regular")
	if _, err := f.rules.RemoveMember(t.Context(), caller("owner"), "Room", "regular"); err != nil {
		t.Fatal(err)
	}
	end(refused, wire.InvalidParams)

	f.user("late")
	if _, err := f.rules.Invite(t.Context(), caller("owner"), "Room", "late"); err != nil {
		t.Fatal(err)
	}
	end = start("stranger!")
	end(refused, wire.InvalidParams)

	end = start("owner")
	if _, err := f.rules.Remove(t.Context(), caller("owner"), "Room"); err != nil {
		t.Fatal(err)
	}
	end("There is no such channel.\n", wire.InvalidParams)
}
