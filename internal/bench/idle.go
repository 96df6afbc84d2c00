package bench

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"
)

// idleTargets are the bytes that an idle session may cost (design 4).
var idleTargets = map[Mode]float64{Plain: 10, TLS: 25}

// idleWarmUp is how many sessions come and go before the memory without
// sessions is read: what the first ones leave belongs to no session.
const idleWarmUp = 50

// logins at once while sessions are opened.
const joiners = 4

// idle measures the memory of sessions that are logged in and do nothing.
func (b *Bench) idle(ctx context.Context) (rows []Row, err error) {
	n := b.opts.Sessions
	if err := needDescriptors(n, "--sessions"); err != nil {
		return nil, err
	}
	for _, mode := range b.opts.Modes {
		l, err := b.lab(ctx, mode, append([]string{fmt.Sprintf("max_sessions=%d", n+idleWarmUp)}, cheapHashing...)...)
		if err != nil {
			return nil, err
		}
		b.say("idle %s: %d sessions", mode, n)
		part, err := b.idleMode(ctx, mode, l, n)
		if err != nil {
			return nil, err
		}
		rows = append(rows, part...)
		b.stopAll()
	}
	return rows, nil
}

func (b *Bench) idleMode(ctx context.Context, mode Mode, l *lab, n int) ([]Row, error) {
	first, err := l.hold(ctx, idleWarmUp)
	if err != nil {
		return nil, err
	}
	for _, nc := range first {
		nc.Close()
	}
	if _, err := b.settle(ctx, l); err != nil {
		return nil, err
	}
	before, err := b.collected(ctx, l)
	if err != nil {
		return nil, err
	}
	held, err := l.hold(ctx, n)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, nc := range held {
			nc.Close()
		}
	}()
	asLeft, err := b.settle(ctx, l)
	if err != nil {
		return nil, err
	}
	after, err := b.collected(ctx, l)
	if err != nil {
		return nil, err
	}
	if b.opts.Profile != "" {
		if _, err := l.host.request(ctx, "heap "+filepath.Join(b.opts.Profile, "idle-"+string(mode)+".heap")); err != nil {
			return nil, err
		}
	}
	perSession := func(after, before uint64) float64 { return float64(int64(after)-int64(before)) / float64(n) / 1024 }
	memory := Row{What: fmt.Sprintf("idle session of %d, resident", n), Mode: mode, Unit: "KiB", Host: perSession(after.resident, before.resident)}
	if after.resident == 0 {
		memory.Host = perSession(after.stat.Heap+after.stat.Stack, before.stat.Heap+before.stat.Stack)
		memory.Note = "heap and stacks: the system does not tell what is resident"
	}
	return []Row{
		memory.atMost(idleTargets[mode]),
		Row{What: "  resident before garbage is collected", Mode: mode, Unit: "KiB", Host: perSession(asLeft, before.resident)},
		Row{What: "  heap objects", Mode: mode, Unit: "KiB", Host: perSession(after.stat.Heap, before.stat.Heap)},
		Row{What: "  stacks", Mode: mode, Unit: "KiB", Host: perSession(after.stat.Stack, before.stat.Stack)},
		Row{What: "  goroutines", Mode: mode, Unit: "", Host: float64(after.stat.Goroutines-before.stat.Goroutines) / float64(n)},
	}, nil
}

// hold logs in n sessions and keeps nothing of them but the connections.
func (l *lab) hold(ctx context.Context, n int) (held []net.Conn, err error) {
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		left  = n
	)
	for range joiners {
		group.Go(func() {
			for {
				mu.Lock()
				more := left > 0 && err == nil
				left--
				mu.Unlock()
				if !more {
					return
				}
				p, joinErr := l.join(ctx, l.host.addr)
				if joinErr == nil {
					joinErr = p.Conn.SetDeadline(time.Time{})
				}
				mu.Lock()
				if joinErr != nil {
					err = joinErr
				} else {
					held = append(held, p.Conn)
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if err != nil {
		for _, nc := range held {
			nc.Close()
		}
		return nil, fmt.Errorf("session %d: %w", len(held)+1, err)
	}
	return held, nil
}

type memory struct {
	resident uint64
	stat     Stat
}

// collected is the host's memory when it has given back what it can.
func (b *Bench) collected(ctx context.Context, l *lab) (m memory, err error) {
	if m.stat, err = l.host.stat(ctx, "gc"); err != nil {
		return m, err
	}
	m.resident, err = b.settle(ctx, l)
	return m, err
}

// Settling: memory is read until settleReads reads have been alike, but no
// longer than settlePatience.
const (
	settleReads    = 6
	settlePatience = 30 * time.Second
)

// settle waits until the host's memory and goroutines stay as they are, and
// returns what is resident.
func (b *Bench) settle(ctx context.Context, l *lab) (resident uint64, err error) {
	ticker := time.NewTicker(b.settlePause)
	defer ticker.Stop()
	goroutines, alike := -1, 0
	for deadline := time.Now().Add(settlePatience); alike < settleReads && time.Now().Before(deadline); {
		s, err := l.host.stat(ctx, "stat")
		if err != nil {
			return 0, err
		}
		now := l.host.resident()
		if diff := int64(now) - int64(resident); s.Goroutines == goroutines && max(diff, -diff) < 256<<10 {
			alike++
		} else {
			alike = 0
		}
		goroutines, resident = s.Goroutines, now
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	return resident, nil
}
