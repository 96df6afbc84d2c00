package host_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/internal/registry"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// notOffered is what a session says about an id that it was not offered.
func notOffered(id wire.CmdID) string {
	return fmt.Sprintf("There is no command with the id %d for you; ls_cmds lists yours.\n", id)
}

func wantKinds(t *testing.T, frames []wire.Frame, want string) {
	t.Helper()
	if got := hosttest.Kinds(frames); got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
}

// dialogue sends answers to a command, each when a prompt has come, and
// returns what came from its start to its IDLE.
func dialogue(c *hosttest.Client, command, arguments string, answers ...string) []wire.Frame {
	id := c.ID(command)
	c.Send(wire.Text, id, 0, arguments)
	var all []wire.Frame
	for {
		frames := c.Until(func(f wire.Frame) bool {
			return f.Type == wire.PrivText || f.Type == wire.PromptText || f.Type == wire.Idle && f.Cmd == id
		})
		all = append(all, frames...)
		if frames[len(frames)-1].Type == wire.Idle || len(answers) == 0 {
			return all
		}
		c.Send(wire.Text, id, 0, answers[0])
		answers = answers[1:]
	}
}

// who returns the user name that the session has, by my_info.
func who(c *hosttest.Client) string {
	for line := range strings.Lines(hosttest.Texts(wire.Text, c.Call("my_info", ""))) {
		if name, ok := strings.CutPrefix(line, "user name: "); ok {
			return strings.TrimSpace(name)
		}
	}
	return ""
}

const (
	right = hosttest.Password
	other = "Another-horse8"
)

// TestAuth is the flow of commands 2, auth.
func TestAuth(t *testing.T) {
	demand := func(password, name bool) func(*account.Record) error {
		return func(r *account.Record) error {
			r.NewPasswordReq, r.NewNameReq = password, name
			return nil
		}
	}
	const (
		ok    = "MY_INFO@SYS_MSG, TEXT, IDLE 1"
		again = ", ERR, PRIV_TEXT"
	)
	tests := []struct {
		name      string
		arguments string
		change    func(*account.Record) error
		answers   []string
		want      string
		user      string // logged in as
	}{
		{name: "no user named", arguments: "", want: "ERR, IDLE 3"},
		{name: "no name", arguments: "-user", want: "ERR, IDLE 3"},
		{name: "right", arguments: "-user NAME", answers: []string{right}, want: "PRIV_TEXT, " + ok, user: "NAME"},
		{name: "in another case", arguments: "-user NaMe", answers: []string{right}, want: "PRIV_TEXT, " + ok, user: "NAME"},
		{name: "by e-mail", arguments: "-email NAME@example.org", answers: []string{right}, want: "PRIV_TEXT, " + ok, user: "NAME"},
		{name: "e-mail wins", arguments: "-user STRANGER -email NAME@example.org", answers: []string{right}, want: "PRIV_TEXT, " + ok, user: "NAME"},
		{name: "unusable e-mail", arguments: "-user NAME -email x", answers: []string{right}, want: "PRIV_TEXT, " + ok, user: "NAME"},
		{name: "cancelled", arguments: "-user NAME", answers: []string{""}, want: "PRIV_TEXT, TEXT, IDLE 2"},
		{name: "wrong, right", arguments: "-user NAME", answers: []string{"wrong", "Wrong-horse7", right}, want: "PRIV_TEXT" + again + again + ", " + ok, user: "NAME"},
		{name: "wrong, cancelled", arguments: "-user NAME", answers: []string{"wrong", ""}, want: "PRIV_TEXT" + again + ", TEXT, IDLE 2"},
		{name: "unknown user", arguments: "-user STRANGER", answers: []string{right, ""}, want: "PRIV_TEXT" + again + ", TEXT, IDLE 2"},
		{
			name: "locked", arguments: "-user NAME", change: func(r *account.Record) error { r.Locked = true; return nil },
			answers: []string{right, ""}, want: "PRIV_TEXT" + again + ", TEXT, IDLE 2",
		},
		{
			name: "new password", arguments: "-user NAME", change: demand(true, false),
			answers: []string{right, "weak", right, "xx-NaMe-77-XX", other}, want: "PRIV_TEXT, PRIV_TEXT" + again + again + again + ", " + ok, user: "NAME",
		},
		{
			name: "new password, cancelled", arguments: "-user NAME", change: demand(true, false),
			answers: []string{right, ""}, want: "PRIV_TEXT, PRIV_TEXT, TEXT, IDLE 2",
		},
		{
			name: "new name", arguments: "-user NAME", change: demand(false, true),
			answers: []string{right, "a@b.example", "x", "NaMe", "NAME", "taken", "newNAME"},
			want:    "PRIV_TEXT, PROMPT_TEXT" + strings.Repeat(", ERR, PROMPT_TEXT", 5) + ", " + ok, user: "newNAME",
		},
		{
			name: "new name, cancelled", arguments: "-user NAME", change: demand(false, true),
			answers: []string{right, ""}, want: "PRIV_TEXT, PROMPT_TEXT, TEXT, IDLE 2",
		},
		{
			name: "both", arguments: "-user NAME", change: demand(true, true),
			answers: []string{right, other, "newNAME"}, want: "PRIV_TEXT, PRIV_TEXT, PROMPT_TEXT, " + ok, user: "newNAME",
		},
		{name: "too many", arguments: "-user NAME", answers: []string{"1", "2", "3"}, want: "PRIV_TEXT" + again + again + ", ERR, IDLE 3"},
		{name: "too many for nobody", arguments: "-user STRANGER", answers: []string{"1", "2", "3"}, want: "PRIV_TEXT" + again + again + ", ERR, IDLE 3"},
	}
	h := hosttest.Start(t, hosttest.Set("auto_lock_limit=3"))
	h.User("taken", 2)
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := fmt.Sprintf("user%02d", i) // a NAME of its own, for what is counted by name
			fill := func(text string) string {
				return strings.NewReplacer("NAME", name, "NaMe", strings.ToUpper(name), "STRANGER", "not"+name).Replace(text)
			}
			u := h.User(name, 2)
			if tt.change != nil {
				h.Change(u.ID, tt.change)
			}
			var answers []string
			for _, a := range tt.answers {
				answers = append(answers, fill(a))
			}
			c := h.Connect()
			wantKinds(t, dialogue(c, "auth", fill(tt.arguments), answers...), tt.want)
			if got := who(c); got != fill(tt.user) {
				t.Errorf("logged in as %q, want %q", got, fill(tt.user))
			}
			c.Conn.Close()
		})
	}
	if strings.Contains(h.Log(), right) || strings.Contains(h.Log(), other) {
		t.Error("a password is in the log")
	}
}

// TestAuthSameAnswer: unknown, wrong and locked cannot be told apart.
func TestAuthSameAnswer(t *testing.T) {
	h := hosttest.Start(t)
	h.User("there", 2)
	h.Change(h.User("locked", 2).ID, func(r *account.Record) error { r.Locked = true; return nil })
	said := make(map[string]string)
	for user, pw := range map[string]string{"there": "Wrong-horse7", "locked": right, "stranger": right} {
		var all string
		for _, f := range dialogue(h.Connect(), "auth", "-user "+user, pw, "") {
			all += fmt.Sprintf("%s %q\n", f.Type, f.Payload)
		}
		said[all] += user + " "
	}
	if len(said) != 1 {
		t.Errorf("the answers differ: %v", said)
	}
}

// TestAuthBrokenOff: TERM_CMD, KILL_CMD or the end of the connection at any
// prompt leave no login, and what was stored before stays.
func TestAuthBrokenOff(t *testing.T) {
	steps := []struct {
		name    string
		answers []string
	}{
		{"password", nil}, {"new password", []string{right}}, {"new name", []string{right, other}},
	}
	for _, step := range steps {
		for _, how := range []wire.TypeID{wire.TermCmd, wire.KillCmd, 0} {
			t.Run(step.name+", "+how.String(), func(t *testing.T) {
				h := hosttest.Start(t)
				u := h.User("user", 2)
				h.Change(u.ID, func(r *account.Record) error {
					r.NewPasswordReq, r.NewNameReq = true, true
					return nil
				})
				c := h.Connect()
				dialogue(c, "auth", "-user user", step.answers...)
				if how == 0 {
					c.Conn.Close()
				} else {
					c.Send(how, c.ID("auth"), 0, "")
					wantKinds(t, c.UntilIdle(c.ID("auth"), 0), "IDLE 2")
					if got := who(c); got != "" {
						t.Errorf("logged in as %q", got)
					}
				}
				if got := strings.Contains(h.Log(), "msg=login"); got {
					t.Error("somebody was logged in")
				}
				// What is demanded now: all, or the name alone.
				c = h.Connect()
				want, pw := "PRIV_TEXT, PRIV_TEXT", right
				if len(step.answers) == 2 {
					want, pw = "PRIV_TEXT, PROMPT_TEXT", other
				}
				wantKinds(t, dialogue(c, "auth", "-user user", pw), want)
			})
		}
	}
}

func TestLoginAgain(t *testing.T) {
	h := hosttest.Start(t)
	h.User("admin", 1)
	h.User("guest", 9)
	c := h.Connect()
	c.Login("admin")
	c.ID("ls_users")
	wantKinds(t, dialogue(c, "auth", "-user guest", "wrong", ""), "PRIV_TEXT, ERR, PRIV_TEXT, TEXT, IDLE 2")
	wantKinds(t, dialogue(c, "auth", ""), "ERR, IDLE 3")
	if got := who(c); got != "admin" {
		t.Errorf("after a failed attempt %q is logged in", got)
	}
	lists := c.ID("ls_users")
	c.Login("guest")
	if got := who(c); got != "guest" {
		t.Errorf("%q is logged in", got)
	}
	c.Send(wire.Text, lists, 0, "")
	if said := hosttest.Texts(wire.Err, c.UntilIdle(lists, 0)); said != notOffered(lists) {
		t.Errorf("ls_users of the user before: %q", said)
	}
	c.Call("logout", "")
	if got := who(c); got != "" {
		t.Errorf("%q is logged in after logout", got)
	}
	for _, name := range []string{"logout", "set_pw", "ls_users"} {
		if _, ok := c.Commands[name]; ok {
			t.Errorf("%s is offered after logout", name)
		}
	}
}

func TestVerifiedLoginOnly(t *testing.T) {
	h := hosttest.Start(t, hosttest.Set("verified_login_only=true"))
	h.User("admin", 1)
	u := h.User("guest", 9)
	c := h.Connect()
	wantKinds(t, dialogue(c, "auth", "-user guest", right), "PRIV_TEXT, ERR, IDLE 3")
	h.Change(u.ID, func(r *account.Record) error { r.EmailVerified = true; return nil })
	c.Login("guest")
	c.Login("admin")
}

func TestSetPassword(t *testing.T) {
	h := hosttest.Start(t)
	h.User("user", 2)
	c := h.Connect()
	c.Login("user")
	wantKinds(t, dialogue(c, "set_pw", "", ""), "PRIV_TEXT, IDLE 2")
	bad := []string{
		"Sh0rt!", strings.Repeat("Aa1!", 51), "lower-case7", "UPPER-CASE7", "No-numbers!", "NoSymbols77",
		"My-User-77", "User@Example.Org-7", right, "\xff\xfeAbc-1234",
	}
	wantKinds(t, dialogue(c, "set_pw", "-ignored", append(bad, other)...),
		"ERR, PRIV_TEXT"+strings.Repeat(", ERR, PRIV_TEXT", len(bad))+", TEXT, IDLE 1")
	c = h.Connect()
	wantKinds(t, dialogue(c, "auth", "-user user", right, other), "PRIV_TEXT, ERR, PRIV_TEXT, MY_INFO@SYS_MSG, TEXT, IDLE 1")
}

func TestSetPasswordAsksFirst(t *testing.T) {
	h := hosttest.Start(t, hosttest.Set("ask_current_password=true"))
	h.User("user", 2)
	c := h.Connect()
	c.Login("user")
	wantKinds(t, dialogue(c, "set_pw", "", ""), "PRIV_TEXT, IDLE 2")
	wantKinds(t, dialogue(c, "set_pw", "", "wrong"), "PRIV_TEXT, ERR, IDLE 3")
	wantKinds(t, dialogue(c, "set_pw", "", right, other), "PRIV_TEXT, PRIV_TEXT, TEXT, IDLE 1")
}

func TestAddAccount(t *testing.T) {
	h := hosttest.Start(t, hosttest.Set("enable_public_reg=true", "initial_rank=7"))
	h.User("admin", 1)
	h.User("taken", 2)
	public, ranked := h.Connect(), h.Connect()
	ranked.Login("admin")
	for who, c := range map[string]*hosttest.Client{"nobody": public, "admin": ranked} {
		t.Run(who, func(t *testing.T) {
			name := "new_" + who
			for _, arguments := range []string{
				"", "-name " + name, "-email a@b.example", "-name x -email a@b.example", "-name a@b.example -email a@b.example",
				"-name " + name + " -email nonsense", "-name " + name + " -email a@b.example -disp " + strings.Repeat("x", 25),
				"-name TAKEN -email a@b.example", "-name " + name + " -email Taken@example.org", "-name ROOT -email a@b.example",
			} {
				if got := hosttest.Kinds(dialogue(c, "add_acct", arguments)); got != "ERR, IDLE 3" {
					t.Errorf("%q: got %s, want a refusal", arguments, got)
				}
			}
			arguments := "-name " + name + " -email " + name + "@b.example -disp 'The New'"
			wantKinds(t, dialogue(c, "add_acct", arguments, ""), "PRIV_TEXT, IDLE 2")
			wantKinds(t, dialogue(c, "add_acct", arguments, "weak", right), "PRIV_TEXT, ERR, PRIV_TEXT, TEXT, IDLE 1")
			wantKinds(t, dialogue(c, "add_acct", arguments), "ERR, IDLE 3")
			fresh := h.Connect()
			fresh.Login(name)
			info := hosttest.Texts(wire.Text, fresh.Call("my_info", ""))
			if !strings.Contains(info, "host rank: 7\n") || !strings.Contains(info, "display name: The New\n") {
				t.Errorf("the new account is\n%s", info)
			}
		})
	}
	if got := who(public); got != "" {
		t.Errorf("%q is logged in after a registration", got)
	}
}

func TestInformation(t *testing.T) {
	h := hosttest.Start(t)
	u := h.User("admin", 1)
	c := h.Connect()
	info := hosttest.Texts(wire.Text, c.Call("my_info", ""))
	want := fmt.Sprintf("session id: %s\nclient address: 127.0.0.1\nclient app: hosttest\n", c.Header.Session)
	if info != want {
		t.Errorf("before login my_info is\n%s, want\n%s", info, want)
	}
	c.Login("admin")
	info = hosttest.Texts(wire.Text, c.Call("my_info", ""))
	for _, line := range []string{want, "user name: admin\n", "display name: \n", "user id: " + u.ID.String(), "e-mail: admin@example.org\n", "registered: 2", "e-mail verified: no\n", "owner override: no\n", "host rank: 1\n"} {
		if !strings.Contains(info, line) {
			t.Errorf("my_info lacks %q:\n%s", line, info)
		}
	}

	list := hosttest.Texts(wire.Text, c.Call("ls_cmds", "-all"))
	last := ""
	for name, id := range c.Commands {
		if !strings.Contains(list, fmt.Sprintf("%d", id.ID)) || !strings.Contains(list, name) {
			t.Errorf("ls_cmds lacks %s", name)
		}
	}
	for line := range strings.Lines(list) {
		words := strings.Fields(line)
		if len(words) > 2 && words[0] != "command_id" && !strings.HasPrefix(words[0], "---") { // each page has a head
			if words[1] < last {
				t.Errorf("%s stands behind %s", words[1], last)
			}
			last = words[1]
		}
	}
	for arguments, rows := range map[string]string{"-find \"LOG \"": "2 rows.", "-command_name ls_cm -all": "1 row.", "-find nothing": "0 rows."} {
		if text := hosttest.Texts(wire.Text, c.Call("ls_cmds", arguments)); !strings.HasSuffix(text, "\n"+rows+"\n") {
			t.Errorf("ls_cmds %s:\n%s, want %s", arguments, text, rows)
		}
	}

	for _, arguments := range []string{"-cmd_name HOST_INFO", fmt.Sprintf("-cmd_id %d", c.ID("host_info"))} {
		frames := c.Call("cmd_info", arguments)
		wantKinds(t, frames, "BIG_TEXT, IDLE 1")
		if text := string(frames[0].Payload); !strings.HasPrefix(text, "name: host_info\nlibrary: mrci test") {
			t.Errorf("cmd_info %s: %s", arguments, text)
		}
	}
	for _, arguments := range []string{"", "-cmd_name nothing", "-cmd_id 65535", "-cmd_id 3", "-cmd_id x"} {
		wantKinds(t, c.Call("cmd_info", arguments), "ERR, IDLE 3")
	}
	wantKinds(t, h.Connect().Call("cmd_info", "-cmd_name host_info"), "ERR, IDLE 3")

	text := hosttest.Texts(wire.Text, c.Call("host_info", ""))
	for _, line := range []string{"program: MRCI test", "runtime: go", "machine: ", "system: ", "address: 127.0.0.1\n", fmt.Sprintf("port: %d\n", h.Addr().Port())} {
		if !strings.Contains(text, line) {
			t.Errorf("host_info lacks %q:\n%s", line, text)
		}
	}
}

func TestListUsers(t *testing.T) {
	h := hosttest.Start(t)
	h.User("admin", 1)
	users := 1
	grow := func(to int) {
		t.Helper()
		for ; users < to; users++ {
			name := fmt.Sprintf("user%02d", users-1)
			if _, err := h.Accounts().Create(t.Context(), account.NewAccount{Name: name, Email: name + "@example.org"}, account.Secret(right)); err != nil {
				t.Fatal(err)
			}
		}
	}
	c := h.Connect()
	c.Login("admin")
	const page = "TEXT, PROMPT_TEXT"
	grow(50)
	wantKinds(t, dialogue(c, "ls_users", ""), "TEXT, IDLE 1")
	grow(51)
	wantKinds(t, dialogue(c, "ls_users", "", "y"), page+", TEXT, IDLE 1")
	grow(100)
	tests := []struct {
		arguments string
		answers   []string
		kinds     string
		rows      int
		end       string
	}{
		{"-user_name nobody", nil, "TEXT, IDLE 1", 0, "0 rows."},
		{"-user_name USER0", nil, "TEXT, IDLE 1", 10, "10 rows."},
		{"-user_name user -host_rank 2", []string{"n"}, page + ", IDLE 1", 50, ""},
		{"", []string{"y"}, page + ", TEXT, IDLE 1", 100, "100 rows."},
		{"", []string{"what", "Y"}, page + ", PROMPT_TEXT, TEXT, IDLE 1", 100, "100 rows."},
		{"-all", nil, "TEXT, TEXT, IDLE 1", 100, "100 rows."},
		{"-nonsense -all", nil, "ERR, TEXT, TEXT, IDLE 1", 100, "100 rows."},
		{"-locked 0 -user_name user1", nil, "TEXT, IDLE 1", 10, "10 rows."},
		{"-user_name user0' -all", nil, "ERR, IDLE 3", 0, ""}, // a quote that is not closed
		{`-user_name "x' OR 1=1 --"`, nil, "TEXT, IDLE 1", 0, "0 rows."},
	}
	for _, tt := range tests {
		t.Run(tt.arguments, func(t *testing.T) {
			frames := dialogue(c, "ls_users", tt.arguments, tt.answers...)
			wantKinds(t, frames, tt.kinds)
			text := hosttest.Texts(wire.Text, frames)
			rows := 0
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, "20") {
					rows++
				}
			}
			if rows != tt.rows || !strings.Contains(text, tt.end) {
				t.Errorf("%d rows, want %d and %q:\n%s", rows, tt.rows, tt.end, text)
			}
		})
	}
	// The state of a stopped call is gone at the next.
	dialogue(c, "ls_users", "")
	c.Send(wire.TermCmd, c.ID("ls_users"), 0, "")
	wantKinds(t, c.UntilIdle(c.ID("ls_users"), 0), "IDLE 2")
	if text := hosttest.Texts(wire.Text, dialogue(c, "ls_users", "")); !strings.Contains(text, " admin ") {
		t.Error("the next call did not begin at the first row")
	}
	c.Send(wire.TermCmd, c.ID("ls_users"), 0, "")
	c.UntilIdle(c.ID("ls_users"), 0)
}

// TestTLS: the same conversation inside TLS, extensions too.
func TestTLS(t *testing.T) {
	h := hosttest.Start(t, hosttest.Set("tls_on_loopback=true"))
	h.User("user", 2)
	c := hosttest.Dial(t, h.Address(), wire.ClientHeader{Requested: true, Wanted: wire.ExtSchema})
	if c.Header.Reply != wire.ReplyTLS {
		t.Fatalf("reply %d", c.Header.Reply)
	}
	frames := c.Ready()
	var granted wire.ExtensionsGranted
	if f := frames[0]; f.Cmd != wire.CmdID(wire.AsyncExtensions) || wire.Parse(f.Payload, &granted) != nil || granted.Granted != wire.ExtSchema {
		t.Fatalf("the first frame is %s %x", hosttest.Kinds(frames[:1]), f.Payload)
	}
	if c.Commands["auth"].Schema == "" {
		t.Error("no schema")
	}
	c.Login("user")
	if got := who(c); got != "user" {
		t.Errorf("logged in as %q", got)
	}
}

// TestLargeFrameBeforeLogin: the client gets the answer although it sent more
// than the host reads.
func TestLargeFrameBeforeLogin(t *testing.T) {
	for _, tls := range []string{"false", "true"} {
		h := hosttest.Start(t, hosttest.Set("tls_on_loopback="+tls))
		c := h.Connect()
		id := c.ID("auth")
		c.Send(wire.Text, id, 4, strings.Repeat("x", 16<<10)) // the limit itself
		wantKinds(t, c.UntilIdle(id, 4), "ERR, IDLE 3")
		c.Send(wire.Text, id, 5, strings.Repeat("x", 600<<10))
		frames := c.Ended()
		wantKinds(t, frames, "ERR, IDLE 3")
		if frames[1].Branch != 5 {
			t.Error("on another branch")
		}
	}
}

func TestCallsBeforeLogin(t *testing.T) {
	h := hosttest.Start(t, hosttest.Set("max_instances=6"))
	h.User("user", 2)
	c := h.Connect()
	id := c.ID("auth")
	fill := func(first, limit int) {
		t.Helper()
		for b := first; b < limit; b++ {
			c.Send(wire.Text, id, wire.BranchID(b), "-user user")
			c.UntilType(wire.PrivText)
		}
		c.Send(wire.Text, id, 99, "-user user")
		wantKinds(t, c.UntilIdle(id, 99), "ERR, IDLE 6")
	}
	fill(0, 4)
	c.Send(wire.Text, id, 0, right)
	c.UntilIdle(id, 0)
	fill(4, 7)
}

// hang is a command that ends when the test says so and not before.
func hang(release <-chan struct{}) registry.Builtin {
	return registry.Builtin{Command: &module.Command{
		Name: "hang", Class: module.Public | module.Exempt,
		Run: func(ctx context.Context, c *module.Call) error {
			if err := c.Line(ctx, "begin"); err != nil {
				return err
			}
			<-release
			return nil
		},
	}}
}

// TestHostStops: clients are told, calls get IDLE 2, and the host ends within
// its time, with a command that ignores everything too.
func TestHostStops(t *testing.T) {
	release := make(chan struct{})
	h := hosttest.Start(t, hosttest.Commands(hang(release)), hosttest.Set("stop_timeout_s=5"))
	defer close(release)
	var clients []*hosttest.Client
	for range 3 {
		c := h.Connect()
		c.Send(wire.Text, c.ID("auth"), 0, "-user xx")
		c.UntilType(wire.PrivText)
		clients = append(clients, c)
	}
	clients[0].Send(wire.Text, clients[0].ID("hang"), 0, "")
	clients[0].UntilType(wire.Text)
	began := time.Now()
	stopped := make(chan struct{})
	go func() { // awaited below
		h.Stop()
		close(stopped)
	}()
	for i, c := range clients {
		want := "TEXT@SYS_MSG, IDLE 2"
		if i == 0 {
			want += ", IDLE 2"
		}
		wantKinds(t, c.Ended(), want)
	}
	<-stopped
	if took := time.Since(began); took > 9*time.Second { // the default is 10 s
		t.Errorf("stopping took %v, five seconds were given", took)
	}
}

// TestStopIsQuick: without sessions, and with clients that leave, nothing is
// waited for. What is waited for would be so every time, a machine that stands
// still is not.
func TestStopIsQuick(t *testing.T) {
	quickest := time.Hour
	for try := 0; try < 10 && quickest > time.Second; try++ {
		h := hosttest.Start(t, hosttest.Set("stop_timeout_s=3600"))
		h.Connect().Conn.Close()
		waitUntil(t, "the client has left", func() bool { return h.Sessions() == 0 })
		began := time.Now()
		h.Stop()
		quickest = min(quickest, time.Since(began))
	}
	if quickest > time.Second {
		t.Errorf("stopping takes %v", quickest)
	}
}

func TestSessionsAreCounted(t *testing.T) {
	h := hosttest.Start(t)
	a, b := h.Connect(), h.Connect()
	if n := h.Sessions(); n != 2 {
		t.Errorf("%d sessions", n)
	}
	a.Conn.Close()
	waitUntil(t, "a session that has ended is counted no more", func() bool { return h.Sessions() == 1 })
	b.Call("my_info", "")
	b.Write([]byte{1, 2, 3}) // half a header
	b.Conn.Close()
	h.Stop()
	if _, err := b.Read(); !errors.Is(err, io.EOF) && err == nil {
		t.Error("still there")
	}
}
