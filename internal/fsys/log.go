package fsys

import (
	"errors"
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
	logSize    = 64 << 20
	logKept    = 4
	logPending = 64 << 10 // bytes that are kept while there is no file to write to
)

// LogFile is a log that never grows without end. It is safe for concurrent use.
type LogFile struct {
	path string // fixed
	size int64  // fixed; at which it is put aside

	mu      sync.Mutex
	closed  bool     // guarded by mu
	file    *os.File // guarded by mu; nil when it could not be opened again, and when closed
	written int64    // guarded by mu; size of file
	pending []byte   // guarded by mu; what file has to take first
	// How the system opens and renames; fixed.
	open   func(path string, flag int, perm fs.FileMode) (*os.File, error)
	rename func(from, to string) error
}

// OpenLog opens the log for appending, and makes it, for this account alone, if
// it is missing.
func OpenLog(path string) (*LogFile, error) { return openLog(path, logSize) }

func openLog(path string, size int64) (*LogFile, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open log file: %w", err)
	}
	l := &LogFile{path: path, size: size, open: os.OpenFile, rename: os.Rename}
	if err := l.openLocked(); err != nil {
		return nil, fmt.Errorf("open log file: %w", err)
	}
	return l, nil
}

func (l *LogFile) openLocked() error {
	f, err := l.open(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
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
// goes on growing: losing lines would be worse. While it cannot be opened again,
// because descriptors are short, the first lines wait in memory; an error means
// that p is lost.
func (l *LogFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, fs.ErrClosed
	}
	if l.file != nil && l.written > 0 && l.written+int64(len(p)) > l.size {
		l.rotateLocked()
	}
	if err := l.readyLocked(); err != nil {
		if len(l.pending)+len(p) > logPending {
			return 0, err
		}
		l.pending = append(l.pending, p...)
		return len(p), nil
	}
	n, err := l.file.Write(p)
	l.written += int64(n)
	return n, err
}

// readyLocked opens the file if it is not open, and writes what waits for it.
func (l *LogFile) readyLocked() error {
	if l.file == nil {
		if err := l.openLocked(); err != nil {
			return err
		}
	}
	if len(l.pending) == 0 {
		return nil
	}
	n, err := l.file.Write(l.pending)
	l.written += int64(n)
	l.pending = l.pending[n:]
	if len(l.pending) == 0 {
		l.pending = nil
	}
	return err
}

// rotateLocked puts the file aside; readyLocked begins a new one. It is closed
// before, for Windows renames no file that is open.
func (l *LogFile) rotateLocked() {
	l.file.Close()
	l.file = nil
	// Only as many make room as have to: one that cannot be put aside, try after
	// try, must not push the others out.
	free := 1
	for free < logKept && there(l.kept(free)) {
		free++
	}
	for n := free; n > 1; n-- {
		_ = l.rename(l.kept(n-1), l.kept(n)) // the next one tells
	}
	err := l.rename(l.path, l.kept(1))
	if err == nil || errors.Is(err, fs.ErrNotExist) { // somebody else has moved it
		return
	}
	if l.openLocked() == nil {
		l.written = 0 // another try after as many bytes
	}
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (l *LogFile) kept(n int) string { return l.path + "." + strconv.Itoa(n) }

// Close closes the file. It may be called twice.
func (l *LogFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var err error
	if len(l.pending) > 0 {
		err = l.readyLocked()
		l.pending = nil
	}
	if l.file != nil {
		err = errors.Join(err, l.file.Close())
		l.file = nil
	}
	return err
}
