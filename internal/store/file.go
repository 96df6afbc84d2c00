package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

//go:embed migrations
var migrations embed.FS

const sqliteMigrations = "migrations/sqlite"

// Every SQLite file begins with it.
const sqliteHeader = "SQLite format 3\x00"

// dsn returns the data source of the writing or of a reading connection.
// Values that could hold a sign with a meaning are escaped.
func dsn(cfg Config, writer bool) string {
	// An absolute path, because a relative one would become the host of a URL.
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		path = cfg.Path
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/...
	}
	q := url.Values{}
	q.Add("_pragma", "busy_timeout("+strconv.FormatInt(cfg.BusyTimeout.Milliseconds(), 10)+")")
	q.Add("_pragma", "foreign_keys(1)")
	if writer {
		q.Add("_pragma", "journal_mode(WAL)")
		q.Add("_pragma", "synchronous(FULL)")
		q.Set("_txlock", "immediate")
	} else {
		q.Add("_pragma", "query_only(1)")
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// prepareFile makes the directory and the file if they are missing, for this
// account alone, and refuses what is not an SQLite database. SQLite gives its
// companions -wal and -shm the mode of the file.
func prepareFile(path string) error {
	if path == "" {
		return errors.New("no path is given; set db_host_name")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("%v; make the directory or name another one", err)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return errors.New("it is not a regular file; name another one")
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%v; make the file and its directory readable and writable for this account", err)
	}
	if err != nil {
		return fmt.Errorf("%v; make it a file that can be read and written", err)
	}
	defer f.Close()
	header := make([]byte, len(sqliteHeader))
	switch n, err := io.ReadFull(f, header); {
	case n == 0 && errors.Is(err, io.EOF): // new
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%v; check the disk", err)
	case string(header[:n]) != sqliteHeader:
		return errors.New("the file is not an SQLite database; move it away or name another one")
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		if info, err := os.Stat(name); err == nil && info.Mode().Perm()&0o077 != 0 {
			// Whoever may write the file but does not own it cannot do this,
			// and need not.
			_ = os.Chmod(name, 0o600)
		}
	}
	return nil
}

// migrate brings the tables up to date. Another process may be doing the same
// at the same time.
func migrate(ctx context.Context, db *sql.DB) error {
	newest, err := newestMigration()
	if err != nil {
		return err
	}
	// Each round but the last is one that another process was faster in, or
	// that was turned away while that switched the file to WAL.
	const rounds = 20
	for round := 1; ; round++ {
		version, err := schemaVersion(ctx, db)
		switch {
		case err == nil && version == newest:
			return nil
		case err == nil && version > newest:
			return fmt.Errorf("the database has the tables of a newer mrci (version %d, this one knows %d); run the newer mrci or restore a backup", version, newest)
		case err == nil:
			err = migrateUp(ctx, db)
		}
		if err == nil {
			continue // look again
		}
		var stranger *strangerError
		if round == rounds || ctx.Err() != nil || errors.As(err, &stranger) || isNoDatabase(err) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(round) * 5 * time.Millisecond):
		}
	}
}

func isNoDatabase(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
		sqlite3.SQLITE_PERM, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR:
		return true
	}
	return false
}

func migrateUp(ctx context.Context, db *sql.DB) error {
	folder, err := fs.Sub(migrations, sqliteMigrations)
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, folder, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// newestMigration returns the number of the last migration that is embedded.
func newestMigration() (int64, error) {
	files, err := migrations.ReadDir(sqliteMigrations)
	if err != nil {
		return 0, err
	}
	var newest int64
	for _, f := range files {
		number, _, _ := strings.Cut(f.Name(), "_")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("migration %s: %w", f.Name(), err)
		}
		newest = max(newest, n)
	}
	return newest, nil
}

// strangerError: the database has tables, but not ours.
type strangerError struct{}

func (*strangerError) Error() string {
	return "the database has the tables of another program, such as an older MRCI; import it or name another file"
}

// schemaVersion returns the number of the last migration that was applied to
// the database; 0 if it is new. It reads the table of goose directly: a
// Provider costs more than all the rest of opening.
func schemaVersion(ctx context.Context, db *sql.DB) (int64, error) {
	var tables, ours int
	err := db.QueryRowContext(ctx,
		`SELECT count(*), count(CASE WHEN name = 'goose_db_version' THEN 1 END)
		 FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'`).Scan(&tables, &ours)
	switch {
	case err != nil:
		return 0, err
	case tables == 0:
		return 0, nil
	case ours == 0:
		return 0, new(strangerError)
	}
	var version sql.NullInt64
	err = db.QueryRowContext(ctx, `SELECT max(version_id) FROM goose_db_version WHERE is_applied`).Scan(&version)
	return version.Int64, err
}
