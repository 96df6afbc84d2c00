package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/account/accounttest"
	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/internal/store/storetest"
	"mrci.dev/mrci/wire"
)

var ctx = context.Background()

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		crashWriter(path)
	}
	if path := os.Getenv(openEnv); path != "" {
		opener(path)
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, path string) *store.Store {
	t.Helper()
	s, err := store.Open(ctx, store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store { return open(t, filepath.Join(t.TempDir(), "data.db")) })
}

// The store in memory that other packages test with keeps the same contract.
func TestMemory(t *testing.T) {
	storetest.RunAccounts(t, func(*testing.T) account.Store { return new(accounttest.Store) })
}

func TestOpenMakesDirectoryAndFile(t *testing.T) {
	// Signs that mean something in the name of a data source.
	dir := filepath.Join(t.TempDir(), "a b?c=d&e#f%20g", "data")
	path := filepath.Join(dir, "data.db")
	s := open(t, path)
	if err := s.Create(ctx, storetest.Record("ann"), false); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" {
		for name, want := range map[string]os.FileMode{dir: 0o700, path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600} {
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != want {
				t.Errorf("%s: mode %o, want %o", filepath.Base(name), got, want)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if _, err := s.Account(ctx, account.Key{Name: "ann"}); err == nil {
		t.Error("a closed store answers")
	}

	// What others may read is closed to them.
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := s.Account(ctx, account.Key{Name: "ann"}); err != nil {
		t.Error(err)
	}
}

func TestRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	open(t, "data.db")
	if _, err := os.Stat("data.db"); err != nil {
		t.Error(err)
	}
}

func TestOpenSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	execute := func(path, statement string) string {
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
		return path
	}
	newer := filepath.Join(dir, "newer.db")
	open(t, newer).Close()

	for _, tt := range []struct{ name, path, want string }{
		{"no path", "", "set db_host_name"},
		{"directory", dir, "not a regular file; name another one"},
		{"text", write("text.db", "this is no database at all"), "not an SQLite database; move it away"},
		{"short text", write("short.db", "x"), "not an SQLite database; move it away"},
		{"damaged", write("damaged.db", "SQLite format 3\x00"+strings.Repeat("x", 5000)), "not an SQLite database; move it away"},
		{"below a file", filepath.Join(write("file", "x"), "data.db"), "make the directory or name another one"},
		{"newer", execute(newer, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (4711, 1)`), "version 4711"},
		{"another program's", execute(filepath.Join(dir, "other.db"), `CREATE TABLE users (x)`), "tables of another program"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := store.Open(ctx, store.Config{Path: tt.path})
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			text := err.Error()
			if !strings.Contains(text, tt.want) || !strings.Contains(text, tt.path) || strings.Contains(text, "\n") {
				t.Errorf("got %q, want one line with %q and the path", text, tt.want)
			}
			t.Log(text)
		})
	}
	// What was refused was not touched.
	db, err := sql.Open("sqlite", filepath.Join(dir, "other.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var tables int
	if err := db.QueryRow(`SELECT count(*) FROM sqlite_master`).Scan(&tables); err != nil || tables != 1 {
		t.Errorf("%d tables, %v", tables, err)
	}
}

func TestOpenLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.db")
	open(t, path)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(ctx, store.Config{Path: path, BusyTimeout: time.Millisecond})
	if err == nil {
		s.Close()
		t.Fatal("opened although it cannot write")
	}
	if text := err.Error(); !strings.Contains(text, "another process keeps the database locked") || !strings.Contains(text, path) {
		t.Errorf("got %q", text)
	}
}

// Several processes open a store at once; the first has to make it.
func TestOpenAtTheSameTime(t *testing.T) {
	const processes = 6
	for round := range 3 {
		path := filepath.Join(t.TempDir(), fmt.Sprint(round), "data.db")
		var all sync.WaitGroup
		for range processes {
			all.Go(func() {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), openEnv+"="+path)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
		}
		all.Wait()
		page, err := open(t, path).Accounts(ctx, account.Query{Limit: 100})
		if err != nil || page.Total != processes {
			t.Errorf("%d accounts, %v", page.Total, err)
		}
	}
}

// The first administrator is made once, whoever tries.
func TestFirstAdminOfTwoStores(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.db")
	var all sync.WaitGroup
	var mu sync.Mutex
	count := 0
	for range 4 {
		s := account.New(account.Config{Store: open(t, path), Hasher: accounttest.Hasher(t)})
		all.Go(func() {
			made, err := s.EnsureFirstAdmin(ctx, func(string, account.Secret) error { return nil })
			if err != nil {
				t.Error(err)
			}
			if made {
				mu.Lock()
				defer mu.Unlock()
				count++
			}
		})
	}
	all.Wait()
	if count != 1 {
		t.Errorf("made %d times", count)
	}
}

func TestDurabilitySettings(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "data.db"))
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000", "mmap_size": "0",
	} {
		if got := s.Pragma(t, pragma); got != want {
			t.Errorf("%s: got %s, want %s", pragma, got, want)
		}
	}
}

// Readers cannot write, whatever a query says.
func TestReadersOnlyRead(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "data.db"))
	if err := s.WriteByReader(); err == nil {
		t.Error("a reader has written")
	}
}

// Every refused login commits a change of one page, or the disk would tell a
// locked or unknown account from others: however many failures there are and
// whatever stands beside the account.
func TestRefusedAttemptsAllWrite(t *testing.T) {
	const accounts, failures = 16, 19 // below the 1,000 pages of a checkpoint
	path := filepath.Join(t.TempDir(), "data.db")
	s := open(t, path)
	for i := range accounts {
		r := storetest.Record(fmt.Sprintf("ann%02d", i))
		r.Tally = account.Tally{}
		if err := s.Create(ctx, r, false); err != nil {
			t.Fatal(err)
		}
	}
	for n := range failures {
		for i := range accounts {
			tally := func(r account.Record) account.Tally { return r.Tally } // locked
			if i%2 == 0 {
				tally = func(r account.Record) account.Tally { // wrong
					r.Tally.Failures = append(r.Tally.Failures, account.Failure{At: 1_800_000_000 + int64(n), Count: 1})
					return r.Tally
				}
			}
			for _, name := range []string{"ann", "nobody"} {
				name := fmt.Sprintf("%s%02d", name, i)
				before := fileSize(t, path+"-wal")
				err := s.Attempt(ctx, account.Key{Name: name}, func(r account.Record) (account.Tally, bool) { return tally(r), true })
				if err != nil && !errors.Is(err, account.ErrNotFound) {
					t.Fatal(err)
				}
				if got := fileSize(t, path+"-wal") - before; got != 4096+24 {
					t.Errorf("attempt %d for %s: the log grew by %d bytes, want one page", n+1, name, got)
				}
			}
		}
	}
}

// An attempt for a name that nobody has goes the way of a row of the log of
// logins, and leaves none.
func TestNobodysAttemptIsNotLogged(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "data.db"))
	l, err := s.StartLogs(ctx, store.LogsConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	before := s.Number(t, "SELECT attempts FROM nobody")
	for range 3 {
		l.Auth(store.AuthRow{Auth: true, Counted: true})
	}
	l.Auth(store.AuthRow{User: wire.UserID{1}, Auth: true})
	if err := l.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if rows, written := s.Number(t, "SELECT count(*) FROM auth_log"), s.Number(t, "SELECT attempts FROM nobody")-before; rows != 1 || written != 3 {
		t.Errorf("%d rows and %d writes without one, want 1 and 3", rows, written)
	}
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// 200 wrong guesses side by side, over two stores on one file, are judged no
// more often than the limit allows.
func TestParallelGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 20
		path := filepath.Join(t.TempDir(), "data.db")
		var mu sync.Mutex
		counted, locks := 0, 0
		var services []*account.Service
		for range 2 {
			services = append(services, account.New(account.Config{
				Store: open(t, path), Hasher: accounttest.Hasher(t),
				Policy: func() account.Policy { return account.Policy{AutoLockLimit: limit} },
				OnAttempt: func(_ context.Context, a account.Attempt) {
					mu.Lock()
					defer mu.Unlock()
					if a.Counted {
						counted++
					}
					if a.Locked {
						locks++
					}
				},
			}))
		}
		const password = "Tr0ub4dor&3"
		if _, err := services[0].Create(ctx, account.NewAccount{Name: "ann", Email: "ann@example.org"}, account.Secret(password)); err != nil {
			t.Fatal(err)
		}
		from := netip.MustParseAddr("192.0.2.7")
		var all sync.WaitGroup
		for worker := range 10 {
			all.Go(func() {
				for i := range 20 {
					guess := account.Secret(fmt.Sprintf("guess %d %d", worker, i))
					if _, err := services[worker%2].Authenticate(ctx, account.Login{Name: "ann"}, guess, from); err != account.ErrRefused {
						t.Errorf("got %v, want ErrRefused", err)
					}
				}
			})
		}
		all.Wait()
		if counted != limit || locks != 1 {
			t.Errorf("%d guesses were judged, %d locks; want %d and 1", counted, locks, limit)
		}
		if _, err := services[0].Authenticate(ctx, account.Login{Name: "ann"}, account.Secret(password), from); err != account.ErrRefused {
			t.Errorf("locked: got %v, want ErrRefused", err)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "data.db")
	open(b, path).Close()
	for b.Loop() {
		s, err := store.Open(ctx, store.Config{Path: path})
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

func BenchmarkAccount(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "data.db"))
	r := storetest.Record("ann")
	if err := s.Create(ctx, r, false); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Account(ctx, account.Key{ID: r.ID}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkChange(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "data.db"))
	r := storetest.Record("ann")
	if err := s.Create(ctx, r, false); err != nil {
		b.Fatal(err)
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Change(ctx, r.ID, func(r *account.Record) error { r.Rank ^= 4; return nil }); err != nil {
				b.Error(err)
			}
		}
	})
}

// A process that has no file descriptor left still reads: nothing is opened
// later than by Open.
func TestReadersAreOpen(t *testing.T) {
	const readers = 3
	s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "data.db"), Readers: readers})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := s.OpenReaders(); got != readers {
		t.Errorf("%d reading connections are open, want %d", got, readers)
	}
}
