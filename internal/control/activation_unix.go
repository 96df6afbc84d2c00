//go:build unix

package control

import (
	"errors"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// takeListener makes a listener of a descriptor, which it closes. What is no
// TCP listener stays open, because it may be another part of this process's, but
// is not inherited by the processes that it starts.
func takeListener(fd int) (net.Listener, error) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	switch {
	case errors.Is(err, unix.EBADF):
		return nil, errors.New("is not open")
	case err != nil:
		unix.CloseOnExec(fd)
		return nil, errors.New("is not a socket")
	}
	unix.CloseOnExec(fd)
	addr, err := unix.Getsockname(fd)
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	switch addr.(type) {
	case *unix.SockaddrInet4, *unix.SockaddrInet6:
	default:
		kind = 0
	}
	if kind != unix.SOCK_STREAM {
		return nil, errors.New("is not a TCP socket: use ListenStream=ADDR:PORT")
	}
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	if listens == 0 {
		return nil, errors.New("does not listen: use Accept=no")
	}
	f := os.NewFile(uintptr(fd), "activated "+strconv.Itoa(fd))
	defer f.Close()
	l, err := net.FileListener(f) // a copy, also closed on exec
	if err != nil {
		return nil, err
	}
	if _, tcp := l.(*net.TCPListener); !tcp {
		l.Close()
		return nil, errors.New("is not a TCP socket: use ListenStream=ADDR:PORT")
	}
	return l, nil
}
