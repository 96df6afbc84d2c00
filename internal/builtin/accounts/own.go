package accounts

import (
	"context"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

func myInfo() *module.Command {
	return &module.Command{
		Name:   "my_info",
		Class:  module.Public | module.Exempt,
		Output: []string{"text"},
		Short:  "show who you are",
		Long: "Shows what the host knows about this session and, after a login, about your account: " +
			"names, e-mail address, rank and when it was registered.",
		Hints:  module.Hints{ReadOnly: true, Idempotent: true},
		Inline: true,
		Run: func(ctx context.Context, call *module.Call) error {
			return call.Send(ctx, wire.Text, describe(call.Session()))
		},
	}
}

// describe lists a session as lines of "label: value".
func describe(s *module.Session) []byte {
	b := make([]byte, 0, 512)
	line := func(label, value string) {
		b = append(b, label...)
		b = append(b, ": "...)
		b = append(b, value...)
		b = append(b, '\n')
	}
	hexLine := func(label string, id []byte) {
		b = append(b, label...)
		b = append(b, ": "...)
		b = hex.AppendEncode(b, id)
		b = append(b, '\n')
	}
	hexLine("session id", s.ID[:])
	b = append(b, "client address: "...)
	b = s.Addr.AppendTo(b)
	b = append(b, '\n')
	line("client app", printable(s.App))
	u := s.User
	if u == nil {
		return b
	}
	line("user name", u.Name)
	line("display name", u.Display)
	hexLine("user id", u.ID[:])
	line("e-mail", u.Email)
	b = append(b, "registered: "...)
	b = u.Registered.UTC().AppendFormat(b, time.DateTime)
	b = append(b, '\n')
	line("e-mail verified", yesNo(u.EmailVerified))
	line("owner override", yesNo(s.Override))
	b = append(b, "host rank: "...)
	b = strconv.AppendUint(b, uint64(u.Rank), 10)
	b = append(b, '\n')
	return b
}

// printable keeps what a client calls itself from looking like other lines.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

func yesNo(truth bool) string {
	if truth {
		return "yes"
	}
	return "no"
}

// timeText is a time as people and listings get it (commands 1.7).
func timeText(t time.Time) string { return t.UTC().Format(time.DateTime) }

func (c commands) setPassword() *module.Command {
	return &module.Command{
		Name:   "set_pw",
		Class:  module.Exempt,
		Output: []string{"text"},
		Short:  "change your password",
		Long: "Asks for a new password, which is not shown, and stores it. An empty answer cancels. " +
			"The password must not be the current one and must not contain your names or your e-mail address.",
		Run: asUser(c.runSetPassword),
	}
}

func (c commands) runSetPassword(ctx context.Context, call *module.Call, user *module.User) error {
	if c.Settings().AskCurrentPassword {
		answer, err := askSecret(ctx, call, "Current password: ")
		if err != nil {
			return err
		}
		if len(answer) == 0 {
			return module.ErrAborted
		}
		defer answer.Wipe()
		addr := call.Session().Addr
		if !c.Guard.TryAllowed(addr) {
			return tooManyTries()
		}
		_, err = c.Rules.Authenticate(ctx, account.Login{Name: user.Name}, answer, addr)
		answer.Wipe()
		if err == nil {
			c.Guard.TrySucceeded(addr)
		}
		if errors.Is(err, account.ErrRefused) {
			return module.Invalid("That is not your current password.")
		}
		if err != nil {
			return explain(err)
		}
	}
	same := func() error {
		if now := call.Session().User; now == nil || now.ID != user.ID {
			return module.Invalid("You are not logged in as %s any more; nothing was changed.", user.Name)
		}
		return nil
	}
	pw, err := c.askNewPassword(ctx, call, newPassword{user: user.ID, prompt: "New password: ", allowed: same})
	if err != nil {
		return err
	}
	pw.Wipe()
	return call.Line(context.WithoutCancel(ctx), "Your password has been changed.")
}
