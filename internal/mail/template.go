package mail

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/fsys"
)

// maxTemplate is far above what a mail with one code in it needs. A body, with
// its values, must fit into one argument of a command: 128 KiB on Linux.
const maxTemplate = 64 << 10

var errTooLong = fmt.Errorf("longer than %d bytes", maxTemplate)

// The defaults of state 5.1.
const (
	// DefaultReset is the template for the mail with a recovery password.
	DefaultReset = `Hello %user_name%,

somebody, probably you, asked for a recovery password for the account
%user_name% at %date%. It is

%otp%

It counts for one hour and once: call recover_acct, enter it when asked for the
recovery password, and choose a new password. Until then your old password
stays valid.

If you did not ask for this, ignore this mail: nothing changes.
`
	// DefaultVerify is the template for the mail with a verification code.
	DefaultVerify = `Hello %user_name%,

somebody, probably you, asked to verify this e-mail address for the account
%user_name% at %date%. The code is

%otp%

Enter it where verify_email asks for it. It counts for a few minutes, as long
as that command waits.

If you did not ask for this, ignore this mail: nothing changes.
`
)

// Template is the text of a mail with places for its values.
type Template struct {
	parts []part
}

// Values are what one mail says (state 5.2).
type Values struct {
	UserName string
	Time     time.Time // of the request
	OTP      account.Secret
}

// LoadTemplate reads a template from a UTF-8 file. Its errors are one line with
// the name of the file and what is wrong with it.
func LoadTemplate(path string) (*Template, error) {
	text, err := fsys.ReadFile(path, maxTemplate)
	switch {
	case errors.Is(err, fsys.ErrNoFile):
		return nil, fmt.Errorf("mail template: %s is not a file", path)
	case errors.Is(err, fsys.ErrTooLarge):
		return nil, fmt.Errorf("mail template %s: %w", path, errTooLong)
	case err != nil:
		return nil, fmt.Errorf("mail template: %w", err)
	}
	t, err := ParseTemplate(string(text))
	if err != nil {
		return nil, fmt.Errorf("mail template %s: %w", path, err)
	}
	return t, nil
}

// ParseTemplate takes the text of a template, which must have all three
// keywords of state 5.2.
func ParseTemplate(text string) (*Template, error) {
	// Some editors begin a text with a byte order mark.
	text = strings.TrimPrefix(text, "\ufeff")
	text = strings.ReplaceAll(text, "\r\n", "\n")
	switch {
	case len(text) > maxTemplate:
		return nil, errTooLong
	case !utf8.ValidString(text):
		return nil, errors.New("not UTF-8 text")
	case strings.ContainsFunc(text, unfitForBody):
		return nil, errors.New("has a control character other than tab and line end")
	}
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	t := &Template{parts: cut(text, userName, date, otp)}
	for _, k := range []keyword{userName, date, otp} {
		if !has(t.parts, k) {
			return nil, fmt.Errorf("%s is missing: put it where the value belongs", k)
		}
	}
	return t, nil
}

// Fill returns the text with the values in their places. A keyword inside a
// value stays as it is. The caller wipes the text. The error is a *FieldError
// for a user name or code that is not one line of text.
func (t *Template) Fill(v Values) (account.Secret, error) {
	for _, f := range []struct {
		name  string
		value []byte
	}{
		{"user name", []byte(v.UserName)},
		{"code", v.OTP},
	} {
		if err := checkLine(f.name, f.value); err != nil {
			return nil, err
		}
	}
	values := map[keyword][]byte{
		userName: []byte(v.UserName),
		date:     v.Time.UTC().AppendFormat(nil, "2006-01-02 15:04:05 MST"),
		otp:      v.OTP,
	}
	size := 0
	for _, p := range t.parts {
		size += len(p.text) + len(values[p.keyword])
	}
	text := make(account.Secret, 0, size) // if it grew, a copy would stay behind
	for _, p := range t.parts {
		text = append(append(text, p.text...), values[p.keyword]...)
	}
	return text, nil
}

// Message returns the mail with the filled template as its body, which the
// caller wipes when the mail has been sent.
func (t *Template) Message(to, subject string, v Values) (Message, error) {
	body, err := t.Fill(v)
	if err != nil {
		return Message{}, err
	}
	return Message{To: to, Subject: subject, Body: body, Code: v.OTP}, nil
}

// Paths are the files of the templates.
type Paths struct {
	Reset  string // reset_pw_mail_template
	Verify string // email_verify_template
}

// WriteDefaults writes the default templates where there is no file yet, for
// the host's account alone, and returns the files that it made. A file appears
// complete or not at all, and one that exists is never touched.
func WriteDefaults(p Paths) (made []string, err error) {
	for _, f := range []struct{ path, text string }{
		{p.Reset, DefaultReset},
		{p.Verify, DefaultVerify},
	} {
		created, err := fsys.Create(f.path, []byte(f.text), 0o600)
		if err != nil {
			return made, fmt.Errorf("write mail template: %w", err)
		}
		if created {
			made = append(made, f.path)
		}
	}
	return made, nil
}
