package store_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/internal/store/storetest"
)

// Variables that turn the test binary into another process at a database.
const (
	crashEnv = "MRCI_TEST_CRASH_WRITER" // writes until it is killed
	openEnv  = "MRCI_TEST_OPENER"       // opens it, makes one account, ends
)

// opener is a process that comes at the same time as others.
func opener(path string) {
	s, err := store.Open(ctx, store.Config{Path: path})
	if err == nil {
		err = s.Create(ctx, storetest.Record(fmt.Sprint("process", os.Getpid())), false)
		err = errors.Join(err, s.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// crashWriter creates accounts and changes them, and says so on standard
// output only when the store has said that it is done. It never returns.
func crashWriter(path string) {
	s, err := store.Open(ctx, store.Config{Path: path})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	page, err := s.Accounts(ctx, account.Query{Limit: 1})
	for i := page.Total; err == nil; i++ {
		r := storetest.Record(fmt.Sprintf("user%06d", i))
		if err = s.Create(ctx, r, false); err != nil {
			break
		}
		fmt.Println("created", r.Name)
		if _, err = s.Change(ctx, r.ID, func(r *account.Record) error { r.Rank = 7; return nil }); err != nil {
			break
		}
		fmt.Println("changed", r.Name)
		err = s.Attempt(ctx, account.Key{ID: r.ID}, func(account.Record) (account.Tally, bool) {
			return account.Tally{LockStreak: 11}, true
		})
		if err == nil {
			fmt.Println("judged", r.Name)
		}
	}
	fmt.Println("error", err)
	os.Exit(1)
}

// A process that is killed while it writes has lost nothing that it was told
// is stored.
func TestAcknowledgedWritesSurviveKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.db")
	acknowledged := make(map[string]string) // name to the last thing that was said about it
	for round := range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashEnv+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		watchdog := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		lines := bufio.NewScanner(out)
		for n := 1; lines.Scan(); n++ {
			what, name, _ := strings.Cut(lines.Text(), " ")
			if what == "error" {
				t.Errorf("round %d: %s", round, name)
			}
			acknowledged[name] = what
			// In the middle of something; what is in the pipe still counts.
			if n == 40+round*17 {
				if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
					t.Fatal(err)
				}
			}
		}
		watchdog.Stop()
		if err := cmd.Wait(); err == nil {
			t.Error("the writer ended by itself")
		}

		s := open(t, path)
		for name, what := range acknowledged {
			r, err := s.Account(ctx, account.Key{Name: name})
			if err != nil {
				t.Fatalf("round %d: %s was %s: %v", round, name, what, err)
			}
			if what != "created" && r.Rank != 7 {
				t.Errorf("round %d: %s was changed, its rank is %d", round, name, r.Rank)
			}
			if what == "judged" && r.Tally.LockStreak != 11 {
				t.Errorf("round %d: the attempt of %s is not there", round, name)
			}
		}
		if got := s.Pragma(t, "integrity_check"); got != "ok" {
			t.Errorf("round %d: %s", round, got)
		}
		// The next round begins from what is there.
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(acknowledged) < 40 {
		t.Errorf("only %d accounts were written", len(acknowledged))
	}
}
