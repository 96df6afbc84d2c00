package channel

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"mrci.dev/mrci/internal/access"
	"mrci.dev/mrci/internal/names"
	"mrci.dev/mrci/wire"
)

// Numbers of sub-channels (state 4, max_sub_channels).
const (
	defaultSubChannels = 50
	mostSubChannels    = 255
)

// defaultPage is the size of a page of a listing (state 10).
const defaultPage = 50

// Config is what a Service needs. Store is required.
type Config struct {
	Store Store

	MaxSubChannels func() int   // per channel, asked at each use; nil or below 1: 50; at most 255
	Log            *slog.Logger // nil: silent
}

// Service applies the rules for channels to those of a store. It is safe for
// concurrent use.
//
// Its methods return a *RuleError, or an error of the store or of ctx.
type Service struct {
	// fixed after New
	store   Store
	maxSubs func() int
	log     *slog.Logger
}

// New returns a Service.
func New(cfg Config) *Service {
	s := &Service{store: cfg.Store, maxSubs: cfg.MaxSubChannels, log: cfg.Log}
	if s.maxSubs == nil {
		s.maxSubs = func() int { return defaultSubChannels }
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s
}

func (s *Service) subLimit() int {
	n := s.maxSubs()
	if n < 1 {
		n = defaultSubChannels
	}
	return min(n, mostSubChannels)
}

// room is a channel in which a caller acts, within a transaction.
type room struct {
	Channel
	by    User            // who acts, within an Update
	own   access.Standing // of the caller
	level wire.Level      // with which the caller acts
}

// enter finds the channel called name and what the caller is there.
func enter(r Reader, c Caller, name string) (room, error) {
	ch, err := r.Channel(names.Fold(name))
	if err != nil {
		return room{}, err
	}
	own, err := r.Standing(ch.ID, c.User)
	return room{Channel: ch, own: own, level: access.ChannelLevel(own, c.Override)}, err
}

// update runs a transaction on behalf of a caller whose account is as it was
// when the session logged in: it exists and is not locked.
func (s *Service) update(ctx context.Context, what string, c Caller, do func(tx Tx, by User) error) error {
	return doing(what, s.store.Update(ctx, func(tx Tx) error {
		by, locked, err := tx.Caller(c.User)
		switch {
		case err != nil:
			return err
		case locked:
			return ErrCallerLocked
		}
		return do(tx, by)
	}))
}

// within is update in the channel called name.
func (s *Service) within(ctx context.Context, what string, c Caller, name string, do func(tx Tx, at room) error) error {
	return s.update(ctx, what, c, func(tx Tx, by User) error {
		at, err := enter(tx, c, name)
		if err != nil {
			return err
		}
		at.by = by
		return do(tx, at)
	})
}

// hear returns the members of a channel, and others whom something concerns.
func hear(tx Tx, ch wire.ChannelID, also ...wire.UserID) ([]wire.UserID, error) {
	users, err := tx.Audience(ch)
	for _, user := range also {
		if !slices.Contains(users, user) {
			users = append(users, user)
		}
	}
	return users, err
}

// Add makes a channel, whose owner is the caller (add_ch). Besides a broken
// rule for names it returns ErrNameTaken or ErrTooManyChannels.
func (s *Service) Add(ctx context.Context, c Caller, ch string) (MemberChange, error) {
	if err := CheckName(ch); err != nil {
		return MemberChange{}, err
	}
	var out MemberChange
	err := s.update(ctx, "add a channel", c, func(tx Tx, by User) error {
		if err := free(tx, ch, 0); err != nil {
			return err
		}
		if err := mayJoin(tx, by.ID); err != nil {
			return err
		}
		id, err := tx.AddChannel(ch)
		if err != nil {
			return err
		}
		out = MemberChange{
			Channel: Channel{ID: id, Name: ch}, Member: Member{User: by, Level: wire.Owner},
			By: by, Hear: []wire.UserID{by.ID},
		}
		return tx.PutMember(id, by.ID, out.Member.Standing())
	})
	if err != nil {
		return MemberChange{}, err
	}
	s.log.Info("channel added", "channel", out.Channel.ID, "by", c.User)
	return out, nil
}

// free makes sure that no channel but self has the name.
func free(tx Tx, name string, self wire.ChannelID) error {
	switch other, err := tx.Channel(names.Fold(name)); {
	case errors.Is(err, ErrNoChannel):
		return nil
	case err != nil:
		return err
	case other.ID != self:
		return ErrNameTaken
	}
	return nil
}

// mayJoin makes sure that the user may become a member of one channel more.
func mayJoin(tx Tx, user wire.UserID) error {
	channels, _, err := tx.Counts(user)
	if err == nil && channels >= MaxChannels {
		err = ErrTooManyChannels
	}
	return err
}

// Remove removes a channel with its members, invites, sub-channels and flags
// (rm_ch).
func (s *Service) Remove(ctx context.Context, c Caller, ch string) (ChannelChange, error) {
	if err := checkOld(fieldChannel, ch); err != nil {
		return ChannelChange{}, err
	}
	var out ChannelChange
	err := s.within(ctx, "remove a channel", c, ch, func(tx Tx, at room) error {
		if err := need(access.RemoveChannel, at.level); err != nil {
			return err
		}
		out = ChannelChange{Channel: at.Channel, OldName: at.Name, By: at.by}
		var err error
		if out.Hear, err = hear(tx, at.ID); err != nil {
			return err
		}
		if out.Invited, err = tx.Invited(at.ID); err != nil {
			return err
		}
		return tx.RemoveChannel(at.ID)
	})
	if err != nil {
		return ChannelChange{}, err
	}
	s.log.Info("channel removed", "channel", out.Channel.ID, "by", c.User, "override", c.Override)
	return out, nil
}

// Rename gives a channel another name (rename_ch). Another case of its own
// name is another name.
func (s *Service) Rename(ctx context.Context, c Caller, ch, name string) (ChannelChange, error) {
	if err := given(fieldChannel, ch, fieldNew, name); err != nil {
		return ChannelChange{}, err
	}
	if err := checkOld(fieldChannel, ch); err != nil {
		return ChannelChange{}, err
	}
	var out ChannelChange
	err := s.within(ctx, "rename a channel", c, ch, func(tx Tx, at room) error {
		if err := checkNew(fieldNew, name); err != nil {
			return err
		}
		if err := need(access.RenameChannel, at.level); err != nil {
			return err
		}
		if at.Name == name {
			return ErrSameName
		}
		if err := free(tx, name, at.ID); err != nil {
			return err
		}
		if err := tx.RenameChannel(at.ID, name); err != nil {
			return err
		}
		users, err := hear(tx, at.ID)
		out = ChannelChange{Channel: Channel{ID: at.ID, Name: name}, OldName: at.Name, By: at.by, Hear: users}
		return err
	})
	if err != nil {
		return ChannelChange{}, err
	}
	s.log.Info("channel renamed", "channel", out.Channel.ID, "by", c.User, "override", c.Override)
	return out, nil
}
