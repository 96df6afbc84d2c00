package fsys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// OpenDir opens a directory in which root may work for the account that it
// belongs to. Root follows no link of another account on the way there.
func OpenDir(path string) (*os.Root, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := checkWay(path); err != nil {
		return nil, err
	}
	was, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	now, err := root.Stat(".")
	if err == nil && was.IsDir() && !os.SameFile(was, now) {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrOther}
	}
	if err != nil {
		_ = root.Close() // nothing was done with it
		return nil, err
	}
	return root, nil
}

// OpenKept opens a regular file for reading. Where another account can change
// the directory, root takes no link, and nothing that the account may not have
// put there itself: the account must not get at a file through root that it
// cannot read.
func OpenKept(path string) (*os.File, error) {
	root, here, err := openAround(path)
	if err != nil {
		return nil, err
	}
	defer root.Close() // only looked at
	var f *os.File
	if othersChange(here) {
		name := filepath.Base(path)
		info, err := root.Lstat(name)
		if err == nil {
			err = keptBy(path, info, here)
		}
		if err != nil {
			return nil, err
		}
		f, err = OpenSame(root, name, info)
		if err != nil {
			return nil, err
		}
	} else if f, err = os.OpenFile(path, os.O_RDONLY|noWait, 0); err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		if othersChange(here) {
			err = keptBy(path, info, here)
		} else if !info.Mode().IsRegular() {
			err = fmt.Errorf("%s is not a regular file", path)
		}
	}
	if err != nil {
		_ = f.Close() // only opened for reading
		return nil, err
	}
	return f, nil
}

// CheckKept looks, without opening it, whether OpenKept would take a file, and
// whether it belongs to the account of the directory with, in which the file is
// named. A file that is missing is as good as any.
func CheckKept(path, with string) error {
	root, here, err := openAround(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close() // only looked at
	info, err := root.Lstat(filepath.Base(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && othersChange(here) {
		err = keptBy(path, info, here)
	}
	if err != nil {
		return err
	}
	namer, err := os.Stat(with)
	if err != nil {
		return err
	}
	return sameAccount(path, namer, here, info)
}

// openAround opens the directory of a file and tells what it is.
func openAround(path string) (*os.Root, fs.FileInfo, error) {
	root, err := OpenDir(filepath.Dir(path))
	if err != nil {
		return nil, nil, err
	}
	here, err := root.Stat(".")
	if err != nil {
		_ = root.Close() // nothing was done with it
		return nil, nil, err
	}
	return root, here, nil
}

// keptBy returns an error, with what to do, for a file that root does not take
// from a directory that others change.
func keptBy(path string, info, dir fs.FileInfo) error {
	const where = "in a directory that another account can change"
	links, fits := namesAndOwner(info, dir)
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%s is a symbolic link %s, which root does not follow: put the file itself there", path, where)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	case links != 1:
		return fmt.Errorf("%s has other names too, %s: put a copy of it there", path, where)
	case !fits:
		return fmt.Errorf("%s belongs neither to the account of its directory nor to root: put a copy of it there", path)
	}
	return nil
}

// Foreign reports whether root, at work in a directory that others change,
// finds a file there that the account of the directory may only have given a
// second name.
func Foreign(info, dir fs.FileInfo) bool { return othersChange(dir) && secondName(info, dir) }

// OpenKeptDir opens a directory as OpenKept does a file.
func OpenKeptDir(path string) (*os.Root, error) {
	root, here, err := openAround(path)
	if err != nil {
		return nil, err
	}
	defer root.Close() // only looked at
	if !othersChange(here) {
		return os.OpenRoot(path)
	}
	name := filepath.Base(path)
	info, err := root.Lstat(name)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a directory, and root follows no link where another account can change it: put the directory itself there", path)
	}
	if err != nil {
		return nil, err
	}
	return OpenSameDir(root, name, info)
}
