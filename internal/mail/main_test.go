package mail_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/mail"
)

// program is the name under which the test binary plays the mail program.
const program = "fakemail"

// What the test tells the mail program.
const (
	modeEnv   = "MAILTEST_MODE"
	recordEnv = "MAILTEST_RECORD" // file for what it was given
	dialEnv   = "MAILTEST_DIAL"   // address to connect to; the program lives as long as the connection
)

func TestMain(m *testing.M) {
	if strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe") == program {
		os.Exit(play())
	}
	goleak.VerifyTestMain(m)
}

// given is what the mail program got.
type given struct {
	Args  []string
	Env   map[string]string // the variables of the host
	Stdin string
}

func play() int {
	switch os.Getenv(modeEnv) {
	case "fail":
		body, err := io.ReadAll(os.Stdin)
		if err != nil {
			return 99
		}
		fmt.Fprintf(os.Stderr, "cannot send to %s:\n%s", strings.ToUpper(os.Args[len(os.Args)-1]), body)
		return 7
	case "flood":
		for range 1000 {
			fmt.Println(strings.Repeat("x", 1000))
		}
		return 3
	case "hang":
		return hold(nil)
	case "leave": // ends, while a child of it goes on with the pipes
		return bear(func(*exec.Cmd) int { return 0 })
	case "family": // hangs together with a child
		return bear(func(child *exec.Cmd) int { return hold(func() { _ = child.Wait() }) })
	}
	g := given{Args: os.Args[1:], Env: make(map[string]string)}
	for _, v := range os.Environ() {
		if name, value, _ := strings.Cut(v, "="); strings.HasPrefix(name, "MRCI_") {
			g.Env[name] = value
		}
	}
	body, err := io.ReadAll(os.Stdin)
	if err != nil {
		return 99
	}
	g.Stdin = string(body)
	text, err := json.Marshal(g)
	if err == nil {
		err = os.WriteFile(os.Getenv(recordEnv), text, 0o600)
	}
	if err != nil {
		return 99
	}
	return 0
}

// hold lives as long as the connection to the test.
func hold(then func()) int {
	conn, err := net.Dial("tcp", os.Getenv(dialEnv))
	if err != nil {
		return 99
	}
	_, _ = io.Copy(io.Discard, conn)
	if then != nil {
		then()
	}
	return 0
}

func bear(then func(child *exec.Cmd) int) int {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), modeEnv+"=hang")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	if child.Start() != nil {
		return 99
	}
	return then(child)
}

// fakeProgram returns the path of the mail program, in a directory without
// signs that need quotes, and changes into an empty directory.
func fakeProgram(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), program)
	if err := os.Symlink(exe, path); err != nil {
		t.Skipf("symbolic links do not work here: %v", err)
	}
	t.Setenv("GORACE", "atexit_sleep_ms=0") // under -race each end of the program would take a second
	t.Setenv(recordEnv, filepath.Join(t.TempDir(), "record"))
	t.Chdir(t.TempDir())
	return path
}

// record returns what the program got, and false if it never ran.
func record(t *testing.T) (given, bool) {
	t.Helper()
	var g given
	text, err := os.ReadFile(os.Getenv(recordEnv))
	if errors.Is(err, os.ErrNotExist) {
		return g, false
	}
	if err == nil {
		err = json.Unmarshal(text, &g)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g, true
}

// lifeline is a listener for programs that hang.
func lifeline(t *testing.T) net.Listener {
	t.Helper()
	l := listen(t)
	t.Setenv(dialEnv, l.Addr().String())
	return l
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// wantEnd waits until the program behind the connection has ended.
func wantEnd(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the program still runs: %v", err)
	}
}

// message is a mail that nothing is wrong with.
func message() mail.Message {
	return mail.Message{
		To:      "ann@example.org",
		Subject: "MRCI password reset",
		Body:    account.Secret("Hello ann,\nthe code is\n\ns3cr3t-c0de\n"),
		Code:    account.Secret("s3cr3t-c0de"),
	}
}

// wantField checks that err is a *FieldError about the field and does not have
// the value in it.
func wantField(t *testing.T, err error, field, value string) {
	t.Helper()
	var f *mail.FieldError
	if !errors.As(err, &f) {
		t.Fatalf("got %v, want a *FieldError about %s", err, field)
	}
	if f.Field != field {
		t.Errorf("field: got %q, want %q (%v)", f.Field, field, err)
	}
	if len(value) > 3 && strings.Contains(err.Error(), value) {
		t.Errorf("the error repeats the value: %q", err)
	}
}

// wantText checks that err has all the texts in it, in one line, and no secret.
func wantText(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", texts)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("got %q, want %q in it", err, text)
		}
	}
	for _, secret := range []string{"\n", "s3cr3t", "Hello ann", "ann@", "ANN@", "sesame"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q is in the error %q", secret, err)
		}
	}
}
