package hub

import (
	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// limited is the command id of presence (protocol 5, LIMITED_CAST).
const limited = wire.CmdID(wire.AsyncLimitedCast)

// Info returns the PEER_INFO of a session.
func Info(view *module.Session) *wire.Peer {
	p := &wire.Peer{Session: view.ID, App: view.App}
	if u := view.User; u != nil {
		p.User, p.Name, p.Display = u.ID, u.Name, u.Display
	}
	return p
}

// InfoFrame returns the frame that tells a peer who a session is (protocol 6).
func InfoFrame(view *module.Session) []byte {
	return wire.AppendFrame(nil, wire.PeerInfo, limited, 0, wire.Append(nil, Info(view)))
}

func statFrame(stat *wire.PeerStatus) []byte {
	return wire.AppendFrame(nil, wire.PeerStat, limited, 0, wire.Append(nil, stat))
}

// tell tells those who listen in subs what the session has open now.
func (s *Seat) tell(subs func(now wire.SubList) wire.SubList) {
	s.presence.Lock()
	defer s.presence.Unlock()
	if s.silent {
		return
	}
	opened := s.member.Opened()
	now := opened.List()
	s.occupant.Pace(s.hub.cfg.Bus.LimitedCast(s.id, subs(now), statFrame(&wire.PeerStatus{Session: s.id, Open: now})))
}

// lost tells peers what a session has left, if it was active. Who has logged
// out meanwhile has told them more.
func (h *Hub) lost(all ...bus.Loss) {
	for _, l := range all {
		if !l.Active {
			continue
		}
		if s, err := h.seat(l.Session); err == nil {
			s.tell(func(wire.SubList) wire.SubList { return l.Before })
		}
	}
}

// closed tells peers that the session is gone, if it was active. It takes what
// Enter and Leave of the bus return.
func (s *Seat) closed(l bus.Loss, any bool) {
	s.presence.Lock()
	defer s.presence.Unlock()
	s.silent = true
	if any && l.Active {
		s.hub.cfg.Bus.LimitedCast(s.id, l.Before, statFrame(&wire.PeerStatus{Session: s.id, Disconnected: true}))
	}
}

// Renamed tells peers who the session is now, if it is active.
func (s *Seat) Renamed() {
	s.presence.Lock()
	defer s.presence.Unlock()
	if opened := s.member.Opened(); opened.Active() {
		s.hub.cfg.Bus.LimitedCast(s.id, opened.List(), InfoFrame(s.occupant.View()))
	}
}

// Ping tells the active peers of a session who it is, and the session who they
// are; active is false, and nothing happens, when the session has no active
// sub-channel open (commands 7, ping_peers).
func (h *Hub) Ping(from wire.SessionID) (active bool) {
	s, err := h.seat(from)
	if err != nil {
		return false
	}
	sent, active := s.member.Ping(InfoFrame(s.occupant.View()))
	s.occupant.Pace(sent)
	return active
}
