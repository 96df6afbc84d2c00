package account

import (
	"errors"
	"time"

	"mrci.dev/mrci/wire"
)

// User is what the host knows about an account, without its secrets (state 1.1).
type User struct {
	ID             wire.UserID
	Name           string
	Email          string
	Display        string
	Rank           wire.Rank
	Registered     time.Time // UTC, to the second
	NewPasswordReq bool      // must choose a password at the next login
	NewNameReq     bool      // must choose a user name at the next login
	Locked         bool      // by lock_acct, until lock_acct ends it
	LockedUntil    time.Time // by failed logins; zero or past: not locked by them
	EmailVerified  bool
}

// LockedAt reports whether a lock of either kind is in force at now. Whether a
// lock by failures binds a client also depends on where that client is
// (state 3.2).
func (u User) LockedAt(now time.Time) bool {
	return u.Locked || lockInForce(u.LockedUntil, now)
}

// NewAccount is what a person chooses for an account, apart from its password.
type NewAccount struct {
	Name    string
	Email   string
	Display string // may be empty
}

// Login names the account that somebody wants to use. The e-mail address wins
// if it is well formed (commands 2).
type Login struct {
	Name  string
	Email string
}

// RuleError says which rule a value breaks. Its text is one line of plain
// English for the person who typed the value and says what to do instead; it
// never contains a password.
type RuleError struct {
	Field string // the column of state 1.1, or "password"
	Text  string
}

// Error returns the text for the person who typed the value.
func (e *RuleError) Error() string { return e.Text }

// Errors that callers branch on. Those of the first group are also *RuleError.
var (
	// ErrNameTaken: another account has the user name, or one that differs only in case.
	ErrNameTaken error = &RuleError{Field: "user_name", Text: "the user name is taken; choose another one"}
	// ErrEmailTaken: another account has the e-mail address.
	ErrEmailTaken error = &RuleError{Field: "email_address", Text: "the e-mail address is in use by another account; use another one"}
	// ErrNotFound: no account has this id, name or address.
	ErrNotFound error = &RuleError{Field: "user_name", Text: "there is no such user"}
	// ErrCallerGone: the account on whose behalf something was to be changed
	// does not exist any more.
	ErrCallerGone error = &RuleError{Field: "user_id", Text: "your own account has been removed"}
	// ErrEmailChanged: the account has another e-mail address by now.
	ErrEmailChanged error = &RuleError{Field: "email_address", Text: "the e-mail address was changed meanwhile; verify the new one"}
	// ErrOwnsChannel: the account cannot be removed.
	ErrOwnsChannel error = &RuleError{Field: "user_id", Text: "the user owns a channel; remove the channel or give it to another member first"}

	// ErrRefused is the one answer to a login that fails, whatever the reason.
	ErrRefused = errors.New("the user or the password is wrong, or the account is locked")
	// ErrRecoveryRefused is the one answer to a recovery that fails, whatever
	// the reason.
	ErrRecoveryRefused = errors.New("the user or the recovery password is wrong, or the recovery password is not valid any more")
	// ErrBusy: more passwords wait to be hashed than the queue holds.
	ErrBusy = errors.New("too many logins at once; try again in a moment")
	// ErrNotFirst: a first account was wanted, but there are accounts.
	ErrNotFirst = errors.New("there are accounts already")
)
