package client

import (
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"mrci.dev/mrci/wire"
)

// FuzzAsync feeds a client whatever a host may send under async ids: a frame is
// an event, or a link's own, or it ends the connection as one that breaks the
// protocol. Two links are being made and stand.
func FuzzAsync(f *testing.F) {
	session := wire.SessionID{1}
	add := func(frames ...[]byte) {
		var b []byte
		for _, frame := range frames {
			b = append(b, frame...)
		}
		f.Add(b)
	}
	frame := func(t wire.TypeID, id wire.AsyncID, p wire.Payload) []byte {
		return wire.AppendFrame(nil, t, wire.CmdID(id), 0, wire.Append(nil, p))
	}
	me := func(user byte) []byte {
		return frame(wire.MyInfo, wire.AsyncSysMsg, &wire.Account{Peer: wire.Peer{User: wire.UserID{user}}})
	}
	request := frame(wire.P2PRequest, wire.AsyncP2P, &wire.Peer{Session: session, Name: "ann"})
	opened := frame(wire.P2POpen, wire.AsyncP2P, &wire.SessionRef{Session: session})
	closed := frame(wire.P2PClose, wire.AsyncP2P, &wire.SessionRef{Session: session})
	data := frame(wire.Text, wire.AsyncP2P, &wire.PeerData{Src: session, Data: make([]byte, 900)})
	status := frame(wire.PeerStat, wire.AsyncLimitedCast, &wire.PeerStatus{Session: session})
	offer := frame(wire.NewCmd, wire.AsyncAddCmd, &wire.CommandInfo{ID: 300, Name: "p2p_close"})
	withdraw := frame(wire.CommandID, wire.AsyncRmCmd, &wire.CommandRef{ID: 300})
	add(request, opened, data, closed, data)
	add(opened, data, data, data, data, request, closed)
	add(data, me(1), me(2), data, request)
	add(offer, withdraw, data, status)
	add(wire.AppendFrame(nil, 200, 99, 5, []byte("unknown")), wire.AppendFrame(nil, wire.Bytes, 23, 0, []byte("odd")))
	f.Fuzz(func(t *testing.T, stream []byte) {
		var events atomic.Int64
		cfg := Config{QueueBytes: 2048, Stall: 1, OnEvent: func(e Event) { events.Add(1 + int64(e.Lost)) }}.withDefaults()
		c := &Client{cfg: &cfg, ready: make(chan struct{}), hangup: make(chan struct{}), writing: make(chan struct{}, 1), isReady: true, receivers: make(map[instanceKey]receiver)}
		close(c.ready)
		near, far := net.Pipe()
		far.Close() // whatever is written ends the connection
		c.conn = &Connection{Conn: near}
		defer near.Close()
		c.events.queue = newQueue(1 << 30)
		asked, err := c.newLink(wire.Peer{Session: session}, true)
		if err != nil {
			t.Fatal(err)
		}
		open, err := c.newLink(wire.Peer{Session: wire.SessionID{2}}, false)
		if err != nil {
			t.Fatal(err)
		}
		c.linkAnswered(asked, true)
		c.linkAnswered(open, true)
		frames, largest := int64(0), 0
		for {
			frame, rest, ok := wire.CutFrame(stream)
			if !ok {
				break
			}
			stream = rest
			if !frame.Cmd.IsAsync() {
				continue
			}
			frames++
			largest = max(largest, len(frame.Payload))
			err := c.async(frame)
			if err != nil {
				if _, format := errors.AsType[*wire.FormatError](err); !format && wire.AsyncID(frame.Cmd) != wire.AsyncAddCmd {
					t.Fatalf("frame %v %v: %v", frame.Type, frame.Cmd, err)
				}
				break
			}
			if n := len(c.links.requests); n > maxRequests {
				t.Fatalf("%d requests are remembered", n)
			}
		}
		c.endLinks(ErrClosed)
		c.wg.Wait()
		if events.Load() > frames {
			t.Fatalf("%d events of %d frames", events.Load(), frames)
		}
		for _, l := range []*Link{asked, open} {
			if most := 2048 + frameCost + largest; l.queue.bytes > most {
				t.Fatalf("a link holds %d bytes, more than %d", l.queue.bytes, most)
			}
			for {
				if _, ok, end := l.queue.take(); end != nil {
					break
				} else if !ok {
					t.Fatal("a link without an end")
				}
			}
		}
	})
}
