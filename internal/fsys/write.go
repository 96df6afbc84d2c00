package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Create writes a file that does not exist yet, and reports whether it did: a
// file that is there, or that comes into being meanwhile, stays as it is. The
// directory is made with mode 0700 if it is missing. What root makes in the
// directory of another account belongs to that account, so that a host that
// runs as it can read what an administrator has made. When Create returns nil
// the file and its name survive a crash.
func Create(path string, text []byte, mode fs.FileMode) (created bool, err error) {
	if _, err := os.Lstat(path); err == nil {
		return false, nil
	}
	err = write(path, text, mode, LinkNew)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

// Replace writes a file in place of the one that may be there, at once for
// everybody who opens it, and otherwise as Create does.
func Replace(path string, text []byte, mode fs.FileMode) error {
	return write(path, text, mode, os.Rename)
}

// write writes a temporary file beside path, which place moves there.
func write(path string, text []byte, mode fs.FileMode, place func(from, to string) error) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, tempPrefix(path)+"*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already after a rename
	_, err = f.Write(text)
	if err == nil {
		err = OwnOpenAs(f, dir)
	}
	if err == nil && runtime.GOOS != "windows" { // there are no such modes there
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = place(f.Name(), path)
	}
	if err != nil {
		return err
	}
	return SyncDir(dir)
}

// LinkNew moves the file at from to the path to, or gives it a second name
// there. It never replaces a file, as far as the file system has links.
func LinkNew(from, to string) error { return linkNew(from, to, os.Link, os.Lstat, os.Rename) }

// LinkNewIn is LinkNew within a directory.
func LinkNewIn(root *os.Root, from, to string) error {
	return linkNew(from, to, root.Link, root.Lstat, root.Rename)
}

func linkNew(from, to string, link func(from, to string) error, lstat func(string) (fs.FileInfo, error), rename func(from, to string) error) error {
	err := link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	switch _, err := lstat(to); {
	case err == nil:
		return fs.ErrExist // and Tidy may have removed from
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return rename(from, to)
}

// Tidy removes the temporary files that a Create or a Replace of path has left
// beside it when its process was killed. Nobody may be at a Replace of path
// meanwhile; a Create that is, when the file is there, finds it there.
func Tidy(path string) error {
	dir, prefix := filepath.Dir(path), tempPrefix(path)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var problems []error
	for _, e := range entries {
		number, ours := strings.CutPrefix(e.Name(), prefix)
		if !ours || number == "" || strings.Trim(number, "0123456789") != "" || !e.Type().IsRegular() {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// tempPrefix is how the names of temporary files beside path begin; a number
// follows.
func tempPrefix(path string) string { return "." + filepath.Base(path) + "-" }
