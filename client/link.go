package client

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"mrci.dev/mrci/wire"
)

// Link is a peer link: what this session sends, the client of one other
// session receives, and the other way round (protocol 7). RequestLink and
// AcceptLink make links; a client may have several, each with another session.
// The methods of a Link are safe for concurrent use, but what arrives goes to
// whoever asks first.
//
// What the peer sends waits in the link until Receive takes it: up to
// Config.QueueBytes per link, where each message counts 64 bytes more than it
// has, and the one that reaches the bound still fits. When a message comes
// behind that, the link is closed with ErrLinkFull: a link never holds up
// calls, events or other links, and a message is never left out. There is no
// sign from the receiver to the sender; who sends much should agree on one with
// its peer.
//
// A link ends, once and for good, with one of these errors: ErrLinkClosed after
// Close, ErrPeerClosed when the peer has closed it or its session has ended,
// ErrLinkFull, ErrLoggedOut when this session is not any more that of the user
// who made the link or has logged in again, or the error of the client (ErrLost,
// ErrClosed, ...).
type Link struct {
	// fixed when the link is made
	c         *Client
	id        wire.SessionID // of the peer
	requested bool           // by this side
	queue     queue
	stands    chan struct{} // closed when both sides have agreed
	over      chan struct{} // closed when the link has ended

	// guarded by c.links.mu
	peer    wire.Peer
	state   linkState
	calling bool       // the command that makes the link is not answered yet
	early   bool       // the link ended before that
	request *wire.Peer // of the peer, which this link takes up; may be nil
	err     error      // why it has ended
}

type linkState uint8

const (
	linkAsked linkState = iota // one side has asked
	linkOpen
	linkEnded
)

// linkTable is what a client knows of its links and of requests.
type linkTable struct {
	// guarded by mu
	mu       sync.Mutex
	of       map[wire.SessionID]*Link      // all but those that the host knows nothing of any more
	requests map[wire.SessionID]*wire.Peer // of peers, not answered
	user     wire.UserID                   // whose session it is, once that was told
}

// maxRequests is how many requests of peers a host lets wait (protocol 8).
const maxRequests = 100

// RequestLink asks a session for a link and returns when its client has
// accepted. Of peer, Session counts; the rest is only what Link.Peer will
// return. If that session has asked for a link as well, it stands at once. ctx
// bounds the wait, not the link: when it is cancelled the request is withdrawn,
// which takes up to twice Config.Grace more.
//
// The error is ErrDeclined, ErrLinked, a *NoCommandError, a *CommandError (there
// is no such session, it has too many requests, ...), or one of Run.
//
// Calls of p2p_request, p2p_open and p2p_close by Run are unknown to these
// methods: use one or the other for a peer.
func (c *Client) RequestLink(ctx context.Context, peer wire.Peer) (*Link, error) {
	l, err := c.beginLink(ctx, peer, true)
	if err != nil {
		return nil, err
	}
	select {
	case <-l.stands:
		return l, nil
	case <-l.over:
	case <-ctx.Done():
		if c.endLink(l, ErrLinkClosed, true) {
			_ = l.hangUp() // the request is over for the caller in any case
		}
		return nil, context.Cause(ctx)
	}
	select {
	case <-l.stands: // and is over already; what has arrived can be received
		return l, nil
	default:
		return nil, l.Err()
	}
}

// AcceptLink accepts the request of a peer, which came as an event under
// wire.AsyncP2P with the type wire.P2PRequest and a *wire.Peer as its value. Of
// peer, Session counts. The link stands when AcceptLink returns. The error is
// ErrLinked, ErrPeerClosed, a *NoCommandError, a *CommandError (the request has
// been withdrawn, this session has too many links, ...), or one of Run. A
// request that was being accepted when ctx was cancelled is declined.
func (c *Client) AcceptLink(ctx context.Context, peer wire.Peer) (*Link, error) {
	return c.beginLink(ctx, peer, false)
}

// DeclineLink declines the request of a peer, whose client is told. The error
// is ErrLinked if there is a link to that peer (Link.Close ends it), a
// *NoCommandError, a *CommandError (there is no request), or one of Run.
func (c *Client) DeclineLink(ctx context.Context, peer wire.SessionID) error {
	c.links.mu.Lock()
	linked := c.links.of[peer] != nil
	if !linked {
		delete(c.links.requests, peer)
	}
	c.links.mu.Unlock()
	if linked {
		return fmt.Errorf("decline link: %w", ErrLinked)
	}
	_, err := c.order(ctx, Request{Command: cmdP2PClose, Type: wire.SesID, Payload: peer[:]})
	return err
}

// beginLink calls p2p_request or p2p_open. The link stands when it returns, but
// for a request that the peer has not answered.
func (c *Client) beginLink(ctx context.Context, peer wire.Peer, request bool) (*Link, error) {
	// The link is known before the host hears of it: the peer may send at once.
	l, err := c.newLink(peer, request)
	if err != nil {
		return nil, err
	}
	command := cmdP2POpen
	if request {
		command = cmdP2PRequest
	}
	sent, err := c.order(ctx, Request{
		Command: command, Type: wire.SesID, Payload: l.id[:],
		onIdle: func(code wire.ReturnCode) { c.linkAnswered(l, code == wire.NoErrors) },
	})
	_, refused := errors.AsType[*CommandError](err)
	switch {
	case err != nil && (refused || !sent):
		c.endLink(l, err, false)
		c.dropLink(l) // it may have ended before
		return nil, err
	case err != nil: // who knows what the host has done
		c.endLink(l, ErrLinkClosed, true)
		_ = l.hangUp() // the first error counts
		return nil, err
	}
	c.links.mu.Lock()
	early := l.early
	c.links.mu.Unlock()
	if early {
		// P2P_CLOSE has come before the answer. It may have been about a request
		// of the peer, withdrawn before the host saw ours, which then stands.
		_ = l.hangUp() // if not, there is nothing to close
		return nil, l.Err()
	}
	return l, nil
}

func (c *Client) newLink(peer wire.Peer, request bool) (*Link, error) {
	c.links.mu.Lock()
	defer c.links.mu.Unlock()
	if c.links.of[peer.Session] != nil {
		return nil, fmt.Errorf("link to session %v: %w", peer.Session, ErrLinked)
	}
	l := &Link{
		c: c, id: peer.Session, requested: request, queue: newQueue(c.cfg.QueueBytes),
		stands: make(chan struct{}), over: make(chan struct{}), peer: peer, calling: true,
	}
	if asked := c.links.requests[l.id]; asked != nil {
		l.peer, l.request = *asked, asked
	}
	if c.links.of == nil {
		c.links.of = make(map[wire.SessionID]*Link)
	}
	c.links.of[l.id] = l
	return l, nil
}

// linkAnswered is called when the host has answered the command that makes the
// link.
func (c *Client) linkAnswered(l *Link, done bool) {
	c.links.mu.Lock()
	defer c.links.mu.Unlock()
	l.calling = false
	switch {
	case !done:
	case l.state == linkEnded:
		l.early = true
	// A request that meets one of the peer accepts it, and nobody says so: the
	// peer gets P2P_OPEN, this side the end of the call (commands 8). What the
	// peer has asked was told before that; behind our request it would have
	// become P2P_OPEN.
	case !l.requested || l.request != nil:
		l.openLocked()
	}
}

// openLocked makes the link one that stands; links.mu is held.
func (l *Link) openLocked() {
	if l.state == linkAsked {
		l.state = linkOpen
		close(l.stands)
	}
	if requests := l.c.links.requests; l.request != nil && requests[l.id] == l.request {
		delete(requests, l.id)
	}
}

// endLink ends the link for its user, once. keep leaves it in the table, for
// the host still knows it: what arrives is dropped until dropLink.
func (c *Client) endLink(l *Link, err error, keep bool) bool {
	c.links.mu.Lock()
	if l.state == linkEnded {
		c.links.mu.Unlock()
		return false
	}
	l.state, l.err = linkEnded, err
	if !keep {
		delete(c.links.of, l.id)
	}
	c.links.mu.Unlock()
	l.queue.finish(err)
	close(l.over)
	return true
}

func (c *Client) dropLink(l *Link) {
	c.links.mu.Lock()
	defer c.links.mu.Unlock()
	if c.links.of[l.id] == l {
		delete(c.links.of, l.id)
	}
}

// hangUp tells the host that a link has ended here. A host that knows of none
// is no error.
func (l *Link) hangUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), l.c.cfg.Grace)
	defer cancel()
	_, err := l.c.order(ctx, Request{Command: cmdP2PClose, Type: wire.SesID, Payload: l.id[:]})
	l.c.dropLink(l)
	if _, refused := errors.AsType[*CommandError](err); refused {
		return nil
	}
	return err
}

// linkFrame handles a frame under P2P and reports whether it was a link's own,
// which is no event. It never waits.
func (c *Client) linkFrame(f wire.Frame) (taken bool) {
	switch f.Type {
	case wire.P2PRequest:
		peer := new(wire.Peer)
		if wire.Parse(f.Payload, peer) == nil {
			c.linkRequested(peer)
		}
		return false
	case wire.P2POpen, wire.P2PClose:
		var ref wire.SessionRef
		if wire.Parse(f.Payload, &ref) == nil {
			c.linkChanged(ref.Session, f.Type)
		}
		return false
	}
	var data wire.PeerData
	if wire.Parse(f.Payload, &data) != nil {
		return false
	}
	c.links.mu.Lock()
	l := c.links.of[data.Src]
	c.links.mu.Unlock()
	if l == nil {
		return false // of a link that is none of these methods
	}
	f.Payload = data.Data
	if !l.queue.put(queued{Frame: clone(f)}) && c.endLink(l, ErrLinkFull, true) {
		c.cfg.Logger.Debug("link takes nothing")
		c.background(func() { _ = l.hangUp() }) // the connection may end as well
	}
	return true
}

// linkRequested remembers the request of a peer.
func (c *Client) linkRequested(peer *wire.Peer) {
	c.links.mu.Lock()
	defer c.links.mu.Unlock()
	if c.links.requests == nil {
		c.links.requests = make(map[wire.SessionID]*wire.Peer)
	}
	if c.links.requests[peer.Session] == nil && len(c.links.requests) >= maxRequests {
		return
	}
	c.links.requests[peer.Session] = peer
	if l := c.links.of[peer.Session]; l != nil && l.state == linkAsked && l.calling {
		l.peer, l.request = *peer, peer
	}
}

// linkChanged acts on P2P_OPEN and P2P_CLOSE of a peer.
func (c *Client) linkChanged(id wire.SessionID, t wire.TypeID) {
	c.links.mu.Lock()
	l := c.links.of[id]
	if t == wire.P2POpen {
		if l != nil && l.requested {
			l.openLocked()
		}
		c.links.mu.Unlock()
		return
	}
	delete(c.links.requests, id)
	if l == nil {
		c.links.mu.Unlock()
		return
	}
	reason, calling := ErrPeerClosed, l.calling
	if l.requested && l.state == linkAsked {
		reason = ErrDeclined
	}
	c.links.mu.Unlock()
	c.endLink(l, reason, calling)
}

// linkAccount is called with MY_INFO: a link belongs to a user.
func (c *Client) linkAccount(f wire.Frame) {
	var me wire.Account
	if wire.Parse(f.Payload, &me) != nil {
		return
	}
	c.links.mu.Lock()
	other := !c.links.user.IsZero() && c.links.user != me.User
	c.links.user = me.User
	c.links.mu.Unlock()
	if !other {
		return
	}
	if lost := c.endAllLinks(ErrLoggedOut, true); len(lost) > 0 {
		c.background(func() {
			for _, l := range lost {
				_ = l.hangUp() // a host that has closed the link itself refuses
			}
		})
	}
}

// loggedIn is called by the reader for the end of a login. A host logs out
// first, also who logs in as the same user, and that ends all links (commands
// 2, auth). A link whose call is not answered yet is of the new login: the
// host answers nothing between that logout and the end of the login. What the
// peer has asked for before is over for it as well.
func (c *Client) loggedIn() {
	c.links.mu.Lock()
	clear(c.links.requests)
	var all []*Link
	for _, l := range c.links.of {
		if l.calling {
			l.request = nil
		} else {
			all = append(all, l)
		}
	}
	c.links.mu.Unlock()
	for _, l := range all {
		c.endLink(l, ErrLoggedOut, false)
	}
}

// linksWithdrawn is called when p2p_close is not offered any more, which is all
// that a client learns of its logout.
func (c *Client) linksWithdrawn() {
	c.links.mu.Lock()
	c.links.user = wire.UserID{}
	c.links.mu.Unlock()
	c.endAllLinks(ErrLoggedOut, false)
}

// endLinks ends what is left with the connection.
func (c *Client) endLinks(reason error) { c.endAllLinks(reason, false) }

// endAllLinks ends all links, forgets requests, and returns the links that it
// has ended.
func (c *Client) endAllLinks(reason error, keep bool) (ended []*Link) {
	c.links.mu.Lock()
	clear(c.links.requests)
	var all []*Link
	for _, l := range c.links.of {
		all = append(all, l)
	}
	c.links.mu.Unlock()
	for _, l := range all {
		if c.endLink(l, reason, keep) {
			ended = append(ended, l)
		}
	}
	return ended
}

// Peer returns who is at the other end: what its request said, or else what
// RequestLink or AcceptLink was given. Session is always set.
func (l *Link) Peer() wire.Peer {
	l.c.links.mu.Lock()
	defer l.c.links.mu.Unlock()
	return l.peer
}

// Err returns why the link has ended, nil while it stands.
func (l *Link) Err() error {
	l.c.links.mu.Lock()
	defer l.c.links.mu.Unlock()
	return l.err
}

// Send sends a message to the peer and returns when the host has passed it on,
// which is not when the peer's client has received it. While the peer's
// connection is full Send waits, as long as the host lets it. Messages that wait
// for each other keep their order. Each type is possible that
// wire.TypeID.Relayable allows, with up to wire.MaxPayload - wire.SessionIDSize
// bytes. The error is why the link has ended, ErrNotRelayable,
// wire.ErrTooLarge, a *NoCommandError, a *CommandError, or one of Run; the link
// goes on unless it says otherwise. The payload is not kept.
func (l *Link) Send(ctx context.Context, t wire.TypeID, payload []byte) error {
	if err := relayable(t); err != nil {
		return fmt.Errorf("send to peer: %w", err)
	}
	if len(payload) > wire.MaxPayload-wire.SessionIDSize {
		return fmt.Errorf("send to peer: %w", wire.ErrTooLarge)
	}
	if err := l.Err(); err != nil {
		return err
	}
	b := make([]byte, 0, wire.SessionIDSize+len(payload))
	b = append(append(b, l.id[:]...), payload...)
	_, err := l.c.order(ctx, Request{Command: cmdToPeer, Type: t, Payload: b})
	if _, refused := errors.AsType[*CommandError](err); refused && l.Err() != nil {
		return l.Err() // which is why
	}
	return err
}

// Receive returns the next message of the peer; the payload is the caller's. It
// waits for one. When the link has ended it returns what has arrived before,
// and then always why the link ended. ctx bounds the wait only.
func (l *Link) Receive(ctx context.Context) (wire.TypeID, []byte, error) {
	f, err := l.queue.next(ctx)
	return f.Type, f.Payload, err
}

// Close ends the link and tells the peer. It waits for the host, up to twice
// Config.Grace. The link is over even if Close returns an error, which is then
// a *NoCommandError, or one of Run: the peer may not know. Close may be called
// twice, and on a link that has ended.
func (l *Link) Close() error {
	if !l.c.endLink(l, ErrLinkClosed, true) {
		return nil
	}
	return l.hangUp()
}
