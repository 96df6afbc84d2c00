package store

import (
	"context"
	"database/sql"

	"mrci.dev/mrci/internal/names"
	"mrci.dev/mrci/wire"
)

// Rank is the rank that a command was given (state 1.7). Module is compared as
// it is, Command without regard to case.
type Rank struct {
	Module  string
	Command string
	Rank    wire.Rank
}

// Ranks returns the ranks of all commands that have one, in the order in which
// they were added.
func (s *Store) Ranks(ctx context.Context) ([]Rank, error) {
	ranks, err := func() ([]Rank, error) {
		rows, err := s.r.QueryContext(ctx, `SELECT module_executable, command_name, host_rank FROM command_ranks ORDER BY seq`)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		var ranks []Rank
		for rows.Next() {
			var r Rank
			var rank int64
			if err := rows.Scan(&r.Module, &r.Command, &rank); err != nil {
				return nil, err
			}
			r.Rank = wire.Rank(rank)
			ranks = append(ranks, r)
		}
		return ranks, rows.Err()
	}()
	if err != nil {
		return nil, wrap(ctx, "read command ranks", err)
	}
	return ranks, nil
}

// AddRank gives a command a rank, or returns ErrExists if it has one.
func (s *Store) AddRank(ctx context.Context, r Rank) error {
	return s.write(ctx, "add command rank", func(tx *sql.Tx) error {
		return oneRow(ErrExists)(tx.ExecContext(ctx,
			`INSERT INTO command_ranks (module_executable, command_name, command_key, host_rank)
			 VALUES ($1, $2, $3, $4) ON CONFLICT (module_executable, command_key) DO NOTHING`,
			r.Module, r.Command, names.Fold(r.Command), int64(r.Rank)))
	})
}

// RemoveRank takes the rank of a command away, or returns ErrNotFound if it
// has none.
func (s *Store) RemoveRank(ctx context.Context, module, command string) error {
	return s.write(ctx, "remove command rank", func(tx *sql.Tx) error {
		return oneRow(ErrNotFound)(tx.ExecContext(ctx,
			`DELETE FROM command_ranks WHERE module_executable = $1 AND command_key = $2`,
			module, names.Fold(command)))
	})
}

// oneRow turns the result of a statement that touched no row into none.
func oneRow(none error) func(sql.Result, error) error {
	return func(result sql.Result, err error) error {
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if err == nil && n == 0 {
			return passError{none}
		}
		return err
	}
}
