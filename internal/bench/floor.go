package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/internal/cert"
	"mrci.dev/mrci/wire"
)

// serveConns accepts until ctx ends and serves each connection on a goroutine
// of its own; it returns when they have ended.
func serveConns(ctx context.Context, l net.Listener, serve func(nc net.Conn) error) error {
	var (
		clients sync.WaitGroup
		mu      sync.Mutex
		open    = make(map[net.Conn]struct{})
	)
	defer clients.Wait()
	stop := context.AfterFunc(ctx, func() {
		l.Close()
		mu.Lock()
		defer mu.Unlock()
		for nc := range open {
			nc.Close()
		}
	})
	defer stop()
	for {
		nc, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return raw.Explain(err)
		}
		mu.Lock()
		open[nc] = struct{}{}
		mu.Unlock()
		clients.Go(func() {
			// A client that leaves is nothing to tell anybody about.
			_ = serve(nc)
			nc.Close()
			mu.Lock()
			delete(open, nc)
			mu.Unlock()
		})
	}
}

// certificate returns what a host of these files would hand to its handshakes.
func certificate(chain, key string) (*tls.Config, error) {
	s, err := cert.Open(cert.Config{Chain: []string{chain}, Key: key})
	if err != nil {
		return nil, err
	}
	return s.TLSConfig(), nil
}

// floorConn is one client of the floor.
type floorConn struct {
	script *Script
	nc     net.Conn
	asked  bool // for the password
	out    []byte
}

// serveFloor speaks to one client: headers, TLS if there is a configuration,
// and the recorded answers, those to the frames of one read in one write.
func serveFloor(nc net.Conn, s *Script, secure *tls.Config) error {
	nc, err := greet(nc, s.Greeting, secure)
	if err != nil {
		return err
	}
	c := &floorConn{script: s, nc: nc}
	return c.answer()
}

// greet exchanges headers, does the handshake of TLS if there is a
// configuration, and sends the greeting. It returns the connection for frames.
func greet(nc net.Conn, greeting []byte, secure *tls.Config) (net.Conn, error) {
	var header [wire.ClientHeaderSize]byte
	if _, err := io.ReadFull(nc, header[:]); err != nil {
		return nil, err
	}
	if _, err := wire.ParseClientHeader(&header); err != nil {
		return nil, err
	}
	reply := wire.ReplyClear
	if secure != nil {
		reply = wire.ReplyTLS
	}
	if _, err := nc.Write(wire.HostHeader{Reply: reply, Version: wire.Served}.Append(nil)); err != nil {
		return nil, err
	}
	if secure != nil {
		secured := tls.Server(nc, secure)
		if err := secured.Handshake(); err != nil {
			return nil, err
		}
		nc = secured
	}
	_, err := nc.Write(greeting)
	return nc, err
}

var errLarge = errors.New("a frame that the floor has no room for")

func (c *floorConn) answer() error {
	buf := make([]byte, 16<<10)
	filled := 0
	for {
		n, err := c.nc.Read(buf[filled:])
		if err != nil {
			return err
		}
		filled += n
		left := buf[:filled]
		c.out = c.out[:0]
		for {
			f, rest, ok := wire.CutFrame(left)
			if !ok {
				break
			}
			left = rest
			c.route(f)
		}
		if filled = copy(buf, left); filled == len(buf) {
			return errLarge
		}
		if len(c.out) > 0 {
			if _, err := c.nc.Write(c.out); err != nil {
				return err
			}
		}
	}
}

func (c *floorConn) route(f wire.Frame) {
	s := c.script
	switch {
	case f.Type != wire.Text:
	case f.Cmd == s.MyInfo:
		c.out = append(c.out, s.Answer...)
	case f.Cmd == s.Logout:
		c.out = append(c.out, s.LoggedOut...)
	case f.Cmd == s.Auth && c.asked:
		c.asked = false
		c.out = append(c.out, s.LoggedIn...)
	case f.Cmd == s.Auth:
		c.asked = true
		c.out = append(c.out, s.Prompt...)
	default:
		c.out = wire.AppendText(c.out, wire.Err, f.Cmd, f.Branch, fmt.Sprintf("There is no command with the id %d for you; ls_cmds lists yours.\n", f.Cmd))
		c.out = wire.AppendIdle(c.out, f.Cmd, f.Branch, wire.InvalidParams, nil)
	}
}

// serveHandshake is the bare TLS accept loop: a handshake, one byte that tells
// the client that it is done, and the wait for its end.
func serveHandshake(nc net.Conn, secure *tls.Config) error {
	secured := tls.Server(nc, secure)
	if err := secured.Handshake(); err != nil {
		return err
	}
	if _, err := secured.Write([]byte{1}); err != nil {
		return err
	}
	var b [1]byte
	_, err := secured.Read(b[:])
	return err
}
