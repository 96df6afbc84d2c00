package account

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Limits of recovery passwords (state 3.2, 3.3).
const (
	recoveryTime  = time.Hour // how long one is valid
	recoveryTries = 5         // the wrong try that voids it
)

// Recovery is the recovery password of an account (state 1.2). The zero value
// says that there is none.
type Recovery struct {
	Hash  string
	Made  time.Time // UTC, to the second
	Wrong int       // wrong tries so far
}

// validAt reports whether the recovery password can be used at now. One that
// was made in the far future comes from a clock that was wrong.
func (r Recovery) validAt(now time.Time) bool {
	return r.Hash != "" && now.Sub(r.Made).Abs() < recoveryTime
}

// RequestRecovery gives an account a new recovery password, valid for one hour
// from now, in place of the one that it may have. The password is to be sent
// to the address of the user that is returned, and to no other. It returns
// ErrNotFound for an account that does not exist, without the work: whoever
// must not learn that has it done in the background.
func (s *Service) RequestRecovery(ctx context.Context, l Login) (User, Secret, error) {
	key, ok := l.key()
	if !ok {
		return User{}, nil, CheckLogin(l)
	}
	u, err := s.user(ctx, key)
	if err != nil {
		return User{}, nil, err
	}
	pw := generate(NewAccount{Name: u.Name, Email: u.Email, Display: u.Display})
	hash, err := s.hasher.hash(ctx, pw)
	if err == nil {
		u, err = s.change(ctx, u.ID, func(r *Record) error {
			r.Recovery = Recovery{Hash: hash, Made: s.now()}
			return nil
		})
	}
	if err != nil {
		pw.Wipe()
		return User{}, nil, err
	}
	s.log.Info("recovery password made", "user", u.ID)
	return u, pw, nil
}

// CheckRecovery checks the recovery password of an account for a client at
// from, and leaves it as it is if it is right. It returns the user,
// ErrRecoveryRefused whatever the reason, ErrBusy, a *RuleError for a Login
// that CheckLogin refuses, or an error of the store or of ctx.
//
// A refusal costs one reading transaction, one hash and one writing
// transaction whether the account is unknown or has no recovery password, or
// that has expired or is another one; it is held back like that of a login.
func (s *Service) CheckRecovery(ctx context.Context, l Login, recovery Secret, from netip.Addr) (User, error) {
	r, err := s.checkRecovery(ctx, l, recovery, from)
	return r.User, err
}

// Recover replaces the password of an account whose recovery password somebody
// knows, and clears the demand for a new one. The recovery password is checked
// and counted as by CheckRecovery and can be used once. It returns the errors
// of CheckRecovery, or a *RuleError if the new password breaks state 2.5 or is
// the current one; the recovery password stays valid then. A lock of either
// kind stays.
func (s *Service) Recover(ctx context.Context, l Login, recovery, pw Secret, from netip.Addr) (User, error) {
	for range retries {
		read, err := s.checkRecovery(ctx, l, recovery, from)
		if err != nil {
			return User{}, err
		}
		hash, err := s.newHash(ctx, read, pw)
		if err != nil {
			return User{}, err
		}
		now := s.now()
		r, err := s.store.Change(ctx, read.ID, func(r *Record) error {
			if r.Hash != read.Hash || r.Recovery.Hash != read.Recovery.Hash || !r.Recovery.validAt(now) {
				return errChanged
			}
			r.setHash(hash)
			return nil
		})
		switch {
		case errors.Is(err, errChanged), errors.Is(err, ErrNotFound):
			continue // the next check tells
		case err != nil:
			return User{}, fmt.Errorf("recover an account: %w", err)
		}
		if key, ok := l.key(); ok {
			s.recoveryDelays.forget(key)
		}
		s.log.Info("account recovered", "user", r.ID, "addr", from)
		s.onAttempt(ctx, Attempt{Time: now, From: from, User: r.ID, Recovery: true, Accepted: true})
		return r.User, nil
	}
	return User{}, fmt.Errorf("recover an account: %w", errChanged)
}

// checkRecovery returns the account as it was when its recovery password was
// judged to be right.
func (s *Service) checkRecovery(ctx context.Context, l Login, pw Secret, from netip.Addr) (Record, error) {
	key, ok := l.key()
	if !ok {
		return Record{}, CheckLogin(l)
	}
	for range retries {
		r, v, err := s.attemptRecovery(ctx, key, pw, from)
		switch {
		case err != nil:
			return Record{}, fmt.Errorf("recover an account: %w", err)
		case v == right:
			return r, nil
		case v != overtaken:
			if err := s.recoveryDelays.refused(ctx, key, s.now()); err != nil {
				return Record{}, fmt.Errorf("recover an account: %w", err)
			}
			return Record{}, ErrRecoveryRefused
		}
	}
	return Record{}, fmt.Errorf("recover an account: %w", errChanged)
}

// attemptRecovery hashes once and judges the result in one transaction, as
// attempt does.
func (s *Service) attemptRecovery(ctx context.Context, key Key, pw Secret, from netip.Addr) (Record, verdict, error) {
	read, err := s.store.Candidate(ctx, key)
	if err != nil {
		return Record{}, unknown, err
	}
	match, _, err := s.hasher.verify(ctx, read.Recovery.Hash, pw)
	switch {
	case errors.Is(err, errBadRecord):
		s.log.Error("stored recovery password cannot be read", "user", read.ID, "err", err)
	case err != nil:
		return Record{}, unknown, err
	}

	tried := Attempt{Time: s.now(), From: from, Recovery: true}
	v := unknown
	var judged Record
	err = s.store.AttemptRecovery(ctx, key, func(r Record) (Recovery, bool) {
		judged = r
		tried.User = r.ID
		left := r.Recovery
		switch {
		case left.Hash == "":
			// Perhaps voided a moment ago: whatever was typed is wrong.
			v = wrong
			return left, true
		case left.Hash != read.Recovery.Hash:
			v = overtaken
			return left, false
		case !left.validAt(tried.Time):
			v = wrong
			return Recovery{}, true
		case !match:
			v = wrong
			tried.Counted = true
			left.Wrong++
			if left.Wrong >= recoveryTries {
				tried.Voided = true
				left = Recovery{}
			}
			return left, true
		}
		v = right
		return left, false
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Record{}, unknown, err
	}
	if v == right || v == overtaken {
		return judged, v, nil
	}
	if tried.Voided {
		s.log.Warn("recovery password voided", "user", tried.User, "addr", from, "reason", "wrong tries")
	}
	s.onAttempt(ctx, tried)
	return Record{}, v, nil
}
