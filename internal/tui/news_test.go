package tui_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/internal/tui"
	"mrci.dev/mrci/wire"
)

// What the host prints for ls_chs and ls_open_chs, a page and a second one.
const (
	channelList = "channel_id    channel_name    pending_invite    access_level\n" +
		"-------       -------         -------           -------\n" +
		"5             nyheter-ü       0                 1\n" +
		"channel_id    channel_name    pending_invite    access_level\n" +
		"-------       -------         -------           -------\n" +
		"6             two  blanks     0                 4\n" +
		"\n2 rows.\n"
	openList = "\nchannel_name    sub_channel_name    channel_id    sub_channel_id    read_only\n" +
		"-------         -------             -------       -------           -------\n" +
		"nyheter-ü       main                5             0                 0\n"
)

func session(name string) wire.SessionID {
	id := wire.SessionID{0xab, 0xcd}
	id[2] = name[0]
	return id
}

func TestNews(t *testing.T) {
	ann, bob, me := wire.UserID{1}, wire.UserID{2}, wire.UserID{3}
	status := func(name string, open ...wire.SubRef) client.Event {
		var list wire.SubList
		copy(list[1:], open) // empty slots may stand anywhere
		return client.Event{ID: wire.AsyncLimitedCast, Type: wire.PeerStat, Value: &wire.PeerStatus{Session: session(name), Open: list}}
	}
	peer := func(typ wire.TypeID, session wire.SessionID, user wire.UserID, name, display string) client.Event {
		return client.Event{ID: wire.AsyncLimitedCast, Type: typ, Value: &wire.Peer{Session: session, User: user, Name: name, Display: display, App: "app 1"}}
	}
	value := func(id wire.AsyncID, v wire.Payload) client.Event {
		return client.Event{ID: id, Type: wire.Bytes, Value: v}
	}
	text := func(id wire.AsyncID, text string) client.Event {
		return client.Event{ID: id, Type: wire.Text, Payload: []byte(text)}
	}
	main, other := wire.SubRef{Channel: 5}, wire.SubRef{Channel: 9, Sub: 7}
	evil := "\x1b]0;x\a\nmore\u202e"
	tests := []struct {
		name  string
		event client.Event
		want  string
	}{
		{"login", client.Event{ID: wire.AsyncSysMsg, Type: wire.MyInfo, Value: &wire.Account{Peer: wire.Peer{User: me, Name: "me"}, Rank: 4}}, "* you are me, rank 4"},
		{"system", text(wire.AsyncSysMsg, "Two\nlines.\n"), "Two\nlines."},
		{"cast", text(wire.AsyncCast, "hello\n"), "[CAST] hello"},
		{"lines of a cast", text(wire.AsyncCast, "a\n* you are root\r\n\n"), "[CAST] a\n[CAST] * you are root\\x0d"},
		{"escapes", text(wire.AsyncCast, evil), "[CAST] \\x1b]0;x\\x07\n[CAST] more\\u202e"},
		{"long", text(wire.AsyncCast, strings.Repeat("ü", 3000)), "[CAST] " + strings.Repeat("ü", 2048) + "\n[CAST] (1904 bytes more)"},
		{"no text", text(wire.AsyncCast, "\x80"), "[CAST] \\x80"},
		{"empty", text(wire.AsyncCast, ""), "[CAST] "},
		{"bytes", client.Event{ID: wire.AsyncCast, Type: wire.Bytes, Payload: make([]byte, 12)}, "[CAST] BYTES, 12 bytes"},
		{"unknown", client.Event{ID: 99, Type: 200, Payload: make([]byte, 3)}, "[99] 200, 3 bytes"},
		{"broken", client.Event{ID: wire.AsyncDelCh, Type: wire.ChID, Payload: make([]byte, 3)}, "[DEL_CH] CH_ID, 3 bytes"},
		{"missed", client.Event{ID: wire.AsyncCast, Type: wire.Text, Payload: []byte("x"), Lost: 3}, "* 3 events were missed here\n[CAST] x"},
		{"missed, nothing to say", client.Event{ID: wire.AsyncRmCmd, Value: &wire.CommandRef{ID: 300}, Lost: 3}, "* 3 events were missed here"},
		{"commands", client.Event{ID: wire.AsyncAddCmd, Value: &wire.CommandInfo{Name: "x"}}, ""},

		{"somebody comes", status("ann", main), "* session abcd6100 is here, in nyheter-ü/main"},
		{"and says who", peer(wire.PingPeers, session("ann"), ann, "ann", "Ann B"), `* session abcd6100 is ann "Ann B"`},
		{"asks again", peer(wire.PingPeers, session("ann"), ann, "ann", "Ann B"), `* ann "Ann B" asks who is here`},
		{"answers", peer(wire.PeerInfo, session("bob"), bob, "bob", "bob"), `* bob is here, with "app 1"`},
		{"is renamed", peer(wire.PeerInfo, session("bob"), bob, "rob", "Rob"), `* bob is now rob "Rob"`},
		{"changes", status("ann", main, other), `* ann "Ann B" is now in nyheter-ü/main, #9/#7`},
		{"closes all", status("ann"), `* ann "Ann B" has nothing open any more`},
		{"leaves", client.Event{ID: wire.AsyncLimitedCast, Type: wire.PeerStat, Value: &wire.PeerStatus{Session: session("ann"), Disconnected: true}}, `* ann "Ann B" has left`},
		{"is forgotten", status("ann", other), "* session abcd6100 is here, in #9/#7"},
		{"evil name", peer(wire.PeerInfo, session("eve"), wire.UserID{9}, evil, `"`), `* "\x1b]0;x\a\nmore\u202e" "\"" is here, with "app 1"`},

		{"asks for a link", client.Event{ID: wire.AsyncP2P, Type: wire.P2PRequest, Value: &wire.Peer{Session: session("ida"), Name: "ida"}}, "* ida asks for a peer link: p2p_open ida accepts, p2p_close ida declines"},
		{"accepts", client.Event{ID: wire.AsyncP2P, Type: wire.P2POpen, Value: &wire.SessionRef{Session: session("ida")}}, "* ida accepts the peer link: to_peer ida TEXT sends to it"},
		{"sends", client.Event{ID: wire.AsyncP2P, Type: wire.Text, Value: &wire.PeerData{Src: session("ida"), Data: []byte("a\nb\n")}}, "[P2P ida] a\n[P2P ida] b"},
		{"sends bytes", client.Event{ID: wire.AsyncP2P, Type: wire.Bytes, Value: &wire.PeerData{Src: session("uma"), Data: []byte("a")}}, "[P2P session abcd7500] BYTES, 1 bytes"},
		{"closes", client.Event{ID: wire.AsyncP2P, Type: wire.P2PClose, Value: &wire.SessionRef{Session: session("ida")}}, "* ida has closed the peer link, or declines it"},

		{"asks again for a link", client.Event{ID: wire.AsyncP2P, Type: wire.P2PRequest, Value: &wire.Peer{Session: session("ida"), Name: "ida"}}, "* ida asks for a peer link: p2p_open ida accepts, p2p_close ida declines"},
		{"leaves with a link", client.Event{ID: wire.AsyncLimitedCast, Type: wire.PeerStat, Value: &wire.PeerStatus{Session: session("ida"), Disconnected: true}}, "* ida has left"},
		{"whose end is told behind", client.Event{ID: wire.AsyncP2P, Type: wire.P2PClose, Value: &wire.SessionRef{Session: session("ida")}}, "* ida has closed the peer link, or declines it"},
		{"then forgotten", client.Event{ID: wire.AsyncP2P, Type: wire.P2PClose, Value: &wire.SessionRef{Session: session("ida")}}, "* session abcd6900 has closed the peer link, or declines it"},

		{"invitation", value(wire.AsyncInvitedToCh, &wire.Member{Channel: 9, User: me, Invite: true, Level: 4, Name: "me", ChannelName: "chess"}), "* you are invited to chess: accept_ch -ch_name chess joins, decline_ch -ch_name chess declines"},
		{"invitation to a strange name", value(wire.AsyncInvitedToCh, &wire.Member{Channel: 12, User: me, Invite: true, Level: 4, Name: "me", ChannelName: "a\x1bb"}), `* you are invited to "a\x1bb": accept_ch joins, decline_ch declines`},
		{"taken back", value(wire.AsyncRmChMember, &wire.MemberRemoved{Channel: 12, User: me}), `* you are no longer invited to channel "a\x1bb"`},
		{"once", value(wire.AsyncRmChMember, &wire.MemberRemoved{Channel: 12, User: me}), `* you are no longer in channel "a\x1bb"`},
		{"of another", value(wire.AsyncInvitedToCh, &wire.Member{Channel: 9, User: bob, Invite: true, Level: 4, Name: "rob", ChannelName: "chess"}), "* rob is invited to chess"},
		{"declined", value(wire.AsyncRmChMember, &wire.MemberRemoved{Channel: 9, User: bob}), "* rob is no longer invited to channel chess"},
		{"invited again", value(wire.AsyncInvitedToCh, &wire.Member{Channel: 9, User: bob, Invite: true, Level: 4, Name: "rob", ChannelName: "chess"}), "* rob is invited to chess"},
		{"accepted", value(wire.AsyncInviteAccepted, &wire.Member{Channel: 9, User: bob, Level: 4, Name: "rob", ChannelName: "chess"}), "* rob is a member of chess now, level regular"},
		{"new channel", value(wire.AsyncNewChMember, &wire.Member{Channel: 10, User: me, Level: 1, Name: "me", ChannelName: "mine"}), "* you are a member of mine now, level owner"},
		{"level", value(wire.AsyncMemLevelChg, &wire.MemberLevel{Channel: 9, User: bob, Level: wire.Admin}), "* rob has level admin in channel chess now"},
		{"own level", value(wire.AsyncMemLevelChg, &wire.MemberLevel{Channel: 5, User: me, Level: wire.Officer}), "* you have level officer in channel nyheter-ü now; what you had open there has been closed, open it again if you still may"},
		{"who had accepted goes", value(wire.AsyncRmChMember, &wire.MemberRemoved{Channel: 9, User: bob}), "* rob is no longer in channel chess"},
		{"member gone", value(wire.AsyncRmChMember, &wire.MemberRemoved{Channel: 9, User: wire.UserID{0xee}}), "* user ee000000 is no longer in channel chess"},
		{"out", value(wire.AsyncRmChMember, &wire.MemberRemoved{Channel: 11, User: me}), "* you are no longer in channel #11"},
		{"renamed", value(wire.AsyncRenameCh, &wire.ChannelRenamed{Channel: 9, Name: "go"}), "* channel chess is called go now"},
		{"new sub-channel", value(wire.AsyncNewSubCh, &wire.SubAdded{Channel: 9, Sub: 7, Level: wire.Public, Name: "open"}), "* channel go has a new sub-channel open, for level public"},
		{"renamed sub-channel", value(wire.AsyncRenameSubCh, &wire.SubRenamed{Channel: 9, Sub: 7, Name: "lobby"}), "* go/open is called lobby now"},
		{"level of a sub-channel", value(wire.AsyncSubChLevelChg, &wire.SubLevel{Channel: 9, Sub: 7, Level: wire.Officer}), "* go/lobby is for level officer now; it has been closed, open it again if you still may"},
		{"read-only", value(wire.AsyncAddRdOnly, &wire.SubLevel{Channel: 9, Sub: 7}), "* go/lobby is read-only for some level now; it has been closed, open it again if you still may"},
		{"read-only no more", value(wire.AsyncRmRdOnly, &wire.SubLevel{Channel: 9, Sub: 1, Level: wire.Regular}), "* go/#1 is no longer read-only for level regular; it has been closed, open it again if you still may"},
		{"sub-channel gone", value(wire.AsyncRmSubCh, &wire.SubRef{Channel: 9, Sub: 7}), "* go/lobby is gone"},
		{"channel gone", value(wire.AsyncDelCh, &wire.ChannelRef{Channel: 9}), "* channel go is gone"},
		{"and forgotten", value(wire.AsyncDelCh, &wire.ChannelRef{Channel: 9}), "* channel #9 is gone"},
		{"a name with blanks", value(wire.AsyncDelCh, &wire.ChannelRef{Channel: 6}), `* channel "two  blanks" is gone`},
	}
	var n tui.News
	n.Learn(channelList)
	n.Learn(openList)
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, n.Lines(tt.event)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// Names of any number of channels, users and peers leave what is needed now.
func TestNewsForgets(t *testing.T) {
	var n tui.News
	for id := range wire.ChannelID(3000) {
		m := &wire.Member{Channel: id + 1, User: wire.UserID{byte(id), byte(id >> 8), 1}, Level: 4, Name: "ann", ChannelName: fmt.Sprint("ch", id)}
		n.Lines(client.Event{ID: wire.AsyncInviteAccepted, Value: m})
		n.Lines(client.Event{ID: wire.AsyncLimitedCast, Value: &wire.PeerStatus{Session: wire.SessionID{byte(id), byte(id >> 8)}, Open: wire.SubList{{Channel: id + 1}}}})
	}
	if got := n.Lines(client.Event{ID: wire.AsyncDelCh, Value: &wire.ChannelRef{Channel: 3000}}); got != "* channel ch2999 is gone" {
		t.Errorf("the latest channel: %q", got)
	}
	known := 0
	for id := range wire.ChannelID(3000) {
		if line := n.Lines(client.Event{ID: wire.AsyncDelCh, Value: &wire.ChannelRef{Channel: id + 1}}); !strings.Contains(line, "#") {
			known++
		}
	}
	if known > 1000 {
		t.Errorf("%d channels are remembered", known)
	}
}

// FuzzNews shows whatever a host may send, after it has printed whatever: each
// line is one, and gives the terminal no order.
func FuzzNews(f *testing.F) {
	f.Add(uint16(4), uint8(2), []byte("text\x1b[2J\n* x"), channelList+openList)
	f.Add(uint16(17), uint8(10), wire.Append(nil, &wire.PeerStatus{Open: wire.SubList{{Channel: 5}}}), openList)
	f.Add(uint16(19), uint8(11), wire.Append(nil, &wire.Peer{Name: "a\n\x1b", Display: "\u202e"}), channelList)
	f.Add(uint16(21), uint8(22), wire.Append(nil, &wire.Member{Channel: 5, Level: 9, Name: "x\x07", ChannelName: "\r"}), "a  b\n------- -------\nx\ty")
	f.Add(uint16(23), uint8(14), wire.Append(nil, &wire.ChannelRenamed{Channel: 5, Name: "\u2028"}), "\n-------\n")
	f.Fuzz(func(t *testing.T, id uint16, typ uint8, payload []byte, listing string) {
		var n tui.News
		n.Learn(listing)
		frame := wire.Frame{Type: wire.TypeID(typ), Cmd: wire.CmdID(id), Payload: payload}
		e := client.Event{ID: wire.AsyncID(id), Type: frame.Type, Payload: payload}
		e.Value, _ = client.Decode(frame) // nil behind an error
		for range 2 {
			lines := n.Lines(e)
			for line := range strings.Lines(lines) {
				if !strings.HasPrefix(line, "* ") && !strings.HasPrefix(line, "[") && e.ID != wire.AsyncSysMsg {
					t.Fatalf("line %q could be anything", line)
				}
			}
			if strings.ContainsFunc(lines, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
				t.Fatalf("orders for the terminal in %q", lines)
			}
			n.Lines(client.Event{ID: wire.AsyncDelCh, Value: &wire.ChannelRef{Channel: 5}})
		}
	})
}

// What a person types for a peer: its user, or what is shown of its session id.
func TestPeer(t *testing.T) {
	var n tui.News
	id := func(first, second byte) wire.SessionID { return wire.SessionID{first, second, 3, 4} }
	known := func(id wire.SessionID, name string) {
		n.Lines(client.Event{ID: wire.AsyncLimitedCast, Type: wire.PingPeers, Value: &wire.Peer{Session: id, Name: name}})
	}
	here := func(id wire.SessionID) {
		n.Lines(client.Event{ID: wire.AsyncLimitedCast, Type: wire.PeerStat, Value: &wire.PeerStatus{Session: id, Open: wire.SubList{{Channel: 1}}}})
	}
	p2p := func(typ wire.TypeID, v wire.Payload) {
		n.Lines(client.Event{ID: wire.AsyncP2P, Type: typ, Value: v})
	}
	here(id(1, 1)) // somebody without a name
	known(id(2, 1), "ann")
	known(id(3, 1), "bob")
	known(id(3, 2), "bob")
	known(id(4, 1), "02010304") // looks like the session of ann
	full := "0505" + strings.Repeat("0", 52)
	want := func(name string, linked bool, want wire.SessionID, failure string) {
		t.Helper()
		got, err := n.Peer(name, linked)
		if got != want || (err != nil) != (failure != "") || err != nil && !strings.Contains(err.Error(), failure) {
			t.Errorf("Peer(%q, %v) = %v, %v; want %v, %q", name, linked, got, err, want, failure)
		}
	}
	none := wire.SessionID{}
	want("ann", false, id(2, 1), "")
	want("ANN", true, id(2, 1), "")
	want("02010304", false, id(2, 1), "")
	want("01010304", false, id(1, 1), "")
	want("0201030", false, none, "nobody here is known as \"0201030\"; ping_peers shows")
	want("", false, none, "nobody")
	want("eve\x1b", false, none, `"eve\x1b"`)
	want(full, false, wire.SessionID{5, 5}, "")
	want(id(2, 1).String(), true, id(2, 1), "")
	want("bob", false, none, "bob has 2 sessions; give the id of one: "+id(3, 1).String()+", "+id(3, 2).String())
	here(id(3, 2))
	want("bob", false, id(3, 2), "")
	want("bob", true, none, "bob has 2 sessions")
	p2p(wire.P2PRequest, &wire.Peer{Session: id(3, 1), Name: "bob"})
	want("bob", true, id(3, 1), "")
	want("bob", false, id(3, 2), "")
	p2p(wire.P2PClose, &wire.SessionRef{Session: id(3, 1)})
	want("bob", true, none, "bob has 2 sessions")
	n.Linked(id(3, 2), true)
	want("bob", true, id(3, 2), "")
	n.Linked(id(3, 2), false)
	p2p(wire.P2POpen, &wire.SessionRef{Session: id(3, 1)})
	want("bob", true, id(3, 1), "")
}

func TestInvites(t *testing.T) {
	var n tui.News
	n.Lines(client.Event{ID: wire.AsyncSysMsg, Type: wire.MyInfo, Value: &wire.Account{Peer: wire.Peer{User: wire.UserID{3}, Name: "me"}}})
	removed := client.Event{ID: wire.AsyncRmChMember, Type: wire.Bytes, Value: &wire.MemberRemoved{Channel: 6, User: wire.UserID{3}}}
	for pending, want := range map[string]string{"1": "* you are no longer invited to channel chess", "0": "* you are no longer in channel chess"} {
		n.Learn("channel_id    channel_name    pending_invite\n-------       -------         -------\n6             chess           " + pending + "\n")
		if got := n.Lines(removed); got != want {
			t.Errorf("pending_invite %s, then removed: %q, want %q", pending, got, want)
		}
	}
	if got := n.Invites(channelList); got != "" {
		t.Errorf("of a list without one: %q", got)
	}
	list := "channel_id    channel_name    pending_invite    access_level\n" +
		"-------       -------         -------           -------\n" +
		"5             news            0                 1\n" +
		"6             chess           1                 4\n" +
		"7             -odd            1                 4\n"
	want := "* you are invited to chess: accept_ch -ch_name chess joins, decline_ch -ch_name chess declines\n" +
		"* you are invited to -odd: accept_ch -ch_name \"-odd\" joins, decline_ch -ch_name \"-odd\" declines"
	if diff := cmp.Diff(want, n.Invites(list)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A person is not advised to run what the host does not offer.
func TestAdvise(t *testing.T) {
	me := wire.UserID{3}
	events := []client.Event{
		{ID: wire.AsyncInvitedToCh, Type: wire.ChMemberInfo, Value: &wire.Member{User: me, Name: "me", Channel: 6, ChannelName: "chess"}},
		{ID: wire.AsyncP2P, Type: wire.P2PRequest, Value: &wire.Peer{Session: wire.SessionID{1}, Name: "ida"}},
	}
	const list = "channel_name    pending_invite\n-------         -------\nchess           1\n"
	for _, tt := range []struct {
		offered []string
		want    []string
	}{
		{[]string{"accept_ch", "p2p_open"}, []string{
			"* you are invited to chess: accept_ch -ch_name chess joins, decline_ch -ch_name chess declines",
			"* ida asks for a peer link: p2p_open ida accepts, p2p_close ida declines",
		}},
		{nil, []string{
			"* you are invited to chess, but may not run accept_ch; an administrator can allow it (add_ranked_cmd)",
			"* ida asks for a peer link, but you may not run p2p_open; an administrator can allow it (add_ranked_cmd)",
		}},
	} {
		var n tui.News
		n.Lines(client.Event{ID: wire.AsyncSysMsg, Type: wire.MyInfo, Value: &wire.Account{Peer: wire.Peer{User: me, Name: "me"}}})
		n.Advise(func(command string) bool { return slices.Contains(tt.offered, command) })
		for i, e := range events {
			if got := n.Lines(e); got != tt.want[i] {
				t.Errorf("%v offered: %q, want %q", tt.offered, got, tt.want[i])
			}
		}
		if got := n.Invites(list); got != tt.want[0] {
			t.Errorf("%v offered: %q, want %q", tt.offered, got, tt.want[0])
		}
	}
}

func TestOpened(t *testing.T) {
	const header = "\nchannel_name    sub_channel_name    channel_id    sub_channel_id    read_only\n" +
		"-------         -------             -------       -------           -------\n"
	tests := []struct {
		name, text string
		writable   int
		listening  string
		known      bool
	}{
		{"nothing open", header, 0, "", true},
		{"some of each", header + "news            main                5             0                 0\n" +
			"news            talk                5             1                 1\n", 1, "* you may listen in news/talk, but not cast", true},
		{"refused", "", 0, "", false},
	}
	for _, tt := range tests {
		writable, listening, known := tui.Opened(tt.text)
		if writable != tt.writable || listening != tt.listening || known != tt.known {
			t.Errorf("%s: %d, %q, %v", tt.name, writable, listening, known)
		}
	}
}
