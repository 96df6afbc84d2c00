package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mrci.dev/mrci/internal/bench/soak"
	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/fsys"
)

// This file has the administrator of a soak, who asks and reconfigures the host
// while it is under load, and looks how it is.

const (
	soakOperatorPause   = 2 * time.Second // between two requests of the administrator
	soakOperatorMinimum = 10              // requests in a load that is short
)

// watch is the administrator while the clients work: it asks, scrapes, changes
// the configuration, and notes how the host is.
func (s *soakRun) watch(ctx context.Context, duration time.Duration, counted bool) error {
	began := time.Now()
	end := time.NewTimer(duration)
	defer end.Stop()
	requests := time.NewTicker(min(soakOperatorPause, max(duration/soakOperatorMinimum, time.Millisecond)))
	defer requests.Stop()
	minutes := time.NewTicker(s.opts.Every)
	defer minutes.Stop()
	scraper := &http.Client{Timeout: soakPatience, Transport: new(http.Transport)}
	defer scraper.CloseIdleConnections()
	if counted {
		s.b.say("%8s %9s %11s %12s %9s %13s %9s %11s", "time", "sessions", "goroutines", "descriptors", "heap MiB", "resident MiB", "calls", "unexpected")
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-end.C:
			return nil
		case <-requests.C:
			s.operate(ctx, scraper)
		case <-minutes.C:
			if err := s.sample(ctx, time.Since(began), counted); err != nil {
				return err
			}
		}
	}
}

// operate makes the next request of the administrator.
func (s *soakRun) operate(ctx context.Context, scraper *http.Client) {
	turn := s.asked % 10
	s.asked++
	var what string
	var err error
	switch turn {
	case 1, 6:
		what, err = "scrape metrics", scrape(ctx, scraper, "http://"+s.web+"/metrics", "mrci_sessions ")
	case 3:
		what, err = "ask for health", scrape(ctx, scraper, "http://"+s.web+"/healthz", "works")
	case 8:
		what, err = "ask for readiness", scrape(ctx, scraper, "http://"+s.web+"/readyz", "accepts")
	case 4:
		what, err = "reload", s.flip()
		if err == nil {
			_, err = s.ask(ctx, "reload")
		}
	case 9:
		if s.opts.Hangup != nil {
			what, err = "SIGHUP", s.flip()
			if err == nil {
				err = s.l.host.cmd.Process.Signal(s.opts.Hangup)
			}
			break
		}
		fallthrough
	case 5:
		what = "reload certificates"
		_, err = s.ask(ctx, "certificates")
	case 7:
		what = "tell of an account"
		_, err = s.ask(ctx, "account", soak.UserName(s.asked%s.opts.Clients))
	default:
		what = "status"
		_, err = s.status(ctx)
	}
	s.report.Did["administrator: "+what]++
	if err != nil && ctx.Err() == nil {
		s.trouble(what, err)
	}
}

// flip has clients speak TLS that have not, and the other way round, from the
// next reload on.
func (s *soakRun) flip() error {
	s.tls = !s.tls
	return s.configure()
}

func (s *soakRun) configure() error {
	file := filepath.Join(s.dir, conf.FileName)
	keys := make(map[string]any)
	if b, err := os.ReadFile(file); err == nil {
		if err := json.Unmarshal(b, &keys); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	keys["tls_on_loopback"] = s.tls
	text, err := json.Marshal(keys)
	if err != nil {
		return err
	}
	return fsys.Replace(file, text, 0o600)
}

func scrape(ctx context.Context, c *http.Client, url, want string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := c.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return err
	case answer.StatusCode != http.StatusOK || !strings.Contains(string(body), want):
		return fmt.Errorf("%s says %s, %.200q", url, answer.Status, body)
	}
	return nil
}

// sample notes how the host is under load.
func (s *soakRun) sample(ctx context.Context, since time.Duration, counted bool) error {
	status, err := s.status(ctx)
	if err != nil {
		return fmt.Errorf("%w%s", err, s.l.host.complaint())
	}
	one := SoakSample{
		Seconds: since.Seconds(), Sessions: status.Sessions.Now, Goroutines: status.Memory.Goroutines,
		Descriptors: status.Memory.Descriptors, HeapBytes: status.Memory.HeapBytes, RSSBytes: status.Memory.RSSBytes,
		Calls: status.Counters["calls"]["started"] - s.earlier, Unexpected: s.report.Unexpected,
	}
	for _, w := range s.workers {
		if _, err := w.stat(ctx, "stat"); err != nil {
			return fmt.Errorf("clients: %w%s", err, w.complaint())
		}
		_, troubles, n := w.clients.Told()
		one.Unexpected += n
		for _, text := range troubles[s.said[w]:] {
			s.b.say("unexpected: %s", text)
		}
		s.said[w] = len(troubles)
	}
	if !counted {
		return nil
	}
	s.report.Samples = append(s.report.Samples, one)
	s.b.say("%8s %9d %11d %12d %9.2f %13.2f %9d %11d", since.Round(time.Second), one.Sessions, one.Goroutines, one.Descriptors,
		mib(one.HeapBytes), mib(one.RSSBytes), one.Calls, one.Unexpected)
	return nil
}
