package control_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mrci.dev/mrci/internal/control"
)

// activatedChild takes over the sockets that it was started with, and answers
// one connection on each. A service manager knows the pid; a test does not, so
// that the child says which environment it has.
func activatedChild() int {
	environ := map[string]string{"LISTEN_PID": strconv.Itoa(os.Getpid()), "LISTEN_FDS": os.Getenv("FDS"), "LISTEN_FDNAMES": os.Getenv("NAMES")}
	given := make(map[string]bool) // the sockets, by what Linux calls them
	for _, fd := range []string{"3", "4"} {
		if name, err := os.Readlink("/proc/self/fd/" + fd); err == nil {
			given[name] = true
		}
	}
	unset := func(name string) error { delete(environ, name); return nil }
	all, err := control.Listeners(func(name string) string { return environ[name] }, unset)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if len(environ) > 0 {
		fmt.Println("still in the environment:", environ)
		return 1
	}
	fmt.Println("listeners", len(all))
	for _, l := range all {
		c, err := l.Accept()
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Fprintf(c, "hello from %s\n", l.Addr())
		c.Close()
	}
	// What a process that is started now has.
	out, err := exec.Command("/bin/sh", "-c", "ls -l /proc/self/fd 2>/dev/null || true").Output()
	inherited := 0
	for _, word := range strings.Fields(string(out)) {
		if given[word] {
			inherited++
		}
	}
	fmt.Println("known", len(given), "inherited", inherited, err)
	for _, l := range all {
		l.Close()
	}
	return 0
}

func tcp(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// activated starts the child with files from descriptor 3 on.
func activated(t *testing.T, fds, names string, files ...interface{ File() (*os.File, error) }) (wait func() string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), quickExit, childEnv+"=activated", "FDS="+fds, "NAMES="+names)
	for _, of := range files {
		f, err := of.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() string {
		cmd.Wait() // what it says tells more than its status
		return out.String()
	}
}

func TestListeners(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no service manager there opens sockets for others")
	}
	one, two := tcp(t), tcp(t)
	wait := activated(t, "2", "web:other", one, two)
	for _, l := range []*net.TCPListener{one, two} {
		addr := l.Addr().String()
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := readAll(c), "hello from "+addr+"\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		c.Close()
	}
	out := wait()
	if !strings.Contains(out, "listeners 2\n") {
		t.Errorf("the child says %q", out)
	}
	if runtime.GOOS == "linux" && !strings.Contains(out, "known 2 inherited 0 <nil>") {
		t.Errorf("the child says %q, want nothing inherited", out)
	}
}

func TestListenersRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no service manager there opens sockets for others")
	}
	dir := shortDir(t)
	file, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	local, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	datagrams, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	good := tcp(t)
	c, err := net.Dial("tcp", good.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	type filer = interface{ File() (*os.File, error) }
	tests := map[string]struct {
		fds, names string
		files      []filer
		want       []string
	}{
		"none":          {"0", "", nil, []string{"listeners 0"}},
		"no number":     {"x", "", nil, []string{"LISTEN_FDS", `"x"`}},
		"negative":      {"-1", "", nil, []string{"LISTEN_FDS", `"-1"`}},
		"far too many":  {"1000000000", "", nil, []string{"LISTEN_FDS"}},
		"a file":        {"1", "mrci.socket", []filer{filer(plainFile{file})}, []string{`descriptor 3 ("mrci.socket")`, "not a socket"}},
		"a unix socket": {"2", "good:local", []filer{good, local}, []string{`descriptor 4 ("local")`, "not a TCP socket"}},
		"datagrams":     {"1", "", []filer{datagrams}, []string{"descriptor 3", "not a TCP socket"}},
		"a connection":  {"1", "", []filer{c.(*net.TCPConn)}, []string{"descriptor 3", "does not listen"}},
		"not open":      {"60", "", []filer{good}, []string{"descriptor 62", "is not open"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			out := activated(t, test.fds, test.names, test.files...)()
			if slices.ContainsFunc(test.want, func(part string) bool { return !strings.Contains(out, part) }) {
				t.Errorf("the child says %q, want %q in it", out, test.want)
			}
		})
	}
}

// plainFile has itself as its file.
type plainFile struct{ f *os.File }

func (p plainFile) File() (*os.File, error) { return os.Open(p.f.Name()) }

func TestListenersOfAnother(t *testing.T) {
	for name, pid := range map[string]string{"another process": strconv.Itoa(os.Getpid() + 1), "nobody": "", "garbage": "x"} {
		t.Run(name, func(t *testing.T) {
			environ := map[string]string{"LISTEN_PID": pid, "LISTEN_FDS": "1"}
			all, err := control.Listeners(func(name string) string { return environ[name] }, func(name string) error {
				delete(environ, name)
				return nil
			})
			if all != nil || err != nil || environ["LISTEN_FDS"] != "" {
				t.Errorf("got %v, %v, environment %v; want nothing", all, err, environ)
			}
		})
	}
}
