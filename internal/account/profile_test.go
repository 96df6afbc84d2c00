package account_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/wire"
)

func TestSetDisplay(t *testing.T) {
	f := newFixture(t)
	want := f.create(t, "ann")
	for _, tt := range []struct{ text, want string }{
		{"Ann B.", "Ann B."}, {"  x\t", "x"}, {"", ""}, {"   ", ""}, {strings.Repeat("x", 24), strings.Repeat("x", 24)},
	} {
		want.Display = tt.want
		if u := must(t)(f.SetDisplay(ctx, want.ID, tt.text)); u != want {
			t.Errorf("%q: %s", tt.text, cmp.Diff(want, u))
		}
	}
	for _, text := range []string{strings.Repeat("x", 25), "a\nb", "a\x00b", "a\u202eb", "\xff"} {
		_, err := f.SetDisplay(ctx, want.ID, text)
		wantRule(t, err, "display_name")
	}
	if u := must(t)(f.User(ctx, want.ID)); u != want {
		t.Error(cmp.Diff(want, u))
	}
	if _, err := f.SetDisplay(ctx, wire.UserID{1}, "x"); err != account.ErrNotFound {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestSetEmail(t *testing.T) {
	f := newFixture(t)
	f.create(t, "bob")
	old := f.create(t, "ann")
	for _, addr := range []string{"new@example.org", "NEW@example.org", "ann@example.org"} {
		old = f.change(t, old.ID, func(r *account.Record) {
			r.EmailVerified = true
			r.Recovery = account.Recovery{Hash: "h", Made: f.now}
		})
		want := old
		want.Email, want.EmailVerified = addr, false
		before, after, err := f.SetEmail(ctx, old.ID, addr)
		if err != nil || before != old || after != want {
			t.Errorf("%s: %v %s%s", addr, err, cmp.Diff(old, before), cmp.Diff(want, after))
		}
		if r := f.record(t, old.ID); r.Recovery != (account.Recovery{}) {
			t.Error("the recovery password that went to the old address is still valid")
		}
		old = after
	}
	for _, addr := range []string{"", "x", "ann@example.org", "a b@example.org"} {
		_, _, err := f.SetEmail(ctx, old.ID, addr)
		wantRule(t, err, "email_address")
	}
	for _, addr := range []string{"bob@example.org", "BOB@Example.ORG"} {
		if before, after, err := f.SetEmail(ctx, old.ID, addr); err != account.ErrEmailTaken || before != after {
			t.Errorf("%s: got %v, want ErrEmailTaken", addr, err)
		}
	}
	if u := must(t)(f.User(ctx, old.ID)); u != old {
		t.Error(cmp.Diff(old, u))
	}
	if _, _, err := f.SetEmail(ctx, wire.UserID{1}, "x@example.org"); err != account.ErrNotFound {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestMarkVerified(t *testing.T) {
	f := newFixture(t)
	u := f.create(t, "ann")
	for _, addr := range []string{"", "other@example.org", "ANN@example.org"} {
		if _, err := f.MarkVerified(ctx, u.ID, addr); err != account.ErrEmailChanged {
			t.Errorf("%q: got %v, want ErrEmailChanged", addr, err)
		}
	}
	if got := must(t)(f.User(ctx, u.ID)); got.EmailVerified {
		t.Error("verified although the address is another one")
	}
	for range 2 {
		want := u
		want.EmailVerified = true
		if got := must(t)(f.MarkVerified(ctx, u.ID, u.Email)); got != want {
			t.Error(cmp.Diff(want, got))
		}
	}
	// The mail went to the old address.
	if _, _, err := f.SetEmail(ctx, u.ID, "new@example.org"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.MarkVerified(ctx, u.ID, u.Email); err != account.ErrEmailChanged {
		t.Errorf("got %v, want ErrEmailChanged", err)
	}
	if _, err := f.MarkVerified(ctx, wire.UserID{1}, u.Email); err != account.ErrNotFound {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestProfileStoreErrors(t *testing.T) {
	broken := errors.New("disk on fire")
	f := newFixture(t)
	s := account.New(account.Config{Store: errStore{f.store, broken}, Hasher: f.hasher})
	for name, call := range map[string]func() error{
		"SetDisplay":   func() error { _, err := s.SetDisplay(ctx, wire.UserID{1}, "x"); return err },
		"SetEmail":     func() error { _, _, err := s.SetEmail(ctx, wire.UserID{1}, "x@example.org"); return err },
		"MarkVerified": func() error { _, err := s.MarkVerified(ctx, wire.UserID{1}, "x@example.org"); return err },
		"Find":         func() error { _, err := s.Find(ctx, "ann"); return err },
	} {
		if err := call(); !errors.Is(err, broken) || !strings.Contains(err.Error(), ": ") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
