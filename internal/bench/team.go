package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"mrci.dev/mrci/internal/bench/fanout"
	"mrci.dev/mrci/internal/bench/raw"
)

// A team is a process with members of one server: those who send, who listen,
// or who do nothing. This file has what such a process does with its orders;
// teams.go has the orders.

// team is the members that a process has.
type team struct {
	clock    fanout.Clock
	protocol fanout.Protocol
	sender   bool
	first    int
	group    int

	peers   []*raw.Client // one for each member
	members []*fanout.Member
	readers sync.WaitGroup
}

// serveTeam takes orders until ctx ends.
func serveTeam(ctx context.Context, orders <-chan string, out io.Writer) error {
	t := &team{clock: fanout.NewClock()}
	// What waits for a server ends when its connection does.
	defer t.leave()
	for {
		select {
		case <-ctx.Done():
			return nil
		case text := <-orders:
			said, err := t.obey(ctx, text)
			if err != nil {
				said = []byte("error: " + err.Error())
			}
			fmt.Fprintf(out, "%s%s\n", answer, bytes.ReplaceAll(said, []byte("\n"), []byte(" ")))
		}
	}
}

func (t *team) obey(ctx context.Context, text string) ([]byte, error) {
	var o teamOrder
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return nil, err
	}
	began := time.Now()
	var a teamAnswer
	var err error
	switch o.Do {
	case doConnect:
		err = t.connect(ctx, o)
	case doLogin:
		err = t.each(ctx, func(i int, p *raw.Client) error {
			defer p.Shrink()
			return p.Enlist(o.Accounts[(t.first+i)%len(o.Accounts)])
		})
	case doOpen:
		err = t.open(ctx, o)
	case doListen:
		t.listen()
	case doSip:
		t.sip(ctx, o.PerSecond)
	case doBegin:
		for _, m := range t.members {
			err = errors.Join(err, m.Begin(o.Run))
		}
	case doSend:
		a.Sent, err = t.send(ctx, o.Load)
	case doReceive:
		for _, m := range t.members {
			one, receiveErr := m.Receive(ctx, o.Casts)
			a.Received.Add(&one)
			err = errors.Join(err, receiveErr)
			if ctx.Err() != nil {
				break
			}
		}
	case doLeave:
		t.leave()
	default:
		err = fmt.Errorf("no order %q", o.Do)
	}
	if err != nil {
		return nil, err
	}
	a.Took, a.Drift = time.Since(began), t.clock.Drift()
	return json.Marshal(a)
}

// each lets a few members at once do something.
func (t *team) each(ctx context.Context, do func(i int, p *raw.Client) error) error {
	return atOnce(joiners, len(t.peers), func(i int) error {
		stop := context.AfterFunc(ctx, func() { t.peers[i].Close() })
		defer stop()
		t.peers[i].Renew()
		if err := do(i, t.peers[i]); err != nil {
			return fmt.Errorf("member %d: %w", t.first+i, err)
		}
		return t.peers[i].Conn.SetDeadline(time.Time{})
	})
}

// atOnce does n things, some at once, until one fails.
func atOnce(some, n int, do func(i int) error) error {
	var (
		group  sync.WaitGroup
		mu     sync.Mutex
		next   int
		failed error
	)
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1, next <= n && failed == nil
	}
	for range some {
		group.Go(func() {
			for {
				i, ok := take()
				if !ok {
					return
				}
				if err := do(i); err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	group.Wait()
	return failed
}

// greetingBytes is what a member reads at once until it listens, and more than
// a NATS server says first.
const greetingBytes = 4 << 10

func (t *team) connect(ctx context.Context, o teamOrder) error {
	t.protocol, t.sender, t.first = o.Protocol, o.Sender, o.First
	t.peers = make([]*raw.Client, o.Members)
	return atOnce(joiners, o.Members, func(i int) error {
		tcp, err := dialSource(ctx, o.Addr, t.first+i)
		if err != nil {
			return err
		}
		if err := tcp.SetDeadline(time.Now().Add(raw.Patience)); err != nil {
			tcp.Close()
			return err
		}
		var nc net.Conn
		if t.protocol == fanout.NATS {
			nc, err = greetNATS(ctx, tcp)
		} else {
			nc, err = raw.ExchangeHeaders(ctx, tcp)
		}
		if err != nil {
			tcp.Close()
			return err
		}
		t.peers[i] = raw.New(nc, greetingBytes)
		if t.protocol == fanout.MRCI {
			err = t.peers[i].ReadGreeting()
		}
		return err
	})
}

// greetNATS reads what a NATS server says first, and speaks TLS if it wants
// that.
func greetNATS(ctx context.Context, nc net.Conn) (net.Conn, error) {
	var info []byte
	for b := make([]byte, 1); len(info) == 0 || info[len(info)-1] != '\n'; info = append(info, b...) {
		// Byte by byte: what follows belongs to TLS.
		if _, err := io.ReadFull(nc, b); err != nil {
			return nil, fmt.Errorf("greeting: %w", err)
		}
	}
	if !bytes.Contains(info, []byte(`"tls_required":true`)) {
		return nc, nil
	}
	secured := tls.Client(nc, raw.TLSConfig)
	return secured, secured.HandshakeContext(ctx)
}

// castCommand is what a host has to offer.
const castCommand = "cast"

func (t *team) open(ctx context.Context, o teamOrder) error {
	t.group = o.Group
	t.members = make([]*fanout.Member, len(t.peers))
	return t.each(ctx, func(i int, p *raw.Client) error {
		number := t.first + i
		if t.protocol == fanout.NATS {
			t.members[i] = fanout.NewNATS(p.Conn, number, t.clock)
			return subscribe(p, t.sender)
		}
		sub := o.Sub
		if o.Group > 0 {
			sub = fmt.Sprintf("%s%d", o.Sub, number/o.Group)
		}
		if err := p.Run("open_sub_ch", fmt.Sprintf("-ch_name %s -sub_name %s", o.Channel, sub)); err != nil {
			return err
		}
		cast, err := p.ID(castCommand)
		if err != nil {
			return err
		}
		t.members[i] = fanout.New(p.Conn, cast, raw.Branch, t.clock)
		return nil
	})
}

// subscribe subscribes at a NATS server and waits until it has done so.
func subscribe(p *raw.Client, sender bool) error {
	if _, err := io.WriteString(p.Conn, fanout.Subscribe(sender)); err != nil {
		return err
	}
	for {
		if err := p.Fill(); err != nil {
			return err
		}
		if bytes.Contains(p.Unread(), []byte("PONG\r\n")) {
			return nil
		}
		if len(p.Unread()) >= greetingBytes {
			return errors.New("the NATS server says a lot and no PONG")
		}
	}
}

// Reading: who has many members gives each a smaller buffer, so that they stay
// in the caches of the processor.
const (
	readAtOnce  = 64 << 10
	readAtLeast = 16 << 10
	readInAll   = 16 << 20
)

// listen has the members read until their connections end.
func (t *team) listen() {
	size := max(readAtLeast, min(readAtOnce, readInAll/max(len(t.members), 1)))
	for i, m := range t.members {
		rest := t.peers[i].Release()
		t.readers.Go(func() { _ = m.Read(rest, make([]byte, size)) })
	}
}

// sip has the members read so many bytes a second each, or none at all, until
// their connections end.
func (t *team) sip(ctx context.Context, perSecond int) {
	if perSecond == 0 {
		return
	}
	const sips = 10 // a second
	for _, p := range t.peers {
		t.readers.Go(func() {
			b := make([]byte, max(1, perSecond/sips))
			ticker := time.NewTicker(time.Second / sips)
			defer ticker.Stop()
			for {
				select {
				case <-ticker.C:
				case <-ctx.Done():
					return
				}
				if _, err := io.ReadFull(p.Conn, b); err != nil {
					return
				}
			}
		})
	}
}

// send has the members send, a few at once, and returns how many casts that
// were, from the first to the last.
func (t *team) send(ctx context.Context, l fanout.Load) (all fanout.Sent, err error) {
	stop := context.AfterFunc(ctx, func() {
		for _, m := range t.members {
			m.Close()
		}
	})
	defer stop()
	var mu sync.Mutex
	err = atOnce(joiners, len(t.members), func(i int) error {
		load := l
		if t.group > 0 {
			load.Sender = (t.first + i) % t.group
		}
		s, err := t.members[i].Send(ctx, load)
		if err != nil {
			err = fmt.Errorf("member %d: %w", t.first+i, err)
		}
		mu.Lock()
		defer mu.Unlock()
		if all.Casts == 0 {
			all.First = s.First
		}
		all.Casts += s.Casts
		all.First, all.Last = min(all.First, s.First), max(all.Last, s.Last)
		return err
	})
	return all, err
}

func (t *team) leave() {
	for _, p := range t.peers {
		if p != nil {
			p.Close()
		}
	}
	t.readers.Wait()
	t.peers, t.members = nil, nil
}
