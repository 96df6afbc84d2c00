package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/wire"
)

func TestSoak(t *testing.T) {
	report, err := smallBench(t).Soak(t.Context(), SoakOptions{
		Duration: 3 * time.Second, WarmUp: 300 * time.Millisecond, Every: 500 * time.Millisecond,
		Clients: 8, Processes: 2, Rate: 60, FillBytes: 1, Set: cheapHashing,
	})
	if err != nil {
		t.Fatal(err)
	}
	if report.Unexpected > 0 || len(report.Texts) > 0 {
		t.Errorf("%d unexpected answers with seed %d:\n%s", report.Unexpected, report.Seed, strings.Join(report.Texts, "\n"))
	}
	if report.Calls == 0 || len(report.Samples) == 0 || report.Did["administrator: status"] == 0 {
		t.Errorf("nothing was done: %d calls, %d samples, %v", report.Calls, len(report.Samples), report.Did)
	}
	var table, text bytes.Buffer
	if err := errors.Join(report.WriteTable(&table), report.WriteJSON(&text)); err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{"goroutines", "heap, collected", "database"} {
		if !strings.Contains(table.String(), row) || !strings.Contains(text.String(), row) {
			t.Errorf("row %q is missing in\n%s\n%s", row, &table, &text)
		}
	}
}

func TestSoakRow(t *testing.T) {
	tests := []struct {
		before, after, slack float64
		met                  bool
	}{
		{100, 100, 0, true},
		{100, 102, 0, true},
		{100, 103, 0, false},
		{100, 103, 1, true},
		{20, 22, 1, false},
		{20, 5, 1, true}, // less is no growth
		{0, 1, 0, false},
	}
	for _, test := range tests {
		row := soakRow("x", "", test.before, test.after).atMost(test.slack)
		if *row.Met != test.met {
			t.Errorf("%v after %v with %v more: met %v, want %v", test.after, test.before, test.slack, *row.Met, test.met)
		}
		good := SoakReport{Rows: []SoakRow{{What: "not judged"}, row}}.Good()
		if good != test.met {
			t.Errorf("report with %+v: good %v, want %v", row, good, test.met)
		}
	}
	if (SoakReport{Unexpected: 1}).Good() {
		t.Error("a report with an unexpected answer is good")
	}
}

func TestExpect(t *testing.T) {
	tests := map[string]struct {
		want   expect
		result wire.ReturnCode
		said   string
		asked  int
		bad    string // part of the error; empty: none
	}{
		"as expected":       {expect{says: "row"}, wire.NoErrors, "1 row.", 0, ""},
		"another code":      {expect{}, wire.Crash, "oops", 0, "ends with CRASH, want NO_ERRORS; it says \"oops\""},
		"no failure":        {expect{code: wire.Aborted}, wire.NoErrors, "", 0, "want ABORTED"},
		"another text":      {expect{says: "row"}, wire.NoErrors, "nothing", 0, "want \"row\" in it"},
		"too few questions": {expect{answers: []string{"y", "n"}}, wire.NoErrors, "", 1, "asks 1 times, want 2"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := test.want.check(client.Result{Code: test.result}, test.said, test.asked)
			switch {
			case test.bad == "" && err != nil:
				t.Error(err)
			case test.bad != "" && (err == nil || !strings.Contains(err.Error(), test.bad)):
				t.Errorf("got %v, want %q in it", err, test.bad)
			}
		})
	}
}

// watcher calls seen when a text with part was written to it.
type watcher struct {
	part string
	seen func()

	mu   sync.Mutex
	text strings.Builder
}

func (w *watcher) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.Contains(string(b), w.part) {
		w.seen()
	}
	return w.text.Write(b)
}

// What is no host must not pass.
func TestSoakOfNoHost(t *testing.T) {
	l, err := net.Listen("tcp", ListenAddr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	served := make(chan error, 1)
	go func() { served <- serveConns(ctx, l, func(net.Conn) error { return nil }) }()
	out := &watcher{part: unexpected + "client 7, session: ", seen: stop}
	var calls atomic.Uint64
	if err := soakClients(ctx, Role{Addr: l.Addr().String(), First: 7, Clients: 1, Rate: 1000, Seed: 1}, out, &calls); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	p := new(process)
	for line := range strings.Lines(out.text.String()) {
		if !p.hear(strings.TrimSpace(line)) {
			t.Errorf("line %q is not understood", line)
		}
	}
	did, troubles, n := p.told()
	if did["session"] == 0 || n == 0 || len(troubles) != min(n, unexpectedKept) {
		b, _ := json.Marshal(did)
		t.Errorf("got %s, %d unexpected, %d texts", b, n, len(troubles))
	}
}
