package fsys

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// lockName is the file in a scratch directory that its owner holds locked.
const lockName = "lock"

// scratchDigits is how many random ones end the name of a scratch directory.
const scratchDigits = 10

// Scratch is a directory for files that are being made, for this account
// alone. Its files are opened by name in it, not by path: where another account
// can rename the directory, a path may lead anywhere.
type Scratch struct {
	name   string
	parent *os.Root
	root   *os.Root // nil until it is claimed
	lock   *os.File // nil after Close
}

// OpenScratch makes a scratch directory in dir, under a name that begins with
// prefix, and removes those with the prefix whose program was killed.
func OpenScratch(dir, prefix string) (*Scratch, error) {
	parent, err := OpenDir(dir)
	if err != nil {
		return nil, err
	}
	s, err := makeScratch(parent, prefix)
	if err != nil {
		_ = parent.Close() // nothing is left in it
		return nil, err
	}
	return s, nil
}

func makeScratch(parent *os.Root, prefix string) (*Scratch, error) {
	if err := cleanScratch(parent, prefix); err != nil {
		return nil, err
	}
	for {
		name := prefix + strings.ToLower(rand.Text()[:scratchDigits])
		err := parent.Mkdir(name, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s := &Scratch{name: name, parent: parent}
		ok, err := s.claim()
		if ok {
			return s, nil
		}
		if err != nil {
			_ = parent.RemoveAll(name) // of no use to anybody
			return nil, err
		}
		// Another program took it for an abandoned one in this very moment.
	}
}

// claim locks a new directory, and reports false when it was removed instead.
func (s *Scratch) claim() (ok bool, err error) {
	root, err := s.parent.OpenRoot(s.name)
	if err == nil {
		if err = ownDir(root, s.parent); err == nil {
			s.lock, ok, err = LockFile(root, lockName)
		}
		if ok {
			s.root = root
			return true, nil
		}
		_ = root.Close() // nothing was done with it
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return false, err
}

// CleanScratch removes scratch directories in dir whose program was killed.
func CleanScratch(dir, prefix string) error {
	parent, err := OpenDir(dir)
	if err != nil {
		return err
	}
	defer parent.Close() // only names were removed
	return cleanScratch(parent, prefix)
}

func cleanScratch(parent *os.Root, prefix string) error {
	entries, err := fs.ReadDir(parent.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), prefix) {
			abandoned(parent, e.Name())
		}
	}
	return nil
}

// abandoned removes a scratch directory that nobody holds. One that cannot be
// removed, because it belongs to another account, is that account's to clean.
func abandoned(parent *os.Root, name string) {
	// Where everybody may make directories, it may be a trap: nothing outside of
	// it is opened, and nothing waited for.
	root, err := parent.OpenRoot(name)
	if err != nil {
		return
	}
	f, err := root.OpenFile(lockName, os.O_RDWR|noWait, 0)
	_ = root.Close() // nothing was done with it
	if errors.Is(err, fs.ErrNotExist) {
		_ = parent.Remove(name) // only if it is empty; its owner notices
		return
	}
	if err != nil {
		return
	}
	locked, err := TryLock(f)
	if locked && err == nil {
		_ = removeLocked(parent, name, f) // left for the next time
		return
	}
	_ = f.Close() // nothing was written
}

// Path returns the path of a file in the directory, for those who can open
// nothing else and for messages.
func (s *Scratch) Path(name string) string { return filepath.Join(s.parent.Name(), s.name, name) }

// Root is the directory, open until Close.
func (s *Scratch) Root() *os.Root { return s.root }

// Parent is the directory that it is in, open until Close; In names a file of
// the scratch directory there.
func (s *Scratch) Parent() *os.Root { return s.parent }

// In returns the name of a file of the scratch directory in Parent.
func (s *Scratch) In(name string) string { return filepath.Join(s.name, name) }

// Close removes the directory with all that is in it. It may be called twice.
func (s *Scratch) Close() error {
	if s.lock == nil {
		return nil
	}
	f := s.lock
	s.lock = nil
	_ = s.root.Close() // nothing is written through it; Windows removes no open directory
	return errors.Join(removeLocked(s.parent, s.name, f), s.parent.Close())
}
