package accounts

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/registry"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// Rules is what the commands need of package account.
type Rules interface {
	Authenticate(ctx context.Context, l account.Login, pw account.Secret, from netip.Addr) (account.User, error)
	User(ctx context.Context, id wire.UserID) (account.User, error)
	Find(ctx context.Context, name string) (account.User, error)
	List(ctx context.Context, f account.Filter, after account.Cursor, limit int) (account.Page, error)

	CheckNew(ctx context.Context, n account.NewAccount) error
	CheckPassword(n account.NewAccount, pw account.Secret) error
	Create(ctx context.Context, n account.NewAccount, pw account.Secret) (account.User, error)

	Confirm(ctx context.Context, id wire.UserID, pw account.Secret) error
	SetPassword(ctx context.Context, id wire.UserID, pw account.Secret) error
	Rename(ctx context.Context, id wire.UserID, name string) (account.User, error)
	SetDisplay(ctx context.Context, id wire.UserID, display string) (account.User, error)
	SetEmail(ctx context.Context, id wire.UserID, email string) (before, after account.User, err error)
	MarkVerified(ctx context.Context, id wire.UserID, email string) (account.User, error)

	SetRank(ctx context.Context, caller wire.UserID, name string, rank wire.Rank, allow account.Allow) (u account.User, noAdmin bool, err error)
	Lock(ctx context.Context, caller wire.UserID, name string, locked bool, allow account.Allow) (account.User, error)
	ForceEmail(ctx context.Context, caller wire.UserID, name, email string, allow account.Allow) (account.User, error)
	DemandPassword(ctx context.Context, caller wire.UserID, name string, on bool, allow account.Allow) (account.User, error)
	DemandName(ctx context.Context, caller wire.UserID, name string, on bool, allow account.Allow) (account.User, error)
	CheckRemove(ctx context.Context, id wire.UserID) error
	Remove(ctx context.Context, caller wire.UserID, name string, allow account.Allow) (account.Removal, error)

	RequestRecovery(ctx context.Context, l account.Login) (account.User, account.Secret, error)
	CheckRecovery(ctx context.Context, l account.Login, pw account.Secret, from netip.Addr) (account.User, error)
	Recover(ctx context.Context, l account.Login, recovery, pw account.Secret, from netip.Addr) (account.User, error)
}

// Mail sends the mails of these commands. Its errors are for the log.
type Mail interface {
	// Ready returns an error when no mail can be sent at all.
	Ready() error
	RecoveryPassword(ctx context.Context, to account.User, pw account.Secret) error
	VerificationCode(ctx context.Context, to account.User, code account.Secret) error
	// AddressChanged tells the address that an account had before.
	AddressChanged(ctx context.Context, before account.User) error
}

// Guard counts what one address or one account may ask for (state 4). Its
// methods count and tell whether it was too much.
type Guard interface {
	TryAllowed(addr netip.Addr) bool // a password is about to be tried
	TrySucceeded(addr netip.Addr)    // it was right and does not count
	RegistrationAllowed(addr netip.Addr) bool
	ResetAllowed(addr netip.Addr) bool
	MailAllowed(user wire.UserID) bool // any mail to an account, by the hour
	CodeAllowed(user wire.UserID) bool // verification codes, by the minute
}

// Sessions reaches the sessions of a user.
type Sessions interface {
	// Logout ends the logins of a user, but for one session, and returns when
	// they have ended.
	Logout(ctx context.Context, user wire.UserID, except wire.SessionID, text string) error
}

// Background runs work beside the call that asked for it.
type Background interface {
	// Do runs job soon, and returns false when too much waits already. The
	// job's context ends with the host.
	Do(job func(ctx context.Context)) bool
}

// Settings are what the configuration says about these commands.
type Settings struct {
	AutoLockLimit      int  // refusals in one call of auth before it ends
	AskCurrentPassword bool // set_pw asks for it first
	VerifiedLoginOnly  bool // no login before the e-mail address is verified, rank 1 excepted
	MailUnverified     bool // recovery passwords to addresses that are not verified too
}

// Config is what the commands need. All fields are set.
type Config struct {
	Rules      Rules
	Mail       Mail
	Guard      Guard
	Sessions   Sessions
	Background Background
	Log        *slog.Logger
	Now        func() time.Time // decides how long a verification code counts
	Settings   func() Settings  // asked at each use: settings may be reloaded
}

// commands holds what the commands share.
type commands struct{ Config }

// Commands returns the package's commands.
func Commands(cfg Config) []registry.Builtin {
	c := commands{cfg}
	passwordReset := registry.Flags{PWReset: true}
	return []registry.Builtin{
		{Command: c.auth()},
		{Command: myInfo()},
		{Command: logout()},
		{Command: c.setPassword()},
		{Command: c.add(), Further: module.Public, When: registry.Flags{PublicReg: true}},
		{Command: c.list()},
		{Command: c.setName()},
		{Command: c.setDisplay()},
		{Command: c.setEmail()},
		{Command: isVerified()},
		{Command: c.verifyEmail(), Needs: registry.Flags{EmailVerify: true}},
		{Command: c.requestReset(), Further: module.Public, When: passwordReset},
		{Command: c.recover(), Further: module.Public, When: passwordReset},
		{Command: c.remove()},
		{Command: c.lock()},
		{Command: c.setRank()},
		{Command: c.forceEmail()},
		{Command: c.demand("request_new_pw", "password", Rules.DemandPassword)},
		{Command: c.demand("request_new_user_name", "user name", Rules.DemandName)},
	}
}

// tooManyTries refuses a password that is not tried, because too many came from
// the same address.
func tooManyTries() error {
	return module.Invalid("Too many wrong passwords came from your address; try again in an hour.")
}

// explain turns an error of the rules into one for the caller: a broken rule
// and a refusal are theirs to know, anything else is the host's.
func explain(err error) error {
	var rule *account.RuleError
	switch {
	case errors.As(err, &rule):
		return module.Invalid("%s", module.Sentence(rule.Text))
	case errors.Is(err, account.ErrBusy):
		return module.Fail(wire.ExecutionFail, "%s", module.Sentence(account.ErrBusy.Error()))
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
	return module.Sentence(rule.Text), true
}
