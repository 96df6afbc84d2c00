package modeltest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"mrci.dev/mrci/wire"
)

// mirror is a host that is the model: its clients get what the model says,
// but for one fault. It shows that the runner finds faults.
type mirror struct {
	w      *world
	queues [maxSessions][]wire.Frame
	serial byte
	fault  func(m *mirror, slot int, frames []want) []want // nil: none
	left   int                                             // places for a fault that are passed over
	done   bool
	struck func() // called when the fault is made
}

var errNothing = errors.New("nothing comes")

func (m *mirror) connect(int) (wire.SessionID, error) {
	m.serial++
	return wire.SessionID{m.serial}, nil
}

func (m *mirror) send(int, []byte) error { return nil }

// told makes frames of what has become due.
func (m *mirror) told() {
	for slot, s := range m.w.sessions {
		if s == nil {
			m.queues[slot] = nil
			continue
		}
		// Of two that may come none does.
		wants := slices.DeleteFunc(slices.Clone(s.wants), func(due want) bool { return due.either != nil })
		if m.fault != nil && !m.done {
			wants = m.fault(m, slot, wants)
		}
		for _, due := range wants {
			m.queues[slot] = append(m.queues[slot], frameOf(due))
		}
		for i := range s.wants { // what the host writes in its own words
			if s.wants[i].check != nil {
				s.wants[i].check, s.wants[i].words = nil, true
			}
		}
	}
}

func frameOf(due want) wire.Frame {
	f := wire.Frame{Type: due.typ, Cmd: due.cmd, Branch: due.branch, Payload: due.payload}
	if due.words || due.check != nil {
		f.Payload = []byte("words\n")
	}
	return f
}

func (m *mirror) next(slot int) (wire.Frame, error) {
	queue := m.queues[slot]
	if len(queue) == 0 {
		return wire.Frame{}, errNothing
	}
	m.queues[slot] = queue[1:]
	return queue[0], nil
}

func (m *mirror) finish(slot int) error {
	if n := len(m.queues[slot]); n > 0 {
		return fmt.Errorf("%d frames more", n)
	}
	return nil
}

func (m *mirror) reset(int) error { return nil }

func (m *mirror) account(string) (wire.UserID, error) {
	m.serial++
	return wire.UserID{m.serial}, nil
}

// newWorld is a world of users, with made-up ids; the first user is the
// administrator.
func newWorld(commands []command) *world {
	w := &world{
		sessions: make([]*session, maxSessions), maxSubs: maxSubs,
		asked: make(map[[2]*session]bool), linked: make(map[[2]*session]bool),
		commands: commands, byName: make(map[string]*command),
	}
	for i := range commands {
		w.byName[commands[i].name] = &commands[i]
	}
	for i := range maxUsers {
		u := &user{slot: i, id: wire.UserID{byte(i + 1), 1}, name: userNames[i], email: userNames[i] + "@example.org", rank: initialRank}
		if i == 0 {
			u.rank = 1
		}
		w.users = append(w.users, u)
	}
	return w
}

// reflection is a runner whose host is the model.
func reflection(seed uint64) (*runner, *mirror) {
	var commands []command
	for i, name := range used {
		commands = append(commands, command{
			name: name, id: wire.FirstCmdID + wire.CmdID(i), added: []byte(name), rank: rankOf(name),
			public: name == "auth" || name == "my_info",
			exempt: slices.Contains([]string{"auth", "my_info", "logout", "set_user_name", "set_disp_name"}, name),
		})
	}
	m := &mirror{w: newWorld(commands)}
	r := newRunner(seed, m.w, m)
	r.told = m.told
	return r, m
}

// The model agrees with itself, and its history has everything in it: each
// command that is called works many times and is refused many times.
func TestReflection(t *testing.T) {
	const steps = 50_000
	r, m := reflection(1)
	if err := r.run(steps); err != nil {
		t.Fatal(err)
	}
	r.covered(t, steps)
	if len(m.w.rooms) == 0 {
		t.Error("no channel is left")
	}
}

// The same seed draws the same steps, whatever ids the host gives.
func TestRepeats(t *testing.T) {
	var notes [2][]string
	for i := range notes {
		r, m := reflection(7)
		m.serial = byte(100 * i)
		for range 100 {
			if err := r.run(50); err != nil {
				t.Fatal(err)
			}
			notes[i] = append(notes[i], r.last[:]...)
		}
	}
	if !slices.Equal(notes[0], notes[1]) {
		t.Error("two runs differ")
	}
}

// covered makes sure that a run was worth something.
func (r *runner) covered(t testing.TB, steps int) {
	t.Helper()
	for _, name := range used {
		worked, no := r.calls[outcome{name, done}], r.calls[outcome{name, refused}]
		t.Logf("%-18s %7d worked, %6d refused", name, worked, no)
		least := steps / 10_000
		if worked < least {
			t.Errorf("%s worked %d times in %d steps, want %d at least", name, worked, steps, least)
		}
		// These refuse nobody, or only who is not offered them.
		quiet := name == "my_info" || name == "auth" || name == "logout" || strings.HasPrefix(name, "ls_")
		if !quiet && no < least/2 {
			t.Errorf("%s was refused %d times in %d steps, want %d at least", name, no, steps, least/2)
		}
	}
	for _, k := range []kindOf{
		{wire.AsyncCast, wire.Text}, {wire.AsyncCast, wire.Bytes},
		{wire.AsyncLimitedCast, wire.PeerStat}, {wire.AsyncLimitedCast, wire.PeerInfo},
		{wire.AsyncP2P, wire.P2PRequest}, {wire.AsyncP2P, wire.P2POpen}, {wire.AsyncP2P, wire.P2PClose}, {wire.AsyncP2P, wire.Text},
		{wire.AsyncSysMsg, wire.MyInfo}, {wire.AsyncSysMsg, wire.Text}, {wire.AsyncUserDeleted, wire.Bytes},
		{wire.AsyncNewChMember, wire.ChMemberInfo}, {wire.AsyncDelCh, wire.ChID}, {wire.AsyncRenameCh, wire.Bytes},
		{wire.AsyncNewSubCh, wire.Bytes}, {wire.AsyncRmSubCh, wire.Bytes}, {wire.AsyncRenameSubCh, wire.Bytes},
		{wire.AsyncInvitedToCh, wire.ChMemberInfo}, {wire.AsyncInviteAccepted, wire.ChMemberInfo}, {wire.AsyncRmChMember, wire.Bytes},
		{wire.AsyncMemLevelChg, wire.Bytes}, {wire.AsyncSubChLevelChg, wire.Bytes}, {wire.AsyncAddRdOnly, wire.Bytes},
		{wire.AsyncRmRdOnly, wire.Bytes},
	} {
		t.Logf("%-16s %-14s %7d", k.async, k.typ, r.seen[k])
		if n := r.seen[k]; n < steps/10_000 {
			t.Errorf("%s under %s came %d times in %d steps", k.typ, k.async, n, steps)
		}
	}
	for _, o := range []outcome{{"auth", aborted}, {"open_sub_ch", failed}, {"p2p_request", failed}} {
		if r.calls[o] == 0 {
			t.Errorf("%s never ended with %d", o.cmd, o.code)
		}
	}
}

// Each fault of a host is found, within a fence: at the frame itself or, when
// nothing follows, by the fence.
func TestFaults(t *testing.T) {
	// plain is whether the bytes of a frame are known beforehand.
	plain := func(due want) bool { return !due.words && due.check == nil }
	// at calls f for one frame, which the seed chooses, of those that fit.
	at := func(m *mirror, frames []want, fits func(i int) bool, f func(i int) []want) []want {
		for i := range frames {
			if !fits(i) {
				continue
			}
			if m.left--; m.left < 0 {
				m.done = true
				m.struck()
				return f(i)
			}
		}
		return frames
	}
	faults := map[string]func(m *mirror, slot int, frames []want) []want{
		"lost": func(m *mirror, _ int, frames []want) []want {
			return at(m, frames, func(int) bool { return true }, func(i int) []want { return slices.Delete(frames, i, i+1) })
		},
		"twice": func(m *mirror, _ int, frames []want) []want {
			return at(m, frames, func(int) bool { return true }, func(i int) []want { return slices.Insert(frames, i, frames[i]) })
		},
		"surplus": func(m *mirror, _ int, frames []want) []want {
			return at(m, frames, func(int) bool { return true }, func(i int) []want {
				return slices.Insert(frames, i+1, want{typ: wire.PeerStat, cmd: wire.CmdID(wire.AsyncLimitedCast), payload: make([]byte, wire.PeerStatusSize)})
			})
		},
		"to the wrong session": func(m *mirror, slot int, frames []want) []want {
			return at(m, frames, func(int) bool { return true }, func(i int) []want {
				for other, s := range m.w.sessions {
					if s != nil && other != slot {
						m.queues[other] = append(m.queues[other], frameOf(frames[i]))
						break
					}
				}
				return slices.Delete(frames, i, i+1)
			})
		},
		"wrong bytes": func(m *mirror, _ int, frames []want) []want {
			fits := func(i int) bool { return plain(frames[i]) && len(frames[i].payload) > 0 }
			return at(m, frames, fits, func(i int) []want {
				frames[i].payload = bytes.Clone(frames[i].payload)
				frames[i].payload[rand.IntN(len(frames[i].payload))] ^= 1
				return frames
			})
		},
		"cut short": func(m *mirror, _ int, frames []want) []want {
			fits := func(i int) bool { return plain(frames[i]) && len(frames[i].payload) > 0 }
			return at(m, frames, fits, func(i int) []want {
				frames[i].payload = frames[i].payload[:len(frames[i].payload)-1]
				return frames
			})
		},
		"wrong type": func(m *mirror, _ int, frames []want) []want {
			return at(m, frames, func(int) bool { return true }, func(i int) []want {
				frames[i].typ ^= 1
				return frames
			})
		},
		"wrong id": func(m *mirror, _ int, frames []want) []want {
			return at(m, frames, func(int) bool { return true }, func(i int) []want {
				frames[i].cmd ^= 1
				return frames
			})
		},
		"wrong branch": func(m *mirror, _ int, frames []want) []want {
			return at(m, frames, func(int) bool { return true }, func(i int) []want {
				frames[i].branch++
				return frames
			})
		},
		"wrong order": func(m *mirror, _ int, frames []want) []want {
			same := func(a, b want) bool {
				return a.typ == b.typ && a.cmd == b.cmd && (!plain(a) || bytes.Equal(a.payload, b.payload))
			}
			fits := func(i int) bool {
				return i > 0 && frames[i].lane == frames[i-1].lane && !same(frames[i], frames[i-1])
			}
			return at(m, frames, fits, func(i int) []want {
				frames[i], frames[i-1] = frames[i-1], frames[i]
				return frames
			})
		},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			seeds := uint64(150)
			if raceEnabled {
				seeds /= 5
			}
			for seed := range seeds {
				r, m := reflection(seed)
				m.fault, m.left = fault, int(seed*7)
				before := 0
				m.struck = func() { before = r.count }
				err := r.run(5000)
				if !m.done {
					t.Fatalf("seed %d: no place for the fault", seed)
				}
				if err == nil || r.count > before+fenceEvery {
					t.Fatalf("seed %d: after step %d, at step %d: %v", seed, before, r.count, err)
				}
			}
		})
	}
}

// What one session causes keeps its order, what two cause has none.
func TestLanes(t *testing.T) {
	frame := func(l lane, text string) want { return want{lane: l, typ: wire.Text, cmd: 4, payload: []byte(text)} }
	for _, tt := range []struct {
		name, order string
		ok          bool
	}{
		{"as caused", "abxy", true},
		{"the other first", "xyab", true},
		{"mixed", "xaby", true},
		{"one turned", "bayx", false},
		{"the other turned", "aybx", false},
		{"twice", "aa", false},
		{"a stranger", "z", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := &inbox{wants: []want{frame(1, "a"), frame(1, "b"), frame(2, "x"), frame(2, "y")}}
			var err error
			for _, text := range tt.order {
				if e := b.take(wire.Frame{Type: wire.Text, Cmd: 4, Payload: []byte(string(text))}); e != nil {
					err = e
				}
			}
			if (err == nil) != tt.ok || tt.ok && b.waits() {
				t.Errorf("got %v, left %s", err, b)
			}
		})
	}
}
