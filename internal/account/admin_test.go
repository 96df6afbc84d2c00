package account_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/account/accounttest"
	"mrci.dev/mrci/wire"
)

func allow(account.User, account.User) error { return nil }

// must is for a Service call that has to work.
func must(t *testing.T) func(account.User, error) account.User {
	return func(u account.User, err error) account.User {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
}

// withRank makes an account of this rank.
func (f *fixture) withRank(t *testing.T, name string, rank wire.Rank) account.User {
	t.Helper()
	return f.change(t, f.create(t, name).ID, func(r *account.Record) { r.Rank = rank })
}

// change alters an account behind the rules' back.
func (f *fixture) change(t *testing.T, id wire.UserID, change func(*account.Record)) account.User {
	t.Helper()
	r, err := f.store.Change(ctx, id, func(r *account.Record) error { change(r); return nil })
	return must(t)(r.User, err)
}

func (f *fixture) record(t *testing.T, id wire.UserID) account.Record {
	t.Helper()
	r, err := f.store.Account(ctx, account.Key{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestFind(t *testing.T) {
	f := newFixture(t)
	ann := f.create(t, "Jörg")
	old := f.change(t, f.create(t, "old").ID, func(r *account.Record) { r.Name = "Root" }) // from an import
	for _, name := range []string{"Jörg", "jÖRG", "JO\u0308RG"} {
		if got, err := f.Find(ctx, name); err != nil || got != ann {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	if got, err := f.Find(ctx, "root"); err != nil || got != old {
		t.Errorf("a name from an import: got %+v, %v", got, err)
	}
	if _, err := f.Find(ctx, "nobody"); err != account.ErrNotFound {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	f.change(t, old.ID, func(r *account.Record) { r.Name = "old" })
	for _, name := range []string{"", "a", "a b", "a@b.c", "Jörg@example.org", "root", strings.Repeat("x", 25), "a\u00a0b", "\xff\xff"} {
		_, err := f.Find(ctx, name)
		if errors.Is(err, account.ErrNotFound) {
			t.Errorf("%q is taken for a name", name)
		}
		wantRule(t, err, "user_name")
	}
}

// changes are all calls that change an account on behalf of another one.
var changes = []struct {
	name   string
	call   func(s *account.Service, caller wire.UserID, name string, allow account.Allow) (account.User, error)
	change func(*account.User) // what it does; nil: removes
}{
	{"rank", func(s *account.Service, caller wire.UserID, name string, allow account.Allow) (account.User, error) {
		u, _, err := s.SetRank(ctx, caller, name, 1<<32-1, allow)
		return u, err
	}, func(u *account.User) { u.Rank = 1<<32 - 1 }},
	{"lock", func(s *account.Service, caller wire.UserID, name string, allow account.Allow) (account.User, error) {
		return s.Lock(ctx, caller, name, true, allow)
	}, func(u *account.User) { u.Locked = true }},
	{"unlock", func(s *account.Service, caller wire.UserID, name string, allow account.Allow) (account.User, error) {
		return s.Lock(ctx, caller, name, false, allow)
	}, func(u *account.User) { u.Locked, u.LockedUntil = false, time.Time{} }},
	{"e-mail", func(s *account.Service, caller wire.UserID, name string, allow account.Allow) (account.User, error) {
		return s.ForceEmail(ctx, caller, name, "new@example.org", allow)
	}, func(u *account.User) { u.Email, u.EmailVerified = "new@example.org", false }},
	{"demand a password", func(s *account.Service, caller wire.UserID, name string, allow account.Allow) (account.User, error) {
		return s.DemandPassword(ctx, caller, name, true, allow)
	}, func(u *account.User) { u.NewPasswordReq = true }},
	{"demand no password", func(s *account.Service, caller wire.UserID, name string, allow account.Allow) (account.User, error) {
		return s.DemandPassword(ctx, caller, name, false, allow)
	}, func(u *account.User) { u.NewPasswordReq = false }},
	{"demand a name", func(s *account.Service, caller wire.UserID, name string, allow account.Allow) (account.User, error) {
		return s.DemandName(ctx, caller, name, true, allow)
	}, func(u *account.User) { u.NewNameReq = true }},
	{"demand no name", func(s *account.Service, caller wire.UserID, name string, allow account.Allow) (account.User, error) {
		return s.DemandName(ctx, caller, name, false, allow)
	}, func(u *account.User) { u.NewNameReq = false }},
	{"remove", func(s *account.Service, caller wire.UserID, name string, allow account.Allow) (account.User, error) {
		out, err := s.Remove(ctx, caller, name, allow)
		return out.User, err
	}, nil},
}

// Every change does what it says and nothing else, to others and to oneself.
func TestChanges(t *testing.T) {
	for _, tt := range changes {
		for _, own := range []bool{false, true} {
			for _, before := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, own %v, set before %v", tt.name, own, before), func(t *testing.T) {
					f := newFixture(t)
					boss := f.withRank(t, "boss", 1)
					f.create(t, "bob")
					ann := f.change(t, f.create(t, "Ann").ID, func(r *account.Record) {
						r.Rank, r.Display = 7, "A."
						r.Locked, r.NewPasswordReq, r.NewNameReq, r.EmailVerified = before, before, before, before
						if before {
							r.Tally = account.Tally{LockedUntil: f.now.UTC().Truncate(time.Second).Add(time.Minute), LockStreak: 2}
						}
					})
					caller := boss
					if own {
						caller = ann
					}
					calls := 0
					got, err := tt.call(f.Service, caller.ID, "ANN", func(c, u account.User) error {
						calls++
						if c != caller || u != ann {
							t.Errorf("allow got %+v and %+v", c, u)
						}
						return nil
					})
					if err != nil || calls != 1 {
						t.Fatalf("%v, allow was called %d times", err, calls)
					}
					want := ann
					if tt.change == nil {
						if _, err := f.User(ctx, ann.ID); err != account.ErrNotFound {
							t.Errorf("got %v, want ErrNotFound", err)
						}
					} else {
						tt.change(&want)
						if u := must(t)(f.User(ctx, ann.ID)); u != want {
							t.Errorf("stored: %s", cmp.Diff(want, u))
						}
					}
					if got != want {
						t.Error(cmp.Diff(want, got))
					}
					if u := must(t)(f.User(ctx, boss.ID)); u != boss {
						t.Errorf("the caller changed: %s", cmp.Diff(boss, u))
					}
				})
			}
		}
	}
}

func TestChangesThatAreRefused(t *testing.T) {
	denied := fmt.Errorf("not you: %w", account.ErrNotFound) // not to be taken for what it wraps
	for _, tt := range changes {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			boss := f.withRank(t, "boss", 1)
			ann := f.change(t, f.create(t, "ann").ID, func(r *account.Record) { r.Locked = true })
			for _, c := range []struct {
				name   string
				caller wire.UserID
				target string
				allow  account.Allow
				want   error
			}{
				{"denied", boss.ID, "ann", func(account.User, account.User) error { return denied }, denied},
				{"unknown", boss.ID, "nobody", nil, account.ErrNotFound},
				{"caller gone", wire.UserID{1}, "ann", nil, account.ErrCallerGone},
				{"caller gone, unknown", wire.UserID{1}, "nobody", nil, account.ErrCallerGone},
				{"nobody calls", wire.UserID{}, "ann", nil, account.ErrCallerGone},
			} {
				got, err := tt.call(f.Service, c.caller, c.target, c.allow)
				if err != c.want || got != (account.User{}) {
					t.Errorf("%s: got %+v, %v; want %v", c.name, got, err, c.want)
				}
			}
			for _, name := range []string{"", "a", "a b", "a@b.c", "root", strings.Repeat("x", 25)} {
				got, err := tt.call(f.Service, boss.ID, name, allow)
				if errors.Is(err, account.ErrNotFound) || got != (account.User{}) {
					t.Errorf("%q: got %+v, %v", name, got, err)
				}
				wantRule(t, err, "user_name")
			}
			if u := must(t)(f.User(ctx, ann.ID)); u != ann {
				t.Error(cmp.Diff(ann, u))
			}
			broken := errors.New("disk on fire")
			s := account.New(account.Config{Store: errStore{f.store, broken}, Hasher: f.hasher})
			_, err := tt.call(s, boss.ID, "ann", allow)
			var rule *account.RuleError
			if !errors.Is(err, broken) || errors.As(err, &rule) || !strings.Contains(err.Error(), ": ") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// What counts is what is stored at the moment of the change.
func TestRankChangesMeanwhile(t *testing.T) {
	outranks := func(caller, target account.User) error {
		if !caller.Rank.Outranks(target.Rank) {
			return errors.New("denied")
		}
		return nil
	}
	for _, tt := range changes {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			boss, ann := f.withRank(t, "boss", 2), f.withRank(t, "ann", 3)
			meanwhile := beforeChangeBy{f.store, func() {
				if _, _, err := f.SetRank(ctx, ann.ID, "boss", 3, allow); err != nil {
					t.Error(err)
				}
			}}
			s := account.New(account.Config{Store: meanwhile, Hasher: f.hasher})
			if _, err := tt.call(s, boss.ID, "ann", outranks); err == nil || err.Error() != "denied" {
				t.Errorf("the caller lost its rank: got %v", err)
			}
			if u := must(t)(f.User(ctx, ann.ID)); u != ann {
				t.Error(cmp.Diff(ann, u))
			}
			meanwhile.before = func() {
				if _, err := f.Remove(ctx, boss.ID, "boss", allow); err != nil {
					t.Error(err)
				}
			}
			s = account.New(account.Config{Store: meanwhile, Hasher: f.hasher})
			if _, err := tt.call(s, boss.ID, "ann", outranks); err != account.ErrCallerGone {
				t.Errorf("the caller was removed: got %v", err)
			}
		})
	}
}

// beforeChangeBy calls before in front of each ChangeBy and RemoveBy.
type beforeChangeBy struct {
	*accounttest.Store
	before func()
}

func (s beforeChangeBy) ChangeBy(ctx context.Context, caller wire.UserID, target account.Key, change func(account.User, *account.Record) error) (account.Outcome, error) {
	s.before()
	return s.Store.ChangeBy(ctx, caller, target, change)
}

func (s beforeChangeBy) RemoveBy(ctx context.Context, caller wire.UserID, target account.Key, judge func(caller, target account.User, ties account.Ties) error) (account.Outcome, error) {
	s.before()
	return s.Store.RemoveBy(ctx, caller, target, judge)
}

func TestSetRankChecksTheRank(t *testing.T) {
	f := newFixture(t)
	boss := f.withRank(t, "boss", 1)
	_, _, err := f.SetRank(ctx, boss.ID, "boss", wire.NoRank, nil)
	wantRule(t, err, "host_rank")
	_, _, err = f.SetRank(ctx, boss.ID, "a b", wire.NoRank, nil) // the name comes first
	wantRule(t, err, "user_name")
	for _, rank := range []wire.Rank{1, 2, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
		if u, _, err := f.SetRank(ctx, boss.ID, "boss", rank, allow); err != nil || u.Rank != rank {
			t.Errorf("%d: got %d, %v", rank, u.Rank, err)
		}
	}
}

// The last administrator may go, and everybody is told.
func TestLastAdmin(t *testing.T) {
	f := newFixture(t)
	var log bytes.Buffer
	s := account.New(account.Config{Store: f.store, Hasher: f.hasher, Log: slog.New(slog.NewTextHandler(&log, nil))})
	boss, ann, bob := f.withRank(t, "boss", 1), f.withRank(t, "ann", 1), f.withRank(t, "bob", 5)
	for i, step := range []struct {
		name string
		rank wire.Rank // NoRank: remove
		last bool
	}{
		{"ann", 1, false},
		{"ann", 2, false},
		{"bob", 4, false}, // rank 5 is vacant, which nobody needs to know
		{"boss", 1, false},
		{"boss", 3, true},
		{"boss", 4, false}, // there was none before
		{"ann", 1, false},
		{"bob", 1, false},
		{"bob", wire.NoRank, false},
		{"boss", wire.NoRank, false},
		{"ann", wire.NoRank, true},
	} {
		log.Reset()
		caller := map[string]account.User{"boss": boss, "ann": ann, "bob": bob}[step.name]
		var last bool
		var err error
		if step.rank == wire.NoRank {
			var out account.Removal
			out, err = s.Remove(ctx, caller.ID, step.name, allow)
			last = out.NoAdmin
		} else {
			_, last, err = s.SetRank(ctx, caller.ID, step.name, step.rank, allow)
		}
		if err != nil || last != step.last {
			t.Errorf("step %d, %s to %d: got %v, %v; want %v", i, step.name, step.rank, last, err, step.last)
		}
		if warned := strings.Contains(log.String(), "level=WARN") && strings.Contains(log.String(), "add-admin"); warned != step.last {
			t.Errorf("step %d: log %q", i, log.String())
		}
	}
}

func TestUnlockClearsTheCount(t *testing.T) {
	f := newFixture(t)
	f.setPolicy(account.Policy{AutoLockLimit: 3})
	boss := f.withRank(t, "boss", 1)
	f.create(t, "ann")
	f.try(t, "ann", account.Secret("x"), remote)
	f.try(t, "ann", account.Secret("x"), remote)
	must(t)(f.Lock(ctx, boss.ID, "ann", false, allow))
	f.try(t, "ann", account.Secret("x"), remote)
	f.try(t, "ann", account.Secret("x"), remote)
	if !f.try(t, "ann", goodPassword, remote) {
		t.Error("failures from before lock_acct -state 0 count")
	}
	for range 3 {
		f.try(t, "ann", account.Secret("x"), remote)
	}
	// Locking keeps the lock by failures.
	if u := must(t)(f.Lock(ctx, boss.ID, "ann", true, allow)); !u.Locked || u.LockedUntil.IsZero() {
		t.Errorf("got %+v", u)
	}
	if u := must(t)(f.Lock(ctx, boss.ID, "ann", false, allow)); u.LockedAt(f.now) || !f.try(t, "ann", goodPassword, remote) {
		t.Errorf("got %+v", u)
	}
}

func TestForceEmail(t *testing.T) {
	f := newFixture(t)
	boss := f.withRank(t, "boss", 1)
	ann := f.create(t, "ann")
	f.create(t, "bob")
	// Each line breaks one rule less than the one above it.
	denied := errors.New("denied")
	deny := func(account.User, account.User) error { return denied }
	for _, tt := range []struct {
		name, email string
		field       string
		is          error
	}{
		{"", "", "email_address", nil},
		{"", "x", "user_name", nil},
		{"a b", "x", "user_name", nil},
		{"nobody", "x", "email_address", nil},
		{"nobody", "BOB@example.org", "email_address", account.ErrEmailTaken},
		{"nobody", "free@example.org", "user_name", account.ErrNotFound},
		{"ann", "bob@example.org", "email_address", account.ErrEmailTaken},
		{"ann", "free@example.org", "", denied},
	} {
		_, err := f.ForceEmail(ctx, boss.ID, tt.name, tt.email, deny)
		if tt.field != "" {
			wantRule(t, err, tt.field)
		}
		if tt.is != nil && err != tt.is {
			t.Errorf("%s, %s: got %v, want %v", tt.name, tt.email, err, tt.is)
		}
	}
	_, err := f.ForceEmail(ctx, boss.ID, "ann", "ann@example.org", allow)
	wantRule(t, err, "email_address")
	if errors.Is(err, account.ErrEmailTaken) {
		t.Errorf("one's own address: got %v", err)
	}
	if u := must(t)(f.ForceEmail(ctx, boss.ID, "ann", "ANN@example.org", allow)); u.Email != "ANN@example.org" {
		t.Errorf("another case: %+v", u)
	}
	// Somebody is faster.
	s := account.New(account.Config{Hasher: f.hasher, Store: beforeChangeBy{f.store, func() {
		f.create(t, "carol")
	}}})
	if _, err := s.ForceEmail(ctx, boss.ID, "ann", "carol@example.org", allow); err != account.ErrEmailTaken {
		t.Errorf("got %v, want ErrEmailTaken", err)
	}
	if u := must(t)(f.User(ctx, ann.ID)); u.Email != "ANN@example.org" {
		t.Errorf("got %+v", u)
	}
}

func TestRemove(t *testing.T) {
	f := newFixture(t)
	boss := f.withRank(t, "boss", 1)
	ids := make(map[wire.UserID]bool)
	for range 50 {
		ann := f.create(t, "Ann")
		if ids[ann.ID] {
			t.Fatal("an id was used again")
		}
		ids[ann.ID] = true
		if _, _, err := f.RequestRecovery(ctx, account.Login{Name: "ann"}); err != nil {
			t.Fatal(err)
		}
		if out, err := f.Remove(ctx, boss.ID, "ANN", allow); err != nil || out.NoAdmin || out.User != ann || out.Left != nil {
			t.Fatalf("got %+v, %v", out, err)
		}
		f.ForgetRefusals("ann")
		if f.try(t, "ann", goodPassword, remote) {
			t.Fatal("a removed account can log in")
		}
		if _, err := f.Remove(ctx, boss.ID, "ann", allow); err != account.ErrNotFound {
			t.Errorf("twice: got %v, want ErrNotFound", err)
		}
	}
}

func TestRemoveOwnerOfAChannel(t *testing.T) {
	f := newFixture(t)
	ann := f.create(t, "ann")
	f.store.SetTies(ann.ID, account.Ties{OwnedChannels: 1})
	// Comes before the rights (commands 3).
	deny := func(account.User, account.User) error { t.Error("asked"); return errors.New("denied") }
	if _, err := f.Remove(ctx, ann.ID, "ann", deny); err != account.ErrOwnsChannel {
		t.Errorf("got %v, want ErrOwnsChannel", err)
	}
	if u := must(t)(f.User(ctx, ann.ID)); u != ann {
		t.Error("removed all the same")
	}
	if err := f.CheckRemove(ctx, ann.ID); err != account.ErrOwnsChannel {
		t.Errorf("got %v, want ErrOwnsChannel", err)
	}
	f.store.SetTies(ann.ID, account.Ties{})
	if err := f.CheckRemove(ctx, ann.ID); err != nil {
		t.Error(err)
	}
	left := []account.Departure{{Channel: 7, Name: "room", Level: wire.Regular, Members: []wire.UserID{{1}}}}
	f.store.SetLeft(ann.ID, left)
	out, err := f.Remove(ctx, ann.ID, "ann", allow)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(left, out.Left); diff != "" {
		t.Error(diff)
	}
}

// A login that began before its account was removed, or was made anew, fails.
func TestRemovedDuringLogin(t *testing.T) {
	f := newFixture(t)
	for _, again := range []bool{false, true} {
		f.create(t, "ann")
		store := hookStore{f.store, func() {
			r, err := f.store.Account(ctx, account.Key{Name: "ann"})
			if err != nil {
				return // the second try
			}
			if _, err := f.Remove(ctx, r.ID, "ann", allow); err != nil {
				t.Error(err)
			}
			if again {
				if _, err := f.Create(ctx, account.NewAccount{Name: "ann", Email: "x@example.org"}, account.Secret("N3xt&Better1")); err != nil {
					t.Error(err)
				}
			}
		}}
		s := account.New(account.Config{Store: store, Hasher: f.hasher})
		if u, err := s.Authenticate(ctx, account.Login{Name: "ann"}, goodPassword, remote); err == nil {
			t.Errorf("again %v: got %+v", again, u)
		}
		if again {
			break
		}
	}
}

// TestGivenPasswords: what the host program sets from standard input (state 6).
func TestGivenPasswords(t *testing.T) {
	f := newFixture(t)
	const given, again = "Given-horse7", "Another-horse8"
	var rule *account.RuleError
	for _, bad := range []struct{ name, password string }{{"x", given}, {"root", given}, {"boss", "weak"}, {"boss", "My-BOSS-77"}} {
		if _, err := f.CreateAdminWith(ctx, bad.name, account.Secret(bad.password)); !errors.As(err, &rule) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	u, err := f.CreateAdminWith(ctx, "boss", account.Secret(given))
	if err != nil || u.Rank != 1 || u.NewPasswordReq || u.Email != "boss@change_me.null" {
		t.Fatalf("%+v, %v", u, err)
	}
	if _, err := f.CreateAdminWith(ctx, "BOSS", account.Secret(given)); !errors.Is(err, account.ErrNameTaken) {
		t.Errorf("twice: %v", err)
	}
	if _, err := f.ResetPasswordTo(ctx, "nobody", account.Secret(given)); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	if _, err := f.ResetPasswordTo(ctx, "boss", account.Secret("weak")); !errors.As(err, &rule) {
		t.Errorf("weak: %v", err)
	}
	for _, pw := range []account.Secret{account.Secret(given), account.Secret(again)} { // the current one is allowed
		if u, err := f.ResetPasswordTo(ctx, "boss", pw); err != nil || u.NewPasswordReq {
			t.Errorf("%+v, %v", u, err)
		}
		if _, err := f.Authenticate(ctx, account.Login{Name: "boss"}, pw, remote); err != nil {
			t.Error(err)
		}
	}
	if err := f.Confirm(ctx, u.ID, account.Secret(again)); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"old password": f.Confirm(ctx, u.ID, account.Secret(given)), "nobody": f.Confirm(ctx, wire.UserID{9}, account.Secret(given)),
	} {
		if !errors.Is(err, account.ErrRefused) {
			t.Errorf("confirm with %s: %v", name, err)
		}
	}
	admin := f.create(t, "admin")
	if _, err := f.Lock(ctx, admin.ID, "boss", true, func(_, _ account.User) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := f.Confirm(ctx, u.ID, account.Secret(again)); !errors.Is(err, account.ErrRefused) {
		t.Errorf("confirm when locked: %v", err)
	}
}
