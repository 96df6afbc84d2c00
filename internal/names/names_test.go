package names_test

import (
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"mrci.dev/mrci/internal/names"
)

func TestFold(t *testing.T) {
	for _, tt := range []struct {
		name, a, b string
		same       bool
	}{
		{"ASCII", "Ann", "aNN", true},
		{"accents composed or not", "Jörg", "JO\u0308rg", true},
		{"accents and case", "ÄNNE", "a\u0308nne", true},
		{"Greek final sigma", "ΣΑΣ", "σας", true},
		{"Kelvin sign", "\u212aarl", "karl", true},
		{"long s", "\u017fam", "sam", true},
		{"Cyrillic", "ИВАН", "иван", true},
		{"capital sharp s", "STRA\u1e9eE", "straße", true},
		{"two accents, one letter only where it is small", "ΜΑΪ\u0301ΟΥ", "μαΐου", true},
		{"an accent that capital letters do not compose with", "Η\u0342", "ῆ", true},
		{"a form of a letter that no accent composes with", "\u017f\u0323et", "ṣet", true},
		{"another one", "\u03f1\u0314", "ῥ", true},
		{"marks in another order", "H\u0331\u0308", "ẖ\u0308", true},
		{"iota below", "\u0386\u0345", "ᾴ", true},

		{"simple folding only", "straße", "strasse", false},
		{"dotless i", "\u0131", "i", false},
		{"dotted I", "\u0130", "i", false},
		{"dotted I in two parts", "I\u0307", "i\u0307", false},
		{"iota is not the iota below", "αι", "\u1fb3", false},
		{"compatibility forms", "ﬁ", "fi", false},
		{"look-alikes", "а", "a", false},
		{"trailing", "ann", "anna", false},
	} {
		if got := names.Fold(tt.a) == names.Fold(tt.b); got != tt.same {
			t.Errorf("%s: %q and %q: same %v, want %v", tt.name, tt.a, tt.b, got, tt.same)
		}
	}
}

// TestFoldOfMarks gives every letter of the scripts that have accents one and
// two of these: neither the case of the letter nor the form of the whole makes
// another key, and the key of a key is itself.
func TestFoldOfMarks(t *testing.T) {
	marks := []rune("\u0301\u0307\u0308\u0313\u0323\u0331\u0342\u0345")
	tails := []string{""}
	for _, a := range marks {
		tails = append(tails, string(a))
		for _, b := range marks {
			tails = append(tails, string([]rune{a, b}))
		}
	}
	var letters []rune
	for _, block := range [][2]rune{{'A', 0x052f}, {0x1e00, 0x1fff}, {0x2126, 0x212b}} {
		for r := block[0]; r <= block[1]; r++ {
			if unicode.SimpleFold(r) != r && r != '\u0345' {
				letters = append(letters, r)
			}
		}
	}
	for _, r := range letters {
		other := unicode.SimpleFold(r)
		if other == '\u0345' {
			other = unicode.SimpleFold(other)
		}
		for _, tail := range tails {
			text := string(r) + tail
			if strings.Contains(norm.NFC.String(text+" "+string(other)+tail), "\u0130") {
				continue // no other letter is the small one of that
			}
			key := names.Fold(text)
			for _, same := range []string{string(other) + tail, norm.NFD.String(text), norm.NFC.String(text), key} {
				if got := names.Fold(same); got != key {
					t.Errorf("%+q has the key %+q, and %+q has %+q", text, key, same, got)
				}
			}
		}
	}
}

func TestLooksLike(t *testing.T) {
	for _, tt := range []struct {
		text        string
		user, email bool
	}{
		{"ann", true, false},
		{"a\u00a0b", true, false}, // could have been imported
		{"root", true, false},
		{"😀", true, false}, // two units
		{strings.Repeat("a", 24), true, false},
		{"a@b", true, false},
		{"a@b.c", false, true},
		{"@a.b", false, true},
		{"a@.", true, false}, // too short for an address
		{"a@b@c.d", true, false},
		{strings.Repeat("a", 60) + "@b.c", false, true},
		{strings.Repeat("a", 61) + "@b.c", false, false},

		{"", false, false},
		{"a", false, false},
		{strings.Repeat("a", 25), false, false},
		{"a b", false, false},
		{"a b@c.d", false, false},
		{"a\tb", false, false},
		{"a\xff", false, false},
	} {
		if got := names.LooksLikeUser(tt.text); got != tt.user {
			t.Errorf("user %q: got %v", tt.text, got)
		}
		if got := names.LooksLikeEmail(tt.text); got != tt.email {
			t.Errorf("e-mail %q: got %v", tt.text, got)
		}
	}
}

func TestInvisible(t *testing.T) {
	for _, r := range " \t\x00\u00a0\u2028\u3000\u200b\u200d\u202e\u2066\u061c\ufeff\u3164\ufe0f" {
		if !names.Invisible(r) {
			t.Errorf("%U shows", r)
		}
	}
	for _, r := range "aä名;@😀-\u0308" {
		if names.Invisible(r) {
			t.Errorf("%U does not show", r)
		}
	}
}
