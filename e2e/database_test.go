//go:build unix

package e2e_test

import (
	"database/sql"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	_ "modernc.org/sqlite"
)

// A database that a newer program has changed is left alone.
func TestNewerDatabase(t *testing.T) {
	dir, env := t.TempDir(), cleanEnv(t)
	begin := func() *hostProcess {
		cmd := exec.Command(binary, hostArgs(dir, nil)...)
		cmd.Env = env
		h := startHost(t, cmd, dir)
		t.Cleanup(func() { h.finish(0) })
		return h
	}
	begin().stop(t, syscall.SIGTERM)
	db, err := sql.Open("sqlite", filepath.Join(dir, "data.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	h := begin()
	want := regexp.MustCompile(`^mrci: open store .*/data\.db: the database has the tables of a newer mrci \(version 9999, .*\n$`)
	if h.addr != "" || h.status != 1 || !want.MatchString(h.stderr.String()) {
		t.Errorf("address %q, exit status %d:\n%s", h.addr, h.status, h.stderr)
	}
	h.check(t)
}
