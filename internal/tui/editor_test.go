package tui

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzEdit types whatever there is: what is shown of it fits the terminal and
// gives it no orders, and what comes out is text of one line.
func FuzzEdit(f *testing.F) {
	for _, keys := range []string{
		"cast hi\r", "grüße 世界\x02\x02\x7f\r", "a\x1b[A\x1b[Bb\x17\r", strings.Repeat("wide 世界 ", 9) + "\x01x\x0b\x05y\x15", "\x1b[1;5C\x1bOH\x1b[3~\x04", "\xff\u202e\t\u0301\x03",
	} {
		f.Add([]byte(keys), uint8(12))
	}
	f.Fuzz(func(t *testing.T, keys []byte, columns uint8) {
		e := editor{history: []string{"older", strings.Repeat("newer ", 9)}}
		for {
			k, rest := nextKey(keys)
			if k == keyNone {
				break
			}
			if len(rest) >= len(keys) {
				t.Fatalf("%q: a key of no bytes", keys)
			}
			keys = rest
			text, _ := e.press(k)
			if k == keyEnter {
				if !utf8.ValidString(text) || strings.ContainsAny(text, "\r\n\x1b") {
					t.Fatalf("the line is %q", text)
				}
				e = editor{history: append(e.history, text)}
			}
			wide := int(columns%80) + 8 // room for any one character
			shown := strings.TrimRight(e.show(wide), "\b")
			if Width(shown) >= wide || strings.ContainsFunc(shown, func(r rune) bool { return unprintable(r) || r == '\n' || r == '\t' }) {
				t.Fatalf("in %d columns %q is shown as %q", wide, string(e.text), shown)
			}
		}
	})
}
