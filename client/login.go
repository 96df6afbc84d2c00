package client

import (
	"context"
	"errors"
	"strings"

	"mrci.dev/mrci/wire"
)

// Login logs the session in by the command auth, and returns when the command
// list is that of the account. A name with an @ is taken as an e-mail address.
// The answer is asked for the password (Kind Password) and, when the host
// demands them, for a new password and a new name; again with Refused set when
// the host does not take an answer. A login that the host refuses, or that an
// answer cancelled, is a *LoginError; the session is then what it was before.
func (c *Client) Login(ctx context.Context, user string, answer Answer) error {
	by := "-user"
	if strings.Contains(user, "@") {
		by = "-email"
	}
	var refusal string // the last ERR
	var gaveUp error   // what the answer returned instead of an answer
	asked, replacing := 0, false
	result, err := c.Run(ctx, cmdAuth, []string{by, user}, Handlers{
		Frame: func(f wire.Frame) error {
			if f.Type == wire.Err {
				refusal = strings.TrimSpace(string(f.Payload))
			}
			return nil
		},
		Answer: func(ctx context.Context, q Question) (string, error) {
			// The host asks for the password until it is right, then, without
			// an ERR between, for what it demands (commands 2, auth).
			switch {
			case !q.Hidden:
				q.Kind = NewName
			case asked == 0 || q.Refused != "" && !replacing:
				q.Kind = Password
			default:
				q.Kind, replacing = NewPassword, true
			}
			asked++
			text, err := answer(ctx, q)
			if err != nil {
				gaveUp = err
				return "", ErrNoAnswer
			}
			return text, nil
		},
	})
	if err != nil {
		return err
	}
	if result.Code != wire.NoErrors {
		return &LoginError{User: user, Code: result.Code, Text: refusal, Err: gaveUp}
	}
	return c.Settle(ctx)
}

// Settle returns when the command list is what the calls that have ended made
// of it: a host sends the changes behind the IDLE of auth or logout, before it
// answers any later frame (commands 1.3).
func (c *Client) Settle(ctx context.Context) error {
	_, err := c.Run(ctx, "my_info", nil, Handlers{}) // offered to everybody
	if _, odd := errors.AsType[*NoCommandError](err); odd {
		return nil
	}
	return err
}

// WithPassword returns an Answer that gives the password once and cancels
// everything else that the host asks.
func WithPassword(password string) Answer {
	return func(_ context.Context, q Question) (string, error) {
		if q.Kind != Password || q.Try > 1 {
			return "", ErrNoAnswer
		}
		return password, nil
	}
}
