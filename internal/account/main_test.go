package account_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/account/accounttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var goodPassword = account.Secret("Tr0ub4dor&3")

var (
	remote   = netip.MustParseAddr("192.0.2.7")
	loopback = netip.MustParseAddr("127.0.0.1")
	ctx      = context.Background()
)

// fixture is a Service over a store in memory, with a clock that stands still
// unless the test moves it.
type fixture struct {
	*account.Service
	store  *accounttest.Store
	hasher *account.Hasher

	mu       sync.Mutex
	now      time.Time
	policy   account.Policy
	attempts []account.Attempt
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{
		store:  new(accounttest.Store),
		hasher: accounttest.Hasher(t),
		now:    time.Date(2026, 2, 3, 4, 5, 6, 789, time.UTC),
	}
	f.Service = account.New(account.Config{
		Store:  f.store,
		Hasher: f.hasher,
		Policy: func() account.Policy {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.policy
		},
		Now: func() time.Time {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.now
		},
		OnAttempt: func(_ context.Context, a account.Attempt) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.attempts = append(f.attempts, a)
		},
	})
	return f
}

func (f *fixture) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func (f *fixture) setPolicy(p account.Policy) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.policy = p
}

// create makes the account NAME with address NAME@example.org and goodPassword.
func (f *fixture) create(t *testing.T, name string) account.User {
	t.Helper()
	u, err := f.Create(ctx, account.NewAccount{Name: name, Email: name + "@example.org"}, goodPassword)
	if err != nil {
		t.Fatalf("create %q: %v", name, err)
	}
	return u
}

// try logs in by name and reports whether that worked; anything but success
// and ErrRefused ends the test.
func (f *fixture) try(t *testing.T, name string, pw account.Secret, from netip.Addr) bool {
	t.Helper()
	_, err := f.Authenticate(ctx, account.Login{Name: name}, pw, from)
	if err != nil && !errors.Is(err, account.ErrRefused) {
		t.Fatalf("log in as %q: %v", name, err)
	}
	return err == nil
}

// wantRule checks that err is a *RuleError about field.
func wantRule(t *testing.T, err error, field string) {
	t.Helper()
	var rule *account.RuleError
	if !errors.As(err, &rule) {
		t.Fatalf("got %v, want a *RuleError about %s", err, field)
	}
	if rule.Field != field {
		t.Errorf("field: got %q, want %q (%s)", rule.Field, field, rule.Text)
	}
}
