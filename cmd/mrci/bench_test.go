package main

import (
	"strings"
	"testing"
	"time"
)

func TestBenchPresets(t *testing.T) {
	for _, test := range []struct {
		what             string
		rounds, sessions int
		round            time.Duration
	}{
		{"call", 15, 5000, 300 * time.Millisecond},
		{"cast", 5, 5000, time.Second},
		{"crowd", 15, 10_000, 300 * time.Millisecond},
	} {
		cmd := benchCmd{What: test.what}
		cmd.preset()
		if cmd.Rounds != test.rounds || cmd.Sessions != test.sessions || cmd.Time != test.round {
			t.Errorf("%s: %d rounds of %v, %d sessions; want %d of %v, %d", test.what, cmd.Rounds, cmd.Time, cmd.Sessions, test.rounds, test.round, test.sessions)
		}
	}
	cmd := benchCmd{What: "cast", Rounds: 1, Sessions: 2, Time: 3}
	if cmd.preset(); cmd.Rounds != 1 || cmd.Sessions != 2 || cmd.Time != 3 {
		t.Errorf("what was asked for was changed: %+v", cmd)
	}
}

func TestBenchChecksCasts(t *testing.T) {
	good := func() benchCmd {
		return benchCmd{What: "crowd", Receivers: []int{1, 1000}, Sizes: []int{128}, Group: 100, Sessions: 10_000, Casts: 1, SlowRate: 1}
	}
	cmd := good()
	if err := cmd.checkCasts(); err != nil {
		t.Errorf("got %v, want no complaint", err)
	}
	for option, change := range map[string]func(*benchCmd){
		"--receivers": func(c *benchCmd) { c.Receivers = []int{10, 0} },
		"--sizes":     func(c *benchCmd) { c.Sizes = []int{8} },
		"--idle":      func(c *benchCmd) { c.Idle = -1 },
		"--slow-rate": func(c *benchCmd) { c.SlowRate = 0 },
		"--group":     func(c *benchCmd) { c.Sessions = 10_001 },
		"--sessions":  func(c *benchCmd) { c.Group = 10 },
		"--casts":     func(c *benchCmd) { c.Casts = 0 },
	} {
		cmd := good()
		change(&cmd)
		if err := cmd.checkCasts(); err == nil || !strings.Contains(err.Error(), option) {
			t.Errorf("%s: got %v, want a complaint that names it", option, err)
		}
	}
}
