package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/host"
)

// adminCmd is what the sub-commands on accounts share. They work on the
// database, with the host running or not, and tell a running one, whose
// sessions then see the change at once (state 6).
type adminCmd struct {
	Name string   `arg:"" name:"NAME" help:"User name of the account."`
	Set  []string `sep:"none" placeholder:"KEY=VALUE" help:"Set a key of conf.json for this run."`
}

// passwordCmd is adminCmd for those that give an account a password.
type passwordCmd struct {
	adminCmd      `embed:""`
	PasswordStdin bool `help:"Read the password from standard input, one line; it need not be changed then."`
}

type addAdminCmd struct {
	passwordCmd `embed:""`
}

type elevateCmd struct {
	adminCmd `embed:""`
}

type resetPasswordCmd struct {
	passwordCmd `embed:""`
}

// Run makes an account of rank 1 and prints its one-time password.
func (cmd *addAdminCmd) Run(a *app) error {
	return cmd.run(a, "add-admin", (*account.Service).CreateAdminWith, (*account.Service).CreateAdmin)
}

// Run gives an account a new one-time password and prints it.
func (cmd *resetPasswordCmd) Run(a *app) error {
	return cmd.run(a, "reset-password", (*account.Service).ResetPasswordTo, (*account.Service).ResetPassword)
}

// Run gives an account rank 1.
func (cmd *elevateCmd) Run(a *app) error {
	var user account.User
	dirs, err := cmd.accounts(a, "elevate", func(ctx context.Context, rules *account.Service) (err error) {
		user, err = rules.Elevate(ctx, cmd.Name)
		return err
	})
	if err != nil {
		return err
	}
	told, err := a.tell(dirs, user.Name)
	since := "from its next login on"
	if told {
		since = "now, also where it is logged in"
	}
	_, printErr := fmt.Fprintf(a.stdout, "user: %s\nIt has rank 1 %s.\n", user.Name, since)
	return errors.Join(err, printErr)
}

// accounts opens the database for f, which does what command says, and returns
// whose it is. A change is in the audit log.
func (cmd *adminCmd) accounts(a *app, command string, f func(ctx context.Context, rules *account.Service) error) (conf.Dirs, error) {
	settings, _, err := a.settings(cmd.Set, "")
	if err != nil {
		return conf.Dirs{}, err
	}
	if a.serviceRuns(settings.Dirs) {
		fmt.Fprintf(a.stderr, "mrci: note: this is about the accounts in %s; for those of the host of this machine use sudo\n", settings.DBHostName)
	}
	ctx := context.Background()
	store, rules, err := host.OpenAccounts(ctx, &settings, newLogger(a.stderr, &settings))
	if err != nil {
		return conf.Dirs{}, err
	}
	defer store.Close()
	if err := f(ctx, rules); err != nil {
		return settings.Dirs, err
	}
	return settings.Dirs, host.AuditLocal(ctx, store, command, cmd.Name)
}

// run gives an account the password on standard input, or one that it makes.
func (cmd *passwordCmd) run(a *app, command string,
	with func(*account.Service, context.Context, string, account.Secret) (account.User, error),
	generated func(*account.Service, context.Context, string) (account.User, account.Secret, error),
) error {
	var given account.Secret
	if cmd.PasswordStdin {
		var err error
		if given, err = readPassword(a.stdin); err != nil {
			return err
		}
		defer given.Wipe()
	}
	var name string
	dirs, err := cmd.accounts(a, command, func(ctx context.Context, rules *account.Service) error {
		if cmd.PasswordStdin {
			user, err := with(rules, ctx, cmd.Name, given)
			if err != nil {
				return err
			}
			name = user.Name
			_, err = fmt.Fprintf(a.stdout, "user: %s\n", user.Name)
			return err
		}
		user, password, err := generated(rules, ctx, cmd.Name)
		if err != nil {
			return err
		}
		name = user.Name
		text := withPassword("user: "+user.Name, password, "It has to be changed at the next login.\n")
		defer clear(text)
		_, err = a.stdout.Write(text)
		return err
	})
	if err != nil {
		return err
	}
	_, err = a.tell(dirs, name)
	return err
}

// maxPasswordLine bounds the line on standard input: 200 characters (state 2.5)
// and the end of the line.
const maxPasswordLine = 200*4 + 2

// readPassword reads one line. Nothing but its end is cut off.
func readPassword(r io.Reader) (account.Secret, error) {
	line := make(account.Secret, maxPasswordLine+1)
	end := -1
	for n := 0; end < 0 && n < len(line); {
		m, err := r.Read(line[n:])
		n += m
		end = bytes.IndexByte(line[:n], '\n')
		if end < 0 && err != nil && !errors.Is(err, io.EOF) {
			line.Wipe()
			return nil, fmt.Errorf("read the password: %w", err)
		}
		if end < 0 && (err != nil || n == len(line)) {
			end = n
		}
	}
	clear(line[end:])
	line = bytes.TrimSuffix(line[:end], []byte("\r"))
	if len(line) == 0 {
		return nil, errors.New("no password on standard input; give it as one line")
	}
	return line, nil
}
