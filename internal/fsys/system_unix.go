//go:build unix

package fsys

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// noWait makes opening a named pipe return at once.
const noWait = syscall.O_NONBLOCK

// TryLock takes the lock of a file, which ends when it is closed and with the
// program at the latest, and reports false when another one has it.
func TryLock(f *os.File) (bool, error) {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		default:
			return false, os.NewSyscallError("flock", err)
		}
	}
}

// removeLocked removes a directory together with the locked file in it.
func removeLocked(parent *os.Root, name string, lock *os.File) error {
	err := parent.RemoveAll(name)
	if closeErr := lock.Close(); err == nil {
		err = closeErr
	}
	return err
}

// RemoveLocked removes a file that LockFile returned for that name, and closes
// it.
func RemoveLocked(root *os.Root, name string, f *os.File) error {
	err := root.Remove(name)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// OwnOpenAs gives an open file, whatever stands at its name by now, to the
// account that like belongs to. Only root can and does so; a program of another
// account owns what it makes in any case.
func OwnOpenAs(f *os.File, like string) error {
	uid, gid, other, err := ownerOf(like)
	if err != nil || !other {
		return err
	}
	return f.Chown(uid, gid)
}

// ownerOf returns the account that path belongs to, and whether this program
// runs as root for that other account.
func ownerOf(path string) (uid, gid int, other bool, err error) {
	if os.Geteuid() != 0 {
		return 0, 0, false, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, false, err
	}
	uid, gid, other = owner(info)
	return uid, gid, other, nil
}

// Free returns how many bytes this account can still store below a directory.
func Free(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return uint64(s.Bavail) * uint64(s.Bsize), nil
}

// IsFull reports whether an error says that there is no room left.
func IsFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}
