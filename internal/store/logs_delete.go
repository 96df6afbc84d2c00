package store

import (
	"context"
	"database/sql"
	"time"
)

// oldRows is what pruning has to do in one table.
type oldRows struct {
	table  string
	before time.Time
	gone   int64
}

// startPruning begins a round, which takes over what is left of the last one.
func (w *logWriter) startPruning() {
	w.prune = nil
	keep, now := w.retention(), w.now()
	for _, table := range []struct {
		name string
		keep time.Duration
	}{{"ip_history", keep.Logs}, {"auth_log", keep.Logs}, {"audit_log", keep.Audit}} {
		if table.keep >= time.Second {
			w.prune = append(w.prune, oldRows{table: table.name, before: now.Add(-table.keep)})
		}
	}
}

// pruneSome removes some old rows, and the table from the round when it has no
// more. Between two calls rows that wait are written, and accounts changed.
func (w *logWriter) pruneSome(ctx context.Context) {
	old := &w.prune[0]
	var n int64
	err := w.store.write(ctx, "remove old log rows", func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `DELETE FROM `+old.table+` WHERE seq IN
			(SELECT seq FROM `+old.table+` WHERE time_stamp < $1 ORDER BY time_stamp LIMIT $2)`,
			old.before.UTC().Format(timeLayout), pruneRows)
		if err == nil {
			n, err = result.RowsAffected()
		}
		return err
	})
	old.gone += n
	if err == nil && n == pruneRows {
		return
	}
	if err != nil {
		w.log.Error("old log rows stay for another hour", "err", err)
	} else if old.gone > 0 {
		w.log.Info("old log rows removed", "log", old.table, "rows", old.gone)
	}
	w.prune = w.prune[1:]
}

// deleteRows is how many rows DeleteActivity deletes in one transaction.
const deleteRows = 1000

// DeleteActivity deletes the rows of the activity log that the filter selects,
// those handed over before the call included, and returns how many. An empty
// filter selects all; see LogQuery for the rest. Rows go in portions, so that
// others need not wait: if it fails, n tells how many are gone.
func (l *Logs) DeleteActivity(ctx context.Context, filter map[string]string) (n int64, err error) {
	where, args, possible, err := activityLog.conditions(filter)
	if err != nil || !possible {
		return 0, err
	}
	if err := l.Flush(ctx); err != nil {
		return 0, err
	}
	err = func() error {
		var last sql.NullInt64 // rows behind it are younger than the call
		if err := l.store.r.QueryRowContext(ctx, `SELECT max(seq) FROM ip_history`).Scan(&last); err != nil {
			return err
		}
		var after int64
		for after < last.Int64 {
			// Looked for by a reader, because a rare text takes long to find.
			found, err := l.activity(ctx, where, args, after, last.Int64)
			if err != nil || len(found) == 0 {
				return err
			}
			deleted, err := l.deleteActivity(ctx, found)
			n += deleted
			if err != nil {
				return err
			}
			after = found[len(found)-1]
		}
		return nil
	}()
	return n, wrap(ctx, "delete activity", err)
}

// activity returns the keys of the next rows to delete.
func (l *Logs) activity(ctx context.Context, where string, args []any, after, last int64) ([]int64, error) {
	args = append(args[:len(args):len(args)], after, last, deleteRows)
	rows, err := l.store.r.QueryContext(ctx, numbered(
		`SELECT l.seq FROM ip_history l WHERE `+where+` AND l.seq > $? AND l.seq <= $? ORDER BY l.seq LIMIT $?`, len(args)-3), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []int64
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq); err != nil {
			return nil, err
		}
		found = append(found, seq)
	}
	return found, rows.Err()
}

func (l *Logs) deleteActivity(ctx context.Context, found []int64) (n int64, err error) {
	// The rows of one call are one transaction, and the driver would watch
	// each statement for the end of ctx.
	plain := context.WithoutCancel(ctx)
	err = l.store.write(ctx, "delete a portion", func(tx *sql.Tx) error {
		stmt, err := tx.PrepareContext(plain, `DELETE FROM ip_history WHERE seq = $1`)
		if err != nil {
			return err
		}
		defer stmt.Close() // with the transaction, whatever it returns
		for _, seq := range found {
			result, err := stmt.ExecContext(plain, seq)
			if err != nil {
				return err
			}
			gone, err := result.RowsAffected()
			if err != nil {
				return err
			}
			n += gone // another call may have been faster
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}
