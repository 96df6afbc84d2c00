package names

import (
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Lengths of the tables in state 2.1 and 2.2, in UTF-16 code units.
const (
	minUser  = 2
	maxUser  = 24
	minEmail = 4
	maxEmail = 64
)

// Fold returns the key by which names and addresses are compared: NFC and
// simple case folding (state 1). Two texts that differ only in case or in the
// form of their accents have one key.
func Fold(s string) string {
	ascii := true
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			ascii = false
			break
		}
	}
	if ascii {
		return strings.ToLower(s)
	}
	// Folding a letter can make a new pair that NFC composes, and more of those
	// exist for small letters than for capital ones. So marks are composed with
	// small letters before the key is made of what that gives.
	small := norm.NFC.String(strings.Map(LowerRune, norm.NFC.String(s)))
	return norm.NFC.String(strings.Map(FoldRune, small))
}

// LowerRune returns one small letter for all that differ from r only in simple
// case. The iota below a letter stays a mark, which NFC may compose.
func LowerRune(r rune) rune {
	if r == iotaBelow || unicode.SimpleFold(r) == r { // the dotted capital I is alone
		return r
	}
	return unicode.ToLower(FoldRune(r))
}

const iotaBelow = '\u0345'

// FoldRune returns one rune for all that differ from r only in simple case.
func FoldRune(r rune) rune {
	low := r
	for o := unicode.SimpleFold(r); o != r; o = unicode.SimpleFold(o) {
		low = min(low, o)
	}
	switch {
	case 'A' <= low && low <= 'Z':
		return low + 'a' - 'A'
	case low == iotaBelow:
		// The iota below a letter folds to the letter iota. A combining mark
		// as the key of a letter would join its neighbour under NFC.
		return 'ι'
	}
	return low
}

// Invisible reports whether r shows nothing or moves other characters: white
// space, control, format and bidirectional controls, fillers.
func Invisible(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) ||
		unicode.In(r, unicode.Z, unicode.Cf, unicode.Bidi_Control,
			unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// LooksLikeEmail reports whether clients would take s for an e-mail address:
// the loose rule of the table in state 2.2.
func LooksLikeEmail(s string) bool {
	if !Plain(s, minEmail, maxEmail) {
		return false
	}
	_, domain, ok := strings.Cut(s, "@")
	return ok && !strings.Contains(domain, "@") && strings.Contains(domain, ".")
}

// LooksLikeUser reports whether an account could have this user name. It is
// the loose rule of the table in state 2.1, because accounts that were
// imported may have names that are not accepted any more.
func LooksLikeUser(s string) bool {
	return Plain(s, minUser, maxUser) && !LooksLikeEmail(s)
}

// Plain reports whether s has a length from least to most and holds neither a
// blank nor a control character: what the tables of state 2 ask of names, and
// less than what is asked of new ones.
func Plain(s string, least, most int) bool {
	n := Units(s)
	return n >= least && n <= most && utf8.ValidString(s) && strings.IndexFunc(s, blankOrControl) < 0
}

func blankOrControl(r rune) bool { return r == ' ' || unicode.IsControl(r) }

// Units counts as the tables of state 2 do: UTF-16 code units.
func Units(s string) int {
	n := 0
	for _, r := range s {
		n += utf16.RuneLen(r)
	}
	return n
}
