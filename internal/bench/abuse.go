package bench

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/wire"
)

// The ways to misbehave.
const (
	attackNone     = ""
	attackFlood    = "flood"    // calls without end, answers read
	attackDeaf     = "deaf"     // calls whose answers are never read
	attackListings = "listings" // the same with long answers
	attackEmpty    = "empty"    // bursts of a million empty frames to no command
	attackStorm    = "storm"    // logins at once without end
	// Many connections that get nowhere; see siege.go.
	attackSilent   = "silent"   // nothing is ever sent
	attackHalf     = "half"     // 100 bytes of the header
	attackAnnounce = "announce" // a frame of 16 MiB before login
	attackTrickle  = "trickle"  // a frame that is allowed, byte by byte
	attackBytewise = "bytewise" // a ClientHello, byte by byte
	attackHello    = "hello"    // a ClientHello and nothing behind it
	attackMessage  = "message"  // a handshake message of 16 MiB
	attackRecords  = "records"  // handshake records without end
	attackRush     = "rush"     // connected and closed at once
)

// assault is an attack, and what it needs.
type assault struct {
	name, what string
	floor      bool     // the floor is attacked too
	only       Mode     // empty: in both
	processes  int      // that attack at once
	set        []string // of the host; more than one assault may share a host
	files      int      // that the host may have open; 0: as many as anybody
}

// limited makes limits per address bind attackers on this machine.
var limited = []string{"limit_loopback=true"}

// fewFiles is a limit of descriptors below the number of attackers.
const fewFiles = 256

var assaults = []assault{
	{name: attackNone, what: "alone", floor: true},
	{name: attackFlood, what: "beside a flood of calls", floor: true, processes: 1},
	{name: attackDeaf, what: "beside readers that never read", floor: true, processes: deafs},
	{name: attackListings, what: "beside readers of listings that never read", processes: deafs},
	{name: attackEmpty, what: "beside a million empty frames", floor: true, processes: 1},
	{name: attackStorm, what: "beside a login storm", floor: true, processes: 1},
	{name: attackHalf, what: "beside half headers", only: Plain, processes: 1},
	{name: attackAnnounce, what: "beside frames of 16 MiB before login", processes: 1},
	{name: attackTrickle, what: "beside frames that trickle", processes: 1},
	{name: attackBytewise, what: "beside handshakes byte by byte", only: TLS, processes: 1},
	{name: attackHello, what: "beside handshakes that stop", only: TLS, processes: 1},
	{name: attackMessage, what: "beside handshake messages of 16 MiB", only: TLS, processes: 1},
	{name: attackRecords, what: "beside handshakes without end", only: TLS, processes: 1},
	{name: attackRush, what: "beside 10,000 connects a second", only: Plain, floor: true, processes: 1},
	{name: attackSilent, what: "beside connections without a word", only: Plain, processes: 1},
	{name: attackRush, what: "beside 10,000 connects a second, limited", only: Plain, processes: 1, set: limited},
	{name: attackSilent, what: "beside connections without a word, limited", only: Plain, processes: 1, set: limited},
	{name: attackSilent, what: "beside more connections than descriptors", only: Plain, processes: 1, files: fewFiles},
}

// longestAttack ends an attack whatever happens to who has started it.
const longestAttack = 5 * time.Minute

// attack misbehaves against the server until ctx ends. work counts what it
// achieves: logins in a storm, bytes that it was sent in a flood, bytes that it
// has sent itself when it reads nothing.
func attack(ctx context.Context, r Role, work *atomic.Uint64) error {
	ctx, cancel := context.WithTimeout(ctx, longestAttack)
	defer cancel()
	l := &lab{account: r.Account, script: &Script{ListFrames: r.ListFrames}}
	switch r.Attack {
	case attackStorm:
		var group sync.WaitGroup
		for range stormers {
			group.Go(func() {
				for ctx.Err() == nil {
					// Whom the host turns away comes again.
					if l.enterAs(ctx, r.Addr) == nil {
						work.Add(1)
					}
				}
			})
		}
		group.Wait()
		return nil
	case attackFlood, attackDeaf, attackListings, attackEmpty:
		p, err := l.join(ctx, r.Addr)
		if err != nil {
			return err
		}
		defer p.Close()
		return flood(ctx, p, r.Attack, work)
	case attackRush:
		return rush(ctx, r, work)
	}
	if speech, ok := speeches[r.Attack]; ok {
		return besiege(ctx, r, speech, work)
	}
	return fmt.Errorf("no attack %q", r.Attack)
}

// burst is how many frames go in one write; writes follow each other without a
// pause, so that a million take about a second.
const (
	burst = 4096
)

func flood(ctx context.Context, p *raw.Client, kind string, work *atomic.Uint64) error {
	stop := context.AfterFunc(ctx, func() { p.Close() })
	defer stop()
	cmd, arguments := raw.Nowhere, ""
	if kind != attackEmpty {
		name := "my_info"
		if kind == attackListings {
			name, arguments = "ls_cmds", "-all"
		}
		var err error
		if cmd, err = p.ID(name); err != nil {
			return err
		}
	}
	deaf := kind == attackDeaf || kind == attackListings
	var request []byte
	for range burst {
		request = wire.AppendText(request, wire.Text, cmd, raw.Branch, arguments)
	}
	if err := p.Conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	var reader sync.WaitGroup
	if !deaf {
		reader.Go(func() { // ends with the connection
			_, _ = io.Copy(counter{work}, p.Conn)
		})
	}
	defer reader.Wait()
	defer p.Close()
	for ctx.Err() == nil {
		n, err := p.Conn.Write(request)
		if deaf {
			work.Add(uint64(n))
		}
		if err != nil {
			break
		}
	}
	<-ctx.Done() // a deaf one stays, whatever the host makes of it
	return nil
}

// counter counts what is written to it.
type counter struct{ bytes *atomic.Uint64 }

func (c counter) Write(b []byte) (int, error) {
	c.bytes.Add(uint64(len(b)))
	return len(b), nil
}

// abuse measures what an innocent client notices of others that misbehave, and
// what they cost the host.
func (b *Bench) abuse(ctx context.Context) (rows []Row, err error) {
	for _, mode := range b.opts.Modes {
		for _, set := range besiegedHosts(mode) {
			part, err := b.abuseHost(ctx, mode, set)
			if err != nil {
				return nil, err
			}
			rows = append(rows, part...)
			b.stopAll()
		}
	}
	return rows, nil
}

// besiegedHosts puts those assaults together that can share a host.
func besiegedHosts(mode Mode) (hosts [][]assault) {
	for _, a := range assaults {
		if a.only != "" && a.only != mode {
			continue
		}
		at := slices.IndexFunc(hosts, func(same []assault) bool {
			return same[0].files == a.files && slices.Equal(same[0].set, a.set)
		})
		if at < 0 {
			at = len(hosts)
			hosts = append(hosts, nil)
		}
		hosts[at] = append(hosts[at], a)
	}
	return hosts
}

func (b *Bench) abuseHost(ctx context.Context, mode Mode, assaults []assault) (rows []Row, err error) {
	if err := needDescriptors(b.opts.Attackers, "--attackers"); err != nil {
		return nil, err
	}
	b.files = assaults[0].files
	l, err := b.lab(ctx, mode, assaults[0].set...) // with the hashing of a host as it is
	b.files = 0
	if err != nil {
		return nil, err
	}
	innocent := make(map[*process]*raw.Client)
	for _, s := range l.servers() {
		p, err := l.join(ctx, s.addr)
		if err != nil {
			return nil, err
		}
		defer p.Close()
		innocent[s] = p
	}
	before, err := b.collected(ctx, l)
	if err != nil {
		return nil, err
	}
	for _, a := range assaults {
		b.say("abuse %s: %s", mode, a.what)
		figures := map[*process]rounds{l.host: {}, l.floor: {}}
		var highest uint64
		for round := range b.opts.Rounds {
			for _, s := range l.turns(round) {
				if s == l.floor && !a.floor {
					continue
				}
				endProfile := b.profile(ctx, s, fmt.Sprintf("abuse-%s-%s-%d", mode, a.name, round))
				watching, stopWatching := context.WithCancel(ctx)
				seen := make(chan uint64)
				go func() { seen <- s.highest(watching) }() // awaited below
				err := b.beside(ctx, l, s, a, innocent[s], figures[s])
				stopWatching()
				most := <-seen
				endProfile()
				if err != nil {
					return nil, fmt.Errorf("%s: %w", a.what, err)
				}
				if s == l.host {
					highest = max(highest, most)
				}
			}
		}
		after, err := b.collected(ctx, l)
		if err != nil {
			return nil, err
		}
		memory := &Memory{Before: mib(before.resident), Highest: mib(highest), After: mib(after.resident)}
		rows = append(rows, besideRow(a, mode, figures[l.host], figures[l.floor], memory))
		before = after
	}
	return rows, nil
}

func mib(bytes uint64) float64 { return float64(bytes) / (1 << 20) }

// besideRow is the row of one attack; its figure is the p99.
func besideRow(a assault, mode Mode, host, floor rounds, memory *Memory) Row {
	row := compare("call "+a.what, mode, "ms", host["p99"], floor["p99"])
	row.Beside = &Beside{Host: quantiles(host), Memory: memory}
	if a.floor {
		of := quantiles(floor)
		row.Beside.Floor = &of
	}
	switch work := [2]float64{mean(host["attack"]), mean(floor["attack"])}; a.name {
	case attackFlood, attackEmpty:
		row.Note = fmt.Sprintf("answers: host %.0f MB/s, floor %.0f MB/s", work[0]/1e6, work[1]/1e6)
	case attackStorm:
		row.Note = fmt.Sprintf("logins: host %.0f/s, floor %.0f/s", work[0], work[1])
	case attackRush, attackAnnounce, attackMessage, attackRecords:
		row.Note = fmt.Sprintf("connects: %.0f/s", work[0])
	}
	return row
}

// quantiles are the medians of what the rounds have.
func quantiles(r rounds) Quantiles {
	return Quantiles{P50: median(r["p50"]), P99: median(r["p99"]), Max: slices.Max(append(r["max"], 0))}
}

// deafs is how many readers that never read there are at once.
const deafs = 4

// beside lets the innocent client call while an attack is going on.
func (b *Bench) beside(ctx context.Context, l *lab, s *process, as assault, innocent *raw.Client, into rounds) error {
	var attackers []*process
	defer func() {
		for _, a := range attackers {
			a.stop()
		}
	}()
	for range as.processes {
		a, err := b.start(ctx, Role{
			Kind: RoleAttack, Attack: as.name, Addr: s.addr, Account: l.account, ListFrames: l.script.ListFrames,
			Conns: b.opts.Attackers,
		})
		if err != nil {
			return err
		}
		attackers = append(attackers, a)
	}
	if err := started(ctx, attackers); err != nil {
		return err
	}
	before, err := sent(ctx, attackers)
	if err != nil {
		return err
	}
	times, _, err := callRound([]*raw.Client{innocent}, l.script.MyInfo, 1, b.opts.Round)
	if err != nil {
		return err
	}
	after, err := sent(ctx, attackers)
	if err != nil {
		return err
	}
	into.addTimes(times)
	into.add("attack", float64(after-before)/(b.opts.Round+b.opts.Round/warmUp).Seconds())
	return nil
}

// started waits until every attacker has got through with something.
func started(ctx context.Context, attackers []*process) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for _, a := range attackers {
		for {
			s, err := a.stat(ctx, "stat")
			if err != nil {
				return fmt.Errorf("attacker: %w%s", err, a.complaint())
			}
			if s.Work > 0 {
				break
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return fmt.Errorf("attacker does not get in: %w", ctx.Err())
			}
		}
	}
	return nil
}

func sent(ctx context.Context, attackers []*process) (total uint64, err error) {
	for _, a := range attackers {
		s, err := a.stat(ctx, "stat")
		if err != nil {
			return 0, err
		}
		total += s.Work
	}
	return total, nil
}
