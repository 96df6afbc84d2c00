package conn_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mrci.dev/mrci/internal/conn"
	"mrci.dev/mrci/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mode is how client and host are connected.
type mode int

const (
	clear  mode = iota // a socket
	secure             // a socket with TLS
	pipe               // net.Pipe: no attempts without waiting
)

var modes = []mode{clear, secure, pipe}

func (m mode) String() string { return [...]string{"clear", "tls", "pipe"}[m] }

// budget counts what connections reserve.
type budget struct {
	limit    int      // 0: none
	reserved chan int // gets every reservation, if not nil

	mu   sync.Mutex
	used int
	peak int
}

func (b *budget) Reserve(bytes int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.limit > 0 && b.used+bytes > b.limit {
		return false
	}
	b.used += bytes
	b.peak = max(b.peak, b.used)
	if b.reserved != nil {
		b.reserved <- bytes
	}
	return true
}

func (b *budget) Release(bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= bytes
}

func (b *budget) state() (used, peak int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.peak
}

var serverTLS = sync.OnceValue(func() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{
		Certificates:                []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		MinVersion:                  tls.VersionTLS12,
		DynamicRecordSizingDisabled: true,
	}
})

func clientTLS() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// config has time-outs that only a fault reaches, and a budget of its own.
func config(m mode) (conn.Config, *budget) {
	b := new(budget)
	return conn.Config{
		HeaderTimeout: time.Minute,
		TLSTimeout:    time.Minute,
		WriteTimeout:  time.Minute,
		QueueBytes:    1 << 30,
		FrameLimit:    wire.MaxPayload,
		TLS:           serverTLS(),
		TLSOnLoopback: m == secure,
		Budget:        b,
	}, b
}

// sockets returns the two ends of a connection on loopback.
func sockets(t testing.TB) (client, server *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func header() []byte {
	return wire.ClientHeader{AppName: "conn test 1.0", ModInst: "-x"}.Append(nil)
}

// accepted is what became of Accept.
type accepted struct {
	conn *conn.Conn
	err  error
}

// accept runs Accept beside the test, and ends the connection with it.
func accept(t testing.TB, nc net.Conn, cfg conn.Config) <-chan accepted {
	return acceptContext(context.Background(), t, nc, cfg)
}

func acceptContext(ctx context.Context, t testing.TB, nc net.Conn, cfg conn.Config) <-chan accepted {
	done := make(chan accepted, 1)
	var group sync.WaitGroup
	group.Go(func() {
		c, err := conn.Accept(ctx, nc, &cfg)
		if c != nil {
			t.Cleanup(func() { c.End(conn.ErrClosed) })
		}
		done <- accepted{c, err}
	})
	t.Cleanup(func() { nc.Close(); group.Wait() })
	return done
}

// greet does the client's part of the header exchange, with TLS if the host
// says so.
func greet(nc net.Conn, cfg *tls.Config) (net.Conn, wire.HostHeader, error) {
	if _, err := nc.Write(header()); err != nil {
		return nil, wire.HostHeader{}, fmt.Errorf("write header: %w", err)
	}
	h, err := readHostHeader(nc)
	if err != nil || h.Reply == wire.ReplyClear {
		return nc, h, err
	}
	c := tls.Client(nc, cfg)
	return c, h, c.Handshake()
}

func readHostHeader(nc net.Conn) (wire.HostHeader, error) {
	var b [wire.HostHeaderSize]byte
	if _, err := io.ReadFull(nc, b[:]); err != nil {
		return wire.HostHeader{}, fmt.Errorf("read host header: %w", err)
	}
	return wire.ParseHostHeader(&b)
}

// connect returns both ends of an accepted connection.
func connect(t testing.TB, m mode, cfg conn.Config) (*conn.Conn, net.Conn) {
	t.Helper()
	var client, server net.Conn
	if m == pipe {
		client, server = net.Pipe()
		t.Cleanup(func() { client.Close(); server.Close() })
	} else {
		client, server = sockets(t)
	}
	return connectOver(t, client, server, cfg, clientTLS())
}

func connectOver(t testing.TB, client, server net.Conn, cfg conn.Config, clientCfg *tls.Config) (*conn.Conn, net.Conn) {
	t.Helper()
	done := accept(t, server, cfg)
	nc, h, err := greet(client, clientCfg)
	if err != nil {
		t.Fatalf("greet: %v", err)
	}
	a := <-done
	if a.err != nil {
		t.Fatalf("Accept: %v", a.err)
	}
	if a.conn.ID() != h.Session {
		t.Fatalf("ID() = %v, the client was told %v", a.conn.ID(), h.Session)
	}
	return a.conn, nc
}

// eventually waits for what another goroutine is about to do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("not in 20 s: %s", what)
		}
	}
}

func checkReleased(t testing.TB, b *budget) {
	t.Helper()
	if used, _ := b.state(); used != 0 {
		t.Errorf("%d bytes of the budget are still reserved", used)
	}
}

func checkError(t testing.TB, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got error %v, want %v", got, want)
	}
}
