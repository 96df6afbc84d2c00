package limit

import (
	"errors"
	"net/netip"
	"sync"
)

// What was refused.
var (
	ErrHalfOpen = errors.New("too many half-open connections from this address")
	ErrSessions = errors.New("too many sessions")
)

// Config holds the limits of a Limiter; 0 is no limit.
type Config struct {
	HalfOpenPerAddr int  // connections of one address before header and handshake are over
	MaxSessions     int  // sessions at once; loopback has one more
	LimitLoopback   bool // limits per address bind loopback too
}

// Counters is what a Limiter counts: what there is now, and what was refused
// since it was made.
type Counters struct {
	HalfOpen int // connections counted per address, without those that are spared
	Addrs    int // addresses that have one
	Sessions int

	RefusedHalfOpen uint64
	RefusedSessions uint64
}

// Limiter counts half-open connections and sessions.
type Limiter struct {
	mu sync.Mutex

	// Guarded by mu.
	cfg      Config
	halfOpen map[netip.Addr]int // by Group; no entry is 0
	counters Counters
}

// New returns a Limiter that has counted nothing.
func New(cfg Config) *Limiter {
	return &Limiter{cfg: cfg, halfOpen: make(map[netip.Addr]int)}
}

// SetConfig changes the limits. What is counted stays; nothing is ended that
// is above a new limit.
func (l *Limiter) SetConfig(cfg Config) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cfg = cfg
}

// AcquireConn counts a new connection of addr as half-open until release is
// called, once header and handshake are over in whatever way. release may be
// called again and does nothing then. The error is ErrHalfOpen.
func (l *Limiter) AcquireConn(addr netip.Addr) (release func(), err error) {
	group := Group(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.exemptLocked(addr) {
		return func() {}, nil
	}
	n := l.halfOpen[group]
	if l.cfg.HalfOpenPerAddr > 0 && n >= l.cfg.HalfOpenPerAddr {
		l.counters.RefusedHalfOpen++
		return nil, ErrHalfOpen
	}
	l.halfOpen[group] = n + 1
	l.counters.HalfOpen++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.counters.HalfOpen--
		if l.halfOpen[group]--; l.halfOpen[group] == 0 {
			delete(l.halfOpen, group)
		}
	}), nil
}

// AcquireSession counts a session of addr until release is called, which may
// be called again and does nothing then. When all MaxSessions are taken there
// is one more for loopback, so that an administrator always gets in (state
// 7.1). The error is ErrSessions.
func (l *Limiter) AcquireSession(addr netip.Addr) (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	slots := l.cfg.MaxSessions
	if addr.Unmap().IsLoopback() {
		slots++
	}
	if l.cfg.MaxSessions > 0 && l.counters.Sessions >= slots {
		l.counters.RefusedSessions++
		return nil, ErrSessions
	}
	l.counters.Sessions++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.counters.Sessions--
	}), nil
}

// Exempt reports whether limits per address do not bind addr. Who counts
// addresses with a Rate asks this first.
func (l *Limiter) Exempt(addr netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.exemptLocked(addr)
}

func (l *Limiter) exemptLocked(addr netip.Addr) bool {
	return !l.cfg.LimitLoopback && addr.Unmap().IsLoopback()
}

// Counters returns a consistent copy of all counters.
func (l *Limiter) Counters() Counters {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counters
	c.Addrs = len(l.halfOpen)
	return c
}

// ipv6Customer is the length of the prefix that one customer has at least;
// with it come more addresses than anybody could count.
const ipv6Customer = 64

// Group returns what stands for addr in limits per address: IPv4 as it is, also
// when it comes as IPv6, and IPv6 as the first address of its /64, without a
// zone. IPv6 loopback stays itself. What is no address stays the zero Addr,
// and all of those share one count.
func Group(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if !addr.Is6() || addr.IsLoopback() {
		return addr
	}
	prefix, err := addr.Prefix(ipv6Customer)
	if err != nil {
		return addr // cannot happen: every IPv6 address has a /64
	}
	return prefix.Addr()
}
