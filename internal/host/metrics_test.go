package host_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mrci.dev/mrci/internal/host"
	"mrci.dev/mrci/internal/host/hosttest"
)

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestMetrics: every line is in the exposition format, and the values are those
// of the status.
func TestMetrics(t *testing.T) {
	h := hosttest.Start(t, hosttest.Set("metrics_addr=127.0.0.1:0"))
	h.User("ann", 2)
	h.Connect().Login("ann")
	url := "http://" + h.MetricsAddr()
	status, body := get(t, url+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("metrics: %d, %s", status, body)
	}
	for _, want := range []string{
		`mrci_build_info{version="test"} 1`, "mrci_sessions 1", `mrci_sessions_of_rank{rank="2"} 1`,
		`mrci_logins_total{reason="login_accepted"} 1`, `mrci_connections_total{reason="accepted"} 1`,
		"# TYPE mrci_logins_total counter", "# TYPE mrci_sessions gauge", "go_goroutines ", "mrci_certificate_error 0",
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("no line %q", want)
		}
	}
	line := regexp.MustCompile(`^(#.*|[a-z_]+(\{[a-z_]+="[^"]*"\})? [-+0-9.eInfNa]+)$`)
	for _, l := range strings.Split(strings.TrimSpace(body), "\n") {
		if !line.MatchString(l) && !strings.HasPrefix(l, "go_") && !strings.HasPrefix(l, "process_") {
			t.Errorf("a line of another form: %q", l)
		}
	}
	for _, page := range []string{"/healthz", "/readyz"} {
		if status, body := get(t, url+page); status != http.StatusOK {
			t.Errorf("%s: %d %s", page, status, body)
		}
	}
	if status, _ := get(t, url+"/debug/pprof/"); status != http.StatusNotFound {
		t.Errorf("another page: %d", status)
	}
	if resp, err := http.Post(url+"/metrics", "text/plain", strings.NewReader("x")); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
}

// TestMetricsPlaces: only loopback, and a port that is taken is one line.
func TestMetricsPlaces(t *testing.T) {
	h := hosttest.Start(t, hosttest.Set("metrics_addr=127.0.0.1:0"))
	c := h.Conf
	if err := c.Set("metrics_addr=0.0.0.0:0"); err == nil {
		t.Error("metrics_addr may be any address")
	}
	other := hosttest.Start(t).Conf
	if err := other.Set("metrics_addr=" + h.MetricsAddr()); err != nil {
		t.Fatal(err)
	}
	other.Dirs.Runtime = t.TempDir()
	if second, err := host.Open(t.Context(), host.Config{Conf: other, Version: "test", Log: hosttest.Silent()}); err == nil {
		second.Close()
		t.Error("two hosts have one port for metrics")
	} else if !strings.Contains(err.Error(), "metrics_addr") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error: %v", err)
	}
}

func loopback(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestMetricsConnectionsAreFew: of 50 connections few are held, the others are
// closed and counted, and one that ends makes room for the next.
func TestMetricsConnectionsAreFew(t *testing.T) {
	l := loopback(t)
	few, refused := host.FewListener(l)
	accepted := make(chan net.Conn)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		defer close(accepted)
		for {
			c, err := few.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	})
	defer accepting.Wait()
	defer few.Close()
	var held []net.Conn
	for range host.MetricsConnections {
		dial(t, l.Addr().String())
		c := <-accepted
		defer c.Close()
		held = append(held, c)
	}
	const more = 50 - host.MetricsConnections
	for range more {
		if n, err := dial(t, l.Addr().String()).Read(make([]byte, 1)); n != 0 || err == nil {
			t.Fatalf("one too many was not closed: %d, %v", n, err)
		}
	}
	if refused() != more {
		t.Errorf("%d were refused, want %d", refused(), more)
	}
	for range 2 { // a connection that is closed twice makes room for one
		held[0].Close()
	}
	dial(t, l.Addr().String())
	c := <-accepted
	defer c.Close()
	if _, err := dial(t, l.Addr().String()).Read(make([]byte, 1)); err == nil {
		t.Error("one too many was not closed")
	}
	if refused() != more+1 {
		t.Errorf("%d were refused, want %d", refused(), more+1)
	}
}

// TestMetricsAfterIdleConnections: metrics answer when idle connections have
// gone, and say that some were refused.
func TestMetricsAfterIdleConnections(t *testing.T) {
	h := hosttest.Start(t, hosttest.Set("metrics_addr=127.0.0.1:0"))
	var idle []net.Conn
	for range 50 {
		idle = append(idle, dial(t, h.MetricsAddr()))
	}
	// Before the others go: what has gone by the time when it is accepted makes
	// room for the next at once.
	waitUntil(t, "one is refused", func() bool { return count(t, h, "refused", "metrics_connections") > 0 })
	for _, c := range idle {
		c.Close()
	}
	resp, err := http.Get("http://" + h.MetricsAddr() + "/metrics")
	for began := time.Now(); err != nil; { // the host learns of it in a moment
		if time.Since(began) > time.Minute {
			t.Fatal(err)
		}
		resp, err = http.Get("http://" + h.MetricsAddr() + "/metrics")
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("metrics: %v, %v", resp.Status, err)
	}
	if !strings.Contains(string(body), `mrci_refused_total{reason="metrics_connections"} `) {
		t.Error("the refused connections are not counted")
	}
}

// TestMetricsHandlersAreAwaited: one that the end of its connection does not
// stop at once is waited for.
func TestMetricsHandlersAreAwaited(t *testing.T) {
	l := loopback(t)
	begun := make(chan struct{})
	var ended atomic.Bool
	serve, closeServer := host.ImpatientMetrics(l, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		time.Sleep(10 * time.Millisecond) // so that the test fails where nobody waits
		ended.Store(true)
	}), hosttest.Silent())
	var serving sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	serving.Go(func() { serve(ctx) })
	c := dial(t, l.Addr().String())
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-begun
	stop()
	serving.Wait()
	if !ended.Load() {
		t.Error("serve returned while a handler ran")
	}
	closeServer()
}

// TestMetricsHealthIsShared: however many ask at once, the database is asked
// once, and again when the answer is old.
func TestMetricsHealthIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sick := errors.New("sick")
		asked := 0
		get, age := host.SharedAnswer(func() error {
			asked++
			time.Sleep(3 * time.Second)
			return sick
		})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if err := get(t.Context()); !errors.Is(err, sick) {
					t.Errorf("answer: %v", err)
				}
			})
		}
		synctest.Wait()
		gone, leave := context.WithCancel(t.Context())
		leave()
		if err := get(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("somebody who has gone waits: %v", err)
		}
		all.Wait()
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		time.Sleep(age)
		if err := get(t.Context()); !errors.Is(err, sick) || asked != 2 {
			t.Errorf("asked %d times, %v", asked, err)
		}
	})
}
