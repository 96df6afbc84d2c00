package fsys

import (
	"errors"
	"io/fs"
	"os"
)

// ErrOther: there is something else under the name than there was.
var ErrOther = errors.New("it was exchanged meanwhile")

// OpenSame opens the regular file of that name directly in root, if it is
// still the one that root.Lstat described: whatever somebody puts there
// meanwhile, no link is followed and no pipe is waited for.
func OpenSame(root *os.Root, name string, was fs.FileInfo) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|noWait, 0)
	if err != nil {
		return nil, err
	}
	now, err := f.Stat()
	if err == nil && (!now.Mode().IsRegular() || !os.SameFile(was, now)) {
		err = &fs.PathError{Op: "open", Path: name, Err: ErrOther}
	}
	if err != nil {
		_ = f.Close() // only opened for reading
		return nil, err
	}
	return f, nil
}

// OpenSameDir does the same with a directory.
func OpenSameDir(root *os.Root, name string, was fs.FileInfo) (*os.Root, error) {
	dir, err := root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	now, err := dir.Stat(".")
	if err == nil && !os.SameFile(was, now) {
		err = &fs.PathError{Op: "open", Path: name, Err: ErrOther}
	}
	if err != nil {
		_ = dir.Close() // nothing was done with it
		return nil, err
	}
	return dir, nil
}
