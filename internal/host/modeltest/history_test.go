package modeltest

import (
	"fmt"
	"slices"
)

// A history of sessions that act at the same time. Each call has a span of
// time, from before it was sent to after its IDLE was read; what it did became
// true at some moment in between. So of everything else one knows, at best,
// that it was possible or that it was certain.

// tick counts beginnings and ends of calls, of all sessions together.
type tick int64

type span struct {
	from, to tick
	// own is the number of the call among those of the session that is asked
	// about; 0: somebody else's call.
	own int
}

// toggle is something that calls switch on and off.
type toggle struct{ on, off []span }

// possible reports whether it may have been on at a moment between from and to.
// own, if it is not 0, is the call during which a session read of that moment:
// its own calls before have had their effect by then, the ones after have not.
func (t *toggle) possible(from, to tick, own int) bool {
	return slices.ContainsFunc(t.on, func(on span) bool {
		if on.from > to || own != 0 && on.own > own {
			return false
		}
		return !slices.ContainsFunc(t.off, func(off span) bool {
			if off.own != 0 && on.own != 0 && own != 0 {
				return on.own < off.own && off.own < own
			}
			return on.to < off.from && off.to < from
		})
	})
}

// certain reports whether it was on from from to to, all the time.
func (t *toggle) certain(from, to tick) bool {
	return slices.ContainsFunc(t.on, func(on span) bool {
		return on.to < from && !slices.ContainsFunc(t.off, func(off span) bool {
			return off.to > on.from && off.from < to
		})
	})
}

// place is a sub-channel: names are not used again within a history.
type place struct {
	channel int
	name    string
}

// party is a session in a history.
type party struct {
	name  string
	login toggle
	open  map[place]*toggle
	got   []receipt
	// writable: the party may cast there while it is open.
	writable func(p place) bool
	// member is whether the party's user is a member of a channel.
	member map[int]*toggle
}

func newParty(name string) *party {
	return &party{
		name: name, open: make(map[place]*toggle), member: make(map[int]*toggle),
		writable: func(place) bool { return true },
	}
}

func (p *party) at(pl place) *toggle {
	if p.open[pl] == nil {
		p.open[pl] = new(toggle)
	}
	return p.open[pl]
}

// message is a cast, or data for a peer, with its number among the sender's.
type message struct {
	from *party
	to   *party // of data for a peer; nil: a cast
	seq  int
	span span
}

// change is an event of a channel: that a sub-channel was made, or that it is
// gone.
type change struct {
	place place
	gone  bool
	span  span
}

// receipt is what a party has read, in its order. One of the two is set.
type receipt struct {
	message *message
	change  *change
	during  int // the party's own call, before the end of which it was read
}

type history struct {
	parties  []*party
	messages []*message
	changes  []*change
}

// judge returns what should not have happened.
func (h *history) judge() []string {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	for _, p := range h.parties {
		h.judgeMessages(p, fault)
		h.judgeChanges(p, fault)
		h.judgeOpenings(p, fault)
	}
	h.judgeOrder(fault)
	return faults
}

// judgeOrder: of calls at the same time one comes first, for everybody (commands
// 1.9: an event goes to all).
func (h *history) judgeOrder(fault func(string, ...any)) {
	type pair struct{ first, second *change }
	seen := make(map[pair]*party)
	for _, p := range h.parties {
		var before []*change
		for _, r := range p.got {
			if r.change == nil {
				continue
			}
			for _, c := range before {
				if c.place.channel != r.change.place.channel {
					continue
				}
				if other := seen[pair{r.change, c}]; other != nil {
					fault("%s got %v before %v, %s behind it", p.name, c, r.change, other.name)
				}
				seen[pair{c, r.change}] = p
			}
			before = append(before, r.change)
		}
	}
}

// judgeOpenings: nothing is started under a right that is gone (commands 1.3).
func (h *history) judgeOpenings(p *party, fault func(string, ...any)) {
	for pl, t := range p.open {
		member := p.member[pl.channel]
		if member == nil {
			continue
		}
		for _, on := range t.on {
			if !member.possible(on.from, on.to, 0) || !p.login.possible(on.from, on.to, on.own) {
				fault("%s opened %v (%d to %d) without being a member", p.name, pl, on.from, on.to)
			}
		}
	}
}

func (m *message) String() string {
	what := "cast"
	if m.to != nil {
		what = "data for a peer"
	}
	return fmt.Sprintf("%s %d of %s (%d to %d)", what, m.seq, m.from.name, m.span.from, m.span.to)
}

// stream is what keeps its order: the casts of a sender, or its data for a peer.
type stream struct {
	from *party
	peer bool
}

func (h *history) judgeMessages(p *party, fault func(string, ...any)) {
	last := make(map[stream]int)
	got := make(map[*message]bool)
	for _, r := range p.got {
		m := r.message
		if m == nil {
			continue
		}
		// Order per sender is kept (commands 7, cast), and nothing comes twice.
		of := stream{m.from, m.to != nil}
		if m.seq <= last[of] {
			fault("%s got %s behind number %d", p.name, m, last[of])
		}
		last[of] = max(last[of], m.seq)
		got[m] = true
		switch {
		case m.from == p:
			fault("%s got its own %s", p.name, m)
		case m.to != nil && m.to != p:
			fault("%s got %s, which is for %s", p.name, m, m.to.name)
		case m.to == nil && !h.mayReach(m, p, r.during):
			fault("%s got %s, and had no right to it from its call to its IDLE", p.name, m)
		}
	}
	for _, m := range h.messages {
		switch {
		case got[m]:
		case m.to == p:
			fault("%s did not get %s", p.name, m)
		case m.to == nil && m.from != p:
			if where, must := h.mustReach(m, p); must {
				fault("%s did not get %s, though both had %v open all the time", p.name, m, where)
			}
		}
	}
}

// mayReach: there was a moment at which the sender might have cast where the
// receiver had opened (commands 1.3).
func (h *history) mayReach(m *message, p *party, during int) bool {
	for pl, theirs := range m.from.open {
		ours := p.open[pl]
		if ours != nil && m.from.writable(pl) && m.from.mayHold(pl, theirs, m.span, m.span.own) && p.mayHold(pl, ours, m.span, during) {
			return true
		}
	}
	return false
}

// mayHold: the party may have had it open at a moment of the span. Whoever lost
// the right to it before has not, even if an opening was under way (commands
// 1.3); all sub-channels here are for members.
func (p *party) mayHold(pl place, open *toggle, at span, own int) bool {
	member := p.member[pl.channel]
	return open.possible(at.from, at.to, own) && (member == nil || member.possible(at.from, at.to, 0))
}

func (h *history) mustReach(m *message, p *party) (place, bool) {
	for pl, theirs := range m.from.open {
		ours := p.open[pl]
		if ours != nil && m.from.writable(pl) && theirs.certain(m.span.from, m.span.to) && ours.certain(m.span.from, m.span.to) {
			return pl, true
		}
	}
	return place{}, false
}

func (h *history) judgeChanges(p *party, fault func(string, ...any)) {
	var seen []*change
	at := make(map[*change]int) // in seen, from 1
	for _, r := range p.got {
		c := r.change
		if c == nil {
			continue
		}
		if at[c] != 0 {
			fault("%s got %v twice", p.name, c)
			continue
		}
		seen = append(seen, c)
		at[c] = len(seen)
		if !p.mayHear(c) {
			fault("%s got %v, and was neither member nor holder", p.name, c)
		}
	}
	// Frames of one channel's changes come in the order of the calls: none
	// comes behind one whose call began when its own was over.
	latest := make(map[int]*change) // by channel: the one whose call began last
	for _, c := range seen {
		if before := latest[c.place.channel]; before != nil && c.span.to < before.span.from {
			fault("%s got %v behind %v", p.name, c, before)
		}
		if before := latest[c.place.channel]; before == nil || c.span.from > before.span.from {
			latest[c.place.channel] = c
		}
	}
	made := make(map[place]*change)
	for _, c := range h.changes {
		if !c.gone {
			made[c.place] = c
		}
	}
	for _, c := range h.changes {
		from := c.span.from
		if c.gone && made[c.place] != nil {
			// Ids are used again: only who has heard of all that had one knows what
			// is gone.
			from = made[c.place].span.from
		}
		member := p.member[c.place.channel]
		if at[c] == 0 && member != nil && member.certain(from, c.span.to) && p.login.certain(from, c.span.to) {
			fault("%s did not get %v", p.name, c)
		}
	}
}

func (p *party) mayHear(c *change) bool {
	member := p.member[c.place.channel]
	if member != nil && member.possible(c.span.from, c.span.to, 0) && p.login.possible(c.span.from, c.span.to, 0) {
		return true
	}
	held := p.open[c.place]
	return c.gone && held != nil && held.possible(c.span.from, c.span.to, 0)
}

func (c *change) String() string {
	what := "made"
	if c.gone {
		what = "gone"
	}
	return fmt.Sprintf("%d/%s %s (%d to %d)", c.place.channel, c.place.name, what, c.span.from, c.span.to)
}
