package account_test

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"mrci.dev/mrci/internal/account"
)

func TestLockTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.setPolicy(account.Policy{AutoLockLimit: 3})
		u := f.create(t, "ann")
		failUntilLocked := func() time.Duration {
			t.Helper()
			for range 3 {
				f.try(t, "ann", account.Secret("x"), remote)
			}
			got, err := f.User(ctx, u.ID)
			if err != nil {
				t.Fatal(err)
			}
			if got.Locked {
				t.Error("failures set the flag of lock_acct")
			}
			return got.LockedUntil.Sub(f.now.Truncate(time.Second))
		}
		const m = time.Minute
		for i, want := range []time.Duration{15 * m, 30 * m, 60 * m, 120 * m, 240 * m, 240 * m} {
			if got := failUntilLocked(); got != want {
				t.Fatalf("lock %d: %v, want %v", i+1, got, want)
			}
			f.advance(want - time.Second)
			if f.try(t, "ann", goodPassword, remote) {
				t.Fatalf("lock %d ended too early", i+1)
			}
			f.advance(time.Second)
		}
		// A success begins anew, and so does a day without a lock.
		if !f.try(t, "ann", goodPassword, remote) {
			t.Fatal("refused although the lock has ended")
		}
		if got := failUntilLocked(); got != 15*m {
			t.Errorf("after a success: %v", got)
		}
		f.advance(15*m + 24*time.Hour + time.Second)
		if got := failUntilLocked(); got != 15*m {
			t.Errorf("after a day: %v", got)
		}
		f.advance(15*m + 24*time.Hour)
		if got := failUntilLocked(); got != 30*m {
			t.Errorf("within a day: %v", got)
		}
		// Tries while locked do not prolong it.
		before, _ := f.User(ctx, u.ID)
		for range 10 {
			f.try(t, "ann", account.Secret("x"), remote)
		}
		if after, _ := f.User(ctx, u.ID); after.LockedUntil != before.LockedUntil {
			t.Errorf("prolonged from %v to %v", before.LockedUntil, after.LockedUntil)
		}
	})
}

func TestOldFailuresStopCounting(t *testing.T) {
	f := newFixture(t)
	f.setPolicy(account.Policy{AutoLockLimit: 3})
	f.create(t, "ann")
	f.try(t, "ann", account.Secret("x"), remote) // counts until 24:00:00
	f.advance(12 * time.Hour)
	f.try(t, "ann", account.Secret("x"), remote) // counts until 36:00:00
	f.advance(12*time.Hour + time.Second)
	f.try(t, "ann", account.Secret("x"), remote)
	if !f.try(t, "ann", goodPassword, remote) {
		t.Error("the first failure still counts after a day")
	}
	for range 2 {
		f.try(t, "ann", account.Secret("x"), remote)
	}
	f.advance(24 * time.Hour)
	f.try(t, "ann", account.Secret("x"), remote)
	if f.try(t, "ann", goodPassword, remote) {
		t.Error("failures of exactly a day ago do not count")
	}
}

func TestLockAcct(t *testing.T) {
	f := newFixture(t)
	f.setPolicy(account.Policy{AutoLockLimit: 1})
	u := f.create(t, "ann")
	got, err := f.SetLocked(ctx, u.ID, true)
	if err != nil || !got.Locked || !got.LockedAt(f.now) {
		t.Fatalf("got %+v, %v", got, err)
	}
	f.advance(1000 * 24 * time.Hour)
	for _, from := range []netip.Addr{remote, loopback} {
		if f.try(t, "ann", goodPassword, from) {
			t.Errorf("%v: logged in", from)
		}
	}
	if got, err = f.SetLocked(ctx, u.ID, false); err != nil || got.Locked || !f.try(t, "ann", goodPassword, remote) {
		t.Errorf("got %+v, %v", got, err)
	}
	// Ending it ends a lock by failures too.
	f.try(t, "ann", account.Secret("x"), remote)
	if f.try(t, "ann", goodPassword, remote) {
		t.Fatal("not locked")
	}
	if got, err = f.SetLocked(ctx, u.ID, false); err != nil || got.LockedAt(f.now) || !f.try(t, "ann", goodPassword, remote) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestLoopbackIsNotLockedOut(t *testing.T) {
	for _, tt := range []struct {
		name     string
		failures []netip.Addr // three of them lock
		client   string
		ok       bool
	}{
		{"remote failures, remote client", []netip.Addr{remote, remote, remote}, "192.0.2.7", false},
		{"remote failures, another one", []netip.Addr{remote, remote, remote}, "2001:db8::1", false},
		{"remote failures, loopback", []netip.Addr{remote, remote, remote}, "127.0.0.1", true},
		{"remote failures, IPv6 loopback", []netip.Addr{remote, remote, remote}, "::1", true},
		{"remote failures, mapped loopback", []netip.Addr{remote, remote, remote}, "::ffff:127.0.0.1", true},
		{"one local failure", []netip.Addr{loopback, remote, remote}, "127.0.0.1", false},
		{"the last one local", []netip.Addr{remote, remote, loopback}, "127.0.0.1", false},
		{"local failures, remote client", []netip.Addr{loopback, loopback, loopback}, "192.0.2.7", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			f.setPolicy(account.Policy{AutoLockLimit: 3})
			f.create(t, "ann")
			for _, from := range tt.failures {
				f.try(t, "ann", account.Secret("x"), from)
			}
			if ok := f.try(t, "ann", goodPassword, netip.MustParseAddr(tt.client)); ok != tt.ok {
				t.Errorf("got %v, want %v", ok, tt.ok)
			}
		})
	}
	t.Run("local guesses are limited all the same", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t)
			f.setPolicy(account.Policy{AutoLockLimit: 3})
			f.create(t, "ann")
			for range 3 {
				f.try(t, "ann", account.Secret("x"), remote)
			}
			for range 3 {
				f.try(t, "ann", account.Secret("x"), loopback)
			}
			if f.try(t, "ann", goodPassword, loopback) {
				t.Error("logged in")
			}
		})
	})
}

// A lock that was made while the clock was years ahead does not hold for years.
func TestLockFromAWrongClock(t *testing.T) {
	f := newFixture(t)
	f.setPolicy(account.Policy{AutoLockLimit: 1})
	f.create(t, "ann")
	f.advance(10 * 365 * 24 * time.Hour)
	f.try(t, "ann", account.Secret("x"), remote)
	f.advance(-10 * 365 * 24 * time.Hour)
	if !f.try(t, "ann", goodPassword, remote) {
		t.Error("refused")
	}
}

// An enormous limit must not make an enormous record.
func TestFailuresAreBounded(t *testing.T) {
	var tally account.Tally
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var locked bool
	for i := range 20_000 {
		tally, locked = tally.Failed(now, i%10 == 0, 1_000_000)
		if locked {
			t.Fatal("locked")
		}
		now = now.Add(5 * time.Second)
	}
	if most := account.ManyFailures + 24*60 + 1; len(tally.Failures) > most {
		t.Errorf("%d entries, want at most %d", len(tally.Failures), most)
	}
	total := 0
	for _, failure := range tally.Failures {
		total += failure.Count
	}
	// A minute ages as a whole.
	if day := 24 * 60 * 60 / 5; total < day-12 || total > day+12 {
		t.Errorf("%d count, want those of a day", total)
	}
}

func TestFailuresText(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       account.Failures
		ok         bool
	}{
		{"none", "", nil, true},
		{"one", "1700000000:1:0", account.Failures{{At: 1700000000, Count: 1}}, true},
		{"two", "5:2:1 60:3:3", account.Failures{{At: 5, Count: 2, Local: 1}, {At: 60, Count: 3, Local: 3}}, true},

		{"words", "x", nil, false},
		{"part missing", "5:1", nil, false},
		{"part added", "5:1:0:0", nil, false},
		{"not a number", "5:1:x", nil, false},
		{"no failure", "5:0:0", nil, false},
		{"negative", "5:1:-1", nil, false},
		{"more local than there are", "5:1:2", nil, false},
		{"huge", "5:99999999999:0", nil, false},
	} {
		var got account.Failures
		err := got.UnmarshalText([]byte(tt.text))
		if (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want ok %v", tt.name, err, tt.ok)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
		if text, err := got.MarshalText(); tt.ok && (err != nil || string(text) != tt.text) {
			t.Errorf("%s: written as %q, %v", tt.name, text, err)
		}
	}
}

func FuzzFailures(f *testing.F) {
	for _, seed := range []string{"", "1700000000:1:0", "5:2:1 60:3:3", " 5:1:1  6:1:0\n", "5:1:2", "-5:1:0", "+5:01:0", "x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var got, again account.Failures
		if got.UnmarshalText([]byte(text)) != nil {
			return
		}
		// Lenient about blanks, signs and leading zeros; what it writes, it
		// reads as the same.
		written, err := got.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalText(written); err != nil || !cmp.Equal(got, again) {
			t.Errorf("%q was written as %q, which is %v, %v", text, written, again, err)
		}
	})
}

// lockModel says what the rules of state 3.2 mean, in the plainest way: it
// keeps every failure.
type lockModel struct {
	limit    int
	failures []modelFailure
	blocked  bool // by lock_acct
	until    time.Time
	local    bool // whether the lock binds local clients
	streak   int
}

type modelFailure struct {
	at    time.Time
	local bool
}

func (m *lockModel) try(now time.Time, right, local bool) bool {
	if m.blocked || now.Before(m.until) && (m.local || !local) {
		return false
	}
	if right {
		*m = lockModel{limit: m.limit}
		return true
	}
	m.failures = append(m.failures, modelFailure{now, local})
	count, locals := 0, 0
	for _, f := range m.failures {
		if now.Sub(f.at) <= 24*time.Hour {
			count++
			if f.local {
				locals++
			}
		}
	}
	if count < m.limit {
		return false
	}
	if now.Sub(m.until) > 24*time.Hour {
		m.streak = 0
	}
	m.streak++
	end := now.Add(min(15*time.Minute<<min(m.streak-1, 10), 4*time.Hour))
	if end.After(m.until) {
		m.until = end
	}
	m.local = locals > 0
	m.failures = nil
	return false
}

func TestLockModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		limit := rapid.IntRange(1, 5).Draw(r, "limit")
		f := newFixture(t)
		f.setPolicy(account.Policy{AutoLockLimit: limit})
		u := f.create(t, "ann")
		model := &lockModel{limit: limit}
		for range rapid.IntRange(1, 60).Draw(r, "steps") {
			switch rapid.IntRange(0, 9).Draw(r, "step") {
			case 0:
				state := rapid.Bool().Draw(r, "lock_acct")
				if _, err := f.SetLocked(ctx, u.ID, state); err != nil {
					r.Fatal(err)
				}
				if state {
					model.blocked = true
				} else {
					*model = lockModel{limit: limit}
				}
			case 1, 2, 3:
				f.advance(time.Duration(rapid.SampledFrom([]int64{1, 59, 60, 899, 900, 901, 1800, 3600, 14400, 14401, 43200, 86399, 86400, 86401, 100800}).Draw(r, "seconds")) * time.Second)
			default:
				right := rapid.IntRange(0, 7).Draw(r, "right") == 0
				local := rapid.Bool().Draw(r, "local")
				pw, from := account.Secret("x"), remote
				if right {
					pw = goodPassword
				}
				if local {
					from = loopback
				}
				now := f.now.Truncate(time.Second)
				f.ForgetRefusals("ann")
				want := model.try(now, right, local)
				if got := f.try(t, "ann", pw, from); got != want {
					r.Fatalf("at %v, right %v, local %v: got %v, want %v", now, right, local, got, want)
				}
			}
			now := f.now.Truncate(time.Second)
			got, err := f.User(ctx, u.ID)
			if err != nil {
				r.Fatal(err)
			}
			if want := model.blocked || now.Before(model.until); got.LockedAt(now) != want {
				r.Fatalf("at %v: locked %v (%v), want %v (%v)", now, got.LockedAt(now), got.LockedUntil, want, model.until)
			}
		}
	})
}

func ExampleRuleError() {
	fmt.Println(account.CheckName("a\u00a0b"))
	// Output: the user name contains white space or an invisible character; leave it out
}
