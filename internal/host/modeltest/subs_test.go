package modeltest

import "mrci.dev/mrci/wire"

// Commands 7: what is done to sub-channels and read-only flags.

// manage finds a channel in which the caller may change sub-channels: level 2
// (commands 1.8).
func (w *world) manage(c *call, ch string) *room {
	if r := w.room(ch); r != nil && r.level(c.by) <= wire.Admin {
		return r
	}
	return nil
}

func (w *world) addSub(c *call, ch, name string) wire.ReturnCode {
	r := w.manage(c, ch)
	if r == nil || !goodName(name) {
		return refused
	}
	if _, taken := r.sub(name); taken != nil || len(r.subs) >= w.maxSubs {
		return refused
	}
	// The lowest free id, level 4, flag 0; read-only flags that stand for the id
	// apply at once.
	id := wire.SubID(0)
	for r.subs[id] != nil {
		id++
	}
	r.subs[id] = &sub{name: name, lowest: wire.Regular}
	w.tell(c, r, wire.Bytes, wire.AsyncNewSubCh, &wire.SubAdded{Channel: r.id, Sub: id, Level: wire.Regular, Name: name}, nil)
	return done
}

func (w *world) rmSub(c *call, ch, name string) wire.ReturnCode {
	r := w.manage(c, ch)
	if r == nil {
		return refused
	}
	id, gone := r.sub(name)
	if gone == nil {
		return refused
	}
	ref := wire.SubRef{Channel: r.id, Sub: id}
	losses := w.shut(c, r, id, wire.AsyncRmSubCh, &ref)
	delete(r.subs, id) // its read-only flags stay (state 1.6)
	w.tellLosses(losses)
	return done
}

// shut closes a sub-channel for everybody; holders and members get BYTES
// (protocol 5, 26 and 32 to 34).
func (w *world) shut(c *call, r *room, id wire.SubID, async wire.AsyncID, payload wire.Payload) []loss {
	ref := wire.SubRef{Channel: r.id, Sub: id}
	w.tell(c, r, wire.Bytes, async, payload, func(s *session) bool { return s.holds(ref) })
	return w.closeWhere(func(_ *session, open wire.SubRef) bool { return open == ref })
}

func (w *world) renameSub(c *call, ch, old, name string) wire.ReturnCode {
	r := w.manage(c, ch)
	if r == nil || !goodName(name) {
		return refused
	}
	id, sub := r.sub(old)
	if sub == nil {
		return refused
	}
	if _, other := r.sub(name); other != nil && (other != sub || sub.name == name) {
		return refused
	}
	sub.name = name // it stays open where it is open
	w.tell(c, r, wire.Bytes, wire.AsyncRenameSubCh, &wire.SubRenamed{Channel: r.id, Sub: id, Name: name}, nil)
	return done
}

func (w *world) setSubLevel(c *call, ch, name string, level wire.Level) wire.ReturnCode {
	r := w.manage(c, ch)
	if r == nil || level < wire.Owner || level > wire.Public {
		return refused
	}
	id, sub := r.sub(name)
	if sub == nil {
		return refused
	}
	sub.lowest = level // also when it stays the same
	w.tellLosses(w.shut(c, r, id, wire.AsyncSubChLevelChg, &wire.SubLevel{Channel: r.id, Sub: id, Level: level}))
	return done
}

func (w *world) setActive(c *call, ch, name string, on bool) wire.ReturnCode {
	r := w.manage(c, ch)
	if r == nil {
		return refused
	}
	_, sub := r.sub(name)
	if sub == nil {
		return refused
	}
	// Clients get nothing, and the change alone sends no presence (protocol 6).
	sub.active = on
	if w.allActive {
		c.words(wire.Text) // the flag has no effect now
	}
	return done
}

// setFlag is add_rdonly_flag and rm_rdonly_flag: the sub-channel need not
// exist; all holders close it, whatever their level.
func (w *world) setFlag(c *call, ch string, f flag, on bool) wire.ReturnCode {
	r := w.manage(c, ch)
	if r == nil || f.level < wire.Owner || f.level > wire.Public || r.flags[f] == on {
		return refused
	}
	async := wire.AsyncAddRdOnly
	if on {
		r.flags[f] = true
	} else {
		async = wire.AsyncRmRdOnly
		delete(r.flags, f)
	}
	w.tellLosses(w.shut(c, r, f.sub, async, &wire.SubLevel{Channel: r.id, Sub: f.sub, Level: f.level}))
	return done
}
