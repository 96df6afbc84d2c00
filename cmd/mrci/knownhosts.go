package main

import (
	"fmt"

	"mrci.dev/mrci/client"
)

type knownHostsCmd struct {
	List   listKnownHostsCmd `cmd:"" default:"1" help:"Print the hosts whose keys are known."`
	Forget forgetHostCmd     `cmd:"" help:"Forget the key of a host."`
}

type listKnownHostsCmd struct{}

func (*listKnownHostsCmd) Run(a *app) error {
	known, err := a.knownHosts()
	if err != nil {
		return err
	}
	hosts, err := known.Hosts()
	if err != nil {
		return err
	}
	for _, host := range hosts {
		if _, err := fmt.Fprintln(a.stdout, host[0], host[1]); err != nil {
			return err
		}
	}
	return nil
}

type forgetHostCmd struct {
	Host string `arg:"" name:"HOST" help:"ADDR[:PORT], as it was typed."`
}

func (cmd *forgetHostCmd) Run(a *app) error {
	addr, err := client.Address(cmd.Host)
	if err != nil {
		return exitError{exitUsage, err}
	}
	known, err := a.knownHosts()
	if err != nil {
		return err
	}
	found, err := known.Forget(addr)
	if err == nil && !found {
		err = fmt.Errorf("no key of %s is known (%s)", addr, known.Path)
	}
	return err
}
