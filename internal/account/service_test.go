package account_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/account/accounttest"
	"mrci.dev/mrci/wire"
)

func TestCreate(t *testing.T) {
	f := newFixture(t)
	f.setPolicy(account.Policy{InitialRank: 9})
	u, err := f.Create(ctx, account.NewAccount{Name: "Jörg", Email: "J@Example.org", Display: "  Jörg L. "}, goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	want := account.User{
		ID: u.ID, Name: "Jörg", Email: "J@Example.org", Display: "Jörg L.", Rank: 9,
		Registered: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC),
	}
	if diff := cmp.Diff(want, u); diff != "" {
		t.Error(diff)
	}
	if u.ID.IsZero() {
		t.Error("the id is zero")
	}
	for name, get := range map[string]func() (account.User, error){
		"by id":      func() (account.User, error) { return f.User(ctx, u.ID) },
		"by name":    func() (account.User, error) { return f.UserByName(ctx, "JO\u0308RG") },
		"by address": func() (account.User, error) { return f.UserByEmail(ctx, "j@example.ORG") },
	} {
		got, err := get()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for name, get := range map[string]func() (account.User, error){
		"by id":       func() (account.User, error) { return f.User(ctx, wire.UserID{1}) },
		"by no id":    func() (account.User, error) { return f.User(ctx, wire.UserID{}) },
		"by name":     func() (account.User, error) { return f.UserByName(ctx, "nobody") },
		"by no name":  func() (account.User, error) { return f.UserByName(ctx, "") },
		"by address":  func() (account.User, error) { return f.UserByEmail(ctx, "n@example.org") },
		"by nothing":  func() (account.User, error) { return f.UserByEmail(ctx, "") },
		"name as key": func() (account.User, error) { return f.UserByName(ctx, "j@example.org") },
	} {
		if _, err := get(); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", name, err)
		}
	}
	if !f.try(t, "jörg", goodPassword, remote) {
		t.Error("cannot log in")
	}
}

func TestCheckNewOrder(t *testing.T) {
	f := newFixture(t)
	f.create(t, "taken")
	long := strings.Repeat("x", 25)
	// Each line breaks one rule less than the one above it.
	for _, tt := range []struct {
		n     account.NewAccount
		field string
		is    error
	}{
		{account.NewAccount{Display: long}, "user_name", nil},
		{account.NewAccount{Name: "a", Display: long}, "email_address", nil},
		{account.NewAccount{Name: "a", Email: "x", Display: long}, "user_name", nil},
		{account.NewAccount{Name: "a@b.c", Email: "x", Display: long}, "user_name", nil},
		{account.NewAccount{Name: "Root", Email: "x", Display: long}, "user_name", nil},
		{account.NewAccount{Name: "TAKEN", Email: "x", Display: long}, "email_address", nil},
		{account.NewAccount{Name: "TAKEN", Email: "TAKEN@example.org", Display: long}, "display_name", nil},
		{account.NewAccount{Name: "TAKEN", Email: "TAKEN@example.org"}, "user_name", account.ErrNameTaken},
		{account.NewAccount{Name: "free", Email: "TAKEN@example.org"}, "email_address", account.ErrEmailTaken},
		{account.NewAccount{Name: "free", Email: "free@example.org"}, "", nil},
	} {
		t.Run(fmt.Sprintf("%+v", tt.n), func(t *testing.T) {
			err := f.CheckNew(ctx, tt.n)
			_, createErr := f.Create(ctx, tt.n, account.Secret("short"))
			if tt.field == "" {
				if err != nil {
					t.Error(err)
				}
				wantRule(t, createErr, "password")
				return
			}
			wantRule(t, err, tt.field)
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("got %v, want %v", err, tt.is)
			}
			if !errors.Is(createErr, err) && createErr.Error() != err.Error() {
				t.Errorf("Create: got %v, want %v", createErr, err)
			}
		})
	}
}

// Of many who want one name at the same time one gets it.
func TestCreateAtTheSameTime(t *testing.T) {
	f := newFixture(t)
	var all sync.WaitGroup
	var mu sync.Mutex
	made, taken := 0, 0
	for i := range 20 {
		all.Go(func() {
			name := "ann"
			if i%2 == 0 {
				name = "ANN"
			}
			_, err := f.Create(ctx, account.NewAccount{Name: name, Email: fmt.Sprintf("a%d@example.org", i)}, goodPassword)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				made++
			case errors.Is(err, account.ErrNameTaken):
				taken++
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if made != 1 || taken != 19 {
		t.Errorf("%d made it, %d were told that it is taken", made, taken)
	}
}

func TestCreateAdmin(t *testing.T) {
	f := newFixture(t)
	for _, tt := range []struct{ name, email string }{
		{"boss", "boss@change_me.null"},
		{"x(y)", "78287929@change_me.null"}, // not allowed in an address
		{"-dash", "2d64617368@change_me.null"},
	} {
		u, pw, err := f.CreateAdmin(ctx, tt.name)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if u.Rank != 1 || !u.NewPasswordReq || u.NewNameReq || u.EmailVerified || u.Email != tt.email || u.Display != "" {
			t.Errorf("%s: got %+v", tt.name, u)
		}
		if err := account.CheckEmail(u.Email); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if !f.try(t, tt.name, pw, remote) {
			t.Errorf("%s: cannot log in", tt.name)
		}
	}
	for _, name := range []string{"", "BOSS", "root", "a@b.c", strings.Repeat("x", 25)} {
		_, _, err := f.CreateAdmin(ctx, name)
		wantRule(t, err, "user_name")
	}
}

func TestEnsureFirstAdmin(t *testing.T) {
	f := newFixture(t)
	var all sync.WaitGroup
	var mu sync.Mutex
	var names []string
	for range 8 {
		all.Go(func() {
			var name string
			var pw account.Secret
			made, err := f.EnsureFirstAdmin(ctx, func(n string, p account.Secret) error {
				name, pw = n, bytes.Clone(p) // wiped afterwards
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			if made {
				mu.Lock()
				defer mu.Unlock()
				names = append(names, name)
				if !f.try(t, name, pw, remote) {
					t.Error("cannot log in")
				}
			}
		})
	}
	all.Wait()
	if diff := cmp.Diff([]string{account.FirstAdmin}, names); diff != "" {
		t.Error(diff)
	}

	other := newFixture(t)
	other.create(t, "somebody")
	made, err := other.EnsureFirstAdmin(ctx, func(string, account.Secret) error {
		t.Error("a password is shown")
		return nil
	})
	if made || err != nil {
		t.Errorf("with an account there: made %v, %v", made, err)
	}
}

// Whoever is stored as the first administrator has been shown before, so that
// no end of the program, however sudden, comes in between.
func TestFirstAdminIsShownBeforeStored(t *testing.T) {
	f := newFixture(t)
	broken := errors.New("nobody looks")
	for _, want := range []error{broken, nil} {
		shown := 0
		made, err := f.EnsureFirstAdmin(ctx, func(string, account.Secret) error {
			shown++
			if page, err := f.List(ctx, account.Filter{}, 0, 1); err != nil || page.Total != 0 {
				t.Errorf("%d accounts before the password is shown, %v", page.Total, err)
			}
			return want
		})
		if made != (want == nil) || err != want || shown != 1 {
			t.Errorf("made %v, %v, shown %d times; want %v", made, err, shown, want)
		}
	}
}

func TestSetPassword(t *testing.T) {
	next := account.Secret("N3xt&Better1")
	f := newFixture(t)
	u := f.create(t, "ann")
	if _, err := f.store.Change(ctx, u.ID, func(r *account.Record) error { r.NewPasswordReq = true; return nil }); err != nil {
		t.Fatal(err)
	}

	wantRule(t, f.SetPassword(ctx, u.ID, goodPassword), "password")
	wantRule(t, f.SetPassword(ctx, u.ID, account.Secret("short")), "password")
	wantRule(t, f.SetPassword(ctx, u.ID, account.Secret("xX3$ANN@example.org")), "password")
	if got, _ := f.User(ctx, u.ID); !got.NewPasswordReq {
		t.Error("a refused password cleared the demand")
	}
	if !f.try(t, "ann", goodPassword, remote) {
		t.Error("a refused password replaced the old one")
	}

	if err := f.SetPassword(ctx, u.ID, next); err != nil {
		t.Fatal(err)
	}
	if got, _ := f.User(ctx, u.ID); got.NewPasswordReq {
		t.Error("the demand stays")
	}
	if f.try(t, "ann", goodPassword, remote) || !f.try(t, "ann", next, remote) {
		t.Error("the password did not change")
	}
	if err := f.SetPassword(ctx, wire.UserID{1}, next); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}

	// It never stands still.
	n := 0
	restless := account.New(account.Config{Store: alwaysBeforeChange{f.store, func() {
		n++
		f.change(t, u.ID, func(r *account.Record) { r.Hash = fmt.Sprint(n) })
	}}, Hasher: f.hasher})
	if err := restless.SetPassword(ctx, u.ID, goodPassword); err == nil || n > 5 {
		t.Errorf("got %v after %d rounds", err, n)
	}

	// A hash that cannot be read can be replaced.
	if _, err := f.store.Change(ctx, u.ID, func(r *account.Record) error { r.Hash = "?"; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := f.SetPassword(ctx, u.ID, goodPassword); err != nil {
		t.Error(err)
	}
}

func TestResetPasswordAndElevate(t *testing.T) {
	f := newFixture(t)
	f.setPolicy(account.Policy{AutoLockLimit: 2})
	u := f.create(t, "ann")
	lock := func() {
		t.Helper()
		f.try(t, "ann", account.Secret("x"), remote)
		f.try(t, "ann", account.Secret("x"), remote)
		if got, _ := f.User(ctx, u.ID); !got.LockedAt(f.now) {
			t.Fatal("not locked")
		}
	}

	lock()
	got, pw, err := f.ResetPassword(ctx, "ANN")
	if err != nil {
		t.Fatal(err)
	}
	if !got.NewPasswordReq || got.LockedAt(f.now) {
		t.Errorf("after a reset: %+v", got)
	}
	if !f.try(t, "ann", pw, remote) || f.try(t, "ann", goodPassword, remote) {
		t.Error("the password was not reset")
	}

	f.try(t, "ann", pw, remote)
	lock()
	if got, err = f.Elevate(ctx, "ANN"); err != nil {
		t.Fatal(err)
	}
	if got.Rank != 1 || got.LockedAt(f.now) || !f.try(t, "ann", pw, remote) {
		t.Errorf("after elevate: %+v", got)
	}

	if _, err := f.SetLocked(ctx, u.ID, true); err != nil {
		t.Fatal(err)
	}
	if got, err = f.Elevate(ctx, "ann"); err != nil || !got.Locked {
		t.Errorf("elevate ended the lock of lock_acct: %+v, %v", got, err)
	}
	if got, pw, err = f.ResetPassword(ctx, "ann"); err != nil || !got.Locked || f.try(t, "ann", pw, loopback) {
		t.Errorf("a reset ended the lock of lock_acct: %+v, %v", got, err)
	}

	if _, err := f.Elevate(ctx, "nobody"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if _, _, err := f.ResetPassword(ctx, "nobody"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if _, err := f.SetLocked(ctx, wire.UserID{1}, true); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestRename(t *testing.T) {
	f := newFixture(t)
	u := f.create(t, "ann")
	f.create(t, "bob")
	if _, err := f.store.Change(ctx, u.ID, func(r *account.Record) error { r.NewNameReq = true; return nil }); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a", "root", "a@b.c", "ann", "a b"} {
		_, err := f.Rename(ctx, u.ID, name)
		wantRule(t, err, "user_name")
	}
	if _, err := f.Rename(ctx, u.ID, "BOB"); !errors.Is(err, account.ErrNameTaken) {
		t.Errorf("got %v, want ErrNameTaken", err)
	}
	if got, _ := f.User(ctx, u.ID); got.Name != "ann" || !got.NewNameReq {
		t.Errorf("a refused name changed the account: %+v", got)
	}
	got, err := f.Rename(ctx, u.ID, "Ann")
	if err != nil || got.Name != "Ann" || got.NewNameReq {
		t.Errorf("another case: %+v, %v", got, err)
	}
	if got, err = f.Rename(ctx, u.ID, "carol"); err != nil || got.Name != "carol" {
		t.Errorf("another name: %+v, %v", got, err)
	}
	if _, err := f.UserByName(ctx, "ann"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("the old name: got %v, want ErrNotFound", err)
	}
	if _, err := f.Rename(ctx, wire.UserID{1}, "dave"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestList(t *testing.T) {
	f := newFixture(t)
	for i := range 120 {
		f.create(t, fmt.Sprintf("user%03d", i))
	}
	var names []string
	var sizes []int
	for cursor, more := account.Cursor(0), true; more; {
		page, err := f.List(ctx, account.Filter{UserName: "USER"}, cursor, 0)
		if err != nil {
			t.Fatal(err)
		}
		if page.Total != 120 {
			t.Errorf("total %d", page.Total)
		}
		sizes = append(sizes, len(page.Users))
		for _, u := range page.Users {
			names = append(names, u.Name)
		}
		cursor, more = page.Next, page.More
	}
	if diff := cmp.Diff([]int{50, 50, 20}, sizes); diff != "" {
		t.Error(diff)
	}
	for i, name := range names {
		if want := fmt.Sprintf("user%03d", i); name != want {
			t.Fatalf("row %d is %s, want %s", i, name, want)
		}
	}
}

// errStore is a store that fails.
type errStore struct {
	*accounttest.Store
	err error
}

func (s errStore) Account(context.Context, account.Key) (account.Record, error) {
	return account.Record{}, s.err
}

func (s errStore) Candidate(context.Context, account.Key) (account.Record, error) {
	return account.Record{}, s.err
}

func (s errStore) Accounts(context.Context, account.Query) (account.Page, error) {
	return account.Page{}, s.err
}

func (s errStore) Change(context.Context, wire.UserID, func(*account.Record) error) (account.Record, error) {
	return account.Record{}, s.err
}

func (s errStore) ChangeBy(context.Context, wire.UserID, account.Key, func(account.User, *account.Record) error) (account.Outcome, error) {
	return account.Outcome{}, s.err
}

func (s errStore) RemoveBy(context.Context, wire.UserID, account.Key, func(caller, target account.User, ties account.Ties) error) (account.Outcome, error) {
	return account.Outcome{}, s.err
}

func TestStoreErrors(t *testing.T) {
	broken := errors.New("disk on fire")
	s := account.New(account.Config{Store: errStore{new(accounttest.Store), broken}, Hasher: accounttest.Hasher(t)})
	for name, call := range map[string]func() error{
		"User":             func() error { _, err := s.User(ctx, wire.UserID{1}); return err },
		"List":             func() error { _, err := s.List(ctx, account.Filter{}, 0, 1); return err },
		"CheckNew":         func() error { return s.CheckNew(ctx, account.NewAccount{Name: "ann", Email: "a@b.c"}) },
		"SetPassword":      func() error { return s.SetPassword(ctx, wire.UserID{1}, goodPassword) },
		"SetLocked":        func() error { _, err := s.SetLocked(ctx, wire.UserID{1}, true); return err },
		"Rename":           func() error { _, err := s.Rename(ctx, wire.UserID{1}, "ann"); return err },
		"EnsureFirstAdmin": func() error { _, err := s.EnsureFirstAdmin(ctx, nil); return err },
		"Authenticate": func() error {
			_, err := s.Authenticate(ctx, account.Login{Name: "ann"}, account.Secret("x"), remote)
			return err
		},
	} {
		err := call()
		var rule *account.RuleError
		if !errors.Is(err, broken) || errors.As(err, &rule) || errors.Is(err, account.ErrRefused) {
			t.Errorf("%s: got %v", name, err)
		}
		if err != nil && !strings.Contains(err.Error(), ": ") {
			t.Errorf("%s: %q does not say what was being done", name, err)
		}
	}
}

func TestBusyHasher(t *testing.T) {
	f := newFixture(t)
	u := f.create(t, "ann")
	h, err := account.NewHasher(account.HasherConfig{Params: account.CheapHash(), Slots: 1, Queue: -1})
	if err != nil {
		t.Fatal(err)
	}
	s := account.New(account.Config{Store: f.store, Hasher: h})
	if err := h.Enter(ctx); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"known": func() error {
			_, err := s.Authenticate(ctx, account.Login{Name: "ann"}, account.Secret("x"), remote)
			return err
		},
		"unknown": func() error {
			_, err := s.Authenticate(ctx, account.Login{Name: "bob"}, account.Secret("x"), remote)
			return err
		},
		"create": func() error {
			_, err := s.Create(ctx, account.NewAccount{Name: "bob", Email: "b@b.c"}, goodPassword)
			return err
		},
		"set":   func() error { return s.SetPassword(ctx, u.ID, account.Secret("N3xt&Better1")) },
		"reset": func() error { _, _, err := s.ResetPassword(ctx, "ann"); return err },
		"admin": func() error { _, _, err := s.CreateAdmin(ctx, "boss"); return err },
	} {
		if err := call(); !errors.Is(err, account.ErrBusy) {
			t.Errorf("%s: got %v, want ErrBusy", name, err)
		}
	}
	h.Leave()
}
