package account_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/account/accounttest"
	"mrci.dev/mrci/wire"
)

var nextPassword = account.Secret("N3xt&Better1")

// numbered returns one of many good passwords.
func numbered(n int) account.Secret {
	return strconv.AppendInt(bytes.Clone(nextPassword), int64(n), 10)
}

// request makes a recovery password.
func (f *fixture) request(t *testing.T, name string) account.Secret {
	t.Helper()
	_, pw, err := f.RequestRecovery(ctx, account.Login{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return pw
}

// check tries a recovery password, without delays, and reports whether it is
// right.
func (f *fixture) check(t *testing.T, name string, pw account.Secret) bool {
	t.Helper()
	f.ForgetRefusals(name)
	_, err := f.CheckRecovery(ctx, account.Login{Name: name}, pw, remote)
	if err != nil && err != account.ErrRecoveryRefused {
		t.Fatal(err)
	}
	return err == nil
}

func TestRecover(t *testing.T) {
	f := newFixture(t)
	ann := f.change(t, f.create(t, "ann").ID, func(r *account.Record) { r.NewPasswordReq, r.NewNameReq = true, true })
	for i, l := range []account.Login{
		{Name: "ANN"}, {Email: "Ann@Example.org"}, {Name: "nobody", Email: "ann@example.org"}, {Name: "ann", Email: "no address"},
	} {
		u, recovery, err := f.RequestRecovery(ctx, l)
		if err != nil || u.ID != ann.ID || u.Email != ann.Email {
			t.Fatalf("%+v: got %+v, %v", l, u, err)
		}
		if err := f.CheckPassword(account.NewAccount{Name: ann.Name, Email: ann.Email}, recovery); err != nil || len(recovery) != 20 {
			t.Errorf("a password of %d characters, %v", len(recovery), err)
		}
		if stored := f.record(t, ann.ID).Recovery.Hash; !strings.HasPrefix(stored, "$argon2id-sha512$") || strings.Contains(stored, string(recovery)) {
			t.Error("the recovery password is not stored as a hash")
		}
		// It is no password for logging in, and the old one stays valid.
		if f.try(t, "ann", recovery, remote) {
			t.Error("logged in with the recovery password")
		}
		old := account.Secret(goodPassword)
		if i > 0 {
			old = numbered(i - 1)
		}
		if !f.try(t, "ann", old, remote) {
			t.Error("the old password is not valid meanwhile")
		}
		for range 2 {
			if u, err := f.CheckRecovery(ctx, l, recovery, remote); err != nil || u.ID != ann.ID {
				t.Errorf("%+v: got %+v, %v", l, u, err)
			}
		}
		pw := numbered(i)
		want := ann
		want.NewPasswordReq = false // and the demand for a name stays
		if u, err := f.Recover(ctx, l, recovery, pw, remote); err != nil || u != want {
			t.Errorf("%+v: %v %s", l, err, cmp.Diff(want, u))
		}
		if f.try(t, "ann", old, remote) || !f.try(t, "ann", pw, remote) {
			t.Error("the password did not change")
		}
		// It counts once.
		if f.check(t, "ann", recovery) {
			t.Error("the recovery password is still valid")
		}
		f.ForgetRefusals("ann")
		if _, err := f.Recover(ctx, l, recovery, goodPassword, remote); err != account.ErrRecoveryRefused {
			t.Errorf("again: got %v, want ErrRecoveryRefused", err)
		}
	}
}

func TestRecoverAppliesThePasswordRules(t *testing.T) {
	f := newFixture(t)
	ann := f.change(t, f.create(t, "ann").ID, func(r *account.Record) { r.Display = "Wonder" })
	recovery := f.request(t, "ann")
	l := account.Login{Name: "ann"}
	for _, pw := range []account.Secret{nil, account.Secret("short"), goodPassword, account.Secret("xX3$ANN@example.org"), account.Secret("wONDER&Wall99"), account.Secret(strings.Repeat("aA1-", 51))} {
		_, err := f.Recover(ctx, l, recovery, pw, remote)
		wantRule(t, err, "password")
	}
	if r := f.record(t, ann.ID); r.Recovery.Wrong != 0 || !f.try(t, "ann", goodPassword, remote) {
		t.Error("a refused password has changed the account")
	}
	// The recovery password comes first: who does not know it learns nothing.
	if _, err := f.Recover(ctx, l, account.Secret("wrong"), goodPassword, remote); err != account.ErrRecoveryRefused {
		t.Errorf("got %v, want ErrRecoveryRefused", err)
	}
	if u, err := f.Recover(ctx, l, recovery, nextPassword, remote); err != nil || u != ann {
		t.Errorf("got %v %s", err, cmp.Diff(ann, u))
	}
	// A password that cannot be read can be replaced this way too.
	f.change(t, ann.ID, func(r *account.Record) { r.Hash = "?" })
	if _, err := f.Recover(ctx, l, f.request(t, "ann"), nextPassword, remote); err != nil {
		t.Error(err)
	}
}

func TestRecoverKeepsLocks(t *testing.T) {
	f := newFixture(t)
	f.setPolicy(account.Policy{AutoLockLimit: 1})
	boss, ann := f.withRank(t, "boss", 1), f.create(t, "ann")
	f.try(t, "ann", account.Secret("x"), remote)
	must(t)(f.Lock(ctx, boss.ID, "ann", true, allow))
	before := f.record(t, ann.ID)
	u := must(t)(f.Recover(ctx, account.Login{Name: "ann"}, f.request(t, "ann"), nextPassword, remote))
	if !u.Locked || u.LockedUntil != before.LockedUntil || u.LockedUntil.IsZero() {
		t.Errorf("got %+v", u)
	}
	if diff := cmp.Diff(before.Tally, f.record(t, ann.ID).Tally); diff != "" {
		t.Error(diff)
	}
	for _, from := range []netip.Addr{remote, loopback} {
		if f.try(t, "ann", nextPassword, from) {
			t.Errorf("%v: logged in although locked", from)
		}
	}
}

func TestRequestRecoveryFails(t *testing.T) {
	f := newFixture(t)
	hashes := f.hasher.Stats().Hashes
	for _, l := range []account.Login{{Name: "nobody"}, {Name: "root"}, {Email: "nobody@example.org"}} {
		if u, pw, err := f.RequestRecovery(ctx, l); err != account.ErrNotFound || pw != nil || !u.ID.IsZero() {
			t.Errorf("%+v: got %v, want ErrNotFound", l, err)
		}
	}
	if f.hasher.Stats().Hashes != hashes {
		t.Error("an account that does not exist cost a hash")
	}
	for _, l := range []account.Login{{}, {Name: "a b"}, {Email: "ann"}} {
		_, _, err := f.RequestRecovery(ctx, l)
		wantRule(t, err, "user_name")
		_, err = f.CheckRecovery(ctx, l, account.Secret("x"), remote)
		wantRule(t, err, "user_name")
		_, err = f.Recover(ctx, l, account.Secret("x"), nextPassword, remote)
		wantRule(t, err, "user_name")
	}
}

// The address to write to is the one that is stored together with the
// recovery password.
func TestEmailChangesDuringRequest(t *testing.T) {
	f := newFixture(t)
	ann := f.change(t, f.create(t, "ann").ID, func(r *account.Record) { r.EmailVerified = true })
	store := beforeChange{f.store, new(sync.Once), func() {
		if _, _, err := f.SetEmail(ctx, ann.ID, "new@example.org"); err != nil {
			t.Error(err)
		}
	}}
	s := account.New(account.Config{Store: store, Hasher: f.hasher})
	u, _, err := s.RequestRecovery(ctx, account.Login{Email: "ann@example.org"})
	if err != nil || u.Email != "new@example.org" || u.EmailVerified {
		t.Errorf("got %+v, %v", u, err)
	}
	store.once, store.before = new(sync.Once), func() {
		if _, err := f.Remove(ctx, ann.ID, "ann", allow); err != nil {
			t.Error(err)
		}
	}
	s = account.New(account.Config{Store: store, Hasher: f.hasher})
	if _, pw, err := s.RequestRecovery(ctx, account.Login{Name: "ann"}); err != account.ErrNotFound || pw != nil {
		t.Errorf("removed meanwhile: got %v, want ErrNotFound", err)
	}
}

// beforeChange calls before in front of the first Change.
type beforeChange struct {
	*accounttest.Store
	once   *sync.Once
	before func()
}

func (s beforeChange) Change(ctx context.Context, id wire.UserID, change func(*account.Record) error) (account.Record, error) {
	s.once.Do(s.before)
	return s.Store.Change(ctx, id, change)
}

func TestRecoveryExpires(t *testing.T) {
	for _, tt := range []struct {
		after time.Duration
		ok    bool
	}{
		{0, true}, {time.Hour - time.Second, true}, {time.Hour, false}, {25 * time.Hour, false},
		{-time.Minute, true},                // the clock was put right
		{-10 * 365 * 24 * time.Hour, false}, // the clock was wrong
	} {
		t.Run(tt.after.String(), func(t *testing.T) {
			f := newFixture(t)
			ann := f.create(t, "ann")
			recovery := f.request(t, "ann")
			f.advance(tt.after)
			if ok := f.check(t, "ann", recovery); ok != tt.ok {
				t.Errorf("got %v, want %v", ok, tt.ok)
			}
			if gone := f.record(t, ann.ID).Recovery == (account.Recovery{}); gone == tt.ok {
				t.Errorf("deleted %v, want %v", gone, !tt.ok)
			}
		})
	}
	t.Run("between the prompts", func(t *testing.T) {
		f := newFixture(t)
		f.create(t, "ann")
		recovery := f.request(t, "ann")
		f.advance(time.Hour - time.Second)
		if !f.check(t, "ann", recovery) {
			t.Fatal("refused")
		}
		f.advance(time.Second)
		if _, err := f.Recover(ctx, account.Login{Name: "ann"}, recovery, nextPassword, remote); err != account.ErrRecoveryRefused {
			t.Errorf("got %v, want ErrRecoveryRefused", err)
		}
		if !f.try(t, "ann", goodPassword, remote) {
			t.Error("the password changed")
		}
	})
	t.Run("within the last hash", func(t *testing.T) {
		f := newFixture(t)
		f.create(t, "ann")
		recovery := f.request(t, "ann")
		store := beforeChange{f.store, new(sync.Once), func() { f.advance(time.Hour) }}
		s := account.New(account.Config{Store: store, Hasher: f.hasher, Now: func() time.Time { return f.now }})
		// It was valid when it was typed and judged.
		if _, err := s.Recover(ctx, account.Login{Name: "ann"}, recovery, nextPassword, remote); err != nil {
			t.Error(err)
		}
	})
	t.Run("a request renews", func(t *testing.T) {
		f := newFixture(t)
		f.create(t, "ann")
		first := f.request(t, "ann")
		f.advance(50 * time.Minute)
		second := f.request(t, "ann")
		if bytes.Equal(first, second) || f.check(t, "ann", first) {
			t.Error("the first one is still valid")
		}
		f.advance(50 * time.Minute)
		if !f.check(t, "ann", second) {
			t.Error("the time of the first one counts")
		}
	})
}

func TestRecoveryIsVoidedAtTheFifthTry(t *testing.T) {
	f := newFixture(t)
	f.setPolicy(account.Policy{AutoLockLimit: 1}) // another counter
	ann := f.create(t, "ann")
	recovery := f.request(t, "ann")
	for i := range 4 {
		if f.check(t, "ann", account.Secret("x")) {
			t.Fatal("accepted")
		}
		if !f.check(t, "ann", recovery) { // a right one does not clear the count
			t.Fatalf("refused after %d wrong tries", i+1)
		}
	}
	if u := must(t)(f.User(ctx, ann.ID)); u.LockedAt(f.now) || !f.try(t, "ann", goodPassword, remote) {
		t.Error("wrong recovery passwords lock the account")
	}
	// Both ways of trying count.
	f.ForgetRefusals("ann")
	if _, err := f.Recover(ctx, account.Login{Name: "ann"}, account.Secret("x"), nextPassword, remote); err != account.ErrRecoveryRefused {
		t.Errorf("got %v, want ErrRecoveryRefused", err)
	}
	if f.check(t, "ann", recovery) {
		t.Error("accepted after the fifth wrong try")
	}
	if r := f.record(t, ann.ID); r.Recovery != (account.Recovery{}) || r.LockedAt(f.now) {
		t.Errorf("got %+v", r.Recovery)
	}
	// A new one begins anew.
	recovery = f.request(t, "ann")
	for range 4 {
		f.check(t, "ann", account.Secret("x"))
	}
	if !f.check(t, "ann", recovery) {
		t.Error("tries of the old one count")
	}
	f.request(t, "ann")
	if r := f.record(t, ann.ID); r.Recovery.Wrong != 0 {
		t.Errorf("%d tries count for a new one", r.Recovery.Wrong)
	}
}

func TestPasswordChangeVoidsRecovery(t *testing.T) {
	for name, change := range map[string]func(f *fixture, u account.User) error{
		"set_pw": func(f *fixture, u account.User) error { return f.SetPassword(ctx, u.ID, nextPassword) },
		"reset":  func(f *fixture, u account.User) error { _, _, err := f.ResetPassword(ctx, u.Name); return err },
		"set_email": func(f *fixture, u account.User) error {
			_, _, err := f.SetEmail(ctx, u.ID, "new@example.org")
			return err
		},
		"force_set_email": func(f *fixture, u account.User) error {
			_, err := f.ForceEmail(ctx, u.ID, u.Name, "new@example.org", allow)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			ann := f.create(t, "ann")
			recovery := f.request(t, "ann")
			if err := change(f, ann); err != nil {
				t.Fatal(err)
			}
			if f.check(t, "ann", recovery) || f.record(t, ann.ID).Recovery != (account.Recovery{}) {
				t.Error("still valid")
			}
		})
	}
	// What has nothing to do with it leaves it.
	f := newFixture(t)
	ann := f.create(t, "ann")
	recovery := f.request(t, "ann")
	f.try(t, "ann", goodPassword, remote)
	must(t)(f.Lock(ctx, ann.ID, "ann", false, allow))
	must(t)(f.MarkVerified(ctx, ann.ID, ann.Email))
	must(t)(f.Rename(ctx, ann.ID, "anna"))
	must(t)(f.Elevate(ctx, "anna"))
	if !f.check(t, "anna", recovery) {
		t.Error("voided")
	}
}

// Whatever the reason of a refusal is, it costs the same work.
func TestRecoveryRefusalsCostTheSame(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"without", "wrong", "expired", "late", "broken", "voided", "blocked"} {
		f.create(t, name)
	}
	expired := f.request(t, "expired")
	late := f.request(t, "late")
	f.advance(2 * time.Hour)
	f.request(t, "wrong")
	last := f.request(t, "voided")
	f.request(t, "blocked")
	boss := f.withRank(t, "boss", 1)
	must(t)(f.Lock(ctx, boss.ID, "blocked", true, allow))
	f.request(t, "broken")
	broken := must(t)(f.Find(ctx, "broken"))
	f.change(t, broken.ID, func(r *account.Record) { r.Recovery.Hash = "?" })
	for range 4 {
		f.check(t, "voided", account.Secret("x"))
	}
	for _, tt := range []struct {
		name  string
		login account.Login
		pw    account.Secret
	}{
		{"unknown", account.Login{Name: "nobody"}, goodPassword},
		{"unknown address", account.Login{Email: "x@y.z"}, goodPassword},
		{"reserved name", account.Login{Name: "root"}, goodPassword},
		{"no recovery password", account.Login{Name: "without"}, goodPassword},
		{"no recovery password, nothing typed", account.Login{Name: "without"}, nil},
		{"wrong", account.Login{Name: "wrong"}, account.Secret("x")},
		{"wrong, by address", account.Login{Email: "wrong@example.org"}, account.Secret("x")},
		{"wrong and empty", account.Login{Name: "wrong"}, nil},
		{"wrong, of a locked account", account.Login{Name: "blocked"}, account.Secret("x")},
		{"expired, right", account.Login{Name: "expired"}, expired},
		{"expired and gone", account.Login{Name: "expired"}, expired},
		{"expired, wrong", account.Login{Name: "late"}, account.Secret("x")},
		{"expired and gone, right", account.Login{Name: "late"}, late},
		{"wrong, and voids", account.Login{Name: "voided"}, account.Secret("x")},
		{"voided, right", account.Login{Name: "voided"}, last},
		{"hash that cannot be read", account.Login{Name: "broken"}, goodPassword},
	} {
		for verb, call := range map[string]func() error{
			"CheckRecovery": func() error { _, err := f.CheckRecovery(ctx, tt.login, tt.pw, remote); return err },
			"Recover":       func() error { _, err := f.Recover(ctx, tt.login, tt.pw, nextPassword, remote); return err },
		} {
			t.Run(tt.name+", "+verb, func(t *testing.T) {
				counts, hashes := f.store.Counts(), f.hasher.Stats().Hashes
				if err := call(); err != account.ErrRecoveryRefused {
					t.Fatalf("got %v, want ErrRecoveryRefused", err)
				}
				now := f.store.Counts()
				got := []int{
					int(f.hasher.Stats().Hashes - hashes), now.Reads - counts.Reads,
					now.Attempts - counts.Attempts, now.Written - counts.Written, now.Changes - counts.Changes,
				}
				if diff := cmp.Diff([]int{1, 1, 1, 1, 0}, got); diff != "" {
					t.Errorf("hashes, reads, attempts, written, changes: %s", diff)
				}
			})
		}
	}
}

func TestRecoveryRefusalsAreHeldBack(t *testing.T) {
	for _, name := range []string{"ann", "nobody", "without"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.create(t, "ann")
				f.create(t, "without")
				f.request(t, "ann")
				l := account.Login{Name: name}
				var got []time.Duration
				for range 9 {
					start := time.Now()
					if _, err := f.CheckRecovery(ctx, l, account.Secret("x"), remote); err != account.ErrRecoveryRefused {
						t.Fatal(err)
					}
					got = append(got, time.Since(start))
				}
				const ms = time.Millisecond
				want := []time.Duration{0, 0, 0, 0, 0, 100 * ms, 200 * ms, 400 * ms, 500 * ms}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
				// Logins are not slower.
				start := time.Now()
				f.try(t, name, account.Secret("x"), remote)
				if d := time.Since(start); d != 0 {
					t.Errorf("a login waits %v", d)
				}
				gone := errors.New("client has gone")
				short, cancel := context.WithTimeoutCause(ctx, 50*ms, gone)
				defer cancel()
				if _, err := f.CheckRecovery(short, l, account.Secret("x"), remote); !errors.Is(err, gone) {
					t.Errorf("got %v, want the cause", err)
				}
				if name != "ann" {
					return
				}
				// A recovery that works forgets them.
				if _, err := f.Recover(ctx, l, f.request(t, "ann"), nextPassword, remote); err != nil {
					t.Fatal(err)
				}
				start = time.Now()
				if _, err := f.CheckRecovery(ctx, l, account.Secret("x"), remote); err != account.ErrRecoveryRefused || time.Since(start) != 0 {
					t.Errorf("waits %v, %v", time.Since(start), err)
				}
			})
		})
	}
}

// Guesses side by side have no more tries than one after another.
func TestParallelRecoveryGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.create(t, "ann")
		for range 3 {
			f.attempts = nil
			recovery := f.request(t, "ann")
			var all sync.WaitGroup
			for worker := range 10 {
				all.Go(func() {
					for i := range 10 {
						_, err := f.CheckRecovery(ctx, account.Login{Name: "ann"}, account.Secret(fmt.Sprint(worker, i)), remote)
						if err != account.ErrRecoveryRefused {
							t.Errorf("got %v", err)
						}
					}
				})
			}
			all.Wait()
			counted, voided := 0, 0
			for _, a := range f.attempts {
				if a.Counted {
					counted++
				}
				if a.Voided {
					voided++
				}
			}
			if counted != account.RecoveryTries || voided != 1 || len(f.attempts) != 100 {
				t.Errorf("%d guesses of %d were judged, %d voided", counted, len(f.attempts), voided)
			}
			if f.check(t, "ann", recovery) {
				t.Error("accepted although voided")
			}
		}
	})
}

// Of many who use one recovery password at the same time one changes the
// password.
func TestParallelRecoveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.create(t, "ann")
		recovery := f.request(t, "ann")
		var all sync.WaitGroup
		var mu sync.Mutex
		var done []account.Secret
		for i := range 20 {
			all.Go(func() {
				pw := numbered(i)
				_, err := f.Recover(ctx, account.Login{Name: "ann"}, recovery, pw, remote)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					done = append(done, pw)
				case err != account.ErrRecoveryRefused:
					t.Error(err)
				}
			})
		}
		all.Wait()
		if len(done) != 1 || !f.try(t, "ann", done[0], remote) {
			t.Errorf("%d changed the password", len(done))
		}
	})
}

// The recovery password, or the password, changes while one is being hashed.
func TestRecoveryChangesMeanwhile(t *testing.T) {
	l := account.Login{Name: "ann"}
	t.Run("a new one before the judgement", func(t *testing.T) {
		f := newFixture(t)
		f.create(t, "ann")
		var once sync.Once
		var second account.Secret
		store := beforeRecovery{f.store, func() { once.Do(func() { second = f.request(t, "ann") }) }}
		s := account.New(account.Config{Store: store, Hasher: f.hasher, Now: func() time.Time { return f.now }})
		if _, err := s.CheckRecovery(ctx, l, f.request(t, "ann"), remote); err != account.ErrRecoveryRefused {
			t.Errorf("the old one: got %v, want ErrRecoveryRefused", err)
		}
		if _, err := s.CheckRecovery(ctx, l, second, remote); err != nil {
			t.Errorf("the new one: %v", err)
		}
	})
	t.Run("new ones all the time", func(t *testing.T) {
		f := newFixture(t)
		f.create(t, "ann")
		n := 0
		store := beforeRecovery{f.store, func() { n++; f.request(t, "ann") }}
		s := account.New(account.Config{Store: store, Hasher: f.hasher, Now: func() time.Time { return f.now }})
		for verb, call := range map[string]func() error{
			"CheckRecovery": func() error { _, err := s.CheckRecovery(ctx, l, account.Secret("x"), remote); return err },
			"Recover":       func() error { _, err := s.Recover(ctx, l, account.Secret("x"), nextPassword, remote); return err },
		} {
			n = 0
			if err := call(); err == nil || err == account.ErrRecoveryRefused || n > 5 {
				t.Errorf("%s: got %v after %d rounds", verb, err, n)
			}
		}
	})
	t.Run("the password before it is replaced", func(t *testing.T) {
		f := newFixture(t)
		ann := f.create(t, "ann")
		store := beforeChange{f.store, new(sync.Once), func() {
			if err := f.SetPassword(ctx, ann.ID, account.Secret("An0ther+Word")); err != nil {
				t.Error(err)
			}
		}}
		s := account.New(account.Config{Store: store, Hasher: f.hasher, Now: func() time.Time { return f.now }})
		if _, err := s.Recover(ctx, l, f.request(t, "ann"), nextPassword, remote); err != account.ErrRecoveryRefused {
			t.Errorf("got %v, want ErrRecoveryRefused", err)
		}
		if !f.try(t, "ann", account.Secret("An0ther+Word"), remote) {
			t.Error("the password that the owner chose was replaced")
		}
	})
	t.Run("removed before it is replaced", func(t *testing.T) {
		f := newFixture(t)
		ann := f.create(t, "ann")
		store := beforeChange{f.store, new(sync.Once), func() {
			if _, err := f.Remove(ctx, ann.ID, "ann", allow); err != nil {
				t.Error(err)
			}
		}}
		s := account.New(account.Config{Store: store, Hasher: f.hasher, Now: func() time.Time { return f.now }})
		if _, err := s.Recover(ctx, l, f.request(t, "ann"), nextPassword, remote); err != account.ErrRecoveryRefused {
			t.Errorf("got %v, want ErrRecoveryRefused", err)
		}
	})
	t.Run("the hash is renewed all the time", func(t *testing.T) {
		f := newFixture(t)
		ann := f.create(t, "ann")
		recovery := f.request(t, "ann")
		n := 0
		s := account.New(account.Config{Store: alwaysBeforeChange{f.store, func() {
			n++
			f.change(t, ann.ID, func(r *account.Record) { r.Hash = fmt.Sprint(n) })
		}}, Hasher: f.hasher, Now: func() time.Time { return f.now }})
		if _, err := s.Recover(ctx, l, recovery, nextPassword, remote); err == nil || err == account.ErrRecoveryRefused || n > 5 {
			t.Errorf("got %v after %d rounds", err, n)
		}
	})
}

// beforeRecovery calls before in front of each AttemptRecovery.
type beforeRecovery struct {
	*accounttest.Store
	before func()
}

func (s beforeRecovery) AttemptRecovery(ctx context.Context, key account.Key, judge func(account.Record) (account.Recovery, bool)) error {
	s.before()
	return s.Store.AttemptRecovery(ctx, key, judge)
}

// alwaysBeforeChange calls before in front of each Change.
type alwaysBeforeChange struct {
	*accounttest.Store
	before func()
}

func (s alwaysBeforeChange) Change(ctx context.Context, id wire.UserID, change func(*account.Record) error) (account.Record, error) {
	s.before()
	return s.Store.Change(ctx, id, change)
}

func TestRecoveryAttemptsAreReported(t *testing.T) {
	f := newFixture(t)
	u := f.create(t, "ann")
	now := f.now.Truncate(time.Second)
	f.check(t, "nobody", account.Secret("x"))
	f.check(t, "ann", account.Secret("x")) // there is none
	recovery := f.request(t, "ann")
	f.check(t, "ann", account.Secret("x"))
	f.check(t, "ann", recovery)
	if _, err := f.Recover(ctx, account.Login{Name: "ann"}, recovery, account.Secret("short"), remote); err == nil {
		t.Fatal("accepted")
	}
	if _, err := f.Recover(ctx, account.Login{Name: "ann"}, recovery, nextPassword, loopback); err != nil {
		t.Fatal(err)
	}
	f.request(t, "ann")
	for range 6 {
		f.check(t, "ann", account.Secret("x"))
	}
	one := account.Attempt{Time: now, From: remote, User: u.ID, Recovery: true}
	counted, voided, accepted := one, one, one
	counted.Counted = true
	voided.Counted, voided.Voided = true, true
	accepted.Accepted, accepted.From = true, loopback
	nobodys := account.Attempt{Time: now, From: remote, Recovery: true}
	want := []account.Attempt{nobodys, one, counted, accepted, counted, counted, counted, counted, voided, one}
	if diff := cmp.Diff(want, f.attempts, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestRecoveryIsLoggedWithoutSecrets(t *testing.T) {
	f := newFixture(t)
	ann := f.create(t, "ann")
	var log bytes.Buffer
	s := account.New(account.Config{Store: f.store, Hasher: f.hasher, Log: slog.New(slog.NewTextHandler(&log, nil))})
	l := account.Login{Name: "ann"}
	_, recovery, err := s.RequestRecovery(ctx, l)
	if err != nil {
		t.Fatal(err)
	}
	must(t)(s.Recover(ctx, l, recovery, nextPassword, remote))
	if _, _, err := s.SetEmail(ctx, ann.ID, "secret@example.org"); err != nil {
		t.Fatal(err)
	}
	f.change(t, ann.ID, func(r *account.Record) { r.Recovery = account.Recovery{Hash: "$argon2id$", Made: time.Now()} })
	for range account.RecoveryTries {
		if _, err := s.CheckRecovery(ctx, l, account.Secret("guess"), remote); err != account.ErrRecoveryRefused {
			t.Error(err)
		}
	}
	text := log.String()
	for _, want := range []string{"recovery password made", "account recovered", "e-mail address changed", "recovery password voided", "cannot be read", "level=ERROR", ann.ID.String()} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not logged", want)
		}
	}
	for _, secret := range []string{string(recovery), string(nextPassword), "guess", "@example.org", "argon2id$v"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is logged", secret)
		}
	}
}

func TestRecoveryStoreErrors(t *testing.T) {
	broken := errors.New("disk on fire")
	f := newFixture(t)
	f.create(t, "ann")
	recovery := f.request(t, "ann")
	l := account.Login{Name: "ann"}
	now := func() time.Time { return f.now }
	silent := account.New(account.Config{Store: errStore{f.store, broken}, Hasher: f.hasher, Now: now})
	mute := account.New(account.Config{Store: brokenRecovery{f.store, broken}, Hasher: f.hasher, Now: now})
	stiff := account.New(account.Config{Store: changeless{f.store}, Hasher: f.hasher, Now: now})
	for name, call := range map[string]func() error{
		"request, read":   func() error { _, _, err := silent.RequestRecovery(ctx, l); return err },
		"request, store":  func() error { _, _, err := stiff.RequestRecovery(ctx, l); return err },
		"check, read":     func() error { _, err := silent.CheckRecovery(ctx, l, recovery, remote); return err },
		"check, judge":    func() error { _, err := mute.CheckRecovery(ctx, l, recovery, remote); return err },
		"recover, read":   func() error { _, err := silent.Recover(ctx, l, recovery, nextPassword, remote); return err },
		"recover, judge":  func() error { _, err := mute.Recover(ctx, l, recovery, nextPassword, remote); return err },
		"recover, change": func() error { _, err := stiff.Recover(ctx, l, recovery, nextPassword, remote); return err },
	} {
		err := call()
		var rule *account.RuleError
		if err == nil || errors.As(err, &rule) || errors.Is(err, account.ErrRecoveryRefused) || !strings.Contains(err.Error(), "disk on fire") {
			t.Errorf("%s: got %v", name, err)
		}
		if err != nil && !strings.Contains(err.Error(), ": ") {
			t.Errorf("%s: %q does not say what was being done", name, err)
		}
	}

	busy, err := account.NewHasher(account.HasherConfig{Params: account.CheapHash(), Slots: 1, Queue: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := busy.Enter(ctx); err != nil {
		t.Fatal(err)
	}
	defer busy.Leave()
	s := account.New(account.Config{Store: f.store, Hasher: busy, Now: now})
	for name, call := range map[string]func() error{
		"request": func() error { _, _, err := s.RequestRecovery(ctx, l); return err },
		"check":   func() error { _, err := s.CheckRecovery(ctx, l, recovery, remote); return err },
		"unknown": func() error {
			_, err := s.CheckRecovery(ctx, account.Login{Name: "nobody"}, recovery, remote)
			return err
		},
		"recover": func() error { _, err := s.Recover(ctx, l, recovery, nextPassword, remote); return err },
	} {
		if err := call(); !errors.Is(err, account.ErrBusy) {
			t.Errorf("%s: got %v, want ErrBusy", name, err)
		}
	}
}

type brokenRecovery struct {
	*accounttest.Store
	err error
}

func (s brokenRecovery) AttemptRecovery(context.Context, account.Key, func(account.Record) (account.Recovery, bool)) error {
	return s.err
}

// recoveryModel says what state 3.2 and 3.3 mean, in the plainest way.
type recoveryModel struct {
	pw    account.Secret // empty: none
	until time.Time
	wrong int
}

func (m *recoveryModel) try(now time.Time, pw account.Secret) bool {
	switch {
	case m.pw == nil:
		return false
	case !now.Before(m.until):
		*m = recoveryModel{}
		return false
	case bytes.Equal(pw, m.pw):
		return true
	}
	if m.wrong++; m.wrong == 5 {
		*m = recoveryModel{}
	}
	return false
}

func TestRecoveryModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		f := newFixture(t)
		ann := f.create(t, "ann")
		password := account.Secret(goodPassword)
		model := new(recoveryModel)
		pws := []account.Secret{account.Secret("never")}
		l := account.Login{Name: "ann"}
		for n := range rapid.IntRange(1, 40).Draw(r, "steps") {
			now := f.now.Truncate(time.Second)
			pw := rapid.SampledFrom(pws).Draw(r, "recovery password")
			next := numbered(n)
			f.ForgetRefusals("ann")
			switch step := rapid.IntRange(0, 11).Draw(r, "step"); step {
			case 0:
				pws = append(pws, f.request(t, "ann"))
				*model = recoveryModel{pw: pws[len(pws)-1], until: now.Add(time.Hour)}
			case 1:
				f.advance(time.Duration(rapid.SampledFrom([]int64{1, 600, 1800, 3599, 3600}).Draw(r, "seconds")) * time.Second)
			case 2:
				if err := f.SetPassword(ctx, ann.ID, next); err != nil {
					r.Fatal(err)
				}
				password, *model = next, recoveryModel{}
			case 3, 4:
				if step == 4 {
					pw = pws[len(pws)-1]
				}
				want := model.try(now, pw)
				_, err := f.Recover(ctx, l, pw, next, remote)
				if (err == nil) != want || err != nil && err != account.ErrRecoveryRefused {
					r.Fatalf("recover: got %v, want %v", err, want)
				}
				if want {
					password, *model = next, recoveryModel{}
				}
			default:
				if step > 8 {
					pw = pws[len(pws)-1]
				}
				if got, want := f.check(t, "ann", pw), model.try(now, pw); got != want {
					r.Fatalf("check: got %v, want %v", got, want)
				}
			}
			stored := f.record(t, ann.ID)
			if (stored.Recovery.Hash != "") != (model.pw != nil) || stored.Recovery.Wrong != model.wrong {
				r.Fatalf("stored %+v, want %+v", stored.Recovery, model)
			}
		}
		if !f.try(t, "ann", password, remote) {
			r.Fatal("the password is another one")
		}
	})
}
