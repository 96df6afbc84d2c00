package client

import (
	"context"
	"fmt"
	"io"
	"iter"
	"math"
	"strings"
	"sync"
	"time"

	"mrci.dev/mrci/wire"
)

// Request is what starts a call.
type Request struct {
	Command string      // name; upper and lower case are the same
	Type    wire.TypeID // of the first frame; 0 means TEXT
	Payload []byte      // of the first frame: for TEXT the argument text (see Quote)
	// Events gives the call the async frames too that arrive while it runs,
	// each in its place among the call's own, but for the messages of a Link.
	// Frame.Cmd tells them apart.
	Events bool

	onEnd  func()                // called when the call is over, without locks held
	onIdle func(wire.ReturnCode) // called by the reader for the IDLE, before any later frame is handled
}

// Result is how a call ended: the payload of its IDLE frame (protocol 4).
type Result struct {
	Code wire.ReturnCode
	Data []byte // behind the code, the command's own; may be nil
}

// Call is one running command. Its methods are safe for concurrent use, but
// frames go to whoever asks first.
type Call struct {
	// fixed when the call starts
	c      *Client
	info   wire.CommandInfo
	key    instanceKey
	events bool
	onEnd  func()
	onIdle func(wire.ReturnCode)
	queue  queue

	// guarded by mu
	mu       sync.Mutex
	ended    bool
	result   Result
	unwatch  func() bool // takes the call off its context
	deadline *time.Timer // runs while a cancelled call gets its grace
}

// Call starts a command with argument words, which it quotes (see QuoteFor).
// Cancelling the context sends TERM_CMD; a call that has not ended Config.Grace
// later is given up. A first frame that the host has begun to read is not taken
// back: while the host reads no more of it, for Config.WriteTimeout at most, Call
// does not return. The error is a *NoCommandError, ErrTooManyCalls, or why
// the connection ended.
func (c *Client) Call(ctx context.Context, name string, args ...string) (*Call, error) {
	info, err := c.Lookup(name)
	if err != nil {
		return nil, err
	}
	return c.start(ctx, info, Request{Payload: []byte(QuoteFor(info.IO, args...))})
}

// Start starts a command with a first frame of any type; otherwise it is like
// Call. The payload is not kept.
func (c *Client) Start(ctx context.Context, r Request) (*Call, error) {
	info, err := c.Lookup(r.Command)
	if err != nil {
		return nil, err
	}
	return c.start(ctx, info, r)
}

func (c *Client) start(ctx context.Context, info wire.CommandInfo, r Request) (*Call, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	call := &Call{c: c, info: info, events: r.Events, onEnd: r.onEnd, onIdle: r.onIdle, queue: newQueue(c.cfg.QueueBytes)}
	_, err := c.register(info.ID, func(key instanceKey) receiver {
		call.key = key
		if call.events {
			c.tapping = append(c.tapping[:len(c.tapping):len(c.tapping)], call)
		}
		return call
	})
	if err != nil {
		return nil, err
	}
	t := r.Type
	if t == 0 {
		t = wire.Text
	}
	if _, err := c.write(ctx, t, call.key, r.Payload, call.running); err != nil {
		c.forget(call, err)
		return nil, fmt.Errorf("call %s: %w", info.Name, err)
	}
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { c.background(func() { call.cancel(context.Cause(ctx)) }) })
		call.mu.Lock()
		call.unwatch = stop
		ended := call.ended
		call.mu.Unlock()
		if ended {
			stop()
		}
	}
	return call, nil
}

// receiver gets the frames of one instance, on the goroutine that reads the
// connection.
type receiver interface {
	// receive takes a frame, whose payload is valid until it returns. An error
	// is one of the protocol and ends the connection.
	receive(f wire.Frame) error
	// finish is called when the connection has ended.
	finish(end error)
}

// register takes the lowest branch of the command that is free, for the
// receiver that made returns: the host may keep an instance for the next call
// on the same branch. made is called with c.mu held.
func (c *Client) register(cmd wire.CmdID, made func(instanceKey) receiver) (instanceKey, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return instanceKey{}, c.err
	}
	for branch := 1; branch <= math.MaxUint16; branch++ {
		key := instanceKey{cmd, wire.BranchID(branch)}
		if _, taken := c.receivers[key]; taken {
			continue
		}
		c.receivers[key] = made(key)
		return key, nil
	}
	return instanceKey{}, ErrTooManyCalls
}

// release frees a branch.
func (c *Client) release(key instanceKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.receivers, key)
}

// forget frees the branch of the call and ends it.
func (c *Client) forget(call *Call, end error) {
	c.release(call.key)
	call.finish(end)
}

// untap stops async frames for the call. The slice is replaced, not changed:
// the reader may be going through it.
func (c *Client) untap(call *Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var rest []*Call
	for _, other := range c.tapping {
		if other != call {
			rest = append(rest, other)
		}
	}
	c.tapping = rest
}

// reply hands a frame to the call that it belongs to. Frames of no call are
// dropped: they may be the rest of one whose first frame was never answered.
func (c *Client) reply(f wire.Frame) error {
	c.mu.Lock()
	to, ending := c.receivers[instanceKey{f.Cmd, f.Branch}], c.err != nil
	c.mu.Unlock()
	if ending {
		return nil // every call ends with the reason that stands in err
	}
	if to == nil {
		c.cfg.Logger.Debug("frame of no call", "type", f.Type, "cmd", f.Cmd, "branch", f.Branch)
		return nil
	}
	return to.receive(f)
}

// receive implements receiver.
func (call *Call) receive(f wire.Frame) error {
	if f.Type != wire.Idle {
		call.c.deliver(call, f)
		return nil
	}
	code, data, err := wire.ParseIdle(f.Payload)
	if err != nil {
		return err
	}
	if call.onIdle != nil {
		call.onIdle(code)
	}
	if code == wire.NoErrors && strings.EqualFold(call.info.Name, cmdAuth) {
		call.c.loggedIn()
	}
	call.mu.Lock()
	if !call.ended {
		call.result = Result{Code: code, Data: append([]byte(nil), data...)}
	}
	call.mu.Unlock()
	call.c.forget(call, io.EOF)
	return nil
}

// deliver queues a frame for a call, and ends the call if it does not take
// its frames in time.
func (c *Client) deliver(call *Call, f wire.Frame) {
	f = clone(f)
	for !call.queue.put(queued{Frame: f}) {
		if !c.waitRoom(&call.queue) {
			c.cfg.Logger.Debug("call takes no frames", "cmd", call.info.Name, "branch", call.key.branch)
			call.finish(ErrSlowConsumer)
			// The host may be writing to us and reading nothing; who waits
			// for that must not be the reader. The branch stays taken until
			// the IDLE.
			c.background(func() { c.control(call.key, wire.TermCmd) })
			return
		}
	}
}

// Command returns what the host says about the command that runs.
func (call *Call) Command() wire.CommandInfo { return call.info }

// Branch returns the branch on which the command runs.
func (call *Call) Branch() wire.BranchID { return call.key.branch }

// Next returns the next frame of the call, whose payload the caller may keep.
// After the last one it returns io.EOF, and Result is then set: the IDLE frame
// itself is not returned. Other errors are why the call ended without an IDLE:
// ErrGivenUp, ErrSlowConsumer, or the client's error. The context bounds the
// wait only; it does not cancel the call.
func (call *Call) Next(ctx context.Context) (wire.Frame, error) {
	return call.queue.next(ctx)
}

// Frames yields the frames of the call up to its end. The last pair has an
// error when the call ended without an IDLE, or the context ended the wait.
func (call *Call) Frames(ctx context.Context) iter.Seq2[wire.Frame, error] {
	return func(yield func(wire.Frame, error) bool) {
		for {
			f, err := call.Next(ctx)
			if err == io.EOF || !yield(f, err) || err != nil {
				return
			}
		}
	}
}

// Result returns how the call ended. It is zero while the call runs, and when
// it ended without an IDLE.
func (call *Call) Result() Result {
	call.mu.Lock()
	defer call.mu.Unlock()
	return call.result
}

// Wait drops what the call still sends and returns its result.
func (call *Call) Wait(ctx context.Context) (Result, error) {
	for {
		if _, err := call.Next(ctx); err == io.EOF {
			return call.Result(), nil
		} else if err != nil {
			return Result{}, err
		}
	}
}

// Send sends a frame to the running command: an answer to a prompt, or data.
// It returns ErrEnded when the call is over. It waits while the host reads
// nothing, for Config.WriteTimeout at most. The payload is not kept.
func (call *Call) Send(t wire.TypeID, payload []byte) error {
	_, err := call.c.write(context.Background(), t, call.key, payload, call.running)
	return err
}

// Term asks the command to stop (TERM_CMD). The call goes on until its IDLE.
// It does nothing when the call is over; so do Kill, Yield and Resume.
func (call *Call) Term() error { return call.control(wire.TermCmd) }

// Kill asks the host to stop the command and to end its process (KILL_CMD).
func (call *Call) Kill() error { return call.control(wire.KillCmd) }

// Yield asks the command to pause (YIELD_CMD).
func (call *Call) Yield() error { return call.control(wire.YieldCmd) }

// Resume asks a paused command to go on (RESUME_CMD).
func (call *Call) Resume() error { return call.control(wire.ResumeCmd) }

func (call *Call) control(t wire.TypeID) error {
	_, err := call.c.write(context.Background(), t, call.key, nil, call.running)
	if err == ErrEnded {
		return nil
	}
	return err
}

// control sends a control frame to an instance, whether or not it has a call.
func (c *Client) control(key instanceKey, t wire.TypeID) error {
	_, err := c.write(context.Background(), t, key, nil, func() error { return nil })
	return err
}

// running returns ErrEnded when nothing may be sent to the call any more.
func (call *Call) running() error {
	call.mu.Lock()
	defer call.mu.Unlock()
	if call.ended {
		return ErrEnded
	}
	return nil
}

// cancel is what a cancelled context does to the call: TERM_CMD, and after
// the grace it is given up.
func (call *Call) cancel(cause error) {
	call.mu.Lock()
	if call.ended || call.deadline != nil {
		call.mu.Unlock()
		return
	}
	// First the clock, then the frame, which may have to wait.
	call.deadline = time.AfterFunc(call.c.cfg.Grace, func() {
		call.finish(fmt.Errorf("%w after TERM_CMD: %w", ErrGivenUp, cause))
	})
	call.mu.Unlock()
	call.control(wire.TermCmd) // an error ends the connection, and so the call
}

// finish ends the call for its consumer. Frames that are queued can still be
// taken. It may be called several times; the first reason counts.
func (call *Call) finish(end error) {
	call.mu.Lock()
	if call.ended {
		call.mu.Unlock()
		return
	}
	call.ended = true
	unwatch, deadline := call.unwatch, call.deadline
	call.mu.Unlock()
	if unwatch != nil {
		unwatch()
	}
	if deadline != nil {
		deadline.Stop()
	}
	if call.events {
		call.c.untap(call)
	}
	call.queue.finish(end)
	if call.onEnd != nil {
		call.onEnd()
	}
}
