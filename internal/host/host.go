package host

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/builtin"
	"mrci.dev/mrci/internal/builtin/accounts"
	"mrci.dev/mrci/internal/builtin/hostinfo"
	"mrci.dev/mrci/internal/builtin/modules"
	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/cert"
	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/conn"
	"mrci.dev/mrci/internal/limit"
	"mrci.dev/mrci/internal/registry"
	"mrci.dev/mrci/internal/session"
	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/wire"
)

// inputBudget is the memory, in bytes, that large frames of all clients may
// take while they arrive.
const inputBudget = 1 << 30

// Config is what a host is made from. All fields but Extra are set.
type Config struct {
	Conf    conf.Config
	Version string // of the program
	Log     *slog.Logger
	// Extra commands are offered behind the built-in ones.
	Extra []registry.Builtin
}

// Host is a running host, or one that is ready to run.
type Host struct {
	// Fixed after Open.
	cfg      Config
	log      *slog.Logger
	store    *store.Store
	logs     *store.Logs
	accounts *account.Service
	mail     *mailing
	bus      *bus.Memory
	later    *background
	endLater context.CancelFunc
	cert     *cert.Store
	registry *registry.Registry
	limits   *limit.Limiter
	listener net.Listener
	conn     conn.Config
	session  session.Config

	mu       sync.Mutex // guards sessions
	sessions map[*session.Session]struct{}

	counters counters
}

// counters count what has happened since the host was opened.
type counters struct {
	accepted atomic.Uint64
	refused  atomic.Uint64 // for a limit
	failed   atomic.Uint64 // before there was a session
}

// Open builds the host: it opens or makes the database and the certificate,
// and takes the port. Its errors are one line that names the file, the port or
// the setting, and says what to do. Close gives everything back.
func Open(ctx context.Context, cfg Config) (_ *Host, err error) {
	h := &Host{cfg: cfg, log: cfg.Log, sessions: make(map[*session.Session]struct{})}
	defer func() {
		if err != nil {
			h.Close()
		}
	}()
	c := &cfg.Conf
	h.bus = bus.NewMemory()
	later, endLater := context.WithCancel(context.WithoutCancel(ctx))
	h.later, h.endLater = newBackground(later), endLater
	// The log of attempts is opened on the store that the accounts are in.
	record := func(ctx context.Context, a account.Attempt) { journal{h.logs}.attempt(ctx, a) }
	if h.store, h.accounts, err = openAccounts(ctx, c, cfg.Log, record); err != nil {
		return nil, err
	}
	h.logs, err = h.store.StartLogs(ctx, store.LogsConfig{
		Retention: func() store.Retention { return store.Retention{Logs: c.LogRetention, Audit: c.AuditRetention} },
		Log:       cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	if h.mail, err = newMailing(c, cfg.Log); err != nil {
		return nil, err
	}
	h.cert, err = cert.Open(cert.Config{Chain: c.TLSCertChain, Key: c.TLSPrivKey, Make: c.OwnCertificate(), Names: c.TLSNames})
	if err != nil {
		return nil, err
	}
	h.limits = limit.New(limit.Config{HalfOpenPerAddr: c.HalfOpenPerAddr, MaxSessions: c.MaxSessions, LimitLoopback: c.LimitLoopback})
	if err = h.openRegistry(ctx); err != nil {
		return nil, err
	}
	h.conn = conn.Config{
		HeaderTimeout: c.HeaderTimeout, TLSTimeout: c.TLSTimeout, WriteTimeout: c.WriteTimeout,
		QueueBytes: c.SendQueueBytes, FrameLimit: c.PreLoginFrameBytes,
		TLS: h.cert.TLSConfig(c.TLSMin), TLSOnLoopback: c.TLSOnLoopback,
		Budget: &budget{limit: inputBudget},
	}
	h.session = session.Config{
		Registry: h.registry, Users: h.accounts, Bus: h.bus, Journal: journal{h.logs},
		Limits: sessionLimits(c), Log: cfg.Log,
		Greeting: "Ready. Log in with auth -user NAME; ls_cmds lists your commands.",
	}
	if h.listener, err = listen(ctx, c); err != nil {
		return nil, err
	}
	return h, nil
}

// OpenAccounts opens the database and the rules for its accounts, for programs that change accounts beside a running host.
func OpenAccounts(ctx context.Context, c *conf.Config, log *slog.Logger) (*store.Store, *account.Service, error) {
	return openAccounts(ctx, c, log, nil)
}

func openAccounts(ctx context.Context, c *conf.Config, log *slog.Logger, record func(context.Context, account.Attempt)) (*store.Store, *account.Service, error) {
	hasher, err := account.NewHasher(account.HasherConfig{
		Params: account.HashParams{KiB: uint32(c.Argon2KiB), Time: uint32(c.Argon2Time)},
		Slots:  c.Argon2Parallel,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("settings argon2_*: %w", err)
	}
	s, err := store.Open(ctx, store.Config{Path: c.DBHostName})
	if err != nil {
		return nil, nil, err
	}
	rule := account.RuleClasses
	if c.PasswordRule == conf.PasswordLength {
		rule = account.RuleLength
	}
	policy := account.Policy{AutoLockLimit: c.AutoLockLimit, InitialRank: c.InitialRank, PasswordRule: rule}
	return s, account.New(account.Config{
		Store: s, Hasher: hasher, Log: log,
		Policy:    func() account.Policy { return policy },
		OnAttempt: record,
	}), nil
}

func (h *Host) openRegistry(ctx context.Context) error {
	loaded, err := loadRanks(ctx, h.store)
	if err != nil {
		return err
	}
	c := &h.cfg.Conf
	flags := registry.Flags{PublicReg: c.EnablePublicReg, EmailVerify: c.EnableEmailVerify, PWReset: c.EnablePwReset}
	commands := append(builtin.Commands(builtin.Config{
		Accounts: accounts.Config{
			Rules: h.accounts, Mail: h.mail, Guard: newGuard(c, h.limits), Sessions: logins{h.bus, h.log},
			Background: h.later, Log: h.log, Now: time.Now,
			Settings: func() accounts.Settings {
				return accounts.Settings{
					AutoLockLimit: c.AutoLockLimit, AskCurrentPassword: c.AskCurrentPassword,
					VerifiedLoginOnly: c.VerifiedLoginOnly, MailUnverified: c.MailUnverified,
				}
			},
		},
		Host:    hostinfo.Config{Facts: h.facts, Logs: func() hostinfo.Logs { return h.logs }},
		Modules: modules.Config{Ranks: &ranks{store: h.store, registry: func() *registry.Registry { return h.registry }}},
	}), h.cfg.Extra...)
	library := fmt.Sprintf("mrci %s %d-bit", h.cfg.Version, strconv.IntSize)
	h.registry, err = registry.New(commands, wire.CutText(library, wire.LibraryNameSize), flags, loaded)
	return err
}

func sessionLimits(c *conf.Config) session.Limits {
	l := session.DefaultLimits()
	l.Instances = c.MaxInstances
	l.AnonymousFrame = c.PreLoginFrameBytes
	l.PromptTimeout = c.PromptTimeout
	return l
}

// keepAlive finds clients that are gone without a word within a few minutes
// (state 10).
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 8}

func listen(ctx context.Context, c *conf.Config) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	l, err := lc.Listen(ctx, "tcp", c.ListenAddr())
	if err != nil {
		cause := err
		var op *net.OpError
		if errors.As(err, &op) {
			cause = op.Err
		}
		return nil, fmt.Errorf("listen on %s: %v; choose another address or port with --listen ADDR:PORT or listening_addr and listening_port", c.ListenAddr(), cause)
	}
	return l, nil
}

// closeMail is how long mails that are on their way may take when the host
// stops.
const closeMail = 2 * time.Second

// Close gives everything back that Open has acquired. It may be called twice,
// and after Run, which does it too.
func (h *Host) Close() {
	if h.listener != nil {
		h.listener.Close()
	}
	if h.endLater != nil {
		h.endLater()
		h.later.jobs.Wait()
	}
	if h.mail != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeMail)
		if err := h.mail.close(ctx); err != nil {
			h.log.Error("mails were not sent", "err", err)
		}
		cancel()
	}
	if h.logs != nil {
		if err := h.logs.Close(); err != nil {
			h.log.Error("logs were not written", "err", err)
		}
	}
	if h.store != nil {
		if err := h.store.Close(); err != nil {
			h.log.Error("store did not close", "err", err)
		}
	}
	if h.cert != nil {
		h.cert.Close()
	}
}

// Addr returns where the host listens, with the real port.
func (h *Host) Addr() netip.AddrPort {
	return h.listener.Addr().(*net.TCPAddr).AddrPort()
}

// Fingerprint returns the SHA-256 of the public key, in hex, that clients may
// pin (cli 1).
func (h *Host) Fingerprint() string { return h.cert.Fingerprint() }

// TLSConfig returns what the host's handshakes use, so that a benchmark can
// compare them with a bare listener.
func (h *Host) TLSConfig() *tls.Config { return h.conn.TLS }

// EnsureFirstAdmin makes an administrator with a one-time password when there
// is no account at all (state 6). made tells whether it did.
func (h *Host) EnsureFirstAdmin(ctx context.Context) (name string, pw account.Secret, made bool, err error) {
	return h.accounts.EnsureFirstAdmin(ctx)
}

// Accounts returns the rules for the host's accounts.
func (h *Host) Accounts() *account.Service { return h.accounts }

// Sessions returns how many sessions there are.
func (h *Host) Sessions() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sessions)
}

func (h *Host) facts() hostinfo.Facts {
	addr := h.Addr()
	return hostinfo.Facts{
		Program: "MRCI " + h.cfg.Version, Sessions: h.Sessions(), MaxSessions: h.cfg.Conf.MaxSessions,
		Addr: addr.Addr().Unmap().String(), Port: int(addr.Port()),
	}
}

// budget is the memory that connections share for large frames.
type budget struct {
	limit int64
	used  atomic.Int64
}

// Reserve implements conn.Budget.
func (b *budget) Reserve(bytes int) bool {
	if b.used.Add(int64(bytes)) <= b.limit {
		return true
	}
	b.used.Add(-int64(bytes))
	return false
}

// Release implements conn.Budget.
func (b *budget) Release(bytes int) { b.used.Add(-int64(bytes)) }
