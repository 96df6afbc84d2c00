package host_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/internal/host/hosttest/bare"
)

// link makes a link between two sessions.
func (s *stage) link(from, peer string) {
	s.t.Helper()
	s.p2p(from, "I1", "p2p_request", s.id(peer), to(peer, s.asks(from)))
	s.p2p(peer, "I1", "p2p_open", s.id(from), to(from, s.opened(peer)))
}

// p2p runs a command that takes a session id.
func (s *stage) p2p(who, answer, command string, id [28]byte, wants ...want) {
	s.t.Helper()
	s.frame(who, answer, bare.SessionID, command, id[:], wants...)
}

// What peers of a session get (protocol 7).
func (s *stage) asks(session string) bare.Frame {
	return bare.At(bare.P2P, bare.P2PRequest, s.peerInfo(session, ""))
}
func (s *stage) opened(session string) bare.Frame {
	return bare.At(bare.P2P, bare.P2POpen, s.id(session))
}
func (s *stage) closes(session string) bare.Frame {
	return bare.At(bare.P2P, bare.P2PClose, s.id(session))
}

// links looks at what ls_p2p says: the peers, each with its column pending.
func (s *stage) links(who string, want ...string) {
	s.t.Helper()
	var got []string
	text := s.do(who, "I1 text", "ls_p2p")
	for i, row := range strings.Split(text, "\n") {
		if fields := strings.Fields(row); i > 2 && len(fields) == 2 {
			got = append(got, fields[0]+" "+fields[1])
		}
	}
	for i, name := range want {
		session, pending, _ := strings.Cut(name, " ")
		want[i] = fmt.Sprintf("%x %s", s.id(session), pending)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) || !strings.HasPrefix(text, "\npeer_id ") {
		s.t.Errorf("%s: ls_p2p says\n%s\nwant %q", who, text, want)
	}
}

// TestLinks goes through the table of commands 8: what each call does in each
// state, and what the peer gets, under id 19.
func TestLinks(t *testing.T) {
	s := newStage(t)
	s.enter("olga1", "olga2", "hank1", "sven1", "nobody")

	// Nothing there.
	s.links("olga1")
	for _, command := range []string{"p2p_open", "p2p_close"} {
		s.p2p("olga1", "E3", command, s.id("hank1"))
		s.p2p("olga1", "E3", command, s.id("olga1"))
	}
	s.p2p("olga1", "E3", "p2p_request", s.id("olga1"))  // her own id
	s.p2p("olga1", "E6", "p2p_request", [28]byte{1})    // nobody's id
	s.p2p("olga1", "E6", "p2p_request", s.id("nobody")) // a session without a login
	for _, size := range []int{0, 27, 29} {
		for _, command := range []string{"p2p_request", "p2p_open", "p2p_close"} {
			s.frame("olga1", "E3", bare.SessionID, command, make([]byte, size))
		}
		s.frame("olga1", map[bool]string{true: "E3", false: "E3"}[size < 28], bare.Bytes, "to_peer", make([]byte, size))
	}
	s.frame("olga1", "E3", bare.Bytes, "to_peer", bare.Cat(s.id("hank1"), "x"))

	// Asked.
	s.p2p("olga1", "I1", "p2p_request", s.id("hank1"), to("hank1", s.asks("olga1")))
	s.p2p("olga1", "E3", "p2p_request", s.id("hank1"))
	s.p2p("olga1", "E3", "p2p_open", s.id("hank1")) // her own request does not count
	s.links("olga1", "hank1 1")
	s.links("hank1", "olga1 1")
	s.links("olga2") // links are of a session, not of a user
	s.frame("olga1", "E3", bare.Bytes, "to_peer", bare.Cat(s.id("hank1"), "x"))
	s.frame("hank1", "E3", bare.Bytes, "to_peer", bare.Cat(s.id("olga1"), "x"))

	// Declined, withdrawn.
	s.p2p("hank1", "I1", "p2p_close", s.id("olga1"), to("olga1", s.closes("hank1")))
	s.p2p("hank1", "E3", "p2p_close", s.id("olga1"))
	s.p2p("hank1", "E3", "p2p_open", s.id("olga1"))
	s.p2p("olga1", "I1", "p2p_request", s.id("hank1"), to("hank1", s.asks("olga1")))
	s.p2p("olga1", "I1", "p2p_close", s.id("hank1"), to("hank1", s.closes("olga1")))
	s.links("hank1")

	// Accepted, by p2p_open and by a request of the other side.
	s.p2p("olga1", "I1", "p2p_request", s.id("hank1"), to("hank1", s.asks("olga1")))
	s.p2p("hank1", "I1", "p2p_open", s.id("olga1"), to("olga1", s.opened("hank1")))
	s.p2p("sven1", "I1", "p2p_request", s.id("hank1"), to("hank1", s.asks("sven1")))
	s.p2p("hank1", "I1", "p2p_request", s.id("sven1"), to("sven1", s.opened("hank1")))
	for _, pair := range [][2]string{{"olga1", "hank1"}, {"hank1", "olga1"}, {"sven1", "hank1"}} {
		s.p2p(pair[0], "E3", "p2p_request", s.id(pair[1]))
		s.p2p(pair[0], "E3", "p2p_open", s.id(pair[1]))
	}
	s.links("hank1", "olga1 0", "sven1 0")
	s.links("olga1", "hank1 0")

	// Data, with the source in front that the host knows.
	for _, data := range []string{"", "x", "\x00\xff data"} {
		s.frame("olga1", "I1", bare.Text, "to_peer", bare.Cat(s.id("hank1"), data), to("hank1", bare.At(bare.P2P, bare.Text, s.id("olga1"), data)))
		s.frame("hank1", "I1", bare.Bytes, "to_peer", bare.Cat(s.id("olga1"), data), to("olga1", bare.At(bare.P2P, bare.Bytes, s.id("hank1"), data)))
	}
	// Somebody else's id in the data stays data.
	forged := bare.Cat(s.id("sven1"), "x")
	s.frame("olga1", "I1", bare.Text, "to_peer", bare.Cat(s.id("hank1"), forged), to("hank1", bare.At(bare.P2P, bare.Text, s.id("olga1"), forged)))
	s.frame("olga2", "E3", bare.Text, "to_peer", bare.Cat(s.id("hank1"), "x"))
	s.frame("olga1", "E3", bare.Text, "to_peer", bare.Cat(s.id("sven1"), "x"))
	for _, typ := range []byte{bare.P2PRequest, bare.P2POpen, bare.P2PClose, bare.PeerInfo, bare.Idle, bare.MyInfo, 31, 255} {
		s.frame("olga1", "E3", typ, "to_peer", bare.Cat(s.id("hank1"), "x"))
	}

	// The end.
	s.p2p("olga1", "I1", "p2p_close", s.id("hank1"), to("hank1", s.closes("olga1")))
	s.frame("olga1", "E3", bare.Text, "to_peer", bare.Cat(s.id("hank1"), "x"))
	s.frame("hank1", "E3", bare.Text, "to_peer", bare.Cat(s.id("olga1"), "x"))
	s.link("hank1", "olga1")
	s.do("hank1", "I1", "logout", to("olga1 sven1", s.closes("hank1")))
	s.links("olga1")
	s.links("sven1")
	s.p2p("olga1", "E6", "p2p_request", s.id("hank1")) // not logged in any more
	s.clients["hank1"].Login("hank", hosttest.Password)
	s.links("hank1")
	// A login as somebody else ends what the session had as well.
	s.link("hank1", "olga1")
	s.p2p("sven1", "I1", "p2p_request", s.id("hank1"), to("hank1", s.asks("sven1")))
	s.clients["hank1"].Login("sven", hosttest.Password)
	s.settled("a login as somebody else", "", to("olga1 sven1", s.closes("hank1")))
	s.clients["hank1"].Login("hank", hosttest.Password)
	// The end of the connection.
	s.link("hank1", "olga1")
	s.p2p("hank1", "I1", "p2p_request", s.id("sven1"), to("sven1", s.asks("hank1")))
	closed := s.closes("hank1")
	s.leave("hank1").Reset()
	for _, who := range []string{"olga1", "sven1"} {
		check(t, "reset", who, []bare.Frame{s.clients[who].Next()}, []want{to(who, closed)})
	}
	s.settled("reset", "")
	s.links("olga1")
	s.links("sven1")
}

// TestLinkLimits fills each of the lists (protocol 8), and counts requests by
// the minute.
func TestLinkLimits(t *testing.T) {
	const most = bus.MaxLinks
	s := newStage(t, hosttest.Set("p2p_requests_per_min=300"))
	s.enter("olga1")
	peers := make([]string, 0, most+1)
	for i := range most + 1 {
		peers = append(peers, fmt.Sprintf("hank%d", i+1))
	}
	s.enter(peers...)
	olga := s.id("olga1")
	cheap := func(who, command string, id [28]byte, want int) {
		t.Helper()
		c := s.clients[who]
		c.Send(bare.SessionID, command, 3, id[:])
		all := c.UntilIdle(c.Cmd(command), 3)
		if got := all[len(all)-1].Code(); got != want {
			t.Fatalf("%s: %s: code %d, want %d", who, command, got, want)
		}
	}
	for i, peer := range peers { // asked
		cheap("olga1", "p2p_request", s.id(peer), map[bool]int{true: 1, false: 6}[i < most])
	}
	// The lists are apart: she can be asked, and pending does not count as
	// asked.
	cheap(peers[most], "p2p_request", olga, 1)
	check(t, "the last one asks", "olga1", []bare.Frame{s.clients["olga1"].Next()}, []want{to("olga1", s.asks(peers[most]))})
	cheap("olga1", "p2p_close", s.id(peers[most]), 1)
	for _, peer := range peers[:most] {
		cheap(peer, "p2p_open", olga, 1)
	}
	s.clients["olga1"].Fence()
	if got := s.clients["olga1"].SoFar(); len(got) != most {
		t.Errorf("%d answers, want %d", len(got), most)
	}
	// A hundred links: no more of them, though nothing is asked.
	cheap("olga1", "p2p_request", s.id(peers[most]), 1)
	cheap(peers[most], "p2p_open", olga, 6)
	cheap("olga1", "p2p_close", s.id(peers[most]), 1)
	cheap(peers[most], "p2p_request", olga, 1)
	cheap("olga1", "p2p_open", s.id(peers[most]), 6)
	cheap("olga1", "p2p_close", s.id(peers[0]), 1)
	cheap("olga1", "p2p_open", s.id(peers[most]), 1)
	linked := 0
	for _, f := range s.clients["olga1"].Call("ls_p2p", "") {
		linked += strings.Count(string(f.Payload), " 0\n")
	}
	if linked != most {
		t.Errorf("ls_p2p has %d links, want %d", linked, most)
	}
	for _, peer := range peers[1:] {
		cheap("olga1", "p2p_close", s.id(peer), 1)
	}
	// A hundred ask her: there is no room for another one.
	for i, peer := range peers {
		cheap(peer, "p2p_request", olga, map[bool]int{true: 1, false: 6}[i < most])
	}
	// 300 requests in a minute; who asks for what is open already learns that.
	for range 300 {
		s.clients["olga1"].Send(bare.SessionID, "p2p_request", 4, make([]byte, 28))
	}
	for range 300 {
		s.clients["olga1"].UntilIdle(s.clients["olga1"].Cmd("p2p_request"), 4)
	}
	cheap("olga1", "p2p_request", s.id(peers[most]), 6)
	cheap("olga1", "p2p_request", s.id(peers[0]), 1) // it accepts, which is no request
	cheap("olga1", "p2p_request", s.id(peers[0]), 3)
}

// TestRelayLarge sends the largest frame that there is, and many that together
// are more than a link takes at once: they wait, and arrive whole and in order.
func TestRelayLarge(t *testing.T) {
	s := newStage(t)
	s.enter("olga1", "hank1")
	s.link("olga1", "hank1")
	olga, hank := s.clients["olga1"], s.clients["hank1"]
	most := make([]byte, 1<<24-1-28)
	for i := range most {
		most[i] = byte(i * 7 >> 3)
	}
	payload := bare.Cat(hank.ID, most)
	want := bare.At(bare.P2P, bare.Bytes, olga.ID, most)
	const large, small = 3, 2000
	done := make(chan error, 1)
	go func() { // ends with the last call
		done <- func() error {
			for range large {
				if err := olga.TryWrite(bare.Frame{Type: bare.Bytes, Cmd: olga.Cmd("to_peer"), Branch: 1, Payload: payload}.Raw()); err != nil {
					return err
				}
			}
			for i := range small {
				f := bare.Frame{Type: bare.Bytes, Cmd: olga.Cmd("to_peer"), Branch: 1, Payload: bare.Cat(hank.ID, uint32(i), make([]byte, 1000))}
				if err := olga.TryWrite(f.Raw()); err != nil {
					return err
				}
			}
			return nil
		}()
	}()
	for i := range large {
		if got := hank.Next(); string(got.Raw()) != string(want.Raw()) {
			t.Fatalf("large frame %d arrives as %.100v", i, got)
		}
	}
	for i := range small {
		if got, want := hank.Next(), bare.At(bare.P2P, bare.Bytes, olga.ID, uint32(i), make([]byte, 1000)); got.String() != want.String() {
			t.Fatalf("frame %d arrives as %v", i, got)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for i := range large + small {
		if got := olga.Next(); got.Code() != 1 || got.Branch != 1 {
			t.Fatalf("call %d ends with %v", i, got)
		}
	}
	s.settled("all has arrived", "")
}

// fillLink has a session send to a peer that does not read until a call fails,
// and returns how many came before it. The peer's socket takes nothing more
// then: it had five seconds.
func (s *stage) fillLink(from, peer string) (sent int) {
	s.t.Helper()
	c := s.clients[from]
	id, data := c.Cmd("to_peer"), make([]byte, 64<<10)
	for ; sent < 10_000; sent++ {
		c.Write(bare.Frame{Type: bare.Bytes, Cmd: id, Branch: 1, Payload: bare.Cat(s.id(peer), data)}.Raw())
		switch got := c.Next(); {
		case got.Type == bare.Err:
			if got := c.Next(); got.Code() != 6 {
				s.t.Fatalf("the call behind %d ends with %v, want IDLE 6", sent, got)
			}
			return sent
		case got.Code() != 1:
			s.t.Fatalf("call %d ends with %v", sent, got)
		}
	}
	s.t.Fatal("the link takes everything")
	return 0
}

// waits has a session send to a peer whose link is full.
func (s *stage) waits(from, peer string, branch uint16) {
	s.t.Helper()
	c := s.clients[from]
	c.Write(bare.Frame{Type: bare.Bytes, Cmd: c.Cmd("to_peer"), Branch: branch, Payload: bare.Cat(s.id(peer), make([]byte, 64<<10))}.Raw())
	// Behind it, a call that is answered at once.
	c.Fence()
	if got := c.SoFar(); len(got) > 0 {
		s.t.Fatalf("branch %d does not wait: %v", branch, got)
	}
}

// TestRelayFull fills the link to a peer that does not read: a call waits,
// other branches and peers go on, TERM_CMD and KILL_CMD end it, and after five
// seconds it fails (commands 8, to_peer).
func TestRelayFull(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: waits three times for five seconds")
	}
	s := newStage(t)
	s.enter("olga1", "hank1", "sven1")
	s.link("olga1", "hank1")
	s.link("olga1", "sven1")
	hank := s.leave("hank1") // nobody reads there from here on
	olga := s.clients["olga1"]
	toPeer := olga.Cmd("to_peer")
	s.clients["hank1"] = hank // its id is needed
	sent := s.fillLink("olga1", "hank1")
	t.Logf("%d frames of 64 KiB are on their way", sent)
	if got := count(t, s.h, "dropped", "peer_frames"); got != 1 {
		t.Errorf("dropped peer_frames is %d, want 1", got)
	}

	// Three more wait, on branches of their own; one is stopped, one is killed.
	for i, stop := range []byte{bare.TermCmd, bare.KillCmd} {
		branch := uint16(20_000 + i)
		s.waits("olga1", "hank1", branch)
		olga.Write(bare.Frame{Type: stop, Cmd: toPeer, Branch: branch}.Raw())
		if got := olga.Next(); got.Code() != 2 || got.Cmd != toPeer || got.Branch != branch {
			t.Errorf("stopped by %d, the call ends with %v, want IDLE 2", stop, got)
		}
	}
	const waiting = 100
	began := time.Now()
	s.waits("olga1", "hank1", waiting)
	// Others are served meanwhile.
	delete(s.clients, "hank1")
	s.frame("olga1", "I1", bare.Text, "to_peer", bare.Cat(s.id("sven1"), "x"), to("sven1", bare.At(bare.P2P, bare.Text, olga.ID, "x")))

	// A frame on the branch that waits is the next call there: it waits too, and
	// the first one fails first.
	olga.Write(bare.Frame{Type: bare.Bytes, Cmd: toPeer, Branch: waiting, Payload: bare.Cat(hank.ID, make([]byte, 64<<10))}.Raw())
	if got := olga.Next(); got.Type != bare.Err || got.Cmd != toPeer || got.Branch != waiting {
		t.Fatalf("got %v, want ERR", got)
	}
	if got := olga.Next(); got.Code() != 6 || got.Branch != waiting {
		t.Fatalf("got %v, want IDLE 6", got)
	}
	if waited := time.Since(began); waited < 5*time.Second {
		t.Errorf("it has failed after %v, want 5 s", waited)
	}
	// The peer reads again: what waits goes on.
	count := 0
	for range sent {
		if got := hank.Next(); len(got.Payload) == 28+64<<10 {
			count++
		}
	}
	if got := olga.Next(); got.Code() != 1 || got.Branch != waiting {
		t.Errorf("the call that waits ends with %v, want IDLE 1", got)
	}
	if got := hank.Next(); len(got.Payload) != 28+64<<10 {
		t.Errorf("the frame that has waited arrives as %v", got)
	}
	if count != sent {
		t.Errorf("%d frames have arrived, want %d", count, sent)
	}
	s.clients["hank1"] = hank
	s.names = append(s.names, "hank1")
	s.settled("all has arrived", "") // and none of those that failed or were stopped

	// What waits when the link ends does not arrive.
	s.names = slices.DeleteFunc(s.names, func(n string) bool { return n == "hank1" })
	sent = s.fillLink("olga1", "hank1")
	s.waits("olga1", "hank1", waiting)
	id := olga.Cmd("p2p_close")
	olga.Write(bare.Frame{Type: bare.SessionID, Cmd: id, Branch: 1, Payload: hank.ID[:]}.Raw())
	if got := olga.UntilIdle(id, 1); len(got) != 1 || got[0].Code() != 1 {
		t.Errorf("p2p_close: %v", got)
	}
	for range sent {
		hank.Next()
	}
	if got := olga.UntilIdle(toPeer, waiting); len(got) != 2 || got[1].Code() != 3 {
		t.Errorf("the call that waits ends with %v, want E3", got)
	}
	if got, want := hank.Next(), s.closes("olga1"); got.String() != want.String() {
		t.Errorf("behind the data comes %v, want %v", got, want)
	}
	s.names = append(s.names, "hank1")
	s.settled("the link has ended", "")
}

// TestRelayToTheHeldUp: who does not read what peers send gets its own commands
// done all the same, and can end the links.
func TestRelayToTheHeldUp(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: waits for five seconds")
	}
	s := newStage(t)
	s.enter("olga1", "sven1", "hank1")
	s.link("olga1", "hank1")
	s.link("sven1", "hank1")
	hank := s.leave("hank1") // nobody reads there from here on
	s.clients["hank1"] = hank
	closed := s.closes("hank1")
	s.fillLink("olga1", "hank1")
	sven := s.clients["sven1"]
	for range bus.LinkBytes / (64<<10 + 100) {
		sven.Send(bare.Bytes, "to_peer", 1, bare.Cat(hank.ID, make([]byte, 64<<10)))
		if got := sven.Next(); got.Code() != 1 {
			t.Fatalf("to_peer ends with %v", got)
		}
	}
	for _, who := range []string{"olga1", "sven1"} {
		id := s.id(who)
		hank.Send(bare.SessionID, "p2p_close", 1, id[:])
	}
	for _, who := range []string{"olga1", "sven1"} {
		if got := s.clients[who].Next(); got.String() != closed.String() {
			t.Errorf("%s gets %v, want %v", who, got, closed)
		}
	}
	for _, who := range []string{"olga1", "sven1"} {
		s.p2p(who, "E3", "p2p_close", hank.ID)
	}
}

// TestRelayToSmallQueue: on a host whose send queues are smaller than the largest
// frame, no frame of a peer ends a session: what can never be taken is refused.
func TestRelayToSmallQueue(t *testing.T) {
	const bound = 1 << 20
	s := newStage(t, hosttest.Set(fmt.Sprintf("send_queue_bytes=%d", bound), "pace_bytes=65536"))
	s.enter("olga1", "hank1")
	s.link("olga1", "hank1")
	for _, size := range []int{bound / 2, bound + 1, 1<<24 - 1 - 28} {
		data := make([]byte, size)
		if size > bound/2 {
			s.frame("olga1", "E3", bare.Bytes, "to_peer", bare.Cat(s.id("hank1"), data))
			continue
		}
		data = data[:size-100]
		s.frame("olga1", "I1", bare.Bytes, "to_peer", bare.Cat(s.id("hank1"), data), to("hank1", bare.At(bare.P2P, bare.Bytes, s.id("olga1"), data)))
	}
}

// TestPeerRefusalsAreCounted: what sessions may not send each other is counted,
// by the setting that is behind it where there is one.
func TestPeerRefusalsAreCounted(t *testing.T) {
	s := newStage(t, hosttest.Set("p2p_requests_per_min=1", "cast_bytes=10"))
	s.enter("olga1", "hank1", "sven1")
	s.p2p("olga1", "I1", "p2p_request", s.id("hank1"), to("hank1", s.asks("olga1")))
	s.p2p("hank1", "I1", "p2p_open", s.id("olga1"), to("olga1", s.opened("hank1")))
	for range 2 {
		s.p2p("olga1", "E6", "p2p_request", s.id("sven1"))
	}
	for range 3 {
		s.frame("olga1", "E3", bare.Bytes, "cast", make([]byte, 11))
	}
	s.frame("olga1", "I1", bare.Bytes, "cast", make([]byte, 10))
	for range 2 {
		s.frame("olga1", "E3", bare.Idle, "cast", nil)
		s.frame("olga1", "E3", bare.PeerInfo, "to_peer", bare.Cat(s.id("hank1"), "x"))
	}
	for reason, want := range map[string]uint64{"p2p_requests_per_min": 2, "cast_bytes": 3, "host_only_types": 4} {
		if got := count(t, s.h, "refused_calls", reason); got != want {
			t.Errorf("refused_calls %s is %d, want %d", reason, got, want)
		}
	}
}

// TestRelayEnds makes sure that nothing comes from a peer behind the end of the
// call that has ended the link, and that what the sender was told has gone has
// come.
func TestRelayEnds(t *testing.T) {
	s := newStage(t, hosttest.Set("p2p_requests_per_min=1000"))
	s.enter("olga1", "hank1")
	const rounds, frames = 60, 200
	for round := range rounds {
		s.link("olga1", "hank1")
		who := []string{"olga1", "hank1"}
		if round%2 == 1 {
			slices.Reverse(who)
		}
		sender, closer := s.clients[who[0]], s.clients[who[1]]
		var b []byte
		for i := range frames {
			b = append(b, bare.Frame{Type: bare.Bytes, Cmd: sender.Cmd("to_peer"), Branch: uint16(i), Payload: bare.Cat(closer.ID, uint32(i))}.Raw()...)
		}
		done := make(chan error, 1)
		go func() { done <- sender.TryWrite(b) }() // ends with the write
		var came []bare.Frame
		for range round % 5 {
			came = append(came, closer.Next())
		}
		closer.Write(bare.Frame{Type: bare.SessionID, Cmd: closer.Cmd("p2p_close"), Branch: 1, Payload: sender.ID[:]}.Raw())
		came = append(came, closer.UntilIdle(closer.Cmd("p2p_close"), 1)...)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		codes := make(map[int]int)
		for codes[1]+codes[3] < frames {
			switch f := sender.Next(); f.Type {
			case bare.Idle:
				codes[f.Code()]++
			case bare.Err, bare.P2PClose:
			default:
				t.Fatalf("round %d: %v", round, f)
			}
		}
		closer.Fence()
		if late := closer.SoFar(); len(late) > 0 {
			t.Fatalf("round %d: behind the end of the link come %v", round, late)
		}
		for i, f := range came[:len(came)-1] {
			if want := bare.At(bare.P2P, bare.Bytes, sender.ID, uint32(i)); f.String() != want.String() {
				t.Fatalf("round %d: %v, want %v", round, f, want)
			}
		}
		if got := len(came) - 1; got != codes[1] {
			t.Errorf("round %d: %d frames have come, but %d calls have ended with 1", round, got, codes[1])
		}
		sender.Fence()
		sender.SoFar()
	}
}
