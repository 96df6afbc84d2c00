package bench

import (
	"context"
	"fmt"
	"time"

	"mrci.dev/mrci/internal/bench/fanout"
	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/wire"
)

// What a crowd is made of.
const (
	crowdProcesses = 4
	crowdAccounts  = 10 // which the sessions share
	crowdPassword  = "Measured-once-more1"
	crowdSub       = "group" // and a number
)

// crowdPatience is more than a machine needs for one step of a crowd.
const crowdPatience = 10 * time.Minute

// crowd measures many sessions: they connect, log in, open a sub-channel in
// groups, cast there, and leave.
func (b *Bench) crowd(ctx context.Context) (rows []Row, err error) {
	o := b.opts.Cast
	if err := needDescriptors(o.Sessions, "--sessions"); err != nil {
		return nil, err
	}
	for _, mode := range b.opts.Modes {
		run, err := b.newCrowdRun(ctx, mode)
		if err != nil {
			return nil, err
		}
		part, err := run.all(ctx)
		if err != nil {
			return nil, err
		}
		rows = append(rows, part...)
		b.stopAll()
	}
	return rows, nil
}

// crowdRun is one mode: the same crowd comes to the host, and to the floor.
type crowdRun struct {
	b           *Bench
	mode        Mode
	host, floor *castServer // host is nil when it is left out
	lab         *castHost
}

func (b *Bench) newCrowdRun(ctx context.Context, mode Mode) (*crowdRun, error) {
	o := b.opts.Cast
	c := &crowdRun{b: b, mode: mode}
	var subs []string
	for i := range o.Sessions / o.Group {
		subs = append(subs, fmt.Sprintf("%s%d", crowdSub, i))
	}
	var chain, key string
	if o.NoHost {
		var err error
		if chain, key, err = b.certificate(ctx, mode); err != nil {
			return nil, err
		}
	} else {
		h, err := b.startCastHost(ctx, mode, o.Sessions, subs)
		if err != nil {
			return nil, err
		}
		if err := h.letIn(ctx, subs); err != nil {
			return nil, fmt.Errorf("make accounts: %w", err)
		}
		c.lab, c.host, chain, key = h, &h.castServer, h.chain, h.key
	}
	var err error
	c.floor, err = b.startCastFloor(ctx, mode, chain, key)
	return c, err
}

// letIn makes the accounts of a crowd, and lets everybody into the
// sub-channels.
func (h *castHost) letIn(ctx context.Context, subs []string) error {
	admin, err := h.admin(ctx)
	if err != nil {
		return err
	}
	defer admin.Close()
	for _, sub := range subs {
		if err := admin.Run("set_sub_ch_level", fmt.Sprintf("-ch_name %s -sub_name %s -level %d", castChannel, sub, wire.Public)); err != nil {
			return err
		}
	}
	h.accounts = nil
	for i := range crowdAccounts {
		a := raw.Account{Name: fmt.Sprintf("crowd%d", i), Password: crowdPassword}
		if err := addAccount(admin, a); err != nil {
			return err
		}
		if err := admin.Run("set_user_rank", fmt.Sprintf("-user %s -rank 1", a.Name)); err != nil {
			return err
		}
		h.accounts = append(h.accounts, a)
	}
	return nil
}

// addAccount makes an account.
func addAccount(p *raw.Client, a raw.Account) error {
	add, err := p.ID("add_acct")
	if err != nil {
		return err
	}
	p.Renew()
	if _, err := p.Conn.Write(wire.AppendText(nil, wire.Text, add, raw.Branch, fmt.Sprintf("-name %s -email %s@example.com", a.Name, a.Name))); err != nil {
		return err
	}
	if err := p.Prompted(add); err != nil {
		return err
	}
	return p.Call(wire.AppendText(nil, wire.Text, add, raw.Branch, a.Password), add)
}

// crowdStep is what one step of a crowd took.
type crowdStep struct {
	took            float64 // seconds
	server, clients float64 // of processor time
	resident        float64 // MiB of the server, at its end
}

// crowdFigures are the steps of one server by name.
type crowdFigures struct {
	steps      map[string]crowdStep
	before     float64 // MiB of the server
	held       float64 // with all sessions there, when garbage has been collected; 0: not known
	after      float64
	deliveries float64
}

// crowdSteps are the steps in their order.
var crowdSteps = []string{"connect", "log in", "open a sub-channel", "cast", "leave"}

func (c *crowdRun) all(ctx context.Context) (rows []Row, err error) {
	var host, floor crowdFigures
	if c.host != nil {
		if host, err = c.on(ctx, c.host); err != nil {
			return nil, fmt.Errorf("host: %w", err)
		}
	}
	if floor, err = c.on(ctx, c.floor); err != nil {
		return nil, fmt.Errorf("floor: %w", err)
	}
	o := c.b.opts.Cast
	what := fmt.Sprintf("%d sessions in groups of %d, ", o.Sessions, o.Group)
	for _, name := range crowdSteps {
		h, f := host.steps[name], floor.steps[name]
		if h.took == 0 && f.took == 0 {
			continue // nobody logs in to a floor
		}
		row := Row{What: what + name, Mode: c.mode, Unit: "s", Host: h.took, Floor: f.took}
		if f.took > 0 {
			row.Ratio = h.took / f.took
		}
		if c.host != nil {
			row.Note = fmt.Sprintf("processor: host %.1f s, clients %.1f s; host then %.0f MiB", h.server, h.clients, h.resident)
		}
		rows = append(rows, row)
	}
	deliveries := Row{What: what + "deliveries", Mode: c.mode, Unit: "1/s", Host: host.deliveries, Floor: floor.deliveries,
		Note: fmt.Sprintf("%d casts of each, %s; lost 0", o.Casts, sizeText(o.Sizes[0]))}
	if floor.deliveries > 0 {
		deliveries.Ratio = host.deliveries / floor.deliveries
	}
	rows = append(rows, deliveries)
	if c.host != nil {
		rows = append(rows,
			Row{What: what + "a session, resident", Mode: c.mode, Unit: "KiB", Host: (host.held - host.before) * 1024 / float64(o.Sessions),
				Note: "connected, logged in, sub-channel open; garbage collected"},
			Row{What: what + "host before and after", Mode: c.mode, Unit: "MiB", Host: host.after, Note: fmt.Sprintf("before %.1f MiB", host.before)})
	}
	return rows, nil
}

// on has the crowd come to one server.
func (c *crowdRun) on(ctx context.Context, s *castServer) (f crowdFigures, err error) {
	o := c.b.opts.Cast
	c.b.say("crowd %s: %d sessions come to the %s", c.mode, o.Sessions, s.name)
	if f.before, err = c.resident(ctx, s); err != nil {
		return f, err
	}
	ts, err := c.b.startTeams(ctx, "crowd-"+s.name, min(crowdProcesses, o.Sessions/o.Group))
	if err != nil {
		return f, err
	}
	defer ts.stop()
	f.steps = make(map[string]crowdStep)
	step := func(i int, do func() error) error {
		server, clients, began := s.process.cpu(), ts.cpu(), time.Now()
		if err := do(); err != nil {
			return fmt.Errorf("%s: %w", crowdSteps[i], err)
		}
		f.steps[crowdSteps[i]] = crowdStep{
			took: time.Since(began).Seconds(), server: s.process.cpu() - server, clients: ts.cpu() - clients, resident: mib(s.process.resident()),
		}
		c.b.say("crowd %s: %s: %.1f s", c.mode, crowdSteps[i], f.steps[crowdSteps[i]].took)
		return nil
	}
	if err := step(0, func() error { return ts.connect(ctx, s, o.Sessions, false) }); err != nil {
		return f, err
	}
	if s.accounts != nil { // the floor has none
		if err := step(1, func() error { return ts.login(ctx, s) }); err != nil {
			return f, err
		}
	}
	if err := step(2, func() error { return ts.ready(ctx, s, crowdSub, o.Group) }); err != nil {
		return f, err
	}
	if f.held, err = c.resident(ctx, s); err != nil {
		return f, err
	}
	if err := step(3, func() (err error) {
		f.deliveries, err = c.cast(ctx, ts)
		return err
	}); err != nil {
		return f, err
	}
	if err := step(4, func() error {
		_, err := ts.order(ctx, teamOrder{Do: doLeave}, crowdPatience)
		return err
	}); err != nil {
		return f, err
	}
	f.after, err = c.resident(ctx, s)
	return f, err
}

// resident is the memory of the server in MiB, without garbage and when it
// stands still if it is the host.
func (c *crowdRun) resident(ctx context.Context, s *castServer) (float64, error) {
	if s == c.host {
		return c.b.collectedHost(ctx, c.lab)
	}
	return mib(s.process.resident()), nil
}

// cast has every session cast, and checks that every other one of its group gets
// all of it in order. It returns the deliveries a second.
func (c *crowdRun) cast(ctx context.Context, ts teams) (float64, error) {
	o := c.b.opts.Cast
	run := fanout.Run{Size: o.Sizes[0], Senders: o.Group, Receivers: o.Group}
	if _, err := ts.order(ctx, teamOrder{Do: doBegin, Run: run}, 0); err != nil {
		return 0, err
	}
	sent, err := ts.order(ctx, teamOrder{Do: doSend, Load: fanout.Load{Casts: uint64(o.Casts)}}, crowdPatience)
	if err != nil {
		return 0, err
	}
	each := uint64(o.Group-1) * uint64(o.Casts)
	all, err := ts.order(ctx, teamOrder{Do: doReceive, Casts: each}, crowdPatience)
	if err != nil {
		return 0, err
	}
	r := all.Received
	if want := each * uint64(o.Sessions); r.Casts != want || r.Lost > 0 || r.Wrong > 0 {
		return 0, fmt.Errorf("of %d deliveries %d have come, %d are lost, %d out of order", want, r.Casts, r.Lost, r.Wrong)
	}
	return float64(r.Casts) / (float64(r.Last-sent.Sent.First) / 1e9), nil
}
