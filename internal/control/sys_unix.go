//go:build unix

package control

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// canRemoveLocked says that a file can be removed while it is open.
const canRemoveLocked = true

// tryLock locks the file, or returns errLocked at once. The lock ends when the
// process does, or when f is closed.
func tryLock(f *os.File) error {
	for {
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errLocked
		default:
			return &os.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}

// processUID returns the user id that this process acts with, if the system has
// such ids.
func processUID() (uid int, known bool) { return os.Geteuid(), true }

func fileUID(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// fileLinks returns how many names a file has. One that its holder has just
// removed has none.
func fileLinks(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Nlink) }

// nobodyListens reports whether a connect has found no socket, or one that is
// left over.
func nobodyListens(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTDIR)
}

// peerGone reports whether the other end of a connection has ended, perhaps
// with something unread.
func peerGone(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// queueFull reports whether a connect has found too many before it.
func queueFull(err error) bool { return errors.Is(err, syscall.EAGAIN) }
