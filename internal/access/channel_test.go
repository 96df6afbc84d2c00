package access_test

import (
	"testing"

	"mrci.dev/mrci/internal/access"
	"mrci.dev/mrci/wire"
)

// levels are all levels, and two that are none.
var levels = []wire.Level{0, wire.Owner, wire.Admin, wire.Officer, wire.Regular, wire.Public, 6}

func TestMayInChannel(t *testing.T) {
	for action, needed := range map[access.ChannelAction]wire.Level{
		access.RemoveChannel: 1, access.RenameChannel: 1,
		access.AddSubChannel: 2, access.RemoveSubChannel: 2, access.RenameSubChannel: 2, access.SetSubChannelLevel: 2,
		access.SetActiveFlag: 2, access.AddReadOnlyFlag: 2, access.RemoveReadOnlyFlag: 2,
		access.Invite: 3, access.ListMembers: 4,
	} {
		if got := access.NeededLevel(action); got != needed {
			t.Errorf("action %d needs %v, want %v", action, got, needed)
		}
		for _, level := range levels {
			want := level >= 1 && level <= needed
			if got := access.MayInChannel(action, level); got != want {
				t.Errorf("action %d, level %d: got %v, want %v", action, level, got, want)
			}
		}
	}
	for _, level := range levels {
		if got, want := access.MayInvite(level), level >= 1 && level <= 3; got != want {
			t.Errorf("invite, level %d: got %v", level, got)
		}
	}
}

func TestChannelLevel(t *testing.T) {
	for _, tt := range []struct {
		name     string
		standing access.Standing
		override bool
		want     wire.Level
	}{
		{"stranger", access.Standing{}, false, wire.Public},
		{"invited", access.Standing{Level: wire.Regular, Pending: true}, false, wire.Public},
		{"owner", access.Standing{Level: wire.Owner}, false, wire.Owner},
		{"admin", access.Standing{Level: wire.Admin}, false, wire.Admin},
		{"officer", access.Standing{Level: wire.Officer}, false, wire.Officer},
		{"regular", access.Standing{Level: wire.Regular}, false, wire.Regular},
		{"no level of a member", access.Standing{Level: wire.Public}, false, wire.Public},
		{"override, stranger", access.Standing{}, true, wire.Owner},
		{"override, invited", access.Standing{Level: wire.Regular, Pending: true}, true, wire.Owner},
		{"override, regular", access.Standing{Level: wire.Regular}, true, wire.Owner},
	} {
		if got := access.ChannelLevel(tt.standing, tt.override); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestMayRemoveMember(t *testing.T) {
	member := func(level wire.Level) access.Standing { return access.Standing{Level: level} }
	invited := access.Standing{Level: wire.Regular, Pending: true}
	for _, tt := range []struct {
		name   string
		caller wire.Level
		target access.Standing
		self   bool
		want   bool
	}{
		{"owner removes admin", 1, member(2), false, true},
		{"owner removes regular", 1, member(4), false, true},
		{"owner with override removes the owner", 1, member(1), false, false},
		{"admin removes owner", 2, member(1), false, false},
		{"admin removes admin", 2, member(2), false, false},
		{"admin removes officer", 2, member(3), false, true},
		{"officer removes officer", 3, member(3), false, false},
		{"officer removes regular", 3, member(4), false, true},
		{"regular removes regular", 4, member(4), false, false},
		{"stranger removes regular", 5, member(4), false, false},
		{"owner removes a stranger", 1, access.Standing{}, false, false},
		{"no level", 0, member(4), false, false},

		{"owner cancels an invite", 1, invited, false, true},
		{"officer cancels an invite", 3, invited, false, true},
		{"regular cancels an invite", 4, invited, false, false},
		{"stranger cancels an invite", 5, invited, false, false},

		{"owner leaves", 1, member(1), true, false},
		{"admin leaves", 2, member(2), true, true},
		{"regular leaves", 4, member(4), true, true},
		{"invited leaves", 5, invited, true, true},
		{"stranger leaves", 5, access.Standing{}, true, false},
		{"admin leaves with override", 1, member(2), true, true},
		{"owner leaves with override", 1, member(1), true, false},
		{"stranger leaves with override", 1, access.Standing{}, true, false},
	} {
		if got := access.MayRemoveMember(tt.caller, tt.target, tt.self); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestMaySetLevel has the whole table: who may make whom what.
func TestMaySetLevel(t *testing.T) {
	allowed := map[[3]wire.Level]bool{ // caller, target, new
		{1, 2, 1}: true, {1, 2, 2}: true, {1, 2, 3}: true, {1, 2, 4}: true,
		{1, 3, 1}: true, {1, 3, 2}: true, {1, 3, 3}: true, {1, 3, 4}: true,
		{1, 4, 1}: true, {1, 4, 2}: true, {1, 4, 3}: true, {1, 4, 4}: true,
		{2, 3, 2}: true, {2, 3, 3}: true, {2, 3, 4}: true,
		{2, 4, 2}: true, {2, 4, 3}: true, {2, 4, 4}: true,
		{3, 4, 3}: true, {3, 4, 4}: true,
	}
	for _, caller := range levels {
		for _, target := range levels {
			for _, level := range levels {
				for _, pending := range []bool{false, true} {
					want := allowed[[3]wire.Level{caller, target, level}] && !pending
					if got := access.MaySetLevel(caller, access.Standing{Level: target, Pending: pending}, level); got != want {
						t.Errorf("%d makes %d (pending %v) %d: got %v, want %v", caller, target, pending, level, got, want)
					}
				}
			}
		}
	}
}

func TestSubChannelRights(t *testing.T) {
	for _, level := range levels {
		for _, lowest := range levels {
			if got, want := access.MayOpen(level, lowest), level >= 1 && level <= lowest; got != want {
				t.Errorf("level %d opens %d: got %v, want %v", level, lowest, got, want)
			}
			if got, want := access.MaySeeSubChannel(level, lowest), level >= 1 && level <= 4 || lowest == 5; got != want {
				t.Errorf("level %d sees %d: got %v, want %v", level, lowest, got, want)
			}
		}
	}
	for _, tt := range []struct {
		level wire.Level
		flags []wire.Level
		want  bool
	}{
		{4, nil, true},
		{5, nil, true},
		{4, []wire.Level{5, 3}, true},
		{4, []wire.Level{5, 4}, false},
		{1, []wire.Level{1}, false},
		{0, nil, false},
		{6, nil, false},
	} {
		if got := access.MayCast(tt.level, tt.flags...); got != tt.want {
			t.Errorf("level %d casts with flags %v: got %v", tt.level, tt.flags, got)
		}
	}
}
