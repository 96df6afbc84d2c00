package hub

import (
	"context"
	"sync"
	"sync/atomic"

	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/wire"
)

// Seat is a session's place in the hub. Enter, SetChannels, Logout and Leave
// are called by the session's owner, one after the other; the rest may be called
// from any goroutine. None of its methods waits for a store, another session or
// a socket.
type Seat struct {
	// Fixed after Join.
	hub      *Hub
	occupant Occupant
	member   bus.Member

	// opening holds a token while nobody opens, closes or judges; nil: nobody
	// ever did, as in most sessions.
	opening atomic.Pointer[chan struct{}]

	user *seats // guarded by the hub's mu; nil: nobody's

	presence sync.Mutex // held while peers are told what the session has open
	silent   bool       // guarded by presence: peers have been told that it is gone
}

// Join gives a session a seat. door leads to its client.
func (h *Hub) Join(id wire.SessionID, occupant Occupant, door bus.Door) *Seat {
	s := &Seat{hub: h, occupant: occupant}
	s.member = h.cfg.Bus.Join(id, occupant, door)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seats[id] = s
	return s
}

// seats are those of a user's sessions.
type seats struct {
	user wire.UserID
	all  map[*Seat]struct{} // guarded by the hub's mu
}

func (s *Seat) id() wire.SessionID { return s.occupant.View().ID }

// open waits until nobody else opens or closes something in the session.
func (s *Seat) open(ctx context.Context) (done func(), err error) {
	lock := s.opening.Load()
	if lock == nil {
		made := make(chan struct{}, 1)
		made <- struct{}{}
		s.opening.CompareAndSwap(nil, &made)
		lock = s.opening.Load()
	}
	return take(ctx, *lock)
}

// SetUser tells as whom the session is logged in, or is about to be: what is
// published to the user reaches it from then on.
func (s *Seat) SetUser(user wire.UserID) { s.member.SetUser(user) }

// Enter makes the session take part in channels as the user. Its channels are
// read then, between Changes and SetChannels.
func (s *Seat) Enter(user wire.UserID) {
	s.sit(user)
	s.closed(s.member.Enter(user))
	s.presence.Lock()
	s.silent = false
	s.presence.Unlock()
}

// Changes and SetChannels are those of bus.Member.
func (s *Seat) Changes() uint64 { return s.member.Changes() }

// SetChannels makes channels the session's channel list, unless they have
// changed since.
func (s *Seat) SetChannels(since uint64, channels []wire.ChannelID) bool {
	return s.member.SetChannels(since, channels)
}

// Logout makes the session take part in nothing: what it has open closes, and
// peers are told (protocol 6 and 7).
func (s *Seat) Logout() {
	s.sit(wire.UserID{})
	s.closed(s.member.Enter(wire.UserID{}))
	s.member.CloseLinks(s.sessionFrame(wire.P2PClose))
}

// Leave is Logout for good: nothing is delivered any more once it has returned.
func (s *Seat) Leave() {
	h := s.hub
	s.Logout()
	h.mu.Lock()
	delete(h.seats, s.id())
	h.mu.Unlock()
	s.member.Leave()
}

// sit enters the seat among those of the user.
func (s *Seat) sit(user wire.UserID) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := s.user; old != nil {
		delete(old.all, s)
		if len(old.all) == 0 {
			delete(h.users, old.user)
		}
		s.user = nil
	}
	if user.IsZero() {
		return
	}
	of := h.users[user]
	if of == nil {
		of = &seats{user: user, all: make(map[*Seat]struct{})}
		h.users[user] = of
	}
	of.all[s] = struct{}{}
	s.user = of
}

// Cast sends frames, which are under ASYNC_CAST already and are not changed any
// more, to all who listen where the session may cast.
func (s *Seat) Cast(frames []byte) bus.Sent { return s.member.Cast(frames) }

// CastCopy is Cast for frames that the caller uses again.
func (s *Seat) CastCopy(frames []byte) bus.Sent { return s.member.CastCopy(frames) }

// Cast sends a frame of a session to all who listen where it may cast
// (commands 7, cast).
func (h *Hub) Cast(from wire.SessionID, t wire.TypeID, data []byte) error {
	s, err := h.seat(from)
	if err != nil {
		return err
	}
	s.occupant.Pace(s.Cast(wire.AppendFrame(nil, t, wire.CmdID(wire.AsyncCast), 0, data)))
	return nil
}
