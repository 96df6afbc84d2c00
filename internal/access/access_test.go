package access_test

import (
	"testing"

	"mrci.dev/mrci/internal/access"
	"mrci.dev/mrci/wire"
)

func TestMayRun(t *testing.T) {
	const none = wire.NoRank
	tests := []struct {
		name string
		cmd  access.Command
		rank wire.Rank
		want bool
	}{
		{"public without login", access.Command{Public: true}, none, true},
		{"public with login", access.Command{Public: true}, 1, false},
		{"public and exempt with login", access.Command{Public: true, Exempt: true}, 4000000000, true},
		{"exempt without login", access.Command{Exempt: true}, none, false},
		{"exempt, any rank", access.Command{Exempt: true}, 4294967295, true},
		{"exempt wins over an assigned rank", access.Command{Exempt: true, Ranked: true, Assigned: 1}, 9, true},
		{"ranked without login", access.Command{Ranked: true, Assigned: 4294967295}, none, false},
		{"ranked, no rank assigned, rank 1", access.Command{Ranked: true}, 1, true},
		{"ranked, no rank assigned, rank 2", access.Command{Ranked: true}, 2, false},
		{"ranked, assigned 3, rank 3", access.Command{Ranked: true, Assigned: 3}, 3, true},
		{"ranked, assigned 3, rank 4", access.Command{Ranked: true, Assigned: 3}, 4, false},
		{"ranked, assigned 3, rank 1", access.Command{Ranked: true, Assigned: 3}, 1, true},
		{"no class, rank 1", access.Command{Assigned: 5}, 1, false},
		{"no class, no login", access.Command{}, none, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := access.MayRun(tt.cmd, tt.rank); got != tt.want {
				t.Errorf("MayRun(%+v, %d) = %v, want %v", tt.cmd, tt.rank, got, tt.want)
			}
		})
	}
}

func TestMayChangeUser(t *testing.T) {
	tests := []struct {
		caller, target wire.Rank
		want           bool
	}{
		{1, 2, true}, {2, 2, false}, {3, 2, false}, {1, 1, false},
		{wire.NoRank, 1, false}, {wire.NoRank, wire.NoRank, false},
	}
	for _, tt := range tests {
		if got := access.MayChangeUser(tt.caller, tt.target); got != tt.want {
			t.Errorf("MayChangeUser(%d, %d) = %v, want %v", tt.caller, tt.target, got, tt.want)
		}
	}
}
