package control

import (
	"errors"
	"io/fs"
	"net"
	"syscall"

	"golang.org/x/sys/windows"
)

// canRemoveLocked says that a file can be removed while it is open.
const canRemoveLocked = false

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
