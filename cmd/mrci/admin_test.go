package main

import (
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
)

// TestAdmin: exit statuses and output of state 6.
func TestAdmin(t *testing.T) {
	dir := t.TempDir()
	const good, long = "Correct-horse7", "Correct-horse7 with blanks "
	generated := `^user: \w+\npassword: \S{20}\nIt has to be changed at the next login\.\n$`
	for _, tt := range []struct {
		args   string
		stdin  string
		status int
		out    string // pattern of standard output; of standard error for status 1
	}{
		{args: "-add_admin", status: 1, out: "NAME is missing"},
		{args: "elevate", status: 1, out: "NAME is missing"},
		{args: "-RES_PW", status: 1, out: "NAME is missing"},
		{args: "-elevate alice", status: 1, out: "no such user"},
		{args: "-elevate a@b.example", status: 1, out: "user name"},
		{args: "reset-password alice", status: 1, out: "no such user"},
		{args: "-res_pw x", status: 1, out: "user name"},
		{args: "-add_admin alice", out: generated},
		{args: "-add_admin Alice", status: 1, out: "taken|exists"},
		{args: "-res_pw ALICE", out: generated},
		{args: "-elevate alice", out: `^user: alice\nIt has rank 1 from its next login on\.\n$`},
		{args: "-add_admin bob -password_stdin", stdin: good + "\n", out: `^user: bob\n$`},
		{args: "-add_admin carol -PASSWORD_STDIN", stdin: good + "\r\nmore", out: `^user: carol\n$`},
		{args: "reset-password bob --password-stdin", stdin: long, out: `^user: bob\n$`},
		{args: "reset-password bob --password-stdin", stdin: "", status: 1, out: "no password"},
		{args: "reset-password bob --password-stdin", stdin: "\n" + good, status: 1, out: "no password"},
		{args: "reset-password bob --password-stdin", stdin: "weak\n", status: 1, out: "password"},
		{args: "reset-password bob --password-stdin", stdin: strings.Repeat("Aa1!", 300), status: 1, out: "password"},
		{args: "add-admin dave --password-stdin", stdin: "My-dave-77\n", status: 1, out: "password"},
		{args: "reset-password nobody --password-stdin", stdin: good, status: 1, out: "no such user"},
		{args: "-elevat bob", status: 1, out: `did you mean "-elevate"`},
	} {
		t.Run(tt.args, func(t *testing.T) {
			p := process{stdin: strings.NewReader(tt.stdin), env: map[string]string{"MRCI_DIR": dir}}
			status, stdout, stderr := p.run(t, strings.Fields(tt.args)...)
			said, quiet := stdout, stderr
			if tt.status != 0 {
				said, quiet = stderr, stdout
				if strings.Count(stderr, "\n") != 1 {
					t.Errorf("not one line: %q", stderr)
				}
			} else {
				quiet = "" // the log
			}
			if status != tt.status || !regexp.MustCompile(tt.out).MatchString(said) || quiet != "" || strings.Contains(stdout+stderr, "horse7") {
				t.Errorf("status %d, want %d; out %q, err %q", status, tt.status, stdout, stderr)
			}
		})
	}
}

// A password is taken when its line ends, whatever comes behind it and in
// whatever pieces it comes.
func TestReadPassword(t *testing.T) {
	broken := iotest.ErrReader(errors.New("broken"))
	for name, tt := range map[string]struct {
		in   io.Reader
		want string
	}{
		"nothing comes behind the line": {io.MultiReader(strings.NewReader("Correct-horse7\n"), broken), "Correct-horse7"},
		"byte by byte":                  {iotest.OneByteReader(strings.NewReader("Correct-horse7\r\nmore")), "Correct-horse7"},
		"without an end":                {iotest.DataErrReader(strings.NewReader("Correct-horse7")), "Correct-horse7"},
		"fails in the line":             {io.MultiReader(strings.NewReader("Correct"), broken), ""},
		"only an end":                   {strings.NewReader("\r\n"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readPassword(tt.in)
			if string(got) != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v", string(got), err)
			}
			if rest := got[len(got):cap(got)]; strings.Trim(string(rest), "\x00\r") != "" {
				t.Errorf("%q stays behind the password", rest)
			}
		})
	}
}
