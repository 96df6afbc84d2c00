package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/wire"
)

// Changed acts on a change of a channel for all sessions (protocol 5). The
// caller has the turn in which the change was made. It implements
// channels.Events.
func (h *Hub) Changed(ctx context.Context, id wire.AsyncID, payload wire.Payload, change channel.Change) error {
	frames := frameOf(id, payload)
	switch c := change.(type) {
	case channel.MemberChange:
		return h.memberChanged(ctx, id, frames, c.Channel.ID, c.Member.ID)
	case channel.ChannelChange:
		if id == wire.AsyncDelCh {
			return h.owe(h.cfg.Bus.CloseAll(ctx, c.Channel.ID, frames))
		}
		h.cfg.Bus.ToMembers(c.Channel.ID, wire.UserID{}, frames)
		return nil
	case channel.SubChange:
		return h.subChanged(ctx, id, frames, c)
	case channel.FlagChange:
		return h.owe(h.cfg.Bus.CloseHolders(ctx, wire.SubRef{Channel: c.Channel.ID, Sub: c.Flag.Sub}, frames))
	}
	return fmt.Errorf("%v: no such change of a channel", id)
}

func (h *Hub) memberChanged(ctx context.Context, id wire.AsyncID, frames []byte, ch wire.ChannelID, user wire.UserID) error {
	switch id {
	case wire.AsyncInvitedToCh:
		h.cfg.Bus.ToMembers(ch, user, frames)
		return nil
	case wire.AsyncNewChMember, wire.AsyncInviteAccepted:
		if err := h.cfg.Bus.AddChannel(ctx, ch, user, frames); err != nil {
			return err
		}
		return h.joined(ctx, ch, user)
	case wire.AsyncRmChMember, wire.AsyncMemLevelChg:
		return h.owe(h.cfg.Bus.CloseUser(ctx, ch, user, id == wire.AsyncRmChMember, frames))
	}
	return fmt.Errorf("%v: no such change of a member", id)
}

// joined judges anew what sessions of a new member have opened as the public:
// it stays open, but read-only flags of another level count now.
func (h *Hub) joined(ctx context.Context, ch wire.ChannelID, user wire.UserID) error {
	var failed []error
	for _, s := range h.seatsOf(user) {
		done, err := s.open(ctx)
		if err != nil {
			return err
		}
		failed = append(failed, s.judge(ctx, func(sub wire.SubRef) bool { return sub.Channel == ch }))
		done()
	}
	return errors.Join(failed...)
}

func (h *Hub) subChanged(ctx context.Context, id wire.AsyncID, frames []byte, c channel.SubChange) error {
	ref := wire.SubRef{Channel: c.Channel.ID, Sub: c.Sub.ID}
	switch id {
	case wire.AsyncNewSubCh, wire.AsyncRenameSubCh:
		h.cfg.Bus.ToMembers(c.Channel.ID, wire.UserID{}, frames)
		return nil
	case wire.AsyncChActFlag:
		return h.cfg.Bus.SetActive(ctx, ref, c.Sub.Active || h.cfg.Settings().AllActive)
	case wire.AsyncRmSubCh, wire.AsyncSubChLevelChg:
		return h.owe(h.cfg.Bus.CloseHolders(ctx, ref, frames))
	}
	return fmt.Errorf("%v: no such change of a sub-channel", id)
}

// owe notes what the index has closed, for who has the turn. Peers hear once of
// all that a session loses in one turn.
func (h *Hub) owe(lost []bus.Loss, err error) error {
	earlier := h.owed // of one call each session stands there once
	for _, l := range lost {
		same := func(o bus.Loss) bool { return o.Session == l.Session }
		if l.Active && !slices.ContainsFunc(earlier, same) {
			h.owed = append(h.owed, l)
		}
	}
	return err
}

// Departed tells the channels that an account which was removed had to do with
// (commands 3, rm_acct). The caller has the turn in which it was removed.
func (h *Hub) Departed(ctx context.Context, user wire.UserID, left []account.Departure) error {
	var failed []error
	for _, d := range left {
		frames := frameOf(wire.AsyncRmChMember, &wire.MemberRemoved{Channel: d.Channel, User: user})
		failed = append(failed, h.memberChanged(ctx, wire.AsyncRmChMember, frames, d.Channel, user))
	}
	return errors.Join(failed...)
}

// frameOf returns what clients get of an async (protocol 5); nil for those that
// they get nothing of.
func frameOf(id wire.AsyncID, payload wire.Payload) []byte {
	t := wire.Bytes
	switch id {
	case wire.AsyncChActFlag:
		return nil
	case wire.AsyncNewChMember, wire.AsyncInvitedToCh, wire.AsyncInviteAccepted:
		t = wire.ChMemberInfo
	case wire.AsyncDelCh:
		t = wire.ChID
	}
	return wire.AppendFrame(nil, t, wire.CmdID(id), 0, wire.Append(nil, payload))
}
