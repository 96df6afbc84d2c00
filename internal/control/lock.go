package control

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"mrci.dev/mrci/internal/fsys"
)

// lockName is the lock file in a directory. It has the pid of its holder in
// it, for people; what locks is the system's lock on the file, which ends with
// the process.
const lockName = "host.lock"

// HeldError says that another process holds the lock of a directory.
type HeldError struct {
	Dir string
	PID int // 0: unknown
}

func (e *HeldError) Error() string {
	who := "a host is running"
	if e.PID != 0 {
		who = fmt.Sprintf("a host (pid %d) is running", e.PID)
	}
	return fmt.Sprintf("%s with the directory %s already: stop it with `mrci stop`, or use another directory with --dir", who, e.Dir)
}

// Lock is the exclusive right to a directory, for as long as the process lives
// or until Release.
type Lock struct {
	dir string

	// Guarded by mu.
	mu   sync.Mutex
	root *os.Root // nil after Release
	file *os.File
}

// Acquire locks a directory and returns at once: a *HeldError says that
// somebody else has it. The directory is made if it is missing, and closed to
// other accounts. A lock file that is left over from a crash is no
// obstacle.
func Acquire(dir string) (*Lock, error) { return acquire(dir, false) }

// Occupy is Acquire for what only keeps hosts out: root may do so in a directory
// that another account has for itself, and the lock file belongs to that
// account then.
func Occupy(dir string) (*Lock, error) { return acquire(dir, true) }

func acquire(dir string, others bool) (*Lock, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("lock the directory: %w", err)
	}
	root, err := openPrivate(dir, others)
	if err != nil {
		return nil, err
	}
	file, err := lockFile(root)
	if err != nil {
		root.Close()
		var held *HeldError
		if errors.As(err, &held) {
			held.Dir = dir
			return nil, held
		}
		return nil, fmt.Errorf("lock the directory %s: %w", dir, err)
	}
	return &Lock{dir: dir, root: root, file: file}, nil
}

// lockFile returns the lock file, locked and with this process's pid in it.
func lockFile(root *os.Root) (*os.File, error) {
	for {
		f, err := root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		again, err := lockOpened(root, f)
		if err == nil && !again {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// lockOpened locks f and writes the pid. again says that f was removed by its
// holder between open and lock, so that what was locked is no longer the lock
// file: there is a new one, or will be.
func lockOpened(root *os.Root, f *os.File) (again bool, err error) {
	opened, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !opened.Mode().IsRegular() {
		return false, fmt.Errorf("%s is in the way: it is not a file", lockName)
	}
	if fileLinks(opened) > 1 { // it is written, perhaps by root for another account
		return false, fmt.Errorf("%s is in the way: it has other names too; remove it", lockName)
	}
	switch locked, err := fsys.TryLock(f); {
	case err != nil:
		return false, err
	case !locked:
		return false, &HeldError{PID: readPID(f)}
	}
	switch named, err := root.Lstat(lockName); {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	case err != nil:
		return false, err
	case !os.SameFile(opened, named):
		return true, nil
	}
	if err := fsys.OwnOpenAs(f, root.Name()); err != nil {
		return false, err
	}
	if err := f.Truncate(0); err != nil {
		return false, err
	}
	_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return false, err
}

// readPID returns the pid in a lock file, 0 if there is none: its holder has
// just begun, or another program wrote the file.
func readPID(f *os.File) int {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

// Dir returns the locked directory as an absolute path.
func (l *Lock) Dir() string { return l.dir }

// Release gives the directory free and removes the lock file. It may be called
// again and does nothing then.
func (l *Lock) Release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.root == nil {
		return nil
	}
	// While the lock is held: who opens the old file before it is removed finds,
	// with the lock, that it is no longer the one with the name.
	err := l.removeFileLocked()
	if closeErr := l.file.Close(); err == nil { // unlocks
		err = closeErr
	}
	l.root.Close()
	l.root, l.file = nil, nil
	if err != nil {
		return fmt.Errorf("release the directory %s: %w", l.dir, err)
	}
	return nil
}

func (l *Lock) removeFileLocked() error {
	if !canRemoveLocked {
		return l.file.Truncate(0)
	}
	ours, err := l.file.Stat()
	if err != nil {
		return err
	}
	named, err := l.root.Lstat(lockName)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(ours, named) {
		return nil // somebody removed it by hand
	}
	if err != nil {
		return err
	}
	return l.root.Remove(lockName)
}

// errReleased is for who wants to do with a directory what takes its lock.
var errReleased = errors.New("the lock of the directory is released already")

// whileHeld calls do if the lock is held, which it is until do returns.
func (l *Lock) whileHeld(do func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.root == nil {
		return errReleased
	}
	return do()
}
