//go:build unix

package e2e_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"mrci.dev/mrci/internal/host/hosttest/bare"
)

// someone is a session over TLS of which every frame is looked at.
type someone struct {
	*bare.Client
	t    *testing.T
	name string
	user []byte // id
}

// logIn connects and logs in; with a one-time password, chooses another one.
func logIn(t *testing.T, addr, name, oneTime string) someone {
	t.Helper()
	s := someone{bare.Dial(t, addr, "e2e"), t, name, nil}
	if s.Reply != 2 {
		t.Fatalf("the host replies %d, want 2: TLS", s.Reply)
	}
	auth := s.Cmd("auth")
	s.Send(bare.Text, "auth", 0, []byte("-user "+name))
	answers := []string{password}
	if oneTime != "" {
		answers = []string{oneTime, password}
	}
	for _, answer := range answers {
		s.Until(func(f bare.Frame) bool { return f.Type == bare.PrivText })
		s.Send(bare.Text, "auth", 0, []byte(answer))
	}
	for _, f := range s.UntilIdle(auth, 0) {
		if f.Cmd == bare.SysMsg && f.Type == bare.MyInfo {
			s.user = f.Payload[28:60]
		}
	}
	s.Fence()
	s.SoFar()
	if s.user == nil {
		t.Fatalf("%s is not logged in", name)
	}
	return s
}

// peerInfo is the PEER_INFO of the session (protocol 3).
func (s someone) peerInfo() []byte {
	return bare.Cat(s.ID, s.user, bare.Pad(s.name, 24), bare.Pad("e2e", 32), bare.Pad("", 24))
}

// run sends a frame to a command, which ends with the code, and compares what
// comes before its end.
func (s someone) run(code int, typ byte, command string, payload []byte, want ...bare.Frame) {
	s.t.Helper()
	id := s.Cmd(command)
	s.Send(typ, command, 5, payload)
	got := s.UntilIdle(id, 5)
	last := got[len(got)-1]
	got = got[:len(got)-1]
	if code != 1 && len(got) > 0 && got[len(got)-1].Type == bare.Err {
		got = got[:len(got)-1]
	}
	if last.Code() != code {
		s.t.Errorf("%s: %s %.60q ends with %v, want %d", s.name, command, payload, last, code)
	}
	s.same(fmt.Sprintf("%s %.60q", command, payload), got, want)
}

func (s someone) do(line string, want ...bare.Frame) {
	s.t.Helper()
	command, arguments, _ := strings.Cut(line, " ")
	s.run(1, bare.Text, command, []byte(arguments), want...)
}

// gets compares what has come by itself.
func (s someone) gets(want ...bare.Frame) {
	s.t.Helper()
	s.Fence()
	s.same("by itself", s.SoFar(), want)
}

func (s someone) same(step string, got, want []bare.Frame) {
	s.t.Helper()
	text := func(frames []bare.Frame) string {
		var b strings.Builder
		for _, f := range frames {
			fmt.Fprintf(&b, "\n  %v", f)
		}
		return b.String()
	}
	equal := len(got) == len(want)
	for i := range want {
		equal = equal && string(got[i].Raw()) == string(want[i].Raw())
	}
	if !equal {
		s.t.Errorf("%s: %s gets%s\nwant%s", step, s.name, text(got), text(want))
	}
}

// TestChannelsOverTLS goes through a channel's life, presence, casts and a link
// with the real program over TLS; each byte is compared with what the tables of
// the protocol say.
func TestChannelsOverTLS(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(binary, hostArgs(dir, []string{
		"--set", "tls_on_loopback=true", "--set", "argon2_kib=1024", "--set", "argon2_time=1", "--set", "initial_rank=1", "--set", "cast_bytes=0",
	})...)
	cmd.Env = cleanEnv(t)
	h := startHost(t, cmd, dir)
	t.Cleanup(func() {
		h.finish(0)
		h.check(t)
		if t.Failed() {
			t.Logf("log of the host:\n%s", h.stderr)
		}
	})
	if h.addr == "" {
		t.Fatalf("the host did not start:\n%s", h.stderr)
	}
	anna := logIn(t, h.addr, h.user, h.password)
	for _, name := range []string{"bob", "carl"} {
		anna.Send(bare.Text, "add_acct", 0, fmt.Appendf(nil, "-name %s -email %s@example.org", name, name))
		anna.Until(func(f bare.Frame) bool { return f.Type == bare.PrivText })
		anna.Send(bare.Text, "add_acct", 0, []byte(password))
		anna.UntilIdle(anna.Cmd("add_acct"), 0)
	}
	bob, carl := logIn(t, h.addr, "bob", ""), logIn(t, h.addr, "carl", "")
	all := []someone{anna, bob, carl}
	member := func(who someone, invite, level byte) []byte {
		return bare.Cat(uint64(1), who.user, invite, level, who.name, byte(0), byte(0), "Lobby", byte(0))
	}

	// A channel, a member, a sub-channel for everybody that is active.
	anna.do("add_ch -ch_name Lobby", bare.At(bare.NewMember, bare.MemberInfo, member(anna, 0, 1)))
	invited := bare.At(bare.Invited, bare.MemberInfo, member(bob, 1, 4))
	anna.do("invite_to_ch -ch_name Lobby -user bob", invited)
	bob.gets(invited)
	accepted := bare.At(bare.Accepted, bare.MemberInfo, member(bob, 0, 4))
	bob.do("accept_ch -ch_name Lobby", accepted)
	anna.gets(accepted)
	made := bare.At(bare.NewSub, bare.Bytes, uint64(1), byte(0), byte(4), "Talk", byte(0))
	anna.do("add_sub_ch -ch_name Lobby -sub_name Talk", made)
	bob.gets(made)
	level := bare.At(bare.SubLevel, bare.Bytes, uint64(1), byte(0), byte(5))
	anna.do("set_sub_ch_level -ch_name Lobby -sub_name Talk -level 5", level)
	bob.gets(level)
	anna.do("set_active_flag -ch_name Lobby -sub_name Talk -state 1")

	// Presence.
	talk := bare.Pad(string(bare.Cat(uint64(1), byte(0))), 54)
	stat := func(who someone, list []byte, gone byte) bare.Frame {
		return bare.At(bare.Limited, bare.PeerStat, who.ID, list, gone)
	}
	anna.do("open_sub_ch -ch_name Lobby -sub_name Talk")
	bob.do("open_sub_ch -ch_name Lobby -sub_name Talk")
	anna.gets(stat(bob, talk, 0))
	carl.do("open_sub_ch -ch_name Lobby -sub_name Talk")
	anna.gets(stat(carl, talk, 0))
	bob.gets(stat(carl, talk, 0))
	info := func(who someone) bare.Frame { return bare.At(bare.Limited, bare.PeerInfo, who.peerInfo()) }
	bob.do("close_sub_ch -ch_name Lobby -sub_name Talk")
	anna.gets(stat(bob, make([]byte, 54), 0))
	carl.gets(stat(bob, make([]byte, 54), 0))
	carl.do("ping_peers", info(anna))
	anna.gets(info(carl))
	bob.do("open_sub_ch -ch_name Lobby -sub_name Talk")
	anna.gets(stat(bob, talk, 0))
	carl.gets(stat(bob, talk, 0))

	// Casts, up to the largest.
	for _, size := range []int{0, 5, 16 << 10, 1 << 20, 1<<24 - 1} {
		data := []byte(strings.Repeat("cast!", size/5+1))[:size]
		bob.run(1, bare.Bytes, "cast", data)
		anna.gets(bare.At(bare.CastID, bare.Bytes, data))
		carl.gets(bare.At(bare.CastID, bare.Bytes, data))
	}
	bob.run(3, bare.PeerStat, "cast", make([]byte, 83))

	// A link, up to the largest frame.
	bob.run(1, bare.SessionID, "p2p_request", carl.ID[:])
	carl.gets(bare.At(bare.P2P, bare.P2PRequest, bob.peerInfo()))
	carl.run(1, bare.SessionID, "p2p_open", bob.ID[:])
	bob.gets(bare.At(bare.P2P, bare.P2POpen, carl.ID))
	for _, size := range []int{0, 5, 300_000, 1<<24 - 1 - 28} {
		data := []byte(strings.Repeat("peer!", size/5+1))[:size]
		carl.run(1, bare.Text, "to_peer", bare.Cat(bob.ID, data))
		bob.gets(bare.At(bare.P2P, bare.Text, carl.ID, data))
	}
	bob.run(1, bare.SessionID, "p2p_close", carl.ID[:])
	carl.gets(bare.At(bare.P2P, bare.P2PClose, bob.ID))
	carl.run(3, bare.Text, "to_peer", bare.Cat(bob.ID, "x"))

	// Without the flag nobody is active.
	anna.do("set_active_flag -ch_name Lobby -sub_name Talk -state 0")
	bob.run(3, bare.Text, "ping_peers", nil)
	anna.gets()

	// Who is thrown out, and the end.
	removed := bare.At(bare.RmMember, bare.Bytes, uint64(1), bob.user)
	anna.do("remove_ch_member -ch_name Lobby -user bob", removed)
	bob.gets(removed)
	bob.run(1, bare.Bytes, "cast", []byte("x"))
	gone := bare.At(bare.DelCh, bare.ChID, uint64(1))
	anna.do("rm_ch -ch_name Lobby", gone)
	carl.gets(gone)
	for _, who := range all {
		who.gets()
	}
}
