package moduletest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"mrci.dev/mrci/module"
	"mrci.dev/mrci/module/moduletest"
	"mrci.dev/mrci/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type run = func(ctx context.Context, c *module.Call) error

func command(f run, args ...module.Arg) *module.Command {
	return &module.Command{Name: "probe", Class: module.Exempt, Args: args, Run: f}
}

// receiveAll answers every frame with its payload until it gets "end".
func receiveAll(ctx context.Context, c *module.Call) error {
	for {
		_, payload, err := c.Receive(ctx)
		if err != nil {
			return err
		}
		if string(payload) == "end" {
			return nil
		}
		if err := c.Text(ctx, string(payload)); err != nil {
			return err
		}
	}
}

// count sends a number per second until it is stopped.
func count(ctx context.Context, c *module.Call) error {
	for i := 0; ; i++ {
		if err := c.Checkpoint(ctx); err != nil {
			return err
		}
		if err := c.Text(ctx, fmt.Sprint(i)); err != nil {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func TestCall(t *testing.T) {
	id := wire.SessionID{1, 2, 3}
	tests := map[string]func(t *testing.T){
		"frames in order": func(t *testing.T) {
			c := moduletest.Start(t, command(func(ctx context.Context, c *module.Call) error {
				return errors.Join(c.Text(ctx, "a"), c.Text(ctx, "b"), c.Text(ctx, "c"),
					c.Send(ctx, wire.Prog, []byte{50}), c.Err(ctx, "careful"),
					c.SendPayload(ctx, wire.SesID, &wire.SessionRef{Session: id}))
			}), "")
			c.ExpectText("ab")
			if typ, payload := c.Next(); typ != wire.Text || string(payload) != "c" {
				t.Errorf("Next() = %v %q", typ, payload)
			}
			c.Expect(wire.Prog, "\x32")
			c.Expect(wire.Err, "careful\n")
			c.ExpectPayload(wire.SesID, &wire.SessionRef{Session: id})
			c.End(wire.NoErrors)
		},
		"empty text": func(t *testing.T) {
			c := moduletest.Start(t, command(func(ctx context.Context, c *module.Call) error { return c.Text(ctx, "") }), "")
			c.ExpectText("")
			c.End(wire.NoErrors)
		},
		"input": func(t *testing.T) {
			c := moduletest.Start(t, command(receiveAll), "")
			c.Send(wire.Text, "one")
			c.Send(wire.Bytes, "two")
			c.ExpectText("onetwo")
			c.WaitInput()
			c.ExpectNothing()
			c.Send(wire.Text, "end")
			c.End(wire.NoErrors)
		},
		"secret": func(t *testing.T) {
			c := moduletest.Start(t, command(func(ctx context.Context, c *module.Call) error {
				secret, err := c.Secret(ctx, "Password: ")
				if err != nil || len(secret) == 0 {
					return errors.Join(err, module.ErrAborted)
				}
				return module.Invalid("%s is too short.", secret)
			}), "")
			c.AnswerSecret("Password: ", "xy")
			c.Expect(wire.Err, "xy is too short.\n")
			if r := c.End(wire.InvalidParams); r.Err == nil || r.Data != nil {
				t.Errorf("Result = %+v", r)
			}
		},
		"code and data": func(t *testing.T) {
			c := moduletest.Start(t, command(func(context.Context, *module.Call) error {
				return &module.Failure{Code: wire.Custom, Data: []byte("abc")}
			}), "")
			if r := c.End(wire.Custom); string(r.Data) != "abc" {
				t.Errorf("Data = %q", r.Data)
			}
		},
		"error of its own": func(t *testing.T) {
			cause := errors.New("disk on fire")
			c := moduletest.Start(t, command(func(context.Context, *module.Call) error { return cause }), "")
			if r := c.End(wire.ExecutionFail); r.Err != cause || !strings.Contains(r.String(), "on fire") {
				t.Errorf("Result = %v", r)
			}
		},
		"panic": func(t *testing.T) {
			c := moduletest.Start(t, command(func(context.Context, *module.Call) error { panic("on purpose") }), "")
			if r := c.End(wire.Crash); r.Err == nil {
				t.Error("Err = nil")
			}
		},
		"unknown switch": func(t *testing.T) {
			c := moduletest.Start(t, command(func(ctx context.Context, c *module.Call) error {
				return c.Text(ctx, c.Args.String("name"))
			}, module.Arg{Name: "name"}), "-nam x -name y")
			c.Expect(wire.Err, "probe does not know \"-nam\", ignored; did you mean -name?\n")
			c.ExpectText("y")
			c.End(wire.NoErrors)
		},
		"wrong first frame": func(t *testing.T) {
			cfg := moduletest.Config{Command: command(count)}
			c := moduletest.StartFrame(t, cfg, wire.Frame{Type: wire.Bytes})
			c.Expect(wire.Err, "probe takes a TEXT frame, not BYTES.\n")
			c.End(wire.InvalidParams)
		},
		"GEN_FILE": func(t *testing.T) {
			cmd := command(func(ctx context.Context, c *module.Call) error {
				return c.Text(ctx, c.Type.String()+c.Args.String("name"))
			}, module.Arg{Name: "name"})
			cmd.Input = module.GenFileInput
			c := moduletest.Start(t, cmd, "-name x")
			c.ExpectText("GEN_FILEx")
			c.End(wire.NoErrors)
		},
		"SESSION_ID": func(t *testing.T) {
			cmd := command(func(ctx context.Context, c *module.Call) error {
				return c.Send(ctx, wire.Bytes, c.Input)
			})
			cmd.Input = module.SessionInput
			c := moduletest.StartFrame(t, moduletest.Config{Command: cmd}, wire.Frame{Type: wire.SesID, Payload: id[:]})
			c.Expect(wire.Bytes, string(id[:]))
			c.End(wire.NoErrors)
			c = moduletest.Start(t, cmd, "x")
			c.Expect(wire.Err, "probe takes a SESSION_ID frame of 28 bytes.\n")
			c.End(wire.InvalidParams)
		},
		"any frame, ids, names, session": func(t *testing.T) {
			cmd := command(func(ctx context.Context, c *module.Call) error {
				if _, err := c.Prompt(ctx, "?"); err != nil {
					return err
				}
				return c.Text(ctx, fmt.Sprintf("%v %s %v %s %s", c.ID, c.Name, c.Type, c.Input, c.Session().App))
			})
			cmd.Input = module.AnyInput
			c := moduletest.StartFrame(t, moduletest.Config{Command: cmd, ID: 300, Name: "probe_2"}, wire.Frame{Type: wire.Prog, Payload: []byte("in")})
			c.SetSession(&module.Session{App: "other"})
			c.Answer("?", "")
			c.ExpectText("300 probe_2 PROG in other")
			c.End(wire.NoErrors)
		},
		"async": func(t *testing.T) {
			refused := errors.New("refused")
			c := moduletest.Start(t, command(func(ctx context.Context, c *module.Call) error {
				first := c.Async(ctx, wire.AsyncLogout, nil)
				second := c.Async(ctx, wire.AsyncUserLogin, &wire.UserRef{User: wire.UserID{7}})
				return c.Text(ctx, fmt.Sprint(first, second))
			}), "")
			c.ExpectAsync(wire.AsyncLogout, nil, nil)
			c.ExpectAsync(wire.AsyncUserLogin, &wire.UserRef{User: wire.UserID{7}}, refused)
			c.ExpectText("<nil> refused")
			c.End(wire.NoErrors)
		},
		"more output than waits": func(t *testing.T) {
			c := moduletest.Start(t, command(func(ctx context.Context, c *module.Call) error {
				return c.Text(ctx, strings.Repeat("x", 1<<20))
			}), "")
			c.ExpectText(strings.Repeat("x", 1<<20))
			c.End(wire.NoErrors)
		},
		"too large": func(t *testing.T) {
			c := moduletest.Start(t, command(func(ctx context.Context, c *module.Call) error {
				return c.Send(ctx, wire.Bytes, make([]byte, wire.MaxPayload+1))
			}), "")
			if r := c.End(wire.ExecutionFail); !errors.Is(r.Err, wire.ErrTooLarge) {
				t.Errorf("Err = %v", r.Err)
			}
		},
		"inline commands cannot wait": func(t *testing.T) {
			cmd := command(func(ctx context.Context, c *module.Call) error {
				if err := c.Checkpoint(ctx); err != nil {
					return err
				}
				_, err := c.Prompt(ctx, "?")
				return err
			})
			cmd.Inline = true
			c := moduletest.Start(t, cmd, "")
			c.Expect(wire.PromptText, "?")
			if r := c.End(wire.ExecutionFail); r.Again {
				t.Error("it was run again")
			}
		},
		"an inline command that must wait is run again": func(t *testing.T) {
			cmd := command(func(ctx context.Context, c *module.Call) error {
				if !c.MayWait() {
					return fmt.Errorf("full: %w", module.ErrMustWait)
				}
				answer, err := c.Prompt(ctx, string(c.Input)+"?")
				return errors.Join(err, c.Text(ctx, answer))
			})
			cmd.Inline, cmd.Input = true, module.AnyInput
			c := moduletest.StartFrame(t, moduletest.Config{Command: cmd}, wire.Frame{Type: wire.Bytes, Payload: []byte("in")})
			c.Answer("in?", "out")
			c.ExpectText("out")
			if r := c.End(wire.NoErrors); !r.Again {
				t.Error("it was not run again")
			}
		},
		"an unknown switch is named once": func(t *testing.T) {
			cmd := command(func(_ context.Context, c *module.Call) error {
				if !c.MayWait() {
					return module.ErrMustWait
				}
				return nil
			})
			cmd.Inline = true
			c := moduletest.Start(t, cmd, "-x")
			c.Next()
			c.End(wire.NoErrors)
		},
	}
	for name, test := range tests {
		t.Run(name, test)
	}
}

// The table of commands 1.5.
func TestControlFrames(t *testing.T) {
	tests := map[string]func(t *testing.T){
		"finished: nothing": func(t *testing.T) {
			c := moduletest.Start(t, command(func(context.Context, *module.Call) error { return nil }), "")
			c.End(wire.NoErrors)
			c.Term()
			c.Kill()
			c.Yield()
			c.Resume()
			c.End(wire.NoErrors)
		},
		"at a prompt: TERM": func(t *testing.T) {
			c := moduletest.Start(t, command(receiveAll), "")
			c.WaitInput()
			c.Term()
			c.Term() // a second one changes nothing
			if r := c.End(wire.Aborted); r.Err != module.ErrTerminated {
				t.Errorf("Err = %v", r.Err)
			}
		},
		"at a prompt: KILL": func(t *testing.T) {
			c := moduletest.Start(t, command(receiveAll), "")
			c.WaitInput()
			c.Kill()
			if r := c.End(wire.Aborted); r.Err != module.ErrKilled {
				t.Errorf("Err = %v", r.Err)
			}
		},
		"at a prompt: YIELD and RESUME do nothing": func(t *testing.T) {
			c := moduletest.Start(t, command(func(ctx context.Context, c *module.Call) error {
				if _, err := c.Prompt(ctx, "?"); err != nil {
					return err
				}
				return c.Checkpoint(ctx)
			}), "")
			c.Expect(wire.PromptText, "?")
			c.Yield() // whether the command has come to Receive or not
			c.WaitInput()
			c.Yield()
			c.Resume()
			c.Yield()
			c.Send(wire.Text, "")
			c.End(wire.NoErrors)
		},
		"waiting input: TERM keeps its place": func(t *testing.T) {
			start := make(chan struct{})
			c := moduletest.Start(t, command(func(ctx context.Context, c *module.Call) error {
				<-start
				return receiveAll(ctx, c)
			}), "")
			c.Send(wire.Text, "one")
			c.Send(wire.Text, "two")
			c.Term()
			close(start)
			c.ExpectText("onetwo")
			c.End(wire.Aborted)
		},
		"waiting input: KILL overtakes": func(t *testing.T) {
			start := make(chan struct{})
			c := moduletest.Start(t, command(func(ctx context.Context, c *module.Call) error {
				<-start
				return receiveAll(ctx, c)
			}), "")
			c.Send(wire.Text, "one")
			c.Term()
			c.Kill()
			close(start)
			c.End(wire.Aborted)
		},
		"waiting input: TERM overtakes it at a checkpoint": func(t *testing.T) {
			start := make(chan struct{})
			c := moduletest.Start(t, command(func(ctx context.Context, c *module.Call) error {
				<-start
				if err := c.Checkpoint(ctx); err != nil {
					return err
				}
				return receiveAll(ctx, c)
			}), "")
			c.Send(wire.Text, "one")
			c.Term()
			close(start)
			c.End(wire.Aborted)
		},
		"working: pause and go on": func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := moduletest.Start(t, command(count), "")
				c.ExpectText("012")
				c.Yield()
				c.WaitPaused()
				time.Sleep(time.Hour)
				c.ExpectNothing()
				c.Resume()
				c.ExpectText("34")
				c.Resume()
				c.Term()
				c.End(wire.Aborted)
			})
		},
		"paused: TERM": func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := moduletest.Start(t, command(count), "")
				c.ExpectText("0")
				c.Yield()
				c.WaitPaused()
				c.Send(wire.Text, "overtaken")
				c.Term()
				c.End(wire.Aborted)
			})
		},
		"paused: KILL": func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := moduletest.Start(t, command(count), "")
				c.ExpectText("0")
				c.Yield()
				c.WaitPaused()
				c.Kill()
				c.End(wire.Aborted)
			})
		},
		"full output: TERM": func(t *testing.T) {
			c := moduletest.Start(t, command(func(ctx context.Context, c *module.Call) error {
				for {
					if err := c.Send(ctx, wire.Bytes, make([]byte, 64<<10)); err != nil {
						return err
					}
				}
			}), "")
			for range 3 {
				c.Expect(wire.Bytes, string(make([]byte, 64<<10)))
			}
			c.Kill()
			for c.HasOutput() {
				c.Next()
			}
			c.End(wire.Aborted)
		},
	}
	for name, test := range tests {
		t.Run(name, test)
	}
}

// recorder is a test that may fail.
type recorder struct {
	testing.TB
	failed   bool
	messages []string
	cleanups []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Failed() bool     { return r.failed }
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Logf(string, ...any) {
}
func (r *recorder) Errorf(format string, args ...any) {
	r.failed = true
	r.messages = append(r.messages, fmt.Sprintf(format, args...))
}
func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// failure runs a script and returns what it failed with.
func failure(script func(t testing.TB)) string {
	r := new(recorder)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for _, f := range r.cleanups {
				f()
			}
		}()
		script(r)
	}()
	<-done
	return strings.Join(r.messages, "\n")
}

func TestStrict(t *testing.T) {
	say := func(text string) *module.Command {
		return command(func(ctx context.Context, c *module.Call) error { return c.Text(ctx, text) })
	}
	never := func() *module.Command {
		return command(func(ctx context.Context, c *module.Call) error { <-ctx.Done(); return nil })
	}
	tests := map[string]struct {
		script func(t testing.TB)
		want   string
	}{
		"not a command":       {func(t testing.TB) { moduletest.Start(t, &module.Command{Name: "x"}, "") }, "no function"},
		"other text":          {func(t testing.TB) { moduletest.Start(t, say("a"), "").Expect(wire.Text, "b") }, `got TEXT "a", want TEXT "b"`},
		"other type":          {func(t testing.TB) { moduletest.Start(t, say("a"), "").Expect(wire.Bytes, "a") }, `got TEXT "a", want BYTES 61`},
		"other start of text": {func(t testing.TB) { moduletest.Start(t, say("abc"), "").ExpectText("abd") }, `got TEXT "abc", want "abd"`},
		"more text":           {func(t testing.TB) { moduletest.Start(t, say("abc"), "").ExpectText("ab") }, `got TEXT "abc", want "ab"`},
		"no text": {func(t testing.TB) {
			moduletest.Start(t, command(func(ctx context.Context, c *module.Call) error { return c.Err(ctx, "a") }), "").ExpectText("a")
		}, `got ERR "a\n", want TEXT "a"`},
		"a frame is left":   {func(t testing.TB) { moduletest.Start(t, say("a"), "").End(wire.NoErrors) }, `got TEXT "a", want the end of probe`},
		"the end too early": {func(t testing.TB) { c := moduletest.Start(t, say("a"), ""); c.Next(); c.Next() }, "want a frame, but probe has ended with NO_ERRORS"},
		"another code":      {func(t testing.TB) { c := moduletest.Start(t, say("a"), ""); c.Next(); c.End(wire.Aborted) }, "NO_ERRORS, want ABORTED"},
		"no end named":      {func(t testing.TB) { moduletest.Start(t, say("a"), "").Next() }, "does not say how probe ends"},
		"input is left": {func(t testing.TB) {
			c := moduletest.Start(t, command(func(ctx context.Context, c *module.Call) error {
				_, _, err := c.Receive(ctx)
				return err
			}), "")
			c.WaitInput()
			c.Send(wire.Text, "taken")
			c.Send(wire.Text, "left") // it may come too late, too
			c.End(wire.NoErrors)
		}, `TEXT "left"`},
		"input behind TERM": {func(t testing.TB) {
			c := moduletest.Start(t, never(), "")
			c.Term()
			c.Send(wire.Text, "late")
		}, `TEXT "late" is not for this call`},
		"async for a frame": {func(t testing.TB) {
			moduletest.Start(t, command(func(ctx context.Context, c *module.Call) error { return c.Async(ctx, wire.AsyncLogout, nil) }), "").Next()
		}, "want a frame, got async LOGOUT"},
		"another async": {func(t testing.TB) {
			moduletest.Start(t, command(func(ctx context.Context, c *module.Call) error { return c.Async(ctx, wire.AsyncLogout, nil) }), "").
				ExpectAsync(wire.AsyncEndSession, nil, nil)
		}, "got async LOGOUT"},
		"not nothing": {func(t testing.TB) {
			c := moduletest.Start(t, command(func(ctx context.Context, c *module.Call) error {
				_, err := c.Prompt(ctx, "?")
				return err
			}), "")
			c.WaitInput()
			c.ExpectNothing()
		}, `got PROMPT_TEXT "?", want nothing`},
		"no pause":    {func(t testing.TB) { c := moduletest.Start(t, say("a"), ""); c.WaitPaused() }, "want a pause, but probe has ended"},
		"no end":      {func(t testing.TB) { moduletest.Start(t, never(), "").End(wire.NoErrors) }, "waited 10s for the end of probe"},
		"no response": {func(t testing.TB) { moduletest.Start(t, never(), "").Next() }, "waited 10s for a frame of probe"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := failure(test.script); !strings.Contains(got, test.want) {
					t.Errorf("the script failed with %q, want %q", got, test.want)
				}
			})
		})
	}
}

// What an inline command may not do before it asks to be run again, and who may
// not ask.
func TestMustWait(t *testing.T) {
	for name, test := range map[string]struct {
		first  run // of the run that may not wait
		inline bool
		want   string
	}{
		"sends": {func(ctx context.Context, c *module.Call) error {
			return errors.Join(c.Text(ctx, "x"), module.ErrMustWait)
		}, true, "sent something"},
		"changes its input": {func(_ context.Context, c *module.Call) error {
			clear(c.Input)
			return module.ErrMustWait
		}, true, "changed its input"},
		"asks twice":      {nil, true, module.ErrMustWait.Error()},
		"may wait anyway": {nil, false, module.ErrMustWait.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := command(func(ctx context.Context, c *module.Call) error {
				if test.first != nil && !c.MayWait() {
					return test.first(ctx, c)
				}
				return module.ErrMustWait
			})
			cmd.Inline, cmd.Input = test.inline, module.AnyInput
			c := moduletest.StartFrame(t, moduletest.Config{Command: cmd}, wire.Frame{Type: wire.Bytes, Payload: []byte("in")})
			if name == "sends" {
				c.ExpectText("x")
			}
			if r := c.End(wire.ExecutionFail); r.Err == nil || !strings.Contains(r.Err.Error(), test.want) {
				t.Errorf("Err = %v, want %s", r.Err, test.want)
			}
		})
	}
}

func TestStubbornCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		got := failure(func(t testing.TB) {
			moduletest.Start(t, command(func(context.Context, *module.Call) error { <-release; return nil }), "")
		})
		if !strings.Contains(got, "does not end, though its context has") {
			t.Errorf("the script failed with %q", got)
		}
		close(release)
		synctest.Wait()
	})
}
