// Package accounttest has what tests of other packages need to have accounts
// without a database: a Store in memory and a Service with cheap hashing. Its
// Store passes the suite of package storetest. See state 3.
package accounttest

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/names"
	"mrci.dev/mrci/wire"
)

// Hasher returns a hasher that takes microseconds, with room for any number of
// callers.
func Hasher(tb testing.TB) *account.Hasher {
	tb.Helper()
	h, err := account.NewHasher(account.HasherConfig{Params: account.CheapHash(), Queue: 1 << 20})
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// Store keeps accounts in memory and counts transactions. The zero value is
// empty and ready; it is safe for concurrent use.
type Store struct {
	mu sync.Mutex

	// guarded by mu
	rows   []row // in order of creation
	seq    account.Cursor
	counts Counts
	ties   map[wire.UserID]account.Ties
	left   map[wire.UserID][]account.Departure
}

type row struct {
	seq    account.Cursor
	record account.Record
}

var _ account.Store = (*Store)(nil)

// Counts says how many transactions a Store has run.
type Counts struct {
	Reads    int // Account, Candidate, Ties and Accounts
	Changes  int // Create, Change, ChangeBy and RemoveBy
	Attempts int // Attempt and AttemptRecovery
	Written  int // Attempts that wrote, those for a key that nobody has included
}

// Counts returns the numbers so far.
func (s *Store) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

func (s *Store) findLocked(key account.Key) *account.Record {
	for i := range s.rows {
		r := &s.rows[i].record
		switch {
		case key.Name != "" && names.Fold(r.Name) == key.Name,
			key.Email != "" && names.Fold(r.Email) == key.Email,
			key.Name == "" && key.Email == "" && r.ID == key.ID:
			return r
		}
	}
	return nil
}

// Account reads one account.
func (s *Store) Account(ctx context.Context, key account.Key) (account.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return account.Record{}, context.Cause(ctx)
	}
	s.counts.Reads++
	if r := s.findLocked(key); r != nil {
		return *r, nil
	}
	return account.Record{}, account.ErrNotFound
}

// Candidate reads one account for an attempt. The first account stands in for
// all that are not there.
func (s *Store) Candidate(ctx context.Context, key account.Key) (account.Record, error) {
	r, err := s.Account(ctx, key)
	if !errors.Is(err, account.ErrNotFound) {
		return r, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.rows) > 0 {
		r = s.rows[0].record
		r.User = account.User{}
	}
	return r, nil
}

func (s *Store) checkFreeLocked(r account.Record, self wire.UserID) error {
	if other := s.findLocked(account.Key{Name: names.Fold(r.Name)}); other != nil && other.ID != self {
		return account.ErrNameTaken
	}
	if other := s.findLocked(account.Key{Email: names.Fold(r.Email)}); other != nil && other.ID != self {
		return account.ErrEmailTaken
	}
	return nil
}

// Create adds an account.
func (s *Store) Create(ctx context.Context, r account.Record, first bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.counts.Changes++
	if first && len(s.rows) > 0 {
		return account.ErrNotFirst
	}
	if err := s.checkFreeLocked(r, wire.UserID{}); err != nil {
		return err
	}
	r.LockedUntil = r.Tally.LockedUntil
	s.seq++
	s.rows = append(s.rows, row{s.seq, r})
	return nil
}

// Change alters an account.
func (s *Store) Change(ctx context.Context, id wire.UserID, change func(*account.Record) error) (account.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return account.Record{}, context.Cause(ctx)
	}
	s.counts.Changes++
	old := s.findLocked(account.Key{ID: id})
	if old == nil {
		return account.Record{}, account.ErrNotFound
	}
	return s.changeLocked(old, change)
}

func (s *Store) changeLocked(old *account.Record, change func(*account.Record) error) (account.Record, error) {
	r := *old
	if err := change(&r); err != nil {
		return account.Record{}, err
	}
	r.ID, r.Registered, r.LockedUntil = old.ID, old.Registered, r.Tally.LockedUntil
	if err := s.checkFreeLocked(r, r.ID); err != nil {
		return account.Record{}, err
	}
	*old = r
	return r, nil
}

// SetTies sets what forbids to remove an account, which tables of other
// packages hold in a database.
func (s *Store) SetTies(id wire.UserID, ties account.Ties) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ties == nil {
		s.ties = make(map[wire.UserID]account.Ties)
	}
	s.ties[id] = ties
}

// SetLeft sets the channels that an account is in, which tables of other
// packages hold in a database.
func (s *Store) SetLeft(id wire.UserID, left []account.Departure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == nil {
		s.left = make(map[wire.UserID][]account.Departure)
	}
	s.left[id] = left
}

// Ties returns what SetTies has set.
func (s *Store) Ties(ctx context.Context, id wire.UserID) (account.Ties, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return account.Ties{}, context.Cause(ctx)
	}
	s.counts.Reads++
	return s.ties[id], nil
}

// ChangeBy alters an account on behalf of caller.
func (s *Store) ChangeBy(ctx context.Context, caller wire.UserID, target account.Key, change func(account.User, *account.Record) error) (account.Outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	by, old, err := s.findBothLocked(ctx, caller, target)
	if err != nil {
		return account.Outcome{}, err
	}
	rank := old.Rank
	r, err := s.changeLocked(old, func(r *account.Record) error { return change(by, r) })
	if err != nil {
		return account.Outcome{}, err
	}
	return account.Outcome{Record: r, Vacated: r.Rank != rank && s.vacantLocked(rank)}, nil
}

// RemoveBy removes an account on behalf of caller.
func (s *Store) RemoveBy(ctx context.Context, caller wire.UserID, target account.Key, judge func(caller, target account.User, ties account.Ties) error) (account.Outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	by, old, err := s.findBothLocked(ctx, caller, target)
	if err != nil {
		return account.Outcome{}, err
	}
	r := *old
	if err := judge(by, r.User, s.ties[r.ID]); err != nil {
		return account.Outcome{}, err
	}
	s.rows = slices.DeleteFunc(s.rows, func(row row) bool { return row.record.ID == r.ID })
	out := account.Outcome{Record: r, Vacated: s.vacantLocked(r.Rank), Left: s.left[r.ID]}
	delete(s.ties, r.ID)
	delete(s.left, r.ID)
	return out, nil
}

// findBothLocked begins a transaction that changes an account on behalf of
// another.
func (s *Store) findBothLocked(ctx context.Context, caller wire.UserID, target account.Key) (account.User, *account.Record, error) {
	if ctx.Err() != nil {
		return account.User{}, nil, context.Cause(ctx)
	}
	s.counts.Changes++
	by := s.findLocked(account.Key{ID: caller})
	if by == nil {
		return account.User{}, nil, account.ErrCallerGone
	}
	old := s.findLocked(target)
	if old == nil {
		return account.User{}, nil, account.ErrNotFound
	}
	return by.User, old, nil
}

func (s *Store) vacantLocked(rank wire.Rank) bool {
	return !slices.ContainsFunc(s.rows, func(row row) bool { return row.record.Rank == rank })
}

// Attempt judges one login.
func (s *Store) Attempt(ctx context.Context, key account.Key, judge func(account.Record) (account.Tally, bool)) error {
	return s.attempt(ctx, key, func(r *account.Record) bool {
		tally, store := judge(*r)
		if store {
			r.Tally, r.LockedUntil = tally, tally.LockedUntil
		}
		return store
	})
}

// AttemptRecovery judges one try with a recovery password.
func (s *Store) AttemptRecovery(ctx context.Context, key account.Key, judge func(account.Record) (account.Recovery, bool)) error {
	return s.attempt(ctx, key, func(r *account.Record) bool {
		left, store := judge(*r)
		if store {
			r.Recovery = left
		}
		return store
	})
}

func (s *Store) attempt(ctx context.Context, key account.Key, judge func(*account.Record) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.counts.Attempts++
	r := s.findLocked(key)
	if r == nil {
		s.counts.Written++
		return account.ErrNotFound
	}
	if judge(r) {
		s.counts.Written++
	}
	return nil
}

// Accounts reads a page of accounts.
func (s *Store) Accounts(ctx context.Context, q account.Query) (account.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return account.Page{}, context.Cause(ctx)
	}
	s.counts.Reads++
	page := account.Page{Next: q.After}
	for _, row := range s.rows {
		u := row.record.User
		if !matches(q, u) {
			continue
		}
		page.Total++
		switch {
		case row.seq <= q.After:
		case len(page.Users) == q.Limit:
			page.More = true
		default:
			page.Users = append(page.Users, u)
			page.Next = row.seq
		}
	}
	return page, nil
}

func matches(q account.Query, u account.User) bool {
	f := q.Filter
	for _, c := range []struct{ text, value string }{
		{f.TimeStamp, u.Registered.Format("2006-01-02 15:04:05")},
		{f.UserName, u.Name},
		{f.HostRank, strconv.FormatUint(uint64(u.Rank), 10)},
		{f.EmailVerified, flag(u.EmailVerified)},
		{f.Locked, flag(u.Locked || u.LockedUntil.After(q.Now))},
	} {
		if !strings.Contains(lower(c.value), lower(c.text)) {
			return false
		}
	}
	return strings.HasPrefix(hex.EncodeToString(u.ID[:]), lower(f.UserID)) &&
		(f.OutrankedBy == wire.NoRank || f.OutrankedBy.Outranks(u.Rank))
}

// lower folds ASCII letters only (commands 1.7).
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
