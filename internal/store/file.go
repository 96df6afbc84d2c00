package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
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

	"mrci.dev/mrci/internal/fsys"
)

//go:embed migrations
var migrations embed.FS

const sqliteMigrations = "migrations/sqlite"

// leastSize is the smallest page, and so the smallest database, of SQLite.
const leastSize = 512

// dsn returns the data source of the writing or of a reading connection.
func dsn(cfg Config, writer bool) string {
	q := url.Values{"_pragma": {
		"busy_timeout(" + strconv.FormatInt(cfg.BusyTimeout.Milliseconds(), 10) + ")",
		"foreign_keys(1)",
	}}
	if writer {
		q.Add("_pragma", "journal_mode(WAL)")
		q.Add("_pragma", "synchronous(FULL)")
		q.Set("_txlock", "immediate")
	} else {
		q.Add("_pragma", "query_only(1)")
	}
	return source(cfg.Path, q)
}

// source returns the data source of a file.
func source(path string, q url.Values) string {
	// An absolute path, because a relative one would become the host of a URL.
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/...
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// prepareFile makes the directory and the file if they are missing, for this
// account alone. SQLite gives its companions -wal and -shm the mode of the
// file.
//
// An existing file is not opened: on Unix, closing it would end the locks that
// SQLite holds on it through another Store of this process.
func prepareFile(path string) error {
	if path == "" {
		return errors.New("no path is given; set db_host_name")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("%v; make the directory or name another one", err)
	}
	switch info, err := os.Stat(path); {
	case err == nil && !info.Mode().IsRegular():
		return errors.New("it is not a regular file; name another one")
	case err == nil && info.Mode().Perm()&0o200 == 0:
		// SQLite would make its companions as read-only as the file, and they
		// would stay so.
		return noAccess(errors.New("the file is read-only"))
	case err == nil && info.Size() > 0 && info.Size() < leastSize:
		// SQLite would take it for a new database.
		return errors.New("the file is not an SQLite database; move it away or name another one")
	case errors.Is(err, fs.ErrNotExist):
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			// Root may make the database of a host of another account. SQLite
			// itself gives the companions to the owner of the file.
			err = errors.Join(fsys.OwnOpenAs(f, filepath.Dir(path)), f.Close())
		}
		if err != nil && !errors.Is(err, fs.ErrExist) { // made by another process meanwhile
			return noAccess(err)
		}
	case err != nil:
		return noAccess(err)
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

// noAccess says what to do; the caller names the path.
func noAccess(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	return fmt.Errorf("%v; make the file and its directory readable and writable for this account", err)
}

// migrate brings the tables up to date. Another process may be doing the same
// at the same time: each migration is applied once, because its number is
// unique and is stored in the transaction that applies it.
func migrate(ctx context.Context, db *sql.DB, cfg Config) error {
	newest, err := newestMigration()
	if err != nil {
		return err
	}
	version, err := patientVersion(ctx, db, cfg.BusyTimeout)
	for err == nil && version < newest {
		upErr := migrateUp(ctx, db)
		before := version
		if version, err = patientVersion(ctx, db, cfg.BusyTimeout); err == nil && version == before {
			err = upErr // if not, another process was faster
		}
	}
	if err == nil && version > newest {
		err = newerError(version, newest)
	}
	return err
}

func newerError(version, newest int64) error {
	return fmt.Errorf("the database has the tables of a newer mrci (version %d, this one knows %d); run the newer mrci or restore a backup", version, newest)
}

// patientVersion is schemaVersion, tried again while another process switches
// a new file to WAL: for that SQLite refuses connections without waiting.
func patientVersion(ctx context.Context, db *sql.DB, patience time.Duration) (int64, error) {
	deadline := time.Now().Add(patience)
	for {
		version, err := schemaVersion(ctx, db)
		var e *sqlite.Error
		if !errors.As(err, &e) || e.Code()&0xff != sqlite3.SQLITE_BUSY || time.Now().After(deadline) {
			return version, err
		}
		select {
		case <-ctx.Done():
			return 0, err
		case <-time.After(5 * time.Millisecond):
		}
	}
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
