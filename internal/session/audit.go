package session

import (
	"strings"
	"sync"
	"time"

	"mrci.dev/mrci/internal/instance"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// maxRefusals is how many refusals for rights a session may leave in the audit
// log: a client that tries everything must not fill the disk.
const maxRefusals = 100

// Bounds of what is remembered of a call's arguments, in bytes. A value is cut,
// so that a long one does not keep others out of the row.
const (
	maxRecorded = 256 << 10
	maxValue    = 600 // more than any value that a command accepts
)

// record is what the audit log will say of a call.
type record struct {
	wanted    bool
	view      *module.Session // who made the call
	arguments string
	once      sync.Once   // a given-up call may be recorded by its end and by its time
	late      *time.Timer // ends the wait for the outcome of a given-up call
}

// note remembers a call for the audit log, if it is one of those that may
// change something.
func (s *Session) note(c *call, f wire.Frame) {
	desc := c.listed.Command
	if desc.Hints.ReadOnly || desc.Input != module.TextInput && desc.Input != module.GenFileInput {
		return
	}
	c.record.wanted, c.record.view, c.record.arguments = true, s.View(), recorded(desc, f)
}

// recorded returns the arguments of a call as they are kept: the switches that
// the command has, with their values. Anything else is ignored by the command
// too, and may be an answer to PRIV_TEXT that came after the end of its call.
func recorded(desc *module.Command, f wire.Frame) string {
	switch {
	case f.Type != wire.Text && f.Type != wire.GenFile:
		return "(" + f.Type.String() + ")"
	case len(f.Payload) > maxRecorded:
		return "(too long)"
	}
	args, _, _ := desc.ParseArgs(f.Payload) // what could be read counts
	var b strings.Builder
	for _, a := range desc.Args {
		if !args.Has(a.Name) {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("-" + a.Name)
		if v := args.String(a.Name); v != "" {
			b.WriteString(" " + quoted(v))
		}
	}
	return b.String()
}

// quoted is a value as it can be typed (commands 1.2).
func quoted(v string) string {
	if len(v) > maxValue {
		v = strings.ToValidUTF8(v[:maxValue], "") + "..."
	}
	if !strings.HasPrefix(v, "-") && !strings.ContainsAny(v, " \t\r\n'\"") {
		return v
	}
	return `"` + strings.ReplaceAll(v, `"`, `\"`) + `"`
}

// audit records how a call has ended, once. A call of somebody who is not
// logged in counts when it has worked: failures have changed nothing, and those
// of auth are in a log of their own. It may be called from any goroutine.
func (s *Session) audit(c *call, code wire.ReturnCode) {
	who := c.record.view
	if !c.record.wanted || who.User == nil && code != wire.NoErrors {
		return
	}
	c.record.once.Do(func() {
		if who.User == nil {
			who = s.View() // auth: whom the session is now
		}
		s.cfg.Journal.Audit(who, c.listed.Name, c.record.arguments, code)
	})
}

// awaitOutcome has a call recorded that is about to be given up: with the code
// of its command, which may have made its change and goes on to its end, or,
// when that takes too long, with the one that the client is told.
func (s *Session) awaitOutcome(c *call, code wire.ReturnCode) {
	if c.record.wanted {
		c.record.late = time.AfterFunc(s.cfg.Limits().OutcomeTimeout, func() { s.audit(c, code) })
	}
}

// auditLate records a given-up call whose command has ended. It may be called
// from any goroutine.
func (s *Session) auditLate(c *call, end instance.End) {
	if c.record.late != nil {
		c.record.late.Stop()
	}
	s.audit(c, end.Code)
}

// auditRefusal records a call of a command that exists and that this session
// may not run.
func (s *Session) auditRefusal(f wire.Frame) {
	known := s.cfg.Registry.Known(f.Cmd)
	if known == nil || s.refusals >= maxRefusals {
		return
	}
	s.refusals++
	s.cfg.Journal.Audit(s.View(), known.Name, recorded(known.Command, f), wire.InvalidParams)
}
