package session_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/wire"
)

// events names frames with their command, for comparing orders: "IDLE 1 login".
func events(c *hosttest.Client, names map[wire.CmdID]string, frames []wire.Frame) []string {
	var out []string
	for _, f := range frames {
		kind := hosttest.Kinds([]wire.Frame{f})
		switch {
		case f.Type == wire.NewCmd:
			var info wire.CommandInfo
			if wire.Parse(f.Payload, &info) == nil {
				kind = "ADD " + info.Name
			}
		case f.Type == wire.CommandID:
			var ref wire.CommandRef
			if wire.Parse(f.Payload, &ref) == nil {
				kind = "RM " + names[ref.ID]
			}
		case !f.Cmd.IsAsync():
			kind += " " + names[f.Cmd]
		}
		out = append(out, kind)
	}
	return out
}

// commandNames are the names of all commands of the server.
func (s *server) commandNames() map[wire.CmdID]string {
	names := make(map[wire.CmdID]string)
	for _, rank := range []wire.Rank{wire.NoRank, 1} {
		for _, l := range s.registry.Offer(rank).Commands() {
			names[l.ID] = l.Name
		}
	}
	return names
}

// TestListChange is the order of commands 1.3.
func TestListChange(t *testing.T) {
	s := serve(t, nil)
	c := s.connect()
	names := s.commandNames()
	gone := c.ID("public_only")
	for b := range wire.BranchID(3) { // running calls of a command that goes away
		c.Send(wire.Text, gone, b, "")
		c.UntilType(wire.PromptText)
	}
	stays := c.ID("prompt")
	c.Send(wire.Text, stays, 0, "")
	c.UntilType(wire.PromptText)

	c.Send(wire.Text, c.ID("login"), 0, "-rank 1")
	frames := c.Until(func(f wire.Frame) bool { return f.Type == wire.Idle && f.Cmd == c.ID("login") })
	frames = append(frames, fence(t, c)...)
	want := []string{
		"MY_INFO@SYS_MSG", "TEXT login", "IDLE 1 login",
		"IDLE 2 public_only", "IDLE 2 public_only", "IDLE 2 public_only",
		"RM public_only", "ADD logout", "ADD logout_slow", "ADD ranked",
	}
	if got := events(c, names, frames); !slices.Equal(got, want) {
		t.Fatalf("login:\n got %s\nwant %s", strings.Join(got, ", "), strings.Join(want, ", "))
	}
	c.Send(wire.Text, gone, 0, "")
	wantKinds(t, c.UntilIdle(gone, 0), "ERR, IDLE 3")
	c.Send(wire.Text, stays, 0, "still there")
	wantKinds(t, c.UntilIdle(stays, 0), "TEXT, IDLE 1")

	// Out again, by both kinds of command, with a ranked call under way.
	for _, name := range []string{"logout", "logout_slow"} {
		ranked := c.ID("ranked")
		c.Send(wire.Text, ranked, 4, "")
		c.UntilType(wire.PromptText)
		id := c.ID(name)
		c.Send(wire.Text, id, 0, "")
		frames = c.UntilIdle(id, 0)
		frames = append(frames, fence(t, c)...)
		want = []string{"IDLE 1 " + name, "IDLE 2 ranked", "RM logout", "RM logout_slow", "RM ranked", "ADD public_only"}
		if got := events(c, names, frames); !slices.Equal(got, want) {
			t.Fatalf("%s:\n got %s\nwant %s", name, strings.Join(got, ", "), strings.Join(want, ", "))
		}
		c.Send(wire.Text, ranked, 4, "")
		wantKinds(t, c.UntilIdle(ranked, 4), "ERR, IDLE 3")
		if got := c.ID("public_only"); got != gone {
			t.Errorf("public_only came back with the id %d, it had %d", got, gone)
		}
		c.Call("login", "-rank 1")
		fence(t, c)
	}

	// Another user, without leaving: only what differs is told.
	c.Send(wire.Text, c.ID("login"), 0, "-rank 2")
	frames = append(c.UntilIdle(c.ID("login"), 0), fence(t, c)...)
	want = []string{"MY_INFO@SYS_MSG", "TEXT login", "IDLE 1 login", "RM ranked"}
	if got := events(c, names, frames); !slices.Equal(got, want) {
		t.Fatalf("change of user: got %s, want %s", strings.Join(got, ", "), strings.Join(want, ", "))
	}
}

// TestNothingBetween: calls that are there when the account has been read are
// answered behind the new list.
func TestNothingBetween(t *testing.T) {
	s := serve(t, func(s *server) { s.users = holding() })
	c := s.connect()
	names := s.commandNames()
	id := c.ID("fence")
	var calls []byte
	for range 50 {
		calls = wire.AppendText(calls, wire.Text, id, fenceBranch, "x")
	}
	for range 20 {
		c.Send(wire.Text, c.ID("login"), 0, "-rank 1")
		s.users.wait(t)
		c.Write(calls)
		time.Sleep(2 * time.Millisecond) // the host reads them, most of the times
		s.users.answer(t)
		frames := c.Until(func(f wire.Frame) bool {
			return f.Type == wire.NewCmd && strings.Contains(string(f.Payload), "ranked")
		})
		at := slices.IndexFunc(frames, func(f wire.Frame) bool { return f.Type == wire.MyInfo })
		if slices.ContainsFunc(frames[at:], func(f wire.Frame) bool { return f.Cmd == id }) {
			t.Fatalf("fence was answered between MY_INFO and the new list: %s", strings.Join(events(c, names, frames[at:]), ", "))
		}
		c.Call("logout", "")
	}
}

// TestLoginThatPrompts: frames do not wait for ever behind a call that goes on
// after it has logged in.
func TestLoginThatPrompts(t *testing.T) {
	s := serve(t, func(s *server) { s.limits.SettleTimeout = 20 * time.Millisecond })
	c := s.connect()
	id := c.ID("login_prompt")
	c.Send(wire.Text, id, 0, "")
	wantKinds(t, c.UntilType(wire.PromptText), "MY_INFO@SYS_MSG, PROMPT_TEXT")
	c.Send(wire.Text, id, 0, "answer")
	wantKinds(t, c.UntilIdle(id, 0), "IDLE 1")
	fence(t, c)
	c.Call("logout", "")
}

func TestFailedLogin(t *testing.T) {
	s := serve(t, nil)
	c := s.connect()
	wantKinds(t, c.Call("login", "-rank 0"), "ERR, IDLE 6")
	wantKinds(t, fence(t, c), "")
	c.Call("login", "-rank 3")
	fence(t, c)
	wantKinds(t, c.Call("login", "-rank 0"), "ERR, IDLE 6")
	wantKinds(t, fence(t, c), "")
	if _, ok := c.Commands["logout"]; !ok {
		t.Error("a failed attempt ended the old login")
	}
}

// TestOwnerDoesNotWaitForTheStore: while the account is read, frames wait; a
// call that is given up meanwhile leaves no login.
func TestOwnerDoesNotWaitForTheStore(t *testing.T) {
	s := serve(t, func(s *server) { s.users = holding() })
	c := s.connect()
	loop := c.ID("loop")
	c.Send(wire.Text, loop, 1, "")
	c.UntilType(wire.Prog)
	id := c.ID("login")
	c.Send(wire.Text, id, 0, "-rank 1")
	s.users.wait(t)
	c.Send(wire.TermCmd, loop, 1, "")
	s.users.answer(t)
	in := false
	for idle := 0; idle < 2; {
		switch f := c.Next(); f.Type {
		case wire.MyInfo:
			in = true
		case wire.Idle:
			idle++
		}
	}
	if !in {
		t.Error("no MY_INFO")
	}

	// The client leaves while a second login is under way.
	c.Send(wire.Text, id, 0, "-rank 2")
	s.users.wait(t)
	c.Conn.Close()
	if err := s.endReason(); err == nil {
		t.Error("no reason")
	}
}

func TestLoginGivenUp(t *testing.T) {
	t.Run("any moment", loginGivenUp)
	t.Run("while the account is read", func(t *testing.T) {
		s := serve(t, func(s *server) {
			s.users = holding()
			s.limits.KillGrace = 20 * time.Millisecond
		})
		c := s.connect()
		id := c.ID("login")
		b := wire.AppendText(nil, wire.Text, id, 0, "-rank 1")
		c.Write(wire.AppendText(b, wire.Text, c.ID("prompt"), 0, ""))
		s.users.wait(t)
		// What KILL_CMD does while the owner waits for the account, it does
		// behind the answer: frames are handled in order.
		c.Send(wire.KillCmd, id, 0, "")
		s.users.answer(t)
		c.UntilIdle(id, 0)
		fence(t, c)
		talk(t, c)
	})
}

// loginGivenUp kills a login: there is one with I1, or none with I2.
func loginGivenUp(t *testing.T) {
	s := serve(t, nil)
	c := s.connect()
	id := c.ID("login")
	// Both in one batch: KILL_CMD is behind the start, and the job begins at
	// the earliest when the call's goroutine has run.
	b := wire.AppendText(nil, wire.Text, id, 0, "-rank 1")
	for range 200 {
		b = wire.AppendText(b, wire.Text, c.ID("fence"), 0, "x")
	}
	b = wire.AppendText(b, wire.KillCmd, id, 0, "")
	c.Write(b)
	frames := c.UntilIdle(id, 0)
	in := slices.ContainsFunc(frames, func(f wire.Frame) bool { return f.Type == wire.MyInfo })
	switch kinds := hosttest.Kinds(frames); {
	case strings.HasSuffix(kinds, "IDLE 1") && in:
	case strings.HasSuffix(kinds, "IDLE 2") && !in:
	default:
		t.Errorf("ended with %s, logged in: %v", kinds, in)
	}
}

func TestExtensions(t *testing.T) {
	s := serve(t, nil)
	ask := func(h wire.ClientHeader) (*hosttest.Client, []wire.Frame) {
		c := hosttest.Dial(t, s.addr, h)
		return c, c.Ready()
	}
	count := func(frames []wire.Frame) (with, without int) {
		for _, f := range frames {
			if f.Type != wire.NewCmd {
				continue
			}
			var info wire.CommandInfo
			if err := wire.Parse(f.Payload, &info); err != nil {
				t.Fatal(err)
			}
			if info.Schema != "" {
				with++
			} else {
				without++
			}
		}
		return with, without
	}
	c, frames := ask(wire.ClientHeader{Requested: true, Wanted: wire.ExtSchema | 1<<9})
	var granted wire.ExtensionsGranted
	if f := frames[0]; f.Type != wire.Bytes || f.Cmd != wire.CmdID(wire.AsyncExtensions) || f.Branch != 0 || wire.Parse(f.Payload, &granted) != nil {
		t.Fatalf("the answer is %s", hosttest.Kinds(frames[:1]))
	}
	if granted.Granted != wire.ExtSchema {
		t.Errorf("granted %b, want the schema alone", granted.Granted)
	}
	if with, without := count(frames); with == 0 || without != 0 {
		t.Errorf("%d commands with a schema, %d without", with, without)
	}
	c.Send(wire.Text, c.ID("login"), 0, "-rank 1")
	if with, _ := count(append(c.UntilIdle(c.ID("login"), 0), fence(t, c)...)); with == 0 {
		t.Error("no schema after login")
	}

	_, frames = ask(wire.ClientHeader{Requested: true})
	if f := frames[0]; f.Cmd != wire.CmdID(wire.AsyncExtensions) || wire.Parse(f.Payload, &granted) != nil || granted.Granted != 0 {
		t.Errorf("a request for nothing was answered with %s %x", hosttest.Kinds(frames[:1]), f.Payload)
	}
	if with, _ := count(frames); with != 0 {
		t.Error("a schema that nobody asked for")
	}
	_, frames = ask(wire.ClientHeader{})
	if with, without := count(frames); with != 0 || without == 0 {
		t.Errorf("an old client got %d schemas and %d commands", with, without)
	}
	for _, f := range frames {
		if f.Cmd != wire.CmdID(wire.AsyncAddCmd) && f.Cmd != wire.CmdID(wire.AsyncRdy) {
			t.Errorf("an old client got a frame under %s", f.Cmd)
		}
	}
}

// TestFramesBeforeReady: what is sent behind the header is not lost.
func TestFramesBeforeReady(t *testing.T) {
	s := serve(t, nil)
	id := s.connect().ID("echo") // ids are those of the host
	c := hosttest.Dial(t, s.addr, wire.ClientHeader{})
	var b []byte
	for branch := range wire.BranchID(20) {
		b = wire.AppendText(b, wire.Text, id, branch, "early")
	}
	c.Write(b)
	c.Ready()
	for n := 0; n < 20; {
		f := c.Next()
		if f.Type == wire.Idle {
			n++
		}
	}
}
