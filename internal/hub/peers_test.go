package hub_test

import (
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/bus/bustest"
	"mrci.dev/mrci/internal/hub"
	"mrci.dev/mrci/wire"
)

func TestLinks(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.guest(1), w.guest(2), w.guest(3)
	if err := w.Request(a.id, b.id); err != nil {
		t.Fatal(err)
	}
	b.heard("asked", "P2P_REQUEST 1 is user1")
	if err := w.Accept(b.id, a.id); err != nil {
		t.Fatal(err)
	}
	a.heard("accepted", "P2P_OPEN 2")
	if err := w.Relay(a.id, b.id, wire.Text, []byte("hello")); err != nil {
		t.Error(err)
	}
	b.heard("relayed", `1 sent "hello"`)
	if err := w.Relay(c.id, b.id, wire.Text, nil); !errors.Is(err, bus.ErrNotLinked) {
		t.Errorf("relay without a link: %v", err)
	}
	if err := w.End(b.id, a.id); err != nil {
		t.Error(err)
	}
	a.heard("ended", "P2P_CLOSE 2")

	// Requests that cross are a link.
	if err := errors.Join(w.Request(a.id, c.id), w.Request(c.id, a.id)); err != nil {
		t.Fatal(err)
	}
	a.heard("crossed", "P2P_OPEN 3")
	if got := w.Links(a.id); len(got) != 1 || got[0] != (bus.Link{Peer: c.id, State: bus.LinkAccepted}) {
		t.Errorf("links: %v", got)
	}
	c.news()
	a.logout()
	c.heard("logged out", "P2P_CLOSE 1")
	for what, to := range map[string]wire.SessionID{"logged out": a.id, "unknown": sessionID(9)} {
		if err := w.Request(c.id, to); !errors.Is(err, bus.ErrNoPeer) {
			t.Errorf("request to a session that is %s: %v", what, err)
		}
	}
	wantErr(t, "request of who is not logged in", w.Request(a.id, c.id), "not logged in")
	a.heard("logged out")
	a.login(1)
	if err := w.Request(c.id, a.id); err != nil {
		t.Error(err)
	}
	a.heard("asked again", "P2P_REQUEST 3 is user3")
	a.Leave()
	c.heard("left", "P2P_CLOSE 1")
}

func TestRequestsPerMinute(t *testing.T) {
	w := newWorld(t)
	w.now.Store(&hub.Settings{RequestsPerMin: 2})
	if err := w.Reloaded(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, b, c, d := w.guest(1), w.guest(2), w.guest(3), w.guest(4)
	if err := errors.Join(w.Request(a.id, b.id), w.Request(a.id, c.id)); err != nil {
		t.Fatal(err)
	}
	if err := w.Request(a.id, d.id); !errors.Is(err, hub.ErrTooManyRequests) {
		t.Errorf("one too many: %v", err)
	}
	d.heard("asked once too often")
	if err := w.Request(d.id, a.id); err != nil {
		t.Error(err)
	}
	if err := w.Request(a.id, d.id); err != nil {
		t.Errorf("an answer is no request: %v", err)
	}
	d.heard("accepted", "P2P_OPEN 1")
	if err := w.Request(a.id, d.id); !errors.Is(err, bus.ErrLinked) {
		t.Errorf("what is refused anyway: %v", err)
	}
}

// A link that is full says so, and tells when there is room.
func TestFullLink(t *testing.T) {
	w := newWorld(t)
	a, b := w.guest(1), w.guest(2)
	if err := errors.Join(w.Request(a.id, b.id), w.Request(b.id, a.id)); err != nil {
		t.Fatal(err)
	}
	b.door.Write(1 << 30)
	data := make([]byte, bus.LinkBytes/2)
	var err error
	for err == nil {
		err = w.Relay(a.id, b.id, wire.Bytes, data)
	}
	if !errors.Is(err, bus.ErrLinkFull) {
		t.Fatal(err)
	}
	room := 0
	w.AwaitRelay(a.id, b.id, func() { room++ })
	if room != 0 {
		t.Error("room in a full link")
	}
	b.door.Write(1 << 30)
	if room != 1 {
		t.Errorf("told %d times of room", room)
	}
	if err := w.Relay(a.id, b.id, wire.Bytes, data); err != nil {
		t.Error(err)
	}
}

// A request that is being written to a peer holds up nobody.
func TestRequestHoldsUpNobody(t *testing.T) {
	w := newWorld(t)
	a := w.guest(1)
	stands := standing{bustest.NewDoor(), make(chan struct{}), make(chan struct{})}
	b := w.stranger(2)
	b.Leave()
	b.Seat = w.Join(b.id, b, stands)
	b.login(2)
	done := make(chan error, 1)
	go func() { done <- w.Request(a.id, b.id) }()
	<-stands.flushing
	free := make(chan struct{})
	go func() { // ends with the request, if not before
		defer close(free)
		c := w.guest(3)
		c.logout()
		c.Leave()
	}()
	select {
	case <-free:
	case <-time.After(10 * time.Second):
		t.Error("nobody comes or goes meanwhile")
	}
	close(stands.release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	<-free
}

// standing is a door that stands in its first Flush.
type standing struct {
	*bustest.Door
	flushing, release chan struct{}
}

func (d standing) Flush() {
	select {
	case <-d.flushing:
	default:
		close(d.flushing)
		<-d.release
	}
}

// Sessions that come, go, ask and send at the same time: nobody who has left
// gets anything, or stays in somebody's list.
func TestPeersAtOnce(t *testing.T) {
	w := newWorld(t)
	talk := w.sub(1, 0, true)
	stays := w.guest(100)
	w.open(stays, talk)
	var group sync.WaitGroup
	for n := range 8 {
		group.Go(func() {
			for range 40 {
				g := w.stranger(n + 1)
				g.login(n + 1)
				_, _ = w.Open(t.Context(), g.id, talk)
				for peer := range 8 {
					_ = w.Request(g.id, sessionID(peer+1))
					_ = w.Relay(g.id, sessionID(peer+1), wire.Text, []byte("x"))
				}
				_ = w.Request(g.id, stays.id)
				_ = w.Accept(stays.id, g.id)
				_ = w.Cast(g.id, wire.Text, []byte("x"))
				w.Ping(g.id)
				g.Renamed()
				g.logout()
				before := g.door.Count()
				runtime.Gosched()
				if links := w.Links(g.id); len(links) != 0 {
					t.Errorf("links of who has logged out: %v", links)
				}
				g.Leave()
				if after := g.door.Count(); after != before {
					t.Errorf("%d frames for who has logged out", after-before)
				}
			}
		})
	}
	group.Wait()
	if links := w.Links(stays.id); len(links) != 0 {
		t.Errorf("links to who has left: %v", links)
	}
	said := stays.news()
	last := make(map[byte]string)
	for _, s := range said {
		if s[0] >= '1' && s[0] <= '8' {
			last[s[0]] = s
		}
	}
	for n, s := range last {
		if s != string(n)+" gone" {
			t.Errorf("the last of session %c: %q", n, s)
		}
	}
}

// Who logs out is asked by nobody, from before its links are closed.
func TestRequestBehindLogout(t *testing.T) {
	w := newWorld(t)
	a, b := w.guest(1), w.stranger(2)
	b.Leave()
	closes := answering{bustest.NewDoor(), func() {}}
	b.Seat = w.Join(b.id, b, &closes)
	b.login(2)
	if err := errors.Join(w.Request(a.id, b.id), w.Request(b.id, a.id)); err != nil {
		t.Fatal(err)
	}
	var err error
	closes.flush = func() { err = w.Request(b.id, a.id) }
	a.logout()
	if !errors.Is(err, bus.ErrNoPeer) || len(w.Links(b.id)) != 0 {
		t.Errorf("request to who is about to have logged out: %v, links %v", err, w.Links(b.id))
	}
}

// answering is a door whose client does something when it is written to.
type answering struct {
	*bustest.Door
	flush func()
}

func (d *answering) Flush() { d.flush() }
