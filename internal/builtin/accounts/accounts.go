package accounts

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/registry"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// Rules is what the commands need of package account.
type Rules interface {
	Authenticate(ctx context.Context, l account.Login, pw account.Secret, from netip.Addr) (account.User, error)
	CheckNew(ctx context.Context, n account.NewAccount) error
	CheckPassword(n account.NewAccount, pw account.Secret) error
	Create(ctx context.Context, n account.NewAccount, pw account.Secret) (account.User, error)
	SetPassword(ctx context.Context, id wire.UserID, pw account.Secret) error
	Rename(ctx context.Context, id wire.UserID, name string) (account.User, error)
	List(ctx context.Context, f account.Filter, after account.Cursor, limit int) (account.Page, error)
}

// Settings are what the configuration says about these commands.
type Settings struct {
	AutoLockLimit      int  // refusals in one call of auth before it ends
	AskCurrentPassword bool // set_pw asks for it first
	VerifiedLoginOnly  bool // no login before the e-mail address is verified, rank 1 excepted
}

// Config is what the commands need. All fields are set.
type Config struct {
	Rules    Rules
	Settings func() Settings // asked at each use: settings may be reloaded
}

// commands holds what the commands share.
type commands struct{ Config }

// Commands returns the package's commands.
func Commands(cfg Config) []registry.Builtin {
	c := commands{cfg}
	return []registry.Builtin{
		{Command: c.auth()},
		{Command: myInfo()},
		{Command: logout()},
		{Command: c.setPassword()},
		{Command: c.add(), Further: module.Public, When: registry.Flags{PublicReg: true}},
		{Command: c.list()},
	}
}

// explain turns an error of the rules into one for the caller: a broken rule
// and a refusal are theirs to know, anything else is the host's.
func explain(err error) error {
	var rule *account.RuleError
	switch {
	case errors.As(err, &rule):
		return module.Invalid("%s", sentence(rule.Text))
	case errors.Is(err, account.ErrBusy):
		return module.Fail(wire.ExecutionFail, "%s", sentence(account.ErrBusy.Error()))
	}
	return err
}

// broken returns what to tell the caller when err is about a value that can be
// typed again; ok is false for any other error.
func broken(err error) (text string, ok bool) {
	var rule *account.RuleError
	if !errors.As(err, &rule) || errors.Is(err, account.ErrNotFound) {
		return "", false
	}
	return sentence(rule.Text), true
}

// sentence makes an error's text one for people.
func sentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + strings.TrimRight(text[size:], ".") + "."
}
