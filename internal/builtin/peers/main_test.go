package peers_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"mrci.dev/mrci/internal/builtin/peers"
	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/module/moduletest"
	"mrci.dev/mrci/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// me is the session of all calls.
var me = wire.SessionID{7}

// id is the session id of a peer.
func id(n byte) wire.SessionID { return wire.SessionID{0xa0, n} }

// fake is the other side of the commands: it notes what it is asked.
type fake struct {
	mu     sync.Mutex
	asked  []string
	err    error // of all methods
	full   int   // how often Relay returns bus.ErrLinkFull first; below zero: always
	active bool
	links  []bus.Link
	// atOnce: AwaitRelay calls ready before it returns.
	atOnce  bool
	ready   []func() // of AwaitRelay, that have not been called
	stopped int
	untaken int // frames that were given up
}

func (f *fake) note(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, fmt.Sprintf(format, args...))
	return f.err
}

func (f *fake) from(s wire.SessionID) {
	if s != me {
		panic("another session is meant")
	}
}

func (f *fake) Cast(from wire.SessionID, t wire.TypeID, data []byte) error {
	f.from(from)
	return f.note("cast %s %q", t, data)
}

func (f *fake) Ping(from wire.SessionID) bool {
	f.from(from)
	_ = f.note("ping")
	return f.active
}

func (f *fake) Request(from, to wire.SessionID) error {
	f.from(from)
	return f.note("request %x", to[:2])
}

func (f *fake) Accept(from, to wire.SessionID) error {
	f.from(from)
	return f.note("accept %x", to[:2])
}

func (f *fake) End(from, to wire.SessionID) error {
	f.from(from)
	return f.note("end %x", to[:2])
}

func (f *fake) Links(of wire.SessionID) []bus.Link {
	f.from(of)
	return slices.Clone(f.links)
}

func (f *fake) Relay(from, to wire.SessionID, t wire.TypeID, data []byte) error {
	f.from(from)
	f.mu.Lock()
	if f.full != 0 {
		f.full--
		f.mu.Unlock()
		return bus.ErrLinkFull
	}
	f.mu.Unlock()
	return f.note("relay %x %s %q", to[:2], t, data)
}

func (f *fake) AwaitRelay(from, _ wire.SessionID, ready func()) (stop func()) {
	f.from(from)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.atOnce {
		ready()
	} else {
		f.ready = append(f.ready, ready)
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.stopped++
	}
}

// fail sets what the methods return from now on.
func (f *fake) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.full = err, 0
}

// wake calls what AwaitRelay was given. It returns how many waited.
func (f *fake) wake() int {
	f.mu.Lock()
	due := f.ready
	f.ready = nil
	f.mu.Unlock()
	for _, ready := range due {
		ready()
	}
	return len(due)
}

// were checks what Peers has been asked, and forgets it.
func (f *fake) were(t *testing.T, want ...string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.asked, want) {
		t.Errorf("peers were asked %q, want %q", f.asked, want)
	}
	f.asked = nil
}

func (f *fake) config() peers.Config {
	return peers.Config{Peers: f, Refused: func(from *module.Session, command string, t wire.TypeID) {
		_ = f.note("%s of %d refused: %v", command, from.ID[0], t)
	}, Untaken: func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.untaken++
	}}
}

// command returns one of the commands with f behind it.
func (f *fake) command(name string) *module.Command {
	for _, b := range peers.Commands(f.config()) {
		if b.Command.Name == name {
			return b.Command
		}
	}
	panic("there is no " + name)
}

// call calls a command with a first frame.
func (f *fake) call(t *testing.T, name string, typ wire.TypeID, payload string) *moduletest.Call {
	t.Helper()
	return moduletest.StartFrame(t, moduletest.Config{
		Command: f.command(name),
		Session: &module.Session{ID: me, User: &module.User{Rank: 2}},
	}, wire.Frame{Type: typ, Payload: []byte(payload)})
}

// refused checks that a call ends with this text and code.
func refused(t *testing.T, c *moduletest.Call, code wire.ReturnCode, text string) {
	t.Helper()
	c.Expect(wire.Err, text+"\n")
	c.End(code)
}

// addressed is a payload for to_peer.
func addressed(to wire.SessionID, data string) string { return string(to[:]) + data }

func TestDescriptions(t *testing.T) {
	want := []string{
		"cast [any]/[]", "ping_peers []/[]", "p2p_request [session_id]/[]", "p2p_open [session_id]/[]",
		"p2p_close [session_id]/[]", "to_peer [any]/[]", "ls_p2p []/[text]",
	}
	var got []string
	for _, b := range peers.Commands(new(fake).config()) {
		c := b.Command
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
		if c.Class != module.Ranked || !c.Inline || b.Further != 0 {
			t.Errorf("%s: class %d, inline %v, further %d", c.Name, c.Class, c.Inline, b.Further)
		}
		if c.Short == "" || c.Long == "" || strings.Contains(c.Short+c.Long, "\n") {
			t.Errorf("%s: texts %q, %q", c.Name, c.Short, c.Long)
		}
		got = append(got, c.Name+" "+c.IOText())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
