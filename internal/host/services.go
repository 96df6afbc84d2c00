package host

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/limit"
	"mrci.dev/mrci/internal/mail"
	"mrci.dev/mrci/internal/registry"
	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// This file has the small collaborators that sessions and built-in commands
// get from the host.

// journal puts the records of sessions into the store's logs.
type journal struct{ logs *store.Logs }

// Activity implements session.Journal.
func (j journal) Activity(view *module.Session, entry string) {
	j.logs.Activity(store.ActivityRow{Addr: view.Addr, App: view.App, Session: view.ID, Entry: entry})
}

// Audit implements session.Journal.
func (j journal) Audit(view *module.Session, command, arguments string, code wire.ReturnCode) {
	row := store.AuditRow{Addr: view.Addr, Command: command, Arguments: arguments, Code: code}
	if u := view.User; u != nil {
		row.User, row.UserName = u.ID, u.Name
	}
	j.logs.Audit(row)
}

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
		loaded[registry.RankKey{Module: r.Module, Command: account.Fold(r.Command)}] = r.Rank
	}
	return loaded, nil
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

func newGuard(c *conf.Config, limits *limit.Limiter) *guard {
	byHour := func(n int) limit.RateConfig { return limit.RateConfig{Limit: n, Window: time.Hour} }
	return &guard{
		limits:        limits,
		failures:      limit.NewRate[netip.Addr](byHour(c.FailuresPerAddr)),
		registrations: limit.NewRate[netip.Addr](byHour(c.RegistrationsPerAddr)),
		resets:        limit.NewRate[netip.Addr](byHour(resetsPerAddr)),
		mails:         limit.NewRate[wire.UserID](byHour(c.MailsPerAccount)),
		codes:         limit.NewRate[wire.UserID](limit.RateConfig{Limit: 1, Window: time.Minute}),
	}
}

func (g *guard) allow(r *limit.Rate[netip.Addr], addr netip.Addr) bool {
	return g.limits.Exempt(addr) || r.Allow(limit.Group(addr), time.Now())
}

// TryAllowed implements accounts.Guard.
func (g *guard) TryAllowed(addr netip.Addr) bool { return g.allow(g.failures, addr) }

// TrySucceeded implements accounts.Guard.
func (g *guard) TrySucceeded(addr netip.Addr) {
	if !g.limits.Exempt(addr) {
		g.failures.Refund(limit.Group(addr), time.Now())
	}
}

// RegistrationAllowed implements accounts.Guard.
func (g *guard) RegistrationAllowed(addr netip.Addr) bool { return g.allow(g.registrations, addr) }

// ResetAllowed implements accounts.Guard.
func (g *guard) ResetAllowed(addr netip.Addr) bool { return g.allow(g.resets, addr) }

// MailAllowed implements accounts.Guard.
func (g *guard) MailAllowed(user wire.UserID) bool { return g.mails.Allow(user, time.Now()) }

// CodeAllowed implements accounts.Guard.
func (g *guard) CodeAllowed(user wire.UserID) bool { return g.codes.Allow(user, time.Now()) }

// background runs work that no call waits for.
type background struct {
	ctx   context.Context // ends with the host
	slots chan struct{}   // one for each job that waits or runs
	turn  chan struct{}   // one for each job that runs
	jobs  sync.WaitGroup
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

// mailing fills the host's templates and sends the mails.
type mailing struct {
	mailer *mail.Mailer
	conf   *conf.Config
}

func newMailing(c *conf.Config, log *slog.Logger) (*mailing, error) {
	m, err := mail.New(mail.Config{
		SMTP: mail.SMTPConfig{
			Host: c.SMTPHost, Port: c.SMTPPort, User: c.SMTPUser, Password: account.Secret(string(c.SMTPPassword)),
			From: c.SMTPFrom, TLS: c.SMTPTLS,
		},
		Command: c.MailClientCmd,
		Log:     log,
	})
	if err != nil {
		return nil, err
	}
	made, err := mail.WriteDefaults(mail.Paths{Reset: c.ResetPwMailTemplate, Verify: c.EmailVerifyTemplate})
	if err != nil {
		return nil, err
	}
	for _, file := range made {
		log.Info("mail template written", "file", file)
	}
	return &mailing{mailer: m, conf: c}, nil
}

// close waits for mails that are on their way.
func (m *mailing) close(ctx context.Context) error { return m.mailer.Close(ctx) }

// Ready implements accounts.Mail.
func (m *mailing) Ready() error {
	if !m.mailer.Configured() {
		return module.Fail(wire.ExecutionFail, "This host cannot send mail: its administrator has to set smtp_host or mail_client_cmd.")
	}
	for _, file := range []string{m.conf.ResetPwMailTemplate, m.conf.EmailVerifyTemplate} {
		if _, err := mail.LoadTemplate(file); err != nil {
			return err
		}
	}
	return nil
}

// RecoveryPassword implements accounts.Mail.
func (m *mailing) RecoveryPassword(ctx context.Context, to account.User, pw account.Secret) error {
	return m.send(ctx, m.conf.ResetPwMailTemplate, m.conf.ResetPwMailSubject, to, pw)
}

// VerificationCode implements accounts.Mail.
func (m *mailing) VerificationCode(ctx context.Context, to account.User, code account.Secret) error {
	return m.send(ctx, m.conf.EmailVerifyTemplate, m.conf.EmailVerifySubject, to, code)
}

func (m *mailing) send(ctx context.Context, template, subject string, to account.User, secret account.Secret) error {
	t, err := mail.LoadTemplate(template)
	if err != nil {
		return err
	}
	msg, err := t.Message(to.Email, subject, mail.Values{UserName: to.Name, Time: time.Now(), OTP: secret})
	if err != nil {
		return err
	}
	defer msg.Body.Wipe()
	return m.mailer.Send(ctx, msg)
}

// AddressChanged implements accounts.Mail.
func (m *mailing) AddressChanged(ctx context.Context, before account.User) error {
	err := m.mailer.Send(ctx, mail.Message{
		To:      before.Email,
		Subject: "The e-mail address of your account was changed",
		Body: account.Secret("The account " + before.Name + " had this e-mail address until now. It has another one since " +
			time.Now().UTC().Format(time.DateTime) + " UTC.\n\nIf you did not ask for that, tell the administrator of the host.\n"),
	})
	if errors.Is(err, mail.ErrNotConfigured) {
		return nil // nobody expects a mail of a host that sends none
	}
	return err
}
