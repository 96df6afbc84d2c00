package soak

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/wire"
)

// This file has what two sessions of a soak do over peer links.

// table is where two sessions meet.
type table struct {
	s    *soaker
	a, b *guest // of rank 1, and of a lower one
}

// pair returns both in any order.
func (t *table) pair() (from, to *guest) {
	if t.s.one(2) {
		return t.a, t.b
	}
	return t.b, t.a
}

// peer is how others name a session.
func (g *guest) peer() wire.Peer { return wire.Peer{Session: g.c.Session(), Name: g.account} }

// peerLinks makes links, uses and ends them in every way that there is.
func (s *soaker) peerLinks(ctx, soak context.Context) error {
	return s.withTable(ctx, func(t *table) error {
		// A session may ask for so many links in a minute, and no more than two
		// are asked for in a step.
		for range 1 + s.random.IntN(10) {
			if !s.rest(soak) {
				break
			}
			if err := t.step(ctx, pick(s.random, linkSteps)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *soaker) withTable(ctx context.Context, do func(*table) error) error {
	t := &table{s: s}
	var err error
	if t.a, err = s.enter(ctx, bossName(s.number), 'a'); err != nil {
		return err
	}
	defer t.a.c.Close()
	if t.b, err = s.enter(ctx, UserName(s.number), 'b'); err != nil {
		return err
	}
	defer t.b.c.Close()
	if err := do(t); err != nil {
		return err
	}
	if s.one(2) { // with a link that is made
		if _, _, err := t.link(ctx, t.a, t.b); err != nil {
			return err
		}
	}
	from, to := t.pair()
	from.leave(s.one(2))
	to.leave(s.one(2))
	return nil
}

func (t *table) step(ctx context.Context, one linkStep) error {
	t.a.forget()
	t.b.forget()
	if err := one.do(t, ctx); err != nil {
		return fmt.Errorf("%s: %w", one.name, err)
	}
	t.s.work.done("link: " + one.name)
	return nil
}

// linkStep is something that two sessions do that have no link, and have none
// afterwards.
type linkStep struct {
	name   string
	weight int
	do     func(t *table, ctx context.Context) error
}

func (s linkStep) share() int { return s.weight }

var linkSteps = []linkStep{
	{"relay", 20, (*table).relay},
	{"decline", 6, (*table).decline},
	{"withdraw", 6, (*table).withdraw},
	{"both ask", 6, (*table).bothAsk},
	{"refusals", 6, (*table).refused},
	{"close while sending", 6, (*table).closeAmid},
	{"logout", 4, (*table).logout},
	{"lock", 3, (*table).lock},
	{"peer that does not read", 4, (*table).deaf},
}

// askedBy waits until a session is asked for a link by another.
func (g *guest) askedBy(ctx context.Context, from *guest) error {
	return g.told(ctx, "P2P_REQUEST", func(e client.Event) bool {
		peer, ok := e.Value.(*wire.Peer)
		return ok && e.Type == wire.P2PRequest && peer.Session == from.c.Session() && peer.Name == from.account
	})
}

// request asks for a link, on a goroutine that done waits for.
func (t *table) request(ctx context.Context, from, to *guest) (done func() (*client.Link, error)) {
	t.s.work.call()
	var link *client.Link
	var err error
	var group sync.WaitGroup
	group.Go(func() { link, err = from.c.RequestLink(ctx, to.peer()) })
	return func() (*client.Link, error) {
		group.Wait()
		return link, err
	}
}

// link makes a link, and returns both ends.
func (t *table) link(ctx context.Context, from, to *guest) (out, in *client.Link, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := t.request(ctx, from, to)
	if err = to.askedBy(ctx, from); err == nil {
		t.s.work.call()
		in, err = to.c.AcceptLink(ctx, from.peer())
	}
	if err != nil {
		cancel()
		_, requestErr := done()
		return nil, nil, errors.Join(err, requestErr)
	}
	if out, err = done(); err != nil {
		return nil, nil, fmt.Errorf("p2p_request: %w", err)
	}
	return out, in, nil
}

// send says so many things over a link.
func (g *guest) send(ctx context.Context, l *client.Link, times, size int) error {
	for range times {
		g.said++
		g.work.call()
		if err := l.Send(ctx, sayType(g.said), saying(g.letter, g.said, size)); err != nil {
			return fmt.Errorf("to_peer: %w", err)
		}
	}
	return nil
}

// receive takes as many messages of somebody, who has said so many things
// before.
func receive(ctx context.Context, l *client.Link, letter byte, before uint64, times int) error {
	for i := range times {
		typ, b, err := l.Receive(ctx)
		if err != nil {
			return fmt.Errorf("message %d of %d: %w", i+1, times, err)
		}
		switch from, n, err := parseSaying(typ, b); {
		case err != nil:
			return err
		case from != letter || n != before+uint64(i)+1:
			return fmt.Errorf("message %d of %c, want %d of %c", n, from, before+uint64(i)+1, letter)
		}
	}
	return nil
}

// talk sends over both directions of a link at once. It keeps below what a
// client holds for a link that it does not look at.
func (t *table) talk(ctx context.Context, from, to *guest, out, in *client.Link) error {
	times, size := 1+t.s.random.IntN(50), t.s.random.IntN(2*small)
	switch t.s.random.IntN(4) {
	case 0:
		size = large
	case 1:
		times, size = 1+t.s.random.IntN(10), huge
	}
	var failed [4]error
	wasOut, wasIn := from.said, to.said
	var group sync.WaitGroup
	group.Go(func() { failed[0] = from.send(ctx, out, times, size) })
	group.Go(func() { failed[1] = to.send(ctx, in, times, size) })
	group.Go(func() { failed[2] = receive(ctx, in, from.letter, wasOut, times) })
	group.Go(func() { failed[3] = receive(ctx, out, to.letter, wasIn, times) })
	group.Wait()
	err := errors.Join(failed[:]...)
	if err == nil {
		t.s.work.add("link messages received", uint64(2*times))
	}
	return err
}

// over makes sure that a link has ended, for a reason.
func over(ctx context.Context, l *client.Link, want ...error) error {
	for {
		_, _, err := l.Receive(ctx)
		switch {
		case err == nil: // what was on its way
		case slices.ContainsFunc(want, func(want error) bool { return errors.Is(err, want) }):
			return nil
		default:
			return fmt.Errorf("link ends with %w, want %v", err, want)
		}
	}
}

func (t *table) relay(ctx context.Context) error {
	from, to := t.pair()
	out, in, err := t.link(ctx, from, to)
	if err != nil {
		return err
	}
	for range 1 + t.s.random.IntN(3) {
		if err := t.talk(ctx, from, to, out, in); err != nil {
			return err
		}
	}
	id := to.c.Session().String()
	again := aboutPeer("p2p_request", to.c.Session())
	if err := errors.Join(
		from.run(ctx, expect{name: "ls_p2p", says: id}),
		from.order(ctx, again, wire.InvalidParams)); err != nil {
		return err
	}
	return t.part(ctx, out, in)
}

// part closes a link, from either end.
func (t *table) part(ctx context.Context, out, in *client.Link) error {
	if t.s.one(2) {
		out, in = in, out
	}
	t.s.work.call()
	if err := out.Close(); err != nil {
		return fmt.Errorf("p2p_close: %w", err)
	}
	return errors.Join(over(ctx, in, client.ErrPeerClosed), over(ctx, out, client.ErrLinkClosed))
}

func (t *table) decline(ctx context.Context) error {
	from, to := t.pair()
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	done := t.request(asking, from, to)
	err := to.askedBy(ctx, from)
	if err == nil {
		t.s.work.call()
		err = to.c.DeclineLink(ctx, from.c.Session())
	}
	if err != nil {
		cancel()
		_, requestErr := done()
		return errors.Join(err, requestErr)
	}
	if _, err := done(); !errors.Is(err, client.ErrDeclined) {
		return fmt.Errorf("a request that is declined: %v, want %v", err, client.ErrDeclined)
	}
	return nil
}

// withdraw takes a request back, perhaps just when it is accepted.
func (t *table) withdraw(ctx context.Context) error {
	from, to := t.pair()
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	done := t.request(asking, from, to)
	if err := to.askedBy(ctx, from); err != nil {
		cancel()
		_, requestErr := done()
		return errors.Join(err, requestErr)
	}
	cancel()
	t.s.work.call()
	in, acceptErr := to.c.AcceptLink(ctx, from.peer())
	out, requestErr := done()
	refused, isRefused := errors.AsType[*client.CommandError](acceptErr)
	switch {
	case requestErr == nil: // accepted before
		if acceptErr != nil {
			return errors.Join(acceptErr, out.Close())
		}
		return t.part(ctx, out, in)
	case !errors.Is(requestErr, context.Canceled):
		return fmt.Errorf("a request that is withdrawn: %w", requestErr)
	case acceptErr == nil: // for a moment
		return over(ctx, in, client.ErrPeerClosed)
	case isRefused && refused.Code == wire.InvalidParams, errors.Is(acceptErr, client.ErrPeerClosed):
		return nil
	}
	return fmt.Errorf("accept what is withdrawn: %w", acceptErr)
}

// bothAsk has both ask for a link at once, which makes one.
func (t *table) bothAsk(ctx context.Context) error {
	from, to := t.pair()
	doneOut, doneIn := t.request(ctx, from, to), t.request(ctx, to, from)
	out, outErr := doneOut()
	in, inErr := doneIn()
	if err := errors.Join(outErr, inErr); err != nil {
		return err
	}
	if err := t.eitherAsked(ctx); err != nil {
		return err
	}
	if err := t.talk(ctx, from, to, out, in); err != nil {
		return err
	}
	return t.part(ctx, out, in)
}

// eitherAsked waits for the one request that was told before the other one
// accepted it: nobody must take it for a later one.
func (t *table) eitherAsked(ctx context.Context) error {
	for {
		var e client.Event
		select {
		case e = <-t.a.news:
		case e = <-t.b.news:
		case <-ctx.Done():
			return fmt.Errorf("wait for P2P_REQUEST: %w", errNoNews)
		}
		if e.ID == wire.AsyncP2P && e.Type == wire.P2PRequest {
			return nil
		}
	}
}

// aboutPeer is a call about a peer.
func aboutPeer(name string, peer wire.SessionID) client.Request {
	return client.Request{Command: name, Type: wire.SesID, Payload: peer[:]}
}

// order makes a call that begins with any frame.
func (v *visit) order(ctx context.Context, r client.Request, want ...wire.ReturnCode) error {
	v.work.call()
	result, err := v.c.Do(ctx, r, client.Handlers{})
	if err == nil && !slices.Contains(want, result.Code) {
		err = fmt.Errorf("ends with %v, want %v", result.Code, want)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.Command, err)
	}
	return nil
}

func (t *table) refused(ctx context.Context) error {
	from, to := t.pair()
	me, peer := from.c.Session(), to.c.Session()
	nobody := peer
	for i := range nobody {
		nobody[i] = byte(t.s.random.Uint32())
	}
	return errors.Join(
		from.order(ctx, aboutPeer("p2p_request", me), wire.InvalidParams),
		from.order(ctx, aboutPeer("p2p_request", nobody), wire.ExecutionFail),
		from.order(ctx, aboutPeer("p2p_open", peer), wire.InvalidParams),
		from.order(ctx, aboutPeer("p2p_close", peer), wire.InvalidParams),
		from.order(ctx, client.Request{Command: "p2p_open", Type: wire.SesID, Payload: peer[1:]}, wire.InvalidParams),
		from.order(ctx, client.Request{Command: "to_peer", Type: wire.Bytes, Payload: peer[:]}, wire.InvalidParams),
		from.order(ctx, client.Request{Command: "to_peer", Type: wire.Bytes, Payload: peer[1:]}, wire.InvalidParams),
		to.run(ctx, expect{name: "ls_p2p", says: "pending"}))
}

// sendUntil sends until the link ends. What the end looks like is a race: the
// client knows of it first, or the host.
func (g *guest) sendUntil(ctx context.Context, l *client.Link, times, size int, want ...error) error {
	err := g.send(ctx, l, times, size)
	if refused, ok := errors.AsType[*client.CommandError](err); ok && (refused.Code == wire.InvalidParams || refused.Code == wire.ExecutionFail) {
		return nil
	}
	if err == nil || slices.ContainsFunc(want, func(want error) bool { return errors.Is(err, want) }) {
		return nil
	}
	return fmt.Errorf("send over a link that ends: %w", err)
}

// amid ends a link while both send.
func (t *table) amid(ctx context.Context, from, to *guest, end func(out, in *client.Link) error) error {
	out, in, err := t.link(ctx, from, to)
	if err != nil {
		return err
	}
	size := []int{small, large, huge}[t.s.random.IntN(3)]
	const times = 12 // which a client holds
	var failed [2]error
	var group sync.WaitGroup
	group.Go(func() {
		failed[0] = from.sendUntil(ctx, out, times, size, client.ErrLinkClosed, client.ErrPeerClosed, client.ErrLoggedOut)
	})
	group.Go(func() {
		failed[1] = to.sendUntil(ctx, in, times, size, client.ErrLinkClosed, client.ErrPeerClosed, client.ErrLoggedOut)
	})
	err = end(out, in)
	group.Wait()
	return errors.Join(err, failed[0], failed[1])
}

func (t *table) closeAmid(ctx context.Context) error {
	from, to := t.pair()
	return t.amid(ctx, from, to, func(out, in *client.Link) error { return t.part(ctx, out, in) })
}

// logout ends a link with the login of one of both.
func (t *table) logout(ctx context.Context) error {
	from, to := t.pair()
	out, in, err := t.link(ctx, from, to)
	if err != nil {
		return err
	}
	if err := t.talk(ctx, from, to, out, in); err != nil {
		return err
	}
	if err := from.run(ctx, expect{name: "logout"}); err != nil {
		return err
	}
	if err := errors.Join(over(ctx, in, client.ErrPeerClosed), from.login(ctx, raw.Account{Name: from.account, Password: password})); err != nil {
		return err
	}
	if err := over(ctx, out, client.ErrLoggedOut); err != nil {
		return err
	}
	return from.run(ctx, expect{name: "ls_p2p", says: "pending"})
}

// lock ends a link by locking the account of one of both.
func (t *table) lock(ctx context.Context) error {
	boss, user := t.a, t.b
	out, in, err := t.link(ctx, boss, user)
	if err != nil {
		return err
	}
	lock := func(state string) error {
		return boss.run(ctx, expect{name: "lock_acct", args: []string{"-user", user.account, "-state", state}})
	}
	err = lock("1")
	if err == nil {
		err = over(ctx, out, client.ErrPeerClosed)
	}
	if err = errors.Join(err, lock("0")); err != nil {
		return err
	}
	if err := user.login(ctx, raw.Account{Name: user.account, Password: password}); err != nil {
		return err
	}
	return over(ctx, in, client.ErrLoggedOut)
}

// deaf makes a link with a peer that reads nothing, and that breaks off when the
// link is full, or closes it.
func (t *table) deaf(ctx context.Context) error {
	from := t.a
	p, err := raw.Dial(ctx, t.s.addr)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Enlist(raw.Account{Name: UserName(t.s.number), Password: password}); err != nil {
		return err
	}
	id := from.c.Session()
	request, err := p.ID("p2p_request")
	if err != nil {
		return err
	}
	end, err := p.ID("p2p_close")
	if err != nil {
		return err
	}
	t.s.work.call()
	if err := p.Call(wire.AppendFrame(nil, wire.SesID, request, raw.Branch, id[:]), request); err != nil {
		return err
	}
	var peer wire.Peer
	if err := from.told(ctx, "P2P_REQUEST", func(e client.Event) bool {
		asks, ok := e.Value.(*wire.Peer)
		if ok && e.Type == wire.P2PRequest {
			peer = *asks
		}
		return ok && e.Type == wire.P2PRequest
	}); err != nil {
		return err
	}
	t.s.work.call()
	link, err := from.c.AcceptLink(ctx, peer)
	if err != nil {
		return err
	}
	// More than the link and the buffers of the system hold.
	sending, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	var sendErr error
	group.Go(func() {
		sendErr = from.sendUntil(sending, link, 200, huge, client.ErrPeerClosed)
	})
	t.s.rest(ctx)
	if t.s.one(2) {
		if _, err := p.Conn.Write(wire.AppendFrame(nil, wire.SesID, end, raw.Branch, id[:])); err != nil {
			cancel()
			group.Wait()
			return errors.Join(err, sendErr)
		}
		group.Wait()
	}
	t.s.part(p)
	group.Wait()
	return errors.Join(sendErr, over(ctx, link, client.ErrPeerClosed))
}
