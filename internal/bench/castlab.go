package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"mrci.dev/mrci/internal/bench/fanout"
	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/wire"
)

// CastOptions say how to measure casts.
type CastOptions struct {
	Receivers []int // of one sender; slow takes the most
	Sizes     []int // of payloads, in bytes; crowd takes the first
	// Idle is how many sessions do nothing beside the casts, in a second host;
	// 0: there is none.
	Idle int
	// Peer is a program that runs a NATS server, see bench/peers; empty: none.
	Peer string
	// NoHost leaves the host out of cast: floor and peer alone.
	NoHost bool

	Sessions int // of crowd
	Group    int // sessions of crowd that share a sub-channel
	Casts    int // of each session of crowd
	// SlowSize is the size of slow's payloads, SlowRate what its slow reader
	// reads, in bytes a second.
	SlowSize, SlowRate int
}

// Names that this package gives to channel and sub-channels.
const (
	castChannel = "bench"
	castSub     = "casts"
)

// castServer is a server of casts with what its clients need to know.
type castServer struct {
	name     string // for progress
	process  *process
	protocol fanout.Protocol
	accounts []raw.Account // empty: there is no login
}

// castHost is a host that is ready for casts.
type castHost struct {
	castServer
	*lab
	door string // its control socket
}

// errNoCast is the error of a host that has no command for casts.
var errNoCast = errors.New("the host offers no command " + castCommand)

// startCastHost starts a host with room for so many sessions, and with a
// channel that has these sub-channels.
func (b *Bench) startCastHost(ctx context.Context, mode Mode, sessions int, subs []string, set ...string) (*castHost, error) {
	const others = 10 // the administrator, and what has not ended yet
	set = append(append(set, cheapHashing...), fmt.Sprintf("max_sessions=%d", sessions+others), fmt.Sprintf("max_sub_channels=%d", max(len(subs), 1)))
	l, err := b.hostLab(ctx, mode, set...)
	if err != nil {
		return nil, err
	}
	h := &castHost{lab: l, castServer: castServer{name: "host", process: l.host, protocol: fanout.MRCI, accounts: []raw.Account{l.account}}}
	if h.door, err = doorOf(l.dir); err != nil {
		return nil, err
	}
	admin, err := h.admin(ctx)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	if _, err := admin.ID(castCommand); err != nil {
		return nil, errNoCast
	}
	if err := admin.Run("add_ch", "-ch_name "+castChannel); err != nil {
		return nil, err
	}
	for _, sub := range subs {
		if err := admin.Run("add_sub_ch", "-ch_name "+castChannel+" -sub_name "+sub); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// admin returns a client of the administrator, who owns the channel.
func (h *castHost) admin(ctx context.Context) (*raw.Client, error) {
	p, err := raw.Dial(ctx, h.process.addr)
	if err != nil {
		return nil, err
	}
	if err := p.Enlist(h.account); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// collectedHost is the memory of the host when it has given back what it can.
func (b *Bench) collectedHost(ctx context.Context, h *castHost) (float64, error) {
	m, err := b.collected(ctx, h.lab)
	return mib(m.resident), err
}

// startCastFloor starts the floor, with the host's certificate.
func (b *Bench) startCastFloor(ctx context.Context, mode Mode, chain, key string) (*castServer, error) {
	role := Role{Kind: RoleCastFloor}
	if mode == TLS {
		role.Chain, role.Key = chain, key
	}
	p, err := b.start(ctx, role)
	return &castServer{name: "floor", process: p, protocol: fanout.MRCI}, err
}

// startPeer starts the NATS server.
func (b *Bench) startPeer(ctx context.Context, mode Mode, chain, key string) (*castServer, error) {
	line := []string{b.opts.Cast.Peer}
	if mode == TLS {
		line = append(line, "-chain", chain, "-key", key)
	}
	p, err := b.launch(ctx, "nats", 15*time.Second, line...)
	if err != nil {
		return nil, fmt.Errorf("%w: --peer is the program that `make peers` builds", err)
	}
	return &castServer{name: "NATS", process: p, protocol: fanout.NATS}, nil
}

// castFloor serves casts as little as can be: two commands, and no login.
func (r Role) castFloor() (func(net.Conn) error, error) {
	var secure *tls.Config
	if r.Chain != "" {
		var err error
		if secure, err = certificate(r.Chain, r.Key); err != nil {
			return nil, err
		}
		// As a host does: records are not made smaller at first.
		secure = secure.Clone()
		secure.DynamicRecordSizingDisabled = true
	}
	var greeting []byte
	for _, c := range []wire.CommandInfo{{ID: fanout.FloorOpen, Name: "open_sub_ch"}, {ID: fanout.FloorCast, Name: castCommand}} {
		greeting = wire.AppendFrame(greeting, wire.NewCmd, wire.CmdID(wire.AsyncAddCmd), 0, wire.Append(nil, &c))
	}
	greeting = wire.AppendText(greeting, wire.Text, wire.CmdID(wire.AsyncRdy), 0, "")
	f := new(fanout.Floor)
	return func(nc net.Conn) error {
		nc, err := greet(nc, greeting, secure)
		if err != nil {
			return err
		}
		return f.Serve(nc)
	}, nil
}

// castGroup is a sender and its receivers on one server.
type castGroup struct {
	server    *castServer
	sender    teams
	receivers teams
	n         int
}

// receiverProcesses read what is cast: one for each core of the machine that
// the targets are for.
const receiverProcesses = 2

// newCastGroup connects a sender and n receivers.
func (b *Bench) newCastGroup(ctx context.Context, s *castServer, n int) (*castGroup, error) {
	g := &castGroup{server: s, n: n}
	var err error
	if g.receivers, err = b.gather(ctx, s, "receivers-"+strings.ToLower(s.name), receiverProcesses, n, false); err == nil {
		g.sender, err = b.gather(ctx, s, "sender-"+strings.ToLower(s.name), 1, 1, true)
	}
	for _, ts := range []teams{g.receivers, g.sender} {
		if err == nil {
			err = ts.ready(ctx, s, castSub, 0)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return g, nil
}

// stop ends the clients.
func (g *castGroup) stop() {
	g.sender.stop()
	g.receivers.stop()
}

// castResult is one run.
type castResult struct {
	casts, deliveries float64 // a second
	received          fanout.Received
}

// run sends, and fails when anything is lost or out of order.
func (g *castGroup) run(ctx context.Context, size int, l fanout.Load) (r castResult, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s, 1 to %d, %d bytes: %w", g.server.name, g.n, size, err)
		}
	}()
	begin := teamOrder{Do: doBegin, Run: fanout.Run{Size: size, Senders: 1, Receivers: g.n, Timed: l.Rate > 0}}
	for _, ts := range []teams{g.receivers, g.sender} {
		if _, err := ts.order(ctx, begin, 0); err != nil {
			return r, err
		}
	}
	sent, err := g.sender.order(ctx, teamOrder{Do: doSend, Load: l}, l.For)
	if err != nil {
		return r, errors.Join(err, g.why())
	}
	all, err := g.receivers.order(ctx, teamOrder{Do: doReceive, Casts: sent.Sent.Casts}, 0)
	if err != nil {
		return r, errors.Join(err, g.why())
	}
	r.received = all.Received
	if want := sent.Sent.Casts * uint64(g.n); r.received.Casts != want || r.received.Lost > 0 || r.received.Wrong > 0 {
		return r, fmt.Errorf("of %d deliveries %d have come, %d are lost, %d out of order", want, r.received.Casts, r.received.Lost, r.received.Wrong)
	}
	took := float64(r.received.Last-sent.Sent.First) / 1e9
	r.casts, r.deliveries = float64(sent.Sent.Casts)/took, float64(r.received.Casts)/took
	return r, nil
}

// why is what the server has logged last.
func (g *castGroup) why() error {
	if said := g.server.process.complaint(); said != "" {
		return fmt.Errorf("the server's log ends with%s", said)
	}
	return nil
}
