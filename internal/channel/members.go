package channel

import (
	"context"

	"mrci.dev/mrci/internal/access"
	"mrci.dev/mrci/internal/names"
	"mrci.dev/mrci/wire"
)

// Invite invites the user called name (invite_to_ch). The limits come last:
// ErrInvitesFull of the channel, ErrUserFull of the user.
func (s *Service) Invite(ctx context.Context, c Caller, ch, name string) (MemberChange, error) {
	return s.member(ctx, "invite a user", c, ch, name, func(tx Tx, at room, m Member) (MemberChange, error) {
		none := MemberChange{}
		switch err := need(access.Invite, at.level); {
		case err != nil:
			return none, err
		case m.Pending:
			return none, ErrInvited
		case m.Level != 0:
			return none, ErrMember
		}
		n, err := tx.InviteCount(at.ID)
		if err == nil && n >= MaxChannelInvites {
			err = ErrInvitesFull
		}
		if err != nil {
			return none, err
		}
		channels, invites, err := tx.Counts(m.ID)
		// Who has more than a login can tell of would not see the invite.
		if err == nil && (invites >= MaxInvites || channels+invites >= MaxChannels) {
			err = ErrUserFull
		}
		if err != nil {
			return none, err
		}
		return put(tx, at, m, access.Standing{Level: wire.Regular, Pending: true})
	})
}

// member runs a change of one user in a channel.
func (s *Service) member(ctx context.Context, what string, c Caller, ch, name string, change func(tx Tx, at room, m Member) (MemberChange, error)) (MemberChange, error) {
	if err := given(fieldChannel, ch, fieldUser, name); err != nil {
		return MemberChange{}, err
	}
	if err := checkOld(fieldChannel, ch); err != nil {
		return MemberChange{}, err
	}
	var out MemberChange
	err := s.within(ctx, what, c, ch, func(tx Tx, at room) error {
		if err := checkUser(name); err != nil {
			return err
		}
		m, err := find(tx, at, name)
		if err != nil {
			return err
		}
		out, err = change(tx, at, m)
		return err
	})
	if err != nil {
		return MemberChange{}, err
	}
	s.logMember(what, c, out)
	return out, nil
}

// logMember notes a change of a member; what is what was done.
func (s *Service) logMember(what string, c Caller, out MemberChange) {
	s.log.Info("channel membership changed", "what", what, "channel", out.Channel.ID, "user", out.Member.ID, "by", c.User, "override", c.Override)
}

// find returns the user called name and what it is in the channel; Level 0:
// nothing.
func find(tx Tx, at room, name string) (Member, error) {
	user, err := tx.User(names.Fold(name))
	if err != nil {
		return Member{}, err
	}
	standing, err := tx.Standing(at.ID, user.ID)
	return Member{User: user, Level: standing.Level, Pending: standing.Pending}, err
}

// put stores what a member is from now on.
func put(tx Tx, at room, old Member, now access.Standing) (MemberChange, error) {
	if err := tx.PutMember(at.ID, old.ID, now); err != nil {
		return MemberChange{}, err
	}
	users, err := hear(tx, at.ID, old.ID)
	return MemberChange{
		Channel: at.Channel, Member: Member{User: old.User, Level: now.Level, Pending: now.Pending},
		OldLevel: old.Level, WasPending: old.Pending, By: at.by, Hear: users,
	}, err
}

// drop removes a member or an invite.
func drop(tx Tx, at room, old Member) (MemberChange, error) {
	if err := tx.RemoveMember(at.ID, old.ID); err != nil {
		return MemberChange{}, err
	}
	users, err := hear(tx, at.ID, old.ID)
	return MemberChange{
		Channel: at.Channel, Member: old, OldLevel: old.Level, WasPending: old.Pending, By: at.by, Hear: users,
	}, err
}

// Accept makes the caller a regular member of a channel that it is invited to
// (accept_ch). It returns ErrNoInvite, or ErrTooManyChannels.
func (s *Service) Accept(ctx context.Context, c Caller, ch string) (MemberChange, error) {
	return s.answer(ctx, "accept an invite", c, ch, func(tx Tx, at room, m Member) (MemberChange, error) {
		if err := mayJoin(tx, m.ID); err != nil {
			return MemberChange{}, err
		}
		return put(tx, at, m, access.Standing{Level: wire.Regular})
	})
}

// Decline removes the caller's invite to a channel (decline_ch).
func (s *Service) Decline(ctx context.Context, c Caller, ch string) (MemberChange, error) {
	return s.answer(ctx, "decline an invite", c, ch, drop)
}

// answer runs what a caller does with a pending invite.
func (s *Service) answer(ctx context.Context, what string, c Caller, ch string, change func(tx Tx, at room, m Member) (MemberChange, error)) (MemberChange, error) {
	if err := checkOld(fieldChannel, ch); err != nil {
		return MemberChange{}, err
	}
	var out MemberChange
	err := s.within(ctx, what, c, ch, func(tx Tx, at room) error {
		if !at.own.Pending {
			return ErrNoInvite
		}
		var err error
		out, err = change(tx, at, Member{User: at.by, Level: at.own.Level, Pending: true})
		return err
	})
	if err != nil {
		return MemberChange{}, err
	}
	s.logMember(what, c, out)
	return out, nil
}

// RemoveMember removes a member, or takes an invite back; members leave with
// it too, and who is invited can decline with it (remove_ch_member).
func (s *Service) RemoveMember(ctx context.Context, c Caller, ch, name string) (MemberChange, error) {
	return s.member(ctx, "remove a member", c, ch, name, func(tx Tx, at room, m Member) (MemberChange, error) {
		self := m.ID == at.by.ID
		switch {
		case self && m.Level == wire.Owner:
			return MemberChange{}, ErrOwnerStays
		case m.Level == 0 && !self && !access.MayInChannel(access.ListMembers, at.level):
			// Who may not see the members does not learn here who is none.
			return MemberChange{}, denied(wire.Officer, at.level)
		case m.Level == 0:
			return MemberChange{}, ErrNotMember
		case access.MayRemoveMember(at.level, m.Standing(), self):
			return drop(tx, at, m)
		case !access.MayInvite(at.level):
			return MemberChange{}, denied(wire.Officer, at.level)
		case m.Level == wire.Owner:
			return MemberChange{}, refused("the owner of a channel cannot be removed; the channel needs another owner first")
		}
		return MemberChange{}, outranked(at.level, m.Level)
	})
}

// outranked says that a caller and a member have levels that are too close.
func outranked(level, member wire.Level) error {
	needed := member - 1
	return denied(needed, level)
}

// SetLevel gives the member called name another level (set_member_level). The
// level of an owner makes it the owner; the former one becomes an admin in the
// same transaction. There is one change, or there are two then: that of the
// member comes first.
func (s *Service) SetLevel(ctx context.Context, c Caller, ch, name string, level wire.Level) ([]MemberChange, error) {
	if err := given(fieldChannel, ch, fieldUser, name); err != nil {
		return nil, err
	}
	if err := checkOld(fieldChannel, ch); err != nil {
		return nil, err
	}
	var out []MemberChange
	err := s.within(ctx, "change the level of a member", c, ch, func(tx Tx, at room) error {
		if err := checkUser(name); err != nil {
			return err
		}
		if err := checkLevel(level, wire.Regular); err != nil {
			return err
		}
		m, err := find(tx, at, name)
		if err != nil {
			return err
		}
		if !access.MaySetLevel(at.level, m.Standing(), level) {
			return whyNotLevel(at.level, m, level)
		}
		if level == wire.Owner {
			out, err = transfer(tx, at, m)
			return err
		}
		change, err := put(tx, at, m, access.Standing{Level: level})
		out = []MemberChange{change}
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, change := range out {
		s.logMember("change the level of a member", c, change)
	}
	return out, nil
}

// transfer makes m the owner, and an admin of the former one.
func transfer(tx Tx, at room, m Member) ([]MemberChange, error) {
	former, err := tx.Owner(at.ID)
	if err != nil {
		return nil, err
	}
	// First the former one: at no time are there two.
	second, err := put(tx, at, Member{User: former, Level: wire.Owner}, access.Standing{Level: wire.Admin})
	if err != nil {
		return nil, err
	}
	first, err := put(tx, at, m, access.Standing{Level: wire.Owner})
	return []MemberChange{first, second}, err
}

// whyNotLevel says why a caller may not give a member a level.
func whyNotLevel(level wire.Level, m Member, wanted wire.Level) error {
	switch {
	case !level.AtLeast(wire.Officer):
		return denied(wire.Officer, level)
	case m.Pending:
		return ErrPending
	case m.Level == 0:
		return ErrNotMember
	case m.Level == wire.Owner:
		return refused("the level of a channel's owner cannot be changed; make another member the owner instead")
	case !level.Outranks(m.Level):
		return outranked(level, m.Level)
	}
	return denied(wanted, level)
}
