package bench

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/crypto/argon2"

	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/wire"
)

// connect measures from the TCP connect to ASYNC_RDY.
func (b *Bench) connect(ctx context.Context) (rows []Row, err error) {
	for _, mode := range b.opts.Modes {
		l, err := b.lab(ctx, mode, cheapHashing...)
		if err != nil {
			return nil, err
		}
		b.say("connect %s: %d connections in each of %d rounds", mode, b.opts.Connects, b.opts.Rounds)
		host, floor, err := b.alternate(ctx, l, "connect-"+string(mode), func(s *process) ([]time.Duration, error) {
			return connectRound(ctx, s.addr, b.opts.Connects)
		})
		if err != nil {
			return nil, err
		}
		p50 := compare("connect to ready, p50", mode, "ms", host["p50"], floor["p50"])
		if mode == Plain {
			p50 = p50.atMost(1)
		}
		rows = append(rows, p50, compare("connect to ready, p99", mode, "ms", host["p99"], floor["p99"]))
		b.stopAll()
	}
	return rows, nil
}

// alternate measures the times of host and floor in turn.
func (b *Bench) alternate(ctx context.Context, l *lab, name string, round func(s *process) ([]time.Duration, error)) (host, floor rounds, err error) {
	figures := map[*process]rounds{l.host: {}, l.floor: {}}
	for n := range b.opts.Rounds {
		for _, s := range l.turns(n) {
			endProfile := b.profile(ctx, s, fmt.Sprintf("%s-%d", name, n))
			times, err := round(s)
			endProfile()
			if err != nil {
				return nil, nil, err
			}
			figures[s].addTimes(times)
		}
	}
	return figures[l.host], figures[l.floor], nil
}

func connectRound(ctx context.Context, addr string, connects int) ([]time.Duration, error) {
	times := make([]time.Duration, 0, connects)
	for range connects {
		began := time.Now()
		p, err := raw.Dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
		p.Close()
	}
	return times, nil
}

// Costs of password hashing that a host has by default (configuration,
// argon2_kib and argon2_time).
const (
	defaultKiB  = 19456
	defaultTime = 2
)

// login measures from the password to the last frame of the list, with cheap
// password hashing and with that of a host as it is. The hash alone is
// measured beside it, with the same costs.
func (b *Bench) login(ctx context.Context) (rows []Row, err error) {
	for _, mode := range b.opts.Modes {
		for _, costs := range []struct {
			name      string
			kib, time uint32
			logins    int
		}{
			{"cheap hash", cheapKiB, cheapTime, b.opts.Connects},
			{"default hash", defaultKiB, defaultTime, max(b.opts.Connects/10, 1)},
		} {
			set := []string{fmt.Sprintf("argon2_kib=%d", costs.kib), fmt.Sprintf("argon2_time=%d", costs.time)}
			l, err := b.lab(ctx, mode, set...)
			if err != nil {
				return nil, err
			}
			b.say("login %s, %s: %d logins in each of %d rounds", mode, costs.name, costs.logins, b.opts.Rounds)
			hash := rounds{}
			host, floor, err := b.alternate(ctx, l, "login-"+string(mode), func(s *process) ([]time.Duration, error) {
				if s == l.host {
					hash.addTimes(hashRound(costs.kib, costs.time, costs.logins))
				}
				return l.loginRound(ctx, s.addr, costs.logins)
			})
			if err != nil {
				return nil, err
			}
			rest := make([]float64, len(hash["p50"]))
			for i, alone := range hash["p50"] {
				rest[i] = host["p50"][i] - alone
			}
			without := compare("login to list, without hash, p50, "+costs.name, mode, "ms", rest, floor["p50"]).
				noting(fmt.Sprintf("hash alone %s ms", figure(median(hash["p50"]))))
			if costs.kib == cheapKiB {
				// The difference of two long times tells little about a short one.
				without = without.atMost(1)
			}
			rows = append(rows,
				compare("login to list, p50, "+costs.name, mode, "ms", host["p50"], floor["p50"]).noting("the floor hashes nothing"),
				compare("login to list, p99, "+costs.name, mode, "ms", host["p99"], floor["p99"]),
				without)
			b.stopAll()
		}
	}
	return rows, nil
}

// hashRound does what the host does for a password and nothing else.
func hashRound(kib, passes uint32, times int) []time.Duration {
	took := make([]time.Duration, 0, times)
	salt := make([]byte, 16)
	for range times {
		began := time.Now()
		argon2.IDKey([]byte("Measured-twice1"), salt, passes, kib, 1, 32)
		took = append(took, time.Since(began))
	}
	return took
}

// loginRound logs one client in and out again.
func (l *lab) loginRound(ctx context.Context, addr string, logins int) ([]time.Duration, error) {
	p, err := raw.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	logout := wire.AppendText(nil, wire.Text, l.script.Logout, raw.Branch, "")
	times := make([]time.Duration, 0, logins)
	for range logins {
		took, err := p.Login(l.account, l.script.ListFrames)
		if err != nil {
			return nil, err
		}
		times = append(times, took)
		// What follows the IDLE of logout is skipped by the next login.
		if err := p.Call(logout, l.script.Logout); err != nil {
			return nil, err
		}
	}
	return times, nil
}
