package accounts

import (
	"context"
	"fmt"
	"strings"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/module/listing"
)

func (c commands) add() *module.Command {
	return &module.Command{
		Name:  "add_acct",
		Class: module.Ranked,
		Args: []module.Arg{
			{Name: "name", Required: true, Doc: "user name: 2 to 24 bytes, no blanks"},
			{Name: "email", Required: true, Doc: "e-mail address"},
			{Name: "disp", Doc: "display name: at most 24 bytes"},
		},
		Output: []string{"text"},
		Short:  "make an account",
		Long: "Makes an account with the user name, the e-mail address and, if given, the display name. " +
			"Its password is asked for and not shown; an empty answer cancels. " +
			"The account gets the rank that the host gives to new accounts. You are not logged in as the new user.",
		Run: c.runAdd,
	}
}

func (c commands) runAdd(ctx context.Context, call *module.Call) error {
	n := account.NewAccount{
		Name: call.Args.String("name"), Email: call.Args.String("email"),
		Display: strings.TrimSpace(call.Args.String("disp")),
	}
	if err := c.Rules.CheckNew(ctx, n); err != nil {
		return explain(err)
	}
	if call.Session().User == nil && !c.Guard.RegistrationAllowed(call.Session().Addr) {
		return module.Invalid("Too many accounts were registered from your address; try again in an hour.")
	}
	for {
		answer, err := askSecret(ctx, call, "Password of the new account: ")
		if err != nil {
			return err
		}
		if len(answer) == 0 {
			return module.ErrAborted
		}
		err = c.Rules.CheckPassword(n, answer)
		if err == nil {
			user, err := c.Rules.Create(ctx, n, answer)
			answer.Wipe()
			if err != nil { // the name may have been taken meanwhile
				return explain(err)
			}
			return call.Line(context.WithoutCancel(ctx), fmt.Sprintf("The account %s has been made, with rank %d.", user.Name, uint32(user.Rank)))
		}
		answer.Wipe()
		text, again := broken(err)
		if !again {
			return explain(err)
		}
		if err := call.Err(ctx, text); err != nil {
			return err
		}
	}
}

// The columns of ls_users. The last two are shown, and can be filtered by, for
// those users only whom the caller outranks (commands 3, ls_users).
var (
	userColumns = []listing.Column{
		{Name: "time_stamp", Doc: "when the account was registered, UTC"},
		{Name: "user_name", Doc: "user name"},
		{Name: "host_rank", Doc: "host rank"},
		{Name: "user_id", Doc: "user id in hex; the filter is its beginning"},
	}
	guardedColumns = []listing.Column{
		{Name: "email_verified", Doc: "1 if the e-mail address is verified; only users whom you outrank"},
		{Name: "locked", Doc: "1 if the account is locked; only users whom you outrank"},
	}
)

func (c commands) list() *module.Command {
	return &module.Command{
		Name:   "ls_users",
		Class:  module.Ranked,
		Args:   listing.Args(append(append([]listing.Column(nil), userColumns...), guardedColumns...)),
		Output: []string{"text"},
		Short:  "list the accounts",
		Long: "Lists the accounts of this host in the order in which they were made, 50 on a page, or all with -all. " +
			"Each column can be filtered by a text that it contains. With -email_verified or -locked " +
			"these columns are shown too, for the users whom you outrank.",
		Hints: module.Hints{ReadOnly: true, Idempotent: true},
		Run:   c.runList,
	}
}

func (c commands) runList(ctx context.Context, call *module.Call) error {
	columns := userColumns
	guarded := call.Args.Has("email_verified") || call.Args.Has("locked")
	if guarded {
		columns = append(append([]listing.Column(nil), userColumns...), guardedColumns...)
	}
	rank := call.Session().Rank()
	l := listing.Listing[account.Cursor]{
		Columns: columns,
		Rows: func(ctx context.Context, _ *module.Call, r listing.Request[account.Cursor]) (listing.Page[account.Cursor], error) {
			filter := account.Filter{
				TimeStamp: r.Filter["time_stamp"], UserName: r.Filter["user_name"],
				HostRank: r.Filter["host_rank"], UserID: r.Filter["user_id"],
				EmailVerified: r.Filter["email_verified"], Locked: r.Filter["locked"],
			}
			if guarded {
				filter.OutrankedBy = rank
			}
			page, err := c.Rules.List(ctx, filter, r.After, r.Limit)
			if err != nil {
				return listing.Page[account.Cursor]{}, err
			}
			return listing.Page[account.Cursor]{
				Rows: userRows(page, guarded, time.Now()), Next: page.Next, More: page.More, Total: page.Total,
			}, nil
		},
	}
	return l.Run(ctx, call)
}

func userRows(page account.Page, guarded bool, now time.Time) [][]string {
	rows := make([][]string, len(page.Users))
	for i, u := range page.Users {
		rows[i] = []string{timeText(u.Registered), u.Name, fmt.Sprint(uint32(u.Rank)), u.ID.String()}
		if guarded {
			rows[i] = append(rows[i], listing.Text(u.EmailVerified), listing.Text(u.LockedAt(now)))
		}
	}
	return rows
}
