package host_test

import (
	"fmt"
	"strings"
	"testing"

	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/internal/host/hosttest/bare"
)

// presence is a stage with a channel that everybody may take part in: Acts is
// active, Calm is not; sub ids 0 and 1. Mems is active and for members, id 2.
// The owner is olga; rita is a member with two sessions.
func presence(t *testing.T, opts ...hosttest.Option) *stage {
	s := newStage(t, opts...)
	s.enter("olga1", "rita1", "rita2", "hank1", "sven1", "nobody")
	s.quiet("olga1", "add_ch -ch_name Lobby",
		"add_sub_ch -ch_name Lobby -sub_name Acts", "add_sub_ch -ch_name Lobby -sub_name Calm", "add_sub_ch -ch_name Lobby -sub_name Mems",
		"set_sub_ch_level -ch_name Lobby -sub_name Acts -level 5", "set_sub_ch_level -ch_name Lobby -sub_name Calm -level 5",
		"set_active_flag -ch_name Lobby -sub_name Acts -state 1", "set_active_flag -ch_name Lobby -sub_name Mems -state 1")
	s.join("olga1", "Lobby", 4, "rita1")
	return s
}

// opens opens sub-channels of Lobby, of which the test has looked at elsewhere
// what others hear.
func (s *stage) opens(who string, subs ...string) {
	s.t.Helper()
	for _, sub := range subs {
		s.quiet(who, "open_sub_ch -ch_name Lobby -sub_name "+sub)
	}
}

func (s *stage) id(session string) [28]byte { return s.clients[session].ID }

// The sub-channels of Lobby that everybody may open.
var acts, calm = open{1, 0}, open{1, 1}

// TestPresence follows protocol 6: who opens, closes, is thrown out, leaves or
// gets another name, and which of the others hear it.
func TestPresence(t *testing.T) {
	s := presence(t)

	// Opening. Who is not active hears nothing, and who opens something that
	// is not active tells nothing.
	s.do("olga1", "I1", "open_sub_ch -ch_name Lobby -sub_name Acts")
	s.do("hank1", "I1", "open_sub_ch -ch_name Lobby -sub_name Calm")
	s.do("rita1", "I1", "open_sub_ch -ch_name Lobby -sub_name Acts", to("olga1", stat(s.id("rita1"), acts)))
	s.do("rita2", "I1", "open_sub_ch -ch_name Lobby -sub_name Calm")
	s.do("rita2", "I1", "open_sub_ch -ch_name Lobby -sub_name Acts", to("olga1 rita1", stat(s.id("rita2"), calm, acts)))
	s.do("rita2", "I1", "open_sub_ch -ch_name Lobby -sub_name Acts") // again: no news
	// Who is active by another sub-channel hears of this one too.
	s.do("olga1", "I1", "open_sub_ch -ch_name Lobby -sub_name Calm", to("rita1 rita2", stat(s.id("olga1"), acts, calm)))

	// Closing: to what it had, with what is left. hank is not active.
	s.do("rita2", "I1", "close_sub_ch -ch_name Lobby -sub_name Acts", to("olga1 rita1", stat(s.id("rita2"), calm)))
	s.do("rita2", "I1", "close_sub_ch -ch_name Lobby -sub_name Acts")
	s.do("rita2", "I1", "close_sub_ch -ch_name Lobby -sub_name Calm") // not active any more: nothing
	s.do("hank1", "I1", "close_sub_ch -ch_name Lobby -sub_name Calm")

	// Flags: a change tells nothing by itself.
	s.opens("rita2", "Calm")
	s.do("olga1", "I1", "set_active_flag -ch_name Lobby -sub_name Calm -state 1")
	s.do("hank1", "I1", "open_sub_ch -ch_name Lobby -sub_name Calm", to("olga1 rita2", stat(s.id("hank1"), calm)))
	s.do("olga1", "I1", "set_active_flag -ch_name Lobby -sub_name Calm -state 0")
	s.do("hank1", "I1", "close_sub_ch -ch_name Lobby -sub_name Calm")
	s.do("rita2", "I1", "close_sub_ch -ch_name Lobby -sub_name Calm")

	// Thrown out: members and the user hear that, then the peers what is left.
	// rita2 is in Calm, where nobody is active, and in Mems.
	s.opens("rita1", "Mems")
	s.opens("rita2", "Mems", "Calm")
	s.opens("hank1", "Acts")
	s.quiet("olga1", "close_sub_ch -ch_name Lobby -sub_name Calm")
	// Now olga: Acts. rita1: Acts, Mems. rita2: Mems, Calm. hank: Acts.
	removed := bare.At(bare.RmMember, bare.Bytes, uint64(1), s.users["rita"])
	s.do("olga1", "I1", "remove_ch_member -ch_name Lobby -user rita",
		to("olga1 rita1 rita2", removed), to("olga1 hank1", stat(s.id("rita1"))))
	s.join("olga1", "Lobby", 4, "rita1")

	// A level that changes closes what the user has there.
	s.opens("rita1", "Acts")
	s.opens("rita2", "Acts")
	level := bare.At(bare.LevelSet, bare.Bytes, uint64(1), s.users["rita"], byte(3))
	s.do("olga1", "I1", "set_member_level -ch_name Lobby -user rita -level 3", to("rita1 rita2", level),
		mixed("olga1", level, stat(s.id("rita1")), stat(s.id("rita2"))), mixed("hank1", stat(s.id("rita1")), stat(s.id("rita2"))))

	// A sub-channel that closes for everybody: all have left before anybody
	// tells, so only those hear it who share another one.
	s.opens("rita1", "Mems", "Acts")
	s.opens("rita2", "Mems")
	s.opens("olga1", "Mems") // beside Acts
	rm := bare.At(bare.SubLevel, bare.Bytes, uint64(1), byte(2), byte(3))
	s.do("olga1", "I1", "set_sub_ch_level -ch_name Lobby -sub_name Mems -level 3",
		to("olga1 rita1 rita2", rm), to("olga1", stat(s.id("rita1"), open{}, acts)), to("rita1", stat(s.id("olga1"), acts)),
		mixed("hank1", stat(s.id("rita1"), open{}, acts), stat(s.id("olga1"), acts)))
	s.opens("rita1", "Mems") // slot 0 again
	s.opens("rita2", "Mems")
	rm = bare.At(bare.AddRdOnly, bare.Bytes, uint64(1), byte(2), byte(4))
	s.do("olga1", "I1", "add_rdonly_flag -ch_name Lobby -sub_id 2 -level 4",
		to("olga1 rita1 rita2", rm), to("olga1 hank1", stat(s.id("rita1"), open{}, acts)))
	s.opens("rita1", "Mems")
	rm = bare.At(bare.RmRdOnly, bare.Bytes, uint64(1), byte(2), byte(4))
	s.do("olga1", "I1", "rm_rdonly_flag -ch_name Lobby -sub_id 2 -level 4",
		to("olga1 rita1 rita2", rm), to("olga1 hank1", stat(s.id("rita1"), open{}, acts)))
	s.opens("rita1", "Mems")
	rm = bare.At(bare.RmSub, bare.Bytes, uint64(1), byte(2))
	s.do("olga1", "I1", "rm_sub_ch -ch_name Lobby -sub_name Mems",
		to("olga1 rita1 rita2", rm), to("olga1 hank1", stat(s.id("rita1"), open{}, acts)))

	// The override: what closes with it is told.
	s.quiet("olga1", "add_sub_ch -ch_name Lobby -sub_name Mems", "set_active_flag -ch_name Lobby -sub_name Mems -state 1")
	s.quiet("hank1", "ch_owner_override -state 1")
	s.opens("hank1", "Mems")
	s.do("hank1", "I1", "ch_owner_override -state 0", to("olga1 rita1", stat(s.id("hank1"), acts)))

	// The channel goes.
	s.quiet("olga1", "add_ch -ch_name Other", "add_sub_ch -ch_name Other -sub_name Side",
		"set_sub_ch_level -ch_name Other -sub_name Side -level 5", "open_sub_ch -ch_name Other -sub_name Side")
	s.quiet("rita1", "open_sub_ch -ch_name Other -sub_name Side")
	del := bare.At(bare.DelCh, bare.ChID, uint64(1))
	s.do("olga1", "I1", "rm_ch -ch_name Lobby", to("olga1 rita1 rita2 hank1", del)) // Side is not active: nobody is any more
}

// TestPresenceRmCh removes a channel of two that sessions share, and both are
// active.
func TestPresenceRmCh(t *testing.T) {
	s := presence(t)
	s.quiet("hank1", "add_ch -ch_name Other", "add_sub_ch -ch_name Other -sub_name Side",
		"set_sub_ch_level -ch_name Other -sub_name Side -level 5", "set_active_flag -ch_name Other -sub_name Side -state 1",
		"open_sub_ch -ch_name Other -sub_name Side")
	s.opens("rita1", "Acts")
	s.quiet("rita1", "open_sub_ch -ch_name Other -sub_name Side")
	s.opens("sven1", "Calm")
	del := bare.At(bare.DelCh, bare.ChID, uint64(1))
	s.do("olga1", "I1", "rm_ch -ch_name Lobby", to("olga1 rita1 rita2 sven1", del), to("hank1", stat(s.id("rita1"), open{}, open{2, 0})))
}

// TestPresenceNames changes names: each active session of the user tells its
// peers who it is now (protocol 6).
func TestPresenceNames(t *testing.T) {
	s := presence(t)
	s.opens("olga1", "Acts")
	s.opens("rita1", "Acts")
	s.opens("rita2", "Acts")
	s.opens("hank1", "Calm")
	both := func(user, display string) []want {
		mine := func(session string) bare.Frame {
			return myInfo(s.peerInfoAs(session, user, display), "rita@example.org", 1)
		}
		info := func(session string) bare.Frame {
			return bare.At(bare.Limited, bare.PeerInfo, s.peerInfoAs(session, user, display))
		}
		// The two sessions act side by side.
		return []want{
			mixed("rita1", mine("rita1"), info("rita2")), mixed("rita2", mine("rita2"), info("rita1")),
			mixed("olga1", info("rita1"), info("rita2")),
		}
	}
	s.do("rita1", "I1", "set_disp_name -new_name Grüße", both("rita", "Grüße")...)
	s.users["rosa"] = s.users["rita"]
	s.do("rita2", "I1", "set_user_name -new_name rosa", both("rosa", "Grüße")...)
	// Who is not active tells nobody.
	s.do("hank1", "I1", "set_disp_name -new_name Henk", to("hank1", myInfo(s.peerInfo("hank1", "Henk"), "hank@example.org", 1)))
	// Nor is another change of the account anybody's news.
	s.do("olga1", "I1", "set_email -new_email olga@example.net", to("olga1", myInfo(s.peerInfo("olga1", ""), "olga@example.net", 1)))
}

// myInfo is a MY_INFO as it comes when the account has changed (protocol 3).
func myInfo(peer []byte, email string, rank uint32) bare.Frame {
	return bare.At(bare.SysMsg, bare.MyInfo, peer, bare.Pad(email, 64), rank, byte(0))
}

// TestPingPeers asks who is there: the active ones answer and hear who has
// asked; the others do neither (commands 7, ping_peers).
func TestPingPeers(t *testing.T) {
	s := presence(t)
	s.quiet("olga1", "add_rdonly_flag -ch_name Lobby -sub_id 0 -level 4") // rita may not cast in Acts
	s.do("olga1", "E3", "ping_peers")
	s.opens("olga1", "Calm")
	s.do("olga1", "E3", "ping_peers")
	s.opens("hank1", "Acts", "Calm")
	s.opens("rita1", "Acts")
	s.opens("rita2", "Calm")
	s.opens("olga1", "Acts")
	info := func(session string) bare.Frame { return bare.At(bare.Limited, bare.PeerInfo, s.peerInfo(session, "")) }
	// The answers are there before the IDLE, or come later: here they do.
	s.do("olga1", "I1", "ping_peers", mixed("olga1", info("hank1"), info("rita1")), to("hank1 rita1", info("olga1")))
	s.do("hank1", "I1", "ping_peers", mixed("hank1", info("olga1"), info("rita1")), to("olga1 rita1", info("hank1")))
	s.do("rita2", "E3", "ping_peers")
	// It goes where the session may cast.
	s.do("rita1", "I1", "ping_peers")
}

// TestPresenceLeaving ends sessions in every way; peers hear it of those who
// were active, once, and nothing comes behind it.
func TestPresenceLeaving(t *testing.T) {
	s := presence(t)
	take := func(who ...string) {
		t.Helper()
		for _, name := range who {
			s.opens(name, "Acts", "Calm")
		}
	}
	take("olga1", "hank1", "rita1", "rita2")

	// Logout.
	s.do("rita1", "I1", "logout", to("olga1 hank1 rita2", gone(s.id("rita1"))))
	s.frame("olga1", "I1", 2, "cast", []byte("x"), to("hank1 rita2", bare.At(bare.CastID, 2, "x")))
	s.clients["rita1"].Login("rita", hosttest.Password)
	s.do("rita1", "I1", "open_sub_ch -ch_name Lobby -sub_name Calm") // it begins anew

	// Logged in as somebody else, who starts with nothing open. A login that
	// fails leaves all as it is.
	rita1 := s.clients["rita1"]
	take("rita1")
	wrong := rita1.Cmd("auth")
	rita1.Send(bare.Text, "auth", 0, []byte("-user sven"))
	rita1.Until(func(f bare.Frame) bool { return f.Type == bare.PrivText })
	rita1.Send(bare.Text, "auth", 0, []byte("wrong"))
	rita1.Until(func(f bare.Frame) bool { return f.Type == bare.PrivText })
	rita1.Send(bare.Text, "auth", 0, nil)
	rita1.UntilIdle(wrong, 0)
	s.settled("a login that fails", "")
	s.frame("olga1", "I1", 2, "cast", []byte("x"), to("hank1 rita1 rita2", bare.At(bare.CastID, 2, "x")))
	rita1.Login("sven", hosttest.Password)
	s.settled("a login as somebody else", "", to("olga1 hank1 rita2", gone(s.id("rita1"))))
	s.frame("olga1", "I1", 2, "cast", []byte("x"), to("hank1 rita2", bare.At(bare.CastID, 2, "x")))
	rita1.Login("rita", hosttest.Password)
	take("rita1")
	rita1.Login("rita", hosttest.Password) // as herself: that is a logout too
	s.settled("a login as the same user", "", to("olga1 hank1 rita2", gone(s.id("rita1"))))

	// The end of connections, with and without a last word.
	for name, end := range map[string]func(*bare.Client){"closed": (*bare.Client).Close, "reset": (*bare.Client).Reset} {
		take("rita1")
		id := s.id("rita1")
		end(s.leave("rita1"))
		for _, who := range strings.Fields("olga1 hank1 rita2") {
			check(t, "connection "+name, who, []bare.Frame{s.clients[who].Next()}, []want{to(who, gone(id))})
		}
		s.settled("connection "+name, "")
		s.enter("rita1")
	}

	// A session that is not active leaves without a word.
	s.opens("sven1", "Calm")
	s.do("sven1", "I1", "logout")
	s.settled("sven has left", "")
}

// TestPresenceLocked locks an account and removes one: sessions that were
// active are said to be gone before the call has its IDLE, and the channels of
// the account hear that it does not belong to them any more.
func TestPresenceLocked(t *testing.T) {
	s := presence(t)
	s.user("ruth", 5)
	s.user("rolf", 5)
	for _, command := range []string{"open_sub_ch", "cast", "accept_ch", "add_ch"} {
		s.quiet("olga1", fmt.Sprintf("add_ranked_cmd -mod builtin -command %s -rank 5", command))
	}
	s.enter("ruth1", "ruth2", "rolf1")
	s.join("olga1", "Lobby", 4, "ruth1", "rolf1")
	s.quiet("hank1", "add_ch -ch_name Other", "add_sub_ch -ch_name Other -sub_name Side",
		"set_sub_ch_level -ch_name Other -sub_name Side -level 5", "set_active_flag -ch_name Other -sub_name Side -state 1",
		"open_sub_ch -ch_name Other -sub_name Side")
	s.quiet("ruth1", "add_ch -ch_name Ruths")
	s.quiet("hank1", "ch_owner_override -state 1", "invite_to_ch -ch_name Ruths -user rolf", "ch_owner_override -state 0")
	s.opens("olga1", "Acts")
	s.opens("rita1", "Mems")
	s.opens("ruth1", "Mems")
	s.quiet("ruth1", "open_sub_ch -ch_name Other -sub_name Side")
	s.opens("ruth2", "Acts")
	lock := bare.At(bare.SysMsg, bare.Text, "Your account has been locked; you are logged out.\n")
	s.do("olga1", "I1", "lock_acct -user ruth -state 1",
		to("olga1", gone(s.id("ruth2"))), to("rita1 hank1", gone(s.id("ruth1"))), to("ruth1 ruth2", lock))

	// An owner stays until the channel has another one.
	s.do("olga1", "E3", "rm_acct -name ruth -force")

	s.opens("rolf1", "Mems")
	s.quiet("rolf1", "open_sub_ch -ch_name Other -sub_name Side")
	left := func(ch uint64) bare.Frame { return bare.At(bare.RmMember, bare.Bytes, ch, s.users["rolf"]) }
	side := open{2, 0}
	s.do("olga1", "I1", "rm_acct -name rolf -force",
		to("olga1 rita1 rita2", left(1)), to("rita1", stat(s.id("rolf1"), open{}, side)),
		to("hank1", stat(s.id("rolf1"), open{}, side), gone(s.id("rolf1"))),
		to("rolf1", left(1), left(3), bare.At(bare.SysMsg, bare.Text, "Your account has been removed; you are logged out.\n"),
			bare.At(bare.UserGone, bare.Bytes, s.users["rolf"])))
	s.frame("hank1", "I1", 2, "cast", []byte("x"))
}

// TestAllActive makes every sub-channel active by the configuration, for who
// has opened it before too, and not active again (protocol 6).
func TestAllActive(t *testing.T) {
	s := presence(t)
	s.opens("olga1", "Calm")
	s.opens("rita1", "Calm")
	reload := func(all bool) {
		t.Helper()
		s.h.Write(fmt.Sprintf(`{"all_channels_active_update": %v}`, all))
		if a := s.h.Ask("reload"); a.Error != "" {
			t.Fatal(a.Error)
		}
		s.settled("reload", "")
	}
	s.do("hank1", "I1", "open_sub_ch -ch_name Lobby -sub_name Calm")
	s.do("hank1", "I1", "close_sub_ch -ch_name Lobby -sub_name Calm")
	for range 2 {
		reload(true)
		s.do("hank1", "I1", "open_sub_ch -ch_name Lobby -sub_name Calm", to("olga1 rita1", stat(s.id("hank1"), calm)))
		// The flag is stored, but means nothing now.
		if got := s.do("olga1", "I1 text", "set_active_flag -ch_name Lobby -sub_name Acts -state 0"); !strings.Contains(got, "all_channels_active_update") {
			t.Errorf("set_active_flag says %q", got)
		}
		s.do("sven1", "I1", "open_sub_ch -ch_name Lobby -sub_name Acts")
		s.do("rita2", "I1", "open_sub_ch -ch_name Lobby -sub_name Acts", to("sven1", stat(s.id("rita2"), acts)))
		s.quiet("olga1", "set_active_flag -ch_name Lobby -sub_name Acts -state 1")
		s.quiet("rita2", "close_sub_ch -ch_name Lobby -sub_name Acts")
		reload(false)
		// Calm is not active any more, Acts is by its own flag.
		s.do("hank1", "I1", "close_sub_ch -ch_name Lobby -sub_name Calm")
		s.do("rita2", "I1", "open_sub_ch -ch_name Lobby -sub_name Acts", to("sven1", stat(s.id("rita2"), acts)))
		s.quiet("rita2", "close_sub_ch -ch_name Lobby -sub_name Acts")
		s.quiet("sven1", "close_sub_ch -ch_name Lobby -sub_name Acts")
	}
}

// TestActiveFlagRace sets and clears the active-update flag at once: what binds
// in the end is what is stored.
func TestActiveFlagRace(t *testing.T) {
	s := presence(t)
	s.enter("olga2")
	s.opens("hank1", "Calm")
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	setters := []*bare.Client{s.clients["olga1"], s.clients["olga2"]}
	hank := s.clients["hank1"]
	for round := range rounds {
		const each = 6
		for i, c := range setters {
			for branch := range uint16(each) {
				c.Send(bare.Text, "set_active_flag", branch, fmt.Appendf(nil, "-ch_name Lobby -sub_name Calm -state %d", i))
			}
		}
		for _, c := range setters {
			for ended := 0; ended < each; {
				if c.Next().Code() == 1 {
					ended++
				}
			}
		}
		stored := false
		for _, f := range hank.Call("ls_sub_chs", "-ch_name Lobby -sub_channel_name calm") {
			stored = stored || strings.Contains(string(f.Payload), " 1 \n") || strings.Contains(string(f.Payload), " 1\n")
		}
		ping := hank.Call("ping_peers", "")
		if active := ping[len(ping)-1].Code() == 1; active != stored {
			t.Fatalf("round %d: stored %v, bound %v", round, stored, active)
		}
	}
}
