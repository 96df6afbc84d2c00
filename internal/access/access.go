package access

import "mrci.dev/mrci/wire"

// Command is what a decision about a command needs to know of it.
type Command struct {
	Public bool // offered to sessions that are not logged in
	Exempt bool // offered to everybody who is logged in
	Ranked bool // offered by rank
	// Assigned is the rank that was assigned to the command; wire.NoRank when
	// there is none, and then a ranked command is for rank 1 alone.
	Assigned wire.Rank
}

// MayRun reports whether a session with the rank may see and run the command
// (commands 1.1). wire.NoRank is a session that is not logged in. Exempt wins
// over ranked: an assigned rank never hides an exempt command.
func MayRun(c Command, rank wire.Rank) bool {
	if rank == wire.NoRank {
		return c.Public
	}
	if c.Exempt {
		return true
	}
	needed := c.Assigned
	if needed == wire.NoRank {
		needed = 1
	}
	return c.Ranked && rank.AtLeast(needed)
}

// MayChangeUser reports whether a caller may change the account of somebody
// else: strictly, equal ranks may not (commands 1.8).
func MayChangeUser(caller, target wire.Rank) bool {
	return caller.Outranks(target)
}
