package channel_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/wire"
)

// workers is how many change the same things at once.
const workers = 8

// together runs one call per worker at the same time and returns how many had
// no error. An error that is no rule fails the test.
func together(t *testing.T, call func(worker int) error) int {
	t.Helper()
	var wg sync.WaitGroup
	start := make(chan struct{})
	errs := make([]error, workers)
	for i := range workers {
		wg.Go(func() {
			<-start
			errs[i] = call(i)
		})
	}
	close(start)
	wg.Wait()
	done := 0
	for _, err := range errs {
		if err == nil {
			done++
		} else if _, rule := errors.AsType[*channel.RuleError](err); !rule && err != account.ErrOwnsChannel {
			t.Errorf("got %v, want a rule", err)
		}
	}
	return done
}

// checkInvariants holds what is stored against what must always be true.
func checkInvariants(t *testing.T, f *fixture) {
	t.Helper()
	for what, query := range map[string]string{
		"channels without one owner": `SELECT count(*) FROM channels c WHERE (SELECT count(*) FROM channel_members m
			WHERE m.channel_id = c.channel_id AND m.access_level = 1 AND m.pending_invite = 0) <> 1`,
		"members twice":      `SELECT count(*) FROM (SELECT 1 FROM channel_members GROUP BY channel_id, user_id HAVING count(*) > 1)`,
		"members of nothing": `SELECT count(*) FROM channel_members WHERE channel_id NOT IN (SELECT channel_id FROM channels) OR user_id NOT IN (SELECT user_id FROM users)`,
		"names twice":        `SELECT count(*) FROM (SELECT 1 FROM channels GROUP BY lower(channel_name) HAVING count(*) > 1)`,
		"subs twice":         `SELECT count(*) FROM (SELECT 1 FROM sub_channels GROUP BY channel_id, lower(sub_channel_name) HAVING count(*) > 1)`,
		"subs of nothing":    `SELECT count(*) FROM sub_channels WHERE channel_id NOT IN (SELECT channel_id FROM channels)`,
		"flags of nothing":   `SELECT count(*) FROM read_only_flags WHERE channel_id NOT IN (SELECT channel_id FROM channels)`,
	} {
		if n := f.count(t, query); n != 0 {
			t.Errorf("%s: %d", what, n)
		}
	}
}

func TestRaces(t *testing.T) {
	f := newFixture(t)
	accounts := account.New(account.Config{Store: f.db})
	for i := range workers {
		f.user(t, fmt.Sprint("user", i))
	}
	name := func(i int) string { return fmt.Sprint("user", i) }
	rounds := 20
	if testing.Short() {
		rounds = 3
	}
	for round := range rounds {
		// All want one name, in different cases: one gets it.
		if n := together(t, func(i int) error {
			_, err := f.Add(ctx, caller(name(i)), []string{"room", "ROOM", "Room", "rooM"}[i%4])
			return err
		}); n != 1 {
			t.Fatalf("%d channels of one name", n)
		}
		checkInvariants(t, f)
		owner := f.owner(t, "room")
		for i := range workers {
			if name(i) != owner {
				must[channel.MemberChange](t)(f.Invite(ctx, caller(owner), "room", name(i)))
			}
		}

		// Half of them accept and decline, the other half take the invites back:
		// each invite has one end.
		together(t, func(i int) error {
			target := name(i / 2)
			if i%2 == 0 {
				_, err := f.RemoveMember(ctx, caller(owner), "room", target)
				return err
			}
			_, err := f.Accept(ctx, caller(target), "room")
			return err
		})
		checkInvariants(t, f)
		for i := range workers { // those who are not members by now
			_, _ = f.Invite(ctx, caller(owner), "room", name(i))
			_, _ = f.Accept(ctx, caller(name(i)), "room")
		}

		// The owner gives the channel to several at once: after the first
		// transfer the caller is the owner no more.
		if n := together(t, func(i int) error {
			_, err := f.SetLevel(ctx, caller(owner), "room", name(i), wire.Owner)
			return err
		}); n != 1 {
			t.Errorf("%d transfers", n)
		}
		checkInvariants(t, f)

		// With the override everybody can, one after another.
		if n := together(t, func(i int) error {
			_, err := f.SetLevel(ctx, override(name(i)), "room", name(i), wire.Owner)
			return err
		}); n < workers-1 { // one may have been the owner
			t.Errorf("%d transfers with the override", n)
		}
		checkInvariants(t, f)

		// Sub-channels: one name, and the lowest ids.
		f.limit = 5
		if n := together(t, func(i int) error {
			_, err := f.AddSub(ctx, override(name(i)), "room", fmt.Sprint("sub-", i))
			return err
		}); n != 5 {
			t.Errorf("%d sub-channels, want the 5 that there may be", n)
		}
		if n := f.count(t, `SELECT max(sub_channel_id) FROM sub_channels`); n != 4 {
			t.Errorf("highest id %d", n)
		}
		if n := together(t, func(i int) error {
			_, err := f.AddFlag(ctx, override(name(i)), "room", channel.Flag{Sub: 7, Level: 4})
			return err
		}); n != 1 {
			t.Errorf("%d of one flag", n)
		}

		// An account goes while it gets the channel: one of both fails.
		heir := name((round + 1) % workers)
		if f.owner(t, "room") == heir {
			heir = name(round % workers)
		}
		old := f.owner(t, "room")
		together(t, func(i int) error {
			if i%2 == 0 {
				_, err := f.SetLevel(ctx, caller(old), "room", heir, wire.Owner)
				return err
			}
			if i > 1 {
				return nil
			}
			_, err := accounts.Remove(ctx, id(old), heir, func(account.User, account.User) error { return nil })
			return err
		})
		checkInvariants(t, f)
		if _, err := accounts.UserByName(ctx, heir); errors.Is(err, account.ErrNotFound) {
			f.user(t, heir)
		}

		// Removed and used at the same time.
		together(t, func(i int) error {
			switch i % 4 {
			case 0:
				_, err := f.Remove(ctx, override(name(i)), "room")
				return err
			case 1:
				_, err := f.AddSub(ctx, override(name(i)), "room", fmt.Sprint("last", i))
				return err
			case 2:
				_, err := f.SetLevel(ctx, override(name(i)), "room", name(i), wire.Owner)
				return err
			}
			_, err := f.AddFlag(ctx, override(name(i)), "room", channel.Flag{Sub: wire.SubID(i), Level: 1})
			return err
		})
		checkInvariants(t, f)
		if n := f.count(t, `SELECT (SELECT count(*) FROM channels) + (SELECT count(*) FROM channel_members)
			+ (SELECT count(*) FROM sub_channels) + (SELECT count(*) FROM read_only_flags)`); n != 0 {
			t.Fatalf("%d rows are left of a channel that was removed", n)
		}
	}
}

// owner returns the name of a channel's owner.
func (f *fixture) owner(t *testing.T, ch string) string {
	t.Helper()
	_, page, err := f.Members(ctx, channel.Caller{Override: true}, ch, channel.MemberFilter{}, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range page.Rows {
		if m.Level == wire.Owner {
			return m.Name
		}
	}
	t.Fatal("no owner")
	return ""
}

// count asks the database file past the store.
func (f *fixture) count(t *testing.T, query string) (n int) {
	t.Helper()
	if err := f.file.QueryRowContext(context.Background(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
