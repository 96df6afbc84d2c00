package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/internal/tui"
	"mrci.dev/mrci/wire"
)

// Exit statuses of the client side (cli 2); 2 to 7 are return codes.
const (
	exitUsage     = 64
	exitNoCommand = 65
	exitLost      = 69
	exitTimeUp    = 75
	exitProtocol  = 76
	exitLogin     = 77
)

var (
	errTimeUp      = errors.New("time is up")
	errInterrupted = errors.New("interrupted")
	errTerminated  = errors.New("terminated")
)

// sessionFlags name a user and say whom to trust (cli 1).
type sessionFlags struct {
	User          string        `placeholder:"NAME" help:"Log in as NAME, or as the account with that e-mail address (environment MRCI_USER)."`
	PasswordFD    int           `name:"password-fd" default:"-1" placeholder:"N" help:"Read the password from file descriptor N."`
	NewPasswordFD int           `name:"new-password-fd" default:"-1" placeholder:"N" help:"Read a password that the host demands instead from file descriptor N."`
	Pin           string        `placeholder:"SHA256:HEX" help:"The fingerprint that the host's key must have."`
	AcceptNew     bool          `help:"Trust and remember the key of a host that was never seen."`
	Plain         bool          `help:"Allow clear text to another machine."`
	Timeout       time.Duration `placeholder:"DURATION" help:"Give up after this time, such as 90s."`
}

// link is an open session and what belongs to it.
type link struct {
	*client.Client
	app   *app
	flags sessionFlags
	input *tui.Input // the person, or the lines that stand for one

	password, newPassword string // from outside; empty: ask
}

// open connects to a host, asks it for extensions and logs in. Errors have their
// exit status.
func (a *app) open(ctx context.Context, host string, flags sessionFlags, input *tui.Input, want wire.Extensions, onEvent func(client.Event)) (*link, error) {
	addr, err := client.Address(host)
	if err != nil {
		return nil, exitError{exitUsage, err}
	}
	if flags.Pin != "" {
		if flags.Pin, err = client.ParseFingerprint(flags.Pin); err != nil {
			return nil, exitError{exitUsage, err}
		}
	}
	if flags.User == "" {
		flags.User = a.getenv("MRCI_USER")
	}
	l := &link{app: a, flags: flags, input: input}
	if l.password, err = a.secret(flags.PasswordFD, "MRCI_PASSWORD"); err != nil {
		return nil, exitError{exitUsage, err}
	}
	if l.newPassword, err = a.secret(flags.NewPasswordFD, "MRCI_NEW_PASSWORD"); err != nil {
		return nil, exitError{exitUsage, err}
	}
	l.Client, err = client.Dial(ctx, addr, client.Config{
		App:        "mrci " + version(),
		Extensions: want,
		AllowPlain: flags.Plain,
		Pin:        flags.Pin,
		VerifyKey:  func(addr, fingerprint string) error { return l.verify(ctx, addr, fingerprint) },
		Stall:      -1, // a reader of our output that rests, such as a pager, holds the command back
		OnEvent:    onEvent,
	})
	if err != nil {
		return nil, clientError(ctx, fmt.Errorf("connect to %s: %w", addr, err))
	}
	if flags.User != "" {
		if err := l.Login(ctx, flags.User, l.loginAnswer); err != nil {
			l.Close()
			return nil, clientError(ctx, err)
		}
	}
	return l, nil
}

// clientError gives an error of the client library its exit status.
func clientError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTimeUp):
		return exitError{exitTimeUp, errTimeUp}
	case errors.Is(cause, errInterrupted), errors.Is(cause, errTerminated):
		return exitError{int(wire.Aborted), cause}
	}
	var (
		noCommand *client.NoCommandError
		login     *client.LoginError
		cert      *client.CertificateError
	)
	switch {
	case errors.As(err, &noCommand):
		return exitError{exitNoCommand, err}
	case errors.As(err, &login):
		return exitError{exitLogin, err}
	case errors.As(err, &cert), errors.Is(err, client.ErrProtocol):
		return exitError{exitProtocol, err}
	case errors.Is(err, client.ErrPlain):
		return exitError{exitProtocol, fmt.Errorf("%w; allow it with --plain", err)}
	case errors.Is(err, client.ErrUnreachable), errors.Is(err, client.ErrLost):
		return exitError{exitLost, err}
	case errors.Is(err, client.ErrClosed): // by the third Ctrl-C
		return exitError{int(wire.Aborted), errInterrupted}
	}
	return err
}

// exitStatus is the exit status that stands for the end of a call (cli 2).
func exitStatus(code wire.ReturnCode) int {
	switch {
	case code == wire.NoErrors:
		return 0
	case code >= 2 && code <= 63:
		return int(code)
	}
	return int(wire.ExecutionFail)
}

// verify decides about a key that no authority vouches for. A pin, if there is
// one, has matched.
func (l *link) verify(ctx context.Context, addr, fingerprint string) error {
	known, err := l.app.knownHosts()
	if err == nil {
		err = known.Verify(addr, fingerprint)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, client.ErrChangedKey):
		return fmt.Errorf("%w; if that is right: mrci known-hosts forget %s", err, addr)
	case !errors.Is(err, client.ErrUnknownKey):
		return err
	case l.flags.Pin != "":
		return nil
	case l.flags.AcceptNew:
		return known.Add(addr, fingerprint)
	case !l.canAsk():
		return fmt.Errorf("%w; trust it with --accept-new or --pin %s", err, fingerprint)
	}
	fmt.Fprintf(l.app.stderr, "The key of %s is not known:\n%s\nTrust it? [y/N] ", addr, fingerprint)
	answer, readErr := l.input.Line(ctx)
	if readErr != nil {
		return readErr
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return err
	}
	return known.Add(addr, fingerprint)
}

// canAsk reports whether a person sees questions and can answer them.
func (l *link) canAsk() bool {
	return l.input != nil && l.input.Terminal() && tui.IsTerminal(l.app.stderr)
}

// loginAnswer answers what the host asks at a login.
func (l *link) loginAnswer(ctx context.Context, q client.Question) (string, error) {
	fixed, what := "", "a new user name"
	switch q.Kind {
	case client.Password:
		fixed, what = l.password, "the password"
	case client.NewPassword:
		fixed, what = l.newPassword, "a new password"
	}
	if fixed != "" {
		if q.Try > 1 {
			return "", client.ErrNoAnswer
		}
		return fixed, nil
	}
	if !l.canAsk() {
		return "", fmt.Errorf("the host asks for %s, and there is nobody to ask", what)
	}
	if q.Refused != "" {
		fmt.Fprintln(l.app.stderr, tui.Printable(strings.TrimRight(q.Refused, "\r\n")))
	}
	return l.ask(ctx, q)
}

// ask shows a prompt to a person and returns the answer.
func (l *link) ask(ctx context.Context, q client.Question) (string, error) {
	fmt.Fprint(l.app.stderr, promptText(q))
	if !q.Hidden {
		return l.input.Line(ctx)
	}
	answer, err := l.input.Hidden(ctx)
	fmt.Fprintln(l.app.stderr) // the one that was typed is not shown either
	return answer, err
}

// promptText is a question as a terminal shows it.
func promptText(q client.Question) string {
	prompt := tui.Printable(q.Text)
	if prompt != "" && !strings.HasSuffix(prompt, " ") && !strings.HasSuffix(prompt, "\n") {
		prompt += " "
	}
	return prompt
}

// secret reads the first line of a file descriptor, and without one takes the
// environment variable.
func (a *app) secret(fd int, variable string) (string, error) {
	if fd < 0 {
		return a.getenv(variable), nil
	}
	// The file stays open, and no byte behind the line is read: the next
	// secret, or the answers to prompts, may stand there.
	f := a.files[fd]
	if f == nil {
		f = os.NewFile(uintptr(fd), fmt.Sprintf("file descriptor %d", fd))
		if f == nil {
			return "", fmt.Errorf("file descriptor %d is not open", fd)
		}
		if a.files == nil {
			a.files = make(map[int]*os.File)
		}
		a.files[fd] = f
	}
	var text []byte
	for one := make([]byte, 1); ; {
		n, err := f.Read(one)
		if n == 1 && one[0] != '\n' {
			text = append(text, one[0])
		} else if n == 1 || err == io.EOF && len(text) > 0 {
			return strings.TrimSuffix(string(text), "\r"), nil
		} else if err != nil {
			return "", fmt.Errorf("read password from %s: %w", f.Name(), err)
		}
	}
}

// knownHosts returns the file of keys that were trusted before (cli 1).
func (a *app) knownHosts() (client.KnownHosts, error) {
	dir := a.getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) {
		var err error
		if dir, err = os.UserConfigDir(); err != nil {
			return client.KnownHosts{}, fmt.Errorf("find known hosts: %w", err)
		}
	}
	return client.KnownHosts{Path: filepath.Join(dir, "mrci", "known_hosts")}, nil
}

// listeningFile is where a running host says its ADDR:PORT, in its runtime
// directory.
const listeningFile = "listening"

// localHost returns the address of the host that runs on this machine for the
// directory, or where one would listen if nothing was configured.
func (a *app) localHost() string {
	fallback := net.JoinHostPort("127.0.0.1", client.DefaultPort)
	dirs, err := a.hostDirs()
	if err != nil {
		return fallback
	}
	text, err := os.ReadFile(filepath.Join(dirs.Runtime, listeningFile))
	if err != nil {
		return fallback // no host has run there
	}
	addr, port, err := net.SplitHostPort(strings.TrimSpace(string(text)))
	if err != nil {
		return fallback
	}
	// A host that listens everywhere is reached here.
	switch ip := net.ParseIP(addr); {
	case addr == "", ip != nil && ip.To4() != nil && ip.IsUnspecified():
		addr = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		addr = "::1"
	}
	return net.JoinHostPort(addr, port)
}

// withTimeout returns the context of a whole client command.
func withTimeout(timeout time.Duration) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	if timeout > 0 {
		timer := time.AfterFunc(timeout, func() { cancel(errTimeUp) })
		context.AfterFunc(ctx, func() { timer.Stop() })
	}
	return ctx, cancel
}

// watchInterrupts calls f for each Ctrl-C until stop is called, which waits
// for a running f.
func (a *app) watchInterrupts(f func()) (stop func()) {
	if a.interrupts != nil {
		return watch(a.interrupts, f)
	}
	return watchSignals(f, os.Interrupt)
}

// watchTermination does so for the signal that asks the program to end, and
// watchResume for the one that goes on with it, where there is one.
func (a *app) watchTermination(f func()) (stop func()) { return watchSignals(f, syscall.SIGTERM) }

func (a *app) watchResume(f func()) (stop func()) { return watchSignals(f, resumeSignals...) }

func watchSignals(f func(), which ...os.Signal) (stop func()) {
	if len(which) == 0 { // Notify would mean all
		return func() {}
	}
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, which...)
	end := watch(signals, f)
	return func() {
		signal.Stop(signals)
		end()
	}
}

// watch calls f for each signal until stop is called, which waits for a
// running f.
func watch(signals <-chan os.Signal, f func()) (stop func()) {
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-signals:
				f()
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-ended
	}
}
