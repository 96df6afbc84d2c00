package storetest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/wire"
)

// Logs are the logs of a host.
type Logs interface {
	Activity(store.ActivityRow)
	Auth(store.AuthRow)
	Audit(store.AuditRow)
	Flush(ctx context.Context) error
	ActivityPage(ctx context.Context, q store.LogQuery) (store.LogPage[store.ActivityRow], error)
	AuthPage(ctx context.Context, q store.LogQuery) (store.LogPage[store.AuthRow], error)
	AuditPage(ctx context.Context, q store.LogQuery) (store.LogPage[store.AuditRow], error)
	DeleteActivity(ctx context.Context, filter map[string]string) (int64, error)
}

// RunLogs runs the suite of the logs. open returns the empty logs of a store
// and its accounts; both are closed when the test ends.
func RunLogs(t *testing.T, open func(t *testing.T) (account.Store, Logs)) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, account.Store, Logs)
	}{
		{"rows come back", testLogRows},
		{"names of logins", testLogNames},
		{"pages", testLogPages},
		{"place stays valid", testLogCursor},
		{"filters", testLogFilters},
		{"filters find what is shown", testLogFilterModel},
		{"hostile filters", testLogHostileFilters},
		{"unknown columns", testLogColumns},
		{"hostile rows", testLogHostileRows},
		{"delete", testLogDelete},
		{"delete selects as the listing", testLogDeleteFilter},
		{"delete at the same time", testLogDeleteRace},
		{"many writers", testLogWriters},
		{"cancelled context", testLogCancelled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			accounts, logs := open(t)
			tt.test(t, accounts, logs)
		})
	}
}

var (
	addr4 = netip.MustParseAddr("192.0.2.7")
	addr6 = netip.MustParseAddr("2001:db8::7")
)

func flush(t *testing.T, l Logs) {
	t.Helper()
	if err := l.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// activity returns the entries that a filter selects, from all pages.
func activity(t *testing.T, l Logs, filter map[string]string) []string {
	t.Helper()
	var entries []string
	q := store.LogQuery{Filter: filter, Limit: 1000}
	for {
		page, err := l.ActivityPage(ctx, q)
		if err != nil {
			t.Fatalf("%v: %v", filter, err)
		}
		for _, r := range page.Rows {
			entries = append(entries, r.Entry)
		}
		if !page.More {
			if page.Total != len(entries) {
				t.Errorf("%v: total %d of %d", filter, page.Total, len(entries))
			}
			return entries
		}
		q.After = page.Next
	}
}

func testLogRows(t *testing.T, _ account.Store, l Logs) {
	if page, err := l.ActivityPage(ctx, store.LogQuery{}); err != nil || len(page.Rows) != 0 || page.Total != 0 || page.More {
		t.Fatalf("empty: %+v, %v", page, err)
	}
	activities := []store.ActivityRow{
		{Time: start, Addr: addr4, App: "Cmdr 3", Session: wire.SessionID{1, 27: 9}, Entry: "connected"},
		{Time: start.Add(-time.Hour), Addr: addr6, App: "", Session: wire.SessionID{}, Entry: "Größe 大 \n\t"},
		{Time: start},
	}
	for _, r := range activities {
		l.Activity(r)
	}
	audits := []store.AuditRow{
		{Time: start, Addr: addr4, User: wire.UserID{7, 31: 1}, UserName: "ann", Command: "rm_acct", Arguments: `-name "Bob B" -force`, Code: wire.NoErrors},
		{Time: start, Command: "add-admin", Code: 65535},
	}
	for _, r := range audits {
		l.Audit(r)
	}
	flush(t, l)
	activityPage, err := l.ActivityPage(ctx, store.LogQuery{})
	if err != nil {
		t.Fatal(err)
	}
	equal := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if diff := cmp.Diff(activities, activityPage.Rows, equal); diff != "" {
		t.Error(diff)
	}
	auditPage, err := l.AuditPage(ctx, store.LogQuery{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(audits, auditPage.Rows, equal); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"2026-01-02 03:04:05", "192.0.2.7", "ann", "rm_acct", `-name "Bob B" -force`, "1"}, auditPage.Rows[0].Cells()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"2026-01-02 03:04:05", "", "", strings.Repeat("0", 56), ""}, activityPage.Rows[2].Cells()); diff != "" {
		t.Error(diff)
	}
	for name, n := range map[string][2]int{
		"activity": {len(store.ActivityColumns()), len(store.ActivityRow{}.Cells())},
		"auth":     {len(store.AuthColumns()), len(store.AuthRow{}.Cells())},
		"audit":    {len(store.AuditColumns()), len(store.AuditRow{}.Cells())},
	} {
		if n[0] != n[1] {
			t.Errorf("%s: %d columns, %d cells", name, n[0], n[1])
		}
	}
	// Time of another zone and of no zone; an IPv4 client of an IPv6 socket.
	l.Audit(store.AuditRow{Time: start.In(time.FixedZone("", 3600)), Addr: netip.MustParseAddr("::ffff:192.0.2.9"), Command: "x"})
	l.Audit(store.AuditRow{Command: "y"})
	flush(t, l)
	auditPage, err = l.AuditPage(ctx, store.LogQuery{After: auditPage.Next})
	if err != nil || len(auditPage.Rows) != 2 {
		t.Fatalf("%+v, %v", auditPage, err)
	}
	if r := auditPage.Rows[0]; !r.Time.Equal(start) || r.Addr.String() != "192.0.2.9" {
		t.Errorf("got %v, %v", r.Time, r.Addr)
	}
	if got := auditPage.Rows[1].Time; got.Year() < 2000 {
		t.Errorf("no time became %v", got)
	}
}

func testLogNames(t *testing.T, accounts account.Store, l Logs) {
	ann, bob := plain("ann"), plain("bob")
	mustCreate(t, accounts, ann, bob)
	want := []store.AuthRow{
		{Time: start, Addr: addr4, User: ann.ID, UserName: "ann", Auth: true, Counted: true},
		{Time: start, Addr: addr6, User: bob.ID, UserName: "bob", Recover: true, Accepted: true},
		{Time: start, Addr: addr4, User: ann.ID, UserName: "ann", Auth: true, Accepted: true},
	}
	for i, r := range want {
		r.UserName = "not stored"
		l.Auth(r)
		if i == 1 {
			l.Auth(store.AuthRow{Time: start, User: wire.UserID{9}, Auth: true}) // an account that is gone
		}
	}
	flush(t, l)
	check := func() {
		t.Helper()
		for limit := 1; limit < 5; limit++ {
			var got []store.AuthRow
			q := store.LogQuery{Limit: limit}
			for {
				page, err := l.AuthPage(ctx, q)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, page.Rows...)
				if page.Total != len(want) {
					t.Errorf("total %d, want %d", page.Total, len(want))
				}
				if !page.More {
					break
				}
				q.After = page.Next
			}
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
		}
	}
	check()
	if diff := cmp.Diff([]string{"2026-01-02 03:04:05", "2001:db8::7", "bob", "0", "1", "0", "1"}, want[1].Cells()); diff != "" {
		t.Error(diff)
	}
	if _, err := accounts.Change(ctx, ann.ID, func(r *account.Record) error { r.Name = "Änne"; return nil }); err != nil {
		t.Fatal(err)
	}
	want[0].UserName, want[2].UserName = "Änne", "Änne"
	check()
	for _, tt := range []struct {
		filter map[string]string
		want   int
	}{
		{map[string]string{"user_name": "nn"}, 2},
		{map[string]string{"user_name": "BOB"}, 1},
		{map[string]string{"user_name": "ann"}, 0},
		{map[string]string{"auth_attempt": "1"}, 2},
		{map[string]string{"auth_attempt": "0"}, 1},
		{map[string]string{"recover_attempt": "1"}, 1},
		{map[string]string{"count_to_threshold": "1"}, 1},
		{map[string]string{"accepted": "1"}, 2},
		{map[string]string{"accepted": "1", "auth_attempt": "1", "user_name": "nne", "ip_address": "192", "time_stamp": "2026"}, 1},
		{map[string]string{"accepted": "2"}, 0},
		{map[string]string{"accepted": "01"}, 0},
		{map[string]string{"accepted": ""}, 3},
	} {
		page, err := l.AuthPage(ctx, store.LogQuery{Filter: tt.filter})
		if err != nil || len(page.Rows) != tt.want || page.Total != tt.want {
			t.Errorf("%v: %d rows, total %d, %v; want %d", tt.filter, len(page.Rows), page.Total, err, tt.want)
		}
	}
}

func testLogPages(t *testing.T, _ account.Store, l Logs) {
	const total = 103
	var want []string
	for i := range total {
		want = append(want, fmt.Sprint("row ", i))
		l.Activity(store.ActivityRow{Time: start, Entry: want[i]})
	}
	flush(t, l)
	for _, limit := range []int{-1, 0, 1, 2, 50, 51, 102, 103, 104, 1000} {
		var got []string
		q := store.LogQuery{Limit: limit}
		size := limit
		if limit < 1 {
			size = 50
		}
		for {
			page, err := l.ActivityPage(ctx, q)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page.Rows {
				got = append(got, r.Entry)
			}
			if page.Total != total {
				t.Errorf("limit %d: total %d", limit, page.Total)
			}
			if page.More != (len(got) < total) || page.More && len(page.Rows) != size {
				t.Fatalf("limit %d: %d rows, more %v after %d", limit, len(page.Rows), page.More, len(got))
			}
			if !page.More {
				break
			}
			q.After = page.Next
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("limit %d: %s", limit, diff)
		}
	}
}

// testLogCursor adds and deletes rows while somebody turns pages.
func testLogCursor(t *testing.T, _ account.Store, l Logs) {
	var got []string
	var after store.LogCursor
	for i := range 5 {
		for _, name := range []string{"a", "b"} {
			l.Activity(store.ActivityRow{Entry: fmt.Sprint(name, i)})
		}
		flush(t, l)
		page, err := l.ActivityPage(ctx, store.LogQuery{After: after, Limit: 2})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Rows {
			got = append(got, r.Entry)
		}
		after = page.Next
		if _, err := l.DeleteActivity(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"a0", "b0", "a1", "b1", "a2", "b2", "a3", "b3", "a4", "b4"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	page, err := l.ActivityPage(ctx, store.LogQuery{After: after})
	if err != nil || len(page.Rows) != 0 || page.Next != after || page.More {
		t.Errorf("behind the end: %+v, %v", page, err)
	}
}

func testLogFilters(t *testing.T, _ account.Store, l Logs) {
	session := func(text string) (id wire.SessionID) {
		if _, err := hex.Decode(id[:], []byte(text+strings.Repeat("0", 56-len(text)))); err != nil {
			t.Fatal(err)
		}
		return id
	}
	for _, r := range []store.ActivityRow{
		{Time: start, Addr: addr4, App: "Cmdr", Session: session("abcd"), Entry: "one"},
		{Time: start.Add(24 * time.Hour), Addr: addr6, App: "mrci connect", Session: session("abc1"), Entry: "two 100%"},
		{Time: start.Add(time.Minute), Addr: addr4, App: "c_dr", Session: session("1234"), Entry: "three ~"},
	} {
		l.Activity(r)
	}
	flush(t, l)
	one, two, three := "one", "two 100%", "three ~"
	for _, tt := range []struct {
		name   string
		filter map[string]string
		want   []string
	}{
		{"none", nil, []string{one, two, three}},
		{"empty", map[string]string{"client_app": ""}, []string{one, two, three}},
		{"text", map[string]string{"client_app": "C"}, []string{one, two, three}},
		{"case", map[string]string{"client_app": "CMDR"}, []string{one}},
		{"underscore is itself", map[string]string{"client_app": "C_DR"}, []string{three}},
		{"percent is itself", map[string]string{"log_entry": "0%"}, []string{two}},
		{"percent in front", map[string]string{"log_entry": "%0"}, nil},
		{"tilde is itself", map[string]string{"log_entry": "~"}, []string{three}},
		{"address", map[string]string{"ip_address": "192.0"}, []string{one, three}},
		{"end of an address", map[string]string{"ip_address": "::7"}, []string{two}},
		{"day", map[string]string{"time_stamp": "2026-01-02"}, []string{one, three}},
		{"year", map[string]string{"time_stamp": "2026"}, []string{one, two, three}},
		{"year and dash", map[string]string{"time_stamp": "2026-"}, []string{one, two, three}},
		{"month and day", map[string]string{"time_stamp": "01-03"}, []string{two}},
		{"whole time", map[string]string{"time_stamp": "2026-01-02 03:05:05"}, []string{three}},
		{"more than a time", map[string]string{"time_stamp": "2026-01-02 03:05:05 "}, nil},
		{"no such time", map[string]string{"time_stamp": "2026-%"}, nil},
		{"time of day", map[string]string{"time_stamp": "03:04:05"}, []string{one, two}},
		{"session", map[string]string{"session_id": "abcd"}, []string{one}},
		{"session in upper case", map[string]string{"session_id": "ABC"}, []string{one, two}},
		{"session is a prefix", map[string]string{"session_id": "bc"}, nil},
		{"whole session", map[string]string{"session_id": session("1234").String()}, []string{three}},
		{"session too long", map[string]string{"session_id": session("1234").String() + "0"}, nil},
		{"session not hex", map[string]string{"session_id": "12x"}, nil},
		{"several", map[string]string{"session_id": "abc", "ip_address": "192", "time_stamp": "2026-01", "client_app": "m", "log_entry": "N"}, []string{one}},
		{"several, none", map[string]string{"session_id": "1234", "log_entry": "one"}, nil},
	} {
		if diff := cmp.Diff(tt.want, activity(t, l, tt.filter)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	l.Audit(store.AuditRow{UserName: "ann", Command: "fs_copy", Arguments: "-src 'a b'", Code: 6})
	l.Audit(store.AuditRow{UserName: "bob", Command: "rm_acct", Arguments: strings.Repeat("x", 4000), Code: 16})
	flush(t, l)
	for _, tt := range []struct {
		filter map[string]string
		want   int
	}{
		{map[string]string{"code": "6"}, 2},
		{map[string]string{"code": "16"}, 1},
		{map[string]string{"code": "%"}, 0},
		{map[string]string{"user_name": "B"}, 1},
		{map[string]string{"command": "_"}, 2},
		{map[string]string{"command": "RM_"}, 1},
		{map[string]string{"arguments": "'A B'"}, 1},
		{map[string]string{"arguments": strings.Repeat("X", 4000)}, 1},
		{map[string]string{"arguments": strings.Repeat("X", 4001)}, 0},
	} {
		page, err := l.AuditPage(ctx, store.LogQuery{Filter: tt.filter})
		if err != nil || len(page.Rows) != tt.want || page.Total != tt.want {
			t.Errorf("%.60v: %d rows, total %d, %v; want %d", tt.filter, len(page.Rows), page.Total, err, tt.want)
		}
	}
}

// testLogFilterModel compares filters with a search in the cells.
func testLogFilterModel(t *testing.T, _ account.Store, l Logs) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(texts ...string) string { return texts[r.IntN(len(texts))] }
	word := func() string {
		var b strings.Builder
		for range r.IntN(4) {
			b.WriteString(pick("a", "B", "b", "ä", "Ä", "%", "_", "~", "'", `\`, "1", "-"))
		}
		return b.String()
	}
	for range 200 {
		row := store.ActivityRow{
			Time: start.Add(time.Duration(r.Int64N(int64(400 * 24 * time.Hour)))), App: word(), Entry: word(),
			Addr: netip.AddrFrom4([4]byte{byte(r.IntN(3)), 0, 2, byte(r.IntN(256))}),
		}
		row.Session[0], row.Session[27] = byte(r.IntN(4))<<4, byte(r.IntN(256))
		l.Activity(row)
	}
	flush(t, l)
	all, err := l.ActivityPage(ctx, store.LogQuery{Limit: 1000})
	if err != nil || len(all.Rows) != 200 {
		t.Fatal(len(all.Rows), err)
	}
	columns := store.ActivityColumns()
	found := 0
	for range 600 {
		filter := make(map[string]string)
		for range 1 + r.IntN(2) {
			// Part of what is shown somewhere, or something else.
			i := r.IntN(len(columns))
			cell := all.Rows[r.IntN(len(all.Rows))].Cells()[i]
			from := r.IntN(len(cell) + 1)
			if columns[i] == "session_id" {
				from = 0
			}
			text := cell[from : from+r.IntN(len(cell)-from+1)]
			filter[columns[i]] = pick(text, text, strings.ToUpper(text), word())
		}
		var want []string
		for _, row := range all.Rows {
			ok := true
			for i, cell := range row.Cells() {
				text := asciiLower(filter[columns[i]])
				if columns[i] == "session_id" {
					ok = ok && strings.HasPrefix(cell, text)
				} else {
					ok = ok && strings.Contains(asciiLower(cell), text)
				}
			}
			// Part of a character is no text.
			for _, text := range filter {
				ok = ok && strings.ToValidUTF8(text, "") == text
			}
			if ok {
				want = append(want, row.Entry)
			}
		}
		found += len(want)
		if diff := cmp.Diff(want, activity(t, l, filter)); diff != "" {
			t.Fatalf("%q: %s", filter, diff)
		}
	}
	if found < 1000 {
		t.Errorf("only %d rows were looked for", found)
	}
}

func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

func testLogHostileFilters(t *testing.T, accounts account.Store, l Logs) {
	ann := plain("ann")
	mustCreate(t, accounts, ann)
	l.Activity(store.ActivityRow{Time: start, App: "app", Entry: "entry"})
	l.Auth(store.AuthRow{Time: start, User: ann.ID})
	l.Audit(store.AuditRow{Time: start, UserName: "ann", Command: "command", Arguments: "arguments"})
	flush(t, l)
	for _, text := range []string{
		`'`, `''`, `\'`, `"`, `x' OR '1'='1`, `' UNION SELECT hash FROM users --`, `; DROP TABLE ip_history; --`, `$1`, `$?`, `?`, `:x`,
		"app\x00", "\x00", "\xff", "app\xff", strings.Repeat("%", 100), strings.Repeat("_", 30), strings.Repeat("a", 100_000),
		strings.Repeat("_%", 2048), strings.Repeat("_%", 50_000), "~", "~~", "2026-%", "2026-01-02' --", "%", "_____",
		"1 OR 1=1", "1'", "0x01", "a%", "true",
	} {
		check := func(what string, total int, err error) {
			t.Helper()
			if err != nil || total != 0 {
				t.Errorf("%s: %.40q: total %d, %v", what, text, total, err)
			}
		}
		for _, column := range store.ActivityColumns() {
			filter := map[string]string{column: text}
			page, err := l.ActivityPage(ctx, store.LogQuery{Filter: filter})
			check(column, page.Total+len(page.Rows), err)
			n, err := l.DeleteActivity(ctx, filter)
			check("delete by "+column, int(n), err)
		}
		for _, column := range store.AuthColumns() {
			page, err := l.AuthPage(ctx, store.LogQuery{Filter: map[string]string{column: text}})
			check(column, page.Total+len(page.Rows), err)
		}
		for _, column := range store.AuditColumns() {
			page, err := l.AuditPage(ctx, store.LogQuery{Filter: map[string]string{column: text}})
			check(column, page.Total+len(page.Rows), err)
		}
	}
	if got := activity(t, l, nil); len(got) != 1 {
		t.Errorf("afterwards: %v", got)
	}
}

// testLogColumns: a filter that is not understood must not select everything.
func testLogColumns(t *testing.T, _ account.Store, l Logs) {
	l.Activity(store.ActivityRow{Entry: "stays"})
	flush(t, l)
	for _, column := range []string{"", "seq", "l.seq", "CLIENT_APP", "client_app ", "1=1 OR client_app", "user_id", "rowid"} {
		for _, text := range []string{"", "x"} {
			q := store.LogQuery{Filter: map[string]string{column: text, "ip_address": "192"}}
			for what, call := range map[string]func() error{
				"ActivityPage":   func() error { _, err := l.ActivityPage(ctx, q); return err },
				"AuthPage":       func() error { _, err := l.AuthPage(ctx, q); return err },
				"AuditPage":      func() error { _, err := l.AuditPage(ctx, q); return err },
				"DeleteActivity": func() error { _, err := l.DeleteActivity(ctx, q.Filter); return err },
			} {
				if err := call(); !errors.Is(err, store.ErrNoColumn) || !strings.Contains(err.Error(), fmt.Sprintf("%q", column)) {
					t.Errorf("%s %q: got %v", what, column, err)
				}
			}
		}
	}
	if got := activity(t, l, nil); len(got) != 1 {
		t.Errorf("afterwards: %v", got)
	}
}

func testLogHostileRows(t *testing.T, _ account.Store, l Logs) {
	long := strings.Repeat("ä", 10_000)
	for _, text := range []string{
		"\xff", "a\x00hidden", "\x00", "a\xffb\xfe\xfdc", "\xe2\x82", strings.Repeat("\xff", 5000), strings.Repeat("a\xff", 5000),
		strings.Repeat("a\xff", 2040), "x" + long, long, strings.Repeat("\x00", 4000), "\ud7ff\uffff", "\u2028\u202e",
		strings.Repeat("a", 4096), strings.Repeat("a", 4097), strings.Repeat("\x80", 20_000), "'; DROP TABLE audit_log; --",
	} {
		l.Audit(store.AuditRow{UserName: text, Command: text, Arguments: text, Addr: addr6.WithZone(text)})
		l.Activity(store.ActivityRow{App: text, Entry: text})
	}
	flush(t, l)
	page, err := l.AuditPage(ctx, store.LogQuery{})
	if err != nil || page.Total != 17 || len(page.Rows) != 17 {
		t.Fatalf("%d of %d rows, %v", len(page.Rows), page.Total, err)
	}
	for i, r := range page.Rows {
		for _, cell := range []struct {
			text  string
			limit int
		}{{r.UserName, 1024}, {r.Command, 1024}, {r.Arguments, 4096}} {
			if len(cell.text) > cell.limit || strings.ToValidUTF8(cell.text, "") != cell.text || strings.ContainsRune(cell.text, 0) {
				t.Errorf("row %d: %d bytes, %.20q", i, len(cell.text), cell.text)
			}
			if len(cell.text) == 0 {
				t.Errorf("row %d: nothing is left", i)
			}
		}
	}
	if got, want := page.Rows[1].Arguments, "a\uFFFDhidden"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := page.Rows[8].Arguments; !strings.HasSuffix(got, "ä…") || len(got) < 4090 {
		t.Errorf("cut: %d bytes, ends with %q", len(got), got[len(got)-6:])
	}
	if got := page.Rows[13].Arguments; len(got) != 4096 || strings.HasSuffix(got, "…") {
		t.Errorf("%d bytes, ends with %q", len(got), got[len(got)-6:])
	}
	if got := page.Rows[14].Arguments; len(got) != 4096 || !strings.HasSuffix(got, "a…") {
		t.Errorf("%d bytes, ends with %q", len(got), got[len(got)-6:])
	}
	// What is behind a zero byte can be found.
	if got := activity(t, l, map[string]string{"log_entry": "hidden"}); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

func testLogDelete(t *testing.T, accounts account.Store, l Logs) {
	ann := plain("ann")
	mustCreate(t, accounts, ann)
	const rows = 2500 // more than two portions
	l.Auth(store.AuthRow{User: ann.ID})
	l.Audit(store.AuditRow{Command: "stays"})
	if n, err := l.DeleteActivity(ctx, nil); err != nil || n != 0 {
		t.Errorf("empty: %d, %v", n, err)
	}
	for i := range rows {
		l.Activity(store.ActivityRow{Entry: fmt.Sprint("row ", i)})
	}
	// Rows that wait to be written are deleted too.
	n, err := l.DeleteActivity(ctx, map[string]string{})
	if err != nil || n != rows {
		t.Errorf("%d, %v; want %d", n, err, rows)
	}
	if got := activity(t, l, nil); len(got) != 0 {
		t.Errorf("%d rows are left", len(got))
	}
	if page, err := l.AuthPage(ctx, store.LogQuery{}); err != nil || page.Total != 1 {
		t.Errorf("logins: %d, %v", page.Total, err)
	}
	if page, err := l.AuditPage(ctx, store.LogQuery{}); err != nil || page.Total != 1 {
		t.Errorf("audit: %d, %v", page.Total, err)
	}
}

func testLogDeleteFilter(t *testing.T, _ account.Store, l Logs) {
	for i := range 2100 {
		l.Activity(store.ActivityRow{Time: start.Add(time.Duration(i) * time.Hour), App: fmt.Sprint("app", i%7), Entry: fmt.Sprint(i)})
	}
	flush(t, l)
	for _, filter := range []map[string]string{
		{"client_app": "app8"},
		{"client_app": "%"},
		{"client_app": "APP3"},
		{"time_stamp": "2026-02-1", "client_app": "2"},
		{"session_id": "00", "log_entry": "5"},
		{"session_id": "zz"},
		{"session_id": "0"},
	} {
		all, selected := activity(t, l, nil), activity(t, l, filter)
		n, err := l.DeleteActivity(ctx, filter)
		if err != nil || int(n) != len(selected) {
			t.Errorf("%v: deleted %d, %v; want %d", filter, n, err, len(selected))
		}
		left := slices.DeleteFunc(all, func(e string) bool { return slices.Contains(selected, e) })
		got := activity(t, l, nil)
		if len(got) != len(left) || !slices.Equal(got, left) {
			t.Errorf("%v: %d rows are left, want %d", filter, len(got), len(left))
		}
	}
	if got := activity(t, l, nil); len(got) != 0 {
		t.Errorf("%d rows are left", len(got))
	}
}

// testLogDeleteRace: each row is counted by one of several deletions.
func testLogDeleteRace(t *testing.T, _ account.Store, l Logs) {
	const rows = 3000
	for i := range rows {
		l.Activity(store.ActivityRow{Entry: fmt.Sprint(i)})
	}
	flush(t, l)
	var all sync.WaitGroup
	var mu sync.Mutex
	total := int64(0)
	for range 4 {
		all.Go(func() {
			n, err := l.DeleteActivity(ctx, nil)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			total += n
		})
	}
	all.Wait()
	if total != rows {
		t.Errorf("deleted %d of %d", total, rows)
	}
}

// testLogWriters: the rows of each writer stay in order, and everybody sees
// their own after a flush.
func testLogWriters(t *testing.T, accounts account.Store, l Logs) {
	ann := plain("ann")
	mustCreate(t, accounts, ann)
	const writers, rows = 8, 200
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			me := fmt.Sprintf("writer%d", w)
			for i := range rows {
				l.Activity(store.ActivityRow{App: me, Entry: fmt.Sprint(i)})
				l.Auth(store.AuthRow{User: ann.ID, Auth: true})
				l.Audit(store.AuditRow{UserName: me, Code: wire.ReturnCode(i)})
				if i%50 == w {
					if err := l.Flush(ctx); err != nil {
						t.Error(err)
					}
					page, err := l.ActivityPage(ctx, store.LogQuery{Filter: map[string]string{"client_app": me}, Limit: 1})
					if err != nil || page.Total != i+1 {
						t.Errorf("%s sees %d of %d rows, %v", me, page.Total, i+1, err)
					}
				}
			}
		})
	}
	all.Wait()
	flush(t, l)
	var want []string
	for i := range rows {
		want = append(want, fmt.Sprint(i))
	}
	for w := range writers {
		if diff := cmp.Diff(want, activity(t, l, map[string]string{"client_app": fmt.Sprint("writer", w)})); diff != "" {
			t.Error(diff)
		}
	}
	auth, err1 := l.AuthPage(ctx, store.LogQuery{Limit: 1})
	audit, err2 := l.AuditPage(ctx, store.LogQuery{Limit: 1})
	if err := errors.Join(err1, err2); err != nil || auth.Total != writers*rows || audit.Total != writers*rows {
		t.Errorf("%d logins, %d calls, %v", auth.Total, audit.Total, err)
	}
}

func testLogCancelled(t *testing.T, _ account.Store, l Logs) {
	l.Activity(store.ActivityRow{Entry: "stays"})
	flush(t, l)
	gone := errors.New("client has gone")
	cancelled, cancel := context.WithCancelCause(ctx)
	cancel(gone)
	calls := map[string]func() error{
		"ActivityPage":   func() error { _, err := l.ActivityPage(cancelled, store.LogQuery{}); return err },
		"AuthPage":       func() error { _, err := l.AuthPage(cancelled, store.LogQuery{}); return err },
		"AuditPage":      func() error { _, err := l.AuditPage(cancelled, store.LogQuery{}); return err },
		"DeleteActivity": func() error { _, err := l.DeleteActivity(cancelled, nil); return err },
	}
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		if err := calls[name](); !errors.Is(err, gone) {
			t.Errorf("%s: got %v, want the cause", name, err)
		}
	}
	// Nothing waits: no reason to fail.
	if err := l.Flush(cancelled); err != nil {
		t.Error(err)
	}
	if got := activity(t, l, nil); len(got) != 1 {
		t.Errorf("afterwards: %v", got)
	}
}
