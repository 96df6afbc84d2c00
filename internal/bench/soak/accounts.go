package soak

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/wire"
)

// This file has scenes in which one session changes the account of another, or
// its rights, and that one learns of it.

// both returns sessions of two names.
func (s *soaker) both(ctx context.Context, first, second string) (a, b *visit, err error) {
	if a, err = visitHost(ctx, s.addr, s.work); err != nil {
		return nil, nil, err
	}
	if b, err = visitHost(ctx, s.addr, s.work); err != nil {
		a.c.Close()
		return nil, nil, err
	}
	err = errors.Join(
		a.login(ctx, raw.Account{Name: first, Password: password}),
		b.login(ctx, raw.Account{Name: second, Password: password}))
	if err != nil {
		a.c.Close()
		b.c.Close()
	}
	return a, b, err
}

// pair changes an account in one session and looks at the other.
func (s *soaker) pair(ctx, soak context.Context) error {
	a, b, err := s.both(ctx, UserName(s.number), UserName(s.number))
	if err != nil {
		return err
	}
	defer a.c.Close()
	defer b.c.Close()
	for range 1 + s.random.IntN(5) {
		b.forget()
		display := fmt.Sprintf("Pair %d", s.random.IntN(1_000_000))
		if err := a.run(ctx, expect{name: "set_disp_name", args: []string{"-new_name", display}}); err != nil {
			return err
		}
		err := b.told(ctx, "MY_INFO", func(e client.Event) bool {
			info, ok := e.Value.(*wire.Account)
			return ok && info.Display == display
		})
		if err != nil {
			return err
		}
		if !s.rest(soak) {
			break
		}
	}
	// One leaves within a call that concerns the other.
	s.work.call()
	if _, err := a.c.Call(ctx, "set_disp_name", "-new_name", ""); err != nil {
		return err
	}
	a.leave(s.one(2))
	if err := b.run(ctx, expect{name: "my_info", says: UserName(s.number)}); err != nil {
		return err
	}
	b.leave(s.one(2))
	return nil
}

// administration changes the rights of a session that is there.
func (s *soaker) administration(ctx, _ context.Context) error {
	name := UserName(s.number)
	boss, user, err := s.both(ctx, bossName(s.number), name)
	if err != nil {
		return err
	}
	defer boss.c.Close()
	defer user.c.Close()
	user.forget()
	switch s.random.IntN(5) {
	case 0:
		err = s.lock(ctx, boss, user)
	case 1:
		err = s.degrade(ctx, boss, user)
	case 2:
		// Never the present one.
		email := fmt.Sprintf("%s.%x@example.org", name, s.random.Uint64())
		err = boss.run(ctx, expect{name: "force_set_email", args: []string{"-new_email", email, "-user", name}})
		if err == nil {
			err = user.told(ctx, "MY_INFO", func(e client.Event) bool {
				info, ok := e.Value.(*wire.Account)
				return ok && info.Email == email
			})
		}
	case 3:
		for _, on := range []string{"1", "0"} {
			err = errors.Join(err, boss.run(ctx, expect{name: "request_new_pw", args: []string{"-user", name, "-req", on}}))
		}
	case 4:
		err = s.rankCommand(ctx, boss, user)
	}
	if err != nil {
		return err
	}
	boss.leave(s.one(2))
	user.leave(s.one(2))
	return nil
}

// lock logs a session out, perhaps within a prompt, and lets it in again.
func (s *soaker) lock(ctx context.Context, boss, user *visit) error {
	name := UserName(s.number)
	var call *client.Call
	var err error
	if s.one(2) {
		if call, err = user.asked(ctx, "set_pw"); err != nil {
			return err
		}
	}
	lock := func(state string) error {
		return boss.run(ctx, expect{name: "lock_acct", args: []string{"-user", name, "-state", state}})
	}
	err = lock("1")
	if err == nil {
		err = user.told(ctx, "the lock", func(e client.Event) bool { return strings.Contains(e.Text(), "locked") })
	}
	if err == nil && call != nil {
		err = ends(ctx, call, wire.Aborted)
	}
	if err == nil {
		err = user.run(ctx, expect{name: "auth", args: []string{"-user", name}, answers: []string{password, ""}, code: wire.Aborted, says: "locked"})
	}
	if err = errors.Join(err, lock("0")); err != nil {
		return err
	}
	return user.login(ctx, raw.Account{Name: name, Password: password})
}

// degrade takes commands from a session and gives them back.
func (s *soaker) degrade(ctx context.Context, boss, user *visit) error {
	rank := func(rank wire.Rank, offered bool) error {
		user.forget()
		if err := boss.run(ctx, expect{name: "set_user_rank", args: []string{"-user", UserName(s.number), "-rank", fmt.Sprint(uint32(rank))}}); err != nil {
			return err
		}
		err := user.told(ctx, "MY_INFO", func(e client.Event) bool {
			info, ok := e.Value.(*wire.Account)
			return ok && info.Rank == rank
		})
		if err != nil {
			return err
		}
		if err := user.c.Settle(ctx); err != nil {
			return err
		}
		if _, err := user.c.Lookup("ls_users"); (err == nil) != offered {
			return fmt.Errorf("ls_users is offered at rank %d: %v, want %v", rank, err == nil, offered)
		}
		return nil
	}
	return errors.Join(rank(3, false), rank(2, true))
}

// rankCommand changes the rank of a command, of which every session learns.
func (s *soaker) rankCommand(ctx context.Context, boss, user *visit) error {
	args := []string{"-command", "imagined", "-mod", fmt.Sprintf("/soak/%d", s.number)}
	real := s.number == 0 // one client only: there is one rank of a command
	if real {
		args = []string{"-command", "request_new_user_name"}
	}
	if err := boss.run(ctx, expect{name: "add_ranked_cmd", args: append(args, "-rank", "2")}); err != nil {
		return err
	}
	err := user.c.Settle(ctx)
	if err == nil && real {
		_, err = user.c.Lookup("request_new_user_name")
	}
	return errors.Join(err, boss.run(ctx, expect{name: "rm_ranked_cmd", args: args}))
}

// shortLived makes an account, logs in as it, and removes it.
func (s *soaker) shortLived(ctx, _ context.Context) error {
	boss, err := visitHost(ctx, s.addr, s.work)
	if err != nil {
		return err
	}
	defer boss.c.Close()
	if err := boss.login(ctx, raw.Account{Name: bossName(s.number), Password: password}); err != nil {
		return err
	}
	name := tempName(s.number)
	if err := boss.addAccount(ctx, name); err != nil {
		return err
	}
	err = s.removed(ctx, boss, name)
	if err != nil { // it must not be in the way of the next one
		err = errors.Join(err, boss.run(ctx, expect{name: "rm_acct", args: []string{"-name", name, "-force"}}))
	}
	boss.leave(s.one(2))
	return err
}

func (s *soaker) removed(ctx context.Context, boss *visit, name string) error {
	user, err := visitHost(ctx, s.addr, s.work)
	if err != nil {
		return err
	}
	defer user.c.Close()
	if err := user.login(ctx, raw.Account{Name: name, Password: password}); err != nil {
		return err
	}
	call, err := user.asked(ctx, "set_pw")
	if err != nil {
		return err
	}
	user.forget()
	if err := boss.run(ctx, expect{name: "rm_acct", args: []string{"-name", name}, answers: []string{"y"}}); err != nil {
		return err
	}
	if err := ends(ctx, call, wire.Aborted); err != nil {
		return err
	}
	if err := user.told(ctx, "USER_DELETED", func(e client.Event) bool { return e.ID == wire.AsyncUserDeleted }); err != nil {
		return err
	}
	user.leave(s.one(2))
	return nil
}
