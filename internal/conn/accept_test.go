package conn_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mrci.dev/mrci/internal/conn"
	"mrci.dev/mrci/wire"
)

func TestHeader(t *testing.T) {
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			cfg, _ := config(m)
			c, _ := connect(t, m, cfg)
			want := wire.ClientHeader{AppName: "conn test 1.0", ModInst: "-x"}
			if c.Header() != want {
				t.Errorf("Header() = %+v, want %+v", c.Header(), want)
			}
			if c.Encrypted() != (m == secure) {
				t.Errorf("Encrypted() = %v", c.Encrypted())
			}
			if addr := c.Remote().Addr(); addr != netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
				t.Errorf("Remote() = %v, want 127.0.0.1", addr)
			}
			if c.Cause() != nil {
				t.Errorf("Cause() = %v before the end", c.Cause())
			}
		})
	}
}

func TestHeaderByteByByte(t *testing.T) {
	cfg, _ := config(pipe)
	client, server := net.Pipe()
	done := accept(t, server, cfg)
	for _, b := range header() {
		if _, err := client.Write([]byte{b}); err != nil {
			t.Fatalf("write: %v", err)
		}
	}
	if _, err := readHostHeader(client); err != nil {
		t.Fatal(err)
	}
	if a := <-done; a.err != nil {
		t.Errorf("Accept: %v", a.err)
	}
}

func TestWrongTag(t *testing.T) {
	for position := range wire.Tag {
		for name, rest := range map[string][]byte{"alone": nil, "with a header": header()[position+1:]} {
			t.Run(wire.Tag[:position]+"x "+name, func(t *testing.T) {
				cfg, _ := config(clear)
				client, server := sockets(t)
				done := accept(t, server, cfg)
				first := append([]byte(wire.Tag[:position]), 'x')
				if _, err := client.Write(append(first, rest...)); err != nil {
					t.Fatalf("write: %v", err)
				}
				checkError(t, (<-done).err, conn.ErrNotMRCI)
				checkSilent(t, client)
			})
		}
	}
}

// checkSilent reads what the host has sent, which must be nothing but its end.
func checkSilent(t *testing.T, client net.Conn) {
	t.Helper()
	got, err := io.ReadAll(client)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if len(got) > 0 {
		t.Errorf("the host sent % x", got)
	}
}

func TestHeaderCutShort(t *testing.T) {
	for _, n := range []int{0, 3, 4, 291} {
		cfg, _ := config(clear)
		client, server := sockets(t)
		done := accept(t, server, cfg)
		if _, err := client.Write(header()[:n]); err != nil {
			t.Fatalf("write: %v", err)
		}
		client.CloseWrite()
		checkError(t, (<-done).err, io.ErrUnexpectedEOF)
		checkSilent(t, client)
	}
}

func TestHeaderTimeout(t *testing.T) {
	for _, n := range []int{0, 4, 291} {
		synctest.Test(t, func(t *testing.T) {
			cfg, _ := config(pipe)
			cfg.HeaderTimeout = 10 * time.Second
			client, server := net.Pipe()
			defer client.Close()
			begin := time.Now()
			done := accept(t, server, cfg)
			for _, b := range header()[:n] { // a byte now and then does not help
				if _, err := client.Write([]byte{b}); err != nil {
					t.Fatalf("write: %v", err)
				}
				time.Sleep(cfg.HeaderTimeout / 300)
			}
			checkError(t, (<-done).err, conn.ErrHeaderTimeout)
			if took := time.Since(begin); took != cfg.HeaderTimeout {
				t.Errorf("after %d bytes it took %v, want %v", n, took, cfg.HeaderTimeout)
			}
			checkSilent(t, client)
		})
	}
}

func TestHeaderNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := config(pipe)
		client, server := net.Pipe()
		defer client.Close()
		done := accept(t, server, cfg)
		if _, err := client.Write(header()); err != nil {
			t.Fatalf("write: %v", err)
		}
		if err := (<-done).err; err == nil || !strings.Contains(err.Error(), "host header") {
			t.Errorf("Accept of a client that does not read: %v", err)
		}
	})
}

func TestAcceptCancelled(t *testing.T) {
	stopped := errors.New("host stops")
	for _, m := range []mode{clear, secure} {
		cfg, _ := config(m)
		client, server := sockets(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		done := acceptContext(ctx, t, server, cfg)
		if m == secure { // in the handshake
			if _, err := client.Write(header()); err != nil {
				t.Fatalf("write: %v", err)
			}
			if _, err := readHostHeader(client); err != nil {
				t.Fatal(err)
			}
		}
		cancel(stopped)
		checkError(t, (<-done).err, stopped)
	}
}

// from is a connection from somewhere else.
type from struct {
	*net.TCPConn
	addr netip.AddrPort
}

func (f from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(f.addr) }

func TestReply(t *testing.T) {
	tests := []struct {
		addr          string
		tlsOnLoopback bool
		want          wire.Reply
	}{
		{"127.0.0.1:1", false, wire.ReplyClear},
		{"127.8.8.8:1", false, wire.ReplyClear},
		{"[::1]:1", false, wire.ReplyClear},
		{"[::ffff:127.0.0.1]:1", false, wire.ReplyClear},
		{"127.0.0.1:1", true, wire.ReplyTLS},
		{"[::1]:1", true, wire.ReplyTLS},
		{"203.0.113.5:1", false, wire.ReplyTLS},
		{"[::ffff:203.0.113.5]:1", false, wire.ReplyTLS},
		{"[2001:db8::1]:1", false, wire.ReplyTLS},
		{"192.168.0.1:1", false, wire.ReplyTLS},
	}
	for _, test := range tests {
		cfg, _ := config(clear)
		cfg.TLSOnLoopback = test.tlsOnLoopback
		client, server := sockets(t)
		addr := netip.MustParseAddrPort(test.addr)
		done := accept(t, from{server, addr}, cfg)
		_, h, err := greet(client, clientTLS())
		if err != nil {
			t.Fatalf("%s: %v", test.addr, err)
		}
		if h.Reply != test.want || h.Version != wire.Served {
			t.Errorf("%s, TLS on loopback %v: host header %+v, want reply %d", test.addr, test.tlsOnLoopback, h, test.want)
		}
		c := (<-done).conn
		if got, want := c.Remote(), netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()); got != want {
			t.Errorf("Remote() = %v, want %v", got, want)
		}
	}
}

func TestFramesBehindHeader(t *testing.T) {
	frame := wire.AppendText(nil, wire.Text, 256, 7, "early")
	cfg, _ := config(clear)
	client, server := sockets(t)
	done := accept(t, server, cfg)
	if _, err := client.Write(append(header(), frame...)); err != nil {
		t.Fatalf("write: %v", err)
	}
	if _, err := readHostHeader(client); err != nil {
		t.Fatal(err)
	}
	c := (<-done).conn
	batch, err := c.ReadBatch()
	if err != nil {
		t.Fatalf("ReadBatch: %v", err)
	}
	defer batch.Release()
	if string(batch.Bytes()) != string(frame) {
		t.Errorf("got % x, want % x", batch.Bytes(), frame)
	}
}

// hasty is a client that sends its header and its ClientHello in one packet.
type hasty struct {
	net.Conn
	begun, answered bool
}

func (h *hasty) Write(p []byte) (int, error) {
	if h.begun {
		return h.Conn.Write(p)
	}
	h.begun = true
	n, err := h.Conn.Write(append(header(), p...))
	return max(0, n-wire.ClientHeaderSize), err
}

func (h *hasty) Read(p []byte) (int, error) {
	if !h.answered {
		h.answered = true
		if _, err := readHostHeader(h.Conn); err != nil {
			return 0, err
		}
	}
	return h.Conn.Read(p)
}

func TestClientHelloWithHeader(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg, _ := config(secure)
		nc, server := sockets(t)
		done := accept(t, server, cfg)
		clientCfg := clientTLS()
		clientCfg.MaxVersion = version
		client := tls.Client(&hasty{Conn: nc}, clientCfg)
		frame := wire.AppendText(nil, wire.Text, 256, 7, "early")
		if _, err := client.Write(frame); err != nil {
			t.Fatalf("write: %v", err)
		}
		a := <-done
		if a.err != nil {
			t.Fatalf("Accept: %v", a.err)
		}
		batch, err := a.conn.ReadBatch()
		if err != nil {
			t.Fatalf("ReadBatch: %v", err)
		}
		if string(batch.Bytes()) != string(frame) {
			t.Errorf("got % x, want % x", batch.Bytes(), frame)
		}
		batch.Release()
	}
}

func TestHandshakeRefused(t *testing.T) {
	record := append([]byte{22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff, 3, 3}, make([]byte, 0x4000)...)
	tests := map[string]struct {
		send []byte
		want string
	}{
		"no ClientHello":    {[]byte("GET / HTTP/1.0\r\n\r\n"), ""},
		"a frame":           {wire.AppendText(nil, wire.Text, 256, 0, "hello there"), ""},
		"more than 16 KiB":  {append(record, record...), "16 KiB"},
		"TLS record, alert": {[]byte{21, 3, 1, 0, 2, 2, 40}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			cfg, _ := config(secure)
			client, server := sockets(t)
			done := accept(t, server, cfg)
			if _, err := client.Write(header()); err != nil {
				t.Fatalf("write: %v", err)
			}
			if _, err := readHostHeader(client); err != nil {
				t.Fatal(err)
			}
			// The host may have closed before it has all.
			_, _ = client.Write(test.send)
			a := <-done
			checkError(t, a.err, conn.ErrHandshake)
			if a.err != nil && !strings.Contains(a.err.Error(), test.want) {
				t.Errorf("got error %v, want one about %s", a.err, test.want)
			}
			// What comes is a TLS alert at most.
			if got, _ := io.ReadAll(client); len(got) > 0 && got[0] != 21 {
				t.Errorf("the host answered % x", got)
			}
		})
	}
}

func TestOldTLSRefused(t *testing.T) {
	cfg, _ := config(secure)
	client, server := sockets(t)
	done := accept(t, server, cfg)
	clientCfg := clientTLS()
	clientCfg.MinVersion, clientCfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, _, err := greet(client, clientCfg); err == nil {
		t.Error("a client with TLS 1.1 got in")
	}
	checkError(t, (<-done).err, conn.ErrHandshake)
}

func TestHandshakeTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := config(secure)
		cfg.HeaderTimeout, cfg.TLSTimeout = 3*time.Second, 10*time.Second
		client, server := net.Pipe()
		defer client.Close()
		done := accept(t, server, cfg)
		if _, err := client.Write(header()); err != nil {
			t.Fatalf("write: %v", err)
		}
		if _, err := readHostHeader(client); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for range 9 {
			time.Sleep(time.Second)
			if _, err := client.Write([]byte{22}[:1]); err != nil {
				break // the first byte may be all that it takes
			}
		}
		a := <-done
		checkError(t, a.err, conn.ErrHandshake)
		if took := time.Since(begin); took > cfg.TLSTimeout {
			t.Errorf("it took %v, want %v at most", took, cfg.TLSTimeout)
		}
	})
}

func TestSilentHandshakeTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := config(secure)
		cfg.HeaderTimeout, cfg.TLSTimeout = 3*time.Second, 10*time.Second
		client, server := net.Pipe()
		defer client.Close()
		done := accept(t, server, cfg)
		if _, err := client.Write(header()); err != nil {
			t.Fatalf("write: %v", err)
		}
		if _, err := readHostHeader(client); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		checkError(t, (<-done).err, conn.ErrHandshake)
		if took := time.Since(begin); took != cfg.TLSTimeout {
			t.Errorf("it took %v, want %v", took, cfg.TLSTimeout)
		}
	})
}

func TestSessionIDsAreUnique(t *testing.T) {
	seen := make(map[wire.SessionID]bool)
	for range 10_000 {
		id := conn.NewSessionID()
		if id == (wire.SessionID{}) || seen[id] {
			t.Fatalf("id %v again", id)
		}
		seen[id] = true
	}
	if len(conn.NewSessionID()) != 28 {
		t.Errorf("an id has %d bytes, want 28", len(conn.NewSessionID()))
	}
}

// TestHandshakeTurns: as many handshakes compute at once as there are turns;
// one that waits for its client holds none, and all get theirs.
func TestHandshakeTurns(t *testing.T) {
	cfg, _ := config(secure)
	cfg.Handshakes = make(chan struct{}, 1)
	// Clients that stop in the middle of the handshake.
	for range 4 {
		client, server := sockets(t)
		stopped := accept(t, server, cfg)
		if _, err := client.Write(append(header(), 22, 3, 1)); err != nil {
			t.Fatal(err)
		}
		defer func() {
			client.Close()
			if got := <-stopped; got.err == nil {
				t.Error("half a handshake has succeeded")
			}
		}()
	}
	var clients sync.WaitGroup
	for range 20 {
		client, server := sockets(t)
		done := accept(t, server, cfg)
		clients.Go(func() {
			nc, _, err := greet(client, clientTLS())
			if err != nil {
				t.Errorf("client: %v", err)
				return
			}
			defer nc.Close()
			got := <-done
			if got.err != nil {
				t.Errorf("host: %v", got.err)
				return
			}
			got.conn.End(conn.ErrClosed)
		})
	}
	clients.Wait()
	// One of those that stop may have come to its turn only now.
	eventually(t, "no turn is held", func() bool { return len(cfg.Handshakes) == 0 })
}
