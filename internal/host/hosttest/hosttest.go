// Package hosttest gives a test a complete host inside its own process: on
// loopback, with a temporary database and cheap password hashing. It is for
// anything that needs two sessions.
package hosttest

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/control"
	"mrci.dev/mrci/internal/fsys"
	"mrci.dev/mrci/internal/host"
	"mrci.dev/mrci/internal/registry"
	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/wire"
)

// Password is the password of every account that Host.User makes.
const Password = "Correct-horse7"

// Host is a host that runs until the test ends.
type Host struct {
	*host.Host
	// Dir is where the host keeps its files.
	Dir string
	// Conf is the configuration that it was started with.
	Conf conf.Config

	t    testing.TB
	log  *syncBuffer
	stop context.CancelFunc
	done chan error
	once sync.Once
}

// Option changes how a host is started.
type Option func(*options)

type options struct {
	dir   string
	set   []string
	extra []registry.Builtin
	now   func() time.Time
}

// Set sets a key of the configuration, as --set does.
func Set(assignments ...string) Option {
	return func(o *options) { o.set = append(o.set, assignments...) }
}

// Commands adds commands behind the built-in ones.
func Commands(extra ...registry.Builtin) Option {
	return func(o *options) { o.extra = append(o.extra, extra...) }
}

// Clock is the wall clock of the host.
func Clock(now func() time.Time) Option {
	return func(o *options) { o.now = now }
}

// Dir starts the host on the files of an earlier one.
func Dir(dir string) Option {
	return func(o *options) { o.dir = dir }
}

// Start starts a host and stops it at the end of the test. Its log is printed
// when the test has failed.
func Start(t testing.TB, opts ...Option) *Host {
	t.Helper()
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	if o.dir == "" {
		o.dir = t.TempDir()
	}
	dirs, err := conf.Locate(o.dir, func(string) string { return "" }, 1000, o.dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := conf.Load(dirs.File(), dirs)
	if err != nil {
		c = conf.Defaults(dirs)
	}
	set := append([]string{
		"listening_addr=127.0.0.1", "listening_port=0", "argon2_kib=1024", "argon2_time=1", "log_level=debug",
	}, o.set...)
	if err := c.Set(set...); err != nil {
		t.Fatal(err)
	}
	h := &Host{Dir: o.dir, Conf: c, t: t, log: new(syncBuffer), done: make(chan error, 1)}
	logger := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: c.LogLevel}))
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	load := func() (conf.Config, error) {
		next, err := conf.Load(dirs.File(), dirs)
		if err != nil {
			return next, err
		}
		return next, next.Set(set...)
	}
	config := host.Config{Conf: c, Version: "test", Log: logger, Load: load, Now: o.now, Extra: o.extra}
	if h.Host, err = host.Open(ctx, config); err != nil {
		stop()
		t.Fatal(err)
	}
	go func() { h.done <- h.Run(ctx) }() // awaited by Stop
	t.Cleanup(h.Stop)
	return h
}

// Stop stops the host and waits until it has ended.
func (h *Host) Stop() {
	h.once.Do(func() {
		h.stop()
		select {
		case err := <-h.done:
			if err != nil {
				h.t.Errorf("host ended with: %v", err)
			}
		case <-time.After(30 * time.Second):
			h.t.Error("host did not stop within 30 s")
		}
		if h.t.Failed() {
			h.t.Logf("log of the host:\n%s", h.log.String())
		}
	})
}

// Log returns what the host has logged so far.
func (h *Host) Log() string { return h.log.String() }

// Address returns where the host listens, as clients name it.
func (h *Host) Address() string { return h.Addr().String() }

// User makes an account with the rank and Password.
func (h *Host) User(name string, rank wire.Rank) account.User {
	h.t.Helper()
	ctx := context.Background()
	user, err := h.Accounts().Create(ctx, account.NewAccount{Name: name, Email: name + "@example.org"}, account.Secret(Password))
	if err != nil {
		h.t.Fatalf("make user %s: %v", name, err)
	}
	return h.Change(user.ID, func(r *account.Record) error {
		r.Rank = rank
		return nil
	})
}

// Change alters an account behind the rules' back, as a second process can.
func (h *Host) Change(id wire.UserID, change func(*account.Record) error) account.User {
	h.t.Helper()
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{Path: h.Conf.DBHostName})
	if err != nil {
		h.t.Fatal(err)
	}
	defer s.Close()
	record, err := s.Change(ctx, id, change)
	if err != nil {
		h.t.Fatalf("change user: %v", err)
	}
	return record.User
}

// Write writes conf.json, as an administrator would. The values of Set stand
// above it.
func (h *Host) Write(text string) {
	h.t.Helper()
	if err := fsys.Replace(h.Conf.Dirs.File(), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// Ask sends a request to the host's control socket.
func (h *Host) Ask(command string, args ...string) control.Answer {
	h.t.Helper()
	path, err := control.SocketPath(h.Conf.Dirs.Runtime, h.Conf.Dirs.AccountRuntime)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a, err := control.Call(ctx, path, control.Request{Command: command, Args: args})
	if err != nil {
		h.t.Fatalf("ask %s: %v", command, err)
	}
	return a
}

// File returns the path of one of the host's files.
func (h *Host) File(name string) string { return filepath.Join(h.Dir, name) }

// Silent is a log that nobody reads.
func Silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Refused makes sure that a connection to addr is not served: it cannot be
// made, or is closed before a header comes.
func Refused(t testing.TB, addr string) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, _ = nc.Write(wire.ClientHeader{AppName: "hosttest"}.Append(nil)) // it may be closed already
	if n, err := nc.Read(make([]byte, 1)); n > 0 || os.IsTimeout(err) {
		t.Fatalf("%s serves: %d bytes, %v", addr, n, err)
	}
}

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
