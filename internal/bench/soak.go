package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/internal/bench/soak"
	"mrci.dev/mrci/internal/control"
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

// soakPatience bounds how long the host takes to be at rest, and to answer.
const soakPatience = 30 * time.Second

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

// ask asks the host on its control socket.
func (s *soakRun) ask(ctx context.Context, command string, args ...string) (control.Answer, error) {
	return askHost(ctx, s.door, command, args...)
}

func (s *soakRun) status(ctx context.Context) (control.Status, error) {
	return statusOf(ctx, s.door)
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
