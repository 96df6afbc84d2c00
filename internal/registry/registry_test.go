package registry_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"weak"

	"mrci.dev/mrci/internal/registry"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

func nothing(context.Context, *module.Call) error { return nil }

func builtins() []registry.Builtin {
	cmd := func(name string, class module.Class) registry.Builtin {
		return registry.Builtin{Command: &module.Command{
			Name: name, Class: class, Short: "short of " + name, Long: "long of " + name, Run: nothing,
			Args: []module.Arg{{Name: "x"}},
		}}
	}
	flagged := cmd("flagged", module.Ranked)
	flagged.Further, flagged.When = module.Public, registry.Flags{PublicReg: true, PWReset: true}
	return []registry.Builtin{
		cmd("both", module.Public|module.Exempt), cmd("public", module.Public), cmd("exempt", module.Exempt),
		cmd("five", module.Ranked), cmd("Nine", module.Ranked), cmd("admin", module.Ranked), flagged,
	}
}

func newRegistry(t testing.TB, flags registry.Flags) *registry.Registry {
	t.Helper()
	r, err := registry.New(builtins(), "library", flags, registry.Ranks{
		{Module: registry.BuiltinModule, Command: "five"}:   5,
		{Module: registry.BuiltinModule, Command: "nine"}:   9,
		{Module: registry.BuiltinModule, Command: "exempt"}: 1,
		{Module: "other", Command: "admin"}:                 9,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func names(s *registry.Snapshot) string {
	var all []string
	for _, l := range s.Commands() {
		all = append(all, l.Name)
	}
	return strings.Join(all, " ")
}

func TestOffer(t *testing.T) {
	plain, open := newRegistry(t, registry.Flags{}), newRegistry(t, registry.Flags{PublicReg: true, PWReset: true})
	half := newRegistry(t, registry.Flags{PublicReg: true})
	tests := []struct {
		name string
		r    *registry.Registry
		rank wire.Rank
		want string
	}{
		{"nobody", plain, wire.NoRank, "both public"},
		{"nobody, one of two flags", half, wire.NoRank, "both public"},
		{"nobody, flags set", open, wire.NoRank, "both public flagged"},
		{"rank 1", plain, 1, "both exempt five Nine admin flagged"},
		{"rank 2", plain, 2, "both exempt five Nine"},
		{"rank 5", plain, 5, "both exempt five Nine"},
		{"rank 6", plain, 6, "both exempt Nine"},
		{"rank 9", plain, 9, "both exempt Nine"},
		{"rank 10", plain, 10, "both exempt"},
		{"lowest rank", plain, 1<<32 - 1, "both exempt"},
		{"flags make no login rank", open, 10, "both exempt"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := names(tt.r.Offer(tt.rank)); got != tt.want {
				t.Errorf("offered %q, want %q", got, tt.want)
			}
		})
	}
}

// TestShared: sessions whose ranks lie between the same two thresholds have one
// list in memory.
func TestShared(t *testing.T) {
	r := newRegistry(t, registry.Flags{})
	for _, same := range [][]wire.Rank{{wire.NoRank}, {1}, {2, 3, 4, 5}, {6, 7, 8, 9}, {10, 11, 1000, 1<<32 - 1}} {
		for _, rank := range same {
			if r.Offer(rank) != r.Offer(same[0]) {
				t.Errorf("ranks %d and %d do not share their list", same[0], rank)
			}
		}
	}
	if r.Offer(1) == r.Offer(2) || r.Offer(9) == r.Offer(10) || r.Offer(wire.NoRank) == r.Offer(10) {
		t.Error("different lists are one")
	}
}

func TestLookup(t *testing.T) {
	r := newRegistry(t, registry.Flags{})
	for _, rank := range []wire.Rank{wire.NoRank, 1, 6, 10} {
		s := r.Offer(rank)
		found := 0
		for id := range 1 << 16 {
			if l := s.Lookup(wire.CmdID(id)); l != nil {
				found++
				if l.ID != wire.CmdID(id) || l.ID < wire.FirstCmdID {
					t.Errorf("Lookup(%d) has the id %d", id, l.ID)
				}
			}
		}
		if found != len(s.Commands()) {
			t.Errorf("rank %d: %d commands found of %d", rank, found, len(s.Commands()))
		}
	}
	var none *registry.Snapshot
	if none.Lookup(256) != nil || none.Commands() != nil {
		t.Error("the nil snapshot has commands")
	}
	s := r.Offer(1)
	if n := testing.AllocsPerRun(100, func() { s.Lookup(258); s.Lookup(9999) }); n != 0 {
		t.Errorf("Lookup allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { r.Offer(7) }); n != 0 {
		t.Errorf("Offer of a known list allocates %v times", n)
	}
	from := r.Offer(wire.NoRank)
	s.From(from, false)
	if n := testing.AllocsPerRun(100, func() { s.From(from, false) }); n != 0 {
		t.Errorf("From of a known change allocates %v times", n)
	}
}

// TestOldListsGo: a change is remembered, and the list from which it leads is
// not.
func TestOldListsGo(t *testing.T) {
	r := newRegistry(t, registry.Flags{})
	var old []weak.Pointer[registry.Snapshot]
	offered := r.Offer(1)
	for rank := range wire.Rank(5) {
		old = append(old, weak.Make(offered))
		r.SetRanks(registry.Ranks{{Module: registry.BuiltinModule, Command: "five"}: rank + 1})
		now := r.Offer(1)
		now.From(offered, false)
		now.From(nil, false)
		offered = now
	}
	runtime.GC()
	for i, list := range old {
		if list.Value() != nil {
			t.Errorf("list %d of %d is still there", i, len(old))
		}
	}
	if r.Offer(1) != offered {
		t.Error("the list that is offered is gone")
	}
	runtime.KeepAlive(r)
}

// told reads the frames of a change.
func told(t *testing.T, frames []byte) (removed []wire.CmdID, added []wire.CommandInfo) {
	t.Helper()
	for len(frames) > 0 {
		f, rest, ok := wire.CutFrame(frames)
		if !ok || f.Branch != 0 {
			t.Fatalf("bad frames: %x", frames)
		}
		frames = rest
		switch {
		case f.Type == wire.CommandID && f.Cmd == wire.CmdID(wire.AsyncRmCmd) && added == nil:
			var ref wire.CommandRef
			if err := wire.Parse(f.Payload, &ref); err != nil {
				t.Fatal(err)
			}
			removed = append(removed, ref.ID)
		case f.Type == wire.NewCmd && f.Cmd == wire.CmdID(wire.AsyncAddCmd):
			var info wire.CommandInfo
			if err := wire.Parse(f.Payload, &info); err != nil {
				t.Fatal(err)
			}
			added = append(added, info)
		default:
			t.Fatalf("%s under %s in this place", f.Type, f.Cmd)
		}
	}
	return removed, added
}

func TestFrom(t *testing.T) {
	r := newRegistry(t, registry.Flags{})
	ranks := []wire.Rank{wire.NoRank, 1, 5, 9, 10}
	for _, from := range ranks {
		for _, to := range ranks {
			t.Run(fmt.Sprintf("%d to %d", from, to), func(t *testing.T) {
				old, now := r.Offer(from), r.Offer(to)
				c := now.From(old, false)
				removed, added := told(t, c.Frames)
				if !slices.Equal(removed, c.Removed) {
					t.Errorf("RM_CMD for %v, Removed is %v", removed, c.Removed)
				}
				list := make(map[wire.CmdID]bool)
				for _, l := range old.Commands() {
					list[l.ID] = true
				}
				for _, id := range removed {
					if !list[id] {
						t.Errorf("%d goes and was not there", id)
					}
					delete(list, id)
				}
				for _, info := range added {
					if list[info.ID] {
						t.Errorf("%d comes and was there", info.ID)
					}
					list[info.ID] = true
					if info.Schema != "" {
						t.Errorf("%s has a schema", info.Name)
					}
				}
				for _, l := range now.Commands() {
					if !list[l.ID] {
						t.Errorf("%s is missing", l.Name)
					}
					delete(list, l.ID)
				}
				if len(list) > 0 {
					t.Errorf("left over: %v", list)
				}
				if _, with := told(t, now.From(old, true).Frames); len(with) != len(added) || len(with) > 0 && with[0].Schema == "" {
					t.Error("no schema for those who asked")
				}
			})
		}
	}
	_, all := told(t, r.Offer(1).From(nil, false).Frames)
	if len(all) != len(r.Offer(1).Commands()) {
		t.Errorf("%d commands in the first list of %d", len(all), len(r.Offer(1).Commands()))
	}
	if info := all[0]; info.Name != "both" || info.Library != "library" || info.Short != "short of both" ||
		info.Long != "long of both" || info.IO != "[{-x (text)}]/[]" {
		t.Errorf("told %+v", info)
	}
}

// TestSettings: lists that sessions hold stay as they are, new ones follow the
// settings, and ids stay.
func TestSettings(t *testing.T) {
	r := newRegistry(t, registry.Flags{})
	old := r.Offer(wire.NoRank)
	r.SetFlags(registry.Flags{PublicReg: true, PWReset: true, EmailVerify: true})
	now := r.Offer(wire.NoRank)
	if names(old) != "both public" || names(now) != "both public flagged" {
		t.Errorf("before %q, after %q", names(old), names(now))
	}
	if c := now.From(old, false); len(c.Removed) != 0 {
		t.Errorf("%v goes", c.Removed)
	}
	before := r.Offer(5)
	five := before.Lookup(259)
	r.SetRanks(registry.Ranks{{Module: registry.BuiltinModule, Command: "admin"}: 5})
	after := r.Offer(5)
	if names(after) != "both exempt admin" {
		t.Errorf("new ranks: %q", names(after))
	}
	if c := after.From(before, false); len(c.Removed) != 2 || before.Lookup(259) != five || after.Lookup(259) != nil {
		t.Errorf("removed %v", c.Removed)
	}
	// Many versions: what is remembered stays bounded, and right.
	for range 200 {
		r.SetRanks(nil)
		if c := r.Offer(1).From(before, false); len(c.Removed) != 0 {
			t.Fatalf("removed %v", c.Removed)
		}
		for range 2 {
			last := r.Offer(5)
			r.SetRanks(nil)
			if c := r.Offer(5).From(last, false); len(c.Frames) != 0 {
				t.Fatal("a list changed into itself")
			}
		}
	}
	target := r.Offer(1)
	for range 200 {
		r.SetRanks(nil)
		target.From(r.Offer(5), false)
	}
}

func TestAtOnce(t *testing.T) {
	r := newRegistry(t, registry.Flags{})
	var group sync.WaitGroup
	for n := range 4 {
		group.Go(func() {
			held := r.Offer(wire.NoRank)
			for i := range 300 {
				if n == 0 {
					r.SetFlags(registry.Flags{PublicReg: i%2 == 0})
					continue
				}
				now := r.Offer(wire.Rank(i % 12))
				now.From(held, i%2 == 0)
				held = now
			}
		})
	}
	group.Wait()
}

func TestRefused(t *testing.T) {
	good := builtins()[0]
	long := builtins()[0]
	command := *long.Command
	command.Name = strings.Repeat("x", 65)
	long.Command = &command
	upper := builtins()[0]
	other := *upper.Command
	other.Name = "BOTH"
	upper.Command = &other
	many := make([]registry.Builtin, 65536-256+1)
	for i := range many {
		c := *good.Command
		c.Name = fmt.Sprint("c", i)
		many[i] = registry.Builtin{Command: &c}
	}
	for name, list := range map[string][]registry.Builtin{
		"twice": {good, good}, "twice in another case": {good, upper}, "bad name": {long}, "no id left": many,
	} {
		if _, err := registry.New(list, "", registry.Flags{}, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	s := newRegistry(b, registry.Flags{}).Offer(1)
	b.ReportAllocs()
	for b.Loop() {
		if s.Lookup(258) == nil {
			b.Fatal("not found")
		}
	}
}
