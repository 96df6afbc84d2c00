package accounts

import (
	"context"
	"fmt"

	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

func (c commands) setName() *module.Command {
	return &module.Command{
		Name:  "set_user_name",
		Class: module.Exempt,
		Args:  []module.Arg{{Name: "new_name", Required: true, Doc: "the new user name: 2 to 24 bytes, no blanks"}},
		Short: "change your user name",
		Long:  "Changes your user name. It must not be another account's, in any case.",
		Run: asUser(func(ctx context.Context, call *module.Call, me *module.User) error {
			user, err := c.Rules.Rename(ctx, me.ID, call.Args.String("new_name"))
			if err != nil {
				return explain(err)
			}
			return call.Async(context.WithoutCancel(ctx), wire.AsyncUserRenamed, &wire.UserRenamed{User: user.ID, Name: user.Name})
		}),
	}
}

func (c commands) setDisplay() *module.Command {
	return &module.Command{
		Name:  "set_disp_name",
		Class: module.Exempt,
		Args:  []module.Arg{{Name: "new_name", Required: true, MayBeEmpty: true, Doc: "the new display name, at most 24 bytes; without it the name is cleared"}},
		Short: "change your display name",
		Long:  "Changes the name that others are shown. The switch without a value clears it.",
		Hints: module.Hints{Idempotent: true},
		Run: asUser(func(ctx context.Context, call *module.Call, me *module.User) error {
			user, err := c.Rules.SetDisplay(ctx, me.ID, call.Args.String("new_name"))
			if err != nil {
				return explain(err)
			}
			return call.Async(context.WithoutCancel(ctx), wire.AsyncDispRenamed, &wire.DispRenamed{User: user.ID, Display: user.Display})
		}),
	}
}

func (c commands) setEmail() *module.Command {
	return &module.Command{
		Name:  "set_email",
		Class: module.Exempt,
		Args:  []module.Arg{{Name: "new_email", Required: true, Doc: "the new e-mail address"}},
		Short: "change your e-mail address",
		Long:  "Changes your e-mail address. It has to be verified again, and the old address is told.",
		Hints: module.Hints{Idempotent: true},
		Run: asUser(func(ctx context.Context, call *module.Call, me *module.User) error {
			before, after, err := c.Rules.SetEmail(ctx, me.ID, call.Args.String("new_email"))
			if err != nil {
				return explain(err)
			}
			ctx = context.WithoutCancel(ctx)
			if before.EmailVerified && before.Email != after.Email {
				c.Background.Do(func(ctx context.Context) {
					if err := c.Mail.AddressChanged(ctx, before); err != nil {
						c.Log.Error("old address not told", "user", before.Name, "err", err)
					}
				})
			}
			return call.Async(ctx, wire.AsyncRWMyInfo, &wire.UserRef{User: after.ID})
		}),
	}
}

func isVerified() *module.Command {
	return &module.Command{
		Name:   "is_email_verified",
		Class:  module.Exempt,
		Output: []string{"text"},
		Short:  "tell whether your e-mail address is verified",
		Long:   "Answers true or false.",
		Hints:  module.Hints{ReadOnly: true, Idempotent: true},
		Inline: true,
		Run: asUser(func(ctx context.Context, call *module.Call, me *module.User) error {
			return call.Line(ctx, fmt.Sprint(me.EmailVerified))
		}),
	}
}
