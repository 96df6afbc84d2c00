package instance

import (
	"context"
	"errors"
	"time"

	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

var errPromptTimeout = errors.New("prompt timed out")

// runtime is the command's side of an instance.
type runtime Instance

// Session implements module.Runtime.
func (r *runtime) Session() *module.Session { return r.cfg.Session() }

// Send implements module.Runtime.
func (r *runtime) Send(ctx context.Context, t wire.TypeID, payload []byte) error {
	return r.send(ctx, Output{Type: t, Payload: payload})
}

// Async implements module.Runtime.
func (r *runtime) Async(ctx context.Context, id wire.AsyncID, p wire.Payload) error {
	a := &Async{ID: id, Payload: p, done: make(chan error, 1)}
	switch err := r.send(ctx, Output{Async: a}); {
	case errors.Is(err, ErrAbandoned):
		r.cfg.Orphaned(a)
	case err != nil:
		return err
	}
	// The session answers every request, when it abandons the call too.
	return <-a.done
}

func (r *runtime) send(ctx context.Context, o Output) error {
	i := (*Instance)(r)
	i.mu.Lock()
	for {
		switch {
		case i.abandoned:
			defer i.mu.Unlock()
			// Who goes on behind the end of the call has made a change and tells
			// of it. That nobody hears it is no failure, unless it has no end.
			if o.Async == nil && ctx.Err() == nil && i.outBytes < maxOut {
				i.outBytes += len(o.Payload) + frameOverhead
				return nil
			}
			return ErrAbandoned
		case ctx.Err() != nil:
			i.mu.Unlock()
			return context.Cause(ctx)
		case i.outBytes < maxOut:
			i.put(o)
			i.mu.Unlock()
			i.notify()
			return nil
		}
		i.sending = true
		changed := i.waiter()
		i.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		i.mu.Lock()
		i.sending = false
		i.taken++
	}
}

// Receive implements module.Runtime.
func (r *runtime) Receive(ctx context.Context) (wire.TypeID, []byte, error) {
	i := (*Instance)(r)
	var late <-chan time.Time
	i.mu.Lock()
	defer i.mu.Unlock()
	for {
		if i.abandoned {
			return 0, nil, ErrAbandoned
		}
		if ctx.Err() != nil {
			return 0, nil, context.Cause(ctx)
		}
		if len(i.in) > 0 {
			return i.popLocked()
		}
		if i.term {
			i.terminate()
			continue
		}
		i.paused = false // at a prompt YIELD_CMD does nothing (commands 1.5)
		i.receiving = true
		changed := i.waiter()
		i.mu.Unlock()
		if late == nil && i.cfg.PromptTimeout > 0 {
			timer := time.NewTimer(i.cfg.PromptTimeout)
			defer timer.Stop()
			late = timer.C
		}
		timedOut := false
		select {
		case <-changed:
		case <-ctx.Done():
		case <-late:
			timedOut = true
		}
		i.mu.Lock()
		i.receiving = false
		if timedOut {
			return 0, nil, errPromptTimeout
		}
	}
}

// popLocked takes the first input.
func (i *Instance) popLocked() (wire.TypeID, []byte, error) {
	first := i.in[0]
	i.in[0] = wire.Frame{}
	i.in = i.in[1:]
	i.taken++
	i.asked = false
	size := Cost(first)
	i.inBytes -= size
	i.cfg.Consumed(size)
	return first.Type, first.Payload, nil
}

// Checkpoint implements module.Runtime.
func (r *runtime) Checkpoint(ctx context.Context) error {
	i := (*Instance)(r)
	i.mu.Lock()
	defer i.mu.Unlock()
	for {
		if i.term {
			i.terminate()
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !i.paused {
			return nil
		}
		changed := i.waiter()
		i.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		i.mu.Lock()
	}
}
