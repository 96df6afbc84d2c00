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

// stat tells those who listen in subs what a session has open.
func (h *Hub) stat(subs wire.SubList, stat wire.PeerStatus) bus.Sent {
	return h.cfg.Bus.LimitedCast(stat.Session, subs, wire.AppendFrame(nil, wire.PeerStat, limited, 0, wire.Append(nil, &stat)))
}

// opened tells its peers what the session has open now, if it is active.
func (s *Seat) opened() {
	s.presence.Lock()
	defer s.presence.Unlock()
	if opened := s.member.Opened(); opened.Active() {
		list := opened.List()
		s.occupant.Pace(s.hub.stat(list, wire.PeerStatus{Session: s.id(), Open: list}))
	}
}

// left tells those who listen where the session has been active what it still
// has open. One that has logged out meanwhile is gone for them: closed has told
// that where it was by then, and they are where it was before.
func (s *Seat) left(before wire.SubList) {
	s.presence.Lock()
	defer s.presence.Unlock()
	if s.silent {
		s.hub.stat(before, wire.PeerStatus{Session: s.id(), Disconnected: true})
		return
	}
	opened := s.member.Opened()
	s.occupant.Pace(s.hub.stat(before, wire.PeerStatus{Session: s.id(), Open: opened.List()}))
}

// lost tells peers what sessions have left, if they were active.
func (h *Hub) lost(all ...bus.Loss) {
	for _, l := range all {
		if !l.Active {
			continue
		}
		if s, err := h.seat(l.Session); err == nil {
			s.left(l.Before)
		} else { // closed has told its last word
			h.stat(l.Before, wire.PeerStatus{Session: l.Session, Disconnected: true})
		}
	}
}

// closed tells peers that the session is gone, if it was active. It takes what
// Enter of the bus returns.
func (s *Seat) closed(l bus.Loss, ok bool) {
	s.presence.Lock()
	defer s.presence.Unlock()
	s.silent = true
	if ok && l.Active {
		s.hub.stat(l.Before, wire.PeerStatus{Session: s.id(), Disconnected: true})
	}
}

// Renamed tells peers who the session is now, if it is active.
func (s *Seat) Renamed() {
	s.presence.Lock()
	defer s.presence.Unlock()
	if opened := s.member.Opened(); opened.Active() {
		s.hub.cfg.Bus.LimitedCast(s.id(), opened.List(), InfoFrame(s.occupant.View()))
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
