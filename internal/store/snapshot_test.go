package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/internal/store/storetest"
)

// A copy that is made while others write holds all that was acknowledged
// before it began, and of what came after a part without gaps.
func TestSnapshotWhileOthersWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "data.db")
	s := open(t, path)
	var mu sync.Mutex
	acknowledged := 0
	stop := make(chan struct{})
	var group sync.WaitGroup
	defer group.Wait()
	defer close(stop)
	group.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := s.Create(ctx, storetest.Record(fmt.Sprintf("user%06d", i)), false); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			acknowledged = i + 1
			mu.Unlock()
		}
	})
	for round := range 5 {
		mu.Lock()
		before := acknowledged
		mu.Unlock()
		to := filepath.Join(dir, fmt.Sprint("copy", round))
		version, err := store.Snapshot(ctx, path, to)
		if err != nil {
			t.Fatal(err)
		}
		if newest, err := store.NewestMigration(); err != nil || version != newest {
			t.Errorf("version %d, want %d, %v", version, newest, err)
		}
		for _, companion := range []string{"-wal", "-shm", "-journal"} {
			if _, err := os.Stat(to + companion); err == nil {
				t.Errorf("the copy has a file %s", companion)
			}
		}
		if info, err := os.Stat(to); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("mode of the copy: %v, %v", info.Mode(), err)
		}
		c := open(t, to)
		page, err := c.Accounts(ctx, account.Query{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		if page.Total < before {
			t.Errorf("round %d: %d accounts, %d were there before", round, page.Total, before)
		}
		for i := range page.Total {
			if _, err := c.Account(ctx, account.Key{Name: fmt.Sprintf("user%06d", i)}); err != nil {
				t.Fatalf("round %d: account %d of %d: %v", round, i, page.Total, err)
			}
		}
	}
}

// Rows that were deleted are in no page of the copy.
func TestSnapshotForgets(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "data.db"))
	for i := range 50 {
		r := storetest.Record(fmt.Sprintf("vanished%d", i))
		if err := s.Create(ctx, r, false); err != nil {
			t.Fatal(err)
		}
	}
	s.Exec(t, `DELETE FROM users WHERE user_name LIKE 'vanished%'`)
	to := filepath.Join(dir, "copy")
	if _, err := store.Snapshot(ctx, filepath.Join(dir, "data.db"), to); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte("vanished")) {
		t.Error("the copy holds removed accounts")
	}
}

func TestSnapshotRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "data.db")
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(dir, "newer.db")
	store.MakeAt(t, newer, 1, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)`)
	stranger := filepath.Join(dir, "stranger.db")
	store.MakeAt(t, stranger, 1, `ALTER TABLE goose_db_version RENAME TO other`)
	dangling := filepath.Join(dir, "dangling.db")
	store.MakeAt(t, dangling, 2, `PRAGMA foreign_keys = 0; INSERT INTO pw_recovery VALUES (zeroblob(32), '', 0, 0)`)
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, bytes.Repeat([]byte("x"), 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(dir, "damaged.db")
	if _, err := store.Snapshot(ctx, path, damaged); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Verify(ctx, damaged); err != nil {
		t.Fatal(err)
	}
	for i := 4096; i < len(text); i += 4096 {
		text[i] ^= 0xff // the kind of a page
	}
	if err := os.WriteFile(damaged, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Verify(ctx, damaged); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("a damaged database: %v", err)
	}
	if _, err := store.Verify(ctx, newer); err == nil || !strings.Contains(err.Error(), "stands alone") {
		t.Errorf("a database in WAL mode: %v", err)
	}
	for name, test := range map[string]struct{ from, want string }{
		"missing":   {filepath.Join(dir, "none"), "there is no such file"},
		"directory": {dir, "not a regular file"},
		"garbage":   {garbage, "not an SQLite database"},
		"newer":     {newer, "newer mrci (version 999"},
		"stranger":  {stranger, "another program"},
		"dangling":  {dangling, "refers to one that is missing"},
	} {
		to := filepath.Join(dir, "copy-"+name)
		_, err := store.Snapshot(ctx, test.from, to)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(to); err == nil {
			t.Errorf("%s: a copy is left", name)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
		t.Error("a missing database was made")
	}
	taken := filepath.Join(dir, "taken")
	if err := os.WriteFile(taken, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Snapshot(ctx, path, taken); err == nil {
		t.Error("an existing file was taken")
	}
	ended, cancel := context.WithCancelCause(ctx)
	cause := errors.New("enough")
	cancel(cause)
	if _, err := store.Snapshot(ended, path, filepath.Join(dir, "late")); !errors.Is(err, cause) {
		t.Errorf("after the end of the context: %v", err)
	}
}

func TestInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.db")
	if used, err := store.InUse(ctx, path); used || err != nil {
		t.Errorf("a missing database: %v, %v", used, err)
	}
	s := open(t, path)
	for range 2 {
		if used, err := store.InUse(ctx, path); !used || err != nil {
			t.Errorf("while it is open: %v, %v", used, err)
		}
	}
	if err := s.Create(ctx, storetest.Record("bob"), false); err != nil {
		t.Error("the store cannot be used any more:", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if used, err := store.InUse(ctx, path); used || err != nil {
		t.Errorf("after it was closed: %v, %v", used, err)
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.InUse(ctx, path); err == nil {
		t.Error("garbage: no error")
	}
}

// BenchmarkSnapshot copies a database with 200,000 rows of the audit log while
// somebody writes without pause, and reports their longest wait for a commit,
// and that of the same time without a copy.
func BenchmarkSnapshot(b *testing.B) {
	dir := b.TempDir()
	path := filepath.Join(dir, "data.db")
	s, err := store.Open(ctx, store.Config{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	s.Exec(b, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
		INSERT INTO audit_log (time_stamp, ip_address, user_id, user_name, command, arguments, code)
		SELECT '2026-01-01 00:00:00', '192.0.2.1', randomblob(32), 'user' || i, 'set_user_rank', '-name user' || i || ' -rank 3', 1 FROM n`)
	r := storetest.Record("writer")
	if err := s.Create(ctx, r, false); err != nil {
		b.Fatal(err)
	}
	longest := func(during func()) (worst time.Duration, writes int) {
		done := make(chan struct{})
		var group sync.WaitGroup
		group.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				began := time.Now()
				if _, err := s.Change(ctx, r.ID, func(r *account.Record) error { r.Rank = r.Rank%1000 + 1; return nil }); err != nil {
					b.Error(err)
					return
				}
				worst = max(worst, time.Since(began))
				writes++
			}
		})
		during()
		close(done)
		group.Wait()
		return worst, writes
	}
	var stall, calm, copying time.Duration
	writes, size := 0, int64(0)
	for i := 0; b.Loop(); i++ {
		to := filepath.Join(dir, fmt.Sprint("copy", i))
		var took time.Duration
		worst, n := longest(func() {
			began := time.Now()
			if _, err := store.Snapshot(ctx, path, to); err != nil {
				b.Fatal(err)
			}
			took = time.Since(began)
		})
		stall, writes, copying = max(stall, worst), writes+n, copying+took
		if info, err := os.Stat(to); err == nil {
			size = info.Size()
		}
		if err := os.Remove(to); err != nil {
			b.Fatal(err)
		}
		worst, _ = longest(func() { time.Sleep(took) })
		calm = max(calm, worst)
	}
	b.ReportMetric(float64(stall.Microseconds())/1000, "max-stall-ms")
	b.ReportMetric(float64(calm.Microseconds())/1000, "max-stall-without-ms")
	b.ReportMetric(float64(copying.Milliseconds())/float64(b.N), "copy-ms")
	b.ReportMetric(float64(writes)/float64(b.N), "commits/op")
	b.ReportMetric(float64(size)/(1<<20), "MiB")
}
