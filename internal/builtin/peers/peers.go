package peers

import (
	"errors"
	"strings"

	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/hub"
	"mrci.dev/mrci/internal/registry"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// Peers are the sessions of this host, as the commands of one of them reach the
// others. No method waits. What a method takes as data is the caller's and is
// not kept; a list that it returns is the caller's as well. A *module.Failure
// among the errors is for the user, as it is; other errors than those named are
// the host's own.
type Peers interface {
	// Cast sends a frame to every other session that has a sub-channel open in
	// which the session may cast.
	Cast(from wire.SessionID, t wire.TypeID, data []byte) error
	// Ping has the peers of the session told who it is, and the session who they
	// are; active is false, and nothing happens, when it has no active
	// sub-channel open.
	Ping(from wire.SessionID) (active bool)

	// Request asks a peer for a link, or accepts the peer's own request.
	// bus.ErrSelf, ErrNoPeer, ErrLinked, ErrAsked, ErrLinks, ErrPeerLinks, and
	// hub.ErrTooManyRequests.
	Request(from, to wire.SessionID) error
	// Accept does what a peer has asked for. bus.ErrLinked, ErrNotAsked,
	// ErrLinks, ErrPeerLinks.
	Accept(from, to wire.SessionID) error
	// End ends a link, declines or withdraws a request. bus.ErrNotLinked.
	End(from, to wire.SessionID) error
	// Links returns the links and requests of a session, in no order.
	Links(of wire.SessionID) []bus.Link
	// Relay sends a frame to a linked peer. bus.ErrNotLinked, ErrLinkFull,
	// ErrLinkFrame, ErrPeerDropped.
	Relay(from, to wire.SessionID, t wire.TypeID, data []byte) error
	// AwaitRelay calls ready once when Relay, after ErrLinkFull, is worth another
	// try, on a goroutine that ready must not hold up; it may be the caller's.
	// stop takes the wish back.
	AwaitRelay(from, to wire.SessionID, ready func()) (stop func())
}

// Config is what the commands need. All fields are set.
type Config struct {
	Peers Peers
	// Refused is told of a frame that a session wanted others to have and that
	// they would believe of the host alone. It must not wait.
	Refused func(from *module.Session, command string, t wire.TypeID)
	// Untaken is told that a frame for a linked peer was dropped, because the
	// peer took nothing for too long. It must not wait.
	Untaken func()
}

// commands holds what the commands share.
type commands struct{ Config }

// Commands returns the package's commands.
func Commands(cfg Config) []registry.Builtin {
	c := commands{cfg}
	return []registry.Builtin{
		{Command: c.cast(), Cast: true},
		{Command: c.ping()},
		{Command: c.request()},
		{Command: c.open()},
		{Command: c.end()},
		{Command: c.toPeer()},
		{Command: c.list()},
	}
}

// reasons are what the user is told when Peers refuses something.
var reasons = []struct {
	err  error
	code wire.ReturnCode
	text string
}{
	{bus.ErrSelf, wire.InvalidParams, "That is your own session; name the session of somebody else."},
	{bus.ErrLinked, wire.InvalidParams, "You have a link to this peer already; to_peer sends to it."},
	{bus.ErrAsked, wire.InvalidParams, "You have asked this peer already; wait for the answer, or withdraw the request with p2p_close."},
	{bus.ErrNotAsked, wire.InvalidParams, "This peer has not asked you for a link; ask it with p2p_request."},
	{bus.ErrNoPeer, wire.ExecutionFail, "There is no session with this id now; ping_peers tells who is there."},
	{bus.ErrLinks, wire.ExecutionFail, "You have 100 open requests or 100 links, which is the most; end one with p2p_close first."},
	{bus.ErrPeerLinks, wire.ExecutionFail, "This peer has no room for another request or link; try again later."},
	{hub.ErrTooManyRequests, wire.ExecutionFail, "You have made too many requests in the last minute; try again in a minute."},
	{bus.ErrLinkFrame, wire.InvalidParams, "This frame is larger than what a peer can take at once on this host; send it in pieces."},
	{bus.ErrPeerDropped, wire.ExecutionFail, "This peer takes nothing any more, because its connection is about to end; your frame was not sent."},
}

// explain turns an error of Peers into one for the user.
func explain(err error) error {
	if err == nil {
		return nil
	}
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return module.Fail(r.code, "%s", r.text)
		}
	}
	return err
}

// relayable names the types that sessions may send each other.
var relayable = func() string {
	var names []string
	for id := range 256 {
		if t := wire.TypeID(id); t.Relayable() {
			names = append(names, t.String())
		}
	}
	return strings.Join(names, ", ")
}()

// refuse is for a frame that clients believe of the host alone.
func (c commands) refuse(call *module.Call) error {
	t := call.Type
	c.Refused(call.Session(), call.Name, t)
	return module.Invalid("A frame of type %s cannot be sent to other clients; use one of %s.", t, relayable)
}
