package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/control"
)

// This file has what is asked of a host on its control socket.

// doorOf returns the control socket of the host with this directory.
func doorOf(dir string) (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		home = dir
	}
	dirs, err := conf.Locate(dir, os.Getenv, os.Getuid(), home)
	if err != nil {
		return "", err
	}
	return control.SocketPath(dirs.Runtime, dirs.AccountRuntime)
}

func askHost(ctx context.Context, door, command string, args ...string) (control.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, soakPatience)
	defer cancel()
	a, err := control.Call(ctx, door, control.Request{Command: command, Args: args})
	if err == nil && a.Status != 0 {
		err = fmt.Errorf("%s: %s", command, a.Error)
	}
	return a, err
}

// statusOf is the status of the host with this control socket.
func statusOf(ctx context.Context, door string) (control.Status, error) {
	var status control.Status
	a, err := askHost(ctx, door, "status")
	if err == nil {
		err = json.Unmarshal(a.Data, &status)
	}
	return status, err
}
