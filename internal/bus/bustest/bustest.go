// Package bustest is the behaviour that every bus.Bus must show.
package bustest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/wire"
)

// Run runs the suite. open returns an empty bus; buses that need closing do so
// through t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) bus.Bus) {
	for name, test := range map[string]func(*testing.T, bus.Bus){
		"everybody but the sender": testEverybody,
		"one session":              testOneSession,
		"sessions of a user":       testUser,
		"order per sender":         testOrder,
		"request":                  testRequest,
		"request without answer":   testNoAnswer,
		"leave":                    testLeave,
		"leave during a request":   testLeaveDuringRequest,
		"many at once":             testMany,

		"cast":                    testCast,
		"cast of copies":          testCastCopy,
		"cast to several":         testCastOnce,
		"cast order":              testCastOrder,
		"slow receiver":           testSlowReceiver,
		"pace":                    testPace,
		"opening":                 testOpening,
		"revoked opening":         testRevokedOpening,
		"closing":                 testClosing,
		"channel list":            testChannelList,
		"limited cast":            testLimitedCast,
		"ping":                    testPing,
		"holdings":                testHoldings,
		"leave the index":         testLeaveIndex,
		"leave against enabling":  testLeaveAgainstEnable,
		"closed under casts":      testCloseUnderCasts,
		"senders closed":          testSendersClosed,
		"list read under changes": testListUnderChanges,
		"links":                   testLinks,
		"bounds of links":         testLinkBounds,
		"end of links":            testLinkEnd,
		"links of nobody":         testLinksOfNobody,
		"asking against a logout": testAskAgainstLogout,
		"relay":                   testRelay,
		"large frames of peers":   testRelayLarge,
		"share of peers":          testRelayShare,
		"relay against the end":   testRelayAgainstEnd,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func session(n int) wire.SessionID {
	return wire.SessionID{0: byte(n), 1: byte(n >> 8), 27: 1}
}

func user(n int) wire.UserID { return wire.UserID{0: byte(n), 31: 1} }

// mailbox remembers what it was given. Deliveries may come a moment after
// Publish has returned: want waits.
type mailbox struct {
	mu     sync.Mutex
	more   *sync.Cond
	got    []bus.Event
	answer bool     // at once
	owed   []func() // answers that were not given
	info   string   // who the session is
}

// PeerInfo implements bus.Receiver.
func (m *mailbox) PeerInfo() []byte { return []byte(m.info) }

func newMailbox(answer bool) *mailbox {
	m := &mailbox{answer: answer}
	m.more = sync.NewCond(&m.mu)
	return m
}

func (m *mailbox) Receive(d bus.Delivery) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.got = append(m.got, d.Event)
	if m.answer {
		go d.Answer() // Receive must not call the bus
	} else {
		m.owed = append(m.owed, d.Answer)
	}
	m.more.Broadcast()
}

// want waits for as many events as are wanted and compares their texts.
func (m *mailbox) want(t *testing.T, texts ...string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.got) < len(texts) {
		m.more.Wait()
	}
	var got []string
	for _, e := range m.got {
		got = append(got, e.Text)
	}
	if !slices.Equal(got, texts) {
		t.Errorf("got %q, want %q", got, texts)
	}
}

func testEverybody(t *testing.T, b bus.Bus) {
	boxes := make([]*mailbox, 3)
	for i := range boxes {
		boxes[i] = newMailbox(true)
		b.Join(session(i), boxes[i], nil)
	}
	b.Publish(bus.Everybody(), bus.Event{From: session(0), Text: "a"})
	b.Publish(bus.Everybody(), bus.Event{Text: "host"})
	boxes[0].want(t, "host")
	boxes[1].want(t, "a", "host")
	boxes[2].want(t, "a", "host")
}

func testOneSession(t *testing.T, b bus.Bus) {
	one, other := newMailbox(true), newMailbox(true)
	b.Join(session(1), one, nil)
	b.Join(session(2), other, nil)
	b.Publish(bus.ToSession(session(1)), bus.Event{From: session(2), Text: "x"})
	b.Publish(bus.ToSession(session(9)), bus.Event{Text: "nobody"})
	b.Publish(bus.Everybody(), bus.Event{Text: "end"})
	one.want(t, "x", "end")
	other.want(t, "end")
}

func testUser(t *testing.T, b bus.Bus) {
	one, two, other := newMailbox(true), newMailbox(true), newMailbox(true)
	m1 := b.Join(session(1), one, nil)
	m2 := b.Join(session(2), two, nil)
	b.Join(session(3), other, nil)
	m1.SetUser(user(1))
	m2.SetUser(user(1))
	b.Publish(bus.ToUser(user(1)), bus.Event{User: user(1), Text: "both"})
	b.Publish(bus.ToUser(user(1)), bus.Event{From: session(1), Text: "not the sender"})
	m1.SetUser(user(2))
	b.Publish(bus.ToUser(user(1)), bus.Event{Text: "old"})
	b.Publish(bus.ToUser(user(2)), bus.Event{Text: "new"})
	m2.SetUser(wire.UserID{})
	b.Publish(bus.ToUser(user(1)), bus.Event{Text: "logged out"})
	b.Publish(bus.Everybody(), bus.Event{Text: "end"})
	one.want(t, "both", "new", "end")
	two.want(t, "both", "not the sender", "old", "end")
	other.want(t, "end")
}

func testOrder(t *testing.T, b bus.Bus) {
	const senders, each = 8, 200
	box := newMailbox(true)
	b.Join(session(999), box, nil)
	var group sync.WaitGroup
	for s := range senders {
		group.Go(func() {
			for n := range each {
				b.Publish(bus.Everybody(), bus.Event{From: session(s), Text: fmt.Sprint(n)})
			}
		})
	}
	group.Wait()
	box.mu.Lock()
	defer box.mu.Unlock()
	for len(box.got) < senders*each {
		box.more.Wait()
	}
	next := make(map[wire.SessionID]int)
	for _, e := range box.got {
		if want := fmt.Sprint(next[e.From]); e.Text != want {
			t.Fatalf("from %s: got %s, want %s", e.From, e.Text, want)
		}
		next[e.From]++
	}
}

func testRequest(t *testing.T, b bus.Bus) {
	ctx := t.Context()
	if err := b.Request(ctx, bus.ToUser(user(1)), bus.Event{}); err != nil {
		t.Errorf("request to nobody: %v", err)
	}
	one, two := newMailbox(true), newMailbox(false)
	b.Join(session(1), one, nil).SetUser(user(1))
	b.Join(session(2), two, nil).SetUser(user(1))
	done := make(chan error, 1)
	go func() { done <- b.Request(ctx, bus.ToUser(user(1)), bus.Event{Text: "x"}) }()
	one.want(t, "x")
	two.want(t, "x")
	select {
	case err := <-done:
		t.Fatalf("the request ended before the second answer: %v", err)
	default:
	}
	two.mu.Lock()
	answer := two.owed[0]
	two.mu.Unlock()
	answer()
	answer() // a second one counts for nothing
	if err := <-done; err != nil {
		t.Errorf("request: %v", err)
	}
}

func testNoAnswer(t *testing.T, b bus.Bus) {
	box := newMailbox(false)
	b.Join(session(1), box, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Request(ctx, bus.Everybody(), bus.Event{Text: "x"}) }()
	box.want(t, "x")
	cancel()
	if err := <-done; !errors.Is(err, bus.ErrNoAnswer) {
		t.Errorf("request: %v, want ErrNoAnswer", err)
	}
	box.mu.Lock()
	defer box.mu.Unlock()
	box.owed[0]() // too late: nothing happens
}

func testLeave(t *testing.T, b bus.Bus) {
	gone, stays := newMailbox(true), newMailbox(true)
	m := b.Join(session(1), gone, nil)
	m.SetUser(user(1))
	b.Join(session(2), stays, nil)
	m.Leave()
	m.Leave()
	m.SetUser(user(1))
	b.Publish(bus.Everybody(), bus.Event{Text: "end"})
	b.Publish(bus.ToUser(user(1)), bus.Event{Text: "x"})
	b.Publish(bus.ToSession(session(1)), bus.Event{Text: "x"})
	stays.want(t, "end")
	gone.want(t)
}

func testLeaveDuringRequest(t *testing.T, b bus.Bus) {
	box := newMailbox(false)
	m := b.Join(session(1), box, nil)
	done := make(chan error, 1)
	go func() { done <- b.Request(t.Context(), bus.Everybody(), bus.Event{Text: "x"}) }()
	box.want(t, "x")
	m.Leave()
	if err := <-done; err != nil {
		t.Errorf("request: %v", err)
	}
}

func testMany(t *testing.T, b bus.Bus) {
	var group sync.WaitGroup
	for n := range 50 {
		group.Go(func() {
			m := b.Join(session(n), newMailbox(true), nil)
			m.SetUser(user(n % 5))
			for range 20 {
				b.Publish(bus.ToUser(user(n%5)), bus.Event{From: session(n)})
				if err := b.Request(t.Context(), bus.ToUser(user((n+1)%5)), bus.Event{From: session(n)}); err != nil {
					t.Errorf("request: %v", err)
				}
			}
			m.Leave()
		})
	}
	group.Wait()
}
