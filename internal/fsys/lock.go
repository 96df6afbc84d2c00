package fsys

import (
	"errors"
	"io/fs"
	"os"
)

// LockFile opens a file, which is made if it is missing, and takes its lock,
// which ends when the file is closed or the program ends. It reports false
// when another one has the lock.
func LockFile(path string) (f *os.File, locked bool, err error) {
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	locked, err = tryLock(f)
	if locked {
		// The file that is locked has to be the one that others find; its last
		// owner may just have removed it.
		var own, there fs.FileInfo
		if own, err = f.Stat(); err == nil {
			there, err = os.Stat(path)
		}
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
