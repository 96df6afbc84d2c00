package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// lockName is the file in a scratch directory that its owner holds locked.
const lockName = "lock"

// Scratch is a directory for files that are being made, for this account
// alone.
type Scratch struct {
	dir  string
	lock *os.File // nil after Close
}

// OpenScratch makes a scratch directory in dir, under a name that begins with
// prefix, and removes those with the prefix whose program was killed.
func OpenScratch(dir, prefix string) (*Scratch, error) {
	if err := CleanScratch(dir, prefix); err != nil {
		return nil, err
	}
	for {
		made, err := os.MkdirTemp(dir, prefix+"*") // mode 0700
		if err != nil {
			return nil, err
		}
		s := &Scratch{dir: made}
		ok, err := s.claim()
		if ok {
			return s, nil
		}
		if err != nil {
			_ = os.RemoveAll(made) // of no use to anybody
			return nil, err
		}
		// Another program took it for an abandoned one in this very moment.
	}
}

// claim locks a new directory, and reports false when it was removed instead.
func (s *Scratch) claim() (ok bool, err error) {
	s.lock, ok, err = LockFile(filepath.Join(s.dir, lockName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return ok, err
}

// CleanScratch removes scratch directories in dir whose program was killed.
func CleanScratch(dir, prefix string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), prefix) {
			abandoned(filepath.Join(dir, e.Name()))
		}
	}
	return nil
}

// abandoned removes a scratch directory that nobody holds. One that cannot be
// removed, because it belongs to another account, is that account's to clean.
func abandoned(path string) {
	// Where everybody may make directories, it may be a trap: nothing outside of
	// it is opened, and nothing waited for.
	root, err := os.OpenRoot(path)
	if err != nil {
		return
	}
	f, err := root.OpenFile(lockName, os.O_RDWR|noWait, 0)
	_ = root.Close() // nothing was done with it
	if errors.Is(err, fs.ErrNotExist) {
		_ = os.Remove(path) // only if it is empty; its owner notices
		return
	}
	if err != nil {
		return
	}
	locked, err := tryLock(f)
	if locked && err == nil {
		removeLocked(path, f)
		return
	}
	_ = f.Close() // nothing was written
}

// Path returns the path of a file in the directory.
func (s *Scratch) Path(name string) string { return filepath.Join(s.dir, name) }

// Close removes the directory with all that is in it. It may be called twice.
func (s *Scratch) Close() error {
	if s.lock == nil {
		return nil
	}
	f := s.lock
	s.lock = nil
	return removeLocked(s.dir, f)
}
