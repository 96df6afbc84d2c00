//go:build linux

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
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

	"golang.org/x/sys/unix"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/internal/control"
	"mrci.dev/mrci/wire"
)

// status asks the host below dir, as an operator does.
func status(t testing.TB, dir string) (s control.Status) {
	t.Helper()
	cmd := exec.CommandContext(deadline(t), binary, "--dir", dir, "status", "--json")
	cmd.Env = cleanEnv(t)
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &s)
	}
	if err != nil {
		t.Fatalf("status: %v\n%s", err, out)
	}
	return s
}

// Clients that take every descriptor they can get do not take those of the
// host: sessions and the database work, the status answers, and whoever comes
// afterwards gets in.
func TestDescriptorsUsedUp(t *testing.T) {
	const limit, attackers = 256, 1000
	dir := t.TempDir()
	args := append([]string{"-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, limit), binary},
		hostArgs(dir, []string{"--set", "argon2_kib=1024", "--set", "argon2_time=1"})...)
	cmd := exec.Command("sh", args...)
	cmd.Env = cleanEnv(t)
	h := startHost(t, cmd, dir)
	t.Cleanup(func() {
		h.finish(0)
		h.check(t)
		if t.Failed() {
			t.Logf("log of the host:\n%s", h.stderr)
		}
	})
	if h.addr == "" {
		t.Fatalf("the host did not start:\n%s", h.stderr)
	}
	if _, ok := h.await(h.stderr, 0, regexp.MustCompile(`fewer sessions than max_sessions.*256 files`)); !ok {
		t.Error("the host does not say that it takes fewer sessions")
	}
	admin := dial(t, h.addr, client.Config{})
	login(t, admin, h.user, h.password)

	conns := make([]net.Conn, 0, attackers)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range attackers {
		c, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		// A session, so that no timeout ends it. The host may have closed it.
		_, _ = c.Write(wire.ClientHeader{AppName: "attack"}.Append(nil))
	}
	s := status(t, dir)
	for s.Counters["connections"]["accepted"] < attackers {
		s = status(t, dir)
	}
	if s.Sessions.Max >= limit || s.Memory.Descriptors >= limit-16 || s.Counters["refused"]["max_sessions"] == 0 {
		t.Errorf("%d sessions are allowed, %d descriptors of %d are used, refused: %v", s.Sessions.Max, s.Memory.Descriptors, limit, s.Counters["refused"])
	}
	// All readers of the database at once, and its writer.
	done := make(chan error)
	for range 8 {
		go func() { // ends within the deadline; awaited below
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			result, err := admin.Run(ctx, "ls_users", nil, client.Handlers{})
			if err == nil && result.Code != wire.NoErrors {
				err = fmt.Errorf("ls_users ended with %v", result.Code)
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	addAccounts(t, admin, "bob")
	if lines := strings.Count(h.stderr.String(), "\n"); lines > attackers/4 {
		t.Errorf("%d lines in the log", lines)
	}

	for _, c := range conns {
		c.Close()
	}
	ctx := deadline(t)
	for {
		c, err := client.Dial(ctx, h.addr, client.Config{})
		if err == nil {
			login(t, c, "bob", "")
			c.Close()
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("nobody gets in after the attack: %v", err)
		}
	}
	h.stop(t, syscall.SIGTERM)
}

// A host with hardly any descriptor says so instead of failing later.
func TestTooFewDescriptors(t *testing.T) {
	args := append([]string{"-c", `ulimit -n 100 && exec "$0" "$@"`, binary}, hostArgs(t.TempDir(), nil)...)
	cmd := exec.Command("sh", args...)
	cmd.Env = cleanEnv(t)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || !regexp.MustCompile(`(?m)^mrci: .*100 files open.*ulimit.*$`).Match(out) {
		t.Errorf("%v:\n%s", err, out)
	}
}

// TestFullDisk has the host's directory on a small disk of its own, in a mount
// namespace. The test runs itself again inside.
func TestFullDisk(t *testing.T) {
	if program := os.Getenv(helperEnv); program != "" {
		binary = program
		fullDisk(t)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: a mount namespace")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	probe := exec.Command(binary, "version")
	probe.SysProcAttr = attr
	if out, err := probe.CombinedOutput(); err != nil {
		t.Skipf("mount namespaces cannot be made here: %v %s", err, out)
	}
	cmd := exec.Command(self, "-test.run=^TestFullDisk$", "-test.v")
	cmd.Env = append(os.Environ(), helperEnv+"="+binary)
	cmd.SysProcAttr = attr
	p, err := start(cmd, true)
	if err != nil {
		t.Fatal(err)
	}
	if !p.finish(4 * patience) {
		t.Errorf("it does not end")
	}
	if p.status != 0 {
		t.Fail()
	}
	t.Logf("in its own namespace:\n%s", p.stdout)
}

// disk is a small one.
type disk struct {
	t   *testing.T
	dir string
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	d := &disk{t: t, dir: t.TempDir()}
	// What is mounted here is for this namespace alone.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Skipf("mount: %v", err)
	}
	if err := unix.Mount("tmpfs", d.dir, "tmpfs", 0, "size=8m,mode=0700"); err != nil {
		t.Skipf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(d.dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *disk) ballast() string { return filepath.Join(d.dir, "ballast") }

// fill leaves no byte.
func (d *disk) fill() {
	d.t.Helper()
	f, err := os.OpenFile(d.ballast(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if n, err := f.Write(make([]byte, size)); err != nil || n < size {
			if err != nil && !errors.Is(err, unix.ENOSPC) {
				d.t.Fatal(err)
			}
			size /= 2
		}
	}
}

func (d *disk) free() {
	d.t.Helper()
	if err := os.Remove(d.ballast()); err != nil {
		d.t.Fatal(err)
	}
}

// beside tells how long the calls of somebody take who has nothing to do with
// what others do again and again, and the memory of the host afterwards.
func beside(t *testing.T, addr, dir string, others func()) {
	t.Helper()
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() { // awaited below
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
				others()
			}
		}
	}()
	c := dial(t, addr, client.Config{})
	took := make([]time.Duration, 2000)
	for i := range took {
		began := time.Now()
		mustRun(t, c, "my_info")
		took[i] = time.Since(began)
	}
	close(done)
	<-ended
	slices.Sort(took)
	t.Logf("a call beside it: p50 %v, p99 %v, longest %v; the host has %d MiB",
		took[len(took)/2], took[len(took)*99/100], took[len(took)-1], status(t, dir).Memory.RSSBytes>>20)
}

func fullDisk(t *testing.T) {
	d := newDisk(t)
	s := newSite(t, "--set", "argon2_kib=1024", "--set", "argon2_time=1")
	s.dir = d.dir
	s.start()
	admin := dial(t, s.addr, client.Config{})
	login(t, admin, s.user, s.password)
	var acknowledged []string
	// add makes an account, and returns what was said against it.
	add := func(c *client.Client) (code wire.ReturnCode, said []string) {
		name := fmt.Sprintf("user%d", len(acknowledged))
		code, said, _ = answers(t, c, []string{password, password}, "add_acct", "-name", name, "-email", name+"@example.org")
		if code == wire.NoErrors {
			acknowledged = append(acknowledged, name)
		}
		return code, said
	}
	// refused goes on until the disk takes no more: the database's own files may
	// have room for a few changes.
	refused := func(c *client.Client) {
		t.Helper()
		for range 500 {
			code, said := add(c)
			if code == wire.NoErrors {
				continue
			}
			if code != wire.ExecutionFail || len(said) != 1 || !strings.Contains(said[0], "message id") {
				t.Errorf("a change on a full disk ended with %v: %q", code, said)
			}
			return
		}
		t.Fatal("a full disk takes every change")
	}
	present := func(c *client.Client) {
		t.Helper()
		db := s.open()
		defer db.Close()
		stored, _ := s.stored(db)
		have := make(map[string]bool)
		for _, e := range stored {
			have[e.name] = true
		}
		for _, name := range acknowledged {
			if !have[name] {
				t.Errorf("the account %s was acknowledged and is not there", name)
			}
		}
		mustRun(t, c, "ls_users")
	}
	add(admin)

	d.fill()
	refused(admin)
	if _, ok := s.await(s.stderr, 0, regexp.MustCompile("the disk is full; make room")); !ok {
		t.Error("the log does not say that the disk is full")
	}
	// Reading goes on, and so does logging in with the right password.
	present(admin)
	second := dial(t, s.addr, client.Config{})
	login(t, second, s.user, "")
	// A wrong one cannot be counted, and is refused all the same.
	stranger := dial(t, s.addr, client.Config{})
	if code, said, _ := answers(t, stranger, []string{"Wrong-password1"}, "auth", "-user", s.user); code == wire.NoErrors || len(said) == 0 {
		t.Errorf("a wrong password on a full disk: %v %q", code, said)
	}
	beside(t, s.addr, s.dir, func() { add(second) })
	// Rows that cannot be written wait, up to a bound.
	full := regexp.MustCompile(`log rows cannot be written, they are tried again`)
	if _, ok := s.await(s.stderr, 0, full); !ok {
		t.Error("the log does not say that rows cannot be written")
	}
	if rows := status(t, s.dir).Queues.LogRows; rows == 0 {
		t.Error("no row waits")
	}

	d.free()
	if _, ok := s.await(s.stderr, 0, regexp.MustCompile(`log rows are written again`)); !ok {
		t.Error("rows are not written though there is room")
	}
	if code, said := add(admin); code != wire.NoErrors {
		t.Errorf("a change when there is room again: %v %q", code, said)
	}

	// The same with the end of the host.
	d.fill()
	refused(second)
	s.kill()
	d.fill()
	cmd := exec.Command(binary, hostArgs(s.dir, s.options)...)
	cmd.Env = s.env
	h := startHost(t, cmd, s.dir)
	if h.addr == "" {
		if text := h.stderr.String(); h.status != 1 || strings.Count(text, "\n") != 1 || !strings.Contains(text, "disk") {
			t.Errorf("a start on a full disk ends with %d:\n%s", h.status, text)
		}
	} else {
		t.Log("a host starts on a full disk")
		h.stop(t, syscall.SIGKILL)
	}
	d.free()
	s.start()
	admin = dial(t, s.addr, client.Config{})
	login(t, admin, "admin", "")
	present(admin)
	if code, said := add(admin); code != wire.NoErrors {
		t.Errorf("a change after the start: %v %q", code, said)
	}
	db := s.open()
	defer db.Close()
	s.integrity(db)
	s.stop(t, syscall.SIGTERM)
}
