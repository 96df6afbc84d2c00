package control

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// openPrivate opens a directory that only the account of this process can
// enter, and makes it if it is missing. One of its own that is open to others
// is closed to them, one that is not its own or that is there for everybody is
// refused. With others root may open that of another account, which stays as
// it is.
func openPrivate(dir string, others bool) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory %s: %w", dir, err)
	}
	link, err := os.Lstat(dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory %s: %w", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory %s: %w", dir, err)
	}
	if err := makePrivate(dir, link, root, others); err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// makePrivate looks at the opened directory, not at its name, which could mean
// another one by now. link is what stands at the name, perhaps a symbolic link.
func makePrivate(dir string, link fs.FileInfo, root *os.Root, others bool) error {
	d, err := root.Open(".")
	if err != nil {
		return fmt.Errorf("open the directory %s: %w", dir, err)
	}
	defer d.Close()
	info, err := d.Stat()
	if err != nil {
		return fmt.Errorf("open the directory %s: %w", dir, err)
	}
	self, known := processUID()
	if !known {
		return nil // no such owners and modes
	}
	if owner := fileUID(link); link.Mode()&fs.ModeSymlink != 0 && owner != self && owner != 0 {
		return fmt.Errorf("%s is a symbolic link of the account with uid %d, and this is uid %d: use another directory with --dir", dir, owner, self)
	}
	if owner := fileUID(info); owner != self && others && self == 0 && info.Mode().Perm()&0o077 == 0 {
		return nil
	} else if owner != self {
		return fmt.Errorf("the directory %s belongs to uid %d, and this is uid %d: run as its owner, or use another directory with --dir", dir, owner, self)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	// Whoever says --dir /tmp as root wants neither /tmp nor / closed.
	if info.Mode()&fs.ModeSticky != 0 || filepath.Dir(dir) == dir {
		return fmt.Errorf("the directory %s is there for all accounts: use one below it with --dir", dir)
	}
	if err := d.Chmod(info.Mode() &^ 0o077); err != nil {
		return fmt.Errorf("close the directory %s to other accounts: %w", dir, err)
	}
	return nil
}
