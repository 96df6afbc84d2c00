package account

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"mrci.dev/mrci/internal/names"
)

// Lengths of names and addresses. Bytes are those of UTF-8: the fields on the
// wire hold 24 and 64 of them (state 2).
const (
	minNameChars    = 2
	maxNameBytes    = 24
	maxDisplayBytes = 24
	maxEmailBytes   = 64
	maxLabelBytes   = 63 // RFC 1035, 2.3.4
)

// foldSecret is names.Fold for a secret. Its result, which the caller wipes, is the
// only copy of the text, but for the single characters that NFC composes.
func foldSecret(s Secret) Secret {
	composed := composeSecret(s)
	defer composed.Wipe()
	small := composeEach(composed, names.LowerRune)
	defer small.Wipe()
	return composeEach(small, names.FoldRune)
}

// composeEach returns the NFC of what each makes of the characters of s.
func composeEach(s Secret, each func(rune) rune) Secret {
	made := make(Secret, 0, utf8.UTFMax*utf8.RuneCount(s)) // never grows: a copy would stay behind
	for rest := s; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		made = utf8.AppendRune(made, each(r))
		rest = rest[size:]
	}
	defer made.Wipe()
	return composeSecret(made)
}

// composeSecret returns the NFC of s. Its space never grows, which would leave
// a copy behind: NFC makes a text three times as long at most, and package norm
// puts two bytes behind every 30th of the marks of one letter.
func composeSecret(s Secret) Secret {
	return norm.NFC.Append(make(Secret, 0, 4*len(s)), s...)
}

// CheckName reports whether name may be a user name (state 2.1): nil, or a
// *RuleError.
func CheckName(name string) error {
	bad := func(text string) error { return &RuleError{Field: "user_name", Text: text} }
	switch {
	case name == "":
		return bad("the user name is missing; give one of 2 to 24 characters")
	case !utf8.ValidString(name):
		return bad("the user name is not valid UTF-8; use another one")
	case len(name) > maxNameBytes:
		return bad("the user name is longer than 24 bytes (accented letters take two and more); choose a shorter one")
	case utf8.RuneCountInString(name) < minNameChars:
		return bad("the user name is shorter than 2 characters; choose a longer one")
	case strings.IndexFunc(name, names.Invisible) >= 0:
		return bad("the user name contains white space or an invisible character; leave it out")
	case names.Fold(name) == "root":
		return bad("the user name root is reserved; choose another one")
	case names.LooksLikeEmail(name):
		return bad("the user name looks like an e-mail address; choose one without @")
	}
	return nil
}

// CheckEmail reports whether addr may be an e-mail address (state 2.2): nil,
// or a *RuleError.
func CheckEmail(addr string) error {
	bad := func(text string) error { return &RuleError{Field: "email_address", Text: text} }
	local, domain, found := strings.Cut(addr, "@")
	switch {
	case addr == "":
		return bad("the e-mail address is missing; give one such as name@example.org")
	case !utf8.ValidString(addr):
		return bad("the e-mail address is not valid UTF-8; use another one")
	case len(addr) > maxEmailBytes:
		return bad("the e-mail address is longer than 64 bytes; use a shorter one")
	case strings.IndexFunc(addr, names.Invisible) >= 0:
		return bad("the e-mail address contains white space or an invisible character; leave it out")
	case !found || strings.Contains(domain, "@"):
		return bad("the e-mail address needs exactly one @; give one such as name@example.org")
	case local == "":
		return bad("the e-mail address has nothing before the @; give one such as name@example.org")
	case addr[0] == '-':
		return bad("the e-mail address begins with a dash; use another one")
	case !validLocal(local):
		return bad("the part of the e-mail address before the @ has a character or a dot that is not allowed there; use another one")
	case !strings.Contains(domain, "."):
		return bad("the e-mail address has no dot after the @; give one such as name@example.org")
	case !validDomain(domain):
		return bad("the part of the e-mail address behind the @ is not a host name; give one such as name@example.org")
	}
	return nil
}

// validLocal accepts words of letters, digits and the signs of RFC 5322's
// atext, with single dots between them; no quoted forms.
func validLocal(local string) bool {
	for word := range strings.SplitSeq(local, ".") {
		if word == "" {
			return false
		}
		for _, r := range word {
			if !letterOrDigit(r) && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r) {
				return false
			}
		}
	}
	return true
}

// validDomain accepts labels with dots between them. The underscore is not in
// host names, but the address of a new administrator has one (state 6).
func validDomain(domain string) bool {
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > maxLabelBytes || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if !letterOrDigit(r) && r != '-' && r != '_' {
				return false
			}
		}
	}
	return true
}

func letterOrDigit(r rune) bool {
	if r < utf8.RuneSelf {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
	}
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)
}

// CleanDisplay returns the display name without white space around it, or a
// *RuleError if it breaks state 2.3. The empty name is fine: it clears.
func CleanDisplay(name string) (string, error) {
	bad := func(text string) (string, error) {
		return "", &RuleError{Field: "display_name", Text: text}
	}
	name = strings.TrimSpace(name)
	switch {
	case !utf8.ValidString(name):
		return bad("the display name is not valid UTF-8; use another one")
	case len(name) > maxDisplayBytes:
		return bad("the display name is longer than 24 bytes (accented letters take two and more); choose a shorter one")
	case strings.IndexFunc(name, breaksLine) >= 0:
		return bad("the display name contains a control character; leave it out")
	}
	return name, nil
}

// breaksLine reports whether r would disturb the line that shows a display
// name: control characters, line ends, and those that reverse what follows.
func breaksLine(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
}
