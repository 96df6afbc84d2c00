package control

import (
	"errors"
	"net"
)

// takeListener says that no service manager here opens sockets for others.
func takeListener(int) (net.Listener, error) {
	return nil, errors.New("cannot be taken over on Windows")
}
