package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"mrci.dev/mrci/client"
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

// wrongOnly gives up after passwords that are wrong.
func (s *soaker) wrongOnly(ctx, _ context.Context) error {
	v, err := visitHost(ctx, s.addr, s.work)
	if err != nil {
		return err
	}
	defer v.c.Close()
	name := UserName(s.number)
	if s.one(3) {
		name = "nobody-at-all"
	}
	if err := v.run(ctx, expect{name: "auth", args: []string{"-user", name}, answers: []string{"wrong", ""}, code: wire.Aborted, says: "wrong"}); err != nil {
		return err
	}
	v.leave(s.one(2))
	return nil
}

// enterAsBoss logs in, frame by frame.
func (s *soaker) enterAsBoss(ctx context.Context) (*raw.Client, error) {
	p, err := raw.Dial(ctx, s.addr)
	if err != nil {
		return nil, err
	}
	if err := p.Enlist(raw.Account{Name: bossName(s.number), Password: password}); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// drip is a connection that is read a little at a time, for some reads.
type drip struct {
	net.Conn
	left int
}

const (
	readBytes = 1 << 10
	readPause = 10 * time.Millisecond
)

func (d *drip) Read(b []byte) (int, error) {
	if d.left > 0 {
		d.left--
		b = b[:min(len(b), readBytes)]
		time.Sleep(readPause) // this is what a slow reader does
	}
	return d.Conn.Read(b)
}

// slow reads long listings slowly, and has all of them in the end.
func (s *soaker) slow(ctx, _ context.Context) error {
	p, err := s.enterAsBoss(ctx)
	if err != nil {
		return err
	}
	defer p.Close()
	users, err := p.ID("ls_users")
	if err != nil {
		return err
	}
	nc := p.Conn
	p.Conn = &drip{Conn: nc, left: 100}
	const listings = 30
	var request []byte
	for i := range listings {
		s.work.call()
		request = wire.AppendText(request, wire.Text, users, wire.BranchID(i), "-all")
	}
	if err := p.Call(request, users); err != nil {
		return err
	}
	for range listings - 1 {
		if err := p.UntilIdle(users); err != nil {
			return err
		}
	}
	p.Conn = nc
	s.part(p)
	return nil
}

// deafFor is how long somebody who reads nothing stays.
const deafFor = 3 * time.Second

// deaf asks and never reads, until the host reads no more either.
func (s *soaker) deaf(ctx, soak context.Context) error {
	p, err := s.enterAsBoss(ctx)
	if err != nil {
		return err
	}
	defer p.Close()
	users, err := p.ID("ls_users")
	if err != nil {
		return err
	}
	request := wire.AppendText(nil, wire.Text, users, raw.Branch, "-all")
	if err := p.Conn.SetWriteDeadline(time.Now().Add(deafFor)); err != nil {
		return err
	}
	for range 500 {
		s.work.call()
		if _, err := p.Conn.Write(request); err != nil {
			break // nobody reads it
		}
	}
	s.rest(soak)
	s.part(p)
	return nil
}

// garbage sends what is no header: the host closes and says nothing.
func (s *soaker) garbage(ctx, _ context.Context) error {
	nc, err := raw.DialTCP(ctx, s.addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	b := make([]byte, wire.ClientHeaderSize+s.random.IntN(200))
	for i := range b {
		b[i] = byte(s.random.Uint32())
	}
	b[0] = 'X'
	if _, err := nc.Write(b); err != nil {
		return nil // closed at the first bytes
	}
	if s.one(3) {
		raw.Reset(nc)
		return nil
	}
	if n, err := nc.Read(b); n > 0 || isTimeout(err) {
		return fmt.Errorf("the host answers garbage: %d bytes, %v", n, err)
	}
	return nil
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (s *soaker) halfHeader(ctx, soak context.Context) error {
	nc, err := raw.DialTCP(ctx, s.addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	b := wire.ClientHeader{AppName: "mrci bench soak"}.Append(nil)
	if _, err := nc.Write(b[:1+s.random.IntN(len(b)-1)]); err != nil {
		return err
	}
	s.rest(soak)
	if s.one(2) {
		raw.Reset(nc)
	}
	return nil
}

// headerOnly breaks off behind the headers, or within a TLS handshake.
func (s *soaker) headerOnly(ctx, soak context.Context) error {
	nc, err := raw.DialTCP(ctx, s.addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	if _, err := nc.Write(wire.ClientHeader{AppName: "mrci bench soak"}.Append(nil)); err != nil {
		return err
	}
	var b [wire.HostHeaderSize]byte
	if s.one(2) {
		if _, err := io.ReadFull(nc, b[:]); err != nil {
			return err
		}
		if s.one(2) { // no handshake, and no frame either
			if _, err := nc.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
				return err
			}
		}
	}
	s.rest(soak)
	if s.one(2) {
		raw.Reset(nc)
	}
	return nil
}

func (s *soaker) silent(ctx, soak context.Context) error {
	nc, err := raw.DialTCP(ctx, s.addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	if s.one(2) {
		s.rest(soak)
	}
	if s.one(2) {
		raw.Reset(nc)
	}
	return nil
}
