package session

import (
	"mrci.dev/mrci/internal/instance"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// maxRefusals is how many refusals for rights a session may leave in the audit
// log: a client that tries everything must not fill the disk.
const maxRefusals = 100

// maxRecorded bounds the arguments that are remembered for the audit log, in
// bytes. The log keeps no more.
const maxRecorded = 4 << 10

// record is what the audit log will say of a call.
type record struct {
	wanted    bool
	view      *module.Session // who made the call
	arguments string
}

// note remembers a call for the audit log, if it is one of those that may
// change something.
func (s *Session) note(c *call, f wire.Frame) {
	desc := c.listed.Command
	if desc.Hints.ReadOnly || desc.Input != module.TextInput && desc.Input != module.GenFileInput {
		return
	}
	c.record = record{wanted: true, view: s.View(), arguments: recorded(f)}
}

// recorded returns the arguments of a call as they are kept.
func recorded(f wire.Frame) string {
	if f.Type != wire.Text && f.Type != wire.GenFile {
		return "(" + f.Type.String() + ")"
	}
	return string(f.Payload[:min(len(f.Payload), maxRecorded+1)])
}

// audit records how a call has ended. A call of somebody who is not logged in
// counts when it has worked: failures have changed nothing, and those of auth
// are in a log of their own.
func (s *Session) audit(c *call, end instance.End) {
	if !c.record.wanted {
		return
	}
	who := c.record.view
	if who.User == nil {
		if end.Code != wire.NoErrors {
			return
		}
		who = s.View() // auth: whom the session is now
	}
	s.cfg.Journal.Audit(who, c.listed.Name, c.record.arguments, end.Code)
}

// auditRefusal records a call of a command that exists and that this session
// may not run.
func (s *Session) auditRefusal(f wire.Frame) {
	known := s.cfg.Registry.Known(f.Cmd)
	if known == nil || s.refusals >= maxRefusals {
		return
	}
	s.refusals++
	s.cfg.Journal.Audit(s.View(), known.Name, recorded(f), wire.InvalidParams)
}
