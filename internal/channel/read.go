package channel

import (
	"context"

	"mrci.dev/mrci/internal/access"
	"mrci.dev/mrci/internal/names"
	"mrci.dev/mrci/wire"
)

// Rights returns what the caller may do in a sub-channel as it is stored now,
// ErrNoChannel or ErrNoSubChannel. It is one query.
func (s *Service) Rights(ctx context.Context, c Caller, ch wire.ChannelID, sub wire.SubID) (Rights, error) {
	f, err := s.store.Facts(ctx, c.User, ch, sub)
	if err != nil {
		return Rights{}, doing("read the rights in a sub-channel", err)
	}
	return f.rights(c), nil
}

// Find is Rights for a channel and a sub-channel that somebody names, whatever
// the rights are (close_sub_ch).
func (s *Service) Find(ctx context.Context, c Caller, ch, sub string) (Rights, error) {
	f, err := s.find(ctx, c, ch, sub)
	if err != nil {
		return Rights{}, err
	}
	return f.rights(c), nil
}

func (s *Service) find(ctx context.Context, c Caller, ch, sub string) (Facts, error) {
	if err := given(fieldChannel, ch, fieldSub, sub); err != nil {
		return Facts{}, err
	}
	f, err := s.store.FactsByName(ctx, c.User, names.Fold(ch), names.Fold(sub))
	return f, doing("look for a sub-channel", err)
}

// Open is Find for who wants to open the sub-channel: an error if the caller's
// level is not enough (open_sub_ch).
func (s *Service) Open(ctx context.Context, c Caller, ch, sub string) (Rights, error) {
	f, err := s.find(ctx, c, ch, sub)
	if err != nil {
		return Rights{}, err
	}
	r := f.rights(c)
	if !r.MayOpen() {
		return Rights{}, outside(f.Standing, f.Sub.Lowest, r.Level)
	}
	return r, nil
}

// rights judges what is stored.
func (f Facts) rights(c Caller) Rights {
	level := access.ChannelLevel(f.Standing, c.Override)
	return Rights{Channel: f.Channel, Sub: f.Sub, Level: level, ReadOnly: !access.MayCast(level, f.Flags...)}
}

// Channels lists channels by part of their name or by id (find_ch). Like all
// listings it comes in the order in which the rows were stored, with a page of
// 50 rows if limit is below 1; the zero Cursor is the first page.
func (s *Service) Channels(ctx context.Context, f Find, after Cursor, limit int) (Page[Channel], error) {
	if f.Name != "" {
		if checkOld(fieldChannel, f.Name) != nil {
			return Page[Channel]{}, errPart
		}
		f.ID, f.ByID = 0, false
	}
	return list(ctx, s, "list channels", func(r Reader) (Page[Channel], error) {
		return r.Channels(f, after, pageSize(limit))
	})
}

// Memberships lists the channels and the pending invites of a user
// (ls_chs).
func (s *Service) Memberships(ctx context.Context, user wire.UserID, after Cursor, limit int) (Page[Membership], error) {
	return list(ctx, s, "list the channels of a user", func(r Reader) (Page[Membership], error) {
		return r.Memberships(user, after, pageSize(limit))
	})
}

// SubChannels lists the sub-channels of a channel that the caller may see: who
// is no member sees those that are open to the public (ls_sub_chs).
func (s *Service) SubChannels(ctx context.Context, c Caller, ch string, after Cursor, limit int) (Channel, Page[SubChannel], error) {
	return listIn(ctx, s, "list sub-channels", c, ch, func(r Reader, at room) (Page[SubChannel], error) {
		return r.SubChannels(at.ID, at.publicOnly(), after, pageSize(limit))
	})
}

// Members lists the members of a channel and who is invited; it is for members
// (ls_ch_members).
func (s *Service) Members(ctx context.Context, c Caller, ch string, f MemberFilter, after Cursor, limit int) (Channel, Page[Member], error) {
	return listIn(ctx, s, "list members", c, ch, func(r Reader, at room) (Page[Member], error) {
		if !access.MayInChannel(access.ListMembers, at.level) {
			return Page[Member]{}, outside(at.own, access.NeededLevel(access.ListMembers), at.level)
		}
		return r.Members(at.ID, f, after, pageSize(limit))
	})
}

// Flags lists the read-only flags of a channel that the caller may see: who is
// no member sees those of sub-channels that are open to the public
// (ls_rdonly_flags).
func (s *Service) Flags(ctx context.Context, c Caller, ch string, after Cursor, limit int) (Channel, Page[Flag], error) {
	return listIn(ctx, s, "list read-only flags", c, ch, func(r Reader, at room) (Page[Flag], error) {
		return r.Flags(at.ID, at.publicOnly(), after, pageSize(limit))
	})
}

// publicOnly reports whether the caller is not shown what belongs to
// sub-channels for members.
func (at room) publicOnly() bool { return !access.MaySeeSubChannel(at.level, wire.Regular) }

func pageSize(limit int) int {
	if limit < 1 {
		return defaultPage
	}
	return limit
}

// list reads a page.
func list[R any](ctx context.Context, s *Service, what string, read func(Reader) (Page[R], error)) (Page[R], error) {
	var page Page[R]
	err := s.store.View(ctx, func(r Reader) (err error) {
		page, err = read(r)
		return err
	})
	if err != nil {
		return Page[R]{}, doing(what, err)
	}
	return page, nil
}

// listIn reads a page of what belongs to a channel.
func listIn[R any](ctx context.Context, s *Service, what string, c Caller, ch string, read func(Reader, room) (Page[R], error)) (Channel, Page[R], error) {
	if err := checkOld(fieldChannel, ch); err != nil {
		return Channel{}, Page[R]{}, err
	}
	var at room
	page, err := list(ctx, s, what, func(r Reader) (page Page[R], err error) {
		if at, err = enter(r, c, ch); err != nil {
			return page, err
		}
		return read(r, at)
	})
	if err != nil {
		return Channel{}, Page[R]{}, err
	}
	return at.Channel, page, nil
}
