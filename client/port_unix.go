//go:build unix

package client

import "syscall"

// givePort lets a host take a port although a connection of this client has
// it. Where nobody listens, a connect to a port of the same machine succeeds
// once in some ten thousand times, with itself: the system has chosen that very
// port for the client's end. What is left of it would keep the host from
// starting for a minute.
func givePort(_, _ string, c syscall.RawConn) error {
	// Without the option the connection is as good.
	_ = c.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	})
	return nil
}
