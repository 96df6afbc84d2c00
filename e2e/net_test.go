//go:build linux

package e2e_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/wire"
)

// Addresses for documentation (RFC 5737); they exist in the test's own
// namespaces only.
const (
	hostIP = "192.0.2.1"
	peerIP = "192.0.2.2"
)

// TestTwoNetworks has two machines on one wire: two network namespaces and a
// pair of virtual interfaces. The test runs itself again as the first machine.
func TestTwoNetworks(t *testing.T) {
	if program := os.Getenv(helperEnv); program != "" {
		binary = program
		twoNetworks(t)
		return
	}
	if testing.Short() {
		t.Skip("slow: makes network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs the program ip (iproute2)")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	probe := exec.Command("ip", "link", "show")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if out, err := probe.CombinedOutput(); err != nil {
		t.Skipf("network namespaces cannot be made here: %v %s", err, out)
	}
	cmd := exec.Command(self, "-test.run=^TestTwoNetworks$", "-test.v")
	cmd.Env = append(os.Environ(), helperEnv+"="+binary)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	p, err := start(cmd, true)
	if err != nil {
		t.Fatal(err)
	}
	if !p.finish(2 * patience) {
		t.Errorf("it does not end")
	}
	if p.status != 0 {
		t.Fail()
	}
	t.Logf("in its own namespace:\n%s", p.stdout)
}

func twoNetworks(t *testing.T) {
	peer := newPeer(t)
	const halfOpen = 3
	// Half-open connections stay so while the test looks at them.
	h := newHost(t, "--listen", "0.0.0.0:0", "--set", "tls_on_loopback=true", "--set", "header_timeout_s=3600",
		"--set", fmt.Sprintf("half_open_per_addr=%d", halfOpen))
	_, port, err := net.SplitHostPort(h.addr)
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.JoinHostPort("127.0.0.1", port), net.JoinHostPort(hostIP, port)
	if !strings.Contains(h.stdout.String(), "From another machine: ") || !strings.Contains(h.stdout.String(), h.fingerprint) {
		t.Errorf("the host does not say how to reach it from elsewhere:\n%s", h.stdout)
	}

	// Two users at once: one on the host's machine, one on the other.
	admin := dial(t, near, client.Config{Pin: h.fingerprint})
	login(t, admin, h.user, h.password)
	ctx := deadline(t)
	answer := func(c *client.Client, name string, args ...string) string {
		t.Helper()
		var text strings.Builder
		result, err := c.Run(ctx, name, args, client.Handlers{
			Frame: func(f wire.Frame) error {
				text.Write(f.Payload)
				return nil
			},
			Answer: func(context.Context, client.Question) (string, error) { return password, nil },
		})
		if err != nil || result.Code != wire.NoErrors {
			t.Errorf("%s: %v, %v: %s", name, result.Code, err, &text)
		}
		return text.String()
	}
	answer(admin, "add_acct", "-name", "bob", "-email", "bob@example.org")
	var bob *client.Client
	peer.do(func() {
		bob = dial(t, far, client.Config{Pin: h.fingerprint})
		login(t, bob, "bob", "")
	})
	if got := answer(bob, "my_info"); !strings.Contains(got, "client address: "+peerIP) || !strings.Contains(got, "user name: bob") {
		t.Errorf("my_info of the other machine:\n%s", got)
	}
	if got := answer(admin, "my_info"); !strings.Contains(got, "client address: 127.0.0.1") || !strings.Contains(got, "user name: admin") {
		t.Errorf("my_info of this machine:\n%s", got)
	}

	// The other machine is told to start TLS; the certificate names the address.
	peer.do(func() {
		conn, header := hello(t, far, wire.ClientHeader{AppName: "e2e"})
		if header.Reply != wire.ReplyTLS {
			t.Fatalf("reply %v, want %v", header.Reply, wire.ReplyTLS)
		}
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		if err := secure.HandshakeContext(ctx); err != nil {
			t.Fatal(err)
		}
		leaf := secure.ConnectionState().PeerCertificates[0]
		if err := leaf.VerifyHostname(hostIP); err != nil {
			t.Error(err)
		}
		conn.Close()
	})
	// The program there too.
	peer.do(func() {
		cmd := exec.Command(binary, "run", "--accept-new", "--user", "bob", far, "my_info")
		cmd.Env = append(cleanEnv(t), "MRCI_PASSWORD="+password)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), peerIP) {
			t.Errorf("run on the other machine: %v\n%s", err, out)
		}
	})

	// One connection more than may be half open is closed, and only that one.
	var conns []net.Conn
	peer.do(func() {
		for range halfOpen + 1 {
			conn, err := net.Dial("tcp", far)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
		}
	})
	closed := make(chan int, len(conns))
	for i, conn := range conns {
		go func() { // ends when the host or the test closes the connection
			_, err := conn.Read(make([]byte, 1))
			if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
				closed <- i
			}
		}()
	}
	var refused int
	select {
	case refused = <-closed:
	case <-ctx.Done():
		t.Fatalf("%d half-open connections and none is refused", len(conns))
	}
	if _, ok := h.await(h.stderr, 0, regexp.MustCompile(`msg="connection refused" addr=`+regexp.QuoteMeta(peerIP))); !ok {
		t.Errorf("no line in the log about the refused connection:\n%s", h.stderr)
	}
	// Meanwhile the limit binds neither sessions nor other addresses.
	answer(bob, "my_info")
	dial(t, near, client.Config{Pin: h.fingerprint}).Close()
	select {
	case i := <-closed:
		t.Errorf("connection %d is closed too", i)
	default:
	}
	for _, conn := range slices.Delete(conns, refused, refused+1) {
		conn.Close()
	}
	// The host notices in its time; whoever comes then gets in.
	peer.do(func() {
		for {
			c, err := client.Dial(ctx, far, client.Config{Pin: h.fingerprint})
			if err == nil {
				c.Close()
				return
			}
			if ctx.Err() != nil {
				t.Fatalf("the limit does not end: %v", err)
			}
		}
	})
	h.stop(t, syscall.SIGTERM)
}

// machine is another network namespace.
type machine struct {
	t  *testing.T
	ns *os.File
}

// newPeer makes the other machine and the wire between the two.
func newPeer(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t}
	// The namespace lives as long as somebody holds it.
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			m.ns, err = os.Open("/proc/thread-self/ns/net")
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.ns.Close() })
	ip := func(args ...string) {
		t.Helper()
		cmd := exec.Command("ip", args...)
		cmd.ExtraFiles = []*os.File{m.ns} // file descriptor 3
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v %s", strings.Join(args, " "), err, out)
		}
	}
	ip("link", "set", "lo", "up")
	ip("link", "add", "wire0", "type", "veth", "peer", "name", "wire1")
	ip("link", "set", "wire1", "netns", "/proc/self/fd/3")
	ip("addr", "add", hostIP+"/24", "dev", "wire0")
	ip("link", "set", "wire0", "up")
	m.do(func() {
		ip("addr", "add", peerIP+"/24", "dev", "wire1")
		ip("link", "set", "wire1", "up")
	})
	return m
}

// do runs f on the other machine: the sockets and processes that it makes are
// there.
func (m *machine) do(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // as above
		if err := unix.Setns(int(m.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err)
		}
		f()
	}()
	<-done
	if m.t.Failed() {
		m.t.FailNow() // which f could not do for the test's goroutine
	}
}
