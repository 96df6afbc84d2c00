package control

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// credentials returns the user id at the other end of a socket.
func credentials(fd int) (uid uint32, err error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

// restrictSocket gives the socket its mode before it has a name: bind takes
// over the mode, and there is no moment in which others could connect.
func restrictSocket(_, _ string, raw syscall.RawConn) error {
	var chmodErr error
	if err := raw.Control(func(fd uintptr) { chmodErr = unix.Fchmod(int(fd), 0o600) }); err != nil {
		return err
	}
	return chmodErr
}
