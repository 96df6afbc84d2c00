package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/instance"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// errNotServed answers an async that this session does not act on.
var errNotServed = errors.New("the session does not act on this async")

// effect does the session's part of an async that a call has sent
// (protocol 5), and answers the call.
func (s *Session) effect(c *call, a *instance.Async) {
	user, about := subject(a)
	login, _ := a.Payload.(*wire.UserRef)
	switch {
	case a.ID == wire.AsyncLogout && a.Payload == nil:
		s.logout()
		s.settle(c)
		a.Done(nil)
	case a.ID == wire.AsyncCmdRanksChg && a.Payload == nil:
		s.relistEverybody(c, a)
	case a.ID == wire.AsyncUserLogin && login != nil:
		s.loadUser(c, a, login.User)
	case about:
		s.announce(c, a, user)
	default:
		a.Done(fmt.Errorf("%v: %w", a.ID, errNotServed))
	}
}

// subject returns whose account an async says has changed, for those that go
// to all sessions of that user. ok is false for all others, and for an async
// that names nobody.
func subject(a *instance.Async) (user wire.UserID, ok bool) {
	switch p := a.Payload.(type) {
	case *wire.UserRef:
		user, ok = p.User, a.ID == wire.AsyncUserDeleted || a.ID == wire.AsyncRWMyInfo
	case *wire.DispRenamed:
		user, ok = p.User, a.ID == wire.AsyncDispRenamed
	case *wire.UserRenamed:
		user, ok = p.User, a.ID == wire.AsyncUserRenamed
	case *wire.RankChanged:
		user, ok = p.User, a.ID == wire.AsyncUserRankChg
	}
	return user, ok && !user.IsZero()
}

// loadUser reads the account beside the owner; the session waits with frames
// and output until it is there.
func (s *Session) loadUser(c *call, a *instance.Async, id wire.UserID) {
	s.job = a
	// What happens to the account from here on reaches the session, which then
	// reads it once more.
	s.incoming = id
	s.member.SetUser(id)
	s.group.Go(func() { // ends with the query
		user, err := s.cfg.Users.User(s.ctx, id)
		s.post(func() {
			s.job = nil
			wanted := s.incoming == id
			s.incoming = wire.UserID{}
			switch {
			case s.calls[c.key] != c:
				// Stopped meanwhile: no login is left behind.
				err = instance.ErrAbandoned
			case err == nil && (!wanted || user.Locked), errors.Is(err, account.ErrNotFound):
				err = module.Invalid("The account was locked, recovered or removed a moment ago; you are not logged in.")
			}
			if err != nil {
				s.keepUser()
				a.Done(err)
			} else {
				s.login(user)
				s.settle(c)
				a.Done(nil)
			}
			s.reread()
			if s.calls[c.key] == c {
				s.passOn(c)
			}
		})
	})
}

// keepUser goes on as before a login that came to nothing. What happened to the
// old account meanwhile has not reached the session, so it is read again.
func (s *Session) keepUser() {
	if s.user == nil {
		s.member.SetUser(wire.UserID{})
		return
	}
	s.member.SetUser(s.user.ID)
	s.refreshers = append(s.refreshers, refresher{done: func() {}, quiet: true})
}

// settle lets frames and events wait until the call has ended, which it is
// about to do: it has changed the session's rights, and the client is told its
// new list behind the call's IDLE.
func (s *Session) settle(c *call) {
	c.relist = true
	s.settling = c
	if c.settled != nil {
		c.settled.Stop()
	}
	c.settled = time.AfterFunc(s.cfg.Limits().SettleTimeout, func() {
		s.post(func() {
			if s.settling == c {
				s.settled()
			}
		})
	})
}

// settled lets what has waited go on.
func (s *Session) settled() {
	s.settling = nil
	held := s.held
	s.held = nil
	if s.ctx.Err() != nil { // who waits for them learns it from the bus
		return
	}
	for _, d := range held {
		s.event(d)
	}
}

// login makes the session the user's (state 9).
func (s *Session) login(user account.User) {
	s.log.Info("login", "user", user.Name)
	s.conn.SetFrameLimit(wire.MaxPayload)
	s.conn.SetHighWater(s.cfg.Limits().Output)
	s.budget.Store(int64(s.cfg.Limits().InputBytes))
	s.become(user)
}

// logout makes the session nobody's (state 9).
func (s *Session) logout() {
	if s.user == nil {
		return
	}
	s.log.Info("logout", "user", s.user.Name)
	s.user = nil
	s.member.SetUser(wire.UserID{})
	s.conn.SetFrameLimit(s.cfg.Limits().AnonymousFrame)
	s.conn.SetHighWater(s.cfg.Limits().AnonymousOutput)
	s.budget.Store(int64(s.cfg.Limits().AnonymousInput))
	s.rights = s.cfg.Registry.Offer(wire.NoRank)
	s.renewView()
}

// myInfo is what the client is told about its own login.
func (s *Session) myInfo() *wire.Account {
	return &wire.Account{
		Peer: wire.Peer{
			Session: s.conn.ID(), User: s.user.ID, Name: s.user.Name,
			App: s.conn.Header().AppName, Display: s.user.Display,
		},
		Email: s.user.Email, Rank: s.user.Rank, EmailVerified: s.user.EmailVerified,
	}
}

// renewView publishes what commands may know of the session.
func (s *Session) renewView() {
	h := s.conn.Header()
	s.view.Store(&module.Session{
		ID: s.conn.ID(), Addr: s.conn.Remote().Addr(), App: h.AppName, ModInst: h.ModInst,
		Revision: 2, User: s.user, Commands: s.offered.Commands(),
	})
}

// runInline runs a short command on the owner's goroutine.
func (s *Session) runInline(c *call, f wire.Frame) {
	s.cfg.Counters.Calls.Add(1)
	s.note(c, f)
	s.inline = c
	end := instance.Run(s.ctx, (*inlineRuntime)(s), c.listed, f, s.log)
	s.inline = nil
	s.cfg.Counters.ended(end.Code)
	s.idle(c.key.cmd, c.key.branch, end.Code, end.Data)
	s.audit(c, end.Code)
	if c.relist {
		s.offer()
	}
}

// inlineRuntime runs a command on the session's owner: nothing waits.
type inlineRuntime Session

var errInline = errors.New("an inline command cannot wait")

// Session implements module.Runtime.
func (r *inlineRuntime) Session() *module.Session { return r.view.Load() }

// Send implements module.Runtime.
func (r *inlineRuntime) Send(_ context.Context, t wire.TypeID, payload []byte) error {
	if len(payload) >= largePayload {
		// It may be the call's own input, which does not outlive the batch.
		payload = append([]byte(nil), payload...)
	}
	(*Session)(r).frame(t, r.inline.key.cmd, r.inline.key.branch, payload)
	return nil
}

// Receive implements module.Runtime.
func (r *inlineRuntime) Receive(context.Context) (wire.TypeID, []byte, error) {
	return 0, nil, errInline
}

// Checkpoint implements module.Runtime.
func (r *inlineRuntime) Checkpoint(ctx context.Context) error { return ctx.Err() }

// Async implements module.Runtime.
func (r *inlineRuntime) Async(_ context.Context, id wire.AsyncID, p wire.Payload) error {
	if id != wire.AsyncLogout || p != nil {
		return errInline
	}
	(*Session)(r).logout()
	r.inline.relist = true
	return nil
}
