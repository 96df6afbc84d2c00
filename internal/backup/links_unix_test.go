//go:build unix

package backup_test

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/internal/backup"
	"mrci.dev/mrci/internal/conf"
)

// service is the account whose host root saves and restores.
const service = 12345

// giveAway gives all below a directory to the service account.
func giveAway(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, service, service)
	})
	if err != nil {
		t.Skip("root cannot give files away here:", err)
	}
}

// owners returns to whom all below a directory belongs.
func owners(t *testing.T, dir string) map[string]uint32 {
	t.Helper()
	all := make(map[string]uint32)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			all[path] = info.Sys().(*syscall.Stat_t).Uid
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// saved is what an archive of the host holds, empty after an error.
func saved(t *testing.T, settings conf.Config) (map[string]string, error) {
	t.Helper()
	var b bytes.Buffer
	if _, err := backup.Save(ctx, backup.SaveConfig{Settings: settings, Out: &b, Files: true}); err != nil {
		return nil, err
	}
	_, texts, err := backup.Contents(ctx, &b)
	if err != nil {
		t.Fatal(err)
	}
	return texts, nil
}

// Nothing gets into root's archive that the service account only points at.
func TestSaveTakesNoLinks(t *testing.T) {
	for name, test := range map[string]struct {
		put  func(host, private string) error
		want string // part of the error; empty: what it is about is left out
	}{
		"template": {func(host, private string) error {
			return os.Symlink(filepath.Join(private, "secret"), filepath.Join(host, "email_verify_template.txt"))
		}, "email_verify_template.txt is a symbolic link"},
		"dangling": {func(host, private string) error {
			return os.Symlink(filepath.Join(private, "none"), filepath.Join(host, "email_verify_template.txt"))
		}, "email_verify_template.txt is a symbolic link"},
		"second name": {func(host, private string) error {
			return os.Link(filepath.Join(private, "secret"), filepath.Join(host, "email_verify_template.txt"))
		}, "has other names too"},
		"somebody's": {func(host, _ string) error {
			path := filepath.Join(host, "email_verify_template.txt")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return err
			}
			return os.Chown(path, service+1, service+1)
		}, "belongs neither to the account of its directory nor to root"},
		"pipe": {func(host, _ string) error {
			return syscall.Mkfifo(filepath.Join(host, "email_verify_template.txt"), 0o600)
		}, "is not a regular file"},
		"database": {func(host, private string) error {
			db := filepath.Join(host, "data.db")
			if err := os.Rename(db, filepath.Join(private, "data.db")); err != nil {
				return err
			}
			return os.Symlink(filepath.Join(private, "data.db"), db)
		}, "data.db is a symbolic link"},
		"files": {func(host, private string) error {
			if err := os.RemoveAll(filepath.Join(host, "files")); err != nil {
				return err
			}
			return os.Symlink(private, filepath.Join(host, "files"))
		}, "files is not a directory"},
		"second name of a user's file": {func(host, private string) error {
			return os.Link(filepath.Join(private, "secret"), filepath.Join(host, "files", "f2"))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			host, private := t.TempDir(), t.TempDir()
			settings := newHost(t, one(host), "alice")
			write(t, filepath.Join(host, "files", "f"), "of alice")
			giveAway(t, host)
			write(t, filepath.Join(host, "res_pw_template.txt"), "an administrator's")
			write(t, filepath.Join(private, "secret"), "of root")
			if err := os.Chown(filepath.Join(host, "res_pw_template.txt"), 0, 0); err != nil {
				t.Fatal(err)
			}
			texts, err := saved(t, settings)
			if err != nil || texts["res_pw_template.txt"] != "an administrator's" || texts["files/f"] != "of alice" {
				t.Fatalf("without links: %q, %v", texts, err)
			}
			if err := test.put(host, private); err != nil {
				t.Fatal(err)
			}
			texts, err = saved(t, settings)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			for name, text := range texts {
				if strings.Contains(text, "of root") {
					t.Errorf("%s holds the secret", name)
				}
			}
			leftovers(t, host)
		})
	}
}

// A configuration of the service account does not make root save a database of
// somebody else.
func TestSaveOfAnotherDatabase(t *testing.T) {
	host, private := t.TempDir(), t.TempDir()
	settings := newHost(t, one(host), "alice")
	giveAway(t, host)
	settings.DBHostName = newHost(t, one(private), "root").DBHostName
	if _, err := saved(t, settings); err == nil || !strings.Contains(err.Error(), "run this as that account") {
		t.Errorf("got %v", err)
	}
}

// Links of an administrator, in a directory that others cannot change, are
// followed.
func TestSaveFollowsOwnLinks(t *testing.T) {
	host, other := t.TempDir(), t.TempDir()
	settings := newHost(t, one(host), "alice")
	write(t, filepath.Join(other, "template"), "elsewhere")
	if err := os.Symlink(filepath.Join(other, "template"), filepath.Join(host, "email_verify_template.txt")); err != nil {
		t.Fatal(err)
	}
	if texts, err := saved(t, settings); err != nil || texts["email_verify_template.txt"] != "elsewhere" {
		t.Errorf("%q, %v", texts, err)
	}
}

func TestRestoreMarkerIsALink(t *testing.T) {
	from, to, private := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, one(from).File(), "{}") // no paths
	archive := save(t, newHost(t, one(from), "alice"), false)
	for _, target := range []string{filepath.Join(private, "made"), "made"} {
		marker := filepath.Join(to, backup.MarkerName)
		if err := os.Symlink(target, marker); err != nil {
			t.Fatal(err)
		}
		giveAway(t, to)
		if _, err := restore(archive, backup.RestoreConfig{Dirs: one(to)}); err == nil || !strings.Contains(err.Error(), "in the way") {
			t.Errorf("got %v", err)
		}
		if err := os.Remove(marker); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{to, private} {
		if left := tree(t, dir); len(left) != 1 { // itself
			t.Errorf("made: %q", left)
		}
	}
}

// before calls do once, before the first byte is read.
type before struct {
	io.Reader
	do func()
}

func (r *before) Read(p []byte) (int, error) {
	if r.do != nil {
		r.do()
		r.do = nil
	}
	return r.Reader.Read(p)
}

// exchange puts a link in place of the scratch directory of a restore.
func exchange(t *testing.T, dir, target string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, backup.RestoreScratch+"*"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	if err := os.Rename(found[0], filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, found[0]); err != nil {
		t.Fatal(err)
	}
}

// The service account exchanges the scratch directory while root restores:
// nothing is made, changed or taken behind the link.
func TestRestoreInExchangedScratch(t *testing.T) {
	from := t.TempDir()
	write(t, one(from).File(), "{}") // no paths
	archive := save(t, newHost(t, one(from), "alice"), false)
	for _, when := range []string{"while it reads", "while it moves"} {
		for _, what := range []string{"empty", "full"} {
			t.Run(when+" "+what, func(t *testing.T) {
				to, private := t.TempDir(), t.TempDir()
				giveAway(t, to)
				if what == "full" {
					if err := os.CopyFS(private, os.DirFS(from)); err != nil {
						t.Fatal(err)
					}
				}
				texts, uids := tree(t, private), owners(t, private)
				in, step := io.Reader(bytes.NewReader(archive)), func() {}
				if when == "while it reads" {
					in = &before{in, func() { exchange(t, to, private) }}
				} else {
					done := false
					step = func() {
						if !done {
							exchange(t, to, private)
							done = true
						}
					}
				}
				err := backup.RestoreWith(ctx, in, backup.RestoreConfig{Dirs: one(to)}, step)
				if err == nil {
					t.Error("no error")
				}
				if d := cmp.Diff(texts, tree(t, private)); d != "" {
					t.Errorf("behind the link: %s", d)
				}
				if d := cmp.Diff(uids, owners(t, private)); d != "" {
					t.Errorf("behind the link: %s", d)
				}
			})
		}
	}
}
