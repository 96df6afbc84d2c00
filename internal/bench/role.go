package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"sync/atomic"

	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/internal/bench/soak"
)

// The kinds of processes that take part.
const (
	RoleHost   = "host"   // the host itself; whoever has it starts it
	RoleFloor  = "floor"  // the floor, with a script
	RoleTLS    = "tls"    // the bare TLS accept loop
	RoleAttack = "attack" // a client that misbehaves
	RoleSoak   = "soak"   // clients of a soak
	// RoleCastFloor is the floor of casts, RoleTeam are clients that cast and
	// listen, as they are told (see team.go).
	RoleCastFloor = "cast-floor"
	RoleTeam      = "team"
)

// Role is what a process is started for.
type Role struct {
	Kind string `json:"kind"`

	Dir string   `json:"dir,omitempty"` // host
	Set []string `json:"set,omitempty"` // host: KEY=VALUE of the configuration

	Script string `json:"script,omitempty"` // floor: a file
	Chain  string `json:"chain,omitempty"`  // floors, tls: certificate; empty: clear text
	Key    string `json:"key,omitempty"`

	Attack     string      `json:"attack,omitempty"`
	Addr       string      `json:"addr,omitempty"`        // attack, soak: whom
	Account    raw.Account `json:"account"`               // attack: as whom
	ListFrames int         `json:"list_frames,omitempty"` // attack: see Script
	Conns      int         `json:"conns,omitempty"`       // attack: connections that are held

	First   int     `json:"first,omitempty"`   // soak: number of the first client
	Clients int     `json:"clients,omitempty"` // soak: how many
	Rate    float64 `json:"rate,omitempty"`    // soak: steps of all of them a second
	Seed    uint64  `json:"seed,omitempty"`    // soak

	Team string `json:"team,omitempty"` // team: what it is for, in names of profiles
}

// ListenAddr is where servers listen.
const ListenAddr = "127.0.0.1:0"

// Lines by which a process tells that it is there, and answers.
const (
	listening = "listening on " // a server, and where
	atWork    = "at work"       // clients of any kind
	answer    = "bench: "       // before every answer of Control
)

// Serve plays any role but that of the host, until in ends.
func Serve(ctx context.Context, r Role, in io.Reader, out io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var work atomic.Uint64
	orders := make(chan string, 1)
	go func() { // ends with in, and so with the process that started this one
		takeRequests(in, out, &work, orders)
		stop()
	}()
	switch r.Kind {
	case RoleTeam:
		fmt.Fprintln(out, atWork)
		return serveTeam(ctx, orders, out)
	case RoleAttack:
		fmt.Fprintln(out, atWork)
		return attack(ctx, r, &work)
	case RoleSoak:
		fmt.Fprintln(out, atWork)
		return soak.Run(ctx, soak.Load{Addr: r.Addr, First: r.First, Clients: r.Clients, Rate: r.Rate, Seed: r.Seed}, out, &work)
	}
	serve, err := r.server()
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", ListenAddr)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s%s\n", listening, l.Addr())
	return serveConns(ctx, l, serve)
}

func (r Role) server() (func(net.Conn) error, error) {
	switch r.Kind {
	case RoleFloor:
		b, err := os.ReadFile(r.Script)
		if err != nil {
			return nil, err
		}
		s := new(Script)
		if err := json.Unmarshal(b, s); err != nil {
			return nil, fmt.Errorf("script %s: %w", r.Script, err)
		}
		if r.Chain == "" {
			return func(nc net.Conn) error { return serveFloor(nc, s, nil) }, nil
		}
		secure, err := certificate(r.Chain, r.Key)
		if err != nil {
			return nil, err
		}
		return func(nc net.Conn) error { return serveFloor(nc, s, secure) }, nil
	case RoleCastFloor:
		return r.castFloor()
	case RoleTLS:
		secure, err := certificate(r.Chain, r.Key)
		if err != nil {
			return nil, err
		}
		return func(nc net.Conn) error { return serveHandshake(nc, secure) }, nil
	}
	return nil, fmt.Errorf("no role %q", r.Kind)
}

// Stat is what a process says about its memory and work.
type Stat struct {
	Goroutines int    `json:"goroutines"`
	Heap       uint64 `json:"heap"`  // bytes of objects
	Stack      uint64 `json:"stack"` // bytes of goroutine stacks
	Go         uint64 `json:"go"`    // bytes that Go's runtime has of the system, for whatever
	Work       uint64 `json:"work"`  // see attack
	// Parts are those of Go that are neither objects nor stacks.
	Parts GoParts `json:"parts"`
}

// GoParts is what Go's runtime has of the system besides objects and stacks,
// in bytes.
type GoParts struct {
	Holes     uint64 `json:"holes"`     // in pages that have objects too
	Kept      uint64 `json:"kept"`      // free pages that were not given back
	Spans     uint64 `json:"spans"`     // what the allocator keeps for itself
	Collector uint64 `json:"collector"` // of the garbage collector
	Profiles  uint64 `json:"profiles"`  // of the heap profile
	Other     uint64 `json:"other"`
}

// Control answers what the process that started this one asks, line by line,
// until in ends:
//
//	stat              a Stat as JSON
//	gc                collects garbage and gives memory back, then a Stat
//	cpu FILE, cpu     starts and ends a profile
//	heap FILE         writes a profile
//	goroutines FILE   writes what each goroutine is at
func Control(in io.Reader, out io.Writer, work *atomic.Uint64) { takeRequests(in, out, work, nil) }

// takeRequests is Control for a process that takes orders too: "team ORDER", which
// is answered by whoever receives from orders.
func takeRequests(in io.Reader, out io.Writer, work *atomic.Uint64, orders chan<- string) {
	var c controller
	defer c.endCPU()
	for lines := bufio.NewScanner(in); lines.Scan(); {
		word, file, _ := strings.Cut(lines.Text(), " ")
		if word == teamWord {
			select {
			case orders <- file:
				continue
			default: // refused below
			}
		}
		text, err := c.do(word, file, work)
		if err != nil {
			text = "error: " + err.Error()
		}
		fmt.Fprintf(out, "%s%s\n", answer, text)
	}
}

// controller has the profile that is being taken.
type controller struct{ cpu *os.File }

func (c *controller) do(word, file string, work *atomic.Uint64) (string, error) {
	switch word {
	case "gc":
		giveBack()
	case "stat":
	case "cpu":
		return "done", c.profileCPU(file)
	case "heap":
		return "done", writeProfile("heap", file, 0)
	case "goroutines":
		return "done", writeProfile("goroutine", file, 1)
	default:
		return "", fmt.Errorf("no request %q", word)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b, err := json.Marshal(Stat{
		Goroutines: runtime.NumGoroutine(), Heap: m.HeapAlloc, Stack: m.StackInuse,
		Go: m.Sys - m.HeapReleased, Work: work.Load(),
		Parts: GoParts{
			Holes: m.HeapInuse - m.HeapAlloc, Kept: m.HeapIdle - m.HeapReleased,
			Spans: m.MSpanSys + m.MCacheSys, Collector: m.GCSys, Profiles: m.BuckHashSys, Other: m.OtherSys,
		},
	})
	return string(b), err
}

// maxKept is how much memory may be free and not given back when a process is
// at rest, in bytes.
const maxKept = 256 << 10

// giveBack collects garbage and gives memory back to the system. What pools keep
// survives one collection, and what the runtime takes meanwhile it keeps: some
// MiB now and then, which would look like a change of the program's.
func giveBack() {
	debug.FreeOSMemory()
	for range 10 {
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if m.HeapIdle-m.HeapReleased <= maxKept {
			return
		}
	}
}

func (c *controller) profileCPU(file string) error {
	c.endCPU()
	if file == "" {
		return nil
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	c.cpu = f
	return pprof.StartCPUProfile(f)
}

func (c *controller) endCPU() {
	if c.cpu != nil {
		pprof.StopCPUProfile()
		c.cpu.Close()
		c.cpu = nil
	}
}

func writeProfile(name, file string, debug int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup(name).WriteTo(f, debug), f.Close())
}
