//go:build unix

package client

import (
	"net"
	"syscall"
	"testing"
)

// What the system keeps of a connection does not keep a host from its port.
func TestConnectionsGivePorts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback here:", err)
	}
	defer l.Close()
	c, err := Config{}.withDefaults().DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		if on, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR); err != nil || on == 0 {
			t.Errorf("SO_REUSEADDR is %d, %v", on, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
