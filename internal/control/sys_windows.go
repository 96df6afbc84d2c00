package control

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// canRemoveLocked says that a file can be removed while it is open.
const canRemoveLocked = false

// lockOffset is where the lock is: nobody else can read what is locked, and
// the pid in front of it is there to be read.
const lockOffset = 1 << 30

// tryLock locks the file, or returns errLocked at once. The lock ends when the
// process does, or when f is closed.
func tryLock(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, &windows.Overlapped{Offset: lockOffset})
	switch {
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION), errors.Is(err, windows.ERROR_IO_PENDING):
		return errLocked
	case err != nil:
		return &os.PathError{Op: "LockFileEx", Path: f.Name(), Err: err}
	}
	return nil
}

// processUID says that there are no user ids.
func processUID() (uid int, known bool) { return 0, false }

func fileUID(fs.FileInfo) int { return 0 }

func fileLinks(fs.FileInfo) int { return 1 }

// peerUID says that the system does not tell who a client is.
func peerUID(*net.UnixConn) (uid int, known bool, err error) { return 0, false, nil }

// restrictSocket does nothing: the rights of the directory decide.
func restrictSocket(_, _ string, _ syscall.RawConn) error { return nil }

// nobodyListens reports whether a connect has found no socket, or one that is
// left over.
func nobodyListens(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, windows.WSAECONNREFUSED)
}

// peerGone reports whether the other end of a connection has ended, perhaps
// with something unread.
func peerGone(err error) bool {
	return errors.Is(err, windows.WSAECONNRESET) || errors.Is(err, windows.WSAECONNABORTED)
}

// queueFull says that a full queue looks like nobody.
func queueFull(error) bool { return false }
