package channel

import (
	"mrci.dev/mrci/internal/access"
	"mrci.dev/mrci/wire"
)

// Limits (state 10; those of invites are our own, commands 6, invite_to_ch).
const (
	MaxChannels       = 200  // of which a user is a member, and of which a login is told
	MaxInvites        = 100  // pending ones of a user
	MaxChannelInvites = 1000 // pending ones of a channel
)

// Channel is a channel (state 1.3).
type Channel struct {
	ID   wire.ChannelID // never used again
	Name string
}

// User is what is told of a user who has to do with a channel.
type User struct {
	ID      wire.UserID
	Name    string
	Display string
}

// Member is a user who belongs to a channel, or is invited (state 1.4).
type Member struct {
	User
	Level   wire.Level // Regular for who is invited
	Pending bool       // invited, and has not answered yet
}

// Standing is what a decision about the member needs.
func (m Member) Standing() access.Standing {
	return access.Standing{Level: m.Level, Pending: m.Pending}
}

// Membership is a channel as one of its members sees it.
type Membership struct {
	Channel Channel
	Level   wire.Level
	Pending bool // an invite that waits for an answer
}

// SubChannel is a sub-channel (state 1.5).
type SubChannel struct {
	ID     wire.SubID // unique in its channel
	Name   string
	Lowest wire.Level // the least powerful level that may open it
	Active bool       // the active-update flag
}

// Flag is a read-only flag: users of exactly that level may not cast in the
// sub-channel with the id, whether it exists by now or will (state 1.6).
type Flag struct {
	Sub   wire.SubID
	Level wire.Level
}

// Caller is on whose behalf something is done.
type Caller struct {
	User     wire.UserID
	Override bool // the owner override of the session is on
}

// Rights is what a user may do in a sub-channel, and what there is to know of
// it.
type Rights struct {
	Channel  Channel
	Sub      SubChannel
	Level    wire.Level // with which the user acts: Owner with the override, Public for who is no member
	ReadOnly bool       // a read-only flag stands for Level
}

// MayOpen reports whether the user may have the sub-channel open.
func (r Rights) MayOpen() bool { return access.MayOpen(r.Level, r.Sub.Lowest) }

// MayCast reports whether the user may cast there.
func (r Rights) MayCast() bool { return r.MayOpen() && !r.ReadOnly }

// ChannelChange tells of a channel that was renamed or removed.
type ChannelChange struct {
	Channel Channel       // as it is now; one that was removed: as it was
	OldName string        // before it was renamed; else its name
	By      User          // who did it
	Hear    []wire.UserID // the members
	Invited []User        // whose invites went with a channel that was removed
}

// MemberChange tells of a user who came to belong to a channel, was invited,
// got another level, or does not belong to it any more.
type MemberChange struct {
	Channel    Channel
	Member     Member        // as the member is now; one who was removed: as it was
	OldLevel   wire.Level    // before; 0: had nothing to do with the channel
	WasPending bool          // before: invited
	By         User          // who did it
	Hear       []wire.UserID // the members, and the one whom it concerns
}

// SubChange tells of a sub-channel that was made, changed or removed.
type SubChange struct {
	Channel Channel
	Sub     SubChannel    // as it is now; one that was removed: as it was
	Old     SubChannel    // before; of a new one the zero value
	By      User          // who did it
	Hear    []wire.UserID // the members
}

// FlagChange tells of a read-only flag that was added or removed.
type FlagChange struct {
	Channel Channel
	Flag    Flag
	SubName string        // of the sub-channel that has the id now; empty: none
	By      User          // who did it
	Hear    []wire.UserID // the members
}
