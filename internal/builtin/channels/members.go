package channels

import (
	"context"

	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

func (c commands) invite() *module.Command {
	return c.changing(module.Command{
		Name:  "invite_to_ch",
		Args:  []module.Arg{argChannel, argUser},
		Short: "invite a user to a channel",
		Long: "Invites a user to a channel; with accept_ch the user becomes a regular member. remove_ch_member takes the invite back. " +
			"Owners, admins and officers may do it.",
	}, func(ctx context.Context, who channel.Caller, args module.Args) ([]event, error) {
		out, err := c.Rules.Invite(ctx, who, args.String("ch_name"), args.String("user"))
		return []event{memberEvent(wire.AsyncInvitedToCh, out)}, err
	})
}

func (c commands) accept() *module.Command {
	return c.changing(module.Command{
		Name:  "accept_ch",
		Args:  []module.Arg{argChannel},
		Short: "accept an invite to a channel",
		Long:  "Accepts your invite to a channel: you become a regular member. ls_chs shows your invites.",
	}, func(ctx context.Context, who channel.Caller, args module.Args) ([]event, error) {
		out, err := c.Rules.Accept(ctx, who, args.String("ch_name"))
		return []event{memberEvent(wire.AsyncInviteAccepted, out)}, err
	})
}

func (c commands) decline() *module.Command {
	return c.changing(module.Command{
		Name:  "decline_ch",
		Args:  []module.Arg{argChannel},
		Short: "decline an invite to a channel",
		Long:  "Declines your invite to a channel. ls_chs shows your invites.",
	}, func(ctx context.Context, who channel.Caller, args module.Args) ([]event, error) {
		out, err := c.Rules.Decline(ctx, who, args.String("ch_name"))
		return []event{removedEvent(out)}, err
	})
}

func (c commands) removeMember() *module.Command {
	return c.changing(module.Command{
		Name:  "remove_ch_member",
		Args:  []module.Arg{argChannel, argUser},
		Short: "remove a member of a channel, or leave it",
		Long: "Removes a member of a channel, or takes an invite back. With your own user name you leave the channel, which only the " +
			"owner cannot. Others you can remove if your level is above theirs; invites can be taken back by owners, admins and officers.",
	}, func(ctx context.Context, who channel.Caller, args module.Args) ([]event, error) {
		out, err := c.Rules.RemoveMember(ctx, who, args.String("ch_name"), args.String("user"))
		return []event{removedEvent(out)}, err
	})
}

func (c commands) setLevel() *module.Command {
	return c.changing(module.Command{
		Name: "set_member_level",
		Args: []module.Arg{
			argChannel, argUser,
			{Name: "level", Kind: module.Int, Required: true, Min: uint64(wire.Owner), Max: uint64(wire.Regular), Doc: "the new level: 1 owner, 2 admin, 3 officer, 4 regular"},
		},
		Short: "set the level of a member of a channel",
		Long: "Gives a member of a channel another level, up to your own, if your level is above the member's. " +
			"With level 1 the member becomes the owner, and the former owner an admin. " +
			"The channel's sub-channels close for those whose level is set, and can be opened again.",
	}, func(ctx context.Context, who channel.Caller, args module.Args) ([]event, error) {
		out, err := c.Rules.SetLevel(ctx, who, args.String("ch_name"), args.String("user"), wire.Level(args.Uint("level")))
		events := make([]event, len(out))
		for i, change := range out {
			payload := &wire.MemberLevel{Channel: change.Channel.ID, User: change.Member.ID, Level: change.Member.Level}
			events[i] = event{wire.AsyncMemLevelChg, payload, change}
		}
		return events, err
	})
}

// memberEvent is an event about a user that tells all about the member.
func memberEvent(id wire.AsyncID, out channel.MemberChange) event {
	m := out.Member
	return event{id, &wire.Member{
		Channel: out.Channel.ID, User: m.ID, Invite: m.Pending, Level: m.Level,
		Name: m.Name, Display: m.Display, ChannelName: out.Channel.Name,
	}, out}
}

func removedEvent(out channel.MemberChange) event {
	return event{wire.AsyncRmChMember, &wire.MemberRemoved{Channel: out.Channel.ID, User: out.Member.ID}, out}
}
