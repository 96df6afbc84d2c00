package hub_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/internal/hub"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

var errDisk = errors.New("the disk is on fire")

func TestOpen(t *testing.T) {
	w := newWorld(t)
	a, b := w.guest(1), w.guest(2)
	var subs []wire.SubRef
	for n := range wire.MaxOpenSubs + 1 {
		subs = append(subs, w.sub(n+1, n, false))
	}
	w.rights.change(func() {
		w.rights.flags = map[wire.Level]bool{wire.Public: true}
		w.rights.levels[userID(1)] = wire.Regular
	})
	w.open(a, subs[0])
	w.open(b, subs[0])
	for _, g := range []*guest{a, b} {
		if err := w.Cast(g.id, wire.Text, []byte("hello")); err != nil {
			t.Error(err)
		}
	}
	a.heard("a flag stands for the sender's level")
	b.heard("cast", `cast "hello"`)
	if open, writable := w.OpenSubs(b.id); open[0] != subs[0] || writable != (wire.SubList{}) {
		t.Errorf("open %v, writable %v", open, writable)
	}

	w.open(a, subs[:wire.MaxOpenSubs]...)
	w.open(a, subs[3])
	if room, err := w.Open(t.Context(), a.id, subs[wire.MaxOpenSubs]); room || err != nil {
		t.Errorf("one too many: %v, %v", room, err)
	}
	if err := w.Close(t.Context(), a.id, subs[0]); err != nil {
		t.Error(err)
	}
	w.Cast(b.id, wire.Text, []byte("x"))
	a.heard("closed")

	// What goes wrong leaves nothing behind.
	w.rights.change(func() { w.rights.failing = errDisk })
	_, err := w.Open(t.Context(), a.id, subs[0])
	if !errors.Is(err, errDisk) {
		t.Errorf("rights that cannot be read: %v", err)
	}
	w.rights.change(func() { w.rights.failing = nil })
	gone := w.sub(9, 9, false)
	gone.Channel = 10
	_, err = w.Open(t.Context(), a.id, gone)
	if !errors.Is(err, channel.ErrNoSubChannel) {
		t.Errorf("a sub-channel that there is not: %v", err)
	}
	w.open(a, subs[wire.MaxOpenSubs])
}

// Who is not there, or not logged in, opens and closes nothing.
func TestNobody(t *testing.T) {
	w := newWorld(t)
	talk := w.sub(1, 0, true)
	anonymous, gone := w.stranger(1), w.guest(2)
	gone.Leave()
	gone.Leave()
	ended, end := context.WithCancel(t.Context())
	end()
	for _, id := range []wire.SessionID{anonymous.id, gone.id, sessionID(9)} {
		_, err := w.Open(t.Context(), id, talk)
		wantErr(t, "open", err, "not logged in")
		if open, writable := w.OpenSubs(id); open != (wire.SubList{}) || writable != open {
			t.Errorf("open: %v", open)
		}
		wantErr(t, "override", w.Set(t.Context(), id, true), "not logged in")
		wantErr(t, "request", w.Request(id, sessionID(1)), "")
		if links := w.Links(id); len(links) != 0 {
			t.Errorf("links: %v", links)
		}
	}
	for what, err := range map[string]error{
		"close": w.Close(t.Context(), gone.id, talk), "cast": w.Cast(gone.id, wire.Text, nil),
		"accept": w.Accept(gone.id, anonymous.id), "end": w.End(gone.id, anonymous.id),
		"relay": w.Relay(gone.id, anonymous.id, wire.Text, nil),
	} {
		wantErr(t, what, err, "not logged in")
	}
	called := false
	w.AwaitRelay(gone.id, anonymous.id, func() { called = true })()
	if !called {
		t.Error("who has left waits for a link")
	}
	a := w.guest(3)
	_, err := w.Open(ended, a.id, talk)
	wantErr(t, "open of a call that was given up", err, "canceled")
	wantErr(t, "close of a call that was given up", w.Close(ended, a.id, talk), "canceled")
	if _, err := w.Turn(ended); err == nil {
		t.Error("a call that was given up has the turn")
	}
	wantErr(t, "reload that was given up", w.Reloaded(ended), "canceled")
}

// A right that is taken away while it is being read is read again.
func TestOpenAgainstChange(t *testing.T) {
	w := newWorld(t)
	talk := w.sub(1, 0, true)
	a := w.guest(1, 1)
	asked := 0
	w.rights.asked = func() { asked++ }
	w.rights.read = func() { // behind the reading, before it is enabled
		switch asked {
		case 1:
			w.change(wire.AsyncSubChLevelChg, &wire.SubLevel{Channel: 1}, channel.SubChange{Channel: channel.Channel{ID: 1}})
		case 2:
			w.kick(1, 1)
		case 3:
			w.change(wire.AsyncChActFlag, &wire.SubRef{Channel: 1}, channel.SubChange{Channel: channel.Channel{ID: 1}})
		}
	}
	w.open(a, talk)
	if asked != 4 {
		t.Errorf("the rights were read %d times", asked)
	}
	// The session logs out meanwhile, and somebody else logs in.
	asked = 0
	other := w.sub(2, 0, true)
	w.rights.read = func() {
		if asked == 1 {
			a.logout()
		}
	}
	_, err := w.Open(t.Context(), a.id, other)
	wantErr(t, "open", err, "not logged in")
	a.login(2)
	if open, _ := w.OpenSubs(a.id); open != (wire.SubList{}) {
		t.Errorf("survived a logout: %v", open)
	}
}

// Openings that meet revocations: what is open in the end is allowed.
func TestOpenAgainstRevocations(t *testing.T) {
	w := newWorld(t)
	talk := w.sub(1, 0, false)
	var all []*guest
	for n := range 4 {
		all = append(all, w.guest(n+1))
	}
	for range 200 {
		var group sync.WaitGroup
		for _, g := range all {
			group.Go(func() { _, _ = w.Open(t.Context(), g.id, talk) })
		}
		group.Go(func() {
			done, err := w.Turn(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer done()
			w.rights.change(func() { // committed
				w.rights.subs[talk] = channel.SubChannel{Lowest: wire.Officer}
			})
			change := channel.SubChange{Channel: channel.Channel{ID: 1}, Sub: channel.SubChannel{Lowest: wire.Officer}}
			if err := w.Changed(t.Context(), wire.AsyncSubChLevelChg, &wire.SubLevel{Channel: 1}, change); err != nil {
				t.Error(err)
			}
		})
		group.Wait()
		for _, g := range all {
			if open, _ := w.OpenSubs(g.id); open != (wire.SubList{}) {
				t.Fatalf("session %d has a sub-channel open that is not for it", g.id[0])
			}
		}
		w.sub(1, 0, false)
	}
}

func TestOverride(t *testing.T) {
	w := newWorld(t)
	inside, outside := w.sub(1, 0, true), w.sub(2, 0, true)
	w.rights.change(func() {
		w.rights.subs[inside] = channel.SubChannel{Lowest: wire.Regular, Active: true}
		w.rights.flags = map[wire.Level]bool{wire.Public: true}
	})
	a, b := w.guest(1), w.guest(2)
	w.open(a, outside)
	w.open(b, outside)
	a.news()
	set := func(on bool) error { return w.Set(t.Context(), a.id, on) }
	cast := func() { w.Cast(a.id, wire.Text, []byte("x")) }
	cast()
	b.heard("read-only")
	if err := set(true); err != nil {
		t.Fatal(err)
	}
	if !w.Held(userID(1)) || w.Held(userID(2)) {
		t.Error("who has the override?")
	}
	w.open(a, inside)
	b.heard("opened", "1 has 2.0 1.0")
	cast()
	b.heard("as the owner", `cast "x"`)
	if err := set(false); err != nil {
		t.Fatal(err)
	}
	b.heard("as itself again", "1 has 2.0")
	cast()
	b.heard("read-only again")
	if open, writable := w.OpenSubs(a.id); open[1] != (wire.SubRef{}) || writable != (wire.SubList{}) {
		t.Errorf("without the override: open %v, writable %v", open, writable)
	}

	// After an error the flag is off, and what could not be judged is closed.
	w.rights.change(func() { w.rights.failing = errDisk })
	if err := set(true); !errors.Is(err, errDisk) {
		t.Errorf("error: %v", err)
	}
	if w.Held(userID(1)) {
		t.Error("the flag stands after an error")
	}
	b.heard("what could not be judged", "1 has")
}

// The override is of a login, and of a call that goes on.
func TestOverrideOfWhom(t *testing.T) {
	w := newWorld(t)
	a := w.guest(1)
	for what, meanwhile := range map[string]func(end context.CancelFunc){
		"given up":      func(end context.CancelFunc) { end() },
		"given up late": func(context.CancelFunc) {},
		"logout":        func(context.CancelFunc) { a.logout() },
		"another user": func(context.CancelFunc) {
			a.logout()
			a.login(2)
		},
	} {
		ctx, end := context.WithCancel(t.Context())
		turn, err := w.Turn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		looked := make(chan struct{})
		g := watched{a, sync.OnceFunc(func() { close(looked) }), func() {}}
		if what == "given up late" {
			g.sets = end
		}
		seat := w.Join(sessionID(50), g, a.door) // the same session, seen when it is looked at
		go func() { done <- w.Set(ctx, sessionID(50), true) }()
		<-looked
		meanwhile(end)
		turn()
		if err := <-done; err == nil {
			t.Errorf("%s: no error", what)
		}
		if a.View().Override {
			t.Errorf("%s: the override is set", what)
		}
		seat.Leave()
		end()
		a.logout()
		a.login(1)
	}
}

// watched tells when its view has been looked at, and when its override is about
// to be set.
type watched struct {
	*guest
	looked, sets func()
}

func (g watched) SetOverride(ctx context.Context, user wire.UserID, on bool) bool {
	g.sets()
	return g.guest.SetOverride(ctx, user, on)
}

func (g watched) View() *module.Session {
	defer g.looked()
	return g.guest.View()
}

var _ hub.Occupant = watched{}

// all_channels_active_update binds in what is open.
func TestReloaded(t *testing.T) {
	w := newWorld(t)
	quiet, gone, active := w.sub(1, 0, false), w.sub(2, 0, false), w.sub(3, 0, true)
	a, b := w.guest(1), w.guest(2)
	w.open(a, quiet, gone)
	w.open(b, quiet)
	reload := func(s hub.Settings) error {
		w.now.Store(&s)
		return w.Reloaded(t.Context())
	}
	if err := reload(hub.Settings{AllActive: true, RequestsPerMin: 1}); err != nil {
		t.Fatal(err)
	}
	if !w.Ping(a.id) {
		t.Error("not active, though all sub-channels are")
	}
	c := w.guest(3)
	w.open(c, quiet)
	if !w.Ping(c.id) {
		t.Error("opened since, and not active")
	}
	if err := w.Request(a.id, b.id); err != nil {
		t.Error(err)
	}
	if err := w.Request(a.id, c.id); !errors.Is(err, hub.ErrTooManyRequests) {
		t.Errorf("a second request in a minute: %v", err)
	}
	// What cannot be read stays as it is, and what has gone is nobody's.
	w.rights.change(func() { w.rights.failing = errDisk })
	if err := reload(hub.Settings{}); !errors.Is(err, errDisk) {
		t.Errorf("error: %v", err)
	}
	if !w.Ping(a.id) {
		t.Error("a flag that could not be read is off")
	}
	w.rights.change(func() { w.rights.failing = nil; delete(w.rights.subs, gone) })
	if err := reload(hub.Settings{}); err != nil {
		t.Error(err)
	}
	if w.Ping(a.id) || w.Ping(c.id) {
		t.Error("active, though no flag stands")
	}
	w.open(b, active)
	if err := w.Reloaded(t.Context()); err != nil || !w.Ping(b.id) {
		t.Errorf("a flag that stands: %v", err)
	}
}
