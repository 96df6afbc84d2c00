package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// CanWrite reports as an error why this account could not read and write the
// file, or make it and the directories above it if they are missing. It changes
// nothing, and what it finds holds for that moment. On Windows it knows no
// rights.
func CanWrite(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return &fs.PathError{Op: "write", Path: path, Err: errors.New("not a regular file")}
	case err == nil:
		if err := access(path, mayRead|mayWrite); err != nil {
			return &fs.PathError{Op: "write", Path: path, Err: err}
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return canWriteDir(filepath.Dir(path))
}

func canWriteDir(dir string) error {
	info, err := os.Stat(dir)
	if up := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && up != dir {
		return canWriteDir(up)
	}
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "write", Path: dir, Err: errors.New("not a directory")}
	}
	if err != nil {
		return err
	}
	if err := access(dir, mayWrite|mayEnter); err != nil {
		return &fs.PathError{Op: "write", Path: dir, Err: err}
	}
	return nil
}
