package account_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/argon2"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/account/accounttest"
	"mrci.dev/mrci/wire"
)

func TestAuthenticate(t *testing.T) {
	f := newFixture(t)
	ann := f.create(t, "ann")
	f.create(t, "bob")
	for _, tt := range []struct {
		name  string
		login account.Login
		pw    account.Secret
		ok    bool
	}{
		{"name", account.Login{Name: "ann"}, goodPassword, true},
		{"name in another case", account.Login{Name: "ANN"}, goodPassword, true},
		{"address", account.Login{Email: "ann@example.org"}, goodPassword, true},
		{"address in another case", account.Login{Email: "ANN@Example.org"}, goodPassword, true},
		{"address wins", account.Login{Name: "nobody", Email: "ann@example.org"}, goodPassword, true},
		{"address that is none does not", account.Login{Name: "ann", Email: "nope"}, goodPassword, true},

		{"wrong", account.Login{Name: "ann"}, account.Secret("Tr0ub4dor&4"), false},
		{"another case", account.Login{Name: "ann"}, account.Secret("tr0ub4dor&3"), false},
		{"longer", account.Login{Name: "ann"}, account.Secret(string(goodPassword) + " "), false},
		{"empty", account.Login{Name: "ann"}, nil, false},
		{"unknown name", account.Login{Name: "nobody"}, goodPassword, false},
		{"unknown address", account.Login{Email: "x@example.org"}, goodPassword, false},
		{"unknown address wins", account.Login{Name: "ann", Email: "x@example.org"}, goodPassword, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, err := f.Authenticate(ctx, tt.login, tt.pw, remote)
			if tt.ok {
				if diff := cmp.Diff(ann, u); err != nil || diff != "" {
					t.Errorf("%v %s", err, diff)
				}
			} else if err != account.ErrRefused || !u.ID.IsZero() {
				t.Errorf("got %v, %v; want ErrRefused", u.ID, err)
			}
		})
	}
	_, err := f.Authenticate(ctx, account.Login{}, goodPassword, remote)
	wantRule(t, err, "user_name")
}

// Whatever the reason of a refusal is, it costs the same work.
func TestRefusalsCostTheSame(t *testing.T) {
	f := newFixture(t)
	f.setPolicy(account.Policy{AutoLockLimit: 3})
	f.create(t, "ann")
	blocked := f.create(t, "blocked")
	if _, err := f.SetLocked(ctx, blocked.ID, true); err != nil {
		t.Fatal(err)
	}
	broken := f.create(t, "broken")
	if _, err := f.store.Change(ctx, broken.ID, func(r *account.Record) error { r.Hash = "?"; return nil }); err != nil {
		t.Fatal(err)
	}
	f.create(t, "failed")
	for range 3 {
		f.try(t, "failed", account.Secret("x"), remote)
	}
	for _, tt := range []struct {
		name  string
		login account.Login
		pw    account.Secret
	}{
		{"unknown", account.Login{Name: "nobody"}, goodPassword},
		{"unknown address", account.Login{Email: "x@y.z"}, goodPassword},
		{"reserved name", account.Login{Name: "root"}, goodPassword},
		{"wrong", account.Login{Name: "ann"}, account.Secret("x")},
		{"wrong and empty", account.Login{Name: "ann"}, nil},
		{"wrong, and locks", account.Login{Name: "ann"}, account.Secret("x")},
		{"locked, right", account.Login{Name: "ann"}, goodPassword},
		{"locked, wrong", account.Login{Name: "ann"}, account.Secret("x")},
		{"locked by failures, right", account.Login{Name: "failed"}, goodPassword},
		{"locked by lock_acct, right", account.Login{Name: "blocked"}, goodPassword},
		{"locked by lock_acct, wrong", account.Login{Name: "blocked"}, account.Secret("x")},
		{"hash that cannot be read", account.Login{Name: "broken"}, goodPassword},
	} {
		t.Run(tt.name, func(t *testing.T) {
			counts, hashes := f.store.Counts(), f.hasher.Stats().Hashes
			if _, err := f.Authenticate(ctx, tt.login, tt.pw, remote); err != account.ErrRefused {
				t.Fatalf("got %v, want ErrRefused", err)
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

// The account that stands in for a name that nobody has does not let anybody
// in, whatever its password is, and is left as it was.
func TestStandInOpensNothing(t *testing.T) {
	f := newFixture(t)
	u := f.create(t, "ann")
	_, recovery, err := f.RequestRecovery(ctx, account.Login{Name: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	f.try(t, "ann", account.Secret("x"), remote)
	before, err := f.store.Account(ctx, account.Key{ID: u.ID})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []account.Login{{Name: "nobody"}, {Email: "nobody@example.org"}} {
		for _, pw := range []account.Secret{goodPassword, account.Secret("x")} {
			if u, err := f.Authenticate(ctx, l, pw, remote); err != account.ErrRefused || u != (account.User{}) {
				t.Errorf("%+v: got %+v, %v, want ErrRefused", l, u, err)
			}
		}
		if u, err := f.CheckRecovery(ctx, l, recovery, remote); err != account.ErrRecoveryRefused || u != (account.User{}) {
			t.Errorf("%+v: got %+v, %v, want ErrRecoveryRefused", l, u, err)
		}
		if _, err := f.Recover(ctx, l, recovery, account.Secret("Other-horse8"), remote); err != account.ErrRecoveryRefused {
			t.Errorf("%+v: got %v, want ErrRecoveryRefused", l, err)
		}
	}
	after, err := f.store.Account(ctx, account.Key{ID: u.ID})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
}

// A login without a failure behind it waits for no disk.
func TestSuccessWritesOnlyToClear(t *testing.T) {
	f := newFixture(t)
	f.create(t, "ann")
	for _, want := range []int{0, 1, 0} {
		if want == 1 {
			f.try(t, "ann", account.Secret("x"), remote)
		}
		before := f.store.Counts().Written
		if !f.try(t, "ann", goodPassword, remote) {
			t.Fatal("refused")
		}
		if got := f.store.Counts().Written - before; got != want {
			t.Errorf("%d writes, want %d", got, want)
		}
	}
}

func TestRefusalsAreHeldBack(t *testing.T) {
	for _, name := range []string{"ann", "nobody", "blocked"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.create(t, "ann")
				if _, err := f.SetLocked(ctx, f.create(t, "blocked").ID, true); err != nil {
					t.Fatal(err)
				}
				var got []time.Duration
				for range 10 {
					start := time.Now()
					f.try(t, name, account.Secret("x"), remote)
					got = append(got, time.Since(start))
				}
				const ms = time.Millisecond
				want := []time.Duration{0, 0, 0, 0, 0, 100 * ms, 200 * ms, 400 * ms, 500 * ms, 500 * ms}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}

				// Another name is not slower, and the same in another case is.
				start := time.Now()
				f.try(t, "other", account.Secret("x"), remote)
				if d := time.Since(start); d != 0 {
					t.Errorf("another name waits %v", d)
				}
				start = time.Now()
				f.try(t, strings.ToUpper(name), account.Secret("x"), remote)
				if d := time.Since(start); d != 500*ms {
					t.Errorf("another case waits %v", d)
				}

				// The client gives up.
				gone := errors.New("client has gone")
				short, cancel := context.WithTimeoutCause(ctx, 50*ms, gone)
				defer cancel()
				if _, err := f.Authenticate(short, account.Login{Name: name}, account.Secret("x"), remote); !errors.Is(err, gone) {
					t.Errorf("got %v, want the cause", err)
				}

				// A day later all is forgotten, and a success forgets at once.
				f.advance(25 * time.Hour)
				start = time.Now()
				for range 5 {
					f.try(t, name, account.Secret("x"), remote)
				}
				if name == "ann" {
					f.try(t, name, goodPassword, remote)
					for range 5 {
						f.try(t, name, account.Secret("x"), remote)
					}
				}
				if d := time.Since(start); d != 0 {
					t.Errorf("waits %v", d)
				}
			})
		})
	}
}

func TestDelayedNamesAreBounded(t *testing.T) {
	f := newFixture(t)
	for range 4 {
		f.CountRefusal("first")
	}
	for i := range account.MaxDelayed - 1 {
		f.CountRefusal(fmt.Sprintf("name%d", i))
	}
	if n := f.CountRefusal("first"); n != 5 {
		t.Errorf("the first name was refused %d times, want 5", n)
	}
	f.CountRefusal("one more")
	if n := f.Delayed(); n != account.MaxDelayed {
		t.Errorf("%d names, want %d", n, account.MaxDelayed)
	}
	// The one that was not refused for the longest time has made room.
	if n := f.CountRefusal("first"); n != 6 {
		t.Errorf("the first name was refused %d times, want 6", n)
	}
	if n := f.CountRefusal("name0"); n != 1 {
		t.Errorf("name0 was refused %d times, want 1", n)
	}
	if d := account.DelayOf(1 << 30); d != 500*time.Millisecond {
		t.Errorf("longest delay %v", d)
	}
}

// 200 guesses side by side, the right password among them, have no more tries
// than one after another.
func TestParallelGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 20
		f := newFixture(t)
		f.setPolicy(account.Policy{AutoLockLimit: limit})
		u := f.create(t, "ann")
		for window := 1; window <= 3; window++ {
			f.attempts = nil
			var all sync.WaitGroup
			for worker := range 10 {
				all.Go(func() {
					for i := range 20 {
						f.try(t, "ann", account.Secret(fmt.Sprintf("guess %d %d", worker, i)), remote)
					}
				})
			}
			all.Wait()
			counted, locks := 0, 0
			for _, a := range f.attempts {
				if a.Counted {
					counted++
				}
				if a.Locked {
					locks++
				}
			}
			if counted != limit || locks != 1 || len(f.attempts) != 200 {
				t.Errorf("window %d: %d guesses of %d were judged, %d locks; want %d and 1", window, counted, len(f.attempts), locks, limit)
			}
			// The lock binds the right password too, wherever it stood in line.
			for range 10 {
				all.Go(func() {
					if f.try(t, "ann", goodPassword, remote) {
						t.Error("logged in although locked")
					}
				})
			}
			all.Wait()
			got, err := f.User(ctx, u.ID)
			if err != nil {
				t.Fatal(err)
			}
			f.advance(got.LockedUntil.Sub(f.now) + time.Second)
		}
		if !f.try(t, "ann", goodPassword, remote) {
			t.Error("refused although the lock has ended")
		}
	})
}

// The password changes while a login with the old one is being hashed.
func TestPasswordChangesMeanwhile(t *testing.T) {
	f := newFixture(t)
	u := f.create(t, "ann")
	var once sync.Once
	store := hookStore{f.store, func() {
		once.Do(func() {
			if err := f.SetPassword(ctx, u.ID, account.Secret("N3xt&Better1")); err != nil {
				t.Error(err)
			}
		})
	}}
	s := account.New(account.Config{Store: store, Hasher: f.hasher})
	if _, err := s.Authenticate(ctx, account.Login{Name: "ann"}, goodPassword, remote); err != account.ErrRefused {
		t.Errorf("the old password: got %v, want ErrRefused", err)
	}
	if _, err := s.Authenticate(ctx, account.Login{Name: "ann"}, account.Secret("N3xt&Better1"), remote); err != nil {
		t.Errorf("the new password: %v", err)
	}

	// It never stands still.
	n := 0
	store.before = func() {
		n++
		hash, err := f.hasher.Hash(ctx, account.Secret(fmt.Sprint("password", n)))
		if err != nil {
			t.Error(err)
		}
		if _, err := f.store.Change(ctx, u.ID, func(r *account.Record) error { r.Hash = hash; return nil }); err != nil {
			t.Error(err)
		}
	}
	s = account.New(account.Config{Store: store, Hasher: f.hasher})
	if _, err := s.Authenticate(ctx, account.Login{Name: "ann"}, goodPassword, remote); err == nil || err == account.ErrRefused || n > 5 {
		t.Errorf("got %v after %d rounds", err, n)
	}
}

// hookStore calls before in front of each Attempt.
type hookStore struct {
	*accounttest.Store
	before func()
}

func (s hookStore) Attempt(ctx context.Context, key account.Key, judge func(account.Record) (account.Tally, bool)) error {
	s.before()
	return s.Store.Attempt(ctx, key, judge)
}

func TestHashIsRenewed(t *testing.T) {
	f := newFixture(t)
	u := f.create(t, "ann")
	stored := func() string {
		r, err := f.store.Account(ctx, account.Key{ID: u.ID})
		if err != nil {
			t.Fatal(err)
		}
		return r.Hash
	}
	old := stored()
	if err := f.hasher.SetParams(account.HashParams{KiB: 16, Time: 2}); err != nil {
		t.Fatal(err)
	}
	f.try(t, "ann", account.Secret("x"), remote)
	if stored() != old {
		t.Error("a wrong password renewed the hash")
	}
	if !f.try(t, "ann", goodPassword, remote) {
		t.Fatal("refused")
	}
	renewed := stored()
	if !strings.HasPrefix(renewed, "$argon2id-sha512$v=19$m=16,t=2,p=1$") {
		t.Errorf("got %s", renewed)
	}
	if !f.try(t, "ann", goodPassword, remote) || stored() != renewed {
		t.Error("renewed again, or refused")
	}
}

// A record of plain Argon2id, as others store it, opens once with its own form
// and then has the form of this host.
func TestPlainHashIsReplaced(t *testing.T) {
	f := newFixture(t)
	u := f.create(t, "ann")
	b64 := base64.RawStdEncoding.EncodeToString
	salt := []byte("0123456789abcdef")
	plain := fmt.Sprintf("$argon2id$v=19$m=8,t=1,p=1$%s$%s", b64(salt), b64(argon2.IDKey(goodPassword, salt, 1, 8, 1, 32)))
	f.change(t, u.ID, func(r *account.Record) { r.Hash = plain })
	if f.try(t, "ann", account.Secret("x"), remote) || f.record(t, u.ID).Hash != plain {
		t.Error("a wrong password logs in, or has replaced the hash")
	}
	if !f.try(t, "ann", goodPassword, remote) {
		t.Fatal("refused")
	}
	if got := f.record(t, u.ID).Hash; !strings.HasPrefix(got, "$argon2id-sha512$v=19$m=8,t=1,p=1$") {
		t.Errorf("got %s", got)
	}
	if !f.try(t, "ann", goodPassword, remote) {
		t.Error("refused with the new hash")
	}
}

// A login does not fail because its hash cannot be renewed.
func TestHashIsNotRenewed(t *testing.T) {
	f := newFixture(t)
	f.create(t, "ann")
	if err := f.hasher.SetParams(account.HashParams{KiB: 16, Time: 2}); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s := account.New(account.Config{
		Store:  changeless{f.store},
		Hasher: f.hasher,
		Log:    slog.New(slog.NewTextHandler(&log, nil)),
	})
	if _, err := s.Authenticate(ctx, account.Login{Name: "ann"}, goodPassword, remote); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "disk on fire") {
		t.Errorf("log: %q", log.String())
	}
}

type changeless struct{ *accounttest.Store }

func (changeless) Change(context.Context, wire.UserID, func(*account.Record) error) (account.Record, error) {
	return account.Record{}, errors.New("disk on fire")
}

func TestUnreadableHashIsLogged(t *testing.T) {
	f := newFixture(t)
	u := f.create(t, "ann")
	if _, err := f.store.Change(ctx, u.ID, func(r *account.Record) error { r.Hash = "$argon2id$"; return nil }); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s := account.New(account.Config{Store: f.store, Hasher: f.hasher, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if _, err := s.Authenticate(ctx, account.Login{Name: "ann"}, goodPassword, remote); err != account.ErrRefused {
		t.Errorf("got %v, want ErrRefused", err)
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), u.ID.String()) {
		t.Errorf("log: %q", log.String())
	}
}

func TestAttemptsAreReported(t *testing.T) {
	f := newFixture(t)
	f.setPolicy(account.Policy{AutoLockLimit: 2})
	u := f.create(t, "ann")
	now := f.now.Truncate(time.Second)
	f.try(t, "nobody", account.Secret("x"), remote)
	f.try(t, "ann", goodPassword, loopback)
	f.try(t, "ann", account.Secret("x"), remote)
	f.try(t, "ann", account.Secret("x"), remote)
	f.try(t, "ann", account.Secret("x"), remote)
	want := []account.Attempt{
		{Time: now, From: remote}, // nobody's
		{Time: now, From: loopback, User: u.ID, Accepted: true},
		{Time: now, From: remote, User: u.ID, Counted: true},
		{Time: now, From: remote, User: u.ID, Counted: true, Locked: true},
		{Time: now, From: remote, User: u.ID},
	}
	if diff := cmp.Diff(want, f.attempts, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}
