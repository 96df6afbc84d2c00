package store

import (
	"context"
	"database/sql"
	"io/fs"
	"testing"

	"github.com/pressly/goose/v3"
)

// MakeAt makes a database as the given migration left it, and runs statement.
func MakeAt(t *testing.T, path string, version int64, statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(Config{Path: path}, true))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	folder, err := fs.Sub(migrations, sqliteMigrations)
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, folder, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(context.Background(), version); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(statement, args...); err != nil {
		t.Fatal(err)
	}
}

// OpenReaders returns how many reading connections are open.
func (s *Store) OpenReaders() int { return s.r.Stats().OpenConnections }

// Number returns the number that a query of the writing connection gives.
func (s *Store) Number(t *testing.T, query string, args ...any) int {
	t.Helper()
	var n int
	if err := s.w.QueryRow(query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Queries of the hot paths, for Plan.
const (
	SelectByName    = selectByName
	CandidateByName = candidateByName
	SomeoneOfRank   = someoneOfRank
	UserColumns     = userColumns
)

// Pragma returns a setting of the writing connection.
func (s *Store) Pragma(t *testing.T, name string) string {
	t.Helper()
	var value string
	if err := s.w.QueryRow("PRAGMA " + name).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// WriteByReader tries to write on a reading connection.
func (s *Store) WriteByReader() error {
	_, err := s.r.Exec(updateNobody)
	return err
}

// Exec runs a statement on the writing connection.
func (s *Store) Exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	if _, err := s.w.Exec(statement, args...); err != nil {
		t.Fatal(err)
	}
}

// ChannelStatements are the texts of all statements about channels, but for
// listings.
func ChannelStatements() (texts []string) {
	var c channelStatements
	for _, p := range c.onWriter()[len(c.find.texts()):] {
		texts = append(texts, p.text)
	}
	return append(texts, factsByID, factsByName, selectChannel, selectStanding, selectSub, countOwned)
}

// NewestMigration is the version of the tables that this program makes.
var NewestMigration = newestMigration
