package control_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/internal/control"
)

var update = flag.Bool("update", false, "rewrite golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.ReplaceAll(string(want), "\r\n", "\n"), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", file, diff)
	}
}

func fullStatus() control.Status {
	at := time.Date(2026, 2, 3, 4, 5, 6, 789, time.FixedZone("", 3600))
	return control.Status{
		Version: "1.2.3", PID: 4242, Started: at, UptimeS: 3*86400 + 4*3600 + 5, Addr: "0.0.0.0:35516", HalfOpen: 1,
		Sessions: control.SessionStatus{Now: 12, Max: 10000, Anonymous: 3, ByRank: map[string]int{"10": 1, "2": 6, "1": 2, "3": 0}},
		Memory:   control.MemoryStatus{HeapBytes: 12_900_000, RSSBytes: 48_000_000, Goroutines: 57, Descriptors: 35, DescriptorsMax: 1024},
		Queues: control.QueueStatus{SendBytes: 1_300_000, InputBytes: 0, InputMaxBytes: 1 << 30,
			HashesRunning: 1, HashesWaiting: 2, MailsWaiting: 3, BackgroundJobs: 4, LogRows: 5},
		Database: control.DatabaseStatus{Driver: "QSQLITE", File: "/var/lib/mrci/data.db", SizeBytes: 123_456},
		Certificate: control.CertificateStatus{
			Chain: []string{"/etc/mrci/tls_chain.pem"}, Key: "/etc/mrci/tls_priv.pem",
			Subject: "CN=host.example.org", Names: []string{"host.example.org", "192.0.2.1"},
			NotBefore: at.Add(-time.Hour), NotAfter: at.AddDate(1, 0, 0), SHA256: "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG",
			LastError: "read /etc/mrci/tls_chain.pem: no certificate in it\x1b[2J", RenewsItself: true,
		},
		Configuration: control.ConfigurationStatus{
			File: "/etc/mrci/conf.json", Loaded: at.Add(time.Minute), LastError: "max_sessions is 0, want 1 or more\n", NeedsRestart: []string{"db_driver", "listening_port"},
		},
		Modules: []control.ModuleStatus{
			{Path: "/opt/echo", State: "running", Commands: 2, Processes: 1},
			{Path: "/opt/broken", State: "failed", LastError: "exec: no such file"},
		},
		Counters: map[string]map[string]uint64{
			"connections": {"accepted": 99, "refused_sessions": 0, "failed": 7},
			"control":     {"requests": 0},
			"mail":        nil,
			"sessions":    {"slow_consumer": 1},
		},
	}
}

func TestStatusText(t *testing.T) {
	text := fullStatus().Text()
	golden(t, "full.txt", text)
	if n := strings.Count(text, "\n"); n > 24 {
		t.Errorf("%d lines, want one screen", n)
	}
	golden(t, "empty.txt", control.Status{}.Text())
}

func TestStatusCertificate(t *testing.T) {
	s := fullStatus()
	for name, test := range map[string]struct {
		notBefore, notAfter time.Duration // from now
		want                string
	}{
		"valid":   {-time.Hour, 90 * time.Minute, "(1h 30m)"},
		"expired": {-time.Hour, 0, "EXPIRED at"},
		"early":   {time.Second, time.Hour, "NOT YET VALID"},
	} {
		t.Run(name, func(t *testing.T) {
			now := s.Started.Add(time.Duration(s.UptimeS) * time.Second)
			s.Certificate.NotBefore, s.Certificate.NotAfter = now.Add(test.notBefore), now.Add(test.notAfter)
			if text := s.Text(); !strings.Contains(text, test.want) {
				t.Errorf("got %q, want one with %q", text, test.want)
			}
		})
	}
}

func TestStatusJSON(t *testing.T) {
	for name, s := range map[string]control.Status{"full.json": fullStatus(), "empty.json": {}} {
		data, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, string(data)+"\n")
		var back control.Status
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		if again, err := json.MarshalIndent(back, "", "  "); string(again) != string(data) {
			t.Errorf("%s changed on its way: %v\n%s", name, err, cmp.Diff(string(data), string(again)))
		}
	}
}

func TestUnits(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 1 << 30: "1.0 GiB", 1<<64 - 1: "16777216.0 TiB",
	} {
		if got := control.Size(n); got != want {
			t.Errorf("size of %d: got %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{-1: "0s", 0: "0s", 59: "59s", 60: "1m 0s", 3599: "59m 59s", 3600: "1h 0m", 86400: "1d 0h", 200 * 86400: "200d"} {
		if got := control.Span(n); got != want {
			t.Errorf("span of %d s: got %q, want %q", n, got, want)
		}
	}
}
