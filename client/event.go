package client

import (
	"fmt"
	"slices"
	"strings"
	"unique"

	"mrci.dev/mrci/wire"
)

// Event is an async frame: something that the host or another session tells
// without having been asked (protocol 5). Every async frame that arrives is
// one, also under ids that this package does not know.
type Event struct {
	ID      wire.AsyncID
	Type    wire.TypeID
	Payload []byte
	// Value is the decoded payload, by ID and Type:
	//
	//	SYS_MSG                          MY_INFO      *wire.Account
	//	USER_DELETED                     BYTES        *wire.UserRef
	//	TO_PEER, LIMITED_CAST            PEER_INFO    *wire.Peer: an answer to ping_peers, or a new name
	//	LIMITED_CAST                     PEER_STAT    *wire.PeerStatus: what a peer has open, or that it has left
	//	LIMITED_CAST                     PING_PEERS   *wire.Peer: the same, of hosts that pass the question on as it came
	//	P2P                              P2P_REQUEST  *wire.Peer: who asks for a link (AcceptLink, DeclineLink)
	//	P2P                              P2P_OPEN, P2P_CLOSE  *wire.SessionRef
	//	P2P                              others       *wire.PeerData: a message without a Link
	//	NEW_CH_MEMBER, INVITED_TO_CH, INVITE_ACCEPTED  *wire.Member
	//	DEL_CH                           CH_ID        *wire.ChannelRef
	//	RENAME_CH                        BYTES        *wire.ChannelRenamed
	//	NEW_SUB_CH                       BYTES        *wire.SubAdded
	//	RM_SUB_CH                        BYTES        *wire.SubRef
	//	RENAME_SUB_CH                    BYTES        *wire.SubRenamed
	//	RM_CH_MEMBER                     BYTES        *wire.MemberRemoved
	//	MEM_LEVEL_CHANGED                BYTES        *wire.MemberLevel
	//	SUB_CH_LEVEL_CHG, ADD_RDONLY, RM_RDONLY  BYTES  *wire.SubLevel
	//	ADD_CMD, RM_CMD                  NEW_CMD, CMD_ID  *wire.CommandInfo, *wire.CommandRef
	//
	// It is nil for texts, for payloads that do not fit their layout, under ids
	// that are not known, and for what is made by another client: a CAST, and what
	// is not listed of LIMITED_CAST, is what its sender says it is (Decode reads
	// it). So a Value, but for the data of wire.PeerData, comes from the host.
	Value wire.Payload
	// Lost is how many events were dropped in front of this one because
	// OnEvent was too slow.
	Lost int
	// InCall is set when calls that were started with Request.Events got the
	// frame too.
	InCall bool
}

// Text returns the payload of an event that is readable as it is (TEXT, ERR,
// BIG_TEXT and prompts), or nothing.
func (e Event) Text() string {
	if IsText(e.Type) {
		return string(e.Payload)
	}
	return ""
}

// IsText reports whether the payload of the type is text for people.
func IsText(t wire.TypeID) bool {
	switch t {
	case wire.Text, wire.Err, wire.BigText, wire.PrivText, wire.PromptText:
		return true
	}
	return false
}

// Decode returns the payload of a frame as a typed value, nil when it is text
// or has no layout. It goes by the type alone where the id does not demand a
// layout, so the value of a cast is its sender's claim. The value may share
// memory with the payload.
func Decode(f wire.Frame) (wire.Payload, error) {
	v := wire.NewClientPayload(f.Cmd, f.Type)
	if v == nil {
		return nil, nil
	}
	if err := wire.Parse(f.Payload, v); err != nil {
		return nil, err
	}
	return v, nil
}

// eventValue is Decode for what the host vouches for.
func eventValue(f wire.Frame) (wire.Payload, error) {
	switch id := wire.AsyncID(f.Cmd); {
	case id == wire.AsyncCast, !id.Known():
		return nil, nil
	case id == wire.AsyncLimitedCast && f.Type != wire.PeerInfo && f.Type != wire.PeerStat && f.Type != wire.PingPeers:
		return nil, nil
	}
	return Decode(f)
}

// eventQueue holds async frames until OnEvent takes them.
type eventQueue struct {
	queue

	running bool // a goroutine empties the queue; guarded by queue.mu

	// owned by the reader
	losing bool // frames are dropped until the queue is half empty
	lost   int  // dropped since the last frame that was queued
}

// async handles a frame of the host itself.
func (c *Client) async(f wire.Frame) error {
	var err error
	silent := false // what happens before the session is ready is no news
	switch wire.AsyncID(f.Cmd) {
	case wire.AsyncRdy:
		silent = !c.isReady
		if !c.isReady {
			c.isReady = true
			close(c.ready)
		}
	case wire.AsyncExtensions:
		silent = !c.isReady
		if silent && c.cfg.Extensions != 0 {
			err = c.extensionsGranted(f)
		}
	case wire.AsyncAddCmd:
		silent = !c.isReady
		if f.Type == wire.NewCmd {
			err = c.addCommand(f)
		}
	case wire.AsyncRmCmd:
		silent = !c.isReady
		if f.Type == wire.CommandID {
			err = c.removeCommand(f)
		}
	case wire.AsyncSysMsg:
		if f.Type == wire.MyInfo {
			c.linkAccount(f)
		}
	case wire.AsyncLimitedCast:
		if f.Type == wire.PeerInfo {
			c.peerAnswered(f)
		}
	case wire.AsyncP2P:
		silent = c.linkFrame(f) // the Link has it
	case 0:
		c.cfg.Logger.Debug("frame of no call", "type", f.Type, "cmd", f.Cmd, "branch", f.Branch)
		return nil
	}
	if err != nil || silent {
		return err
	}
	c.mu.Lock()
	tapping := c.tapping
	c.mu.Unlock()
	for _, call := range tapping {
		c.deliver(call, f)
	}
	if c.cfg.OnEvent != nil {
		c.notify(f, len(tapping) > 0)
	}
	return nil
}

func (c *Client) extensionsGranted(f wire.Frame) error {
	var answer wire.ExtensionsGranted
	if err := wire.Parse(f.Payload, &answer); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.granted = answer.Granted & c.cfg.Extensions
	return nil
}

// notify queues an async frame for OnEvent.
func (c *Client) notify(f wire.Frame, inCall bool) {
	q := &c.events
	if q.losing && !q.halfEmpty() {
		q.lost++
		return
	}
	q.losing = false
	f = clone(f)
	for !q.put(queued{f, q.lost, inCall}) {
		if !c.waitRoom(&q.queue) {
			c.cfg.Logger.Debug("events are dropped", "async", wire.AsyncID(f.Cmd))
			q.losing = true
			q.lost++
			return
		}
	}
	q.lost = 0
	q.mu.Lock()
	start := !q.running
	q.running = true
	q.mu.Unlock()
	if start {
		c.background(c.dispatch)
	}
}

// dispatch calls OnEvent until the queue is empty. At most one runs.
func (c *Client) dispatch() {
	q := &c.events
	for {
		f, ok, _ := q.take()
		if !ok {
			q.mu.Lock()
			if q.head < len(q.frames) { // queued since
				q.mu.Unlock()
				continue
			}
			q.running = false
			q.mu.Unlock()
			return
		}
		value, err := eventValue(f.Frame)
		if err != nil {
			c.cfg.Logger.Debug("async payload", "async", wire.AsyncID(f.Cmd), "err", err)
		}
		c.cfg.OnEvent(Event{ID: wire.AsyncID(f.Cmd), Type: f.Type, Payload: f.Payload, Value: value, Lost: f.lost, InCall: f.inCall})
	}
}

// maxListBytes bounds the command list: a host that sends more is hostile.
const maxListBytes = 64 << 20

func (c *Client) addCommand(f wire.Frame) error {
	var info wire.CommandInfo
	if err := wire.Parse(f.Payload, &info); err != nil {
		return err
	}
	if info.ID < wire.FirstCmdID {
		return fmt.Errorf("ADD_CMD with command id %d", info.ID)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listSize += infoSize(info)
	if c.listSize > maxListBytes {
		return fmt.Errorf("command list above %d bytes", maxListBytes)
	}
	// Clients of one process share equal entries, so their list costs little.
	shared := unique.Make(info)
	i, found := c.commandLocked(info.ID)
	if found {
		c.listSize -= infoSize(c.commands[i].Value())
		c.commands[i] = shared
	} else {
		c.commands = slices.Insert(c.commands, i, shared)
	}
	return nil
}

func (c *Client) removeCommand(f wire.Frame) error {
	var ref wire.CommandRef
	if err := wire.Parse(f.Payload, &ref); err != nil {
		return err
	}
	name := ""
	c.mu.Lock()
	if i, found := c.commandLocked(ref.ID); found {
		info := c.commands[i].Value()
		name = info.Name
		c.listSize -= infoSize(info)
		c.commands = slices.Delete(c.commands, i, i+1)
	}
	c.mu.Unlock()
	if strings.EqualFold(name, cmdP2PClose) {
		c.linksWithdrawn()
	}
	return nil
}

func infoSize(info wire.CommandInfo) int {
	return wire.MinNewCmdSize + len(info.Short) + len(info.IO) + len(info.Long) + len(info.Schema)
}
