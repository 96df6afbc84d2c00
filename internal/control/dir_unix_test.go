//go:build unix

package control_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mrci.dev/mrci/internal/control"
)

func TestDirectory(t *testing.T) {
	mkdir := func(t *testing.T, mode os.FileMode) string {
		t.Helper()
		dir := filepath.Join(shortDir(t), "d")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil { // Mkdir minds the umask
			t.Fatal(err)
		}
		return dir
	}
	tests := map[string]struct {
		dir  func(t *testing.T) string
		want string // part of the error; empty: none, and the mode is 0700
		root bool   // needs root
	}{
		"missing":       {dir: func(t *testing.T) string { return filepath.Join(shortDir(t), "a", "b") }},
		"private":       {dir: func(t *testing.T) string { return mkdir(t, 0o700) }},
		"readable":      {dir: func(t *testing.T) string { return mkdir(t, 0o755) }},
		"writable":      {dir: func(t *testing.T) string { return mkdir(t, 0o777) }},
		"shared":        {dir: func(t *testing.T) string { return mkdir(t, 0o777|os.ModeSticky) }, want: "there for all accounts"},
		"file system":   {dir: func(t *testing.T) string { return "/" }, want: "there for all accounts", root: true},
		"somebody's":    {dir: func(t *testing.T) string { return owned(t, mkdir(t, 0o700), 12345) }, want: "belongs to uid 12345", root: true},
		"link to ours":  {dir: func(t *testing.T) string { return link(t, mkdir(t, 0o755)) }},
		"link to other": {dir: func(t *testing.T) string { return link(t, owned(t, mkdir(t, 0o700), 12345)) }, want: "belongs to uid 12345", root: true},
		"other's link":  {dir: func(t *testing.T) string { return owned(t, link(t, mkdir(t, 0o700)), 12345) }, want: "symbolic link of the account with uid 12345", root: true},
		"link to none":  {dir: func(t *testing.T) string { return link(t, filepath.Join(shortDir(t), "missing")) }, want: "make the directory"},
		"a file":        {dir: aFile, want: "make the directory"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.root && os.Geteuid() != 0 {
				t.Skip("needs root")
			}
			dir := test.dir(t)
			before, _ := os.Stat(dir)
			lock, err := control.Acquire(dir)
			if err == nil {
				defer lock.Release()
			}
			after, statErr := os.Stat(dir)
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want an error with %q", err, test.want)
				}
				if before != nil && after.Mode() != before.Mode() {
					t.Errorf("mode changed from %v to %v", before.Mode(), after.Mode())
				}
				return
			}
			if err != nil || statErr != nil {
				t.Fatal(err, statErr)
			}
			if got := after.Mode().Perm(); got != 0o700 {
				t.Errorf("mode: got %v, want 0700", got)
			}
		})
	}
}

// TestOccupy keeps a host of another account out of its own directory.
func TestOccupy(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	owned(t, dir, 12345)
	lock, err := control.Occupy(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	info, err := os.Stat(filepath.Join(dir, "host.lock"))
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 12345 {
		t.Errorf("the lock file belongs to uid %d, want 12345", uid)
	}
	var held *control.HeldError
	if again, err := control.Occupy(dir); !errors.As(err, &held) {
		t.Errorf("occupied twice: %v, %v", again, err)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}

	// What its owner can have put there is neither cut off nor written.
	victim := filepath.Join(shortDir(t), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(victim, filepath.Join(dir, "host.lock")); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Occupy(dir); err == nil || !strings.Contains(err.Error(), "has other names") {
		t.Errorf("a second name of another file as the lock file: %v", err)
	}
	info, err = os.Stat(victim)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(victim); string(text) != "precious" || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("it is now %q of uid %d, %v", text, info.Sys().(*syscall.Stat_t).Uid, err)
	}

	// A directory that others can enter is no host's own.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Occupy(dir); err == nil || !strings.Contains(err.Error(), "belongs to uid 12345") {
		t.Errorf("a directory of another account that is open: %v", err)
	}
}

func owned(t *testing.T, path string, uid int) string {
	t.Helper()
	if err := os.Lchown(path, uid, -1); err != nil {
		t.Fatal(err)
	}
	return path
}

func link(t *testing.T, to string) string {
	t.Helper()
	path := filepath.Join(shortDir(t), "link")
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func aFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(shortDir(t), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSocketMode looks at the socket with a umask that hides nothing.
func TestSocketMode(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	s := prepare(t, control.Config{})
	info, err := os.Lstat(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode(); got != os.ModeSocket|0o600 {
		t.Errorf("mode: got %v, want a socket with 0600", got)
	}
}
