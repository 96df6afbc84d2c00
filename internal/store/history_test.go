package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/account/accounttest"
	"mrci.dev/mrci/internal/store/storetest"
	"mrci.dev/mrci/wire"
)

// longEnv makes the histories five times as long.
const longEnv = "MRCI_TEST_LONG"

func historyLength() int {
	if os.Getenv(longEnv) != "" {
		return 100_000
	}
	return 20_000
}

// Administrators who change and remove each other at the same time, over two
// stores on one file, see nothing that could not have come one after another.
func TestHistory(t *testing.T) {
	path := filepath.Join(quickDir(t), "data.db")
	runHistory(t, open(t, path), open(t, path))
}

func TestHistoryInMemory(t *testing.T) {
	runHistory(t, new(accounttest.Store))
}

// quickDir is a directory where a commit does not wait for a disk, if there is
// one: histories are about order, not about durability.
func quickDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "mrci-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func runHistory(t *testing.T, stores ...account.Store) {
	seed := uint64(time.Now().UnixNano())
	begin := time.Now()
	stats, err := storetest.History(seed, historyLength(), accounttest.Hasher(t), stores...)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d: %d operations in %v: %v", seed, stats.Operations, time.Since(begin), stats.Results)
	for _, want := range []string{
		"rank: ok", "rank: ok, the last of rank 1", "rank: denied", "lock: ok", "force email: ok", "remove: ok", "rename: ok", "verify: ok",
		"rank: " + account.ErrCallerGone.Error(), "remove: " + account.ErrNotFound.Error(),
		"rename: " + account.ErrNameTaken.Error(), "email: " + account.ErrEmailTaken.Error(),
		"force email: " + account.ErrEmailTaken.Error(), "verify: " + account.ErrEmailChanged.Error(),
	} {
		if stats.Results[want] == 0 {
			t.Errorf("no operation ended with %q", want)
		}
	}
}

// The history is worth something only if it finds stores that are wrong.
func TestHistoryFindsFaults(t *testing.T) {
	for name, wrong := range map[string]func(account.Store) account.Store{
		"reads before the transaction": func(s account.Store) account.Store { return early{s} },
		"loses a change":               func(s account.Store) account.Store { return forgetful{Store: s, calls: new(int)} },
		"never tells of the last":      func(s account.Store) account.Store { return silent{s} },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(quickDir(t), "data.db")
			stats, err := storetest.History(1, historyLength(), accounttest.Hasher(t), wrong(open(t, path)))
			if err == nil {
				t.Fatalf("not found in %d operations", stats.Operations)
			}
			t.Logf("after %d operations: %v", stats.Operations, err)
		})
	}
}

// early reads the caller before its transaction begins.
type early struct{ account.Store }

func (s early) ChangeBy(ctx context.Context, caller wire.UserID, target account.Key, change func(account.User, *account.Record) error) (account.Outcome, error) {
	by, err := s.Account(ctx, account.Key{ID: caller})
	if errors.Is(err, account.ErrNotFound) {
		err = account.ErrCallerGone
	}
	if err != nil {
		return account.Outcome{}, err
	}
	return s.Store.ChangeBy(ctx, caller, target, func(_ account.User, r *account.Record) error { return change(by.User, r) })
}

// forgetful says that it has removed an account and has not, once.
type forgetful struct {
	account.Store
	calls *int // by one transaction at a time
}

func (s forgetful) RemoveBy(ctx context.Context, caller wire.UserID, target account.Key, judge func(caller, target account.User, ties account.Ties) error) (account.Outcome, error) {
	lost := errors.New("lost")
	var out account.Outcome
	got, err := s.Store.RemoveBy(ctx, caller, target, func(c, u account.User, ties account.Ties) error {
		err := judge(c, u, ties)
		// Those who remove themselves empty the store between two rounds.
		if err != nil || c.ID == u.ID {
			return err
		}
		if *s.calls++; *s.calls == 5 {
			out.Record.User = u
			return lost
		}
		return nil
	})
	if errors.Is(err, lost) {
		return out, nil
	}
	return got, err
}

// silent never tells that a rank is vacant.
type silent struct{ account.Store }

func (s silent) ChangeBy(ctx context.Context, caller wire.UserID, target account.Key, change func(account.User, *account.Record) error) (account.Outcome, error) {
	out, err := s.Store.ChangeBy(ctx, caller, target, change)
	out.Vacated = false
	return out, err
}
