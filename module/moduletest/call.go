package moduletest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// patience is how long the script waits for the command, and how long a command
// may take to end.
const patience = 10 * time.Second

// Config describes a call. Only Command must be set.
type Config struct {
	Command *module.Command
	ID      wire.CmdID // 0: 256
	Name    string     // shown name; empty: the command's own
	// Session is what the command sees; nil: a client of revision 2 on
	// 127.0.0.1 that is not logged in.
	Session *module.Session
}

// Call is one call of a command, seen by the client.
type Call struct {
	t    testing.TB
	name string
	rt   *runtime
	done chan struct{} // closed when the command's function has returned

	again  bool   // an inline command was run again; owned by the command's goroutine until done is closed
	result Result // of the call, when done is closed
	ended  bool   // the script has named the end
}

// Result is how a call has ended.
type Result struct {
	Code wire.ReturnCode
	Data []byte // behind the code
	// Err is what the command's function returned, or its panic. When it is
	// neither a *module.Failure nor the end of the context, Code is
	// EXECUTION_FAIL, or CRASH, and a host would send ERR with a message id.
	Err error
	// Again tells that the command is inline, returned module.ErrMustWait and was
	// run again where it may wait.
	Again bool
}

// Start calls the command with argument text, in a frame of the type that it
// takes.
func Start(t testing.TB, cmd *module.Command, args string) *Call {
	t.Helper()
	frame := wire.Frame{Type: wire.Text, Payload: []byte(args)}
	if cmd.Input == module.GenFileInput {
		frame.Type = wire.GenFile
	}
	return StartFrame(t, Config{Command: cmd}, frame)
}

// StartFrame calls a command with any first frame. Its ids are set by the
// call; its payload belongs to the command.
func StartFrame(t testing.TB, cfg Config, first wire.Frame) *Call {
	t.Helper()
	if err := cfg.Command.Validate(); err != nil {
		t.Fatalf("moduletest: %v", err)
	}
	if cfg.ID == 0 {
		cfg.ID = wire.FirstCmdID
	}
	if cfg.Name == "" {
		cfg.Name = cfg.Command.Name
	}
	if cfg.Session == nil {
		cfg.Session = &module.Session{Addr: netip.AddrFrom4([4]byte{127, 0, 0, 1}), App: "moduletest", Revision: 2}
	}
	first.Cmd = cfg.ID
	ctx, cancel := context.WithCancelCause(context.Background())
	c := &Call{t: t, name: cfg.Name, done: make(chan struct{})}
	c.rt = &runtime{cancel: cancel, inline: cfg.Command.Inline, gone: make(chan struct{}), session: cfg.Session}
	go func() {
		defer close(c.done)
		defer cancel(nil)
		c.result = c.run(ctx, cfg, first)
		c.result.Again = c.again
		c.rt.finish()
	}()
	t.Cleanup(c.cleanup)
	return c
}

// run does what a host does around a command's function.
func (c *Call) run(ctx context.Context, cfg Config, first wire.Frame) Result {
	err := c.call(ctx, cfg, first)
	var (
		failure *module.Failure
		crash   *panicError
	)
	switch {
	case err == nil:
		return Result{Code: wire.NoErrors}
	case errors.As(err, &crash):
		c.t.Logf("moduletest: %s: %v\n%s", cfg.Name, err, crash.stack)
		return Result{Code: wire.Crash, Err: err}
	case errors.As(err, &failure):
		if failure.Text != "" {
			// The script may have given the call up: then nobody is there.
			_ = c.rt.Send(context.WithoutCancel(ctx), wire.Err, []byte(failure.Text+"\n"))
		}
		return Result{Code: failure.Code, Data: failure.Data, Err: err}
	case ctx.Err() != nil:
		return Result{Code: wire.Aborted, Err: err}
	}
	return Result{Code: wire.ExecutionFail, Err: err}
}

type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

func (c *Call) call(ctx context.Context, cfg Config, first wire.Frame) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{value: p, stack: debug.Stack()}
		}
	}()
	desc, wanted := cfg.Command, wire.Text
	var args module.Args
	switch desc.Input {
	case module.AnyInput:
		wanted = first.Type
	case module.SessionInput:
		if first.Type != wire.SesID || len(first.Payload) != wire.SessionIDSize {
			return module.Invalid("%s takes a SESSION_ID frame of %d bytes.", cfg.Name, wire.SessionIDSize)
		}
		wanted = first.Type
	case module.GenFileInput:
		wanted = wire.GenFile
	}
	if first.Type != wanted {
		return module.Invalid("%s takes a %s frame, not %s.", cfg.Name, wanted, first.Type)
	}
	if desc.Input == module.TextInput || desc.Input == module.GenFileInput {
		var unknown []string
		args, unknown, err = desc.ParseArgs(first.Payload)
		if len(unknown) > 0 {
			if err := c.rt.Send(ctx, wire.Err, []byte(desc.UnknownSwitches(unknown)+"\n")); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
	if desc.Input == module.TextInput {
		first.Payload = nil
	}
	once := func() error {
		call := module.NewCall(c.rt, cfg.ID, cfg.Name, first, args)
		defer call.End()
		return desc.Run(ctx, call)
	}
	if !desc.Inline {
		return once()
	}
	sent, input := c.rt.sentSoFar(), bytes.Clone(first.Payload)
	if err = once(); !errors.Is(err, module.ErrMustWait) {
		return err
	}
	switch {
	case c.rt.sentSoFar() != sent:
		return errors.New("it has sent something before it returned ErrMustWait")
	case !bytes.Equal(first.Payload, input):
		return errors.New("it has changed its input before it returned ErrMustWait")
	}
	c.again = true
	c.rt.allowWaiting()
	return once()
}

// cleanup ends the command with the test.
func (c *Call) cleanup() {
	c.rt.abandon()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		c.t.Errorf("moduletest: %s does not end, though its context has", c.name)
		return
	}
	if !c.ended && !c.t.Failed() {
		c.t.Errorf("moduletest: the script does not say how %s ends; it ended with %s", c.name, c.result)
	}
}

// String describes the result for messages of tests.
func (r Result) String() string {
	if r.Err == nil {
		return r.Code.String()
	}
	return fmt.Sprintf("%s (%v)", r.Code, r.Err)
}

// wait waits until ready returns true, the call has ended, or patience has.
func (c *Call) wait(what string, ready func(*runtime) bool) (ok bool) {
	c.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		c.rt.mu.Lock()
		if ready(c.rt) || c.rt.finished {
			ok = ready(c.rt)
			c.rt.mu.Unlock()
			return ok
		}
		changed := c.rt.waiter()
		c.rt.mu.Unlock()
		select {
		case <-changed:
		case <-timer.C:
			c.t.Fatalf("moduletest: waited %v for %s of %s", patience, what, c.name)
		}
	}
}

func hasOutput(r *runtime) bool { return len(r.out) > 0 }

// next takes the next output, or fails the test when the call has ended.
func (c *Call) next(want string) output {
	c.t.Helper()
	if !c.wait(want, hasOutput) {
		<-c.done
		c.t.Fatalf("moduletest: want %s, but %s has ended with %s", want, c.name, c.result)
	}
	return c.rt.take()
}

// Next returns the next frame of the command. It fails the test when the call
// ends instead, or asks for an async.
func (c *Call) Next() (wire.TypeID, []byte) {
	c.t.Helper()
	o := c.next("a frame")
	if o.async != nil {
		c.t.Fatalf("moduletest: want a frame, got %s", o)
	}
	return o.typ, o.payload
}

// Expect takes the next frame, which must have this type and payload.
func (c *Call) Expect(t wire.TypeID, payload string) {
	c.t.Helper()
	want := output{typ: t, payload: []byte(payload)}
	got := c.next(want.String())
	if got.async != nil || got.typ != t || string(got.payload) != payload {
		c.t.Fatalf("moduletest: got %s, want %s", got, want)
	}
}

// ExpectPayload is Expect for a payload with a layout.
func (c *Call) ExpectPayload(t wire.TypeID, p wire.Payload) {
	c.t.Helper()
	c.Expect(t, string(wire.Append(nil, p)))
}

// ExpectText takes as many TEXT frames as it needs to make up text: how a
// command cuts its text into frames is free (commands 1.3).
func (c *Call) ExpectText(text string) {
	c.t.Helper()
	var got strings.Builder
	for got.Len() < len(text) || text == "" {
		o := c.next(output{typ: wire.Text, payload: []byte(text[got.Len():])}.String())
		if o.async != nil || o.typ != wire.Text {
			c.t.Fatalf("moduletest: got %s, want TEXT %q", o, text[got.Len():])
		}
		got.Write(o.payload)
		if !strings.HasPrefix(text, got.String()) {
			c.t.Fatalf("moduletest: got TEXT %q, want %q", got.String(), text)
		}
		if text == "" {
			return
		}
	}
}

// ExpectAsync takes the command's next request, which must be for this async
// with this payload (nil for none), and answers it: nil says that the session
// has done its part.
func (c *Call) ExpectAsync(id wire.AsyncID, p wire.Payload, answer error) {
	c.t.Helper()
	want := output{async: &async{id: id, payload: encode(p)}}
	got := c.next(want.String())
	if got.async == nil || got.async.id != id || !bytes.Equal(got.async.payload, want.async.payload) {
		c.t.Fatalf("moduletest: got %s, want %s", got, want)
	}
	got.async.answer <- answer
}

// Answer takes the next frame, which must be PROMPT_TEXT with this question,
// and answers it.
func (c *Call) Answer(question, answer string) {
	c.t.Helper()
	c.Expect(wire.PromptText, question)
	c.Send(wire.Text, answer)
}

// AnswerSecret is Answer for PRIV_TEXT.
func (c *Call) AnswerSecret(question, answer string) {
	c.t.Helper()
	c.Expect(wire.PrivText, question)
	c.Send(wire.Text, answer)
}

// Send sends a frame to the command, whether it waits for one or not. Behind
// TERM_CMD and KILL_CMD a frame would be the next call's: that fails the test.
func (c *Call) Send(t wire.TypeID, payload string) {
	c.t.Helper()
	if !c.rt.deliver(wire.Frame{Type: t, Payload: []byte(payload)}) {
		c.t.Fatalf("moduletest: %s is not for this call: %s was stopped or has ended", output{typ: t, payload: []byte(payload)}, c.name)
	}
}

// Term sends TERM_CMD.
func (c *Call) Term() { c.rt.term() }

// Kill sends KILL_CMD.
func (c *Call) Kill() { c.rt.kill() }

// Yield sends YIELD_CMD. Use WaitPaused behind it to know that the command has
// come to its checkpoint.
func (c *Call) Yield() { c.rt.yield() }

// Resume sends RESUME_CMD.
func (c *Call) Resume() { c.rt.resume() }

// WaitInput waits until the command has taken all input and waits for more.
func (c *Call) WaitInput() {
	c.t.Helper()
	c.waitState("input", func(r *runtime) bool { return r.receiving && len(r.in) == 0 })
}

// WaitPaused waits until the command stands at a checkpoint, paused.
func (c *Call) WaitPaused() {
	c.t.Helper()
	c.waitState("a pause", func(r *runtime) bool { return r.atCheckpoint && r.paused })
}

func (c *Call) waitState(what string, ready func(*runtime) bool) {
	c.t.Helper()
	if !c.wait(what, ready) {
		<-c.done
		c.t.Fatalf("moduletest: want %s, but %s has ended with %s", what, c.name, c.result)
	}
}

// ExpectNothing fails the test when the command has sent what the script has
// not named yet. It does not wait: it belongs behind WaitInput and WaitPaused.
func (c *Call) ExpectNothing() {
	c.t.Helper()
	c.rt.mu.Lock()
	defer c.rt.mu.Unlock()
	if len(c.rt.out) > 0 {
		c.t.Fatalf("moduletest: got %s, want nothing", c.rt.out[0])
	}
}

// SetSession changes what the command sees of its session.
func (c *Call) SetSession(s *module.Session) {
	c.rt.mu.Lock()
	defer c.rt.mu.Unlock()
	c.rt.session = s
}

// End waits for the end of the call, which must come next and with this code,
// and returns the result. The command must have taken all that was sent to it.
func (c *Call) End(code wire.ReturnCode) Result {
	c.t.Helper()
	c.ended = true
	if c.wait("the end", hasOutput) {
		c.t.Fatalf("moduletest: got %s, want the end of %s with %s", c.rt.take(), c.name, code)
	}
	<-c.done
	if left := c.rt.left(); len(left) > 0 {
		c.t.Fatalf("moduletest: %s has ended with %s and not taken %d frames, the first is %s", c.name, c.result, len(left),
			output{typ: left[0].Type, payload: left[0].Payload})
	}
	if c.result.Code != code {
		c.t.Fatalf("moduletest: %s has ended with %s, want %s", c.name, c.result, code)
	}
	return c.result
}
