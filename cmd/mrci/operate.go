package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/control"
	"mrci.dev/mrci/internal/host"
)

// The sub-commands that ask a running host over its control socket (state 7).
// They exit with 1 when no host runs.

type statusCmd struct {
	JSON bool `name:"json" help:"Print it as JSON, for programs."`
}

type stopCmd struct{}

type reloadCmd struct {
	Certificates bool   `help:"Read only the certificates again."`
	Listen       string `placeholder:"ADDR:PORT" help:"Take connections there from now on; sessions stay."`
}

// patience is how long a host may take to answer. One that stops is waited for
// as long as its own stop_timeout_s allows, and then some.
const patience = 30 * time.Second

// Run prints the status.
func (cmd *statusCmd) Run(a *app) error {
	got, err := a.ask(control.Request{Command: host.RequestStatus}, control.Call, patience)
	if err != nil {
		return err
	}
	text := got.Text
	if cmd.JSON {
		text = string(got.Data) + "\n"
	}
	_, err = io.WriteString(a.stdout, text)
	return err
}

// Run stops the host and returns when it has ended.
func (*stopCmd) Run(a *app) error {
	dirs, err := a.hostDirs()
	if err != nil {
		return err
	}
	settings, err := conf.Load(dirs.File(), dirs)
	if err != nil { // the host goes by what it had
		settings = conf.Defaults(dirs)
	}
	if _, err = a.ask(control.Request{Command: host.RequestStop}, control.CallUntilEnd, settings.StopTimeout+patience); err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.stdout, "The host has stopped.")
	return err
}

// Run has files read again, or the host listen elsewhere.
func (cmd *reloadCmd) Run(a *app) error {
	request := control.Request{Command: host.RequestReload}
	switch {
	case cmd.Listen != "" && cmd.Certificates:
		return errors.New("--certificates and --listen exclude each other")
	case cmd.Listen != "":
		addr, port, err := splitListen(cmd.Listen)
		if err != nil {
			return err
		}
		request = control.Request{Command: host.RequestListen, Args: []string{net.JoinHostPort(addr, port)}}
	case cmd.Certificates:
		request.Command = host.RequestCertificates
	}
	got, err := a.ask(request, control.Call, patience)
	if got.Text != "" {
		if _, err := io.WriteString(a.stdout, got.Text); err != nil {
			return err
		}
	}
	return err
}

// ask sends a request to the host of this --dir. An answer that is a refusal is
// an error, and is returned beside it.
func (a *app) ask(r control.Request, call func(context.Context, string, control.Request) (control.Answer, error), wait time.Duration) (control.Answer, error) {
	dirs, err := a.hostDirs()
	if err != nil {
		return control.Answer{}, err
	}
	path, err := control.SocketPath(dirs.Runtime, dirs.AccountRuntime)
	if err != nil {
		return control.Answer{}, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	got, err := call(ctx, path, r)
	switch {
	case errors.Is(err, control.ErrNotRunning) && a.serviceRuns(dirs):
		return got, errors.New("no host of this account is running; for the host of this machine use sudo")
	case errors.Is(err, control.ErrNotRunning):
		return got, fmt.Errorf("no host is running for %s; start one with: %s", dirs.Config, a.invocation("host"))
	case err != nil:
		return got, err
	case got.Status != 0:
		return got, errors.New(got.Error)
	}
	return got, nil
}

// serviceRuns reports whether a host may be running in the directories of the
// machine, where others than root find none without --dir.
func (a *app) serviceRuns(dirs conf.Dirs) bool {
	if a.dir != "" {
		return false
	}
	machine, err := conf.Locate("", func(string) string { return "" }, 0, "")
	if err != nil || machine.Runtime == dirs.Runtime {
		return false
	}
	_, err = os.Stat(machine.Runtime) // made for it, and removed with it
	return err == nil
}

// tell lets the running host know that an account was changed in the database,
// so that its sessions see it at once. Without a host there is nobody to tell.
func (a *app) tell(dirs conf.Dirs, name string) (told bool, err error) {
	path, err := control.SocketPath(dirs.Runtime, dirs.AccountRuntime)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	got, err := control.Call(ctx, path, control.Request{Command: host.RequestAccount, Args: []string{name}})
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return false, nil
	case err == nil && got.Status != 0:
		err = errors.New(got.Error)
	}
	if err != nil {
		return false, fmt.Errorf("the change is made, but the running host was not told, so that it counts from the next login on: %w", err)
	}
	return true, nil
}
