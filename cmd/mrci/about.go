package main

import (
	"errors"
	"fmt"
)

type aboutCmd struct{}

// Run prints what -about shows (state 6).
func (*aboutCmd) Run(a *app) error {
	_, err := fmt.Fprintf(a.stdout, `mrci %s, the Modular Remote Command Interpreter
Licence: Apache License, version 2.0
It comes without any warranty, to the extent that the law permits.
`, version())
	return err
}

type driversCmd struct{}

// Run prints the values of db_driver that this version serves, a line each.
func (*driversCmd) Run(a *app) error {
	_, err := fmt.Fprintln(a.stdout, "QSQLITE")
	return err
}

// oldModuleModeCmd stands for the switches with which earlier releases started
// their own built-in commands as processes.
type oldModuleModeCmd struct {
	Name []string `arg:"" optional:""`
}

// Run says that there is no such mode.
func (*oldModuleModeCmd) Run(*app) error {
	return errors.New("built-in commands run inside the host; list them with: mrci run HOST ls_cmds")
}
