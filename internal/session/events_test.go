package session_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/internal/registry"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// request tells the sessions of the user with the rank, and waits for them.
func (s *server) request(async wire.AsyncID, rank byte) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	id := wire.UserID{rank}
	if err := s.bus.Request(ctx, bus.ToUser(id), bus.Event{Async: async, User: id, Text: "out"}); err != nil {
		s.t.Errorf("%v: %v", async, err)
	}
}

// TestLoginMeetsEvents: what happens to an account while it is being read for
// a login is not lost.
func TestLoginMeetsEvents(t *testing.T) {
	for async, want := range map[wire.AsyncID]string{
		wire.AsyncLogout:      "ERR, IDLE 3",
		wire.AsyncUserDeleted: "ERR, IDLE 3",
		wire.AsyncUserRenamed: "MY_INFO@SYS_MSG, TEXT, IDLE 1", // and perhaps once more, behind it
	} {
		t.Run(async.String(), func(t *testing.T) {
			hold := make(chan struct{})
			asked := make(chan struct{}, 9)
			s := serve(t, func(s *server) { s.users.hold, s.users.asked = hold, asked })
			c := s.connect()
			c.Send(wire.Text, c.ID("login"), 0, "-rank 3")
			<-asked
			answered := make(chan struct{})
			go func() { // awaited below
				defer close(answered)
				s.request(async, 3)
			}()
			if async != wire.AsyncUserRenamed {
				<-answered // before the account is there
			}
			close(hold)
			wantKinds(t, c.UntilIdle(c.ID("login"), 0), want)
			<-answered
			fence(t, c)
		})
	}
}

// TestOldLoginHears: who is about to be somebody else is still who it was, and
// what happens to that account binds, whatever becomes of the new login.
func TestOldLoginHears(t *testing.T) {
	for rank, want := range map[string]string{
		"0": "ERR, IDLE 6",
		"2": "MY_INFO@SYS_MSG, TEXT, IDLE 1",
	} {
		t.Run(want, func(t *testing.T) {
			s := serve(t, func(s *server) { s.users = holding() })
			c := s.connect()
			login := c.ID("login")
			c.Send(wire.Text, login, 0, "-rank 1")
			s.users.wait(t)
			s.users.answer(t)
			c.UntilIdle(login, 0)

			c.Send(wire.Text, login, 0, "-rank "+rank)
			s.users.wait(t)
			s.request(wire.AsyncLogout, 1)
			c.UntilType(wire.Text)
			c.Until(func(wire.Frame) bool { return c.Commands["public_only"].Name != "" })
			s.users.answer(t)
			if rank != "0" { // the account is there: it is read once more
				s.users.wait(t)
				s.users.answer(t)
			}
			wantKinds(t, c.UntilIdle(login, 0), want)
			fence(t, c)
			if _, in := c.Commands["logout"]; in != (rank != "0") {
				t.Errorf("logged in: %v", in)
			}
		})
	}
}

// TestLoginLostLate: a login that comes to nothing when the session is nobody's
// already leaves the client with the list of somebody who is not logged in.
func TestLoginLostLate(t *testing.T) {
	s := serve(t, func(s *server) { s.users = holding() })
	c := s.connect()
	names := s.commandNames()
	login := c.ID("login")
	c.Send(wire.Text, login, 0, "-rank 1")
	s.users.wait(t)
	s.users.answer(t)
	c.UntilIdle(login, 0)
	fence(t, c)

	c.Send(wire.Text, login, 0, "-rank 2")
	s.users.wait(t)
	s.users.answer(t)
	s.users.wait(t)
	s.users.failing.Store(true)
	s.users.answer(t)
	frames := append(c.UntilIdle(login, 0), fence(t, c)...)
	want := []string{"ERR login", "IDLE 6 login", "RM logout", "RM logout_slow", "RM ranked", "ADD public_only"}
	if got := events(c, names, frames); !slices.Equal(got, want) {
		t.Errorf("got %s, want %s", strings.Join(got, ", "), strings.Join(want, ", "))
	}
}

// TestPeerInfoOfNobody: a session that is about to have logged out tells peers
// nothing about nobody.
func TestPeerInfoOfNobody(t *testing.T) {
	s := serve(t, nil)
	c := s.connect()
	one := <-s.started
	if b := one.PeerInfo(); b != nil {
		t.Errorf("without a login: %x", b)
	}
	c.Call("login", "-rank 1")
	f, _, ok := wire.CutFrame(one.PeerInfo())
	if !ok || f.Type != wire.PeerInfo || f.Cmd != wire.CmdID(wire.AsyncLimitedCast) {
		t.Errorf("with a login: %v under %v", f.Type, f.Cmd)
	}
}

// TestEventsWhileSettling: they wait for the call that has changed the login,
// and are answered then, or when the session ends.
func TestEventsWhileSettling(t *testing.T) {
	s := serve(t, func(s *server) { s.limits.SettleTimeout = 100 * time.Millisecond })
	c := s.connect()
	c.Send(wire.Text, c.ID("login_prompt"), 0, "")
	frames := c.UntilType(wire.PromptText)
	var info wire.Account
	if err := wire.Parse(frames[0].Payload, &info); err != nil {
		t.Fatal(err)
	}
	s.request(wire.AsyncDispRenamed, info.User[0])
	if f := c.Next(); f.Type != wire.MyInfo {
		t.Errorf("got %s", f.Type)
	}

	s = serve(t, func(s *server) { s.limits.SettleTimeout = time.Hour })
	c = s.connect()
	c.Send(wire.Text, c.ID("login_prompt"), 0, "")
	c.UntilType(wire.PromptText)
	(<-s.started).Stop("bye")
	s.request(wire.AsyncUserDeleted, info.User[0])
	c.Ended()
}

// TestRightsSettle: a change of somebody's rights is over when what they had
// begun under the old ones is.
func TestRightsSettle(t *testing.T) {
	awaited, release := make(chan struct{}), make(chan struct{})
	user := wire.UserID{9}
	s := serve(t, func(s *server) {
		s.settled = func(ctx context.Context) error {
			close(awaited)
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}, &module.Command{
		Name: "demote", Class: module.Public, Short: "s", Long: "l",
		Run: func(ctx context.Context, c *module.Call) error {
			return c.Async(ctx, wire.AsyncUserRankChg, &wire.RankChanged{User: user, Rank: 9})
		},
	})
	c := s.connect()
	demote := c.ID("demote")
	c.Send(wire.Text, demote, 0, "")
	<-awaited
	// Another call is answered meanwhile, and this one is not.
	if frames := c.Call("echo", ""); frames[len(frames)-1].Cmd == demote {
		t.Fatal("the change is over before it has settled")
	}
	close(release)
	wantKinds(t, c.UntilIdle(demote, 0), "IDLE 1")
}

// TestRanksSettle: a change of the ranks of commands is over when the short
// commands have ended that sessions had begun on their owners: a cast that was
// allowed has gone out by then, or is refused.
func TestRanksSettle(t *testing.T) {
	begun, hold := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	var s *server
	s = serve(t, func(s *server) { s.limits.SettleTimeout = 10 * time.Millisecond }, &module.Command{
		Name: "short", Class: module.Public, Short: "s", Long: "l", Inline: true,
		Run: func(context.Context, *module.Call) error {
			close(begun)
			<-hold
			return nil
		},
	}, &module.Command{
		Name: "rerank", Class: module.Public, Short: "s", Long: "l",
		Run: func(ctx context.Context, c *module.Call) error {
			s.registry.SetRanks(registry.Ranks{{Module: registry.BuiltinModule, Command: "extra"}: 3})
			return c.Async(ctx, wire.AsyncCmdRanksChg, nil)
		},
	}, &module.Command{
		Name: "extra", Class: module.Ranked, Short: "s", Long: "l",
		Run: func(context.Context, *module.Call) error { return nil },
	})
	t.Cleanup(release)
	other, c, third := s.connect(), s.connect(), s.connect()
	third.Send(wire.Text, third.ID("login"), 0, "-rank 3")
	third.UntilIdle(third.ID("login"), 0)
	fence(t, third)
	other.Send(wire.Text, other.ID("short"), 0, "")
	<-begun
	rerank := c.ID("rerank")
	c.Send(wire.Text, rerank, 0, "")
	if f := third.Next(); f.Type != wire.NewCmd { // the sessions are being told
		t.Fatalf("got %s", f.Type)
	}
	// Another call is answered meanwhile, and this one is not.
	if frames := c.Call("echo", ""); frames[0].Cmd == rerank {
		t.Fatal("the change is over before what was begun under the old ranks is")
	}
	release()
	wantKinds(t, c.UntilIdle(rerank, 0), "IDLE 1")
	wantKinds(t, other.UntilIdle(other.ID("short"), 0), "IDLE 1")
}

// notice is a log that looks for a text.
type notice struct {
	text string
	seen atomic.Bool
}

func (n *notice) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(n.text)) {
		n.seen.Store(true)
	}
	return len(line), nil
}

// TestRanksMeet: two sessions that change ranks at once do not wait for each
// other: that would last until their time is over, and be in the log.
func TestRanksMeet(t *testing.T) {
	waited := &notice{text: "did not answer"}
	s := serve(t, func(s *server) {
		s.limits.SettleTimeout = time.Hour
		s.log = slog.New(slog.NewTextHandler(waited, nil))
	}, &module.Command{
		Name: "rerank", Class: module.Public, Short: "s", Long: "l",
		Run: func(ctx context.Context, c *module.Call) error { return c.Async(ctx, wire.AsyncCmdRanksChg, nil) },
	})
	a, b := s.connect(), s.connect()
	rerank := a.ID("rerank")
	for range 200 {
		a.Send(wire.Text, rerank, 0, "")
		b.Send(wire.Text, rerank, 0, "")
		wantKinds(t, a.UntilIdle(rerank, 0), "IDLE 1")
		wantKinds(t, b.UntilIdle(rerank, 0), "IDLE 1") // behind the line in the log
		if waited.seen.Load() {
			t.Fatal("they wait for each other")
		}
	}
}

// onLine is a log that calls a function when it has a text, once.
type onLine struct {
	text string
	call func()
	once sync.Once
}

func (o *onLine) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(o.text)) {
		o.once.Do(o.call)
	}
	return len(line), nil
}

// TestRanksChangeAgain: what a call leaves behind that ends because its command
// goes away looks at ranks which have changed once more by then. The list of the
// client ends as that of the session all the same.
func TestRanksChangeAgain(t *testing.T) {
	var s *server
	ranks := func(rank wire.Rank) {
		s.registry.SetRanks(registry.Ranks{{Module: registry.BuiltinModule, Command: "extra"}: rank})
	}
	release := make(chan struct{})
	s = serve(t, func(s *server) {
		// The line of the first IDLE: the owner writes it itself, before it goes on
		// with what is left.
		again := &onLine{text: "branch=5 bytes=2", call: func() { ranks(3) }}
		s.log = slog.New(slog.NewTextHandler(again, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}, &module.Command{
		Name: "extra", Class: module.Ranked, Short: "s", Long: "l",
		Run: func(ctx context.Context, c *module.Call) error {
			if err := c.Text(ctx, "begin"); err != nil {
				return err
			}
			<-release
			return nil
		},
	})
	t.Cleanup(func() { close(release) })
	ranks(3)
	c := s.connect()
	names := s.commandNames()
	c.Call("login", "-rank 3")
	fence(t, c)
	extra := c.ID("extra")
	c.Send(wire.Text, extra, 5, "")
	c.UntilType(wire.Text)
	c.Send(wire.KillCmd, extra, 5, "")
	c.Send(wire.Text, extra, 5, "") // the next call, when this one is over
	fence(t, c)
	ranks(2)
	for range 2 { // the second of them for the change in between
		if err := s.bus.Request(t.Context(), bus.Everybody(), bus.Event{Async: wire.AsyncCmdRanksChg}); err != nil {
			t.Fatal(err)
		}
	}
	listed := true
	got := events(c, names, fence(t, c))
	for _, what := range got {
		switch what {
		case "ADD extra":
			listed = true
		case "RM extra":
			listed = false
		}
	}
	if !listed {
		t.Errorf("the session is offered the command, and the client was told %s", strings.Join(got, ", "))
	}
}

// TestRenamesMeet: two sessions of a user that change what is said of the user,
// at once, do not wait for each other either.
func TestRenamesMeet(t *testing.T) {
	waited := &notice{text: "did not answer"}
	change := func(name string, id wire.AsyncID, payload func(wire.UserID) wire.Payload) *module.Command {
		return &module.Command{Name: name, Class: module.Exempt, Short: "s", Long: "l", Run: func(ctx context.Context, c *module.Call) error {
			return c.Async(ctx, id, payload(c.Session().User.ID))
		}}
	}
	s := serve(t, func(s *server) {
		s.limits.SettleTimeout = time.Hour
		s.log = slog.New(slog.NewTextHandler(waited, nil))
	},
		change("rename", wire.AsyncUserRenamed, func(id wire.UserID) wire.Payload { return &wire.UserRenamed{User: id, Name: "other"} }),
		change("display", wire.AsyncDispRenamed, func(id wire.UserID) wire.Payload { return &wire.DispRenamed{User: id, Display: "Other"} }),
		change("email", wire.AsyncRWMyInfo, func(id wire.UserID) wire.Payload { return &wire.UserRef{User: id} }),
	)
	a, b := s.connect(), s.connect()
	for _, c := range []*hosttest.Client{a, b} {
		c.Call("login", "-rank 3")
		fence(t, c)
	}
	for _, name := range []string{"rename", "display", "email"} {
		id := a.ID(name)
		for range 100 {
			a.Send(wire.Text, id, 0, "")
			b.Send(wire.Text, id, 0, "")
			for _, c := range []*hosttest.Client{a, b} { // behind the line in the log
				frames := c.UntilIdle(id, 0)
				wantKinds(t, frames[len(frames)-1:], "IDLE 1")
			}
			if waited.seen.Load() {
				t.Fatalf("%s: they wait for each other", name)
			}
		}
	}
}
