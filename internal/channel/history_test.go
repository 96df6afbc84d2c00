package channel_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/wire"
)

// model is what a host should have stored, kept in the simplest way: levels
// are numbers, 0 is nobody, an invite is level 10.
type model struct {
	users map[string]bool
	rooms map[string]*modelRoom // by folded name
	last  uint64                // the highest id that a channel has had
	limit int
}

type modelRoom struct {
	id      uint64
	name    string
	members map[string]int
	subs    map[int]*modelSub
	flags   map[[2]int]bool
}

type modelSub struct {
	name   string
	lowest int
	active bool
}

const asked = 10

// level is that with which somebody acts.
func (r *modelRoom) level(user string, override bool) int {
	switch l := r.members[user]; {
	case override:
		return 1
	case l == 0 || l == asked:
		return 5
	default:
		return l
	}
}

func (r *modelRoom) sub(name string) (int, *modelSub) {
	for id, s := range r.subs {
		if strings.EqualFold(s.name, name) {
			return id, s
		}
	}
	return -1, nil
}

// audience are the members, sorted.
func (r *modelRoom) audience(also ...string) []wire.UserID {
	var list []wire.UserID
	for _, name := range slices.Sorted(maps.Keys(r.members)) {
		if r.members[name] != asked {
			list = append(list, id(name))
		}
	}
	for _, name := range also {
		if !slices.Contains(list, id(name)) {
			list = append(list, id(name))
		}
	}
	return list
}

// event is what all changes tell, in one form.
type event struct {
	ID       uint64
	Name     string
	OldName  string
	User     string
	Level    int // asked: invited
	OldLevel int
	Sub      int
	SubName  string
	Flag     int
	Hear     []wire.UserID
}

func level(l wire.Level, pending bool) int {
	if pending {
		return asked
	}
	return int(l)
}

func memberEvent(m channel.MemberChange) event {
	return event{ID: uint64(m.Channel.ID), Name: m.Channel.Name, User: m.Member.Name, Level: level(m.Member.Level, m.Member.Pending),
		OldLevel: level(m.OldLevel, m.WasPending), Hear: m.Hear}
}

func subEvent(s channel.SubChange) event {
	return event{ID: uint64(s.Channel.ID), Name: s.Channel.Name, OldName: s.Old.Name, Level: int(s.Sub.Lowest), Sub: int(s.Sub.ID),
		SubName: s.Sub.Name, Hear: s.Hear}
}

func (r *modelRoom) event(user string, now, old int, also ...string) event {
	return event{ID: r.id, Name: r.name, User: user, Level: now, OldLevel: old, Hear: r.audience(also...)}
}

// machine does the same with a Service over SQLite and with the model.
type machine struct {
	f        *fixture
	accounts *account.Service
	m        *model
	steps    *int
	refused  *int
	checks   int
}

var (
	historyUsers = []string{"ann", "bob", "cyd", "dan", "eve"}
	historyNames = []string{"room", "ROOM", "hall", "Hall", "attic"}
	historySubs  = []string{"main", "MAIN", "side", "back"}
)

// refusals of the model: which rule is broken.
var (
	errGone  = channel.ErrCallerGone
	errTaken = channel.ErrNameTaken
)

// check compares an answer with what the model says.
func (h *machine) check(t *rapid.T, what string, got, want []event, err, wantErr error) {
	*h.steps++
	if wantErr != nil {
		*h.refused++
		rule, ok := errors.AsType[*channel.RuleError](err)
		if wantErr == errDenied && ok && rule.Denied || err == wantErr {
			return
		}
		t.Fatalf("%s: got %v, want %v", what, err, wantErr)
	}
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s: %s", what, diff)
	}
}

// act draws who acts in which channel, and finds it in the model.
func (h *machine) act(t *rapid.T) (c channel.Caller, who, name string, r *modelRoom, lvl int, err error) {
	who = rapid.SampledFrom(historyUsers).Draw(t, "caller")
	over := rapid.IntRange(0, 3).Draw(t, "override") == 0
	name = rapid.SampledFrom(historyNames).Draw(t, "channel")
	// Most find a channel, and its owner acts more often than others.
	if rapid.IntRange(0, 3).Draw(t, "somewhere") != 0 {
		for _, key := range slices.Sorted(maps.Keys(h.m.rooms)) {
			if h.m.rooms[strings.ToLower(name)] == nil {
				name = key
			}
		}
	}
	if r := h.m.rooms[strings.ToLower(name)]; r != nil && rapid.IntRange(0, 2).Draw(t, "as owner") == 0 {
		for user, l := range r.members {
			if l == 1 {
				who = user
			}
		}
	}
	c = channel.Caller{User: id(who), Override: over}
	r = h.m.rooms[strings.ToLower(name)]
	switch {
	case !h.m.users[who]:
		err = errGone
	case r == nil:
		err = channel.ErrNoChannel
	default:
		lvl = r.level(who, over)
	}
	return c, who, name, r, lvl, err
}

// subAct is act for something in a sub-channel that takes level 2.
func (h *machine) subAct(t *rapid.T) (c channel.Caller, name, sub string, r *modelRoom, subID int, s *modelSub, err error) {
	c, _, name, r, lvl, err := h.act(t)
	sub = rapid.SampledFrom(historySubs).Draw(t, "sub")
	if err == nil && lvl > 2 {
		err = errDenied
	}
	if err == nil {
		subID, s = r.sub(sub)
		if s == nil {
			err = channel.ErrNoSubChannel
		}
	}
	return c, name, sub, r, subID, s, err
}

func one[T any](convert func(T) event, v T, err error) ([]event, error) {
	if err != nil {
		return nil, err
	}
	return []event{convert(v)}, nil
}

func (h *machine) actions() map[string]func(*rapid.T) {
	f, m := h.f, h.m
	drawUser := func(t *rapid.T) string { return rapid.SampledFrom(historyUsers).Draw(t, "user") }
	return map[string]func(*rapid.T){
		"add": func(t *rapid.T) {
			c, who, name, r, _, wantErr := h.act(t)
			if wantErr == channel.ErrNoChannel {
				wantErr = nil
			}
			if wantErr == nil && r != nil {
				wantErr = errTaken
			}
			change, err := f.Add(ctx, c, name)
			got, err := one(memberEvent, change, err)
			var want []event
			if wantErr == nil {
				m.last++
				r = &modelRoom{id: m.last, name: name, members: map[string]int{who: 1}, subs: map[int]*modelSub{}, flags: map[[2]int]bool{}}
				m.rooms[strings.ToLower(name)] = r
				want = []event{r.event(who, 1, 0)}
			}
			h.check(t, "add", got, want, err, wantErr)
		},
		"remove": func(t *rapid.T) {
			if rapid.IntRange(0, 3).Draw(t, "rarely") != 0 {
				t.Skip()
			}
			c, _, name, r, lvl, wantErr := h.act(t)
			if wantErr == nil && lvl != 1 {
				wantErr = errDenied
			}
			change, err := f.Remove(ctx, c, name)
			var got, want []event
			if err == nil {
				got = []event{{ID: uint64(change.Channel.ID), Name: change.Channel.Name, OldName: change.OldName, Hear: change.Hear, Level: len(change.Invited)}}
			}
			if wantErr == nil {
				invited := 0
				for _, l := range r.members {
					if l == asked {
						invited++
					}
				}
				want = []event{{ID: r.id, Name: r.name, OldName: r.name, Hear: r.audience(), Level: invited}}
				delete(m.rooms, strings.ToLower(name))
			}
			h.check(t, "remove", got, want, err, wantErr)
		},
		"rename": func(t *rapid.T) {
			c, _, name, r, lvl, wantErr := h.act(t)
			to := rapid.SampledFrom(historyNames).Draw(t, "to")
			if wantErr == nil {
				switch other := m.rooms[strings.ToLower(to)]; {
				case lvl != 1:
					wantErr = errDenied
				case r.name == to:
					wantErr = channel.ErrSameName
				case other != nil && other != r:
					wantErr = errTaken
				}
			}
			change, err := f.Rename(ctx, c, name, to)
			var got, want []event
			if err == nil {
				got = []event{{ID: uint64(change.Channel.ID), Name: change.Channel.Name, OldName: change.OldName, Hear: change.Hear}}
			}
			if wantErr == nil {
				want = []event{{ID: r.id, Name: to, OldName: r.name, Hear: r.audience()}}
				delete(m.rooms, strings.ToLower(name))
				r.name = to
				m.rooms[strings.ToLower(to)] = r
			}
			h.check(t, "rename", got, want, err, wantErr)
		},
		"invite": func(t *rapid.T) {
			c, _, name, r, lvl, wantErr := h.act(t)
			target := drawUser(t)
			if wantErr == nil {
				switch {
				case !m.users[target]:
					wantErr = channel.ErrNoUser
				case lvl > 3:
					wantErr = errDenied
				case r.members[target] == asked:
					wantErr = channel.ErrInvited
				case r.members[target] != 0:
					wantErr = channel.ErrMember
				}
			}
			change, err := f.Invite(ctx, c, name, target)
			got, err := one(memberEvent, change, err)
			var want []event
			if wantErr == nil {
				r.members[target] = asked
				want = []event{r.event(target, asked, 0, target)}
			}
			h.check(t, "invite", got, want, err, wantErr)
		},
		"answer": func(t *rapid.T) {
			c, who, name, r, _, wantErr := h.act(t)
			accept := rapid.IntRange(0, 3).Draw(t, "accept") != 0
			if wantErr == nil && r.members[who] != asked {
				wantErr = channel.ErrNoInvite
			}
			call := f.Decline
			if accept {
				call = f.Accept
			}
			change, err := call(ctx, c, name)
			got, err := one(memberEvent, change, err)
			var want []event
			if wantErr == nil {
				now := asked
				delete(r.members, who)
				if accept {
					r.members[who], now = 4, 4
				}
				want = []event{r.event(who, now, asked, who)}
			}
			h.check(t, "answer", got, want, err, wantErr)
		},
		"remove member": func(t *rapid.T) {
			c, who, name, r, lvl, wantErr := h.act(t)
			target := drawUser(t)
			var is int
			if wantErr == nil {
				is = r.members[target]
				switch {
				case !m.users[target]:
					wantErr = channel.ErrNoUser
				case who == target && is == 1:
					wantErr = channel.ErrOwnerStays
				case who == target && is != 0:
				case who == target:
					wantErr = channel.ErrNotMember
				case is == 0 && lvl == 5:
					wantErr = errDenied
				case is == 0:
					wantErr = channel.ErrNotMember
				case is == asked && lvl <= 3 || is != asked && lvl < is:
				default:
					wantErr = errDenied
				}
			}
			change, err := f.RemoveMember(ctx, c, name, target)
			got, err := one(memberEvent, change, err)
			var want []event
			if wantErr == nil {
				delete(r.members, target)
				want = []event{r.event(target, is, is, target)}
			}
			h.check(t, "remove member", got, want, err, wantErr)
		},
		"set level": func(t *rapid.T) {
			c, _, name, r, lvl, wantErr := h.act(t)
			target := drawUser(t)
			to := rapid.IntRange(1, 4).Draw(t, "level")
			var is int
			if wantErr == nil {
				is = r.members[target]
				switch {
				case !m.users[target]:
					wantErr = channel.ErrNoUser
				case is != 0 && is != asked && lvl < is && to >= lvl:
				case lvl > 3:
					wantErr = errDenied
				case is == asked:
					wantErr = channel.ErrPending
				case is == 0:
					wantErr = channel.ErrNotMember
				default:
					wantErr = errDenied
				}
			}
			changes, err := f.SetLevel(ctx, c, name, target, wire.Level(to))
			var got, want []event
			for _, change := range changes {
				got = append(got, memberEvent(change))
			}
			if wantErr == nil {
				former := ""
				for user, l := range r.members {
					if l == 1 && to == 1 {
						former = user
					}
				}
				if former != "" {
					r.members[former] = 2
				}
				r.members[target] = to
				want = []event{r.event(target, to, is)}
				if former != "" {
					want = append(want, r.event(former, 2, 1))
				}
			}
			h.check(t, "set level", got, want, err, wantErr)
		},
		"add sub": func(t *rapid.T) {
			c, name, sub, r, _, s, wantErr := h.subAct(t)
			switch {
			case wantErr == channel.ErrNoSubChannel && len(r.subs) >= m.limit:
				wantErr = channel.ErrSubChannelsFull
			case wantErr == channel.ErrNoSubChannel:
				wantErr = nil
			case s != nil:
				wantErr = channel.ErrSubNameTaken
			}
			change, err := f.AddSub(ctx, c, name, sub)
			got, err := one(subEvent, change, err)
			var want []event
			if wantErr == nil {
				free := 0
				for r.subs[free] != nil {
					free++
				}
				r.subs[free] = &modelSub{name: sub, lowest: 4}
				want = []event{{ID: r.id, Name: r.name, Sub: free, SubName: sub, Level: 4, Hear: r.audience()}}
			}
			h.check(t, "add sub", got, want, err, wantErr)
		},
		"remove sub": func(t *rapid.T) {
			c, name, sub, r, subID, s, wantErr := h.subAct(t)
			change, err := f.RemoveSub(ctx, c, name, sub)
			got, err := one(subEvent, change, err)
			var want []event
			if wantErr == nil {
				delete(r.subs, subID)
				want = []event{{ID: r.id, Name: r.name, Sub: subID, SubName: s.name, OldName: s.name, Level: s.lowest, Hear: r.audience()}}
			}
			h.check(t, "remove sub", got, want, err, wantErr)
		},
		"change sub": func(t *rapid.T) {
			c, name, sub, r, subID, s, wantErr := h.subAct(t)
			to := rapid.SampledFrom(historySubs).Draw(t, "to")
			lowest := rapid.IntRange(1, 5).Draw(t, "lowest")
			active := rapid.Bool().Draw(t, "active")
			verb := rapid.SampledFrom([]string{"rename", "level", "active"}).Draw(t, "verb")
			var change channel.SubChange
			var err error
			switch verb {
			case "rename":
				if wantErr == nil {
					if _, other := r.sub(to); s.name == to {
						wantErr = channel.ErrSameName
					} else if other != nil && other != s {
						wantErr = channel.ErrSubNameTaken
					}
				}
				change, err = f.RenameSub(ctx, c, name, sub, to)
			case "level":
				change, err = f.SetSubLevel(ctx, c, name, sub, wire.Level(lowest))
			case "active":
				change, err = f.SetActive(ctx, c, name, sub, active)
			}
			got, err := one(subEvent, change, err)
			var want []event
			if wantErr == nil {
				old := s.name
				switch verb {
				case "rename":
					s.name = to
				case "level":
					s.lowest = lowest
				case "active":
					s.active = active
				}
				want = []event{{ID: r.id, Name: r.name, Sub: subID, SubName: s.name, OldName: old, Level: s.lowest, Hear: r.audience()}}
			}
			h.check(t, verb, got, want, err, wantErr)
		},
		"flag": func(t *rapid.T) {
			c, _, name, r, lvl, wantErr := h.act(t)
			flag := [2]int{rapid.IntRange(0, 3).Draw(t, "sub"), rapid.IntRange(1, 5).Draw(t, "level")}
			add := rapid.IntRange(0, 2).Draw(t, "add") != 0
			if wantErr == nil {
				switch {
				case lvl > 2:
					wantErr = errDenied
				case add && r.flags[flag]:
					wantErr = channel.ErrFlagExists
				case !add && !r.flags[flag]:
					wantErr = channel.ErrNoFlag
				}
			}
			call := f.RemoveFlag
			if add {
				call = f.AddFlag
			}
			change, err := call(ctx, c, name, channel.Flag{Sub: wire.SubID(flag[0]), Level: wire.Level(flag[1])})
			var got, want []event
			if err == nil {
				got = []event{{ID: uint64(change.Channel.ID), Name: change.Channel.Name, Sub: int(change.Flag.Sub), Flag: int(change.Flag.Level), SubName: change.SubName, Hear: change.Hear}}
			}
			if wantErr == nil {
				delete(r.flags, flag)
				if add {
					r.flags[flag] = true
				}
				want = []event{{ID: r.id, Name: r.name, Sub: flag[0], Flag: flag[1], Hear: r.audience()}}
				if s := r.subs[flag[0]]; s != nil {
					want[0].SubName = s.name
				}
			}
			h.check(t, "flag", got, want, err, wantErr)
		},
		"account": func(t *rapid.T) {
			who := drawUser(t)
			if !m.users[who] {
				f.user(t, who)
				m.users[who] = true
				return
			}
			if rapid.IntRange(0, 3).Draw(t, "rarely") != 0 {
				t.Skip()
			}
			out, err := h.accounts.Remove(ctx, id(who), who, func(account.User, account.User) error { return nil })
			owns := false
			left := make(map[uint64]string)
			for _, r := range m.rooms {
				owns = owns || r.members[who] == 1
				if l := r.members[who]; l != 0 {
					delete(r.members, who)
					left[r.id] = fmt.Sprint(r.name, l, r.audience())
					r.members[who] = l
				}
			}
			*h.steps++
			if owns {
				if err != account.ErrOwnsChannel {
					t.Fatalf("account: got %v, want ErrOwnsChannel", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := make(map[uint64]string)
			for _, d := range out.Left {
				got[uint64(d.Channel)] = fmt.Sprint(d.Name, level(d.Level, d.Pending), d.Members)
			}
			if diff := cmp.Diff(left, got); diff != "" {
				t.Fatal(diff)
			}
			delete(m.users, who)
			for _, r := range m.rooms {
				delete(r.members, who)
			}
		},
		// Reading everything takes far longer than a step.
		"": func(t *rapid.T) {
			if h.checks++; h.checks%20 == 0 {
				h.compare(t)
			}
		},
	}
}

// compare holds all that is stored against the model.
func (h *machine) compare(t *rapid.T) {
	page, err := h.f.Channels(ctx, channel.Find{}, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Rows) != len(h.m.rooms) {
		t.Fatalf("%d channels, want %d", len(page.Rows), len(h.m.rooms))
	}
	everything := channel.Caller{Override: true}
	for _, ch := range page.Rows {
		r := h.m.rooms[strings.ToLower(ch.Name)]
		if r == nil || r.id != uint64(ch.ID) || r.name != ch.Name {
			t.Fatalf("channel %+v, want %+v", ch, r)
		}
		_, members, err1 := h.f.Members(ctx, everything, ch.Name, channel.MemberFilter{}, 0, 1000)
		_, subs, err2 := h.f.SubChannels(ctx, everything, ch.Name, 0, 1000)
		_, flags, err3 := h.f.Flags(ctx, everything, ch.Name, 0, 1000)
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		gotMembers, owners := make(map[string]int), 0
		for _, m := range members.Rows {
			gotMembers[m.Name] = level(m.Level, m.Pending)
			if m.Level == wire.Owner {
				owners++
			}
		}
		gotSubs := make(map[int]*modelSub)
		for _, s := range subs.Rows {
			gotSubs[int(s.ID)] = &modelSub{s.Name, int(s.Lowest), s.Active}
		}
		gotFlags := make(map[[2]int]bool)
		for _, f := range flags.Rows {
			gotFlags[[2]int{int(f.Sub), int(f.Level)}] = true
		}
		if diff := cmp.Diff(r.members, gotMembers) + cmp.Diff(r.subs, gotSubs, cmp.AllowUnexported(modelSub{})) + cmp.Diff(r.flags, gotFlags); diff != "" {
			t.Fatalf("channel %s: %s", ch.Name, diff)
		}
		if owners != 1 {
			t.Fatalf("channel %s has %d owners", ch.Name, owners)
		}
		for _, s := range subs.Rows {
			for _, who := range historyUsers {
				rights, err := h.f.Rights(ctx, caller(who), ch.ID, s.ID)
				l := r.level(who, false)
				if err != nil || int(rights.Level) != l || rights.MayOpen() != (l <= int(s.Lowest)) || rights.ReadOnly != r.flags[[2]int{int(s.ID), l}] {
					t.Fatalf("rights of %s: %+v, %v", who, rights, err)
				}
			}
		}
	}
	for _, who := range historyUsers {
		got, want := make(map[string]int), make(map[string]int)
		for _, m := range h.f.memberships(t, who) {
			got[m.Channel.Name] = level(m.Level, m.Pending)
		}
		for _, r := range h.m.rooms {
			if l := r.members[who]; l != 0 {
				want[r.name] = l
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("channels of %s: %s", who, diff)
		}
	}
}

// TestHistory lets random users do random things, and compares each answer and
// all that is stored with the model.
func TestHistory(t *testing.T) {
	f := newFixture(t) // one for all runs: they begin where there are no accounts and channels
	steps, refused := 0, 0
	accounts := account.New(account.Config{Store: f.db})
	var last uint64
	rapid.Check(t, func(t *rapid.T) {
		f.clear(t)
		m := &model{users: make(map[string]bool), rooms: make(map[string]*modelRoom), limit: f.limit, last: last}
		for _, who := range historyUsers[:4] {
			f.user(t, who)
			m.users[who] = true
		}
		h := &machine{f: f, accounts: accounts, m: m, steps: &steps, refused: &refused}
		defer func() { last = max(last, m.last) }()
		h.begin(t)
		t.Repeat(h.actions())
		t.Repeat(h.actions()) // longer than one
		h.compare(t)
	})
	t.Logf("%d steps, %d of them refused", steps, refused)
}

// begin makes a channel with a member of each level.
func (h *machine) begin(t *rapid.T) {
	out, err := h.f.Add(ctx, caller("ann"), "room")
	if err != nil {
		t.Fatal(err)
	}
	h.m.last = uint64(out.Channel.ID)
	h.m.rooms["room"] = &modelRoom{id: h.m.last, name: "room", members: map[string]int{"ann": 1, "bob": 2, "cyd": 3, "dan": 4},
		subs: map[int]*modelSub{0: {name: "main", lowest: 4}}, flags: map[[2]int]bool{}}
	if _, err := h.f.AddSub(ctx, caller("ann"), "room", "main"); err != nil {
		t.Fatal(err)
	}
	for i, who := range historyUsers[1:4] {
		_, err1 := h.f.Invite(ctx, caller("ann"), "room", who)
		_, err2 := h.f.Accept(ctx, caller(who), "room")
		_, err3 := h.f.SetLevel(ctx, caller("ann"), "room", who, wire.Level(i+2))
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
	}
}

// clear removes all channels and the accounts of a history.
func (f *fixture) clear(t *rapid.T) {
	page, err := f.Channels(ctx, channel.Find{}, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	err = f.db.Update(ctx, func(tx channel.Tx) error {
		for _, ch := range page.Rows {
			if err := tx.RemoveChannel(ch.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range historyUsers {
		_, err := f.db.RemoveBy(ctx, id(who), account.Key{ID: id(who)}, func(account.User, account.User, account.Ties) error { return nil })
		if err != nil && !errors.Is(err, account.ErrCallerGone) {
			t.Fatal(err)
		}
	}
}
