package soak

import (
	"context"
	"errors"
	"fmt"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/wire"
)

// This file has what a session does that is logged in, one step after the other.

// step is something that a session does.
type step struct {
	name   string
	weight int
	boss   bool // needs rank 1
	do     func(s *soaker, ctx context.Context, v *visit, name string) error
}

func (s step) share() int { return s.weight }

var steps = []step{
	{"look around", 30, false, (*soaker).look},
	{"list", 8, false, (*soaker).list},
	{"list a log", 2, true, (*soaker).listLog},
	{"wrong arguments", 5, false, (*soaker).wrongArgs},
	{"prompt", 10, false, (*soaker).prompt},
	{"confirmation", 6, true, (*soaker).confirmation},
	{"new password", 1, false, (*soaker).newPassword},
	{"own data", 4, false, (*soaker).ownData},
	{"calls side by side", 6, false, (*soaker).sideBySide},
	{"login refused while logged in", 2, false, (*soaker).refusedAgain},
}

// look makes short calls.
func (s *soaker) look(ctx context.Context, v *visit, name string) error {
	who := "client app: mrci bench soak"
	if name != "" {
		who = "user name: " + name
	}
	for range 1 + s.random.IntN(4) {
		want := expect{name: "my_info", says: who}
		switch s.random.IntN(4) {
		case 0:
			want = expect{name: "ls_cmds", args: []string{"-all"}, says: "my_info"}
		case 1:
			want = expect{name: "cmd_info", args: []string{"-cmd_name", "auth"}, says: "library: "}
		case 2:
			if name != "" {
				want = expect{name: "host_info", says: "sessions: "}
			}
		}
		if err := v.run(ctx, want); err != nil {
			return err
		}
	}
	return nil
}

func (s *soaker) list(ctx context.Context, v *visit, _ string) error {
	switch s.random.IntN(4) {
	case 0:
		return v.run(ctx, expect{name: "ls_users", args: []string{"-all"}, says: "user_name"})
	case 1:
		return v.run(ctx, expect{name: "ls_users", args: []string{"-user_name", UserName(s.number)}, says: "1 row."})
	case 2: // all pages, one by one
		return v.run(ctx, expect{name: "ls_users", more: true, rest: "y", says: "rows"})
	}
	return v.run(ctx, expect{name: "ls_users", more: true, rest: "no", says: "user_name"})
}

func (s *soaker) listLog(ctx context.Context, v *visit, _ string) error {
	switch s.random.IntN(4) {
	case 0:
		return v.run(ctx, expect{name: "ls_auth_log", more: true, rest: "n", says: "user_name"})
	case 1:
		return v.run(ctx, expect{name: "ls_audit", more: true, rest: "n", says: "command"})
	case 2: // nothing is deleted
		return v.run(ctx, expect{name: "ls_act_log", args: []string{"-delete"}, answers: []string{"perhaps", "n"}, says: "ALL"})
	}
	return v.run(ctx, expect{name: "ls_act_log", more: true, rest: "n", says: "session"})
}

func (s *soaker) wrongArgs(ctx context.Context, v *visit, _ string) error {
	switch s.random.IntN(3) {
	case 0:
		return v.run(ctx, expect{name: "cmd_info", args: []string{"-cmd_name", "no_such_command"}, code: wire.InvalidParams, says: "no command"})
	case 1:
		return v.run(ctx, expect{name: "cmd_info", code: wire.InvalidParams, says: "Missing"})
	}
	return v.run(ctx, expect{name: "cmd_info", args: []string{"-cmd_id", "1"}, code: wire.InvalidParams, says: "whole number"})
}

// prompt ends a question for something hidden in every way that there is.
func (s *soaker) prompt(ctx context.Context, v *visit, _ string) error {
	call, err := v.asked(ctx, "set_pw")
	if err != nil {
		return err
	}
	if s.one(3) { // too short
		if err := call.Send(wire.Text, []byte("short")); err != nil {
			return err
		}
	}
	if s.one(3) {
		if err := errors.Join(call.Yield(), call.Resume()); err != nil {
			return err
		}
	}
	return s.end(ctx, call)
}

// end ends a call that asks, without an answer that it can use.
func (s *soaker) end(ctx context.Context, call *client.Call) error {
	var err error
	switch s.random.IntN(4) {
	case 0:
		err = call.Send(wire.Text, nil)
	case 1:
		err = call.Term()
	case 2:
		err = call.Kill()
	case 3: // while it is paused
		err = errors.Join(call.Yield(), call.Kill())
	}
	if err != nil {
		return err
	}
	return ends(ctx, call, wire.Aborted)
}

func (s *soaker) confirmation(ctx context.Context, v *visit, _ string) error {
	target := []string{"-name", UserName(s.number)}
	switch s.random.IntN(3) {
	case 0:
		return v.run(ctx, expect{name: "rm_acct", args: target, answers: []string{"maybe", "n"}, code: wire.Aborted})
	case 1:
		call, err := v.asked(ctx, "add_acct", "-name", tempName(s.number), "-email", tempName(s.number)+"@example.org")
		if err != nil {
			return err
		}
		return s.end(ctx, call)
	}
	call, err := v.asked(ctx, "rm_acct", target...)
	if err != nil {
		return err
	}
	if err := call.Kill(); err != nil {
		return err
	}
	return ends(ctx, call, wire.Aborted)
}

// newPassword changes the password and changes it back.
func (s *soaker) newPassword(ctx context.Context, v *visit, _ string) error {
	return errors.Join(
		v.run(ctx, expect{name: "set_pw", answers: []string{password, otherPassword}, says: "has been changed"}),
		v.run(ctx, expect{name: "set_pw", answers: []string{password}, says: "has been changed"}))
}

func (s *soaker) ownData(ctx context.Context, v *visit, name string) error {
	switch s.random.IntN(3) {
	case 0:
		display := fmt.Sprintf("Display %d", s.random.IntN(1000))
		if err := v.run(ctx, expect{name: "set_disp_name", args: []string{"-new_name", display}}); err != nil {
			return err
		}
		return v.run(ctx, expect{name: "my_info", says: "display name: " + display})
	case 1:
		if err := v.run(ctx, expect{name: "set_user_name", args: []string{"-new_name", name + "x"}}); err != nil {
			return err
		}
		return v.run(ctx, expect{name: "set_user_name", args: []string{"-new_name", name}})
	}
	return v.run(ctx, expect{name: "is_email_verified", says: "false"})
}

// sideBySide runs calls in several branches at once.
func (s *soaker) sideBySide(ctx context.Context, v *visit, _ string) error {
	var asking, short []*client.Call
	for range 1 + s.random.IntN(3) {
		call, err := v.asked(ctx, "set_pw")
		if err != nil {
			return err
		}
		asking = append(asking, call)
	}
	for range 2 + s.random.IntN(10) {
		s.work.call()
		name, args := "my_info", []string(nil)
		if s.one(3) {
			name, args = "ls_users", []string{"-all"}
		}
		call, err := v.c.Call(ctx, name, args...)
		if err != nil {
			return err
		}
		if s.one(3) {
			if err := errors.Join(call.Yield(), call.Resume()); err != nil {
				return err
			}
		}
		short = append(short, call)
	}
	for _, call := range short {
		if err := ends(ctx, call, wire.NoErrors); err != nil {
			return err
		}
	}
	for _, call := range asking {
		if err := s.end(ctx, call); err != nil {
			return err
		}
	}
	return nil
}

// refusedAgain changes nothing for a session that is logged in.
func (s *soaker) refusedAgain(ctx context.Context, v *visit, name string) error {
	if err := v.run(ctx, expect{name: "auth", args: []string{"-user", "nobody-at-all"}, answers: []string{"x", ""}, code: wire.Aborted, says: "wrong"}); err != nil {
		return err
	}
	return v.run(ctx, expect{name: "my_info", says: "user name: " + name})
}
