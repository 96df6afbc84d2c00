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
