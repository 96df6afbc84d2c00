package peers

import (
	"context"
	"errors"
	"slices"
	"time"

	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// patience is how long to_peer waits for room in a link.
const patience = 5 * time.Second

func (c commands) toPeer() *module.Command {
	return &module.Command{
		Name:  "to_peer",
		Class: module.Ranked,
		Input: module.AnyInput,
		Short: "send a frame to a peer that you have a link to",
		Long: "Sends a frame to one session. The payload begins with the session id of the peer (28 bytes); the peer gets the rest, in a " +
			"frame of the same type, behind the session id of this session. Each frame is a call of its own. p2p_request and p2p_open " +
			"make the link that it takes. When the peer reads slowly the call waits, for 5 seconds at most. Types that only the host may " +
			"say to a client are refused: what is sent is one of " + relayable + ".",
		Inline: true,
		Run:    c.runToPeer,
	}
}

func (c commands) runToPeer(ctx context.Context, call *module.Call) error {
	if len(call.Input) < wire.SessionIDSize {
		return module.Invalid("The payload begins with the session id of the peer, %d bytes, and this one has only %d.", wire.SessionIDSize, len(call.Input))
	}
	m := message{c.Peers, call.Session().ID, wire.SessionID(call.Input[:wire.SessionIDSize]), call.Type, call.Input[wire.SessionIDSize:]}
	if !m.typ.Relayable() {
		if !m.linked() {
			return m.explain(bus.ErrNotLinked)
		}
		return c.refuse(call)
	}
	err := m.send()
	if errors.Is(err, bus.ErrLinkFull) {
		if !call.MayWait() {
			return module.ErrMustWait
		}
		err = m.sendPatiently(ctx)
	}
	if errors.Is(err, bus.ErrLinkFull) || errors.Is(err, bus.ErrPeerDropped) {
		c.Untaken()
	}
	return m.explain(err)
}

// message is a frame for a peer.
type message struct {
	peers    Peers
	from, to wire.SessionID
	typ      wire.TypeID
	data     []byte
}

func (m message) send() error { return m.peers.Relay(m.from, m.to, m.typ, m.data) }

func (m message) linked() bool {
	return slices.Contains(m.peers.Links(m.from), bus.Link{Peer: m.to, State: bus.LinkAccepted})
}

// sendPatiently sends when the link has room again. bus.ErrLinkFull: it had
// none for too long; and whatever ends the call ends the wait.
func (m message) sendPatiently(ctx context.Context) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		room := make(chan struct{}, 1)
		stop := m.peers.AwaitRelay(m.from, m.to, func() { room <- struct{}{} })
		var late bool
		select {
		case <-room:
		case <-timer.C:
			late = true
		case <-ctx.Done():
		}
		stop()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := m.send(); late || !errors.Is(err, bus.ErrLinkFull) {
			return err
		}
	}
}

func (m message) explain(err error) error {
	switch {
	case errors.Is(err, bus.ErrNotLinked):
		return module.Invalid("You have no link to this peer; ask it with p2p_request, or accept its request with p2p_open.")
	case errors.Is(err, bus.ErrLinkFull):
		return module.Fail(wire.ExecutionFail, "This peer has not taken what it was sent before for %d seconds; your frame was not sent, try again later.", int(patience.Seconds()))
	}
	return explain(err)
}
