package store

import (
	"context"
	"database/sql"
	"errors"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/wire"
)

const (
	// pw_recovery and channel_members follow by their foreign keys.
	deleteUser = `DELETE FROM users WHERE user_id = $1`

	someoneOfRank = `SELECT EXISTS (SELECT 1 FROM users WHERE host_rank = $1)`
)

// ChangeBy changes an account on behalf of caller.
func (s *Store) ChangeBy(ctx context.Context, caller wire.UserID, target account.Key, change func(account.User, *account.Record) error) (account.Outcome, error) {
	var out account.Outcome
	err := s.write(ctx, "change account", func(tx *sql.Tx) error {
		by, old, err := s.findBoth(ctx, tx, caller, target)
		if err != nil {
			return err
		}
		out.Record = old
		if err := change(by.User, &out.Record); err != nil {
			return passError{err}
		}
		if err := s.replace(ctx, tx, old, &out.Record); err != nil {
			return err
		}
		if out.Record.Rank != old.Rank {
			out.Vacated, err = s.vacant(ctx, tx, old.Rank)
		}
		return err
	})
	if err != nil {
		return account.Outcome{}, err
	}
	return out, nil
}

// RemoveBy removes an account on behalf of caller.
func (s *Store) RemoveBy(ctx context.Context, caller wire.UserID, target account.Key, judge func(caller, target account.User, ties account.Ties) error) (account.Outcome, error) {
	var out account.Outcome
	err := s.write(ctx, "remove account", func(tx *sql.Tx) error {
		by, old, err := s.findBoth(ctx, tx, caller, target)
		if err != nil {
			return err
		}
		out.Record = old
		ties, err := s.ties(ctx, tx, old.ID)
		if err != nil {
			return err
		}
		if err := judge(by.User, old.User, ties); err != nil {
			return passError{err}
		}
		if out.Left, err = s.departures(ctx, tx, old.ID); err != nil {
			return err
		}
		if _, err := tx.StmtContext(ctx, s.stmt.remove).ExecContext(ctx, old.ID[:]); err != nil {
			return err
		}
		out.Vacated, err = s.vacant(ctx, tx, old.Rank)
		return err
	})
	if err != nil {
		return account.Outcome{}, err
	}
	return out, nil
}

// findBoth reads the two accounts of a change within its transaction.
func (s *Store) findBoth(ctx context.Context, tx *sql.Tx, caller wire.UserID, target account.Key) (by, old account.Record, err error) {
	by, err = s.find(ctx, tx, account.Key{ID: caller})
	if errors.Is(err, account.ErrNotFound) {
		err = passError{account.ErrCallerGone}
	}
	if err == nil {
		old, err = s.find(ctx, tx, target)
	}
	return by, old, err
}

// vacant reports whether no account has the rank.
func (s *Store) vacant(ctx context.Context, tx *sql.Tx, rank wire.Rank) (bool, error) {
	var someone bool
	err := tx.StmtContext(ctx, s.stmt.ofRank).QueryRowContext(ctx, int64(rank)).Scan(&someone)
	return !someone, err
}
