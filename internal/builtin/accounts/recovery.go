package accounts

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"math/big"
	"strconv"
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
	defer pw.Wipe()
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
	defer recovery.Wipe()
	for {
		answer, err := askSecret(ctx, call, "New password: ")
		if err != nil {
			return err
		}
		if len(answer) == 0 {
			return cancelled(ctx, call)
		}
		user, err := c.Rules.Recover(ctx, login, recovery, answer, call.Session().Addr)
		answer.Wipe()
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

// askRecovery asks until the recovery password is right. The caller wipes it.
func (c commands) askRecovery(ctx context.Context, call *module.Call, login account.Login) (account.Secret, error) {
	addr := call.Session().Addr
	for try := 1; ; try++ {
		answer, err := askSecret(ctx, call, "Recovery password: ")
		if err != nil {
			return nil, err
		}
		if len(answer) == 0 {
			return nil, cancelled(ctx, call)
		}
		if !c.Guard.TryAllowed(addr) {
			answer.Wipe()
			return nil, tooManyTries()
		}
		_, err = c.Rules.CheckRecovery(ctx, login, answer, addr)
		if err == nil {
			c.Guard.TrySucceeded(addr)
			return answer, nil
		}
		answer.Wipe()
		if !errors.Is(err, account.ErrRecoveryRefused) {
			return nil, explain(err)
		}
		if try >= maxRecoveryTries {
			return nil, module.Invalid("Too many attempts. Ask for another recovery password with request_pw_reset.")
		}
		if err := call.Err(ctx, "The recovery password is wrong, or does not count any more."); err != nil {
			return nil, err
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
		Run:    asUser(c.runVerifyEmail),
	}
}

// Limits of a verification code (commands 2, verify_email).
const (
	maxCodeTries = 5
	codeLife     = 15 * time.Minute
)

func (c commands) runVerifyEmail(ctx context.Context, call *module.Call, me *module.User) error {
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
	defer code.Wipe()
	if err := c.Mail.VerificationCode(ctx, user, code); err != nil {
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

func (c commands) askCode(ctx context.Context, call *module.Call, user account.User, code account.Secret, until time.Time) error {
	for try := 1; ; try++ {
		answer, err := askSecret(ctx, call, fmt.Sprintf("A code has been mailed to %s. Code: ", user.Email))
		right := subtle.ConstantTimeCompare(answer, code) == 1
		answer.Wipe()
		switch {
		case err != nil:
			return err
		case len(answer) == 0:
			return cancelled(ctx, call)
		case c.Now().After(until):
			return module.Invalid("The code does not count any more; call verify_email again.")
		case right:
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
func newCode() (account.Secret, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(899_999))
	if err != nil {
		return nil, err
	}
	return strconv.AppendInt(make(account.Secret, 0, 6), 100_000+n.Int64(), 10), nil
}
