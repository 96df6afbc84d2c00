//go:build unix

package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// The commands of the README's first minute.
var firstMinute = []string{"go run ./cmd/mrci host", "go run ./cmd/mrci connect", "go test ./..."}

func TestReadmeNamesTheFirstCommands(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range firstMinute {
		if !strings.Contains(string(text), "\n    "+command+"\n") {
			t.Errorf("README.md has no line %q of its own", command)
		}
	}
}

// TestReadme does what the README says, in a clean copy of the last commit and
// with an empty home. The directory is given, because for root it would be the
// machine's, and the port, because the usual one may be taken.
func TestReadme(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: compiles a copy of the tree")
	}
	tree := checkout(t)
	env := append(cleanEnv(t), "MRCI_DIR="+filepath.Join(t.TempDir(), "mrci"))
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOFLAGS", "GOPROXY"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(value)))
	}
	goRun := func(args string) *exec.Cmd {
		words := strings.Fields(args)
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Dir, cmd.Env = tree, env
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // go run passes no signal on
		return cmd
	}

	// How long the compiler takes is not the host's doing.
	if text, err := goRun("go build -o /dev/null ./cmd/mrci").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	host, err := start(goRun(firstMinute[0]+" --listen 127.0.0.1:0"), false)
	if err != nil {
		t.Fatal(err)
	}
	group := -host.cmd.Process.Pid
	t.Cleanup(func() {
		syscall.Kill(group, syscall.SIGKILL) // it has ended, unless the test failed
		host.finish(0)
	})
	if _, ok := host.await(host.stdout, 0, listening); !ok {
		t.Fatalf("%s says no address:\n%s%s", firstMinute[0], host.stdout, host.stderr)
	}
	for _, want := range []*regexp.Regexp{madeUser, madePass, regexp.MustCompile(regexp.QuoteMeta(firstMinute[1]))} {
		if !want.MatchString(host.stdout.String()) {
			t.Errorf("the host does not print %q:\n%s", want, host.stdout)
		}
	}

	cmd := goRun(firstMinute[1])
	oneTime := madePass.FindStringSubmatch(host.stdout.String())[1]
	cmd.Stdin = strings.NewReader("auth -user admin\n" + oneTime + "\n" + password + "\nmy_info\n")
	connect, err := start(cmd, false)
	if err != nil {
		t.Fatal(err)
	}
	if !connect.finish(patience) || connect.status != 0 || !strings.Contains(connect.stdout.String(), "user name: admin") {
		t.Errorf("%s: exit status %d\n%s%s", firstMinute[1], connect.status, connect.stdout, connect.stderr)
	}

	if err := syscall.Kill(group, syscall.SIGINT); err != nil { // as Ctrl-C does
		t.Fatal(err)
	}
	// The exit status is that of go run, which is always 1 here.
	if !host.finish(stopTime) || !strings.Contains(host.stderr.String(), `msg="host stopped"`) {
		t.Errorf("the host did not stop in order after Ctrl-C:\n%s", host.stderr)
	}
}

// checkout writes the last commit into a directory of its own.
func checkout(t *testing.T) string {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "tree.tar")
	cmd := exec.Command("git", "-C", "..", "archive", "--output", archive, "HEAD")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("needs git and the repository: %v %s", err, out)
	}
	tree := t.TempDir()
	if out, err := exec.Command("tar", "-xf", archive, "-C", tree).CombinedOutput(); err != nil {
		t.Fatalf("unpack the tree: %v %s", err, out)
	}
	return tree
}
