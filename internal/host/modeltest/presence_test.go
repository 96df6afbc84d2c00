package modeltest

import (
	"slices"

	"mrci.dev/mrci/wire"
)

// limitedCast reaches the active sessions that have any of the sub-channels
// open, never the sender (protocol 6; 5, LIMITED_CAST is public without +self).
func (w *world) limitedCast(from *session, refs []wire.SubRef, t wire.TypeID, payload wire.Payload) {
	b := wire.Append(nil, payload)
	for _, s := range w.heard(from, refs) {
		s.get(from.lane, t, wire.AsyncLimitedCast, b)
	}
}

// heard are the sessions that a LIMITED_CAST reaches.
func (w *world) heard(from *session, refs []wire.SubRef) []*session {
	var list []*session
	for _, s := range w.connected() {
		if s != from && s.holdsAny(refs) && w.active(s) {
			list = append(list, s)
		}
	}
	return list
}

// peerStat tells what a session has open now.
func (w *world) peerStat(s *session, refs []wire.SubRef) {
	w.limitedCast(s, refs, wire.PeerStat, &wire.PeerStatus{Session: s.id, Open: s.slots()})
}

// loss is a session of which something was closed.
type loss struct {
	session *session
	before  []wire.SubRef
	active  bool // the session was
}

// closeWhere closes sub-channels of sessions. It is called while what decides
// about "active" is still there.
func (w *world) closeWhere(gone func(s *session, ref wire.SubRef) bool) []loss {
	var losses []loss
	for _, s := range w.connected() {
		if !slices.ContainsFunc(s.refs(), func(ref wire.SubRef) bool { return gone(s, ref) }) {
			continue
		}
		losses = append(losses, loss{s, s.refs(), w.active(s)})
	}
	for _, l := range losses {
		for i, o := range l.session.open {
			if o.ref.Channel != 0 && gone(l.session, o.ref) {
				l.session.open[i] = opened{}
			}
		}
	}
	return losses
}

// tellLosses: all have left what was closed; then each session that was active
// sends PEER_STAT to what it had before all of that and what it still has
// (protocol 6).
func (w *world) tellLosses(losses []loss) {
	told := make(map[*session]bool)
	for _, l := range losses {
		if l.active && !told[l.session] {
			told[l.session] = true
			w.peerStat(l.session, l.before)
		}
	}
}

// openSub is open_sub_ch (commands 7).
func (w *world) openSub(c *call, ch, name string) wire.ReturnCode {
	s := c.by
	r := w.room(ch)
	if r == nil {
		return refused
	}
	id, sub := r.sub(name)
	if sub == nil || r.level(s) > sub.lowest {
		return refused
	}
	ref := wire.SubRef{Channel: r.id, Sub: id}
	if s.holds(ref) {
		return done // nothing changes, I1
	}
	for i, o := range s.open {
		if o.ref.Channel == 0 {
			s.open[i] = opened{ref, r.mayCast(s, id)}
			// "active" is computed again and, if set, PEER_STAT is cast to the
			// open list.
			if w.active(s) {
				w.peerStat(s, s.refs())
			}
			return done
		}
	}
	return failed // six are open
}

// closeSub is close_sub_ch (commands 7): no level needed.
func (w *world) closeSub(c *call, ch, name string) wire.ReturnCode {
	r := w.room(ch)
	if r == nil {
		return refused
	}
	id, sub := r.sub(name)
	if sub == nil {
		return refused
	}
	// If the session was active, PEER_STAT with the new list goes to the old list.
	ref := wire.SubRef{Channel: r.id, Sub: id}
	w.tellLosses(w.closeWhere(func(s *session, open wire.SubRef) bool { return s == c.by && open == ref }))
	return done
}

// cast is the command (commands 7): the writable list, every other session
// once, also those of the same user; it need not be active.
func (w *world) cast(c *call, t wire.TypeID, data []byte) wire.ReturnCode {
	if !carried(t) {
		return refused
	}
	to := c.by.writable()
	for _, s := range w.connected() {
		if s != c.by && s.holdsAny(to) {
			s.get(c.by.lane, t, wire.AsyncCast, data)
		}
	}
	return done
}

// carried: cast and to_peer refuse types that clients trust only from the
// host: the list of modules 1.2, IDLE and unknown types (commands 7, cast).
func carried(t wire.TypeID) bool {
	switch t {
	case wire.GenFile, wire.Text, wire.Err, wire.PrivText, wire.FileInfo, wire.Bytes, wire.SesID, wire.CommandID,
		wire.BigText, wire.ChMemberInfo, wire.ChID, wire.PromptText, wire.Prog, wire.ProgLast:
		return true
	}
	return false
}

// pingPeers is ping_peers (commands 7).
func (w *world) pingPeers(c *call) wire.ReturnCode {
	if !w.active(c.by) {
		return refused
	}
	// To the writable list; each active peer shows the caller's PEER_INFO to
	// its client, and answers with its own, which the caller's client gets under
	// the same id (protocol 5, LIMITED_CAST).
	for _, s := range w.heard(c.by, c.by.writable()) {
		s.get(c.by.lane, wire.PeerInfo, wire.AsyncLimitedCast, wire.Append(nil, c.by.peer()))
		c.by.get(s.lane, wire.PeerInfo, wire.AsyncLimitedCast, wire.Append(nil, s.peer()))
	}
	return done
}
