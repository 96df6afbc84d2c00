package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/fsys"
	"mrci.dev/mrci/internal/host"
)

type hostCmd struct {
	Listen string   `placeholder:"ADDR:PORT" help:"Listen there instead of listening_addr and listening_port; port 0 takes a free one."`
	Set    []string `sep:"none" placeholder:"KEY=VALUE" help:"Set a key of conf.json for this run; may be given more than once."`
}

func (cmd *hostCmd) Run(a *app) error {
	settings, created, err := a.settings(cmd.Set, cmd.Listen)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := newLogger(a.stderr, &settings)
	if created {
		log.Info("configuration written", "file", settings.Dirs.File())
	}
	h, err := host.Open(ctx, host.Config{Conf: settings, Version: version(), Log: log})
	if err != nil {
		return err
	}
	defer h.Close()
	if err := cmd.greet(ctx, a, h, &settings); err != nil {
		return err
	}
	forget, err := announce(settings.Dirs.Runtime, h.Addr())
	if err != nil {
		// Only `mrci connect` without a name needs it.
		log.Warn("address not announced", "err", err)
	}
	defer forget()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	return h.Run(ctx)
}

// greet makes the first administrator and tells how to connect.
func (cmd *hostCmd) greet(ctx context.Context, a *app, h *host.Host, settings *conf.Config) error {
	var b []byte
	name := ""
	if settings.FirstAdmin {
		user, password, made, err := h.EnsureFirstAdmin(ctx)
		if err != nil {
			return err
		}
		if made {
			name = user
			text := withPassword("This host is new. Its first administrator, with a password for one login:\nuser: "+user, password, "\n")
			defer clear(text)
			if _, err := a.stdout.Write(text); err != nil {
				return err
			}
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
	if name != "" {
		b = fmt.Appendf(b, "Then log in with: auth -user %s\n", name)
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
	home, err := os.UserHomeDir()
	if err != nil && a.dir == "" {
		return settings, false, fmt.Errorf("%w; say where to keep data with --dir DIR", err)
	}
	dirs, err := conf.Locate(a.dir, a.getenv, os.Getuid(), home)
	if err != nil {
		return settings, false, err
	}
	if settings, created, err = conf.LoadOrCreate(dirs.File(), dirs); err != nil {
		return settings, false, err
	}
	if listen != "" {
		addr, port, err := net.SplitHostPort(listen)
		if err != nil {
			return settings, false, fmt.Errorf("--listen %s: want ADDR:PORT, such as 127.0.0.1:35516 or [::]:35516", listen)
		}
		if addr == "" {
			addr = "::"
		}
		set = append(set, "listening_addr="+addr, "listening_port="+port)
	}
	if err := settings.Set(set...); err != nil {
		return settings, false, err
	}
	return settings, created, nil
}

// newLogger writes the program's log in the configured form.
func newLogger(w io.Writer, settings *conf.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: settings.LogLevel}
	if settings.LogFormat == conf.LogJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
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

// announceFile holds the address at which clients of this machine find the
// host of a directory.
const announceFile = "listening"

// announce leaves the host's address for clients of this machine. forget takes
// it back; it is never nil.
func announce(dir string, addr netip.AddrPort) (forget func(), err error) {
	forget = func() {}
	switch ip := addr.Addr(); {
	case ip.IsUnspecified() && ip.Is6():
		addr = netip.AddrPortFrom(netip.IPv6Loopback(), addr.Port())
	case ip.IsUnspecified():
		addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), addr.Port())
	}
	file := filepath.Join(dir, announceFile)
	text := addr.String() + "\n"
	if err := fsys.Replace(file, []byte(text), 0o600); err != nil {
		return forget, err
	}
	return func() {
		// Another host of the same directory may have taken the place.
		if now, err := os.ReadFile(file); err == nil && string(now) == text {
			_ = os.Remove(file) // the worst is a client that finds nobody there
		}
	}, nil
}
