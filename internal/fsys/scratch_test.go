package fsys_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"mrci.dev/mrci/internal/fsys"
)

// killedEnv turns the test binary into a program that makes a scratch
// directory in that place and waits to be killed.
const killedEnv = "MRCI_TEST_SCRATCH"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedEnv); dir != "" {
		s, err := fsys.OpenScratch(dir, ".x-")
		if err == nil {
			err = os.WriteFile(s.Path("file"), []byte("half"), 0o600)
		}
		if err != nil {
			os.Stdout.WriteString(err.Error())
			os.Exit(1)
		}
		os.Stdout.WriteString("ready")
		_, _ = os.Stdin.Read(make([]byte, 1)) // until the test ends it, or ends
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestScratch(t *testing.T) {
	dir := t.TempDir()
	s, err := fsys.OpenScratch(dir, ".x-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Path("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(s.Path("")); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	// Another one leaves it alone, and what only looks like one.
	if err := os.WriteFile(filepath.Join(dir, ".x-file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := fsys.OpenScratch(dir, ".x-")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Path("file")); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	}
	// Those of programs that were killed go: before and after they had a lock.
	for _, name := range []string{".x-1", ".x-2"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"lock", "file"} {
		if err := os.WriteFile(filepath.Join(dir, ".x-2", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := fsys.CleanScratch(dir, ".x-"); err != nil {
		t.Fatal(err)
	}
	if left := names(t, dir); len(left) != 1 || left[0] != ".x-file" {
		t.Errorf("left: %q", left)
	}
	if _, err := fsys.OpenScratch(filepath.Join(dir, "none"), ".x-"); err == nil {
		t.Error("no error without a directory")
	}
}

// The lock of a program that is killed ends with it.
func TestScratchOfKilled(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killedEnv+"="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, len("ready"))
	_, err = out.Read(said)
	if err != nil || string(said) != "ready" {
		t.Errorf("%q, %v", said, err)
	}
	if err := fsys.CleanScratch(dir, ".x-"); err != nil {
		t.Error(err)
	}
	if left := names(t, dir); len(left) != 1 {
		t.Errorf("while it runs: %q", left)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // it was killed
	if err := fsys.CleanScratch(dir, ".x-"); err != nil {
		t.Error(err)
	}
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

// Many at the same time never take one another's directory away.
func TestScratchTogether(t *testing.T) {
	dir := t.TempDir()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 50 {
				s, err := fsys.OpenScratch(dir, ".x-")
				if err != nil {
					t.Error(err)
					return
				}
				if err := os.WriteFile(s.Path("file"), nil, 0o600); err != nil {
					t.Error(err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

func TestLockFile(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	f, locked, err := fsys.LockFile(root, "lock")
	if !locked || err != nil {
		t.Fatalf("%v, %v", locked, err)
	}
	if _, locked, err := fsys.LockFile(root, "lock"); locked || err != nil {
		t.Errorf("a second time: %v, %v", locked, err)
	}
	if err := fsys.RemoveLocked(root, "lock", f); err != nil {
		t.Error(err)
	}
	if _, err := root.Stat("lock"); err == nil {
		t.Error("it is still there")
	}
	f, locked, err = fsys.LockFile(root, "lock")
	if !locked || err != nil {
		t.Fatalf("after that: %v, %v", locked, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenSame(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, name := range []string{"a", "b", "d/x"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "e"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, link := range map[string]string{"link": "a", "dirlink": "d"} {
		if err := os.Symlink(link, filepath.Join(dir, name)); err != nil {
			t.Skip("no symbolic links here:", err)
		}
	}
	lstat := func(name string) os.FileInfo {
		info, err := root.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	f, err := fsys.OpenSame(root, "a", lstat("a"))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	sub, err := fsys.OpenSameDir(root, "d", lstat("d"))
	if err != nil {
		t.Fatal(err)
	}
	sub.Close()
	for name, was := range map[string]string{"a": "b", "link": "b", "d": "a"} {
		if f, err := fsys.OpenSame(root, name, lstat(was)); err == nil {
			f.Close()
			t.Errorf("%s for %s was opened", name, was)
		}
	}
	for name, was := range map[string]string{"d": "e", "dirlink": "e", "a": "d"} {
		if d, err := fsys.OpenSameDir(root, name, lstat(was)); err == nil {
			d.Close()
			t.Errorf("%s for %s was opened", name, was)
		}
	}
	if _, err := fsys.OpenSame(root, "none", lstat("a")); err == nil || strings.Contains(err.Error(), "exchanged") {
		t.Errorf("a missing file: %v", err)
	}
}

func TestFree(t *testing.T) {
	if n, err := fsys.Free(t.TempDir()); n == 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := fsys.Free(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no error without a directory")
	}
}

// What others put where everybody may is neither opened nor removed through.
func TestScratchTraps(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, filepath.Join(dir, ".x-link")); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	if err := os.Mkdir(filepath.Join(dir, ".x-dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(other, "lock"), filepath.Join(dir, ".x-dir", "lock")); err != nil {
		t.Fatal(err)
	}
	if err := fsys.CleanScratch(dir, ".x-"); err != nil {
		t.Fatal(err)
	}
	if left := names(t, dir); len(left) != 2 {
		t.Errorf("left: %q", left)
	}
	if left := names(t, other); len(left) != 1 {
		t.Errorf("left behind the links: %q", left)
	}
}

// A lock file is made and taken under its own name only.
func TestLockFileIsNoLink(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, target := range map[string]string{"out": filepath.Join(other, "made"), "in": "made"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Skip("no symbolic links here:", err)
		}
		if f, _, err := fsys.LockFile(root, name); err == nil || !strings.Contains(err.Error(), "in the way") {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	if left := append(names(t, dir), names(t, other)...); len(left) != 2 {
		t.Errorf("made: %q", left)
	}
}
