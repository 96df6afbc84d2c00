package session_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/wire"
)

// fenceBranch is the branch on which tests call fence.
const fenceBranch = 999

// fence returns what came before the answer to a frame sent now. What the
// session sends at once for the frames before it is among that.
func fence(t *testing.T, c *hosttest.Client) []wire.Frame {
	t.Helper()
	id := c.ID("fence")
	c.Send(wire.Text, id, fenceBranch, "fence")
	frames := c.UntilIdle(id, fenceBranch)
	return frames[:len(frames)-2]
}

// wantKinds compares what frames are.
func wantKinds(t *testing.T, frames []wire.Frame, want string) {
	t.Helper()
	if got := hosttest.Kinds(frames); got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
}

// silent makes sure that a call sends nothing any more: not after a while in
// which it could have sent much.
func silent(t *testing.T, c *hosttest.Client) {
	t.Helper()
	quiet := 0
	for deadline := time.Now().Add(time.Minute); quiet < 50; quiet++ {
		if len(fence(t, c)) > 0 {
			quiet = 0
		}
		if time.Now().After(deadline) {
			t.Fatal("still sending")
		}
	}
}

// TestControlFrames is the table of commands 1.5.
func TestControlFrames(t *testing.T) {
	s := serve(t, nil)
	c := s.connect()
	const branch = 7
	// states bring a call into a state; on continues it, when the control
	// frame has changed nothing, up to its end.
	states := []struct {
		name, cmd string
		enter     func(id wire.CmdID)
		on        func(id wire.CmdID)
		// what the four do: "" nothing, "2" I2, "pause", "on".
		term, kill, yield, resume string
	}{
		{name: "not there", cmd: "echo"},
		{name: "finished", cmd: "echo", enter: func(id wire.CmdID) {
			c.Send(wire.Text, id, branch, "x")
			c.UntilIdle(id, branch)
		}},
		{
			name: "at a prompt", cmd: "prompt", term: "2", kill: "2",
			enter: func(id wire.CmdID) {
				c.Send(wire.Text, id, branch, "")
				c.UntilType(wire.PromptText)
			},
			on: func(id wire.CmdID) {
				c.Send(wire.Text, id, branch, "answer")
				wantKinds(t, c.UntilIdle(id, branch), "TEXT, IDLE 1")
			},
		},
		{
			name: "waiting for input", cmd: "upload", term: "2", kill: "2",
			enter: func(id wire.CmdID) {
				c.Send(wire.Text, id, branch, "")
				c.UntilType(wire.Text)
			},
			on: func(id wire.CmdID) {
				c.Send(wire.GenFile, id, branch, "data")
				c.Send(wire.GenFile, id, branch, "end")
				wantKinds(t, c.UntilIdle(id, branch), "TEXT, IDLE 1")
			},
		},
		{
			name: "working", cmd: "loop", term: "2", kill: "2", yield: "pause", resume: "on",
			enter: func(id wire.CmdID) {
				c.Send(wire.Text, id, branch, "")
				c.UntilType(wire.Prog)
			},
			on: func(id wire.CmdID) {
				c.UntilType(wire.Prog)
				c.Send(wire.TermCmd, id, branch, "")
				c.UntilIdle(id, branch)
			},
		},
		{
			name: "working without checkpoints", cmd: "obey", term: "2", kill: "2",
			enter: func(id wire.CmdID) {
				c.Send(wire.Text, id, branch, "")
				c.UntilType(wire.Text)
			},
			on: func(id wire.CmdID) {
				c.Send(wire.TermCmd, id, branch, "")
				c.UntilIdle(id, branch)
			},
		},
		{
			name: "paused", cmd: "loop", term: "2", kill: "2", yield: "pause", resume: "on",
			enter: func(id wire.CmdID) {
				c.Send(wire.Text, id, branch, "")
				c.UntilType(wire.Prog)
				c.Send(wire.YieldCmd, id, branch, "")
				silent(t, c)
			},
			on: func(id wire.CmdID) {
				c.UntilType(wire.Prog)
				c.Send(wire.TermCmd, id, branch, "")
				c.UntilIdle(id, branch)
			},
		},
	}
	for _, state := range states {
		for _, control := range []struct {
			frame wire.TypeID
			want  string
		}{
			{wire.TermCmd, state.term}, {wire.KillCmd, state.kill},
			{wire.YieldCmd, state.yield}, {wire.ResumeCmd, state.resume},
		} {
			t.Run(state.name+", "+control.frame.String(), func(t *testing.T) {
				id := c.ID(state.cmd)
				if state.enter != nil {
					state.enter(id)
				}
				c.Send(control.frame, id, branch, "")
				switch control.want {
				case "2":
					frames := c.UntilIdle(id, branch)
					if got := hosttest.Kinds(frames); !strings.HasSuffix(got, "IDLE 2") {
						t.Fatalf("got %s, want IDLE 2", got)
					}
				case "pause":
					silent(t, c)
					c.Send(wire.ResumeCmd, id, branch, "")
					state.on(id)
				default:
					if state.on != nil {
						state.on(id)
					} else if control.want == "" {
						wantKinds(t, fence(t, c), "")
					}
				}
				// Whatever it was, the call is over now and told nobody twice.
				c.Send(wire.KillCmd, id, branch, "")
				wantKinds(t, fence(t, c), "")
			})
		}
	}
}

// TestFramesBehindTheEnd sends, in one piece, an end of a call and what comes
// next for the same branch: it is the next call, whatever the first one does.
func TestFramesBehindTheEnd(t *testing.T) {
	const branch = 1
	type step struct {
		t    wire.TypeID
		text string
	}
	text := func(s string) step { return step{wire.Text, s} }
	term, kill := step{wire.TermCmd, ""}, step{wire.KillCmd, ""}
	yield := step{wire.YieldCmd, ""}
	tests := []struct {
		name, cmd string
		first     wire.TypeID // what comes when the first call has begun
		then      []step
		calls     string // the IDLEs of all calls
	}{
		{"TERM, next", "prompt", wire.PromptText, []step{term, text(""), text("a")}, "IDLE 2, IDLE 1"},
		{"KILL, next", "prompt", wire.PromptText, []step{kill, text(""), text("a")}, "IDLE 2, IDLE 1"},
		{"TERM, TERM, next", "prompt", wire.PromptText, []step{term, term, text(""), text("a")}, "IDLE 2, IDLE 1"},
		{"TERM, next, TERM", "prompt", wire.PromptText, []step{term, text(""), term}, "IDLE 2, IDLE 2"},
		{"KILL, next, KILL", "prompt", wire.PromptText, []step{kill, text(""), kill}, "IDLE 2, IDLE 2"},
		{"KILL, next, KILL, next", "prompt", wire.PromptText, []step{kill, text(""), kill, text(""), text("b")}, "IDLE 2, IDLE 2, IDLE 1"},
		{"TERM, next, KILL", "prompt", wire.PromptText, []step{term, text(""), kill}, "IDLE 2, IDLE 2"},
		{"answer, TERM", "upload", wire.Text, []step{{wire.GenFile, "x"}, term}, "IDLE 2"},
		{"end, TERM", "upload", wire.Text, []step{{wire.GenFile, "end"}, term, text(""), {wire.GenFile, "end"}}, "IDLE 1, IDLE 1"},
		{"input of a stopped call goes with it", "loop", wire.Prog, []step{text("x"), text("y"), term}, "IDLE 2"},
		{"input of a paused call goes with it", "loop", wire.Prog, []step{yield, text("x"), text("y"), term}, "IDLE 2"},
		{"input of a killed call goes with it", "obey", wire.Text, []step{text("x"), kill}, "IDLE 2"},
		{"killed, ignores it", "ignore", wire.Text, []step{text("x"), kill, text("next")}, "IDLE 2, IDLE 1"},
		{"stopped, ignores it", "ignore", wire.Text, []step{term, text("next"), kill}, "IDLE 2, IDLE 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, func(s *server) { s.limits.KillGrace = 50 * time.Millisecond })
			c := s.connect()
			id := c.ID(tt.cmd)
			c.Send(wire.Text, id, branch, "")
			c.UntilType(tt.first)
			var b []byte
			for _, next := range tt.then {
				b = wire.AppendText(b, next.t, id, branch, next.text)
			}
			c.Write(b)
			want := strings.Count(tt.calls, "IDLE")
			var ends []wire.Frame
			for len(ends) < want {
				f := c.Next()
				if f.Type == wire.Idle {
					ends = append(ends, f)
					if len(ends) == 1 && strings.HasSuffix(tt.calls, "IDLE 1") { // the next call may end
						s.free()
					}
				}
			}
			wantKinds(t, ends, tt.calls)
			c.Send(wire.TermCmd, id, branch, "")
			for _, f := range fence(t, c) {
				if f.Type == wire.Idle {
					t.Error("one IDLE too many")
				}
			}
		})
	}
}

func TestUnknownIDs(t *testing.T) {
	s := serve(t, nil)
	c := s.connect()
	ids := []wire.CmdID{0, 1, 2, 4, 16, 35, 100, 255, c.ID("fence") + 200, 65535}
	for _, info := range []string{"ranked", "logout"} { // there, but not for this session
		if _, ok := c.Commands[info]; ok {
			t.Fatalf("%s is offered before login", info)
		}
	}
	for _, listed := range s.registry.Offer(1).Commands() {
		if _, ok := c.Commands[listed.Name]; !ok {
			ids = append(ids, listed.ID)
		}
	}
	for _, id := range ids {
		for _, frame := range []wire.TypeID{wire.Text, wire.Bytes, wire.Idle, 0, 31, 200} {
			branch := wire.BranchID(id) ^ 0x5555
			c.Send(frame, id, branch, "x")
			frames := fence(t, c)
			wantKinds(t, plain(frames), "ERR, IDLE 3")
			for _, f := range frames {
				if f.Cmd != id || f.Branch != branch {
					t.Errorf("%s to (%d, %d) was answered on (%d, %d)", frame, id, branch, f.Cmd, f.Branch)
				}
			}
		}
		for _, control := range []wire.TypeID{wire.TermCmd, wire.KillCmd, wire.YieldCmd, wire.ResumeCmd} {
			c.Send(control, id, 3, "")
			wantKinds(t, fence(t, c), "")
		}
	}
}

// plain makes frames under async ids compare like others.
func plain(frames []wire.Frame) []wire.Frame {
	out := make([]wire.Frame, len(frames))
	for i, f := range frames {
		f.Cmd = 256
		out[i] = f
	}
	return out
}

func TestFirstFrame(t *testing.T) {
	s := serve(t, nil)
	c := s.connect()
	id := c.ID("prompt")
	for frame := range 256 {
		typ := wire.TypeID(frame)
		if typ == wire.Text || typ.IsControl() {
			continue
		}
		c.Send(typ, id, 0, "")
		wantKinds(t, c.UntilIdle(id, 0), "ERR, IDLE 3")
	}
	c.Send(wire.Text, id, 0, "-nonsense")
	wantKinds(t, c.UntilType(wire.PromptText), "ERR, PROMPT_TEXT")
	for _, typ := range []wire.TypeID{wire.Bytes, wire.Idle, wire.GenFile, 200} { // ignored while waiting
		c.Send(typ, id, 0, "x")
	}
	c.Send(wire.Text, id, 0, "")
	frames := c.UntilIdle(id, 0)
	wantKinds(t, frames, "TEXT, IDLE 1")
	if text := hosttest.Texts(wire.Text, frames); text != "" {
		t.Errorf("the answer was %q, want an empty one", text)
	}
	c.Send(wire.Text, id, 0, "\xff")
	wantKinds(t, c.UntilIdle(id, 0), "ERR, IDLE 3")
	c.Send(wire.Text, id, 0, strings.Repeat("x", 256<<10+1))
	wantKinds(t, c.UntilIdle(id, 0), "ERR, IDLE 3")
	// Any type, unknown ones too, where a command takes any.
	for _, typ := range []wire.TypeID{wire.Text, wire.Bytes, 0, 77} {
		c.Send(typ, c.ID("echo"), 0, "x")
		frames := c.UntilIdle(c.ID("echo"), 0)
		if frames[0].Type != typ || string(frames[0].Payload) != "x" {
			t.Errorf("type %d came back as %s", typ, hosttest.Kinds(frames))
		}
	}
}

func TestEnds(t *testing.T) {
	s := serve(t, nil)
	c := s.connect()
	for name, want := range map[string]string{
		"crash": "ERR, IDLE 4", "crash_inline": "ERR, IDLE 4", "fail": "ERR, IDLE 6", "custom": "IDLE 7",
		"unserved": "ERR, IDLE 6", "unserved_inline": "ERR, IDLE 6", "echo": "TEXT, IDLE 1",
	} {
		t.Run(name, func(t *testing.T) {
			frames := c.Call(name, "")
			wantKinds(t, frames, want)
			if text := hosttest.Texts(wire.Err, frames); strings.Contains(text, "secret") || strings.Contains(text, "purpose") {
				t.Errorf("the client was told %q", text)
			}
		})
	}
	if _, data, _ := wire.ParseIdle(c.Call("custom", "")[0].Payload); string(data) != "data" {
		t.Errorf("IDLE carries %q", data)
	}
}

func TestQuestions(t *testing.T) {
	s := serve(t, nil)
	c := s.connect()
	ask := func(cmd string, prompt wire.TypeID, answers ...string) []wire.Frame {
		t.Helper()
		id := c.ID(cmd)
		c.Send(wire.Text, id, 0, "")
		for _, a := range answers {
			c.UntilType(prompt)
			c.Send(wire.Text, id, 0, a)
		}
		return c.UntilIdle(id, 0)
	}
	wantKinds(t, ask("secret", wire.PrivText, "s"), "TEXT, IDLE 1")
	wantKinds(t, ask("prompt", wire.PromptText, "s"), "TEXT, IDLE 1")
	for _, yes := range []string{"y", "Y", " yes\r\n", "YES"} {
		wantKinds(t, ask("confirm", wire.PromptText, yes), "TEXT, IDLE 1")
	}
	for _, no := range []string{"n", "N\n", "no"} {
		wantKinds(t, ask("confirm", wire.PromptText, no), "IDLE 2")
	}
	wantKinds(t, ask("confirm", wire.PromptText, "", "yy", "maybe", "y"), "TEXT, IDLE 1")
}

func TestPromptTimeout(t *testing.T) {
	s := serve(t, func(s *server) { s.limits.PromptTimeout = 30 * time.Millisecond })
	c := s.connect()
	wantKinds(t, c.Call("prompt", ""), "PROMPT_TEXT, ERR, IDLE 2")
}

func TestBranchesAreIndependent(t *testing.T) {
	s := serve(t, nil)
	c := s.connect()
	id := c.ID("prompt")
	const n = 100
	for b := range wire.BranchID(n) {
		c.Send(wire.Text, id, b, "")
	}
	for range n {
		c.UntilType(wire.PromptText)
	}
	for b := range wire.BranchID(n) {
		b = n - 1 - b
		c.Send(wire.Text, id, b, fmt.Sprint(b))
		frames := c.UntilIdle(id, b)
		wantKinds(t, frames, "TEXT, IDLE 1")
		if string(frames[0].Payload) != fmt.Sprint(b) || frames[0].Branch != b {
			t.Fatalf("branch %d got %q on %d", b, frames[0].Payload, frames[0].Branch)
		}
	}
}

func TestCallsAtOnce(t *testing.T) {
	s := serve(t, func(s *server) { s.limits.Instances, s.limits.AnonymousCalls = 6, 4 })
	c := s.connect()
	fill := func(limit int) {
		t.Helper()
		id := c.ID("prompt")
		for b := range wire.BranchID(limit) {
			c.Send(wire.Text, id, b, "")
			c.UntilType(wire.PromptText)
		}
		c.Send(wire.Text, id, 100, "")
		wantKinds(t, c.UntilIdle(id, 100), "ERR, IDLE 6")
		wantKinds(t, fence(t, c), "") // inline commands are not among them
		for b := range wire.BranchID(limit) {
			c.Send(wire.Text, id, b, "")
			c.UntilIdle(id, b)
		}
	}
	fill(4)
	c.Call("login", "-rank 9")
	fill(6)
}
