package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"mrci.dev/mrci/internal/account"
)

// Errors that callers branch on, besides those of package account.
var (
	// ErrNotFound: the row is not there.
	ErrNotFound = errors.New("not found")
	// ErrExists: a row with this key is there already.
	ErrExists = errors.New("exists already")
)

// defaultBusyTimeout is how long a writer waits for one in another process.
// Nothing holds the lock for longer than a commit takes.
const defaultBusyTimeout = 5 * time.Second

// Config says where the database is. Path is required.
type Config struct {
	Path        string        // of the SQLite file; its directory is made if it is missing
	BusyTimeout time.Duration // default 5 s
	Readers     int           // reading connections; default: 4, or the number of cores if that is more
}

// Store is an open database.
type Store struct {
	// fixed after Open
	w, r    *sql.DB // one connection that writes; several that only read
	stmt    statements
	channel channelStatements
	secret  [32]byte // decides which account stands in for which name
}

// statements are prepared once: reads on both sides, writes on the writer.
type statements struct {
	read, candidate byKey     // on r
	find, judged    byKey     // the same on w
	login           *sql.Stmt // on r

	insert, update, remove, recovery *sql.Stmt
	tally, touch, nobody             *sql.Stmt
	ofRank                           *sql.Stmt // a read on w
}

// byKey is one query in the forms for all that can name an account.
type byKey struct{ id, name, email *sql.Stmt }

var _ account.Store = (*Store)(nil)

// Open opens the database, makes it if it is missing, brings its tables up to
// date, and makes sure that it can be written. The error is one line that
// names the file and says what to do.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s, err := open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", cfg.Path, driverError(ctx, err))
	}
	return s, nil
}

func open(ctx context.Context, cfg Config) (_ *Store, err error) {
	if cfg.BusyTimeout <= 0 {
		cfg.BusyTimeout = defaultBusyTimeout
	}
	if cfg.Readers < 1 {
		cfg.Readers = max(4, runtime.GOMAXPROCS(0))
	}
	if err := prepareFile(cfg.Path); err != nil {
		return nil, err
	}
	s := new(Store)
	rand.Read(s.secret[:]) // never fails
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.w, err = sql.Open("sqlite", dsn(cfg, true)); err != nil {
		return nil, err
	}
	s.w.SetMaxOpenConns(1)
	if err := migrate(ctx, s.w, cfg); err != nil {
		return nil, err
	}
	if s.r, err = sql.Open("sqlite", dsn(cfg, false)); err != nil {
		return nil, err
	}
	s.r.SetMaxOpenConns(cfg.Readers)
	s.r.SetMaxIdleConns(cfg.Readers)
	if err := openAll(ctx, s.r, cfg.Readers); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	// The only proof that a file can be written is to write. The row of nobody
	// is there for writes without a meaning.
	if _, err := s.stmt.nobody.ExecContext(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// openAll opens every connection that db may have; they stay open. A host that
// has no descriptor left could not open them when they are needed.
func openAll(ctx context.Context, db *sql.DB, connections int) error {
	for range connections {
		c, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer c.Close() // at the end: it goes back to db, and all of them have been opened
	}
	return nil
}

func (s *Store) prepare(ctx context.Context) error {
	for _, p := range []struct {
		db   *sql.DB
		stmt **sql.Stmt
		text string
	}{
		{s.r, &s.stmt.login, selectLogin},
		{s.r, &s.stmt.read.id, selectByID}, {s.r, &s.stmt.read.name, selectByName}, {s.r, &s.stmt.read.email, selectByEmail},
		{s.w, &s.stmt.find.id, selectByID}, {s.w, &s.stmt.find.name, selectByName}, {s.w, &s.stmt.find.email, selectByEmail},
		{s.r, &s.stmt.candidate.id, candidateByID}, {s.r, &s.stmt.candidate.name, candidateByName}, {s.r, &s.stmt.candidate.email, candidateByEmail},
		{s.w, &s.stmt.judged.id, candidateByID}, {s.w, &s.stmt.judged.name, candidateByName}, {s.w, &s.stmt.judged.email, candidateByEmail},
		{s.w, &s.stmt.insert, insertUser}, {s.w, &s.stmt.update, updateUser},
		{s.w, &s.stmt.remove, deleteUser}, {s.w, &s.stmt.recovery, putRecovery},
		{s.w, &s.stmt.tally, updateTally}, {s.w, &s.stmt.touch, touchUser}, {s.w, &s.stmt.nobody, updateNobody},
		{s.w, &s.stmt.ofRank, someoneOfRank},
	} {
		var err error
		if *p.stmt, err = p.db.PrepareContext(ctx, p.text); err != nil {
			return err
		}
	}
	for _, part := range []struct {
		db    *sql.DB
		stmts []preparation
	}{{s.r, s.channel.onReader()}, {s.w, s.channel.onWriter()}} {
		for _, p := range part.stmts {
			var err error
			if *p.stmt, err = part.db.PrepareContext(ctx, p.text); err != nil {
				return err
			}
		}
	}
	return nil
}

// preparation is a statement, and where it goes once it is prepared.
type preparation struct {
	stmt **sql.Stmt
	text string
}

// Ping makes sure that the database answers: it reads a row.
func (s *Store) Ping(ctx context.Context) error {
	var rows int
	return wrap(ctx, "ask the database", s.r.QueryRowContext(ctx, "SELECT count(*) FROM nobody").Scan(&rows))
}

// Settled returns when the write that is under way, if there is one, is over.
// Who has lost a right before has changed nothing by it afterwards.
func (s *Store) Settled(ctx context.Context) error {
	// There is one connection that writes, and it is free between two writes.
	c, err := s.w.Conn(ctx)
	if err == nil {
		err = c.Close()
	}
	return wrap(ctx, "wait for a write", err)
}

// Close closes the database once the running transactions have ended. It may
// be called twice.
func (s *Store) Close() error {
	var errs []error
	// The writer last: the last connection moves the log into the file.
	for _, db := range []*sql.DB{s.r, s.w} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close store: %v", err)
	}
	return nil
}

// write runs do in a transaction that holds the write lock from its beginning.
func (s *Store) write(ctx context.Context, what string, do func(tx *sql.Tx) error) error {
	tx, err := s.w.BeginTx(ctx, nil)
	if err == nil {
		defer tx.Rollback() // after a commit it does nothing
		if err = do(tx); err == nil {
			err = tx.Commit()
		}
	}
	return wrap(ctx, what, err)
}

// passError marks an error that goes to the caller as it is: one of a function
// that was passed in, or a sentinel.
type passError struct{ err error }

func (e passError) Error() string { return e.err.Error() }
func (e passError) Unwrap() error { return e.err }

// wrap makes an error that callers may see, or nil from nil.
func wrap(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if pass, ok := errors.AsType[passError](err); ok {
		return pass.err
	}
	return fmt.Errorf("%s: %w", what, driverError(ctx, err))
}

// driverError ends the chain of errors at the driver. What ctx ended keeps its
// cause.
func driverError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var e *sqlite.Error
	if errors.As(err, &e) {
		if hint := hints[e.Code()&0xff]; hint != "" {
			return fmt.Errorf("%s (%v)", hint, e)
		}
		return errors.New(e.Error())
	}
	return err
}

// hints say what to do about the primary result codes of SQLite that are the
// operator's to mend.
var hints = map[int]string{
	sqlite3.SQLITE_BUSY:     "another process keeps the database locked; end it or try again",
	sqlite3.SQLITE_READONLY: "the database cannot be written; make the file and its directory writable for this account",
	sqlite3.SQLITE_CANTOPEN: "the database cannot be opened; make the file and its directory readable and writable for this account",
	sqlite3.SQLITE_PERM:     "the database cannot be opened; make the file and its directory readable and writable for this account",
	sqlite3.SQLITE_FULL:     "the disk is full; make room",
	sqlite3.SQLITE_IOERR:    "the disk does not read or write; check it and the free space",
	sqlite3.SQLITE_CORRUPT:  "the database is damaged; restore a backup",
	sqlite3.SQLITE_NOTADB:   "the file is not an SQLite database; move it away or name another one",
}
