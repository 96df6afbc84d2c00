package host_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"mrci.dev/mrci/internal/host/hosttest/bare"
)

// TestChannelCommands runs every command about channels with members, holders
// who are none, somebody who is invited, strangers and a session without a
// login, and looks at each byte that each of them gets (commands 6 and 7,
// protocol 5).
func TestChannelCommands(t *testing.T) {
	s := newStage(t)
	const display = "ÄÖÜÄÖÜÄÖÜÄÖÜ" // fills its field
	s.enter("rita1")
	s.do("rita1", "I1", "set_disp_name -new_name "+display, to("rita1",
		bare.At(bare.SysMsg, bare.MyInfo, s.peerInfo("rita1", display), bare.Pad("rita@example.org", 64), uint32(1), byte(0))))
	s.enter("rita2", "olga1", "olga2", "anna1", "anna2", "omar1", "ivan1", "hank1", "sven1", "nobody")
	const owners, admins, regulars = "olga1 olga2 ", "anna1 anna2 ", "rita1 rita2 "

	// Channels.
	s.do("olga1", "I1", "add_ch -ch_name Lobby",
		to(owners, bare.At(bare.NewMember, bare.MemberInfo, s.memberInfo(1, "olga", 0, 1, "", "Lobby"))))
	s.do("sven1", "E3", "add_ch -ch_name LOBBY")
	s.do("sven1", "E3", "add_ch -ch_name abc")
	s.do("sven1", "E3", "add_ch")

	// Members.
	invited := func(user, disp string) bare.Frame {
		return bare.At(bare.Invited, bare.MemberInfo, s.memberInfo(1, user, 1, 4, disp, "Lobby"))
	}
	accepted := func(user, disp string) bare.Frame {
		return bare.At(bare.Accepted, bare.MemberInfo, s.memberInfo(1, user, 0, 4, disp, "Lobby"))
	}
	levelSet := func(user string, level byte) bare.Frame {
		return bare.At(bare.LevelSet, bare.Bytes, uint64(1), s.users[user], level)
	}
	s.do("olga2", "I1", "invite_to_ch -ch_name lobby -user ANNA", to(owners+admins, invited("anna", "")))
	s.do("olga2", "E3", "invite_to_ch -ch_name Lobby -user anna")
	s.do("olga2", "E3", "invite_to_ch -ch_name Lobby -user nobody")
	s.do("olga2", "E3", "invite_to_ch -ch_name Lobby -user olga")
	s.do("sven1", "E3", "invite_to_ch -ch_name Lobby -user sven")
	s.do("anna2", "I1", "accept_ch -ch_name Lobby", to(owners+admins, accepted("anna", "")))
	s.do("anna2", "E3", "accept_ch -ch_name Lobby")
	s.do("sven1", "E3", "accept_ch -ch_name Lobby")
	s.do("sven1", "E3", "decline_ch -ch_name Lobby")
	s.do("olga1", "I1", "set_member_level -ch_name Lobby -user anna -level 2", to(owners+admins, levelSet("anna", 2)))
	s.do("anna1", "I1", "invite_to_ch -ch_name Lobby -user omar", to(owners+admins+"omar1", invited("omar", "")))
	s.do("omar1", "I1", "accept_ch -ch_name Lobby", to(owners+admins+"omar1", accepted("omar", "")))
	s.do("omar1", "E3", "invite_to_ch -ch_name Lobby -user rita") // he is no officer yet
	s.do("anna1", "I1", "set_member_level -ch_name Lobby -user omar -level 3", to(owners+admins+"omar1", levelSet("omar", 3)))
	s.do("omar1", "I1", "invite_to_ch -ch_name Lobby -user rita", to(owners+admins+"omar1 "+regulars, invited("rita", display)))
	s.do("rita1", "I1", "accept_ch -ch_name Lobby", to(owners+admins+"omar1 "+regulars, accepted("rita", display)))
	const members = owners + admins + "omar1 " + regulars
	s.do("omar1", "I1", "invite_to_ch -ch_name Lobby -user ivan", to(members+"ivan1", invited("ivan", "")))
	// From here on ivan hears nothing of the channel until he answers.
	s.do("omar1", "E3", "set_member_level -ch_name Lobby -user anna -level 4")
	s.do("omar1", "E3", "set_member_level -ch_name Lobby -user rita -level 2")
	s.do("anna1", "E3", "set_member_level -ch_name Lobby -user olga -level 2")
	s.do("olga1", "E3", "set_member_level -ch_name Lobby -user ivan -level 3")

	// Sub-channels: 0 for members, 1 for everybody.
	s.do("anna1", "I1", "add_sub_ch -ch_name Lobby -sub_name Talk",
		to(members, bare.At(bare.NewSub, bare.Bytes, uint64(1), byte(0), byte(4), "Talk\x00")))
	s.do("olga1", "I1", "add_sub_ch -ch_name Lobby -sub_name Market",
		to(members, bare.At(bare.NewSub, bare.Bytes, uint64(1), byte(1), byte(4), "Market\x00")))
	s.do("olga1", "E3", "add_sub_ch -ch_name Lobby -sub_name talk")
	s.do("omar1", "E3", "add_sub_ch -ch_name Lobby -sub_name Side")
	subLevel := func(sub, level byte) bare.Frame {
		return bare.At(bare.SubLevel, bare.Bytes, uint64(1), sub, level)
	}
	s.do("anna2", "I1", "set_sub_ch_level -ch_name Lobby -sub_name Market -level 5", to(members, subLevel(1, 5)))
	s.do("omar1", "E3", "set_sub_ch_level -ch_name Lobby -sub_name Market -level 4")
	s.do("olga1", "E3", "set_sub_ch_level -ch_name Lobby -sub_name Market -level 6")

	// Opening and casting.
	for _, opens := range []struct{ who, answer, sub string }{
		{"rita1", "I1", "Talk"}, {"rita1", "I1", "Market"}, {"rita2", "I1", "Talk"}, {"olga1", "I1", "TALK"},
		{"hank1", "I1", "Market"}, {"omar1", "I1", "Market"},
		{"rita1", "I1", "Talk"}, // again
		{"hank1", "E3", "Talk"}, {"ivan1", "E3", "Talk"}, {"sven1", "E3", "Gone"},
	} {
		s.do(opens.who, opens.answer, "open_sub_ch -ch_name Lobby -sub_name "+opens.sub)
	}
	hello := []byte("hello \xff\x00")
	s.frame("rita1", "I1", 2, "cast", hello, to("rita2 olga1 hank1 omar1", bare.At(bare.CastID, 2, hello)))
	s.frame("hank1", "I1", 14, "cast", hello, to("rita1 omar1", bare.At(bare.CastID, 14, hello)))
	s.frame("rita2", "I1", 14, "cast", nil, to("rita1 olga1", bare.At(bare.CastID, 14)))
	s.frame("anna1", "I1", 2, "cast", hello) // she has nothing open
	s.frame("sven1", "I1", 2, "cast", hello)
	list := s.do("rita1", "I1 text", "ls_open_chs")
	wantText(t, list, "\n"+
		"channel_name    sub_channel_name    channel_id    sub_channel_id    read_only\n"+
		"-------         -------             -------       -------           -------\n"+
		"Lobby           Talk                1             0                 0\n"+
		"Lobby           Market              1             1                 0\n")

	// Names change for members; what is open stays so.
	s.do("olga2", "I1", "rename_ch -ch_name Lobby -new_name Lounge", to(members, bare.At(bare.RenameCh, bare.Bytes, uint64(1), "Lounge\x00")))
	s.do("anna2", "E3", "rename_ch -ch_name Lounge -new_name Lobby")
	s.do("anna2", "I1", "rename_sub_ch -ch_name Lounge -sub_name Market -new_name Plätze",
		to(members, bare.At(bare.RenameSub, bare.Bytes, uint64(1), byte(1), "Plätze\x00")))
	s.do("anna2", "E3", "rename_sub_ch -ch_name Lounge -sub_name Plätze -new_name TALK")
	s.do("omar1", "E3", "rename_sub_ch -ch_name Lounge -sub_name Plätze -new_name Side")
	s.frame("hank1", "I1", 14, "cast", hello, to("rita1 omar1", bare.At(bare.CastID, 14, hello)))

	// The active flag alone is nobody's news.
	s.do("anna1", "I1", "set_active_flag -ch_name Lounge -sub_name Plätze -state 1")
	s.do("anna1", "I1", "set_active_flag -ch_name Lounge -sub_name Plätze -state 0")
	s.do("omar1", "E3", "set_active_flag -ch_name Lounge -sub_name Plätze -state 1")
	s.do("anna1", "E3", "set_active_flag -ch_name Lounge -sub_name Plätze -state 2")

	// Read-only flags close it for everybody, holders hear of it besides members.
	flag := func(id uint16, level byte) bare.Frame { return bare.At(id, bare.Bytes, uint64(1), byte(1), level) }
	s.do("anna1", "I1", "add_rdonly_flag -ch_name Lounge -sub_id 1 -level 5", to(members+"hank1", flag(bare.AddRdOnly, 5)))
	s.do("anna1", "E3", "add_rdonly_flag -ch_name Lounge -sub_id 1 -level 5")
	s.do("omar1", "E3", "add_rdonly_flag -ch_name Lounge -sub_id 1 -level 4")
	s.frame("rita1", "I1", 14, "cast", hello, to("rita2 olga1", bare.At(bare.CastID, 14, hello)))
	for _, who := range []string{"hank1", "rita1", "omar1"} {
		s.do(who, "I1", "open_sub_ch -ch_name Lounge -sub_name Plätze")
	}
	s.frame("hank1", "I1", 14, "cast", hello) // he may listen only
	s.frame("omar1", "I1", 14, "cast", hello, to("hank1 rita1", bare.At(bare.CastID, 14, hello)))
	wantText(t, s.do("hank1", "I1 text", "ls_open_chs"), "\n"+
		"channel_name    sub_channel_name    channel_id    sub_channel_id    read_only\n"+
		"-------         -------             -------       -------           -------\n"+
		"Lounge          Plätze              1             1                 1\n")
	if got := s.do("hank1", "I1 text", "ls_rdonly_flags -ch_name Lounge"); !strings.Contains(got, "Lounge          1             1                 5") {
		t.Errorf("ls_rdonly_flags: %s", got)
	}
	s.do("olga1", "I1", "rm_rdonly_flag -ch_name Lounge -sub_id 1 -level 5", to(members+"hank1", flag(bare.RmRdOnly, 5)))
	s.do("olga1", "E3", "rm_rdonly_flag -ch_name Lounge -sub_id 1 -level 5")
	s.frame("omar1", "I1", 14, "cast", hello)
	// A flag of a sub-channel that nobody has made yet.
	s.do("olga1", "I1", "add_rdonly_flag -ch_name Lounge -sub_id 255 -level 4", to(members, bare.At(bare.AddRdOnly, bare.Bytes, uint64(1), byte(255), byte(4))))
	s.do("olga1", "I1", "rm_rdonly_flag -ch_name Lounge -sub_id 255 -level 4", to(members, bare.At(bare.RmRdOnly, bare.Bytes, uint64(1), byte(255), byte(4))))
	s.do("olga1", "E3", "add_rdonly_flag -ch_name Lounge -sub_id 256 -level 4")

	// Levels.
	s.do("anna1", "I1", "set_sub_ch_level -ch_name Lounge -sub_name Talk -level 3", to(members, subLevel(0, 3)))
	s.frame("olga1", "I1", 2, "cast", hello) // it was closed for her too
	s.do("rita1", "E3", "open_sub_ch -ch_name Lounge -sub_name Talk")
	for _, who := range []string{"omar1", "olga1"} {
		s.do(who, "I1", "open_sub_ch -ch_name Lounge -sub_name Talk")
	}
	s.frame("olga1", "I1", 2, "cast", hello, to("omar1", bare.At(bare.CastID, 2, hello)))
	s.do("anna1", "I1", "set_member_level -ch_name Lounge -user omar -level 4", to(members, levelSet("omar", 4)))
	s.frame("olga1", "I1", 2, "cast", hello)
	s.do("omar1", "E3", "open_sub_ch -ch_name Lounge -sub_name Talk")

	// The override opens every door, for one session, and closes again what
	// its user's own level does not open.
	s.do("hank1", "I1", "ch_owner_override -state 1")
	s.do("hank1", "E3", "ch_owner_override -state 2")
	s.do("hank1", "I1", "open_sub_ch -ch_name Lounge -sub_name Talk")
	s.do("hank1", "I1", "open_sub_ch -ch_name Lounge -sub_name Plätze")
	s.frame("hank1", "I1", 2, "cast", hello, to("olga1", bare.At(bare.CastID, 2, hello)))
	s.do("hank1", "I1", "add_sub_ch -ch_name Lounge -sub_name Hanks",
		to(members, bare.At(bare.NewSub, bare.Bytes, uint64(1), byte(2), byte(4), "Hanks\x00")))
	if got := s.do("hank1", "I1 text", "ls_ch_members -ch_name Lounge"); strings.Count(got, "\n1 ") != 5 {
		t.Errorf("ls_ch_members: %s", got)
	}
	s.do("hank1", "I1", "rm_sub_ch -ch_name Lounge -sub_name Hanks", to(members, bare.At(bare.RmSub, bare.Bytes, uint64(1), byte(2))))
	s.do("anna1", "I1", "add_rdonly_flag -ch_name Lounge -sub_id 1 -level 5", to(members+"hank1", flag(bare.AddRdOnly, 5)))
	s.do("hank1", "I1", "open_sub_ch -ch_name Lounge -sub_name Plätze")
	s.do("rita1", "I1", "open_sub_ch -ch_name Lounge -sub_name Plätze")
	s.frame("hank1", "I1", 2, "cast", hello, to("olga1 rita1", bare.At(bare.CastID, 2, hello)))
	s.do("hank1", "I1", "ch_owner_override -state 0")
	s.frame("hank1", "I1", 2, "cast", hello) // Talk is closed, Plätze for listening only
	s.frame("olga1", "I1", 2, "cast", hello)
	s.frame("rita1", "I1", 2, "cast", hello, to("hank1", bare.At(bare.CastID, 2, hello)))
	s.do("hank1", "E3", "ls_ch_members -ch_name Lounge")
	s.do("hank1", "E3", "rm_sub_ch -ch_name Lounge -sub_name Talk")
	s.do("hank1", "I1", "ch_owner_override -state 1")
	s.frame("hank1", "I1", 2, "cast", hello, to("rita1", bare.At(bare.CastID, 2, hello))) // open, and writable again
	s.do("hank1", "I1", "ch_owner_override -state 0")
	s.do("anna1", "I1", "rm_rdonly_flag -ch_name Lounge -sub_id 1 -level 5", to(members+"hank1", flag(bare.RmRdOnly, 5)))

	// Who goes hears of it, and then nothing more.
	removed := func(user string) bare.Frame { return bare.At(bare.RmMember, bare.Bytes, uint64(1), s.users[user]) }
	for _, who := range []string{"rita1", "rita2", "hank1"} {
		s.do(who, "I1", "open_sub_ch -ch_name Lounge -sub_name Plätze")
	}
	s.do("rita1", "E3", "remove_ch_member -ch_name Lounge -user omar")
	s.do("olga1", "E3", "remove_ch_member -ch_name Lounge -user olga")
	s.do("anna1", "E3", "remove_ch_member -ch_name Lounge -user sven")
	s.do("anna1", "E3", "remove_ch_member -ch_name Lounge -user olga")
	s.do("anna1", "I1", "remove_ch_member -ch_name Lounge -user rita", to(members, removed("rita")))
	s.frame("hank1", "I1", 2, "cast", hello) // both sessions of rita have left
	s.do("rita1", "I1", "open_sub_ch -ch_name Lounge -sub_name Plätze")
	s.frame("hank1", "I1", 2, "cast", hello, to("rita1", bare.At(bare.CastID, 2, hello)))
	const rest = owners + admins + "omar1 "
	s.do("ivan1", "I1", "decline_ch -ch_name Lounge", to(rest+"ivan1", removed("ivan")))
	s.do("omar1", "E3", "invite_to_ch -ch_name Lounge -user sven")
	s.do("anna1", "I1", "invite_to_ch -ch_name Lounge -user sven",
		to(rest+"sven1", bare.At(bare.Invited, bare.MemberInfo, s.memberInfo(1, "sven", 1, 4, "", "Lounge"))))
	s.do("anna2", "I1", "remove_ch_member -ch_name Lounge -user sven", to(rest+"sven1", removed("sven")))
	s.do("omar1", "I1", "remove_ch_member -ch_name Lounge -user omar", to(rest, removed("omar")))

	// A new owner: two changes, both close what the two have open.
	s.do("olga2", "I1", "open_sub_ch -ch_name Lounge -sub_name Plätze")
	s.do("anna1", "I1", "open_sub_ch -ch_name Lounge -sub_name Plätze")
	s.do("olga1", "I1", "set_member_level -ch_name Lounge -user anna -level 1", to(owners+admins, levelSet("anna", 1), levelSet("olga", 2)))
	s.frame("hank1", "I1", 2, "cast", hello, to("rita1", bare.At(bare.CastID, 2, hello)))
	s.do("olga1", "E3", "rm_ch -ch_name Lounge")

	// Sub-channels and the channel go: holders who are no members hear of it.
	s.do("olga1", "I1", "rm_sub_ch -ch_name Lounge -sub_name Plätze",
		to(owners+admins+"hank1 rita1", bare.At(bare.RmSub, bare.Bytes, uint64(1), byte(1))))
	s.do("olga1", "E3", "rm_sub_ch -ch_name Lounge -sub_name Plätze")
	s.frame("hank1", "I1", 2, "cast", hello)
	s.do("anna2", "I1", "set_sub_ch_level -ch_name Lounge -sub_name Talk -level 5", to(owners+admins, subLevel(0, 5)))
	s.do("hank1", "I1", "open_sub_ch -ch_name Lounge -sub_name Talk")
	s.do("anna2", "I1", "open_sub_ch -ch_name Lounge -sub_name Talk")
	s.do("anna1", "I1", "rm_ch -ch_name Lounge", to(owners+admins+"hank1", bare.At(bare.DelCh, bare.ChID, uint64(1))))
	s.frame("hank1", "I1", 2, "cast", hello)
	s.do("anna1", "E3", "rm_ch -ch_name Lounge")
	s.do("olga1", "I1", "add_ch -ch_name Lounge", // an id is not used twice
		to(owners, bare.At(bare.NewMember, bare.MemberInfo, s.memberInfo(2, "olga", 0, 1, "", "Lounge"))))
}

func wantText(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestCastTypes casts and relays a frame of each of the 256 types: what clients
// believe of the host alone, IDLE and unknown types are refused, and nobody gets
// them (commands 7, cast; modules 1.2).
func TestCastTypes(t *testing.T) {
	s := newStage(t)
	s.enter("olga1", "hank1")
	s.quiet("olga1", "add_ch -ch_name Lobby", "add_sub_ch -ch_name Lobby -sub_name Open", "set_sub_ch_level -ch_name Lobby -sub_name Open -level 5")
	s.quiet("olga1", "open_sub_ch -ch_name Lobby -sub_name Open")
	s.quiet("hank1", "open_sub_ch -ch_name Lobby -sub_name Open")
	s.link("olga1", "hank1")
	olga, hank := s.clients["olga1"], s.clients["hank1"]
	allowed := map[int]bool{1: true, 2: true, 3: true, 4: true, 7: true, 14: true, 15: true, 17: true, 18: true, 22: true, 23: true, 27: true, 28: true, 29: true}
	for typ := range 256 {
		data := fmt.Appendf(nil, "type %d", typ)
		toHank := bare.Cat(hank.ID, data)
		switch {
		case typ == 19 || typ >= 24 && typ <= 26: // TERM_CMD and the like act on a call, and there is none
			olga.Send(byte(typ), "cast", 1, data)
			olga.Send(byte(typ), "to_peer", 1, toHank)
			s.settled(fmt.Sprintf("control frame %d", typ), "")
		case allowed[typ]:
			s.frame("olga1", "I1", byte(typ), "cast", data, to("hank1", bare.At(bare.CastID, byte(typ), data)))
			s.frame("olga1", "I1", byte(typ), "to_peer", toHank, to("hank1", bare.At(bare.P2P, byte(typ), olga.ID, data)))
		default:
			s.frame("olga1", "E3", byte(typ), "cast", data)
			s.frame("olga1", "E3", byte(typ), "to_peer", toHank)
		}
	}
	for _, command := range []string{"cast", "to_peer"} {
		line := regexp.MustCompile(`level=WARN msg="frame refused" session=[0-9a-f]{12} addr=127.0.0.1 user=olga cmd=` + command + ` reason=`)
		if !line.MatchString(s.h.Log()) {
			t.Errorf("nothing is in the log about %s", command)
		}
	}
	// Commands take the type that they are for.
	for _, command := range []string{"add_ch", "open_sub_ch", "ls_open_chs", "ping_peers"} {
		s.frame("olga1", "E3", bare.Bytes, command, []byte("-ch_name Lobby"))
	}
	for _, command := range []string{"p2p_request", "p2p_open", "p2p_close"} {
		s.frame("hank1", "E3", bare.Bytes, command, olga.ID[:])
	}
}

// TestSixOpen opens as many sub-channels as a session may have open: the
// seventh is refused and changes nothing (commands 7, open_sub_ch).
func TestSixOpen(t *testing.T) {
	s := newStage(t)
	s.enter("olga1", "hank1")
	s.quiet("olga1", "add_ch -ch_name Lobby", "add_ch -ch_name Other")
	for i := range 7 {
		ch := []string{"Lobby", "Other"}[i%2]
		s.quiet("olga1", fmt.Sprintf("add_sub_ch -ch_name %s -sub_name Sub%d", ch, i),
			fmt.Sprintf("set_sub_ch_level -ch_name %s -sub_name Sub%d -level 5", ch, i))
	}
	opens := func(who, answer string, i int) {
		t.Helper()
		s.do(who, answer, fmt.Sprintf("open_sub_ch -ch_name %s -sub_name Sub%d", []string{"Lobby", "Other"}[i%2], i))
	}
	for i := range 6 {
		opens("olga1", "I1", i)
	}
	opens("olga1", "E6", 6)
	opens("olga1", "I1", 3) // open already
	opens("hank1", "I1", 6)
	s.frame("olga1", "I1", 2, "cast", []byte("x")) // hank is where she is not
	for i := range 5 {
		opens("hank1", "I1", i)
	}
	s.frame("olga1", "I1", 2, "cast", []byte("x"), to("hank1", bare.At(bare.CastID, 2, "x"))) // once for all five
	s.do("olga1", "I1", "close_sub_ch -ch_name Other -sub_name Sub1")
	s.do("olga1", "I1", "close_sub_ch -ch_name Other -sub_name Sub1") // closed already
	s.do("olga1", "E3", "close_sub_ch -ch_name Other -sub_name Sub9")
	opens("olga1", "I1", 6)
	opens("olga1", "E6", 1)
	got := s.do("olga1", "I1 text", "ls_open_chs")
	for i := range 7 {
		if want := i != 1; strings.Contains(got, fmt.Sprintf("Sub%d ", i)) != want {
			t.Errorf("Sub%d open: want %v in\n%s", i, want, got)
		}
	}
	s.do("hank1", "E3", "close_sub_ch -ch_name Nowhere -sub_name Sub1")
}

// TestNoLogin tries every one of the commands without a login: each is refused
// as one that there is not, and nobody hears anything (protocol 2).
func TestNoLogin(t *testing.T) {
	s := newStage(t)
	s.enter("olga1", "hank1", "nobody")
	s.quiet("olga1", "add_ch -ch_name Lobby", "add_sub_ch -ch_name Lobby -sub_name Open", "set_sub_ch_level -ch_name Lobby -sub_name Open -level 5",
		"set_active_flag -ch_name Lobby -sub_name Open -state 1")
	s.quiet("olga1", "open_sub_ch -ch_name Lobby -sub_name Open")
	s.quiet("hank1", "open_sub_ch -ch_name Lobby -sub_name Open")
	nobody, olga := s.clients["nobody"], s.clients["olga1"]
	for _, command := range channelCommands {
		payload := []byte("-ch_name Lobby -sub_name Open -new_name Other -user hank -level 4 -state 1 -sub_id 0")
		typ := byte(bare.Text)
		if strings.HasPrefix(command, "p2p") || command == "to_peer" {
			payload, typ = olga.ID[:], bare.SessionID
		}
		if _, ok := nobody.Commands[command]; ok {
			t.Errorf("%s is offered without a login", command)
		}
		nobody.Commands[command] = olga.Cmd(command)
		s.frame("nobody", "E3", typ, command, payload)
		delete(nobody.Commands, command)
	}
	s.frame("olga1", "I1", 2, "cast", []byte("x"), to("hank1", bare.At(bare.CastID, 2, "x")))
}

// channelCommands are the commands of commands 6 to 8.
var channelCommands = strings.Fields(`add_ch rm_ch rename_ch find_ch ls_chs add_sub_ch rm_sub_ch rename_sub_ch ls_sub_chs set_sub_ch_level
	set_active_flag add_rdonly_flag rm_rdonly_flag ls_rdonly_flags invite_to_ch accept_ch decline_ch remove_ch_member set_member_level
	ls_ch_members ch_owner_override open_sub_ch close_sub_ch ls_open_chs cast ping_peers p2p_request p2p_open p2p_close ls_p2p to_peer`)

// TestListings looks at what the listings about channels say to members,
// strangers and who is invited; nobody else gets anything.
func TestListings(t *testing.T) {
	s := newStage(t)
	s.enter("olga1", "rita1", "ivan1", "sven1")
	s.quiet("olga1", "add_ch -ch_name Lobby", "add_sub_ch -ch_name Lobby -sub_name Talk", "add_sub_ch -ch_name Lobby -sub_name Open",
		"set_sub_ch_level -ch_name Lobby -sub_name Open -level 5", "set_active_flag -ch_name Lobby -sub_name Open -state 1",
		"add_rdonly_flag -ch_name Lobby -sub_id 0 -level 4", "add_rdonly_flag -ch_name Lobby -sub_id 1 -level 5")
	s.join("olga1", "Lobby", 4, "rita1")
	s.quiet("olga1", "invite_to_ch -ch_name Lobby -user ivan")
	s.quiet("sven1", "add_ch -ch_name Tower")
	rows := func(who, line string, want ...string) {
		t.Helper()
		got := s.do(who, "I1 text", line+" -all")
		var cells []string
		for _, row := range strings.Split(got, "\n") {
			if fields := strings.Fields(row); len(fields) > 1 && fields[0] != "-------" && !strings.HasPrefix(fields[1], "row") {
				cells = append(cells, strings.Join(fields, " "))
			}
		}
		if strings.Join(cells[1:], "|") != strings.Join(want, "|") {
			t.Errorf("%s: %s: rows %q, want %q, in\n%s", who, line, cells[1:], want, got)
		}
	}
	rows("sven1", "find_ch", "1 Lobby", "2 Tower")
	rows("sven1", "find_ch -name obby", "1 Lobby")
	rows("sven1", "find_ch -id 2", "2 Tower")
	s.do("sven1", "E3", "find_ch -name obb")
	s.do("sven1", "E3", "find_ch -id two")
	rows("olga1", "ls_chs", "1 Lobby 0 1")
	rows("ivan1", "ls_chs", "1 Lobby 1 4")
	rows("sven1", "ls_chs", "2 Tower 0 1")
	rows("rita1", "ls_sub_chs -ch_name Lobby", "0 Talk 4 0", "1 Open 5 1")
	rows("ivan1", "ls_sub_chs -ch_name Lobby", "1 Open 5 1")
	rows("sven1", "ls_sub_chs -ch_name Lobby", "1 Open 5 1")
	rows("rita1", "ls_rdonly_flags -ch_name Lobby", "Lobby 1 0 4", "Lobby 1 1 5")
	rows("sven1", "ls_rdonly_flags -ch_name Lobby", "Lobby 1 1 5")
	id := func(user string) string { return fmt.Sprintf("%x", s.users[user]) }
	rows("rita1", "ls_ch_members -ch_name Lobby", // the display names are empty
		"1 olga "+id("olga")+" 0 1 0", "1 rita "+id("rita")+" 0 4 0", "1 ivan "+id("ivan")+" 1 4 0")
	s.quiet("rita1", "ch_owner_override -state 1")
	rows("rita1", "ls_ch_members -ch_name Lobby -user_name rit", "1 rita "+id("rita")+" 0 4 1")
	s.do("sven1", "E3", "ls_ch_members -ch_name Lobby")
	s.do("ivan1", "E3", "ls_ch_members -ch_name Lobby")
	s.do("sven1", "E3", "ls_sub_chs -ch_name Nowhere")
}
