package mail

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	netmail "net/mail"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"mrci.dev/mrci/internal/account"
)

const (
	maxAddress = 254       // RFC 5321, 4.5.3.1.3, without the brackets
	maxSubject = 800       // 200 characters of four bytes (state 4)
	maxBody    = 120 << 10 // one argument of a command is 128 KiB at most on Linux
)

// maxErrorText is how much of what a server or command said goes into an error.
const maxErrorText = 2 << 10

// Message is one mail. Printing or logging it shows the masked address alone.
type Message struct {
	To      string         // the address, without a name
	Subject string         // one line
	Body    account.Secret // lines that end in LF
	// Code is the secret in the body. It and the lines of the body are taken
	// out of what a server or command says before that becomes an error.
	Code account.Secret
}

// Sender delivers one mail. It returns when the mail was accepted, refused, or
// ctx has ended.
type Sender interface {
	Send(ctx context.Context, m Message) error
}

// FieldError says that a value must not go into a mail. The text has the name
// of the value and the reason, never the value itself.
type FieldError struct {
	Field  string
	Reason string
}

func (e *FieldError) Error() string { return e.Field + " of a mail: " + e.Reason }

// LogValue shows who would get the mail, masked.
func (m Message) LogValue() slog.Value { return slog.StringValue(m.String()) }

// String shows who would get the mail, masked.
func (m Message) String() string { return "mail to " + mask(m.To) }

// GoString shows who would get the mail, masked.
func (m Message) GoString() string { return m.String() }

// check returns a *FieldError if anything in the mail could become more than
// it is.
func (m Message) check() error {
	if err := checkAddress("target", m.To); err != nil {
		return err
	}
	if err := checkLine("subject", []byte(m.Subject)); err != nil {
		return err
	}
	bad := func(reason string) error { return &FieldError{"body", reason} }
	switch {
	case len(m.Subject) > maxSubject:
		return &FieldError{"subject", fmt.Sprintf("longer than %d bytes", maxSubject)}
	case len(m.Body) == 0:
		return bad("empty")
	case len(m.Body) > maxBody:
		return bad(fmt.Sprintf("longer than %d bytes", maxBody))
	case !utf8.Valid(m.Body):
		return bad("not UTF-8 text")
	case bytes.ContainsFunc(m.Body, unfitForBody):
		return bad("has a control character other than tab and line end")
	}
	return nil
}

// checkLine accepts one line of text that is not empty.
func checkLine(field string, s []byte) error {
	switch {
	case len(s) == 0:
		return &FieldError{field, "empty"}
	case !utf8.Valid(s):
		return &FieldError{field, "not UTF-8 text"}
	case bytes.ContainsFunc(s, unfitForLine):
		return &FieldError{field, "has a line end or control character"}
	}
	return nil
}

func unfitForLine(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
}

func unfitForBody(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }

// checkAddress accepts name@host without quotes, comments, address literals or
// anything else that mail programs give a meaning to. The rules for accounts
// (state 2.2) are as strict, but imported accounts did not go through them.
func checkAddress(field, addr string) error {
	if err := checkLine(field, []byte(addr)); err != nil {
		return err
	}
	parsed, err := netmail.ParseAddress(addr)
	local, domain, _ := strings.Cut(addr, "@")
	bad := func(reason string) error { return &FieldError{field, reason} }
	switch {
	case len(addr) > maxAddress:
		return bad(fmt.Sprintf("longer than %d bytes", maxAddress))
	case addr[0] == '-':
		return bad("begins with a dash")
	case strings.ContainsFunc(addr, invisible):
		return bad("has white space or an invisible character")
	case err != nil || parsed.Address != addr || parsed.Name != "" || local == "":
		return bad("not an e-mail address")
	}
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || label[0] == '-' || strings.ContainsFunc(label, unfitForHost) {
			return bad("the part behind the @ is not a host name")
		}
	}
	return nil
}

func invisible(r rune) bool {
	return unicode.IsSpace(r) || unicode.In(r, unicode.Z, unicode.C, unicode.Variation_Selector,
		unicode.Other_Default_Ignorable_Code_Point)
}

func unfitForHost(r rune) bool {
	return r != '-' && r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r)
}

// mask returns the address as logs may show it: a***@example.org.
func mask(addr string) string {
	at := strings.LastIndexByte(addr, '@')
	if at <= 0 || checkLine("", []byte(addr)) != nil {
		return "***"
	}
	_, size := utf8.DecodeRuneInString(addr)
	return addr[:size] + "***" + addr[at:]
}

// scrub returns one line of what a server or command said about the mail,
// without its address, body and code. If cutShort is set, more followed that
// was not kept, so that the end may be a piece of a secret.
func (m Message) scrub(text string, cutShort bool, secrets ...account.Secret) string {
	hide := []string{string(m.Code)}
	for _, s := range secrets {
		hide = append(hide, string(s))
	}
	for line := range strings.SplitSeq(string(m.Body), "\n") {
		// Shorter lines give nothing away and occur by chance.
		if line = strings.TrimSpace(line); len(line) >= 4 {
			hide = append(hide, line)
		}
	}
	// The longest first: a line may have another one in it.
	slices.SortFunc(hide, func(a, b string) int { return len(b) - len(a) })
	for _, s := range hide {
		if s != "" {
			text = strings.ReplaceAll(text, s, "[hidden]")
		}
	}
	text = replaceFold(text, m.To, mask(m.To))
	if cutShort {
		text = text[:max(0, len(text)-max(len(hide[0]), len(m.To)))]
	}
	text = strings.Map(func(r rune) rune {
		if unfitForLine(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	text = strings.TrimSpace(text)
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "..."
	}
	return text
}

// replaceFold replaces what differs from old at most in the case of ASCII
// letters: servers like to repeat addresses in lower case.
func replaceFold(text, old, replacement string) string {
	if old == "" {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		if len(text)-i >= len(old) && strings.EqualFold(text[i:i+len(old)], old) {
			b.WriteString(replacement)
			i += len(old)
			continue
		}
		b.WriteByte(text[i])
		i++
	}
	return b.String()
}
