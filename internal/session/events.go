package session

import (
	"context"
	"errors"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/instance"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// requestTimeout is how long a change of rights waits for the sessions that it
// binds. They act within microseconds; only a node that is gone takes longer.
const requestTimeout = 5 * time.Second

// Receive implements bus.Receiver.
func (s *Session) Receive(d bus.Delivery) {
	s.post(func() { s.event(d) })
}

// event acts on what another session has caused (protocol 5).
func (s *Session) event(d bus.Delivery) {
	if s.settling != nil {
		// Two sessions that have changed the same do not wait for each other.
		switch d.Async {
		case wire.AsyncCmdRanksChg:
			// Nothing is under way, and what begins looks at the registry.
			s.entitle()
			s.afterOverride(d.Answer)
			d.Answer = func() {}
		case wire.AsyncDispRenamed, wire.AsyncUserRenamed, wire.AsyncRWMyInfo:
			// It takes no right from anybody, and nothing begins before the
			// account has been read again.
			d.Answer()
			d.Answer = func() {}
		}
		s.held = append(s.held, d) // bounded as events are
		return
	}
	switch d.Async {
	case wire.AsyncDispRenamed, wire.AsyncUserRenamed, wire.AsyncRWMyInfo, wire.AsyncUserRankChg:
		if s.concerns(d.User) {
			// A login under way may have read it already.
			s.refresh(nil, d.Answer, s.job != nil)
			return
		}
	case wire.AsyncUserDeleted, wire.AsyncLogout:
		if s.concerns(d.User) {
			s.evict(d.Async, d.User, d.Text)
			s.offer()
		}
	case wire.AsyncCmdRanksChg: // unless a frame came first
		s.entitle()
		s.offer()
		s.afterOverride(d.Answer)
		return
	}
	d.Answer()
}

// concerns reports whether the session is logged in as the user, or about to
// be.
func (s *Session) concerns(id wire.UserID) bool {
	return s.user != nil && s.user.ID == id || s.incoming == id && !id.IsZero()
}

func (s *Session) rank() wire.Rank {
	if s.user == nil {
		return wire.NoRank
	}
	return s.user.Rank
}

// entitle makes the session's rights those of its rank as commands are assigned
// to ranks now.
func (s *Session) entitle() {
	s.rights = s.cfg.Registry.Offer(s.rank())
	s.mayOverride(s.rights.Lookup(s.cfg.Registry.Override()) != nil)
}

// evict ends the login and tells the client why; USER_DELETED carries the user
// id besides (commands 1.9). The client's list is not told yet.
func (s *Session) evict(async wire.AsyncID, id wire.UserID, text string) {
	if s.incoming == id {
		s.incoming = wire.UserID{} // the login under way finds that out
		if s.user == nil {
			s.seat.Logout()
		}
	}
	if s.user == nil || s.user.ID != id {
		return
	}
	s.frame(wire.Text, wire.CmdID(wire.AsyncSysMsg), 0, []byte(text+"\n"))
	if async == wire.AsyncUserDeleted {
		s.frame(wire.Bytes, wire.CmdID(wire.AsyncUserDeleted), 0, wire.Append(nil, &wire.UserRef{User: id}))
	}
	s.logout()
}

// Texts that a client gets when its login ends.
const (
	textRemoved = "Your account has been removed; you are logged out."
	textLocked  = "Your account has been locked; you are logged out."
	textUnread  = "Your account could not be read; you are logged out. Log in again in a moment."
)

// busy reports whether the account is being read: frames and output wait.
func (s *Session) busy() bool { return s.job != nil || s.reading }

// refresher waits for the account to have been read again: the call whose IDLE
// has to come before a new command list, if there is one, and who is to be
// told. quiet: nothing is known to have changed.
type refresher struct {
	call  *call
	done  func()
	quiet bool
}

// refresh reads the account again and tells the client what has changed. Frames
// wait meanwhile, so that nothing starts under an old right. done is called
// when the session has acted.
func (s *Session) refresh(c *call, done func(), quiet bool) {
	s.refreshers = append(s.refreshers, refresher{call: c, done: done, quiet: quiet})
	s.reread()
}

// reread reads the account beside the owner, unless it is being read: then it
// is read once more afterwards, because what is being read may be too old.
func (s *Session) reread() {
	if s.reading || s.job != nil || len(s.refreshers) == 0 {
		return
	}
	waiting := s.refreshers
	s.refreshers = nil
	if s.user == nil { // logged out meanwhile
		for _, r := range waiting {
			r.done()
		}
		return
	}
	s.reading = true
	id := s.user.ID
	s.group.Go(func() { // ends with the query
		user, err := s.cfg.Users.User(s.ctx, id)
		s.post(func() {
			s.reading = false
			s.refreshed(id, user, err, waiting)
			for _, r := range waiting {
				s.afterOverride(r.done)
			}
			s.reread()
			for _, c := range s.calls {
				s.passOn(c)
			}
		})
	})
}

// refreshed makes the session what the account says now.
func (s *Session) refreshed(id wire.UserID, user account.User, err error, waiting []refresher) {
	if s.user == nil || s.user.ID != id || s.ctx.Err() != nil {
		return
	}
	switch {
	case errors.Is(err, account.ErrNotFound):
		s.evict(wire.AsyncUserDeleted, id, textRemoved)
	case err != nil:
		s.Log().Error("account not read", "user", s.user.Name, "err", err)
		s.evict(wire.AsyncLogout, id, textUnread)
	case user.Locked: // while the session was about to be somebody else's
		s.evict(wire.AsyncLogout, id, textLocked)
	default:
		if !allQuiet(waiting) || *userOf(user) != *s.user {
			s.become(user)
		}
	}
	for _, r := range waiting {
		if r.call != nil && s.calls[r.call.key] == r.call {
			s.settle(r.call)
			return
		}
	}
	s.relist()
}

func allQuiet(waiting []refresher) bool {
	for _, r := range waiting {
		if !r.quiet {
			return false
		}
	}
	return true
}

// userOf is the part of an account that commands may know.
func userOf(user account.User) *module.User {
	return &module.User{
		ID: user.ID, Name: user.Name, Display: user.Display, Email: user.Email,
		Rank: user.Rank, Registered: user.Registered, EmailVerified: user.EmailVerified,
	}
}

// become takes over what the account says, and tells the client.
func (s *Session) become(user account.User) {
	before := s.user
	s.user = userOf(user)
	s.entitle()
	s.renewView()
	if before != nil && (before.Name != s.user.Name || before.Display != s.user.Display) {
		s.seat.Renamed()
	}
	s.frame(wire.MyInfo, wire.CmdID(wire.AsyncSysMsg), 0, wire.Append(nil, s.myInfo()))
}

// announce carries an async of a call to the sessions that it concerns, this
// one included, and answers the call when all have acted.
func (s *Session) announce(c *call, a *instance.Async, user wire.UserID) {
	s.ask(a)
	left := 2
	part := func() {
		left--
		if left == 0 {
			s.answer(a, nil)
		}
	}
	e := bus.Event{Async: a.ID, From: s.conn.ID(), User: user, Text: textRemoved}
	s.request(bus.ToUser(user), e, part)
	switch {
	case !s.concerns(user):
		part()
	case a.ID == wire.AsyncUserDeleted:
		s.evict(a.ID, user, textRemoved)
		s.settle(c)
		part()
	default:
		s.refresh(c, part, false)
	}
}

// request carries an event to other sessions beside the owner, which runs done
// when they have acted.
func (s *Session) request(to bus.Target, e bus.Event, done func()) {
	s.group.Go(func() { // ends with the answers, or with their time
		ctx, cancel := context.WithTimeout(s.ctx, requestTimeout)
		defer cancel()
		if err := s.cfg.Bus.Request(ctx, to, e); err != nil && s.ctx.Err() == nil {
			s.Log().Warn("session did not answer", "async", e.Async.String(), "err", err)
		}
		s.post(done)
	})
}

// orphaned carries an async whose call was given up before the session saw it:
// the change that it tells of has been made. It may be called from any
// goroutine.
func (s *Session) orphaned(a *instance.Async) {
	e := bus.Event{Async: a.ID, Text: textRemoved} // this session gets it as well
	user, about := subject(a)
	err := instance.ErrAbandoned
	switch {
	case about:
		e.User = user
		s.cfg.Bus.Publish(bus.ToUser(user), e)
		err = nil
	case a.ID == wire.AsyncCmdRanksChg:
		s.cfg.Bus.Publish(bus.Everybody(), e)
		err = nil
	}
	a.Done(err)
}

// relistEverybody tells all sessions that the ranks of commands have changed,
// and answers the call when all have acted. The registry has the new ranks
// already, and every session looks there before it starts a command; what it
// has begun on its owner by then, a cast, is over when it acts.
func (s *Session) relistEverybody(c *call, a *instance.Async) {
	s.entitle()
	s.settle(c)
	s.ask(a)
	e := bus.Event{Async: a.ID, From: s.conn.ID()}
	s.request(bus.Everybody(), e, func() { s.afterOverride(func() { s.answer(a, nil) }) })
}

// ask notes that an async will be answered.
func (s *Session) ask(a *instance.Async) {
	if s.asked == nil {
		s.asked = make(map[*instance.Async]struct{})
	}
	s.asked[a] = struct{}{}
}

// answer answers an async that a call waits for, unless the end of the session
// has done so.
func (s *Session) answer(a *instance.Async, err error) {
	if _, waits := s.asked[a]; waits {
		delete(s.asked, a)
		a.Done(err)
	}
}
