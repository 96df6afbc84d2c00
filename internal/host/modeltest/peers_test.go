package modeltest

import "mrci.dev/mrci/wire"

// Commands 8. What reaches a client stands under P2P (protocol 7).

func (w *world) find(id wire.SessionID) *session {
	for _, s := range w.connected() {
		if s.id == id {
			return s
		}
	}
	return nil
}

func ref(s *session) *wire.SessionRef { return &wire.SessionRef{Session: s.id} }

func (s *session) p2p(from *session, t wire.TypeID, p wire.Payload) {
	s.get(from.lane, t, wire.AsyncP2P, wire.Append(nil, p))
}

func (w *world) link(a, b *session) {
	delete(w.asked, [2]*session{a, b})
	delete(w.asked, [2]*session{b, a})
	w.linked[[2]*session{a, b}], w.linked[[2]*session{b, a}] = true, true
}

func (w *world) p2pRequest(c *call, id wire.SessionID) wire.ReturnCode {
	me, peer := c.by, w.find(id)
	switch {
	case id == me.id: // one's own id
		return refused
	case peer == nil, peer.user == nil: // the peer does not exist; who is not logged in cannot answer
		return failed
	case w.linked[[2]*session{me, peer}], w.asked[[2]*session{me, peer}]:
		return refused
	case w.asked[[2]*session{peer, me}]: // this is p2p_open
		w.link(me, peer)
		peer.p2p(me, wire.P2POpen, ref(me))
		return done
	}
	w.asked[[2]*session{me, peer}] = true
	peer.p2p(me, wire.P2PRequest, me.peer())
	return done
}

func (w *world) p2pOpen(c *call, id wire.SessionID) wire.ReturnCode {
	me, peer := c.by, w.find(id)
	if peer == nil || !w.asked[[2]*session{peer, me}] {
		return refused
	}
	w.link(me, peer)
	peer.p2p(me, wire.P2POpen, ref(me))
	return done
}

func (w *world) p2pClose(c *call, id wire.SessionID) wire.ReturnCode {
	peer := w.find(id)
	if peer == nil || !w.unlink(c.by, peer) {
		return refused
	}
	return done
}

// unlink ends what there is between two sessions, and tells the other.
func (w *world) unlink(me, peer *session) bool {
	if !w.forget(me, peer) {
		return false
	}
	peer.p2p(me, wire.P2PClose, ref(me))
	return true
}

// forget ends what there is between two sessions, and reports whether there was
// anything.
func (w *world) forget(me, peer *session) bool {
	mine, theirs := [2]*session{me, peer}, [2]*session{peer, me}
	there := w.linked[mine] || w.asked[mine] || w.asked[theirs]
	delete(w.asked, mine)
	delete(w.asked, theirs)
	delete(w.linked, mine)
	delete(w.linked, theirs)
	return there
}

// closeLinks: the end of a session, and its logout, send CLOSE_P2P (protocol
// 7); its own lists are emptied without a word.
func (w *world) closeLinks(s *session) {
	for _, peer := range w.connected() {
		w.unlink(s, peer)
	}
}

// toPeer is to_peer: the source's id stands in front of the data.
func (w *world) toPeer(c *call, t wire.TypeID, payload []byte) wire.ReturnCode {
	if len(payload) < wire.SessionIDSize || !carried(t) {
		return refused
	}
	peer := w.find(wire.SessionID(payload[:wire.SessionIDSize]))
	if peer == nil || !w.linked[[2]*session{c.by, peer}] {
		return refused
	}
	peer.p2p(c.by, t, &wire.PeerData{Src: c.by.id, Data: payload[wire.SessionIDSize:]})
	return done
}
