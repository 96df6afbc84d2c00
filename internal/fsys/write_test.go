package fsys_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"mrci.dev/mrci/internal/fsys"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// alone fails when anything but the file is left in its directory.
func alone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("left in the directory: %v", entries)
	}
}

func TestCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "file")
	if created, err := fsys.Create(path, []byte("one"), 0o600); !created || err != nil {
		t.Fatalf("Create: %v, %v", created, err)
	}
	if created, err := fsys.Create(path, []byte("two"), 0o600); created || err != nil {
		t.Errorf("Create again: %v, %v", created, err)
	}
	if got := read(t, path); got != "one" {
		t.Errorf("the file holds %q", got)
	}
	if runtime.GOOS != "windows" {
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
	alone(t, path)
}

func TestCreateAtTheSameTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	var made atomic.Int32
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			created, err := fsys.Create(path, []byte("x"), 0o600)
			if err != nil {
				t.Error(err)
			}
			if created {
				made.Add(1)
			}
		})
	}
	group.Wait()
	if made.Load() != 1 {
		t.Errorf("%d have made the file", made.Load())
	}
	alone(t, path)
}

func TestCreateLeavesLinksAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), path); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	if created, err := fsys.Create(path, []byte("x"), 0o600); created || err != nil {
		t.Errorf("Create: %v, %v", created, err)
	}
	alone(t, path)
}

func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, text := range []string{"one", "two", ""} {
		if err := fsys.Replace(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := read(t, path); got != text {
			t.Errorf("the file holds %q, want %q", got, text)
		}
	}
	alone(t, path)
}

func TestFailuresLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	blocked := filepath.Join(dir, "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := fsys.Create(filepath.Join(blocked, "below"), []byte("x"), 0o600); err == nil {
		t.Error("Create below a file: no error")
	}
	if err := fsys.Replace(dir+"/sub", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir + "/sub"); err != nil {
		t.Fatal(err)
	}
	taken := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(taken, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := fsys.Replace(taken, []byte("x"), 0o600); err == nil {
		t.Error("Replace of a directory: no error")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestTidy(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "conf.json")
	kept := []string{"conf.json", ".conf.json-", ".conf.json-1a", ".conf.json", ".conf.json.bak-1", "conf.json-1", ".other-1"}
	for _, name := range append(kept, ".conf.json-1", ".conf.json-4294967295") {
		put(t, filepath.Join(dir, name), "x")
	}
	mkdir(t, filepath.Join(dir, ".conf.json-2"))
	kept = append(kept, ".conf.json-2")
	for range 2 {
		if err := fsys.Tidy(path); err != nil {
			t.Fatal(err)
		}
		var left []string
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			left = append(left, e.Name())
		}
		slices.Sort(kept)
		if !slices.Equal(left, kept) {
			t.Fatalf("left %q, want %q", left, kept)
		}
	}
	if err := fsys.Tidy(filepath.Join(dir, "nowhere", "file")); err != nil {
		t.Errorf("no directory: %v", err)
	}
}

// A Create whose temporary file goes away, because the file is there by now,
// has not made it, and is no failure.
func TestCreateThatIsTidiedUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := fsys.Replace(path, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := fsys.LinkNew(path+"-gone", path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want ErrExist", err)
	}
	alone(t, path)
}
