package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"mrci.dev/mrci/internal/bench"
	"mrci.dev/mrci/internal/bench/fanout"
)

// benchCmd measures a host that it starts itself.
type benchCmd struct {
	What string `arg:"" default:"all" enum:"all,call,connect,login,idle,tls,abuse,cast,slow,crowd,soak,serve" help:"What to measure: all, call, connect, login, idle, tls or abuse; or what is not in all: cast, slow, crowd or soak."`
	Role string `arg:"" optional:"" hidden:"" help:"What a process that was started by another one is for."`

	JSON      bool          `name:"json" help:"Print the report as JSON."`
	Mode      string        `default:"both" enum:"both,plain,tls" help:"Measure clear text, TLS or both."`
	Rounds    int           `placeholder:"N" help:"Rounds of each measurement; the median counts (15; 5 of cast and slow)."`
	Time      time.Duration `placeholder:"TIME" help:"How long a round lasts (300ms; 1s in cast and slow)."`
	Connects  int           `default:"100" help:"Connections in a round of connect, logins in a round of login."`
	Clients   int           `default:"50" help:"Clients that call at once, or that a soak has."`
	Depth     int           `default:"16" help:"Calls in flight of each client in the pipelined measurement; 1 leaves it out."`
	Sessions  int           `placeholder:"N" help:"Sessions that idle holds (5000), or that crowd has (10000)."`
	Attackers int           `default:"1000" help:"Connections that misbehave at once in abuse."`
	Receivers []int         `default:"1,10,100,1000" help:"Receivers of cast; slow takes the largest."`
	Sizes     []int         `default:"128,4096,65536" help:"Bytes of a cast's payload."`
	Idle      int           `default:"5000" help:"Idle sessions beside casts, in a second host; 0 leaves it out."`
	Peer      string        `placeholder:"FILE" help:"The program bin/nats-peer, which make peers builds: cast then measures NATS too."`
	NoHost    bool          `help:"Leave the host out of cast: floor and NATS alone."`
	Group     int           `default:"100" help:"Sessions of crowd that share a sub-channel."`
	Casts     int           `default:"10" help:"Casts of each session of crowd."`
	SlowRate  int           `default:"10000" help:"Bytes a second that the slow reader of slow reads."`
	Duration  time.Duration `default:"1h" help:"How long the load of soak lasts."`
	WarmUp    time.Duration `placeholder:"TIME" help:"How long the load of soak lasts before it counts (a tenth of --duration)."`
	Rate      float64       `default:"60" help:"Steps a second of all clients of soak together."`
	Seed      uint64        `help:"Of what the clients of soak do; 0 takes another one each time."`
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
	cmd.preset()
	if min(cmd.Rounds, cmd.Connects, cmd.Clients, cmd.Depth, cmd.Sessions, cmd.Attackers) < 1 || cmd.Time <= 0 {
		return fmt.Errorf("--rounds, --time, --connects, --clients, --depth, --sessions and --attackers must be above 0")
	}
	if err := cmd.checkCasts(); err != nil {
		return err
	}
	if cmd.Duration <= 0 || cmd.WarmUp < 0 || !(cmd.Rate > 0) {
		return fmt.Errorf("--duration, --warm-up and --rate must be above 0")
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
		Cast: bench.CastOptions{
			Receivers: cmd.Receivers, Sizes: cmd.Sizes, Idle: cmd.Idle, Peer: cmd.Peer, NoHost: cmd.NoHost,
			Sessions: cmd.Sessions, Group: cmd.Group, Casts: cmd.Casts, SlowSize: slowSize, SlowRate: cmd.SlowRate,
		},
		Program: []string{self, "bench", serveWord}, Progress: a.stderr,
	})
	if err != nil {
		return err
	}
	defer b.Close()
	if cmd.What == soakWord {
		return cmd.soak(ctx, a, b)
	}
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

// slowSize is the size of the casts that a slow reader does not take: with less
// it takes long until too much waits for it.
const slowSize = 4096

// preset fills in what depends on the measurement.
func (cmd *benchCmd) preset() {
	rounds, round, sessions := 15, 300*time.Millisecond, 5000
	switch cmd.What {
	case "cast", "slow":
		rounds, round = 5, time.Second
	case "crowd":
		sessions = 10_000
	}
	if cmd.Rounds == 0 {
		cmd.Rounds = rounds
	}
	if cmd.Time == 0 {
		cmd.Time = round
	}
	if cmd.Sessions == 0 {
		cmd.Sessions = sessions
	}
}

// checkCasts checks what casts are measured with.
func (cmd *benchCmd) checkCasts() error {
	const mostReceivers, mostBytes, mostGroups = 20_000, 1 << 20, 255
	bad := func(values []int, least, most int) bool {
		return len(values) == 0 || slices.Min(values) < least || slices.Max(values) > most
	}
	switch {
	case bad(cmd.Receivers, 1, mostReceivers):
		return fmt.Errorf("--receivers must be 1 to %d", mostReceivers)
	case bad(cmd.Sizes, fanout.MinSize, mostBytes):
		return fmt.Errorf("--sizes must be %d to %d", fanout.MinSize, mostBytes)
	case cmd.Idle < 0 || cmd.SlowRate < 1:
		return errors.New("--idle must be 0 or more, --slow-rate above 0")
	case cmd.What == "crowd" && (cmd.Group < 2 || cmd.Casts < 1 || cmd.Sessions%cmd.Group != 0 || cmd.Sessions/cmd.Group > mostGroups):
		return fmt.Errorf("--group must be 2 or more and a divisor of --sessions, at most %d groups, and --casts above 0", mostGroups)
	}
	return nil
}

// soakWord is a measurement with a report of its own.
const soakWord = "soak"

// soakFill is what the page caches of the database hold, and more than that.
const soakFill = 8 << 20

// soak runs a mixed load; the error tells when something has grown or was not
// as expected.
func (cmd *benchCmd) soak(ctx context.Context, a *app, b *bench.Bench) error {
	opts := bench.SoakOptions{
		Duration: cmd.Duration, WarmUp: cmd.WarmUp, Every: min(time.Minute, cmd.Duration/4),
		Clients: cmd.Clients, Processes: 4, Rate: cmd.Rate, FillBytes: soakFill, Seed: cmd.Seed,
	}
	if opts.WarmUp == 0 {
		opts.WarmUp = cmd.Duration / 10
	}
	if runtime.GOOS != "windows" {
		opts.Hangup = syscall.SIGHUP
	}
	report, err := b.Soak(ctx, opts)
	if err != nil {
		return err
	}
	write := report.WriteTable
	if cmd.JSON {
		write = report.WriteJSON
	}
	if err := write(a.stdout); err != nil {
		return err
	}
	if !report.Good() {
		return errors.New("something has grown or was not as expected; the report says what")
	}
	return nil
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
