package channels

import (
	"context"

	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

func (c commands) add() *module.Command {
	return c.changing(module.Command{
		Name:  "add_ch",
		Args:  []module.Arg{{Name: "ch_name", Required: true, Doc: "name of the new channel: 4 to 32 characters, no blanks"}},
		Short: "make a channel",
		Long:  "Makes a channel and you its owner. Names that differ only in case are the same. You can be a member of 200 channels at most.",
	}, func(ctx context.Context, who channel.Caller, args module.Args) ([]event, error) {
		out, err := c.Rules.Add(ctx, who, args.String("ch_name"))
		return []event{memberEvent(wire.AsyncNewChMember, out)}, err
	})
}

func (c commands) remove() *module.Command {
	return c.changing(module.Command{
		Name:  "rm_ch",
		Args:  []module.Arg{argChannel},
		Short: "remove a channel",
		Long: "Removes a channel with its members, invites, sub-channels and read-only flags, for good and without a question. " +
			"Its sub-channels close for everybody. Only the owner may do it.",
		Hints: module.Hints{Destructive: true, Confirm: true},
	}, func(ctx context.Context, who channel.Caller, args module.Args) ([]event, error) {
		out, err := c.Rules.Remove(ctx, who, args.String("ch_name"))
		return []event{{wire.AsyncDelCh, &wire.ChannelRef{Channel: out.Channel.ID}, out}}, err
	})
}

func (c commands) rename() *module.Command {
	return c.changing(module.Command{
		Name: "rename_ch",
		Args: []module.Arg{
			argChannel,
			{Name: "new_name", Required: true, Doc: "the new name: 4 to 32 characters, no blanks"},
		},
		Short: "rename a channel",
		Long:  "Gives a channel another name, which may be another case of its own. Only the owner may do it.",
	}, func(ctx context.Context, who channel.Caller, args module.Args) ([]event, error) {
		out, err := c.Rules.Rename(ctx, who, args.String("ch_name"), args.String("new_name"))
		return []event{{wire.AsyncRenameCh, &wire.ChannelRenamed{Channel: out.Channel.ID, Name: out.Channel.Name}, out}}, err
	})
}

func (c commands) addSub() *module.Command {
	return c.changing(module.Command{
		Name: "add_sub_ch",
		Args: []module.Arg{
			argChannel,
			{Name: "sub_name", Required: true, Doc: "name of the new sub-channel: 4 to 32 characters, no blanks"},
		},
		Short: "make a sub-channel",
		Long: "Makes a sub-channel that all members of the channel can open. It gets the lowest id that is free; " +
			"read-only flags that stand for this id apply at once. Owners and admins may do it.",
	}, func(ctx context.Context, who channel.Caller, args module.Args) ([]event, error) {
		out, err := c.Rules.AddSub(ctx, who, args.String("ch_name"), args.String("sub_name"))
		payload := &wire.SubAdded{Channel: out.Channel.ID, Sub: out.Sub.ID, Level: out.Sub.Lowest, Name: out.Sub.Name}
		return []event{{wire.AsyncNewSubCh, payload, out}}, err
	})
}

func (c commands) removeSub() *module.Command {
	return c.changing(module.Command{
		Name:  "rm_sub_ch",
		Args:  []module.Arg{argChannel, argSub},
		Short: "remove a sub-channel",
		Long: "Removes a sub-channel, without a question; it closes for everybody. Its read-only flags stay and apply to " +
			"the next sub-channel that gets its id. Owners and admins may do it.",
		Hints: module.Hints{Destructive: true, Confirm: true},
	}, func(ctx context.Context, who channel.Caller, args module.Args) ([]event, error) {
		out, err := c.Rules.RemoveSub(ctx, who, args.String("ch_name"), args.String("sub_name"))
		return []event{{wire.AsyncRmSubCh, subRef(out), out}}, err
	})
}

func (c commands) renameSub() *module.Command {
	return c.changing(module.Command{
		Name: "rename_sub_ch",
		Args: []module.Arg{
			argChannel, argSub,
			{Name: "new_name", Required: true, Doc: "the new name: 4 to 32 characters, no blanks"},
		},
		Short: "rename a sub-channel",
		Long: "Gives a sub-channel another name, which may be another case of its own. It stays open where it is open. " +
			"Owners and admins may do it.",
	}, func(ctx context.Context, who channel.Caller, args module.Args) ([]event, error) {
		out, err := c.Rules.RenameSub(ctx, who, args.String("ch_name"), args.String("sub_name"), args.String("new_name"))
		payload := &wire.SubRenamed{Channel: out.Channel.ID, Sub: out.Sub.ID, Name: out.Sub.Name}
		return []event{{wire.AsyncRenameSubCh, payload, out}}, err
	})
}

func (c commands) setSubLevel() *module.Command {
	return c.changing(module.Command{
		Name: "set_sub_ch_level",
		Args: []module.Arg{
			argChannel, argSub,
			{Name: "level", Kind: module.Int, Required: true, Min: uint64(wire.Owner), Max: uint64(wire.Public), Doc: "the lowest level that may open it: 1 owner, 2 admin, 3 officer, 4 regular, 5 everybody"},
		},
		Short: "set who may open a sub-channel",
		Long: "Sets the lowest level that may open a sub-channel. It closes for everybody, also when the level stays the same; " +
			"those who still may can open it again. Owners and admins may do it.",
	}, func(ctx context.Context, who channel.Caller, args module.Args) ([]event, error) {
		out, err := c.Rules.SetSubLevel(ctx, who, args.String("ch_name"), args.String("sub_name"), wire.Level(args.Uint("level")))
		payload := &wire.SubLevel{Channel: out.Channel.ID, Sub: out.Sub.ID, Level: out.Sub.Lowest}
		return []event{{wire.AsyncSubChLevelChg, payload, out}}, err
	})
}

// noEffect is what set_active_flag says when every sub-channel is active.
const noEffect = "The flag is stored, but has no effect now: by the host's setting all_channels_active_update every sub-channel is active."

func (c commands) setActive() *module.Command {
	return &module.Command{
		Name:  "set_active_flag",
		Class: module.Ranked,
		Args: []module.Arg{
			argChannel, argSub,
			{Name: "state", Kind: module.Bool, Required: true, Doc: "1: sessions that have it open tell each other about themselves; 0: they do not"},
		},
		Output: []string{"text"},
		Short:  "set whether sessions in a sub-channel show each other",
		Long: "Sets the active flag of a sub-channel: sessions that have it open are told who comes, goes and changes. " +
			"Owners and admins may do it.",
		Hints: module.Hints{Idempotent: true},
		Run:   c.runSetActive,
	}
}

func (c commands) runSetActive(ctx context.Context, call *module.Call) error {
	effect := true
	err := c.change(ctx, call, func(ctx context.Context, who channel.Caller, args module.Args) ([]event, error) {
		out, err := c.Rules.SetActive(ctx, who, args.String("ch_name"), args.String("sub_name"), args.Bool("state"))
		if effect = !c.Settings().AllActive; err != nil || !effect {
			return nil, err
		}
		return []event{{wire.AsyncChActFlag, subRef(out), out}}, nil
	})
	if err == nil && !effect {
		err = call.Line(context.WithoutCancel(ctx), noEffect)
	}
	return err
}

// flagArgs are the arguments of the commands about read-only flags.
var flagArgs = []module.Arg{
	argChannel,
	{Name: "sub_id", Kind: module.Int, Required: true, Max: 255, Doc: "id of the sub-channel, which need not exist"},
	{Name: "level", Kind: module.Int, Required: true, Min: uint64(wire.Owner), Max: uint64(wire.Public), Doc: "the level that may not cast: 1 owner, 2 admin, 3 officer, 4 regular, 5 who is no member"},
}

func (c commands) addFlag() *module.Command {
	return c.changing(module.Command{
		Name:  "add_rdonly_flag",
		Args:  flagArgs,
		Short: "let a level only listen in a sub-channel",
		Long: "Users of exactly this level may open the sub-channel and listen, but not cast. The flag belongs to the id: it outlives " +
			"the sub-channel. The sub-channel closes for everybody and can be opened again. Owners and admins may do it.",
	}, func(ctx context.Context, who channel.Caller, args module.Args) ([]event, error) {
		out, err := c.Rules.AddFlag(ctx, who, args.String("ch_name"), flag(args))
		return []event{flagEvent(wire.AsyncAddRdOnly, out)}, err
	})
}

func (c commands) removeFlag() *module.Command {
	return c.changing(module.Command{
		Name:  "rm_rdonly_flag",
		Args:  flagArgs,
		Short: "let a level cast in a sub-channel again",
		Long: "Takes away what add_rdonly_flag has set. The sub-channel closes for everybody and can be opened again. " +
			"Owners and admins may do it.",
	}, func(ctx context.Context, who channel.Caller, args module.Args) ([]event, error) {
		out, err := c.Rules.RemoveFlag(ctx, who, args.String("ch_name"), flag(args))
		return []event{flagEvent(wire.AsyncRmRdOnly, out)}, err
	})
}

func flag(args module.Args) channel.Flag {
	return channel.Flag{Sub: wire.SubID(args.Uint("sub_id")), Level: wire.Level(args.Uint("level"))}
}

func flagEvent(id wire.AsyncID, out channel.FlagChange) event {
	return event{id, &wire.SubLevel{Channel: out.Channel.ID, Sub: out.Flag.Sub, Level: out.Flag.Level}, out}
}

func subRef(out channel.SubChange) *wire.SubRef {
	return &wire.SubRef{Channel: out.Channel.ID, Sub: out.Sub.ID}
}
