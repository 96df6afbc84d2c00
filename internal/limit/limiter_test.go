package limit_test

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/internal/limit"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestGroup(t *testing.T) {
	tests := []struct{ name, addr, want string }{
		{"IPv4", "192.0.2.7", "192.0.2.7"},
		{"IPv4 in IPv6", "::ffff:192.0.2.7", "192.0.2.7"},
		{"IPv6", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"},
		{"zone", "fe80::1%eth0", "fe80::"},
		{"loopback", "127.1.2.3", "127.1.2.3"},
		{"loopback IPv6", "::1", "::1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := limit.Group(addr(test.addr)); got != addr(test.want) {
				t.Errorf("group of %s: %s, want %s", test.addr, got, test.want)
			}
		})
	}
	if got := limit.Group(netip.Addr{}); got != (netip.Addr{}) {
		t.Errorf("group of no address: %s", got)
	}
}

func TestHalfOpenPerAddress(t *testing.T) {
	l := limit.New(limit.Config{HalfOpenPerAddr: 2})
	first := conn(t, l, "192.0.2.1")
	conn(t, l, "::ffff:192.0.2.1")
	if _, err := l.AcquireConn(addr("192.0.2.1")); !errors.Is(err, limit.ErrHalfOpen) {
		t.Errorf("third connection: %v", err)
	}
	conn(t, l, "192.0.2.2")

	// A second release must not make room for somebody else.
	first()
	first()
	conn(t, l, "192.0.2.1")
	if _, err := l.AcquireConn(addr("192.0.2.1")); !errors.Is(err, limit.ErrHalfOpen) {
		t.Errorf("third connection after one release: %v", err)
	}

	conn(t, l, "2001:db8::1")
	conn(t, l, "2001:db8::2")
	if _, err := l.AcquireConn(addr("2001:db8::ffff:0:0:3")); !errors.Is(err, limit.ErrHalfOpen) {
		t.Errorf("third connection of one /64: %v", err)
	}
	conn(t, l, "2001:db8:0:1::1")

	want := limit.Counters{HalfOpen: 6, Addrs: 4, RefusedHalfOpen: 3}
	if diff := cmp.Diff(want, l.Counters()); diff != "" {
		t.Errorf("counters (-want +got)\n%s", diff)
	}
}

func TestLoopbackIsSpared(t *testing.T) {
	for _, a := range []string{"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"} {
		l := limit.New(limit.Config{HalfOpenPerAddr: 1})
		conn(t, l, a)
		conn(t, l, a)()
		if !l.Exempt(addr(a)) || l.Counters() != (limit.Counters{}) {
			t.Errorf("%s: exempt %v, %+v", a, l.Exempt(addr(a)), l.Counters())
		}
		l.SetConfig(limit.Config{HalfOpenPerAddr: 1, LimitLoopback: true})
		conn(t, l, a)
		if _, err := l.AcquireConn(addr(a)); !errors.Is(err, limit.ErrHalfOpen) {
			t.Errorf("%s with limit_loopback: %v", a, err)
		}
		if l.Exempt(addr(a)) {
			t.Errorf("%s with limit_loopback is exempt", a)
		}
	}
	l := limit.New(limit.Config{})
	if l.Exempt(addr("192.0.2.1")) || l.Exempt(netip.Addr{}) {
		t.Error("others are exempt")
	}
}

func TestSessions(t *testing.T) {
	l := limit.New(limit.Config{MaxSessions: 2})
	first := session(t, l, "192.0.2.1")
	session(t, l, "192.0.2.1")
	refuseSession(t, l, "192.0.2.2")

	local := session(t, l, "127.0.0.1")
	refuseSession(t, l, "::1")

	// While loopback has the extra slot, one that becomes free is not there
	// for others: they are at their limit still.
	first()
	first()
	refuseSession(t, l, "192.0.2.2")
	local()
	session(t, l, "192.0.2.2")
	session(t, l, "::ffff:127.0.0.1")

	want := limit.Counters{Sessions: 3, RefusedSessions: 3}
	if diff := cmp.Diff(want, l.Counters()); diff != "" {
		t.Errorf("counters (-want +got)\n%s", diff)
	}

	l.SetConfig(limit.Config{MaxSessions: 3, LimitLoopback: true})
	refuseSession(t, l, "192.0.2.3")
	session(t, l, "127.0.0.1")
}

func TestNoLimits(t *testing.T) {
	l := limit.New(limit.Config{})
	for range 1000 {
		conn(t, l, "192.0.2.1")
		session(t, l, "192.0.2.1")
	}
}

// Memory must not grow with the addresses that were ever seen, and counts must
// come back to 0 whatever happens at once.
func TestNothingStays(t *testing.T) {
	l := limit.New(limit.Config{HalfOpenPerAddr: 3, MaxSessions: 20})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				a := addr(fmt.Sprintf("192.0.%d.%d", i%2, j%250))
				if release, err := l.AcquireConn(a); err == nil {
					defer release()
					release()
				}
				if release, err := l.AcquireSession(a); err == nil {
					if n := l.Counters().Sessions; n > 20 {
						t.Errorf("%d sessions at once", n)
					}
					release()
				}
			}
		})
	}
	wg.Wait()
	got := l.Counters()
	got.RefusedHalfOpen, got.RefusedSessions = 0, 0
	if got != (limit.Counters{}) {
		t.Errorf("left: %+v", got)
	}
}

func conn(t *testing.T, l *limit.Limiter, a string) func() {
	t.Helper()
	release, err := l.AcquireConn(addr(a))
	if err != nil {
		t.Fatalf("connection of %s: %v", a, err)
	}
	return release
}

func session(t *testing.T, l *limit.Limiter, a string) func() {
	t.Helper()
	release, err := l.AcquireSession(addr(a))
	if err != nil {
		t.Fatalf("session of %s: %v", a, err)
	}
	return release
}

func refuseSession(t *testing.T, l *limit.Limiter, a string) {
	t.Helper()
	if _, err := l.AcquireSession(addr(a)); !errors.Is(err, limit.ErrSessions) {
		t.Errorf("session of %s: %v, want %v", a, err, limit.ErrSessions)
	}
}
