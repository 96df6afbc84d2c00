package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/internal/bench/soak"
	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/control"
	"mrci.dev/mrci/internal/fsys"
)

// SoakOptions say how long and how hard a soak is. All fields but Seed, Set and
// Hangup are set.
type SoakOptions struct {
	Duration  time.Duration // of the load that counts
	WarmUp    time.Duration // of the same load before it, so that caches have their size
	Every     time.Duration // between two lines of progress
	Clients   int           // at once, each with one session or two
	Processes int           // that the clients are spread over
	Rate      float64       // steps of all clients a second; one is about two calls
	FillBytes int64         // the database has this size before the load begins
	Seed      uint64        // of what clients do; 0: another one each time

	// Set is KEY=VALUE of the host's configuration.
	Set []string
	// Hangup makes the host read its configuration again; nil where there is no
	// such signal.
	Hangup os.Signal
}

// Changes that are no growth: what 2 % of a small number does not allow. A
// collection leaves some tens of KiB more or less behind, depending on which
// pools are filled at that moment. Resident memory has the page caches of the
// database in it, up to 2 MiB for each of five connections: the system
// does not tell how much of it they are.
const (
	soakShare           = 0.02
	slackGoroutines     = 1
	slackDescriptors    = 1
	slackHeap           = 128 << 10
	slackResident       = 10 << 20
	soakPatience        = 30 * time.Second // for the host to be at rest
	soakOperatorPause   = 2 * time.Second  // between two requests of the administrator
	soakOperatorMinimum = 10               // requests in a load that is short
)

// SoakRow is one figure at rest, before the load and after it.
type SoakRow struct {
	What   string  `json:"what"`
	Unit   string  `json:"unit"`
	Before float64 `json:"before"`
	After  float64 `json:"after"`
	// Change is the difference in percent of Before.
	Change float64 `json:"change_percent"`
	// Limit is the most that After may be; nil: the figure is not judged.
	Limit *float64 `json:"limit,omitempty"`
	Met   *bool    `json:"met,omitempty"`
	Note  string   `json:"note,omitempty"`
}

// SoakSample is how the host was under load.
type SoakSample struct {
	Seconds     float64 `json:"seconds"` // since the load began
	Sessions    int     `json:"sessions"`
	Goroutines  int     `json:"goroutines"`
	Descriptors int     `json:"descriptors"` // 0: unknown
	HeapBytes   uint64  `json:"heap_bytes"`
	RSSBytes    uint64  `json:"rss_bytes"` // 0: unknown
	Calls       uint64  `json:"calls"`
	Unexpected  int     `json:"unexpected"`
}

// SoakReport is the result of a soak.
type SoakReport struct {
	Machine    string            `json:"machine"`
	DurationS  float64           `json:"duration_s"`
	WarmUpS    float64           `json:"warm_up_s"`
	Clients    int               `json:"clients"`
	Rate       float64           `json:"rate"`
	Seed       uint64            `json:"seed"`
	HostCPU    float64           `json:"host_cpu_s,omitempty"` // that the load has cost the host; 0: unknown
	Calls      uint64            `json:"calls"`
	Did        map[string]uint64 `json:"did"` // how often, by what clients and administrator do
	Rows       []SoakRow         `json:"rows"`
	Samples    []SoakSample      `json:"samples"`
	Unexpected int               `json:"unexpected"`
	// Texts are the first unexpected answers.
	Texts []string `json:"texts"`
}

// Good reports whether nothing has grown and nothing was unexpected.
func (r SoakReport) Good() bool {
	return r.Unexpected == 0 && !slices.ContainsFunc(r.Rows, func(row SoakRow) bool { return row.Met != nil && !*row.Met })
}

// WriteJSON writes the report for programs.
func (r SoakReport) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteTable writes the report for people.
func (r SoakReport) WriteTable(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s of load after %s to warm up, %d clients, %g steps a second, seed %d\n",
		r.Machine, seconds(r.DurationS), seconds(r.WarmUpS), r.Clients, r.Rate, r.Seed)
	fmt.Fprintf(&b, "%d calls, %d unexpected answers", r.Calls, r.Unexpected)
	if r.HostCPU > 0 {
		fmt.Fprintf(&b, "; the host took %.0f %% of one core", 100*r.HostCPU/r.DurationS)
	}
	b.WriteString("\n\n")
	t := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "at rest\tbefore\tafter\tunit\tchange\tat most\t\tnote")
	for _, row := range r.Rows {
		limit, met := "", ""
		if row.Met != nil {
			limit, met = figure(*row.Limit), map[bool]string{true: "yes", false: "NO"}[*row.Met]
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%+.1f %%\t%s\t%s\t%s\n",
			row.What, figure(row.Before), figure(row.After), row.Unit, row.Change, limit, met, row.Note)
	}
	fmt.Fprintln(t, "\t\ndone\ttimes")
	for _, what := range slices.Sorted(maps.Keys(r.Did)) {
		fmt.Fprintf(t, "%s\t%d\n", what, r.Did[what])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, text := range r.Texts {
		fmt.Fprintf(&b, "unexpected: %s\n", text)
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(time.Second)
}

// soakRun is one under way.
type soakRun struct {
	b    *Bench
	opts SoakOptions
	l    *lab
	dir  string
	door string // the control socket
	web  string // address of the metrics

	workers []*process
	report  SoakReport
	said    map[*process]int // unexpected answers that have been printed
	tls     bool             // tls_on_loopback, as it is now
	asked   int              // requests of the administrator
	earlier uint64           // calls before the load
}

// Soak lets a host that it starts serve a mixed load, and compares what the
// host has in use at rest before and after it.
func (b *Bench) Soak(ctx context.Context, opts SoakOptions) (SoakReport, error) {
	defer b.stopAll()
	if opts.Seed == 0 {
		opts.Seed = uint64(time.Now().UnixNano())
	}
	s := &soakRun{b: b, opts: opts, said: make(map[*process]int), report: SoakReport{
		Machine: NewReport(nil).Machine, DurationS: opts.Duration.Seconds(), WarmUpS: opts.WarmUp.Seconds(),
		Clients: opts.Clients, Rate: opts.Rate, Seed: opts.Seed, Did: make(map[string]uint64), Samples: []SoakSample{}, Texts: []string{},
	}}
	if err := s.run(ctx); err != nil {
		return s.report, fmt.Errorf("soak: %w", err)
	}
	return s.report, nil
}

func (s *soakRun) run(ctx context.Context) error {
	// Per client a session or two; and those that come to fill caches.
	if err := needDescriptors(3*s.opts.Clients+soak.CacheReaders, "--clients"); err != nil {
		return err
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	s.b.say("soak: warm up for %s", s.opts.WarmUp)
	if err := s.fill(ctx); err != nil {
		return fmt.Errorf("fill the database: %w", err)
	}
	if err := s.load(ctx, s.opts.WarmUp, s.opts.Seed+1, false); err != nil {
		return err
	}
	before, err := s.rest(ctx, "before")
	if err != nil {
		return err
	}
	// The calls so far are no part of the figures.
	s.report.Did, s.earlier = make(map[string]uint64), before.calls
	s.b.say("soak: load for %s, %d clients, %g steps a second, seed %d", s.opts.Duration, s.opts.Clients, s.opts.Rate, s.opts.Seed)
	cpu := s.l.host.cpu()
	if err := s.load(ctx, s.opts.Duration, s.opts.Seed, true); err != nil {
		return err
	}
	s.report.HostCPU = s.l.host.cpu() - cpu
	after, err := s.rest(ctx, "after")
	if err != nil {
		return err
	}
	s.report.Calls = after.calls - before.calls
	s.compare(before, after)
	return nil
}

// open starts a host and makes the accounts of the clients.
func (s *soakRun) open(ctx context.Context) (err error) {
	if s.dir, err = os.MkdirTemp(s.b.dir, "soak-"); err != nil {
		return err
	}
	if s.web, err = freeAddr(ctx); err != nil {
		return err
	}
	if s.door, err = doorOf(s.dir); err != nil {
		return err
	}
	// What changes while the host runs must stand in the file: --set counts more.
	set := append([]string{"metrics_addr=" + s.web}, s.opts.Set...)
	host, err := s.b.start(ctx, Role{Kind: RoleHost, Dir: s.dir, Set: set})
	if err != nil {
		return err
	}
	if host.user == "" || host.once == "" {
		return errors.New("the host has not made its first administrator")
	}
	s.l = &lab{host: host, account: raw.Account{Name: host.user, Password: hostPassword}}
	if err := s.l.takeAccount(ctx); err != nil {
		return err
	}
	if err := soak.MakeAccounts(ctx, s.l.host.addr, s.l.account, s.opts.Clients); err != nil {
		return fmt.Errorf("make the accounts: %w", err)
	}
	return nil
}

// freeAddr returns an address that nobody listens on.
func freeAddr(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", ListenAddr)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// doorOf returns the control socket of the host with this directory.
func doorOf(dir string) (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		home = dir
	}
	dirs, err := conf.Locate(dir, os.Getenv, os.Getuid(), home)
	if err != nil {
		return "", err
	}
	return control.SocketPath(dirs.Runtime, dirs.AccountRuntime)
}

// fill makes the audit log longer than the page cache of a connection of
// the database.
func (s *soakRun) fill(ctx context.Context) error {
	for {
		status, err := s.status(ctx)
		if err != nil || status.Database.SizeBytes >= s.opts.FillBytes {
			return err
		}
		if err := soak.FillLog(ctx, s.l.host.addr, s.l.account); err != nil {
			return err
		}
	}
}

// load starts the clients, lets them work for a time, and ends them.
func (s *soakRun) load(ctx context.Context, duration time.Duration, seed uint64, counted bool) (err error) {
	defer func() { err = errors.Join(err, s.endWorkers()) }()
	n := min(s.opts.Processes, s.opts.Clients)
	for i := range n {
		first, next := i*s.opts.Clients/n, (i+1)*s.opts.Clients/n
		w, err := s.b.start(ctx, Role{
			Kind: RoleSoak, Addr: s.l.host.addr, First: first, Clients: next - first,
			Rate: s.opts.Rate * float64(next-first) / float64(s.opts.Clients), Seed: seed,
		})
		if err != nil {
			return err
		}
		s.workers = append(s.workers, w)
	}
	return s.watch(ctx, duration, counted)
}

// endWorkers lets every client end what it is at, and gathers what they tell.
func (s *soakRun) endWorkers() error {
	var failed error
	for _, w := range s.workers {
		w.stdin.Close() // all of them at once
	}
	for _, w := range s.workers {
		w.stop()
		did, troubles, n := w.clients.Told()
		if did == nil {
			failed = errors.Join(failed, fmt.Errorf("clients have not ended in good order%s", w.complaint()))
		}
		for what, times := range did {
			s.report.Did[what] += times
		}
		s.report.Unexpected += n
		s.keep(troubles...)
	}
	s.workers = nil
	return failed
}

// keep keeps texts of what was unexpected, up to a bound.
func (s *soakRun) keep(texts ...string) {
	s.report.Texts = append(s.report.Texts, texts[:min(len(texts), soak.TextsKept-len(s.report.Texts))]...)
}

// trouble notes something unexpected that the administrator has met.
func (s *soakRun) trouble(what string, err error) {
	s.report.Unexpected++
	s.b.say("unexpected: %s: %v", what, err)
	s.keep(fmt.Sprintf("%s: %v", what, err))
}

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

// ask asks the host on its control socket.
func (s *soakRun) ask(ctx context.Context, command string, args ...string) (control.Answer, error) {
	return askHost(ctx, s.door, command, args...)
}

func askHost(ctx context.Context, door, command string, args ...string) (control.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, soakPatience)
	defer cancel()
	a, err := control.Call(ctx, door, control.Request{Command: command, Args: args})
	if err == nil && a.Status != 0 {
		err = fmt.Errorf("%s: %s", command, a.Error)
	}
	return a, err
}

func (s *soakRun) status(ctx context.Context) (control.Status, error) {
	return statusOf(ctx, s.door)
}

// statusOf is the status of the host with this control socket.
func statusOf(ctx context.Context, door string) (control.Status, error) {
	var status control.Status
	a, err := askHost(ctx, door, "status")
	if err == nil {
		err = json.Unmarshal(a.Data, &status)
	}
	return status, err
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

// atRest is what the host has in use when nobody is connected.
type atRest struct {
	stat        Stat
	descriptors int
	resident    uint64 // without pages of files; 0: unknown
	database    int64
	calls       uint64
}

// rest reads what the host has in use when nothing goes on, with its page
// caches full and its garbage collected.
func (s *soakRun) rest(ctx context.Context, name string) (r atRest, err error) {
	if err := s.calm(ctx); err != nil {
		return r, err
	}
	s.tls = false
	if err := s.configure(); err != nil {
		return r, err
	}
	if _, err := s.ask(ctx, "reload"); err != nil {
		return r, err
	}
	if err := soak.FillCaches(ctx, s.l.host.addr, s.l.account); err != nil {
		return r, fmt.Errorf("fill the page caches: %w", err)
	}
	if err := s.calm(ctx); err != nil {
		return r, err
	}
	m, err := s.b.collected(ctx, s.l)
	if err != nil {
		return r, err
	}
	// What ended while memory settled has left garbage.
	if m, err = s.b.collected(ctx, s.l); err != nil {
		return r, err
	}
	r.stat, r.resident = m.stat, s.l.host.own()
	// The system takes free pages back as it likes: they are nobody's growth.
	r.resident -= min(r.resident, m.stat.Parts.Kept)
	if s.b.opts.Profile != "" {
		for _, kind := range []string{"heap", "goroutines"} {
			if _, err := s.l.host.request(ctx, kind+" "+filepath.Join(s.b.opts.Profile, "soak-"+name+"."+kind)); err != nil {
				return r, err
			}
		}
	}
	status, err := s.status(ctx)
	r.descriptors, r.database, r.calls = status.Memory.Descriptors, status.Database.SizeBytes, status.Counters["calls"]["started"]
	return r, err
}

// calm returns when the host has no session and nothing to do. Sessions that
// stay are something unexpected.
func (s *soakRun) calm(ctx context.Context) error {
	ticker := time.NewTicker(s.b.settlePause)
	defer ticker.Stop()
	for deadline := time.Now().Add(soakPatience); ; {
		status, err := s.status(ctx)
		if err != nil {
			return err
		}
		q := status.Queues
		if status.Sessions.Now == 0 && status.HalfOpen == 0 && q.SendBytes == 0 && q.InputBytes == 0 &&
			q.HashesRunning == 0 && q.HashesWaiting == 0 && q.BackgroundJobs == 0 && q.LogRows == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			s.trouble("rest", fmt.Errorf("%s after the last client has left: %d sessions, %d half open, queues %+v", soakPatience, status.Sessions.Now, status.HalfOpen, q))
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// compare fills in the rows of the report.
func (s *soakRun) compare(before, after atRest) {
	count := func(what string, before, after, slack int) SoakRow {
		return soakRow(what, "", float64(before), float64(after)).atMost(float64(slack))
	}
	kib := func(what string, before, after uint64) SoakRow {
		return soakRow(what, "KiB", float64(before)/1024, float64(after)/1024)
	}
	rows := []SoakRow{count("goroutines", before.stat.Goroutines, after.stat.Goroutines, slackGoroutines)}
	if before.descriptors > 0 {
		rows = append(rows, count("descriptors", before.descriptors, after.descriptors, slackDescriptors))
	}
	rows = append(rows,
		kib("heap, collected", before.stat.Heap, after.stat.Heap).atMost(slackHeap/1024),
		kib("stacks", before.stat.Stack, after.stat.Stack))
	if before.resident > 0 {
		resident := kib("resident", before.resident, after.resident).atMost(slackResident / 1024)
		resident.Note = "without pages of files and free ones that Go keeps; 10 MiB may be page caches of the database"
		was, is := before.stat.Parts, after.stat.Parts
		rows = append(rows, resident, kib("  of Go's runtime", before.stat.Go, after.stat.Go),
			kib("    holes between objects", was.Holes, is.Holes), kib("    free and kept", was.Kept, is.Kept),
			kib("    allocator", was.Spans, is.Spans), kib("    collector", was.Collector, is.Collector),
			kib("    heap profile", was.Profiles, is.Profiles), kib("    other", was.Other, is.Other))
	}
	database := kib("database", uint64(before.database), uint64(after.database))
	database.Note = "grows by rows of the logs"
	s.report.Rows = append(rows, database)
}

func soakRow(what, unit string, before, after float64) SoakRow {
	r := SoakRow{What: what, Unit: unit, Before: before, After: after}
	if before != 0 {
		r.Change = 100 * (after - before) / before
	}
	return r
}

// atMost judges the row: 2 % and slack more are no growth.
func (r SoakRow) atMost(slack float64) SoakRow {
	limit := r.Before*(1+soakShare) + slack
	met := r.After <= limit
	r.Limit, r.Met = &limit, &met
	return r
}
