package channel

import (
	"errors"
	"fmt"

	"mrci.dev/mrci/internal/access"
	"mrci.dev/mrci/wire"
)

// RuleError says which rule a call breaks. Its text is one line of plain
// English for the caller and says what to do instead.
type RuleError struct {
	Field  string          // a column of state 1.3 to 1.6, or "user_name"
	Text   string          // one line
	Code   wire.ReturnCode // of the IDLE: wire.InvalidParams or wire.ExecutionFail
	Denied bool            // the caller's level does not allow it
}

// Error returns the text for the caller.
func (e *RuleError) Error() string { return e.Text }

// invalid is a rule about what the caller has asked for.
func invalid(field, text string) error {
	return &RuleError{Field: field, Text: text, Code: wire.InvalidParams}
}

// full is a limit.
func full(field, text string) error {
	return &RuleError{Field: field, Text: text, Code: wire.ExecutionFail}
}

// Errors that callers branch on. All are *RuleError.
var (
	// ErrNoChannel: no channel has the name or the id.
	ErrNoChannel = invalid("channel_name", "there is no such channel")
	// ErrNoSubChannel: the channel has no sub-channel with the name or the id.
	ErrNoSubChannel = invalid("sub_channel_name", "the channel has no such sub-channel")
	// ErrNoUser: no account has the name.
	ErrNoUser = invalid("user_name", "there is no such user")
	// ErrCallerGone: the account of the caller does not exist any more.
	ErrCallerGone = invalid("user_id", "your own account has been removed")
	// ErrCallerLocked: the account of the caller has been locked meanwhile.
	ErrCallerLocked = invalid("user_id", "your own account has been locked")

	// ErrNameTaken: another channel has the name, or one that differs only in case.
	ErrNameTaken = invalid("channel_name", "the channel name is taken; choose another one")
	// ErrSubNameTaken: another sub-channel of the channel has the name.
	ErrSubNameTaken = invalid("sub_channel_name", "the channel has a sub-channel with this name already; choose another name")
	// ErrSameName: the new name is the one that there is.
	ErrSameName = invalid("new_name", "the new name is the current one; choose another one")

	// ErrInvited: the user has a pending invite to the channel.
	ErrInvited = invalid("user_name", "the user is invited to the channel already")
	// ErrMember: the user is a member of the channel.
	ErrMember = invalid("user_name", "the user is a member of the channel already")
	// ErrNoInvite: the caller has no pending invite to the channel.
	ErrNoInvite = invalid("channel_name", "you have no pending invite to this channel")
	// ErrNotMember: the user is neither a member nor invited.
	ErrNotMember = invalid("user_name", "the user is neither a member of the channel nor invited to it")
	// ErrPending: the user has not accepted the invite yet.
	ErrPending = invalid("user_name", "the user has not accepted the invite to the channel yet")
	// ErrOwnerStays: the owner wants to leave.
	ErrOwnerStays = invalid("user_name", "you own the channel; make another member its owner first, or remove the channel")

	// ErrFlagExists: the read-only flag is there already.
	ErrFlagExists = invalid("access_level", "this read-only flag is set already")
	// ErrNoFlag: the read-only flag is not there.
	ErrNoFlag = invalid("access_level", "there is no such read-only flag")
	// ErrSubChannelsFull: the channel has as many sub-channels as it may have.
	ErrSubChannelsFull = invalid("sub_channel_id", "the channel has as many sub-channels as the host allows; remove one first")

	// ErrTooManyChannels: the caller is a member of MaxChannels channels.
	ErrTooManyChannels = full("channel_id", "you are a member of 200 channels, which is the most; leave one first")
	// ErrUserFull: the user has MaxInvites pending invites, or no room for
	// another channel.
	ErrUserFull = full("user_name", "the user has too many channels or pending invites; ask the user to leave or decline some first")
	// ErrInvitesFull: the channel has MaxChannelInvites pending invites.
	ErrInvitesFull = full("channel_name", "the channel has 1000 pending invites, which is the most; cancel some first")
)

// errPart answers a search for something that no channel name contains.
var errPart = invalid(fieldChannel, "no channel can be found by that; give 4 to 32 characters of a name, without blanks")

// need returns nil if level is enough for the action, or who to ask.
func need(a access.ChannelAction, level wire.Level) error {
	if access.MayInChannel(a, level) {
		return nil
	}
	return denied(access.NeededLevel(a), level)
}

// denied says which level something takes.
func denied(needed, level wire.Level) error {
	var ask string
	switch needed {
	case wire.Owner:
		ask = "ask its owner"
	case wire.Admin:
		ask = "ask its owner or an admin"
	case wire.Officer:
		ask = "ask its owner, an admin or an officer"
	default:
		ask = "ask for an invite"
	}
	return refused(fmt.Sprintf("this takes level %d (%s) in the channel and yours is %d (%s); %s", needed, needed, level, level, ask))
}

// outside is denied for something that members may do, and whoever is about to
// be one is told how.
func outside(own access.Standing, needed, level wire.Level) error {
	if own.Pending && own.Level.AtLeast(needed) {
		return refused("you are invited to the channel, but no member yet; join it with accept_ch first")
	}
	return denied(needed, level)
}

// refused is an answer that the caller's level has led to.
func refused(text string) error {
	return &RuleError{Field: "access_level", Text: text, Code: wire.InvalidParams, Denied: true}
}

// doing says what was being done when err came up. A *RuleError is for the
// caller to read and stays as it is.
func doing(what string, err error) error {
	if err == nil {
		return nil
	}
	if rule, ok := errors.AsType[*RuleError](err); ok {
		return rule
	}
	return fmt.Errorf("%s: %w", what, err)
}
