package access

import (
	"slices"

	"mrci.dev/mrci/wire"
)

// ChannelAction is something that takes a level in a channel.
type ChannelAction uint8

// The actions of the table in commands 1.8 whose level is fixed.
const (
	RemoveChannel ChannelAction = iota
	RenameChannel
	AddSubChannel
	RemoveSubChannel
	RenameSubChannel
	SetSubChannelLevel
	SetActiveFlag
	AddReadOnlyFlag
	RemoveReadOnlyFlag
	Invite
	ListMembers
)

// neededLevels is the table of commands 1.8.
var neededLevels = [...]wire.Level{
	RemoveChannel:      wire.Owner,
	RenameChannel:      wire.Owner,
	AddSubChannel:      wire.Admin,
	RemoveSubChannel:   wire.Admin,
	RenameSubChannel:   wire.Admin,
	SetSubChannelLevel: wire.Admin,
	SetActiveFlag:      wire.Admin,
	AddReadOnlyFlag:    wire.Admin,
	RemoveReadOnlyFlag: wire.Admin,
	Invite:             wire.Officer,
	ListMembers:        wire.Regular,
}

// NeededLevel returns the level that an action takes.
func NeededLevel(a ChannelAction) wire.Level { return neededLevels[a] }

// MayInChannel reports whether somebody of this level may do it.
func MayInChannel(a ChannelAction, level wire.Level) bool { return level.AtLeast(neededLevels[a]) }

// MayInvite reports whether somebody of this level may invite others.
func MayInvite(level wire.Level) bool { return MayInChannel(Invite, level) }

// Standing is what a user has to do with a channel, as it is stored. The zero
// value: nothing.
type Standing struct {
	Level   wire.Level
	Pending bool // invited, but no member yet
}

// Member reports whether the user is a member; who is invited is not.
func (s Standing) Member() bool { return s.Level.AtLeast(wire.Regular) && !s.Pending }

// ChannelLevel returns the level with which a caller acts in a channel: that
// of the owner with the owner override, else that of a member, else public
// (commands 1.8).
func ChannelLevel(s Standing, override bool) wire.Level {
	switch {
	case override:
		return wire.Owner
	case s.Member():
		return s.Level
	}
	return wire.Public
}

// MayRemoveMember reports whether a caller of this level may remove target
// from the channel, or cancel its invite. self: target is the caller, where
// what is stored counts and not the level, so that the owner override neither
// forbids to leave nor lets an owner leave.
func MayRemoveMember(caller wire.Level, target Standing, self bool) bool {
	switch {
	case target == Standing{}:
		return false
	case self:
		return target.Pending || target.Level != wire.Owner
	case target.Pending:
		return MayInvite(caller) // who may invite may take it back
	}
	return caller.Outranks(target.Level)
}

// MaySetLevel reports whether a caller of this level may give target the new
// level. wire.Owner as the new level makes target the owner of the channel.
func MaySetLevel(caller wire.Level, target Standing, level wire.Level) bool {
	return target.Member() && level.AtLeast(wire.Regular) &&
		caller.Outranks(target.Level) && !level.Outranks(caller)
}

// MaySeeSubChannel reports whether somebody of this level is shown a
// sub-channel with this lowest level, and its flags: members see all, others
// those that are open to the public (commands 6, ls_sub_chs).
func MaySeeSubChannel(level, lowest wire.Level) bool {
	return level.AtLeast(wire.Regular) || lowest == wire.Public
}

// MayOpen reports whether somebody of this level may open a sub-channel with
// this lowest level.
func MayOpen(level, lowest wire.Level) bool { return level.AtLeast(lowest) }

// MayCast reports whether somebody of this level may cast in a sub-channel
// that has read-only flags for the levels in flags.
func MayCast(level wire.Level, flags ...wire.Level) bool {
	return level.AtLeast(wire.Public) && !slices.Contains(flags, level)
}
