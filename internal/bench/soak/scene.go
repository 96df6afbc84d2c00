package soak

import (
	"context"
	"errors"
	"fmt"

	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/wire"
)

// scene is what a client does from a connect to the end of the connection. ctx
// bounds it; soak ends when there should be no further steps.
type scene struct {
	name   string
	weight int
	play   func(s *soaker, ctx, soak context.Context) error
}

func (s scene) share() int { return s.weight }

var scenes = []scene{
	{"session", 55, (*soaker).session},
	{"two sessions of one account", 6, (*soaker).pair},
	{"administration", 6, (*soaker).administration},
	{"channel", 12, (*soaker).channel},
	{"peer links", 8, (*soaker).peerLinks},
	{"account that comes and goes", 2, (*soaker).shortLived},
	{"wrong password only", 4, (*soaker).wrongOnly},
	{"unknown commands", 5, asStranger((*soaker).unknown)},
	{"any frames", 4, asStranger((*soaker).noise)},
	{"too many calls", 4, asStranger((*soaker).tooMany)},
	{"frame that is too large", 3, asStranger((*soaker).tooLarge)},
	{"slow reader", 3, (*soaker).slow},
	{"reader that does not read", 3, (*soaker).deaf},
	{"garbage for a header", 5, (*soaker).garbage},
	{"half a header", 5, (*soaker).halfHeader},
	{"header and no more", 5, (*soaker).headerOnly},
	{"silence", 3, (*soaker).silent},
}

// session logs in, does this and that, and leaves in any state.
func (s *soaker) session(ctx, soak context.Context) error {
	v, err := visitHost(ctx, s.addr, s.work)
	if err != nil {
		return err
	}
	defer v.c.Close()
	if s.one(4) {
		if err := s.look(ctx, v, ""); err != nil {
			return err
		}
	}
	if s.one(10) {
		v.leave(s.one(2))
		return nil
	}
	name := UserName(s.number)
	boss := s.one(2)
	if boss {
		name = bossName(s.number)
	}
	var wrong []string
	for s.one(4) {
		wrong = append(wrong, "not the password")
	}
	if err := v.login(ctx, raw.Account{Name: name, Password: password}, wrong...); err != nil {
		return err
	}
	for range 1 + s.random.IntN(20) {
		if !s.rest(soak) {
			break
		}
		one := pick(s.random, steps)
		if one.boss && !boss {
			continue
		}
		if err := one.do(s, ctx, v, name); err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
		s.work.done("step: " + one.name)
	}
	return s.depart(ctx, v)
}

// depart leaves in a state that chance decides.
func (s *soaker) depart(ctx context.Context, v *visit) error {
	switch s.random.IntN(6) {
	case 0: // logged out
		if err := v.run(ctx, expect{name: "logout"}); err != nil {
			return err
		}
		if err := v.c.Settle(ctx); err != nil {
			return err
		}
		if _, err := v.c.Lookup("set_pw"); err == nil {
			return errors.New("set_pw is offered after logout")
		}
		v.leave(false)
	case 1: // within a prompt
		if _, err := v.asked(ctx, "set_pw"); err != nil {
			return err
		}
		v.leave(s.one(2))
	case 2: // with calls of which nobody knows how far they are
		for range 1 + s.random.IntN(8) {
			s.work.call()
			if _, err := v.c.Call(ctx, "ls_users", "-all"); err != nil {
				return err
			}
		}
		v.leave(s.one(2))
	case 3: // within a login as somebody else
		call, err := v.asked(ctx, "auth", "-user", UserName(s.number))
		if err != nil {
			return err
		}
		if err := call.Send(wire.Text, []byte(password)); err != nil {
			return err
		}
		v.leave(s.one(2))
	default:
		v.leave(s.one(2))
	}
	return nil
}
