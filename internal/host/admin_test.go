package host_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/wire"
)

// step is one call, its answers, and what must come back.
type step struct {
	command, arguments string
	answers            []string
	kinds              string
	says               string // in ERR or TEXT
}

func (s step) run(t *testing.T, c *hosttest.Client) {
	t.Helper()
	frames := dialogue(c, s.command, s.arguments, s.answers...)
	got := hosttest.Kinds(frames)
	said := hosttest.Texts(wire.Err, frames) + hosttest.Texts(wire.Text, frames)
	if got != s.kinds || !strings.Contains(said, s.says) || len(said) > 300 {
		t.Errorf("%s %s: got %s %q, want %s %q", s.command, s.arguments, got, said, s.kinds, s.says)
	}
	call := s.command + " " + s.arguments
	if s.kinds == "ERR, IDLE 3" && said == "" {
		t.Errorf("%s: no reason", call)
	}
}

// TestAdministrationChecks: the checks of commands 3 to 5 in their order.
func TestAdministrationChecks(t *testing.T) {
	h := hosttest.Start(t, hosttest.Set("enable_email_verify=true", "enable_pw_reset=true"))
	h.User("boss", 3)
	h.User("peer", 3)
	h.User("above", 2)
	h.User("low", 9)
	h.User("taken", 9)
	root := h.Connect()
	h.User("first", 1)
	root.Login("first")
	for _, name := range []string{"rm_acct", "lock_acct", "set_user_rank", "force_set_email", "request_new_pw", "request_new_user_name",
		"add_ranked_cmd", "rm_ranked_cmd", "ls_ranked_cmds", "request_pw_reset", "recover_acct", "ls_users", "ls_audit"} {
		wantKinds(t, root.Call("add_ranked_cmd", "-command "+name+" -rank 3"), "IDLE 1")
	}
	c := h.Connect()
	c.Login("boss")
	const no, yes = "ERR, IDLE 3", "IDLE 1"
	refusals := []step{
		{"rm_acct", "", nil, no, "-name"}, {"rm_acct", "-name", nil, no, "-name"},
		{"rm_acct", "-name x", nil, no, "user name"}, {"rm_acct", "-name nobody", nil, no, "no such user"},
		{"rm_acct", "-name peer -force", nil, no, "rank"}, {"rm_acct", "-name above", nil, no, "rank"},
		{"rm_acct", "-name low", []string{"n"}, "PROMPT_TEXT, IDLE 2", ""},
		{"rm_acct", "-name low", []string{"what", " NO \n"}, "PROMPT_TEXT, PROMPT_TEXT, IDLE 2", ""},

		{"lock_acct", "-state 2", nil, no, "-user"}, {"lock_acct", "-user x", nil, no, "-state"},
		{"lock_acct", "-user low -state 2", nil, no, "-state"}, {"lock_acct", "-user nobody -state 1", nil, no, "no such user"},
		{"lock_acct", "-user boss -state 1", nil, no, "rank"}, {"lock_acct", "-user peer -state 1", nil, no, "rank"},

		{"set_user_rank", "-rank 0", nil, no, "-user"}, {"set_user_rank", "-user x", nil, no, "-rank"},
		{"set_user_rank", "-user x -rank 9", nil, no, "user name"},
		{"set_user_rank", "-user low -rank one", nil, no, "-rank"}, {"set_user_rank", "-user low -rank 0", nil, no, "-rank"},
		{"set_user_rank", "-user low -rank 4294967296", nil, no, "-rank"}, {"set_user_rank", "-user low -rank -1", nil, "ERR, ERR, IDLE 3", "-rank"},
		{"set_user_rank", "-user nobody -rank 2", nil, no, "above your own"}, {"set_user_rank", "-user nobody -rank 4", nil, no, "no such user"},
		{"set_user_rank", "-user peer -rank 4", nil, no, "rank"}, {"set_user_rank", "-user above -rank 9", nil, no, "rank"},

		{"force_set_email", "-user low", nil, no, "-new_email"}, {"force_set_email", "-new_email nonsense", nil, no, "-user"},
		{"force_set_email", "-user x -new_email nonsense", nil, no, "user name"}, {"force_set_email", "-user low -new_email nonsense", nil, no, "address"},
		{"force_set_email", "-user nobody -new_email Taken@example.org", nil, no, "in use"},
		{"force_set_email", "-user nobody -new_email a@b.example", nil, no, "no such user"},
		{"force_set_email", "-user boss -new_email a@b.example", nil, no, "rank"}, {"force_set_email", "-user above -new_email a@b.example", nil, no, "rank"},

		{"set_user_name", "", nil, no, "-new_name"}, {"set_user_name", "-new_name x", nil, no, "user name"},
		{"set_user_name", "-new_name a@b.example", nil, no, "e-mail"}, {"set_user_name", "-new_name ROOT", nil, no, ""}, {"set_user_name", "-new_name TAKEN", nil, no, "taken"},
		{"set_disp_name", "", nil, no, "-new_name"}, {"set_disp_name", "-new_name " + strings.Repeat("x", 25), nil, no, "24"},
		{"set_disp_name", "-new_name 'a\tb'", nil, no, ""},
		{"set_email", "", nil, no, "-new_email"}, {"set_email", "-new_email @a.b", nil, no, "address"}, {"set_email", "-new_email taken@EXAMPLE.org", nil, no, "in use"},
		{"is_email_verified", "", nil, "TEXT, IDLE 1", "false\n"},

		{"add_ranked_cmd", "-rank x", nil, no, "-command"}, {"add_ranked_cmd", "-command 'a b'", nil, no, "-rank"}, {"add_ranked_cmd", "-command a -rank x", nil, no, "-rank"},
		{"add_ranked_cmd", "-command a -rank 0", nil, no, "-rank"}, {"add_ranked_cmd", "-command 'a b' -rank 4 -mod 'x|y'", nil, no, "command name"},
		{"add_ranked_cmd", "-command a -rank 4 -mod 'x|y'", nil, no, "module path"}, {"add_ranked_cmd", "-command a -rank 2", nil, no, "above your own"},
		{"add_ranked_cmd", "-command RM_ACCT -rank 4", nil, no, "already"},
		{"rm_ranked_cmd", "-mod builtin", nil, no, "-command"}, {"rm_ranked_cmd", "-command 'a b' -mod 'x|y'", nil, no, "command name"},
		{"rm_ranked_cmd", "-command a -mod 'x|y'", nil, no, "module path"}, {"rm_ranked_cmd", "-command ls_act_log", nil, no, "no rank"},

		{"request_pw_reset", "", nil, no, "-user or -email"}, {"request_pw_reset", "-user x", nil, no, ""}, {"recover_acct", "-email x", nil, no, ""},
		// No mail is configured.
		{"request_pw_reset", "-user low", nil, "ERR, IDLE 6", "smtp_host"}, {"verify_email", "", nil, "ERR, IDLE 6", "smtp_host"},
	}
	for _, name := range []string{"request_new_pw", "request_new_user_name"} {
		refusals = append(refusals,
			step{name, "-req 2", nil, no, "-user"}, step{name, "-user x", nil, no, "-req"}, step{name, "-user x -req 2", nil, no, "-req"},
			step{name, "-user x -req 1", nil, no, "user name"}, step{name, "-user nobody -req 1", nil, no, "no such user"},
			step{name, "-user boss -req 1", nil, no, "rank"}, step{name, "-user above -req 1", nil, no, "rank"})
	}
	for _, s := range refusals {
		s.run(t, c)
	}
	const info = "MY_INFO@SYS_MSG, "
	for _, s := range []step{
		{"set_disp_name", "-new_name '  The Boss '", nil, info + yes, ""}, {"set_disp_name", "-new_name", nil, info + yes, ""},
		{"set_user_name", "-new_name BOSS", nil, info + yes, ""}, {"set_email", "-new_email boss@new.example", nil, info + yes, ""},
		{"lock_acct", "-user low -state 1", nil, yes, ""}, {"lock_acct", "-user low -state 0", nil, yes, ""},
		{"request_new_pw", "-user low -req 1", nil, yes, ""}, {"request_new_pw", "-user low -req 0", nil, yes, ""},
		{"request_new_user_name", "-user low -req 1", nil, yes, ""}, {"request_new_user_name", "-user low -req 0", nil, yes, ""},
		{"force_set_email", "-user low -new_email low@new.example", nil, yes, ""}, {"set_user_rank", "-user low -rank 3", nil, yes, ""},
		{"set_user_rank", "-user low -rank 9", nil, no, "rank"}, // it has the same rank now
		{"add_ranked_cmd", "-command Nothing -rank 3 -mod /srv/x", nil, yes, ""}, {"ls_ranked_cmds", "-module_executable /SRV", nil, "TEXT, IDLE 1", "/srv/x"},
		{"rm_ranked_cmd", "-command NOTHING -mod /srv/x", nil, yes, ""},
		{"rm_acct", "-name taken", []string{"Yes"}, "PROMPT_TEXT, " + yes, ""},
		{"set_user_rank", "-user boss -rank 9", nil, info + yes, ""},
	} {
		s.run(t, c)
	}
	c.Call("my_info", "")
	if _, ok := c.Commands["rm_acct"]; ok {
		t.Error("rm_acct is there after stepping down")
	}
	// The audit log: who, from where, what, with what, and the result.
	text := hosttest.Texts(wire.Text, root.Call("ls_audit", "-all"))
	for _, want := range [][]string{
		{"127.0.0.1", "boss", "rm_acct", "-name above", "3"}, {"127.0.0.1", "first", "add_ranked_cmd", "-command rm_acct -rank 3", "1"},
		{"127.0.0.1", "BOSS", "lock_acct", "-user low -state 1", "1"}, {"127.0.0.1", "BOSS", "set_user_rank", "-user boss -rank 9", "1"},
		{"127.0.0.1", "first", "auth", "-user first", "1"},
	} {
		if !slices.ContainsFunc(strings.Split(text, "\n"), func(line string) bool {
			at := 0
			for _, w := range want {
				i := strings.Index(line[at:], w)
				if i < 0 {
					return false
				}
				at += i + len(w)
			}
			return true
		}) {
			t.Errorf("ls_audit lacks %v:\n%s", want, text)
		}
	}
}

// TestEventsToOthers is table 1.9, rows 7 to 10, 18 and 37: what other sessions
// of the account get, byte by byte, and nobody else.
func TestEventsToOthers(t *testing.T) {
	h := hosttest.Start(t)
	h.User("admin", 1)
	u := h.User("user", 5)
	h.User("other", 5)
	admin, mine, second, other := h.Connect(), h.Connect(), h.Connect(), h.Connect()
	admin.Login("admin")
	mine.Login("user")
	second.Login("user")
	other.Login("other")
	want := wire.Account{
		Peer:  wire.Peer{User: u.ID, Name: "user", App: "hosttest"},
		Email: "user@example.org", Rank: 5,
	}
	fence := func(c *hosttest.Client) []wire.Frame {
		id := c.ID("my_info")
		c.Send(wire.Text, id, 7, "")
		frames := c.UntilIdle(id, 7)
		return frames[:len(frames)-2]
	}
	informed := func(c *hosttest.Client, frames []wire.Frame) {
		t.Helper()
		w := want
		w.Session = c.Header.Session
		if len(frames) != 1 || frames[0].Type != wire.MyInfo || frames[0].Cmd != 2 || frames[0].Branch != 0 || !bytes.Equal(frames[0].Payload, wire.Append(nil, &w)) {
			t.Errorf("got %s %x, want MY_INFO %x", hosttest.Kinds(frames), frames[0].Payload, wire.Append(nil, &w))
		}
	}
	for _, s := range []struct {
		by                 *hosttest.Client
		command, arguments string
		change             func()
	}{
		{mine, "set_disp_name", "-new_name 'The User'", func() { want.Display = "The User" }},
		{mine, "set_user_name", "-new_name used", func() { want.Name = "used" }},
		{mine, "set_email", "-new_email used@example.org", func() { want.Email = "used@example.org" }},
		{admin, "force_set_email", "-user used -new_email forced@example.org", func() { want.Email = "forced@example.org" }},
		{admin, "set_user_rank", "-user used -rank 6", func() { want.Rank = 6 }},
	} {
		s.change()
		frames := s.by.Call(s.command, s.arguments)
		if s.by == mine {
			informed(mine, frames[:len(frames)-1])
		} else {
			wantKinds(t, frames, "IDLE 1")
			informed(mine, fence(mine))
		}
		informed(second, fence(second))
		wantKinds(t, fence(other), "")
	}

	// A running call of a command that goes away, and what the client has sent
	// since: IDLE 2, then RM_CMD, then the refusal.
	admin.Call("set_user_rank", "-user used -rank 1")
	fence(mine)
	rm := mine.ID("rm_acct")
	mine.Send(wire.Text, rm, 3, "-name other")
	mine.UntilType(wire.PromptText)
	mine.Call("set_user_rank", "-user admin -rank 1") // nothing changes; the ranks are equal
	wantKinds(t, admin.Call("set_user_rank", "-user admin -rank 1"), "MY_INFO@SYS_MSG, IDLE 1")
	frames := mine.Call("set_user_rank", "-user used -rank 6")
	wantKinds(t, frames, "MY_INFO@SYS_MSG, IDLE 1")
	mine.Send(wire.Text, rm, 3, "y")
	frames = mine.UntilIdle(rm, 3)
	wantKinds(t, frames, "IDLE 2")
	frames = mine.UntilIdle(rm, 3) // of the y
	if got := hosttest.Kinds(frames); !strings.HasPrefix(got, "CMD_ID@RM_CMD, ") || !strings.HasSuffix(got, "CMD_ID@RM_CMD, ERR, IDLE 3") {
		t.Errorf("got %s", got)
	}
	if _, err := h.Accounts().UserByName(t.Context(), "other"); err != nil {
		t.Errorf("removed after the rank was gone: %v", err)
	}
	fence(second)

	wantKinds(t, admin.Call("lock_acct", "-user used -state 1"), "IDLE 1")
	id := mine.ID("my_info")
	mine.Send(wire.Text, id, 7, "")
	frames = mine.UntilIdle(id, 7)
	if f := frames[0]; f.Type != wire.Text || f.Cmd != 2 || string(f.Payload) != "Your account has been locked; you are logged out.\n" || who(mine) != "" {
		t.Errorf("lock_acct: got %s", hosttest.Kinds(frames))
	}
	wantKinds(t, admin.Call("lock_acct", "-user used -state 0"), "IDLE 1")
	fence(second)
	second.Login("used")
	wantKinds(t, admin.Call("rm_acct", "-name USED -force"), "IDLE 1")
	second.Send(wire.Text, id, 7, "")
	frames = second.UntilIdle(id, 7)
	if !strings.HasPrefix(hosttest.Kinds(frames), "TEXT@SYS_MSG, BYTES@USER_DELETED, CMD_ID@RM_CMD") || !bytes.Equal(frames[1].Payload, u.ID[:]) {
		t.Errorf("rm_acct: got %s", hosttest.Kinds(frames))
	}
	wantKinds(t, fence(other), "")

	// The last administrator.
	frames = admin.Call("set_user_rank", "-user admin -rank 2")
	wantKinds(t, frames, "TEXT, MY_INFO@SYS_MSG, IDLE 1")
	if text := hosttest.Texts(wire.Text, frames); !strings.Contains(text, "mrci elevate") || !strings.Contains(h.Log(), "no account of rank 1 is left") {
		t.Errorf("stepping down says %q", text)
	}
}

// TestRemoveOneself: the last administrator goes.
func TestRemoveOneself(t *testing.T) {
	h := hosttest.Start(t)
	h.User("admin", 1)
	c := h.Connect()
	c.Login("admin")
	frames := dialogue(c, "rm_acct", "-name admin", "y")
	wantKinds(t, frames, "PROMPT_TEXT, TEXT, TEXT@SYS_MSG, BYTES@USER_DELETED, IDLE 1")
	if who(c) != "" {
		t.Error("still logged in")
	}
	if _, ok := c.Commands["rm_acct"]; ok {
		t.Error("rm_acct is there after the removal")
	}
}

// TestRankChangesLive: another session's commands come and go, and RM_CMD is
// queued before any later frame of that client is answered.
func TestRankChangesLive(t *testing.T) {
	h := hosttest.Start(t)
	h.User("admin", 1)
	h.User("user", 5)
	admin, user := h.Connect(), h.Connect()
	admin.Login("admin")
	user.Login("user")
	rounds := 200
	if testing.Short() {
		rounds = 20
	}
	setRank, myInfo := admin.ID("set_user_rank"), user.ID("my_info")
	listUsers := admin.ID("ls_users")
	wantKinds(t, admin.Call("add_ranked_cmd", "-command ls_users -rank 3"), "IDLE 1")
	for range rounds {
		admin.Send(wire.Text, setRank, 0, "-user user -rank 2")
		wantKinds(t, admin.UntilIdle(setRank, 0), "IDLE 1")
		user.Send(wire.Text, myInfo, 0, "")
		user.UntilIdle(myInfo, 0)
		user.ID("ls_users")
		// Frames under way while the rank goes.
		admin.Send(wire.Text, setRank, 0, "-user user -rank 5")
		var b []byte
		for i := range 6 {
			b = wire.AppendText(b, wire.Text, listUsers, wire.BranchID(i), "-nothing")
		}
		user.Write(b)
		wantKinds(t, admin.UntilIdle(setRank, 0), "IDLE 1")
		user.Send(wire.Text, listUsers, 9, "")
		gone := false
		frames := user.UntilIdle(listUsers, 9)
		for _, f := range frames {
			if f.Type == wire.CommandID {
				gone = true
			}
			if f.Type == wire.Err && string(f.Payload) == notOffered(listUsers) && !gone {
				t.Fatal("a frame was refused before RM_CMD")
			}
		}
		if !gone {
			t.Fatalf("a frame sent after the change was answered before RM_CMD: %s", hosttest.Kinds(frames))
		}
	}
	// The same for ranks of commands.
	wantKinds(t, admin.Call("rm_ranked_cmd", "-command ls_users"), "IDLE 1")
	user.Send(wire.Text, myInfo, 0, "")
	user.UntilIdle(myInfo, 0)
	add, rm := admin.ID("add_ranked_cmd"), admin.ID("rm_ranked_cmd")
	for range rounds {
		admin.Send(wire.Text, add, 0, "-command ls_users -rank 5")
		wantKinds(t, admin.UntilIdle(add, 0), "IDLE 1")
		user.Send(wire.Text, myInfo, 0, "")
		user.UntilIdle(myInfo, 0)
		user.ID("ls_users")
		admin.Send(wire.Text, rm, 0, "-command ls_users")
		var b []byte
		for i := range 6 {
			b = wire.AppendText(b, wire.Text, listUsers, wire.BranchID(i), "-nothing")
		}
		user.Write(b)
		admin.UntilIdle(rm, 0)
		user.Send(wire.Text, listUsers, 9, "")
		gone := false
		frames := user.UntilIdle(listUsers, 9)
		for _, f := range frames {
			if f.Type == wire.CommandID {
				gone = true
			}
			if f.Type == wire.Err && string(f.Payload) == notOffered(listUsers) && !gone {
				t.Fatal("a frame was refused before RM_CMD")
			}
		}
		if !gone {
			t.Fatalf("a frame sent after the change was answered before RM_CMD: %s", hosttest.Kinds(frames))
		}
	}
}

// TestRightLostAtThePrompt: what counts is the rank when the answer comes.
func TestRightLostAtThePrompt(t *testing.T) {
	h := hosttest.Start(t)
	h.User("admin", 1)
	boss := h.User("boss", 3)
	victim := h.User("victim", 4)
	admin, c := h.Connect(), h.Connect()
	admin.Login("admin")
	admin.Call("add_ranked_cmd", "-command rm_acct -rank 9")
	admin.Call("add_ranked_cmd", "-command ls_users -rank 9")
	c.Login("boss")
	rm := c.ID("rm_acct")
	if text := hosttest.Texts(wire.Text, c.Call("ls_users", "-locked 0")); !strings.Contains(text, "victim") || strings.Contains(text, "admin ") {
		t.Errorf("guarded columns:\n%s", text)
	}
	dialogue(c, "rm_acct", "-name victim")
	admin.Call("set_user_rank", "-user boss -rank 5")
	c.Send(wire.Text, rm, 0, "y")
	wantKinds(t, c.UntilIdle(rm, 0), "MY_INFO@SYS_MSG, ERR, IDLE 3")
	if text := hosttest.Texts(wire.Text, c.Call("ls_users", "-locked 0")); strings.Contains(text, "victim") {
		t.Errorf("guarded columns after the rank has changed:\n%s", text)
	}
	// Changed behind the host's back, as a second process can.
	dialogue(admin, "rm_acct", "-name victim")
	h.Change(victim.ID, func(r *account.Record) error { r.Name = "moved"; return nil })
	h.Change(boss.ID, func(r *account.Record) error { r.Name = "victim"; return nil })
	admin.Send(wire.Text, rm, 0, "y")
	wantKinds(t, admin.UntilIdle(rm, 0), "ERR, IDLE 3")
	if _, err := h.Accounts().User(t.Context(), boss.ID); err != nil {
		t.Errorf("the account that got the name was removed: %v", err)
	}
}

// TestLoginOvertaken: a lock, or another password, between the password and
// the answer to a demand.
func TestLoginOvertaken(t *testing.T) {
	for _, demand := range []string{"request_new_pw", "request_new_user_name"} {
		for _, what := range []string{"lock", "password"} {
			t.Run(demand+" "+what, func(t *testing.T) {
				h := hosttest.Start(t)
				h.User("admin", 1)
				u := h.User("user", 2)
				admin, c := h.Connect(), h.Connect()
				admin.Login("admin")
				admin.Call(demand, "-user user -req 1")
				dialogue(c, "auth", "-user user", right)
				if what == "lock" {
					admin.Call("lock_acct", "-user user -state 1")
				} else if err := h.Accounts().SetPassword(t.Context(), u.ID, account.Secret("Third-horse99")); err != nil {
					t.Fatal(err)
				}
				before, _ := h.Accounts().User(t.Context(), u.ID)
				c.Send(wire.Text, c.ID("auth"), 0, other)
				wantKinds(t, c.UntilIdle(c.ID("auth"), 0), "ERR, IDLE 3")
				after, _ := h.Accounts().User(t.Context(), u.ID)
				if before != after || who(c) != "" {
					t.Errorf("changed to %+v, logged in as %q", after, who(c))
				}
				if h.Accounts().Confirm(t.Context(), u.ID, account.Secret(other)) == nil {
					t.Error("the password was changed")
				}
			})
		}
	}
}

// TestBrokenOffAfterTheChange: the client goes as soon as it has sent the
// call; when the change was made, the user's sessions know.
func TestBrokenOffAfterTheChange(t *testing.T) {
	h := hosttest.Start(t)
	h.User("admin", 1)
	u := h.User("user", 2)
	user := h.Connect()
	user.Login("user")
	for i := range 40 {
		admin := h.Connect()
		admin.Login("admin")
		admin.Send(wire.Text, admin.ID("set_user_rank"), 0, fmt.Sprintf("-user user -rank %d", 10+i))
		admin.Conn.Close()
	}
	for h.Sessions() > 1 {
		who(user)
	}
	stored, err := h.Accounts().User(t.Context(), u.ID)
	if err != nil {
		t.Fatal(err)
	}
	user.Call("my_info", "")
	if text := hosttest.Texts(wire.Text, user.Call("my_info", "")); !strings.Contains(text, fmt.Sprintf("host rank: %d\n", stored.Rank)) {
		t.Errorf("the account has rank %d, and the session says\n%s", stored.Rank, text)
	}
}

// TestSecretsStayOut: no answer to PRIV_TEXT is in any file of the host, not
// when it comes after the end of its call either.
func TestSecretsStayOut(t *testing.T) {
	dir := t.TempDir()
	h := hosttest.Start(t, hosttest.Dir(dir))
	h.User("admin", 1)
	h.User("user", 2)
	admin, c := h.Connect(), h.Connect()
	admin.Login("admin")
	c.Login("user")
	const typed = "Sesame-Open-42"
	setPw := c.ID("set_pw")
	dialogue(c, "set_pw", "", typed)
	c.Send(wire.Text, setPw, 0, "")
	c.UntilType(wire.PrivText)
	c.Send(wire.KillCmd, setPw, 0, "")
	c.UntilIdle(setPw, 0)
	c.Send(wire.Text, setPw, 0, "late "+typed) // begins a call
	c.UntilType(wire.PrivText)
	admin.Call("lock_acct", "-user user -state 1")
	c.UntilIdle(setPw, 0)
	c.Send(wire.Text, setPw, 0, typed+" 'late") // is refused
	c.UntilIdle(setPw, 0)
	dialogue(admin, "add_acct", "-name new -email new@example.org "+typed, typed)
	dialogue(admin, "auth", "-user admin "+typed, right)
	if text := hosttest.Texts(wire.Text, admin.Call("ls_audit", "-all")); !strings.Contains(text, "set_pw") || strings.Contains(text, "Sesame") {
		t.Errorf("ls_audit:\n%s", text)
	}
	h.Stop()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("Sesame")) || bytes.Contains(b, []byte(right)) {
			t.Errorf("%s has a password in it", path)
		}
		return err
	})
	if err != nil || files == 0 || strings.Contains(h.Log(), "Sesame") {
		t.Errorf("%d files, %v", files, err)
	}
}

// TestInjection gives every text argument what might mean something to SQL, to
// a mail or to a terminal. Nothing but refusals, empty lists or the very value
// may come of it.
func TestInjection(t *testing.T) {
	h := hosttest.Start(t, hosttest.Set("enable_pw_reset=true"))
	admin := h.User("admin", 1)
	h.User("victim", 5)
	c := h.Connect()
	c.Login("admin")
	s, err := store.Open(t.Context(), store.Config{Path: h.Conf.DBHostName})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	nasty := []string{
		`x' OR '1'='1`, `%`, `_______`, `x'; DROP TABLE users; --`, "a@b.example\r\nBcc: c@d.example", "a@b.example\n", `%otp%`, `$(reboot)`, "`id`",
		`\' UNION SELECT hash,salt FROM users --`, "\x1b[2J", "a\u202eb", "-state", `" -user victim -state "1`, "victim\x00",
	}
	filters := func(columns []string) (forms []string) {
		for _, name := range columns {
			forms = append(forms, "-"+name+" %s -all") // the audit log has them all
		}
		return forms
	}
	arguments := map[string][]string{
		"auth": {"-user %s", "-email %s"}, "recover_acct": {"-user %s", "-email %s"},
		"add_acct":      {"-name %s -email new@example.org", "-name new -email %s", "-name new -email new@example.org -disp %s"},
		"set_disp_name": {"-new_name %s"}, "add_ranked_cmd": {"-rank 9 -command %s", "-rank 9 -command a -mod %s", "-command a -rank %s"},
		"rm_acct": {"-force -name %s"}, "lock_acct": {"-state 1 -user %s"}, "set_user_rank": {"-rank 9 -user %s"},
		"force_set_email": {"-user victim -new_email %s", "-new_email q@q.example -user %s"},
		"request_new_pw":  {"-req 1 -user %s"}, "request_new_user_name": {"-req 1 -user %s"}, "set_user_name": {"-new_name %s"},
		"set_email": {"-new_email %s"}, "rm_ranked_cmd": {"-command %s", "-command a -mod %s"},
		"request_pw_reset": {"-user %s", "-email %s"},
		"ls_ranked_cmds":   filters([]string{"module_executable", "command_name", "host_rank"}),
		"ls_act_log":       filters(store.ActivityColumns()), "ls_auth_log": filters(store.AuthColumns()), "ls_audit": filters(store.AuditColumns()),
		"ls_users": filters([]string{"time_stamp", "user_name", "host_rank", "user_id", "email_verified", "locked"}),
		"ls_cmds":  {"-find %s"}, "cmd_info": {"-cmd_name %s", "-cmd_id %s"},
	}
	// Commands that ask before they refuse.
	answers := map[string][]string{"auth": {"x", ""}, "recover_acct": {"x", ""}, "add_acct": {""}}
	asked := map[string]string{
		"auth":         "PRIV_TEXT, ERR, PRIV_TEXT, TEXT, IDLE 2",
		"recover_acct": "PRIV_TEXT, ERR, PRIV_TEXT, TEXT, IDLE 2",
		"add_acct":     "PRIV_TEXT, IDLE 2",
	}
	for command, forms := range arguments {
		for _, form := range forms {
			for _, n := range nasty {
				typed := strings.ReplaceAll(strings.ReplaceAll(n, `"`, `\"`), `'`, `\'`)
				line := fmt.Sprintf(form, `"`+typed+`"`)
				frames := dialogue(c, command, line, answers[command]...)
				got, text := hosttest.Kinds(frames), hosttest.Texts(wire.Text, frames)+hosttest.Texts(wire.Err, frames)
				if strings.Contains(text, "argon2") || strings.Contains(text, "message id") {
					t.Errorf("%s %q says %q", command, line, text)
				}
				list := strings.HasPrefix(command, "ls_")
				ok := got == "ERR, IDLE 3" || got == "ERR, IDLE 6" || list && strings.HasSuffix(got, "TEXT, IDLE 1") || got == asked[command]
				// These are names, as far as the rules go.
				if !ok && command == "set_user_name" && got == "MY_INFO@SYS_MSG, IDLE 1" {
					ok = who(c) == n
					c.Call("set_user_name", "-new_name admin")
				}
				if !ok && command == "set_disp_name" && got == "MY_INFO@SYS_MSG, IDLE 1" {
					u, err := h.Accounts().User(t.Context(), admin.ID)
					ok = err == nil && u.Display == strings.TrimSpace(n)
				}
				if !ok && command == "add_ranked_cmd" && got == "IDLE 1" {
					all, err := s.Ranks(t.Context())
					ok = err == nil && len(all) == 1 && (all[0].Module == n || all[0].Command == n)
					remove := strings.Replace(line, "-rank 9 ", "", 1)
					ok = ok && hosttest.Kinds(c.Call("rm_ranked_cmd", remove)) == "IDLE 1"
				}
				if !ok {
					t.Errorf("%s %q: got %s %q", command, line, got, text)
				}
				if list && (strings.HasPrefix(n, "%") || strings.HasPrefix(n, "_")) && !strings.HasSuffix(text, "\n0 rows.\n") && command != "ls_audit" {
					t.Errorf("%s %q found something:\n%s", command, line, text)
				}
			}
		}
	}
	u, err := h.Accounts().UserByName(t.Context(), "victim")
	if err != nil || u.Locked || u.Rank != 5 || u.Email != "victim@example.org" {
		t.Errorf("the account is %+v, %v", u, err)
	}
	page, err := h.Accounts().List(t.Context(), account.Filter{}, 0, 0)
	if err != nil || page.Total != 2 {
		t.Errorf("%d accounts, %v, want %d", page.Total, err, 2)
	}
}

// TestActivityLog: what is shown, and -delete.
func TestActivityLog(t *testing.T) {
	h := hosttest.Start(t)
	h.User("admin", 1)
	c := h.Connect()
	c.Login("admin")
	for range 3 {
		h.Connect().Conn.Close()
	}
	for h.Sessions() > 1 {
		who(c)
	}
	for _, s := range []step{
		{"ls_act_log", "-log_entry started", nil, "TEXT, IDLE 1", "4 rows."},
		{"ls_act_log", "-session_id " + c.Header.Session.String()[:20], nil, "TEXT, IDLE 1", "1 row."},
		{"ls_act_log", "-delete -log_entry ended", []string{"n"}, "TEXT, PROMPT_TEXT, IDLE 1", "log_entry contains: ended"},
		{"ls_act_log", "-delete -log_entry ended", []string{"x", "y"}, "TEXT, PROMPT_TEXT, PROMPT_TEXT, TEXT, IDLE 1", "3 rows have been deleted."},
		{"ls_act_log", "-delete", []string{"y"}, "PROMPT_TEXT, TEXT, IDLE 1", "4 rows have been deleted."},
		{"ls_act_log", "-all", nil, "TEXT, IDLE 1", "0 rows."},
		{"ls_auth_log", "-delete -user_name adm", nil, "ERR, TEXT, IDLE 1", "1 row."},
		{"ls_audit", "-command ls_act_log -arguments delete", nil, "TEXT, IDLE 1", "3 rows."},
	} {
		frames := dialogue(c, s.command, s.arguments, s.answers...)
		if got, text := hosttest.Kinds(frames), hosttest.Texts(wire.Text, frames); got != s.kinds || !strings.Contains(text, s.says) {
			t.Errorf("%s %s: got %s, want %s and %q:\n%s", s.command, s.arguments, got, s.kinds, s.says, text)
		}
	}
}
