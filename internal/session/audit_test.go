package session_test

import (
	"context"
	"testing"
	"time"

	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// journal keeps the audit rows of one command.
type journal struct {
	command string
	rows    chan wire.ReturnCode
}

func (journal) Activity(*module.Session, string) {}
func (j journal) Audit(_ *module.Session, command, _ string, code wire.ReturnCode) {
	if command == j.command {
		j.rows <- code
	}
}

// next is the next row.
func (j journal) next(t *testing.T) wire.ReturnCode {
	t.Helper()
	select {
	case code := <-j.rows:
		return code
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was recorded")
		return 0
	}
}

// wantNone makes sure that nothing is recorded, when all has ended.
func (j journal) wantNone(t *testing.T) {
	t.Helper()
	select {
	case code := <-j.rows:
		t.Errorf("recorded with %v", code)
	default:
	}
}

// audited starts a server with the command work, which says "begun" and then
// waits for resume and for the end of its context; then it ends as end says.
func audited(t *testing.T, change func(*server), end func(context.Context, *module.Call) error) (s *server, c *hosttest.Client, j journal, resume func()) {
	t.Helper()
	j = journal{command: "work", rows: make(chan wire.ReturnCode, 16)}
	on := make(chan struct{})
	s = serve(t, func(s *server) {
		s.journal = j
		if change != nil {
			change(s)
		}
	}, &module.Command{
		Name: "work", Class: module.Public | module.Exempt,
		Run: func(ctx context.Context, c *module.Call) error {
			if err := c.Line(ctx, "begun"); err != nil {
				return err
			}
			<-on
			<-ctx.Done()
			return end(ctx, c)
		},
	})
	t.Cleanup(func() { // if the test has not
		select {
		case <-on:
		default:
			close(on)
		}
	})
	c = s.connect()
	c.Send(wire.Text, c.ID("login"), 0, "-rank 5")
	c.UntilIdle(c.ID("login"), 0)
	c.Send(wire.Text, c.ID("work"), 0, "")
	c.UntilType(wire.Text)
	return s, c, j, func() { close(on) }
}

// A call that is given up is recorded with what has become of it.
func TestOutcomeOfGivenUpCalls(t *testing.T) {
	ends := []struct {
		name string
		end  func(context.Context, *module.Call) error
		want wire.ReturnCode
	}{
		{"changed", func(context.Context, *module.Call) error { return nil }, wire.NoErrors},
		{"changed, and tells", func(ctx context.Context, c *module.Call) error {
			return c.Line(context.WithoutCancel(ctx), "done")
		}, wire.NoErrors},
		{"changed, and others are told", func(ctx context.Context, c *module.Call) error {
			ctx = context.WithoutCancel(ctx)
			if err := c.Async(ctx, wire.AsyncRWMyInfo, &wire.UserRef{User: wire.UserID{5}}); err != nil {
				return err
			}
			return c.Line(ctx, "done")
		}, wire.NoErrors},
		{"ranks changed", func(ctx context.Context, c *module.Call) error {
			return c.Async(context.WithoutCancel(ctx), wire.AsyncCmdRanksChg, nil)
		}, wire.NoErrors},
		{"not changed", func(ctx context.Context, c *module.Call) error { return context.Cause(ctx) }, wire.Aborted},
		{"refused", func(context.Context, *module.Call) error { return module.Invalid("No.") }, wire.InvalidParams},
	}
	for _, e := range ends {
		t.Run("client left, "+e.name, func(t *testing.T) {
			s, c, j, resume := audited(t, nil, e.end)
			c.Conn.Close()
			resume()
			if got := j.next(t); got != e.want {
				t.Errorf("recorded with %v, want %v", got, e.want)
			}
			_ = s.endReason()
			j.wantNone(t)
		})
		t.Run("killed, "+e.name, func(t *testing.T) {
			_, c, j, resume := audited(t, func(s *server) { s.limits.KillGrace = time.Millisecond }, e.end)
			id := c.ID("work")
			c.Send(wire.KillCmd, id, 0, "")
			wantKinds(t, c.UntilIdle(id, 0), "IDLE 2")
			j.wantNone(t)
			resume()
			if got := j.next(t); got != e.want {
				t.Errorf("recorded with %v, want %v", got, e.want)
			}
			fence(t, c)
			j.wantNone(t)
		})
	}
}

// A command that does not end is recorded all the same, once.
func TestOutcomeTimeout(t *testing.T) {
	s, c, j, resume := audited(t, func(s *server) {
		s.limits.KillGrace, s.limits.OutcomeTimeout = time.Millisecond, time.Millisecond
	}, func(context.Context, *module.Call) error { return nil })
	c.Send(wire.KillCmd, c.ID("work"), 0, "")
	if got := j.next(t); got != wire.Aborted {
		t.Errorf("recorded with %v, want %v", got, wire.Aborted)
	}
	resume()
	c.Conn.Close()
	_ = s.endReason()
	j.wantNone(t)
}
