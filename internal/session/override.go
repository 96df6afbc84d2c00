package session

import (
	"context"

	"mrci.dev/mrci/wire"
)

// ending is the end of an override that the session has lost the right to.
type ending struct {
	left  int      // judgements under way
	after []func() // what waits for them, in its order
}

// SetOverride implements hub.Occupant.
//
// A call of an earlier login of the same user has been given up before that one
// began, unless its command is offered in both.
func (s *Session) SetOverride(ctx context.Context, user wire.UserID, on bool) bool {
	s.viewing.Lock()
	defer s.viewing.Unlock()
	view := s.View()
	if ctx.Err() != nil || view.User == nil || view.User.ID != user || on && !s.overridable {
		return false
	}
	s.showOverride(on)
	return true
}

// showOverride makes View show the override. The caller holds viewing.
func (s *Session) showOverride(on bool) {
	view := *s.View()
	view.Override = on
	s.view.Store(&view)
}

// mayOverride tells whether the session may run the command that sets the
// override. Without it there is none: the session has its user's own levels at
// once, and what it has open is judged by them beside the owner.
func (s *Session) mayOverride(may bool) {
	s.viewing.Lock()
	lost := s.View().Override && !may
	s.overridable = may
	if lost {
		s.showOverride(false)
	}
	s.viewing.Unlock()
	if !lost || s.user == nil { // logging out closes everything
		return
	}
	s.Log().Info("owner override", "on", false, "user", s.user.Name, "reason", "its command is not the session's any more")
	if s.ending == nil {
		s.ending = &ending{}
	}
	s.ending.left++
	s.group.Go(func() { // ends with the reading of rights
		err := s.cfg.Hub.Judge(s.ctx, s.conn.ID())
		s.post(func() {
			if err != nil && s.ctx.Err() == nil {
				s.Log().Error("channels not judged by the user's own levels", "err", err)
			}
			s.overrideEnded()
		})
	})
}

// overrideEnded runs what has waited for the judgements.
func (s *Session) overrideEnded() {
	if s.ending.left--; s.ending.left > 0 {
		return
	}
	after := s.ending.after
	s.ending = nil
	for _, f := range after {
		f()
	}
}

// afterOverride runs f when nothing is open any more that was the right of an
// override which has ended.
func (s *Session) afterOverride(f func()) {
	if s.ending == nil {
		f()
		return
	}
	s.ending.after = append(s.ending.after, f) // bounded as events are
}
