package store_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/account/accounttest"
	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/internal/store/storetest"
	"mrci.dev/mrci/wire"
)

var (
	goodPassword = account.Secret("Tr0ub4dor&3")
	nextPassword = account.Secret("N3xt&Better1")
)

var remote = netip.MustParseAddr("192.0.2.7")

func allow(account.User, account.User) error { return nil }

// A database of the first release gets what recovery needs, and keeps its
// accounts.
func TestRecoveryComesToAnOldDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.db")
	id := wire.UserID{1, 2, 3}
	store.MakeAt(t, path, 1, `INSERT INTO users (user_id, user_name, name_key, email_address, email_key, display_name, host_rank,
		time_stamp, hash, new_password_req, new_name_req, locked, email_verified, failures, locked_until, lock_local, lock_streak)
		VALUES ($1, 'Ann', 'ann', 'ann@example.org', 'ann@example.org', '', 2, '2026-01-02 03:04:05', 'h', 0, 0, 0, 1, '', 0, 0, 0)`, id[:])
	s := open(t, path)
	r, err := s.Account(ctx, account.Key{Name: "ann"})
	if err != nil || r.ID != id || r.Recovery != (account.Recovery{}) {
		t.Fatalf("got %+v, %v", r, err)
	}
	want := account.Recovery{Hash: "x", Made: time.Unix(1, 0).UTC(), Wrong: 3}
	if r, err = s.Change(ctx, id, func(r *account.Record) error { r.Recovery = want; return nil }); err != nil || r.Recovery != want {
		t.Errorf("got %+v, %v", r.Recovery, err)
	}
}

// Every refused recovery commits a change of one page, or the disk would tell
// the reasons apart.
func TestRefusedRecoveriesAllWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.db")
	s := open(t, path)
	without := storetest.Record("without")
	without.Recovery = account.Recovery{}
	for _, r := range []account.Record{storetest.Record("ann"), storetest.Record("bob"), without} {
		if err := s.Create(ctx, r, false); err != nil {
			t.Fatal(err)
		}
	}
	keep := func(r account.Recovery) account.Recovery { return r }
	void := func(account.Recovery) account.Recovery { return account.Recovery{} }
	for _, tt := range []struct {
		name, user string
		left       func(account.Recovery) account.Recovery
	}{
		{"unknown", "nobody", nil},
		{"none", "without", keep},
		{"none, again", "without", keep},
		{"wrong", "ann", func(r account.Recovery) account.Recovery { r.Wrong++; return r }},
		{"wrong, nothing counted", "ann", keep},
		{"wrong, and voids", "ann", void},
		{"voided", "ann", void},
		{"expired", "bob", void},
	} {
		before := fileSize(t, path+"-wal")
		err := s.AttemptRecovery(ctx, account.Key{Name: tt.user}, func(r account.Record) (account.Recovery, bool) {
			return tt.left(r.Recovery), true
		})
		if err != nil && !errors.Is(err, account.ErrNotFound) {
			t.Fatal(err)
		}
		if got := fileSize(t, path+"-wal") - before; got != 4096+24 {
			t.Errorf("%s: the log grew by %d bytes, want one page", tt.name, got)
		}
	}
}

// Nothing of a removed account stays in the tables of this package's rules.
func TestRemoveLeavesNothing(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "data.db"))
	r := storetest.Record("ann")
	if err := s.Create(ctx, r, false); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"users", "pw_recovery"} {
		if n := s.Number(t, "SELECT count(*) FROM "+table+" WHERE user_id = $1", r.ID[:]); n != 1 {
			t.Fatalf("%s: %d rows", table, n)
		}
	}
	if _, err := s.RemoveBy(ctx, r.ID, account.Key{ID: r.ID}, func(account.User, account.User, account.Ties) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"users", "pw_recovery"} {
		if n := s.Number(t, "SELECT count(*) FROM "+table); n != 0 {
			t.Errorf("%s: %d rows are left", table, n)
		}
	}
}

// Queries that a transaction waits for use an index, and listings keep the
// order of creation without sorting.
func TestQueryPlans(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "data.db"))
	for _, tt := range []struct {
		query string
		args  []any
	}{
		{store.SelectByName, []any{"ann"}},
		{store.CandidateByName, []any{"ann", []byte{1}}},
		{store.SomeoneOfRank, []any{1}},
		{"SELECT seq, " + store.UserColumns + " FROM users WHERE 1 = 1 AND host_rank > $1 AND seq > $2 ORDER BY seq LIMIT $3", []any{1, 0, 50}},
	} {
		plan := s.Plan(t, tt.query, tt.args...)
		if strings.Contains(plan, "SCAN users") || strings.Contains(plan, "SCAN pw_recovery") || strings.Contains(plan, "TEMP B-TREE") {
			t.Errorf("%s: %s", tt.query, plan)
		}
	}
}

// All that is asked about channels is found by an index and comes in its order.
func TestChannelPlans(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "data.db"))
	for _, query := range store.ChannelStatements() {
		args := slices.Repeat([]any{1}, highestParam(query))
		plan := s.Plan(t, query, args...)
		if strings.Contains(plan, "SCAN") || strings.Contains(plan, "TEMP B-TREE") {
			t.Errorf("%s: %s", query, plan)
		}
	}
}

// highestParam returns the number of parameters of a statement.
func highestParam(query string) int {
	for n := 9; n > 0; n-- {
		if strings.Contains(query, fmt.Sprint("$", n)) {
			return n
		}
	}
	return 0
}

// What people type reaches the database as text only, through whatever call.
func TestHostileTextsThroughTheRules(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "data.db"))
	service := account.New(account.Config{Store: s, Hasher: accounttest.Hasher(t)})
	boss, err := service.Create(ctx, account.NewAccount{Name: "boss", Email: "boss@example.org"}, goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	ann, err := service.Create(ctx, account.NewAccount{Name: "ann", Email: "ann@example.org"}, goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := service.RequestRecovery(ctx, account.Login{Name: "ann"}); err != nil {
		t.Fatal(err)
	}
	tables := func() [3]int {
		return [3]int{
			s.Number(t, "SELECT count(*) FROM users WHERE host_rank = 2 AND locked = 0 AND new_password_req = 0 AND new_name_req = 0"),
			s.Number(t, "SELECT count(*) FROM pw_recovery WHERE recovery_hash <> ''"),
			s.Number(t, "SELECT count(*) FROM sqlite_master"),
		}
	}
	want := tables()
	for i, text := range []string{
		`'`, `''`, `\'`, `"`, "`", `x'OR'1'='1`, `'--`, `';DROP/**/TABLE/**/users;--`, `'OR(1)OR'`, `'||hash||'`, `ann'/*`, `$1`, `?1`, `:id`, `@id`,
		`%`, `_n_`, `a%`, "ann\x00", "ann'\x00--", "\xff'", `'UNION/**/SELECT`, "ann' --", `x'),('y`, `1;DELETE`, `ann"--`,
	} {
		other := account.Secret(text)
		for verb, call := range map[string]func() error{
			"Find":           func() error { _, err := service.Find(ctx, text); return err },
			"UserByName":     func() error { _, err := service.UserByName(ctx, text); return err },
			"UserByEmail":    func() error { _, err := service.UserByEmail(ctx, text); return err },
			"SetRank":        func() error { _, _, err := service.SetRank(ctx, boss.ID, text, 9, allow); return err },
			"Lock":           func() error { _, err := service.Lock(ctx, boss.ID, text, true, allow); return err },
			"ForceEmail":     func() error { _, err := service.ForceEmail(ctx, boss.ID, text, "x@example.org", allow); return err },
			"DemandPassword": func() error { _, err := service.DemandPassword(ctx, boss.ID, text, true, allow); return err },
			"DemandName":     func() error { _, err := service.DemandName(ctx, boss.ID, text, true, allow); return err },
			"Remove":         func() error { _, err := service.Remove(ctx, boss.ID, text, allow); return err },
			"MarkVerified":   func() error { _, err := service.MarkVerified(ctx, ann.ID, text); return err },
			"RequestRecovery": func() error {
				_, _, err := service.RequestRecovery(ctx, account.Login{Name: text})
				return err
			},
			"RequestRecovery by address": func() error {
				_, _, err := service.RequestRecovery(ctx, account.Login{Email: text + "@a.b"})
				return err
			},
			"Authenticate": func() error {
				_, err := service.Authenticate(ctx, account.Login{Name: text}, other, remote)
				return err
			},
			"CheckRecovery": func() error {
				_, err := service.CheckRecovery(ctx, account.Login{Name: text}, other, remote)
				return err
			},
			"Recover": func() error {
				_, err := service.Recover(ctx, account.Login{Email: text + "@a.b"}, other, nextPassword, remote)
				return err
			},
			"SetPassword": func() error { return service.SetPassword(ctx, wire.UserID{}, slices.Concat(other, nextPassword)) },
		} {
			if err := call(); err == nil {
				t.Errorf("%s %q: accepted", verb, text)
			}
		}
		// What the rules accept is stored as it is.
		for verb, call := range map[string]func() (got, want string, err error){
			"SetDisplay": func() (string, string, error) {
				u, err := service.SetDisplay(ctx, ann.ID, text)
				return u.Display, text, err
			},
			"SetEmail": func() (string, string, error) {
				addr := text + "@example.org"
				_, u, err := service.SetEmail(ctx, boss.ID, addr)
				return u.Email, addr, err
			},
			"ForceEmail": func() (string, string, error) {
				addr := text + "@example.com"
				u, err := service.ForceEmail(ctx, ann.ID, "boss", addr, allow)
				return u.Email, addr, err
			},
			"Rename": func() (string, string, error) {
				u, err := service.Rename(ctx, ann.ID, text)
				if err == nil {
					_, err = service.Rename(ctx, ann.ID, "ann")
				}
				return u.Name, text, err
			},
			"Create and Remove": func() (string, string, error) {
				u, err := service.Create(ctx, account.NewAccount{Name: text, Email: fmt.Sprintf("n%d@example.org", i), Display: text}, goodPassword)
				if err == nil {
					_, err = service.Remove(ctx, boss.ID, text, allow)
				}
				return u.Name + u.Display, text + text, err
			},
		} {
			got, want, err := call()
			var rule *account.RuleError
			if err != nil && !errors.As(err, &rule) || err == nil && got != want {
				t.Errorf("%s %q: got %q, %v", verb, text, got, err)
			}
		}
		if got := tables(); got != want {
			t.Fatalf("%q has changed the tables: %v, want %v", text, got, want)
		}
	}
	if got := s.Pragma(t, "integrity_check"); got != "ok" {
		t.Error(got)
	}
}

// Guesses of a recovery password side by side, over two stores on one file,
// are judged no more often than one after another; of many right ones at once
// one counts.
func TestParallelRecoveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "data.db")
		var mu sync.Mutex
		counted, voided := 0, 0
		var services []*account.Service
		for range 2 {
			services = append(services, account.New(account.Config{
				Store: open(t, path), Hasher: accounttest.Hasher(t),
				OnAttempt: func(_ context.Context, a account.Attempt) {
					mu.Lock()
					defer mu.Unlock()
					if a.Counted {
						counted++
					}
					if a.Voided {
						voided++
					}
				},
			}))
		}
		if _, err := services[0].Create(ctx, account.NewAccount{Name: "ann", Email: "ann@example.org"}, goodPassword); err != nil {
			t.Fatal(err)
		}
		l := account.Login{Name: "ann"}
		_, recovery, err := services[0].RequestRecovery(ctx, l)
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for worker := range 10 {
			all.Go(func() {
				for i := range 5 {
					guess := account.Secret(fmt.Sprintf("guess %d %d", worker, i))
					if _, err := services[worker%2].CheckRecovery(ctx, l, guess, remote); err != account.ErrRecoveryRefused {
						t.Errorf("got %v, want ErrRecoveryRefused", err)
					}
				}
			})
		}
		all.Wait()
		if counted != 5 || voided != 1 {
			t.Errorf("%d guesses were judged, %d voided; want 5 and 1", counted, voided)
		}
		if _, err := services[1].CheckRecovery(ctx, l, recovery, remote); err != account.ErrRecoveryRefused {
			t.Errorf("voided: got %v, want ErrRecoveryRefused", err)
		}

		if _, recovery, err = services[1].RequestRecovery(ctx, l); err != nil {
			t.Fatal(err)
		}
		done := 0
		for worker := range 10 {
			all.Go(func() {
				_, err := services[worker%2].Recover(ctx, l, recovery, fmt.Appendf(nil, "%s %d", string(nextPassword), worker), remote)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					done++
				case err != account.ErrRecoveryRefused:
					t.Error(err)
				}
			})
		}
		all.Wait()
		if done != 1 {
			t.Errorf("%d have changed the password, want 1", done)
		}
	})
}
