package control_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mrci.dev/mrci/internal/control"
)

// childEnv names what the test binary does when a test starts it as another
// process.
const childEnv = "MRCI_CONTROL_TEST_CHILD"

// quickExit spares a child the second that the race detector waits at exit.
const quickExit = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		os.Exit(child(what))
	}
	goleak.VerifyTestMain(m)
}

func child(what string) int {
	switch what {
	case "lock": // until standard input ends, or somebody kills it
		if _, err := control.Acquire(os.Args[1]); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("locked")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0 // without Release
	case "call":
		a, err := control.Call(context.Background(), os.Args[1], control.Request{Command: "status"})
		fmt.Printf("status %d, error %q, text %q, err %v\n", a.Status, a.Error, a.Text, err)
		return 0
	case "activated":
		return activatedChild()
	}
	return 2
}

// shortDir is a directory whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "c")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// journal is a log that a test can read.
type journal struct {
	mu sync.Mutex
	b  strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// running is a server that serves.
type running struct {
	*control.Server
	lock *control.Lock
	log  *journal
	stop context.CancelFunc // ends Serve
	done chan error         // what Serve has returned
}

// start serves in a new directory until the test ends.
func start(t *testing.T, cfg control.Config, handle control.Handler) *running {
	t.Helper()
	r := prepare(t, cfg)
	r.serve(t, handle)
	return r
}

func prepare(t *testing.T, cfg control.Config) *running {
	t.Helper()
	r := &running{log: new(journal), done: make(chan error, 1)}
	var err error
	if cfg.Lock == nil {
		dir := filepath.Join(shortDir(t), "run")
		cfg.Lock, err = control.Acquire(dir)
		if err != nil {
			t.Fatal(err)
		}
	}
	r.lock = cfg.Lock
	t.Cleanup(func() { r.lock.Release() })
	cfg.Log = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if r.Server, err = control.Listen(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func (r *running) serve(t *testing.T, handle control.Handler) {
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	r.stop = stop
	go func() { r.done <- r.Serve(ctx, handle) }() // Close, at the end of the test, waits for it
}

func (r *running) call(t *testing.T, command string, args ...string) control.Answer {
	t.Helper()
	a, err := control.Call(deadline(t), r.Path(), control.Request{Command: command, Args: args})
	if err != nil {
		t.Fatalf("call %s: %v", command, err)
	}
	return a
}

// deadline is a context for what must not hang.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// echo answers with the request.
func echo(_ context.Context, r control.Request) control.Answer {
	return control.Answer{Text: r.Command + " " + strings.Join(r.Args, "|")}
}
