package bustest

import (
	"errors"
	"sync"
	"testing"

	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/wire"
)

func refused(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// ask asks a peer who has not asked.
func (a *actor) ask(t *testing.T, peer int) {
	t.Helper()
	if accepted, err := a.AskLink(session(peer), []byte("ask"), []byte("accept")); accepted || err != nil {
		t.Fatalf("ask %d: %v, %v", peer, accepted, err)
	}
}

func link(t *testing.T, a, b *actor, na, nb int) {
	t.Helper()
	a.ask(t, nb)
	if err := b.AcceptLink(session(na), []byte("accept")); err != nil {
		t.Fatal(err)
	}
}

func testLinks(t *testing.T, b bus.Bus) {
	one, two := act(t, b, 1), act(t, b, 2)
	ask := func(a *actor, n int) error {
		_, err := a.AskLink(session(n), []byte("ask"), []byte("accept"))
		return err
	}
	refused(t, "ask oneself", ask(one, 1), bus.ErrSelf)
	refused(t, "ask nobody", ask(one, 9), bus.ErrNoPeer)
	refused(t, "relay before", one.Relay(session(2), []byte("no")), bus.ErrNotLinked)
	refused(t, "close nothing", one.CloseLink(session(2), []byte("no")), bus.ErrNotLinked)
	one.ask(t, 2)
	refused(t, "ask twice", ask(one, 2), bus.ErrAsked)
	refused(t, "accept one's own request", one.AcceptLink(session(2), []byte("no")), bus.ErrNotAsked)
	refused(t, "relay before it is accepted", one.Relay(session(2), []byte("no")), bus.ErrNotLinked)
	same(t, "asked", one.Peers(), []bus.Link{{Peer: session(2), State: bus.LinkAsked}})
	same(t, "pending", two.Peers(), []bus.Link{{Peer: session(1), State: bus.LinkPending}})
	if err := two.AcceptLink(session(1), []byte("accept")); err != nil {
		t.Error(err)
	}
	refused(t, "accept twice", two.AcceptLink(session(1), nil), bus.ErrLinked)
	refused(t, "ask a linked peer", ask(two, 1), bus.ErrLinked)
	for _, a := range []*actor{one, two} {
		if peers := a.Peers(); len(peers) != 1 || peers[0].State != bus.LinkAccepted {
			t.Errorf("peers %v", peers)
		}
	}
	one.got(t, "accept")
	two.got(t, "ask")
	if err := one.CloseLink(session(2), []byte("close")); err != nil {
		t.Error(err)
	}
	refused(t, "relay afterwards", two.Relay(session(1), []byte("no")), bus.ErrNotLinked)
	two.got(t, "ask close")
	one.ask(t, 2)
	if accepted, err := two.AskLink(session(1), []byte("no"), []byte("crossed")); !accepted || err != nil {
		t.Errorf("requests that cross: %v, %v", accepted, err)
	}
	one.got(t, "accept crossed")
	two.got(t, "ask close ask")
}

func testLinkBounds(t *testing.T, b bus.Bus) {
	many := make([]*actor, bus.MaxLinks+2)
	for n := range many {
		many[n] = act(t, b, 100+n)
	}
	one := act(t, b, 1)
	// Those that ask one.
	for n := range bus.MaxLinks {
		many[n].ask(t, 1)
	}
	_, err := many[bus.MaxLinks].AskLink(session(1), []byte("no"), nil)
	refused(t, "a request too many for the peer", err, bus.ErrPeerLinks)
	for n := range bus.MaxLinks {
		if err := one.AcceptLink(session(100+n), []byte("ok")); err != nil {
			t.Fatal(err)
		}
	}
	many[bus.MaxLinks].ask(t, 1) // there is room again
	refused(t, "a link too many", one.AcceptLink(session(100+bus.MaxLinks), nil), bus.ErrLinks)
	same(t, "closed", one.CloseLinks([]byte("end")), bus.MaxLinks+1)
	many[0].got(t, "ok end")
	many[bus.MaxLinks].got(t, "end")
	for n := range bus.MaxLinks {
		one.ask(t, 100+n)
	}
	_, err = one.AskLink(session(100+bus.MaxLinks), []byte("no"), nil)
	refused(t, "a request too many", err, bus.ErrLinks)
	if err := one.CloseLink(session(100), []byte("withdrawn")); err != nil {
		t.Error(err)
	}
	one.ask(t, 100+bus.MaxLinks)
}

func testLinkEnd(t *testing.T, b bus.Bus) {
	one, two, three := act(t, b, 1), act(t, b, 2), act(t, b, 3)
	link(t, one, two, 1, 2)
	three.ask(t, 1)
	one.Leave()
	refused(t, "relay to who has left", two.Relay(session(1), []byte("no")), bus.ErrNotLinked)
	_, err := two.AskLink(session(1), []byte("no"), nil)
	refused(t, "ask who has left", err, bus.ErrNoPeer)
	if _, err := one.AskLink(session(2), []byte("no"), nil); err == nil {
		t.Error("who has left has asked somebody")
	}
	same(t, "lists", len(one.Peers())+len(two.Peers())+len(three.Peers()), 0)
	one.got(t, "accept ask")
	two.got(t, "ask")
}

// Who takes no part in channels neither asks nor is asked.
func testLinksOfNobody(t *testing.T, b bus.Bus) {
	one, two := act(t, b, 1), act(t, b, 2)
	ask := func(a *actor, n int) error {
		_, err := a.AskLink(session(n), []byte("no"), nil)
		return err
	}
	one.Enter(wire.UserID{})
	refused(t, "ask as nobody", ask(one, 2), bus.ErrNobody)
	refused(t, "ask nobody", ask(two, 1), bus.ErrNoPeer)
	one.Enter(user(3))
	one.ask(t, 2)
	one.got(t, "")
	two.got(t, "ask")
}

// Once a session has given up taking part, and then its links, it has none, and
// nobody's request follows.
func testAskAgainstLogout(t *testing.T, b bus.Bus) {
	one := act(t, b, 1)
	others := make([]*actor, 4)
	for n := range others {
		others[n] = act(t, b, 10+n)
	}
	for range 300 {
		var group sync.WaitGroup
		for _, a := range others {
			group.Go(func() {
				for range 20 {
					_, err := a.AskLink(session(1), []byte("ask"), []byte("accept"))
					if errors.Is(err, bus.ErrNoPeer) {
						return
					}
				}
			})
		}
		one.Enter(wire.UserID{})
		one.CloseLinks([]byte("close"))
		before := one.door.Count()
		group.Wait()
		same(t, "frames behind the logout", one.door.Count()-before, 0)
		same(t, "links behind the logout", len(one.Peers()), 0)
		if t.Failed() {
			return
		}
		one.Enter(user(1))
	}
}

// A link takes no more than LinkBytes that have not left, whatever others have
// queued, and tells when there is room.
func testRelay(t *testing.T, b bus.Bus) {
	one, two, three := act(t, b, 1), act(t, b, 2), act(t, b, 3)
	link(t, one, two, 1, 2)
	link(t, three, two, 3, 2)
	two.door.Write(1 << 30)
	frame := make([]byte, 1000)
	fill := func(a *actor) (n int) {
		for ; ; n++ {
			switch err := a.Relay(session(2), frame); {
			case errors.Is(err, bus.ErrLinkFull):
				return n
			case err != nil:
				t.Fatal(err)
			}
		}
	}
	room := bus.LinkBytes / len(frame)
	same(t, "frames that fit", fill(one), room)
	same(t, "frames of another peer that fit", fill(three), room)
	called := 0
	three.AwaitLink(session(2), func() { called++ })
	stop := three.AwaitLink(session(2), func() { called += 100 })
	stop()
	same(t, "calls while it is full", called, 0)
	two.door.Write(room * len(frame)) // those of one
	same(t, "frames that fit again", fill(one), room)
	same(t, "frames of the other that fit", fill(three), 0)
	for range 100 {
		two.door.Write(50 << 10)
		fill(three)
		queued, written := two.door.Progress()
		if queued-written > 2*bus.LinkBytes {
			t.Fatalf("%d bytes wait for two links", queued-written)
		}
	}
	two.door.Write(1 << 30)
	if called != 1 {
		t.Errorf("told %d times that there is room", called)
	}
	same(t, "frames that fit into an empty link", fill(three), room)
	if err := one.Relay(session(3), frame); !errors.Is(err, bus.ErrNotLinked) {
		t.Errorf("relay to a peer of a peer: %v", err)
	}
	waited := 0
	three.AwaitLink(session(2), func() { waited++ })
	stop = three.AwaitLink(session(2), func() { waited += 100 })
	stop()
	if err := three.CloseLink(session(2), []byte("x")); err != nil {
		t.Error(err)
	}
	same(t, "told that the link ends", waited, 1)
	two.door.Write(1 << 30)
	same(t, "told once", waited, 1)
	gone := 0
	three.AwaitLink(session(2), func() { gone++ })
	same(t, "told that the link has gone", gone, 1)
}

// Of frames that are larger than what a link may hold one is under way at a
// time, whoever sends it.
func testRelayLarge(t *testing.T, b bus.Bus) {
	two := act(t, b, 2)
	large := make([]byte, 3*bus.LinkBytes)
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		taken int
	)
	peers := make([]*actor, 8)
	for n := range peers {
		peers[n] = act(t, b, 10+n)
		link(t, peers[n], two, 10+n, 2)
	}
	for _, a := range peers {
		group.Go(func() {
			err := a.Relay(session(2), large)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				taken++
			case !errors.Is(err, bus.ErrLinkFull):
				t.Error(err)
			}
		})
	}
	group.Wait()
	same(t, "large frames taken", taken, 1)
	two.door.Write(1 << 30)
	for _, a := range peers {
		if err := a.Relay(session(2), large); err != nil {
			t.Errorf("relay: %v", err)
		}
		two.door.Write(1 << 30)
	}
}

// Peers together leave half of a session's queue to others, however small it is
// and however many they are, and never pass its bound.
func testRelayShare(t *testing.T, b bus.Bus) {
	const bound = 2 << 20
	door := NewDoor()
	door.Bound = bound
	box := newMailbox(true)
	two := &actor{door: door, box: box, Member: b.Join(session(2), box, door)}
	two.Enter(user(2))
	peers := make([]*actor, 24)
	for n := range peers {
		peers[n] = act(t, b, 10+n)
		link(t, peers[n], two, 10+n, 2)
	}
	door.Write(1 << 30)
	refused(t, "a frame for which there is never room", peers[0].Relay(session(2), make([]byte, bound-bus.LinkBytes)), bus.ErrLinkFrame)
	if err := peers[0].Relay(session(2), make([]byte, bound-2*bus.LinkBytes)); err != nil {
		t.Errorf("the largest frame: %v", err)
	}
	door.Write(1 << 30)
	for range 20 {
		var group sync.WaitGroup
		for n, a := range peers {
			group.Go(func() {
				for {
					err := a.Relay(session(2), make([]byte, 1000*(1+n%3)))
					if errors.Is(err, bus.ErrLinkFull) {
						return
					}
					if err != nil {
						t.Errorf("relay: %v", err)
						return
					}
				}
			})
		}
		group.Wait()
		queued, written := door.Progress()
		if waiting := queued - written; waiting > bound/2 || waiting < bound/2-3000 {
			t.Fatalf("%d bytes of peers wait, want half of %d", waiting, bound)
		}
		woken := 0
		for _, a := range peers {
			stop := a.AwaitLink(session(2), func() { woken++ })
			defer stop()
		}
		same(t, "told while there is no room", woken, 0)
		door.Write(1 << 30)
		same(t, "told that there is room", woken, len(peers))
	}
	if door.Ended() {
		t.Error("the session was ended as a slow consumer")
	}
}

// Nothing comes of a peer once the link has been closed.
func testRelayAgainstEnd(t *testing.T, b bus.Bus) {
	one, two := act(t, b, 1), act(t, b, 2)
	for round := range 200 {
		link(t, one, two, 1, 2)
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() {
				for one.Relay(session(2), []byte("x")) == nil {
					two.door.Write(10)
				}
			})
		}
		if round%2 == 0 {
			if err := two.CloseLink(session(1), []byte("c")); err != nil {
				t.Error(err)
			}
		} else {
			two.CloseLinks([]byte("c"))
		}
		before := two.door.Count()
		group.Wait()
		if after := two.door.Count(); after != before {
			t.Fatalf("%d frames came after the link was closed", after-before)
		}
	}
}
