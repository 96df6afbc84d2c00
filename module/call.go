package module

import (
	"context"
	"strings"
	"sync"

	"mrci.dev/mrci/wire"
)

// Runtime is what runs a command: it carries frames between the command and
// its session. Its methods may be called from several goroutines.
//
// A runtime that runs inline commands where nothing may wait also has a method
// MayWait() bool, which returns false for such a call (Call.MayWait). It runs a
// command again that returns ErrMustWait.
type Runtime interface {
	// Send hands a frame to the client of the session. It waits while the
	// client reads slowly, and fails when the call has ended. The payload
	// belongs to the runtime from then on.
	Send(ctx context.Context, t wire.TypeID, payload []byte) error
	// Receive waits for the next frame of the client for this call. The
	// payload belongs to the command, which may clear it: there is no other
	// copy of it.
	Receive(ctx context.Context) (wire.TypeID, []byte, error)
	// Checkpoint waits while the call is paused, and fails when it was stopped.
	Checkpoint(ctx context.Context) error
	// Async sends an async command and waits until the session has done its
	// part of it (protocol 5). Its error says why the session could not.
	Async(ctx context.Context, id wire.AsyncID, p wire.Payload) error
	// Session returns what the command may know of its session, as of now.
	Session() *Session
}

// Call is one run of a command.
type Call struct {
	Args Args        // parsed from the first frame, for TextInput and GenFileInput
	Type wire.TypeID // type of the first frame
	// Input is the payload of the first frame; nil for TextInput, of which
	// Args has all that is wanted.
	Input []byte
	// ID and Name are the command's id and shown name in this session.
	ID   wire.CmdID
	Name string

	runtime Runtime

	mu      sync.Mutex
	secrets [][]byte // guarded by mu: answers to Secret
}

// NewCall returns a call for a runtime to run. Commands do not use it.
func NewCall(r Runtime, id wire.CmdID, name string, first wire.Frame, args Args) *Call {
	return &Call{runtime: r, ID: id, Name: name, Type: first.Type, Input: first.Payload, Args: args}
}

// End wipes the answers to Secret. A runtime calls it when the command's
// function has returned or panicked; commands do not use it.
func (c *Call) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.secrets {
		clear(s)
	}
	c.secrets = nil
}

// Session returns what the command may know of its session, as of now. The
// value is shared and must not be changed.
func (c *Call) Session() *Session { return c.runtime.Session() }

// MayWait reports whether the command may wait in this run. It always may
// unless it is inline; an inline command that may not returns ErrMustWait when
// it would have to.
func (c *Call) MayWait() bool {
	r, ok := c.runtime.(interface{ MayWait() bool })
	return !ok || r.MayWait()
}

// Send hands a frame to the client. It waits while the client reads slowly.
// The payload belongs to the call from then on.
func (c *Call) Send(ctx context.Context, t wire.TypeID, payload []byte) error {
	return c.runtime.Send(ctx, t, payload)
}

// SendPayload is Send for a payload with a layout.
func (c *Call) SendPayload(ctx context.Context, t wire.TypeID, p wire.Payload) error {
	return c.runtime.Send(ctx, t, wire.Append(nil, p))
}

// maxText is the size above which Text cuts its text into several frames, in
// bytes (commands 1.3).
const maxText = 64 << 10

// Text sends text to the client, as one TEXT frame or a few of at most 64 KiB,
// cut between characters.
func (c *Call) Text(ctx context.Context, text string) error {
	for len(text) > maxText {
		piece := wire.CutText(text, maxText)
		if piece == "" { // not UTF-8: nothing but the inside of characters
			piece = text[:maxText]
		}
		if err := c.runtime.Send(ctx, wire.Text, []byte(piece)); err != nil {
			return err
		}
		text = text[len(piece):]
	}
	return c.runtime.Send(ctx, wire.Text, []byte(text))
}

// Line sends text as TEXT and ends it with a line feed.
func (c *Call) Line(ctx context.Context, text string) error {
	return c.Text(ctx, text+"\n")
}

// Err sends an ERR frame; the call goes on.
func (c *Call) Err(ctx context.Context, text string) error {
	return c.runtime.Send(ctx, wire.Err, []byte(text+"\n"))
}

// Receive waits for the next frame of the client for this call. The payload
// belongs to the command.
func (c *Call) Receive(ctx context.Context) (wire.TypeID, []byte, error) {
	return c.runtime.Receive(ctx)
}

// Prompt asks the client for one line of text, which it may show while it is
// typed. Frames of other types are ignored meanwhile.
func (c *Call) Prompt(ctx context.Context, text string) (string, error) {
	answer, err := c.ask(ctx, wire.PromptText, text)
	return string(answer), err
}

// Secret asks the client for a secret, which it does not show. The answer is
// never written to a log, and there is no other copy of it. The caller clears it
// as soon as it has been used, and makes no string of it, which cannot be
// cleared; what is left when the command's function returns is cleared then.
func (c *Call) Secret(ctx context.Context, text string) ([]byte, error) {
	answer, err := c.ask(ctx, wire.PrivText, text)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secrets = append(c.secrets, answer)
	return answer, err
}

func (c *Call) ask(ctx context.Context, t wire.TypeID, text string) ([]byte, error) {
	if err := c.runtime.Send(ctx, t, []byte(text)); err != nil {
		return nil, err
	}
	for {
		got, payload, err := c.runtime.Receive(ctx)
		if err != nil {
			return nil, err
		}
		if got == wire.Text {
			return payload, nil
		}
		clear(payload)
	}
}

// Confirm asks a yes/no question and repeats it until the answer is one of y,
// yes, n, no, in any case (commands 1.4).
func (c *Call) Confirm(ctx context.Context, question string) (bool, error) {
	for {
		answer, err := c.Prompt(ctx, question)
		if err != nil {
			return false, err
		}
		switch strings.ToLower(strings.TrimSpace(answer)) {
		case "y", "yes":
			return true, nil
		case "n", "no":
			return false, nil
		}
	}
}

// Checkpoint is called by long loops between two steps: it waits while the
// call is paused (YIELD_CMD) and returns an error when it was stopped.
func (c *Call) Checkpoint(ctx context.Context) error { return c.runtime.Checkpoint(ctx) }

// Async sends an async command and waits until this session has done its part
// (protocol 5). p may be nil for those without a payload.
func (c *Call) Async(ctx context.Context, id wire.AsyncID, p wire.Payload) error {
	return c.runtime.Async(ctx, id, p)
}
