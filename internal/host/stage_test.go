package host_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/internal/host/hosttest/bare"
	"mrci.dev/mrci/wire"
)

// stage is a host with sessions of which every frame is looked at. The frames
// that a test expects are made by hand (package bare).
type stage struct {
	t       *testing.T
	h       *hosttest.Host
	users   map[string][32]byte
	names   []string // of the sessions, in their order
	clients map[string]*bare.Client
}

func newStage(t *testing.T, opts ...hosttest.Option) *stage {
	t.Helper()
	h := hosttest.Start(t, append([]hosttest.Option{hosttest.Set("log_level=warn", "cast_bytes=0")}, opts...)...)
	return &stage{t: t, h: h, users: make(map[string][32]byte), clients: make(map[string]*bare.Client)}
}

// user makes an account.
func (s *stage) user(name string, rank wire.Rank) {
	s.t.Helper()
	s.users[name] = s.h.User(name, rank).ID
}

// enter connects the sessions, which are named as their user, who gets rank 1
// if there is none, with a digit behind; "nobody" logs in as nobody.
func (s *stage) enter(names ...string) {
	s.t.Helper()
	for _, name := range names {
		c := bare.Dial(s.t, s.h.Address(), app(name))
		s.names = append(s.names, name)
		s.clients[name] = c
		if user := strings.TrimRight(name, "0123456789"); user != "nobody" {
			if _, ok := s.users[user]; !ok {
				s.user(user, 1)
			}
			c.Login(user, hosttest.Password)
		}
	}
}

// app is what the client program of a session is called.
func app(session string) string { return "app of " + session }

// leave forgets a session.
func (s *stage) leave(name string) *bare.Client {
	c := s.clients[name]
	delete(s.clients, name)
	s.names = slices.DeleteFunc(s.names, func(n string) bool { return n == name })
	return c
}

// want is what sessions get in one step.
type want struct {
	who    []string
	frames []bare.Frame
	mixed  bool // in any order, also among what else the sessions get
}

// to says that each of the sessions, with blanks between them, gets the frames
// in this order.
func to(who string, frames ...bare.Frame) want { return want{strings.Fields(who), frames, false} }

// mixed is to without an order.
func mixed(who string, frames ...bare.Frame) want { return want{strings.Fields(who), frames, true} }

// check compares what a session has got.
func check(t *testing.T, step, who string, got []bare.Frame, wants []want) {
	t.Helper()
	var expected []string
	free := false
	for _, w := range wants {
		if !slices.Contains(w.who, who) {
			continue
		}
		free = free || w.mixed
		for _, f := range w.frames {
			expected = append(expected, f.String())
		}
	}
	var seen []string
	for _, f := range got {
		seen = append(seen, f.String())
	}
	if free {
		slices.Sort(seen)
		slices.Sort(expected)
	}
	if !slices.Equal(seen, expected) {
		t.Errorf("%s: %s gets\n  %s\nwant\n  %s", step, who, strings.Join(seen, "\n  "), strings.Join(expected, "\n  "))
	}
}

// do has a session run a command by TEXT; see frame.
func (s *stage) do(who, answer, line string, wants ...want) string {
	s.t.Helper()
	command, arguments, _ := strings.Cut(line, " ")
	return s.frame(who, answer, bare.Text, command, []byte(arguments), wants...)
}

// frame has a session send a frame to a command, and looks at what every
// session gets: nothing that is not wanted. The caller's own frames come before
// its IDLE. answer is "I1", which is silent, "I1 text", "E3" or "E6"; the text
// is returned.
func (s *stage) frame(who, answer string, typ byte, command string, payload []byte, wants ...want) string {
	s.t.Helper()
	step := fmt.Sprintf("%s: %s %.80q", who, command, payload)
	c := s.clients[who]
	id := c.Cmd(command)
	const branch = 0x1234
	c.Send(typ, command, branch, payload)
	var own, events []bare.Frame
	for _, f := range c.UntilIdle(id, branch) {
		if listed(f) {
			continue
		}
		if f.Cmd == id && f.Branch == branch {
			own = append(own, f)
		} else {
			events = append(events, f)
		}
	}
	text := s.answered(step, answer, own)
	check(s.t, step, who, events, wants)
	s.settled(step, who, wants...)
	return text
}

// listed reports whether a frame changes the list of commands: that is for
// other tests to look at.
func listed(f bare.Frame) bool { return f.Cmd == bare.AddCmd || f.Cmd == bare.RmCmd }

// answered looks at what a call has said itself.
func (s *stage) answered(step, answer string, own []bare.Frame) (text string) {
	s.t.Helper()
	kinds := ""
	for _, f := range own[:len(own)-1] {
		switch f.Type {
		case bare.Text:
			text += string(f.Payload)
			if !strings.HasSuffix(kinds, "T") {
				kinds += "T"
			}
		case bare.Err:
			kinds += "E"
			if len(f.Payload) < 10 || !strings.HasSuffix(string(f.Payload), ".\n") {
				s.t.Errorf("%s: ERR says %q", step, f.Payload)
			}
		default:
			kinds += fmt.Sprintf("(%v)", f)
		}
	}
	last := own[len(own)-1]
	kinds += fmt.Sprint(last.Code())
	want := map[string]string{"I1": "1", "I1 text": "T1", "E3": "E3", "E6": "E6"}[answer]
	if kinds != want || len(last.Payload) != 2 {
		s.t.Errorf("%s: got %v, want %s", step, own, answer)
	}
	return text
}

// settled looks at what the sessions have got, but for one that was looked at:
// that gets nothing more.
func (s *stage) settled(step, but string, wants ...want) {
	s.t.Helper()
	for _, name := range s.names {
		s.clients[name].Fence()
	}
	for _, name := range s.names {
		got := slices.DeleteFunc(s.clients[name].SoFar(), listed)
		if name == but {
			if len(got) > 0 {
				s.t.Errorf("%s: behind its IDLE %s gets %v", step, name, got)
			}
			continue
		}
		check(s.t, step, name, got, wants)
	}
}

// quiet has commands run of which nobody hears but those who are set aside.
func (s *stage) quiet(who string, lines ...string) {
	s.t.Helper()
	for _, line := range lines {
		command, arguments, _ := strings.Cut(line, " ")
		all := s.clients[who].Call(command, arguments)
		if last := all[len(all)-1]; last.Code() != 1 {
			s.t.Fatalf("%s: %s: %v", who, line, all)
		}
	}
	for _, name := range s.names {
		s.clients[name].Fence()
	}
	for _, name := range s.names {
		s.clients[name].SoFar()
	}
}

// join has users accept an invite of a channel's owner, and gives them a level.
func (s *stage) join(owner, ch string, level int, sessions ...string) {
	s.t.Helper()
	for _, name := range sessions {
		user := strings.TrimRight(name, "0123456789")
		s.quiet(owner, fmt.Sprintf("invite_to_ch -ch_name %s -user %s", ch, user))
		s.quiet(name, "accept_ch -ch_name "+ch)
		if level != 4 {
			s.quiet(owner, fmt.Sprintf("set_member_level -ch_name %s -user %s -level %d", ch, user, level))
		}
	}
}

// memberInfo is a CH_MEMBER_INFO (protocol 3).
func (s *stage) memberInfo(ch uint64, user string, invite, level byte, display, channel string) []byte {
	return bare.Cat(ch, s.users[user], invite, level, user, byte(0), display, byte(0), channel, byte(0))
}

// peerInfo is the PEER_INFO of a session (protocol 3).
func (s *stage) peerInfo(session, display string) []byte {
	return s.peerInfoAs(session, strings.TrimRight(session, "0123456789"), display)
}

// peerInfoAs is peerInfo under another user name.
func (s *stage) peerInfoAs(session, user, display string) []byte {
	return bare.Cat(s.clients[session].ID, s.users[user], bare.Pad(user, 24), bare.Pad(app(session), 32), bare.Pad(display, 24))
}

// open is a slot of an open sub-channel list.
type open struct {
	ch  uint64
	sub byte
}

// subList is an open sub-channel list (protocol 3).
func subList(subs ...open) []byte {
	var list []byte
	for _, o := range subs {
		list = bare.Cat(list, o.ch, o.sub)
	}
	return bare.Pad(string(list), 54)
}

// stat is the PEER_STAT that tells what a session has open now.
func stat(id [28]byte, subs ...open) bare.Frame {
	return bare.At(bare.Limited, bare.PeerStat, id, subList(subs...), byte(0))
}

// gone is the PEER_STAT that tells that a session has gone.
func gone(id [28]byte) bare.Frame {
	return bare.At(bare.Limited, bare.PeerStat, id, subList(), byte(1))
}
