package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"mrci.dev/mrci/wire"
)

// ActivityRow is a row of the activity log (state 1.10).
type ActivityRow struct {
	Time    time.Time  // zero: when the row is handed over
	Addr    netip.Addr // of the client
	App     string     // what the client calls itself
	Session wire.SessionID
	Entry   string // what happened
}

// AuthRow is a row of the log of logins (state 1.9). Only attempts on accounts
// that exist have one; what is handed over without a User is not kept.
type AuthRow struct {
	Time     time.Time // zero: when the row is handed over
	Addr     netip.Addr
	User     wire.UserID
	UserName string // in a listing: the present name. It is not stored
	Auth     bool   // a password was tried
	Recover  bool   // a recovery password was tried
	Counted  bool   // a failure that counted towards the threshold
	Accepted bool
}

// AuditRow is a row of the audit log: one call of a command that changes
// something or was refused for its rights (commands 5). Whatever was asked for
// by PRIV_TEXT must not be in it: whoever makes the row sees to that, because
// here nobody can tell.
type AuditRow struct {
	Time      time.Time   // zero: when the row is handed over
	Addr      netip.Addr  // zero: not over the network
	User      wire.UserID // zero: nobody was logged in
	UserName  string      // as it was then
	Command   string
	Arguments string // as the client sent them; of more than 4096 bytes the beginning is kept
	Code      wire.ReturnCode
}

// Retention is how long rows are kept; below a second: for ever (state 4).
type Retention struct {
	Logs  time.Duration // activity and logins
	Audit time.Duration
}

// LogsConfig is what Logs need beside their store. All of it is optional.
type LogsConfig struct {
	Retention  func() Retention // asked whenever old rows are removed; nil: all are kept
	Now        func() time.Time // nil: time.Now
	Log        *slog.Logger     // nil: silent
	QueueBytes int              // of rows that are not written yet; default 4 MiB
}

// Limits of the writer.
const (
	defaultQueueBytes = 4 << 20 // ten thousand rows: the bursts of a login storm fit
	batchRows         = 256     // in one transaction: others wait a few milliseconds for it
	flushEvery        = time.Second
	writeTimeout      = 10 * time.Second // twice what a writer in another process is waited for
	reportEvery       = 10 * time.Second // between two lines about dropped rows
	pruneEvery        = time.Hour
	pruneRows         = 500 // in one transaction, as batchRows
)

// Longest texts of a row in bytes. None is reached in normal use, except that
// arguments may fill a frame.
const (
	maxLogText   = 1024
	maxArguments = 4096
)

// cutMark ends a text of which the rest is missing.
const cutMark = "…"

var errLogsClosed = errors.New("the logs are closed")

// Logs are the activity log, the log of logins and the audit log. Rows are
// handed over without waiting for the disk, and written by one goroutine: a
// row at the latest a second after it was handed over, many rows in one
// transaction. A crash loses at most the rows of that second. The same
// goroutine removes old rows, at the start and once an hour.
//
// The queue is bounded in bytes. When it is full, because the disk does not
// take rows as fast as they come or not at all, further rows are dropped and
// counted; at most every ten seconds an error with their number is logged. The
// rows in the queue are tried again every second.
//
// Texts that are not UTF-8 are made so, and zero bytes replaced, because a
// filter would not see what is behind them.
//
// Logs are safe for concurrent use.
type Logs struct {
	// fixed after StartLogs
	store     *Store
	insert    [logKinds]*sql.Stmt // on the writing connection
	retention func() Retention
	now       func() time.Time
	log       *slog.Logger
	bound     int           // of bytes
	wake      chan struct{} // one signal: look at what is guarded by mu
	ended     chan struct{} // closed when the goroutine has ended

	mu sync.Mutex
	// guarded by mu
	queue   []logEntry
	bytes   int       // of the rows that are not written, those being written included
	handed  uint64    // rows accepted
	written uint64    // rows written, in the order in which they were accepted
	dropped uint64    // rows lost
	waiters []flushed // calls of Flush
	closed  bool      // no more rows

	err error // result of Close, set before ended is closed
}

// flushed is a call of Flush that waits until so many rows are written.
type flushed struct {
	rows uint64
	done chan<- error // with room for the answer
}

// logKind is one of the logs.
type logKind uint8

const (
	activityKind logKind = iota
	authKind
	auditKind
	nobodyKind // in place of a row of the log of logins
	logKinds
)

// logEntry is a row of any log on its way to the database.
type logEntry struct {
	kind     logKind
	auth     bool
	recover  bool
	counted  bool
	accepted bool
	code     wire.ReturnCode
	at       time.Time
	addr     netip.Addr
	id       [wire.UserIDSize]byte // of a session or of a user
	text     [3]string
}

// logEntryBytes is the size of a logEntry without its texts.
const logEntryBytes = 144

func (e *logEntry) size() int {
	return logEntryBytes + len(e.text[0]) + len(e.text[1]) + len(e.text[2])
}

// StartLogs starts the writer of the logs. Close must be called before the
// store is closed. One process at a database needs one Logs; several do no
// harm. The values of ctx, not its end, reach what the writer does.
func (s *Store) StartLogs(ctx context.Context, cfg LogsConfig) (*Logs, error) {
	l := &Logs{
		store: s, retention: cfg.Retention, now: cfg.Now, log: cfg.Log, bound: cfg.QueueBytes,
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	if l.retention == nil {
		l.retention = func() Retention { return Retention{} }
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.bound < 1 {
		l.bound = defaultQueueBytes
	}
	for kind, text := range insertLog {
		var err error
		if l.insert[kind], err = s.w.PrepareContext(ctx, text); err != nil {
			return nil, errors.Join(wrap(ctx, "start logs", err), l.closeStatements())
		}
	}
	w := &logWriter{Logs: l}
	go w.run(context.WithoutCancel(ctx)) // ends in Close
	return l, nil
}

// Activity hands over a row for the activity log. It does not wait.
func (l *Logs) Activity(row ActivityRow) {
	e := logEntry{
		kind: activityKind, at: row.Time, addr: row.Addr,
		text: [3]string{bounded(row.App, maxLogText), bounded(row.Entry, maxLogText)},
	}
	copy(e.id[:], row.Session[:])
	l.put(&e)
}

// Auth hands over a row for the log of logins. It does not wait. Without a User
// the row takes the same place in the queue and in a transaction, but what is
// written is the row of nobody: the disk must not tell who has an account.
func (l *Logs) Auth(row AuthRow) {
	kind := authKind
	if row.User.IsZero() {
		kind = nobodyKind
	}
	l.put(&logEntry{
		kind: kind, at: row.Time, addr: row.Addr, id: row.User,
		auth: row.Auth, recover: row.Recover, counted: row.Counted, accepted: row.Accepted,
	})
}

// Audit hands over a row for the audit log. It does not wait. See AuditRow for
// what must not be in it.
func (l *Logs) Audit(row AuditRow) {
	l.put(&logEntry{
		kind: auditKind, at: row.Time, addr: row.Addr, id: row.User, code: row.Code,
		text: [3]string{
			bounded(row.UserName, maxLogText), bounded(row.Command, maxLogText), bounded(row.Arguments, maxArguments),
		},
	})
}

func (l *Logs) put(e *logEntry) {
	if e.at.IsZero() {
		e.at = l.now()
	}
	size := e.size()
	l.mu.Lock()
	if l.closed || l.bytes+size > l.bound {
		l.dropped++
		l.mu.Unlock()
		return
	}
	l.queue = append(l.queue, *e)
	l.handed++
	rows, before := len(l.queue), l.bytes
	l.bytes += size
	l.mu.Unlock()
	// Otherwise the writer knows already.
	if rows == 1 || rows == batchRows || before < l.bound/2 && before+size >= l.bound/2 {
		l.signal()
	}
}

func (l *Logs) signal() {
	select {
	case l.wake <- struct{}{}:
	default: // it has not looked since the last signal
	}
}

// Flush waits until the rows that were handed over before are in the database,
// where listings see them. It returns an error if they cannot be written now;
// they stay in the queue.
func (l *Logs) Flush(ctx context.Context) error {
	l.mu.Lock()
	if l.written == l.handed {
		l.mu.Unlock()
		return nil
	}
	done := make(chan error, 1)
	l.waiters = append(l.waiters, flushed{rows: l.handed, done: done})
	l.mu.Unlock()
	l.signal()
	var err error
	select {
	case err = <-done:
	case <-l.ended:
		// Its last act may have been to answer.
		select {
		case err = <-done:
		default:
			err = errLogsClosed
		}
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("flush logs: %w", err)
	}
	return nil
}

// Waiting returns how many rows are not written yet.
func (l *Logs) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int(l.handed - l.written)
}

// Dropped returns how many rows were lost: those that came when the queue was
// full or after Close, and those that Close could not write.
func (l *Logs) Dropped() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}

// Close writes the rows that wait and ends the writer; later rows are dropped.
// The error says how many rows could not be written. It may be called twice.
func (l *Logs) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.signal()
	<-l.ended
	return l.err
}

func (l *Logs) closeStatements() error {
	var errs []error
	for _, stmt := range l.insert {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	return errors.Join(errs...)
}

// bounded returns text, or the beginning of a longer one with cutMark behind
// it, in at most limit bytes. What it cuts off is not kept in memory.
func bounded(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	cut := limit - len(cutMark)
	for back := 0; back < utf8.UTFMax && !utf8.RuneStart(text[cut]); back++ {
		cut--
	}
	return text[:cut] + cutMark
}

// clean makes a text that a database keeps and a filter sees as a whole.
func clean(text string, limit int) string {
	if strings.IndexByte(text, 0) >= 0 {
		text = strings.ReplaceAll(text, "\x00", string(utf8.RuneError))
	}
	return bounded(strings.ToValidUTF8(text, string(utf8.RuneError)), limit)
}
