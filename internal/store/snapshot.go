package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"mrci.dev/mrci/internal/fsys"
)

// Snapshot writes a consistent copy of the database at from into the new file
// at to, while hosts and other programs write to it: all that was committed
// before Snapshot was called is in the copy. It returns the version of the
// copy's tables, which may be older than this program's: nothing is migrated,
// because an older host may be running. The copy needs no companion files, has
// passed Verify, and survives a crash when Snapshot returns. After an error
// there is no copy.
//
// It reads in one transaction of a connection of its own: writers go on, only
// the write-ahead log cannot shrink meanwhile. Deleted rows are not copied.
func Snapshot(ctx context.Context, from, to string) (version int64, err error) {
	version, err = snapshot(ctx, from, to)
	if err != nil {
		// Of SQLite there is no more than this, the copy has no journal.
		_ = os.Remove(to)
		return 0, fmt.Errorf("copy store %s: %w", from, driverError(ctx, err))
	}
	return version, nil
}

func snapshot(ctx context.Context, from, to string) (int64, error) {
	// SQLite would make a new database of a missing file.
	if err := isDatabase(from); err != nil {
		return 0, err
	}
	if _, err := os.Lstat(to); err == nil {
		return 0, fmt.Errorf("%s exists already", to)
	}
	f, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) // SQLite takes an empty file
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return 0, err
	}
	db, err := sql.Open("sqlite", source(from, url.Values{
		"_pragma": {fmt.Sprintf("busy_timeout(%d)", defaultBusyTimeout.Milliseconds())},
		"mode":    {"rw"},
	}))
	if err != nil {
		return 0, err
	}
	defer db.Close() // only read: nothing can be lost
	db.SetMaxOpenConns(1)
	if err := known(patientVersion(ctx, db, defaultBusyTimeout)); err != nil {
		return 0, err
	}
	// Not query_only, under which SQLite does not write the copy either.
	if _, err := db.ExecContext(ctx, `VACUUM INTO $1`, to); err != nil {
		return 0, err
	}
	if err := fsys.Sync(to); err != nil {
		return 0, err
	}
	return verify(ctx, to)
}

// Verify checks a database that nobody has open and that needs no companion
// files: that SQLite finds no damage, that no row refers to a missing one, and
// that its tables are ones that this program knows. It returns their version.
// Nothing is written.
func Verify(ctx context.Context, path string) (version int64, err error) {
	if version, err = verify(ctx, path); err != nil {
		return 0, fmt.Errorf("check store %s: %w", path, driverError(ctx, err))
	}
	return version, nil
}

func verify(ctx context.Context, path string) (int64, error) {
	if err := isDatabase(path); err != nil {
		return 0, err
	}
	if err := isWhole(path); err != nil {
		return 0, err
	}
	db, err := sql.Open("sqlite", source(path, url.Values{
		"mode": {"ro"}, "immutable": {"1"},
		// A file that somebody else made is not to run functions of its schema.
		"_pragma": {"trusted_schema(0)", "cell_size_check(1)", "query_only(1)"},
	}))
	if err != nil {
		return 0, err
	}
	defer db.Close() // only read
	db.SetMaxOpenConns(1)
	var result string
	if err := db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&result); err != nil {
		return 0, err
	}
	if result != "ok" {
		return 0, fmt.Errorf("the database is damaged: %s", strings.ReplaceAll(result, "\n", "; "))
	}
	version, err := schemaVersion(ctx, db)
	if err := known(version, err); err != nil {
		return 0, err
	}
	var table string
	switch err := db.QueryRowContext(ctx, `SELECT "table" FROM pragma_foreign_key_check LIMIT 1`).Scan(&table); {
	case err == nil:
		return 0, fmt.Errorf("the database is damaged: a row of %s refers to one that is missing", table)
	case !errors.Is(err, sql.ErrNoRows):
		return 0, err
	}
	return version, nil
}

// known passes versions that this program has migrations for.
func known(version int64, err error) error {
	if err != nil {
		return err
	}
	newest, err := newestMigration()
	switch {
	case err != nil:
		return err
	case version == 0:
		return errors.New("the database is empty")
	case version > newest:
		return newerError(version, newest)
	}
	return nil
}

// InUse reports whether another connection, of this process or another one,
// has the database open. Nothing is written. A database that is too damaged to
// be opened is an error, and a missing one is not in use.
func InUse(ctx context.Context, path string) (bool, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	inUse, err := tryAlone(ctx, path)
	if err != nil {
		return false, fmt.Errorf("look at store %s: %w", path, driverError(ctx, err))
	}
	return inUse, nil
}

// tryAlone asks for the lock that every open connection to a database in WAL
// mode stands in the way of.
func tryAlone(ctx context.Context, path string) (inUse bool, err error) {
	if err := isDatabase(path); err != nil {
		return false, err
	}
	db, err := sql.Open("sqlite", source(path, url.Values{
		"mode": {"rw"}, "_pragma": {"busy_timeout(0)", "locking_mode(EXCLUSIVE)"}, "_txlock": {"exclusive"},
	}))
	if err != nil {
		return false, err
	}
	defer db.Close() // has written nothing
	db.SetMaxOpenConns(1)
	tx, err := db.BeginTx(ctx, nil)
	if err == nil {
		err = tx.Rollback()
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code()&0xff == sqlite3.SQLITE_BUSY {
		return true, nil
	}
	return false, err
}

// isDatabase looks at what SQLite would misunderstand.
func isDatabase(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("there is no such file")
	case err != nil:
		return noAccess(err)
	case !info.Mode().IsRegular():
		return errors.New("it is not a regular file")
	case info.Size() < leastSize:
		return errors.New("the file is not an SQLite database")
	}
	return nil
}

// isWhole refuses a file that counts only together with a write-ahead log: it
// would not be seen here. Nobody else may have the file open: closing it here
// would end their locks.
func isWhole(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return noAccess(err)
	}
	defer f.Close() // only read
	var head [20]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return err
	}
	// The versions of the file format for writing and for reading: 2 is a log.
	if string(head[:16]) != "SQLite format 3\x00" || head[18] != 1 || head[19] != 1 {
		return errors.New("the file is not an SQLite database that stands alone")
	}
	return nil
}
