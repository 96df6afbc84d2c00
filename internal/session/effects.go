package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/hub"
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
	s.incoming = id
	entered := s.user == nil
	if entered {
		s.enter(id)
	}
	s.readLogin(c, a, id, entered)
}

// enter lets what happens to the account and to its channels reach the session
// from here on: what is read behind it cannot be too old without being read once
// more.
func (s *Session) enter(id wire.UserID) {
	s.seat.SetUser(id)
	s.seat.Enter(id)
}

// readLogin is the reading of loadUser. A session that is somebody else's stays
// that, and hears what it has to, until it is known that there is an account to
// be logged in as. Then it enters, and reads what counts.
func (s *Session) readLogin(c *call, a *instance.Async, id wire.UserID, entered bool) {
	since := s.seat.Changes()
	s.group.Go(func() { // ends with the query
		user, channels, err := s.cfg.Users.Login(s.ctx, id)
		s.post(func() {
			wanted := s.incoming == id
			switch {
			case s.calls[c.key] != c:
				// Stopped meanwhile: no login is left behind.
				err = instance.ErrAbandoned
			case err == nil && (!wanted || user.Locked), errors.Is(err, account.ErrNotFound):
				err = module.Invalid("The account was locked, recovered or removed a moment ago; you are not logged in.")
			case err == nil && !entered:
				s.logout()
				s.enter(id)
				s.readLogin(c, a, id, true)
				return
			case err == nil && !s.seat.SetChannels(since, channels):
				s.readLogin(c, a, id, true) // one of them has changed meanwhile
				return
			}
			s.job = nil
			s.incoming = wire.UserID{}
			if err != nil {
				s.notLoggedIn(c)
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

// notLoggedIn goes on as before a login that came to nothing.
func (s *Session) notLoggedIn(c *call) {
	if s.user != nil {
		return
	}
	s.seat.SetUser(wire.UserID{})
	s.seat.Logout()
	// It was somebody's up to the last moment: the client's list is no more.
	switch {
	case s.rights == s.offered:
	case s.calls[c.key] == c:
		s.settle(c)
	default:
		s.relist()
	}
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
	s.Log().Info("login", "user", user.Name)
	s.conn.SetFrameLimit(wire.MaxPayload)
	s.conn.SetWideReads(true)
	s.conn.SetHighWater(s.cfg.Limits().Output)
	s.budget.Store(int64(s.cfg.Limits().InputBytes))
	s.become(user)
}

// logout makes the session nobody's (state 9). Its peers are told, and the owner
// override ends.
func (s *Session) logout() {
	if s.user == nil {
		return
	}
	s.Log().Info("logout", "user", s.user.Name)
	s.user = nil
	s.seat.SetUser(wire.UserID{})
	s.renewView() // nobody sets the override of who has left, or asks for a link
	s.seat.Logout()
	s.conn.SetFrameLimit(s.cfg.Limits().AnonymousFrame)
	s.conn.SetWideReads(false)
	s.conn.SetHighWater(s.cfg.Limits().AnonymousOutput)
	s.budget.Store(int64(s.cfg.Limits().AnonymousInput))
	s.entitle()
	s.renewView()
}

// myInfo is what the client is told about its own login.
func (s *Session) myInfo() *wire.Account {
	return &wire.Account{
		Peer:  *hub.Info(s.View()),
		Email: s.user.Email, Rank: s.user.Rank, EmailVerified: s.user.EmailVerified,
	}
}

// renewView publishes what commands may know of the session.
func (s *Session) renewView() {
	h := s.conn.Header()
	s.viewing.Lock()
	defer s.viewing.Unlock()
	before := s.view.Load() // nil: none yet
	s.view.Store(&module.Session{
		ID: s.conn.ID(), Addr: s.conn.Remote().Addr(), App: h.AppName, ModInst: h.ModInst,
		Revision: 2, User: s.user, Override: s.user != nil && before != nil && before.Override, Commands: s.offered.Commands(),
	})
}

// PeerInfo implements bus.Receiver. Who is about to log out is nobody already.
func (s *Session) PeerInfo() []byte {
	view := s.View()
	if view.User == nil {
		return nil
	}
	return hub.InfoFrame(view)
}

// runInline runs a short command on the owner's goroutine.
func (s *Session) runInline(c *call, f wire.Frame, owned bool) {
	s.note(c, f)
	s.inline = c
	end := instance.Run(s.ctx, (*inlineRuntime)(s), c.listed, f, s)
	s.inline = nil
	if end.MustWait {
		s.startCall(c.key, c.listed, f, owned)
		return
	}
	s.cfg.Counters.Calls.Add(1)
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

// MayWait tells the command that it may not.
func (r *inlineRuntime) MayWait() bool { return false }

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
