package channels

import (
	"context"
	"errors"
	"log/slog"

	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/internal/registry"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// Rules is what the commands need of package channel.
type Rules interface {
	Add(ctx context.Context, c channel.Caller, ch string) (channel.MemberChange, error)
	Remove(ctx context.Context, c channel.Caller, ch string) (channel.ChannelChange, error)
	Rename(ctx context.Context, c channel.Caller, ch, name string) (channel.ChannelChange, error)

	Invite(ctx context.Context, c channel.Caller, ch, name string) (channel.MemberChange, error)
	Accept(ctx context.Context, c channel.Caller, ch string) (channel.MemberChange, error)
	Decline(ctx context.Context, c channel.Caller, ch string) (channel.MemberChange, error)
	RemoveMember(ctx context.Context, c channel.Caller, ch, name string) (channel.MemberChange, error)
	SetLevel(ctx context.Context, c channel.Caller, ch, name string, level wire.Level) ([]channel.MemberChange, error)

	AddSub(ctx context.Context, c channel.Caller, ch, sub string) (channel.SubChange, error)
	RemoveSub(ctx context.Context, c channel.Caller, ch, sub string) (channel.SubChange, error)
	RenameSub(ctx context.Context, c channel.Caller, ch, sub, name string) (channel.SubChange, error)
	SetSubLevel(ctx context.Context, c channel.Caller, ch, sub string, level wire.Level) (channel.SubChange, error)
	SetActive(ctx context.Context, c channel.Caller, ch, sub string, active bool) (channel.SubChange, error)
	AddFlag(ctx context.Context, c channel.Caller, ch string, f channel.Flag) (channel.FlagChange, error)
	RemoveFlag(ctx context.Context, c channel.Caller, ch string, f channel.Flag) (channel.FlagChange, error)

	Rights(ctx context.Context, c channel.Caller, ch wire.ChannelID, sub wire.SubID) (channel.Rights, error)
	Find(ctx context.Context, c channel.Caller, ch, sub string) (channel.Rights, error)
	Open(ctx context.Context, c channel.Caller, ch, sub string) (channel.Rights, error)

	Channels(ctx context.Context, f channel.Find, after channel.Cursor, limit int) (channel.Page[channel.Channel], error)
	Memberships(ctx context.Context, user wire.UserID, after channel.Cursor, limit int) (channel.Page[channel.Membership], error)
	SubChannels(ctx context.Context, c channel.Caller, ch string, after channel.Cursor, limit int) (channel.Channel, channel.Page[channel.SubChannel], error)
	Members(ctx context.Context, c channel.Caller, ch string, f channel.MemberFilter, after channel.Cursor, limit int) (channel.Channel, channel.Page[channel.Member], error)
	Flags(ctx context.Context, c channel.Caller, ch string, after channel.Cursor, limit int) (channel.Channel, channel.Page[channel.Flag], error)
}

// Events tells sessions what has changed. It is called when the change is
// stored, and only then.
type Events interface {
	// Turn waits until nobody else changes a channel: changes are made and told
	// one after the other, so that what is stored and what sessions know change
	// in the same order. Between Turn and done a command makes its change and
	// calls Changed.
	Turn(ctx context.Context) (done func(), err error)
	// Changed acts on a change, which has the async id and the payload of
	// commands 1.9, for all sessions of the host, the caller's own included.
	//
	// When it returns nil the change binds everybody (commands 1.3): no session
	// delivers, receives or starts anything under the old right, casts that were
	// on their way have arrived or never will, the sub-channels that the change
	// closes (protocol 5) are closed, and the caller's own client has its frame
	// in its send queue. Frames for other clients, presence, and what sessions
	// keep for themselves may follow. For clients the frames of one channel come
	// in the order of the calls.
	//
	// Who is told stands in the change (Hear, Invited); holders of a sub-channel
	// who are not members are for Changed to find. The session decides nothing
	// again: who needs certainty about rights reads the rules.
	//
	// ctx does not end with the call, for the change is a fact.
	Changed(ctx context.Context, id wire.AsyncID, payload wire.Payload, change channel.Change) error
}

// Doors are the sub-channels that the sessions of this host have open. They read
// the rights of a session themselves: as they are stored, and under the override
// that the session has at that moment.
type Doors interface {
	// Open opens a sub-channel: it inserts it as closed, then reads the rights,
	// then enables it, for casting too if the session may cast. So a change that is
	// stored before that is seen, and one that is stored later finds the
	// sub-channel inserted and closes it, as if it had been open before: that is
	// no error. When the sub-channel is gone, is not for the session's level any
	// more, or nobody knows, it stays closed, and Open says why.
	//
	// When Open returns, casts arrive and go out, and the peers are told (PEER_STAT,
	// commands 7, open_sub_ch). What is open already stays as it is. room is
	// false, and nothing happens, when the session has wire.MaxOpenSubs others
	// open.
	Open(ctx context.Context, session wire.SessionID, sub wire.SubRef) (room bool, err error)
	// Close closes a sub-channel, and does nothing if it is not open. When it
	// returns, no cast arrives from there or goes there.
	Close(ctx context.Context, session wire.SessionID, sub wire.SubRef) error
	// OpenSubs returns what a session has open, in the order of the client's
	// list, and where of that it may cast.
	OpenSubs(session wire.SessionID) (open, writable wire.SubList)
}

// Overrides are the owner overrides of the sessions of this host: a flag of a
// session that logout clears.
type Overrides interface {
	// Set stores the flag, so that module.Session.Override and Held show it, and
	// after that reads the rights in every sub-channel that the session has open or
	// is about to open: it closes what may not be open, and elsewhere the session
	// may cast from now on as the rights say, be that more or less than before.
	// When Set returns, nothing is delivered, received or started under the old
	// level (commands 1.3). After an error of its own the flag is off, and all
	// is closed that could not be judged. A call whose ctx has ended does not
	// store the flag; once it is stored nothing stops what has to follow.
	Set(ctx context.Context, session wire.SessionID, on bool) error
	// Held reports whether a session of the user has the flag.
	Held(user wire.UserID) bool
}

// Settings are what the configuration says about these commands.
type Settings struct {
	AllActive bool // all_channels_active_update: every sub-channel has the active flag
}

// Config is what the commands need. All fields are set.
type Config struct {
	Rules     Rules
	Events    Events
	Doors     Doors
	Overrides Overrides
	Log       *slog.Logger
	Settings  func() Settings // asked at each use: settings may be reloaded
}

// commands holds what the commands share.
type commands struct{ Config }

// Commands returns the package's commands.
func Commands(cfg Config) []registry.Builtin {
	c := commands{cfg}
	return []registry.Builtin{
		{Command: c.add()},
		{Command: c.remove()},
		{Command: c.rename()},
		{Command: c.find()},
		{Command: c.list()},
		{Command: c.addSub()},
		{Command: c.removeSub()},
		{Command: c.renameSub()},
		{Command: c.listSubs()},
		{Command: c.setSubLevel()},
		{Command: c.setActive()},
		{Command: c.addFlag()},
		{Command: c.removeFlag()},
		{Command: c.listFlags()},
		{Command: c.invite()},
		{Command: c.accept()},
		{Command: c.decline()},
		{Command: c.removeMember()},
		{Command: c.setLevel()},
		{Command: c.listMembers()},
		{Command: c.override(), Override: true},
		{Command: c.openSub()},
		{Command: c.closeSub()},
		{Command: c.listOpen()},
	}
}

// Arguments that several commands have.
var (
	argChannel = module.Arg{Name: "ch_name", Required: true, Doc: "name of the channel"}
	argSub     = module.Arg{Name: "sub_name", Required: true, Doc: "name of the sub-channel"}
	argUser    = module.Arg{Name: "user", Required: true, Doc: "user name"}
)

// event is a change with its async command.
type event struct {
	id      wire.AsyncID
	payload wire.Payload
	change  channel.Change
}

// changing makes a command of a rule that changes something: what do returns
// is handed to Events before the call ends.
func (c commands) changing(cmd module.Command, do func(ctx context.Context, who channel.Caller, args module.Args) ([]event, error)) *module.Command {
	cmd.Class = module.Ranked
	cmd.Run = func(ctx context.Context, call *module.Call) error { return c.change(ctx, call, do) }
	return &cmd
}

// change is the turn of a call that changes something. Nothing is said to the
// client in it: who does not read must not hold up others.
func (c commands) change(ctx context.Context, call *module.Call, do func(ctx context.Context, who channel.Caller, args module.Args) ([]event, error)) error {
	done, err := c.Events.Turn(ctx)
	if err != nil {
		return err
	}
	defer done()
	who, err := caller(call) // as the session is in its turn
	if err != nil {
		return err
	}
	events, err := do(ctx, who, call.Args)
	if err != nil {
		return explain(err)
	}
	return c.tell(ctx, events)
}

// tell hands over what has been stored: nothing stops the call from here on,
// and an event that cannot be told keeps back no other.
func (c commands) tell(ctx context.Context, events []event) error {
	ctx = context.WithoutCancel(ctx)
	var failed []error
	for _, e := range events {
		failed = append(failed, c.Events.Changed(ctx, e.id, e.payload, e.change))
	}
	return errors.Join(failed...)
}

// caller returns on whose behalf the call acts, as the session is now.
func caller(call *module.Call) (channel.Caller, error) {
	s := call.Session()
	if s.User == nil { // logged out between the call and here
		return channel.Caller{}, module.Invalid("You are not logged in.")
	}
	return channel.Caller{User: s.User.ID, Override: s.Override}, nil
}

// explain turns an error of the rules into one for the caller: a broken rule
// is theirs to know, anything else is the host's.
func explain(err error) error {
	if rule, ok := errors.AsType[*channel.RuleError](err); ok {
		return module.Fail(rule.Code, "%s", module.Sentence(rule.Text))
	}
	return err
}
