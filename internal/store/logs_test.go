package store_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/internal/store/storetest"
	"mrci.dev/mrci/wire"
)

func startLogs(t testing.TB, s *store.Store, cfg store.LogsConfig) *store.Logs {
	t.Helper()
	l, err := s.StartLogs(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestLogsSQLite(t *testing.T) {
	storetest.RunLogs(t, func(t *testing.T) (account.Store, storetest.Logs) {
		s := open(t, filepath.Join(t.TempDir(), "data.db"))
		return s, startLogs(t, s, store.LogsConfig{})
	})
}

// lines is what a logger wrote.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// with returns the lines that contain text.
func (l *lines) with(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, text) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

func (l *lines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func activities(t testing.TB, l *store.Logs) int {
	t.Helper()
	page, err := l.ActivityPage(ctx, store.LogQuery{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	return page.Total
}

// lockDatabase keeps others from writing until unlock.
func lockDatabase(t *testing.T, path string) (unlock func()) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if _, err := db.Exec("ROLLBACK"); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// openImpatient opens a store that does not wait for other processes.
func openImpatient(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := store.Open(ctx, store.Config{Path: path, BusyTimeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Rows are written a second after the first of them, or when many wait.
func TestLogBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lines
		l := startLogs(t, open(t, filepath.Join(t.TempDir(), "data.db")), store.LogsConfig{Log: out.logger()})
		add := func(n int) {
			for range n {
				l.Activity(store.ActivityRow{Entry: "x"})
			}
			synctest.Wait()
		}
		check := func(when string, rows, batches int) {
			t.Helper()
			synctest.Wait()
			if got := activities(t, l); got != rows {
				t.Errorf("%s: %d rows, want %d", when, got, rows)
			}
			if got := len(out.with("log rows written")); got != batches {
				t.Errorf("%s: %d batches, want %d", when, got, batches)
			}
		}
		add(1)
		check("at once", 0, 0)
		time.Sleep(store.FlushEvery / 2)
		add(9)
		check("half a second", 0, 0)
		time.Sleep(store.FlushEvery/2 - time.Nanosecond)
		check("just before", 0, 0)
		time.Sleep(time.Nanosecond)
		check("a second", 10, 1)
		time.Sleep(time.Minute)
		check("nothing to write", 10, 1)

		add(store.BatchRows - 1)
		check("almost a batch", 10, 1)
		add(1)
		check("a batch", 10+store.BatchRows, 2)
		add(3)
		time.Sleep(store.FlushEvery - 1)
		check("the second begins anew", 10+store.BatchRows, 2)
		time.Sleep(time.Nanosecond)
		check("and ends", 13+store.BatchRows, 3)

		add(1)
		if err := l.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		check("flush", 14+store.BatchRows, 4)
		if err := l.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		check("nothing to flush", 14+store.BatchRows, 4)
	})
}

// A row without a time gets that of the clock that was passed in.
func TestLogClock(t *testing.T) {
	at := time.Date(2031, 5, 6, 7, 8, 9, 999, time.UTC)
	l := startLogs(t, open(t, filepath.Join(t.TempDir(), "data.db")), store.LogsConfig{Now: func() time.Time { return at }})
	l.Activity(store.ActivityRow{})
	if err := l.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	page, err := l.ActivityPage(ctx, store.LogQuery{})
	if err != nil || len(page.Rows) != 1 || !page.Rows[0].Time.Equal(at.Truncate(time.Second)) {
		t.Errorf("%+v, %v", page.Rows, err)
	}
}

func TestLogCloseFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, filepath.Join(t.TempDir(), "data.db"))
		l := startLogs(t, s, store.LogsConfig{})
		const rows = 3*store.BatchRows + 7
		for range rows {
			l.Activity(store.ActivityRow{Entry: "x"})
		}
		start := time.Now()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v", waited)
		}
		if got := activities(t, l); got != rows {
			t.Errorf("%d rows, want %d", got, rows)
		}
		// Later rows are dropped, and the rest still answers.
		l.Activity(store.ActivityRow{Entry: "late"})
		if got := l.Dropped(); got != 1 {
			t.Errorf("dropped %d, want 1", got)
		}
		if err := errors.Join(l.Flush(ctx), l.Close()); err != nil {
			t.Error(err)
		}
	})
}

// A full queue drops rows, counts them, and says so once in a while.
func TestLogQueueFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const room = 10
		var out lines
		path := filepath.Join(t.TempDir(), "data.db")
		text := strings.Repeat("x", 100)
		l := startLogs(t, openImpatient(t, path), store.LogsConfig{
			Log: out.logger(), QueueBytes: room*(store.LogEntryBytes+len(text)) + 50,
		})
		synctest.Wait()
		unlock := lockDatabase(t, path)
		add := func(n int) {
			for range n {
				l.Activity(store.ActivityRow{Entry: text})
			}
			synctest.Wait()
		}
		add(room)
		if got := l.Dropped(); got != 0 {
			t.Errorf("dropped %d rows too early", got)
		}
		add(3)
		if got := l.Dropped(); got != 3 {
			t.Errorf("dropped %d, want 3", got)
		}
		time.Sleep(store.FlushEvery)
		synctest.Wait()
		add(4)
		time.Sleep(3 * store.FlushEvery)
		synctest.Wait()
		if got := out.with("level=ERROR msg=\"log rows dropped"); len(got) != 1 || !strings.HasSuffix(got[0], "rows=3") {
			t.Errorf("got %q", got)
		}
		if got := out.with("cannot be written"); len(got) != 1 || !strings.Contains(got[0], "another process keeps the database locked") {
			t.Errorf("got %q", got)
		}
		time.Sleep(store.ReportEvery)
		synctest.Wait()
		if got := out.with("log rows dropped"); len(got) != 2 || !strings.HasSuffix(got[1], "rows=4") {
			t.Errorf("got %q", got)
		}
		if err := l.Flush(ctx); err == nil || !strings.Contains(err.Error(), "locked") {
			t.Errorf("flush: got %v", err)
		}
		if got := activities(t, l); got != 0 {
			t.Errorf("%d rows although the database was locked", got)
		}

		// When the disk takes them again, the rows of the queue are there.
		unlock()
		time.Sleep(store.FlushEvery)
		synctest.Wait()
		if got := activities(t, l); got != room {
			t.Errorf("%d rows, want %d", got, room)
		}
		if got := out.with("written again"); len(got) != 1 {
			t.Errorf("got %q", got)
		}
		add(room)
		if err := l.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if got := activities(t, l); got != 2*room || l.Dropped() != 7 {
			t.Errorf("%d rows, %d dropped", got, l.Dropped())
		}
		if got := len(out.with("level=ERROR")); got != 3 {
			t.Errorf("%d errors: %q", got, out.with("level=ERROR"))
		}
	})
}

// A row that is larger than the queue goes the same way.
func TestLogRowTooLarge(t *testing.T) {
	l := startLogs(t, open(t, filepath.Join(t.TempDir(), "data.db")), store.LogsConfig{QueueBytes: 1})
	l.Activity(store.ActivityRow{})
	if got := l.Dropped(); got != 1 || activities(t, l) != 0 {
		t.Errorf("dropped %d", got)
	}
}

// The bound counts what rows cost.
func TestLogEntrySize(t *testing.T) {
	if got := store.LogEntrySize(); got > store.LogEntryBytes || got < store.LogEntryBytes-16 {
		t.Errorf("a row has %d bytes, counted are %d", got, store.LogEntryBytes)
	}
}

// Rows that Close cannot write are lost, but not without a word.
func TestLogCloseWithoutDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lines
		path := filepath.Join(t.TempDir(), "data.db")
		s := openImpatient(t, path)
		l, err := s.StartLogs(ctx, store.LogsConfig{Log: out.logger()})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		unlock := lockDatabase(t, path)
		for range 5 {
			l.Activity(store.ActivityRow{})
		}
		for range 2 {
			if err := l.Close(); err == nil || !strings.Contains(err.Error(), "5 rows could not be written") {
				t.Errorf("got %v", err)
			}
		}
		if got := l.Dropped(); got != 5 {
			t.Errorf("dropped %d", got)
		}
		if err := l.Flush(ctx); err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("flush: got %v", err)
		}
		if got := out.with("cannot be written"); len(got) != 1 {
			t.Errorf("got %q", got)
		}
		unlock()
	})
}

// Flush ends with its context, and the row is written all the same.
func TestLogFlushGivesUp(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "data.db"))
	r := storetest.Record("ann")
	if err := s.Create(ctx, r, false); err != nil {
		t.Fatal(err)
	}
	l := startLogs(t, s, store.LogsConfig{})
	inside, leave := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		_, err := s.Change(ctx, r.ID, func(*account.Record) error {
			close(inside)
			<-leave
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-inside
	l.Activity(store.ActivityRow{})
	gone := errors.New("client has gone")
	cancelled, cancel := context.WithCancelCause(ctx)
	cancel(gone)
	if err := l.Flush(cancelled); !errors.Is(err, gone) {
		t.Errorf("got %v, want the cause", err)
	}
	if n, err := l.DeleteActivity(cancelled, nil); !errors.Is(err, gone) || n != 0 {
		t.Errorf("delete: %d, %v", n, err)
	}
	close(leave)
	all.Wait()
	if err := l.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if got := activities(t, l); got != 1 {
		t.Errorf("%d rows", got)
	}
}

func TestLogsOfClosedStore(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "data.db"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err := s.StartLogs(ctx, store.LogsConfig{}); err == nil {
		t.Errorf("started: %v", l)
	}
}

// A store that is closed too early leaves errors, no panic and no goroutine.
func TestStoreClosedBeforeLogs(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "data.db"))
	l, err := s.StartLogs(ctx, store.LogsConfig{Retention: func() store.Retention { return store.Retention{Logs: time.Hour} }})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	l.Activity(store.ActivityRow{})
	if err := l.Close(); err == nil {
		t.Error("no error")
	}
	if _, err := l.ActivityPage(ctx, store.LogQuery{}); err == nil {
		t.Error("a closed store answers")
	}
	if _, err := l.DeleteActivity(ctx, nil); err == nil {
		t.Error("a closed store deletes")
	}
}

func TestLogPruning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		var out lines
		var mu sync.Mutex
		var keep store.Retention
		setKeep := func(r store.Retention) {
			mu.Lock()
			defer mu.Unlock()
			keep = r
		}
		s := open(t, filepath.Join(t.TempDir(), "data.db"))
		ann := storetest.Record("ann")
		if err := s.Create(ctx, ann, false); err != nil {
			t.Fatal(err)
		}
		cfg := store.LogsConfig{Log: out.logger(), Retention: func() store.Retention {
			mu.Lock()
			defer mu.Unlock()
			return keep
		}}
		start := time.Now().UTC()
		l := startLogs(t, s, cfg)
		counts := func() [3]int {
			t.Helper()
			synctest.Wait()
			auth, err1 := l.AuthPage(ctx, store.LogQuery{Limit: 1})
			audit, err2 := l.AuditPage(ctx, store.LogQuery{Limit: 1})
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			return [3]int{activities(t, l), auth.Total, audit.Total}
		}
		// Many old rows, and one for each of ten days.
		const old = 3*store.PruneRows + 1
		for range old {
			at := start.Add(-1000 * day)
			l.Activity(store.ActivityRow{Time: at})
			l.Auth(store.AuthRow{Time: at, User: ann.ID})
			l.Audit(store.AuditRow{Time: at})
		}
		for i := range 10 {
			at := start.Add(-time.Duration(i) * day)
			l.Activity(store.ActivityRow{Time: at})
			l.Auth(store.AuthRow{Time: at, User: ann.ID})
			l.Audit(store.AuditRow{Time: at})
		}
		if err := l.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * store.PruneEvery)
		if got, want := counts(), [3]int{old + 10, old + 10, old + 10}; got != want {
			t.Errorf("kept for ever: %v, want %v", got, want)
		}

		// Asked anew each time.
		setKeep(store.Retention{Logs: 90 * day})
		time.Sleep(store.PruneEvery - time.Second)
		if got, want := counts(), [3]int{old + 10, old + 10, old + 10}; got != want {
			t.Errorf("before the hour is over: %v, want %v", got, want)
		}
		time.Sleep(time.Second)
		if got, want := counts(), [3]int{10, 10, old + 10}; got != want {
			t.Errorf("logs for 90 days: %v, want %v", got, want)
		}
		if got := out.with("old log rows removed"); len(got) != 2 || !strings.HasSuffix(got[0], fmt.Sprint("log=ip_history rows=", old)) {
			t.Errorf("got %q", got)
		}
		setKeep(store.Retention{Logs: 2 * day, Audit: 5*day + 5*time.Hour})
		time.Sleep(store.PruneEvery)
		if got, want := counts(), [3]int{2, 2, 6}; got != want { // it is five hours later
			t.Errorf("two and five days: %v, want %v", got, want)
		}

		// At the start as well.
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		setKeep(store.Retention{Logs: time.Minute, Audit: day})
		l = startLogs(t, s, cfg)
		if got, want := counts(), [3]int{0, 0, 1}; got != want {
			t.Errorf("at the start: %v, want %v", got, want)
		}
		if got := out.with("level=ERROR"); len(got) != 0 {
			t.Errorf("got %q", got)
		}
	})
}

// A round that fails leaves the rest to the next one.
func TestLogPruningFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lines
		path := filepath.Join(t.TempDir(), "data.db")
		l := startLogs(t, openImpatient(t, path), store.LogsConfig{
			Log: out.logger(), Retention: func() store.Retention { return store.Retention{Logs: time.Minute} },
		})
		synctest.Wait() // the round of the start is over
		l.Activity(store.ActivityRow{Time: time.Now().Add(-time.Hour)})
		if err := l.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		unlock := lockDatabase(t, path)
		time.Sleep(store.PruneEvery)
		synctest.Wait()
		if got := out.with("old log rows stay"); len(got) != 2 || activities(t, l) != 1 {
			t.Errorf("got %q, %d rows", got, activities(t, l))
		}
		if n, err := l.DeleteActivity(ctx, nil); err == nil || n != 0 || !strings.Contains(err.Error(), "locked") {
			t.Errorf("delete: %d, %v", n, err)
		}
		unlock()
		time.Sleep(store.PruneEvery)
		synctest.Wait()
		if got := activities(t, l); got != 0 {
			t.Errorf("%d rows are left", got)
		}
	})
}

// Rows are written while old ones are removed, not behind them.
func TestLogPruningLetsRowsThrough(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "data.db"))
	old, err := s.StartLogs(ctx, store.LogsConfig{})
	if err != nil {
		t.Fatal(err)
	}
	const rows = 5 * store.PruneRows
	for range rows {
		old.Activity(store.ActivityRow{Time: time.Unix(0, 0)})
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	var out lines
	begin := make(chan struct{})
	l := startLogs(t, s, store.LogsConfig{Log: out.logger(), Retention: func() store.Retention {
		<-begin
		return store.Retention{Logs: time.Hour}
	}})
	for range store.BatchRows {
		l.Activity(store.ActivityRow{})
	}
	close(begin)
	if err := l.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if got := out.with("log rows written"); len(got) != 1 {
		t.Errorf("got %q", got)
	}
	for len(out.with("old log rows removed")) == 0 {
		runtime.Gosched()
	}
	if got := out.with("log rows"); !strings.Contains(got[0], "written") {
		t.Errorf("got %q", got)
	}
	if got := activities(t, l); got != store.BatchRows {
		t.Errorf("%d rows", got)
	}
}

// A listing says which row it cannot read.
func TestLogDamagedRows(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "data.db"))
	l := startLogs(t, s, store.LogsConfig{})
	insert := `INSERT INTO ip_history (time_stamp, ip_address, client_app, session_id, log_entry) VALUES ($1, $2, '', zeroblob(28), '')`
	for _, tt := range []struct{ at, addr, want string }{
		{"yesterday", "", "time_stamp of row"},
		{"2026-01-02 03:04:05", "nowhere", "ip_address of row"},
	} {
		s.Execute(t, `DELETE FROM ip_history`)
		s.Execute(t, insert, tt.at, tt.addr)
		page, err := l.ActivityPage(ctx, store.LogQuery{})
		if err == nil || !strings.Contains(err.Error(), tt.want) || len(page.Rows) != 0 {
			t.Errorf("%s, %s: %v, %v", tt.at, tt.addr, page, err)
		}
		if n, err := l.DeleteActivity(ctx, nil); n != 1 || err != nil {
			t.Errorf("delete: %d, %v", n, err)
		}
	}
}

// Times, ids and the rows to prune are found by an index; pages come in order
// without sorting.
func TestLogPlans(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "data.db"))
	for _, tt := range []struct{ query, want string }{
		{`SELECT count(*) FROM ip_history l WHERE l.time_stamp BETWEEN '2026-01-02' AND '2026-01-02~'`, "ip_history_time"},
		{`SELECT count(*) FROM ip_history l WHERE l.session_id BETWEEN x'00' AND x'01'`, "ip_history_session"},
		{`SELECT seq FROM audit_log WHERE time_stamp < '2026' ORDER BY time_stamp LIMIT 500`, "COVERING INDEX audit_log_time"},
		{`SELECT seq FROM auth_log WHERE time_stamp < '2026' ORDER BY time_stamp LIMIT 500`, "COVERING INDEX auth_log_time"},
		{`SELECT l.seq, u.user_name FROM auth_log l CROSS JOIN users u ON u.user_id = l.user_id
			WHERE 1 = 1 AND l.seq > 7 ORDER BY l.seq LIMIT 51`, "SEARCH l USING INTEGER PRIMARY KEY"},
		{`SELECT l.seq, l.time_stamp FROM ip_history l WHERE l.client_app LIKE '%x%' AND l.seq > 7 ORDER BY l.seq LIMIT 51`, "SEARCH l USING INTEGER PRIMARY KEY"},
	} {
		plan := s.Plan(t, tt.query)
		if !strings.Contains(plan, tt.want) || strings.Contains(plan, "TEMP B-TREE") {
			t.Errorf("%s:\n%s", tt.query, plan)
		}
	}
}

const logCrashEnv = "MRCI_TEST_LOG_CRASH" // the test binary writes logs until it is killed

// TestLogCrashProcess is the process that TestLogsSurviveKill kills.
func TestLogCrashProcess(t *testing.T) {
	path := os.Getenv(logCrashEnv)
	if path == "" {
		t.Skip("started by TestLogsSurviveKill")
	}
	l := startLogs(t, open(t, path), store.LogsConfig{})
	for i := activities(t, l); ; i++ {
		l.Activity(store.ActivityRow{Time: time.Unix(int64(i), 0), Entry: strconv.Itoa(i)})
		l.Audit(store.AuditRow{Code: wire.ReturnCode(i), Arguments: strings.Repeat("x", 100)})
		if i%100 == 99 {
			if err := l.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			fmt.Println("flushed", i+1)
		}
	}
}

// What was flushed survives a kill; of what was not, the beginning may.
func TestLogsSurviveKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.db")
	flushed := 0
	for round := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestLogCrashProcess$")
		cmd.Env = append(os.Environ(), logCrashEnv+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		watchdog := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		scan := bufio.NewScanner(out)
		for n := 1; scan.Scan(); n++ {
			rest, found := strings.CutPrefix(scan.Text(), "flushed ")
			if !found {
				t.Errorf("round %d: %s", round, scan.Text())
				continue
			}
			if flushed, err = strconv.Atoi(rest); err != nil {
				t.Fatal(err)
			}
			if n == 5+3*round {
				if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
					t.Fatal(err)
				}
			}
		}
		watchdog.Stop()
		if err := cmd.Wait(); err == nil {
			t.Error("the process ended by itself")
		}

		s := open(t, path)
		if got := s.Pragma(t, "integrity_check"); got != "ok" {
			t.Errorf("round %d: %s", round, got)
		}
		l := startLogs(t, s, store.LogsConfig{})
		page, err := l.ActivityPage(ctx, store.LogQuery{Limit: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Rows) < flushed {
			t.Errorf("round %d: %d rows, %d were flushed", round, len(page.Rows), flushed)
		}
		for i, r := range page.Rows { // none is missing, none is there twice
			if r.Entry != strconv.Itoa(i) {
				t.Fatalf("round %d: row %d is %s", round, i, r.Entry)
			}
		}
		if err := errors.Join(l.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if flushed < 1500 {
		t.Errorf("only %d rows were flushed", flushed)
	}
}

// Everything at once, for the race detector.
func TestLogsAtTheSameTime(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "data.db"))
	l := startLogs(t, s, store.LogsConfig{
		QueueBytes: 16 << 10, Retention: func() store.Retention { return store.Retention{Logs: time.Hour, Audit: time.Hour} },
	})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 300 {
				l.Activity(store.ActivityRow{Entry: "x"})
				l.Audit(store.AuditRow{Arguments: strings.Repeat("x", store.MaxArguments+1)})
			}
		})
		all.Go(func() {
			for range 10 {
				_, err1 := l.AuditPage(ctx, store.LogQuery{})
				_, err2 := l.DeleteActivity(ctx, nil)
				if err := errors.Join(err1, err2, l.Flush(ctx)); err != nil {
					t.Error(err)
				}
				l.Dropped()
			}
		})
	}
	all.Wait()
	// Rows and Close race; each row is either there or dropped.
	if err := l.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	before, err := l.AuditPage(ctx, store.LogQuery{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	dropped := l.Dropped()
	const rows = 500
	for range 4 {
		all.Go(func() {
			for range rows {
				l.Audit(store.AuditRow{Command: "late"})
			}
		})
	}
	all.Go(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	all.Wait()
	after, err := l.AuditPage(ctx, store.LogQuery{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got := after.Total - before.Total + int(l.Dropped()-dropped); got != 4*rows {
		t.Errorf("%d of %d rows are there or dropped", got, 4*rows)
	}
}

var benchRows = struct {
	activity store.ActivityRow
	auth     store.AuthRow
	audit    store.AuditRow
}{
	store.ActivityRow{Time: time.Unix(1e9, 0), Addr: netip.MustParseAddr("192.0.2.7"), App: "Cmdr 3", Session: wire.SessionID{1}, Entry: "connected"},
	store.AuthRow{Time: time.Unix(1e9, 0), Addr: netip.MustParseAddr("192.0.2.7"), User: wire.UserID{1}, Auth: true, Counted: true},
	store.AuditRow{Time: time.Unix(1e9, 0), Addr: netip.MustParseAddr("192.0.2.7"), User: wire.UserID{1}, UserName: "ann",
		Command: "set_user_rank", Arguments: "-name bob -rank 7", Code: wire.NoErrors},
}

// What a session pays for a row. Nobody writes; what is in the queue is thrown
// away in between.
func BenchmarkLogHandOver(b *testing.B) {
	for _, bb := range []struct {
		name string
		put  func(*store.Logs)
	}{
		{"activity", func(l *store.Logs) { l.Activity(benchRows.activity) }},
		{"auth", func(l *store.Logs) { l.Auth(benchRows.auth) }},
		{"audit", func(l *store.Logs) { l.Audit(benchRows.audit) }},
		{"audit cut", func(l *store.Logs) {
			r := benchRows.audit
			r.Arguments = longArguments
			l.Audit(r)
		}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			l := store.IdleLogs()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				bb.put(l)
				if i%store.BatchRows == 0 {
					l.Discard()
				}
			}
			if n := l.Dropped(); n != 0 {
				b.Errorf("dropped %d", n)
			}
		})
	}
}

var longArguments = strings.Repeat("x", 10_000)

// A row that is dropped must cost no more than one that is not.
func BenchmarkLogDrop(b *testing.B) {
	l := startLogs(b, open(b, filepath.Join(b.TempDir(), "data.db")), store.LogsConfig{QueueBytes: 1})
	b.ReportAllocs()
	for b.Loop() {
		l.Audit(benchRows.audit)
	}
}

func BenchmarkLogWrite(b *testing.B) {
	l := startLogs(b, open(b, filepath.Join(b.TempDir(), "data.db")), store.LogsConfig{QueueBytes: 64 << 20})
	const rows = 30_000
	for b.Loop() {
		for range rows / 3 {
			l.Activity(benchRows.activity)
			l.Auth(benchRows.auth)
			l.Audit(benchRows.audit)
		}
		if err := l.Flush(ctx); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "rows/s")
	if n := l.Dropped(); n != 0 {
		b.Errorf("dropped %d", n)
	}
}

// A page of a log with 100,000 rows of ten users.
func BenchmarkLogPage(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "data.db"))
	l := startLogs(b, s, store.LogsConfig{QueueBytes: 64 << 20})
	var users []wire.UserID
	for i := range 10 {
		r := storetest.Record(fmt.Sprint("user", i))
		if err := s.Create(ctx, r, false); err != nil {
			b.Fatal(err)
		}
		users = append(users, r.ID)
	}
	for i := range 100_000 {
		at := time.Unix(1e9+int64(i)*60, 0)
		a, u := benchRows.activity, benchRows.auth
		a.Time, u.Time, u.User = at, at, users[i%10]
		l.Activity(a)
		l.Auth(u)
	}
	if err := l.Flush(ctx); err != nil {
		b.Fatal(err)
	}
	for _, bb := range []struct {
		name   string
		auth   bool
		filter map[string]string
	}{
		{"activity", false, nil},
		{"activity of a day", false, map[string]string{"time_stamp": "2001-10-01"}},
		{"activity with text", false, map[string]string{"log_entry": "nothing"}},
		{"logins", true, nil},
		{"logins of a user", true, map[string]string{"user_name": "user7"}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			for b.Loop() {
				var err error
				if bb.auth {
					_, err = l.AuthPage(ctx, store.LogQuery{Filter: bb.filter})
				} else {
					_, err = l.ActivityPage(ctx, store.LogQuery{Filter: bb.filter})
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
