package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/wire"
)

// warmUp is the part of a round that is not counted.
const warmUp = 10 // one tenth

// callRound has every client call my_info, depth calls in flight, for the time
// given. It returns how long each call took (for depth 1) and how many were
// made a second.
func callRound(clients []*raw.Client, myInfo wire.CmdID, depth int, round time.Duration) (times []time.Duration, rate float64, err error) {
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		calls int
	)
	began := time.Now()
	counted := began.Add(round / warmUp)
	end := counted.Add(round)
	for _, p := range clients {
		group.Go(func() {
			took, n, callErr := callUntil(p, myInfo, depth, counted, end)
			mu.Lock()
			defer mu.Unlock()
			times = append(times, took...)
			calls += n
			if callErr != nil {
				err = callErr
			}
		})
	}
	group.Wait()
	return times, float64(calls) / round.Seconds(), err
}

// callUntil calls until end and counts what began after counted.
func callUntil(p *raw.Client, myInfo wire.CmdID, depth int, counted, end time.Time) (times []time.Duration, calls int, err error) {
	p.Renew()
	one := wire.AppendText(nil, wire.Text, myInfo, raw.Branch, "")
	var request []byte
	for range depth {
		request = append(request, one...)
	}
	times = make([]time.Duration, 0, 1<<16)
	for began := time.Now(); began.Before(end); {
		if err := p.Call(request, myInfo); err != nil {
			return nil, 0, err
		}
		for range depth - 1 {
			if err := p.UntilIdle(myInfo); err != nil {
				return nil, 0, err
			}
		}
		now := time.Now()
		if began.After(counted) {
			times = append(times, now.Sub(began))
			calls += depth
		}
		began = now
	}
	return times, calls, nil
}

// call measures the round trip of a warm built-in command, and how many calls
// many clients make.
func (b *Bench) call(ctx context.Context) (rows []Row, err error) {
	for _, mode := range b.opts.Modes {
		l, err := b.lab(ctx, mode, cheapHashing...)
		if err != nil {
			return nil, err
		}
		part, err := b.callMode(ctx, mode, l)
		if err != nil {
			return nil, err
		}
		rows = append(rows, part...)
		b.stopAll()
	}
	return rows, nil
}

func (b *Bench) callMode(ctx context.Context, mode Mode, l *lab) ([]Row, error) {
	if err := needDescriptors(2*b.opts.Clients, "--clients"); err != nil {
		return nil, err
	}
	clients := make(map[*process][]*raw.Client)
	for _, s := range l.servers() {
		for range b.opts.Clients {
			p, err := l.join(ctx, s.addr)
			if err != nil {
				return nil, err
			}
			defer p.Close()
			clients[s] = append(clients[s], p)
		}
	}
	measure := func(n, depth int) (host, floor rounds, err error) {
		b.say("call %s: %d clients, %d calls in flight each", mode, n, depth)
		figures := map[*process]rounds{l.host: {}, l.floor: {}}
		for round := range b.opts.Rounds {
			for _, s := range l.turns(round) {
				if ctx.Err() != nil {
					return nil, nil, context.Cause(ctx)
				}
				endProfile := b.profile(ctx, s, fmt.Sprintf("call-%s-%dx%d-%d", mode, n, depth, round))
				times, rate, err := callRound(clients[s][:n], l.script.MyInfo, depth, b.opts.Round)
				endProfile()
				if err != nil {
					return nil, nil, err
				}
				figures[s].addTimes(times)
				figures[s].add("rate", rate)
			}
		}
		return figures[l.host], figures[l.floor], nil
	}
	host, floor, err := measure(1, 1)
	if err != nil {
		return nil, err
	}
	p50 := compare("call, 1 client, p50", mode, "ms", host["p50"], floor["p50"])
	p99 := compare("call, 1 client, p99", mode, "ms", host["p99"], floor["p99"])
	rows := []Row{p50.ratioAtMost(1.3), p99}
	many := b.opts.Clients
	if host, floor, err = measure(many, 1); err != nil {
		return nil, err
	}
	rows = append(rows, compare(fmt.Sprintf("calls, %d clients", many), mode, "1/s", host["rate"], floor["rate"]).ratioAtLeast(0.7),
		compare(fmt.Sprintf("call, %d clients, p99", many), mode, "ms", host["p99"], floor["p99"]))
	if b.opts.Depth <= 1 {
		return rows, nil
	}
	if host, floor, err = measure(many, b.opts.Depth); err != nil {
		return nil, err
	}
	return append(rows, compare(fmt.Sprintf("calls, %d clients, %d in flight each", many, b.opts.Depth), mode, "1/s", host["rate"], floor["rate"])), nil
}
