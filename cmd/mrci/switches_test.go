package main

import (
	"slices"
	"strings"
	"testing"
)

// TestSwitches: command lines of earlier releases (state 6).
func TestSwitches(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"host --listen 127.0.0.1:0", "host --listen 127.0.0.1:0"},
		{"run HOST cmd -status -stop", "run HOST cmd -status -stop"},
		{"--help", "--help"},
		{"", ""},
		{"-host", "host"},
		{"-HOST", "host"},
		{"--dir /d -Status", "--dir /d status"},
		{"--dir=/d -status -json", "--dir=/d status --json"},
		{"-host -help", "--help"},
		{"-elevate ann -status", "status ann"}, // the status wins, and says that it takes no name
		{"-elevate Ann", "elevate Ann"},
		{"-elevate", "elevate"},
		{"-elevate -host_trig", "host --background"},
		{"-password_stdin -add_admin bob", "add-admin bob --password-stdin"},
		{"-add_admin bob -PASSWORD_STDIN", "add-admin bob --password-stdin"},
		{"-load_ssl", "reload --certificates"},
		{"-addr 127.0.0.1:99", "reload --listen 127.0.0.1:99"},
		{"-host_trig --set a=b", "host --background --set a=b"},
		{"-run_cmd cast -host", "old-module-mode cast"},
		{"-ls_sql_drvs", "drivers"},
		{"-about", "about"},
		{"-hots", `unknown option -hots, did you mean "-host"?`},
		{"-host -elevat ann", `unknown option -elevat, did you mean "-elevate"?`},
		{"-zzzzzzzz", "unknown option -zzzzzzzz; mrci --help lists what there is"},
	} {
		got, err := spelledAnew(strings.Fields(tt.line))
		if err != nil {
			got = []string{err.Error()}
		}
		if line := strings.Join(got, " "); line != tt.want {
			t.Errorf("%q is %q, want %q", tt.line, line, tt.want)
		}
		if slices.Contains(got, "") {
			t.Errorf("%q has an empty word: %q", tt.line, got)
		}
	}
}
