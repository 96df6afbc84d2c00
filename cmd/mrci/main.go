// Command mrci is the whole product in one binary: the host, its
// administration, and clients for people and for scripts. Each sub-command has
// a file of its own and only puts together what the packages offer; signals,
// the environment and exit statuses are handled here and nowhere else.
//
// Sub-commands of the host side exit with 1 for any error, those of the client
// side with the statuses of the page on the command line, section 2.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// commandLine is every sub-command and every option that stands for all.
type commandLine struct {
	Dir string `placeholder:"DIR" help:"Keep configuration, data, certificate and control socket below DIR (environment MRCI_DIR)."`

	Host          hostCmd          `cmd:"" help:"Run the host."`
	Status        statusCmd        `cmd:"" help:"Show how the running host is."`
	Stop          stopCmd          `cmd:"" help:"Stop the running host, and wait until it has ended."`
	Reload        reloadCmd        `cmd:"" help:"Make the running host read configuration and certificates again."`
	Config        configCmd        `cmd:"" help:"Show or check the configuration."`
	AddAdmin      addAdminCmd      `cmd:"" name:"add-admin" help:"Make an administrator's account."`
	Elevate       elevateCmd       `cmd:"" help:"Give an account rank 1."`
	ResetPassword resetPasswordCmd `cmd:"" name:"reset-password" help:"Give an account a new password."`

	Backup  backupCmd  `cmd:"" help:"Save accounts, configuration and certificate into one file."`
	Restore restoreCmd `cmd:"" help:"Put back what backup saved."`

	Connect    connectCmd    `cmd:"" help:"Type commands for a host."`
	Run        runCmd        `cmd:"" help:"Run one command on a host, for scripts."`
	KnownHosts knownHostsCmd `cmd:"" name:"known-hosts" help:"List or forget the keys of hosts."`

	Bench   benchCmd   `cmd:"" help:"Measure a host."`
	Version versionCmd `cmd:"" help:"Print the version."`

	About   aboutCmd         `cmd:"" hidden:"" help:"Print version, licence and warranty."`
	Drivers driversCmd       `cmd:"" hidden:"" help:"List the database drivers."`
	Module  oldModuleModeCmd `cmd:"" hidden:"" name:"old-module-mode"`
}

// clientCommands are those whose wrong use is exit status 64.
var clientCommands = map[string]bool{"connect": true, "run": true, "known-hosts": true}

// app is the process around a sub-command.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	files          map[int]*os.File // file descriptors named on the command line
	interrupts     <-chan os.Signal // nil: the process's own
	dir            string           // --dir or MRCI_DIR; may be empty
}

func main() {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv,
		files: map[int]*os.File{0: os.Stdin}}
	os.Exit(a.main(os.Args[1:]))
}

// main runs a command line and returns the exit status.
func (a *app) main(args []string) (status int) {
	defer func() {
		if p := recover(); p != nil {
			code, ok := p.(parserExit)
			if !ok {
				panic(p)
			}
			status = int(code)
		}
	}()
	var line commandLine
	parser, err := kong.New(&line,
		kong.Name("mrci"),
		kong.Description("Your server's commands, for people and for programs."),
		kong.Writers(a.stdout, a.stderr),
		kong.Exit(func(code int) { panic(parserExit(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		return a.fail(err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	if args, err = spelledAnew(args); err != nil {
		return a.fail(err)
	}
	ctx, err := parser.Parse(args)
	if err != nil {
		return a.fail(usageOf(err))
	}
	a.dir = line.Dir
	if a.dir == "" {
		a.dir = a.getenv("MRCI_DIR")
	}
	return a.fail(ctx.Run(a))
}

// parserExit is how the parser ends the program, after --help.
type parserExit int

// usageOf says what was wrong with the command line, in the words of somebody
// who typed it, and gives it its exit status.
func usageOf(err error) error {
	parse, ok := errors.AsType[*kong.ParseError](err)
	if !ok || parse.Context == nil {
		return err
	}
	text, help := err.Error(), "mrci"
	isClient := false
	for _, step := range parse.Context.Path {
		if step.Command != nil {
			help += " " + step.Command.Name
			isClient = isClient || clientCommands[step.Command.Name]
		}
	}
	help += " --help"
	if missing, ok := strings.CutPrefix(text, "expected \"<"); ok {
		name, _, _ := strings.Cut(missing, ">")
		text = fmt.Sprintf("%s is missing; %s tells more", name, help)
	} else if option, _, ok := strings.Cut(text, ": expected "); ok && strings.Contains(text, "<EOL>") {
		text = option + ": a value is missing"
	} else if strings.HasPrefix(text, "unknown flag ") && !strings.Contains(text, "did you mean") {
		text += "; " + help + " lists what there is"
	}
	err = errors.New(text)
	if isClient {
		return exitError{exitUsage, err}
	}
	return err
}

// exitError is an error with an exit status of its own. Without an error
// there is nothing to print.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

// fail prints what went wrong, on one line, and returns the exit status.
func (a *app) fail(err error) int {
	if err == nil {
		return 0
	}
	status := 1
	exit, coded := errors.AsType[exitError](err)
	if coded {
		status = exit.code
	}
	if !coded || exit.err != nil {
		fmt.Fprintf(a.stderr, "mrci: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return status
}
