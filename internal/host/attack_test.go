package host_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/wire"
)

// attackers is how many connections misbehave at once in these tests.
const attackers = 100

// preLogin is what a connection may cost before it has logged in (DESIGN 2,
// promise 2), and as much again for what a test process and the collector add.
const preLogin = 2 * 64 << 10

// dialRaw opens connections that nobody speaks on yet.
func dialRaw(t *testing.T, addr string, n int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, n)
	for i := range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		conns[i] = c
	}
	return conns
}

func count(t *testing.T, h *hosttest.Host, group, reason string) uint64 {
	t.Helper()
	return h.Status().Counters[group][reason]
}

// ended reads each connection to its end, whichever way the host ends it.
func ended(t *testing.T, conns []net.Conn) {
	t.Helper()
	for _, c := range conns {
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the host does not end the connection")
		}
	}
}

// memoryInUse is what this process, the host included, has in use.
func memoryInUse() uint64 {
	runtime.GC()
	runtime.GC() // what pools keep survives one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// cheaperThan fails when connections cost more memory than they may.
func cheaperThan(t *testing.T, before uint64, conns int, each uint64) {
	t.Helper()
	after := memoryInUse()
	if after > before+uint64(conns)*each {
		t.Errorf("%d connections cost %d bytes each, at most %d are allowed", conns, (after-before)/uint64(conns), each)
	}
	t.Logf("%d connections: %d KiB before, %d KiB now", conns, before>>10, after>>10)
}

// configure makes a configuration bind. Time-outs that attackers have to reach
// bind when nobody else depends on them: however slow the machine is, those who
// are served meanwhile do not reach them.
func configure(t *testing.T, h *hosttest.Host, text string) {
	t.Helper()
	h.Write(text)
	if _, err := h.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// closeAll closes connections that have not become sessions, and waits until the
// host has done with them.
func closeAll(t *testing.T, h *hosttest.Host, conns []net.Conn) {
	t.Helper()
	before := unstarted(h)
	for _, c := range conns {
		c.Close()
	}
	waitUntil(t, "they have gone", func() bool { return unstarted(h) == before+uint64(len(conns)) && h.Status().HalfOpen == 0 })
}

// unstarted is how many connections have not become a session.
func unstarted(h *hosttest.Host) (n uint64) {
	for _, reason := range h.Status().Counters["not_started"] {
		n += reason
	}
	return n
}

func TestHalfHeaders(t *testing.T) {
	h := hosttest.Start(t)
	h.User("alice", 2)
	configure(t, h, `{"header_timeout_s": 3600}`)
	alice := h.Connect()
	alice.Login("alice")
	before := memoryInUse()
	half := wire.ClientHeader{AppName: "half"}.Append(nil)[:100]
	begin := func() []net.Conn {
		conns := dialRaw(t, h.Address(), attackers)
		for _, c := range conns {
			_, _ = c.Write(half) // it may have been too late already
		}
		return conns
	}
	conns := begin()
	waitUntil(t, "all are accepted", func() bool { return count(t, h, "connections", "accepted") == attackers+1 })
	cheaperThan(t, before, attackers, preLogin)
	alice.Call("my_info", "")
	h.Connect().Login("alice")
	closeAll(t, h, conns)

	configure(t, h, `{"header_timeout_s": 1}`)
	conns = begin()
	ended(t, conns)
	waitUntil(t, "all are counted", func() bool { return count(t, h, "not_started", "header_timeout") == attackers })
	alice.Call("my_info", "")
}

// A frame above the limit before login is refused by its header; one below it
// may trickle, and costs its buffer.
func TestTrickledFrames(t *testing.T) {
	h := hosttest.Start(t)
	h.User("alice", 2)
	alice := h.Connect()
	alice.Login("alice")
	before := memoryInUse()
	hello := wire.ClientHeader{AppName: "trickle"}.Append(nil)
	trickle := func(announced int) []net.Conn {
		conns := dialRaw(t, h.Address(), attackers)
		frame := wire.AppendFrame(nil, wire.Text, 256, 1, make([]byte, announced))[:wire.FrameHeaderSize+1]
		for _, c := range conns {
			if _, err := c.Write(append(hello[:len(hello):len(hello)], frame...)); err != nil {
				t.Fatal(err)
			}
		}
		return conns
	}
	huge := trickle(wire.MaxPayload)
	for _, c := range huge {
		var b [wire.HostHeaderSize]byte
		if _, err := io.ReadFull(c, b[:]); err != nil {
			t.Fatal(err)
		}
		frames := wire.NewReader(c, 0)
		var last wire.Frame
		for {
			f, err := frames.Next()
			if err != nil {
				break
			}
			if f.Cmd == 256 {
				last = wire.Frame{Type: f.Type, Cmd: f.Cmd, Branch: f.Branch, Payload: append([]byte(nil), f.Payload...)}
			}
		}
		if got := hosttest.Kinds([]wire.Frame{last}); got != "IDLE 3" {
			t.Fatalf("the last answer to the frame is %s, want IDLE 3", got)
		}
	}
	waitUntil(t, "all are counted", func() bool { return count(t, h, "ended", "frame_too_large") == attackers })
	if n := count(t, h, "refused_calls", "pre_login_frame_bytes"); n != attackers {
		t.Errorf("%d frames are counted as too large, want %d", n, attackers)
	}
	small := trickle(16 << 10)
	waitUntil(t, "all have a session", func() bool { return h.Sessions() == attackers+1 })
	for range 3 {
		for _, c := range small {
			if _, err := c.Write([]byte{0}); err != nil {
				t.Fatal(err)
			}
		}
	}
	cheaperThan(t, before, attackers, preLogin)
	alice.Call("my_info", "")
	h.Connect().Login("alice")
}

// helloBytes is what a TLS client says first.
func helloBytes(t *testing.T) []byte {
	t.Helper()
	client, host := net.Pipe()
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { // ends when host is closed
		_ = tls.Client(client, &tls.Config{InsecureSkipVerify: true}).Handshake()
	})
	defer host.Close()
	b := make([]byte, 4096)
	n, err := host.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// record is one TLS record of a handshake.
func record(payload []byte) []byte {
	return append([]byte{22, 3, 1, byte(len(payload) >> 8), byte(len(payload))}, payload...)
}

func TestSlowHandshakes(t *testing.T) {
	h := hosttest.Start(t, hosttest.Set("tls_on_loopback=true"))
	h.User("alice", 2)
	configure(t, h, `{"tls_timeout_s": 3600}`)
	alice := h.Connect()
	alice.Login("alice")
	before := memoryInUse()
	first := helloBytes(t)
	// begin has half of the attackers send byte by byte and half stop after their
	// first message. A host that ends them need not take it all.
	begin := func() []net.Conn {
		conns := dialRaw(t, h.Address(), attackers)
		for _, c := range conns {
			if _, err := c.Write(wire.ClientHeader{AppName: "slow"}.Append(nil)); err != nil {
				t.Fatal(err)
			}
			var b [wire.HostHeaderSize]byte
			if _, err := io.ReadFull(c, b[:]); err != nil {
				t.Fatal(err)
			}
		}
		bytewise, stopped := conns[:attackers/2], conns[attackers/2:]
		for _, c := range stopped {
			_, _ = c.Write(first)
		}
		for _, b := range first[:20] {
			for _, c := range bytewise {
				_, _ = c.Write([]byte{b})
			}
		}
		return conns
	}
	conns := begin()
	cheaperThan(t, before, attackers, preLogin)
	alice.Call("my_info", "")
	h.Connect().Login("alice")
	closeAll(t, h, conns)

	configure(t, h, `{"tls_timeout_s": 1}`)
	failed := count(t, h, "not_started", "tls_handshake")
	ended(t, begin())
	waitUntil(t, "all are counted", func() bool { return count(t, h, "not_started", "tls_handshake") == failed+attackers })
	alice.Call("my_info", "")
}

// What is too long for a handshake ends it at once: the time for it is far.
func TestOversizedHandshakes(t *testing.T) {
	h := hosttest.Start(t, hosttest.Set("tls_on_loopback=true", "tls_timeout_s=3600"))
	h.User("alice", 2)
	for name, send := range map[string][]byte{
		"a message of 16 MiB": record(append([]byte{1, 0xff, 0xff, 0xff}, make([]byte, 8<<10)...)),
		"messages of a byte":  record([]byte{1, 0, 0x3f, 0xff, 3, 3, 0}),
		"empty records":       record(nil),
		"a record too long":   {22, 3, 1, 0xff, 0xff, 1, 2, 3},
		"no TLS":              []byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			before := count(t, h, "not_started", "tls_handshake")
			c := dialRaw(t, h.Address(), 1)[0]
			if _, err := c.Write(wire.ClientHeader{AppName: "large"}.Append(nil)); err != nil {
				t.Fatal(err)
			}
			sent := 0
			for sent < 1<<20 {
				n, err := c.Write(send)
				sent += n
				if err != nil {
					break
				}
				// The host ends it by then; a write learns of that a little later.
				if sent > 64<<10 {
					break
				}
			}
			ended(t, []net.Conn{c})
			waitUntil(t, "it is counted", func() bool { return count(t, h, "not_started", "tls_handshake") == before+1 })
		})
	}
	h.Connect().Login("alice")
}

// Who asks and does not read is ended, and slows nobody down meanwhile.
func TestDeafClients(t *testing.T) {
	h := hosttest.Start(t, hosttest.Set("write_timeout_s=1", "log_level=info"))
	h.User("alice", 1)
	alice := h.Connect()
	alice.Login("alice")
	before := memoryInUse()
	const deafs = 10
	var group sync.WaitGroup
	for range deafs {
		c := h.Connect()
		c.Login("alice")
		requests := make([]byte, 0, 256<<10)
		for len(requests) < 256<<10 {
			requests = wire.AppendText(requests, wire.Text, c.ID("ls_cmds"), wire.BranchID(len(requests)), "")
		}
		group.Go(func() { // ends when the host ends the connection
			for {
				if _, err := c.Conn.Write(requests); err != nil {
					return
				}
			}
		})
	}
	waitUntil(t, "they are ended", func() bool {
		alice.Call("my_info", "")
		return count(t, h, "ended", "slow_consumer") == deafs
	})
	group.Wait()
	cheaperThan(t, before, deafs, 1<<20) // they were logged in
}

// A flood from a few addresses costs those addresses, and nobody else.
func TestConnectFloodByAddress(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux all of 127/8 is this machine")
	}
	const each, bound = 20, 4
	h := hosttest.Start(t, hosttest.Set("limit_loopback=true", fmt.Sprintf("half_open_per_addr=%d", bound)))
	h.User("alice", 2)
	floods := []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"}
	flood := func(each int) (conns []net.Conn) {
		t.Helper()
		for _, ip := range floods {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
			for range each {
				c, err := d.Dial("tcp", h.Address())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				conns = append(conns, c)
			}
		}
		return conns
	}
	refused := func() uint64 { return count(t, h, "refused", "half_open_per_addr") }
	configure(t, h, `{"header_timeout_s": 3600}`)
	conns := flood(each)
	wanted := uint64(len(floods) * (each - bound))
	waitUntil(t, "the rest is refused", func() bool { return refused() == wanted })
	h.Connect().Login("alice") // from 127.0.0.1
	for _, c := range conns {
		c.Close()
	}
	waitUntil(t, "the others have gone", func() bool { return unstarted(h) == uint64(bound*len(floods)) && h.Status().HalfOpen == 0 })

	// There is room again, and who takes it and says nothing is ended.
	configure(t, h, `{"header_timeout_s": 1}`)
	flood(bound)
	waitUntil(t, "the others are ended", func() bool {
		return count(t, h, "not_started", "header_timeout") == uint64(bound*len(floods))
	})
	if n := refused(); n != wanted {
		t.Errorf("%d were refused though there was room", n-wanted)
	}
}
