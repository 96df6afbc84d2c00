package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mrci.dev/mrci/internal/control"
)

func TestCall(t *testing.T) {
	s := start(t, control.Config{}, func(_ context.Context, r control.Request) control.Answer {
		return control.Answer{Status: 3, Text: r.Command + " " + strings.Join(r.Args, "|"), Error: "no <b> & such", Data: json.RawMessage("{\n\"a\": [1, 2]\n}")}
	})
	a := s.call(t, "status", "ä\n", "", "-v")
	if want := "status ä\n||-v"; a.Status != 3 || a.Text != want || a.Error != "no <b> & such" || string(a.Data) != `{"a":[1,2]}` || a.Hold {
		t.Errorf("got %+v (data %s), want status 3 and text %q", a, a.Data, want)
	}
	if n := s.Counters()["requests"]; n != 1 {
		t.Errorf("counted %d requests, want 1", n)
	}
}

func TestCallAtOnce(t *testing.T) {
	s := start(t, control.Config{}, echo)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 50 {
				want := fmt.Sprintf("%d-%d", i, j)
				a, err := control.Call(context.Background(), s.Path(), control.Request{Command: "echo", Args: []string{want}})
				if err != nil || a.Text != "echo "+want {
					t.Errorf("got %+v, %v; want %q", a, err, want)
					return
				}
			}
		})
	}
	all.Wait()
}

func TestNotRunning(t *testing.T) {
	dir := shortDir(t)
	stale := filepath.Join(dir, "stale.sock")
	leave(t, stale)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"nothing": filepath.Join(dir, "none"), "no directory": filepath.Join(dir, "none", "none"), "left over": stale, "a file": file,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := control.Call(deadline(t), path, control.Request{Command: "status"})
			if !errors.Is(err, control.ErrNotRunning) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want ErrNotRunning with the path", err)
			}
		})
	}
}

// leave leaves a socket as a crash does.
func leave(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestCallRefuses(t *testing.T) {
	s := start(t, control.Config{}, echo)
	for name, r := range map[string]control.Request{
		"no command": {},
		"two words":  {Command: "a b"},
		"not UTF-8":  {Command: "a", Args: []string{"\xff"}},
		"too long":   {Command: "a", Args: []string{strings.Repeat("x", control.MaxRequest)}},
	} {
		t.Run(name, func(t *testing.T) {
			if a, err := control.Call(deadline(t), s.Path(), r); err == nil {
				t.Errorf("got %+v, want an error", a)
			}
		})
	}
	if n := s.Counters()["requests"]; n != 0 {
		t.Errorf("%d requests have reached the host", n)
	}
}

func TestListen(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	t.Run("in place of a socket that was left", func(t *testing.T) {
		lock, err := control.Acquire(shortDir(t))
		if err != nil {
			t.Fatal(err)
		}
		leave(t, filepath.Join(lock.Dir(), "control.sock"))
		s := start(t, control.Config{Lock: lock}, echo)
		s.call(t, "status")
	})
	t.Run("not in place of a file", func(t *testing.T) {
		lock, err := control.Acquire(shortDir(t))
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Release()
		file := filepath.Join(lock.Dir(), "control.sock")
		if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := control.Listen(control.Config{Lock: lock, Log: log}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("got %v, want an error that names the file", err)
		}
		if text, err := os.ReadFile(file); string(text) != "precious" {
			t.Errorf("the file has %q, %v", text, err)
		}
	})
	t.Run("not without the lock", func(t *testing.T) {
		if _, err := control.Listen(control.Config{Log: log}); err == nil {
			t.Error("no lock: want an error")
		}
		lock, err := control.Acquire(shortDir(t))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(lock.Dir(), "control.sock")
		leave(t, path)
		lock.Release()
		if _, err := control.Listen(control.Config{Lock: lock, Log: log}); err == nil {
			t.Error("lock released: want an error")
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("another's socket was removed: %v", err)
		}
	})
	t.Run("under a hash", func(t *testing.T) {
		base := shortDir(t)
		lock, err := control.Acquire(filepath.Join(base, strings.Repeat("d", 110)))
		if err != nil {
			t.Fatal(err)
		}
		account := filepath.Join(base, "account")
		s := start(t, control.Config{Lock: lock, AccountRuntime: account}, echo)
		if filepath.Dir(s.Path()) != account {
			t.Errorf("socket at %q, want it in %q", s.Path(), account)
		}
		s.call(t, "status")
	})
}

// TestStop follows the order of a host that ends.
func TestStop(t *testing.T) {
	asked := make(chan struct{}, 2)
	s := start(t, control.Config{}, func(_ context.Context, r control.Request) control.Answer {
		asked <- struct{}{}
		return control.Answer{Text: "stopping", Hold: r.Command == "stop"}
	})
	type result struct {
		a   control.Answer
		err error
	}
	ended := make(chan result, 1)
	ctx := deadline(t)
	go func() {
		a, err := control.CallUntilEnd(ctx, s.Path(), control.Request{Command: "stop"})
		ended <- result{a, err}
	}()
	<-asked
	// Meanwhile others are served, also those who would have waited for the end.
	if a, err := control.CallUntilEnd(ctx, s.Path(), control.Request{Command: "status"}); err != nil || a.Text != "stopping" {
		t.Errorf("status: %+v, %v", a, err)
	}
	s.stop()
	if err := <-s.done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := os.Lstat(s.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("socket after Serve: %v, want none", err)
	}
	select {
	case r := <-ended:
		t.Errorf("the client was told of the end before Close: %+v", r)
	default:
	}
	s.lock.Release()
	s.Close()
	if r := <-ended; r.err != nil || r.a.Text != "stopping" || !r.a.Hold {
		t.Errorf("got %+v, want the answer to stop", r)
	}
	next, err := control.Acquire(s.lock.Dir())
	if err != nil {
		t.Errorf("the next host: %v", err)
	} else {
		next.Release()
	}
}

// TestCloseAfterNext must not take away the socket of the next host.
func TestCloseAfterNext(t *testing.T) {
	first := prepare(t, control.Config{})
	first.lock.Release()
	lock, err := control.Acquire(first.lock.Dir())
	if err != nil {
		t.Fatal(err)
	}
	second := start(t, control.Config{Lock: lock}, echo)
	first.Close()
	second.call(t, "status")
	if !strings.Contains(first.log.String(), "not removed") {
		t.Errorf("log of the first: %q, want that its socket was not removed", first.log)
	}
}

func TestServeEnds(t *testing.T) {
	began := make(chan struct{})
	s := start(t, control.Config{}, func(ctx context.Context, r control.Request) control.Answer {
		close(began)
		<-ctx.Done()
		return control.Answer{Text: "interrupted"}
	})
	// One that has not asked yet, one whose request runs.
	silent := dial(t, s.Path())
	answered := make(chan control.Answer, 1)
	go func() {
		a, err := control.Call(context.Background(), s.Path(), control.Request{Command: "backup"})
		if err != nil {
			t.Error(err)
		}
		answered <- a
	}()
	<-began
	s.stop()
	if err := <-s.done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if a := <-answered; a.Text != "interrupted" {
		t.Errorf("got %+v, want what the handler has said", a)
	}
	// It may have been in the queue of the socket still.
	if text := readAll(silent); text != "" && !strings.Contains(text, "the host stops") {
		t.Errorf("got %q, want that the host stops", text)
	}
	if err := s.Serve(context.Background(), echo); err == nil {
		t.Error("Serve again: want an error")
	}
	s.Close()
	s.Close()
}

func TestCloseUnserved(t *testing.T) {
	s := prepare(t, control.Config{})
	s.Close()
	if _, err := os.Lstat(s.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("socket after Close: %v, want none", err)
	}
	if err := s.Serve(context.Background(), echo); err == nil {
		t.Error("Serve after Close: want an error")
	}
}

func TestPanic(t *testing.T) {
	s := start(t, control.Config{}, func(_ context.Context, r control.Request) control.Answer {
		if r.Command == "status" {
			return control.Answer{Text: "fine"}
		}
		panic("secret of the stack")
	})
	if a := s.call(t, "reload"); a.Status != 1 || a.Error == "" || strings.Contains(a.Error, "secret") {
		t.Errorf("got %+v, want an error without details", a)
	}
	if log := s.log.String(); !strings.Contains(log, "secret of the stack") || !strings.Contains(log, "server_test.go") {
		t.Errorf("log has no stack: %q", log)
	}
	if a := s.call(t, "status"); a.Text != "fine" {
		t.Errorf("afterwards: %+v", a)
	}
}

func TestBadAnswers(t *testing.T) {
	s := start(t, control.Config{}, func(_ context.Context, r control.Request) control.Answer {
		if r.Command == "huge" {
			return control.Answer{Text: strings.Repeat("x", control.MaxAnswer)}
		}
		return control.Answer{Data: json.RawMessage("{not json")}
	})
	for _, command := range []string{"huge", "data"} {
		if a := s.call(t, command); a.Status != 1 || a.Error == "" {
			t.Errorf("%s: got status %d, error %q; want an error", command, a.Status, a.Error)
		}
	}
	if !strings.Contains(s.log.String(), "too long") {
		t.Errorf("log: %q", s.log)
	}
}

func TestLargeAnswer(t *testing.T) {
	want := strings.Repeat("0123456789abcde\n", 200_000) // each line feed becomes two bytes
	s := start(t, control.Config{WriteTimeout: time.Minute}, func(context.Context, control.Request) control.Answer {
		return control.Answer{Text: want}
	})
	if a := s.call(t, "logs"); a.Text != want {
		t.Errorf("got %d bytes, want %d", len(a.Text), len(want))
	}
}

func dial(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(2 * time.Minute)) // so that a test never hangs
	return c
}

// readAll returns what comes until the connection ends, in whatever way.
func readAll(c net.Conn) string {
	text, _ := io.ReadAll(c)
	return string(text)
}

// TestHostileRequests sends what is no request. Each is answered, and the
// next client is served.
func TestHostileRequests(t *testing.T) {
	s := start(t, control.Config{ReadTimeout: time.Hour}, echo)
	for name, test := range map[string]struct {
		send string
		half bool // nothing more comes, instead of the end
		want string
	}{
		"garbage":          {send: "\x00\xff\x16\x03\x01GET / HTTP/1.1\n", want: "not UTF-8"},
		"another protocol": {send: "GET / HTTP/1.1\r\n\r\n", want: "not understood"},
		"an empty line":    {send: "\n", want: "not understood"},
		"half a line":      {send: `{"command":"sta`, want: "half a request"},
		"gone":             {want: ""},
		"a huge line":      {send: strings.Repeat("x", control.MaxRequest+1), half: true, want: "too long"},
		"too long by one":  {send: `{"command":"` + strings.Repeat("x", control.MaxRequest-14) + "\"}\n", want: "too long"},
		"several lines":    {send: "{\"command\":\"a\"}\n{\"command\":\"b\"}\n{\"comm", want: `{"status":0,"text":"a "}` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, s.Path())
			_, _ = io.WriteString(c, test.send) // may be refused before its end
			if !test.half {
				c.CloseWrite()
			}
			got := readAll(c)
			if test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("got %q, want one with %q", got, test.want)
			}
			if a := s.call(t, "echo"); a.Text != "echo " {
				t.Errorf("the next client: %+v", a)
			}
		})
	}
}

// TestSilentClients begin a request, or do not, and say nothing more. Each is
// told why it is not waited for, and its place is free again.
func TestSilentClients(t *testing.T) {
	const late, busy = "no request within", "the host is busy"
	s := start(t, control.Config{ReadTimeout: 50 * time.Millisecond, MaxClients: 1}, echo)
	for name, begin := range map[string]string{"half a line": `{"command":"sta`, "nothing": ""} {
		t.Run(name, func(t *testing.T) {
			// The place of a client that was answered is free a moment later.
			got := busy
			for strings.Contains(got, busy) {
				c := dial(t, s.Path())
				_, _ = io.WriteString(c, begin) // it may be late or refused already
				got = readAll(c)
			}
			if !strings.Contains(got, late) {
				t.Errorf("got %q, want one with %q", got, late)
			}
			// The next one is served, if it is quick enough itself.
			a := s.call(t, "echo")
			for strings.Contains(a.Error, late) || strings.Contains(a.Error, busy) {
				a = s.call(t, "echo")
			}
			if a.Text != "echo " {
				t.Errorf("the next client: %+v", a)
			}
		})
	}
}

// TestEndlessLine must neither be kept nor read for ever.
func TestEndlessLine(t *testing.T) {
	s := start(t, control.Config{}, echo)
	c := dial(t, s.Path())
	sent := 0
	for part := bytes.Repeat([]byte("x"), 1<<16); sent < 64<<20; sent += len(part) {
		if _, err := c.Write(part); err != nil {
			break
		}
	}
	if sent >= 64<<20 {
		t.Errorf("the server has read %d bytes", sent)
	}
	s.call(t, "echo")
}

// TestSilentReader asks and never reads the answer: its place is free again,
// and others are served meanwhile.
func TestSilentReader(t *testing.T) {
	s := start(t, control.Config{MaxClients: 2, WriteTimeout: 50 * time.Millisecond}, func(_ context.Context, r control.Request) control.Answer {
		if r.Command == "much" {
			return control.Answer{Text: strings.Repeat("x", 8<<20)}
		}
		return control.Answer{Text: "fine"}
	})
	c := dial(t, s.Path())
	if _, err := io.WriteString(c, "{\"command\":\"much\"}\n"); err != nil {
		t.Fatal(err)
	}
	s.call(t, "status")
	// Until the server has given up, and has said so behind counting it.
	for s.Counters()["timeouts"] == 0 || !strings.Contains(s.log.String(), "takes no answer") {
		s.call(t, "status")
	}
}

func TestBusy(t *testing.T) {
	const max = 4
	asked, release := make(chan struct{}, max), make(chan struct{})
	s := start(t, control.Config{MaxClients: max}, func(ctx context.Context, r control.Request) control.Answer {
		asked <- struct{}{}
		select {
		case <-release:
		case <-ctx.Done():
		}
		return control.Answer{Text: "late"}
	})
	var served sync.WaitGroup
	for range max {
		served.Go(func() {
			a, err := control.Call(context.Background(), s.Path(), control.Request{Command: "wait"})
			if err != nil || a.Text != "late" {
				t.Errorf("got %+v, %v", a, err)
			}
		})
	}
	for range max {
		<-asked
	}
	if a := s.call(t, "status"); a.Status != 1 || !strings.Contains(a.Error, "busy") {
		t.Errorf("one too many: got %+v, want busy", a)
	}
	close(release)
	served.Wait()
}

// TestThousandsOfConnects has many come at once, some of which ask and most of
// which do not. Whoever keeps asking is served in the end.
func TestThousandsOfConnects(t *testing.T) {
	s := start(t, control.Config{ReadTimeout: 50 * time.Millisecond}, echo)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 400 {
				c, err := net.Dial("unix", s.Path())
				if err != nil {
					continue // the queue is full
				}
				switch (i + j) % 4 {
				case 0:
					io.WriteString(c, "{\"command\":\"a\"}\n")
				case 1:
					io.WriteString(c, "{\"comm")
				case 2:
					c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
					readAll(c)
				}
				c.Close()
			}
		})
	}
	all.Wait()
	ctx := deadline(t)
	for {
		a, err := control.Call(ctx, s.Path(), control.Request{Command: "echo"})
		if err != nil {
			t.Fatal(err)
		}
		if a.Status == 0 {
			break
		}
	}
	if n := strings.Count(s.log.String(), "refused"); n > 100 {
		t.Errorf("the log tells of %d refusals, want a few: %v", n, s.Counters())
	}
}

// TestStranger takes this process for one of another account.
func TestStranger(t *testing.T) {
	if self := os.Geteuid(); self < 0 {
		t.Skip("the system has no user ids")
	}
	s := prepare(t, control.Config{})
	s.AdmitNobody()
	s.serve(t, echo)
	for range 3 {
		a := s.call(t, "stop")
		if a.Status != 1 || !strings.Contains(a.Error, fmt.Sprintf("you are uid %d", os.Geteuid())) {
			t.Errorf("got %+v, want a refusal with the uid", a)
		}
	}
	if c := s.Counters(); c["refused_user"] != 3 || c["requests"] != 0 {
		t.Errorf("counted %v", c)
	}
	if n := strings.Count(s.log.String(), "refused_user"); n != 2 {
		t.Errorf("%d lines in the log, want 2 for 3 refusals: %q", n, s.log)
	}
}

// hostile is a server that says what a test wants.
func hostile(t *testing.T, serve func(c net.Conn)) (path string) {
	t.Helper()
	path = filepath.Join(shortDir(t), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		serve(c)
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return path
}

func TestHostileHosts(t *testing.T) {
	for name, test := range map[string]struct {
		say  string
		want string
	}{
		"nothing":       {"", "ended before it answered"},
		"half a line":   {`{"status":0`, "ended before it answered"},
		"garbage":       {"\x00\n", "not understood"},
		"a bad status":  {"{\"status\":256}\n", "status 256"},
		"no end of it":  {strings.Repeat("x", control.MaxAnswer), "too long"},
		"a wrong shape": {"[1]\n", "not understood"},
	} {
		t.Run(name, func(t *testing.T) {
			path := hostile(t, func(c net.Conn) {
				bufLine(c)
				io.WriteString(c, test.say)
			})
			a, err := control.Call(deadline(t), path, control.Request{Command: "status"})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %+v, %v; want an error with %q", a, err, test.want)
			}
		})
	}
}

// A host that is killed before it has read the request ends the connection in
// another way, and the words are the same.
func TestHostGoneUnread(t *testing.T) {
	path := hostile(t, func(c net.Conn) {
		io.ReadFull(c, make([]byte, 1)) // there is more by then
	})
	_, err := control.Call(deadline(t), path, control.Request{Command: "status"})
	if err == nil || err.Error() != "the host ended before it answered" {
		t.Errorf("got %v", err)
	}
}

// bufLine reads a request and no more.
func bufLine(c net.Conn) {
	for b := make([]byte, 1); ; {
		if _, err := c.Read(b); err != nil || b[0] == '\n' {
			return
		}
	}
}

func TestCallEndsWithContext(t *testing.T) {
	cause := errors.New("enough")
	for name, say := range map[string]string{"before the answer": "", "before the end": "{\"status\":0,\"hold\":true}\n"} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(context.Background())
			defer cancel(nil)
			path := hostile(t, func(c net.Conn) {
				bufLine(c)
				io.WriteString(c, say)
				cancel(cause)
				readAll(c) // until the client has gone
			})
			if a, err := control.CallUntilEnd(ctx, path, control.Request{Command: "stop"}); !errors.Is(err, cause) {
				t.Errorf("got %+v, %v; want the cause", a, err)
			}
		})
	}
}
