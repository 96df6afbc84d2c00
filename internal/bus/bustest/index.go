package bustest

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/wire"
)

// actor is a session that takes part in channels.
type actor struct {
	bus.Member
	door *Door
	box  *mailbox
}

// act joins session n as user n, which belongs to channels.
func act(t *testing.T, b bus.Bus, n int, channels ...wire.ChannelID) *actor {
	t.Helper()
	a := &actor{door: NewDoor(), box: newMailbox(true)}
	a.box.info = infoOf(n)
	a.Member = b.Join(session(n), a.box, a.door)
	if _, ok := a.Enter(user(n)); ok {
		t.Fatal("a new session has lost something")
	}
	if !a.SetChannels(a.Changes(), channels) {
		t.Fatal("the channel list has changed")
	}
	return a
}

func ref(ch, sub int) wire.SubRef {
	return wire.SubRef{Channel: wire.ChannelID(ch), Sub: wire.SubID(sub)}
}

// hold opens a sub-channel.
func (a *actor) hold(t *testing.T, sub wire.SubRef, writable, active bool) {
	t.Helper()
	o, err := a.Open(sub)
	if err != nil {
		t.Fatalf("open %v: %v", sub, err)
	}
	if !o.Enable(writable, active) {
		t.Fatalf("%v was not enabled", sub)
	}
}

// got wants frames to have been queued, and no others.
func (a *actor) got(t *testing.T, want string) {
	t.Helper()
	n := 0
	if want != "" {
		n = 1
	}
	for _, c := range want {
		if c == ' ' {
			n++
		}
	}
	if got := a.door.Texts(n); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

func testCast(t *testing.T, b bus.Bus) {
	sender, writer, reader, other, idle := act(t, b, 1), act(t, b, 2), act(t, b, 3), act(t, b, 4), act(t, b, 5, 1)
	sub := ref(1, 0)
	sender.hold(t, sub, true, false)
	writer.hold(t, sub, true, false)
	reader.hold(t, sub, false, false)
	other.hold(t, ref(1, 1), true, false)
	same(t, "sent", sender.Cast([]byte("a")).Receivers, 2)
	same(t, "sent by who may not", reader.Cast([]byte("no")).Receivers, 0)
	same(t, "sent elsewhere", other.Cast([]byte("no")).Receivers, 0)
	same(t, "sent by nobody", idle.Cast([]byte("no")).Receivers, 0)
	writer.Cast([]byte("b"))
	writer.Cast(nil)
	sender.got(t, "b")
	writer.got(t, "a")
	reader.got(t, "a b")
	reader.door.Woken()
	other.got(t, "")
	idle.got(t, "")
}

// Who casts copies may use the frames again, for few receivers and for many.
func testCastCopy(t *testing.T, b bus.Bus) {
	sender := act(t, b, 1)
	sub := ref(1, 0)
	sender.hold(t, sub, true, false)
	var all []*actor
	for n := 2; n < 8; n++ {
		frames := []byte{'a' + byte(n)}
		same(t, "sent", sender.CastCopy(frames).Receivers, len(all))
		frames[0] = 'x'
		a := act(t, b, n)
		a.hold(t, sub, false, false)
		all = append(all, a)
	}
	for _, size := range []int{9 << 10, 17 << 10, 40 << 10, 100 << 10} {
		frames := bytes.Repeat([]byte{'z'}, size)
		same(t, "sent", sender.CastCopy(frames).Receivers, len(all))
		clear(frames)
	}
	same(t, "nothing sent", sender.CastCopy(nil).Receivers, 0)
	for i, want := range []string{"d e f g h", "e f g h", "f g h", "g h", "h", ""} {
		for _, size := range []int{9 << 10, 17 << 10, 40 << 10, 100 << 10} {
			want = strings.TrimPrefix(want+" "+strings.Repeat("z", size), " ")
		}
		all[i].got(t, want)
	}
}

// Whoever holds several of the sender's sub-channels gets a cast once.
func testCastOnce(t *testing.T, b bus.Bus) {
	sender := act(t, b, 1)
	for n := range wire.MaxOpenSubs {
		sender.hold(t, ref(60+n, n), n != 2, false)
	}
	all, last, silent := act(t, b, 2), act(t, b, 3), act(t, b, 4)
	for n := range wire.MaxOpenSubs {
		all.hold(t, ref(65-n, 5-n), true, false)
	}
	last.hold(t, ref(65, 5), false, false)
	silent.hold(t, ref(62, 2), true, false) // where the sender may only listen
	same(t, "sent", sender.Cast([]byte("a")).Receivers, 2)
	all.got(t, "a")
	last.got(t, "a")
	silent.got(t, "")
	silent.Cast([]byte("b"))
	sender.got(t, "b")
	all.got(t, "a b")
}

func testCastOrder(t *testing.T, b bus.Bus) {
	const senders, each = 8, 300
	hears := act(t, b, 99)
	hears.hold(t, ref(1, 0), false, false)
	hears.hold(t, ref(2, 0), false, false)
	var group sync.WaitGroup
	for n := range senders {
		s := act(t, b, n)
		s.hold(t, ref(1+n%2, 0), true, false)
		if n < 4 {
			s.hold(t, ref(2-n%2, 0), true, false)
		}
		group.Go(func() {
			for i := range each {
				s.Cast([]byte{byte(n), byte(i), byte(i >> 8)})
			}
		})
	}
	group.Wait()
	hears.door.WaitFor(senders * each)
	var next [senders]int
	for _, f := range hears.door.Frames(0) {
		if got := int(f[1]) | int(f[2])<<8; got != next[f[0]] {
			t.Fatalf("from %d: got %d, want %d", f[0], got, next[f[0]])
		}
		next[f[0]]++
	}
}

// A client that takes nothing is ended, and costs the others nothing.
func testSlowReceiver(t *testing.T, b bus.Bus) {
	sender, reads := act(t, b, 1), act(t, b, 2)
	slow := &actor{door: NewDoor(), box: newMailbox(true)}
	slow.door.Bound = 10
	slow.Member = b.Join(session(3), slow.box, slow.door)
	slow.Enter(user(3))
	for _, a := range []*actor{sender, reads, slow} {
		a.hold(t, ref(1, 0), true, false)
	}
	for range 4 {
		sender.Cast([]byte("12345"))
	}
	reads.got(t, "12345 12345 12345 12345")
	slow.got(t, "12345 12345")
	if !slow.door.Ended() || reads.door.Ended() {
		t.Errorf("ended: the slow one %v, the other %v", slow.door.Ended(), reads.door.Ended())
	}
}

// A sender is told of a receiver who reads, but not as fast.
func testPace(t *testing.T, b bus.Bus) {
	sender, first, second := act(t, b, 1), act(t, b, 2), act(t, b, 3)
	for _, a := range []*actor{sender, first, second} {
		a.hold(t, ref(1, 0), true, false)
	}
	half := make([]byte, 600<<10)
	if sent := sender.Cast(half); sent.Behind != nil {
		t.Error("told to rest for 600 KiB")
	}
	first.door.Write(100)
	sent := sender.Cast(half)
	if sent.Behind != second.door {
		t.Fatal("not told to rest for the one for whom most waits")
	}
	rested := false
	sent.Behind.Await(sent.Position, func() { rested = true })
	second.door.Write(150 << 10)
	if rested {
		t.Error("more than 1 MiB waits still")
	}
	second.door.Write(30 << 10)
	if !rested {
		t.Error("less than 1 MiB waits")
	}
	second.door.Stall(time.Second)
	if sent := sender.Cast([]byte("x")); sent.Behind != first.door {
		t.Error("not told to rest for the one who moves")
	}
	first.door.Stall(time.Second)
	if sent := sender.Cast([]byte("x")); sent.Behind != nil {
		t.Error("told to rest for somebody who does not move")
	}
}

func testOpening(t *testing.T, b bus.Bus) {
	a, sender := act(t, b, 1), act(t, b, 2)
	sender.hold(t, ref(1, 0), true, false)
	o, err := a.Open(ref(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Open(ref(1, 0)); !errors.Is(err, bus.ErrOpening) {
		t.Errorf("open twice: %v", err)
	}
	same(t, "before it is enabled", sender.Cast([]byte("no")).Receivers, 0)
	same(t, "opened", a.Opened(), bus.Opened{})
	if !o.Enable(true, true) || o.Enable(true, true) {
		t.Error("an opening can be enabled, and once")
	}
	o.Withdraw()
	if _, err := a.Open(ref(1, 0)); !errors.Is(err, bus.ErrOpen) {
		t.Errorf("open what is open: %v", err)
	}
	sender.Cast([]byte("a"))
	a.got(t, "a")
	for n := range 5 {
		a.hold(t, ref(2, n), n == 0, false)
	}
	if _, err := a.Open(ref(3, 0)); !errors.Is(err, bus.ErrSlots) {
		t.Errorf("a seventh: %v", err)
	}
	lost, ok := a.Close(ref(2, 1))
	want := bus.Loss{
		Session: session(1), User: user(1), Active: true,
		Before: wire.SubList{ref(1, 0), ref(2, 0), ref(2, 1), ref(2, 2), ref(2, 3), ref(2, 4)},
		After:  wire.SubList{ref(1, 0), ref(2, 0), {}, ref(2, 2), ref(2, 3), ref(2, 4)},
	}
	if !ok || lost != want {
		t.Errorf("closed: %v, %+v, want %+v", ok, lost, want)
	}
	if _, ok := a.Close(ref(2, 1)); ok {
		t.Error("closed twice")
	}
	o, err = a.Open(ref(3, 0))
	if err != nil {
		t.Fatal(err)
	}
	o.Withdraw()
	o.Withdraw()
	if o.Enable(true, true) {
		t.Error("enabled after it was withdrawn")
	}
	opened := a.Opened()
	same(t, "list", opened.List(), want.After)
	same(t, "writable", opened.Writable(), wire.SubList{ref(1, 0), ref(2, 0)})
	if err := b.SetActive(t.Context(), ref(1, 0), false); err != nil {
		t.Fatal(err)
	}
	if opened = a.Opened(); opened.Active() {
		t.Error("active without an active sub-channel")
	}
	if _, err := a.Open(ref(0, 1)); err == nil {
		t.Error("opened a sub-channel of no channel")
	}
	a.Enter(wire.UserID{})
	if _, err := a.Open(ref(1, 0)); !errors.Is(err, bus.ErrNobody) {
		t.Errorf("open as nobody: %v", err)
	}
}

// What is taken away while rights are read is not given by what was read.
func testRevokedOpening(t *testing.T, b bus.Bus) {
	ctx := t.Context()
	for name, revoke := range map[string]func(a *actor) ([]bus.Loss, error){
		"user":    func(*actor) ([]bus.Loss, error) { return b.CloseUser(ctx, 1, user(1), false, nil) },
		"removed": func(*actor) ([]bus.Loss, error) { return b.CloseUser(ctx, 1, user(1), true, nil) },
		"holders": func(*actor) ([]bus.Loss, error) { return b.CloseHolders(ctx, ref(1, 0), nil) },
		"all":     func(*actor) ([]bus.Loss, error) { return b.CloseAll(ctx, 1, nil) },
		"active":  func(*actor) ([]bus.Loss, error) { return nil, b.SetActive(ctx, ref(1, 0), true) },
		"close":   func(a *actor) ([]bus.Loss, error) { a.Close(ref(1, 0)); return nil, nil },
		"again":   func(a *actor) ([]bus.Loss, error) { a.Enter(user(1)); return nil, nil },
		"leave":   func(a *actor) ([]bus.Loss, error) { a.Leave(); return nil, nil },
	} {
		a := act(t, b, 1, 1)
		o, err := a.Open(ref(1, 0))
		if err != nil {
			t.Fatal(err)
		}
		lost, err := revoke(a)
		if err != nil || len(lost) > 0 {
			t.Errorf("%s: lost %v, %v", name, lost, err)
		}
		if o.Enable(true, true) || a.Opened() != (bus.Opened{}) {
			t.Errorf("%s: enabled all the same", name)
		}
		a.Leave()
	}
}

func testClosing(t *testing.T, b bus.Bus) {
	ctx := t.Context()
	one, two, member, stranger := act(t, b, 1, 1), act(t, b, 2), act(t, b, 3, 1), act(t, b, 4)
	one.hold(t, ref(1, 0), true, true)
	one.hold(t, ref(1, 1), true, false)
	one.hold(t, ref(2, 0), true, false)
	two.hold(t, ref(1, 0), false, false)
	two.hold(t, ref(1, 1), true, false)
	stranger.hold(t, ref(2, 0), true, false)
	lost, err := b.CloseHolders(ctx, ref(1, 0), []byte("rm"))
	if err != nil || len(lost) != 2 {
		t.Fatalf("lost %v, %v", lost, err)
	}
	byID := map[wire.SessionID]bus.Loss{lost[0].Session: lost[0], lost[1].Session: lost[1]}
	same(t, "loss of one", byID[session(1)], bus.Loss{
		Session: session(1), User: user(1), Active: true,
		Before: wire.SubList{ref(1, 0), ref(1, 1), ref(2, 0)}, After: wire.SubList{{}, ref(1, 1), ref(2, 0)},
	})
	same(t, "loss of two", byID[session(2)].Before, wire.SubList{ref(1, 0), ref(1, 1)})
	one.got(t, "rm")
	two.got(t, "rm")
	member.got(t, "rm")
	stranger.got(t, "")
	lost, err = b.CloseUser(ctx, 1, user(2), true, []byte("kick"))
	if err != nil || len(lost) != 1 || lost[0].Session != session(2) {
		t.Errorf("lost %v, %v", lost, err)
	}
	two.got(t, "rm kick") // who is no member hears of oneself
	member.got(t, "rm kick")
	one.Cast([]byte("a"))
	two.got(t, "rm kick")
	stranger.got(t, "a")
	two.hold(t, ref(1, 7), true, false)
	lost, err = b.CloseAll(ctx, 1, []byte("del"))
	if err != nil || len(lost) != 2 {
		t.Errorf("lost %v, %v", lost, err)
	}
	one.got(t, "rm kick del")
	two.got(t, "rm kick del")
	member.got(t, "rm kick del")
	same(t, "members of what is gone", b.ToMembers(1, wire.UserID{}, []byte("x")).Receivers, 0)
	same(t, "what is left", one.Opened(), bus.Opened{2: {Sub: ref(2, 0), Writable: true}})
}

func testChannelList(t *testing.T, b bus.Bus) {
	ctx := t.Context()
	one, two := act(t, b, 1, 1, 2), act(t, b, 2)
	same(t, "members of 1", b.ToMembers(1, user(2), []byte("a")).Receivers, 2)
	if err := b.AddChannel(ctx, 1, user(2), []byte("new")); err != nil {
		t.Fatal(err)
	}
	same(t, "members of 1 now", b.ToMembers(1, user(2), []byte("b")).Receivers, 2)
	one.got(t, "a new b")
	two.got(t, "a new b")
	since := one.Changes()
	if _, err := b.CloseUser(ctx, 1, user(1), true, nil); err != nil {
		t.Fatal(err)
	}
	if one.SetChannels(since, []wire.ChannelID{1, 2}) {
		t.Error("a list was taken that is too old")
	}
	same(t, "members of 1 then", b.ToMembers(1, wire.UserID{}, []byte("c")).Receivers, 1)
	since = one.Changes()
	if _, err := b.CloseAll(ctx, 9, nil); err != nil {
		t.Fatal(err)
	}
	if one.SetChannels(since, []wire.ChannelID{9}) {
		t.Error("a channel was added that is gone")
	}
	if !one.SetChannels(one.Changes(), []wire.ChannelID{3}) {
		t.Error("the list was not taken")
	}
	for ch, want := range map[wire.ChannelID]int{1: 1, 2: 0, 3: 1} {
		same(t, fmt.Sprintf("members of %d", ch), b.ToMembers(ch, wire.UserID{}, []byte("d")).Receivers, want)
	}
	two.Enter(user(7))
	same(t, "members of 1 without two", b.ToMembers(1, user(2), []byte("e")).Receivers, 0)
}

func testLimitedCast(t *testing.T, b bus.Bus) {
	from, active, elsewhere, quiet := act(t, b, 1), act(t, b, 2), act(t, b, 3), act(t, b, 4)
	from.hold(t, ref(1, 0), true, true)
	active.hold(t, ref(1, 0), false, true)
	active.hold(t, ref(2, 0), false, true)
	elsewhere.hold(t, ref(1, 0), false, false) // active by another one
	elsewhere.hold(t, ref(3, 0), false, true)
	quiet.hold(t, ref(1, 0), true, false)
	list := wire.SubList{1: ref(1, 0), 3: ref(2, 0), 4: ref(77, 1)}
	same(t, "sent", b.LimitedCast(session(1), list, []byte("stat")).Receivers, 2)
	b.LimitedCast(session(1), wire.SubList{}, []byte("no"))
	from.got(t, "")
	quiet.got(t, "")
	active.got(t, "stat")
	elsewhere.got(t, "stat")
}

func testPing(t *testing.T, b bus.Bus) {
	from, both, active, quiet := act(t, b, 1), act(t, b, 2), act(t, b, 3), act(t, b, 4)
	from.hold(t, ref(1, 0), true, false)
	from.hold(t, ref(2, 0), true, false)
	from.hold(t, ref(3, 0), false, false)
	both.hold(t, ref(1, 0), false, true)
	both.hold(t, ref(2, 0), false, false)
	active.hold(t, ref(2, 0), false, false)
	active.hold(t, ref(9, 0), false, true)
	quiet.hold(t, ref(1, 0), true, false)
	if sent, active := from.Ping([]byte("ping")); active || sent.Receivers != 0 {
		t.Errorf("who is not active has pinged %+v", sent)
	}
	from.hold(t, ref(4, 0), true, true)
	sent, ok := from.Ping([]byte("ping"))
	same(t, "pinged", sent.Receivers, 2)
	if !ok {
		t.Error("who is active was told that it is not")
	}
	quiet.got(t, "")
	both.got(t, "ping")
	active.got(t, "ping")
	// The answers come in one piece, in no order.
	answers := from.door.Texts(1)
	if want := infoOf(2) + infoOf(3); answers != want && answers != infoOf(3)+infoOf(2) {
		t.Errorf("answers: got %q, want %q", answers, want)
	}
}

func infoOf(n int) string { return fmt.Sprintf("<info%d>", n) }

func testHoldings(t *testing.T, b bus.Bus) {
	m, other := act(t, b, 1), act(t, b, 2)
	m.hold(t, ref(1, 0), false, false)
	m.hold(t, ref(2, 0), true, true)
	other.hold(t, ref(1, 0), false, false)
	other.hold(t, ref(2, 0), false, false)
	opening, err := m.Open(ref(3, 0))
	if err != nil {
		t.Fatal(err)
	}
	held := make(map[wire.SubRef]bus.Holding)
	for _, h := range m.Holdings() {
		held[h.Sub()] = h
	}
	same(t, "holdings", len(held), 3)
	same(t, "open ones", held[ref(1, 0)].Open() && held[ref(2, 0)].Open() && !held[ref(3, 0)].Open(), true)
	same(t, "made writable", held[ref(1, 0)].SetWritable(true), true)
	same(t, "not open yet", held[ref(3, 0)].SetWritable(true), false)
	m.Cast([]byte("a"))
	other.got(t, "a")

	lost, ok := held[ref(2, 0)].Close()
	same(t, "closed", ok, true)
	same(t, "lost", lost, bus.Loss{
		Session: session(1), User: user(1), Before: wire.SubList{ref(1, 0), ref(2, 0)}, After: wire.SubList{ref(1, 0)}, Active: true,
	})
	m.hold(t, ref(2, 0), false, false) // another one: the old holding is over
	same(t, "set after the end", held[ref(2, 0)].SetWritable(true), false)
	if _, ok := held[ref(2, 0)].Close(); ok {
		t.Error("a holding was closed twice")
	}
	if _, ok := held[ref(3, 0)].Close(); ok {
		t.Error("what was not open has been closed")
	}
	same(t, "opening that was closed", opening.Enable(true, true), false)
	opened := m.Opened()
	same(t, "open", opened.List(), wire.SubList{ref(1, 0), ref(2, 0)})
	same(t, "writable", opened.Writable(), wire.SubList{ref(1, 0)})
}

// An opening that is enabled while its session leaves is among what that has
// lost, or was never open: whoever has been told of it is told of its end.
func testLeaveAgainstEnable(t *testing.T, b bus.Bus) {
	a := act(t, b, 1)
	channels := make([]wire.ChannelID, 200)
	for n := range channels {
		channels[n] = wire.ChannelID(n + 1)
	}
	for range 300 {
		a.SetChannels(a.Changes(), channels)
		opening, err := a.Open(ref(1, 0))
		if err != nil {
			t.Fatal(err)
		}
		var (
			group sync.WaitGroup
			seen  bool
		)
		group.Go(func() {
			if opening.Enable(true, true) {
				opened := a.Opened()
				seen = opened.Active()
			}
		})
		lost, ok := a.Enter(user(1))
		group.Wait()
		if want := (wire.SubList{ref(1, 0)}); seen && (!ok || !lost.Active || lost.Before != want) {
			t.Fatalf("an active sub-channel has gone without a word: %v, %+v", ok, lost)
		}
	}
}

func testLeaveIndex(t *testing.T, b bus.Bus) {
	stays, gone := act(t, b, 1, 1), act(t, b, 2, 1)
	stays.hold(t, ref(1, 0), true, true)
	gone.hold(t, ref(1, 0), true, true)
	gone.hold(t, ref(2, 0), true, false)
	lost, ok := gone.Leave()
	same(t, "lost", lost, bus.Loss{
		Session: session(2), User: user(2), Before: wire.SubList{ref(1, 0), ref(2, 0)}, Active: true,
	})
	if !ok {
		t.Error("nothing was lost")
	}
	if _, ok := gone.Leave(); ok {
		t.Error("something was lost twice")
	}
	gone.Enter(user(2))
	if !gone.SetChannels(gone.Changes(), []wire.ChannelID{1}) {
		t.Error("the list of who has left was refused")
	}
	if _, err := gone.Open(ref(1, 0)); err == nil {
		t.Error("who has left has opened something")
	}
	stays.Cast([]byte("a"))
	gone.Cast([]byte("b"))
	b.ToMembers(1, user(2), []byte("c"))
	b.LimitedCast(session(1), wire.SubList{ref(1, 0)}, []byte("d"))
	if _, err := b.CloseHolders(t.Context(), ref(1, 0), []byte("e")); err != nil {
		t.Fatal(err)
	}
	stays.got(t, "c e")
	gone.got(t, "")
}

// Once a call that takes something away has returned, nothing comes under the
// old right: not what a sender has begun, and not by an opening under way.
func testCloseUnderCasts(t *testing.T, b bus.Bus) {
	const senders, rounds = 6, 300
	ctx := t.Context()
	victim := act(t, b, 99, 1)
	var (
		stop  atomic.Bool
		group sync.WaitGroup
	)
	for n := range senders {
		s := act(t, b, n)
		s.hold(t, ref(1, 0), true, false)
		s.hold(t, ref(1+n%3, 1), true, false)
		group.Go(func() {
			for !stop.Load() {
				s.Cast([]byte("x"))
				runtime.Gosched()
			}
		})
	}
	outsider := act(t, b, 50)
	outsider.hold(t, ref(1, 0), false, false)
	group.Go(func() { // another revocation all the time
		for !stop.Load() {
			if _, err := b.CloseUser(ctx, 1, user(50), false, nil); err != nil {
				t.Error(err)
			}
			if o, err := outsider.Open(ref(1, 0)); err == nil {
				o.Enable(true, false)
			}
			runtime.Gosched() // on one core the others would wait for its time slice
		}
	})
	var right atomic.Uint64 // the revocation's number, as a store would have it
	for round := range rounds {
		opened := make(chan struct{})
		group.Go(func() { // reads its rights and opens, as a session does
			defer close(opened)
			for range 3 {
				o, err := victim.Open(ref(1, 0))
				if err != nil {
					return
				}
				seen := right.Load()
				allowed := seen == uint64(round)
				if !allowed {
					o.Withdraw()
					return
				}
				if o.Enable(true, false) {
					return
				}
			}
		})
		if round%2 == 0 {
			<-opened
		}
		right.Add(1) // committed
		var err error
		switch round % 3 {
		case 0:
			_, err = b.CloseUser(ctx, 1, user(99), round%2 == 0, nil)
		case 1:
			_, err = b.CloseUser(ctx, 1, user(99), true, nil)
		default:
			victim.Enter(user(99))
		}
		if err != nil {
			t.Fatal(err)
		}
		before := victim.door.Count()
		if sent := victim.Cast([]byte("old right")); sent.Receivers > 0 {
			t.Fatalf("round %d: a cast of the old right reached %d", round, sent.Receivers)
		}
		for range 50 {
			runtime.Gosched()
		}
		<-opened
		if after := victim.door.Count(); after != before {
			t.Fatalf("round %d: %d casts came after the right had gone", round, after-before)
		}
		if victim.Opened() != (bus.Opened{}) {
			t.Fatalf("round %d: open without a right", round)
		}
		victim.Enter(user(99))
	}
	stop.Store(true)
	group.Wait()
}

// Once the right of senders has gone, what they were about to cast is lost.
func testSendersClosed(t *testing.T, b bus.Bus) {
	const senders, rounds = 7, 1000
	hears := act(t, b, 99)
	hears.hold(t, ref(1, 0), false, false)
	var (
		all   [senders]*actor
		stop  atomic.Bool
		group sync.WaitGroup
	)
	for n := range senders {
		s := act(t, b, n)
		all[n] = s
		s.Enter(user(5))
		s.hold(t, ref(2, n), true, false) // which it keeps
		group.Go(func() {
			for !stop.Load() {
				s.Cast([]byte("x"))
				runtime.Gosched()
			}
		})
	}
	for round := range rounds {
		for _, s := range all {
			s.hold(t, ref(1, 0), true, false)
		}
		hears.door.WaitFor(hears.door.Count() + 3) // the senders are at it
		lost, err := b.CloseUser(t.Context(), 1, user(5), false, nil)
		before := hears.door.Count()
		if err != nil || len(lost) != senders {
			t.Fatalf("%d have lost something, %v; want %d", len(lost), err, senders)
		}
		for range 20 {
			runtime.Gosched()
		}
		if after := hears.door.Count(); after != before {
			t.Errorf("round %d: %d casts came after the right had gone", round, after-before)
			break
		}
	}
	stop.Store(true)
	group.Wait()
}

// A list that was read before a change is not taken after it.
func testListUnderChanges(t *testing.T, b bus.Bus) {
	ctx := t.Context()
	a := act(t, b, 1)
	var (
		mu      sync.Mutex // the store
		belongs = map[wire.ChannelID]bool{}
		group   sync.WaitGroup
	)
	for n := range 4 {
		group.Go(func() {
			id := wire.ChannelID(n + 1)
			for i := range 300 {
				mu.Lock()
				belongs[id] = i%2 == 0
				mu.Unlock()
				var err error
				if i%2 == 0 {
					err = b.AddChannel(ctx, id, user(1), nil)
				} else {
					_, err = b.CloseUser(ctx, id, user(1), true, nil)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Go(func() {
		for range 300 {
			a.Enter(user(1))
			for {
				since := a.Changes()
				var list []wire.ChannelID
				mu.Lock()
				for id, yes := range belongs {
					if yes {
						list = append(list, id)
					}
				}
				mu.Unlock()
				if a.SetChannels(since, list) {
					break
				}
			}
		}
	})
	group.Wait()
	for id, want := range belongs {
		n := 0
		if want {
			n = 1
		}
		same(t, fmt.Sprintf("members of %d", id), b.ToMembers(id, wire.UserID{}, []byte("x")).Receivers, n)
	}
}
