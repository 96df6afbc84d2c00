package hub

import (
	"context"
	"errors"
	"fmt"

	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// Open opens a sub-channel in a session: as closed first, then the rights are
// read, then it is enabled. It implements channels.Doors.
func (h *Hub) Open(ctx context.Context, session wire.SessionID, sub wire.SubRef) (room bool, err error) {
	s, err := h.seat(session)
	if err != nil {
		return true, err
	}
	done, err := s.open(ctx)
	if err != nil {
		return true, err
	}
	defer done()
	for {
		opening, err := s.member.Open(sub)
		switch {
		case errors.Is(err, bus.ErrOpen):
			return true, nil
		case errors.Is(err, bus.ErrSlots):
			return false, nil
		case errors.Is(err, bus.ErrNobody):
			return true, errNoSession
		case err != nil:
			return true, fmt.Errorf("open sub-channel: %w", err)
		}
		found, err := s.rights(ctx, sub)
		if err != nil {
			opening.Withdraw()
			return true, err
		}
		if opening.Enable(found.MayCast(), found.Sub.Active || h.cfg.Settings().AllActive) {
			break
		}
		// A right has changed meanwhile; the next reading says whether it still
		// may be opened.
	}
	s.opened()
	return true, nil
}

// Close closes a sub-channel in a session, if it is open there. It implements
// channels.Doors.
func (h *Hub) Close(ctx context.Context, session wire.SessionID, sub wire.SubRef) error {
	s, err := h.seat(session)
	if err != nil {
		return err
	}
	done, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	if lost, ok := s.member.Close(sub); ok {
		h.lost(lost)
	}
	return nil
}

// OpenSubs returns what a session has open, and where it may cast. It
// implements channels.Doors.
func (h *Hub) OpenSubs(session wire.SessionID) (open, writable wire.SubList) {
	s, err := h.seat(session)
	if err != nil {
		return open, writable
	}
	opened := s.member.Opened()
	return opened.List(), opened.Writable()
}

// judge reads the rights again in everything that the session has open and that
// which selects: it closes what may not be open any more, and sets where the
// session may cast. The caller has taken s.opening.
func (s *Seat) judge(ctx context.Context, which func(wire.SubRef) bool) error {
	var (
		lost   []bus.Loss
		failed []error
	)
	for _, held := range s.member.Holdings() {
		if !held.Open() || !which(held.Sub()) {
			continue
		}
		found, err := s.rights(ctx, held.Sub())
		if err == nil {
			held.SetWritable(found.MayCast())
			continue
		}
		if !refused(err) {
			failed = append(failed, err)
		}
		if l, ok := held.Close(); ok {
			lost = append(lost, l)
		}
	}
	// Peers hear once of all that has closed.
	if len(lost) > 0 && lost[0].Active {
		s.left(lost[0].Before)
	}
	return errors.Join(failed...)
}

// refused reports whether an error of rights is the answer, and no failure to
// find it.
func refused(err error) bool {
	if _, ok := errors.AsType[*channel.RuleError](err); ok {
		return true
	}
	_, ok := errors.AsType[*module.Failure](err)
	return ok || gone(err)
}

// rights reads what the session may do in a sub-channel, as it is stored and under
// the override that the session has at this moment; an error means that it may not
// have it open.
func (s *Seat) rights(ctx context.Context, sub wire.SubRef) (channel.Rights, error) {
	view := s.occupant.View()
	if view.User == nil {
		return channel.Rights{}, errNoSession
	}
	found, err := s.hub.cfg.Rights.Rights(ctx, channel.Caller{User: view.User.ID, Override: view.Override}, sub.Channel, sub.Sub)
	if err == nil && !found.MayOpen() {
		err = errLevel
	}
	return found, err
}

// errLevel says that a sub-channel is not for the session's level.
var errLevel = module.Invalid("Your level in the channel has changed meanwhile; the sub-channel is not open.")

// Set sets the owner override of a session and judges anew what it has open. It
// implements channels.Overrides.
func (h *Hub) Set(ctx context.Context, session wire.SessionID, on bool) error {
	s, err := h.seat(session)
	if err != nil {
		return err
	}
	view := s.occupant.View()
	if view.User == nil {
		return errNoSession
	}
	done, err := s.quiesce(ctx)
	if err != nil {
		return err
	}
	defer done()
	if !s.occupant.SetOverride(ctx, view.User.ID, on) {
		return errNoSession
	}
	ctx = context.WithoutCancel(ctx) // nothing stops what has to follow
	err = s.judge(ctx, everything)
	if err != nil && on {
		s.occupant.SetOverride(ctx, view.User.ID, false)
		err = errors.Join(err, s.judge(ctx, everything))
	}
	return err
}

// Judge judges anew what a session has open whose override has ended without
// Set.
func (h *Hub) Judge(ctx context.Context, session wire.SessionID) error {
	s, err := h.seat(session)
	if err != nil {
		return err
	}
	done, err := s.quiesce(ctx)
	if err != nil {
		return err
	}
	defer done()
	return s.judge(context.WithoutCancel(ctx), everything)
}

// quiesce waits until nobody changes a channel, or opens something in the
// session: changes that have begun under its old level are made by then, and who
// begins one later sees the new level.
func (s *Seat) quiesce(ctx context.Context) (done func(), err error) {
	turn, err := s.hub.Turn(ctx)
	if err != nil {
		return nil, err
	}
	opening, err := s.open(ctx)
	if err != nil {
		turn()
		return nil, err
	}
	return func() {
		opening()
		turn()
	}, nil
}

func everything(wire.SubRef) bool { return true }

// Held reports whether a session of the user has the owner override. It
// implements channels.Overrides.
func (h *Hub) Held(user wire.UserID) bool {
	for _, s := range h.seatsOf(user) {
		if s.occupant.View().Override {
			return true
		}
	}
	return false
}
