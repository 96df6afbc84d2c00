package session_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/builtin/peers"
	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/internal/conn"
	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/internal/hub"
	"mrci.dev/mrci/internal/registry"
	"mrci.dev/mrci/internal/session"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a host that has only sessions: with the limits of the test, and
// users that exist because the test says so.
type server struct {
	t        *testing.T
	addr     string
	limits   session.Limits
	conn     conn.Config
	users    *users
	bus      *bus.Memory
	hub      *hub.Hub
	registry *registry.Registry
	journal  session.Journal
	log      *slog.Logger
	before   func(*session.Session, *conn.Conn) // Run; nil: nothing
	peers    bool                               // the commands of package peers are offered
	settled  func(context.Context) error
	// free ends the commands that ignore everything else.
	free    func()
	ended   chan error // why sessions ended, one each
	started chan *session.Session
}

// users makes up an account for every id; its rank is the id's first byte.
type users struct {
	// With hold, a query says that it is under way on asked, and receives from
	// hold before it answers.
	asked, hold chan struct{}
	// free is how many queries do not, before the others.
	free atomic.Int32
	// failing: nothing can be read.
	failing atomic.Bool
	// channels are of whoever logs in.
	channels []wire.ChannelID
}

// holding are users whose answers wait.
func holding() *users { return &users{asked: make(chan struct{}), hold: make(chan struct{})} }

// wait waits until a query is under way.
func (u *users) wait(t *testing.T) {
	t.Helper()
	select {
	case <-u.asked:
	case <-time.After(20 * time.Second):
		t.Fatal("no query")
	}
}

// answer lets the query go on that wait has seen.
func (u *users) answer(t *testing.T) {
	t.Helper()
	select {
	case u.hold <- struct{}{}:
	case <-time.After(20 * time.Second):
		t.Fatal("the query was given up")
	}
}

var errNoUser = errors.New("no such user")

func (u *users) User(ctx context.Context, id wire.UserID) (account.User, error) {
	if u.hold != nil && u.free.Add(-1) < 0 {
		select {
		case u.asked <- struct{}{}:
		case <-ctx.Done():
			return account.User{}, context.Cause(ctx)
		}
		select {
		case <-u.hold:
		case <-ctx.Done():
			return account.User{}, context.Cause(ctx)
		}
	}
	if id.IsZero() || u.failing.Load() {
		return account.User{}, errNoUser
	}
	return account.User{ID: id, Name: "someone", Email: "someone@example.org", Rank: wire.Rank(id[0])}, nil
}

func (u *users) Login(ctx context.Context, id wire.UserID) (account.User, []wire.ChannelID, error) {
	user, err := u.User(ctx, id)
	return user, u.channels, err
}

// memory counts what is reserved.
type memory struct{ used atomic.Int64 }

func (m *memory) Reserve(bytes int) bool { m.used.Add(int64(bytes)); return true }
func (m *memory) Release(bytes int)      { m.used.Add(-int64(bytes)) }

// owners: everybody owns every channel.
type owners struct{}

func (owners) Rights(context.Context, channel.Caller, wire.ChannelID, wire.SubID) (channel.Rights, error) {
	return channel.Rights{Level: wire.Owner, Sub: channel.SubChannel{Lowest: wire.Public, Active: true}}, nil
}

// serve starts a server with the test's commands and those that the test adds,
// and stops it at the end of the test.
func serve(t *testing.T, change func(*server), more ...*module.Command) *server {
	t.Helper()
	s := &server{
		t: t, limits: session.DefaultLimits(), users: new(users), bus: bus.NewMemory(), journal: noJournal{},
		log: slog.New(slog.DiscardHandler), settled: func(context.Context) error { return nil },
		ended: make(chan error, 16), started: make(chan *session.Session, 16),
		conn: conn.Config{
			// Only a fault reaches these.
			HeaderTimeout: time.Minute, TLSTimeout: time.Minute, WriteTimeout: time.Minute,
			QueueBytes: 64 << 20, FrameLimit: 16 << 10, Budget: new(memory),
		},
	}
	s.limits.AnonymousCalls = s.limits.Instances
	s.limits.AnonymousInput = s.limits.InputBytes
	s.limits.AnonymousFrame = wire.MaxPayload
	s.conn.FrameLimit = wire.MaxPayload
	if change != nil {
		change(s)
	}
	release := make(chan struct{})
	s.hub = hub.New(hub.Config{Bus: s.bus, Rights: owners{}, Settings: func() hub.Settings { return hub.Settings{} }})
	s.free = sync.OnceFunc(func() { close(release) })
	var builtins []registry.Builtin
	for _, c := range append(commands(release), more...) {
		builtins = append(builtins, registry.Builtin{Command: c})
	}
	if s.peers {
		builtins = append(builtins, peers.Commands(peers.Config{
			Peers: s.hub, Refused: func(*module.Session, string, wire.TypeID) {}, Untaken: func() {},
		})...)
	}
	var err error
	if s.registry, err = registry.New(builtins, "test", registry.Flags{}, nil); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			group.Go(func() { s.run(ctx, nc) })
		}
	})
	t.Cleanup(func() {
		s.free()
		ln.Close()
		cancel()
		group.Wait()
		if used := s.memory().used.Load(); used != 0 {
			t.Errorf("%d bytes of input memory are still reserved", used)
		}
	})
	return s
}

func (s *server) memory() *memory { return s.conn.Budget.(*memory) }

func (s *server) run(ctx context.Context, nc net.Conn) {
	c, err := conn.Accept(ctx, nc, &s.conn)
	if err != nil {
		return
	}
	one := session.New(c, &session.Config{
		Hub:      s.hub,
		Registry: s.registry, Users: s.users, Limits: func() *session.Limits { return &s.limits }, Counters: new(session.Counters),
		Bus: bus.Settling(s.bus, s.settled), Journal: s.journal,
		Log: s.log, Greeting: "hello",
	})
	if s.before != nil {
		s.before(one, c)
	}
	s.started <- one
	stop := context.AfterFunc(ctx, func() { one.Cut(context.Cause(ctx)) })
	defer stop()
	s.ended <- one.Run()
}

// connect returns a client that is ready.
func (s *server) connect() *hosttest.Client {
	s.t.Helper()
	c := hosttest.Dial(s.t, s.addr, wire.ClientHeader{AppName: "test"})
	c.Ready()
	return c
}

// endReason waits until a session has ended with everything it started.
func (s *server) endReason() error {
	s.t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(20 * time.Second):
		s.t.Fatal("the session does not end")
		return nil
	}
}

// commands are what most tests need. Those that ignore control frames return
// when release is closed.
func commands(release <-chan struct{}) []*module.Command {
	const both = module.Public | module.Exempt
	line := func(ctx context.Context, c *module.Call, text string) error { return c.Text(ctx, text) }
	return []*module.Command{
		// fence is answered by the owner itself: what was sent before it has
		// been handled when it is answered.
		{Name: "fence", Class: both, Input: module.AnyInput, Inline: true, Run: func(ctx context.Context, c *module.Call) error {
			return c.Send(ctx, c.Type, c.Input)
		}},
		{Name: "echo", Class: both, Input: module.AnyInput, Run: func(ctx context.Context, c *module.Call) error {
			return c.Send(ctx, c.Type, c.Input)
		}},
		{Name: "prompt", Class: both, Run: func(ctx context.Context, c *module.Call) error {
			answer, err := c.Prompt(ctx, "?")
			if err != nil {
				return err
			}
			return line(context.WithoutCancel(ctx), c, answer)
		}},
		{Name: "secret", Class: both, Run: func(ctx context.Context, c *module.Call) error {
			answer, err := c.Secret(ctx, "?")
			if err != nil {
				return err
			}
			return line(context.WithoutCancel(ctx), c, string(answer))
		}},
		{Name: "confirm", Class: both, Run: func(ctx context.Context, c *module.Call) error {
			yes, err := c.Confirm(ctx, "y/n")
			if err != nil {
				return err
			}
			if !yes {
				return module.ErrAborted
			}
			return line(ctx, c, "yes")
		}},
		// upload waits for input without a prompt: until a GEN_FILE "end".
		{Name: "upload", Class: both, Run: func(ctx context.Context, c *module.Call) error {
			if err := line(ctx, c, "begin"); err != nil {
				return err
			}
			for {
				t, p, err := c.Receive(ctx)
				if err != nil {
					return err
				}
				if t == wire.GenFile && string(p) == "end" {
					return nil
				}
				// What has arrived is written, whatever comes next.
				if err := line(context.WithoutCancel(ctx), c, string(p)); err != nil {
					return err
				}
			}
		}},
		// loop works in steps, and can be paused and stopped between them.
		{Name: "loop", Class: both, Run: func(ctx context.Context, c *module.Call) error {
			ticker := time.NewTicker(200 * time.Microsecond)
			defer ticker.Stop()
			for {
				if err := c.Checkpoint(ctx); err != nil {
					return err
				}
				if err := c.Send(ctx, wire.Prog, []byte{1}); err != nil {
					return err
				}
				<-ticker.C
			}
		}},
		// obey takes no input and ends with its context.
		{Name: "obey", Class: both, Run: func(ctx context.Context, c *module.Call) error {
			if err := line(ctx, c, "begin"); err != nil {
				return err
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}},
		{Name: "ignore", Class: both, Input: module.AnyInput, Run: func(ctx context.Context, c *module.Call) error {
			if err := line(ctx, c, "begin"); err != nil {
				return err
			}
			<-release
			return nil
		}},
		{Name: "flood", Class: both, Run: func(ctx context.Context, c *module.Call) error {
			for {
				if err := c.Send(ctx, wire.Bytes, make([]byte, 32<<10)); err != nil {
					return err
				}
			}
		}},
		{Name: "crash", Class: both, Run: func(context.Context, *module.Call) error { panic("on purpose") }},
		{Name: "crash_inline", Class: both, Inline: true, Run: func(context.Context, *module.Call) error { panic("on purpose") }},
		{Name: "fail", Class: both, Run: func(context.Context, *module.Call) error { return errors.New("a secret of the host") }},
		{Name: "custom", Class: both, Run: func(context.Context, *module.Call) error {
			return &module.Failure{Code: wire.Custom, Data: []byte("data")}
		}},
		{Name: "login", Class: both, Args: []module.Arg{{Name: "rank", Kind: module.Int, Max: 255, Required: true}},
			Run: func(ctx context.Context, c *module.Call) error {
				var id wire.UserID
				id[0] = byte(c.Args.Uint("rank"))
				if err := c.Async(ctx, wire.AsyncUserLogin, &wire.UserRef{User: id}); err != nil {
					return err
				}
				return line(context.WithoutCancel(ctx), c, "in")
			}},
		{Name: "logout", Class: module.Exempt, Inline: true, Run: func(ctx context.Context, c *module.Call) error {
			return c.Async(ctx, wire.AsyncLogout, nil)
		}},
		{Name: "logout_slow", Class: module.Exempt, Run: func(ctx context.Context, c *module.Call) error {
			return c.Async(ctx, wire.AsyncLogout, nil)
		}},
		{Name: "public_only", Class: module.Public, Run: func(ctx context.Context, c *module.Call) error {
			_, err := c.Prompt(ctx, "?")
			return err
		}},
		{Name: "ranked", Class: module.Ranked, Run: func(ctx context.Context, c *module.Call) error {
			_, err := c.Prompt(ctx, "?")
			return err
		}},
		{Name: "unserved", Class: both, Run: func(ctx context.Context, c *module.Call) error {
			return c.Async(ctx, wire.AsyncCast, nil)
		}},
		{Name: "unserved_inline", Class: both, Inline: true, Run: func(ctx context.Context, c *module.Call) error {
			if _, _, err := c.Receive(ctx); err == nil {
				return nil
			}
			if err := c.Checkpoint(ctx); err != nil {
				return err
			}
			return c.Async(ctx, wire.AsyncCast, nil)
		}},
		{Name: "login_prompt", Class: both, Run: func(ctx context.Context, c *module.Call) error {
			if err := c.Async(ctx, wire.AsyncUserLogin, &wire.UserRef{User: wire.UserID{5}}); err != nil {
				return err
			}
			_, err := c.Prompt(ctx, "?")
			return err
		}},
	}
}

// noJournal is for sessions whose records do not matter.
type noJournal struct{}

func (noJournal) Activity(*module.Session, string)                       {}
func (noJournal) Audit(*module.Session, string, string, wire.ReturnCode) {}
