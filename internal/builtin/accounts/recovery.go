package accounts

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"math/big"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// loginArgs name an account by one of two switches.
var loginArgs = []module.Arg{
	{Name: "user", Doc: "user name"},
	{Name: "email", Doc: "e-mail address; counts if both are given"},
}

func (c commands) requestReset() *module.Command {
	return &module.Command{
		Name:   "request_pw_reset",
		Class:  module.Ranked,
		OneOf:  true,
		Args:   loginArgs,
		Output: []string{"text"},
		Short:  "have a recovery password mailed",
		Long: "Mails a password for recover_acct to the account's address, good for one hour. " +
			"The answer is the same whether or not there is such an account.",
		Run: c.runRequestReset,
	}
}

func (c commands) runRequestReset(ctx context.Context, call *module.Call) error {
	login := account.Login{Name: call.Args.String("user"), Email: call.Args.String("email")}
	if err := account.CheckLogin(login); err != nil {
		return explain(err)
	}
	if err := c.Mail.Ready(); err != nil {
		return err
	}
	addr := call.Session().Addr
	if !c.Guard.ResetAllowed(addr) {
		return module.Fail(wire.ExecutionFail, "Too many mails were asked for from your address; try again later.")
	}
	if !c.Background.Do(func(ctx context.Context) { c.mailRecovery(ctx, login) }) {
		return module.Fail(wire.ExecutionFail, "The host has too much to do; try again in a minute.")
	}
	return call.Line(ctx, "If there is such an account, a recovery password has been mailed to its address. It counts for one hour: use recover_acct.")
}

// mailRecovery does what was asked for when there is such an account, beside
// the call: neither answer nor time tells whether there is.
func (c commands) mailRecovery(ctx context.Context, login account.Login) {
	user, pw, err := c.Rules.RequestRecovery(ctx, login)
	log := c.Log.With("user", user.Name)
	switch {
	case errors.Is(err, account.ErrNotFound):
		return
	case err != nil:
		log.Error("recovery password not made", "err", err)
		return
	case !user.EmailVerified && !c.Settings().MailUnverified:
		log.Info("recovery password not mailed", "reason", "address is not verified")
		return
	case !c.Guard.MailAllowed(user.ID):
		log.Warn("recovery password not mailed", "reason", "mails_per_account")
		return
	}
	if err := c.Mail.RecoveryPassword(ctx, user, pw); err != nil {
		log.Error("recovery password not mailed", "err", err)
	}
}

func (c commands) recover() *module.Command {
	return &module.Command{
		Name:   "recover_acct",
		Class:  module.Ranked,
		OneOf:  true,
		Args:   loginArgs,
		Output: []string{"text"},
		Short:  "set a new password with a recovery password",
		Long: "Asks for the recovery password that request_pw_reset has mailed, then for a new password. Neither is shown. " +
			"You are not logged in by it: use auth. Sessions that are logged in to the account are logged out.",
		Run: c.runRecover,
	}
}

// maxRecoveryTries is how many wrong recovery passwords void it (commands 2,
// recover_acct), and end the call.
const maxRecoveryTries = 5

func (c commands) runRecover(ctx context.Context, call *module.Call) error {
	login := account.Login{Name: call.Args.String("user"), Email: call.Args.String("email")}
	if err := account.CheckLogin(login); err != nil {
		return explain(err)
	}
	recovery, err := c.askRecovery(ctx, call, login)
	if err != nil {
		return err
	}
	for {
		answer, err := call.Secret(ctx, "New password: ")
		if err != nil {
			return err
		}
		if answer == "" {
			return cancelled(ctx, call)
		}
		user, err := c.Rules.Recover(ctx, login, recovery, account.Secret(answer), call.Session().Addr)
		if err == nil {
			ctx = context.WithoutCancel(ctx)
			if err := c.Sessions.Logout(ctx, user.ID, call.Session().ID, "The password of your account was recovered; you are logged out."); err != nil {
				return err
			}
			return call.Line(ctx, "\nThe new password is set. Log in with auth.")
		}
		text, again := broken(err)
		if errors.Is(err, account.ErrRecoveryRefused) { // expired or used meanwhile
			return module.Invalid("The recovery password does not count any more; ask for another one with request_pw_reset.")
		}
		if !again {
			return explain(err)
		}
		if err := call.Err(ctx, text); err != nil {
			return err
		}
	}
}

func (c commands) askRecovery(ctx context.Context, call *module.Call, login account.Login) (account.Secret, error) {
	addr := call.Session().Addr
	for try := 1; ; try++ {
		answer, err := call.Secret(ctx, "Recovery password: ")
		if err != nil {
			return "", err
		}
		if answer == "" {
			return "", cancelled(ctx, call)
		}
		if !c.Guard.TryAllowed(addr) {
			return "", tooManyTries()
		}
		_, err = c.Rules.CheckRecovery(ctx, login, account.Secret(answer), addr)
		if err == nil {
			c.Guard.TrySucceeded(addr)
			return account.Secret(answer), nil
		}
		if !errors.Is(err, account.ErrRecoveryRefused) {
			return "", explain(err)
		}
		if try >= maxRecoveryTries {
			return "", module.Invalid("Too many attempts. Ask for another recovery password with request_pw_reset.")
		}
		if err := call.Err(ctx, "The recovery password is wrong, or does not count any more."); err != nil {
			return "", err
		}
	}
}

func (c commands) verifyEmail() *module.Command {
	return &module.Command{
		Name:   "verify_email",
		Class:  module.Exempt,
		Output: []string{"text"},
		Short:  "verify your e-mail address",
		Long:   "Mails a code of six digits to your address and asks for it. The code counts for 15 minutes.",
		Hints:  module.Hints{Idempotent: true},
		Run:    c.runVerifyEmail,
	}
}

// Limits of a verification code (commands 2, verify_email).
const (
	maxCodeTries = 5
	codeLife     = 15 * time.Minute
)

func (c commands) runVerifyEmail(ctx context.Context, call *module.Call) error {
	me, err := caller(call)
	if err != nil {
		return err
	}
	user, err := c.Rules.User(ctx, me.ID)
	if err != nil {
		return explain(err)
	}
	if user.EmailVerified {
		return call.Line(ctx, "Your e-mail address is verified already.")
	}
	if err := c.Mail.Ready(); err != nil {
		return err
	}
	if !c.Guard.CodeAllowed(user.ID) || !c.Guard.MailAllowed(user.ID) {
		return module.Fail(wire.ExecutionFail, "A code has been mailed already; wait a while before you ask for another one.")
	}
	code, err := newCode()
	if err != nil {
		return err
	}
	if err := c.Mail.VerificationCode(ctx, user, account.Secret(code)); err != nil {
		return fmt.Errorf("mail a verification code: %w", err)
	}
	if err := c.askCode(ctx, call, user, code, c.Now().Add(codeLife)); err != nil {
		return err
	}
	if _, err := c.Rules.MarkVerified(ctx, user.ID, user.Email); err != nil {
		return explain(err)
	}
	ctx = context.WithoutCancel(ctx)
	if err := call.Async(ctx, wire.AsyncRWMyInfo, &wire.UserRef{User: user.ID}); err != nil {
		return err
	}
	return call.Text(ctx, "\n")
}

func (c commands) askCode(ctx context.Context, call *module.Call, user account.User, code string, until time.Time) error {
	for try := 1; ; try++ {
		answer, err := call.Secret(ctx, fmt.Sprintf("A code has been mailed to %s. Code: ", user.Email))
		switch {
		case err != nil:
			return err
		case answer == "":
			return cancelled(ctx, call)
		case c.Now().After(until):
			return module.Invalid("The code does not count any more; call verify_email again.")
		case subtle.ConstantTimeCompare([]byte(answer), []byte(code)) == 1:
			return nil
		case try >= maxCodeTries:
			return module.Invalid("Too many wrong codes; call verify_email again.")
		}
		if err := call.Err(ctx, "That is not the code."); err != nil {
			return err
		}
	}
}

// newCode returns a code of 100000 to 999998 (state 3.5).
func newCode() (string, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(899_999))
	if err != nil {
		return "", err
	}
	return fmt.Sprint(100_000 + n.Int64()), nil
}
