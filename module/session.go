package module

import (
	"net/netip"
	"time"

	"mrci.dev/mrci/wire"
)

// Session is what a command may know of the session that it serves, at one
// moment. It is shared and never changes.
type Session struct {
	ID       wire.SessionID
	Addr     netip.Addr // of the client
	App      string     // the client program and its version
	ModInst  string     // arguments that the client gave for module processes
	Revision int        // of the protocol that the client speaks
	User     *User      // nil while nobody is logged in
	Override bool       // owner override is on (commands 6, ch_owner_override)
	Commands []*Listed  // offered to this session, ordered by id; shared
}

// Rank returns the host rank of the login; wire.NoRank without one.
func (s *Session) Rank() wire.Rank {
	if s.User == nil {
		return wire.NoRank
	}
	return s.User.Rank
}

// User is the account that a session is logged in as.
type User struct {
	ID            wire.UserID
	Name          string
	Display       string
	Email         string
	Rank          wire.Rank
	Registered    time.Time
	EmailVerified bool
}

// Listed is a command as it is offered to a session.
type Listed struct {
	ID wire.CmdID
	// Name is the shown name; it differs from the description's when two
	// modules bring the same (modules 1.3).
	Name    string
	Library string
	Command *Command
}
