package session

import (
	"errors"
	"fmt"
	"time"

	"mrci.dev/mrci/internal/instance"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// call is one running call, from its first frame to its IDLE.
type call struct {
	key    callKey
	listed *module.Listed
	inst   *instance.Instance // nil for an inline command
	cost   int                // bytes of the first frame, counted until the call ends
	// pending is output that was taken and not passed on yet.
	pending []instance.Output
	// relist is set when the call has changed the session's rights: the client
	// is told after its IDLE.
	relist bool

	force *time.Timer // after KILL_CMD: the forced end
	stuck *time.Timer // watches a call that does not take its input
	taken uint64      // its progress when stuck was set
	// settled ends the wait of other frames for this call.
	settled *time.Timer
	// givenUp is set when the call ends without its command.
	givenUp bool
	record  record
}

func (c *call) stopTimers() {
	if c.force != nil {
		c.force.Stop()
	}
	if c.stuck != nil {
		c.stuck.Stop()
	}
	if c.settled != nil {
		c.settled.Stop()
	}
}

// route brings one frame of the client to where it belongs. owned tells that
// the payload outlives the call of route. It may be the answer to a prompt for
// a secret: whoever copies it wipes its copy.
func (s *Session) route(f wire.Frame, owned bool) {
	s.update()
	key := callKey{f.Cmd, f.Branch}
	running := s.calls[key]
	if f.Type.IsControl() {
		if running != nil {
			s.control(running, f)
		}
		clear(f.Payload)
		return
	}
	if running != nil {
		s.input(running, f, owned)
		return
	}
	listed := s.mayRun(f.Cmd)
	switch {
	case listed == nil:
		s.cfg.Counters.NotOffered.Add(1)
		s.auditRefusal(f)
		clear(f.Payload)
		s.refuse(f.Cmd, f.Branch, wire.InvalidParams, fmt.Sprintf("There is no command with the id %d for you; ls_cmds lists yours.", f.Cmd))
	case listed.Command.Inline:
		s.runInline(&call{key: key, listed: listed}, f, owned)
	default:
		s.startCall(key, listed, f, owned)
	}
}

// update looks for ranks that have changed while the event that says so is still
// on its way.
func (s *Session) update() {
	if !s.cfg.Registry.Current(s.rights) {
		s.entitle()
		s.relist()
	}
}

// mayRun returns the command with the id when this session was offered it and
// has not lost the right since; nil otherwise.
func (s *Session) mayRun(id wire.CmdID) *module.Listed {
	listed := s.offered.Lookup(id)
	if listed == nil || s.rights.Lookup(id) != listed {
		return nil
	}
	return listed
}

// startCall begins a call on a goroutine of its own.
func (s *Session) startCall(key callKey, listed *module.Listed, f wire.Frame, owned bool) {
	limits := s.cfg.Limits()
	limit := limits.Instances
	if s.user == nil {
		limit = min(limit, limits.AnonymousCalls)
	}
	if len(s.calls) >= limit {
		s.cfg.Counters.TooMany.Add(1)
		clear(f.Payload)
		s.refuse(key.cmd, key.branch, wire.ExecutionFail,
			fmt.Sprintf("%d calls are running already, more are not allowed; wait for one or stop it.", limit))
		return
	}
	s.cfg.Counters.Calls.Add(1)
	c := &call{key: key, listed: listed, cost: instance.Cost(f)}
	s.note(c, f)
	if s.calls == nil {
		s.calls = make(map[callKey]*call)
	}
	s.calls[key] = c
	s.used.Add(int64(c.cost))
	if !owned {
		f.Payload = append([]byte(nil), f.Payload...)
	}
	c.inst = instance.Start(s.ctx, instance.Config{
		Command:       listed,
		Branch:        key.branch,
		Log:           s,
		PromptTimeout: limits.PromptTimeout,
		Session:       s.View,
		Notify:        s.output,
		Consumed:      s.consumed,
		Orphaned:      s.orphaned,
		Late:          func(end instance.End) { s.auditLate(c, end) },
		Group:         &s.group,
	}, f)
}

// input hands a frame to a running call.
func (s *Session) input(c *call, f wire.Frame, owned bool) {
	if !owned {
		f.Payload = append([]byte(nil), f.Payload...)
	}
	s.used.Add(int64(instance.Cost(f)))
	s.watch(c, c.inst.Deliver(f))
}

// watch makes sure that a call that holds so much input takes some of it.
func (s *Session) watch(c *call, queued int) {
	if queued > s.cfg.Limits().InstanceBytes && c.stuck == nil {
		c.taken, _, _ = c.inst.Progress()
		c.stuck = time.AfterFunc(s.cfg.Limits().StuckAfter, func() { s.post(func() { s.checkStuck(c) }) })
	}
}

// checkStuck ends a call that has taken nothing since it was last looked at,
// though nothing kept it from doing so (DESIGN D4).
func (s *Session) checkStuck(c *call) {
	if s.calls[c.key] != c {
		return
	}
	taken, queued, excused := c.inst.Progress()
	switch {
	case queued <= s.cfg.Limits().InstanceBytes:
		c.stuck = nil
	case excused || taken != c.taken:
		c.taken = taken
		c.stuck.Reset(s.cfg.Limits().StuckAfter)
	default:
		s.cutOff(c)
	}
}

// watchBudget makes sure that a budget which is spent does not stay so: while
// it is, neither TERM_CMD nor KILL_CMD nor the client's leaving is read.
func (s *Session) watchBudget() {
	if s.starving != nil {
		return
	}
	before := s.taken.Load()
	s.starving = time.AfterFunc(s.cfg.Limits().StuckAfter, func() { s.post(func() { s.checkBudget(before) }) })
}

// checkBudget ends the call that holds most of a budget of which nothing was
// taken since it was spent. heldBack watches on if that was not enough.
func (s *Session) checkBudget(before int64) {
	s.starving = nil
	if !s.overBudget() || s.taken.Load() != before {
		return
	}
	var worst *call
	most := 0
	for _, c := range s.calls {
		_, queued, _ := c.inst.Progress()
		if held := queued + c.cost; held > most {
			worst, most = c, held
		}
	}
	if worst != nil {
		s.cutOff(worst)
	}
}

// cutOff ends a call that takes no input.
func (s *Session) cutOff(c *call) {
	s.cfg.Counters.NoInput.Add(1)
	s.Log().Warn("call cut off", "cmd", c.listed.Name, "branch", int(c.key.branch), "reason", "takes no input")
	s.frame(wire.Err, c.key.cmd, c.key.branch, fmt.Appendf(nil, "%s takes no input any more and was ended.\n", c.listed.Name))
	s.giveUp(c, wire.ExecutionFail, errors.New("takes no input"))
}

// control acts on a running call (commands 1.5).
func (s *Session) control(c *call, f wire.Frame) {
	if c.inst.Behind() {
		// It is meant for a call that has not begun. KILL_CMD overtakes.
		s.input(c, wire.Frame{Type: f.Type, Cmd: f.Cmd, Branch: f.Branch}, true)
		if f.Type != wire.KillCmd {
			return
		}
	}
	switch f.Type {
	case wire.TermCmd:
		c.inst.Term()
	case wire.KillCmd:
		s.kill(c)
	case wire.YieldCmd:
		c.inst.Yield()
	case wire.ResumeCmd:
		c.inst.Resume()
	}
}

// kill ends a call, by force when it takes too long.
func (s *Session) kill(c *call) {
	c.inst.Kill()
	if c.force != nil {
		return
	}
	c.force = time.AfterFunc(s.cfg.Limits().KillGrace, func() {
		s.post(func() {
			if s.calls[c.key] == c {
				s.cfg.Counters.Forced.Add(1)
				s.giveUp(c, wire.Aborted, module.ErrKilled)
			}
		})
	})
}

// giveUp ends a call without waiting for its command.
func (s *Session) giveUp(c *call, code wire.ReturnCode, cause error) {
	c.givenUp = true
	s.awaitOutcome(c, code)
	c.inst.Abandon(cause)
	s.disownPending(c)
	s.finish(c, instance.End{Code: code})
}

// disownPending forgets the output that is not passed on.
func (s *Session) disownPending(c *call) {
	for _, o := range c.pending {
		switch {
		case o.Async != nil:
			s.orphaned(o.Async)
		case o.End != nil:
			s.auditLate(c, *o.End)
		}
	}
	c.pending = nil
}

// passOn sends a call's output, in order, until it has to wait for a job.
func (s *Session) passOn(c *call) {
	for len(c.pending) > 0 && !s.busy() {
		o := c.pending[0]
		c.pending[0] = instance.Output{}
		c.pending = c.pending[1:]
		switch {
		case o.End != nil:
			s.finish(c, *o.End)
			return
		case o.Async != nil:
			s.effect(c, o.Async)
		default:
			s.frame(o.Type, c.key.cmd, c.key.branch, o.Payload)
		}
	}
	if len(c.pending) == 0 {
		c.pending = nil
	}
}

// finish sends the IDLE of a call, tells the client of the commands that the
// call has brought or taken, and starts what the client sent too early.
func (s *Session) finish(c *call, end instance.End) {
	c.stopTimers()
	if delete(s.calls, c.key); len(s.calls) == 0 {
		s.calls = nil
	}
	s.consumed(c.cost)
	s.cfg.Counters.ended(end.Code)
	s.idle(c.key.cmd, c.key.branch, end.Code, end.Data)
	if !c.givenUp { // otherwise its command has the word
		s.audit(c, end.Code)
	}
	if c.relist {
		s.offer()
	}
	if s.settling == c {
		s.settled()
	}
	s.goOn(c.key, c.inst.Leftover())
}

// goOn brings what a call has left to the calls after it, as route would frame
// by frame. What the next call would only queue moves in one piece: frames
// must not be touched again after each call that they wait for.
func (s *Session) goOn(key callKey, left instance.Leftover) {
	next := func() *call { return s.calls[key] }
	for in := left.In; len(in) > 0; {
		if s.ctx.Err() != nil { // nothing is started any more
			wipe(in)
			break
		}
		if c := next(); c != nil {
			s.adopt(c, in, left.InBytes, 0)
			break
		}
		f := in[0]
		in[0] = wire.Frame{}
		in = in[1:]
		left.InBytes -= instance.Cost(f)
		s.route(f, true)
	}
	if left.Term && s.ctx.Err() == nil {
		s.route(wire.Frame{Type: wire.TermCmd, Cmd: key.cmd, Branch: key.branch}, true)
	}
	for behind := left.Behind; len(behind) > 0; {
		if s.ctx.Err() != nil {
			wipe(behind)
			break
		}
		if c := next(); c != nil && c.inst.Over() && !behind[0].Type.IsControl() {
			s.adopt(c, behind, left.BehindBytes, left.Kills)
			break
		}
		f := behind[0]
		behind[0] = wire.Frame{}
		behind = behind[1:]
		left.BehindBytes -= instance.Cost(f)
		if f.Type == wire.KillCmd {
			left.Kills--
		}
		s.route(f, true)
	}
}

// wipe clears frames that nobody gets: they may be answers to prompts for a
// secret.
func wipe(frames []wire.Frame) {
	for _, f := range frames {
		clear(f.Payload)
	}
}

// adopt hands frames of an earlier call to a running one.
func (s *Session) adopt(c *call, frames []wire.Frame, bytes, kills int) {
	s.used.Add(int64(bytes))
	s.watch(c, c.inst.Adopt(frames, bytes, kills))
	if kills > 0 { // KILL_CMD overtakes
		s.kill(c)
	}
}

// relist is offer for a change that no call has to wait for. When another call
// is about to end because of which the list is told anyway, that does it.
func (s *Session) relist() {
	if s.settling == nil {
		s.offer()
	}
}

// offer brings the client's list up to the session's rights: IDLE 2 for calls
// of commands that go away, then RM_CMD and ADD_CMD (commands 1.3). What such a
// call leaves behind may find the ranks changed once more: that is told behind
// the change which is being told.
func (s *Session) offer() {
	if s.offering {
		return
	}
	s.offering = true
	for s.offered != s.rights {
		s.tell()
	}
	s.offering = false
	s.renewView()
}

// tell tells the client what of its list is different by now.
func (s *Session) tell() {
	change := s.rights.From(s.offered, s.granted.Has(wire.ExtSchema))
	s.offered = s.rights
	for _, id := range change.Removed {
		for key, c := range s.calls {
			// The call that has caused this, and is about to end, says so itself.
			if key.cmd == id && s.settling != c {
				s.giveUp(c, wire.Aborted, module.ErrKilled)
			}
		}
	}
	if len(change.Frames) > 0 {
		s.bytes(change.Frames)
	}
}
