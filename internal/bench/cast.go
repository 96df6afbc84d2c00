package bench

import (
	"context"
	"fmt"
	"time"

	"mrci.dev/mrci/internal/bench/fanout"
)

// The targets of casts (design 4): to so many receivers, with payloads of this
// size.
const targetSize = 128

var castTargets = map[int]struct{ floor, peer float64 }{
	1:   {floor: 1.2},
	100: {floor: 1.5, peer: 5},
}

const latencyTarget = 1.2 // of the floor's p99

// castRun is the servers of one mode, and what they do at the moment.
type castRun struct {
	b                        *Bench
	mode                     Mode
	host, floor, nats, quiet *castServer // nil: not there; quiet is a host with idle sessions
}

// cast measures what one sender gets to many receivers, and how long it is
// under way.
func (b *Bench) cast(ctx context.Context) (rows []Row, err error) {
	o := b.opts.Cast
	if o.Peer == "" {
		b.say("cast: without NATS; `make peers` builds the program for --peer")
	}
	most := 0
	for _, n := range o.Receivers {
		most = max(most, n)
	}
	if err := needDescriptors(most+o.Idle, "--idle or --receivers"); err != nil {
		return nil, err
	}
	for _, mode := range b.opts.Modes {
		run, err := b.newCastRun(ctx, mode, most)
		if err != nil {
			return nil, err
		}
		for _, n := range o.Receivers {
			part, err := run.toReceivers(ctx, n)
			if err != nil {
				return nil, err
			}
			rows = append(rows, part...)
		}
		b.stopAll()
	}
	return rows, nil
}

// certificate returns the files of a certificate that a host has made, which
// did nothing else.
func (b *Bench) certificate(ctx context.Context, mode Mode) (chain, key string, err error) {
	l, err := b.hostLab(ctx, mode)
	if err != nil {
		return "", "", err
	}
	l.host.stop()
	return l.chain, l.key, nil
}

func (b *Bench) newCastRun(ctx context.Context, mode Mode, most int) (*castRun, error) {
	o := b.opts.Cast
	run := &castRun{b: b, mode: mode}
	var chain, key string
	if o.NoHost {
		var err error
		if chain, key, err = b.certificate(ctx, mode); err != nil {
			return nil, err
		}
	} else {
		h, err := b.startCastHost(ctx, mode, most+1, []string{castSub})
		if err != nil {
			return nil, err
		}
		run.host, chain, key = &h.castServer, h.chain, h.key
	}
	var err error
	if run.floor, err = b.startCastFloor(ctx, mode, chain, key); err != nil {
		return nil, err
	}
	if o.Peer != "" {
		if run.nats, err = b.startPeer(ctx, mode, chain, key); err != nil {
			return nil, err
		}
	}
	if o.Idle > 0 && !o.NoHost {
		h, err := b.startCastHost(ctx, mode, most+1+o.Idle, []string{castSub})
		if err != nil {
			return nil, err
		}
		run.quiet = &h.castServer
		run.quiet.name = "host-with-idle-sessions"
		b.say("cast %s: %d idle sessions log in", mode, o.Idle)
		if _, err := b.gather(ctx, run.quiet, "idle", 1, o.Idle, false); err != nil {
			return nil, err
		}
	}
	return run, nil
}

// groups are the clients of each server that is there.
type groups map[*castServer]*castGroup

// toReceivers measures all sizes with so many receivers.
func (c *castRun) toReceivers(ctx context.Context, n int) (rows []Row, err error) {
	all := make(groups)
	defer func() {
		for _, g := range all {
			g.stop()
		}
	}()
	for _, s := range c.servers(0) {
		if all[s], err = c.b.newCastGroup(ctx, s, n); err != nil {
			return nil, err
		}
	}
	for _, size := range c.b.opts.Cast.Sizes {
		part, err := c.sized(ctx, all, n, size)
		if err != nil {
			return nil, err
		}
		rows = append(rows, part...)
	}
	return rows, nil
}

// servers are those that are there, in the order of a round: who begins
// changes.
func (c *castRun) servers(round int) (there []*castServer) {
	every := []*castServer{c.host, c.floor, c.nats, c.quiet}
	for i := range every {
		if s := every[(i+round)%len(every)]; s != nil {
			there = append(there, s)
		}
	}
	return there
}

// castFigures are the rounds of one server.
type castFigures struct {
	free, half, common rounds // half: at half of its own throughput
	halfRate           float64
}

// sized measures one size: throughput first, which says what half load is.
func (c *castRun) sized(ctx context.Context, all groups, n, size int) ([]Row, error) {
	what := fmt.Sprintf("cast 1 to %d, %s", n, sizeText(size))
	c.b.say("%s, %s", what, c.mode)
	file := fmt.Sprintf("cast-%d-%d", n, size)
	figures := make(map[*castServer]*castFigures)
	for s := range all {
		figures[s] = &castFigures{free: rounds{}, half: rounds{}, common: rounds{}}
	}
	// The first round is not counted: buffers of the system find their size in
	// it, and heaps theirs.
	for round := range c.b.opts.Rounds + 1 {
		for _, s := range c.servers(round) {
			r, err := c.measure(ctx, all[s], file, round, size, fanout.Load{For: c.b.opts.Round})
			if err != nil {
				return nil, err
			}
			if round > 0 {
				figures[s].free.add("casts", r.casts)
				figures[s].free.add("deliveries", r.deliveries)
			}
		}
	}
	common := 0.0
	for s, f := range figures {
		f.halfRate = median(f.free["casts"]) / 2
		if (s == c.host || s == c.floor) && (common == 0 || f.halfRate < common) {
			common = f.halfRate
		}
	}
	for round := range c.b.opts.Rounds {
		for _, s := range c.servers(round) {
			f := figures[s]
			at := func(rate float64, into rounds) error {
				r, err := c.measure(ctx, all[s], file+"-half", round, size, fanout.Load{Rate: rate, For: c.b.opts.Round + c.b.opts.Round/warmUp, WarmUp: c.b.opts.Round / warmUp})
				if err == nil {
					into.add("p50", milliseconds(r.received.Times.Quantile(0.50)))
					into.add("p99", milliseconds(r.received.Times.Quantile(0.99)))
				}
				return err
			}
			if s != c.nats {
				if err := at(common, f.common); err != nil {
					return nil, err
				}
			}
			if s == c.nats || s == c.host && f.halfRate > common {
				if err := at(f.halfRate, f.half); err != nil {
					return nil, err
				}
			}
		}
	}
	return c.rows(what, n, size, figures, common), nil
}

func (c *castRun) measure(ctx context.Context, g *castGroup, file string, round, size int, l fanout.Load) (castResult, error) {
	name := fmt.Sprintf("%s-%s-%d", file, c.mode, round)
	if g.server != c.nats { // which takes no requests
		defer c.b.profile(ctx, g.server.process, name)()
	}
	// Clients too: they must not be what is measured.
	defer c.b.profile(ctx, g.sender[0], name)()
	defer c.b.profile(ctx, g.receivers[0], name)()
	return g.run(ctx, size, l)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// rows reports what was measured. Where a server is missing its figures are.
func (c *castRun) rows(what string, n, size int, figures map[*castServer]*castFigures, common float64) (rows []Row) {
	of := func(s *castServer) castFigures {
		if f := figures[s]; f != nil {
			return *f
		}
		return castFigures{}
	}
	host, floor, nats, quiet := of(c.host), of(c.floor), of(c.nats), of(c.quiet)
	free := compare(what+", deliveries", c.mode, "1/s", host.free["deliveries"], floor.free["deliveries"]).
		besidePeer(host.free["deliveries"], nats.free["deliveries"])
	free.Note = "lost 0"
	if c.host != nil {
		free.Note = fmt.Sprintf("%s casts/s, lost 0", figure(median(host.free["casts"])))
		if target, ok := castTargets[n]; ok && size == targetSize {
			free = free.beyond(target.floor, target.peer)
		}
	}
	rows = append(rows, free)
	for _, q := range []string{"p50", "p99"} {
		name := fmt.Sprintf("%s, %s", what, q)
		row := compare(name, c.mode, "ms", host.common[q], floor.common[q])
		row.Note = fmt.Sprintf("at %s casts/s", figure(common))
		own := len(host.half[q]) > 0
		if !own {
			row = row.besidePeer(host.common[q], nats.half[q])
		}
		if c.host != nil && q == "p99" {
			row = row.ratioAtMost(latencyTarget)
		}
		if c.nats != nil && !own {
			row.Note += fmt.Sprintf(", the peer at %s", figure(nats.halfRate))
		}
		rows = append(rows, row)
		if own {
			at := Row{What: name + " at its own half load", Mode: c.mode, Unit: "ms", Host: median(host.half[q])}.besidePeer(host.half[q], nats.half[q])
			at.Note = fmt.Sprintf("at %s casts/s", figure(host.halfRate))
			if c.nats != nil {
				at.Note += fmt.Sprintf(", the peer at %s", figure(nats.halfRate))
			}
			rows = append(rows, at)
		}
	}
	if c.quiet == nil {
		return rows
	}
	beside := fmt.Sprintf(" beside %d idle sessions", c.b.opts.Cast.Idle)
	for _, one := range []struct {
		name, unit           string
		quiet, alone, bottom []float64
	}{
		{"deliveries", "1/s", quiet.free["deliveries"], host.free["deliveries"], floor.free["deliveries"]},
		{"p50", "ms", quiet.common["p50"], host.common["p50"], floor.common["p50"]},
		{"p99", "ms", quiet.common["p99"], host.common["p99"], floor.common["p99"]},
	} {
		rows = append(rows, compare(what+", "+one.name+beside, c.mode, one.unit, one.quiet, one.bottom).
			noting(fmt.Sprintf("%.2f of the figure without them", medianRatio(one.quiet, one.alone))))
	}
	return rows
}

// beyond judges a row that has to be above floor and peer; 0: that is not asked
// for, and a peer that is not there is not either.
func (r Row) beyond(floor, peer float64) Row {
	target, met := fmt.Sprintf(">= %gx floor", floor), r.Ratio >= floor
	if peer > 0 && r.Peer > 0 {
		target += fmt.Sprintf(", %gx peer", peer)
		met = met && r.PeerRatio >= peer
	}
	return r.judged(target, met)
}

// sizeText writes a number of bytes as people say it.
func sizeText(bytes int) string {
	if bytes >= 1024 && bytes%1024 == 0 {
		return fmt.Sprintf("%d KiB", bytes/1024)
	}
	return fmt.Sprintf("%d B", bytes)
}
