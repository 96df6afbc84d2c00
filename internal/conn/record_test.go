package conn_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"

	"mrci.dev/mrci/internal/conn"
)

// gather keeps what is written once hold is set.
type gather struct {
	net.Conn
	hold bool
	held []byte
}

func (g *gather) Write(p []byte) (int, error) {
	if g.hold {
		g.held = append(g.held, p...)
		return len(p), nil
	}
	return g.Conn.Write(p)
}

// Of what was decrypted nothing is left in any buffer that crypto/tls has had
// when the host waits for more: whether records come whole, several at a time
// or in pieces, and whether the buffer has to grow for the next one.
func TestPlaintextIsWiped(t *testing.T) {
	marker := bytes.Repeat([]byte("secret! "), 8<<10)
	for name, test := range map[string]struct {
		writes []int // bytes of clear text
		pieces int   // bytes that arrive at once; 0: all
	}{
		"one by one":        {[]int{100}, 0},
		"all at once":       {[]int{100, 20, 4000, 8, 16 << 10, 30}, 0},
		"in small pieces":   {[]int{100, 20, 4000, 8, 16 << 10, 30}, 7},
		"byte by byte":      {[]int{100, 20, 3000, 8}, 1},
		"larger and larger": {[]int{10, 500, 2000, 4096, 8000, 16 << 10}, 1000},
		"beside a piece":    {[]int{3000, 16 << 10, 10, 64 << 10, 20}, 3500},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+"/"+tls.VersionName(version), func(t *testing.T) {
				c, s := sockets(t)
				clientEnd := &gather{Conn: c}
				cfg := clientTLS()
				cfg.MaxVersion = version
				client := tls.Client(clientEnd, cfg)
				below := &conn.RecordConn{Conn: s}
				server := tls.Server(below, serverTLS())
				done := make(chan error, 1)
				go func() { done <- server.Handshake() }()
				if err := client.Handshake(); err != nil {
					t.Fatal(err)
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				clientEnd.hold = true
				want := 0
				for _, n := range test.writes {
					if _, err := client.Write(marker[:n]); err != nil {
						t.Fatal(err)
					}
					want += n
				}
				below.Waiting = func(seen map[*byte][]byte) {
					for _, b := range seen {
						if i := bytes.Index(b, []byte("secret!")); i >= 0 {
							t.Fatalf("plaintext is left at %d of a buffer of %d bytes", i, len(b))
						}
					}
				}
				pieces := test.pieces
				if pieces == 0 {
					pieces = len(clientEnd.held)
				}
				go func() {
					for _, b := range each(clientEnd.held, pieces) {
						if _, err := c.Write(b); err != nil {
							break
						}
					}
					done <- c.CloseWrite()
				}()
				got, err := io.ReadAll(server)
				if err != io.ErrUnexpectedEOF && err != nil {
					t.Fatal(err)
				}
				if len(got) != want {
					t.Errorf("%d bytes arrived, want %d", len(got), want)
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				if below.Waits == 0 {
					t.Error("nothing was looked at")
				}
			})
		}
	}
}
