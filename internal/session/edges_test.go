package session_test

import (
	"bytes"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mrci.dev/mrci/internal/conn"
	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/internal/session"
	"mrci.dev/mrci/wire"
)

// talk proves that a client is served.
func talk(t *testing.T, clients ...*hosttest.Client) {
	t.Helper()
	for _, c := range clients {
		for _, name := range []string{"fence", "echo"} {
			c.Send(wire.Text, c.ID(name), 77, "hello")
			wantKinds(t, c.UntilIdle(c.ID(name), 77), "TEXT, IDLE 1")
		}
	}
}

// freeze makes a client that is owed more than the host may send, and does not
// read.
func freeze(c *hosttest.Client) {
	flood := c.ID("flood")
	for b := range wire.BranchID(3) {
		c.Send(wire.Text, flood, b, "")
	}
	c.UntilType(wire.Bytes)
}

func TestFrozenClientHarmsNobody(t *testing.T) {
	s := serve(t, nil)
	frozen := s.connect()
	freeze(frozen)
	a, b := s.connect(), s.connect()
	for range 50 {
		talk(t, a, b)
	}
	// It thaws: nothing was lost, and control frames work.
	for b := range wire.BranchID(3) {
		frozen.Send(wire.KillCmd, frozen.ID("flood"), b, "")
	}
	for idle := 0; idle < 3; {
		if f := frozen.Next(); f.Type == wire.Idle {
			idle++
		}
	}
	talk(t, frozen)
}

// TestFrozenClientEnds: when the client of a full queue is cut off, its session
// ends too, though the reader was waiting for the owner.
func TestFrozenClientEnds(t *testing.T) {
	s := serve(t, func(s *server) { s.conn.WriteTimeout = 50 * time.Millisecond })
	frozen := s.connect()
	// It is owed more than the host may send, and reads none of it. Behind the
	// batch that fills the slot more come. The host may end it in the middle.
	var b []byte
	for branch := range wire.BranchID(3) {
		b = wire.AppendText(b, wire.Text, frozen.ID("flood"), branch, "")
	}
	for range 1000 {
		b = wire.AppendText(b, wire.Text, frozen.ID("fence"), 0, strings.Repeat("x", 100))
	}
	if err := frozen.Conn.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if _, err := frozen.Conn.Write(b); err != nil {
			break
		}
	}
	if err := s.endReason(); !errors.Is(err, conn.ErrSlowConsumer) {
		t.Errorf("ended with %v, want a slow consumer", err)
	}
}

// stick starts a call that takes nothing of more than may wait for it, and
// another one, at a prompt.
func stick(t *testing.T, after time.Duration) (s *server, c *hosttest.Client) {
	t.Helper()
	s = serve(t, func(s *server) {
		s.limits.InstanceBytes = 64 << 10
		s.limits.StuckAfter = after
	})
	c = s.connect()
	id := c.ID("ignore")
	c.Send(wire.Text, id, 0, "")
	c.UntilType(wire.Text)
	c.Send(wire.Text, c.ID("prompt"), 0, "")
	c.UntilType(wire.PromptText)
	c.Send(wire.Bytes, id, 0, strings.Repeat("x", 32<<10))
	c.Send(wire.Bytes, id, 0, strings.Repeat("x", 40<<10))
	return s, c
}

// TestBesideStuckCall: a call that takes nothing holds nobody up.
func TestBesideStuckCall(t *testing.T) {
	s, c := stick(t, time.Hour)
	wantKinds(t, fence(t, c), "")
	talk(t, c)
	c.Send(wire.Text, c.ID("prompt"), 0, "a")
	wantKinds(t, c.UntilIdle(c.ID("prompt"), 0), "TEXT, IDLE 1")
	s.free()
	wantKinds(t, c.UntilIdle(c.ID("ignore"), 0), "IDLE 1")
}

// TestStuckCall: a call that takes nothing ends, others go on.
func TestStuckCall(t *testing.T) {
	s, c := stick(t, 50*time.Millisecond)
	wantKinds(t, c.UntilIdle(c.ID("ignore"), 0), "ERR, IDLE 6")
	prompt := c.ID("prompt")
	c.Send(wire.Text, prompt, 0, "a")
	wantKinds(t, c.UntilIdle(prompt, 0), "TEXT, IDLE 1")
	talk(t, c)

	// The client leaves: the session ends when the command returns.
	c.Conn.Close()
	select {
	case err := <-s.ended:
		t.Fatalf("ended with %v while a command runs", err)
	default:
	}
	s.free()
	if err := s.endReason(); !errors.Is(err, session.ErrClientLeft) {
		t.Error(err)
	}
}

// TestPausedIsNotStuck: a paused call and one at its own full output are
// excused.
func TestPausedIsNotStuck(t *testing.T) {
	s := serve(t, func(s *server) {
		s.limits.InstanceBytes = 1 << 10
		s.limits.StuckAfter = 10 * time.Millisecond
	})
	c := s.connect()
	id := c.ID("loop")
	c.Send(wire.Text, id, 0, "")
	c.UntilType(wire.Prog)
	c.Send(wire.YieldCmd, id, 0, "")
	c.Send(wire.Bytes, id, 0, strings.Repeat("x", 4<<10))
	c.Send(wire.Text, c.ID("prompt"), 1, "")
	c.UntilType(wire.PromptText)
	time.Sleep(60 * time.Millisecond) // several times the limit, in which nothing may happen
	wantKinds(t, fence(t, c), "")
	c.Send(wire.TermCmd, id, 0, "")
	wantKinds(t, c.UntilIdle(id, 0), "IDLE 2")
}

// TestSpentBudget: calls that take nothing, each too little to be noticed, keep
// the session from reading for a moment only.
func TestSpentBudget(t *testing.T) {
	for _, cmd := range []string{"ignore", "loop"} { // loop is paused, and not excused for ever
		t.Run(cmd, func(t *testing.T) {
			s := serve(t, func(s *server) {
				s.limits.AnonymousInput = 256 << 10
				s.limits.StuckAfter = 50 * time.Millisecond
			})
			c := s.connect()
			id := c.ID(cmd)
			const calls = 4
			for b := range wire.BranchID(calls) {
				c.Send(wire.Text, id, b, "")
				c.Until(func(f wire.Frame) bool { return f.Cmd == id && f.Branch == b })
				c.Send(wire.YieldCmd, id, b, "")
			}
			for b := range wire.BranchID(calls) {
				c.Send(wire.Bytes, id, b, strings.Repeat("x", 100<<10))
			}
			frames := fence(t, c)
			ends := 0
			for _, f := range frames {
				if f.Type == wire.Idle {
					ends++
				}
			}
			if ends == 0 || ends == calls {
				t.Errorf("%d calls were ended, want no more than needed", ends)
			}
			s.free()
		})
	}
}

// TestBudgetWakes: what commands take lets the session go on.
func TestBudgetWakes(t *testing.T) {
	s := serve(t, func(s *server) { s.limits.AnonymousInput = 64 << 10 })
	c := s.connect()
	id := c.ID("upload")
	c.Send(wire.Text, id, 0, "")
	c.UntilType(wire.Text)
	done := make(chan struct{})
	go func() { // ends when the host has read all
		defer close(done)
		var b []byte
		for range 64 {
			b = wire.AppendText(b, wire.Bytes, id, 0, strings.Repeat("x", 50<<10))
		}
		c.Write(wire.AppendText(b, wire.GenFile, id, 0, "end"))
	}()
	frames := c.UntilIdle(id, 0)
	<-done
	if n := len(hosttest.Texts(wire.Text, frames)); n != 64*50<<10 {
		t.Errorf("the command got %d bytes, want %d", n, 64*50<<10)
	}
}

// TestKillWithinGrace: a command that ignores everything is over for the client
// when the grace has passed; the session ends when it returns.
func TestKillWithinGrace(t *testing.T) {
	s := serve(t, func(s *server) {
		s.limits.KillGrace = 80 * time.Millisecond
		// Nothing else ends it while the test has patience.
		s.limits.StuckAfter, s.limits.OutcomeTimeout = time.Hour, time.Hour
	})
	c := s.connect()
	id := c.ID("ignore")
	c.Send(wire.Text, id, 0, "")
	c.UntilType(wire.Text)
	began := time.Now()
	c.Send(wire.KillCmd, id, 0, "")
	c.Send(wire.KillCmd, id, 0, "") // changes nothing
	wantKinds(t, c.UntilIdle(id, 0), "IDLE 2")
	if took := time.Since(began); took < 80*time.Millisecond {
		t.Errorf("ended after %v, the grace is 80ms", took)
	}
	c.Send(wire.KillCmd, id, 0, "") // there is no call
	wantKinds(t, fence(t, c), "")
	c.Send(wire.Text, id, 0, "") // the next call
	c.UntilType(wire.Text)
	s.free()
	wantKinds(t, c.UntilIdle(id, 0), "IDLE 1")
}

// TestStop is the host's stop, with calls in every state.
func TestStop(t *testing.T) {
	s := serve(t, nil)
	c := s.connect()
	sess := <-s.started
	start := func(cmd string, first wire.TypeID) {
		c.Send(wire.Text, c.ID(cmd), 0, "")
		c.UntilType(first)
	}
	start("prompt", wire.PromptText)
	start("upload", wire.Text)
	start("obey", wire.Text)
	start("loop", wire.Prog)
	c.Send(wire.YieldCmd, c.ID("loop"), 0, "")
	silent(t, c)
	start("ignore", wire.Text)

	sess.Stop("bye")
	sess.Stop("bye again")
	frames := c.Ended() // though one command still runs
	idle := 0
	for _, f := range frames[1:] {
		if f.Type == wire.Idle && hosttest.Kinds([]wire.Frame{f}) == "IDLE 2" {
			idle++
		}
	}
	if f := frames[0]; f.Type != wire.Text || f.Cmd != wire.CmdID(wire.AsyncSysMsg) || string(f.Payload) != "bye\n" || idle != 5 {
		t.Errorf("got %s, want a TEXT under id 2 and five IDLE 2", hosttest.Kinds(frames))
	}
	s.free()
	if err := s.endReason(); !errors.Is(err, session.ErrHostStops) {
		t.Error(err)
	}
	sess.Stop("nobody there")
}

// A session that ends while its input waits, a frame that is not whole among it,
// gives back the memory of all of it. The server's end looks at that.
func TestEndWithInput(t *testing.T) {
	for name, end := range map[string]func(s *session.Session, c *hosttest.Client){
		"client": func(_ *session.Session, c *hosttest.Client) { c.Conn.Close() },
		"host":   func(s *session.Session, _ *hosttest.Client) { s.Stop("bye") },
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(s *server) { s.limits.FlushTimeout = 50 * time.Millisecond })
			c := s.connect()
			c.Call("login", "-rank 1")
			fence(t, c)
			bulk := bytes.Repeat(wire.AppendFrame(nil, wire.Text, 60_000, 0, make([]byte, 3000)), 100)
			var group sync.WaitGroup
			defer group.Wait()
			group.Go(func() { // ends with the connection
				for {
					if _, err := c.Conn.Write(bulk); err != nil {
						return
					}
				}
			})
			defer c.Conn.Close()
			// Nobody reads the answers: one batch waits to be handled, another for it.
			for s.memory().used.Load() < 128<<10 {
				runtime.Gosched()
			}
			end(<-s.started, c)
			if err := s.endReason(); err == nil {
				t.Error("no reason")
			}
		})
	}
}

// TestEndInEveryState: the client goes, whatever its calls are doing; nothing
// is left behind (goleak).
func TestEndInEveryState(t *testing.T) {
	for _, cmd := range []string{"prompt", "upload", "obey", "loop", "flood", "login"} {
		t.Run(cmd, func(t *testing.T) {
			s := serve(t, func(s *server) { s.users = holding() })
			c := s.connect()
			var all []byte
			for b := range wire.BranchID(5) {
				all = wire.AppendText(all, wire.Text, c.ID(cmd), b, "-rank 1")
			}
			c.Write(all)
			if cmd != "login" { // its account is never read
				fence(t, c)
			}
			c.Conn.Close()
			if err := s.endReason(); err == nil {
				t.Error("no reason")
			}
		})
	}
}

// backlog sends n calls of fence beside the test, as far as the host takes
// them, and returns when it takes no more: a reader that begins now finds a
// host that is behind. sent is closed when all have been sent.
func backlog(c *hosttest.Client, n int, payload func(i int) string) (sent <-chan struct{}) {
	id := c.ID("fence")
	var progress atomic.Int64
	done := make(chan struct{})
	go func() { // ends when the host has read all
		defer close(done)
		for i := range n {
			c.Write(wire.AppendText(nil, wire.Text, id, 0, payload(i)))
			progress.Add(1)
		}
	}()
	for last := int64(-1); last != progress.Load(); time.Sleep(30 * time.Millisecond) {
		last = progress.Load()
	}
	return done
}

// TestHalfClose: what a client sent before it closed its side is handled.
func TestHalfClose(t *testing.T) {
	s := serve(t, func(s *server) { s.users = holding() })
	c := s.connect()
	c.Send(wire.Text, c.ID("login"), 0, "-rank 1")
	s.users.wait(t)
	// Behind a login that takes its time, in one batch.
	const n = 50
	var b []byte
	for range n {
		b = wire.AppendText(b, wire.Text, c.ID("fence"), 0, "x")
	}
	c.Write(b)
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(30 * time.Millisecond) // the host sees the end, most of the times
	s.users.answer(t)
	fences := 0
	for _, f := range c.Ended() {
		if f.Type == wire.Text && f.Cmd == c.ID("fence") {
			fences++
		}
	}
	if fences != n {
		t.Errorf("%d of %d calls were answered", fences, n)
	}
	if err := s.endReason(); !errors.Is(err, session.ErrClientLeft) {
		t.Error(err)
	}
}

// TestFrameTooLarge: before login a frame above the limit is answered, behind
// those before it, and the connection closes in good order.
func TestFrameTooLarge(t *testing.T) {
	small := func(s *server) { s.limits.AnonymousFrame, s.conn.FrameLimit = 1000, 1000 }
	s := serve(t, small)
	c := s.connect()
	prompt := c.ID("prompt")
	c.Send(wire.Text, prompt, 3, "")
	c.UntilType(wire.PromptText)
	b := wire.AppendText(nil, wire.Text, c.ID("fence"), 0, strings.Repeat("x", 1000))
	b = wire.AppendText(b, wire.Text, c.ID("echo"), 9, strings.Repeat("x", 1001))
	c.Write(b)
	frames := c.Ended()
	wantKinds(t, frames, "TEXT, IDLE 1, ERR, IDLE 3, IDLE 2")
	if frames[3].Cmd != c.ID("echo") || frames[3].Branch != 9 || frames[4].Cmd != prompt {
		t.Error("answered on another branch")
	}
	if err := s.endReason(); !errors.Is(err, session.ErrFrameTooLarge) {
		t.Error(err)
	}

	c = s.connect()
	c.Call("login", "-rank 1")
	fence(t, c)
	c.Send(wire.Text, c.ID("echo"), 0, strings.Repeat("x", 1<<20))
	wantKinds(t, c.UntilIdle(c.ID("echo"), 0), "TEXT, IDLE 1")
	fence(t, c)
	c.Call("logout", "")
	c.Send(wire.Text, c.ID("echo"), 0, strings.Repeat("x", 1001))
	frames = c.Ended()
	wantKinds(t, frames[len(frames)-2:], "ERR, IDLE 3")
}

// TestAnonymousBudget: before login little waits for commands.
func TestAnonymousBudget(t *testing.T) {
	s := serve(t, func(s *server) {
		s.limits.AnonymousInput = 4 << 10
		s.limits.StuckAfter = 50 * time.Millisecond
	})
	c := s.connect()
	id := c.ID("ignore")
	c.Send(wire.Text, id, 0, "")
	c.UntilType(wire.Text)
	c.Send(wire.Bytes, id, 0, strings.Repeat("x", 5<<10))
	c.Send(wire.Text, c.ID("fence"), 0, "x")
	wantKinds(t, c.UntilIdle(c.ID("fence"), 0), "ERR, IDLE 6, TEXT, IDLE 1")
	s.free()
}

// TestInlineInputOutlivesItsBatch: an inline command may send on its input,
// also when that has to wait for the client.
func TestInlineInputOutlivesItsBatch(t *testing.T) {
	s := serve(t, nil)
	c := s.connect()
	id := c.ID("fence")
	const n = 4000
	payload := func(i int) string { return strings.Repeat(string(rune('a'+i%26)), 5000) }
	sent := backlog(c, n, payload)
	for i := range n {
		frames := c.UntilIdle(id, 0)
		if want := payload(i); string(frames[0].Payload) != want {
			t.Fatalf("call %d was answered with %.10q..., want %.10q...", i, frames[0].Payload, want)
		}
	}
	<-sent
}

// TestOutputSizes: every size of output arrives as it was sent.
func TestOutputSizes(t *testing.T) {
	s := serve(t, nil)
	c := s.connect()
	for _, size := range []int{0, 1, 100, 4095, 4096, 8183, 8184, 8185, 16384, 100000, wire.MaxPayload} {
		want := strings.Repeat("z", size)
		for _, name := range []string{"echo", "fence"} {
			c.Send(wire.Bytes, c.ID(name), 0, want)
			frames := c.UntilIdle(c.ID(name), 0)
			wantKinds(t, frames, "BYTES, IDLE 1")
			if string(frames[0].Payload) != want {
				t.Errorf("%s changed %d bytes", name, size)
			}
		}
	}
}

// TestCrashHarmsNobody: other sessions and other calls live on.
func TestCrashHarmsNobody(t *testing.T) {
	s := serve(t, nil)
	a, b := s.connect(), s.connect()
	a.Send(wire.Text, a.ID("prompt"), 0, "")
	a.UntilType(wire.PromptText)
	for _, name := range []string{"crash", "crash_inline"} {
		wantKinds(t, a.Call(name, ""), "ERR, IDLE 4")
		talk(t, a, b)
	}
	a.Send(wire.Text, a.ID("prompt"), 0, "a")
	wantKinds(t, a.UntilIdle(a.ID("prompt"), 0), "TEXT, IDLE 1")
}

// TestCut: a session that is cut off waits for no client, whatever it was doing.
func TestCut(t *testing.T) {
	for what, test := range map[string]struct{ before, then func(*session.Session) }{
		"at work":          {func(*session.Session) {}, cut},
		"before it begins": {cut, func(*session.Session) {}},
		"while it stops":   {func(s *session.Session) { s.Stop("bye") }, cut},
	} {
		t.Run(what, func(t *testing.T) {
			s := serve(t, func(s *server) {
				s.limits.FlushTimeout = time.Hour
				s.before = func(one *session.Session, c *conn.Conn) {
					// More than the buffers of both sockets hold.
					if err := c.AppendShared(make([]byte, 32<<20)); err != nil {
						t.Error(err)
					}
					test.before(one)
				}
			})
			hosttest.Dial(t, s.addr, wire.ClientHeader{AppName: "reads nothing"})
			test.then(<-s.started)
			if err := s.endReason(); !errors.Is(err, session.ErrHostStops) {
				t.Errorf("ended: %v", err)
			}
		})
	}
}

func cut(s *session.Session) { s.Cut(session.ErrHostStops) }
