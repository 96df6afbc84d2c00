package storetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/internal/access"
	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/wire"
)

// Logins is a store that reads an account together with its channels.
type Logins interface {
	Channels
	Login(ctx context.Context, id wire.UserID) (account.User, []wire.ChannelID, error)
}

func testLogin(t *testing.T, s Logins) {
	ann, bob, cyd := plain("ann"), Record("bob"), plain("cyd")
	mustCreate(t, s, ann, bob, cyd)
	login := func(who account.Record, want ...wire.ChannelID) {
		t.Helper()
		user, channels, err := s.Login(ctx, who.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(who.User, user) + cmp.Diff(want, channels); diff != "" {
			t.Errorf("login of %s: %s", who.Name, diff)
		}
	}
	login(ann)
	login(bob)

	// In the order in which they came, without those that are invites.
	owned := mustAdd(t, s, "One", "cyd", "Two", "ann", "Three", "cyd", "Four", "cyd")
	in := access.Standing{Level: wire.Regular}
	update(t, s, func(tx channel.Tx) error {
		return errors.Join(
			tx.PutMember(owned[3], ann.ID, in),
			tx.PutMember(owned[2], ann.ID, access.Standing{Level: wire.Regular, Pending: true}),
			tx.PutMember(owned[0], ann.ID, in),
			tx.PutMember(owned[1], bob.ID, access.Standing{Level: wire.Regular, Pending: true}),
		)
	})
	login(ann, owned[1], owned[3], owned[0])
	login(bob)
	login(cyd, owned[0], owned[2], owned[3])
	update(t, s, func(tx channel.Tx) error {
		return errors.Join(
			tx.PutMember(owned[2], ann.ID, in), // accepted
			tx.PutMember(owned[3], ann.ID, access.Standing{Level: wire.Admin}),
			tx.RemoveMember(owned[0], ann.ID), tx.RemoveChannel(owned[1]),
		)
	})
	login(ann, owned[3], owned[2])

	// More than a user may have are not read: nobody counts on them.
	names := make([]string, 0, 2*channel.MaxChannels+2)
	for n := range channel.MaxChannels + 1 {
		names = append(names, strings.Repeat("x", n%20+4)+string(rune('a'+n%26))+string(rune('a'+n/26)), "bob")
	}
	many := mustAdd(t, s, names...)
	login(bob, many[:channel.MaxChannels]...)
	if !slices.IsSorted(many) {
		t.Errorf("ids %v", many)
	}

	if _, _, err := s.Login(ctx, wire.UserID{9}); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("unknown user: %v, want ErrNotFound", err)
	}
	ended, end := context.WithCancel(ctx)
	end()
	if _, _, err := s.Login(ended, ann.ID); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
