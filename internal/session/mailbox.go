package session

import (
	"sync"
	"time"

	"mrci.dev/mrci/internal/conn"
	"mrci.dev/mrci/internal/instance"
	"mrci.dev/mrci/wire"
)

// mailbox is what waits for the owner, and who the owner is.
type mailbox struct {
	mu       sync.Mutex
	attended bool // somebody is the owner
	closed   bool
	woken    bool                 // something changed that the owner was waiting for
	events   []func()             // bounded by who posts: one a timer, job, stop, or change that another session makes
	outputs  []*instance.Instance // each stands here once until its output is taken
	slot     *slot                // the batch that is being handled
	quiet    *sync.Cond           // signalled when attended falls

	// free has a token when the slot is free. Only the reader takes it.
	free chan struct{}
}

// slot is a batch with the bytes of it that have not been handled.
type slot struct {
	batch conn.Batch
	left  []byte
	// rested: the session has rested for receivers of what the batch sends.
	rested bool
	// then is run when the batch has been handled, in place of a batch.
	then func()
}

func (m *mailbox) init() {
	m.attended = true // by the reader, from its first line on
	m.quiet = sync.NewCond(&m.mu)
	m.free = make(chan struct{}, 1)
	m.free <- struct{}{}
}

// close waits for the owner to end and keeps others from becoming it.
func (m *mailbox) close() {
	m.mu.Lock()
	m.closed = true
	for m.attended {
		m.quiet.Wait()
	}
	left := m.slot
	m.slot, m.events, m.outputs = nil, nil, nil
	m.mu.Unlock()
	if left != nil && left.then == nil {
		clear(left.left) // Release leaves a single frame as it is
		left.batch.Release()
	}
}

// post hands the owner a function to run. It never waits. On a session that
// has ended nothing happens.
func (s *Session) post(event func()) {
	m := &s.mailbox
	m.mu.Lock()
	if !m.closed {
		m.events = append(m.events, event)
	}
	s.rouse()
}

// wake lets the owner look again at what it left. It never waits.
func (s *Session) wake() {
	s.mailbox.mu.Lock()
	s.mailbox.woken = true
	s.rouse()
}

// output tells the owner that a call has output. It never waits.
func (s *Session) output(i *instance.Instance) {
	m := &s.mailbox
	m.mu.Lock()
	if !m.closed {
		m.outputs = append(m.outputs, i)
	}
	s.rouse()
}

// rouse starts an owner if there is none, and unlocks the mailbox, which the
// caller has locked.
func (s *Session) rouse() {
	m := &s.mailbox
	start := !m.attended && !m.closed
	if start {
		m.attended = true
		// Counted under the lock: close waits for attended before it waits for
		// the group.
		s.group.Add(1)
	}
	m.mu.Unlock()
	if start {
		go s.ownNow()
	}
}

// ownNow is an owner goroutine. It ends when there is nothing that can be done.
func (s *Session) ownNow() {
	defer s.group.Done()
	s.own(false)
}

// deliver puts a batch into the slot, as soon as it is free, and has it
// handled. It returns false when the session has ended.
func (s *Session) deliver(b conn.Batch) bool {
	select {
	case <-s.mailbox.free:
	case <-s.ctx.Done():
		clear(b.Bytes())
		b.Release()
		return false
	case <-s.conn.Ended(): // no drain wakes the owner any more
		clear(b.Bytes())
		b.Release()
		return false
	}
	s.place(&slot{batch: b, left: b.Bytes()})
	return s.ctx.Err() == nil
}

// awaitSlot waits until the slot is free. It returns false when the session has
// ended.
func (s *Session) awaitSlot() bool {
	select {
	case <-s.mailbox.free:
		s.mailbox.free <- struct{}{} // there is room: only the reader takes it
		return true
	case <-s.ctx.Done():
	case <-s.conn.Ended():
	}
	return false
}

// afterBatch has the owner run f when all batches have been handled, and waits
// for that; not longer than the session lives, nor than patience.
func (s *Session) afterBatch(f func(), patience time.Duration) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	done := make(chan struct{})
	free := s.mailbox.free
	for {
		select {
		case <-free:
			free = nil
			s.place(&slot{then: func() { f(); close(done) }})
		case <-done:
			return
		case <-timer.C:
			return
		case <-s.ctx.Done():
			return
		case <-s.conn.Ended():
			return
		}
	}
}

// place fills the slot and becomes the owner if there is none.
func (s *Session) place(b *slot) {
	m := &s.mailbox
	m.mu.Lock()
	m.slot = b
	m.woken = true // an owner that has looked at the slot already looks again
	mine := !m.attended
	m.attended = true
	m.mu.Unlock()
	if mine {
		s.own(true)
	}
}

// own is the owner: it handles what waits until nothing is left that can be
// handled now. The reader does one round and leaves the rest to a goroutine:
// it has to go on reading.
func (s *Session) own(reader bool) {
	m := &s.mailbox
	for round := 0; ; round++ {
		m.mu.Lock()
		events, outputs, batch := m.events, m.outputs, m.slot
		m.events, m.outputs = nil, nil
		m.woken = false
		handOver := reader && round > 0 && (len(events) > 0 || len(outputs) > 0)
		if handOver {
			m.events, m.outputs = events, outputs
			s.group.Add(1)
		}
		m.mu.Unlock()
		if handOver {
			go s.ownNow()
			return
		}
		for _, event := range events {
			event()
		}
		s.takePace(nil)
		s.waiting = append(s.waiting, outputs...)
		s.takeOutputs()
		if batch != nil && s.handle(batch) {
			m.mu.Lock()
			m.slot = nil
			m.mu.Unlock()
			m.free <- struct{}{}
		}
		s.flush()
		if s.resign() {
			return
		}
	}
}

// resign gives up the owner's role when nothing new has come, and reports
// whether it did.
func (s *Session) resign() bool {
	m := &s.mailbox
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed && (len(m.events) > 0 || len(m.outputs) > 0 || m.woken) {
		return false
	}
	m.attended = false
	m.quiet.Broadcast()
	return true
}

// handle works through a batch and reports whether all of it is done. What is
// left is handled when the owner was woken.
func (s *Session) handle(b *slot) bool {
	for len(b.left) > 0 {
		s.takePace(b)
		if s.heldBack() {
			return false
		}
		if s.casts(b) {
			continue
		}
		f, rest, ok := wire.CutFrame(b.left)
		if !ok { // batches hold whole frames
			panic("session: a batch with half a frame")
		}
		if s.debug != nil {
			s.logFrame("frame in", f.Type, f.Cmd, f.Branch, len(f.Payload))
		}
		s.route(f, b.batch.Single())
		b.left = rest
	}
	if b.then != nil {
		if s.heldBack() {
			return false
		}
		b.then()
		return true
	}
	b.batch.Release()
	return true
}

// heldBack reports whether frames and output have to wait: whoever ends the
// reason wakes the owner.
func (s *Session) heldBack() bool {
	if s.overBudget() {
		s.watchBudget()
		return true
	}
	return s.busy() || s.settling != nil || s.closing || s.pause != nil || s.conn.Congested()
}

// overBudget reports whether commands have not taken so much of what was read
// for them that nothing more may be read.
func (s *Session) overBudget() bool { return s.used.Load() > s.budget.Load() }

// consumed counts what commands have taken, and wakes the owner when it may
// have been waiting for that.
func (s *Session) consumed(bytes int) {
	s.taken.Add(int64(bytes))
	after := s.used.Add(-int64(bytes))
	limit := s.budget.Load() // behind used: the owner looks at both in the other order
	if after <= limit && after+int64(bytes) > limit {
		s.wake()
	}
}

// takeOutputs passes on what calls have to say, as far as the client reads.
func (s *Session) takeOutputs() {
	for len(s.waiting) > 0 && !s.busy() && !s.closing && !s.conn.Congested() {
		i := s.waiting[0]
		s.waiting[0] = nil
		s.waiting = s.waiting[1:]
		key := callKey{i.Command().ID, i.Branch()}
		if c := s.calls[key]; c != nil && c.inst == i {
			c.pending = append(c.pending, i.Take()...)
			s.passOn(c)
		}
	}
	if len(s.waiting) == 0 {
		s.waiting = nil
	}
}
