package module_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

func plain(words ...string) (list []module.Word) {
	for _, w := range words {
		list = append(list, module.Word{Text: w})
	}
	return list
}

func TestSplitWords(t *testing.T) {
	quoted := func(text string) []module.Word { return []module.Word{{Text: text, Quoted: true}} }
	tests := []struct {
		name, text string
		want       []module.Word
	}{
		{"nothing", "", nil},
		{"white space", " \t\r\n\v\f\u00a0\u2003\u3000", nil},
		{"words", "a  bc\td\n", plain("a", "bc", "d")},
		{"unicode white space separates", "a\u00a0b\u2028c\u0085d", plain("a", "b", "c", "d")},
		{"what is no white space does not", "a\u200bb\u180ec", plain("a\u200bb\u180ec")},
		{"single quotes", "'a b'", quoted("a b")},
		{"double quotes", `"a b"`, quoted("a b")},
		{"quotes within a word", `a"b c"d`, plain("ab cd")},
		{"one word of two quotes", `'a b'"c d"`, quoted("a bc d")},
		{"the other quote", `"it's" 'a"b'`, append(quoted("it's"), quoted(`a"b`)...)},
		{"escaped quotes outside", `\'a\" \"`, plain(`'a"`, `"`)},
		{"escaped quotes inside", `"a\"b\'c"`, quoted(`a"b'c`)},
		{"backslash before the closing quote", `"a\" b"`, quoted(`a" b`)},
		{"backslash before anything else", `\a \\ \ "\n"`, append(plain(`\a`, `\\`, `\`), quoted(`\n`)...)},
		{"two backslashes and a quote", `\\"`, plain(`\"`)},
		{"backslash at the end", `a\`, plain(`a\`)},
		{"an empty pair", `'' "" a`, plain("a")},
		{"empty pairs in a word", `a""b''`, plain("ab")},
		{"empty pair in front", `""a`, quoted("a")},
		{"dash in front of quotes", `-"a b"`, plain("-a b")},
		{"dash in quotes", `"-a"`, quoted("-a")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := module.SplitWords([]byte(test.text))
			if err != nil {
				t.Fatalf("splitWords(%q): %v", test.text, err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("splitWords(%q) (-want +got):\n%s", test.text, diff)
			}
		})
	}
}

func TestSplitWordsRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"'":               "A quote (') is not closed.",
		`"a`:              `A quote (") is not closed.`,
		`a "b c' d`:       `A quote (") is not closed.`,
		`"a\"`:            `A quote (") is not closed.`,
		`'a' b'`:          "A quote (') is not closed.",
		"a\xff":           "The arguments are not UTF-8 text.",
		"\xed\xa0\x80 'x": "The arguments are not UTF-8 text.",
	} {
		_, err := module.SplitWords([]byte(text))
		checkFailure(t, err, want)
	}
}

func checkFailure(t *testing.T, err error, want string) {
	t.Helper()
	var failure *module.Failure
	if !errors.As(err, &failure) || failure.Code != wire.InvalidParams || failure.Text != want {
		t.Errorf("got error %#v, want INVALID_PARAMS and %q", err, want)
	}
}

// The reference: escaped quotes become characters that nobody types, then a
// regular expression finds words.
var (
	wordPattern  = regexp.MustCompile(`(?:[^'"\t-\r\x{85}\pZ]|'[^']*'|"[^"]*")+`)
	textPattern  = regexp.MustCompile(`^(?:[^'"]|'[^']*'|"[^"]*")*$`)
	pairPattern  = regexp.MustCompile(`'([^']*)'|"([^"]*)"`)
	hideEscaped  = strings.NewReplacer(`\'`, "\ue001", `\"`, "\ue002")
	showEscaped  = strings.NewReplacer("\ue001", "'", "\ue002", `"`)
	standsHidden = "\ue001\ue002"
)

func referenceWords(text string) (words []module.Word, ok bool) {
	text = hideEscaped.Replace(text)
	if !utf8.ValidString(text) || !textPattern.MatchString(text) {
		return nil, false
	}
	for _, found := range wordPattern.FindAllString(text, -1) {
		w := module.Word{
			Text:   showEscaped.Replace(pairPattern.ReplaceAllString(found, "$1$2")),
			Quoted: found[0] == '\'' || found[0] == '"',
		}
		if w.Text != "" {
			words = append(words, w)
		}
	}
	return words, true
}

func checkReference(t interface{ Errorf(string, ...any) }, text string) {
	got, err := module.SplitWords([]byte(text))
	want, ok := referenceWords(text)
	if ok != (err == nil) {
		t.Errorf("splitWords(%q): error %v, the reference says %v", text, err, ok)
	}
	if diff := cmp.Diff(want, got); ok && diff != "" {
		t.Errorf("splitWords(%q) (-reference +got):\n%s", text, diff)
	}
}

func TestSplitWordsReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom([]rune("ab-'\"\\ \t\u00a0é")), 0, 30, -1).Draw(t, "text")
		checkReference(t, text)
	})
}

var probe = &module.Command{
	Name: "probe",
	Args: []module.Arg{
		{Name: "name", Required: true},
		{Name: "note", MayBeEmpty: true},
		{Name: "level", Kind: module.Int, Min: 1, Max: 5},
		{Name: "Big", Kind: module.Int},
		{Name: "on", Kind: module.Bool},
		{Name: "force", Kind: module.Flag},
	},
}

func TestParseArgs(t *testing.T) {
	type values = map[string]string
	tests := []struct {
		name, text string
		want       values // of the switches that stand there
		unknown    []string
	}{
		{"a value", "-name x", values{"name": "x"}, nil},
		{"without regard to case", "-NAME x -bIG 1", values{"name": "x", "Big": "1"}, nil},
		{"any order", "-force -level 5 -name x", values{"name": "x", "level": "5", "force": ""}, nil},
		{"no word limit", "-name x -level 1 -big 2 -on 0 -note n -force", values{"name": "x", "level": "1", "Big": "2", "on": "0", "note": "n", "force": ""}, nil},
		{"the first counts", "-name x -name y", values{"name": "x"}, nil},
		{"a flag takes no value", "-force -name x", values{"name": "x", "force": ""}, nil},
		{"a word behind a flag", "-force yes -name x", values{"name": "x", "force": ""}, nil},
		{"a quoted value with a dash", `-name "-x"`, values{"name": "-x"}, nil},
		{"a quoted switch is a value", `-name '-force'`, values{"name": "-force"}, nil},
		{"a value that may be empty", "-note -name x", values{"name": "x", "note": ""}, nil},
		{"an empty pair is no value", `-note "" -name x`, values{"name": "x", "note": ""}, nil},
		{"words that belong to nothing", "a b -name x c d", values{"name": "x"}, nil},
		{"unknown switches", "-foo -name x -bar 1 -", values{"name": "x"}, []string{"-foo", "-bar", "-"}},
		{"unknown switch as value", "-note -foo -name x", values{"name": "x", "note": ""}, []string{"-foo"}},
		{"bounds", "-name x -level 5 -big 18446744073709551615", values{"name": "x", "level": "5", "Big": "18446744073709551615"}, nil},
		{"leading zeros", "-name x -level 0005", values{"name": "x", "level": "0005"}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			args, unknown, err := probe.ParseArgs([]byte(test.text))
			if err != nil {
				t.Fatalf("ParseArgs(%q): %v", test.text, err)
			}
			got := make(values)
			for _, a := range probe.Args {
				if args.Has(a.Name) {
					got[a.Name] = args.String(a.Name)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("ParseArgs(%q) (-want +got):\n%s", test.text, diff)
			}
			if diff := cmp.Diff(test.unknown, unknown); diff != "" {
				t.Errorf("unknown switches of %q (-want +got):\n%s", test.text, diff)
			}
		})
	}
}

func TestParseArgsRefuses(t *testing.T) {
	level := "-level must be a whole number from 1 to 5, not %q."
	big := "-Big must be a whole number from 0 to 18446744073709551615, not %q."
	tests := map[string]string{
		"":                                    "Missing -name.",
		"-name":                               "Missing -name.",
		`-name ""`:                            "Missing -name.",
		"-name -force":                        "Missing -name.",
		"-name -x -name y":                    "Missing -name.", // the first occurrence counts
		"-name x 'y":                          "A quote (') is not closed.",
		"-name \xff":                          "The arguments are not UTF-8 text.",
		"-level 9":                            "Missing -name.", // before the value
		"-name x -level":                      "-level needs a value.",
		"-name x -level 0":                    fmt.Sprintf(level, "0"),
		"-name x -level 6":                    fmt.Sprintf(level, "6"),
		"-name x -level 4294967297":           fmt.Sprintf(level, "4294967297"), // 1 in 32 bits
		"-name x -level '-1'":                 fmt.Sprintf(level, "-1"),
		"-name x -level +1":                   fmt.Sprintf(level, "+1"),
		"-name x -level 0x1":                  fmt.Sprintf(level, "0x1"),
		"-name x -level 1_0":                  fmt.Sprintf(level, "1_0"),
		"-name x -level 1.0":                  fmt.Sprintf(level, "1.0"),
		"-name x -level ٣":                    fmt.Sprintf(level, "٣"),
		"-name x -big 1844674407370955161600": fmt.Sprintf(big, "1844674407370955161600"),
		"-name x -on 2":                       `-on must be 0 or 1, not "2".`,
		"-name x -on true":                    `-on must be 0 or 1, not "true".`,
		"-name x -on":                         "-on needs a value.",
	}
	for text, want := range tests {
		_, _, err := probe.ParseArgs([]byte(text))
		t.Run(text, func(t *testing.T) { checkFailure(t, err, want) })
	}
}

func TestParseArgsOneOf(t *testing.T) {
	c := &module.Command{Name: "find", OneOf: true, Args: []module.Arg{
		{Name: "user"}, {Name: "id", Kind: module.Int}, {Name: "all", Kind: module.Flag},
	}}
	for text, want := range map[string]string{
		"":         "Missing -user or -id or -all.",
		"-user":    "Missing -user or -id or -all.",
		"-id x":    `-id must be a whole number from 0 to 18446744073709551615, not "x".`,
		"-user x":  "",
		"-id 5":    "",
		"-all":     "",
		"-id -all": "",
	} {
		_, _, err := c.ParseArgs([]byte(text))
		switch {
		case want != "":
			checkFailure(t, err, want)
		case err != nil:
			t.Errorf("ParseArgs(%q): %v", text, err)
		}
	}
	if _, _, err := (&module.Command{Name: "all", OneOf: true}).ParseArgs(nil); err != nil {
		t.Errorf("without alternatives: %v", err)
	}
}

func TestRequiredThatMayBeEmpty(t *testing.T) {
	c := &module.Command{Name: "set", Args: []module.Arg{
		{Name: "name", Required: true, MayBeEmpty: true}, {Name: "yes", Kind: module.Flag, Required: true},
	}}
	for text, want := range map[string]string{
		"":              "Missing -name.",
		"-name":         "Missing -yes.",
		`-name '' -yes`: "",
	} {
		_, _, err := c.ParseArgs([]byte(text))
		switch {
		case want != "":
			checkFailure(t, err, want)
		case err != nil:
			t.Errorf("ParseArgs(%q): %v", text, err)
		}
	}
}

func TestArgs(t *testing.T) {
	args, _, err := probe.ParseArgs([]byte("-name x -big 18446744073709551615 -on 1 -force -level 3"))
	if err != nil {
		t.Fatal(err)
	}
	if !args.Has("NAME") || args.Has("note") || args.String("Name") != "x" || args.String("note") != "" {
		t.Error("Has or String is wrong")
	}
	if args.Uint("big") != math.MaxUint64 || args.Uint("level") != 3 || args.Uint("note") != 0 {
		t.Error("Uint is wrong")
	}
	if !args.Bool("on") || !args.Bool("force") || args.Bool("note") {
		t.Error("Bool is wrong")
	}
	var none module.Args
	if none.Has("x") || none.Bool("x") || none.String("x") != "" || none.Uint("x") != 0 {
		t.Error("the zero value has arguments")
	}
}

func TestUnknownSwitches(t *testing.T) {
	c := &module.Command{Name: "mk", Args: []module.Arg{{Name: "user_name"}, {Name: "rank"}, {Name: "Force"}}}
	tests := []struct {
		unknown []string
		want    string
	}{
		{nil, ""},
		{[]string{"-user_nam"}, `mk does not know "-user_nam", ignored; did you mean -user_name?`},
		{[]string{"-FROCE"}, `mk does not know "-FROCE", ignored; did you mean -Force?`},
		{[]string{"-rnk", "-zzzzzz"}, `mk does not know "-rnk", ignored; did you mean -rank? mk does not know "-zzzzzz", ignored.`},
		{[]string{"-aaaaaa", "-bbbbbb", "-cccccc", "-d", "-e"}, `mk does not know "-aaaaaa", ignored. mk does not know "-bbbbbb", ignored. ` +
			`mk does not know "-cccccc", ignored. (and 2 more)`},
		{[]string{"-" + strings.Repeat("é", 100)}, `mk does not know "-` + strings.Repeat("é", 39) + `...", ignored.`},
		{[]string{"-a\nb\x00long"}, `mk does not know "-a\nb\x00long", ignored.`},
	}
	for _, test := range tests {
		if got := c.UnknownSwitches(test.unknown); got != test.want {
			t.Errorf("UnknownSwitches(%q)\n got %s\nwant %s", test.unknown, got, test.want)
		}
	}
}

// FuzzParseArgs compares the words with the reference, and checks that what
// was accepted fits the description and survives being written down again.
func FuzzParseArgs(f *testing.F) {
	for _, seed := range []string{
		"", "-name x", `-name "a b" -level 3 -on 1 -force`, `-name \\" 'it"s'`, "-foo -name x -note", "'", "-name \xff",
		"-name x -big 18446744073709551616", "-NAME ſ\u00a0-note \u2028",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !strings.ContainsAny(string(text), standsHidden) {
			checkReference(t, string(text))
		}
		args, unknown, err := probe.ParseArgs(text)
		if err != nil {
			var failure *module.Failure
			if !errors.As(err, &failure) || failure.Code != wire.InvalidParams || failure.Text == "" {
				t.Errorf("error %#v", err)
			}
			return
		}
		if !utf8.ValidString(probe.UnknownSwitches(unknown)) {
			t.Errorf("UnknownSwitches(%q) is not UTF-8", unknown)
		}
		if args.String("name") == "" || args.Has("level") && (args.Uint("level") < 1 || args.Uint("level") > 5) {
			t.Errorf("accepted %q", text)
		}
		values := make(map[string]string)
		var again strings.Builder
		for _, a := range probe.Args {
			if args.Has(a.Name) {
				values[a.Name] = args.String(a.Name)
				fmt.Fprintf(&again, "-%s %s ", a.Name, quote(args.String(a.Name)))
			}
		}
		back, unknown, err := probe.ParseArgs([]byte(again.String()))
		if err != nil || len(unknown) > 0 {
			t.Fatalf("ParseArgs(%q), made of %q: %q, %v", again.String(), text, unknown, err)
		}
		for _, name := range slices.Sorted(maps.Keys(values)) {
			if got := back.String(name); got != values[name] {
				t.Errorf("-%s is %q, was %q", name, got, values[name])
			}
		}
	})
}

// quote writes a value so that it is one quoted word. A quote in it is
// escaped; a backslash in front of the closing quote cannot stand within, so
// the end of the value stands outside.
func quote(value string) string {
	escaped := strings.NewReplacer(`'`, `\'`, `"`, `\"`).Replace(value)
	body := strings.TrimRight(escaped, `\`)
	return `"` + body + `"` + escaped[len(body):]
}
