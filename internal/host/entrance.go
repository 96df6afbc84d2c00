package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// keepAlive finds clients that are gone without a word within a few minutes
// (state 10).
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 8}

// entrance is where the host listens. It can move while the host runs; who is
// in Accept does not notice.
type entrance struct {
	moving sync.Mutex // one move at a time; held while a name is looked up

	mu       sync.Mutex
	listener net.Listener // guarded by mu
	closed   bool         // guarded by mu
}

var errStopping = errors.New("the host stops")

// listen takes the port for clients.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	l, err := takePort(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %v; choose another address or port with --listen ADDR:PORT or listening_addr and listening_port", addr, err)
	}
	return l, nil
}

// takePort listens on TCP. Its error is the cause alone.
func takePort(ctx context.Context, addr string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	l, err := lc.Listen(ctx, "tcp", addr)
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	return l, err
}

func (e *entrance) now() net.Listener {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.listener
}

// Accept waits for a connection, wherever the entrance is by then.
func (e *entrance) Accept() (net.Conn, error) {
	for {
		l := e.now()
		c, err := l.Accept()
		if err != nil && errors.Is(err, net.ErrClosed) && e.now() != l {
			continue // it has moved
		}
		return c, err
	}
}

// Move listens on another address from now on. After an error it listens where
// it did before.
func (e *entrance) Move(ctx context.Context, addr string) error {
	e.moving.Lock()
	defer e.moving.Unlock()
	next, err := listen(ctx, addr)
	if err == nil {
		return e.replace(next)
	}
	before := addrOf(e.now())
	if want, parseErr := netip.ParseAddrPort(addr); parseErr != nil || want.Port() != before.Port() {
		return err
	}
	// The old place may be what is in the way: 0.0.0.0 and 127.0.0.1 on one
	// port exclude each other. Who is in Accept waits.
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return errStopping
	}
	e.listener.Close()
	if next, err = listen(ctx, addr); err == nil {
		e.listener = next
		return nil
	}
	back, backErr := listen(ctx, before.String())
	if backErr != nil {
		return errors.Join(err, fmt.Errorf("and the old address is lost: %w", backErr))
	}
	e.listener = back
	return err
}

// replace puts another listener in place of the one that is there.
func (e *entrance) replace(next net.Listener) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		next.Close()
		return errStopping
	}
	e.listener.Close()
	e.listener = next
	return nil
}

// Close ends listening for good. It may be called twice.
func (e *entrance) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	if e.listener != nil {
		e.listener.Close()
	}
}

func addrOf(l net.Listener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }
