package moduletest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// maxOut is how many bytes of output wait for the script before the command
// does, as in a host.
const maxOut = 128 << 10

var (
	errAbandoned = errors.New("the test is over")
	errInline    = errors.New("an inline command cannot wait")
)

// output is what a command hands out: a frame, or a request for an async.
type output struct {
	typ     wire.TypeID
	payload []byte
	async   *async
}

type async struct {
	id      wire.AsyncID
	payload []byte
	answer  chan error
}

// String describes the output for messages of tests.
func (o output) String() string {
	if o.async != nil {
		return fmt.Sprintf("async %s % x", o.async.id, o.async.payload)
	}
	switch o.typ {
	case wire.Text, wire.Err, wire.PrivText, wire.PromptText, wire.BigText:
		return fmt.Sprintf("%s %q", o.typ, o.payload)
	}
	return fmt.Sprintf("%s % x", o.typ, o.payload)
}

func encode(p wire.Payload) []byte {
	if p == nil {
		return nil
	}
	return wire.Append(nil, p)
}

// runtime is the command's side of a call.
type runtime struct {
	// Fixed after Start.
	cancel context.CancelCauseFunc
	gone   chan struct{} // closed when abandoned

	mu           sync.Mutex
	changed      chan struct{} // closed and replaced when something below changes; nil: nobody waits
	inline       bool          // the command may not wait
	sent         int           // frames and asyncs, ever
	session      *module.Session
	in           []wire.Frame
	out          []output
	outBytes     int
	receiving    bool
	asked        bool // a prompt is in out, or was, and its answer has not been taken
	paused       bool
	atCheckpoint bool
	terminating  bool // TERM_CMD stands behind in
	stopped      bool // TERM_CMD or KILL_CMD was sent
	finished     bool // the command's function has returned
	abandoned    bool // the test is over
}

// wake tells everybody who waits on changed. mu is held.
func (r *runtime) wake() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// waiter returns a channel that is closed at the next change. mu is held.
func (r *runtime) waiter() <-chan struct{} {
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.changed
}

// waitLocked waits for a change or the end of ctx. mu is held, but not while
// it waits.
func (r *runtime) waitLocked(ctx context.Context) {
	changed := r.waiter()
	r.mu.Unlock()
	select {
	case <-changed:
	case <-ctx.Done():
	}
	r.mu.Lock()
}

// Session implements module.Runtime.
func (r *runtime) Session() *module.Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.session
}

// MayWait is the optional method of module.Runtime.
func (r *runtime) MayWait() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.inline
}

// allowWaiting lets an inline command wait from now on.
func (r *runtime) allowWaiting() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inline = false
}

// sentSoFar returns how much the command has handed out, taken or not.
func (r *runtime) sentSoFar() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent
}

// Send implements module.Runtime.
func (r *runtime) Send(ctx context.Context, t wire.TypeID, payload []byte) error {
	if len(payload) > wire.MaxPayload {
		return wire.ErrTooLarge
	}
	return r.put(ctx, output{typ: t, payload: payload})
}

// Async implements module.Runtime.
func (r *runtime) Async(ctx context.Context, id wire.AsyncID, p wire.Payload) error {
	a := &async{id: id, payload: encode(p), answer: make(chan error, 1)}
	if err := r.put(ctx, output{async: a}); err != nil {
		return err
	}
	select {
	case err := <-a.answer:
		return err
	case <-r.gone:
		return errAbandoned
	}
}

func (r *runtime) put(ctx context.Context, o output) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		switch {
		case r.abandoned:
			return errAbandoned
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case r.outBytes < maxOut || r.inline:
			r.out = append(r.out, o)
			r.outBytes += len(o.payload)
			r.sent++
			r.asked = r.asked || o.async == nil && (o.typ == wire.PromptText || o.typ == wire.PrivText)
			r.wake()
			return nil
		}
		r.waitLocked(ctx)
	}
}

// Receive implements module.Runtime.
func (r *runtime) Receive(ctx context.Context) (wire.TypeID, []byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inline {
		return 0, nil, errInline
	}
	for {
		switch {
		case r.abandoned:
			return 0, nil, errAbandoned
		case ctx.Err() != nil:
			return 0, nil, context.Cause(ctx)
		case len(r.in) > 0:
			f := r.in[0]
			r.in = r.in[1:]
			r.asked = false
			r.wake()
			return f.Type, f.Payload, nil
		case r.terminating:
			r.terminateLocked()
			continue
		}
		r.paused = false // at a prompt YIELD_CMD does nothing
		r.receiving = true
		r.wake()
		r.waitLocked(ctx)
		r.receiving = false
	}
}

// Checkpoint implements module.Runtime.
func (r *runtime) Checkpoint(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		if r.terminating {
			r.terminateLocked()
		}
		switch {
		case r.abandoned:
			return errAbandoned
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !r.paused:
			return nil
		case r.inline:
			return errInline
		}
		r.atCheckpoint = true
		r.wake()
		r.waitLocked(ctx)
		r.atCheckpoint = false
	}
}

// terminateLocked is TERM_CMD taking effect. What it has overtaken was input of
// the call that ends.
func (r *runtime) terminateLocked() {
	r.in, r.terminating = nil, false
	r.cancel(module.ErrTerminated)
}

func (r *runtime) term() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped || r.finished {
		return
	}
	r.stopped = true
	if len(r.in) == 0 || r.paused {
		r.terminateLocked()
	} else {
		r.terminating = true
	}
	r.wake()
}

func (r *runtime) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.finished {
		return
	}
	r.stopped, r.terminating, r.in = true, false, nil
	r.cancel(module.ErrKilled)
	r.wake()
}

func (r *runtime) yield() {
	r.mu.Lock()
	defer r.mu.Unlock()
	atPrompt := (r.receiving || r.asked) && len(r.in) == 0
	if !atPrompt && !r.stopped && !r.finished {
		r.paused = true
	}
}

func (r *runtime) resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = false
	r.wake()
}

// deliver queues a frame of the client. It returns false when the frame is not
// for this call.
func (r *runtime) deliver(f wire.Frame) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped || r.finished {
		return false
	}
	r.in = append(r.in, f)
	r.wake()
	return true
}

// take returns the first output.
func (r *runtime) take() output {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.out[0]
	r.out = r.out[1:]
	r.outBytes -= len(o.payload)
	r.wake()
	return o
}

// left returns the input that the command has not taken.
func (r *runtime) left() []wire.Frame {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.in
}

func (r *runtime) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finished = true
	r.wake()
}

// abandon makes all that the command waits for fail.
func (r *runtime) abandon() {
	r.cancel(errAbandoned)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.abandoned {
		r.abandoned = true
		close(r.gone)
	}
	r.wake()
}
