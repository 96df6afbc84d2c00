package names_test

import (
	"strings"
	"testing"

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

		{"simple folding only", "straße", "strasse", false},
		{"dotless i", "\u0131", "i", false},
		{"dotted I", "\u0130", "i", false},
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
