package client

import (
	"context"
	"errors"
	"io"

	"mrci.dev/mrci/wire"
)

// Kind tells what a question of the host asks for.
type Kind uint8

// The kinds of questions. Run knows only Prompt; Login tells the rest apart.
const (
	Prompt      Kind = iota // whatever the command wants to know
	Password                // of the account that logs in
	NewPassword             // demanded by the host before it lets the account in
	NewName                 // a new user name, demanded likewise
)

// Question is a prompt of a command (PROMPT_TEXT, PRIV_TEXT).
type Question struct {
	Kind    Kind
	Hidden  bool   // the answer must not be shown
	Text    string // the prompt
	Refused string // what the host said against the previous answer; empty the first time
	Try     int    // 1, and one more each time that the host refuses an answer
}

// Answer answers a question. It may wait for a person; its context ends when
// the call does. ErrNoAnswer cancels the command, as does any other error.
type Answer func(ctx context.Context, q Question) (string, error)

// Handlers receive what a call sends while Run waits for its end.
type Handlers struct {
	// Frame gets every frame of the call but IDLE, prompts included, before
	// they are answered. An error cancels the call, and Run returns it.
	Frame func(f wire.Frame) error
	// Answer answers prompts. Without it a prompt cancels the command.
	Answer Answer
	// Started gets the call when its first frame has been sent.
	Started func(*Call)
}

// Run calls a command with argument words, which it quotes, and returns when
// it has ended. The error is nil whenever the host sent an IDLE and no handler
// failed, whatever the code; an Answer that returns ErrNoAnswer is no failure.
// A call that is cancelled, by its context or by a handler, gets TERM_CMD and
// Config.Grace to end. After a cancelled context Run returns the context's
// error, with a result if the command did end.
func (c *Client) Run(ctx context.Context, name string, args []string, h Handlers) (Result, error) {
	info, err := c.Lookup(name)
	if err != nil {
		return Result{}, err
	}
	return c.Do(ctx, Request{Command: name, Payload: []byte(QuoteFor(info.IO, args...))}, h)
}

// Do is Run with a first frame of any type.
func (c *Client) Do(ctx context.Context, r Request, h Handlers) (Result, error) {
	answering, ended := context.WithCancel(ctx)
	defer ended()
	r.onEnd = ended
	call, err := c.Start(ctx, r)
	if err != nil {
		return Result{}, err
	}
	if h.Started != nil {
		h.Started(call)
	}
	return call.drive(ctx, answering, h)
}

// drive hands the frames of a call to the handlers until it ends.
func (call *Call) drive(ctx, answering context.Context, h Handlers) (Result, error) {
	var failed error
	q := Question{}
	for {
		// The end comes from the call, which knows when ctx is cancelled.
		f, err := call.Next(context.WithoutCancel(ctx))
		if err == io.EOF {
			if failed == nil {
				failed = context.Cause(ctx)
			}
			return call.Result(), failed
		}
		if err != nil {
			return Result{}, errors.Join(err, failed)
		}
		if failed != nil {
			continue
		}
		if h.Frame != nil {
			if failed = h.Frame(f); failed != nil {
				call.cancel(failed)
				continue
			}
		}
		own := !f.Cmd.IsAsync()
		switch {
		case own && f.Type == wire.Err:
			q.Refused = string(f.Payload)
		case own && (f.Type == wire.PromptText || f.Type == wire.PrivText):
			q.Hidden = f.Type == wire.PrivText
			q.Text = string(f.Payload)
			q.Try++
			if q.Refused == "" {
				q.Try = 1
			}
			answer, err := "", ErrNoAnswer
			if h.Answer != nil {
				answer, err = h.Answer(answering, q)
			}
			q.Refused = ""
			if err == nil {
				call.Send(wire.Text, []byte(answer)) // an error ends the call, which Next tells
				continue
			}
			if !errors.Is(err, ErrNoAnswer) && answering.Err() == nil {
				failed = err
			}
			call.cancel(err)
		}
	}
}
