package host_test

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

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
