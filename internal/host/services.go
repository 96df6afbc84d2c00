package host

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/hub"
	"mrci.dev/mrci/internal/limit"
	"mrci.dev/mrci/internal/names"
	"mrci.dev/mrci/internal/registry"
	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// This file has the small collaborators that sessions and built-in commands
// get from the host.

// journal puts the records of sessions into the store's logs.
type journal struct {
	logs      *store.Logs
	strangers *strangers
}

// Activity implements session.Journal.
func (j journal) Activity(view *module.Session, entry string) {
	if view.User == nil && !j.strangers.mayLeaveRow(view.Addr) {
		return
	}
	j.logs.Activity(store.ActivityRow{Addr: view.Addr, App: view.App, Session: view.ID, Entry: entry})
}

// Audit implements session.Journal.
func (j journal) Audit(view *module.Session, command, arguments string, code wire.ReturnCode) {
	row := store.AuditRow{Addr: view.Addr, Command: command, Arguments: arguments, Code: code}
	switch u := view.User; {
	case u != nil:
		row.User, row.UserName = u.ID, u.Name
	case code == wire.NoErrors: // a change: it has cost a hash, and must be told
	case !j.strangers.mayLeaveRow(view.Addr):
		return
	case len(arguments) > strangerArguments:
		row.Arguments = strings.ToValidUTF8(arguments[:strangerArguments], "") + "..."
	}
	j.logs.Audit(row)
}

// Rows in an hour of those who are not logged in: who came and went, and what
// they tried that they are not offered. Whoever connects again and again must
// not fill the disk; a row has 400 bytes at most.
const (
	strangerRows      = 1_000  // of one address; loopback is spared as with other limits
	allStrangerRows   = 20_000 // of all: 200 MB a day
	strangerArguments = 256    // bytes that are kept of what they tried
)

// strangers counts these rows.
type strangers struct {
	limits *limit.Limiter // knows who is exempt
	each   *limit.Rate[netip.Addr]
	all    *limit.Rate[struct{}]
}

func newStrangers(limits *limit.Limiter) *strangers {
	return &strangers{
		limits: limits,
		each:   limit.NewRate[netip.Addr](limit.RateConfig{Limit: strangerRows}),
		all:    limit.NewRate[struct{}](limit.RateConfig{Limit: allStrangerRows}),
	}
}

// mayLeaveRow counts a row of somebody at addr, or says that there are too many.
func (s *strangers) mayLeaveRow(addr netip.Addr) bool {
	now := time.Now()
	return (s.limits.Exempt(addr) || s.each.Allow(limit.Group(addr), now)) && s.all.Allow(struct{}{}, now)
}

// dropped returns how many rows were too many.
func (s *strangers) dropped() uint64 { return s.each.Counters().Refused + s.all.Counters().Refused }

// attempt puts a try to log in or to recover into the store's logs.
func (j journal) attempt(_ context.Context, a account.Attempt) {
	j.logs.Auth(store.AuthRow{
		Time: a.Time, Addr: a.From, User: a.User,
		Auth: !a.Recovery, Recover: a.Recovery, Counted: a.Counted, Accepted: a.Accepted,
	})
}

// ranks changes the ranks of commands in the store and then in the registry,
// one change at a time, so that the registry ends with what is stored.
type ranks struct {
	store    *store.Store
	registry func() *registry.Registry

	mu sync.Mutex // held from the change to the new listing
}

// Ranks implements modules.Ranks.
func (r *ranks) Ranks(ctx context.Context) ([]store.Rank, error) { return r.store.Ranks(ctx) }

// AddRank implements modules.Ranks.
func (r *ranks) AddRank(ctx context.Context, rank store.Rank) error {
	return r.change(ctx, func() error { return r.store.AddRank(ctx, rank) })
}

// RemoveRank implements modules.Ranks.
func (r *ranks) RemoveRank(ctx context.Context, module, command string) error {
	return r.change(ctx, func() error { return r.store.RemoveRank(ctx, module, command) })
}

func (r *ranks) change(ctx context.Context, change func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := change(); err != nil {
		return err
	}
	// The change is stored: the registry has to follow even if the call ends.
	now, err := loadRanks(context.WithoutCancel(ctx), r.store)
	if err != nil {
		return err
	}
	r.registry().SetRanks(now)
	return nil
}

func loadRanks(ctx context.Context, s *store.Store) (registry.Ranks, error) {
	stored, err := s.Ranks(ctx)
	if err != nil {
		return nil, err
	}
	loaded := make(registry.Ranks, len(stored))
	for _, r := range stored {
		loaded[registry.RankKey{Module: r.Module, Command: names.Fold(r.Command)}] = r.Rank
	}
	return loaded, nil
}

// users is where sessions read accounts.
type users struct {
	*account.Service
	store *store.Store
}

// Login implements session.Users.
func (u users) Login(ctx context.Context, id wire.UserID) (account.User, []wire.ChannelID, error) {
	return u.store.Login(ctx, id)
}

// accountRules are the rules for accounts, with what their changes mean for
// channels.
type accountRules struct {
	*account.Service
	hub *hub.Hub
}

// Remove implements accounts.Rules: the members of its channels hear that an
// account has gone.
func (r accountRules) Remove(ctx context.Context, caller wire.UserID, name string, allow account.Allow) (account.Removal, error) {
	done, err := r.hub.Turn(ctx)
	if err != nil {
		return account.Removal{}, err
	}
	defer done()
	removed, err := r.Service.Remove(ctx, caller, name, allow)
	if err != nil {
		return removed, err
	}
	return removed, r.hub.Departed(context.WithoutCancel(ctx), removed.User.ID, removed.Left)
}

// logins reaches the sessions of a user over the bus.
type logins struct {
	bus bus.Bus
	log *slog.Logger
}

// logoutTimeout is how long a lock waits for the sessions that it ends.
const logoutTimeout = 5 * time.Second

// Logout implements accounts.Sessions.
func (l logins) Logout(ctx context.Context, user wire.UserID, except wire.SessionID, text string) error {
	ctx, cancel := context.WithTimeout(ctx, logoutTimeout)
	defer cancel()
	e := bus.Event{Async: wire.AsyncLogout, From: except, User: user, Text: text}
	if err := l.bus.Request(ctx, bus.ToUser(user), e); err != nil {
		// The account says no already; a session that hangs ends by itself.
		l.log.Warn("session did not answer", "async", e.Async.String(), "err", err)
	}
	return nil
}

// guard counts what addresses and accounts ask for (state 4).
type guard struct {
	now           func() time.Time
	limits        *limit.Limiter // knows who is exempt
	failures      *limit.Rate[netip.Addr]
	registrations *limit.Rate[netip.Addr]
	resets        *limit.Rate[netip.Addr]
	mails         *limit.Rate[wire.UserID]
	codes         *limit.Rate[wire.UserID]
}

// resetsPerAddr bounds requests for password resets from one address, by the
// hour: each costs a hash and perhaps a mail.
const resetsPerAddr = 20

func newGuard(c *conf.Config, limits *limit.Limiter, now func() time.Time) *guard {
	byHour := func(n int) limit.RateConfig { return limit.RateConfig{Limit: n, Window: time.Hour} }
	return &guard{
		now:           now,
		limits:        limits,
		failures:      limit.NewRate[netip.Addr](byHour(c.FailuresPerAddr)),
		registrations: limit.NewRate[netip.Addr](byHour(c.RegistrationsPerAddr)),
		resets:        limit.NewRate[netip.Addr](byHour(resetsPerAddr)),
		mails:         limit.NewRate[wire.UserID](byHour(c.MailsPerAccount)),
		codes:         limit.NewRate[wire.UserID](limit.RateConfig{Limit: 1, Window: time.Minute}),
	}
}

// reload makes other limits bind; what is counted stays.
func (g *guard) reload(c *conf.Config) {
	g.failures.SetLimit(c.FailuresPerAddr)
	g.registrations.SetLimit(c.RegistrationsPerAddr)
	g.mails.SetLimit(c.MailsPerAccount)
}

// refused adds what was refused to m, by the setting that did it.
func (g *guard) refused(m map[string]uint64) {
	m["failures_per_addr"] = g.failures.Counters().Refused
	m["registrations_per_addr"] = g.registrations.Counters().Refused
	m["resets_per_addr"] = g.resets.Counters().Refused
	m["mails_per_account"] = g.mails.Counters().Refused + g.codes.Counters().Refused
}

func (g *guard) allow(r *limit.Rate[netip.Addr], addr netip.Addr) bool {
	return g.limits.Exempt(addr) || r.Allow(limit.Group(addr), g.now())
}

// TryAllowed implements accounts.Guard.
func (g *guard) TryAllowed(addr netip.Addr) bool { return g.allow(g.failures, addr) }

// TrySucceeded implements accounts.Guard.
func (g *guard) TrySucceeded(addr netip.Addr) {
	if !g.limits.Exempt(addr) {
		g.failures.Refund(limit.Group(addr), g.now())
	}
}

// RegistrationAllowed implements accounts.Guard.
func (g *guard) RegistrationAllowed(addr netip.Addr) bool { return g.allow(g.registrations, addr) }

// ResetAllowed implements accounts.Guard.
func (g *guard) ResetAllowed(addr netip.Addr) bool { return g.allow(g.resets, addr) }

// MailAllowed implements accounts.Guard.
func (g *guard) MailAllowed(user wire.UserID) bool { return g.mails.Allow(user, g.now()) }

// CodeAllowed implements accounts.Guard.
func (g *guard) CodeAllowed(user wire.UserID) bool { return g.codes.Allow(user, g.now()) }

// background runs work that no call waits for.
type background struct {
	ctx   context.Context // ends with the host
	slots chan struct{}   // one for each job that waits or runs
	turn  chan struct{}   // one for each job that runs
	jobs  sync.WaitGroup

	dropped atomic.Uint64 // jobs that were too many
}

// Bounds of the work in the background: it hashes and mails, and must not be
// in the way of those who wait for an answer.
const (
	backgroundJobs    = 64
	backgroundRunning = 2
)

func newBackground(ctx context.Context) *background {
	return &background{ctx: ctx, slots: make(chan struct{}, backgroundJobs), turn: make(chan struct{}, backgroundRunning)}
}

// Do implements accounts.Background.
func (b *background) Do(job func(ctx context.Context)) bool {
	select {
	case b.slots <- struct{}{}:
	default:
		b.dropped.Add(1)
		return false
	}
	b.jobs.Go(func() { // ends with the job, which ends with the host
		defer func() { <-b.slots }()
		select {
		case b.turn <- struct{}{}:
			defer func() { <-b.turn }()
			job(b.ctx)
		case <-b.ctx.Done():
		}
	})
	return true
}
