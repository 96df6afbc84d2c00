package hub_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/bus/bustest"
	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/internal/hub"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a hub with sessions that the test plays, over rights that it makes
// up.
type world struct {
	*hub.Hub
	t      *testing.T
	bus    *between
	rights *rights
	now    atomic.Pointer[hub.Settings]
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, bus: &between{Memory: bus.NewMemory()}, rights: &rights{
		subs: make(map[wire.SubRef]channel.SubChannel), levels: make(map[wire.UserID]wire.Level),
	}}
	w.now.Store(&hub.Settings{})
	w.Hub = hub.New(hub.Config{Bus: w.bus, Rights: w.rights, Settings: func() hub.Settings { return *w.now.Load() }})
	return w
}

// between is a bus that stops where the test wants to do something.
type between struct {
	*bus.Memory
	limited func(from wire.SessionID) // called before a LimitedCast, if set
	closed  func()                    // called when CloseUser has closed, if set
	fail    error                     // of AddChannel
}

func (b *between) LimitedCast(from wire.SessionID, subs wire.SubList, frames []byte) bus.Sent {
	if b.limited != nil {
		b.limited(from)
	}
	return b.Memory.LimitedCast(from, subs, frames)
}

func (b *between) CloseUser(ctx context.Context, ch wire.ChannelID, user wire.UserID, removed bool, frames []byte) ([]bus.Loss, error) {
	lost, err := b.Memory.CloseUser(ctx, ch, user, removed, frames)
	if b.closed != nil {
		b.closed()
	}
	return lost, err
}

func (b *between) AddChannel(ctx context.Context, ch wire.ChannelID, user wire.UserID, frames []byte) error {
	if b.fail != nil {
		return b.fail
	}
	return b.Memory.AddChannel(ctx, ch, user, frames)
}

// rights are those of users with levels in sub-channels with flags.
type rights struct {
	mu      sync.Mutex
	subs    map[wire.SubRef]channel.SubChannel
	levels  map[wire.UserID]wire.Level // in all channels; zero: Public
	flags   map[wire.Level]bool        // that may only listen
	failing error
	asked   func() // called without the lock before the rights are read, if set
	read    func() // the same when they have been, if set
}

// Rights implements hub.Rights.
func (r *rights) Rights(ctx context.Context, c channel.Caller, ch wire.ChannelID, sub wire.SubID) (channel.Rights, error) {
	if r.asked != nil {
		r.asked()
	}
	found, err := r.find(c, wire.SubRef{Channel: ch, Sub: sub})
	if r.read != nil {
		r.read()
	}
	if ctx.Err() != nil {
		return channel.Rights{}, ctx.Err()
	}
	return found, err
}

func (r *rights) find(c channel.Caller, ref wire.SubRef) (channel.Rights, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing != nil {
		return channel.Rights{}, r.failing
	}
	sub, ok := r.subs[ref]
	if !ok {
		return channel.Rights{}, channel.ErrNoSubChannel
	}
	level := r.levels[c.User]
	switch {
	case c.Override:
		level = wire.Owner
	case level == 0:
		level = wire.Public
	}
	return channel.Rights{Channel: channel.Channel{ID: ref.Channel}, Sub: sub, Level: level, ReadOnly: r.flags[level]}, nil
}

// change changes what the rights are.
func (r *rights) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// sub makes a sub-channel that everybody may open.
func (w *world) sub(ch, sub int, active bool) wire.SubRef {
	ref := wire.SubRef{Channel: wire.ChannelID(ch), Sub: wire.SubID(sub)}
	w.rights.change(func() {
		w.rights.subs[ref] = channel.SubChannel{ID: ref.Sub, Lowest: wire.Public, Active: active}
	})
	return ref
}

func sessionID(n int) wire.SessionID { return wire.SessionID{byte(n), byte(n >> 8), 9} }

func userID(n int) wire.UserID { return wire.UserID{byte(n), byte(n >> 8), 8} }

// guest is a session.
type guest struct {
	*hub.Seat
	t     *testing.T
	hub   *hub.Hub
	id    wire.SessionID
	door  *bustest.Door
	seen  int // frames of the door that heard has returned
	view  atomic.Pointer[module.Session]
	paced atomic.Int32 // calls of Pace for a receiver that is behind

	mu sync.Mutex // held by who changes view
}

// guest joins session n, with user n logged in.
func (w *world) guest(n int, channels ...wire.ChannelID) *guest {
	w.t.Helper()
	g := w.stranger(n)
	g.login(n, channels...)
	return g
}

// stranger joins session n, without a login.
func (w *world) stranger(n int) *guest {
	g := &guest{t: w.t, hub: w.Hub, id: sessionID(n), door: bustest.NewDoor()}
	g.view.Store(&module.Session{ID: g.id, App: "test"})
	g.Seat = w.Join(g.id, g, g.door)
	return g
}

// login does what a session does.
func (g *guest) login(n int, channels ...wire.ChannelID) {
	g.t.Helper()
	g.SetUser(userID(n))
	g.Enter(userID(n))
	for !g.SetChannels(g.Changes(), channels) { // somebody has kicked it meanwhile
	}
	g.show(func(v *module.Session) { v.User = &module.User{ID: userID(n), Name: fmt.Sprint("user", n)} })
}

func (g *guest) logout() {
	g.show(func(v *module.Session) { v.User, v.Override = nil, false })
	g.SetUser(wire.UserID{})
	g.Logout()
}

func (g *guest) show(change func(v *module.Session)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	view := *g.view.Load()
	change(&view)
	g.view.Store(&view)
}

// Receive implements bus.Receiver.
func (g *guest) Receive(bus.Delivery) {}

// PeerInfo implements bus.Receiver.
func (g *guest) PeerInfo() []byte { return hub.InfoFrame(g.View()) }

// View implements hub.Occupant.
func (g *guest) View() *module.Session { return g.view.Load() }

// SetOverride implements hub.Occupant.
func (g *guest) SetOverride(ctx context.Context, user wire.UserID, on bool) (set bool) {
	g.show(func(v *module.Session) {
		if set = ctx.Err() == nil && v.User != nil && v.User.ID == user; set {
			v.Override = on
		}
	})
	return set
}

// Pace implements hub.Occupant.
func (g *guest) Pace(sent bus.Sent) {
	if sent.Behind != nil {
		g.paced.Add(1)
	}
}

// open opens sub-channels in a session.
func (w *world) open(g *guest, subs ...wire.SubRef) {
	w.t.Helper()
	for _, sub := range subs {
		if room, err := w.Open(w.t.Context(), g.id, sub); !room || err != nil {
			w.t.Fatalf("open %v: %v, %v", sub, room, err)
		}
	}
}

// change makes a change in a turn.
func (w *world) change(id wire.AsyncID, p wire.Payload, c channel.Change) {
	w.t.Helper()
	done, err := w.Turn(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	defer done()
	if err := w.Changed(w.t.Context(), id, p, c); err != nil {
		w.t.Errorf("%v: %v", id, err)
	}
}

// kick takes a user out of a channel.
func (w *world) kick(ch, n int) {
	w.t.Helper()
	w.change(wire.AsyncRmChMember, &wire.MemberRemoved{Channel: wire.ChannelID(ch), User: userID(n)}, member(ch, n))
}

func member(ch, n int) channel.MemberChange {
	return channel.MemberChange{Channel: channel.Channel{ID: wire.ChannelID(ch)}, Member: channel.Member{User: channel.User{ID: userID(n)}}}
}

// heard wants what has come since it was called last.
func (g *guest) heard(what string, want ...string) {
	g.t.Helper()
	if got := g.news(); !slices.Equal(got, want) {
		g.t.Errorf("%s: session %d got %q, want %q", what, g.id[0], got, want)
	}
}

// news returns what has come since it was called last.
func (g *guest) news() (said []string) {
	frames := g.door.Frames(g.seen)
	g.seen += len(frames)
	for _, b := range frames {
		for len(b) > 0 {
			f, rest, ok := wire.CutFrame(b)
			if !ok {
				g.t.Fatalf("half a frame: %x", b)
			}
			said = append(said, g.tell(f))
			b = rest
		}
	}
	return said
}

// tell says what a frame says.
func (g *guest) tell(f wire.Frame) string {
	kind := fmt.Sprintf("%v %v", wire.AsyncID(f.Cmd), f.Type)
	parse := func(p wire.Payload) {
		if err := wire.Parse(f.Payload, p); err != nil {
			g.t.Fatalf("%s: %v", kind, err)
		}
	}
	switch {
	case f.Type == wire.PeerStat:
		var stat wire.PeerStatus
		parse(&stat)
		kind = fmt.Sprintf("%d has", stat.Session[0])
		for _, sub := range stat.Open.Open() {
			kind += fmt.Sprintf(" %d.%d", sub.Channel, sub.Sub)
		}
		if stat.Disconnected {
			kind = fmt.Sprintf("%d gone", stat.Session[0]) + strings.TrimPrefix(kind, fmt.Sprintf("%d has", stat.Session[0]))
		}
	case f.Type == wire.PeerInfo, f.Type == wire.P2PRequest:
		var peer wire.Peer
		parse(&peer)
		kind = fmt.Sprintf("%v %d is %s", f.Type, peer.Session[0], peer.Name)
	case f.Type == wire.P2POpen, f.Type == wire.P2PClose:
		kind = fmt.Sprintf("%v %d", f.Type, f.Payload[0])
	case f.Cmd == wire.CmdID(wire.AsyncP2P):
		kind = fmt.Sprintf("%d sent %q", f.Payload[0], f.Payload[wire.SessionIDSize:])
	case f.Cmd == wire.CmdID(wire.AsyncCast):
		kind = fmt.Sprintf("cast %q", f.Payload)
	}
	return kind
}

func wantErr(t *testing.T, what string, got error, want string) {
	t.Helper()
	if got == nil || !strings.Contains(got.Error(), want) {
		t.Errorf("%s: got %v, want %q", what, got, want)
	}
}
