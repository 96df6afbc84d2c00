package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/backup"
	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/control"
	"mrci.dev/mrci/internal/fsys"
	"mrci.dev/mrci/internal/host"
)

type hostCmd struct {
	Listen     string   `placeholder:"ADDR:PORT" help:"Listen there instead of listening_addr and listening_port; port 0 takes a free one."`
	Set        []string `sep:"none" placeholder:"KEY=VALUE" help:"Set a key of conf.json for this run; may be given more than once."`
	LogFile    string   `placeholder:"FILE" help:"Write the log there instead of standard error; a full file is kept as FILE.1 and so on."`
	Background bool     `help:"Start the host in the background, and return when it listens."`
}

func (cmd *hostCmd) Run(a *app) error {
	if cmd.Background {
		return cmd.background(a)
	}
	settings, created, err := a.settings(cmd.Set, cmd.Listen)
	if err != nil {
		return err
	}
	// A reader of the output that goes away, such as head, must not take the
	// host with it.
	signal.Ignore(syscall.SIGPIPE)
	// From here on neither a closed terminal nor an early reload ends it.
	hangups := make(chan os.Signal, 1) // one more reload is as good as several
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log, err := cmd.openLog(a, &settings)
	if err != nil {
		return err
	}
	defer log.Close()
	if created {
		log.Info("configuration written", "file", settings.Dirs.File())
	}
	listener, err := activated(a)
	if err != nil {
		return err
	}
	notifier := control.NewNotifier(a.getenv)
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		os.Unsetenv(name) // not for what the host starts
	}
	front := &front{dir: settings.Dirs.Runtime, log: log.Logger}
	h, err := host.Open(ctx, host.Config{
		Conf: settings, Version: version(), Log: log.Logger,
		Load:   func() (conf.Config, error) { return a.settingsAgain(cmd.Set, cmd.Listen) },
		Loaded: log.use, Moved: front.announce, Left: front.forget, Listener: listener, Notify: notifier,
	})
	if err != nil {
		return err
	}
	defer h.Close()
	front.tidy()
	front.announce(h.Addr())
	if err := cmd.greet(ctx, a, h, &settings); err != nil {
		return err
	}
	var reloads sync.WaitGroup
	defer reloads.Wait()
	defer stop()
	reloads.Go(func() { reloadOnHangup(ctx, hangups, h, notifier) })
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	return h.Run(ctx)
}

// activated returns the listener that the service manager has passed on, nil
// when there is none.
func activated(a *app) (net.Listener, error) {
	listeners, err := control.Listeners(a.getenv, os.Unsetenv)
	if err != nil || len(listeners) == 0 {
		return nil, err
	}
	if len(listeners) > 1 {
		for _, l := range listeners {
			l.Close()
		}
		return nil, fmt.Errorf("the service manager passes on %d sockets; configure exactly one", len(listeners))
	}
	return listeners[0], nil
}

// reloadOnHangup reads everything again when the process has got SIGHUP, until
// ctx ends.
func reloadOnHangup(ctx context.Context, hangups <-chan os.Signal, h *host.Host, notifier *control.Notifier) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		// What went wrong is in the log; the service manager only has to know
		// when it is over.
		_ = notifier.Reloading()
		_, _ = h.Reload(ctx)
		_ = notifier.Ready()
	}
}

// greet makes the first administrator and tells how to connect.
func (cmd *hostCmd) greet(ctx context.Context, a *app, h *host.Host, settings *conf.Config) error {
	var b []byte
	made, shown := false, false
	if settings.FirstAdmin {
		var err error
		made, err = h.EnsureFirstAdmin(ctx, func(name string, password account.Secret) error {
			shown = true
			text := withPassword("This host is new. Its first administrator, with a password for one login:\nuser: "+name, password, "\n")
			defer clear(text)
			_, err := a.stdout.Write(text)
			return err
		})
		if err != nil {
			return err
		}
		if shown && !made {
			b = append(b, "That administrator has not been made: somebody else has made an account meanwhile.\n\n"...)
		}
	} else if empty, err := noAccounts(ctx, h); err != nil {
		return err
	} else if empty {
		b = fmt.Appendf(b, "There is no account yet. Make an administrator: %s\n\n", a.invocation("add-admin NAME"))
	}
	b = fmt.Appendf(b, "To use it from this machine, in a second terminal: %s\n", a.invocation("connect"))
	if addr := h.Addr(); !addr.Addr().IsLoopback() {
		b = fmt.Appendf(b, "From another machine: mrci connect ADDRESS:%d  (key SHA256:%s)\n", addr.Port(), h.Fingerprint())
	}
	if made {
		b = fmt.Appendf(b, "Then log in with: auth -user %s\n", account.FirstAdmin)
	}
	b = fmt.Appendf(b, "listening on %s\n", h.Addr())
	_, err := a.stdout.Write(b)
	return err
}

// withPassword returns text with a password in it, for the caller to write and
// clear, and wipes the password.
func withPassword(before string, password account.Secret, after string) []byte {
	const label, end = "\npassword: ", "\n"
	// The exact size: if it grew, a copy would stay behind.
	text := make([]byte, 0, len(before)+len(label)+len(password)+len(end)+len(after))
	text = append(append(text, before...), label...)
	text = append(append(text, password...), end...)
	password.Wipe()
	return append(text, after...)
}

func noAccounts(ctx context.Context, h *host.Host) (bool, error) {
	page, err := h.Accounts().List(ctx, account.Filter{}, 0, 1)
	return err == nil && page.Total == 0, err
}

// settings reads the configuration of this --dir, writes it if it is missing,
// and applies what the command line says on top.
func (a *app) settings(set []string, listen string) (settings conf.Config, created bool, err error) {
	dirs, err := a.hostDirs()
	if err != nil {
		return settings, false, err
	}
	if err := backup.Unfinished(dirs); err != nil {
		return settings, false, err
	}
	if settings, created, err = conf.LoadOrCreate(dirs.File(), dirs); err != nil {
		return settings, false, err
	}
	return settings, created, override(&settings, set, listen)
}

// settingsAgain is settings for a running host, which writes nothing.
func (a *app) settingsAgain(set []string, listen string) (conf.Config, error) {
	dirs, err := a.hostDirs()
	if err != nil {
		return conf.Config{}, err
	}
	settings, err := conf.Load(dirs.File(), dirs)
	if err != nil {
		return conf.Config{}, err
	}
	return settings, override(&settings, set, listen)
}

// override applies what the command line says.
func override(settings *conf.Config, set []string, listen string) error {
	listening, err := listenAssignments(listen)
	if err != nil {
		return err
	}
	return settings.Set(slices.Concat(set, listening)...)
}

// hostDirs returns the directories of the host of this --dir.
func (a *app) hostDirs() (conf.Dirs, error) {
	home, err := os.UserHomeDir()
	if err != nil && a.dir == "" {
		return conf.Dirs{}, fmt.Errorf("%w; say where to keep data with --dir DIR", err)
	}
	return conf.Locate(a.dir, a.getenv, os.Getuid(), home)
}

// listenAssignments returns what --listen says, in the form of --set.
func listenAssignments(listen string) ([]string, error) {
	if listen == "" {
		return nil, nil
	}
	addr, port, err := splitListen(listen)
	if err != nil {
		return nil, err
	}
	return []string{"listening_addr=" + addr, "listening_port=" + port}, nil
}

// splitListen reads ADDR:PORT. Without an address it is every one.
func splitListen(listen string) (addr, port string, err error) {
	addr, port, err = net.SplitHostPort(listen)
	if err != nil {
		return "", "", fmt.Errorf("--listen %s: want ADDR:PORT, such as 127.0.0.1:35516 or [::]:35516", listen)
	}
	if addr == "" {
		addr = "::"
	}
	return addr, port, nil
}

// invocation is how this program was started, with other arguments: what a
// user can type.
func (a *app) invocation(args string) string {
	program := "mrci"
	if exe, err := os.Executable(); err == nil && strings.Contains(exe, string(filepath.Separator)+"go-build") {
		program = "go run ./cmd/mrci"
	}
	if a.dir != "" && a.getenv("MRCI_DIR") == "" {
		program += " --dir " + a.dir
	}
	return program + " " + args
}

// front is what clients of this machine see of the host.
type front struct {
	dir string
	log *slog.Logger

	mu   sync.Mutex
	text string // in the file
}

// tidy removes what a host that was killed has left of announcing.
func (f *front) tidy() {
	if err := fsys.Tidy(filepath.Join(f.dir, listeningFile)); err != nil {
		f.log.Warn("temporary files not removed", "err", err)
	}
}

// announce leaves the host's address for clients of this machine. Only
// `mrci connect` without a name needs it.
func (f *front) announce(addr netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text := addr.String() + "\n"
	if err := fsys.Replace(filepath.Join(f.dir, listeningFile), []byte(text), 0o600); err != nil {
		f.log.Warn("address not announced", "err", err)
		return
	}
	f.text = text
}

// forget takes the address back. Another host of the same directory may have
// taken the place.
func (f *front) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	file := filepath.Join(f.dir, listeningFile)
	if now, err := os.ReadFile(file); err == nil && f.text != "" && string(now) == f.text {
		_ = os.Remove(file) // the worst is a client that finds nobody there
	}
}
