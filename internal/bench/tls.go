package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/wire"
)

// stormers connect at once: more than there are cores, so that nobody waits
// for one client's turn.
const stormers = 16

// tls measures how many clients get in a second when all come at once, against
// a bare TLS accept loop with the same certificate.
func (b *Bench) tls(ctx context.Context) ([]Row, error) {
	l, err := b.lab(ctx, TLS, cheapHashing...)
	if err != nil {
		return nil, err
	}
	bare, err := b.start(ctx, Role{Kind: RoleTLS, Chain: l.chain, Key: l.key})
	if err != nil {
		return nil, err
	}
	b.say("tls: %d clients connecting at once", stormers)
	contests := []struct {
		name   string
		server *process
		enter  func() error
	}{
		{"bare", bare, func() error { return handshakeOnly(ctx, bare.addr) }},
		{"ready", l.host, func() error { return enter(ctx, l.host.addr) }},
		{"floor", l.floor, func() error { return enter(ctx, l.floor.addr) }},
		{"login", l.host, func() error { return l.enterAs(ctx, l.host.addr) }},
		{"floor login", l.floor, func() error { return l.enterAs(ctx, l.floor.addr) }},
	}
	figures := rounds{}
	for round := range b.opts.Rounds {
		for _, c := range contests {
			endProfile := b.profile(ctx, c.server, fmt.Sprintf("tls-%s-%d", c.name, round))
			rate, err := stormRound(ctx, b.opts.Round, c.enter)
			endProfile()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			figures.add(c.name, rate)
		}
	}
	ready := compare("TLS connects to ready", TLS, "1/s", figures["ready"], figures["bare"]).ratioAtLeast(0.85)
	ready.Note = "the floor is a bare TLS accept loop"
	return []Row{
		ready,
		compare("TLS connects to ready, against a floor", TLS, "1/s", figures["ready"], figures["floor"]).noting("the floor speaks the protocol"),
		compare("TLS connects with login, cheap hash", TLS, "1/s", figures["login"], figures["floor login"]).noting("the floor hashes nothing"),
	}, nil
}

// stormRound returns how many clients a second got in.
func stormRound(ctx context.Context, round time.Duration, enter func() error) (float64, error) {
	var (
		group  sync.WaitGroup
		mu     sync.Mutex
		total  int
		failed error
	)
	began := time.Now()
	end := began.Add(round)
	for range stormers {
		group.Go(func() {
			n := 0
			var err error
			for err == nil && ctx.Err() == nil && time.Now().Before(end) {
				if err = enter(); err == nil {
					n++
				}
			}
			mu.Lock()
			defer mu.Unlock()
			total += n
			if err != nil {
				failed = err
			}
		})
	}
	group.Wait()
	if failed == nil {
		failed = context.Cause(ctx)
	}
	return float64(total) / time.Since(began).Seconds(), failed
}

func handshakeOnly(ctx context.Context, addr string) error {
	nc, err := raw.DialTCP(ctx, addr)
	if err != nil {
		return err
	}
	secured := tls.Client(nc, raw.TLSConfig)
	defer secured.Close()
	if err := secured.HandshakeContext(ctx); err != nil {
		return err
	}
	var b [1]byte
	_, err = secured.Read(b[:])
	return err
}

// greetings has buffers for what servers say first. A client that made one for
// each connection would be what is measured.
var greetings = sync.Pool{New: func() any { return &greeting{b: make([]byte, 16<<10)} }}

type greeting struct{ b []byte }

// enter connects and reads until the session is ready. What the commands are is
// nothing to it, as it is to the client of the bare loop.
func enter(ctx context.Context, addr string) error {
	nc, err := raw.DialTCP(ctx, addr)
	if err != nil {
		return err
	}
	if nc, err = raw.ExchangeHeaders(ctx, nc); err != nil {
		return err
	}
	defer nc.Close()
	g := greetings.Get().(*greeting)
	defer greetings.Put(g)
	for start, end := 0, 0; ; {
		n, err := nc.Read(g.b[end:])
		if err != nil {
			return fmt.Errorf("greeting of %s: %w", addr, err)
		}
		end += n
		for {
			f, rest, ok := wire.CutFrame(g.b[start:end])
			if !ok {
				break
			}
			if f.Cmd == wire.CmdID(wire.AsyncRdy) {
				return nil
			}
			start = end - len(rest)
		}
		if end == len(g.b) {
			g.b = append(g.b, make([]byte, len(g.b))...)
		}
	}
}

func (l *lab) enterAs(ctx context.Context, addr string) error {
	p, err := l.join(ctx, addr)
	if err != nil {
		return err
	}
	p.Close()
	return nil
}
