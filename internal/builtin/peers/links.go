package peers

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/module/listing"
	"mrci.dev/mrci/wire"
)

func (c commands) request() *module.Command {
	return c.withPeer(module.Command{
		Name:  "p2p_request",
		Short: "ask a peer for a link",
		Long: "Asks the session with this id for a link, over which both send each other frames with to_peer. It accepts with p2p_open or " +
			"declines with p2p_close. If it has asked you before, the link is made at once. You can have 100 requests open.",
	}, func(from, to wire.SessionID) error { return c.Peers.Request(from, to) })
}

func (c commands) open() *module.Command {
	return c.withPeer(module.Command{
		Name:  "p2p_open",
		Short: "accept a peer's request for a link",
		Long: "Accepts the request of the session with this id: from now on both send each other frames with to_peer. " +
			"ls_p2p shows who has asked. You can have 100 links.",
		Hints: module.Hints{Idempotent: true},
	}, func(from, to wire.SessionID) error { return c.Peers.Accept(from, to) })
}

func (c commands) end() *module.Command {
	return c.withPeer(module.Command{
		Name:  "p2p_close",
		Short: "end a link, or decline or withdraw a request",
		Long:  "Ends the link to the session with this id, declines its request, or withdraws yours. The peer is told.",
		Hints: module.Hints{Idempotent: true},
	}, func(from, to wire.SessionID) error {
		err := c.Peers.End(from, to)
		if errors.Is(err, bus.ErrNotLinked) {
			return module.Invalid("You have neither a link to this peer nor a request; ls_p2p shows those that you have.")
		}
		return err
	})
}

// withPeer makes a command of what the session does about one peer.
func (c commands) withPeer(cmd module.Command, do func(from, to wire.SessionID) error) *module.Command {
	cmd.Class, cmd.Input, cmd.Inline = module.Ranked, module.SessionInput, true
	cmd.Run = func(_ context.Context, call *module.Call) error {
		return explain(do(call.Session().ID, wire.SessionID(call.Input)))
	}
	return &cmd
}

// The columns of ls_p2p.
var linkColumns = []listing.Column{{Name: "peer_id"}, {Name: "pending"}}

// list is inline: a session has at most three times bus.MaxLinks rows, which
// are one frame of 19 KiB.
func (c commands) list() *module.Command {
	return &module.Command{
		Name:   "ls_p2p",
		Class:  module.Ranked,
		Output: []string{"text"},
		Short:  "list your links to peers, and the requests for them",
		Long:   "Lists the sessions that this one has a link to, and with pending 1 those that it has asked or that have asked it.",
		Hints:  module.Hints{ReadOnly: true, Idempotent: true},
		Inline: true,
		Run: func(ctx context.Context, call *module.Call) error {
			links := c.Peers.Links(call.Session().ID)
			slices.SortFunc(links, func(a, b bus.Link) int { return bytes.Compare(a.Peer[:], b.Peer[:]) })
			rows := make([][]string, len(links))
			for i, l := range links {
				rows[i] = []string{l.Peer.String(), listing.Text(l.State != bus.LinkAccepted)}
			}
			return call.Text(ctx, "\n"+listing.Table(linkColumns, rows))
		},
	}
}
