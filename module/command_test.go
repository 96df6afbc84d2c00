package module_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

var update = flag.Bool("update", false, "rewrite the golden files below testdata")

func nothing(context.Context, *module.Call) error { return nil }

// shapes are descriptions of every kind, by name.
var shapes = map[string]*module.Command{
	"none": {Name: "none"},
	"text": {Name: "text", Output: []string{"text"}, Args: []module.Arg{
		{Name: "ch_name", Required: true, Doc: "name of the channel"},
		{Name: "sub_id", Kind: module.Int, Max: 255, Doc: "id of the <sub-channel>"},
	}, Hints: module.Hints{ReadOnly: true, Idempotent: true}},
	"kinds": {Name: "kinds", Output: []string{"text", "file"}, Args: []module.Arg{
		{Name: "a"},
		{Name: "b", Kind: module.Int, Min: 1},
		{Name: "c", Kind: module.Bool, Required: true},
		{Name: "d", Kind: module.Flag},
		{Name: "e", MayBeEmpty: true},
		{Name: "f", MayBeEmpty: true, Required: true},
		{Name: "g", Kind: module.Flag, Required: true},
	}, Hints: module.Hints{Destructive: true, Confirm: true}},
	"one_of": {Name: "one_of", OneOf: true, Output: []string{"text"}, Args: []module.Arg{
		{Name: "user", Doc: "name"}, {Name: "id", Kind: module.Int}, {Name: "all", Kind: module.Flag},
	}},
	"one_of_none": {Name: "one_of_none", OneOf: true},
	"upload":      {Name: "upload", Input: module.GenFileInput, Args: []module.Arg{{Name: "remote_file", Required: true}}},
	"any":         {Name: "any", Input: module.AnyInput, Args: []module.Arg{{Name: "unused"}}},
	"session":     {Name: "session", Input: module.SessionInput, Output: []string{"p2p_request"}},
}

func TestIOText(t *testing.T) {
	want := map[string]string{
		"none":        "[]/[]",
		"text":        "[-ch_name (text) {-sub_id (int)}]/[text]",
		"kinds":       "[{-a (text)} {-b (int)} -c (0 or 1) {-d} {-e {(text)}} -f {(text)} -g]/[text] or [file]",
		"one_of":      "[-user (text)] or [-id (int)] or [-all]/[text]",
		"one_of_none": "[]/[]",
		"upload":      "[-remote_file (text)]/[]",
		"any":         "[any]/[]",
		"session":     "[session_id]/[p2p_request]",
	}
	for name, c := range shapes {
		if got := c.IOText(); got != want[name] {
			t.Errorf("%s: got %s, want %s", name, got, want[name])
		}
	}
}

func TestSchema(t *testing.T) {
	for name, c := range shapes {
		t.Run(name, func(t *testing.T) {
			got := c.Schema()
			var decoded map[string]any
			if err := json.Unmarshal([]byte(got), &decoded); err != nil {
				t.Fatalf("not JSON: %v", err)
			}
			if decoded["type"] != "object" || strings.ContainsRune(got, 0) {
				t.Errorf("no schema of an object: %s", got)
			}
			if again := c.Schema(); again != got {
				t.Errorf("the second time it is another:\n%s\n%s", got, again)
			}
			indented, err := json.MarshalIndent(json.RawMessage(got), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "schema_"+name+".json", string(indented)+"\n")
		})
	}
}

// golden compares with a file below testdata; -update writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestValidate(t *testing.T) {
	arg := func(args ...module.Arg) module.Command {
		return module.Command{Name: "x", Class: module.Public, Run: nothing, Args: args}
	}
	tests := map[string]struct {
		command module.Command
		want    string // part of the error; empty: none
	}{
		"whole":             {arg(module.Arg{Name: "a"}, module.Arg{Name: "b", Kind: module.Int, Min: 5}), ""},
		"no name":           {module.Command{Class: module.Public, Run: nothing}, "a name has 1 to 64 bytes"},
		"no function":       {module.Command{Name: "x", Class: module.Public}, "no function"},
		"no class":          {module.Command{Name: "x", Run: nothing}, "offered to nobody"},
		"argument, no name": {arg(module.Arg{Name: "a"}, module.Arg{}), `argument 2: "" is not a name`},
		"argument, blank":   {arg(module.Arg{Name: "a b"}), "is not a name"},
		"argument, dash":    {arg(module.Arg{Name: "-a"}), "is not a name"},
		"argument twice":    {arg(module.Arg{Name: "a"}, module.Arg{Name: "A"}), "argument A stands twice"},
		"empty range":       {arg(module.Arg{Name: "a", Kind: module.Int, Min: 6, Max: 5}), "no number is from 6 to 5"},
	}
	for name, test := range tests {
		err := test.command.Validate()
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"a":                     true,
		"fs_upload":             true,
		"größe-2.1":             true,
		strings.Repeat("x", 64): true,
		"":                      false,
		strings.Repeat("x", 65): false,
		strings.Repeat("é", 33): false,
		"a b":                   false,
		"a\u00a0b":              false,
		"a\u3000":               false,
		"a\tb":                  false,
		"a\x00":                 false,
		"a\x7f":                 false,
		"a\u200b":               false, // format
		"a\u202eb":              false, // bidirectional
		"a\xff":                 false,
		"a\ufffd":               false,
		"\U0001f600":            true,
		"\U0010ffff":            false, // unassigned
	} {
		if got := module.ValidName(name); got != want {
			t.Errorf("ValidName(%q) = %v", name, got)
		}
	}
}

func TestClass(t *testing.T) {
	both := module.Public | module.Exempt
	if !both.Has(module.Public) || !both.Has(module.Exempt) || !both.Has(both) || both.Has(module.Ranked) || both.Has(module.Ranked|module.Public) {
		t.Error("Has is wrong")
	}
}

func TestFailure(t *testing.T) {
	tests := []struct {
		err  error
		code wire.ReturnCode
		text string
		say  string // Error()
	}{
		{module.Fail(wire.ExecutionFail, "%d of %s", 3, "x"), wire.ExecutionFail, "3 of x", "3 of x"},
		{module.Invalid("no %s", "y"), wire.InvalidParams, "no y", "no y"},
		{module.ErrAborted, wire.Aborted, "", "ABORTED"},
		{&module.Failure{Code: wire.Custom, Data: []byte{1}}, wire.Custom, "", "CUSTOM"},
	}
	for _, test := range tests {
		var failure *module.Failure
		if !errors.As(fmt.Errorf("wrapped: %w", test.err), &failure) {
			t.Errorf("%v is no *Failure", test.err)
			continue
		}
		if failure.Code != test.code || failure.Text != test.text || test.err.Error() != test.say {
			t.Errorf("got %+v, %q", failure, test.err)
		}
	}
}

func TestSentence(t *testing.T) {
	for text, want := range map[string]string{
		"no such user": "No such user.", "Already one.": "Already one.", "école fermée": "École fermée.", "and so on...": "And so on.",
		"\xff": "\ufffd.", "": "",
	} {
		if got := module.Sentence(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}
