package store

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/internal/names"
	"mrci.dev/mrci/wire"
)

// timeLayout is the text of a time in the database and in listings (state 1).
const timeLayout = "2006-01-02 15:04:05"

const userColumns = `user_id, user_name, email_address, display_name, host_rank, time_stamp,
	new_password_req, new_name_req, locked, email_verified, locked_until`

const recordColumns = userColumns + `, hash, failures, lock_local, lock_streak`

const (
	allColumns = recordColumns + `, coalesce(recovery_hash, ''), coalesce(recovery_time, 0), coalesce(recovery_failures, 0)`

	selectRecord  = `SELECT ` + allColumns + ` FROM users LEFT JOIN pw_recovery USING (user_id) WHERE `
	selectByID    = selectRecord + `user_id = $1`
	selectByName  = selectRecord + `name_key = $1`
	selectByEmail = selectRecord + `email_key = $1`

	// The channels are a text because a row is all that is read.
	selectLogin = `SELECT ` + userColumns + `,
		coalesce((SELECT string_agg(channel_id, ' ') FROM (
			SELECT channel_id FROM channel_members WHERE user_id = $1 AND pending_invite = 0 ORDER BY seq LIMIT $2)), '')
		FROM users WHERE user_id = $1`

	// Reads the account of an attempt or else its stand-in, and whether it is
	// the account. Both are always looked for, and then one row is read.
	candidateByID    = candidateFrom + `user_id = $1` + candidateTo
	candidateByName  = candidateFrom + `name_key = $1` + candidateTo
	candidateByEmail = candidateFrom + `email_key = $1` + candidateTo

	candidateFrom = `WITH found (own, other) AS MATERIALIZED (SELECT
		(SELECT seq FROM users WHERE `
	candidateTo = `),
		coalesce((SELECT seq FROM users WHERE user_id >= $2 ORDER BY user_id LIMIT 1),
			(SELECT seq FROM users WHERE user_id > x'' ORDER BY user_id LIMIT 1)))
		SELECT ` + allColumns + `, own IS NOT NULL
		FROM found CROSS JOIN users ON seq = coalesce(own, other) LEFT JOIN pw_recovery USING (user_id)`

	insertUser = `INSERT INTO users (` + recordColumns + `, name_key, email_key)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`

	updateUser = `UPDATE users SET user_name = $2, email_address = $3, display_name = $4, host_rank = $5,
		new_password_req = $6, new_name_req = $7, locked = $8, email_verified = $9, locked_until = $10,
		hash = $11, failures = $12, lock_local = $13, lock_streak = $14, name_key = $15, email_key = $16
		WHERE user_id = $1`

	// attempts changes each time: SQLite skips the write of a row that stays
	// the same, and the commit would tell a locked account from others.
	updateTally = `UPDATE users SET failures = $2, locked_until = $3, lock_local = $4, lock_streak = $5,
		attempts = attempts + 1 WHERE user_id = $1`

	updateNobody = `UPDATE nobody SET attempts = attempts + 1 WHERE id = 1`
)

// Account reads one account.
func (s *Store) Account(ctx context.Context, key account.Key) (account.Record, error) {
	stmt, value := s.stmt.read.by(key)
	r, err := scanRecord(stmt.QueryRowContext(ctx, value), nil)
	return r, wrap(ctx, "read account", err)
}

// Login reads what a session has to know of the user that it is logged in as:
// the account, and the channels of which it is a member, the oldest
// membership first. It is one query.
func (s *Store) Login(ctx context.Context, id wire.UserID) (account.User, []wire.ChannelID, error) {
	var list string
	u, err := scanUser(s.stmt.login.QueryRowContext(ctx, id[:], channel.MaxChannels), nil, []any{&list})
	if err != nil {
		return account.User{}, nil, wrap(ctx, "read account", err)
	}
	var channels []wire.ChannelID
	for field := range strings.FieldsSeq(list) {
		ch, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return account.User{}, nil, wrap(ctx, "read account", fmt.Errorf("channel of user %s: %w", id, err))
		}
		channels = append(channels, wire.ChannelID(ch))
	}
	return u, channels, nil
}

// by returns the statement that finds key, and its first parameter.
func (k *byKey) by(key account.Key) (*sql.Stmt, any) {
	switch {
	case key.Name != "":
		return k.name, key.Name
	case key.Email != "":
		return k.email, key.Email
	}
	return k.id, key.ID[:]
}

// find reads one account within a writing transaction.
func (s *Store) find(ctx context.Context, tx *sql.Tx, key account.Key) (account.Record, error) {
	stmt, value := s.stmt.find.by(key)
	return scanRecord(tx.StmtContext(ctx, stmt).QueryRowContext(ctx, value), nil)
}

// Candidate reads one account for an attempt, or its stand-in.
func (s *Store) Candidate(ctx context.Context, key account.Key) (account.Record, error) {
	stmt, value := s.stmt.candidate.by(key)
	r, own, err := scanCandidate(stmt.QueryRowContext(ctx, value, s.standIn(key)))
	if !own {
		r.User = account.User{}
	}
	return r, wrap(ctx, "read account", err)
}

// findCandidate reads one account within the transaction of an attempt, or its
// stand-in; own tells which. Where there is no account at all, the ID is zero.
func (s *Store) findCandidate(ctx context.Context, tx *sql.Tx, key account.Key) (r account.Record, own bool, err error) {
	stmt, value := s.stmt.judged.by(key)
	return scanCandidate(tx.StmtContext(ctx, stmt).QueryRowContext(ctx, value, s.standIn(key)))
}

func scanCandidate(row scanner) (r account.Record, own bool, err error) {
	r, err = scanRecord(row, &own)
	if errors.Is(err, account.ErrNotFound) {
		return account.Record{}, false, nil
	}
	return r, own, err
}

// standIn returns where among the ids the stand-in of key is looked for: the
// account with the next id takes the place of one that nobody has. Ids are
// random, so the names that nobody has are shared out among all accounts, with
// all their ages, costs and counters. Without the secret nobody can tell which
// account stands in for a name.
func (s *Store) standIn(key account.Key) []byte {
	mac := hmac.New(sha256.New, s.secret[:])
	mac.Write(key.ID[:])
	mac.Write([]byte(key.Name))
	mac.Write([]byte{0}) // neither has it
	mac.Write([]byte(key.Email))
	return mac.Sum(nil)
}

// Create adds an account.
func (s *Store) Create(ctx context.Context, r account.Record, first bool) error {
	failures, err := failuresText(r.Tally.Failures)
	if err != nil {
		return err
	}
	return s.write(ctx, "create account", func(tx *sql.Tx) error {
		if first {
			var any bool
			if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM users)`).Scan(&any); err != nil {
				return err
			}
			if any {
				return passError{account.ErrNotFirst}
			}
		}
		if err := s.checkFree(ctx, tx, r, wire.UserID{}); err != nil {
			return err
		}
		_, err := tx.StmtContext(ctx, s.stmt.insert).ExecContext(ctx,
			r.ID[:], r.Name, r.Email, r.Display, int64(r.Rank), r.Registered.UTC().Format(timeLayout),
			flag(r.NewPasswordReq), flag(r.NewNameReq), flag(r.Locked), flag(r.EmailVerified), seconds(r.Tally.LockedUntil),
			r.Hash, failures, flag(r.Tally.LockLocal), r.Tally.LockStreak,
			names.Fold(r.Name), names.Fold(r.Email))
		if err != nil || r.Recovery == (account.Recovery{}) {
			return err
		}
		return s.putRecovery(ctx, tx, r.ID, r.Recovery)
	})
}

// checkFree makes sure that no account but self has the name or the address of
// r. The transaction holds the write lock, so the answer stays true until its
// end.
func (s *Store) checkFree(ctx context.Context, tx *sql.Tx, r account.Record, self wire.UserID) error {
	for _, part := range []struct {
		key   account.Key
		taken error
	}{
		{account.Key{Name: names.Fold(r.Name)}, account.ErrNameTaken},
		{account.Key{Email: names.Fold(r.Email)}, account.ErrEmailTaken},
	} {
		switch other, err := s.find(ctx, tx, part.key); {
		case err == nil && other.ID != self:
			return passError{part.taken}
		case err != nil && !errors.Is(err, account.ErrNotFound):
			return err
		}
	}
	return nil
}

// Change reads an account, lets change alter it, and stores it.
func (s *Store) Change(ctx context.Context, id wire.UserID, change func(*account.Record) error) (account.Record, error) {
	var r account.Record
	err := s.write(ctx, "change account", func(tx *sql.Tx) error {
		old, err := s.find(ctx, tx, account.Key{ID: id})
		if err != nil {
			return err
		}
		r = old
		if err := change(&r); err != nil {
			return passError{err}
		}
		return s.replace(ctx, tx, old, &r)
	})
	if err != nil {
		return account.Record{}, err
	}
	return r, nil
}

// replace stores r in place of old, and sets in r what cannot be altered.
func (s *Store) replace(ctx context.Context, tx *sql.Tx, old account.Record, r *account.Record) error {
	r.ID, r.Registered, r.LockedUntil = old.ID, old.Registered, r.Tally.LockedUntil
	if r.Name != old.Name || r.Email != old.Email {
		if err := s.checkFree(ctx, tx, *r, r.ID); err != nil {
			return err
		}
	}
	failures, err := failuresText(r.Tally.Failures)
	if err != nil {
		return err
	}
	_, err = tx.StmtContext(ctx, s.stmt.update).ExecContext(ctx,
		r.ID[:], r.Name, r.Email, r.Display, int64(r.Rank),
		flag(r.NewPasswordReq), flag(r.NewNameReq), flag(r.Locked), flag(r.EmailVerified), seconds(r.Tally.LockedUntil),
		r.Hash, failures, flag(r.Tally.LockLocal), r.Tally.LockStreak,
		names.Fold(r.Name), names.Fold(r.Email))
	if err != nil || r.Recovery == old.Recovery {
		return err
	}
	return s.putRecovery(ctx, tx, r.ID, r.Recovery)
}

// Attempt lets judge decide about one login and stores the tally.
func (s *Store) Attempt(ctx context.Context, key account.Key, judge func(account.Record) (account.Tally, bool)) error {
	var own bool
	err := s.write(ctx, "judge login", func(tx *sql.Tx) error {
		r, found, err := s.findCandidate(ctx, tx, key)
		if err != nil {
			return err
		}
		own = found
		tally, store := r.Tally, true
		switch {
		case own:
			tally, store = judge(r)
		case r.ID.IsZero():
			return s.writeNobody(ctx, tx)
		}
		if !store {
			return nil
		}
		failures, err := failuresText(tally.Failures)
		if err != nil {
			return err
		}
		_, err = tx.StmtContext(ctx, s.stmt.tally).ExecContext(ctx, r.ID[:],
			failures, seconds(tally.LockedUntil), flag(tally.LockLocal), tally.LockStreak)
		return err
	})
	if err == nil && !own {
		return account.ErrNotFound
	}
	return err
}

// writeNobody writes to the row that belongs to no account.
func (s *Store) writeNobody(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.StmtContext(ctx, s.stmt.nobody).ExecContext(ctx)
	return err
}

// Accounts reads a page of accounts. The page and its total come from one
// snapshot.
func (s *Store) Accounts(ctx context.Context, q account.Query) (account.Page, error) {
	where, args, possible := conditions(q)
	page := account.Page{Next: q.After}
	if !possible {
		return page, nil
	}
	err := func() error {
		tx, err := s.r.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return err
		}
		defer tx.Rollback() // nothing was written
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM users WHERE `+where, args...).Scan(&page.Total); err != nil {
			return err
		}
		n := len(args)
		// One row more than wanted tells whether there is a next page.
		rows, err := tx.QueryContext(ctx, fmt.Sprintf(
			`SELECT seq, %s FROM users WHERE %s AND seq > $%d ORDER BY seq LIMIT $%d`, userColumns, where, n+1, n+2),
			append(args, int64(q.After), q.Limit+1)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if len(page.Users) == q.Limit {
				page.More = true
				break
			}
			var seq int64
			u, err := scanUser(rows, []any{&seq}, nil)
			if err != nil {
				return err
			}
			page.Users = append(page.Users, u)
			page.Next = account.Cursor(seq)
		}
		return rows.Err()
	}()
	if err != nil {
		return account.Page{}, wrap(ctx, "list accounts", err)
	}
	return page, nil
}

// maxFilter bounds a filter text; nothing that is listed is as long, and the
// pattern matcher has a limit of its own.
const maxFilter = 256

// conditions turns the filter of q into an SQL condition with bound
// parameters; possible is false if no row can match.
func conditions(q account.Query) (where string, args []any, possible bool) {
	terms := []string{"1 = 1"}
	param := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	f := q.Filter
	for _, c := range []struct{ text, column string }{
		{f.TimeStamp, "time_stamp"},
		{f.UserName, "user_name"},
		{f.HostRank, "CAST(host_rank AS TEXT)"},
		{f.EmailVerified, "CAST(email_verified AS TEXT)"},
		{f.Locked, ""},
	} {
		if c.text == "" {
			continue
		}
		if len(c.text) > maxFilter || !utf8.ValidString(c.text) || strings.ContainsRune(c.text, 0) {
			return "", nil, false
		}
		if c.column == "" {
			c.column = "CASE WHEN locked = 1 OR locked_until > " + param(q.Now.Unix()) + " THEN '1' ELSE '0' END"
		}
		terms = append(terms, `lower(`+c.column+`) LIKE lower(`+param("%"+escapeLike(c.text)+"%")+`) ESCAPE '~'`)
	}
	if f.UserID != "" {
		low, high, ok := idRange(f.UserID)
		if !ok {
			return "", nil, false
		}
		terms = append(terms, "user_id BETWEEN "+param(low)+" AND "+param(high))
	}
	if f.OutrankedBy != wire.NoRank {
		terms = append(terms, "host_rank > "+param(int64(f.OutrankedBy)))
	}
	return strings.Join(terms, " AND "), args, true
}

// escapeLike makes a pattern in which every sign stands for itself.
func escapeLike(text string) string {
	return strings.NewReplacer("~", "~~", "%", "~%", "_", "~_").Replace(text)
}

// idRange returns the lowest and the highest id whose hex form begins with
// prefix.
func idRange(prefix string) (low, high []byte, ok bool) {
	digits := hex.EncodedLen(wire.UserIDSize)
	if len(prefix) > digits {
		return nil, nil, false
	}
	fill := digits - len(prefix)
	low, err1 := hex.DecodeString(prefix + strings.Repeat("0", fill))
	high, err2 := hex.DecodeString(prefix + strings.Repeat("f", fill))
	return low, high, err1 == nil && err2 == nil
}

type scanner interface{ Scan(dest ...any) error }

// scanUser reads userColumns, with further columns before and after them.
func scanUser(row scanner, before, after []any) (account.User, error) {
	var (
		u      account.User
		id     []byte
		rank   int64
		stamp  string
		locked int64
	)
	dest := append(before, &id, &u.Name, &u.Email, &u.Display, &rank, &stamp,
		&u.NewPasswordReq, &u.NewNameReq, &u.Locked, &u.EmailVerified, &locked)
	err := row.Scan(append(dest, after...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return account.User{}, passError{account.ErrNotFound}
	}
	if err != nil {
		return account.User{}, err
	}
	if len(id) != len(u.ID) {
		return account.User{}, fmt.Errorf("user_id of %d bytes", len(id))
	}
	copy(u.ID[:], id)
	u.Rank = wire.Rank(rank)
	if u.Registered, err = time.Parse(timeLayout, stamp); err != nil {
		return account.User{}, fmt.Errorf("time_stamp of user %s: %w", u.ID, err)
	}
	u.LockedUntil = fromSeconds(locked)
	return u, nil
}

// scanRecord reads allColumns, and one column more if there is a place for it.
func scanRecord(row scanner, more *bool) (account.Record, error) {
	var (
		r        account.Record
		failures string
		made     int64
	)
	after := []any{&r.Hash, &failures, &r.Tally.LockLocal, &r.Tally.LockStreak, &r.Recovery.Hash, &made, &r.Recovery.Wrong}
	if more != nil {
		after = append(after, more)
	}
	u, err := scanUser(row, nil, after)
	if err != nil {
		return account.Record{}, err
	}
	r.User = u
	r.Tally.LockedUntil = u.LockedUntil
	r.Recovery.Made = fromSeconds(made)
	if err := r.Tally.Failures.UnmarshalText([]byte(failures)); err != nil {
		return account.Record{}, fmt.Errorf("failures of user %s: %w", u.ID, err)
	}
	return r, nil
}

// failuresBlock is what the failures of an account take in its row, in bytes:
// as many as lead to a lock by default, of 15 bytes each, fit.
const failuresBlock = 320

// failuresText is a list of failures as it is stored: with blanks behind it, so
// that a row keeps its size when a failure is added. One that grows has to be
// moved, now and then to another page, and a wrong password would take longer
// than an account that is locked.
func failuresText(f account.Failures) (string, error) {
	text, err := f.MarshalText()
	if err != nil {
		return "", err
	}
	fill := failuresBlock - len(text)%failuresBlock
	return string(append(text, bytes.Repeat([]byte{' '}, fill)...)), nil
}

// flag is a boolean as it is stored: 0 or 1 (state 1).
func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// seconds is a time as it is stored where nobody reads it; the zero time is 0.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func fromSeconds(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}
