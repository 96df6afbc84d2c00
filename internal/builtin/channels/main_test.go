package channels_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/builtin/channels"
	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/module/moduletest"
	"mrci.dev/mrci/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// event is what Events has been told.
type event struct {
	ID      wire.AsyncID
	Payload wire.Payload
	Change  channel.Change
}

// outside is everything that the commands need besides the rules: it keeps
// what it is told, and lets one session open sub-channels and hold the
// override.
type outside struct {
	rules *channel.Service

	turn    bool // somebody has it
	events  []event
	failing error                 // of Changed
	changed func(context.Context) // called by Changed, if set

	session        *module.Session // whose doors and override these are
	open, writable wire.SubList
	meanwhile      func()        // called by Open before it reads the rights, if set
	held           []wire.UserID // besides the session's own
	sets           []bool        // calls of Set
	doors          []string      // calls of Open and Close
	refuse         error         // of Set and Close
}

func (o *outside) Turn(context.Context) (done func(), err error) {
	o.turn = true
	return func() { o.turn = false }, nil
}

func (o *outside) Changed(ctx context.Context, id wire.AsyncID, p wire.Payload, change channel.Change) error {
	if !o.turn {
		panic("a change is told outside of a turn")
	}
	o.events = append(o.events, event{id, p, change})
	if o.changed != nil {
		o.changed(ctx)
	}
	return o.failing
}

func (o *outside) mine(id wire.SessionID) {
	if id != o.session.ID {
		panic("another session is meant")
	}
}

func (o *outside) Open(ctx context.Context, id wire.SessionID, sub wire.SubRef) (bool, error) {
	o.mine(id)
	o.doors = append(o.doors, fmt.Sprint("open ", sub))
	if slices.Contains(o.open[:], sub) {
		return true, nil
	}
	free := slices.Index(o.open[:], wire.SubRef{})
	if free < 0 {
		return false, nil
	}
	if o.meanwhile != nil {
		o.meanwhile()
	}
	r, err := o.rights(ctx, sub)
	if err != nil {
		return true, err
	}
	o.open[free] = sub
	if r.MayCast() {
		o.writable[free] = sub
	}
	return true, nil
}

// rights reads what the session may do; errShut: not have it open.
func (o *outside) rights(ctx context.Context, sub wire.SubRef) (channel.Rights, error) {
	who := channel.Caller{User: o.session.User.ID, Override: o.session.Override}
	r, err := o.rules.Rights(ctx, who, sub.Channel, sub.Sub)
	if err == nil && !r.MayOpen() {
		err = errShut
	}
	return r, err
}

var errShut = module.Invalid("It is shut.")

func (o *outside) Close(_ context.Context, id wire.SessionID, sub wire.SubRef) error {
	o.mine(id)
	o.doors = append(o.doors, fmt.Sprint("close ", sub))
	if i := slices.Index(o.open[:], sub); i >= 0 {
		o.open[i], o.writable[i] = wire.SubRef{}, wire.SubRef{}
	}
	return o.refuse
}

func (o *outside) OpenSubs(id wire.SessionID) (open, writable wire.SubList) {
	o.mine(id)
	return o.open, o.writable
}

// Set runs on the goroutine of the command, as all that reads the session.
func (o *outside) Set(ctx context.Context, id wire.SessionID, on bool) error {
	o.mine(id)
	o.sets = append(o.sets, on)
	if o.refuse != nil {
		return o.refuse
	}
	o.session.Override = on
	for i, sub := range o.open {
		if sub == (wire.SubRef{}) {
			continue
		}
		r, err := o.rights(ctx, sub)
		if err != nil {
			o.open[i] = wire.SubRef{}
		}
		o.writable[i] = wire.SubRef{}
		if err == nil && r.MayCast() {
			o.writable[i] = sub
		}
	}
	return nil
}

func (o *outside) Held(user wire.UserID) bool { return slices.Contains(o.held, user) }

// fixture is the commands over rules with a database, and what is around them.
type fixture struct {
	*outside
	t         *testing.T
	db        *store.Store
	commands  []*module.Command
	log       *bytes.Buffer
	subs      int // max_sub_channels
	allActive bool
}

func user(name string) channel.User {
	u := channel.User{Name: name, Display: "The " + name}
	copy(u.ID[:], "id of "+name)
	return u
}

func id(name string) wire.UserID { return user(name).ID }

func caller(name string) channel.Caller { return channel.Caller{User: id(name)} }

// people are the users of a room, one of each kind.
var people = []string{"owner", "admin", "officer", "regular", "invited", "stranger"}

// members are those who hear of a change in the room, in the order of the
// store.
var members = []wire.UserID{id("owner"), id("admin"), id("officer"), id("regular")}

// room is the channel of newRoom.
var room = channel.Channel{ID: 1, Name: "Room"}

// newRoom returns a fixture with the channel "Room" (1), one member of each
// level, the sub-channels "Inside" (0, level 4) and "Outside" (1, level 5), and
// the flags (1, 5) and (0, 4).
func newRoom(t *testing.T) *fixture {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "data.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{outside: new(outside), t: t, db: db, log: new(bytes.Buffer), subs: 3}
	f.rules = channel.New(channel.Config{Store: db, MaxSubChannels: func() int { return f.subs }})
	for _, b := range channels.Commands(channels.Config{
		Rules: f.rules, Events: f, Doors: f, Overrides: f,
		Log:      slog.New(slog.NewTextHandler(f.log, nil)),
		Settings: func() channels.Settings { return channels.Settings{AllActive: f.allActive} },
	}) {
		f.commands = append(f.commands, b.Command)
	}
	for _, name := range people {
		f.user(name)
	}
	for _, step := range [][]string{
		{"owner", "add_ch", "-ch_name Room"},
		{"owner", "invite_to_ch", "-ch_name Room -user admin"},
		{"owner", "invite_to_ch", "-ch_name Room -user officer"},
		{"owner", "invite_to_ch", "-ch_name Room -user regular"},
		{"owner", "invite_to_ch", "-ch_name Room -user invited"},
		{"admin", "accept_ch", "-ch_name Room"},
		{"officer", "accept_ch", "-ch_name Room"},
		{"regular", "accept_ch", "-ch_name Room"},
		{"owner", "set_member_level", "-ch_name Room -user admin -level 2"},
		{"owner", "set_member_level", "-ch_name Room -user officer -level 3"},
		{"owner", "add_sub_ch", "-ch_name Room -sub_name Inside"},
		{"owner", "add_sub_ch", "-ch_name Room -sub_name Outside"},
		{"owner", "set_sub_ch_level", "-ch_name Room -sub_name Outside -level 5"},
		{"owner", "add_rdonly_flag", "-ch_name Room -sub_id 1 -level 5"},
		{"owner", "add_rdonly_flag", "-ch_name Room -sub_id 0 -level 4"},
	} {
		f.call(step[0], step[1], step[2]).End(wire.NoErrors)
	}
	f.events = nil
	return f
}

// user makes an account.
func (f *fixture) user(name string) {
	f.t.Helper()
	r := account.Record{User: account.User{
		ID: id(name), Name: name, Email: name + "@example.org", Display: "The " + name, Rank: 2, Registered: time.Unix(0, 0).UTC(),
	}, Hash: "h"}
	if err := f.db.Create(f.t.Context(), r, false); err != nil {
		f.t.Fatal(err)
	}
}

// call calls a command as a user; "name!" has the owner override, and nobody
// is logged in as "".
func (f *fixture) call(name, command, args string) *moduletest.Call {
	f.t.Helper()
	name, override := strings.CutSuffix(name, "!")
	f.session = &module.Session{ID: wire.SessionID{7}, Override: override}
	if name != "" {
		f.session.User = &module.User{ID: id(name), Name: name, Display: "The " + name, Rank: 2}
	}
	return moduletest.StartFrame(f.t, moduletest.Config{Command: f.command(command), Session: f.session},
		wire.Frame{Type: wire.Text, Payload: []byte(args)})
}

func (f *fixture) command(name string) *module.Command {
	f.t.Helper()
	for _, c := range f.commands {
		if c.Name == name {
			return c
		}
	}
	f.t.Fatalf("there is no %s", name)
	return nil
}

// told checks what Events has been told, and forgets it.
func (f *fixture) told(want ...event) {
	f.t.Helper()
	got := f.events
	f.events = nil
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		f.t.Errorf("events (-want +got):\n%s", diff)
	}
}
