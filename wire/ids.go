package wire

import (
	"encoding/hex"
	"fmt"
	"strconv"
)

// Sizes of the ids on the wire, in bytes (protocol 3).
const (
	SessionIDSize = 28
	UserIDSize    = 32
)

// SessionID names one connection for as long as it lives (protocol 1).
// It is a capability: whoever knows it may ask that session for a peer link.
type SessionID [SessionIDSize]byte

// String returns the id as lower-case hex.
func (id SessionID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText makes the id lower-case hex in JSON and in logs.
func (id SessionID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UserID names one account for ever; it is never reused (state 1.1).
type UserID [UserIDSize]byte

// String returns the id as lower-case hex.
func (id UserID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText makes the id lower-case hex in JSON and in logs.
func (id UserID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// IsZero reports whether the id is all zero bytes, which no account has.
func (id UserID) IsZero() bool { return id == UserID{} }

// CmdID is the second field of a frame: an async id (1..255) or a command
// (256..65535), assigned by the host (protocol 2).
type CmdID uint16

// FirstCmdID is the lowest id that a command can have (protocol 2).
const FirstCmdID CmdID = 256

// IsAsync reports whether the id is in the range of async ids; 0 is neither.
func (id CmdID) IsAsync() bool { return id >= 1 && id < FirstCmdID }

// String returns the decimal form, or the name of the async id.
func (id CmdID) String() string {
	if id.IsAsync() {
		return AsyncID(id).String()
	}
	return strconv.Itoa(int(id))
}

// BranchID is chosen by the client: (CmdID, BranchID) names one running
// instance of a command (protocol 2).
type BranchID uint16

// ChannelID names a channel; 0 is never valid (state 1.3).
type ChannelID uint64

// SubID names a sub-channel within its channel (state 1.5).
type SubID uint8

// Rank is a host rank: 1 is the most powerful, a larger number is less
// powerful (state 2.10). The zero value is the rank of a session without a
// login, which is below every rank.
type Rank uint32

// NoRank is the rank of a session that is not logged in.
const NoRank Rank = 0

// Outranks reports whether r is strictly more powerful than other. A session
// without a login outranks nobody and is outranked by everybody logged in.
func (r Rank) Outranks(other Rank) bool {
	if r == NoRank {
		return false
	}
	return other == NoRank || r < other
}

// AtLeast reports whether r is as powerful as needed, or more. Nobody is at
// least NoRank: a needed rank that was never set lets nobody through.
func (r Rank) AtLeast(needed Rank) bool {
	return r != NoRank && r <= needed
}

// Level is the standing of a user in a channel (commands 1.8).
type Level uint8

// The channel levels, most powerful first.
const (
	Owner   Level = 1
	Admin   Level = 2
	Officer Level = 3
	Regular Level = 4
	Public  Level = 5
)

// AtLeast reports whether l is as powerful as needed, or more.
func (l Level) AtLeast(needed Level) bool { return l >= Owner && l <= needed }

// Outranks reports whether l is strictly more powerful than other.
func (l Level) Outranks(other Level) bool { return l >= Owner && l < other }

// String returns the name of the level.
func (l Level) String() string {
	switch l {
	case Owner:
		return "owner"
	case Admin:
		return "admin"
	case Officer:
		return "officer"
	case Regular:
		return "regular"
	case Public:
		return "public"
	}
	return fmt.Sprintf("level(%d)", uint8(l))
}
