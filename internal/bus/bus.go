// Package bus carries what sessions send each other: events to the sessions of
// a user, casts to the holders of a sub-channel, data between two peers. It is
// the contract, Bus, and the bus of a single process, Memory.
//
// An event is a hint that something has changed; the store is the truth, and
// who needs certainty reads it again. Publish is at most once, in order per
// sender, and never waits. Request waits until every receiver has acted, or
// for a time: it is for changes of rights, which bind everybody before the
// call that made them is over (commands 1.3).
//
// The index says which session has which sub-channel open, may cast there, and
// belongs to which channel. Casts and what events tell clients go by it
// straight into the receivers' send queues, without waking a session. What is
// taken away from somebody is gone when the call that takes it returns: a cast
// under way has been queued by then, and none comes after it.
//
// What a Member does concerns sessions of this process alone: its places in
// the index, its door. What a Bus does concerns all sessions, wherever they
// are; it therefore takes and returns ids and bytes, and where it has to be
// certain a context. Only Cast and what a Member sends to peers cross from the
// one to the other.
//
// Package bustest has the behaviour that every bus must show; DESIGN.md tells
// of locks and their order. Async ids: protocol 5; links: protocol 7; pace:
// protocol 9; DESIGN D5 and D6.
package bus

import (
	"context"
	"errors"

	"mrci.dev/mrci/wire"
)

// ErrNoAnswer: a receiver has not answered a Request in time. The event was
// delivered all the same, as far as the bus knows.
var ErrNoAnswer = errors.New("a session did not answer in time")

// Event is something that happened and that other sessions act on.
type Event struct {
	Async wire.AsyncID   `json:"async"`
	From  wire.SessionID `json:"from"` // who caused it; zero: the host. Never gets it itself
	User  wire.UserID    `json:"user"` // whom it is about; zero: nobody in particular
	Text  string         `json:"text"` // for the people at the receiving sessions; may be empty
}

// Target says to whom an event goes. The zero Target is every session.
type Target struct {
	Session wire.SessionID `json:"session"`
	User    wire.UserID    `json:"user"`
}

// Everybody is all sessions of the host.
func Everybody() Target { return Target{} }

// ToSession is one session.
func ToSession(id wire.SessionID) Target { return Target{Session: id} }

// ToUser is all sessions that are logged in as the user.
func ToUser(id wire.UserID) Target { return Target{User: id} }

// Delivery is an event as it reaches a session. Answer tells the sender of a
// Request that the session has acted; it is called once, never waits, and
// does nothing for an event that was published.
type Delivery struct {
	Event
	Answer func()
}

// Receiver is a session's side of the bus. Its methods must not wait and must
// not call the bus.
type Receiver interface {
	Receive(d Delivery)
	// PeerInfo returns the frames that tell a peer who the session is.
	PeerInfo() []byte
}

// Member is a session's place on the bus. Join, Enter, SetChannels and Leave
// are called by the session's owner, one after the other; everything else may
// be called from any goroutine. What is given as frames is queued as it is and
// must not be changed by anybody afterwards, but for CastCopy.
type Member interface {
	// SetUser tells as whom the session is logged in; the zero id: nobody.
	// What is sent to the user from then on reaches the session.
	SetUser(id wire.UserID)
	// Leave ends the membership: nothing is delivered any more once it has
	// returned. Requests under way do not wait for the session any longer. It
	// returns what Enter would.
	Leave() (Loss, bool)

	// Enter makes the session take part in channels as the user, with an empty
	// channel list; the zero id: not at all. It closes what was open, and
	// returns that; ok is false when nothing was. Links are CloseLinks's.
	Enter(user wire.UserID) (lost Loss, ok bool)
	// Changes counts what has happened to the channels that the user belongs
	// to. It is asked before they are read for SetChannels.
	Changes() uint64
	// SetChannels makes channels the session's channel list. It returns false
	// when something has happened since Changes returned since: the caller
	// reads the list again.
	SetChannels(since uint64, channels []wire.ChannelID) bool

	// Open takes a slot for a sub-channel, as closed. The caller then reads the
	// rights and calls Enable or Withdraw. ErrOpen: it is open; ErrOpening:
	// another call is about to open it; ErrSlots: six are open; ErrNobody: the
	// session takes no part in channels.
	Open(sub wire.SubRef) (Opening, error)
	// Close closes a sub-channel, or gives up its opening. ok is false when it
	// was not open.
	Close(sub wire.SubRef) (lost Loss, ok bool)
	// Opened returns what is open now.
	Opened() Opened
	// Holdings returns what is open or being opened now, for those whose rights
	// in it have to be read again.
	Holdings() []Holding

	// Cast queues frames to every other session that holds a sub-channel which
	// this session has open for writing at that moment, once each.
	Cast(frames []byte) Sent
	// CastCopy is Cast for frames that the caller uses again.
	CastCopy(frames []byte) Sent
	// Ping queues frames to the active ones of these sessions, and the PeerInfo
	// of each of them to this session. active is false, and nothing happens,
	// when this session is not active.
	Ping(frames []byte) (sent Sent, active bool)

	Links
}

// Opening is a sub-channel that is about to be opened.
type Opening interface {
	// Enable opens it. It returns false, and nothing is open, when a right was
	// changed after Open, or the session is somebody else's: the caller starts
	// again with Open.
	Enable(writable, active bool) bool
	// Withdraw gives the slot back. It may be called after Enable and does
	// nothing then.
	Withdraw()
}

// Holding is a sub-channel that a session had open, or was about to open, when
// Holdings was called. Once it has been closed its methods do nothing.
type Holding interface {
	Sub() wire.SubRef
	// Open is false while its rights are being read.
	Open() bool
	// SetWritable says whether the session may cast there. It returns false when
	// it is not open any more.
	SetWritable(writable bool) bool
	// Close closes it, or makes its opening begin again. ok is false when it was
	// not open.
	Close() (lost Loss, ok bool)
}

// Reasons for which Open fails.
var (
	ErrOpen    = errors.New("the sub-channel is open")
	ErrOpening = errors.New("the sub-channel is being opened by another call")
	ErrSlots   = errors.New("six sub-channels are open")
	ErrNobody  = errors.New("the session takes no part in channels")
)

// OpenSub is a sub-channel that a session has open; the zero value is an empty
// slot.
type OpenSub struct {
	Sub      wire.SubRef
	Writable bool // the session may cast there
	Active   bool // its active-update flag
}

// Opened is what a session has open, in its slots (protocol 3).
type Opened [wire.MaxOpenSubs]OpenSub

// List returns the sub-channels as clients are told them.
func (o *Opened) List() (l wire.SubList) {
	for i, s := range o {
		l[i] = s.Sub
	}
	return l
}

// Writable returns the sub-channels in which the session may cast.
func (o *Opened) Writable() (l wire.SubList) {
	for i, s := range o {
		if s.Writable {
			l[i] = s.Sub
		}
	}
	return l
}

// Active reports whether the session is active (protocol 6).
func (o *Opened) Active() bool {
	for _, s := range o {
		if s.Active {
			return true
		}
	}
	return false
}

// Loss is a session of which something was closed: what it had before, and
// what it still has. It is what its PEER_STAT is made from (protocol 6).
type Loss struct {
	Session wire.SessionID `json:"session"`
	User    wire.UserID    `json:"user"`
	Before  wire.SubList   `json:"before"`
	After   wire.SubList   `json:"after"`
	Active  bool           `json:"active"` // the session was active before
}

// Sent is what became of a cast.
type Sent struct {
	Receivers int // whose queues have it
	// Behind is the door of the receiver for whom most waits, if that is more
	// than a sender should outrun and the receiver's writer moves; or else nil.
	// The sender rests until Behind has written up to Position, 10 ms at most
	// (protocol 9).
	Behind   Door
	Position uint64
}

// Index changes who may send and hear, and sends by it. A change is made after
// it has been committed and before the call that asked for it is over: what
// is closed includes openings whose rights have been read already. frames are
// what the event tells clients, nil: nothing; they are queued in the same step,
// to the members of the channel and to those who are named besides.
type Index interface {
	// AddChannel puts the channel on the lists of the user's sessions.
	AddChannel(ctx context.Context, ch wire.ChannelID, user wire.UserID, frames []byte) error
	// CloseUser closes the channel's sub-channels for the user's sessions, and
	// takes the channel from their lists if removed is true. The user's
	// sessions get frames too.
	CloseUser(ctx context.Context, ch wire.ChannelID, user wire.UserID, removed bool, frames []byte) ([]Loss, error)
	// CloseHolders closes the sub-channel for everybody. The holders get frames
	// too.
	CloseHolders(ctx context.Context, sub wire.SubRef, frames []byte) ([]Loss, error)
	// CloseAll closes all sub-channels of a channel that is no more and takes
	// it from all lists. The holders get frames too.
	CloseAll(ctx context.Context, ch wire.ChannelID, frames []byte) ([]Loss, error)
	// SetActive sets the active-update flag for the holders.
	SetActive(ctx context.Context, sub wire.SubRef, active bool) error

	// ToMembers queues frames to the sessions that have the channel on their
	// list, and to those of the user besides (the zero id: nobody).
	ToMembers(ch wire.ChannelID, user wire.UserID, frames []byte) Sent
	// LimitedCast queues frames to the active sessions that hold any of the
	// sub-channels, but for the sender, once each.
	LimitedCast(from wire.SessionID, subs wire.SubList, frames []byte) Sent
}

// Bus carries events. Its methods may be called from any goroutine.
type Bus interface {
	// Join makes a session reachable. door leads to its client; nil: it gets
	// events alone.
	Join(id wire.SessionID, r Receiver, door Door) Member
	// Publish hands an event to the receivers that there are now.
	Publish(to Target, e Event)
	// Request hands an event over and returns when all receivers have
	// answered or left; ErrNoAnswer when ctx ended before.
	Request(ctx context.Context, to Target, e Event) error

	Index
}
