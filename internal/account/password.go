package account

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"mrci.dev/mrci/internal/names"
)

// PasswordRule is what a new password must be made of (state 2.5); the key
// password_rule of the configuration.
type PasswordRule int

const (
	// RuleClasses wants 8 to 200 characters with a lower-case letter, an
	// upper-case letter, a number and a punctuation character or symbol.
	RuleClasses PasswordRule = iota
	// RuleLength wants 12 to 200 characters of any kind.
	RuleLength
)

// String returns the word of the configuration.
func (r PasswordRule) String() string {
	if r == RuleLength {
		return "length"
	}
	return "classes"
}

// Lengths of passwords in characters (state 2.5, 3.4).
const (
	minClassesChars = 8
	minLengthChars  = 12
	maxSecretChars  = 200
	generatedChars  = 20
)

//go:embed common.txt
var commonText string

// common is the built-in list of passwords that everybody tries first, folded.
var common = sync.OnceValue(func() map[string]bool {
	list := make(map[string]bool)
	for line := range strings.Lines(commonText) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "# ") {
			list[names.Fold(line)] = true
		}
	}
	return list
})

// checkPassword applies state 2.5 to a password for the account of who, apart
// from "not the current one": nil, or a *RuleError.
func checkPassword(rule PasswordRule, who NewAccount, pw Secret) error {
	bad := func(text string) error { return &RuleError{Field: "password", Text: text} }
	if !utf8.Valid(pw) {
		return bad("the password is not valid UTF-8; use another one")
	}
	chars := utf8.RuneCount(pw)
	if chars > maxSecretChars {
		return bad("the password is longer than 200 characters; use a shorter one")
	}
	if rule == RuleLength {
		if chars < minLengthChars {
			return bad("the password is shorter than 12 characters; use a longer one")
		}
	} else {
		if chars < minClassesChars {
			return bad("the password is shorter than 8 characters; use a longer one")
		}
		if missing := missingClasses(pw); missing != "" {
			return bad("the password lacks " + missing + "; add it")
		}
	}
	folded := foldSecret(pw)
	defer folded.Wipe()
	for _, part := range []struct{ text, name string }{
		{who.Email, "e-mail address"}, {who.Name, "user name"}, {who.Display, "display name"},
	} {
		if part.text != "" && bytes.Contains(folded, []byte(names.Fold(part.text))) {
			return bad("the password contains the " + part.name + "; leave it out")
		}
	}
	if common()[string(folded)] { // as an index it is not copied
		return bad("the password is one of the most common ones; use another one")
	}
	return nil
}

// missingClasses names the kinds of characters that RuleClasses wants and
// pw lacks.
func missingClasses(pw Secret) string {
	var missing []string
	for _, class := range []struct {
		name string
		has  func(rune) bool
	}{
		{"an upper-case letter", unicode.IsUpper},
		{"a lower-case letter", unicode.IsLower},
		{"a number", unicode.IsNumber},
		{"a punctuation character or symbol", func(r rune) bool { return unicode.IsPunct(r) || unicode.IsSymbol(r) }},
	} {
		if bytes.IndexFunc(pw, class.has) < 0 {
			missing = append(missing, class.name)
		}
	}
	if n := len(missing); n > 1 {
		return strings.Join(missing[:n-1], ", ") + " and " + missing[n-1]
	}
	return strings.Join(missing, "")
}

// The alphabet of generated passwords, by class. It leaves out what is easily
// misread (0 O, 1 l I) or means something to a shell inside quotes.
const (
	genLower  = "abcdefghijkmnpqrstuvwxyz"
	genUpper  = "ABCDEFGHJKLMNPQRSTUVWXYZ"
	genDigit  = "23456789"
	genSymbol = "#%+-=?@_.:"
	genAll    = genLower + genUpper + genDigit + genSymbol
)

// generate makes a password for the account of who (state 3.4): one character
// of each class, the rest from all of them, in random order. That satisfies
// both rules except, once in a while, for containing a short name.
func generate(who NewAccount) Secret {
	for {
		text := make(Secret, 0, generatedChars)
		for _, class := range []string{genLower, genUpper, genDigit, genSymbol} {
			text = append(text, class[below(len(class))])
		}
		for len(text) < generatedChars {
			text = append(text, genAll[below(len(genAll))])
		}
		for i := len(text) - 1; i > 0; i-- {
			j := below(i + 1)
			text[i], text[j] = text[j], text[i]
		}
		if checkPassword(RuleClasses, who, text) == nil {
			return text
		}
		text.Wipe()
	}
}

// below returns a number from 0 to n-1, all equally likely, for n up to 256.
func below(n int) int {
	var b [1]byte
	for {
		rand.Read(b[:]) // never fails
		if v := int(b[0]); v < 256/n*n {
			return v % n
		}
	}
}
