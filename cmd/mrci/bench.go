package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"time"

	"mrci.dev/mrci/internal/bench"
)

// benchCmd measures a host that it starts itself.
type benchCmd struct {
	What string `arg:"" default:"all" enum:"all,call,connect,login,idle,tls,abuse,serve" help:"What to measure: all, call, connect, login, idle, tls or abuse."`
	Role string `arg:"" optional:"" hidden:"" help:"What a process that was started by another one is for."`

	JSON      bool          `name:"json" help:"Print the report as JSON."`
	Mode      string        `default:"both" enum:"both,plain,tls" help:"Measure clear text, TLS or both."`
	Rounds    int           `default:"15" help:"Rounds of each measurement; the median counts."`
	Time      time.Duration `default:"300ms" help:"How long a round lasts."`
	Connects  int           `default:"100" help:"Connections in a round of connect, logins in a round of login."`
	Clients   int           `default:"50" help:"Clients that call at once."`
	Depth     int           `default:"16" help:"Calls in flight of each client in the pipelined measurement; 1 leaves it out."`
	Sessions  int           `default:"5000" help:"Sessions that idle holds."`
	Attackers int           `default:"1000" help:"Connections that misbehave at once in abuse."`
	Profile   string        `placeholder:"DIR" help:"Write profiles of the host to DIR; figures are then a little worse."`
}

// serveWord makes a process play a role instead of measuring.
const serveWord = "serve"

func (cmd *benchCmd) Run(a *app) error {
	if cmd.What == serveWord {
		return cmd.serve(a)
	}
	if cmd.Role != "" {
		return fmt.Errorf("unexpected argument %s", cmd.Role)
	}
	if min(cmd.Rounds, cmd.Connects, cmd.Clients, cmd.Depth, cmd.Sessions, cmd.Attackers) < 1 || cmd.Time <= 0 {
		return fmt.Errorf("--rounds, --time, --connects, --clients, --depth, --sessions and --attackers must be above 0")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	modes := []bench.Mode{bench.Plain, bench.TLS}
	if cmd.Mode != "both" {
		modes = []bench.Mode{bench.Mode(cmd.Mode)}
	}
	b, err := bench.New(bench.Options{
		Rounds: cmd.Rounds, Round: cmd.Time, Connects: cmd.Connects, Sessions: cmd.Sessions,
		Clients: cmd.Clients, Depth: cmd.Depth, Attackers: cmd.Attackers, Modes: modes, Profile: cmd.Profile,
		Program: []string{self, "bench", serveWord}, Progress: a.stderr,
	})
	if err != nil {
		return err
	}
	defer b.Close()
	names := []string{cmd.What}
	if cmd.What == "all" {
		names = bench.Names
	}
	var rows []bench.Row
	for _, name := range names {
		part, err := b.Run(ctx, name)
		if err != nil {
			return err
		}
		rows = append(rows, part...)
	}
	report := bench.NewReport(rows)
	if cmd.JSON {
		return report.WriteJSON(a.stdout)
	}
	return report.WriteTable(a.stdout)
}

// serve plays a role until standard input ends.
func (cmd *benchCmd) serve(a *app) error {
	var role bench.Role
	if err := json.Unmarshal([]byte(cmd.Role), &role); err != nil {
		return fmt.Errorf("role of this process: %w", err)
	}
	if role.Kind != bench.RoleHost {
		return bench.Serve(context.Background(), role, a.stdin, a.stdout)
	}
	go func() { // ends with the process
		var none atomic.Uint64
		bench.Control(a.stdin, a.stdout, &none)
		// The host ends as it does for anybody, in good order.
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Signal(os.Interrupt)
		}
		if err != nil {
			os.Exit(1)
		}
	}()
	a.dir = role.Dir
	return (&hostCmd{Listen: bench.ListenAddr, Set: role.Set}).Run(a)
}
