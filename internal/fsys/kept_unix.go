//go:build unix

package fsys

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// checkWay returns an error when this is root and a part of an absolute path is
// a link of another account.
func checkWay(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	for ; path != filepath.Dir(path); path = filepath.Dir(path) {
		info, err := os.Lstat(path)
		if err != nil {
			continue // who opens the whole path says what is wrong
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode()&fs.ModeSymlink != 0 && s.Uid != 0 {
			return fmt.Errorf("%s is a symbolic link of the account with uid %d, which root does not follow: name the directory itself", path, s.Uid)
		}
	}
	return nil
}

// othersChange reports whether this is root and other accounts can make names
// in the directory.
func othersChange(dir fs.FileInfo) bool {
	if os.Geteuid() != 0 {
		return false
	}
	s, ok := dir.Sys().(*syscall.Stat_t)
	return !ok || s.Uid != 0 || dir.Mode().Perm()&0o022 != 0
}

// namesAndOwner returns how many names a file has, and whether it belongs to
// root or to the account of a directory.
func namesAndOwner(info, dir fs.FileInfo) (names int, fits bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	d, okDir := dir.Sys().(*syscall.Stat_t)
	if !ok || !okDir {
		return 0, false
	}
	return int(s.Nlink), s.Uid == 0 || s.Uid == d.Uid
}

// secondName reports whether a file has other names and belongs to another
// account than the directory.
func secondName(info, dir fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	d, okDir := dir.Sys().(*syscall.Stat_t)
	return !ok || !okDir || s.Nlink > 1 && (s.Uid != d.Uid || d.Uid == 0)
}

// sameAccount returns an error when this is root, namer belongs to another
// account, and neither the file nor its directory does.
func sameAccount(path string, namer, dir, file fs.FileInfo) error {
	if os.Geteuid() != 0 {
		return nil
	}
	n, ok := namer.Sys().(*syscall.Stat_t)
	if !ok || n.Uid == 0 {
		return nil
	}
	for _, info := range []fs.FileInfo{dir, file} {
		if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid == n.Uid {
			return nil
		}
	}
	return fmt.Errorf("%s does not belong to the account with uid %d, whose configuration names it: run this as that account", path, n.Uid)
}

// ownDir checks that a directory that was just made in another one is that of
// this program, if another account could have exchanged it.
func ownDir(made, parent *os.Root) error {
	here, err := parent.Stat(".")
	if err != nil || !othersChange(here) {
		return err
	}
	info, err := made.Stat(".")
	if err != nil {
		return err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || s.Uid != 0 || info.Mode().Perm()&0o077 != 0 {
		return &fs.PathError{Op: "mkdir", Path: made.Name(), Err: ErrOther}
	}
	return nil
}

// OwnIn gives what has a name in root to the account that like belongs to, and
// follows no link. Only root can and does so; nobody else may be able to change
// the directory of the name.
func OwnIn(root *os.Root, name string, like *os.Root) error {
	uid, gid, other, err := ownerOfDir(like)
	if err != nil || !other {
		return err
	}
	return root.Lchown(name, uid, gid)
}

// MkdirAs makes a directory for the account that its parent belongs to, and
// that account alone.
func MkdirAs(parent *os.Root, name string) error {
	if err := parent.Mkdir(name, 0o700); err != nil {
		return err
	}
	uid, gid, other, err := ownerOfDir(parent)
	if err != nil || !other {
		return err
	}
	// What is opened cannot be exchanged any more, and a directory has one name.
	made, err := parent.OpenRoot(name)
	if err != nil {
		return err
	}
	defer made.Close() // nothing is written through it
	if err := ownDir(made, parent); err != nil {
		return err
	}
	d, err := made.Open(".")
	if err != nil {
		return err
	}
	defer d.Close() // nothing is written through it
	return d.Chown(uid, gid)
}

// ownerOfDir is ownerOf for an open directory.
func ownerOfDir(dir *os.Root) (uid, gid int, other bool, err error) {
	if os.Geteuid() != 0 {
		return 0, 0, false, nil
	}
	info, err := dir.Stat(".")
	if err != nil {
		return 0, 0, false, err
	}
	uid, gid, other = owner(info)
	return uid, gid, other, nil
}

func owner(info fs.FileInfo) (uid, gid int, other bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok || s.Uid == 0 {
		return 0, 0, false
	}
	return int(s.Uid), int(s.Gid), true
}
