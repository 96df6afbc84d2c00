package client

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"mrci.dev/mrci/wire"
)

// Cast sends a frame to every other session that has one of the sub-channels
// open which this session has open for casting, and returns when the host has
// passed it on (commands 7, cast). Nobody tells who has received it. Each type
// is possible that wire.TypeID.Relayable allows. The errors are
// ErrNotRelayable, wire.ErrTooLarge for a payload above wire.MaxPayload,
// *NoCommandError, *CommandError, and those of Run. The payload is not kept.
//
// Casts that wait for each other keep their order, others need not. Caster
// sends many in a row without waiting.
func (c *Client) Cast(ctx context.Context, t wire.TypeID, payload []byte) error {
	if err := relayable(t); err != nil {
		return fmt.Errorf("cast: %w", err)
	}
	_, err := c.order(ctx, Request{Command: cmdCast, Type: t, Payload: payload})
	return err
}

// OpenSubChannel opens a sub-channel in this session: what is cast there
// arrives as events, and Cast reaches who has it open, unless it is read-only
// for this user. A session can have wire.MaxOpenSubs open. The error is a
// *NoCommandError, a *CommandError, or one of Run.
func (c *Client) OpenSubChannel(ctx context.Context, channel, sub string) error {
	return c.subChannel(ctx, "open_sub_ch", channel, sub)
}

// CloseSubChannel closes a sub-channel in this session; its errors are those of
// OpenSubChannel. It is no error if the sub-channel is not open.
func (c *Client) CloseSubChannel(ctx context.Context, channel, sub string) error {
	return c.subChannel(ctx, "close_sub_ch", channel, sub)
}

func (c *Client) subChannel(ctx context.Context, command, channel, sub string) error {
	args := "-ch_name " + QuoteValue(channel) + " -sub_name " + QuoteValue(sub)
	_, err := c.order(ctx, Request{Command: command, Payload: []byte(args)})
	return err
}

// Commands that this package calls by itself.
const (
	cmdAuth       = "auth"
	cmdCast       = "cast"
	cmdPingPeers  = "ping_peers"
	cmdP2PRequest = "p2p_request"
	cmdP2POpen    = "p2p_open"
	cmdP2PClose   = "p2p_close"
	cmdToPeer     = "to_peer"
)

// relayable refuses types that a host does not carry to other clients. Some of
// them it would not even answer.
func relayable(t wire.TypeID) error {
	if !t.Relayable() {
		return fmt.Errorf("%v: %w", t, ErrNotRelayable)
	}
	return nil
}

// order runs a command that has nothing to say but why it refuses. sent tells
// whether the host may have got the first frame.
func (c *Client) order(ctx context.Context, r Request) (sent bool, err error) {
	reason := ""
	result, err := c.Do(ctx, r, Handlers{
		Started: func(*Call) { sent = true },
		Frame: func(f wire.Frame) error {
			if f.Type == wire.Err {
				reason = refusal(f.Payload)
			}
			return nil
		},
	})
	if err == nil && result.Code != wire.NoErrors {
		err = &CommandError{Command: r.Command, Code: result.Code, Text: reason}
	}
	return sent, err
}

// refusal is the text of an ERR frame as part of an error.
func refusal(payload []byte) string { return strings.TrimSpace(string(payload)) }

// castWindow is how many casts of a Caster may be unanswered: enough to keep a
// host busy over a round trip of some milliseconds, few enough that a failure
// is known soon.
const castWindow = 1024

// Caster sends casts in their order without waiting for the host's answer to
// each. Up to 1,024 may be on the way; nothing of them is kept in this process.
// Client.Caster makes one; it needs no closing. Its methods are safe for
// concurrent use.
type Caster struct {
	c    *Client
	turn chan struct{} // holds a token while somebody sends

	// guarded by mu
	mu       sync.Mutex
	key      instanceKey   // while something is on the way
	waiting  int           // casts without an answer
	answered int           // casts with one
	reason   string        // the last ERR for the cast that is answered next
	err      error         // the first failure
	changed  chan struct{} // closed when somebody who waits should look again; nil: nobody does
}

// Caster returns a new Caster.
func (c *Client) Caster() *Caster {
	return &Caster{c: c, turn: make(chan struct{}, 1)}
}

// Send sends a cast. It waits only while 1,024 casts are on the way, or while
// the host reads nothing. A cast that the host has begun to read is not taken
// back when ctx ends: Send then waits for Config.WriteTimeout at most. After a
// cast that the host has refused, or could not carry out, Send sends no more and
// returns why: an error that says which cast it was, counted from 1, and wraps a
// *CommandError. Casts that followed it and were on the way by then may have
// been passed on. Other errors are those of Cast; after one of a single cast
// (its type or size) or of ctx, the next one can be sent. The payload is not
// kept.
func (s *Caster) Send(ctx context.Context, t wire.TypeID, payload []byte) error {
	if err := relayable(t); err != nil {
		return fmt.Errorf("cast: %w", err)
	}
	if len(payload) > wire.MaxPayload {
		return fmt.Errorf("cast: %w", wire.ErrTooLarge)
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	key, err := s.begin(ctx)
	if err != nil {
		return err
	}
	sent, err := s.c.write(ctx, t, key, payload, func() error { return nil })
	if !sent {
		s.takeBack()
	}
	return err // of writing itself ends the connection, and so the Caster
}

// takeBack uncounts the cast that was counted last and has not been sent.
func (s *Caster) takeBack() {
	s.mu.Lock()
	if s.waiting == 0 { // the connection has ended
		s.mu.Unlock()
		return
	}
	s.waiting--
	key, last := s.key, s.waiting == 0
	s.wakeLocked()
	s.mu.Unlock()
	if last {
		s.c.release(key)
	}
}

// begin counts a cast and returns the branch to send it on. The branch is the
// same while something is on the way, for the sake of order, and given back
// when there is nothing.
func (s *Caster) begin(ctx context.Context) (instanceKey, error) {
	err := s.wait(ctx, func() bool { return s.waiting < castWindow || s.err != nil })
	if err != nil {
		return instanceKey{}, err
	}
	s.mu.Lock()
	if s.err != nil || s.waiting > 0 {
		defer s.mu.Unlock()
		if s.err == nil {
			s.waiting++
		}
		return s.key, s.err
	}
	s.mu.Unlock()
	// Only who has the turn adds to what is on the way, so it stays nothing.
	info, err := s.c.Lookup(cmdCast)
	if err != nil {
		return instanceKey{}, err
	}
	key, err := s.c.register(info.ID, func(instanceKey) receiver { return s })
	if err != nil {
		return instanceKey{}, fmt.Errorf("call %s: %w", cmdCast, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.key, s.waiting = key, 1
	}
	return key, s.err
}

// Wait returns when the host has answered every cast that was sent: nil if it
// has passed on all of them, otherwise the first failure, as Send does.
func (s *Caster) Wait(ctx context.Context) error {
	if err := s.wait(ctx, func() bool { return s.waiting == 0 }); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// wait returns when done, which is asked with mu held, reports true.
func (s *Caster) wait(ctx context.Context, done func() bool) error {
	for {
		s.mu.Lock()
		if done() {
			s.mu.Unlock()
			return nil
		}
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// receive implements receiver: the host answers the casts in their order.
func (s *Caster) receive(f wire.Frame) error {
	switch f.Type {
	case wire.Err:
		s.mu.Lock()
		s.reason = refusal(f.Payload)
		s.mu.Unlock()
	case wire.Idle:
		code, _, err := wire.ParseIdle(f.Payload)
		if err != nil {
			return err
		}
		if key, last := s.answer(code); last {
			s.c.release(key)
		}
	}
	return nil
}

// answer counts the end of a cast. last means that no other is on the way.
func (s *Caster) answer(code wire.ReturnCode) (key instanceKey, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == 0 { // an answer to nothing
		return s.key, false
	}
	s.waiting--
	s.answered++
	if code != wire.NoErrors && s.err == nil {
		s.err = fmt.Errorf("row of casts, number %d: %w", s.answered, &CommandError{Command: cmdCast, Code: code, Text: s.reason})
		s.wakeLocked()
	}
	s.reason = ""
	// Not for each: who sends should find room for many.
	if s.waiting == 0 || s.waiting == castWindow/2 {
		s.wakeLocked()
	}
	return s.key, s.waiting == 0
}

// finish implements receiver.
func (s *Caster) finish(end error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = end
	}
	s.waiting = 0
	s.wakeLocked()
}

func (s *Caster) wakeLocked() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}
