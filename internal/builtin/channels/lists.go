package channels

import (
	"context"
	"fmt"

	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/module/listing"
	"mrci.dev/mrci/wire"
)

// table is a listing of rows of the rules, page by page.
type table[R any] struct {
	columns []listing.Column
	// filtered: the filters of columns are applied here, and not by the rules.
	// That reads all rows for a page: it is for tables that are bounded.
	filtered bool
	// read returns a page of what the caller may see at that moment.
	read  func(ctx context.Context, who channel.Caller, after channel.Cursor, limit int) (channel.Page[R], error)
	cells func(R) []string
}

// filteredPage is how many rows are read at once to filter them.
const filteredPage = 500

// run shows the table. Who the caller is, and what it may see, is looked at
// for each page: a question between pages can wait for long.
func (t table[R]) run(ctx context.Context, call *module.Call) error {
	shown := 0
	l := listing.Listing[channel.Cursor]{
		Columns: t.columns,
		Rows: func(ctx context.Context, call *module.Call, r listing.Request[channel.Cursor]) (listing.Page[channel.Cursor], error) {
			who, err := caller(call)
			if err != nil {
				return listing.Page[channel.Cursor]{}, err
			}
			read := func(after channel.Cursor, limit int) (channel.Page[R], error) {
				page, err := t.read(ctx, who, after, limit)
				return page, explain(err)
			}
			if !t.filtered || len(r.Filter) == 0 {
				page, err := read(r.After, r.Limit)
				return listing.Page[channel.Cursor]{Rows: t.rows(page, nil), Next: page.Next, More: page.More, Total: page.Total}, err
			}
			out, behind, err := t.filter(r, read)
			shown += len(out.Rows)
			out.More, out.Total = behind > 0, shown+behind
			return out, err
		},
	}
	return l.Run(ctx, call)
}

// filter returns a page of rows that match, and how many there are behind it.
func (t table[R]) filter(r listing.Request[channel.Cursor], read func(after channel.Cursor, limit int) (channel.Page[R], error)) (out listing.Page[channel.Cursor], behind int, err error) {
	page := channel.Page[R]{Next: r.After, More: true}
	for page.More && len(out.Rows) < r.Limit { // the page ends where a page of the rules does
		if page, err = read(page.Next, r.Limit-len(out.Rows)); err != nil {
			return out, 0, err
		}
		out.Rows = append(out.Rows, t.rows(page, r.Filter)...)
	}
	out.Next = page.Next
	for page.More {
		if page, err = read(page.Next, filteredPage); err != nil {
			return out, 0, err
		}
		behind += len(t.rows(page, r.Filter))
	}
	return out, behind, nil
}

func (t table[R]) rows(page channel.Page[R], filter map[string]string) [][]string {
	rows := make([][]string, len(page.Rows))
	for i, r := range page.Rows {
		rows[i] = t.cells(r)
	}
	return listing.FromSlice(rows, t.columns, listing.Request[int]{Filter: filter, Limit: len(rows)}).Rows
}

// What stands in cells.
func channelID(id wire.ChannelID) string { return fmt.Sprint(uint64(id)) }
func subID(id wire.SubID) string         { return fmt.Sprint(uint8(id)) }
func level(l wire.Level) string          { return fmt.Sprint(uint8(l)) }

// readOnly are the hints of listings.
var readOnly = module.Hints{ReadOnly: true, Idempotent: true}

// The columns of the listings.
var (
	findColumns = []listing.Column{
		{Name: "channel_id", Doc: "id of the channel"},
		{Name: "channel_name", Doc: "name of the channel"},
	}

	listColumns = []listing.Column{
		{Name: "channel_id", Doc: "id of the channel"},
		{Name: "channel_name", Doc: "name of the channel"},
		{Name: "pending_invite", Doc: "1 for an invite that you have not answered"},
		{Name: "access_level", Doc: "your level"},
	}

	subColumns = []listing.Column{
		{Name: "sub_channel_id", Doc: "id of the sub-channel"},
		{Name: "sub_channel_name", Doc: "name of the sub-channel"},
		{Name: "lowest_access_level", Doc: "the lowest level that may open it"},
		{Name: "active_updates", Doc: "1 if it has the active flag"},
	}

	flagColumns = []listing.Column{
		{Name: "channel_name", Doc: "name of the channel, the same in all rows"},
		{Name: "channel_id", Doc: "id of the channel, the same in all rows"},
		{Name: "sub_channel_id", Doc: "id of the sub-channel, which need not exist"},
		{Name: "access_level", Doc: "the level that may not cast"},
	}

	memberColumns = []listing.Column{
		{Name: "channel_id", Doc: "id of the channel, the same in all rows"},
		{Name: "user_name", Doc: "user name"},
		{Name: "display_name", Doc: "display name"},
		{Name: "user_id", Doc: "user id in hex; the filter is its beginning"},
		{Name: "pending_invite", Doc: "1 for an invite that is not answered"},
		{Name: "access_level", Doc: "the member's level"},
		{Name: "owner_override"}, // sessions know it, so the store cannot filter it
	}
)

func (c commands) find() *module.Command {
	return &module.Command{
		Name:  "find_ch",
		Class: module.Ranked,
		Args: append([]module.Arg{
			{Name: "name", Doc: "only channels whose name contains this text of 4 to 32 characters; counts if both are given"},
			{Name: "id", Kind: module.Int, Doc: "only the channel with this id"},
		}, listing.Args(findColumns)...),
		Output: []string{"text"},
		Short:  "find channels",
		Long:   "Lists the channels of this host by a part of the name or by id, or all of them, 50 on a page, or all with -all.",
		Hints:  readOnly,
		Run: func(ctx context.Context, call *module.Call) error {
			f := channel.Find{
				Name: call.Args.String("name"),
				ID:   wire.ChannelID(call.Args.Uint("id")), ByID: call.Args.Has("id"),
				PartOfID: call.Args.String("channel_id"), PartOfName: call.Args.String("channel_name"),
			}
			return table[channel.Channel]{
				columns: findColumns,
				read: func(ctx context.Context, _ channel.Caller, after channel.Cursor, limit int) (channel.Page[channel.Channel], error) {
					return c.Rules.Channels(ctx, f, after, limit)
				},
				cells: func(ch channel.Channel) []string { return []string{channelID(ch.ID), ch.Name} },
			}.run(ctx, call)
		},
	}
}

func (c commands) list() *module.Command {
	return &module.Command{
		Name:   "ls_chs",
		Class:  module.Ranked,
		Args:   listing.Args(listColumns),
		Output: []string{"text"},
		Short:  "list your channels and invites",
		Long:   "Lists the channels of which you are a member, and your invites, 50 on a page, or all with -all.",
		Hints:  readOnly,
		Run: table[channel.Membership]{
			columns: listColumns, filtered: true,
			read: func(ctx context.Context, who channel.Caller, after channel.Cursor, limit int) (channel.Page[channel.Membership], error) {
				return c.Rules.Memberships(ctx, who.User, after, limit)
			},
			cells: func(m channel.Membership) []string {
				return []string{channelID(m.Channel.ID), m.Channel.Name, listing.Text(m.Pending), level(m.Level)}
			},
		}.run,
	}
}

func (c commands) listSubs() *module.Command {
	return &module.Command{
		Name:   "ls_sub_chs",
		Class:  module.Ranked,
		Args:   append([]module.Arg{argChannel}, listing.Args(subColumns)...),
		Output: []string{"text"},
		Short:  "list the sub-channels of a channel",
		Long: "Lists the sub-channels of a channel, 50 on a page, or all with -all. " +
			"Who is no member sees only those that everybody may open.",
		Hints: readOnly,
		Run: func(ctx context.Context, call *module.Call) error {
			return table[channel.SubChannel]{
				columns: subColumns, filtered: true,
				read: func(ctx context.Context, who channel.Caller, after channel.Cursor, limit int) (channel.Page[channel.SubChannel], error) {
					_, page, err := c.Rules.SubChannels(ctx, who, call.Args.String("ch_name"), after, limit)
					return page, err
				},
				cells: func(s channel.SubChannel) []string {
					return []string{subID(s.ID), s.Name, level(s.Lowest), listing.Text(s.Active)}
				},
			}.run(ctx, call)
		},
	}
}

func (c commands) listFlags() *module.Command {
	return &module.Command{
		Name:   "ls_rdonly_flags",
		Class:  module.Ranked,
		Args:   append([]module.Arg{argChannel}, listing.Args(flagColumns)...),
		Output: []string{"text"},
		Short:  "list the read-only flags of a channel",
		Long: "Lists the read-only flags of a channel: where users of a level may listen but not cast, 50 on a page, or all with -all. " +
			"Who is no member sees only those of sub-channels that everybody may open.",
		Hints: readOnly,
		Run: func(ctx context.Context, call *module.Call) error {
			var in channel.Channel // of the page that was read last
			return table[channel.Flag]{
				columns: flagColumns, filtered: true,
				read: func(ctx context.Context, who channel.Caller, after channel.Cursor, limit int) (page channel.Page[channel.Flag], err error) {
					in, page, err = c.Rules.Flags(ctx, who, call.Args.String("ch_name"), after, limit)
					return page, err
				},
				cells: func(f channel.Flag) []string {
					return []string{in.Name, channelID(in.ID), subID(f.Sub), level(f.Level)}
				},
			}.run(ctx, call)
		},
	}
}

func (c commands) listMembers() *module.Command {
	return &module.Command{
		Name:  "ls_ch_members",
		Class: module.Ranked,
		Args: append([]module.Arg{
			argChannel,
			{Name: "disp_name", Doc: "only members whose display name contains this text"},
		}, listing.Args(memberColumns[:len(memberColumns)-1])...),
		Output: []string{"text"},
		Short:  "list the members of a channel",
		Long: "Lists the members of a channel and who is invited, 50 on a page, or all with -all; owner_override is 1 for members " +
			"who act as the owner of every channel at the moment. Members may do it.",
		Hints: readOnly,
		Run: func(ctx context.Context, call *module.Call) error {
			f := channel.MemberFilter{
				Channel: call.Args.String("channel_id"), UserName: call.Args.String("user_name"), UserID: call.Args.String("user_id"),
				Display: call.Args.String("disp_name"), Display2: call.Args.String("display_name"),
				Pending: call.Args.String("pending_invite"), Level: call.Args.String("access_level"),
			}
			var in channel.Channel
			return table[channel.Member]{
				columns: memberColumns,
				read: func(ctx context.Context, who channel.Caller, after channel.Cursor, limit int) (page channel.Page[channel.Member], err error) {
					in, page, err = c.Rules.Members(ctx, who, call.Args.String("ch_name"), f, after, limit)
					return page, err
				},
				cells: func(m channel.Member) []string {
					return []string{
						channelID(in.ID), m.Name, m.Display, m.ID.String(), listing.Text(m.Pending), level(m.Level),
						listing.Text(!m.Pending && c.Overrides.Held(m.ID)),
					}
				},
			}.run(ctx, call)
		},
	}
}
