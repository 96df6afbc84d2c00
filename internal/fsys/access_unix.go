//go:build unix

package fsys

import "golang.org/x/sys/unix"

// access asks the system what this account may do with a path.
func access(path string, mode uint32) error {
	return unix.Faccessat(unix.AT_FDCWD, path, mode, unix.AT_EACCESS)
}

const (
	mayRead  = unix.R_OK
	mayWrite = unix.W_OK
	mayEnter = unix.X_OK
)
