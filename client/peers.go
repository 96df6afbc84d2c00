package client

import (
	"context"
	"iter"

	"mrci.dev/mrci/wire"
)

// Peers asks the sessions that have an active sub-channel open together with
// this one who they are (ping_peers), and yields the answers as they arrive.
// Nobody knows how many there will be, nor which is the last one: the answers
// end when ctx does, so give it the time that you are ready to wait. That is
// no error. Within that time a peer that changes its name is yielded again,
// because that looks the same. Each answer is an event, too.
//
// A pair with an error is the last one: a *NoCommandError, a *CommandError (no
// open sub-channel is active), ErrSlowConsumer when Config.QueueBytes of answers
// wait to be yielded, or one of Run.
func (c *Client) Peers(ctx context.Context) iter.Seq2[wire.Peer, error] {
	return func(yield func(wire.Peer, error) bool) {
		answers := newQueue(c.cfg.QueueBytes)
		c.ask(&answers)
		defer c.asked(&answers)
		if _, err := c.order(ctx, Request{Command: cmdPingPeers}); err != nil {
			yield(wire.Peer{}, err)
			return
		}
		for {
			f, err := answers.next(ctx)
			if err != nil {
				if ctx.Err() == nil {
					yield(wire.Peer{}, err)
				}
				return
			}
			var peer wire.Peer
			if wire.Parse(f.Payload, &peer) == nil && !yield(peer, nil) { // what is none is an event only
				return
			}
		}
	}
}

// ask and asked begin and end the delivery of answers to the queue. The slice
// is replaced, not changed: the reader may be going through it.
func (c *Client) ask(answers *queue) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking = append(c.asking[:len(c.asking):len(c.asking)], answers)
}

func (c *Client) asked(answers *queue) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var rest []*queue
	for _, other := range c.asking {
		if other != answers {
			rest = append(rest, other)
		}
	}
	c.asking = rest
}

// peerAnswered hands PEER_INFO to those who wait for it. It never waits.
func (c *Client) peerAnswered(f wire.Frame) {
	c.mu.Lock()
	asking := c.asking
	c.mu.Unlock()
	for _, answers := range asking {
		if !answers.put(queued{Frame: clone(f)}) {
			answers.finish(ErrSlowConsumer)
		}
	}
}
