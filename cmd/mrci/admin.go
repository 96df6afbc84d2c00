package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/host"
)

// adminCmd is what the sub-commands on accounts share. They work on the
// database, with the host running or not, and count from the next login on
// (state 6).
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
	return cmd.run(a, (*account.Service).CreateAdminWith, (*account.Service).CreateAdmin)
}

// Run gives an account a new one-time password and prints it.
func (cmd *resetPasswordCmd) Run(a *app) error {
	return cmd.run(a, (*account.Service).ResetPasswordTo, (*account.Service).ResetPassword)
}

// Run gives an account rank 1.
func (cmd *elevateCmd) Run(a *app) error {
	return cmd.accounts(a, func(ctx context.Context, rules *account.Service) error {
		user, err := rules.Elevate(ctx, cmd.Name)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.stdout, "user: %s\nIt has rank 1 from its next login on.\n", user.Name)
		return err
	})
}

// accounts opens the database for f.
func (cmd *adminCmd) accounts(a *app, f func(ctx context.Context, rules *account.Service) error) error {
	settings, _, err := a.settings(cmd.Set, "")
	if err != nil {
		return err
	}
	if a.serviceRuns(settings.Dirs) {
		fmt.Fprintf(a.stderr, "mrci: note: this is about the accounts in %s; for those of the host of this machine use sudo\n", settings.DBHostName)
	}
	ctx := context.Background()
	store, rules, err := host.OpenAccounts(ctx, &settings, newLogger(a.stderr, &settings))
	if err != nil {
		return err
	}
	defer store.Close()
	return f(ctx, rules)
}

// run gives an account the password on standard input, or one that it makes.
func (cmd *passwordCmd) run(a *app,
	with func(*account.Service, context.Context, string, account.Secret) (account.User, error),
	generated func(*account.Service, context.Context, string) (account.User, account.Secret, error),
) error {
	var given account.Secret
	if cmd.PasswordStdin {
		var err error
		if given, err = readPassword(a.stdin); err != nil {
			return err
		}
	}
	return cmd.accounts(a, func(ctx context.Context, rules *account.Service) error {
		if cmd.PasswordStdin {
			user, err := with(rules, ctx, cmd.Name, given)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.stdout, "user: %s\n", user.Name)
			return err
		}
		user, password, err := generated(rules, ctx, cmd.Name)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.stdout, "user: %s\npassword: %s\nIt has to be changed at the next login.\n", user.Name, string(password))
		return err
	})
}

// maxPasswordLine bounds the line on standard input: 200 characters (state 2.5)
// and the end of the line.
const maxPasswordLine = 200*4 + 2

// readPassword reads one line. Nothing but its end is cut off.
func readPassword(r io.Reader) (account.Secret, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxPasswordLine+1)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	if line == "" {
		return "", errors.New("no password on standard input; give it as one line")
	}
	return account.Secret(line), nil
}
