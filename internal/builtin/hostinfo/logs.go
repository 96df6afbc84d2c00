package hostinfo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/module/listing"
)

// Logs are the host's logs as these commands show them.
type Logs interface {
	Flush(ctx context.Context) error
	ActivityPage(ctx context.Context, q store.LogQuery) (store.LogPage[store.ActivityRow], error)
	AuthPage(ctx context.Context, q store.LogQuery) (store.LogPage[store.AuthRow], error)
	AuditPage(ctx context.Context, q store.LogQuery) (store.LogPage[store.AuditRow], error)
	DeleteActivity(ctx context.Context, filter map[string]string) (int64, error)
}

// row is a row of any log.
type row interface{ Cells() []string }

// logDocs say what the columns of the logs hold.
var logDocs = map[string]string{
	"time_stamp": "when it happened, UTC", "ip_address": "where the client was", "client_app": "the client program",
	"session_id": "session id in hex; the filter is its beginning", "log_entry": "what happened", "user_name": "user name",
	"auth_attempt": "1: a login", "recover_attempt": "1: a recovery", "count_to_threshold": "1: a failure that counted",
	"accepted": "1: it worked", "command": "name of the command", "arguments": "its arguments", "code": "its result",
}

func columnsOf(names []string) []listing.Column {
	columns := make([]listing.Column, len(names))
	for i, name := range names {
		columns[i] = listing.Column{Name: name, Doc: logDocs[name]}
	}
	return columns
}

// showLog is the listing of one log.
func showLog[R row](logs func() Logs, columns []listing.Column, page func(Logs, context.Context, store.LogQuery) (store.LogPage[R], error)) func(context.Context, *module.Call) error {
	return func(ctx context.Context, call *module.Call) error {
		// So that who asks sees what happened just now, too.
		if err := logs().Flush(ctx); err != nil {
			return err
		}
		l := listing.Listing[store.LogCursor]{
			Columns: columns,
			Rows: func(ctx context.Context, _ *module.Call, r listing.Request[store.LogCursor]) (listing.Page[store.LogCursor], error) {
				p, err := page(logs(), ctx, store.LogQuery{Filter: r.Filter, After: r.After, Limit: r.Limit})
				if err != nil {
					return listing.Page[store.LogCursor]{}, err
				}
				rows := make([][]string, len(p.Rows))
				for i, row := range p.Rows {
					rows[i] = row.Cells()
				}
				return listing.Page[store.LogCursor]{Rows: rows, Next: p.Next, More: p.More, Total: p.Total}, nil
			},
		}
		return l.Run(ctx, call)
	}
}

func listAuth(logs func() Logs) *module.Command {
	columns := columnsOf(store.AuthColumns())
	return &module.Command{
		Name:   "ls_auth_log",
		Class:  module.Ranked,
		Args:   listing.Args(columns),
		Output: []string{"text"},
		Short:  "list logins and recoveries",
		Long:   "Lists the attempts to log in to accounts or to recover them, 50 on a page, or all with -all.",
		Hints:  module.Hints{ReadOnly: true, Idempotent: true},
		Run:    showLog(logs, columns, Logs.AuthPage),
	}
}

func listAudit(logs func() Logs) *module.Command {
	columns := columnsOf(store.AuditColumns())
	return &module.Command{
		Name:   "ls_audit",
		Class:  module.Ranked,
		Args:   listing.Args(columns),
		Output: []string{"text"},
		Short:  "list who did what",
		Long: "Lists the calls that have changed something, or that were refused for their rights: who, from where, what, " +
			"with which arguments and result. Answers to hidden questions are never in it.",
		Hints: module.Hints{ReadOnly: true, Idempotent: true},
		Run:   showLog(logs, columns, Logs.AuditPage),
	}
}

func listActivity(logs func() Logs) *module.Command {
	columns := columnsOf(store.ActivityColumns())
	show := showLog(logs, columns, Logs.ActivityPage)
	return &module.Command{
		Name:  "ls_act_log",
		Class: module.Ranked,
		Args: append(listing.Args(columns),
			module.Arg{Name: "delete", Kind: module.Flag, Doc: "delete the rows that match instead of showing them"}),
		Output: []string{"text"},
		Short:  "list connections",
		Long: "Lists when sessions began and ended, 50 on a page, or all with -all. With -delete the rows that match the filters, " +
			"or all rows, are deleted after a question; the audit log keeps who did so.",
		Hints: module.Hints{Destructive: true},
		Run: func(ctx context.Context, call *module.Call) error {
			if !call.Args.Bool("delete") {
				return show(ctx, call)
			}
			return deleteActivity(ctx, call, logs(), columns)
		},
	}
}

// deleteActivity deletes rows after it has said which, and has asked
// (commands 1.7).
func deleteActivity(ctx context.Context, call *module.Call, logs Logs, columns []listing.Column) error {
	filter := make(map[string]string)
	for _, c := range columns {
		if v := call.Args.String(c.Name); v != "" {
			filter[c.Name] = v
		}
	}
	question := "No filter was given. Delete ALL rows of the activity log (y/n)? "
	if len(filter) > 0 {
		var b strings.Builder
		for _, name := range slices.Sorted(maps.Keys(filter)) {
			fmt.Fprintf(&b, "%s contains: %s\n", name, filter[name])
		}
		if err := call.Text(ctx, b.String()); err != nil {
			return err
		}
		question = "Delete the rows that match these filters (y/n)? "
	}
	yes, err := call.Confirm(ctx, question)
	if err != nil || !yes {
		return err
	}
	n, err := logs.DeleteActivity(ctx, filter)
	if err != nil {
		return err
	}
	return call.Line(context.WithoutCancel(ctx), fmt.Sprintf("%d rows have been deleted.", n))
}
