package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"mrci.dev/mrci/internal/bench/fanout"
)

// slowLimit is how much longer the p99 of the others may be beside a slow
// reader.
const slowLimit = 1.1

// slowPatience is more than a host may take to end a reader that takes nothing,
// or too little.
const slowPatience = 10 * time.Minute

// slowCounter is where the host counts such sessions: group and reason.
var slowCounter = [2]string{"ended", "slow_consumer"}

// slow measures what the readers of a sub-channel notice of one among them that
// reads nothing, or little, and what that one costs the host.
func (b *Bench) slow(ctx context.Context) (rows []Row, err error) {
	n := slices.Max(b.opts.Cast.Receivers)
	if n < 2 {
		return nil, errors.New("one slow reader and nobody else: --receivers must be above 1")
	}
	if err := needDescriptors(n, "--receivers"); err != nil {
		return nil, err
	}
	for _, mode := range b.opts.Modes {
		h, err := b.startCastHost(ctx, mode, n+1, []string{castSub})
		if err != nil {
			return nil, err
		}
		g, err := b.newCastGroup(ctx, &h.castServer, n-1)
		if err != nil {
			return nil, err
		}
		size := b.opts.Cast.SlowSize
		b.say("slow %s: %d readers, %s", mode, n-1, sizeText(size))
		var casts []float64
		for range b.opts.Rounds {
			r, err := g.run(ctx, size, fanout.Load{For: b.opts.Round})
			if err != nil {
				return nil, err
			}
			casts = append(casts, r.casts)
		}
		rate := median(casts) / 2
		for _, one := range []struct {
			name string
			rate int
		}{{"deaf", 0}, {"slow", b.opts.Cast.SlowRate}} {
			part, err := b.besideSlow(ctx, mode, h, g, one.name, one.rate, rate)
			if err != nil {
				return nil, fmt.Errorf("beside a %s reader: %w", one.name, err)
			}
			rows = append(rows, part...)
		}
		b.stopAll()
	}
	return rows, nil
}

// besideSlow has one more reader join that reads so many bytes a second.
func (b *Bench) besideSlow(ctx context.Context, mode Mode, h *castHost, g *castGroup, name string, perSecond int, rate float64) ([]Row, error) {
	window := func(into rounds) error {
		r, err := g.run(ctx, b.opts.Cast.SlowSize, fanout.Load{Rate: rate, For: b.opts.Round})
		if err == nil {
			into.add("p99", milliseconds(r.received.Times.Quantile(0.99)))
			into.add("max", milliseconds(r.received.Times.Max()))
		}
		return err
	}
	alone := func(into rounds) error {
		for range b.opts.Rounds {
			if err := window(into); err != nil {
				return err
			}
		}
		return nil
	}
	without, with := rounds{}, rounds{}
	if err := alone(without); err != nil {
		return nil, err
	}
	before, err := b.collectedHost(ctx, h)
	if err != nil {
		return nil, err
	}
	counted, err := h.slowCount(ctx)
	if err != nil {
		return nil, err
	}
	one, err := b.gather(ctx, &h.castServer, name, 1, 1, false)
	if err != nil {
		return nil, err
	}
	defer one.stop()
	for _, o := range []teamOrder{{Do: doOpen, Channel: castChannel, Sub: castSub}, {Do: doSip, PerSecond: perSecond}} {
		if _, err := one.order(ctx, o, 0); err != nil {
			return nil, err
		}
	}
	b.say("slow %s: a %s reader joins", mode, name)

	end, most, err := h.untilEnded(ctx, counted, func() error { return window(with) })
	if err != nil {
		return nil, err
	}
	after, err := b.collectedHost(ctx, h)
	if err != nil {
		return nil, err
	}
	if err := alone(without); err != nil {
		return nil, err
	}
	return slowRows(mode, g.n, name, rate, without, with, end, [3]float64{before, mib(most), after}), nil
}

// untilEnded measures again and again until the host has ended one more session
// as too slow, and returns the most memory that the host has had meanwhile.
func (h *castHost) untilEnded(ctx context.Context, counted uint64, measure func() error) (end ending, most uint64, err error) {
	watching, stop := context.WithCancel(ctx)
	gone := make(chan ending, 1)
	var watchers sync.WaitGroup
	watchers.Go(func() { most = h.process.highest(watching) })
	watchers.Go(func() { gone <- h.awaitSlow(watching, counted) })
	for err == nil && end.after == 0 {
		if err = measure(); err != nil {
			break
		}
		select {
		case end = <-gone:
			err = end.err
		default:
		}
	}
	stop()
	watchers.Wait()
	return end, most, err
}

// ending is how a slow reader ended.
type ending struct {
	after  time.Duration
	reason string
	err    error
}

// slowCount is how many sessions were ended because they read too slowly.
func (h *castHost) slowCount(ctx context.Context) (uint64, error) {
	status, err := statusOf(ctx, h.door)
	return status.Counters[slowCounter[0]][slowCounter[1]], err
}

// awaitSlow waits until the host has ended one more session as too slow.
func (h *castHost) awaitSlow(ctx context.Context, counted uint64) ending {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, slowPatience)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ending{err: fmt.Errorf("the host has not ended the session: %w", ctx.Err())}
		}
		n, err := h.slowCount(ctx)
		if err != nil {
			return ending{err: err}
		}
		if n > counted {
			return ending{after: time.Since(began), reason: h.slowReason()}
		}
	}
}

// slowReason is what the host has logged about the last session that read too
// slowly.
func (h *castHost) slowReason() string {
	const words = "slow consumer"
	b, err := os.ReadFile(h.process.log.Name())
	if err != nil {
		return err.Error()
	}
	at := strings.LastIndex(string(b), words)
	if at < 0 {
		return "NOT LOGGED"
	}
	line, _, _ := strings.Cut(string(b[at:]), "\n")
	reason, _, _ := strings.Cut(line, `"`)
	return strings.TrimSpace(reason)
}

func slowRows(mode Mode, others int, name string, rate float64, without, with rounds, end ending, memory [3]float64) []Row {
	who := fmt.Sprintf("p99 of %d readers", others)
	alone, beside := median(without["p99"]), median(with["p99"])
	ratio := 0.0
	if alone > 0 {
		ratio = beside / alone
	}
	p99 := Row{What: who + " beside a " + name + " one", Mode: mode, Unit: "ms", Host: beside}.
		judged(fmt.Sprintf("<= %gx without", slowLimit), ratio <= slowLimit).
		noting(fmt.Sprintf("%.2f of the figure without, at %s casts/s; lost 0", ratio, figure(rate)))
	return []Row{
		{What: who + " without a " + name + " one", Mode: mode, Unit: "ms", Host: alone},
		p99,
		{What: "  longest without", Mode: mode, Unit: "ms", Host: slices.Max(append(without["max"], 0))},
		{What: "  longest beside it", Mode: mode, Unit: "ms", Host: slices.Max(append(with["max"], 0))},
		{What: "  it was ended after", Mode: mode, Unit: "s", Host: end.after.Seconds(), Note: "logged: " + end.reason + "; counted: " + slowCounter[1]},
		{What: "  host before", Mode: mode, Unit: "MiB", Host: memory[0]},
		{What: "  host at most", Mode: mode, Unit: "MiB", Host: memory[1]},
		{What: "  host afterwards", Mode: mode, Unit: "MiB", Host: memory[2]},
	}
}
