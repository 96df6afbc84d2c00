package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	accounts "mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/host"
	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/internal/registry"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// roleWord makes the test binary play a role, as the program's hidden
// sub-command does.
const roleWord = "play-role"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == roleWord {
		if err := play(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	status := m.Run()
	if err := goleak.Find(); status == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func play(text string) error {
	var r Role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return err
	}
	if r.Kind == RoleHost {
		return playHost(r)
	}
	return Serve(context.Background(), r, os.Stdin, os.Stdout)
}

// playHost is what the program's host does, as far as it matters here.
func playHost(r Role) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	dirs, err := conf.Locate(r.Dir, os.Getenv, os.Getuid(), r.Dir)
	if err != nil {
		return err
	}
	load := func() (conf.Config, error) {
		c, _, err := conf.LoadOrCreate(dirs.File(), dirs)
		if err != nil {
			return c, err
		}
		return c, c.Set(append(r.Set, "listening_addr=127.0.0.1", "listening_port=0")...)
	}
	c, err := load()
	if err != nil {
		return err
	}
	h, err := host.Open(ctx, host.Config{Conf: c, Load: load, Version: "test", Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	_, err = h.EnsureFirstAdmin(ctx, func(name string, password accounts.Secret) error {
		_, err := fmt.Printf("user: %s\npassword: %s\n", name, string(password))
		return err
	})
	if err != nil {
		return err
	}
	fmt.Printf("%s%s\n", listening, h.Addr())
	go func() { // ends with standard input
		var none atomic.Uint64
		Control(os.Stdin, os.Stdout, &none)
		stop()
	}()
	return h.Run(ctx)
}

func smallBench(t *testing.T) *Bench {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(Options{
		Rounds: 1, Round: 20 * time.Millisecond, Connects: 3, Sessions: 10, Clients: 3, Depth: 2, Attackers: 10,
		Modes: []Mode{Plain, TLS}, Cast: smallCasts, Program: []string{self, roleWord}, Progress: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	b.settlePause = time.Millisecond
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestEachMeasurement(t *testing.T) {
	for _, name := range Names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rows, err := smallBench(t).Run(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			checkReport(t, rows)
		})
	}
}

func checkReport(t *testing.T, rows []Row) {
	t.Helper()
	if len(rows) == 0 {
		t.Fatal("no rows")
	}
	var table, text bytes.Buffer
	report := NewReport(rows)
	if err := report.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	if err := report.WriteJSON(&text); err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if !strings.Contains(table.String(), row.What) || !strings.Contains(text.String(), row.What) {
			t.Errorf("row %q is missing in\n%s\n%s", row.What, &table, &text)
		}
		if row.What == "" || row.Mode == "" {
			t.Errorf("row without a name or a mode: %+v", row)
		}
	}
}

func TestUnknownMeasurement(t *testing.T) {
	if _, err := smallBench(t).Run(t.Context(), "speed"); err == nil {
		t.Error("a measurement that does not exist was made")
	}
}

func TestTooManySessions(t *testing.T) {
	if descriptorsOfProcess() == 0 {
		t.Skip("the system does not tell its limit of descriptors")
	}
	if err := needDescriptors(1<<30, "--sessions"); err == nil || !strings.Contains(err.Error(), "ulimit") {
		t.Errorf("got %v, want an error that says what to do", err)
	}
}

func TestFigures(t *testing.T) {
	if got := median([]float64{9, 1, 5}); got != 5 {
		t.Errorf("median of three: got %v, want 5", got)
	}
	if got := median([]float64{4, 2}); got != 3 {
		t.Errorf("median of two: got %v, want 3", got)
	}
	row := compare("x", Plain, "ms", []float64{10, 30, 21}, []float64{10, 10, 10})
	if row.Host != 21 || row.Floor != 10 || row.Ratio != 2.1 {
		t.Errorf("got %+v, want host 21, floor 10, ratio 2.1", row)
	}
	if met := row.ratioAtMost(1.3).Met; *met {
		t.Error("a ratio of 2.1 meets a target of 1.3")
	}
	times := []time.Duration{time.Millisecond, 2 * time.Millisecond, 3 * time.Millisecond, 4 * time.Millisecond}
	if got := percentile(times, 0.99); got != 4 {
		t.Errorf("p99: got %v, want 4", got)
	}
}

// inProcess returns a client that is logged in on a host inside this process.
func inProcess(b *testing.B, tls bool, extra ...registry.Builtin) (*hosttest.Host, *lab, *raw.Client) {
	b.Helper()
	h := hosttest.Start(b, hosttest.Set("log_level=error", fmt.Sprintf("tls_on_loopback=%v", tls)), hosttest.Commands(extra...))
	h.User("alice", 1)
	l := &lab{account: raw.Account{Name: "alice", Password: hosttest.Password}}
	script, err := recordScript(b.Context(), h.Address(), l.account)
	if err != nil {
		b.Fatal(err)
	}
	l.script = script
	return h, l, joinTest(b, l, h)
}

func joinTest(b *testing.B, l *lab, h *hosttest.Host) *raw.Client {
	b.Helper()
	p, err := l.join(b.Context(), h.Address())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.Close() })
	return p
}

func BenchmarkCall(b *testing.B) {
	for _, mode := range []Mode{Plain, TLS} {
		b.Run(string(mode), func(b *testing.B) {
			_, l, p := inProcess(b, mode == TLS)
			b.ReportAllocs()
			callLoop(b, p, l.script.MyInfo)
		})
	}
}

// callLoop makes b.N calls and reports percentiles.
func callLoop(b *testing.B, p *raw.Client, myInfo wire.CmdID) {
	b.Helper()
	request := wire.AppendText(nil, wire.Text, myInfo, raw.Branch, "")
	var times []time.Duration
	for b.Loop() {
		p.Renew()
		began := time.Now()
		if err := p.Call(request, myInfo); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	b.ReportMetric(1000*percentile(times, 0.50), "µs/p50")
	b.ReportMetric(1000*percentile(times, 0.99), "µs/p99")
}

func BenchmarkConnect(b *testing.B) {
	for _, mode := range []Mode{Plain, TLS} {
		b.Run(string(mode), func(b *testing.B) {
			h, _, _ := inProcess(b, mode == TLS)
			b.ReportAllocs()
			for b.Loop() {
				if err := enter(b.Context(), h.Address()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCallBesidePanics is what an innocent client notices of a command
// that panics again and again.
func BenchmarkCallBesidePanics(b *testing.B) {
	for _, inline := range []bool{false, true} {
		b.Run(fmt.Sprintf("inline=%v", inline), func(b *testing.B) {
			h, l, innocent := inProcess(b, false, registry.Builtin{Command: &module.Command{
				Name: "fall_over", Class: module.Public | module.Exempt, Short: "panic", Long: "Panics.", Inline: inline,
				Run: func(context.Context, *module.Call) error { panic("as asked") },
			}})
			attacker := joinTest(b, l, h)
			id, err := attacker.ID("fall_over")
			if err != nil {
				b.Fatal(err)
			}
			stop := make(chan struct{})
			ended := make(chan error, 1)
			var panics atomic.Uint64
			go func() { ended <- fallOver(attacker, id, stop, &panics) }() // awaited below
			callLoop(b, innocent, l.script.MyInfo)
			close(stop)
			if err := <-ended; err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(panics.Load())/b.Elapsed().Seconds(), "panics/s")
		})
	}
}

var errNoCrash = errors.New("a command that panics did not end with CRASH")

func fallOver(p *raw.Client, id wire.CmdID, stop <-chan struct{}, panics *atomic.Uint64) error {
	request := wire.AppendText(nil, wire.Text, id, raw.Branch, "")
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		p.Renew()
		if err := p.Call(request, id); err == nil || !strings.Contains(err.Error(), wire.Crash.String()) {
			return fmt.Errorf("%w: %v", errNoCrash, err)
		}
		panics.Add(1)
	}
}
