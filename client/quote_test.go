package client_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/client"
)

// word is what a host makes of one argument word.
type word struct {
	Text   string
	Quoted bool
}

// split is the host's rule for argument texts (commands 1.2), written down
// once more so that Quote has something to be measured with.
func split(text string) (words []word, ok bool) {
	var b strings.Builder
	quoted := false
	flush := func() {
		if b.Len() > 0 {
			words = append(words, word{b.String(), quoted})
		}
		b.Reset()
		quoted = false
	}
	var open rune
	runes := []rune(text)
	for i := 0; i < len(runes); i++ {
		r := runes[i]
		switch {
		case r == '\\' && i+1 < len(runes) && (runes[i+1] == '"' || runes[i+1] == '\''):
			i++
			b.WriteRune(runes[i])
		case open != 0 && r == open:
			open = 0
		case open != 0:
			b.WriteRune(r)
		case r == '"' || r == '\'':
			open = r
			quoted = true
		case unicode.IsSpace(r):
			flush()
		default:
			b.WriteRune(r)
		}
	}
	flush()
	return words, open == 0
}

func TestQuote(t *testing.T) {
	const io = "[-user (text) {-all} {-new_name {(text of 1-24)}} -n (int)]/[text -x (y)]"
	tests := []struct {
		name  string
		io    string
		words []string
		want  string
	}{
		{"plain", "", []string{"-user", "bob"}, "-user bob"},
		{"blanks", "", []string{"a b"}, `"a b"`},
		{"quotes", "", []string{`it's`, `"x"`}, `it\'s \"x\"`},
		{"backslash before quote", "", []string{`\"`}, `\\"`},
		{"backslash at end", "", []string{`a b\`, `c\`}, `"a b"\ c\`},
		{"empty", "", []string{"-a", ""}, `-a ""`},
		{"dash and more", "", []string{"-", "-5", "--x", "- x", "-a'b"}, `"-" "-5" "--x" "- x" "-a\'b"`},
		{"looks like a switch", "", []string{"-user", "-x"}, "-user -x"},
		{"value with a dash", io, []string{"-user", "-x", "-ALL"}, `-user "-x" -ALL`},
		{"a switch is no value", io, []string{"-user", "-all"}, `-user -all`},
		{"typing mistake stays a switch", io, []string{"-usr", "bob"}, `-usr bob`},
		{"flag takes no value", io, []string{"-all", "-x"}, `-all -x`},
		{"optional value", io, []string{"-new_name", "-x"}, `-new_name "-x"`},
		{"output part does not count", io, []string{"-x", "-y"}, `-x -y`},
		{"taken as it is", "[any]/[]", []string{"it's", "a  b", "-x", ""}, "it's a  b -x "},
		{"other white space", "", []string{"a\u00a0b", "c\td"}, "\"a\u00a0b\" \"c\td\""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := client.QuoteFor(tt.io, tt.words...); got != tt.want {
				t.Errorf("QuoteFor(%q) = %s, want %s", tt.words, got, tt.want)
			}
		})
	}
	if got := client.QuoteValue("-user"); got != `"-user"` {
		t.Errorf(`QuoteValue("-user") = %s`, got)
	}
}

func FuzzQuote(f *testing.F) {
	for _, seed := range []string{"a|b c", `-x|\|"|'`, `\\|' '|"\`, "|\u2003|-|-a b\\", `\"\'\|\ `} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, joined string) {
		if !utf8.ValidString(joined) {
			t.Skip("argument texts are UTF-8")
		}
		words := strings.Split(joined, "|")
		got, closed := split(client.Quote(words...))
		var texts, want []string
		for _, w := range words {
			if w != "" {
				want = append(want, w)
			}
		}
		for _, w := range got {
			texts = append(texts, w.Text)
		}
		if !closed || !cmp.Equal(texts, want) {
			t.Fatalf("Quote(%q) = %s, read as %q (closed %v)", words, client.Quote(words...), texts, closed)
		}
		for _, w := range want {
			got, closed := split("-v " + client.QuoteValue(w))
			if !closed || len(got) != 2 || got[1].Text != w || w[0] == '-' && !got[1].Quoted {
				t.Fatalf("QuoteValue(%q) = %s, read as %+v", w, client.QuoteValue(w), got)
			}
		}
	})
}
