package session_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/bus/bustest"
	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/internal/session"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// stage is a server with a client that casts, and a member of the bus that
// hears it.
type stage struct {
	*server
	*hosttest.Client
	t      *testing.T
	id     wire.SessionID
	hears  *listener
	marked atomic.Int32 // calls of mark that were run
}

// listener is a session that the test plays.
type listener struct {
	bus.Member
	*bustest.Door
	id wire.SessionID
}

func (l *listener) Receive(d bus.Delivery) { d.Answer() }

func (l *listener) PeerInfo() []byte { return nil }

var room = wire.SubRef{Channel: 7}

func perform(t *testing.T, change func(*server)) *stage {
	t.Helper()
	st := &stage{t: t}
	st.server = serve(t, func(s *server) {
		s.peers = true
		if change != nil {
			change(s)
		}
	}, &module.Command{
		Name: "mark", Class: module.Exempt, Input: module.AnyInput, Inline: true,
		Run: func(context.Context, *module.Call) error {
			st.marked.Add(1)
			return nil
		},
	})
	st.Client = st.connect()
	st.id = st.Header.Session
	st.logIn()
	st.hears = &listener{Door: bustest.NewDoor(), id: wire.SessionID{200}}
	st.hears.Member = st.bus.Join(st.hears.id, st.hears, st.hears.Door)
	st.hears.Enter(wire.UserID{200})
	t.Cleanup(func() { st.hears.Leave() })
	opening, err := st.hears.Open(room)
	if err != nil || !opening.Enable(false, true) {
		t.Fatalf("open: %v", err)
	}
	return st
}

// logIn logs the client in, and opens the sub-channel for it.
func (st *stage) logIn() {
	st.t.Helper()
	st.Call("login", "-rank 1")
	fence(st.t, st.Client)
	if ok, err := st.hub.Open(st.t.Context(), st.id, room); !ok || err != nil {
		st.t.Fatalf("open: %v, %v", ok, err)
	}
}

// link makes a link between the client and the listener.
func (st *stage) link() {
	st.t.Helper()
	if _, err := st.hears.AskLink(st.id, nil, nil); err != nil {
		st.t.Fatal(err)
	}
	if err := st.hub.Accept(st.id, st.hears.id); err != nil {
		st.t.Fatal(err)
	}
}

// heard returns what the listener was sent: each time that something was queued
// in one piece, the frames of it.
func (st *stage) heard() (pieces []string) {
	for _, b := range st.hears.Frames(0) {
		var frames []string
		for len(b) > 0 {
			f, rest, ok := wire.CutFrame(b)
			if !ok {
				st.t.Fatalf("half a frame: %x", b)
			}
			if f.Branch != 0 {
				st.t.Errorf("a frame for branch %d", f.Branch)
			}
			switch f.Cmd {
			case wire.CmdID(wire.AsyncCast):
				frames = append(frames, fmt.Sprintf("%v %s", f.Type, f.Payload))
			case wire.CmdID(wire.AsyncP2P):
				if f.Type != wire.P2POpen {
					frames = append(frames, fmt.Sprintf("peer %v %s", f.Type, f.Payload[wire.SessionIDSize:]))
				}
			}
			b = rest
		}
		if len(frames) > 0 {
			pieces = append(pieces, strings.Join(frames, ", "))
		}
	}
	return pieces
}

func (st *stage) wantHeard(want ...string) {
	st.t.Helper()
	if got := st.heard(); !slices.Equal(got, want) {
		st.t.Errorf("the listener got %q, want %q", got, want)
	}
}

// frame is a frame to be sent, by the name of its command.
func (st *stage) frame(t wire.TypeID, command string, branch wire.BranchID, payload string) []byte {
	st.t.Helper()
	return wire.AppendText(nil, t, st.ID(command), branch, payload)
}

func (st *stage) cast(branch wire.BranchID, payload string) []byte {
	return st.frame(wire.Text, "cast", branch, payload)
}

// answers reads up to the answer of a fence that it sends, and tells what came:
// "IDLE 1 cast 5" for branch 5.
func (st *stage) answers() (got []string) {
	st.t.Helper()
	names := st.commandNames()
	for _, f := range fence(st.t, st.Client) {
		got = append(got, fmt.Sprintf("%s %s %d", hosttest.Kinds([]wire.Frame{f}), names[f.Cmd], f.Branch))
	}
	return got
}

func (st *stage) wantAnswers(want ...string) {
	st.t.Helper()
	if got := st.answers(); !slices.Equal(got, want) {
		st.t.Errorf("answers %q, want %q", got, want)
	}
}

// TestCastsOfOneRead: consecutive casts are one piece, whatever their branches
// and types, each is answered on its branch, and other frames keep their place.
func TestCastsOfOneRead(t *testing.T) {
	st := perform(t, nil)
	st.link()
	peer := string(st.hears.id[:])
	st.Write(slices.Concat(
		st.cast(1, "a"), st.cast(2, ""), st.frame(wire.Bytes, "cast", 1, "c"), st.frame(wire.GenFile, "cast", 9, "d"),
		st.frame(wire.Text, "to_peer", 1, peer+"e"),
		st.cast(3, "f"),
		st.frame(wire.Text, "mark", 3, ""),
		st.cast(65535, "g"), st.cast(3, "h"),
	))
	st.wantAnswers("IDLE 1 cast 1", "IDLE 1 cast 2", "IDLE 1 cast 1", "IDLE 1 cast 9", "IDLE 1 to_peer 1",
		"IDLE 1 cast 3", "IDLE 1 mark 3", "IDLE 1 cast 65535", "IDLE 1 cast 3")
	st.wantHeard("TEXT a, TEXT , BYTES c, GEN_FILE d", "peer TEXT e", "TEXT f", "TEXT g, TEXT h")
}

// TestCastsThatAreNone: what is refused and what is no cast stands in the middle
// of a run.
func TestCastsThatAreNone(t *testing.T) {
	st := perform(t, nil)
	unknown := wire.TypeID(200)
	st.Write(slices.Concat(
		st.cast(1, "a"), st.frame(wire.Idle, "cast", 2, "\x01\x00"), st.cast(3, "b"), st.frame(unknown, "cast", 4, "x"),
		st.frame(wire.PingPeers, "cast", 5, "x"), st.cast(6, "c"),
		st.frame(wire.TermCmd, "cast", 6, ""), st.frame(wire.KillCmd, "cast", 6, "x"), st.frame(wire.YieldCmd, "cast", 1, ""),
		st.cast(7, "d"), st.frame(wire.ResumeCmd, "cast", 7, ""),
	))
	st.wantAnswers("IDLE 1 cast 1", "ERR cast 2", "IDLE 3 cast 2", "IDLE 1 cast 3", "ERR cast 4", "IDLE 3 cast 4",
		"ERR cast 5", "IDLE 3 cast 5", "IDLE 1 cast 6", "IDLE 1 cast 7")
	st.wantHeard("TEXT a", "TEXT b", "TEXT c", "TEXT d")
}

// TestCastWithoutRight: the command goes with the login, in the middle of a
// batch too, and who has nothing open reaches nobody.
func TestCastWithoutRight(t *testing.T) {
	st := perform(t, func(s *server) { s.users = holdingAfter(1) })
	cast := st.ID("cast")
	st.Write(slices.Concat(st.cast(1, "a"), st.frame(wire.Text, "logout", 0, ""), st.cast(2, "no"), st.cast(3, "no")))
	names := st.commandNames()
	frames := st.UntilIdle(cast, 3)
	got := events(st.Client, names, slices.DeleteFunc(frames, func(f wire.Frame) bool {
		return f.Cmd == wire.CmdID(wire.AsyncAddCmd) || f.Cmd == wire.CmdID(wire.AsyncRmCmd)
	}))
	if want := []string{"IDLE 1 cast", "IDLE 1 logout", "ERR cast", "IDLE 3 cast", "ERR cast", "IDLE 3 cast"}; !slices.Equal(got, want) {
		t.Errorf("answers %q, want %q", got, want)
	}
	st.wantHeard("TEXT a")

	// Casts behind a login wait for it: they are those of the new user, who has
	// nothing open, and are answered behind the list.
	st.Send(wire.Text, st.ID("login"), 0, "-rank 1")
	st.users.wait(t)
	st.Send(wire.Text, cast, 4, "nobody hears it")
	st.users.answer(t)
	frames = st.UntilIdle(cast, 4)
	if last := hosttest.Kinds(frames[len(frames)-2:]); last != "NEW_CMD@ADD_CMD, IDLE 1" {
		t.Errorf("the cast was answered behind %s", last)
	}
	st.wantHeard("TEXT a")
}

// holdingAfter are holding users whose first n answers do not wait.
func holdingAfter(n int) *users {
	u := holding()
	u.free.Store(int32(n))
	return u
}

// TestLargeCast: a frame in memory of its own is not copied on its way.
func TestLargeCast(t *testing.T) {
	const size = 8 << 20
	st := perform(t, nil)
	payload := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	frame := wire.AppendFrame(nil, wire.Bytes, st.ID("cast"), 3, payload)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	st.Write(frame)
	st.UntilIdle(st.ID("cast"), 3)
	runtime.ReadMemStats(&after)
	// While it arrives its memory grows by four: 4.5 MiB, then all of it.
	if made := after.TotalAlloc - before.TotalAlloc; made > 2*size {
		t.Errorf("%d bytes were allocated for a frame of %d", made, size)
	}
	pieces := st.hears.Frames(0)
	f, _, ok := wire.CutFrame(pieces[len(pieces)-1])
	if !ok || f.Type != wire.Bytes || f.Cmd != wire.CmdID(wire.AsyncCast) || f.Branch != 0 || !bytes.Equal(f.Payload, payload) {
		t.Errorf("it arrived as %v under %v, branch %d, %d bytes", f.Type, f.Cmd, f.Branch, len(f.Payload))
	}
}

// TestCastBytes: a cast that is too large for ever is refused, the others go.
func TestCastBytes(t *testing.T) {
	st := perform(t, func(s *server) { s.limits.CastBytes = 100 })
	st.Write(slices.Concat(st.cast(1, "a"), st.cast(2, strings.Repeat("x", 101)), st.cast(3, "b"), st.cast(4, "c")))
	st.wantAnswers("IDLE 1 cast 1", "ERR cast 2", "IDLE 3 cast 2", "IDLE 1 cast 3", "IDLE 1 cast 4")
	st.wantHeard("TEXT a", "TEXT b, TEXT c")
}

// TestCastRate: casts above the rate wait, and with them what follows.
func TestCastRate(t *testing.T) {
	st := perform(t, func(s *server) { s.limits.CastRate = 20 })
	var batch []byte
	for n := range wire.BranchID(24) {
		batch = append(batch, st.cast(n, "x")...)
	}
	began := time.Now()
	st.Write(batch)
	answers := st.answers()
	if took := time.Since(began); took < 190*time.Millisecond {
		t.Errorf("4 casts more than 20 in a second took %v", took)
	}
	if len(answers) != 24 {
		t.Errorf("%d of 24 casts were answered", len(answers))
	}
	if got := strings.Join(st.heard(), ", "); got != strings.TrimSuffix(strings.Repeat("TEXT x, ", 24), ", ") {
		t.Errorf("heard %q", got)
	}
}

func TestCastLimits(t *testing.T) {
	at := time.Unix(1e9, 0)
	later := func(ms int) time.Time { return at.Add(time.Duration(ms) * time.Millisecond) }
	sizes := func(n, size int) []int { return slices.Repeat([]int{size}, n) }
	small, smaller := session.Limits{CastSize: 500}, session.Limits{CastRate: 10, CastBytes: 400, CastSize: 500}
	rate, data, both, none := session.Limits{CastRate: 10}, session.Limits{CastBytes: 1000}, session.Limits{CastRate: 10, CastBytes: 1000}, session.Limits{}
	type step struct {
		limits   session.Limits
		at       time.Time
		sizes    []int
		taken    int
		wait     time.Duration
		tooLarge bool
	}
	for name, steps := range map[string][]step{
		"no limit": {{none, at, sizes(5000, 1<<24), 5000, 0, false}},
		"rate": {
			{rate, at, sizes(11, 1<<20), 10, 100 * time.Millisecond, false},
			{rate, later(50), sizes(1, 0), 0, 50 * time.Millisecond, false},
			{rate, later(50), sizes(1, 0), 0, 50 * time.Millisecond, false}, // who asks owes nothing for it
			{rate, later(100), sizes(2, 0), 1, 100 * time.Millisecond, false},
			{rate, later(5000), sizes(11, 0), 10, 100 * time.Millisecond, false},
		},
		"bytes": {
			{data, at, []int{600, 0, 600}, 2, 200 * time.Millisecond, false},
			{data, later(200), []int{600, 1}, 1, time.Millisecond, false},
			{data, later(5000), []int{1000, 0, 1}, 2, time.Millisecond, false},
			{data, later(9000), []int{1, 1001, 1}, 1, 0, true},
		},
		"both": {
			{both, at, []int{900, 200, 1}, 1, 100 * time.Millisecond, false},
			{both, at, sizes(10, 1), 9, 100 * time.Millisecond, false},
		},
		"size": {
			{small, at, append(sizes(5000, 500), 501), 5000, 0, true},
			{smaller, at, []int{400, 0}, 2, 0, false},
			{smaller, later(5000), []int{1, 401}, 1, 0, true},
		},
		"changed": {
			{rate, at, sizes(11, 0), 10, 100 * time.Millisecond, false},
			{none, at, sizes(50, 5000), 50, 0, false},
			{data, at, []int{1000, 1}, 1, time.Millisecond, false},
			{both, at, sizes(11, 1), 10, 100 * time.Millisecond, false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var c session.Casting
			for n, s := range steps {
				taken, wait, tooLarge := c.Take(s.limits, s.at, s.sizes...)
				if taken != s.taken || wait.Round(time.Microsecond) != s.wait || tooLarge != s.tooLarge {
					t.Errorf("step %d: took %d, wait %v, too large %v; want %d, %v, %v", n, taken, wait, tooLarge, s.taken, s.wait, s.tooLarge)
				}
			}
		})
	}
}

// TestPace: who casts rests until the slowest receiver that moves has taken it;
// once for a batch.
func TestPace(t *testing.T) {
	st := perform(t, func(s *server) { s.limits.PaceTimeout = time.Hour })
	st.bus.SetPace(100)
	st.Write(slices.Concat(
		st.cast(1, strings.Repeat("x", 200)), st.frame(wire.Text, "mark", 1, ""),
		st.cast(2, strings.Repeat("y", 200)), st.frame(wire.Text, "mark", 2, ""),
	))
	st.hears.Awaited(1)
	if n := st.marked.Load(); n != 0 {
		t.Errorf("%d frames were handled while it rests", n)
	}
	st.hears.Write(1 << 20)
	st.wantAnswers("IDLE 1 cast 1", "IDLE 1 mark 1", "IDLE 1 cast 2", "IDLE 1 mark 2")

	// The receiver is still behind: the next batch makes the session rest again.
	st.Write(slices.Concat(st.cast(3, "z"), st.frame(wire.Text, "mark", 3, "")))
	st.hears.Awaited(1)
	if n := st.marked.Load(); n != 2 {
		t.Errorf("%d frames were handled while it rests", n-2)
	}
	// It ends though it rests.
	if err := st.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	st.hears.Write(1 << 20)
	if got := hosttest.Kinds(st.Ended()); got != "IDLE 1, IDLE 1" {
		t.Errorf("at the end: %s", got)
	}
}

// TestPaceOfPing: PING_PEERS makes who asks rest as casts do.
func TestPaceOfPing(t *testing.T) {
	st := perform(t, func(s *server) { s.limits.PaceTimeout = time.Hour })
	st.bus.SetPace(10)
	ping := st.frame(wire.Text, "ping_peers", 1, "")
	st.Write(slices.Concat(ping, st.frame(wire.Text, "mark", 1, ""), ping, st.frame(wire.Text, "mark", 2, "")))
	st.hears.Awaited(1)
	if n := st.marked.Load(); n != 0 {
		t.Errorf("%d frames were handled while it rests", n)
	}
	st.hears.Write(1 << 20)
	st.wantAnswers("IDLE 1 ping_peers 1", "IDLE 1 mark 1", "IDLE 1 ping_peers 1", "IDLE 1 mark 2")
}

// TestPaceGoesOn: who does not get further is waited for for a moment, and who
// stands not at all.
func TestPaceGoesOn(t *testing.T) {
	for what, rest := range map[string]time.Duration{"slow": time.Millisecond, "stands": time.Hour} {
		t.Run(what, func(t *testing.T) {
			st := perform(t, func(s *server) { s.limits.PaceTimeout = rest })
			st.bus.SetPace(100)
			if what == "stands" {
				st.hears.Stall(time.Second)
			}
			for n := range wire.BranchID(20) {
				st.Write(st.cast(n, strings.Repeat("x", 200)))
				st.wantAnswers(fmt.Sprintf("IDLE 1 cast %d", n))
			}
			st.hears.Awaited(0)
		})
	}
}

// TestEndWhileResting: a session that ends takes its wish back.
func TestEndWhileResting(t *testing.T) {
	st := perform(t, func(s *server) { s.limits.PaceTimeout = time.Hour })
	st.bus.SetPace(10)
	st.Write(slices.Concat(st.cast(1, strings.Repeat("x", 200)), st.cast(2, "x")))
	st.hears.Awaited(1)
	(<-st.started).Stop("bye")
	st.Ended()
	if err := st.endReason(); err == nil {
		t.Error("no reason")
	}
	st.hears.Awaited(0)
}

// TestLastCasts: what a client has cast before it leaves is delivered, and then
// that it has gone.
func TestLastCasts(t *testing.T) {
	st := perform(t, nil)
	var batch []byte
	const casts = 5000
	for n := range casts {
		batch = append(batch, st.cast(wire.BranchID(n), "x")...)
	}
	go func() { // ends with the connection
		for {
			if _, err := st.Read(); err != nil {
				return
			}
		}
	}()
	st.Write(batch)
	if err := st.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := st.endReason(); err == nil {
		t.Error("no reason")
	}
	if got := strings.Count(strings.Join(st.heard(), ", "), "TEXT x"); got != casts {
		t.Errorf("%d of %d casts arrived", got, casts)
	}
	pieces := st.hears.Frames(0)
	var stat wire.PeerStatus
	f, _, _ := wire.CutFrame(pieces[len(pieces)-1])
	if f.Type != wire.PeerStat || wire.Parse(f.Payload, &stat) != nil || !stat.Disconnected || stat.Session != st.id {
		t.Errorf("the last frame is %v", f.Type)
	}
}

// TestToPeerWaits: to_peer goes on a goroutine of its own when the link is full.
// What it carries is its own by then, and the order on its branch stays.
func TestToPeerWaits(t *testing.T) {
	st := perform(t, nil)
	st.link()
	peer := string(st.hears.id[:])
	text := func(n int) string { return strings.Repeat(string(rune('a'+n)), 8<<10) }
	full := bus.LinkBytes / (8 << 10)
	for n := range full - 1 {
		st.Write(st.frame(wire.Text, "to_peer", 1, peer+text(n%26)))
	}
	st.UntilIdleOf("to_peer", 1, full-1)
	// Two that wait, and others that do not wait behind them.
	st.Write(slices.Concat(
		st.frame(wire.Text, "to_peer", 5, peer+text(0)), st.frame(wire.Text, "to_peer", 5, peer+text(1)),
	))
	st.hears.Awaited(1)
	for range 4 { // the memory that they were read into is used again
		st.Write(st.frame(wire.Text, "mark", 1, strings.Repeat("#", 16<<10)))
		st.wantAnswers("IDLE 1 mark 1")
	}
	st.hears.Write(1 << 20)
	st.UntilIdleOf("to_peer", 5, 2)
	heard := st.heard()
	for n, got := range heard[len(heard)-2:] {
		if got != "peer TEXT "+text(n) {
			t.Errorf("frame %d arrived as %.20q, %d bytes", n, got, len(got))
		}
	}
}

// UntilIdleOf reads until so many calls on a branch have ended well.
func (st *stage) UntilIdleOf(command string, branch wire.BranchID, n int) {
	st.t.Helper()
	for range n {
		frames := st.UntilIdle(st.ID(command), branch)
		wantKinds(st.t, frames[len(frames)-1:], "IDLE 1")
	}
}
