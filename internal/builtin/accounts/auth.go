package accounts

import (
	"context"
	"errors"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/names"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// administrator is the rank that may log in whatever the settings say.
const administrator wire.Rank = 1

func (c commands) auth() *module.Command {
	return &module.Command{
		Name:  "auth",
		Class: module.Public | module.Exempt,
		OneOf: true,
		Args: []module.Arg{
			{Name: "user", Doc: "user name"},
			{Name: "email", Doc: "e-mail address; counts if both are given"},
		},
		Output: []string{"text"},
		Short:  "log in",
		Long: "Logs this session in as a user, who is named by user name or by e-mail address. " +
			"The password is asked for and not shown. If the account must get a new password or a new user name, " +
			"that is asked for next. An empty answer cancels. After a login the list of commands is that of the user. " +
			"A session that is logged in already becomes the new user's; a failed attempt changes nothing.",
		Run: c.runAuth,
	}
}

func (c commands) runAuth(ctx context.Context, call *module.Call) error {
	login := account.Login{Name: call.Args.String("user"), Email: call.Args.String("email")}
	if err := account.CheckLogin(login); err != nil {
		return explain(err)
	}
	user, pw, err := c.askPassword(ctx, call, login)
	if err != nil {
		return err
	}
	defer func() { pw.Wipe() }()
	if c.Settings().VerifiedLoginOnly && !user.EmailVerified && user.Rank != administrator {
		return module.Invalid("The e-mail address of this account has not been verified yet; ask an administrator.")
	}
	if user.NewPasswordReq {
		next, err := c.askNewPassword(ctx, call, newPassword{
			user: user.ID, prompt: "This account needs a new password. New password: ", feed: true,
			allowed: func() error { return c.still(ctx, user.ID, pw) },
		})
		if err != nil {
			return err
		}
		pw.Wipe()
		pw = next
	}
	if user.NewNameReq {
		if user, err = c.askNewName(ctx, call, user, pw); err != nil {
			return err
		}
	}
	if err := call.Async(ctx, wire.AsyncUserLogin, &wire.UserRef{User: user.ID}); err != nil {
		return err
	}
	// The login stands: nothing that happens now makes the call a failure.
	return call.Line(context.WithoutCancel(ctx), "You are logged in as "+user.Name+".")
}

// still refuses to go on after a question when the account was locked or got
// another password meanwhile: the prompt may have been open for days.
func (c commands) still(ctx context.Context, id wire.UserID, pw account.Secret) error {
	err := c.Rules.Confirm(ctx, id, pw)
	if errors.Is(err, account.ErrRefused) {
		return module.Invalid("The password does not count any more; call auth again.")
	}
	return err
}

// askPassword asks until the password is right, the user gives up, or there
// were too many tries. The caller wipes the password.
func (c commands) askPassword(ctx context.Context, call *module.Call, login account.Login) (account.User, account.Secret, error) {
	for try := 1; ; try++ {
		answer, err := askSecret(ctx, call, "Password: ")
		if err != nil {
			return account.User{}, nil, err
		}
		if len(answer) == 0 {
			return account.User{}, nil, cancelled(ctx, call)
		}
		addr := call.Session().Addr
		if !c.Guard.TryAllowed(addr) {
			answer.Wipe()
			return account.User{}, nil, tooManyTries()
		}
		user, err := c.Rules.Authenticate(ctx, login, answer, addr)
		if err == nil {
			c.Guard.TrySucceeded(addr)
			return user, answer, nil
		}
		answer.Wipe()
		if !errors.Is(err, account.ErrRefused) {
			return account.User{}, nil, explain(err)
		}
		if try >= c.Settings().AutoLockLimit {
			return account.User{}, nil, module.Invalid("Too many attempts.")
		}
		if err := call.Err(ctx, module.Sentence(err.Error())); err != nil {
			return account.User{}, nil, err
		}
	}
}

// askSecret asks for a secret, which the caller wipes.
func askSecret(ctx context.Context, call *module.Call, prompt string) (account.Secret, error) {
	answer, err := call.Secret(ctx, prompt)
	return answer, err
}

// cancelled ends a call after an empty answer: a line feed, because the answer
// was not shown, then ABORTED.
func cancelled(ctx context.Context, call *module.Call) error {
	if err := call.Text(ctx, "\n"); err != nil {
		return err
	}
	return module.ErrAborted
}

// newPassword says for whom a new password is asked, and how.
type newPassword struct {
	user    wire.UserID
	prompt  string
	feed    bool         // cancelling is answered with a line feed
	allowed func() error // asked before the password is stored; nil: always
}

// askNewPassword asks until there is an acceptable password, stores it and
// returns it. The caller wipes it.
func (c commands) askNewPassword(ctx context.Context, call *module.Call, want newPassword) (account.Secret, error) {
	for {
		answer, err := askSecret(ctx, call, want.prompt)
		switch {
		case err != nil:
			return nil, err
		case len(answer) == 0 && want.feed:
			return nil, cancelled(ctx, call)
		case len(answer) == 0:
			return nil, module.ErrAborted
		}
		if want.allowed != nil {
			if err := want.allowed(); err != nil {
				answer.Wipe()
				return nil, explain(err)
			}
		}
		err = c.Rules.SetPassword(ctx, want.user, answer)
		if err == nil {
			return answer, nil
		}
		answer.Wipe()
		text, again := broken(err)
		if !again {
			return nil, explain(err)
		}
		if err := call.Err(ctx, text); err != nil {
			return nil, err
		}
	}
}

// askNewName asks until there is an acceptable user name, and stores it.
func (c commands) askNewName(ctx context.Context, call *module.Call, user account.User, pw account.Secret) (account.User, error) {
	for {
		name, err := call.Prompt(ctx, "This account needs a new user name. New user name: ")
		if err != nil {
			return account.User{}, err
		}
		if name == "" {
			return account.User{}, cancelled(ctx, call)
		}
		if err := c.still(ctx, user.ID, pw); err != nil {
			return account.User{}, explain(err)
		}
		text, again := "That is the name that the account has now; choose another one.", true
		if names.Fold(name) != names.Fold(user.Name) {
			renamed, err := c.Rules.Rename(ctx, user.ID, name)
			if err == nil {
				// The user's other sessions, if there are any.
				return renamed, call.Async(ctx, wire.AsyncUserRenamed, &wire.UserRenamed{User: renamed.ID, Name: renamed.Name})
			}
			if text, again = broken(err); !again {
				return account.User{}, explain(err)
			}
		}
		if err := call.Err(ctx, text); err != nil {
			return account.User{}, err
		}
	}
}

func logout() *module.Command {
	return &module.Command{
		Name:   "logout",
		Class:  module.Exempt,
		Short:  "log out",
		Long:   "Logs this session out. It stays connected, with the commands of a session that is not logged in.",
		Hints:  module.Hints{Idempotent: true},
		Inline: true,
		Run: func(ctx context.Context, call *module.Call) error {
			return call.Async(ctx, wire.AsyncLogout, nil)
		},
	}
}
