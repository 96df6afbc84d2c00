package main

import (
	"context"
	"fmt"

	"mrci.dev/mrci/internal/host"
)

type addAdminCmd struct {
	Name string   `arg:"" name:"NAME" help:"User name of the administrator."`
	Set  []string `sep:"none" placeholder:"KEY=VALUE" help:"Set a key of conf.json for this run."`
}

// Run makes an account of rank 1 and prints its one-time password (state 6).
// The host may be running or not.
func (cmd *addAdminCmd) Run(a *app) error {
	settings, _, err := a.settings(cmd.Set, "")
	if err != nil {
		return err
	}
	ctx := context.Background()
	store, accounts, err := host.OpenAccounts(ctx, &settings, newLogger(a.stderr, &settings))
	if err != nil {
		return err
	}
	defer store.Close()
	user, password, err := accounts.CreateAdmin(ctx, cmd.Name)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "user: %s\npassword: %s\nIt has to be changed at the first login.\n", user.Name, string(password))
	return err
}
