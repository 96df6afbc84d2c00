package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"mrci.dev/mrci/internal/bench/fanout"
	"mrci.dev/mrci/internal/bench/raw"
)

// This file has what teams are told, and how; team.go has what they do.

// teamWord begins an order to a team, see takeRequests.
const teamWord = "team"

// What a team is told to do, in this order; begin and what follows it may come
// again.
const (
	doConnect = "connect" // connections, up to the greeting
	doLogin   = "login"
	doOpen    = "open"    // the sub-channel; for NATS the subscription
	doListen  = "listen"  // begin to read what is cast
	doSip     = "sip"     // instead of that, read little, or nothing
	doBegin   = "begin"   // a run is about to begin
	doSend    = "send"    // cast, and wait for the answers
	doReceive = "receive" // wait for so many casts
	doLeave   = "leave"   // close all connections
)

// teamOrder is what a team is told.
type teamOrder struct {
	Do string `json:"do"`

	// connect
	Addr     string          `json:"addr,omitempty"`
	Protocol fanout.Protocol `json:"protocol,omitempty"`
	First    int             `json:"first,omitempty"` // number of the first member
	Members  int             `json:"members,omitempty"`
	Sender   bool            `json:"sender,omitempty"` // to NATS

	Accounts []raw.Account `json:"accounts,omitempty"` // login: taken in turn

	// open: members 0 to Group-1 open the sub-channel Sub0, the next ones Sub1;
	// all of them Sub if Group is 0.
	Channel string `json:"channel,omitempty"`
	Sub     string `json:"sub,omitempty"`
	Group   int    `json:"group,omitempty"`

	PerSecond int `json:"per_second,omitempty"` // sip: bytes

	Run   fanout.Run  `json:"run,omitzero"`    // begin
	Load  fanout.Load `json:"load,omitzero"`   // send: each member, numbered within its group
	Casts uint64      `json:"casts,omitempty"` // receive: by each member
}

// teamAnswer is what a team has done.
type teamAnswer struct {
	Took     time.Duration   `json:"took"`
	Sent     fanout.Sent     `json:"sent,omitzero"`
	Received fanout.Received `json:"received,omitzero"`
	Drift    time.Duration   `json:"drift"` // of its clock
}

// order tells a team what to do and returns what it has done. more is how long
// that takes when all is well.
func (p *process) order(ctx context.Context, o teamOrder, more time.Duration) (teamAnswer, error) {
	var a teamAnswer
	text, err := json.Marshal(o)
	if err != nil {
		return a, err
	}
	said, err := p.ask(ctx, teamWord+" "+string(text), raw.Patience+more)
	if err == nil {
		err = json.Unmarshal([]byte(said), &a)
	}
	if err != nil {
		return a, fmt.Errorf("%s: %s: %w%s", p.kind, o.Do, err, p.complaint())
	}
	if drift := max(a.Drift, -a.Drift); drift > maxDrift {
		return a, fmt.Errorf("the clock of this machine was set by %v during the measurement: measure again", drift)
	}
	return a, nil
}

// maxDrift is more than two clocks of one machine differ when nobody sets them.
const maxDrift = time.Millisecond

// teams are told the same.
type teams []*process

// order tells each team the same, at once.
func (ts teams) order(ctx context.Context, o teamOrder, more time.Duration) (all teamAnswer, err error) {
	answers := make([]teamAnswer, len(ts))
	if err := atOnce(len(ts), len(ts), func(i int) (err error) {
		answers[i], err = ts[i].order(ctx, o, more)
		return err
	}); err != nil {
		return all, err
	}
	for i, a := range answers {
		if i == 0 || a.Sent.First < all.Sent.First {
			all.Sent.First = a.Sent.First
		}
		all.Sent.Casts += a.Sent.Casts
		all.Sent.Last = max(all.Sent.Last, a.Sent.Last)
		all.Took = max(all.Took, a.Took)
		all.Received.Add(&a.Received)
	}
	return all, nil
}

// startTeams starts so many processes.
func (b *Bench) startTeams(ctx context.Context, name string, processes int) (ts teams, err error) {
	for range processes {
		p, err := b.start(ctx, Role{Kind: RoleTeam, Team: name})
		if err != nil {
			return nil, err
		}
		ts = append(ts, p)
	}
	return ts, nil
}

// connect shares so many members out, which connect.
func (ts teams) connect(ctx context.Context, s *castServer, members int, sender bool) error {
	return atOnce(len(ts), len(ts), func(i int) error {
		first, next := i*members/len(ts), (i+1)*members/len(ts)
		_, err := ts[i].order(ctx, teamOrder{
			Do: doConnect, Addr: s.process.addr, Protocol: s.protocol, First: first, Members: next - first, Sender: sender,
		}, 0)
		return err
	})
}

// login logs the members in where that is needed.
func (ts teams) login(ctx context.Context, s *castServer) error {
	if s.accounts == nil {
		return nil
	}
	_, err := ts.order(ctx, teamOrder{Do: doLogin, Accounts: s.accounts}, 0)
	return err
}

// gather starts teams that share so many members of a server and have them
// connect and log in.
func (b *Bench) gather(ctx context.Context, s *castServer, name string, processes, members int, sender bool) (teams, error) {
	ts, err := b.startTeams(ctx, name, max(1, min(processes, members)))
	if err == nil {
		err = ts.connect(ctx, s, members, sender)
	}
	if err == nil {
		err = ts.login(ctx, s)
	}
	return ts, err
}

// stop ends the processes.
func (ts teams) stop() {
	for _, p := range ts {
		p.stop()
	}
}

// cpu returns the seconds of processor time that they have used.
func (ts teams) cpu() (seconds float64) {
	for _, p := range ts {
		seconds += p.cpu()
	}
	return seconds
}

// ready has the teams open a sub-channel and read what is cast there.
func (ts teams) ready(ctx context.Context, s *castServer, sub string, group int) error {
	if _, err := ts.order(ctx, teamOrder{Do: doOpen, Channel: castChannel, Sub: sub, Group: group}, 0); err != nil {
		return err
	}
	_, err := ts.order(ctx, teamOrder{Do: doListen}, 0)
	return err
}
