package channels

import (
	"context"
	"errors"
	"slices"

	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/module/listing"
	"mrci.dev/mrci/wire"
)

func (c commands) openSub() *module.Command {
	return &module.Command{
		Name:  "open_sub_ch",
		Class: module.Ranked,
		Args:  []module.Arg{argChannel, argSub},
		Short: "open a sub-channel in this session",
		Long: "Opens a sub-channel: this session gets what is cast there, and casts there unless a read-only flag stands for your level. " +
			"A session can have 6 open.",
		Hints: module.Hints{Idempotent: true},
		Run:   c.runOpenSub,
	}
}

func (c commands) runOpenSub(ctx context.Context, call *module.Call) error {
	who, err := caller(call)
	if err != nil {
		return err
	}
	ch, sub := call.Args.String("ch_name"), call.Args.String("sub_name")
	found, err := c.Rules.Open(ctx, who, ch, sub)
	if err != nil {
		return explain(err)
	}
	room, err := c.Doors.Open(ctx, call.Session().ID, wire.SubRef{Channel: found.Channel.ID, Sub: found.Sub.ID})
	switch {
	case err != nil:
		return explain(err)
	case !room:
		return module.Fail(wire.ExecutionFail, "You have %d sub-channels open, which is the most; close one with close_sub_ch first.", wire.MaxOpenSubs)
	}
	return nil
}

func (c commands) closeSub() *module.Command {
	return &module.Command{
		Name:  "close_sub_ch",
		Class: module.Ranked,
		Args:  []module.Arg{argChannel, argSub},
		Short: "close a sub-channel in this session",
		Long:  "Closes a sub-channel that open_sub_ch has opened. ls_open_chs shows what is open.",
		Hints: module.Hints{Idempotent: true},
		Run: func(ctx context.Context, call *module.Call) error {
			who, err := caller(call)
			if err != nil {
				return err
			}
			found, err := c.Rules.Find(ctx, who, call.Args.String("ch_name"), call.Args.String("sub_name"))
			if err != nil {
				return explain(err)
			}
			return c.Doors.Close(ctx, call.Session().ID, wire.SubRef{Channel: found.Channel.ID, Sub: found.Sub.ID})
		},
	}
}

// The columns of ls_open_chs.
var openColumns = []listing.Column{
	{Name: "channel_name"}, {Name: "sub_channel_name"}, {Name: "channel_id"}, {Name: "sub_channel_id"}, {Name: "read_only"},
}

func (c commands) listOpen() *module.Command {
	return &module.Command{
		Name:   "ls_open_chs",
		Class:  module.Ranked,
		Output: []string{"text"},
		Short:  "list the sub-channels that this session has open",
		Long:   "Lists the sub-channels that this session has open; read_only is 1 where it may listen but not cast.",
		Hints:  module.Hints{ReadOnly: true, Idempotent: true},
		Run: func(ctx context.Context, call *module.Call) error {
			who, err := caller(call)
			if err != nil {
				return err
			}
			open, writable := c.Doors.OpenSubs(call.Session().ID)
			var rows [][]string
			for _, sub := range open.Open() {
				found, err := c.Rules.Rights(ctx, who, sub.Channel, sub.Sub)
				switch {
				case errors.Is(err, channel.ErrNoChannel), errors.Is(err, channel.ErrNoSubChannel):
					continue // just removed: it is about to be closed
				case err != nil:
					return err
				}
				rows = append(rows, []string{
					found.Channel.Name, found.Sub.Name, channelID(sub.Channel), subID(sub.Sub),
					listing.Text(!slices.Contains(writable[:], sub)),
				})
			}
			return call.Text(ctx, "\n"+listing.Table(openColumns, rows))
		},
	}
}

func (c commands) override() *module.Command {
	return &module.Command{
		Name:  "ch_owner_override",
		Class: module.Ranked,
		Args:  []module.Arg{{Name: "state", Kind: module.Bool, Required: true, Doc: "1 sets the override, 0 clears it"}},
		Short: "act as the owner of every channel",
		Long: "While the override is set, this session has the level of an owner in every channel. Its use is logged, and ls_ch_members " +
			"shows it. When it is cleared, sub-channels close that your own level does not allow. Logout clears it, and so does the loss of this command.",
		Hints: module.Hints{Idempotent: true},
		Run: func(ctx context.Context, call *module.Call) error {
			who, err := caller(call)
			if err != nil {
				return err
			}
			on, session := call.Args.Bool("state"), call.Session().ID
			if err := c.Overrides.Set(ctx, session, on); err != nil {
				return err
			}
			c.Log.Info("owner override", "on", on, "session", session, "user", who.User)
			return nil
		},
	}
}
