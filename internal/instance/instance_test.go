package instance_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mrci.dev/mrci/internal/instance"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runner runs one call and takes its output when the test asks for it.
type runner struct {
	*instance.Instance
	t        *testing.T
	group    sync.WaitGroup
	notified chan struct{}
	unread   atomic.Int64 // delivered and not consumed
	log      bytes.Buffer
	kept     []instance.Output
}

func text(s string) wire.Frame { return wire.Frame{Type: wire.Text, Payload: []byte(s)} }

func start(t *testing.T, run func(ctx context.Context, c *module.Call) error) *runner {
	t.Helper()
	return startWith(t, &module.Command{Name: "cmd", Run: run}, text(""), 0)
}

func startWith(t *testing.T, cmd *module.Command, first wire.Frame, promptTimeout time.Duration) *runner {
	t.Helper()
	r := &runner{t: t, notified: make(chan struct{}, 1)}
	view := &module.Session{App: "app"}
	ctx, cancel := context.WithCancel(context.Background())
	r.Instance = instance.Start(ctx, instance.Config{
		Orphaned: func(a *instance.Async) { a.Done(instance.ErrAbandoned) },
		Late:     func(instance.End) {},
		Command:  &module.Listed{ID: 300, Name: cmd.Name, Command: cmd}, Branch: 5,
		Log:           logger{slog.New(slog.NewTextHandler(&r.log, nil))},
		PromptTimeout: promptTimeout,
		Session:       func() *module.Session { return view },
		Notify: func(*instance.Instance) {
			select {
			case r.notified <- struct{}{}:
			default:
				t.Error("notified again before the output was taken")
			}
		},
		Consumed: func(n int) { r.unread.Add(-int64(n)) },
		Group:    &r.group,
	}, first)
	t.Cleanup(func() {
		r.Abandon(errors.New("test ended"))
		cancel()
		r.group.Wait()
	})
	return r
}

// take returns the next output.
func (r *runner) take() instance.Output {
	r.t.Helper()
	for len(r.kept) == 0 {
		select {
		case <-r.notified:
			r.kept = r.Take()
		case <-time.After(10 * time.Second):
			r.t.Fatal("no output")
		}
	}
	o := r.kept[0]
	r.kept = r.kept[1:]
	return o
}

func (r *runner) wantFrame(t wire.TypeID, payload string) {
	r.t.Helper()
	if o := r.take(); o.End != nil || o.Async != nil || o.Type != t || string(o.Payload) != payload {
		r.t.Fatalf("got %+v, want %s %q", o, t, payload)
	}
}

func (r *runner) wantEnd(code wire.ReturnCode) {
	r.t.Helper()
	for {
		o := r.take()
		if o.End == nil {
			continue
		}
		if o.End.Code != code {
			r.t.Fatalf("ended with %s, want %s", o.End.Code, code)
		}
		r.group.Wait()
		return
	}
}

func (r *runner) deliver(f wire.Frame) int {
	r.unread.Add(int64(instance.Cost(f)))
	return r.Deliver(f)
}

// inOrder is what is left over, as the client has sent it.
func inOrder(left instance.Leftover) []wire.Frame {
	frames := left.In
	if left.Term {
		frames = append(frames, wire.Frame{Type: wire.TermCmd})
	}
	return append(frames, left.Behind...)
}

func types(frames []wire.Frame) string {
	var all []string
	for _, f := range frames {
		all = append(all, strings.TrimSpace(f.Type.String()+" "+string(f.Payload)))
	}
	return strings.Join(all, ", ")
}

func TestEndings(t *testing.T) {
	tests := []struct {
		name string
		run  func(ctx context.Context, c *module.Call) error
		says string
		code wire.ReturnCode
	}{
		{"nil", func(context.Context, *module.Call) error { return nil }, "", wire.NoErrors},
		{"failure", func(context.Context, *module.Call) error { return module.Fail(wire.FailedToStart, "no %s", "go") }, "no go\n", wire.FailedToStart},
		{"aborted", func(context.Context, *module.Call) error { return module.ErrAborted }, "", wire.Aborted},
		{"wrapped failure", func(context.Context, *module.Call) error { return errors.Join(module.Invalid("bad")) }, "bad\n", wire.InvalidParams},
		{"abandoned error", func(context.Context, *module.Call) error { return instance.ErrAbandoned }, "", wire.Aborted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, tt.run)
			if tt.says != "" {
				r.wantFrame(wire.Err, tt.says)
			}
			r.wantEnd(tt.code)
		})
	}
	for name, run := range map[string]func(context.Context, *module.Call) error{
		"error": func(context.Context, *module.Call) error { return errors.New("secret") },
		"panic": func(context.Context, *module.Call) error { panic("secret") },
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, run)
			said := string(r.take().Payload)
			code := wire.ExecutionFail
			if name == "panic" {
				code = wire.Crash
			}
			r.wantEnd(code)
			id := strings.SplitAfter(said, "message id ")[1][:10]
			if strings.Contains(said, "secret") || !strings.Contains(r.log.String(), id) || !strings.Contains(r.log.String(), "secret") {
				t.Errorf("said %q, logged %q", said, r.log.String())
			}
		})
	}
}

func TestFirstFrame(t *testing.T) {
	ok := func(ctx context.Context, c *module.Call) error {
		return c.Line(ctx, c.Session().App+" "+c.Args.String("x")+" "+string(c.Input[:min(3, len(c.Input))]))
	}
	args := []module.Arg{{Name: "x"}}
	session := wire.Frame{Type: wire.SesID, Payload: make([]byte, wire.SessionIDSize)}
	tests := []struct {
		name  string
		input module.Input
		first wire.Frame
		code  wire.ReturnCode
	}{
		{"text", module.TextInput, text("-x y"), wire.NoErrors},
		{"no text", module.TextInput, wire.Frame{Type: wire.Bytes}, wire.InvalidParams},
		{"unknown type", module.TextInput, wire.Frame{Type: 99}, wire.InvalidParams},
		{"gen file", module.GenFileInput, wire.Frame{Type: wire.GenFile, Payload: []byte("-x y")}, wire.NoErrors},
		{"no gen file", module.GenFileInput, text(""), wire.InvalidParams},
		{"session", module.SessionInput, session, wire.NoErrors},
		{"short session", module.SessionInput, wire.Frame{Type: wire.SesID, Payload: []byte("x")}, wire.InvalidParams},
		{"no session", module.SessionInput, wire.Frame{Type: wire.Text, Payload: make([]byte, 28)}, wire.InvalidParams},
		{"any", module.AnyInput, wire.Frame{Type: 200}, wire.NoErrors},
		{"too long", module.TextInput, text(strings.Repeat("x", 256<<10+1)), wire.InvalidParams},
		{"no utf-8", module.TextInput, text("\xff"), wire.InvalidParams},
		{"open quote", module.TextInput, text(`-x "`), wire.InvalidParams},
		{"unknown switch", module.TextInput, text("-y"), wire.NoErrors},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := startWith(t, &module.Command{Name: "cmd", Input: tt.input, Args: args, Run: ok}, tt.first, 0)
			if o := r.take(); tt.code != wire.NoErrors && o.Type != wire.Err || tt.name == "unknown switch" && !bytes.Contains(o.Payload, []byte("-x")) {
				t.Errorf("got %s %q", o.Type, o.Payload)
			}
			r.wantEnd(tt.code)
		})
	}
}

// TestOutputWaits: a command that sends more than the session takes waits, and
// says so to Progress.
func TestOutputWaits(t *testing.T) {
	const pieces = 10
	r := start(t, func(ctx context.Context, c *module.Call) error {
		for range pieces {
			if err := c.Send(ctx, wire.Bytes, make([]byte, 64<<10)); err != nil {
				return err
			}
		}
		return nil
	})
	for {
		if _, _, excused := r.Progress(); excused {
			break
		}
		time.Sleep(time.Millisecond)
	}
	got := 0
	for {
		o := r.take()
		if o.End != nil {
			break
		}
		if len(r.kept) > 3 {
			t.Errorf("%d pieces waited", len(r.kept)+1)
		}
		got++
	}
	if got != pieces {
		t.Errorf("%d pieces, want %d", got, pieces)
	}
}

// TestAbandon: whatever the command waits for fails, and nothing more comes.
func TestAbandon(t *testing.T) {
	for name, wait := range map[string]func(ctx context.Context, c *module.Call) error{
		"receive": func(ctx context.Context, c *module.Call) error {
			_, _, err := c.Receive(context.WithoutCancel(ctx))
			return err
		},
		"async":      func(ctx context.Context, c *module.Call) error { return c.Async(ctx, wire.AsyncLogout, nil) },
		"checkpoint": func(ctx context.Context, c *module.Call) error { <-ctx.Done(); return c.Checkpoint(ctx) },
		"send": func(ctx context.Context, c *module.Call) error {
			for {
				if err := c.Send(context.WithoutCancel(ctx), wire.Bytes, make([]byte, 64<<10)); err != nil {
					return err
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			failed := make(chan error, 1)
			r := start(t, func(ctx context.Context, c *module.Call) error {
				err := wait(ctx, c)
				failed <- err
				return err
			})
			if name == "async" || name == "send" {
				<-r.notified
			}
			cause := errors.New("given up")
			r.deliver(text("x")) // may be taken, may be dropped
			r.Abandon(cause)
			r.Abandon(cause)
			r.deliver(text("y"))
			r.group.Wait()
			err := <-failed
			if name != "receive" && !errors.Is(err, instance.ErrAbandoned) && !errors.Is(err, cause) {
				t.Errorf("the wait ended with %v", err)
			}
			if out := r.Take(); len(out) != 0 {
				t.Errorf("%d outputs after the call was given up", len(out))
			}
			if left := inOrder(r.Leftover()); len(left) != 0 || r.unread.Load() != 0 {
				t.Errorf("%d frames left, %d bytes not counted", len(left), r.unread.Load())
			}
		})
	}
}

func TestAsync(t *testing.T) {
	r := start(t, func(ctx context.Context, c *module.Call) error {
		if err := c.Line(ctx, "before"); err != nil {
			return err
		}
		return c.Async(ctx, wire.AsyncUserLogin, &wire.UserRef{})
	})
	r.wantFrame(wire.Text, "before\n")
	o := r.take()
	if o.Async == nil || o.Async.ID != wire.AsyncUserLogin {
		t.Fatalf("got %+v", o)
	}
	o.Async.Done(module.Invalid("no"))
	r.wantFrame(wire.Err, "no\n")
	r.wantEnd(wire.InvalidParams)
	if r.Command().ID != 300 || r.Branch() != 5 {
		t.Error("names another call")
	}
}

func TestPromptTimeout(t *testing.T) {
	r := startWith(t, &module.Command{Name: "cmd", Run: func(ctx context.Context, c *module.Call) error {
		_, err := c.Secret(ctx, "?")
		return err
	}}, text(""), 10*time.Millisecond)
	r.wantFrame(wire.PrivText, "?")
	r.wantFrame(wire.Err, "The answer took too long.\n")
	r.wantEnd(wire.Aborted)
}

// gated runs a command that does what the test sends it: "take" input,
// "check" its checkpoint, "ask", "end".
func gated(t *testing.T) (*runner, chan<- string) {
	do := make(chan string, 16)
	return start(t, func(ctx context.Context, c *module.Call) error {
		for what := range do {
			var err error
			switch what {
			case "take":
				var p []byte
				if _, p, err = c.Receive(ctx); err == nil {
					err = c.Text(ctx, string(p))
				}
			case "check":
				if err = c.Checkpoint(ctx); err == nil {
					err = c.Text(ctx, "checked")
				}
			case "ask":
				err = c.Send(ctx, wire.PromptText, nil)
			case "end":
				return nil
			}
			if err != nil {
				return err
			}
		}
		return nil
	}), do
}

// TestOrder is what becomes of frames around control frames.
func TestOrder(t *testing.T) {
	tests := []struct {
		name string
		then func(r *runner, do chan<- string)
		code wire.ReturnCode
		left string
	}{
		{"input that was not taken is next", func(r *runner, do chan<- string) {
			r.deliver(text("a"))
			r.deliver(text("b"))
			do <- "take"
			do <- "end"
		}, wire.NoErrors, "TEXT b"},
		{"TERM behind input, taken", func(r *runner, do chan<- string) {
			r.deliver(text("a"))
			r.Term()
			do <- "take"
			do <- "take"
		}, wire.Aborted, ""},
		{"TERM behind input, not reached", func(r *runner, do chan<- string) {
			r.deliver(text("a"))
			r.deliver(text("b"))
			r.Term()
			r.deliver(text("c"))
			do <- "take"
			do <- "end"
		}, wire.NoErrors, "TEXT b, TERM_CMD, TEXT c"},
		{"TERM overtakes at a checkpoint", func(r *runner, do chan<- string) {
			r.deliver(text("a"))
			r.Term()
			r.Term()
			r.deliver(text("b"))
			do <- "check"
		}, wire.Aborted, "TEXT b"},
		{"TERM while paused", func(r *runner, do chan<- string) {
			r.Yield()
			r.deliver(text("a"))
			r.Term()
			r.deliver(text("b"))
			do <- "check"
		}, wire.Aborted, "TEXT b"},
		{"KILL drops what waits", func(r *runner, do chan<- string) {
			r.deliver(text("a"))
			r.Kill()
			r.deliver(text("b"))
			do <- "take"
		}, wire.Aborted, "TEXT b"},
		{"KILL behind TERM", func(r *runner, do chan<- string) {
			r.deliver(text("a"))
			r.Term()
			r.deliver(text("b"))
			r.Kill()
			do <- "take"
		}, wire.Aborted, "TEXT b"},
		{"abandoned, with what came behind KILL", func(r *runner, do chan<- string) {
			r.Kill()
			r.deliver(text("b"))
			do <- "end"
		}, wire.NoErrors, "TEXT b"},
		{"YIELD at a prompt before the command waits", func(r *runner, do chan<- string) {
			do <- "ask"
			r.wantFrame(wire.PromptText, "")
			r.Yield()
			r.deliver(text("a"))
			do <- "take"
			do <- "check"
			do <- "end"
		}, wire.NoErrors, ""},
		{"YIELD behind an answer pauses", func(r *runner, do chan<- string) {
			do <- "ask"
			r.wantFrame(wire.PromptText, "")
			r.deliver(text("a"))
			r.Yield()
			do <- "take"
			r.wantFrame(wire.Text, "a")
			if _, _, excused := r.Progress(); !excused {
				r.t.Error("not paused")
			}
			r.Resume()
			do <- "check"
			r.wantFrame(wire.Text, "checked")
			do <- "end"
		}, wire.NoErrors, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, do := gated(t)
			tt.then(r, do)
			r.wantEnd(tt.code)
			if got := types(inOrder(r.Leftover())); got != tt.left {
				t.Errorf("left over: %q, want %q", got, tt.left)
			}
			if n := r.unread.Load(); n != 0 {
				t.Errorf("%d bytes are not counted out", n)
			}
			if r.Behind() {
				t.Error("frames wait behind a call that is over")
			}
		})
	}
}

// What a command does not take is wiped, whichever way it goes; what it gets as
// a secret is the frame's own memory, and is wiped when it returns.
func TestInputIsWiped(t *testing.T) {
	wiped := func(t *testing.T, what string, f wire.Frame) {
		t.Helper()
		for _, b := range f.Payload {
			if b != 0 {
				t.Errorf("%s: %q is left", what, f.Payload)
				return
			}
		}
	}
	asking := func(t *testing.T) *runner {
		r := start(t, func(ctx context.Context, c *module.Call) error {
			if err := c.Text(ctx, "runs"); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		})
		r.wantFrame(wire.Text, "runs")
		return r
	}
	t.Run("killed", func(t *testing.T) {
		r, a := asking(t), text("answer")
		r.deliver(a)
		r.Kill()
		r.wantEnd(wire.Aborted)
		wiped(t, "what waited", a)
	})
	t.Run("abandoned", func(t *testing.T) {
		r, a, b := asking(t), text("answer"), text("late answer")
		r.deliver(a)
		r.Abandon(errors.New("test"))
		r.deliver(b)
		wiped(t, "what waited", a)
		wiped(t, "what came later", b)
	})
	t.Run("terminated", func(t *testing.T) {
		r, do := gated(t)
		a := text("answer")
		r.deliver(a)
		r.Term()
		do <- "check"
		r.wantEnd(wire.Aborted)
		wiped(t, "what waited", a)
	})
	for name, err := range map[string]error{"returned": nil, "failed": errors.New("test")} {
		t.Run(name, func(t *testing.T) {
			var got []byte
			r := start(t, func(ctx context.Context, c *module.Call) error {
				got, _ = c.Secret(ctx, "?")
				return err
			})
			a, noise := text("answer"), wire.Frame{Type: wire.Bytes, Payload: []byte("noise")}
			r.wantFrame(wire.PrivText, "?")
			r.deliver(noise)
			r.deliver(a)
			r.wantEnd(map[bool]wire.ReturnCode{true: wire.NoErrors, false: wire.ExecutionFail}[err == nil])
			wiped(t, "the answer", a)
			wiped(t, "what was no answer", noise)
			if len(got) == 0 || &got[0] != &a.Payload[0] {
				t.Error("the answer was copied")
			}
		})
	}
	t.Run("panicked", func(t *testing.T) {
		r := start(t, func(ctx context.Context, c *module.Call) error {
			_, _ = c.Secret(ctx, "?")
			panic("test")
		})
		a := text("answer")
		r.deliver(a)
		r.wantEnd(wire.Crash)
		wiped(t, "the answer", a)
	})
	// An answer that comes after the end of its call begins another one.
	for name, cmd := range map[string]*module.Command{
		"arguments that are refused": {Name: "cmd", OneOf: true, Args: []module.Arg{{Name: "user", Doc: "x"}}},
		"arguments without a use":    {Name: "cmd"},
		"another type":               {Name: "cmd", Input: module.GenFileInput},
	} {
		t.Run(name, func(t *testing.T) {
			cmd.Run = func(_ context.Context, c *module.Call) error {
				if c.Input != nil {
					t.Error("the command gets the text of its arguments")
				}
				return nil
			}
			first := text("late answer")
			r := startWith(t, cmd, first, 0)
			for r.take().End == nil {
			}
			r.group.Wait()
			wiped(t, "the first frame", first)
		})
	}
}

// logger is a Logger that has one already.
type logger struct{ *slog.Logger }

func (l logger) Log() *slog.Logger { return l.Logger }
