package host_test

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/wire"
)

// wallClock is a clock that somebody sets: it has no monotonic reading that
// would go on evenly.
type wallClock struct{ offset atomic.Int64 }

func (w *wallClock) now() time.Time {
	return time.Now().Round(0).Add(time.Duration(w.offset.Load()))
}

func (w *wallClock) jump(d time.Duration) { w.offset.Add(int64(d)) }

// tries makes wrong tries until the host says that there were too many from
// the address, and returns how many were judged.
func tries(t *testing.T, h *hosttest.Host, user string) (judged uint64) {
	t.Helper()
	before := count(t, h, "logins", "login_refused")
	c := h.Connect()
	defer c.Conn.Close()
	for range 4 {
		if said := hosttest.Texts(wire.Err, dialogue(c, "auth", "-user "+user, "Wrong-horse1", "Wrong-horse2", "Wrong-horse3", "Wrong-horse4", "")); strings.Contains(said, "address") {
			break
		}
	}
	return count(t, h, "logins", "login_refused") - before
}

// A clock that jumps ends no session, locks nobody out for good and lets
// nobody guess on.
func TestClockJumps(t *testing.T) {
	const perHour = 5
	clock := new(wallClock)
	h := hosttest.Start(t, hosttest.Clock(clock.now), hosttest.Set(
		"limit_loopback=true", "failures_per_addr=5", "auto_lock_limit=1000", "log_level=info"))
	h.User("alice", 1)
	alice := h.Connect()
	alice.Login("alice")
	// What a jump costs those who only work.
	took := make([]time.Duration, 2000)
	for i := range took {
		if i%100 == 0 {
			clock.jump(time.Hour * time.Duration(1-2*(i/100%2)))
		}
		began := time.Now()
		alice.Call("my_info", "")
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	t.Logf("a call beside 20 jumps: p50 %v, p99 %v, longest %v", took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	guesses := tries(t, h, "alice")
	if guesses != perHour {
		t.Fatalf("%d tries are judged, want %d", guesses, perHour)
	}
	for range 10 {
		for _, d := range []time.Duration{time.Hour, -time.Hour} {
			clock.jump(d)
			guesses += tries(t, h, "alice")
			alice.Call("my_info", "")
			alice.Call("ls_act_log", "")
		}
	}
	// The hour before the first jump, the one behind it, and what its first
	// twelfth may add.
	if guesses > 3*perHour {
		t.Errorf("%d tries are judged while the clock goes to and fro, want %d at most", guesses, 3*perHour)
	}
	// Whoever knows the password gets in when the window is over, also after
	// the clock was wrong by years.
	clock.jump(10 * 365 * 24 * time.Hour)
	tries(t, h, "alice")
	clock.jump(-10 * 365 * 24 * time.Hour)
	tries(t, h, "alice")
	clock.jump(70 * time.Minute)
	h.Connect().Login("alice")
	if got := who(alice); got != "alice" {
		t.Errorf("the first session is %q's now", got)
	}
	log := hosttest.Texts(wire.Text, alice.Call("ls_act_log", "-find started"))
	if rows := strings.Count(log, "session started"); rows < 20 {
		t.Errorf("%d rows about sessions are left:\n%s", rows, log)
	}
}

// A lock holds when the clock is set back, and ends when its time is over.
func TestLockedWhenClockJumps(t *testing.T) {
	clock := new(wallClock)
	h := hosttest.Start(t, hosttest.Clock(clock.now), hosttest.Set("auto_lock_limit=3", "log_level=info"))
	h.User("alice", 2)
	tries(t, h, "alice")
	if n := count(t, h, "logins", "accounts_locked"); n != 1 {
		t.Fatalf("%d locks, want 1", n)
	}
	refused := func(when string) {
		t.Helper()
		c := h.Connect()
		if frames := dialogue(c, "auth", "-user alice", hosttest.Password, ""); !strings.HasSuffix(hosttest.Kinds(frames), "IDLE 3") && !strings.HasSuffix(hosttest.Kinds(frames), "IDLE 2") {
			t.Errorf("%s: %s, want a refusal", when, hosttest.Kinds(frames))
		}
		c.Conn.Close()
	}
	refused("at once")
	clock.jump(-time.Hour)
	refused("an hour back")
	clock.jump(time.Hour)
	refused("there again")
	clock.jump(time.Hour)
	h.Connect().Login("alice")
}
