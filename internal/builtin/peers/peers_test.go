package peers_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mrci.dev/mrci/internal/builtin/peers"
	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/hub"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// types is how refusals name what may be sent.
const types = "GEN_FILE, TEXT, ERR, PRIV_TEXT, FILE_INFO, BYTES, SESSION_ID, CMD_ID, BIG_TEXT, CH_MEMBER_INFO, CH_ID, PROMPT_TEXT, PROG, PROG_LAST"

func refusedType(t wire.TypeID) string {
	return fmt.Sprintf("A frame of type %s cannot be sent to other clients; use one of %s.", t, types)
}

// allowed reports whether a type stands in types.
func allowed(t wire.TypeID) bool {
	return t.Known() && strings.Contains(", "+types+",", ", "+t.String()+",")
}

func TestCast(t *testing.T) {
	f := new(fake)
	for n := range 256 {
		typ := wire.TypeID(n)
		c := f.call(t, "cast", typ, "data")
		if allowed(typ) {
			c.End(wire.NoErrors)
			f.were(t, fmt.Sprintf("cast %s %q", typ, "data"))
			continue
		}
		refused(t, c, wire.InvalidParams, refusedType(typ))
		f.were(t, fmt.Sprintf("cast of %d refused: %v", me[0], typ))
	}
	f.call(t, "cast", wire.Bytes, "").End(wire.NoErrors)
	f.were(t, `cast BYTES ""`)
	f.call(t, "cast", wire.Bytes, strings.Repeat("x", wire.MaxPayload)).End(wire.NoErrors) // the full size
}

func TestPing(t *testing.T) {
	f := &fake{active: true}
	f.call(t, "ping_peers", wire.Text, "").End(wire.NoErrors)
	f.were(t, "ping")
	f.active = false
	refused(t, f.call(t, "ping_peers", wire.Text, ""), wire.InvalidParams,
		"You have no active sub-channel open; open one with open_sub_ch (ls_sub_chs shows which are active).")
	f.were(t, "ping")
	refused(t, f.call(t, "ping_peers", wire.Bytes, ""), wire.InvalidParams, "ping_peers takes a TEXT frame, not BYTES.")
	f.were(t)
}

// links are the commands that name a peer, and what they ask of Peers.
var links = map[string]string{"p2p_request": "request", "p2p_open": "accept", "p2p_close": "end"}

func TestPeerCommands(t *testing.T) {
	peer := id(1)
	for name, asks := range links {
		f := new(fake)
		f.call(t, name, wire.SesID, string(peer[:])).End(wire.NoErrors)
		f.were(t, asks+" a001")

		for what, frame := range map[string]wire.Frame{
			"empty":     {Type: wire.SesID},
			"short":     {Type: wire.SesID, Payload: peer[:27]},
			"long":      {Type: wire.SesID, Payload: append(peer[:], 0)},
			"TEXT":      {Type: wire.Text, Payload: []byte(peer.String())},
			"BYTES, 28": {Type: wire.Bytes, Payload: peer[:]},
			"unknown":   {Type: 99, Payload: peer[:]},
		} {
			t.Run(name+" "+what, func(t *testing.T) {
				refused(t, f.call(t, name, frame.Type, string(frame.Payload)), wire.InvalidParams, name+" takes a SESSION_ID frame of 28 bytes.")
				f.were(t)
			})
		}
	}
}

// What the user is told for each reason, and the code of the command's entry.
func TestReasons(t *testing.T) {
	const (
		linked    = "You have a link to this peer already; to_peer sends to it."
		many      = "You have 100 open requests or 100 links, which is the most; end one with p2p_close first."
		peersMany = "This peer has no room for another request or link; try again later."
		noLink    = "You have no link to this peer; ask it with p2p_request, or accept its request with p2p_open."
	)
	peer := id(1)
	for _, tt := range []struct {
		command string
		err     error
		code    wire.ReturnCode
		text    string
	}{
		{"p2p_request", bus.ErrLinked, wire.InvalidParams, linked},
		{"p2p_request", bus.ErrAsked, wire.InvalidParams, "You have asked this peer already; wait for the answer, or withdraw the request with p2p_close."},
		{"p2p_request", bus.ErrSelf, wire.InvalidParams, "That is your own session; name the session of somebody else."},
		{"p2p_request", bus.ErrNoPeer, wire.ExecutionFail, "There is no session with this id now; ping_peers tells who is there."},
		{"p2p_request", bus.ErrLinks, wire.ExecutionFail, many},
		{"p2p_request", bus.ErrPeerLinks, wire.ExecutionFail, peersMany},
		{"p2p_request", hub.ErrTooManyRequests, wire.ExecutionFail, "You have made too many requests in the last minute; try again in a minute."},
		{"p2p_open", bus.ErrLinked, wire.InvalidParams, linked},
		{"p2p_open", bus.ErrNotAsked, wire.InvalidParams, "This peer has not asked you for a link; ask it with p2p_request."},
		{"p2p_open", bus.ErrLinks, wire.ExecutionFail, many},
		{"p2p_open", bus.ErrPeerLinks, wire.ExecutionFail, peersMany},
		{"p2p_close", bus.ErrNotLinked, wire.InvalidParams, "You have neither a link to this peer nor a request; ls_p2p shows those that you have."},
		{"to_peer", bus.ErrNotLinked, wire.InvalidParams, noLink},
		{"to_peer", bus.ErrLinkFrame, wire.InvalidParams, "This frame is larger than what a peer can take at once on this host; send it in pieces."},
		{"to_peer", bus.ErrPeerDropped, wire.ExecutionFail, "This peer takes nothing any more, because its connection is about to end; your frame was not sent."},
		// A reason of the host's own for the user, whatever it is about.
		{"cast", module.Fail(wire.ExecutionFail, "You cast too fast."), wire.ExecutionFail, "You cast too fast."},
		{"to_peer", module.Fail(wire.ExecutionFail, "No."), wire.ExecutionFail, "No."},
	} {
		t.Run(tt.command+" "+tt.err.Error(), func(t *testing.T) {
			f := &fake{err: fmt.Errorf("session: %w", tt.err)}
			refused(t, f.call(t, tt.command, wire.SesID, string(peer[:])), tt.code, tt.text)
		})
	}
	broken := errors.New("broken")
	for _, name := range []string{"cast", "p2p_request", "p2p_open", "p2p_close", "to_peer"} {
		f := &fake{err: broken}
		if r := f.call(t, name, wire.SesID, string(peer[:])).End(wire.ExecutionFail); !errors.Is(r.Err, broken) {
			t.Errorf("%s: got %v", name, r.Err)
		}
	}
}

func TestListLinks(t *testing.T) {
	const header = "\npeer_id    pending\n-------    -------\n"
	f := new(fake)
	c := f.call(t, "ls_p2p", wire.Text, "")
	c.Expect(wire.Text, header)
	c.End(wire.NoErrors)

	f.links = []bus.Link{{Peer: id(3), State: bus.LinkPending}, {Peer: id(1), State: bus.LinkAccepted}, {Peer: id(2), State: bus.LinkAsked}}
	c = f.call(t, "ls_p2p", wire.Text, "")
	wide := strings.Repeat(" ", 53)
	c.Expect(wire.Text, "\n"+
		"peer_id"+wide+"pending\n"+
		"-------"+wide+"-------\n"+
		id(1).String()+"    0\n"+
		id(2).String()+"    1\n"+
		id(3).String()+"    1\n")
	c.End(wire.NoErrors)

	// The most that there can be is one frame.
	f.links = nil
	for n := range 3 * bus.MaxLinks {
		f.links = append(f.links, bus.Link{Peer: wire.SessionID{byte(n >> 8), byte(n)}, State: bus.LinkAccepted})
	}
	c = f.call(t, "ls_p2p", wire.Text, "")
	if typ, text := c.Next(); typ != wire.Text || strings.Count(string(text), "\n") != 3+len(f.links) {
		t.Errorf("got %s with %d lines", typ, strings.Count(string(text), "\n"))
	}
	c.End(wire.NoErrors)
	refused(t, f.call(t, "ls_p2p", wire.SesID, ""), wire.InvalidParams, "ls_p2p takes a TEXT frame, not SESSION_ID.")
}

func TestToPeer(t *testing.T) {
	peer := id(1)
	f := &fake{links: []bus.Link{{Peer: peer, State: bus.LinkAccepted}}}
	for n := range 256 {
		typ := wire.TypeID(n)
		c := f.call(t, "to_peer", typ, addressed(peer, "data"))
		if allowed(typ) {
			c.End(wire.NoErrors)
			f.were(t, fmt.Sprintf("relay a001 %s %q", typ, "data"))
			continue
		}
		refused(t, c, wire.InvalidParams, refusedType(typ))
		f.were(t, fmt.Sprintf("to_peer of %d refused: %v", me[0], typ))
	}
	f.call(t, "to_peer", wire.Text, addressed(peer, "")).End(wire.NoErrors)
	f.were(t, `relay a001 TEXT ""`)
	f.call(t, "to_peer", wire.Bytes, addressed(peer, strings.Repeat("x", wire.MaxPayload-wire.SessionIDSize))).End(wire.NoErrors)
}

// The checks come in the order of the entry: size, link, type.
func TestToPeerOrder(t *testing.T) {
	peer := id(1)
	f := new(fake)
	for _, typ := range []wire.TypeID{wire.Text, wire.MyInfo} {
		for _, size := range []int{0, 27} {
			refused(t, f.call(t, "to_peer", typ, string(peer[:size])), wire.InvalidParams,
				fmt.Sprintf("The payload begins with the session id of the peer, 28 bytes, and this one has only %d.", size))
		}
	}
	for _, list := range [][]bus.Link{nil, {{Peer: id(2), State: bus.LinkAccepted}}, {{Peer: peer, State: bus.LinkAsked}}, {{Peer: peer, State: bus.LinkPending}}} {
		f.links = list
		refused(t, f.call(t, "to_peer", wire.MyInfo, addressed(peer, "x")), wire.InvalidParams,
			"You have no link to this peer; ask it with p2p_request, or accept its request with p2p_open.")
	}
	f.were(t)
}

const gaveUp = "This peer has not taken what it was sent before for 5 seconds; your frame was not sent, try again later."

// A full link makes the call wait.
func TestToPeerWaits(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, f *fake){
		"until there is room": func(t *testing.T, f *fake) {
			f.full = 3 // inline, again, and after the first wish
			start := time.Now()
			c := f.call(t, "to_peer", wire.Bytes, addressed(id(1), "late"))
			for range 2 {
				time.Sleep(2 * time.Second)
				synctest.Wait()
				f.were(t)
				if n := f.wake(); n != 1 {
					t.Fatalf("%d waited", n)
				}
			}
			if r := c.End(wire.NoErrors); !r.Again {
				t.Error("it has waited inline")
			}
			f.were(t, `relay a001 BYTES "late"`)
			if took := time.Since(start); took != 4*time.Second || f.stopped != 2 || f.untaken != 0 {
				t.Errorf("took %v, %d wishes taken back, %d frames given up", took, f.stopped, f.untaken)
			}
		},
		"for 5 s": func(t *testing.T, f *fake) {
			f.full = -1
			start := time.Now()
			refused(t, f.call(t, "to_peer", wire.Bytes, addressed(id(1), "never")), wire.ExecutionFail, gaveUp)
			if took := time.Since(start); took != 5*time.Second || f.stopped != 1 || f.untaken != 1 {
				t.Errorf("took %v, %d wishes taken back, %d frames given up", took, f.stopped, f.untaken)
			}
			f.were(t)
		},
		"for 5 s in all": func(t *testing.T, f *fake) {
			f.full = -1
			start := time.Now()
			c := f.call(t, "to_peer", wire.Bytes, addressed(id(1), "never"))
			for range 4 {
				time.Sleep(time.Second)
				synctest.Wait()
				f.wake()
			}
			refused(t, c, wire.ExecutionFail, gaveUp)
			if took := time.Since(start); took != 5*time.Second || f.stopped != 5 {
				t.Errorf("took %v, %d wishes taken back", took, f.stopped)
			}
		},
		"until the last moment": func(t *testing.T, f *fake) {
			f.full = 2
			f.call(t, "to_peer", wire.Bytes, addressed(id(1), "just")).End(wire.NoErrors)
			f.were(t, `relay a001 BYTES "just"`)
		},
		"not when there is room at once": func(t *testing.T, f *fake) {
			f.full, f.atOnce = 9, true
			start := time.Now()
			f.call(t, "to_peer", wire.Bytes, addressed(id(1), "soon")).End(wire.NoErrors)
			f.were(t, `relay a001 BYTES "soon"`)
			if took := time.Since(start); took != 0 {
				t.Errorf("took %v", took)
			}
		},
		"until the link ends": func(t *testing.T, f *fake) {
			f.full = -1
			c := f.call(t, "to_peer", wire.Bytes, addressed(id(1), "x"))
			synctest.Wait()
			f.fail(bus.ErrNotLinked)
			f.wake()
			refused(t, c, wire.InvalidParams, "You have no link to this peer; ask it with p2p_request, or accept its request with p2p_open.")
		},
		"until TERM_CMD": func(t *testing.T, f *fake) {
			f.full = -1
			c := f.call(t, "to_peer", wire.Bytes, addressed(id(1), "x"))
			synctest.Wait()
			c.Term()
			if r := c.End(wire.Aborted); r.Err != module.ErrTerminated || f.stopped != 1 {
				t.Errorf("ended with %v, %d wishes taken back", r.Err, f.stopped)
			}
			f.were(t)
		},
		"until KILL_CMD, though there is room": func(t *testing.T, f *fake) {
			f.full = 2
			c := f.call(t, "to_peer", wire.Bytes, addressed(id(1), "x"))
			synctest.Wait()
			c.Kill()
			f.wake()
			if r := c.End(wire.Aborted); r.Err != module.ErrKilled || f.stopped != 1 {
				t.Errorf("ended with %v, %d wishes taken back", r.Err, f.stopped)
			}
			f.were(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, new(fake)) })
		})
	}
}

// owner runs a command where nothing may wait.
type owner struct {
	t    *testing.T
	sent int
}

func (o *owner) MayWait() bool            { return false }
func (o *owner) Session() *module.Session { return &module.Session{ID: me} }
func (o *owner) Send(context.Context, wire.TypeID, []byte) error {
	o.sent++
	return nil
}
func (o *owner) Receive(context.Context) (wire.TypeID, []byte, error) {
	o.t.Error("receives")
	return 0, nil, errors.ErrUnsupported
}
func (o *owner) Checkpoint(context.Context) error {
	o.t.Error("comes to a checkpoint")
	return errors.ErrUnsupported
}
func (o *owner) Async(context.Context, wire.AsyncID, wire.Payload) error {
	o.t.Error("asks for an async")
	return errors.ErrUnsupported
}

// No command waits inline, whatever Peers answer: a wait would end the bubble's
// test, or take time there. Who must wait has sent nothing and wishes nothing.
func TestInlineNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		for _, answer := range []error{
			nil, errors.New("broken"), hub.ErrTooManyRequests, bus.ErrSelf, bus.ErrNoPeer, bus.ErrLinked, bus.ErrAsked, bus.ErrNotAsked,
			bus.ErrNotLinked, bus.ErrLinks, bus.ErrPeerLinks, bus.ErrLinkFull, bus.ErrLinkFrame, bus.ErrPeerDropped,
		} {
			f := &fake{err: answer}
			for _, b := range peers.Commands(f.config()) {
				input := addressed(id(1), "")
				o := &owner{t: t}
				c := module.NewCall(o, 300, b.Command.Name, wire.Frame{Type: wire.SesID, Payload: []byte(input)}, module.Args{})
				err := b.Command.Run(t.Context(), c)
				if mustWait := b.Command.Name == "to_peer" && answer == bus.ErrLinkFull; mustWait != errors.Is(err, module.ErrMustWait) {
					t.Errorf("%s at %v: got %v", b.Command.Name, answer, err)
				}
				if errors.Is(err, module.ErrMustWait) && (o.sent > 0 || string(c.Input) != input) {
					t.Errorf("%s has done something before it asks to wait", b.Command.Name)
				}
			}
			if len(f.ready) > 0 {
				t.Errorf("at %v there are %d wishes", answer, len(f.ready))
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("they have waited for %v", took)
		}
	})
}
