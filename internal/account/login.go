package account

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"mrci.dev/mrci/internal/names"
)

// CheckLogin reports whether l names an account in a form that some account
// could have: nil, or a *RuleError. It says nothing about whether there is
// one.
func CheckLogin(l Login) error {
	if _, ok := l.key(); !ok {
		return &RuleError{Field: "user_name", Text: "no user is named; give a user name or an e-mail address"}
	}
	return nil
}

// key returns the account that l means.
func (l Login) key() (Key, bool) {
	switch {
	case names.LooksLikeEmail(l.Email):
		return Key{Email: names.Fold(l.Email)}, true
	case names.LooksLikeUser(l.Name):
		return Key{Name: names.Fold(l.Name)}, true
	}
	return Key{}, false
}

// verdict is how one attempt was judged.
type verdict int

const (
	unknown verdict = iota // no account has the name or address
	locked                 // a lock binds this client
	wrong                  // the password is not the account's
	right
	overtaken // the password changed between reading and judging
)

// Authenticate checks the password of an account for a client at from. It
// returns the user, ErrRefused whatever the reason, ErrBusy, a *RuleError for a
// Login that CheckLogin refuses, or an error of the store or of ctx.
//
// A refusal costs one reading transaction, one hash and one writing
// transaction whether the user is unknown, the password wrong or the account
// locked, and is held back the longer, the more of them there were for that
// name (commands 2, auth).
func (s *Service) Authenticate(ctx context.Context, l Login, pw Secret, from netip.Addr) (User, error) {
	key, ok := l.key()
	if !ok {
		return User{}, CheckLogin(l)
	}
	for range retries {
		user, v, err := s.attempt(ctx, key, pw, from)
		switch {
		case err != nil:
			return User{}, fmt.Errorf("log in: %w", err)
		case v == right:
			s.delays.forget(key)
			return user, nil
		case v != overtaken:
			if err := s.delays.refused(ctx, key, s.now()); err != nil {
				return User{}, fmt.Errorf("log in: %w", err)
			}
			return User{}, ErrRefused
		}
	}
	return User{}, fmt.Errorf("log in: %w", errChanged)
}

// attempt hashes once and judges the result in one transaction, so that of
// attempts side by side each sees the failures of those before it.
func (s *Service) attempt(ctx context.Context, key Key, pw Secret, from netip.Addr) (User, verdict, error) {
	// A name that nobody has is checked against the hash of its stand-in. What
	// comes out does not matter: judge is not asked.
	read, err := s.store.Candidate(ctx, key)
	if err != nil {
		return User{}, unknown, err
	}
	match, stale, err := s.hasher.verify(ctx, read.Hash, pw)
	switch {
	case errors.Is(err, errBadRecord):
		s.log.Error("stored password cannot be read", "user", read.ID, "err", err)
	case err != nil:
		return User{}, unknown, err
	}

	policy := s.rules()
	local := from.Unmap().IsLoopback()
	tried := Attempt{Time: s.now(), From: from}
	v := unknown
	var user User
	err = s.store.Attempt(ctx, key, func(r Record) (Tally, bool) {
		tried.User = r.ID
		user = r.User
		switch {
		case r.ID != read.ID || r.Hash != read.Hash:
			v = overtaken
			return r.Tally, false
		case r.Locked || r.Tally.binds(tried.Time, local):
			// Not counted: whoever goes on trying must not prolong the lock.
			v = locked
			return r.Tally, true
		case !match:
			v = wrong
			tally, isLock := r.Tally.failed(tried.Time, local, policy.AutoLockLimit)
			tried.Counted, tried.Locked = true, isLock
			return tally, true
		}
		v = right
		tried.Accepted = true
		user.LockedUntil = time.Time{}
		return Tally{}, !r.Tally.isZero()
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return User{}, unknown, err
	}
	switch v {
	case overtaken:
		return User{}, v, nil
	case right:
		if stale {
			s.renew(ctx, read, pw)
		}
	}
	if tried.Locked {
		s.log.Warn("account locked", "user", user.ID, "addr", from, "reason", "failed logins")
	}
	s.onAttempt(ctx, tried)
	return user, v, nil
}

// renew replaces a hash that was made with other parameters. The login has
// succeeded, so a failure here only means that the next one tries again.
func (s *Service) renew(ctx context.Context, old Record, pw Secret) {
	hash, err := s.hasher.hash(ctx, pw)
	if err == nil {
		_, err = s.store.Change(ctx, old.ID, func(r *Record) error {
			if r.Hash != old.Hash {
				return errChanged
			}
			r.Hash = hash
			return nil
		})
	}
	if err != nil && !errors.Is(err, errChanged) {
		s.log.Warn("stored password not renewed", "user", old.ID, "err", err)
	}
}
