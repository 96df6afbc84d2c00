package control

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// peerUID returns the user id that the client had when it connected.
func peerUID(c *net.UnixConn) (uid int, known bool, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, true, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, true, err
	}
	if credErr != nil {
		return 0, true, credErr
	}
	return int(cred.Uid), true, nil
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
