package fsys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// LockFile opens a file directly in root, which is made if it is missing, and
// takes its lock, which ends when the file is closed or the program ends. It
// reports false when another one has the lock. It neither follows nor takes a
// link.
func LockFile(root *os.Root, name string) (f *os.File, locked bool, err error) {
	if info, err := root.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return nil, false, inTheWay(root, name)
	}
	f, err = root.OpenFile(name, os.O_RDWR|os.O_CREATE|noWait, 0o600)
	if err != nil {
		return nil, false, err
	}
	own, err := f.Stat()
	if err == nil && !own.Mode().IsRegular() {
		err = inTheWay(root, name)
	}
	if err == nil {
		locked, err = TryLock(f)
	}
	if locked {
		// The file that is locked has to be the one that others find; its last
		// owner may just have removed it.
		var there fs.FileInfo
		there, err = root.Lstat(name)
		if err == nil && os.SameFile(own, there) {
			return f, true, nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	_ = f.Close() // nothing was written
	return nil, false, err
}

func inTheWay(root *os.Root, name string) error {
	return fmt.Errorf("%s is in the way: it is not a file; remove it", filepath.Join(root.Name(), name))
}
