// Package bus carries events between the sessions of a host: to one session,
// to all sessions of a user, to all sessions. It is the contract, Bus, and the
// bus of a single process, Memory.
//
// An event is a hint that something has changed; the store is the truth, and
// who needs certainty reads it again. Publish is at most once, in order per
// sender, and never waits. Request waits until every receiver has acted, or
// for a time: it is for changes of rights, which bind everybody before the
// call that made them is over (commands 1.3).
//
// Package bustest has the behaviour that every bus must show. Async ids:
// protocol 5; DESIGN D6.
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

// Receiver is a session's side of the bus. Receive must not wait and must not
// call the bus.
type Receiver interface {
	Receive(d Delivery)
}

// Member is a session's place on the bus.
type Member interface {
	// SetUser tells as whom the session is logged in; the zero id: nobody.
	// What is sent to the user from then on reaches the session.
	SetUser(id wire.UserID)
	// Leave ends the membership: nothing is delivered any more once it has
	// returned. Requests under way do not wait for the session any longer.
	Leave()
}

// Bus carries events. Its methods may be called from any goroutine.
type Bus interface {
	// Join makes a session reachable.
	Join(id wire.SessionID, r Receiver) Member
	// Publish hands an event to the receivers that there are now.
	Publish(to Target, e Event)
	// Request hands an event over and returns when all receivers have
	// answered or left; ErrNoAnswer when ctx ended before.
	Request(ctx context.Context, to Target, e Event) error
}
