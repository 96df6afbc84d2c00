package account

import (
	"context"

	"mrci.dev/mrci/wire"
)

// SetDisplay replaces the display name, without the white space around it. The
// empty name clears it. It returns a *RuleError or ErrNotFound.
func (s *Service) SetDisplay(ctx context.Context, id wire.UserID, display string) (User, error) {
	display, err := CleanDisplay(display)
	if err != nil {
		return User{}, err
	}
	return s.change(ctx, id, func(r *Record) error {
		r.Display = display
		return nil
	})
}

// SetEmail replaces the e-mail address; the new one is not verified, and a
// recovery password that went to the old one is void. It returns the account
// before and after, or a *RuleError, among them ErrEmailTaken and ErrNotFound.
func (s *Service) SetEmail(ctx context.Context, id wire.UserID, email string) (before, after User, err error) {
	if err := CheckEmail(email); err != nil {
		return User{}, User{}, err
	}
	after, err = s.change(ctx, id, func(r *Record) error {
		before = r.User
		return r.setEmail(email)
	})
	if err != nil {
		return User{}, User{}, err
	}
	s.log.Info("e-mail address changed", "user", id, "by", id)
	return before, after, nil
}

// MarkVerified notes that somebody has proved to read the mail of an account,
// if its address is still that one; if not, it returns ErrEmailChanged.
func (s *Service) MarkVerified(ctx context.Context, id wire.UserID, email string) (User, error) {
	return s.change(ctx, id, func(r *Record) error {
		if r.Email != email {
			return ErrEmailChanged
		}
		r.EmailVerified = true
		return nil
	})
}

func (r *Record) setEmail(email string) error {
	if r.Email == email {
		return &RuleError{Field: "email_address", Text: "the e-mail address is the current one; use another one"}
	}
	r.Email = email
	r.EmailVerified = false
	r.Recovery = Recovery{}
	return nil
}

func (r *Record) lock(locked bool) {
	r.Locked = locked
	if !locked {
		r.Tally = Tally{}
	}
}
