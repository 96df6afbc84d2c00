package hub_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// Peers hear who comes, goes and changes, if both sides are active.
func TestPresence(t *testing.T) {
	w := newWorld(t)
	talk, more, quiet := w.sub(1, 0, true), w.sub(2, 0, true), w.sub(3, 0, false)
	a, b, c := w.guest(1), w.guest(2), w.guest(3)
	w.open(b, talk, quiet)
	w.open(c, quiet)
	b.heard("alone")

	w.open(a, quiet)
	b.heard("not active")
	w.open(a, talk)
	b.heard("opened", "1 has 3.0 1.0")
	c.heard("nobody who is not active hears of peers")
	w.open(a, more)
	b.heard("opened elsewhere", "1 has 3.0 1.0 2.0")
	w.open(a, more)
	b.heard("opened again")
	a.Renamed()
	b.heard("renamed", "PEER_INFO 1 is user1")
	c.Renamed()
	b.heard("somebody renamed who is not active")

	if err := w.Close(t.Context(), a.id, more); err != nil {
		t.Error(err)
	}
	b.heard("closed elsewhere", "1 has 3.0 1.0")
	if err := w.Close(t.Context(), a.id, more); err != nil {
		t.Error(err)
	}
	b.heard("closed again")
	if err := w.Close(t.Context(), a.id, talk); err != nil {
		t.Error(err)
	}
	b.heard("closed", "1 has 3.0")

	w.open(a, talk)
	b.heard("back", "1 has 3.0 1.0")
	a.logout()
	b.heard("logged out", "1 gone")
	a.logout()
	b.heard("logged out twice")
	a.login(4)
	b.heard("logged in")
	w.open(a, talk)
	b.heard("back as somebody else", "1 has 1.0")
	a.Leave()
	b.heard("left", "1 gone")
	c.heard("at all")
}

// What closes for other reasons is told when the turn is over, to those who
// were there before.
func TestPresenceOfChanges(t *testing.T) {
	w := newWorld(t)
	one, two, other := w.sub(1, 0, true), w.sub(1, 1, true), w.sub(2, 0, true)
	a, b, c := w.guest(1, 1, 2), w.guest(2), w.guest(3)
	w.open(a, one, two, other)
	w.open(b, one)
	w.open(c, other)
	a.news()
	b.news()
	c.news()

	w.bus.limited = func(wire.SessionID) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		done, err := w.Turn(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		done()
	}
	w.kick(1, 1)
	w.bus.limited = nil
	a.heard("kicked", "RM_CH_MEMBER BYTES")
	b.heard("a peer kicked", "1 has 2.0")
	c.heard("a peer kicked elsewhere", "1 has 2.0")
}

// A session that logs out while its peers are about to be told that it was
// kicked is gone for them, in whatever order both come.
func TestKickedAndGone(t *testing.T) {
	for what, end := range map[string]func(g *guest){
		"logout": (*guest).logout,
		"leave":  func(g *guest) { g.Leave() },
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			talk, other := w.sub(1, 0, true), w.sub(2, 0, true)
			a, b, c := w.guest(1, 1), w.guest(2), w.guest(3)
			w.open(a, talk, other)
			w.open(b, talk)
			w.open(c, talk, other)
			a.news()
			b.news()
			c.news()
			w.bus.closed = func() { end(a) }
			w.kick(1, 1)
			b.heard("from whose channel it was kicked", "1 gone")
			for _, said := range c.news() { // twice: it shares both
				if said != "1 gone" {
					t.Errorf("behind the end: %q", said)
				}
			}
			if what != "logout" {
				return
			}
			w.bus.closed = nil
			a.login(1)
			w.open(a, talk)
			b.heard("it is back", "1 has 1.0")
		})
	}
}

// Whatever happens at the same time, the last that peers hear of a session is
// what it has.
func TestLastWord(t *testing.T) {
	w := newWorld(t)
	subs := []wire.SubRef{w.sub(1, 0, true), w.sub(2, 0, true), w.sub(3, 0, true)}
	watch := w.guest(200)
	w.open(watch, subs...)
	const guests = 4
	var all []*guest
	for n := range guests {
		all = append(all, w.guest(n+1))
	}
	for round := range 60 {
		watch.news()
		var group sync.WaitGroup
		for n, g := range all {
			group.Go(func() { // opens and closes
				for i := range 6 {
					_, _ = w.Open(t.Context(), g.id, subs[(n+i)%len(subs)])
					if i%2 == 1 {
						_ = w.Close(t.Context(), g.id, subs[(n+i+1)%len(subs)])
					}
				}
			})
			group.Go(func() { w.kick(1+n%3, n+1) })
			group.Go(func() {
				switch (n + round) % 3 {
				case 0:
					g.logout()
				case 1:
					g.logout()
					g.login(n + 1)
				}
			})
		}
		group.Wait()
		last := make(map[byte]string)
		for _, said := range watch.news() {
			last[said[0]] = said
		}
		for n, g := range all {
			open, _ := w.OpenSubs(g.id)
			said := last[byte('1'+n)]
			var want []string
			for _, sub := range open.Open() {
				want = append(want, string('0'+rune(sub.Channel))+".0")
			}
			switch {
			case len(want) == 0 && said != "" && !strings.HasSuffix(said, "gone") && !strings.HasSuffix(said, "has"):
				t.Fatalf("round %d: session %d has nothing open, and peers think %q", round, n+1, said)
			case len(want) > 0 && !slices.Equal(strings.Fields(said)[2:], want):
				t.Fatalf("round %d: session %d has %v open, and peers think %q", round, n+1, want, said)
			}
			g.logout()
			g.login(n + 1)
		}
	}
}

func TestPing(t *testing.T) {
	w := newWorld(t)
	talk, quiet := w.sub(1, 0, true), w.sub(2, 0, false)
	a, b, c := w.guest(1), w.guest(2), w.guest(3)
	w.open(b, talk)
	w.open(c, quiet)
	w.open(a, quiet)
	if w.Ping(a.id) {
		t.Error("a session that is not active has pinged")
	}
	w.open(a, talk)
	b.news()
	if !w.Ping(a.id) {
		t.Error("not active")
	}
	a.heard("answers", "PEER_INFO 2 is user2")
	b.heard("pinged", "PEER_INFO 1 is user1")
	c.heard("not active")
	if w.Ping(sessionID(9)) {
		t.Error("a session that does not exist has pinged")
	}
	w.bus.SetPace(10)
	w.Ping(a.id)
	if a.paced.Load() == 0 {
		t.Error("a peer that takes nothing slows nobody down")
	}
}

// Presence that is being sent holds up nothing but the presence of the same
// session.
func TestPresenceHoldsUpNobody(t *testing.T) {
	w := newWorld(t)
	talk := w.sub(1, 0, true)
	a, b := w.guest(1), w.guest(2)
	w.open(a, talk)
	w.open(b, talk)
	stands, release := make(chan struct{}), make(chan struct{})
	w.bus.limited = func(from wire.SessionID) {
		if from == a.id {
			close(stands)
			<-release
		}
	}
	done := make(chan struct{})
	go func() { // awaited below
		defer close(done)
		a.Renamed()
	}()
	<-stands
	w.open(w.guest(3), talk)
	w.kick(1, 2)
	w.guest(4).Leave()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	turn, err := w.Turn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	turn()
	close(release)
	<-done
	w.bus.limited = nil
	a.show(func(v *module.Session) { v.User.Name = "new" })
	a.Renamed()
}
