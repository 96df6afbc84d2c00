package host

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/builtin"
	"mrci.dev/mrci/internal/builtin/accounts"
	"mrci.dev/mrci/internal/builtin/channels"
	"mrci.dev/mrci/internal/builtin/hostinfo"
	"mrci.dev/mrci/internal/builtin/modules"
	"mrci.dev/mrci/internal/builtin/peers"
	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/cert"
	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/conn"
	"mrci.dev/mrci/internal/control"
	"mrci.dev/mrci/internal/fsys"
	"mrci.dev/mrci/internal/hub"
	"mrci.dev/mrci/internal/limit"
	"mrci.dev/mrci/internal/registry"
	"mrci.dev/mrci/internal/session"
	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/wire"
)

// inputBudget is the memory, in bytes, that large frames of all clients may
// take while they arrive.
const inputBudget = 1 << 30

// Config is what a host is made from. Conf, Version and Log are set.
type Config struct {
	Conf    conf.Config
	Version string // of the program
	Log     *slog.Logger
	// Load reads the configuration again for Reload, with what the command line
	// says on top; nil: only the certificates can be read again.
	Load func() (conf.Config, error)
	// Loaded is called with the configuration that a reload has made binding,
	// for what the program itself takes from it; nil: nothing is.
	Loaded func(conf.Config)
	// Moved is called when the host listens at another address than at its
	// start; nil: nobody wants to know.
	Moved func(netip.AddrPort)
	// Left is called once, when the host is about to give its directory up; nil:
	// nothing is to be done then.
	Left func()
	// Listener is where connections come from, when somebody else has taken the
	// port; nil: the host takes listening_addr and listening_port.
	Listener net.Listener
	// Notify tells the service manager how the host is; nil: there is none.
	Notify *control.Notifier
	// Now is the wall clock; nil: time.Now.
	Now func() time.Time
	// Extra commands are offered behind the built-in ones.
	Extra []registry.Builtin
}

// Host is a running host, or one that is ready to run.
type Host struct {
	// Fixed after Open.
	cfg      Config
	log      *slog.Logger
	started  time.Time
	locks    []*control.Lock
	door     *control.Server
	metrics  *metricsServer // nil: metrics_addr is not set
	store    *store.Store
	logs     *store.Logs
	hasher   *account.Hasher
	accounts *account.Service
	mail     *mailing
	guard    *guard
	memory   *bus.Memory
	bus      bus.Bus // memory, with requests that wait for changes under way
	channels *channel.Service
	hub      *hub.Hub
	later    *background
	endLater context.CancelFunc
	cert     *cert.Store
	registry *registry.Registry
	limits   *limit.Limiter
	entrance *entrance
	input    *budget
	// handshakes are those that compute; see conn.Config.
	handshakes chan struct{}
	session    session.Config

	// Fixed too. strangers bounds what those who are not logged in leave in the
	// logs, descriptors is how many the process may have (0: no limit).
	strangers   *strangers
	descriptors int

	// Owned by Run.
	stop    context.CancelFunc
	watcher *fsys.Watcher
	ran     bool
	left    bool        // Config.Left was called
	ready   atomic.Bool // it accepts connections

	// The configuration that binds and what was made from it. reload replaces
	// them, one at a time.
	reloading sync.Mutex
	hubBehind bool // guarded by reloading: the hub could not take over the settings
	loaded    atomic.Pointer[loaded]
	conf      atomic.Pointer[conf.Config]
	conn      atomic.Pointer[conn.Config]
	bounds    atomic.Pointer[session.Limits]

	announcing sync.Mutex // held by Listen

	mu       sync.Mutex // guards sessions
	sessions map[*session.Session]struct{}

	counters counters
	counted  session.Counters
	quiet    struct{ refused, unstarted, started, ended, accept, frames quietLog }
}

// Open builds the host: it opens or makes the database and the certificate,
// and takes the port. Its errors are one line that names the file, the port or
// the setting, and says what to do. Close gives everything back.
func Open(ctx context.Context, cfg Config) (_ *Host, err error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	h := &Host{cfg: cfg, log: cfg.Log, started: time.Now(), descriptors: fsys.Descriptors(), sessions: make(map[*session.Session]struct{})}
	defer func() {
		if err != nil {
			h.Close()
		}
	}()
	if err = checkDescriptors(h.descriptors); err != nil {
		return nil, err
	}
	c := &cfg.Conf
	h.conf.Store(c)
	h.loaded.Store(&loaded{at: h.started})
	h.bounds.Store(sessionLimits(c))
	h.input = &budget{limit: inputBudget}
	h.handshakes = make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	h.quiet.refused.level, h.quiet.refused.msg = slog.LevelWarn, "connection refused"
	h.quiet.unstarted.msg = "no session"
	h.quiet.frames.level, h.quiet.frames.msg = slog.LevelWarn, "frame refused"
	h.quiet.started.msg = "session started"
	h.quiet.ended.msg = "session ended"
	h.quiet.accept.level, h.quiet.accept.msg = slog.LevelError, "accept"
	// Before anything of this directory is touched.
	if h.locks, err = lock(c.Dirs, control.Acquire); err != nil {
		return nil, err
	}
	h.tidy(c)
	h.warnOfReaders(c)
	h.door, err = control.Listen(control.Config{Lock: h.locks[0], AccountRuntime: c.Dirs.AccountRuntime, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	h.memory = bus.NewMemory()
	h.memory.SetPace(c.PaceBytes)
	h.bus = bus.Settling(h.memory, func(ctx context.Context) error { return h.store.Settled(ctx) })
	later, endLater := context.WithCancel(context.WithoutCancel(ctx))
	h.later, h.endLater = newBackground(later), endLater
	if err = h.openAccounts(ctx); err != nil {
		return nil, err
	}
	h.channels = channel.New(channel.Config{
		Store: h.store, MaxSubChannels: func() int { return h.conf.Load().MaxSubChannels }, Log: cfg.Log,
	})
	h.hub = hub.New(hub.Config{
		Bus: h.bus, Rights: h.channels, Settings: func() hub.Settings { return hubSettings(h.conf.Load()) },
	})
	if h.mail, err = newMailing(h.conf.Load, cfg.Log); err != nil {
		return nil, err
	}
	if h.cert, err = cert.Open(certConfig(c, cfg.Log)); err != nil {
		return nil, err
	}
	h.limits = limit.New(h.limitConfig(c))
	h.guard = newGuard(c, h.limits, cfg.Now)
	h.strangers = newStrangers(h.limits)
	if err = h.openRegistry(ctx); err != nil {
		return nil, err
	}
	h.conn.Store(connConfig(c, h.cert.TLSConfig(), h.handshakes, h.input))
	h.session = session.Config{
		Registry: h.registry, Users: users{h.accounts, h.store}, Bus: h.bus, Hub: h.hub, Journal: journal{logs: h.logs, strangers: h.strangers},
		Limits: h.bounds.Load, Counters: &h.counted, Log: cfg.Log,
		Greeting: "Ready. Log in with auth -user NAME; ls_cmds lists your commands.",
	}
	if c.MetricsAddr != "" {
		if h.metrics, err = newMetricsServer(ctx, h, c.MetricsAddr); err != nil {
			return nil, err
		}
	}
	listener := cfg.Listener
	if listener == nil {
		if listener, err = listen(ctx, c.ListenAddr()); err != nil {
			return nil, err
		}
	}
	h.entrance = &entrance{listener: listener}
	return h, nil
}

// warnOfReaders tells of files with secrets that other accounts may read. They
// may be meant to be so, and stay.
func (h *Host) warnOfReaders(c *conf.Config) {
	if runtime.GOOS == "windows" { // modes say nothing there
		return
	}
	for _, file := range []string{c.Dirs.File(), c.TLSPrivKey} {
		if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
			h.log.Warn("other accounts can reach a file with secrets; use chmod 600", "file", file, "mode", info.Mode().Perm().String())
		}
	}
}

// tidy removes what a host that was killed has left of the files that hosts
// make. With the locks no other one is at it.
func (h *Host) tidy(c *conf.Config) {
	files := []string{c.Dirs.File(), c.ResetPwMailTemplate, c.EmailVerifyTemplate}
	if c.OwnCertificate() {
		files = append(files, c.TLSPrivKey)
		files = append(files, c.TLSCertChain...)
	}
	for _, file := range files {
		if err := fsys.Tidy(file); err != nil {
			h.log.Warn("temporary files not removed", "err", err)
		}
	}
}

// openAccounts opens the database, the rules for its accounts, and its logs.
func (h *Host) openAccounts(ctx context.Context) (err error) {
	config := account.Config{
		Log: h.log, Now: h.cfg.Now,
		Policy: func() account.Policy { return policy(h.conf.Load()) },
		// The log of attempts is opened on the store that the accounts are in.
		OnAttempt: func(ctx context.Context, a account.Attempt) {
			h.counters.countAttempt(a)
			journal{logs: h.logs}.attempt(ctx, a)
		},
	}
	if h.store, h.accounts, err = openAccounts(ctx, &h.cfg.Conf, &config); err != nil {
		return err
	}
	h.hasher = config.Hasher
	h.logs, err = h.store.StartLogs(ctx, store.LogsConfig{
		Retention: func() store.Retention {
			c := h.conf.Load()
			return store.Retention{Logs: c.LogRetention, Audit: c.AuditRetention}
		},
		Now: h.cfg.Now,
		Log: h.log,
	})
	return err
}

// OpenAccounts opens the database and the rules for its accounts, for programs that change accounts beside a running host.
func OpenAccounts(ctx context.Context, c *conf.Config, log *slog.Logger) (*store.Store, *account.Service, error) {
	return openAccounts(ctx, c, &account.Config{Log: log, Policy: func() account.Policy { return policy(c) }})
}

// openAccounts completes the configuration of the rules.
func openAccounts(ctx context.Context, c *conf.Config, config *account.Config) (*store.Store, *account.Service, error) {
	hasher, err := account.NewHasher(account.HasherConfig{Params: hashParams(c), Slots: c.Argon2Parallel})
	if err != nil {
		return nil, nil, fmt.Errorf("settings argon2_*: %w", err)
	}
	s, err := store.Open(ctx, store.Config{Path: c.DBHostName})
	if err != nil {
		return nil, nil, err
	}
	config.Store, config.Hasher = s, hasher
	return s, account.New(*config), nil
}

func (h *Host) openRegistry(ctx context.Context) error {
	loaded, err := loadRanks(ctx, h.store)
	if err != nil {
		return err
	}
	commands := append(builtin.Commands(builtin.Config{
		Accounts: accounts.Config{
			Rules: accountRules{h.accounts, h.hub}, Mail: h.mail, Guard: h.guard, Sessions: logins{h.bus, h.log},
			Background: h.later, Log: h.log, Now: h.cfg.Now,
			Settings: func() accounts.Settings { return commandSettings(h.conf.Load()) },
		},
		Host:    hostinfo.Config{Facts: h.facts, Logs: func() hostinfo.Logs { return h.logs }},
		Modules: modules.Config{Ranks: &ranks{store: h.store, registry: func() *registry.Registry { return h.registry }}},
		Channels: channels.Config{
			Rules: h.channels, Events: h.hub, Doors: h.hub, Overrides: h.hub, Log: h.log,
			Settings: func() channels.Settings {
				return channels.Settings{AllActive: h.conf.Load().AllChannelsActiveUpdate}
			},
		},
		Peers: peers.Config{Peers: h.hub, Refused: h.refusedFrame, Untaken: func() { h.counters.untaken.Add(1) }},
	}), h.cfg.Extra...)
	library := fmt.Sprintf("mrci %s %d-bit", h.cfg.Version, strconv.IntSize)
	h.registry, err = registry.New(commands, wire.CutText(library, wire.LibraryNameSize), registryFlags(&h.cfg.Conf), loaded)
	return err
}

// closeMail is how long mails that are on their way may take when the host
// stops.
const closeMail = 2 * time.Second

// Close gives everything back that Open has acquired. It may be called twice,
// and after Run, which does it too.
func (h *Host) Close() {
	if h.entrance != nil {
		h.entrance.Close()
	}
	if h.metrics != nil {
		h.metrics.close() // its handlers ask the store
	}
	if h.endLater != nil {
		h.endLater()
		h.later.jobs.Wait()
	}
	if h.mail != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeMail)
		h.mail.close(ctx)
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
	h.leave()
}

// leave gives the directory up. Who waits for the end of the host learns of it
// when another one can take the directory.
func (h *Host) leave() {
	if h.cfg.Left != nil && len(h.locks) > 0 && !h.left {
		h.left = true
		h.cfg.Left()
	}
	if h.door != nil && !h.ran {
		h.door.Close() // the socket goes while the lock is held
	}
	if err := release(h.locks); err != nil {
		h.log.Warn("lock not released", "err", err)
	}
	if h.door != nil {
		h.door.Close()
	}
}

// Addr returns where the host listens, with the real port.
func (h *Host) Addr() netip.AddrPort {
	return addrOf(h.entrance.now())
}

// MetricsAddr returns where metrics and health are served, "" when they are not.
func (h *Host) MetricsAddr() string {
	if h.metrics == nil {
		return ""
	}
	return h.metrics.listener.Addr().String()
}

// Fingerprint returns the SHA-256 of the public key, in hex, that clients may
// pin (cli 1).
func (h *Host) Fingerprint() string { return h.cert.Fingerprint() }

// TLSConfig returns what the host's handshakes use, so that a benchmark can
// compare them with a bare listener.
func (h *Host) TLSConfig() *tls.Config { return h.conn.Load().TLS }

// EnsureFirstAdmin makes an administrator with a one-time password, which is
// shown before, when there is no account at all (state 6). made tells whether
// it did.
func (h *Host) EnsureFirstAdmin(ctx context.Context, show account.Show) (made bool, err error) {
	return h.accounts.EnsureFirstAdmin(ctx, show)
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
		Program: "MRCI " + h.cfg.Version, Sessions: h.Sessions(), MaxSessions: h.maxSessions(h.conf.Load()),
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
