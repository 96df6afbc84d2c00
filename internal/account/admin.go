package account

import (
	"context"
	"errors"
	"fmt"

	"mrci.dev/mrci/internal/names"
	"mrci.dev/mrci/wire"
)

// Allow decides whether caller may change target. It sees both as they are
// stored at the moment of the change, inside its transaction, so that a rank
// or a lock that changed since the command was called counts. caller and
// target are the same account when somebody changes their own; a command that
// has asked a question about an account can compare target.ID, because a name
// can belong to another account by the time of the answer. An error forbids
// the change and is returned as it is. Allow must be quick and must not use
// the Service.
type Allow func(caller, target User) error

// Find returns the account that somebody means by a user name. It returns a
// *RuleError for what no account can be called, or ErrNotFound.
func (s *Service) Find(ctx context.Context, name string) (User, error) {
	// By the loose rule, for accounts that were imported.
	if !names.LooksLikeUser(name) {
		return User{}, CheckName(name)
	}
	u, err := s.UserByName(ctx, name)
	return u, missing(name, err)
}

// missing explains that no account is called name: perhaps none can be.
func missing(name string, err error) error {
	if errors.Is(err, ErrNotFound) {
		if bad := CheckName(name); bad != nil {
			return bad
		}
	}
	return err
}

// SetRank gives the account called name a rank. Whether caller may give that
// rank is for allow to decide too. noAdmin tells that no account of rank 1 is
// left because of this change.
//
// Like all methods with an Allow it returns a *RuleError for an invalid value,
// ErrCallerGone if the caller's account has been removed, ErrNotFound if there
// is no account with the name, the error of allow, or an error of the store.
func (s *Service) SetRank(ctx context.Context, caller wire.UserID, name string, rank wire.Rank, allow Allow) (u User, noAdmin bool, err error) {
	if err := checkTarget(name); err != nil {
		return User{}, false, err
	}
	if rank == wire.NoRank {
		return User{}, false, &RuleError{Field: "host_rank", Text: "the rank is not a number from 1 to 4294967295; give one"}
	}
	var before wire.Rank
	out, err := s.administer(ctx, caller, name, allow, func(r *Record) error {
		before = r.Rank
		r.Rank = rank
		return nil
	})
	if err != nil {
		return User{}, false, err
	}
	s.log.Info("rank changed", "user", out.Record.ID, "by", caller, "rank", rank)
	return out.Record.User, s.lastAdmin(before, out), nil
}

// Lock sets or ends the lock that only this call ends. Ending it also ends a
// lock by failures and clears their count (commands 3, lock_acct).
func (s *Service) Lock(ctx context.Context, caller wire.UserID, name string, locked bool, allow Allow) (User, error) {
	return s.changeBy(ctx, caller, name, allow, "lock changed", func(r *Record) error {
		r.lock(locked)
		return nil
	})
}

// ForceEmail replaces the e-mail address of the account called name, as
// SetEmail does.
func (s *Service) ForceEmail(ctx context.Context, caller wire.UserID, name, email string, allow Allow) (User, error) {
	// What is missing comes before what is wrong (commands 3).
	if email == "" {
		return User{}, CheckEmail(email)
	}
	if err := checkTarget(name); err != nil {
		return User{}, err
	}
	if err := CheckEmail(email); err != nil {
		return User{}, err
	}
	// An address in use comes before an unknown user and a missing right; the
	// transaction decides again.
	switch holder, err := s.UserByEmail(ctx, email); {
	case err == nil && names.Fold(holder.Name) != names.Fold(name):
		return User{}, ErrEmailTaken
	case err != nil && !errors.Is(err, ErrNotFound):
		return User{}, err
	}
	return s.changeBy(ctx, caller, name, allow, "e-mail address changed", func(r *Record) error {
		return r.setEmail(email)
	})
}

// DemandPassword sets or ends the demand for a new password at the next login.
func (s *Service) DemandPassword(ctx context.Context, caller wire.UserID, name string, on bool, allow Allow) (User, error) {
	return s.changeBy(ctx, caller, name, allow, "demand for a new password changed", func(r *Record) error {
		r.NewPasswordReq = on
		return nil
	})
}

// DemandName sets or ends the demand for a new user name at the next login.
func (s *Service) DemandName(ctx context.Context, caller wire.UserID, name string, on bool, allow Allow) (User, error) {
	return s.changeBy(ctx, caller, name, allow, "demand for a new user name changed", func(r *Record) error {
		r.NewNameReq = on
		return nil
	})
}

// CheckRemove reports whether an account may be removed by whoever may remove
// it: nil, or ErrOwnsChannel. Remove decides again.
func (s *Service) CheckRemove(ctx context.Context, id wire.UserID) error {
	ties, err := s.store.Ties(ctx, id)
	if err != nil {
		return fmt.Errorf("read what an account holds: %w", err)
	}
	return ties.check()
}

func (t Ties) check() error {
	if t.OwnedChannels > 0 {
		return ErrOwnsChannel
	}
	return nil
}

// Removal is what the removal of an account has done.
type Removal struct {
	User    User        // as it was
	NoAdmin bool        // no account of rank 1 is left because of it
	Left    []Departure // the channels that it was in, and those that it was invited to
}

// Remove removes the account called name with everything that hangs on it. Its
// name and address are free again, its id is never used again. An account that
// owns a channel stays: ErrOwnsChannel.
func (s *Service) Remove(ctx context.Context, caller wire.UserID, name string, allow Allow) (Removal, error) {
	if err := checkTarget(name); err != nil {
		return Removal{}, err
	}
	var denied error
	out, err := s.store.RemoveBy(ctx, caller, Key{Name: names.Fold(name)}, func(c, target User, ties Ties) error {
		if err := ties.check(); err != nil {
			return err
		}
		denied = allow(c, target)
		return denied
	})
	if err != nil {
		return Removal{}, refusal(name, "remove an account", denied, err)
	}
	s.log.Info("account removed", "user", out.Record.ID, "by", caller)
	return Removal{User: out.Record.User, NoAdmin: s.lastAdmin(out.Record.Rank, out), Left: out.Left}, nil
}

// checkTarget reports whether an account could be called name.
func checkTarget(name string) error {
	if !names.LooksLikeUser(name) {
		return CheckName(name)
	}
	return nil
}

// changeBy is administer for a change whose result is the user.
func (s *Service) changeBy(ctx context.Context, caller wire.UserID, name string, allow Allow, done string, change func(*Record) error) (User, error) {
	if err := checkTarget(name); err != nil {
		return User{}, err
	}
	out, err := s.administer(ctx, caller, name, allow, change)
	if err != nil {
		return User{}, err
	}
	s.log.Info(done, "user", out.Record.ID, "by", caller)
	return out.Record.User, nil
}

// administer changes the account called name if allow agrees.
func (s *Service) administer(ctx context.Context, caller wire.UserID, name string, allow Allow, change func(*Record) error) (Outcome, error) {
	var denied error
	out, err := s.store.ChangeBy(ctx, caller, Key{Name: names.Fold(name)}, func(c User, target *Record) error {
		if denied = allow(c, target.User); denied != nil {
			return denied
		}
		return change(target)
	})
	if err != nil {
		return Outcome{}, refusal(name, "change an account", denied, err)
	}
	return out, nil
}

// refusal returns the error of a change that the store did not make.
func refusal(name, what string, denied, err error) error {
	if denied != nil {
		return denied
	}
	return missing(name, doing(what, err))
}

// lastAdmin reports whether a change to an account of this rank left none of
// rank 1. That is allowed (commands 3, set_user_rank).
func (s *Service) lastAdmin(before wire.Rank, out Outcome) bool {
	if before != adminRank || !out.Vacated {
		return false
	}
	s.log.Warn("no account of rank 1 is left; elevate or add-admin makes one", "user", out.Record.ID)
	return true
}
