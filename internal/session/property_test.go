package session_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/wire"
)

// callState is a call as commands 1.5 sees it.
type callState int

const (
	notThere callState = iota
	atPrompt
	working
	paused
)

// TestOneIdlePerCall sends random frames to a few branches of a few commands
// and compares every step with the table of commands 1.5.
func TestOneIdlePerCall(t *testing.T) {
	s := serve(t, func(s *server) { s.limits.KillGrace = 30 * time.Millisecond })
	c := s.connect()
	type key struct {
		cmd    string
		branch wire.BranchID
	}
	cmds := []string{"prompt", "loop", "obey"}
	frames := []wire.TypeID{wire.Text, wire.Bytes, wire.TermCmd, wire.KillCmd, wire.YieldCmd, wire.ResumeCmd}
	rapid.Check(t, func(rt *rapid.T) {
		calls := make(map[key]callState)
		for step := range rapid.IntRange(1, 40).Draw(rt, "steps") {
			k := key{rapid.SampledFrom(cmds).Draw(rt, "cmd"), wire.BranchID(rapid.IntRange(0, 2).Draw(rt, "branch"))}
			frame := rapid.SampledFrom(frames).Draw(rt, "frame")
			id := c.ID(k.cmd)
			state := calls[k]
			if k.cmd == "obey" && state == working && !frame.IsControl() {
				continue // it takes no input, and TERM_CMD waits behind input
			}
			c.Send(frame, id, k.branch, "")

			// expect is what must come now for this call, in the end.
			expect, next := "", state
			switch {
			case frame.IsControl() && state == notThere:
			case frame == wire.TermCmd || frame == wire.KillCmd:
				expect, next = "IDLE 2", notThere
			case frame == wire.YieldCmd && k.cmd == "loop":
				next = paused
			case frame == wire.ResumeCmd && state == paused:
				expect, next = "PROG", working
			case frame.IsControl():
			case state == notThere && frame == wire.Bytes:
				expect = "IDLE 3"
			case state == notThere:
				switch k.cmd {
				case "prompt":
					expect, next = "PROMPT_TEXT", atPrompt
				case "loop":
					expect, next = "PROG", working
				case "obey":
					expect, next = "TEXT", working
				}
			case state == atPrompt && frame == wire.Text:
				expect, next = "IDLE 1", notThere
			}
			calls[k] = next
			if expect != "" {
				c.Until(func(f wire.Frame) bool {
					kind := hosttest.Kinds([]wire.Frame{f})
					if f.Cmd == id && f.Branch == k.branch {
						if f.Type == wire.Idle && kind != expect {
							rt.Fatalf("step %d: %s to %s: %s, want %s", step, frame, k.cmd, kind, expect)
						}
						return kind == expect
					}
					if f.Type == wire.Idle {
						rt.Fatalf("step %d: %s for (%d, %d), which was not asked", step, kind, f.Cmd, f.Branch)
					}
					return false
				})
			}
			for _, f := range fence(t, c) {
				if f.Type == wire.Idle {
					rt.Fatalf("step %d: %s to %s: a second IDLE", step, frame, k.cmd)
				}
			}
		}
		// Every call that is there ends once.
		for k, state := range calls {
			if state == notThere {
				continue
			}
			c.Send(wire.KillCmd, c.ID(k.cmd), k.branch, "")
			if got := hosttest.Kinds(c.UntilIdle(c.ID(k.cmd), k.branch)); !strings.HasSuffix(got, "IDLE 2") {
				rt.Fatalf("%s ended with %s", k.cmd, got)
			}
		}
	})
}

// TestStorm sends frames of all kinds without waiting for anything. Whatever
// the calls have made of them: their frames never stand outside of a call, no
// call has two ends, and in the end there is none that has none.
func TestStorm(t *testing.T) {
	seeds := 8
	if testing.Short() {
		seeds = 2
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { storm(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func storm(t *testing.T, r *rand.Rand) {
	s := serve(t, func(s *server) {
		s.limits.KillGrace = 10 * time.Millisecond
		s.limits.StuckAfter = 50 * time.Millisecond
		s.limits.InstanceBytes = 8 << 10
		s.limits.AnonymousInput = 32 << 10
		s.limits.SettleTimeout = 5 * time.Millisecond
	})
	c := s.connect()
	one := <-s.started
	const branches = 3
	cmds := []string{"prompt", "upload", "loop", "obey", "ignore", "echo", "crash", "login_prompt"}
	types := []wire.TypeID{
		wire.Text, wire.Text, wire.Text, wire.Bytes, wire.TermCmd, wire.KillCmd, wire.YieldCmd, wire.ResumeCmd,
	}
	ids := make(map[wire.CmdID]string)
	for _, name := range cmds {
		ids[c.ID(name)] = name
	}
	end := c.ID("fence")
	var b []byte
	for range 3000 {
		id := c.ID(cmds[r.IntN(len(cmds))])
		b = wire.AppendText(b, types[r.IntN(len(types))], id, wire.BranchID(r.IntN(branches)), strings.Repeat("x", r.IntN(300)))
	}
	done := make(chan struct{})
	go func() { // ends when the host has read all
		defer close(done)
		for len(b) > 0 {
			n := min(len(b), 1+r.IntN(20000))
			c.Write(b[:n])
			b = b[n:]
		}
		for id := range ids {
			for branch := range wire.BranchID(branches) {
				c.Send(wire.KillCmd, id, branch, "")
			}
		}
		c.Send(wire.Text, end, fenceBranch, "last")
	}()
	type key struct {
		id     wire.CmdID
		branch wire.BranchID
	}
	open := make(map[key]string) // what a call has sent first
	read := func(f wire.Frame) {
		if f.Cmd.IsAsync() || f.Cmd == end {
			return
		}
		k := key{f.Cmd, f.Branch}
		switch begins := f.Type == wire.Text && string(f.Payload) == "begin"; {
		case f.Type == wire.Idle:
			delete(open, k)
		case begins && open[k] != "":
			t.Errorf("%s began again behind %s, without an IDLE between", ids[f.Cmd], open[k])
		default:
			open[k] = hosttest.Kinds([]wire.Frame{f})
		}
	}
	for _, f := range c.UntilIdle(end, fenceBranch) {
		read(f)
	}
	<-done
	// Killed calls end within the grace, and those behind them have been killed
	// too. What was sent by the last of them comes before the fence behind it.
	began := time.Now()
	for running := true; running; {
		running = one.Running() > 0
		for _, f := range fence(t, c) {
			read(f)
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("calls that do not end; open are %v", open)
		}
	}
	if len(open) > 0 {
		t.Fatalf("calls without an end: %v", open)
	}
	// Every branch takes a new call.
	for branch := range wire.BranchID(branches) {
		id := c.ID("prompt")
		c.Send(wire.Text, id, branch, "")
		wantKinds(t, c.UntilType(wire.PromptText), "PROMPT_TEXT")
		c.Send(wire.Text, id, branch, "a")
		wantKinds(t, c.UntilIdle(id, branch), "TEXT, IDLE 1")
	}
}
