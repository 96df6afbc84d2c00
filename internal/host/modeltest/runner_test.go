package modeltest

import (
	"fmt"
	"strings"

	"mrci.dev/mrci/wire"
)

// transport carries what clients and host say to each other. The host is a
// running one, or the model itself.
type transport interface {
	// connect makes a client and returns the id of its session.
	connect(slot int) (wire.SessionID, error)
	// send sends frames of a client.
	send(slot int, frames []byte) error
	// next waits for the next frame that a client gets; it is valid until the
	// following call. When none comes for a long time that is an error.
	next(slot int) (wire.Frame, error)
	// finish closes a client's side, and reads on to the end, where there must
	// be no more frames. It returns when the session is over.
	finish(slot int) error
	// reset breaks a client off, and returns when its session is over.
	reset(slot int) error
	// account returns the id of an account.
	account(name string) (wire.UserID, error)
}

// fenceEvery is after how many steps every client is asked for what it has got
// besides: my_info, of which the answer must come next.
const fenceEvery = 64

// runner does steps one by one, and compares what each client gets with what
// the model says.
type runner struct {
	w    *world
	g    *generator
	link transport
	app  string
	// told is called when the model has done a step, before the clients read.
	told func()

	count int
	last  [fenceEvery + 16]string // what was done, by count
	buf   []byte
	calls map[outcome]int
	seen  map[kindOf]int // frames under async ids
}

// kindOf is what kind of frame an async is.
type kindOf struct {
	async wire.AsyncID
	typ   wire.TypeID
}

// outcome is how a call of a command ended.
type outcome struct {
	cmd  string
	code wire.ReturnCode
}

func newRunner(seed uint64, w *world, link transport) *runner {
	return &runner{
		w: w, g: newGenerator(seed, w), link: link,
		app: "modeltest", told: func() {}, calls: make(map[outcome]int), seen: make(map[kindOf]int),
	}
}

// run does n steps.
func (r *runner) run(n int) error {
	for range n {
		if err := r.do(r.g.next()); err != nil {
			return r.explain(err)
		}
		if r.count%fenceEvery == 0 {
			if err := r.fence(); err != nil {
				return r.explain(fmt.Errorf("by one of the steps since the last fence: %w", err))
			}
		}
	}
	if err := r.fence(); err != nil {
		return r.explain(fmt.Errorf("by one of the steps since the last fence: %w", err))
	}
	return nil
}

// explain adds what was done before.
func (r *runner) explain(err error) error {
	var b strings.Builder
	for i := max(0, r.count-len(r.last)); i < r.count; i++ {
		b.WriteString(r.last[i%len(r.last)])
		b.WriteByte('\n')
	}
	return fmt.Errorf("%w\n\nthe last steps:\n%s", err, b.String())
}

// do does one step and waits for all that it causes.
func (r *runner) do(next step) error {
	who := ""
	if s := r.w.sessions[next.slot]; s != nil {
		who = fmt.Sprintf(" (caused by: %d)", s.lane)
		if s.user != nil {
			who = fmt.Sprintf(" as %s%s", s.user.name, who)
		}
	}
	at := &r.last[r.count%len(r.last)]
	*at = fmt.Sprintf("%d: session %d%s: %s", r.count, next.slot, who, next.note)
	r.count++
	switch next.kind {
	case connects:
		id, err := r.link.connect(next.slot)
		if err != nil {
			return err
		}
		r.w.connect(next.slot, id, r.app)
		r.told()
	case finishes, resets:
		r.g.gone = append(r.g.gone[:0], r.w.sessions[next.slot].id)
		r.w.disconnect(next.slot)
		r.told()
		end := r.link.finish
		if next.kind == resets {
			end = r.link.reset
		}
		if err := end(next.slot); err != nil {
			return fmt.Errorf("session %d: %w", next.slot, err)
		}
	case controls:
		r.told()
		if err := r.send(next); err != nil {
			return err
		}
	case calls:
		code := r.call(next)
		*at += fmt.Sprintf(" -> %d", code)
		for _, another := range next.more {
			*at += fmt.Sprintf(", %d", r.call(another))
		}
		r.told()
		if code == refused { // then nothing was asked
			next.answers = nil
		}
		if err := r.send(next); err != nil {
			return err
		}
		if err := r.settle(next.slot); err != nil {
			return err
		}
		if next.made != nil && code == done {
			var err error
			if next.made.id, err = r.link.account(next.made.name); err != nil {
				return err
			}
		}
		return nil
	}
	return r.settle(next.slot)
}

// call has the model do one call.
func (r *runner) call(next step) wire.ReturnCode {
	code := r.w.call(r.w.sessions[next.slot], next.cmd, next.branch, next.run)
	r.calls[outcome{next.cmd, code}]++
	return code
}

// send sends the frames of a step, the answers to what it will be asked behind
// the call itself.
func (r *runner) send(next step) error {
	id := r.w.byName[next.cmd].id
	r.buf = wire.AppendFrame(r.buf[:0], next.typ, id, next.branch, next.payload)
	for _, another := range next.more {
		r.buf = wire.AppendFrame(r.buf, another.typ, r.w.byName[another.cmd].id, another.branch, another.payload)
	}
	for _, answer := range next.answers {
		r.buf = wire.AppendText(r.buf, wire.Text, id, next.branch, answer)
	}
	return r.link.send(next.slot, r.buf)
}

// settle reads all that is due, first of who has acted.
func (r *runner) settle(first int) error {
	if err := r.drain(first); err != nil {
		return err
	}
	for slot := range r.w.sessions {
		if err := r.drain(slot); err != nil {
			return err
		}
	}
	for _, s := range r.w.sessions {
		if s != nil {
			s.close()
		}
	}
	return nil
}

func (r *runner) drain(slot int) error {
	s := r.w.sessions[slot]
	for s != nil && s.waits() {
		f, err := r.link.next(slot)
		if err != nil {
			return fmt.Errorf("session %d (%d): %w\nwanted %s", slot, s.lane, err, &s.inbox)
		}
		if err := s.take(f); err != nil {
			return fmt.Errorf("session %d (%d)\n%w", slot, s.lane, err)
		}
		if f.Cmd.IsAsync() {
			r.seen[kindOf{wire.AsyncID(f.Cmd), f.Type}]++
		}
	}
	return nil
}

// fence makes sure that nobody has got anything that was not due.
func (r *runner) fence() error {
	for _, s := range r.w.connected() {
		r.w.call(s, "my_info", 0, r.w.myInfoCmd)
	}
	r.told()
	for _, s := range r.w.connected() {
		if err := r.send(step{slot: s.slot, cmd: "my_info", typ: wire.Text}); err != nil {
			return err
		}
	}
	return r.settle(0)
}
