package accounts_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"regexp"
	"testing"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/account/accounttest"
	"mrci.dev/mrci/internal/builtin/accounts"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/module/moduletest"
	"mrci.dev/mrci/wire"
)

const (
	oldPassword = "Tr0ub4dor&3"
	newPassword = "Other-horse8"
)

// outside is everything that the commands need besides the rules: a clock that
// stands still, mails that are kept, no limits, and no sessions.
type outside struct {
	now  time.Time
	sent account.Secret // the latest
}

func (o *outside) Ready() error { return nil }
func (o *outside) RecoveryPassword(_ context.Context, _ account.User, pw account.Secret) error {
	o.sent = bytes.Clone(pw)
	return nil
}
func (o *outside) VerificationCode(_ context.Context, _ account.User, code account.Secret) error {
	o.sent = bytes.Clone(code)
	return nil
}
func (o *outside) AddressChanged(context.Context, account.User) error { return nil }

func (o *outside) TryAllowed(netip.Addr) bool          { return true }
func (o *outside) TrySucceeded(netip.Addr)             {}
func (o *outside) RegistrationAllowed(netip.Addr) bool { return true }
func (o *outside) ResetAllowed(netip.Addr) bool        { return true }
func (o *outside) MailAllowed(wire.UserID) bool        { return true }
func (o *outside) CodeAllowed(wire.UserID) bool        { return true }

func (o *outside) Logout(context.Context, wire.UserID, wire.SessionID, string) error { return nil }

// Do runs the job at once.
func (o *outside) Do(job func(context.Context)) bool {
	job(context.Background())
	return true
}

// start returns the rules with the account ann, what is around them, and a
// function that calls a command as ann.
func start(t *testing.T) (*account.Service, *outside, func(command, args string) *moduletest.Call) {
	t.Helper()
	o := &outside{now: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)}
	now := func() time.Time { return o.now }
	rules := account.New(account.Config{Store: new(accounttest.Store), Hasher: accounttest.Hasher(t), Now: now})
	ann, err := rules.Create(t.Context(), account.NewAccount{Name: "ann", Email: "ann@example.org"}, account.Secret(oldPassword))
	if err != nil {
		t.Fatal(err)
	}
	commands := accounts.Commands(accounts.Config{
		Rules: rules, Mail: o, Guard: o, Sessions: o, Background: o, Log: slog.New(slog.DiscardHandler), Now: now,
		Settings: func() accounts.Settings { return accounts.Settings{MailUnverified: true} },
	})
	return rules, o, func(command, args string) *moduletest.Call {
		t.Helper()
		for _, c := range commands {
			if c.Command.Name == command {
				return moduletest.StartFrame(t, moduletest.Config{
					Command: c.Command,
					Session: &module.Session{User: &module.User{ID: ann.ID, Name: ann.Name, Rank: ann.Rank}},
				}, wire.Frame{Type: wire.Text, Payload: []byte(args)})
			}
		}
		t.Fatalf("there is no %s", command)
		return nil
	}
}

// A verification code counts for 15 minutes (commands 2, verify_email).
func TestCodeLife(t *testing.T) {
	const question = "A code has been mailed to ann@example.org. Code: "
	for _, tt := range []struct {
		age  time.Duration
		good bool
	}{
		{0, true},
		{14*time.Minute + 59*time.Second, true},
		{15 * time.Minute, true},
		{15*time.Minute + time.Second, false},
		{24 * time.Hour, false},
	} {
		t.Run(tt.age.String(), func(t *testing.T) {
			rules, o, call := start(t)
			c := call("verify_email", "")
			c.WaitInput()
			if !regexp.MustCompile(`^\d{6}$`).MatchString(string(o.sent)) {
				t.Fatalf("the code is %q", string(o.sent))
			}
			o.now = o.now.Add(tt.age)
			c.AnswerSecret(question, string(o.sent))
			u, err := rules.UserByName(t.Context(), "ann")
			if err != nil {
				t.Fatal(err)
			}
			if tt.good {
				c.ExpectAsync(wire.AsyncRWMyInfo, &wire.UserRef{User: u.ID}, nil)
				c.ExpectText("\n")
				c.End(wire.NoErrors)
			} else {
				c.Expect(wire.Err, "The code does not count any more; call verify_email again.\n")
				c.End(wire.InvalidParams)
			}
			if u, err = rules.UserByName(t.Context(), "ann"); err != nil || u.EmailVerified != tt.good {
				t.Errorf("verified: %v, %v, want %v", u.EmailVerified, err, tt.good)
			}
		})
	}
}

// The time runs from the mail, not from the latest wrong answer.
func TestCodeLifeAfterWrongCodes(t *testing.T) {
	const question = "A code has been mailed to ann@example.org. Code: "
	_, o, call := start(t)
	c := call("verify_email", "")
	c.AnswerSecret(question, "1")
	c.Expect(wire.Err, "That is not the code.\n")
	c.WaitInput()
	o.now = o.now.Add(15*time.Minute + time.Second)
	c.AnswerSecret(question, string(o.sent))
	c.Expect(wire.Err, "The code does not count any more; call verify_email again.\n")
	c.End(wire.InvalidParams)
}

// A recovery password counts for less than an hour, when it is checked and
// when the new password is set (state 3.3).
func TestRecoveryLife(t *testing.T) {
	const (
		life     = time.Hour
		question = "Recovery password: "
		next     = "New password: "
		refused  = "The recovery password is wrong, or does not count any more.\n"
		late     = "The recovery password does not count any more; ask for another one with request_pw_reset.\n"
	)
	for _, tt := range []struct {
		name          string
		before, after time.Duration // until the recovery password, and until the new one is typed
		checked, set  bool
	}{
		{"at once", 0, 0, true, true},
		{"a second before", life - time.Second, 0, true, true},
		{"slowly, a second before", 0, life - time.Second, true, true},
		{"an hour", life, 0, false, false},
		{"a second after", life + time.Second, 0, false, false},
		{"slowly, a second after", life - time.Second, 2 * time.Second, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rules, o, call := start(t)
			request := call("request_pw_reset", "-user ann")
			request.ExpectText("If there is such an account, a recovery password has been mailed to its address. It counts for one hour: use recover_acct.\n")
			request.End(wire.NoErrors)
			c := call("recover_acct", "-user ann")
			c.WaitInput()
			o.now = o.now.Add(tt.before)
			c.AnswerSecret(question, string(o.sent))
			if tt.checked {
				c.WaitInput()
				o.now = o.now.Add(tt.after)
				c.AnswerSecret(next, newPassword)
			}
			switch {
			case tt.set:
				c.ExpectText("\nThe new password is set. Log in with auth.\n")
				c.End(wire.NoErrors)
			case tt.checked:
				c.Expect(wire.Err, late)
				c.End(wire.InvalidParams)
			default:
				c.Expect(wire.Err, refused)
				c.AnswerSecret(question, "")
				c.ExpectText("\n")
				c.End(wire.Aborted)
			}
			_, err := rules.Authenticate(t.Context(), account.Login{Name: "ann"}, account.Secret(newPassword), netip.Addr{})
			if tt.set && err != nil || !tt.set && !errors.Is(err, account.ErrRefused) {
				t.Errorf("log in with the new password: %v", err)
			}
		})
	}
}
