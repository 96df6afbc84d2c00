package host

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/conn"
	"mrci.dev/mrci/internal/session"
)

// tally counts events by reason. Reasons come from the tables below, so that
// there are few of them.
type tally struct {
	mu     sync.Mutex
	counts map[string]uint64
}

func (t *tally) add(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = make(map[string]uint64)
	}
	t.counts[reason]++
}

// into adds the counts to m.
func (t *tally) into(m map[string]uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for reason, n := range t.counts {
		m[reason] += n
	}
}

// counters count what has happened since the host was opened.
type counters struct {
	accepted  atomic.Uint64 // connections
	unstarted tally         // connections that never became a session
	ended     tally         // sessions
	logins    tally         // attempts to log in and to recover
	reloads   tally
	hostOnly  atomic.Uint64 // frames for others of types that only the host sends
	untaken   atomic.Uint64 // frames that a peer did not take
}

// reason pairs an error with the word that it is counted under.
type reason struct {
	err  error
	name string
}

// failures are why a connection does not become a session.
var failures = []reason{
	{session.ErrHostStops, "host_stops"},
	{conn.ErrNotMRCI, "not_mrci"},
	{conn.ErrHeaderTimeout, "header_timeout"},
	{conn.ErrHandshake, "tls_handshake"},
	{io.ErrUnexpectedEOF, "client_left"},
}

// ends are why a session ends.
var ends = []reason{
	{session.ErrClientLeft, "client_left"},
	{session.ErrHostStops, "host_stops"},
	{session.ErrFrameTooLarge, "frame_too_large"},
	{conn.ErrSlowConsumer, "slow_consumer"},
	{conn.ErrInputBudget, "input_budget"},
	{io.ErrUnexpectedEOF, "connection_lost"}, // inside a frame
}

// nameOf returns the word for an error, other when the table has none.
func nameOf(err error, table []reason, other string) string {
	for _, r := range table {
		if errors.Is(err, r.err) {
			return r.name
		}
	}
	return other
}

// countAttempt counts a try to log in or to recover.
func (n *counters) countAttempt(a account.Attempt) {
	what := "login_"
	if a.Recovery {
		what = "recovery_"
	}
	switch {
	case a.Accepted:
		n.logins.add(what + "accepted")
	case a.Locked:
		n.logins.add(what + "refused")
		n.logins.add("accounts_locked")
	default:
		n.logins.add(what + "refused")
	}
}

// A quietLog has room for lineBurst lines at once, and one more every
// lineEvery. More are counted and summed up in the next line, so that a flood
// of connections does not become a flood of the log: at most some 30 MB a day
// of each kind.
const (
	lineBurst = 20
	lineEvery = 500 * time.Millisecond
)

// quietLog logs lines that strangers can cause as often as they like. Fixed:
// level and msg.
type quietLog struct {
	level slog.Level
	msg   string

	mu      sync.Mutex
	full    time.Time // when there will be room for lineBurst lines again
	omitted uint64    // lines not told of yet
}

// line logs to log unless there were many lines just before. The next line
// that is logged says how many were left out.
func (q *quietLog) line(log *slog.Logger, args ...any) {
	omitted, ok := q.admit(time.Now())
	if !ok {
		return
	}
	if omitted > 0 {
		args = append(args, "omitted", omitted)
	}
	log.Log(context.Background(), q.level, q.msg, args...)
}

func (q *quietLog) admit(now time.Time) (omitted uint64, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.full.Before(now) {
		q.full = now
	}
	if q.full.Sub(now) > (lineBurst-1)*lineEvery {
		q.omitted++
		return 0, false
	}
	q.full = q.full.Add(lineEvery)
	omitted, q.omitted = q.omitted, 0
	return omitted, true
}
