//go:build linux || darwin

package control

import "net"

// peerUID returns the user id that the client had when it connected.
func peerUID(c *net.UnixConn) (uid int, known bool, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, true, err
	}
	var id uint32
	var idErr error
	if err := raw.Control(func(fd uintptr) { id, idErr = credentials(int(fd)) }); err != nil {
		return 0, true, err
	}
	return int(id), true, idErr
}
