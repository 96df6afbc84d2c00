package channel

import (
	"context"

	"mrci.dev/mrci/internal/access"
	"mrci.dev/mrci/wire"
)

// Store keeps channels. A transaction is durable when its method returns nil,
// and isolated from all others, those of another process included. Keys are
// results of names.Fold.
//
// Package storetest has the suite that every implementation passes.
type Store interface {
	// Update runs do in a transaction. An error of do undoes everything and is
	// returned as it is. do must be quick and must not keep the Tx.
	Update(ctx context.Context, do func(Tx) error) error

	// View runs do, which reads from one snapshot.
	View(ctx context.Context, do func(Reader) error) error

	// Facts returns what a decision about a sub-channel needs to know,
	// ErrNoChannel or ErrNoSubChannel. It is one query.
	Facts(ctx context.Context, user wire.UserID, ch wire.ChannelID, sub wire.SubID) (Facts, error)

	// FactsByName is Facts for a channel and a sub-channel that somebody names.
	FactsByName(ctx context.Context, user wire.UserID, chKey, subKey string) (Facts, error)
}

// Facts are what is stored about a user and a sub-channel.
type Facts struct {
	Channel  Channel
	Sub      SubChannel
	Standing access.Standing // of the user in the channel
	Flags    []wire.Level    // for which a read-only flag stands, ascending
}

// Reader reads within a transaction.
type Reader interface {
	// Channel returns the channel with this key, or ErrNoChannel.
	Channel(key string) (Channel, error)
	// Standing returns what the user has to do with the channel; the zero
	// value: nothing.
	Standing(ch wire.ChannelID, user wire.UserID) (access.Standing, error)
	// SubChannel returns the sub-channel with this key, or ErrNoSubChannel.
	SubChannel(ch wire.ChannelID, key string) (SubChannel, error)

	// The listings come in the order in which their rows were stored, from
	// behind a place in the listing.

	// Channels lists channels.
	Channels(f Find, after Cursor, limit int) (Page[Channel], error)
	// Memberships lists the channels and the invites of a user.
	Memberships(user wire.UserID, after Cursor, limit int) (Page[Membership], error)
	// SubChannels lists the sub-channels of a channel; public: only those with
	// lowest level Public.
	SubChannels(ch wire.ChannelID, public bool, after Cursor, limit int) (Page[SubChannel], error)
	// Members lists members and who is invited.
	Members(ch wire.ChannelID, f MemberFilter, after Cursor, limit int) (Page[Member], error)
	// Flags lists read-only flags; public: only those of sub-channels with
	// lowest level Public.
	Flags(ch wire.ChannelID, public bool, after Cursor, limit int) (Page[Flag], error)
}

// Tx reads and writes within a transaction. A row to be changed or removed
// that is not there is no error.
type Tx interface {
	Reader

	// Caller returns the account with this id and whether it is locked, or
	// ErrCallerGone.
	Caller(id wire.UserID) (u User, locked bool, err error)
	// User returns the account whose name has this key, or ErrNoUser.
	User(key string) (User, error)
	// Owner returns the owner of a channel.
	Owner(ch wire.ChannelID) (User, error)
	// Audience returns the members of a channel, without who is invited.
	Audience(ch wire.ChannelID) ([]wire.UserID, error)
	// Invited returns who has a pending invite to a channel.
	Invited(ch wire.ChannelID) ([]User, error)
	// InviteCount returns the number of pending invites to a channel.
	InviteCount(ch wire.ChannelID) (int, error)
	// Counts returns of how many channels a user is a member, and the number
	// of its pending invites.
	Counts(user wire.UserID) (channels, invites int, err error)
	// SubIDs returns the ids of the sub-channels of a channel, ascending.
	SubIDs(ch wire.ChannelID) ([]wire.SubID, error)
	// SubName returns the name of the sub-channel with the id, or
	// ErrNoSubChannel.
	SubName(ch wire.ChannelID, sub wire.SubID) (string, error)

	// AddChannel stores a channel without members and returns its id, which no
	// channel has had.
	AddChannel(name string) (wire.ChannelID, error)
	RenameChannel(ch wire.ChannelID, name string) error
	// RemoveChannel removes a channel with all that hangs on it.
	RemoveChannel(ch wire.ChannelID) error
	// PutMember stores a member or replaces what is stored of it. A second
	// owner is an error.
	PutMember(ch wire.ChannelID, user wire.UserID, s access.Standing) error
	RemoveMember(ch wire.ChannelID, user wire.UserID) error
	// PutSubChannel stores a sub-channel or replaces the one with its id.
	PutSubChannel(ch wire.ChannelID, sub SubChannel) error
	RemoveSubChannel(ch wire.ChannelID, sub wire.SubID) error
	// AddFlag and RemoveFlag tell whether they have changed something.
	AddFlag(ch wire.ChannelID, f Flag) (added bool, err error)
	RemoveFlag(ch wire.ChannelID, f Flag) (removed bool, err error)
}

// Find selects channels. The zero value selects all. What is a part of
// something is matched as filters are (commands 1.7), an empty one always.
type Find struct {
	Name string // part of the name, without regard to case; wins over ID
	ID   wire.ChannelID
	ByID bool // the channel with exactly this ID

	PartOfID   string // in decimal
	PartOfName string // without regard to ASCII case; besides Name
}

// MemberFilter selects members. All texts but UserID are matched as
// substrings, without regard to ASCII case; an empty one selects everything
// (commands 1.7).
type MemberFilter struct {
	Channel  string // of the channel's id in decimal
	UserName string
	UserID   string // what its hex form begins with
	Display  string
	Display2 string // another part of the display name
	Pending  string // of 0 or 1
	Level    string // of the number
}

// Cursor is a place in a listing, behind the last row of a page. The zero
// value is the beginning. It stays valid whatever is added or removed.
type Cursor int64

// Page is a part of a listing.
type Page[R any] struct {
	Rows  []R
	Total int    // rows that match, on all pages
	Next  Cursor // where the next page begins
	More  bool   // whether there is a next page
}
