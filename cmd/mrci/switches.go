package main

import (
	"fmt"
	"strings"

	"mrci.dev/mrci/client"
)

// switchSpelling is a switch of earlier releases and the words that it stands
// for (state 6).
type switchSpelling struct {
	name  string
	words []string
	value bool // the word behind it belongs to it
}

// switches are in the order in which they win when a line has several.
var switches = []switchSpelling{
	{name: "-public_cmds", words: []string{"old-module-mode"}},
	{name: "-exempt_cmds", words: []string{"old-module-mode"}},
	{name: "-user_cmds", words: []string{"old-module-mode"}},
	{name: "-run_cmd", words: []string{"old-module-mode"}, value: true},
	{name: "-help", words: []string{"--help"}},
	{name: "-ls_sql_drvs", words: []string{"drivers"}},
	{name: "-about", words: []string{"about"}},
	{name: "-stop", words: []string{"stop"}},
	{name: "-status", words: []string{"status"}},
	{name: "-load_ssl", words: []string{"reload", "--certificates"}},
	{name: "-addr", words: []string{"reload", "--listen"}, value: true},
	{name: "-host", words: []string{"host"}},
	{name: "-host_trig", words: []string{"host", "--background"}},
	{name: "-elevate", words: []string{"elevate"}, value: true},
	{name: "-add_admin", words: []string{"add-admin"}, value: true},
	{name: "-res_pw", words: []string{"reset-password"}, value: true},
}

// furtherSwitches are options in that style of what the others stand for.
var furtherSwitches = map[string]string{"-password_stdin": "--password-stdin", "-json": "--json"}

// spelledAnew returns a command line of earlier releases in today's words, and
// any other as it is. Switches are matched without regard to case, anywhere on
// the line; the first of the table wins.
func spelledAnew(args []string) ([]string, error) {
	lead := leadingDir(args)
	rest := args[lead:]
	if len(rest) == 0 || !isSwitch(rest[0]) {
		return args, nil
	}
	for _, s := range switches {
		for at, word := range rest {
			if strings.EqualFold(word, s.name) {
				return respell(args[:lead], s, rest, at)
			}
		}
	}
	return nil, unknownSwitch(rest[0])
}

// leadingDir returns how many words of the line --dir takes at its beginning.
func leadingDir(args []string) int {
	switch {
	case len(args) > 1 && args[0] == "--dir":
		return 2
	case len(args) > 0 && strings.HasPrefix(args[0], "--dir="):
		return 1
	}
	return 0
}

// isSwitch reports whether a word has the looks of a switch: one dash and more
// than a letter.
func isSwitch(word string) bool { return len(word) > 2 && word[0] == '-' && word[1] != '-' }

// respell puts the words of a switch first, then its value, then the others.
func respell(lead []string, s switchSpelling, rest []string, at int) ([]string, error) {
	line := append(append([]string(nil), lead...), s.words...)
	last := at
	if s.value && at+1 < len(rest) && !isSwitch(rest[at+1]) {
		last++
		line = append(line, rest[last])
	}
	for i, word := range rest {
		switch name := furtherSwitches[strings.ToLower(word)]; {
		case i >= at && i <= last:
		case name != "":
			line = append(line, name)
		case isSwitch(word) && !known(word):
			return nil, unknownSwitch(word)
		case !isSwitch(word): // a switch that has lost is passed over
			line = append(line, word)
		}
	}
	return line, nil
}

func known(word string) bool {
	for _, s := range switches {
		if strings.EqualFold(word, s.name) {
			return true
		}
	}
	return false
}

func unknownSwitch(word string) error {
	names := make([]string, len(switches))
	for i, s := range switches {
		names[i] = s.name
	}
	near := client.Nearest(word, names)
	if len(near) == 0 {
		return fmt.Errorf("unknown option %s; mrci --help lists what there is", word)
	}
	return fmt.Errorf("unknown option %s, did you mean %q?", word, near[0])
}
