package channel

import (
	"context"
	"errors"

	"mrci.dev/mrci/internal/access"
	"mrci.dev/mrci/internal/names"
	"mrci.dev/mrci/wire"
)

// AddSub makes a sub-channel with the lowest free id, open to all members
// (add_sub_ch).
func (s *Service) AddSub(ctx context.Context, c Caller, ch, sub string) (SubChange, error) {
	if err := given(fieldChannel, ch, fieldSub, sub); err != nil {
		return SubChange{}, err
	}
	if err := checkOld(fieldChannel, ch); err != nil {
		return SubChange{}, err
	}
	if err := CheckSubName(sub); err != nil {
		return SubChange{}, err
	}
	var out SubChange
	err := s.within(ctx, "add a sub-channel", c, ch, func(tx Tx, at room) error {
		if err := need(access.AddSubChannel, at.level); err != nil {
			return err
		}
		if err := subFree(tx, at, sub, nil); err != nil {
			return err
		}
		ids, err := tx.SubIDs(at.ID)
		if err != nil {
			return err
		}
		if len(ids) >= s.subLimit() {
			return ErrSubChannelsFull
		}
		out = SubChange{Channel: at.Channel, Sub: SubChannel{ID: lowestFree(ids), Name: sub, Lowest: wire.Regular}, By: at.by}
		if err := tx.PutSubChannel(at.ID, out.Sub); err != nil {
			return err
		}
		out.Hear, err = hear(tx, at.ID)
		return err
	})
	if err != nil {
		return SubChange{}, err
	}
	s.logSub("sub-channel added", c, out)
	return out, nil
}

// lowestFree returns the lowest id that is not among ids, which ascend and are
// not all that there can be.
func lowestFree(ids []wire.SubID) wire.SubID {
	for i, id := range ids {
		if int(id) != i {
			return wire.SubID(i)
		}
	}
	return wire.SubID(len(ids))
}

// subFree makes sure that no sub-channel but self has the name.
func subFree(tx Tx, at room, name string, self *SubChannel) error {
	switch other, err := tx.SubChannel(at.ID, names.Fold(name)); {
	case errors.Is(err, ErrNoSubChannel):
		return nil
	case err != nil:
		return err
	case self == nil || other.ID != self.ID:
		return ErrSubNameTaken
	}
	return nil
}

func (s *Service) logSub(what string, c Caller, out SubChange) {
	s.log.Info(what, "channel", out.Channel.ID, "sub", out.Sub.ID, "by", c.User, "override", c.Override)
}

// sub runs a change of the sub-channel called name: check looks at the other
// arguments, then comes the level, then change.
func (s *Service) sub(ctx context.Context, what string, a access.ChannelAction, c Caller, ch, name string, check func() error, change func(tx Tx, at room, out *SubChange) error) (SubChange, error) {
	if err := checkOld(fieldChannel, ch); err != nil {
		return SubChange{}, err
	}
	if err := checkOld(fieldSub, name); err != nil {
		return SubChange{}, err
	}
	var out SubChange
	err := s.within(ctx, what, c, ch, func(tx Tx, at room) error {
		if err := check(); err != nil {
			return err
		}
		if err := need(a, at.level); err != nil {
			return err
		}
		old, err := tx.SubChannel(at.ID, names.Fold(name))
		if err != nil {
			return err
		}
		out = SubChange{Channel: at.Channel, Sub: old, Old: old, By: at.by}
		if err := change(tx, at, &out); err != nil {
			return err
		}
		out.Hear, err = hear(tx, at.ID)
		return err
	})
	if err != nil {
		return SubChange{}, err
	}
	return out, nil
}

// nothing checks nothing.
func nothing() error { return nil }

// RemoveSub removes a sub-channel (rm_sub_ch). Its read-only flags stay.
func (s *Service) RemoveSub(ctx context.Context, c Caller, ch, sub string) (SubChange, error) {
	if err := given(fieldChannel, ch, fieldSub, sub); err != nil {
		return SubChange{}, err
	}
	out, err := s.sub(ctx, "remove a sub-channel", access.RemoveSubChannel, c, ch, sub, nothing,
		func(tx Tx, at room, out *SubChange) error { return tx.RemoveSubChannel(at.ID, out.Old.ID) })
	if err == nil {
		s.logSub("sub-channel removed", c, out)
	}
	return out, err
}

// RenameSub gives a sub-channel another name (rename_sub_ch). Another case of
// its own name is another name.
func (s *Service) RenameSub(ctx context.Context, c Caller, ch, sub, name string) (SubChange, error) {
	if err := given(fieldChannel, ch, fieldSub, sub, fieldNew, name); err != nil {
		return SubChange{}, err
	}
	out, err := s.sub(ctx, "rename a sub-channel", access.RenameSubChannel, c, ch, sub,
		func() error { return checkNew(fieldNew, name) },
		func(tx Tx, at room, out *SubChange) error {
			if out.Old.Name == name {
				return ErrSameName
			}
			if err := subFree(tx, at, name, &out.Old); err != nil {
				return err
			}
			out.Sub.Name = name
			return tx.PutSubChannel(at.ID, out.Sub)
		})
	if err == nil {
		s.logSub("sub-channel renamed", c, out)
	}
	return out, err
}

// SetSubLevel sets the lowest level that may open a sub-channel
// (set_sub_ch_level). The level that it has already is a change too.
func (s *Service) SetSubLevel(ctx context.Context, c Caller, ch, sub string, level wire.Level) (SubChange, error) {
	if err := given(fieldChannel, ch, fieldSub, sub); err != nil {
		return SubChange{}, err
	}
	out, err := s.sub(ctx, "set the level of a sub-channel", access.SetSubChannelLevel, c, ch, sub,
		func() error { return checkLevel(level, wire.Public) },
		func(tx Tx, at room, out *SubChange) error {
			out.Sub.Lowest = level
			return tx.PutSubChannel(at.ID, out.Sub)
		})
	if err == nil {
		s.logSub("level of a sub-channel set", c, out)
	}
	return out, err
}

// SetActive sets the active-update flag of a sub-channel (set_active_flag).
func (s *Service) SetActive(ctx context.Context, c Caller, ch, sub string, active bool) (SubChange, error) {
	if err := given(fieldChannel, ch, fieldSub, sub); err != nil {
		return SubChange{}, err
	}
	out, err := s.sub(ctx, "set the active flag of a sub-channel", access.SetActiveFlag, c, ch, sub, nothing,
		func(tx Tx, at room, out *SubChange) error {
			out.Sub.Active = active
			return tx.PutSubChannel(at.ID, out.Sub)
		})
	if err == nil {
		s.logSub("active flag of a sub-channel set", c, out)
	}
	return out, err
}

// AddFlag sets a read-only flag (add_rdonly_flag). The sub-channel need not
// exist.
func (s *Service) AddFlag(ctx context.Context, c Caller, ch string, f Flag) (FlagChange, error) {
	return s.flag(ctx, "add a read-only flag", access.AddReadOnlyFlag, c, ch, f, func(tx Tx, at room) error {
		added, err := tx.AddFlag(at.ID, f)
		if err == nil && !added {
			err = ErrFlagExists
		}
		return err
	})
}

// RemoveFlag removes a read-only flag (rm_rdonly_flag).
func (s *Service) RemoveFlag(ctx context.Context, c Caller, ch string, f Flag) (FlagChange, error) {
	return s.flag(ctx, "remove a read-only flag", access.RemoveReadOnlyFlag, c, ch, f, func(tx Tx, at room) error {
		removed, err := tx.RemoveFlag(at.ID, f)
		if err == nil && !removed {
			err = ErrNoFlag
		}
		return err
	})
}

func (s *Service) flag(ctx context.Context, what string, a access.ChannelAction, c Caller, ch string, f Flag, change func(tx Tx, at room) error) (FlagChange, error) {
	if err := checkOld(fieldChannel, ch); err != nil {
		return FlagChange{}, err
	}
	var out FlagChange
	err := s.within(ctx, what, c, ch, func(tx Tx, at room) error {
		if err := checkLevel(f.Level, wire.Public); err != nil {
			return err
		}
		if err := need(a, at.level); err != nil {
			return err
		}
		if err := change(tx, at); err != nil {
			return err
		}
		name, err := tx.SubName(at.ID, f.Sub)
		if err != nil && !errors.Is(err, ErrNoSubChannel) {
			return err
		}
		out = FlagChange{Channel: at.Channel, Flag: f, SubName: name, By: at.by}
		out.Hear, err = hear(tx, at.ID)
		return err
	})
	if err != nil {
		return FlagChange{}, err
	}
	s.log.Info("read-only flag changed", "what", what, "channel", out.Channel.ID, "sub", f.Sub, "level", f.Level, "by", c.User, "override", c.Override)
	return out, nil
}
