package client

import (
	"errors"
	"fmt"
	"strings"

	"mrci.dev/mrci/wire"
)

// What callers branch on, with errors.Is.
var (
	// ErrUnreachable: no connection to the host could be made.
	ErrUnreachable = errors.New("host unreachable")
	// ErrLost: the connection ended and it was not this client that ended it.
	ErrLost = errors.New("connection lost")
	// ErrClosed: the client was closed with Close.
	ErrClosed = errors.New("client is closed")
	// ErrProtocol: the host sent something that revision 2 does not allow.
	ErrProtocol = errors.New("protocol error")
	// ErrPlain: the host wants clear text on an address that is not loopback,
	// and Config.AllowPlain is not set.
	ErrPlain = errors.New("host offers no encryption")
	// ErrEnded: the call is over, so nothing can be sent to it.
	ErrEnded = errors.New("the call has ended")
	// ErrGivenUp: a call did not end within the grace that follows a
	// cancelled context.
	ErrGivenUp = errors.New("the command did not stop")
	// ErrSlowConsumer: a call was ended because its frames were not taken.
	ErrSlowConsumer = errors.New("the frames of the call were not taken in time")
	// ErrTooManyCalls: every branch of the command is in use.
	ErrTooManyCalls = errors.New("all branches of the command are in use")
	// ErrNotRelayable: clients cannot send this type of frame to each other.
	ErrNotRelayable = errors.New("this type cannot be sent to other clients")
	// ErrLinked: there is a link to this peer, or one is being made.
	ErrLinked = errors.New("there is a link to this peer")
	// ErrDeclined: the peer has declined the link, or its session has ended.
	ErrDeclined = errors.New("the peer declined the link, or has left")
	// ErrLinkClosed: the link was closed with Close.
	ErrLinkClosed = errors.New("the link is closed")
	// ErrPeerClosed: the peer has closed the link, or its session has ended.
	ErrPeerClosed = errors.New("the peer closed the link, or has left")
	// ErrLinkFull: the link was closed because what the peer sent was not
	// received in time.
	ErrLinkFull = errors.New("the link was closed: its messages were not received in time")
	// ErrLoggedOut: the link has ended because the session is not any more that
	// of the user who made it, has logged in again, or may have no links any
	// more.
	ErrLoggedOut = errors.New("the link ended with the login of this session")
	// ErrNoAnswer is what an Answer returns to cancel the call instead of
	// answering.
	ErrNoAnswer = errors.New("no answer")
)

// CertificateError tells that the host's key is not trusted. Err is the reason.
type CertificateError struct {
	Addr        string // as given to Dial, with port
	Fingerprint string // of the key that the host showed
	Err         error
}

// Error names the host, the fingerprint and the reason.
func (e *CertificateError) Error() string {
	return fmt.Sprintf("certificate of %s (%s): %v", e.Addr, e.Fingerprint, e.Err)
}

// Unwrap returns the reason.
func (e *CertificateError) Unwrap() error { return e.Err }

// LoginError tells that the host refused a login.
type LoginError struct {
	User string
	Code wire.ReturnCode // how auth ended
	Text string          // the last ERR of the host; may be empty
	Err  error           // what an Answer returned instead of an answer; may be nil
}

// Error gives the host's reason.
func (e *LoginError) Error() string {
	reason := e.Text
	if reason == "" {
		reason = e.Code.String()
	}
	if e.Err != nil && !errors.Is(e.Err, ErrNoAnswer) {
		reason += " (" + e.Err.Error() + ")"
	}
	return fmt.Sprintf("log in as %s: %s", e.User, reason)
}

// Unwrap returns what the Answer returned, if it was that which ended the login.
func (e *LoginError) Unwrap() error { return e.Err }

// CommandError tells that a command has ended with another code than
// NO_ERRORS. Run returns such an end as a Result; methods that stand for one
// command return it as this error.
type CommandError struct {
	Command string
	Code    wire.ReturnCode
	Text    string // the last ERR of the host; may be empty
}

// Error names the command and gives the host's reason.
func (e *CommandError) Error() string {
	reason := e.Text
	if reason == "" {
		reason = e.Code.String()
	}
	return e.Command + ": " + reason
}

// NoCommandError tells that the host does not offer a command to this session.
type NoCommandError struct {
	Name    string
	Nearest []string // offered names that look like it, nearest first; may be empty
}

// Error names the command and the nearest ones.
func (e *NoCommandError) Error() string {
	text := fmt.Sprintf("no command %q", e.Name)
	if len(e.Nearest) > 0 {
		text += "; nearest: " + strings.Join(e.Nearest, ", ")
	}
	return text
}
