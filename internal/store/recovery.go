package store

import (
	"context"
	"database/sql"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/wire"
)

const (
	putRecovery = `INSERT INTO pw_recovery (user_id, recovery_hash, recovery_time, recovery_failures)
		VALUES ($1, $2, $3, $4) ON CONFLICT (user_id) DO UPDATE SET
		recovery_hash = excluded.recovery_hash, recovery_time = excluded.recovery_time,
		recovery_failures = excluded.recovery_failures`

	// Nothing but a write, for what updateTally tells.
	touchUser = `UPDATE users SET attempts = attempts + 1 WHERE user_id = $1`
)

// AttemptRecovery lets judge decide about one try with a recovery password and
// stores what is left of that. It writes one row in any case.
func (s *Store) AttemptRecovery(ctx context.Context, key account.Key, judge func(account.Record) (account.Recovery, bool)) error {
	var own bool
	err := s.write(ctx, "judge recovery", func(tx *sql.Tx) error {
		r, found, err := s.findCandidate(ctx, tx, key)
		if err != nil {
			return err
		}
		own = found
		left, store := r.Recovery, true
		if own {
			left, store = judge(r)
		}
		switch {
		case r.ID.IsZero():
			return s.writeNobody(ctx, tx)
		case !store:
			return nil
		case left == r.Recovery:
			_, err := tx.StmtContext(ctx, s.stmt.touch).ExecContext(ctx, r.ID[:])
			return err
		default:
			return s.putRecovery(ctx, tx, r.ID, left)
		}
	})
	if err == nil && !own {
		return account.ErrNotFound
	}
	return err
}

func (s *Store) putRecovery(ctx context.Context, tx *sql.Tx, id wire.UserID, r account.Recovery) error {
	_, err := tx.StmtContext(ctx, s.stmt.recovery).ExecContext(ctx, id[:], r.Hash, seconds(r.Made), r.Wrong)
	return err
}
