// Package storetest is the contract of the host's stores: the suite that every
// implementation of account.Store, of channel.Store, and of the ranks of
// commands, must pass.
// See state 1.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/names"
	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/wire"
)

// Ranks keeps the ranks of commands.
type Ranks interface {
	Ranks(ctx context.Context) ([]store.Rank, error)
	AddRank(ctx context.Context, r store.Rank) error
	RemoveRank(ctx context.Context, module, command string) error
}

// Store is everything that a host's store does.
type Store interface {
	Logins
	Ranks
}

// Run runs the whole suite. open returns an empty store that is closed when
// its test ends.
func Run(t *testing.T, open func(t *testing.T) Store) {
	RunAccounts(t, func(t *testing.T) account.Store { return open(t) })
	RunChannels(t, func(t *testing.T) Channels { return open(t) })
	t.Run("login", func(t *testing.T) { testLogin(t, open(t)) })
	for name, test := range map[string]func(*testing.T, Ranks){
		"ranks": testRanks,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// RunAccounts runs the part of the suite about accounts.
func RunAccounts(t *testing.T, open func(t *testing.T) account.Store) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, account.Store)
	}{
		{"create and read", testCreate},
		{"names and addresses are unique", testUnique},
		{"first", testFirst},
		{"change", testChange},
		{"change that fails", testChangeFails},
		{"attempt", testAttempt},
		{"stand-ins", testStandIns},
		{"attempt at a recovery", testAttemptRecovery},
		{"recovery is kept and removed", testRecovery},
		{"change by another", testChangeBy},
		{"change by another that fails", testChangeByFails},
		{"remove", testRemoveBy},
		{"remove that fails", testRemoveByFails},
		{"rank becomes vacant", testVacated},
		{"hostile texts", testHostileTexts},
		{"transactions do not mix", testIsolation},
		{"one of many creates", testRace},
		{"list", testList},
		{"filters", testFilters},
		{"hostile filters", testHostileFilters},
		{"cursor stays valid", testCursor},
		{"cancelled context", testCancelled},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, open(t)) })
	}
}

var (
	ctx   = context.Background()
	start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

// Record returns an account called NAME, with everything set to something that
// must come back.
func Record(name string) account.Record {
	r := account.Record{
		User: account.User{
			Name: name, Email: name + "@example.org", Display: "The " + name, Rank: 1<<32 - 1, Registered: start,
			NewPasswordReq: true, NewNameReq: true, Locked: true, LockedUntil: start.Add(time.Hour), EmailVerified: true,
		},
		Hash: "$argon2id$" + name,
		Tally: account.Tally{
			Failures:    account.Failures{{At: 17, Count: 2, Local: 1}, {At: 99, Count: 1}},
			LockedUntil: start.Add(time.Hour), LockLocal: true, LockStreak: 3,
		},
		Recovery: account.Recovery{Hash: "$argon2id$recovery of " + name, Made: start.Add(time.Minute), Wrong: 2},
	}
	copy(r.ID[:], "id of "+name)
	return r
}

// plain returns an account of which nothing is set that need not be.
func plain(name string) account.Record {
	r := account.Record{User: account.User{Name: name, Email: name + "@example.org", Rank: 2, Registered: start}, Hash: "h"}
	copy(r.ID[:], "id of "+name)
	return r
}

func mustCreate(t *testing.T, s account.Store, records ...account.Record) {
	t.Helper()
	for _, r := range records {
		if err := s.Create(ctx, r, false); err != nil {
			t.Fatalf("create %s: %v", r.Name, err)
		}
	}
}

func mustRead(t *testing.T, s account.Store, id wire.UserID) account.Record {
	t.Helper()
	r, err := s.Account(ctx, account.Key{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func testCreate(t *testing.T, s account.Store) {
	for _, want := range []account.Record{Record("Jörg"), plain("ann")} {
		mustCreate(t, s, want)
		for _, key := range []account.Key{
			{ID: want.ID}, {Name: names.Fold(want.Name)}, {Email: names.Fold(want.Email)},
		} {
			got, err := s.Account(ctx, key)
			if err != nil {
				t.Fatalf("%+v: %v", key, err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%+v: %s", key, diff)
			}
		}
	}
	for _, key := range []account.Key{
		{}, {ID: wire.UserID{1}}, {Name: "ANN"}, {Name: "bob"}, {Email: "ann"}, {Email: "ann@example.or"}, {Name: "' OR 1=1 --"},
	} {
		if r, err := s.Account(ctx, key); !errors.Is(err, account.ErrNotFound) || r.Hash != "" {
			t.Errorf("%+v: got %q, %v; want ErrNotFound", key, r.Name, err)
		}
	}
}

func testUnique(t *testing.T, s account.Store) {
	mustCreate(t, s, plain("Jörg"))
	for _, tt := range []struct {
		name, email string
		want        error
	}{
		{"Jörg", "x@example.org", account.ErrNameTaken},
		{"jÖRG", "x@example.org", account.ErrNameTaken},
		{"JO\u0308RG", "x@example.org", account.ErrNameTaken},
		{"other", "jÖRG@EXAMPLE.org", account.ErrEmailTaken},
		{"JÖRG", "JÖRG@EXAMPLE.org", account.ErrNameTaken},
		{"Jorg", "jorg@example.org", nil},
	} {
		r := plain("new")
		r.ID[31] = 1
		r.Name, r.Email = tt.name, tt.email
		if err := s.Create(ctx, r, false); !errors.Is(err, tt.want) {
			t.Errorf("%s, %s: got %v, want %v", tt.name, tt.email, err, tt.want)
		}
	}
	// The same account twice.
	if err := s.Create(ctx, plain("Jörg"), false); !errors.Is(err, account.ErrNameTaken) {
		t.Errorf("twice: got %v", err)
	}
}

func testFirst(t *testing.T, s account.Store) {
	if err := s.Create(ctx, plain("ann"), true); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bob", "ann"} {
		if err := s.Create(ctx, plain(name), true); !errors.Is(err, account.ErrNotFirst) {
			t.Errorf("%s: got %v, want ErrNotFirst", name, err)
		}
	}
	mustCreate(t, s, plain("bob"))
}

func testChange(t *testing.T, s account.Store) {
	before := plain("ann")
	mustCreate(t, s, before, plain("bob"))
	want := Record("ann")
	want.Name, want.Email = "Änne", "Änne@example.org"
	got, err := s.Change(ctx, before.ID, func(r *account.Record) error {
		if diff := cmp.Diff(before, *r); diff != "" {
			t.Error(diff)
		}
		*r = want
		r.LockedUntil = time.Time{} // the tally counts
		r.ID, r.Registered = wire.UserID{9}, start.Add(time.Hour)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, mustRead(t, s, before.ID)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(plain("bob"), mustRead(t, s, plain("bob").ID)); diff != "" {
		t.Errorf("another account changed: %s", diff)
	}
	// The old name and address are free, and the new ones found.
	mustCreate(t, s, func() account.Record { r := plain("ann"); r.ID[31] = 1; return r }())
	if r, err := s.Account(ctx, account.Key{Name: names.Fold("ÄNNE")}); err != nil || r.ID != want.ID {
		t.Errorf("by the new name: %v", err)
	}
	// Another case of the own name and address is no collision.
	if _, err := s.Change(ctx, before.ID, func(r *account.Record) error {
		r.Name, r.Email = "ÄNNE", "ÄNNE@example.org"
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func testChangeFails(t *testing.T, s account.Store) {
	want := Record("ann")
	mustCreate(t, s, want, plain("bob"))
	mine := errors.New("mine")
	for _, tt := range []struct {
		name   string
		id     wire.UserID
		change func(*account.Record) error
		want   error
	}{
		{"own error", want.ID, func(r *account.Record) error { r.Name = "x"; return mine }, mine},
		{"name taken", want.ID, func(r *account.Record) error { r.Name, r.Rank = "BOB", 7; return nil }, account.ErrNameTaken},
		{"address taken", want.ID, func(r *account.Record) error { r.Email, r.Rank = "Bob@Example.org", 7; return nil }, account.ErrEmailTaken},
		{"unknown", wire.UserID{9}, func(*account.Record) error { t.Error("called"); return nil }, account.ErrNotFound},
	} {
		got, err := s.Change(ctx, tt.id, tt.change)
		if !errors.Is(err, tt.want) || got.Hash != "" {
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

func testAttempt(t *testing.T, s account.Store) {
	want := Record("ann")
	mustCreate(t, s, want)
	for i, key := range []account.Key{{ID: want.ID}, {Name: "ann"}, {Email: "ann@example.org"}} {
		for _, store := range []bool{false, true} {
			tally := account.Tally{Failures: account.Failures{{At: int64(i), Count: 1}}, LockStreak: i, LockedUntil: start.Add(time.Duration(i) * time.Second)}
			calls := 0
			err := s.Attempt(ctx, key, func(r account.Record) (account.Tally, bool) {
				calls++
				if diff := cmp.Diff(want, r); diff != "" {
					t.Error(diff)
				}
				return tally, store
			})
			if err != nil || calls != 1 {
				t.Fatalf("%+v: %v, judged %d times", key, err, calls)
			}
			if store {
				want.Tally, want.LockedUntil = tally, tally.LockedUntil
			}
			if diff := cmp.Diff(want, mustRead(t, s, want.ID)); diff != "" {
				t.Errorf("%+v: %s", key, diff)
			}
		}
	}
	// The zero tally clears everything, as after a success.
	if err := s.Attempt(ctx, account.Key{Name: "ann"}, func(account.Record) (account.Tally, bool) { return account.Tally{}, true }); err != nil {
		t.Fatal(err)
	}
	want.Tally, want.LockedUntil = account.Tally{}, time.Time{}
	if diff := cmp.Diff(want, mustRead(t, s, want.ID)); diff != "" {
		t.Error(diff)
	}
	for _, key := range []account.Key{{ID: wire.UserID{9}}, {Name: "bob"}, {Email: "bob@example.org"}} {
		err := s.Attempt(ctx, key, func(account.Record) (account.Tally, bool) { t.Error("judged"); return account.Tally{}, true })
		if !errors.Is(err, account.ErrNotFound) {
			t.Errorf("%+v: got %v, want ErrNotFound", key, err)
		}
	}
}

// testStandIns checks what an attempt on an account that does not exist reads,
// and that it changes none.
func testStandIns(t *testing.T, s account.Store) {
	unknown := []account.Key{{ID: wire.UserID{9}}, {ID: wire.UserID{0xff}}, {Name: "nobody"}, {Email: "nobody@example.org"}}
	attempt := func(key account.Key) {
		t.Helper()
		login := s.Attempt(ctx, key, func(account.Record) (account.Tally, bool) { t.Error("judged"); return account.Tally{}, true })
		recovery := s.AttemptRecovery(ctx, key, func(account.Record) (account.Recovery, bool) {
			t.Error("judged")
			return account.Recovery{}, true
		})
		if login != account.ErrNotFound || recovery != account.ErrNotFound {
			t.Errorf("%+v: got %v and %v, want ErrNotFound", key, login, recovery)
		}
	}
	for _, key := range unknown {
		if r, err := s.Candidate(ctx, key); err != nil || !cmp.Equal(r, account.Record{}) {
			t.Errorf("%+v without accounts: %+v, %v", key, r, err)
		}
		attempt(key)
	}
	var all []account.Record
	for i := range 20 {
		r := Record(fmt.Sprintf("ann%02d", i))
		r.Hash = fmt.Sprintf("hash %d", i)
		r.Recovery.Hash = fmt.Sprintf("recovery %d", i)
		mustCreate(t, s, r)
		all = append(all, r)
	}
	for i := range 20 {
		unknown = append(unknown, account.Key{Name: fmt.Sprintf("bob%02d", i)}, account.Key{Email: fmt.Sprintf("bob%02d@example.org", i)})
	}
	for _, key := range unknown {
		first, err := s.Candidate(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		if first.User != (account.User{}) {
			t.Errorf("%+v is somebody: %+v", key, first.User)
		}
		if !slices.ContainsFunc(all, func(r account.Record) bool {
			return r.Hash == first.Hash && r.Recovery == first.Recovery && cmp.Equal(r.Tally, first.Tally)
		}) {
			t.Errorf("%+v: not the rest of an account: %+v", key, first)
		}
		attempt(key)
		if again, err := s.Candidate(ctx, key); err != nil || !cmp.Equal(again, first) {
			t.Errorf("%+v: got %+v, %v, want the stand-in from before: %+v", key, again, err, first)
		}
	}
	for _, r := range all {
		for _, key := range []account.Key{{ID: r.ID}, {Name: names.Fold(r.Name)}, {Email: names.Fold(r.Email)}} {
			got, err := s.Candidate(ctx, key)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(r, got); diff != "" {
				t.Errorf("%+v: %s", key, diff)
			}
		}
	}
}

// testIsolation counts in many goroutines: none may be lost.
func testIsolation(t *testing.T, s account.Store) {
	r := plain("ann")
	mustCreate(t, s, r)
	const workers, rounds = 8, 25
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for range rounds {
				if err := s.Attempt(ctx, account.Key{Name: "ann"}, func(r account.Record) (account.Tally, bool) {
					r.Tally.LockStreak++
					return r.Tally, true
				}); err != nil {
					t.Error(err)
				}
				if _, err := s.Change(ctx, r.ID, func(r *account.Record) error { r.Rank++; return nil }); err != nil {
					t.Error(err)
				}
				if _, err := s.Account(ctx, account.Key{ID: r.ID}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	got := mustRead(t, s, r.ID)
	if got.Tally.LockStreak != workers*rounds || got.Rank != 2+workers*rounds {
		t.Errorf("counted %d and %d, want %d each", got.Tally.LockStreak, got.Rank-2, workers*rounds)
	}
}

func testRace(t *testing.T, s account.Store) {
	var all sync.WaitGroup
	var mu sync.Mutex
	results := make(map[error]int)
	for i := range 10 {
		all.Go(func() {
			r := plain("ann")
			r.ID[31] = byte(i + 1)
			err := s.Create(ctx, r, true)
			mu.Lock()
			defer mu.Unlock()
			results[err]++
		})
	}
	all.Wait()
	if results[nil] != 1 || results[account.ErrNotFirst] != 9 {
		t.Errorf("got %v", results)
	}
}

func testList(t *testing.T, s account.Store) {
	page, err := s.Accounts(ctx, account.Query{Limit: 10})
	if err != nil || page.More || page.Total != 0 || len(page.Users) != 0 {
		t.Fatalf("empty: %+v, %v", page, err)
	}
	var want []string
	for i := range 10 {
		name := fmt.Sprintf("user%d", (i*7)%10) // not in the order of names
		want = append(want, name)
		mustCreate(t, s, plain(name))
	}
	full := Record("full")
	want = append(want, full.Name)
	mustCreate(t, s, full)

	for limit := 1; limit <= 12; limit++ {
		var got []string
		q := account.Query{Limit: limit}
		for pages := 1; ; pages++ {
			page, err := s.Accounts(ctx, q)
			if err != nil {
				t.Fatal(err)
			}
			if page.Total != len(want) {
				t.Errorf("limit %d: total %d, want %d", limit, page.Total, len(want))
			}
			if len(page.Users) == 0 || len(page.Users) > limit {
				t.Fatalf("limit %d: a page of %d", limit, len(page.Users))
			}
			for _, u := range page.Users {
				got = append(got, u.Name)
				if u.Name == full.Name {
					if diff := cmp.Diff(full.User, u); diff != "" {
						t.Error(diff)
					}
				}
			}
			if !page.More {
				if n := (len(want) + limit - 1) / limit; pages != n {
					t.Errorf("limit %d: %d pages, want %d", limit, pages, n)
				}
				break
			}
			q.After = page.Next
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("limit %d: %s", limit, diff)
		}
	}
}

// listed returns the names that a filter selects.
func listed(t *testing.T, s account.Store, f account.Filter) []string {
	t.Helper()
	page, err := s.Accounts(ctx, account.Query{Filter: f, Limit: 100, Now: start})
	if err != nil {
		t.Fatalf("%+v: %v", f, err)
	}
	var names []string
	for _, u := range page.Users {
		names = append(names, u.Name)
	}
	if page.Total != len(names) || page.More {
		t.Errorf("%+v: total %d of %d, more %v", f, page.Total, len(names), page.More)
	}
	return names
}

func testFilters(t *testing.T, s account.Store) {
	ann, bob, carol := plain("Ann_1"), plain("bob"), plain("Carol")
	ann.Rank, bob.Rank, carol.Rank = 1, 12, 112
	ann.Registered, carol.Registered = start.Add(-24*time.Hour), start.Add(time.Minute)
	bob.Locked = true
	bob.EmailVerified = true
	carol.Tally.LockedUntil = start.Add(time.Second)
	carol.LockedUntil = carol.Tally.LockedUntil
	ann.Tally.LockedUntil = start // over
	ann.LockedUntil = start
	ann.ID, bob.ID, carol.ID = wire.UserID{0xab, 0xcd}, wire.UserID{0xab, 0xc0}, wire.UserID{0x12}
	mustCreate(t, s, ann, bob, carol)
	for _, tt := range []struct {
		name   string
		filter account.Filter
		want   []string
	}{
		{"none", account.Filter{}, []string{"Ann_1", "bob", "Carol"}},
		{"name", account.Filter{UserName: "O"}, []string{"bob", "Carol"}},
		{"whole name", account.Filter{UserName: "CAROL"}, []string{"Carol"}},
		{"underscore is itself", account.Filter{UserName: "_"}, []string{"Ann_1"}},
		{"percent is itself", account.Filter{UserName: "%"}, nil},
		{"tilde is itself", account.Filter{UserName: "~"}, nil},
		{"rank", account.Filter{HostRank: "12"}, []string{"bob", "Carol"}},
		{"rank of all", account.Filter{HostRank: "1"}, []string{"Ann_1", "bob", "Carol"}},
		{"time", account.Filter{TimeStamp: "2026-01-02"}, []string{"bob", "Carol"}},
		{"time of day", account.Filter{TimeStamp: "03:05:05"}, []string{"Carol"}},
		{"id", account.Filter{UserID: "abcd"}, []string{"Ann_1"}},
		{"id in upper case", account.Filter{UserID: "ABC"}, []string{"Ann_1", "bob"}},
		{"one digit of an id", account.Filter{UserID: "1"}, []string{"Carol"}},
		{"id is a prefix", account.Filter{UserID: "bc"}, nil},
		{"whole id", account.Filter{UserID: bob.ID.String()}, []string{"bob"}},
		{"id too long", account.Filter{UserID: bob.ID.String() + "0"}, nil},
		{"id not hex", account.Filter{UserID: "x"}, nil},
		{"verified", account.Filter{EmailVerified: "1"}, []string{"bob"}},
		{"not verified", account.Filter{EmailVerified: "0"}, []string{"Ann_1", "Carol"}},
		{"locked in either way", account.Filter{Locked: "1"}, []string{"bob", "Carol"}},
		{"not locked", account.Filter{Locked: "0"}, []string{"Ann_1"}},
		{"outranked", account.Filter{OutrankedBy: 12}, []string{"Carol"}},
		{"outranked by the first", account.Filter{OutrankedBy: 1}, []string{"bob", "Carol"}},
		{"outranked by the last", account.Filter{OutrankedBy: 1<<32 - 1}, nil},
		{"several", account.Filter{UserName: "o", HostRank: "2", UserID: "ab", Locked: "1", TimeStamp: "2026", EmailVerified: "1", OutrankedBy: 2}, []string{"bob"}},
		{"several, none", account.Filter{UserName: "o", UserID: "abcd"}, nil},
	} {
		if diff := cmp.Diff(tt.want, listed(t, s, tt.filter)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

func testHostileFilters(t *testing.T, s account.Store) {
	mustCreate(t, s, plain("ann"))
	for _, text := range []string{
		`'`, `''`, `\'`, `"`, `ann' OR '1'='1`, `' UNION SELECT hash FROM users --`, `; DROP TABLE users; --`, `$1`, `?`, `:x`,
		"ann\x00", "\x00", "\xff", strings.Repeat("%", 100), strings.Repeat("a", 100_000), strings.Repeat("_%", 50_000), "~", "~~",
	} {
		for _, f := range []account.Filter{
			{UserName: text}, {TimeStamp: text}, {HostRank: text}, {UserID: text}, {EmailVerified: text}, {Locked: text},
		} {
			if got := listed(t, s, f); len(got) != 0 {
				t.Errorf("%.40q: got %v", text, got)
			}
		}
	}
	if got := listed(t, s, account.Filter{}); len(got) != 1 {
		t.Errorf("afterwards: %v", got)
	}
}

// testCursor adds rows while somebody turns pages.
func testCursor(t *testing.T, s account.Store) {
	var got []string
	var after account.Cursor
	for i := range 6 {
		mustCreate(t, s, plain(fmt.Sprintf("a%d", i)), plain(fmt.Sprintf("b%d", i)))
		page, err := s.Accounts(ctx, account.Query{After: after, Limit: 2})
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range page.Users {
			got = append(got, u.Name)
		}
		after = page.Next
	}
	want := []string{"a0", "b0", "a1", "b1", "a2", "b2", "a3", "b3", "a4", "b4", "a5", "b5"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	// The row in front of a place is removed, and so is the last one of all:
	// no later row takes its place.
	page, err := s.Accounts(ctx, account.Query{Limit: 3})
	if err != nil {
		t.Fatal(err)
	}
	mustRemove(t, s, "a1")
	if page, err = s.Accounts(ctx, account.Query{After: page.Next, Limit: 1}); err != nil || len(page.Users) != 1 || page.Users[0].Name != "b1" || page.Total != 11 {
		t.Errorf("behind a removed row: %+v, %v", page, err)
	}
	mustRemove(t, s, "b5")
	mustCreate(t, s, plain("c"))
	if page, err = s.Accounts(ctx, account.Query{After: after, Limit: 2}); err != nil || len(page.Users) != 1 || page.Users[0].Name != "c" {
		t.Errorf("behind the removed end: %+v, %v", page, err)
	}
	after = page.Next
	want = slices.DeleteFunc(append(want, "c"), func(name string) bool { return name == "a1" || name == "b5" })

	// Behind the end the place stays.
	page, err = s.Accounts(ctx, account.Query{After: after, Limit: 2})
	if err != nil || len(page.Users) != 0 || page.Next != after || page.More || page.Total != len(want) {
		t.Errorf("behind the end: %+v, %v", page, err)
	}
}

func testCancelled(t *testing.T, s account.Store) {
	r := plain("ann")
	mustCreate(t, s, r)
	gone := errors.New("client has gone")
	ctx, cancel := context.WithCancelCause(ctx)
	cancel(gone)
	for name, call := range map[string]func() error{
		"Account":  func() error { _, err := s.Account(ctx, account.Key{ID: r.ID}); return err },
		"Accounts": func() error { _, err := s.Accounts(ctx, account.Query{Limit: 1}); return err },
		"Create":   func() error { return s.Create(ctx, plain("bob"), false) },
		"Change": func() error {
			_, err := s.Change(ctx, r.ID, func(r *account.Record) error { r.Rank = 7; return nil })
			return err
		},
		"Attempt": func() error {
			return s.Attempt(ctx, account.Key{ID: r.ID}, func(account.Record) (account.Tally, bool) { return account.Tally{LockStreak: 1}, true })
		},
		"AttemptRecovery": func() error {
			return s.AttemptRecovery(ctx, account.Key{ID: r.ID}, func(account.Record) (account.Recovery, bool) { return account.Recovery{Hash: "x"}, true })
		},
		"ChangeBy": func() error {
			_, err := s.ChangeBy(ctx, r.ID, account.Key{ID: r.ID}, func(_ account.User, r *account.Record) error { r.Rank = 7; return nil })
			return err
		},
		"RemoveBy": func() error {
			_, err := s.RemoveBy(ctx, r.ID, account.Key{ID: r.ID}, noTies)
			return err
		},
	} {
		if err := call(); !errors.Is(err, gone) {
			t.Errorf("%s: got %v, want the cause", name, err)
		}
	}
	if diff := cmp.Diff(r, mustRead(t, s, r.ID)); diff != "" {
		t.Error(diff)
	}
	// The store still works.
	mustCreate(t, s, plain("bob"))
}

func testRanks(t *testing.T, s Ranks) {
	if got, err := s.Ranks(ctx); err != nil || len(got) != 0 {
		t.Fatalf("empty: %v, %v", got, err)
	}
	want := []store.Rank{
		{Module: "builtin", Command: "ls_users", Rank: 3},
		{Module: "/opt/Echo", Command: "Echo", Rank: 1<<32 - 1},
		{Module: "/opt/echo", Command: "echo", Rank: 1},
		{Module: "builtin", Command: "echo", Rank: 2},
	}
	for _, r := range want {
		if err := s.AddRank(ctx, r); err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
	}
	for _, r := range []store.Rank{
		{Module: "builtin", Command: "ls_users", Rank: 3},
		{Module: "builtin", Command: "LS_Users", Rank: 4},
		{Module: "/opt/Echo", Command: "ECHO", Rank: 5},
	} {
		if err := s.AddRank(ctx, r); !errors.Is(err, store.ErrExists) {
			t.Errorf("%+v: got %v, want ErrExists", r, err)
		}
	}
	check := func() {
		t.Helper()
		got, err := s.Ranks(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	check()
	for _, tt := range []struct{ module, command string }{
		{"BUILTIN", "ls_users"}, {"builtin", "ls_user"}, {"", ""}, {"/opt/ECHO", "echo"},
	} {
		if err := s.RemoveRank(ctx, tt.module, tt.command); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%+v: got %v, want ErrNotFound", tt, err)
		}
	}
	if err := s.RemoveRank(ctx, "/opt/Echo", "eCHO"); err != nil {
		t.Fatal(err)
	}
	want = slices.Delete(want, 1, 2)
	check()
	again := store.Rank{Module: "/opt/Echo", Command: "echo", Rank: 8}
	if err := s.AddRank(ctx, again); err != nil {
		t.Fatal(err)
	}
	want = append(want, again)
	check()
	// No rank is not a rank.
	if err := s.AddRank(ctx, store.Rank{Module: "builtin", Command: "x"}); err == nil {
		t.Error("rank 0 was stored")
	}
}
