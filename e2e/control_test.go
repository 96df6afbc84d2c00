//go:build linux

package e2e_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/wire"
)

// mrci runs the program to its end.
func (s *site) mrci(stdin string, args ...string) (status int, stdout, stderr string) {
	s.t.Helper()
	cmd := exec.Command(binary, append([]string{"--dir", s.dir}, args...)...)
	cmd.Env = s.env
	cmd.Stdin = strings.NewReader(stdin)
	p, err := start(cmd, false)
	if err != nil {
		s.t.Fatal(err)
	}
	if !p.finish(patience) {
		s.t.Fatalf("mrci %q does not end:\n%s%s", args, p.stdout, p.stderr)
	}
	p.check(s.t)
	return p.status, p.stdout.String(), p.stderr.String()
}

// offered reports whether the host offers the command. The call before makes
// sure that what was sent earlier has come.
func offered(t *testing.T, c *client.Client, command string) bool {
	t.Helper()
	mustRun(t, c, "my_info")
	for _, known := range c.Commands() {
		if known.Name == command {
			return true
		}
	}
	return false
}

// TestSessionsFollowThePrograms: elevate and reset-password are seen by
// sessions when the program has ended (state 6).
func TestSessionsFollowThePrograms(t *testing.T) {
	s := newSite(t, cheap...)
	s.start()
	root := dial(t, s.addr, client.Config{})
	login(t, root, s.user, s.password)
	addAccounts(t, root, "ann")
	ann := dial(t, s.addr, client.Config{})
	login(t, ann, "ann", "")
	if offered(t, ann, "ls_act_log") {
		t.Fatal("everybody is offered the log")
	}
	code, out, said := s.mrci("", "elevate", "Ann")
	if code != 0 || !strings.Contains(out, "now, also where it is logged in") {
		t.Fatalf("elevate: exit %d, %q, %q", code, out, said)
	}
	if !offered(t, ann, "ls_act_log") {
		t.Error("the session has not noticed")
	}
	if code, out, said := s.mrci("", "reset-password", "ann"); code != 0 || said != "" {
		t.Errorf("reset-password: exit %d, %q, %q", code, out, said)
	}
	if code, out, said := s.mrci("New-horse-99\n", "add-admin", "--password-stdin", "bob"); code != 0 {
		t.Errorf("add-admin: exit %d, %q, %q", code, out, said)
	}
	if log := mustRun(t, root, "ls_audit", "-all"); strings.Count(log, "mrci elevate") != 1 || strings.Count(log, "mrci add-admin") != 1 || strings.Contains(log, "horse") {
		t.Errorf("the audit log does not show what was done beside the host:\n%s", log)
	}
	s.stop(t, syscall.SIGTERM)
	if code, out, _ := s.mrci("", "elevate", "ann"); code != 0 || !strings.Contains(out, "from its next login on") {
		t.Errorf("elevate without a host: exit %d, %q", code, out)
	}
}

// TestHangup: SIGHUP reads the configuration again, the form of the log
// included.
func TestHangup(t *testing.T) {
	s := newSite(t, "--set", "argon2_kib=1024", "--set", "argon2_time=1")
	s.start()
	anon := dial(t, s.addr, client.Config{})
	text := `{"enable_public_reg": true, "log_format": "json"}`
	if err := os.WriteFile(filepath.Join(s.dir, "conf.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.await(s.stderr, 0, regexp.MustCompile(`(?m)^\{"time":.*"msg":"reloaded".*enable_public_reg`)); !ok {
		t.Fatalf("the log tells of no reload:\n%s", s.stderr)
	}
	mustRun(t, anon, "ls_cmds")
	if !slices.ContainsFunc(anon.Commands(), func(c wire.CommandInfo) bool { return c.Name == "add_acct" }) {
		t.Error("add_acct is not offered")
	}
}

// TestStartAndOutput: a reload that comes while the host starts does not end
// it, nor does a reader of its output that goes away.
func TestStartAndOutput(t *testing.T) {
	dir := t.TempDir()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, hostArgs(dir, []string{"--set", "log_level=debug"})...)
	cmd.Env = cleanEnv(t)
	cmd.Stderr = writer
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill() // unless it has ended
		cmd.Wait()
	}()
	writer.Close()
	// It has said something: it listens to signals, and is not ready yet.
	if _, err := reader.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	reader.Close() // every line from here on has nowhere to go
	var addr string
	for lines := bufio.NewScanner(said); addr == "" && lines.Scan(); {
		addr, _ = strings.CutPrefix(lines.Text(), "listening on ")
		if addr == lines.Text() {
			addr = ""
		}
	}
	if addr == "" {
		t.Fatal("the host has ended")
	}
	c := dial(t, addr, client.Config{})
	mustRun(t, c, "ls_cmds")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the host ended with %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "run", "host.lock")); err == nil {
		t.Error("the lock is still there")
	}
}

// service listens as a service manager does.
func service(t *testing.T) (path string, next func() string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return path, func() string {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if err != nil {
			t.Fatalf("the service manager hears nothing: %v", err)
		}
		return string(b[:n])
	}
}

// TestService: a service manager passes on the socket, learns when the host is
// ready, reloads and stops, and gets signs of life.
func TestService(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	path, next := service(t)
	dir := t.TempDir()
	// The shell knows the process id that the program will have.
	script := fmt.Sprintf(`LISTEN_PID=$$ LISTEN_FDS=1 WATCHDOG_PID=$$ WATCHDOG_USEC=2000000 NOTIFY_SOCKET=%s exec %s --dir %s host --set log_level=warn`, path, binary, dir)
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Env = cleanEnv(t)
	cmd.ExtraFiles = []*os.File{socket}
	h := startHost(t, cmd, dir)
	t.Cleanup(func() { h.finish(0) })
	if h.addr != l.Addr().String() {
		t.Fatalf("the host listens on %q, want %s\n%s", h.addr, l.Addr(), h.stderr)
	}
	until := func(want string) {
		t.Helper()
		for {
			switch got := next(); {
			case strings.Contains(got, want):
				return
			case !strings.Contains(got, "WATCHDOG=1") && !strings.HasPrefix(got, "STATUS="): // which come at any time
				t.Fatalf("the service manager hears %q, want %s", got, want)
			}
		}
	}
	until("READY=1")
	dial(t, h.addr, client.Config{})
	until("WATCHDOG=1")
	if err := h.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until("RELOADING=1")
	until("READY=1")
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until("STOPPING=1")
	if !h.finish(stopTime) || h.status != 0 {
		t.Errorf("the host ended with %d\n%s", h.status, h.stderr)
	}
}
