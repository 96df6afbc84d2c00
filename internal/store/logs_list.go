package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"mrci.dev/mrci/wire"
)

// ErrNoColumn: a filter names a column that the log has not got.
var ErrNoColumn = errors.New("no such column")

// LogQuery selects a page of a log.
//
// Filter holds a text by the name of a column, as the listing shows it
// (commands 5). Several are combined with AND; an empty text selects all. It
// is looked for in what the listing shows, without regard to ASCII case; an id
// must begin with it. A column that the log has not got is ErrNoColumn.
type LogQuery struct {
	Filter map[string]string
	After  LogCursor // Next of the page before; zero: from the beginning
	Limit  int       // rows; below 1: 50
}

// LogCursor is a place in a log, behind the last row of a page. It stays valid
// whatever is added or deleted.
type LogCursor int64

// LogPage is a part of a log. Rows come in the order in which they were handed
// over, which is that of time unless the clock was put back.
type LogPage[R any] struct {
	Rows  []R
	Total int // rows that match, on all pages
	Next  LogCursor
	More  bool // whether there is a next page
}

// defaultLogPage is the size of a page (state 10).
const defaultLogPage = 50

// ActivityPage reads a page of the activity log. What was handed over but is
// not written is not on it; Flush helps.
func (l *Logs) ActivityPage(ctx context.Context, q LogQuery) (LogPage[ActivityRow], error) {
	return activityLog.page(ctx, l.store, q)
}

// AuthPage reads a page of the log of logins, as ActivityPage does. Rows of
// accounts that are gone are not shown.
func (l *Logs) AuthPage(ctx context.Context, q LogQuery) (LogPage[AuthRow], error) {
	return authLog.page(ctx, l.store, q)
}

// AuditPage reads a page of the audit log, as ActivityPage does.
func (l *Logs) AuditPage(ctx context.Context, q LogQuery) (LogPage[AuditRow], error) {
	return auditLog.page(ctx, l.store, q)
}

// ActivityColumns returns the columns of the activity log, in the order of Cells.
func ActivityColumns() []string { return activityLog.names() }

// AuthColumns returns the columns of the log of logins, in the order of Cells.
func AuthColumns() []string { return authLog.names() }

// AuditColumns returns the columns of the audit log, in the order of Cells.
func AuditColumns() []string { return auditLog.names() }

// Cells returns the row as a listing shows it, and as filters see it.
func (r ActivityRow) Cells() []string {
	return []string{timeCell(r.Time), addrCell(r.Addr), r.App, r.Session.String(), r.Entry}
}

// Cells returns the row as a listing shows it, and as filters see it.
func (r AuthRow) Cells() []string {
	return []string{timeCell(r.Time), addrCell(r.Addr), r.UserName,
		flagCell(r.Auth), flagCell(r.Recover), flagCell(r.Counted), flagCell(r.Accepted)}
}

// Cells returns the row as a listing shows it, and as filters see it.
func (r AuditRow) Cells() []string {
	return []string{timeCell(r.Time), addrCell(r.Addr), r.UserName, r.Command, r.Arguments, strconv.Itoa(int(r.Code))}
}

func timeCell(t time.Time) string { return t.UTC().Format(timeLayout) }

func addrCell(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func flagCell(b bool) string { return strconv.FormatInt(flag(b), 10) }

// match is how a filter looks at a column.
type match uint8

const (
	matchText   match = iota
	matchNumber       // as text
	matchFlag         // 0 or 1
	matchTime         // as text, with an index for its beginning
	matchID           // the beginning of the hex form
)

// logColumn is a column of a listing.
type logColumn struct {
	name  string
	sql   string // what a row has there
	match match
	size  int // of an id, in bytes
}

// logTable says how a log is listed.
type logTable[R any] struct {
	what    string // for errors
	from    string // the table is called l
	count   string // from, where the order of the rows does not matter
	columns []logColumn
	further string // columns that are not listed, behind the others
	scan    func(scanner) (int64, R, error)
}

var activityLog = logTable[ActivityRow]{
	what: "list activity", from: "ip_history l", count: "ip_history l",
	columns: []logColumn{
		{name: "time_stamp", sql: "l.time_stamp", match: matchTime},
		{name: "ip_address", sql: "l.ip_address"},
		{name: "client_app", sql: "l.client_app"},
		{name: "session_id", sql: "l.session_id", match: matchID, size: wire.SessionIDSize},
		{name: "log_entry", sql: "l.log_entry"},
	},
	scan: func(row scanner) (seq int64, r ActivityRow, err error) {
		var id []byte
		var head logHead
		if err := row.Scan(&seq, &head.at, &head.addr, &r.App, &id, &r.Entry); err != nil {
			return 0, ActivityRow{}, err
		}
		copy(r.Session[:], id)
		r.Time, r.Addr, err = head.parse(seq)
		return seq, r, err
	},
}

var authLog = logTable[AuthRow]{
	what: "list logins",
	// CROSS JOIN makes SQLite go through the log in its order.
	from: "auth_log l CROSS JOIN users u ON u.user_id = l.user_id", count: "auth_log l JOIN users u ON u.user_id = l.user_id",
	columns: []logColumn{
		{name: "time_stamp", sql: "l.time_stamp", match: matchTime},
		{name: "ip_address", sql: "l.ip_address"},
		{name: "user_name", sql: "u.user_name"},
		{name: "auth_attempt", sql: "l.auth_attempt", match: matchFlag},
		{name: "recover_attempt", sql: "l.recover_attempt", match: matchFlag},
		{name: "count_to_threshold", sql: "l.count_to_threshold", match: matchFlag},
		{name: "accepted", sql: "l.accepted", match: matchFlag},
	},
	further: ", l.user_id",
	scan: func(row scanner) (seq int64, r AuthRow, err error) {
		var id []byte
		var head logHead
		if err := row.Scan(&seq, &head.at, &head.addr, &r.UserName, &r.Auth, &r.Recover, &r.Counted, &r.Accepted, &id); err != nil {
			return 0, AuthRow{}, err
		}
		copy(r.User[:], id)
		r.Time, r.Addr, err = head.parse(seq)
		return seq, r, err
	},
}

var auditLog = logTable[AuditRow]{
	what: "list audit", from: "audit_log l", count: "audit_log l",
	columns: []logColumn{
		{name: "time_stamp", sql: "l.time_stamp", match: matchTime},
		{name: "ip_address", sql: "l.ip_address"},
		{name: "user_name", sql: "l.user_name"},
		{name: "command", sql: "l.command"},
		{name: "arguments", sql: "l.arguments"},
		{name: "code", sql: "l.code", match: matchNumber},
	},
	further: ", l.user_id",
	scan: func(row scanner) (seq int64, r AuditRow, err error) {
		var id []byte
		var head logHead
		if err := row.Scan(&seq, &head.at, &head.addr, &r.UserName, &r.Command, &r.Arguments, &r.Code, &id); err != nil {
			return 0, AuditRow{}, err
		}
		copy(r.User[:], id)
		r.Time, r.Addr, err = head.parse(seq)
		return seq, r, err
	},
}

// logHead is the beginning of every row, as it is stored.
type logHead struct{ at, addr string }

func (h logHead) parse(seq int64) (at time.Time, addr netip.Addr, err error) {
	if at, err = time.Parse(timeLayout, h.at); err != nil {
		return at, addr, fmt.Errorf("time_stamp of row %d: %w", seq, err)
	}
	if h.addr != "" {
		if addr, err = netip.ParseAddr(h.addr); err != nil {
			return at, addr, fmt.Errorf("ip_address of row %d: %w", seq, err)
		}
	}
	return at, addr, nil
}

func (t *logTable[R]) names() []string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.name
	}
	return names
}

// page reads a page. It and its total come from one snapshot.
func (t *logTable[R]) page(ctx context.Context, s *Store, q LogQuery) (LogPage[R], error) {
	page := LogPage[R]{Next: q.After}
	where, args, possible, err := t.conditions(q.Filter)
	if err != nil || !possible {
		return page, err
	}
	if q.Limit < 1 {
		q.Limit = defaultLogPage
	}
	err = func() error {
		tx, err := s.r.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return err
		}
		defer tx.Rollback() // nothing was written
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM `+t.count+` WHERE `+where, args...).Scan(&page.Total); err != nil {
			return err
		}
		fields := make([]string, len(t.columns))
		for i, c := range t.columns {
			fields[i] = c.sql
		}
		// One row more than wanted tells whether there is a next page.
		rows, err := tx.QueryContext(ctx, numbered(
			`SELECT l.seq, `+strings.Join(fields, ", ")+t.further+` FROM `+t.from+` WHERE `+where+
				` AND l.seq > $? ORDER BY l.seq LIMIT $?`, len(args)), append(args, int64(q.After), int64(q.Limit)+1)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if len(page.Rows) == q.Limit {
				page.More = true
				break
			}
			seq, r, err := t.scan(rows)
			if err != nil {
				return err
			}
			page.Rows = append(page.Rows, r)
			page.Next = LogCursor(seq)
		}
		return rows.Err()
	}()
	if err != nil {
		return LogPage[R]{}, wrap(ctx, t.what, err)
	}
	return page, nil
}

// conditions turns a filter into an SQL condition with bound parameters;
// possible is false if no row can match.
func (t *logTable[R]) conditions(filter map[string]string) (where string, args []any, possible bool, err error) {
	for name := range filter {
		if !slices.ContainsFunc(t.columns, func(c logColumn) bool { return c.name == name }) {
			return "", nil, false, fmt.Errorf("%s: %w: %q", t.what, ErrNoColumn, name)
		}
	}
	terms := []string{"1 = 1"}
	for _, c := range t.columns {
		text := filter[c.name]
		if text == "" {
			continue
		}
		term, values, ok := c.condition(text)
		if !ok {
			return "", nil, false, nil
		}
		terms = append(terms, numbered(term, len(args)))
		args = append(args, values...)
	}
	return strings.Join(terms, " AND "), args, true, nil
}

// condition returns the condition for a filter text, with "$?" for each of its
// values; ok is false if no row can match.
func (c logColumn) condition(text string) (term string, values []any, ok bool) {
	// No column holds more, and none holds what clean takes away.
	if len(text) > maxArguments || !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return "", nil, false
	}
	substring := "%" + escapeLike(text) + "%"
	switch c.match {
	case matchFlag:
		return c.sql + ` = $?`, []any{flag(text == "1")}, text == "0" || text == "1"
	case matchNumber:
		return `CAST(` + c.sql + ` AS TEXT) LIKE $? ESCAPE '~'`, []any{substring}, true
	case matchTime:
		if beginsTime(text) {
			// What follows in the column is below the tilde.
			return c.sql + ` BETWEEN $? AND $?`, []any{text, text + "~"}, true
		}
	case matchID:
		low, high, ok := hexRange(text, c.size)
		return c.sql + ` BETWEEN $? AND $?`, []any{low, high}, ok
	}
	// LIKE of SQLite folds ASCII letters, and only these.
	return c.sql + ` LIKE $? ESCAPE '~'`, []any{substring}, true
}

// beginsTime reports whether text can be found in a time only at its
// beginning: no other four digits have a dash behind them.
func beginsTime(text string) bool {
	if len(text) < len("2006-") || text[4] != '-' {
		return false
	}
	for _, digit := range []byte(text[:4]) {
		if digit < '0' || digit > '9' {
			return false
		}
	}
	return true
}

// hexRange returns the lowest and the highest id of so many bytes whose hex
// form begins with prefix.
func hexRange(prefix string, size int) (low, high []byte, ok bool) {
	fill := hex.EncodedLen(size) - len(prefix)
	if fill < 0 {
		return nil, nil, false
	}
	low, err1 := hex.DecodeString(prefix + strings.Repeat("0", fill))
	high, err2 := hex.DecodeString(prefix + strings.Repeat("f", fill))
	return low, high, err1 == nil && err2 == nil
}

// numbered puts the numbers of parameters behind those that there are already
// in place of "$?".
func numbered(text string, already int) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "$?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		already++
		b.WriteString("$" + strconv.Itoa(already))
		text = after
	}
}
