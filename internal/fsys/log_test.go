package fsys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
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

// content is what a file has, nothing when there is none.
func content(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

// TestLogFileThatCannotBeOpenedAgain: lines wait for it, the most recent are
// refused when they are too many, and all goes on when it can be opened.
func TestLogFileThatCannotBeOpenedAgain(t *testing.T) {
	for _, end := range []string{"write", "close"} {
		t.Run(end, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "host.log")
			l, err := openLog(file, logPending)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			full := strings.Repeat("x", logPending-1) + "\n"
			if _, err := l.Write([]byte(full)); err != nil {
				t.Fatal(err)
			}
			l.open = func(string, int, fs.FileMode) (*os.File, error) { return nil, syscall.EMFILE }
			half := strings.Repeat("y", logPending/2-1) + "\n"
			for range 2 {
				if n, err := l.Write([]byte(half)); n != len(half) || err != nil {
					t.Fatalf("a line that can wait: %d, %v", n, err)
				}
			}
			if n, err := l.Write([]byte("z\n")); n != 0 || !errors.Is(err, syscall.EMFILE) {
				t.Errorf("a line too many: %d, %v", n, err)
			}
			if content(t, l.kept(1)) != full || content(t, file) != "" {
				t.Error("the full file was not put aside")
			}
			l.open = os.OpenFile
			if end == "close" {
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if content(t, file) != half+half {
					t.Error("what waited was not written")
				}
				return
			}
			for _, line := range []string{"first\n", "second\n"} {
				if _, err := l.Write([]byte(line)); err != nil {
					t.Fatal(err)
				}
			}
			if content(t, l.kept(2)) != full || content(t, l.kept(1)) != half+half+"first\n" || content(t, file) != "second\n" {
				t.Error("lines are lost, or it is not put aside any more")
			}
		})
	}
}

// TestLogFileIsClosedWhenRenamed: some systems rename no open file.
func TestLogFileIsClosedWhenRenamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "host.log")
	l, err := openLog(file, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	opened := l.file
	l.rename = func(from, to string) error {
		if _, err := opened.Stat(); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("renamed while it was open: %v", err)
		}
		return os.Rename(from, to)
	}
	for n := range 2 {
		if _, err := fmt.Fprintf(l, "line %03d\n", n); err != nil {
			t.Fatal(err)
		}
	}
	if content(t, l.kept(1)) != "line 000\n" || content(t, file) != "line 001\n" {
		t.Error("it was not put aside")
	}
}

// TestLogFileThatCannotBeRenamed goes on growing, keeps the older ones, and is
// put aside when that is possible.
func TestLogFileThatCannotBeRenamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "host.log")
	l, err := openLog(file, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	write := func(n int) {
		t.Helper()
		if _, err := fmt.Fprintf(l, "line %03d\n", n); err != nil {
			t.Fatal(err)
		}
	}
	write(0)
	write(1)
	l.rename = func(from, to string) error {
		if from == file {
			return syscall.EACCES
		}
		return os.Rename(from, to)
	}
	for n := 2; n < 10; n++ {
		write(n)
	}
	if content(t, l.kept(2)) != "line 000\n" {
		t.Error("the older file is gone")
	}
	l.rename = os.Rename
	write(10)
	write(11)
	if !strings.HasPrefix(content(t, l.kept(1)), "line 001\nline 002\n") && !strings.HasPrefix(content(t, l.kept(2)), "line 001\nline 002\n") {
		t.Error("it is not put aside any more")
	}
	if content(t, file) != "line 011\n" {
		t.Errorf("the file has %q", content(t, file))
	}
}

// TestLogFileThatIsGone: somebody else has moved it.
func TestLogFileThatIsGone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "host.log")
	l, err := openLog(file, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.rename = func(from, to string) error {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrNotExist}
	}
	if _, err := l.Write([]byte("line 000\n")); err != nil {
		t.Fatal(err)
	}
	l.file.Close() // some systems remove no open file
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Write([]byte("line 001\n")); err != nil {
		t.Fatal(err)
	}
	if content(t, file) != "line 001\n" {
		t.Errorf("the file has %q", content(t, file))
	}
}
