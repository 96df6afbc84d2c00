package bench

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"mrci.dev/mrci/wire"
)

// The ways to misbehave.
const (
	attackNone  = ""
	attackFlood = "flood" // calls without end, answers read
	attackDeaf  = "deaf"  // calls whose answers are never read
	attackEmpty = "empty" // bursts of a million empty frames to no command
	attackStorm = "storm" // logins at once without end
)

var attacks = []struct{ name, what string }{
	{attackNone, "alone"},
	{attackFlood, "beside a flood of calls"},
	{attackDeaf, "beside readers that never read"},
	{attackEmpty, "beside a million empty frames"},
	{attackStorm, "beside a login storm"},
}

// attack misbehaves against the server until ctx ends. work counts what it
// achieves: logins in a storm, bytes that it was sent in a flood, bytes that it
// has sent itself when it reads nothing.
func attack(ctx context.Context, r Role, work *atomic.Uint64) error {
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
	case attackFlood, attackDeaf, attackEmpty:
		p, err := l.join(ctx, r.Addr)
		if err != nil {
			return err
		}
		defer p.Close()
		return flood(ctx, p, r.Attack, work)
	}
	return fmt.Errorf("no attack %q", r.Attack)
}

// burst is how many frames go in one write; writes follow each other without a
// pause, so that a million take about a second.
const (
	burst = 4096
)

// nowhere is the id of no command.
const nowhere wire.CmdID = 0xfffe

func flood(ctx context.Context, p *peer, kind string, work *atomic.Uint64) error {
	stop := context.AfterFunc(ctx, func() { p.Close() })
	defer stop()
	cmd := nowhere
	if kind != attackEmpty {
		var err error
		if cmd, err = p.id("my_info"); err != nil {
			return err
		}
	}
	var request []byte
	for range burst {
		request = wire.AppendText(request, wire.Text, cmd, branch, "")
	}
	if err := p.nc.SetDeadline(time.Time{}); err != nil {
		return err
	}
	var reader sync.WaitGroup
	if kind != attackDeaf {
		reader.Go(func() { // ends with the connection
			_, _ = io.Copy(counter{work}, p.nc)
		})
	}
	defer reader.Wait()
	defer p.Close()
	for ctx.Err() == nil {
		n, err := p.nc.Write(request)
		if kind == attackDeaf {
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

// abuse measures what an innocent client notices of others that misbehave.
func (b *Bench) abuse(ctx context.Context) (rows []Row, err error) {
	for _, mode := range b.opts.Modes {
		l, err := b.lab(ctx, mode) // with the hashing of a host as it is
		if err != nil {
			return nil, err
		}
		part, err := b.abuseMode(ctx, mode, l)
		if err != nil {
			return nil, err
		}
		rows = append(rows, part...)
		b.stopAll()
	}
	return rows, nil
}

func (b *Bench) abuseMode(ctx context.Context, mode Mode, l *lab) (rows []Row, err error) {
	innocent := make(map[*process]*peer)
	for _, s := range l.servers() {
		p, err := l.join(ctx, s.addr)
		if err != nil {
			return nil, err
		}
		defer p.Close()
		innocent[s] = p
	}
	for _, a := range attacks {
		b.say("abuse %s: %s", mode, a.what)
		figures := map[*process]rounds{l.host: {}, l.floor: {}}
		for round := range b.opts.Rounds {
			for _, s := range l.turns(round) {
				endProfile := b.profile(ctx, s, fmt.Sprintf("abuse-%s-%s-%d", mode, a.name, round))
				err := b.beside(ctx, l, s, a.name, innocent[s], figures[s])
				endProfile()
				if err != nil {
					return nil, fmt.Errorf("%s: %w", a.what, err)
				}
			}
		}
		host, floor := figures[l.host], figures[l.floor]
		note := ""
		switch work := [2]float64{mean(host["attack"]), mean(floor["attack"])}; a.name {
		case attackFlood, attackEmpty:
			note = fmt.Sprintf("answers: host %.0f MB/s, floor %.0f MB/s", work[0]/1e6, work[1]/1e6)
		case attackStorm:
			note = fmt.Sprintf("logins: host %.0f/s, floor %.0f/s", work[0], work[1])
		}
		rows = append(rows,
			compare("call "+a.what+", p50", mode, "ms", host["p50"], floor["p50"]).noting(note),
			compare("call "+a.what+", p99", mode, "ms", host["p99"], floor["p99"]))
	}
	return rows, nil
}

// deafs is how many readers that never read there are at once.
const deafs = 4

// beside lets the innocent client call while an attack is going on.
func (b *Bench) beside(ctx context.Context, l *lab, s *process, name string, innocent *peer, into rounds) error {
	var attackers []*process
	defer func() {
		for _, a := range attackers {
			a.stop()
		}
	}()
	number := map[string]int{attackNone: 0, attackDeaf: deafs}
	n, special := number[name]
	if !special {
		n = 1
	}
	for range n {
		a, err := b.start(ctx, Role{Kind: RoleAttack, Attack: name, Addr: s.addr, Account: l.account, ListFrames: l.script.ListFrames})
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
	times, _, err := callRound([]*peer{innocent}, l.script.MyInfo, 1, b.opts.Round)
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
