package accounts

import (
	"context"
	"fmt"

	"mrci.dev/mrci/internal/access"
	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// mayChange is the rule for commands on the accounts of others: the caller
// outranks the target (commands 1.8).
func mayChange(caller, target account.User) error {
	if caller.Locked || !access.MayChangeUser(caller.Rank, target.Rank) {
		return module.Invalid("You may not change the account %s: your rank is not higher than its.", target.Name)
	}
	return nil
}

// mayChangeOrOwn allows the caller's own account as well.
func mayChangeOrOwn(caller, target account.User) error {
	if caller.ID == target.ID {
		return nil
	}
	return mayChange(caller, target)
}

// asUser hands the account that the session is logged in as to run.
func asUser(run func(ctx context.Context, call *module.Call, me *module.User) error) func(ctx context.Context, call *module.Call) error {
	return func(ctx context.Context, call *module.Call) error {
		me := call.Session().User
		if me == nil { // logged out between the call and here
			return module.Invalid("You are not logged in.")
		}
		return run(ctx, call, me)
	}
}

// lastAdmin is what to say when no account of rank 1 is left.
const lastAdmin = "No account has rank 1 any more. On the host's machine, `mrci elevate NAME` or `mrci add-admin NAME` makes one.\n"

func (c commands) remove() *module.Command {
	return &module.Command{
		Name:  "rm_acct",
		Class: module.Ranked,
		Args: []module.Arg{
			{Name: "name", Required: true, Doc: "user name of the account"},
			{Name: "force", Kind: module.Flag, Doc: "do not ask"},
		},
		Output: []string{"text"},
		Short:  "remove an account",
		Long: "Removes an account for good, after a question unless -force is given. Its sessions are logged out. " +
			"You must outrank the account, or it is your own. An account that owns a channel cannot be removed.",
		Hints: module.Hints{Destructive: true, Confirm: true},
		Run:   asUser(c.runRemove),
	}
}

func (c commands) runRemove(ctx context.Context, call *module.Call, me *module.User) error {
	target, err := c.Rules.Find(ctx, call.Args.String("name"))
	if err != nil {
		return explain(err)
	}
	// Looked at here so that nobody is asked in vain; what counts are the checks
	// in the transaction that removes.
	if err := c.Rules.CheckRemove(ctx, target.ID); err != nil {
		return explain(err)
	}
	if err := mayChangeOrOwn(account.User{ID: me.ID, Rank: me.Rank}, target); err != nil {
		return err
	}
	if !call.Args.Bool("force") {
		yes, err := call.Confirm(ctx, fmt.Sprintf("Remove the account %s for good (y/n)? ", target.Name))
		if err != nil {
			return err
		}
		if !yes {
			return module.ErrAborted
		}
	}
	allow := func(caller, now account.User) error {
		if now.ID != target.ID { // the name has gone to somebody else meanwhile
			return account.ErrNotFound
		}
		return mayChangeOrOwn(caller, now)
	}
	removed, err := c.Rules.Remove(ctx, me.ID, target.Name, allow)
	if err != nil {
		return explain(err)
	}
	// The account is gone: from here on nothing stops the call.
	ctx = context.WithoutCancel(ctx)
	if err := warnOfLast(ctx, call, removed.NoAdmin); err != nil {
		return err
	}
	return call.Async(ctx, wire.AsyncUserDeleted, &wire.UserRef{User: removed.User.ID})
}

// warnOfLast says that the last administrator is gone. The rules have logged
// it.
func warnOfLast(ctx context.Context, call *module.Call, noAdmin bool) error {
	if !noAdmin {
		return nil
	}
	return call.Text(ctx, lastAdmin)
}

func (c commands) setRank() *module.Command {
	return &module.Command{
		Name:  "set_user_rank",
		Class: module.Ranked,
		Args: []module.Arg{
			{Name: "user", Required: true, Doc: "user name of the account"},
			{Name: "rank", Kind: module.Int, Required: true, Min: 1, Max: 1<<32 - 1, Doc: "the new rank; 1 is the highest"},
		},
		Output: []string{"text"},
		Short:  "change the rank of an account",
		Long: "Sets the host rank of an account, which acts on its sessions at once. You must outrank the account, " +
			"or it is your own, and you cannot give a rank above your own.",
		Hints: module.Hints{Idempotent: true},
		Run: asUser(func(ctx context.Context, call *module.Call, me *module.User) error {
			name, rank := call.Args.String("user"), wire.Rank(call.Args.Uint("rank"))
			tooHigh := func(own wire.Rank) error {
				if rank.Outranks(own) {
					return module.Invalid("You may not give a rank above your own, which is %d.", uint32(own))
				}
				return nil
			}
			if err := tooHigh(me.Rank); err != nil {
				return err
			}
			allow := func(caller, target account.User) error {
				if err := tooHigh(caller.Rank); err != nil {
					return err
				}
				return mayChangeOrOwn(caller, target)
			}
			user, last, err := c.Rules.SetRank(ctx, me.ID, name, rank, allow)
			if err != nil {
				return explain(err)
			}
			ctx = context.WithoutCancel(ctx)
			if err := warnOfLast(ctx, call, last); err != nil {
				return err
			}
			return call.Async(ctx, wire.AsyncUserRankChg, &wire.RankChanged{User: user.ID, Rank: user.Rank})
		}),
	}
}

func (c commands) lock() *module.Command {
	return &module.Command{
		Name:  "lock_acct",
		Class: module.Ranked,
		Args: []module.Arg{
			{Name: "user", Required: true, Doc: "user name of the account"},
			{Name: "state", Kind: module.Bool, Required: true, Doc: "1 locks, 0 unlocks"},
		},
		Short: "lock or unlock an account",
		Long: "A locked account cannot log in, and its sessions are logged out. Unlocking also forgets its failed logins. " +
			"You must outrank the account.",
		Hints: module.Hints{Idempotent: true},
		Run: asUser(func(ctx context.Context, call *module.Call, me *module.User) error {
			locked := call.Args.Bool("state")
			user, err := c.Rules.Lock(ctx, me.ID, call.Args.String("user"), locked, mayChange)
			if err != nil || !locked {
				return explain(err)
			}
			return c.Sessions.Logout(context.WithoutCancel(ctx), user.ID, call.Session().ID, "Your account has been locked; you are logged out.")
		}),
	}
}

// setDemand is one of the rules that demand something of an account.
type setDemand func(r Rules, ctx context.Context, caller wire.UserID, name string, on bool, allow account.Allow) (account.User, error)

// demand is request_new_pw and request_new_user_name.
func (c commands) demand(name, what string, set setDemand) *module.Command {
	return &module.Command{
		Name:  name,
		Class: module.Ranked,
		Args: []module.Arg{
			{Name: "user", Required: true, Doc: "user name of the account"},
			{Name: "req", Kind: module.Bool, Required: true, Doc: "1 demands, 0 takes the demand back"},
		},
		Short: "demand a new " + what + " of an account",
		Long: "The user has to choose a new " + what + " at the next login; 0 takes the demand back. " +
			"You must outrank the account.",
		Hints: module.Hints{Idempotent: true},
		Run: asUser(func(ctx context.Context, call *module.Call, me *module.User) error {
			_, err := set(c.Rules, ctx, me.ID, call.Args.String("user"), call.Args.Bool("req"), mayChange)
			return explain(err)
		}),
	}
}

func (c commands) forceEmail() *module.Command {
	return &module.Command{
		Name:  "force_set_email",
		Class: module.Ranked,
		// The address is checked first (commands 3).
		Args: []module.Arg{
			{Name: "new_email", Required: true, Doc: "the new e-mail address"},
			{Name: "user", Required: true, Doc: "user name of the account"},
		},
		Short: "change the e-mail address of an account",
		Long:  "Sets the e-mail address of an account; it is not verified then. You must outrank the account.",
		Hints: module.Hints{Idempotent: true},
		Run: asUser(func(ctx context.Context, call *module.Call, me *module.User) error {
			user, err := c.Rules.ForceEmail(ctx, me.ID, call.Args.String("user"), call.Args.String("new_email"), mayChange)
			if err != nil {
				return explain(err)
			}
			return call.Async(context.WithoutCancel(ctx), wire.AsyncRWMyInfo, &wire.UserRef{User: user.ID})
		}),
	}
}
