//go:build unix

package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mrci.dev/mrci/internal/cert"
)

// Bounds of waiting; only a broken program reaches them.
const (
	patience = 30 * time.Second
	// A host has stopped within stop_timeout_s, which is 10 by default.
	stopTime = 10 * time.Second
)

// binary is the program under test, in a directory that every account can read.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if os.Getenv(helperEnv) != "" {
			return m.Run() // inside a namespace; the program is there
		}
		dir, err := os.MkdirTemp("", "mrci-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := os.Chmod(dir, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		binary = filepath.Join(dir, "mrci")
		args := []string{"build", "-o", binary}
		if raceEnabled {
			args = append(args, "-race")
		}
		build := exec.Command("go", append(args, "../cmd/mrci")...)
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "build the program:", err)
			return 1
		}
		status := m.Run()
		if err := goleak.Find(); status == 0 && err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
		return status
	}())
}

// helperEnv holds the path of the program in a test that runs itself again.
const helperEnv = "MRCI_E2E_PROGRAM"

// reporter is a test or a script.
type reporter interface {
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// output is what a process has written so far.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed and replaced by every write
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	close(o.changed)
	o.changed = make(chan struct{})
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// process is a running program.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr *output
	done           chan struct{} // closed when it has ended
	status         int           // valid then; -1 after a signal
}

// start starts a command; merged puts standard error among standard output,
// as a terminal does.
func start(cmd *exec.Cmd, merged bool) (*process, error) {
	p := &process{cmd: cmd, stdout: newOutput(), stderr: newOutput(), done: make(chan struct{})}
	if merged {
		p.stderr = p.stdout
	}
	cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
	cmd.WaitDelay = time.Second // a child of it may keep the streams
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process, which finish waits for
		defer close(p.done)
		err := cmd.Wait()
		p.status = cmd.ProcessState.ExitCode()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
			fmt.Fprintf(p.stderr, "wait: %v\n", err)
		}
	}()
	return p, nil
}

// await waits until re matches what o has from byte from on, and returns where
// the match ends. It reports false when the process ends without it.
func (p *process) await(o *output, from int, re *regexp.Regexp) (end int, ok bool) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for ended := false; ; {
		o.mu.Lock()
		changed := o.changed
		at := re.FindIndex(o.text.Bytes()[from:])
		o.mu.Unlock()
		switch {
		case at != nil:
			return from + at[1], true
		case ended:
			return 0, false
		}
		select {
		case <-changed:
		case <-p.done:
			ended = true
		case <-timer.C:
			return 0, false
		}
	}
}

// finish waits for the end of the process, and kills it when it takes too long.
func (p *process) finish(limit time.Duration) (inTime bool) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	default:
	}
	select {
	case <-p.done:
		return true
	case <-timer.C:
		p.cmd.Process.Kill() // it has ended, or ends by this
		<-p.done
		return false
	}
}

// check fails when the program has shown its inside.
func (p *process) check(r reporter) {
	for _, sign := range []string{"goroutine ", "panic:", "DATA RACE"} {
		if strings.Contains(p.stderr.String(), sign) {
			r.Fatalf("%v shows %q:\n%s", p.cmd.Args, sign, p.stderr)
		}
	}
}

// hostProcess is a host that accepts connections, or that ended instead.
type hostProcess struct {
	*process
	addr           string // empty: it did not start
	user, password string // of the first administrator, if one was made
	fingerprint    string
}

var (
	listening = regexp.MustCompile(`(?m)^listening on (\S+)$`)
	madeUser  = regexp.MustCompile(`(?m)^user: (\S+)$`)
	madePass  = regexp.MustCompile(`(?m)^password: (\S+)$`)
)

// startHost starts a host whose files are below dir. It returns when the host
// accepts connections, or has ended.
func startHost(r reporter, cmd *exec.Cmd, dir string) *hostProcess {
	p, err := start(cmd, false)
	if err != nil {
		r.Fatalf("start %v: %v", cmd.Args, err)
	}
	h := &hostProcess{process: p}
	if _, ok := p.await(p.stdout, 0, listening); !ok {
		if !p.finish(0) { // it has ended, or patience has
			r.Fatalf("%v says no address:\n%s%s", cmd.Args, p.stdout, p.stderr)
		}
		return h
	}
	find := func(re *regexp.Regexp) string {
		if m := re.FindStringSubmatch(p.stdout.String()); m != nil {
			return m[1]
		}
		return ""
	}
	h.addr, h.user, h.password = find(listening), find(madeUser), find(madePass)
	certs, err := cert.Open(cert.Config{Chain: []string{filepath.Join(dir, "tls_chain.pem")}, Key: filepath.Join(dir, "tls_priv.pem")})
	if err != nil {
		p.finish(0)
		r.Fatalf("certificate of the host: %v", err)
	}
	h.fingerprint = "SHA256:" + certs.Fingerprint()
	return h
}

// stop ends the host by a signal; all but SIGKILL must end it with status 0,
// in time.
func (h *hostProcess) stop(r reporter, sig syscall.Signal) {
	if err := h.cmd.Process.Signal(sig); err != nil {
		r.Fatalf("signal the host: %v", err)
	}
	inTime := h.finish(stopTime)
	h.check(r)
	switch {
	case !inTime:
		r.Fatalf("the host did not end within %v of %v:\n%s", stopTime, sig, h.stderr)
	case sig != syscall.SIGKILL && h.status != 0:
		r.Fatalf("the host ended with status %d after %v:\n%s", h.status, sig, h.stderr)
	}
}

// hostArgs are the arguments of a host on loopback, unless options say where.
func hostArgs(dir string, options []string) []string {
	args := []string{"--dir", dir, "host"}
	for _, o := range options {
		if strings.HasPrefix(o, "--listen") {
			return append(args, options...)
		}
	}
	return append(append(args, "--listen", "127.0.0.1:0"), options...)
}

// cleanEnv is the environment of a program without settings, with an empty home.
func cleanEnv(t testing.TB) []string {
	return raceEnv("HOME="+t.TempDir(), "PATH="+os.Getenv("PATH"), "TMPDIR="+t.TempDir())
}

// raceEnv adds the options of the race detector, if the test has any, to an
// environment.
func raceEnv(env ...string) []string {
	const name = "GORACE"
	if options, ok := os.LookupEnv(name); ok {
		env = append(env, name+"="+options)
	}
	return env
}

// newHost starts a host for a Go test and kills it at the end, if it still runs.
func newHost(t testing.TB, options ...string) *hostProcess {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(binary, hostArgs(dir, options)...)
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
	return h
}
