package storetest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/names"
	"mrci.dev/mrci/wire"
)

// noTies lets everybody remove an account that nothing holds.
func noTies(_, _ account.User, ties account.Ties) error {
	if ties != (account.Ties{}) {
		return errors.New("something holds the account")
	}
	return nil
}

func mustRemove(t *testing.T, s account.Store, name string) account.Outcome {
	t.Helper()
	r, err := s.Account(ctx, account.Key{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.RemoveBy(ctx, r.ID, account.Key{ID: r.ID}, noTies)
	if err != nil {
		t.Fatalf("remove %s: %v", name, err)
	}
	return out
}

func testChangeBy(t *testing.T, s account.Store) {
	caller, before := Record("boss"), plain("ann")
	mustCreate(t, s, caller, before, plain("bob"))
	for _, key := range []account.Key{{Name: "ann"}, {Email: "ann@example.org"}, {ID: before.ID}} {
		want := Record("ann")
		want.Name, want.Email = "Änne", "Änne@example.org"
		out, err := s.ChangeBy(ctx, caller.ID, key, func(by account.User, r *account.Record) error {
			if diff := cmp.Diff(caller.User, by); diff != "" {
				t.Errorf("caller: %s", diff)
			}
			if diff := cmp.Diff(before, *r); diff != "" {
				t.Errorf("target: %s", diff)
			}
			*r = want
			r.LockedUntil = time.Time{} // the tally counts
			r.ID, r.Registered = wire.UserID{9}, start.Add(time.Hour)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(account.Outcome{Record: want, Vacated: false}, out); diff != "" {
			t.Errorf("%+v: %s", key, diff)
		}
		if diff := cmp.Diff(want, mustRead(t, s, before.ID)); diff != "" {
			t.Errorf("%+v: %s", key, diff)
		}
		for _, other := range []account.Record{caller, plain("bob")} {
			if diff := cmp.Diff(other, mustRead(t, s, other.ID)); diff != "" {
				t.Errorf("another account changed: %s", diff)
			}
		}
		if _, err := s.Change(ctx, before.ID, func(r *account.Record) error { *r = before; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	// Caller and target can be one account.
	out, err := s.ChangeBy(ctx, caller.ID, account.Key{Name: "boss"}, func(by account.User, r *account.Record) error {
		if diff := cmp.Diff(by, r.User); diff != "" {
			t.Error(diff)
		}
		r.Rank = 7
		if by.Rank == 7 {
			t.Error("the caller changes with the target")
		}
		return nil
	})
	if err != nil || out.Record.Rank != 7 || mustRead(t, s, caller.ID).Rank != 7 {
		t.Errorf("oneself: %+v, %v", out, err)
	}
}

func testChangeByFails(t *testing.T, s account.Store) {
	caller, want := plain("boss"), Record("ann")
	mustCreate(t, s, caller, want, plain("bob"))
	mine := errors.New("mine")
	for _, tt := range []struct {
		name   string
		caller wire.UserID
		target account.Key
		change func(account.User, *account.Record) error
		want   error
	}{
		{"own error", caller.ID, account.Key{Name: "ann"}, func(_ account.User, r *account.Record) error { r.Name = "x"; return mine }, mine},
		{"name taken", caller.ID, account.Key{Name: "ann"}, func(_ account.User, r *account.Record) error { r.Name, r.Rank = "BOB", 7; return nil }, account.ErrNameTaken},
		{"address taken", caller.ID, account.Key{Name: "ann"}, func(_ account.User, r *account.Record) error { r.Email, r.Rank = "Bob@Example.org", 7; return nil }, account.ErrEmailTaken},
		{"no target", caller.ID, account.Key{Name: "nobody"}, nil, account.ErrNotFound},
		{"no target with the address", caller.ID, account.Key{Email: "ann"}, nil, account.ErrNotFound},
		{"no caller", wire.UserID{9}, account.Key{Name: "ann"}, nil, account.ErrCallerGone},
		{"neither", wire.UserID{9}, account.Key{Name: "nobody"}, nil, account.ErrCallerGone},
	} {
		out, err := s.ChangeBy(ctx, tt.caller, tt.target, tt.change)
		if !errors.Is(err, tt.want) || out.Record.Hash != "" || out.Vacated {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if tt.want == mine && err != mine {
			t.Errorf("%s: %v is not returned as it is", tt.name, err)
		}
		if diff := cmp.Diff(want, mustRead(t, s, want.ID)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

func testRemoveBy(t *testing.T, s account.Store) {
	caller, ann, bob := plain("boss"), Record("ann"), Record("bob")
	for _, key := range []account.Key{{Name: "ann"}, {Email: "ann@example.org"}, {ID: ann.ID}} {
		for _, by := range []account.Record{caller, ann} {
			mustCreate(t, s, caller, ann, bob)
			out, err := s.RemoveBy(ctx, by.ID, key, func(c, u account.User, ties account.Ties) error {
				if diff := cmp.Diff(by.User, c); diff != "" {
					t.Errorf("caller: %s", diff)
				}
				if diff := cmp.Diff(ann.User, u); diff != "" {
					t.Errorf("target: %s", diff)
				}
				return noTies(c, u, ties)
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(ann, out.Record); diff != "" {
				t.Error(diff)
			}
			for _, gone := range []account.Key{{Name: "ann"}, {Email: "ann@example.org"}, {ID: ann.ID}} {
				if _, err := s.Account(ctx, gone); !errors.Is(err, account.ErrNotFound) {
					t.Errorf("%+v: got %v, want ErrNotFound", gone, err)
				}
			}
			for _, stays := range []account.Record{caller, bob} {
				if diff := cmp.Diff(stays, mustRead(t, s, stays.ID)); diff != "" {
					t.Errorf("another account changed: %s", diff)
				}
			}
			if got := listed(t, s, account.Filter{}); len(got) != 2 {
				t.Errorf("listed: %v", got)
			}
			// Name and address are free, and nothing of the old account is left.
			again := plain("ANN")
			again.ID = ann.ID // the hardest case; a host never does that
			mustCreate(t, s, again)
			if diff := cmp.Diff(again, mustRead(t, s, again.ID)); diff != "" {
				t.Error(diff)
			}
			for _, name := range []string{"ann", "bob", "boss"} {
				mustRemove(t, s, name)
			}
		}
	}
}

func testRemoveByFails(t *testing.T, s account.Store) {
	caller, want := plain("boss"), Record("ann")
	mustCreate(t, s, caller, want)
	mine := errors.New("mine")
	for _, tt := range []struct {
		name   string
		caller wire.UserID
		target account.Key
		want   error
	}{
		{"own error", caller.ID, account.Key{Name: "ann"}, mine},
		{"no target", caller.ID, account.Key{Name: "nobody"}, account.ErrNotFound},
		{"no caller", wire.UserID{9}, account.Key{Name: "ann"}, account.ErrCallerGone},
		{"neither", wire.UserID{9}, account.Key{Name: "nobody"}, account.ErrCallerGone},
	} {
		out, err := s.RemoveBy(ctx, tt.caller, tt.target, func(account.User, account.User, account.Ties) error { return mine })
		if err != tt.want || out.Record.Hash != "" || out.Vacated {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if diff := cmp.Diff(want, mustRead(t, s, want.ID)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

func testVacated(t *testing.T, s account.Store) {
	boss, ann, bob := plain("boss"), plain("ann"), plain("bob")
	boss.Rank, ann.Rank, bob.Rank = 1, 1, 3
	mustCreate(t, s, boss, ann, bob)
	setRank := func(name string, rank wire.Rank) bool {
		t.Helper()
		out, err := s.ChangeBy(ctx, boss.ID, account.Key{Name: name}, func(_ account.User, r *account.Record) error { r.Rank = rank; return nil })
		if err != nil {
			t.Fatal(err)
		}
		return out.Vacated
	}
	for i, step := range []struct {
		name string
		rank wire.Rank
		want bool
	}{
		{"ann", 1, false}, // another one has rank 1, and the rank stays
		{"ann", 2, false},
		{"boss", 1, false}, // stays the only one
		{"boss", 2, true},
		{"bob", 1, true}, // nobody has rank 3 now
		{"bob", 2, true},
		{"bob", 1<<32 - 1, false},
		{"bob", 1<<32 - 2, true},
	} {
		if got := setRank(step.name, step.rank); got != step.want {
			t.Errorf("step %d, %s to %d: got %v, want %v", i, step.name, step.rank, got, step.want)
		}
	}
	if mustRemove(t, s, "ann").Vacated {
		t.Error("another one has the rank")
	}
	for _, name := range []string{"boss", "bob"} {
		if !mustRemove(t, s, name).Vacated {
			t.Errorf("nobody has the rank of %s any more", name)
		}
	}
}

func testAttemptRecovery(t *testing.T, s account.Store) {
	want, none := Record("ann"), plain("bob")
	mustCreate(t, s, want, none)
	for i, key := range []account.Key{{ID: want.ID}, {Name: "ann"}, {Email: "ann@example.org"}} {
		for _, left := range []account.Recovery{
			{Hash: "h", Made: start.Add(time.Duration(i) * time.Hour), Wrong: i},
			{Hash: "h", Made: start.Add(time.Duration(i) * time.Hour), Wrong: i + 1},
			{Hash: "h", Made: start.Add(time.Duration(i) * time.Hour), Wrong: i + 1}, // as it is
			{},
			{}, // as it is
			{Hash: "another", Made: start},
		} {
			for _, store := range []bool{false, true} {
				calls := 0
				err := s.AttemptRecovery(ctx, key, func(r account.Record) (account.Recovery, bool) {
					calls++
					if diff := cmp.Diff(want, r); diff != "" {
						t.Error(diff)
					}
					return left, store
				})
				if err != nil || calls != 1 {
					t.Fatalf("%+v: %v, judged %d times", key, err, calls)
				}
				if store {
					want.Recovery = left
				}
				if diff := cmp.Diff(want, mustRead(t, s, want.ID)); diff != "" {
					t.Errorf("%+v: %s", key, diff)
				}
			}
		}
	}
	if diff := cmp.Diff(none, mustRead(t, s, none.ID)); diff != "" {
		t.Errorf("another account changed: %s", diff)
	}
	for _, key := range []account.Key{{ID: wire.UserID{9}}, {Name: "nobody"}, {Email: "nobody@example.org"}} {
		err := s.AttemptRecovery(ctx, key, func(account.Record) (account.Recovery, bool) {
			t.Error("judged")
			return account.Recovery{}, true
		})
		if !errors.Is(err, account.ErrNotFound) {
			t.Errorf("%+v: got %v, want ErrNotFound", key, err)
		}
	}
}

// testRecovery goes through Change, which other parts of an account share.
func testRecovery(t *testing.T, s account.Store) {
	want := plain("ann")
	mustCreate(t, s, want, Record("bob"))
	for _, recovery := range []account.Recovery{
		{Hash: "one", Made: start}, {Hash: "two", Made: start.Add(time.Second), Wrong: 4}, {}, {Hash: "three", Made: start},
	} {
		want.Recovery = recovery
		got, err := s.Change(ctx, want.ID, func(r *account.Record) error { r.Recovery = recovery; return nil })
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range []account.Record{got, mustRead(t, s, want.ID)} {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		// Other changes and logins leave it.
		if _, err := s.Change(ctx, want.ID, func(r *account.Record) error { r.Rank++; return nil }); err != nil {
			t.Fatal(err)
		}
		if err := s.Attempt(ctx, account.Key{ID: want.ID}, func(r account.Record) (account.Tally, bool) {
			if diff := cmp.Diff(recovery, r.Recovery); diff != "" {
				t.Error(diff)
			}
			return account.Tally{LockStreak: 1}, true
		}); err != nil {
			t.Fatal(err)
		}
		want.Rank++
		want.Tally.LockStreak = 1
		if diff := cmp.Diff(want, mustRead(t, s, want.ID)); diff != "" {
			t.Error(diff)
		}
	}
	if bob := Record("bob"); mustRead(t, s, bob.ID).Recovery != bob.Recovery {
		t.Error("another account's recovery password changed")
	}
	// A change that fails keeps it.
	mine := errors.New("mine")
	if _, err := s.Change(ctx, want.ID, func(r *account.Record) error { r.Recovery = account.Recovery{}; return mine }); err != mine {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, mustRead(t, s, want.ID)); diff != "" {
		t.Error(diff)
	}
}

// hostile are texts that mean something to a database, or break it.
var hostile = []string{
	`'`, `''`, `\'`, `"`, `ann' OR '1'='1`, `ann' --`, `'; DROP TABLE users; --`, `' UNION SELECT hash FROM users --`,
	`x', 1); DELETE FROM pw_recovery; --`, `$1`, `?`, `:x`, `@x`, `%`, `_`, `ann*`, "ann\x00", "\x00", "\xff", `ann"`, "ann`", "ann]",
	"ann\n; DELETE FROM users", strings.Repeat("'", 1000),
}

func testHostileTexts(t *testing.T, s account.Store) {
	caller, ann := plain("boss"), Record("ann")
	mustCreate(t, s, caller, ann)
	mine := errors.New("mine")
	for _, text := range hostile {
		for _, key := range []account.Key{{Name: text}, {Email: text}} {
			for verb, call := range map[string]func() error{
				"Account": func() error { _, err := s.Account(ctx, key); return err },
				"Attempt": func() error {
					return s.Attempt(ctx, key, func(account.Record) (account.Tally, bool) { return account.Tally{}, true })
				},
				"AttemptRecovery": func() error {
					return s.AttemptRecovery(ctx, key, func(account.Record) (account.Recovery, bool) { return account.Recovery{}, true })
				},
				"ChangeBy": func() error {
					_, err := s.ChangeBy(ctx, caller.ID, key, func(account.User, *account.Record) error { return mine })
					return err
				},
				"RemoveBy": func() error { _, err := s.RemoveBy(ctx, caller.ID, key, noTies); return err },
			} {
				if err := call(); !errors.Is(err, account.ErrNotFound) {
					t.Errorf("%s %+v: got %v, want ErrNotFound", verb, key, err)
				}
			}
		}
		// What is stored comes back byte by byte.
		want := ann
		want.Name, want.Email, want.Display, want.Hash = text+"1", text+"2", text+"3", text+"4"
		want.Recovery.Hash = text + "5"
		out, err := s.ChangeBy(ctx, caller.ID, account.Key{ID: ann.ID}, func(_ account.User, r *account.Record) error { *r = want; return nil })
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, out.Record); diff != "" {
			t.Error(diff)
		}
		for _, key := range []account.Key{{ID: ann.ID}, {Name: names.Fold(want.Name)}, {Email: names.Fold(want.Email)}} {
			if got, err := s.Account(ctx, key); err != nil || !cmp.Equal(want, got) {
				t.Errorf("%+v: %v, %s", key, err, cmp.Diff(want, got))
			}
		}
		if _, err := s.Change(ctx, ann.ID, func(r *account.Record) error { *r = ann; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []account.Record{caller, ann} {
		if diff := cmp.Diff(want, mustRead(t, s, want.ID)); diff != "" {
			t.Error(diff)
		}
	}
}
