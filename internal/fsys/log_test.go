package fsys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestLogFile: no line is lost or torn while the log is put aside again and
// again by several writers.
func TestLogFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "host.log")
	const writers, lines = 4, 100
	line := func(w, n int) string { return fmt.Sprintf("writer %d line %03d\n", w, n) }
	size := int64(len(line(0, 0)) * writers * lines / 3) // all of it is kept
	l, err := openLog(file, size)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for n := range lines {
				if _, err := l.Write([]byte(line(w, n))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	var all strings.Builder
	for n := logKept; n >= 0; n-- {
		name := file
		if n > 0 {
			name = l.kept(n)
		}
		text, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if int64(len(text)) > size {
			t.Errorf("%s has %d bytes, more than %d", name, len(text), size)
		}
		all.Write(text)
	}
	for w := range writers {
		for n := range lines {
			if strings.Count(all.String(), line(w, n)) != 1 {
				t.Errorf("%q is there %d times", line(w, n), strings.Count(all.String(), line(w, n)))
			}
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("log file: %v, %v", info, err)
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if _, err := l.Write([]byte("late\n")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
}

// TestLogFileForgets: the oldest lines go.
func TestLogFileForgets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "host.log")
	l, err := openLog(file, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for n := range 20 {
		if _, err := fmt.Fprintf(l, "line %03d\n", n); err != nil {
			t.Fatal(err)
		}
	}
	names, err := filepath.Glob(file + "*")
	if err != nil || len(names) != logKept+1 {
		t.Errorf("files: %q, %v", names, err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "line 019\n" {
		t.Errorf("newest file: %q, %v", text, err)
	}
}

// TestLogFileThatCannotBePutAside goes on growing.
func TestLogFileThatCannotBePutAside(t *testing.T) {
	file := filepath.Join(t.TempDir(), "host.log")
	l, err := openLog(file, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// A directory that is not empty stands where the file would go.
	if err := os.MkdirAll(filepath.Join(l.kept(1), "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(l.kept(2), "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(l.kept(3), "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(l.kept(4), "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for n := range 5 {
		fmt.Fprintf(&want, "line %03d\n", n)
		if _, err := fmt.Fprintf(l, "line %03d\n", n); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != want.String() {
		t.Errorf("the file has %q, %v", text, err)
	}
}
