package fsys

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// Bounds of a log file: when a line would make it larger than logSize bytes it
// becomes FILE.1, FILE.1 becomes FILE.2, and so on; the oldest is removed.
const (
	logSize = 64 << 20
	logKept = 4
)

// LogFile is a log that never grows without end. It is safe for concurrent use.
type LogFile struct {
	path string // fixed
	size int64  // fixed; at which it is put aside

	mu      sync.Mutex
	file    *os.File // guarded by mu; nil when closed
	written int64    // guarded by mu; size of file
}

// OpenLog opens the log for appending, and makes it, for this account alone, if
// it is missing.
func OpenLog(path string) (*LogFile, error) { return openLog(path, logSize) }

func openLog(path string, size int64) (*LogFile, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open log file: %w", err)
	}
	l := &LogFile{path: path, size: size}
	if err := l.openLocked(); err != nil {
		return nil, fmt.Errorf("open log file: %w", err)
	}
	return l, nil
}

func (l *LogFile) openLocked() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.file, l.written = f, info.Size()
	return nil
}

// Write appends one line, or several whole ones. A log that cannot be put aside
// goes on growing: losing lines would be worse.
func (l *LogFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return 0, fs.ErrClosed
	}
	if l.written > 0 && l.written+int64(len(p)) > l.size {
		l.rotateLocked()
	}
	n, err := l.file.Write(p)
	l.written += int64(n)
	return n, err
}

// rotateLocked puts the file aside and begins a new one.
func (l *LogFile) rotateLocked() {
	for n := logKept - 1; n > 0; n-- {
		_ = os.Rename(l.kept(n), l.kept(n+1)) // there may be none
	}
	if os.Rename(l.path, l.kept(1)) != nil {
		l.written = 0 // another try after as many bytes
		return
	}
	old := l.file
	if l.openLocked() != nil {
		l.written = 0 // the old file takes the lines until there is a new one
		return
	}
	old.Close()
}

func (l *LogFile) kept(n int) string { return l.path + "." + strconv.Itoa(n) }

// Close closes the file. It may be called twice.
func (l *LogFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
