package modeltest

import "mrci.dev/mrci/wire"

// call is a call of a command while the model works out what it does.
type call struct {
	w  *world
	by *session
	id wire.CmdID
	// branch is that of the call: all that it says carries it (protocol 2).
	branch wire.BranchID
	// behind is what the caller's client gets behind the IDLE.
	behind []func()
}

// Codes of refusals (commands, shorthand): E3 and E6.
const (
	done    = wire.NoErrors
	aborted = wire.Aborted
	refused = wire.InvalidParams
	failed  = wire.ExecutionFail
)

// call runs a command in the model: who gets what, and how it ends for the
// caller. A command that the session is not offered is ERR and IDLE 3
// (protocol 2); a refusal is one ERR, then IDLE.
//
// What run says to the caller comes before the IDLE (commands 1.3).
func (w *world) call(s *session, name string, branch wire.BranchID, run func(c *call) wire.ReturnCode) wire.ReturnCode {
	command := w.byName[name]
	c := &call{w: w, by: s, id: command.id, branch: branch}
	code := refused
	if command.offered(s.rank) {
		code = run(c)
	}
	if code == refused || code == failed {
		c.words(wire.Err)
	}
	s.expect(want{lane: s.lane, typ: wire.Idle, cmd: c.id, branch: branch, payload: []byte{byte(code), byte(code >> 8)}})
	for _, f := range c.behind {
		f()
	}
	return code
}

// words is a text of the command for people.
func (c *call) words(t wire.TypeID) {
	c.by.expect(want{lane: c.by.lane, typ: t, cmd: c.id, branch: c.branch, words: true})
}

// text is a TEXT that check judges.
func (c *call) text(check func(text []byte) string) {
	c.by.expect(want{lane: c.by.lane, typ: wire.Text, cmd: c.id, branch: c.branch, check: check})
}

// relist tells the caller's client its new list behind the IDLE (commands 1.3).
func (c *call) relist() { c.behind = append(c.behind, func() { c.w.relist(c.by) }) }
