package instance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// ErrAbandoned is what a command's calls fail with after its session has given
// the call up.
var ErrAbandoned = errors.New("the call is over")

// maxOut is how much output waits for the session before the command does, in
// bytes.
const maxOut = 128 << 10

// Config is what an instance needs. All fields are set.
type Config struct {
	Command *module.Listed
	Branch  wire.BranchID
	Log     Logger
	// PromptTimeout bounds how long a prompt waits for its answer; 0: for ever.
	PromptTimeout time.Duration
	// Session returns what the command may know of its session.
	Session func() *module.Session
	// Notify tells the session that output waits. It is called on the command's
	// goroutine, without a lock, and must not wait.
	Notify func(*Instance)
	// Consumed tells the session that the command has taken input of so many
	// bytes, or that it was dropped. It must not wait.
	Consumed func(bytes int)
	// Orphaned takes an async that the session will never see, because the call
	// was given up before. It answers the command and must not wait.
	Orphaned func(*Async)
	// Late takes the end of a call that was given up before: its command has
	// returned now, or had and the session did not see it. It is called once for
	// such a call, without a lock, and must not wait.
	Late func(End)
	// Group counts the command's goroutine.
	Group *sync.WaitGroup
}

// Output is one thing that a call hands to its session, in order: a frame, a
// request for an async, or the end of the call.
type Output struct {
	Type    wire.TypeID
	Payload []byte
	Async   *Async
	End     *End
}

// Async is a command's request for an async command (protocol 5).
type Async struct {
	ID      wire.AsyncID
	Payload wire.Payload // nil for asyncs without one
	done    chan error
}

// Done answers the command that asked. It never waits; it is called once.
func (a *Async) Done(err error) { a.done <- err }

// Logger has the logger of who runs commands. It is asked only when there is
// something to log: most sessions need none.
type Logger interface{ Log() *slog.Logger }

// End is the result of a call.
type End struct {
	Code wire.ReturnCode
	Data []byte
	// MustWait: an inline command has to be run where it may wait; it has sent
	// nothing.
	MustWait bool
}

// Instance is one call of a command that runs on a goroutine of its own.
type Instance struct {
	// Fixed after Start.
	cfg    Config
	ctx    context.Context // the call's life
	cancel context.CancelCauseFunc

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced when something below changes; nil: nobody waits
	in        []wire.Frame  // input of this call that the command has not taken
	behind    []wire.Frame  // what came behind TERM_CMD or KILL_CMD: it is for the calls after this one
	inBytes   int           // of in and behind
	later     int           // of behind alone
	kills     int           // KILL_CMDs in behind
	taken     uint64        // how often the command took input or was seen waiting
	receiving bool
	asked     bool // a prompt has been sent and no input taken since
	sending   bool
	paused    bool
	over      bool // TERM_CMD or KILL_CMD has come: all that follows goes behind
	term      bool // TERM_CMD stands at the end of in
	out       []Output
	outBytes  int
	notified  bool
	abandoned bool
}

// frameOverhead is what a queued frame costs besides its payload, in bytes.
const frameOverhead = 64

// Start runs the command on a goroutine of its own, which ends when its
// function returns. The payload of first belongs to the instance; see Run.
func Start(ctx context.Context, cfg Config, first wire.Frame) *Instance {
	i := &Instance{cfg: cfg}
	i.ctx, i.cancel = context.WithCancelCause(ctx)
	cfg.Group.Go(func() { i.run(first) })
	return i
}

// Command returns what runs.
func (i *Instance) Command() *module.Listed { return i.cfg.Command }

// Branch returns the branch that the client gave the call.
func (i *Instance) Branch() wire.BranchID { return i.cfg.Branch }

func (i *Instance) run(first wire.Frame) {
	defer i.cancel(nil)
	end := Run(i.ctx, (*runtime)(i), i.cfg.Command, first, i.cfg.Log)
	i.mu.Lock()
	late := i.abandoned
	i.put(Output{End: &end})
	i.mu.Unlock()
	if late {
		i.cfg.Late(end)
		return
	}
	i.notify()
}

// Deliver queues a frame of the client and returns how many bytes wait. The
// payload belongs to the instance. It never waits.
func (i *Instance) Deliver(f wire.Frame) (queued int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	size := Cost(f)
	if i.abandoned {
		clear(f.Payload)
		i.cfg.Consumed(size)
		return 0
	}
	if i.over {
		i.behind = append(i.behind, f)
		i.later += size
		if f.Type == wire.KillCmd {
			i.kills++
		}
	} else {
		i.in = append(i.in, f)
	}
	i.inBytes += size
	i.wake()
	return i.inBytes
}

// Over reports whether TERM_CMD or KILL_CMD has come: what follows is for the
// calls after this one.
func (i *Instance) Over() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.over
}

// Behind reports whether frames wait that came behind TERM_CMD or KILL_CMD.
// What follows them, control frames too, is meant for the calls after this one
// and is delivered like they were.
func (i *Instance) Behind() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.behind) > 0
}

// Cost is how many bytes Deliver will count for a frame.
func Cost(f wire.Frame) int { return len(f.Payload) + frameOverhead }

// Term stops what the command does: at once when it has taken all its input,
// otherwise when it gets there.
func (i *Instance) Term() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over { // a second one changes nothing
		return
	}
	i.over = true
	if len(i.in) == 0 || i.paused {
		i.terminate()
	} else {
		i.term = true
	}
	i.wake()
}

// terminate is what TERM_CMD does when the command has come to it, or is
// overtaken by it: what stood before it was input of this call, and goes. mu is
// held.
func (i *Instance) terminate() {
	i.term = false
	i.dropInput()
	i.cancel(module.ErrTerminated)
}

// Kill ends the command's context at once and drops the input that waits for
// this call.
func (i *Instance) Kill() {
	i.cancel(module.ErrKilled)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.over, i.term = true, false
	i.dropInput()
	i.wake()
}

// Leftover is what waits when a call has ended: for the calls after it.
type Leftover struct {
	In          []wire.Frame // no control frames
	InBytes     int
	Term        bool         // TERM_CMD stands here
	Behind      []wire.Frame // what came behind TERM_CMD or KILL_CMD, control frames among it
	BehindBytes int
	Kills       int // KILL_CMDs in Behind
}

// Leftover returns what waits when the call has ended. It waits no more.
func (i *Instance) Leftover() Leftover {
	i.mu.Lock()
	defer i.mu.Unlock()
	left := Leftover{
		In: i.in, InBytes: i.inBytes - i.later, Term: i.term,
		Behind: i.behind, BehindBytes: i.later, Kills: i.kills,
	}
	i.cfg.Consumed(i.inBytes)
	i.in, i.behind, i.inBytes, i.later, i.kills, i.term = nil, nil, 0, 0, 0, false
	return left
}

// Adopt queues frames of an earlier call as Deliver does, all at once: a client
// may have sent a hundred thousand calls of one branch, and after each of them
// the rest goes on to the next. The slice belongs to the instance. kills is how
// many of the frames are KILL_CMDs; only behind others there may be control
// frames.
func (i *Instance) Adopt(frames []wire.Frame, bytes, kills int) (queued int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.abandoned {
		for _, f := range frames {
			clear(f.Payload) // an answer to a prompt for a secret, perhaps
		}
		i.cfg.Consumed(bytes)
		return 0
	}
	queue := &i.in
	if i.over {
		queue = &i.behind
		i.later += bytes
		i.kills += kills
	}
	if len(*queue) == 0 {
		*queue = frames
	} else {
		*queue = append(*queue, frames...)
	}
	i.inBytes += bytes
	i.wake()
	return i.inBytes
}

// dropInput wipes what waits for this call: it may be the answer to a prompt
// for a secret. mu is held.
func (i *Instance) dropInput() {
	bytes := 0
	for _, f := range i.in {
		bytes += Cost(f)
		clear(f.Payload)
	}
	i.in = nil
	i.inBytes -= bytes
	i.cfg.Consumed(bytes)
}

// Yield pauses the command at its next checkpoint, unless it waits for input:
// its prompt may have reached the client before it waits.
func (i *Instance) Yield() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if atPrompt := (i.receiving || i.asked) && len(i.in) == 0; !atPrompt {
		i.paused = true
	}
}

// Resume lets a paused command go on.
func (i *Instance) Resume() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.paused = false
	i.wake()
}

// Abandon gives the call up: the client has been told that it is over. Its
// context ends, what it waits for fails, and later output is dropped. What came
// behind TERM_CMD or KILL_CMD is left for Leftover.
func (i *Instance) Abandon(cause error) {
	i.cancel(cause)
	var (
		orphans []*Async
		end     *End
	)
	defer func() { // without the lock
		for _, a := range orphans {
			i.cfg.Orphaned(a)
		}
		if end != nil {
			i.cfg.Late(*end)
		}
	}()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.abandoned {
		return
	}
	i.abandoned = true
	dropped := i.out
	i.out, i.outBytes = nil, 0
	for _, o := range dropped {
		switch {
		case o.Async != nil:
			orphans = append(orphans, o.Async)
		case o.End != nil:
			end = o.End
		}
	}
	i.dropInput()
	i.wake()
}

// Take returns all output that waits, in order, and lets the command go on.
func (i *Instance) Take() []Output {
	i.mu.Lock()
	defer i.mu.Unlock()
	out := i.out
	i.out, i.outBytes, i.notified = nil, 0, false
	i.wake()
	return out
}

// Progress tells whether the command is stuck: it returns how often the
// command took input, how many bytes still wait for it, and whether it waits
// for something that is not its fault (a prompt, RESUME_CMD, its own output).
func (i *Instance) Progress() (taken uint64, queued int, excused bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.taken, i.inBytes, i.receiving || i.paused || i.sending
}

// wake tells everybody who waits on changed. mu is held.
func (i *Instance) wake() {
	if i.changed != nil {
		close(i.changed)
		i.changed = nil
	}
}

// waiter returns a channel that is closed at the next change. mu is held.
func (i *Instance) waiter() <-chan struct{} {
	if i.changed == nil {
		i.changed = make(chan struct{})
	}
	return i.changed
}

// put adds output. mu is held.
func (i *Instance) put(o Output) {
	if i.abandoned {
		return
	}
	if o.Type == wire.PromptText || o.Type == wire.PrivText {
		i.asked = true
	}
	i.out = append(i.out, o)
	i.outBytes += len(o.Payload) + frameOverhead
}

// notify tells the session that output waits, once until it takes it.
func (i *Instance) notify() {
	i.mu.Lock()
	tell := !i.notified && len(i.out) > 0
	i.notified = i.notified || tell
	i.mu.Unlock()
	if tell {
		i.cfg.Notify(i)
	}
}

// Run prepares a call and runs the command's function with it. It returns how
// the call ends, after it has sent the ERR that goes with it. It recovers from
// a panic of the command. Inline commands are run by it directly. The payload of
// first is wiped when the command does not get it: it may be the answer to a
// prompt for a secret that came after the end of its call.
func Run(ctx context.Context, rt module.Runtime, cmd *module.Listed, first wire.Frame, log Logger) (end End) {
	// What goes wrong is said to the client even when the context has ended.
	// The session may be gone; then nobody is there to be told.
	say := func(text string) { _ = rt.Send(context.WithoutCancel(ctx), wire.Err, []byte(text+"\n")) }
	defer func() {
		if p := recover(); p != nil {
			id := newMessageID()
			log.Log().Error("command panicked", "cmd", cmd.Name, "msgid", id, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			end = End{Code: wire.Crash}
			say(fmt.Sprintf("%s crashed (message id %s).", cmd.Name, id))
		}
	}()
	err := call(ctx, rt, cmd, first)
	if err == nil {
		return End{Code: wire.NoErrors}
	}
	var failure *module.Failure
	switch {
	case errors.As(err, &failure):
		if failure.Text != "" {
			say(failure.Text)
		}
		return End{Code: failure.Code, Data: failure.Data}
	case ctx.Err() != nil, errors.Is(err, ErrAbandoned):
		return End{Code: wire.Aborted}
	case errors.Is(err, errPromptTimeout):
		say("The answer took too long.")
		return End{Code: wire.Aborted}
	case errors.Is(err, module.ErrMustWait):
		return End{MustWait: true}
	}
	id := newMessageID()
	log.Log().Error("command did not work", "cmd", cmd.Name, "msgid", id, "err", err)
	say(fmt.Sprintf("%s did not work; the host's log has the reason under message id %s.", cmd.Name, id))
	return End{Code: wire.ExecutionFail}
}

func call(ctx context.Context, rt module.Runtime, cmd *module.Listed, first wire.Frame) error {
	desc := cmd.Command
	given := false
	defer func() {
		if !given {
			clear(first.Payload)
		}
	}()
	args := module.Args{}
	switch want := desc.Input; {
	case want == module.AnyInput:
	case want == module.SessionInput:
		if first.Type != wire.SesID || len(first.Payload) != wire.SessionIDSize {
			return module.Invalid("%s takes a SESSION_ID frame of %d bytes.", cmd.Name, wire.SessionIDSize)
		}
	case len(first.Payload) > maxArguments:
		return module.Invalid("The arguments are longer than %d bytes.", maxArguments)
	default:
		wanted := wire.Text
		if want == module.GenFileInput {
			wanted = wire.GenFile
		}
		if first.Type != wanted {
			return module.Invalid("%s takes a %s frame, not %s.", cmd.Name, wanted, first.Type)
		}
		var unknown []string
		var err error
		args, unknown, err = desc.ParseArgs(first.Payload)
		if len(unknown) > 0 {
			text := desc.UnknownSwitches(unknown) + "\n"
			if sendErr := rt.Send(ctx, wire.Err, []byte(text)); sendErr != nil {
				return sendErr
			}
		}
		if err != nil {
			return err
		}
	}
	if desc.Input == module.TextInput {
		clear(first.Payload)
		first.Payload = nil
	}
	given = true
	c := module.NewCall(rt, cmd.ID, cmd.Name, first, args)
	defer c.End()
	return desc.Run(ctx, c)
}

// maxArguments bounds the argument text of a call, in bytes: the paths and
// names that commands take are far shorter, and parsing costs memory.
const maxArguments = 256 << 10

// newMessageID names a line of the log for a person to quote. It is unique
// across restarts.
func newMessageID() string { return rand.Text()[:10] }
