package channel_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mrci.dev/mrci/internal/access"
	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/wire"
)

var ctx = context.Background()

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a Service over a database with accounts.
type fixture struct {
	*channel.Service
	db    *store.Store
	file  *sql.DB // the same, past the store
	limit int     // of sub-channels in a channel
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data.db")
	db, err := store.Open(ctx, store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	file, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	f := &fixture{db: db, file: file, limit: 3}
	f.Service = channel.New(channel.Config{Store: db, MaxSubChannels: func() int { return f.limit }})
	return f
}

// failer is a test, or one run of rapid.
type failer interface {
	Helper()
	Fatal(args ...any)
}

// user makes an account and returns its caller.
func (f *fixture) user(t failer, name string) channel.Caller {
	t.Helper()
	r := account.Record{User: account.User{
		Name: name, Email: name + "@example.org", Display: "The " + name, Rank: 2, Registered: time.Unix(0, 0).UTC(),
	}, Hash: "h"}
	copy(r.ID[:], "id of "+name)
	if err := f.db.Create(ctx, r, false); err != nil {
		t.Fatal(err)
	}
	return channel.Caller{User: r.ID}
}

// memberships returns the channels and the invites of a user.
func (f *fixture) memberships(t failer, name string) []channel.Membership {
	t.Helper()
	page, err := f.Memberships(ctx, id(name), 0, channel.MaxChannels+channel.MaxInvites)
	if err != nil {
		t.Fatal(err)
	}
	return page.Rows
}

// user is what events tell of an account that fixture.user has made.
func user(name string) channel.User {
	u := channel.User{Name: name, Display: "The " + name}
	copy(u.ID[:], "id of "+name)
	return u
}

func id(name string) wire.UserID { return user(name).ID }

func caller(name string) channel.Caller { return channel.Caller{User: id(name)} }

func override(name string) channel.Caller { return channel.Caller{User: id(name), Override: true} }

// must returns a value that there has to be.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// cast are the users of a channel with one member of each kind.
var cast = []string{"owner", "admin", "officer", "regular", "invited", "stranger"}

// newRoom is newFixture with the channel "Room", one member of each level,
// sub-channels "Inside" (0, level 4) and "Outside" (1, level 5), and the flag
// (1, 5).
func newRoom(t testing.TB) *fixture {
	t.Helper()
	f := newFixture(t)
	for _, name := range cast {
		f.user(t, name)
	}
	must[channel.MemberChange](t)(f.Add(ctx, caller("owner"), "Room"))
	for i, name := range cast[1:5] {
		must[channel.MemberChange](t)(f.Invite(ctx, caller("owner"), "Room", name))
		if name == "invited" {
			break
		}
		must[channel.MemberChange](t)(f.Accept(ctx, caller(name), "Room"))
		must[[]channel.MemberChange](t)(f.SetLevel(ctx, caller("owner"), "Room", name, wire.Level(i+2)))
	}
	must[channel.SubChange](t)(f.AddSub(ctx, caller("owner"), "Room", "Inside"))
	must[channel.SubChange](t)(f.AddSub(ctx, caller("owner"), "Room", "Outside"))
	must[channel.SubChange](t)(f.SetSubLevel(ctx, caller("owner"), "Room", "Outside", wire.Public))
	must[channel.FlagChange](t)(f.AddFlag(ctx, caller("owner"), "Room", channel.Flag{Sub: 1, Level: wire.Public}))
	return f
}

// invite stores n users who are invited to a channel, past the rules.
func (f *fixture) invite(t testing.TB, ch wire.ChannelID, n int) {
	t.Helper()
	for i := range n {
		f.user(t, fmt.Sprint("guest", i))
	}
	err := f.db.Update(ctx, func(tx channel.Tx) error {
		for i := range n {
			if err := tx.PutMember(ch, id(fmt.Sprint("guest", i)), access.Standing{Level: wire.Regular, Pending: true}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
