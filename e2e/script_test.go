//go:build unix

package e2e_test

import (
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata",
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			st := &stage{hosts: make(map[string]*hostProcess)}
			env.Values[stageKey{}] = st
			env.Defer(st.close)
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("dir", filepath.Join(env.WorkDir, "host"))
			return os.Mkdir(env.Getenv("HOME"), 0o700)
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "unprivileged":
				return canDrop(), nil
			case "root":
				return os.Getuid() == 0, nil
			}
			return false, nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"host": hostVerb, "mrci": mrciVerb, "expect": expectVerb, "status": statusVerb, "unprivileged": unprivilegedVerb,
		},
	})
}

// stage is what a script has going on.
type stage struct {
	hosts  map[string]*hostProcess // by directory
	status int                     // of the last program
	drop   bool                    // run programs without rights
}

type stageKey struct{}

func stageOf(ts *testscript.TestScript) *stage { return ts.Value(stageKey{}).(*stage) }

func (st *stage) close() {
	for _, h := range st.hosts {
		h.finish(0)
	}
}

// command is the program, as the script would start it.
func (st *stage) command(ts *testscript.TestScript, args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = raceEnv()
	for _, name := range []string{"HOME", "PATH", "TMPDIR", "XDG_CONFIG_HOME", "MRCI_DIR", "MRCI_USER", "MRCI_PASSWORD", "MRCI_NEW_PASSWORD"} {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	if st.drop {
		dropRights(cmd)
	}
	return cmd
}

// ended takes over what a program left behind.
func (st *stage) ended(ts *testscript.TestScript, p *process, neg bool) {
	p.check(ts)
	ts.Stdout().Write([]byte(p.stdout.String())) // into memory
	ts.Stderr().Write([]byte(p.stderr.String()))
	st.status = p.status
	if neg == (p.status == 0) {
		ts.Fatalf("%v: exit status %d\n%s%s", p.cmd.Args, p.status, p.stdout, p.stderr)
	}
}

func hostVerb(ts *testscript.TestScript, neg bool, args []string) {
	st, dir := stageOf(ts), ts.Getenv("dir")
	if len(args) == 0 {
		ts.Fatalf("usage: host start|stop|pause|resume")
	}
	if args[0] == "start" {
		h := startHost(ts, st.command(ts, hostArgs(dir, args[1:])...), dir)
		if h.addr == "" || neg {
			h.finish(0)
			if h.addr != "" {
				ts.Fatalf("the host has started:\n%s", h.stdout)
			}
			st.ended(ts, h.process, neg)
			return
		}
		st.hosts[dir] = h
		_, port, err := net.SplitHostPort(h.addr)
		ts.Check(err)
		for name, value := range map[string]string{
			"addr": h.addr, "port": port, "user": h.user, "password": h.password, "fingerprint": h.fingerprint,
		} {
			ts.Setenv(name, value)
		}
		ts.Stdout().Write([]byte(h.stdout.String())) // into memory
		return
	}
	h := st.hosts[dir]
	if h == nil || neg {
		ts.Fatalf("no host runs below %s", dir)
	}
	switch args[0] {
	case "stop":
		sig := syscall.SIGTERM
		if len(args) > 1 {
			sig = map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL}[args[1]]
		}
		delete(st.hosts, dir)
		h.stop(ts, sig)
		ts.Stdout().Write([]byte(h.stdout.String())) // into memory
		ts.Stderr().Write([]byte(h.stderr.String()))
	case "pause":
		ts.Check(h.cmd.Process.Signal(syscall.SIGSTOP))
	case "resume":
		ts.Check(h.cmd.Process.Signal(syscall.SIGCONT))
	default:
		ts.Fatalf("host %s: no such verb", args[0])
	}
}

func mrciVerb(ts *testscript.TestScript, neg bool, args []string) {
	st := stageOf(ts)
	stdin := ""
	if len(args) > 0 && strings.HasPrefix(args[0], "<") {
		stdin = ts.ReadFile(args[0][1:])
		args = args[1:]
	}
	cmd := st.command(ts, args...)
	cmd.Stdin = strings.NewReader(stdin)
	p, err := start(cmd, false)
	ts.Check(err)
	if !p.finish(patience) {
		ts.Fatalf("%v does not end:\n%s%s", cmd.Args, p.stdout, p.stderr)
	}
	st.ended(ts, p, neg)
}

func expectVerb(ts *testscript.TestScript, neg bool, args []string) {
	st := stageOf(ts)
	if len(args) < 2 {
		ts.Fatalf("usage: expect FILE ARGS")
	}
	cmd := st.command(ts, args[1:]...)
	stdin, err := cmd.StdinPipe()
	ts.Check(err)
	p, err := start(cmd, true)
	ts.Check(err)
	defer p.finish(0)
	seen := 0
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		line = os.Expand(strings.TrimSpace(line), ts.Getenv)
		what, text, _ := strings.Cut(line, " ")
		switch what {
		case "", "#":
		case ">":
			// A program that has ended says so below.
			io.WriteString(stdin, text+"\n")
		case "<":
			re, err := regexp.Compile(text)
			ts.Check(err)
			end, ok := p.await(p.stdout, seen, re)
			if !ok {
				ts.Fatalf("no %q behind:\n%s\nbut:\n%s", text, p.stdout.String()[:seen], p.stdout.String()[seen:])
			}
			seen = end
		default:
			ts.Fatalf("%s: want a line with > or <: %q", args[0], line)
		}
	}
	stdin.Close() // the program may have done so
	if !p.finish(patience) {
		ts.Fatalf("%v does not end:\n%s", cmd.Args, p.stdout)
	}
	st.ended(ts, p, neg)
}

func statusVerb(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: status N")
	}
	if got := strconv.Itoa(stageOf(ts).status); (got == args[0]) == neg {
		ts.Fatalf("exit status %s, want %s", got, args[0])
	}
}

// nobody is an account that owns nothing.
const nobody = 65534

// dropRights makes a command of root run as nobody.
func dropRights(cmd *exec.Cmd) {
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
}

// canDrop reports whether programs can run without rights: root may be
// forbidden to change accounts, or have its temporary files where nobody comes.
var canDrop = sync.OnceValue(func() bool {
	cmd := exec.Command(binary, "version")
	dropRights(cmd)
	return cmd.Run() == nil
})

func unprivilegedVerb(ts *testscript.TestScript, neg bool, args []string) {
	st := stageOf(ts)
	st.drop = true
	if os.Getuid() != 0 {
		return
	}
	work := ts.Getenv("WORK")
	ts.Check(os.Chmod(filepath.Dir(work), 0o711)) // made for the scripts alone
	ts.Check(filepath.WalkDir(work, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, nobody, nobody)
	}))
}
