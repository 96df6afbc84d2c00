package soak

import (
	"context"
	"errors"
	"strings"
	"sync"

	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/wire"
)

// MakeAccounts makes two accounts for each client, one of which has rank 1,
// and lets the other one list a few things and meet others.
func MakeAccounts(ctx context.Context, addr string, administrator raw.Account, clients int) error {
	admin, err := visitHost(ctx, addr, new(ledger))
	if err != nil {
		return err
	}
	defer admin.c.Close()
	if err := admin.login(ctx, administrator); err != nil {
		return err
	}
	for i := range clients {
		for _, name := range []string{bossName(i), UserName(i)} {
			if err := admin.addAccount(ctx, name); err != nil {
				return err
			}
		}
		if err := admin.run(ctx, expect{name: "set_user_rank", args: []string{"-user", bossName(i), "-rank", "1"}}); err != nil {
			return err
		}
	}
	for _, name := range append([]string{"ls_users", "ls_auth_log", "host_info"}, meetingCommands...) {
		if err := admin.run(ctx, expect{name: "add_ranked_cmd", args: []string{"-command", name, "-rank", "2"}}); err != nil {
			return err
		}
	}
	return nil
}

// FillLog makes calls that are refused, and whose arguments the audit log
// keeps.
func FillLog(ctx context.Context, addr string, administrator raw.Account) error {
	v, err := visitHost(ctx, addr, new(ledger))
	if err != nil {
		return err
	}
	defer v.c.Close()
	if err := v.login(ctx, administrator); err != nil {
		return err
	}
	tooLong := strings.Repeat("x", 500)
	for range 1000 {
		if err := v.run(ctx, expect{name: "set_disp_name", args: []string{"-new_name", tooLong}, code: wire.InvalidParams}); err != nil {
			return err
		}
	}
	return nil
}

// CacheReaders are sessions that read the audit log at once: more than the store has
// reading connections.
const CacheReaders = 8

// cacheReads is how often each of them reads the log.
const cacheReads = 5

// FillCaches has every reading connection of the database read the whole
// audit log, so that the page caches, whose size is bounded, are as full in
// one reading of the memory as in the other: SQLite forgets the pages of a
// connection when another one has written.
func FillCaches(ctx context.Context, addr string, administrator raw.Account) error {
	var readers []*visit
	defer func() {
		for _, v := range readers {
			v.c.Close()
		}
	}()
	for range CacheReaders {
		v, err := visitHost(ctx, addr, new(ledger))
		if err != nil {
			return err
		}
		readers = append(readers, v)
		if err := v.login(ctx, administrator); err != nil {
			return err
		}
	}
	// All at once, because one after the other would share a connection.
	var group sync.WaitGroup
	failed := make([]error, len(readers))
	for i, v := range readers {
		group.Go(func() {
			for range cacheReads {
				failed[i] = errors.Join(failed[i], v.run(ctx, expect{name: "ls_audit", args: []string{"-arguments", "no row has this"}, says: "0 rows"}))
			}
		})
	}
	group.Wait()
	return errors.Join(failed...)
}
