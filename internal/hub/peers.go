package hub

import (
	"errors"
	"time"

	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/wire"
)

// p2p is the command id of what goes between two peers (protocol 7).
const p2p = wire.CmdID(wire.AsyncP2P)

// ErrTooManyRequests: a session has asked for more links in a minute than
// p2p_requests_per_min allows.
var ErrTooManyRequests = errors.New("too many requests in a minute")

// sessionFrame is a P2P frame that names the session.
func (s *Seat) sessionFrame(t wire.TypeID) []byte {
	id := s.id()
	return wire.AppendFrame(nil, t, p2p, 0, id[:])
}

// Request asks a peer for a link, or accepts one for which the peer has asked
// (commands 8, p2p_request).
func (h *Hub) Request(from, to wire.SessionID) error {
	s, err := h.seat(from)
	if err != nil {
		return err
	}
	if err := s.mayRequest(to); err != nil {
		return err
	}
	request := wire.AppendFrame(nil, wire.P2PRequest, p2p, 0, wire.Append(nil, Info(s.occupant.View())))
	_, err = s.member.AskLink(to, request, s.sessionFrame(wire.P2POpen))
	if errors.Is(err, bus.ErrNobody) {
		return errNoSession
	}
	return err
}

// mayRequest counts a request for a link. One too many is refused, but for what
// is none because of what there is already.
func (s *Seat) mayRequest(to wire.SessionID) error {
	if s.hub.requests.Allow(s.id(), time.Now()) {
		return nil
	}
	for _, l := range s.member.Peers() {
		if l.Peer == to {
			return nil
		}
	}
	s.hub.tooMany.Add(1)
	return ErrTooManyRequests
}

// RefusedRequests returns how many requests for a link were refused with
// ErrTooManyRequests.
func (h *Hub) RefusedRequests() uint64 { return h.tooMany.Load() }

// Accept makes a request of a peer a link (commands 8, p2p_open).
func (h *Hub) Accept(from, to wire.SessionID) error {
	s, err := h.seat(from)
	if err != nil {
		return err
	}
	return s.member.AcceptLink(to, s.sessionFrame(wire.P2POpen))
}

// End ends a link, declines or withdraws a request (commands 8, p2p_close).
func (h *Hub) End(from, to wire.SessionID) error {
	s, err := h.seat(from)
	if err != nil {
		return err
	}
	return s.member.CloseLink(to, s.sessionFrame(wire.P2PClose))
}

// Links returns the peers of a session, in no order.
func (h *Hub) Links(of wire.SessionID) []bus.Link {
	s, err := h.seat(of)
	if err != nil {
		return nil
	}
	return s.member.Peers()
}

// Relay sends data to a peer, whose client gets the source in front of it
// (protocol 7).
func (h *Hub) Relay(from, to wire.SessionID, t wire.TypeID, data []byte) error {
	s, err := h.seat(from)
	if err != nil {
		return err
	}
	size := wire.SessionIDSize + len(data)
	frame := make([]byte, 0, wire.FrameHeaderSize+size)
	frame = wire.FrameHeader{Type: t, Cmd: p2p, Len: size}.Append(frame)
	frame = append(frame, from[:]...)
	return s.member.Relay(to, append(frame, data...))
}

// AwaitRelay calls ready once when Relay, after bus.ErrLinkFull, is worth
// another try, on a goroutine that ready must not hold up. stop takes the wish
// back.
func (h *Hub) AwaitRelay(from, to wire.SessionID, ready func()) (stop func()) {
	s, err := h.seat(from)
	if err != nil {
		ready()
		return func() {}
	}
	return s.member.AwaitLink(to, ready)
}
