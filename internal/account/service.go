package account

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"mrci.dev/mrci/internal/names"
	"mrci.dev/mrci/wire"
)

// Defaults of the configuration (state 4), used where a Policy says nothing.
const (
	defaultAutoLockLimit = 20
	defaultInitialRank   = wire.Rank(2)
	defaultPage          = 50 // rows per listing page (state 10)
)

// FirstAdmin is the name of the account that EnsureFirstAdmin makes (state 6).
const FirstAdmin = "admin"

// adminDomain is where nobody has a mailbox: the address of a new
// administrator (state 6).
const adminDomain = "change_me.null"

// adminRank is the most powerful rank.
const adminRank wire.Rank = 1

// Policy holds the settings that may change while the host runs.
type Policy struct {
	AutoLockLimit int       // the failure that locks; below 1: 20
	InitialRank   wire.Rank // of new accounts; NoRank: 2
	PasswordRule  PasswordRule
}

// Attempt is what happened in one try to log in to an account, or to recover
// it; it is the material of a row of auth_log (state 1.9). A right recovery
// password is reported when the account has been recovered with it. A try for
// a name that nobody has is reported without a User, so that whoever keeps
// attempts does the same work for it.
type Attempt struct {
	Time     time.Time
	From     netip.Addr
	User     wire.UserID // zero: there is no such account
	Recovery bool        // with a recovery password; false: a login
	Accepted bool
	Counted  bool // a failure that counts; not while locked, or without a valid recovery password
	Locked   bool // this failure locked the account
	Voided   bool // this failure voided the recovery password
}

// Config is what a Service needs. Store and Hasher are required.
type Config struct {
	Store  Store
	Hasher *Hasher

	Policy    func() Policy                  // asked at each use; nil: defaults
	Now       func() time.Time               // nil: time.Now
	Log       *slog.Logger                   // nil: silent
	OnAttempt func(context.Context, Attempt) // called after each try was judged and stored; nil: nobody
}

// Service applies the rules for users to the accounts of a store. It is safe
// for concurrent use.
type Service struct {
	// fixed after New
	store     Store
	hasher    *Hasher
	policy    func() Policy
	clock     func() time.Time
	log       *slog.Logger
	onAttempt func(context.Context, Attempt)

	delays         delays // of logins
	recoveryDelays delays // of recoveries
}

// New returns a Service.
func New(cfg Config) *Service {
	s := &Service{
		store: cfg.Store, hasher: cfg.Hasher, policy: cfg.Policy, clock: cfg.Now,
		log: cfg.Log, onAttempt: cfg.OnAttempt,
	}
	if s.policy == nil {
		s.policy = func() Policy { return Policy{} }
	}
	if s.clock == nil {
		s.clock = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.onAttempt == nil {
		s.onAttempt = func(context.Context, Attempt) {}
	}
	return s
}

// now is the time in the form in which it is stored: UTC, to the second.
func (s *Service) now() time.Time { return s.clock().UTC().Truncate(time.Second) }

func (s *Service) rules() Policy {
	p := s.policy()
	if p.AutoLockLimit < 1 {
		p.AutoLockLimit = defaultAutoLockLimit
	}
	if p.InitialRank == wire.NoRank {
		p.InitialRank = defaultInitialRank
	}
	return p
}

// User returns the account with this id, or ErrNotFound.
func (s *Service) User(ctx context.Context, id wire.UserID) (User, error) {
	return s.user(ctx, Key{ID: id})
}

// UserByName returns the account with this name in any case, or ErrNotFound.
func (s *Service) UserByName(ctx context.Context, name string) (User, error) {
	return s.user(ctx, Key{Name: names.Fold(name)})
}

// UserByEmail returns the account with this address in any case, or ErrNotFound.
func (s *Service) UserByEmail(ctx context.Context, addr string) (User, error) {
	return s.user(ctx, Key{Email: names.Fold(addr)})
}

func (s *Service) user(ctx context.Context, key Key) (User, error) {
	if key == (Key{}) {
		return User{}, ErrNotFound
	}
	r, err := s.store.Account(ctx, key)
	if err != nil {
		return User{}, doing("read an account", err)
	}
	return r.User, nil
}

// List returns a page of the users that match, in the order in which their
// accounts were made, with the number of all that match (commands 1.7). A
// limit below 1 means 50. The zero Cursor is the first page.
func (s *Service) List(ctx context.Context, f Filter, after Cursor, limit int) (Page, error) {
	if limit < 1 {
		limit = defaultPage
	}
	page, err := s.store.Accounts(ctx, Query{Filter: f, After: after, Limit: limit, Now: s.now()})
	if err != nil {
		return Page{}, fmt.Errorf("list users: %w", err)
	}
	return page, nil
}

// CheckNew applies the checks of add_acct to everything but the password, in
// their order: the shape of name, address and display name, then whether name
// and address are free (commands 3). It returns nil, a *RuleError (among them
// ErrNameTaken and ErrEmailTaken), or an error of the store.
func (s *Service) CheckNew(ctx context.Context, n NewAccount) error {
	if _, err := n.clean(); err != nil {
		return err
	}
	for _, part := range []struct {
		key   Key
		taken error
	}{
		{Key{Name: names.Fold(n.Name)}, ErrNameTaken},
		{Key{Email: names.Fold(n.Email)}, ErrEmailTaken},
	} {
		switch _, err := s.store.Account(ctx, part.key); {
		case err == nil:
			return part.taken
		case !errors.Is(err, ErrNotFound):
			return doing("look for an account", err)
		}
	}
	return nil
}

// clean returns n with the display name trimmed, or the first rule that it
// breaks. What is missing comes before what is wrong.
func (n NewAccount) clean() (NewAccount, error) {
	if n.Name == "" {
		return n, CheckName("")
	}
	if n.Email == "" {
		return n, CheckEmail("")
	}
	if err := CheckName(n.Name); err != nil {
		return n, err
	}
	if err := CheckEmail(n.Email); err != nil {
		return n, err
	}
	display, err := CleanDisplay(n.Display)
	n.Display = display
	return n, err
}

// CheckPassword applies the rules for a new password (state 2.5) apart from
// "not the current one": nil, or a *RuleError.
func (s *Service) CheckPassword(n NewAccount, pw Secret) error {
	return checkPassword(s.rules().PasswordRule, n, pw)
}

// Create makes an account with rank InitialRank. All rules are checked again,
// and name and address are taken in the transaction that creates, so that of
// two who want one name the second gets ErrNameTaken.
func (s *Service) Create(ctx context.Context, n NewAccount, pw Secret) (User, error) {
	if err := s.CheckNew(ctx, n); err != nil {
		return User{}, err
	}
	n, err := n.clean()
	if err != nil {
		return User{}, err
	}
	if err := s.CheckPassword(n, pw); err != nil {
		return User{}, err
	}
	return s.create(ctx, User{Name: n.Name, Email: n.Email, Display: n.Display, Rank: s.rules().InitialRank}, pw, nil)
}

// CreateAdmin makes an account of rank 1 with a generated password, which must
// be changed at the first login, and a placeholder for its e-mail address
// (state 6).
func (s *Service) CreateAdmin(ctx context.Context, name string) (User, Secret, error) {
	return s.createAdmin(ctx, name, nil)
}

// CreateAdminWith is CreateAdmin with a password that somebody has chosen. It
// obeys state 2.5 and need not be changed.
func (s *Service) CreateAdminWith(ctx context.Context, name string, pw Secret) (User, error) {
	n, err := newAdmin(name)
	if err != nil {
		return User{}, err
	}
	if err := s.CheckPassword(n, pw); err != nil {
		return User{}, err
	}
	return s.create(ctx, User{Name: n.Name, Email: n.Email, Rank: adminRank}, pw, nil)
}

func (s *Service) createAdmin(ctx context.Context, name string, first Show) (User, Secret, error) {
	n, err := newAdmin(name)
	if err != nil {
		return User{}, nil, err
	}
	pw := generate(n)
	u, err := s.create(ctx, User{Name: n.Name, Email: n.Email, Rank: adminRank, NewPasswordReq: true}, pw, first)
	if err != nil {
		pw.Wipe()
		return User{}, nil, err
	}
	return u, pw, nil
}

// newAdmin gives an administrator the placeholder for an address.
func newAdmin(name string) (NewAccount, error) {
	if err := CheckName(name); err != nil {
		return NewAccount{}, err
	}
	email := name + "@" + adminDomain
	if CheckEmail(email) != nil {
		// A name may hold characters that an address may not. Two lower-case
		// digits for each of 24 bytes still fit.
		email = hex.EncodeToString([]byte(name)) + "@" + adminDomain
	}
	return NewAccount{Name: name, Email: email}, nil
}

// create stores an account. With first it must be the first one of all, and
// first is called before.
func (s *Service) create(ctx context.Context, u User, pw Secret, first Show) (User, error) {
	hash, err := s.hasher.hash(ctx, pw)
	if err != nil {
		return User{}, err
	}
	if first != nil {
		if err := first(u.Name, pw); err != nil {
			return User{}, err
		}
	}
	rand.Read(u.ID[:]) // never fails
	u.Registered = s.now()
	if err := s.store.Create(ctx, Record{User: u, Hash: hash}, first != nil); err != nil {
		return User{}, doing("store an account", err)
	}
	s.log.Info("account created", "user", u.ID, "rank", u.Rank)
	return u, nil
}

// Show tells a person the name and the one-time password of an account.
type Show func(name string, pw Secret) error

// EnsureFirstAdmin makes the administrator FirstAdmin if there is no account
// at all. It calls show before it stores the account: a program that is killed
// in between makes another one when it starts again, and no administrator is
// ever left whose password nobody has seen. An error of show forbids the
// account and is returned as it is. Of several that try at once, in any
// process, one makes the account; made tells which, and what the others have
// shown does not count.
func (s *Service) EnsureFirstAdmin(ctx context.Context, show Show) (made bool, err error) {
	// Saves the hash at every start but the first; Create decides.
	page, err := s.List(ctx, Filter{}, 0, 1)
	if err != nil || page.Total > 0 {
		return false, err
	}
	_, pw, err := s.createAdmin(ctx, FirstAdmin, show)
	pw.Wipe()
	if errors.Is(err, ErrNotFirst) {
		return false, nil
	}
	return err == nil, err
}

// errChanged ends a Change whose premise is gone; the caller tries again.
var errChanged = errors.New("the account changed meanwhile")

// retries bounds how often something is tried again because a password
// changed between hashing and storing.
const retries = 3

// SetPassword replaces the password of an account, clears the demand for a new
// one, and voids a recovery password. It returns a *RuleError if the password
// breaks state 2.5 or is the current one.
func (s *Service) SetPassword(ctx context.Context, id wire.UserID, pw Secret) error {
	for range retries {
		old, err := s.store.Account(ctx, Key{ID: id})
		if err != nil {
			return doing("read an account", err)
		}
		hash, err := s.newHash(ctx, old, pw)
		if err != nil {
			return err
		}
		_, err = s.store.Change(ctx, id, func(r *Record) error {
			if r.Hash != old.Hash {
				return errChanged
			}
			r.setHash(hash)
			return nil
		})
		if errors.Is(err, errChanged) {
			continue
		}
		if err != nil {
			return doing("store a password", err)
		}
		s.log.Info("password changed", "user", id)
		return nil
	}
	return fmt.Errorf("store a password: %w", errChanged)
}

// newHash applies state 2.5 to a new password for an account, "not the current
// one" included, and returns the hash to store.
func (s *Service) newHash(ctx context.Context, old Record, pw Secret) (string, error) {
	if err := s.CheckPassword(NewAccount{Name: old.Name, Email: old.Email, Display: old.Display}, pw); err != nil {
		return "", err
	}
	same, _, err := s.hasher.verify(ctx, old.Hash, pw)
	if err != nil && !errors.Is(err, errBadRecord) {
		return "", err
	}
	if same {
		return "", &RuleError{Field: "password", Text: "the password is the current one; use another one"}
	}
	return s.hasher.hash(ctx, pw)
}

// Confirm reports whether a password that was right a while ago still opens
// the account: ErrRefused when it has been replaced, or the account is locked
// or gone. It counts nothing and is for those who have logged in with the
// password already.
func (s *Service) Confirm(ctx context.Context, id wire.UserID, pw Secret) error {
	r, err := s.store.Account(ctx, Key{ID: id})
	switch {
	case errors.Is(err, ErrNotFound):
		return ErrRefused
	case err != nil:
		return doing("read an account", err)
	case r.Locked:
		return ErrRefused
	}
	match, _, err := s.hasher.verify(ctx, r.Hash, pw)
	if err == nil && !match {
		err = ErrRefused
	}
	return err
}

// setHash stores a password that the owner of the account has chosen.
func (r *Record) setHash(hash string) {
	r.Hash = hash
	r.NewPasswordReq = false
	r.Recovery = Recovery{}
}

// ResetPassword gives an account a generated password, which must be changed
// at the next login, ends a lock by failures (state 6, 3.2) and voids a
// recovery password. A lock made by lock_acct stays.
func (s *Service) ResetPassword(ctx context.Context, name string) (User, Secret, error) {
	u, err := s.Find(ctx, name)
	if err != nil {
		return User{}, nil, err
	}
	pw := generate(NewAccount{Name: u.Name, Email: u.Email, Display: u.Display})
	u, err = s.resetPassword(ctx, u.ID, pw, true)
	if err != nil {
		pw.Wipe()
		return User{}, nil, err
	}
	return u, pw, nil
}

// ResetPasswordTo is ResetPassword with a password that somebody has chosen.
// It obeys state 2.5, may be the current one, and need not be changed.
func (s *Service) ResetPasswordTo(ctx context.Context, name string, pw Secret) (User, error) {
	u, err := s.Find(ctx, name)
	if err != nil {
		return User{}, err
	}
	if err := s.CheckPassword(NewAccount{Name: u.Name, Email: u.Email, Display: u.Display}, pw); err != nil {
		return User{}, err
	}
	return s.resetPassword(ctx, u.ID, pw, false)
}

func (s *Service) resetPassword(ctx context.Context, id wire.UserID, pw Secret, demand bool) (User, error) {
	hash, err := s.hasher.hash(ctx, pw)
	if err != nil {
		return User{}, err
	}
	u, err := s.change(ctx, id, func(r *Record) error {
		r.setHash(hash)
		r.NewPasswordReq = demand
		r.Tally = Tally{}
		return nil
	})
	if err != nil {
		return User{}, err
	}
	s.log.Info("password reset", "user", u.ID)
	return u, nil
}

// Elevate gives an account rank 1 and ends a lock by failures (state 6, 3.2).
func (s *Service) Elevate(ctx context.Context, name string) (User, error) {
	u, err := s.Find(ctx, name)
	if err != nil {
		return User{}, err
	}
	return s.change(ctx, u.ID, func(r *Record) error {
		r.Rank = adminRank
		r.Tally = Tally{}
		return nil
	})
}

// Rename changes the user name and clears the demand for a new one. Another
// case of the own name is a change; the same name is a *RuleError.
func (s *Service) Rename(ctx context.Context, id wire.UserID, name string) (User, error) {
	if err := CheckName(name); err != nil {
		return User{}, err
	}
	return s.change(ctx, id, func(r *Record) error {
		if r.Name == name {
			return &RuleError{Field: "user_name", Text: "the user name is the current one; choose another one"}
		}
		r.Name = name
		r.NewNameReq = false
		return nil
	})
}

func (s *Service) change(ctx context.Context, id wire.UserID, change func(*Record) error) (User, error) {
	r, err := s.store.Change(ctx, id, change)
	if err != nil {
		return User{}, doing("change an account", err)
	}
	return r.User, nil
}

// doing says what was being done when err came up. A *RuleError is for a
// person to read and stays as it is.
func doing(what string, err error) error {
	var rule *RuleError
	if errors.As(err, &rule) {
		return rule
	}
	return fmt.Errorf("%s: %w", what, err)
}
