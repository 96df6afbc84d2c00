package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"mrci.dev/mrci/internal/access"
	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/internal/names"
	"mrci.dev/mrci/wire"
)

var _ channel.Store = (*Store)(nil)

const (
	selectChannel  = `SELECT channel_id, channel_name FROM channels WHERE channel_key = $1`
	selectStanding = `SELECT access_level, pending_invite FROM channel_members WHERE channel_id = $1 AND user_id = $2`
	selectSub      = `SELECT sub_channel_id, sub_channel_name, lowest_access_level, active_updates
		FROM sub_channels WHERE channel_id = $1 AND sub_channel_key = $2`

	// A channel without the sub-channel is a row too.
	selectFacts = `SELECT c.channel_id, c.channel_name, coalesce(s.sub_channel_id, -1), coalesce(s.sub_channel_name, ''),
		coalesce(s.lowest_access_level, 0), coalesce(s.active_updates, 0),
		coalesce(m.access_level, 0), coalesce(m.pending_invite, 0),
		(SELECT coalesce(sum(1 << f.access_level), 0) FROM read_only_flags f
			WHERE f.channel_id = c.channel_id AND f.sub_channel_id = s.sub_channel_id)
		FROM channels c
		LEFT JOIN channel_members m ON m.channel_id = c.channel_id AND m.user_id = $1
		LEFT JOIN sub_channels s ON s.channel_id = c.channel_id AND `
	factsByID   = selectFacts + `s.sub_channel_id = $3 WHERE c.channel_id = $2`
	factsByName = selectFacts + `s.sub_channel_key = $3 WHERE c.channel_key = $2`
)

// Conditions of the listings, and their columns.
const (
	whereChannels = `FROM channels WHERE ($1 = '' OR instr(channel_key, $1) > 0) AND ($2 < 0 OR channel_id = $2)
		AND ($3 = '' OR instr(CAST(channel_id AS TEXT), $3) > 0) AND ($4 = '' OR instr(lower(channel_name), lower($4)) > 0)`
	whereMemberships = `FROM channel_members JOIN channels USING (channel_id) WHERE user_id = $1`
	whereSubs        = `FROM sub_channels WHERE channel_id = $1 AND ($2 = 0 OR lowest_access_level = 5)`
	whereMembers     = `FROM channel_members JOIN users USING (user_id) WHERE channel_id = $1
		AND ($2 = '' OR instr(lower(user_name), lower($2)) > 0) AND ($3 = '' OR substr(lower(hex(user_id)), 1, length($3)) = lower($3))
		AND ($4 = '' OR instr(lower(display_name), lower($4)) > 0) AND ($5 = '' OR instr(lower(display_name), lower($5)) > 0)
		AND ($6 = '' OR instr(CAST(pending_invite AS TEXT), $6) > 0) AND ($7 = '' OR instr(CAST(access_level AS TEXT), $7) > 0)
		AND ($8 = '' OR instr(CAST(channel_id AS TEXT), $8) > 0)`
	whereFlags = `FROM read_only_flags f WHERE f.channel_id = $1 AND ($2 = 0 OR EXISTS (SELECT 1 FROM sub_channels s
		WHERE s.channel_id = f.channel_id AND s.sub_channel_id = f.sub_channel_id AND s.lowest_access_level = 5))`
)

// listing is one listing: a count and a page, with the same conditions and
// parameters; the page has a place to begin behind and a number of rows more.
type listing struct{ count, page *sql.Stmt }

// channelReads are the statements of a channel.Reader.
type channelReads struct {
	channel, standing, sub *sql.Stmt

	channels, memberships, subs, members, flags listing
}

func (c *channelReads) texts() []preparation {
	list := func(l *listing, columns, where, seq string, n int) []preparation {
		return []preparation{
			{&l.count, `SELECT count(*) ` + where},
			{&l.page, fmt.Sprintf(`SELECT %s, %s %s AND %s > $%d ORDER BY %s LIMIT $%d`, seq, columns, where, seq, n+1, seq, n+2)},
		}
	}
	all := []preparation{{&c.channel, selectChannel}, {&c.standing, selectStanding}, {&c.sub, selectSub}}
	all = append(all, list(&c.channels, `channel_id, channel_name`, whereChannels, `channel_id`, 4)...)
	all = append(all, list(&c.memberships, `channel_id, channel_name, access_level, pending_invite`, whereMemberships, `seq`, 1)...)
	all = append(all, list(&c.subs, `sub_channel_id, sub_channel_name, lowest_access_level, active_updates`, whereSubs, `seq`, 2)...)
	all = append(all, list(&c.members, `user_id, user_name, display_name, access_level, pending_invite`, whereMembers, `channel_members.seq`, 8)...)
	return append(all, list(&c.flags, `sub_channel_id, access_level`, whereFlags, `seq`, 2)...)
}

// Update runs do in a writing transaction.
func (s *Store) Update(ctx context.Context, do func(channel.Tx) error) error {
	return s.write(ctx, "change channels", func(tx *sql.Tx) error {
		return caught(do, channel.Tx(&channelTx{channelReader{ctx, tx, &s.channel.find}, &s.channel}))
	})
}

// View runs do in a reading transaction.
func (s *Store) View(ctx context.Context, do func(channel.Reader) error) error {
	err := func() error {
		tx, err := s.r.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return err
		}
		defer tx.Rollback() // nothing was written
		return caught(do, channel.Reader(&channelReader{ctx, tx, &s.channel.view}))
	}()
	return wrap(ctx, "read channels", err)
}

// caught runs do. What it returns goes to the caller as it is, except for
// errors of the database, which are brokenErrors by then.
func caught[T any](do func(T) error, tx T) error {
	err := do(tx)
	if broken, ok := errors.AsType[*brokenError](err); ok {
		return broken.err
	}
	if err != nil {
		return passError{err}
	}
	return nil
}

// brokenError is an error of the database on its way through a function that
// was passed in.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }

// broken marks an error of the database; nil stays nil.
func broken(err error) error {
	if err == nil {
		return nil
	}
	return &brokenError{err}
}

// found turns a missing row into none.
func found(err, none error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return none
	}
	return broken(err)
}

// Facts returns what a decision about a sub-channel needs to know.
func (s *Store) Facts(ctx context.Context, user wire.UserID, ch wire.ChannelID, sub wire.SubID) (channel.Facts, error) {
	if ch > math.MaxInt64 {
		return channel.Facts{}, channel.ErrNoChannel
	}
	return s.facts(ctx, s.channel.factsByID, user[:], int64(ch), int64(sub))
}

// FactsByName is Facts for a channel and a sub-channel that somebody names.
func (s *Store) FactsByName(ctx context.Context, user wire.UserID, chKey, subKey string) (channel.Facts, error) {
	return s.facts(ctx, s.channel.factsByName, user[:], chKey, subKey)
}

func (s *Store) facts(ctx context.Context, stmt *sql.Stmt, args ...any) (channel.Facts, error) {
	var (
		f     channel.Facts
		sub   int64
		flags int64
	)
	err := stmt.QueryRowContext(ctx, args...).Scan(&f.Channel.ID, &f.Channel.Name,
		&sub, &f.Sub.Name, &f.Sub.Lowest, &f.Sub.Active, &f.Standing.Level, &f.Standing.Pending, &flags)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return channel.Facts{}, channel.ErrNoChannel
	case err != nil:
		return channel.Facts{}, wrap(ctx, "read a sub-channel", err)
	case sub < 0:
		return channel.Facts{}, channel.ErrNoSubChannel
	}
	f.Sub.ID = wire.SubID(sub)
	for level := wire.Owner; level <= wire.Public; level++ {
		if flags&(1<<level) != 0 {
			f.Flags = append(f.Flags, level)
		}
	}
	return f, nil
}

// collect reads rows, limit at most, and tells whether there are more.
func collect[R any](rows *sql.Rows, err error, limit int, scan func(scanner) (R, error)) (list []R, more bool, _ error) {
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	for rows.Next() {
		if len(list) == limit {
			return list, true, nil
		}
		row, err := scan(rows)
		if err != nil {
			return nil, false, err
		}
		list = append(list, row)
	}
	return list, false, rows.Err()
}

// channelReader is a channel.Reader.
type channelReader struct {
	ctx   context.Context // of the transaction
	tx    *sql.Tx
	stmts *channelReads
}

func (r *channelReader) row(stmt *sql.Stmt, args ...any) *sql.Row {
	return r.tx.StmtContext(r.ctx, stmt).QueryRowContext(r.ctx, args...)
}

func (r *channelReader) rows(stmt *sql.Stmt, args ...any) (*sql.Rows, error) {
	return r.tx.StmtContext(r.ctx, stmt).QueryContext(r.ctx, args...)
}

func (r *channelReader) Channel(key string) (channel.Channel, error) {
	ch, err := scanChannel(r.row(r.stmts.channel, key))
	return ch, found(err, channel.ErrNoChannel)
}

func (r *channelReader) Standing(ch wire.ChannelID, user wire.UserID) (access.Standing, error) {
	var s access.Standing
	err := r.row(r.stmts.standing, int64(ch), user[:]).Scan(&s.Level, &s.Pending)
	return s, found(err, nil)
}

func (r *channelReader) SubChannel(ch wire.ChannelID, key string) (channel.SubChannel, error) {
	sub, err := scanSub(r.row(r.stmts.sub, int64(ch), key))
	return sub, found(err, channel.ErrNoSubChannel)
}

func (r *channelReader) Channels(f channel.Find, after channel.Cursor, limit int) (channel.Page[channel.Channel], error) {
	id := int64(-1)
	switch {
	case !possible(f.PartOfID, f.PartOfName):
		return channel.Page[channel.Channel]{Next: after}, nil
	case f.Name != "":
	case f.ByID && f.ID > math.MaxInt64:
		return channel.Page[channel.Channel]{Next: after}, nil
	case f.ByID:
		id = int64(f.ID)
	}
	return page(r, r.stmts.channels, after, limit, scanChannel, names.Fold(f.Name), id, f.PartOfID, f.PartOfName)
}

func (r *channelReader) Memberships(user wire.UserID, after channel.Cursor, limit int) (channel.Page[channel.Membership], error) {
	return page(r, r.stmts.memberships, after, limit, scanMembership, user[:])
}

func (r *channelReader) SubChannels(ch wire.ChannelID, public bool, after channel.Cursor, limit int) (channel.Page[channel.SubChannel], error) {
	return page(r, r.stmts.subs, after, limit, scanSub, int64(ch), flag(public))
}

func (r *channelReader) Members(ch wire.ChannelID, f channel.MemberFilter, after channel.Cursor, limit int) (channel.Page[channel.Member], error) {
	if !possible(f.Channel, f.UserName, f.UserID, f.Display, f.Display2, f.Pending, f.Level) {
		return channel.Page[channel.Member]{Next: after}, nil
	}
	return page(r, r.stmts.members, after, limit, scanMember,
		int64(ch), f.UserName, f.UserID, f.Display, f.Display2, f.Pending, f.Level, f.Channel)
}

// possible reports whether something that is listed could contain all the
// texts of a filter.
func possible(texts ...string) bool {
	for _, text := range texts {
		if len(text) > maxFilter || !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return false
		}
	}
	return true
}

func (r *channelReader) Flags(ch wire.ChannelID, public bool, after channel.Cursor, limit int) (channel.Page[channel.Flag], error) {
	return page(r, r.stmts.flags, after, limit, scanFlag, int64(ch), flag(public))
}

// page reads a part of a listing: its conditions have args as parameters.
func page[R any](r *channelReader, l listing, after channel.Cursor, limit int, scan func(scanner) (R, error), args ...any) (channel.Page[R], error) {
	p := channel.Page[R]{Next: after}
	if err := r.row(l.count, args...).Scan(&p.Total); err != nil {
		return channel.Page[R]{}, broken(err)
	}
	// One row more than wanted tells whether there is a next page.
	rows, err := r.rows(l.page, append(args, int64(after), int64(limit)+1)...)
	p.Rows, p.More, err = collect(rows, err, limit, func(row scanner) (R, error) {
		return scan(behind{row, (*int64)(&p.Next)})
	})
	return p, broken(err)
}

// behind reads the place of a row in its listing, which is in front of its
// columns.
type behind struct {
	row scanner
	seq *int64
}

func (b behind) Scan(dest ...any) error {
	return b.row.Scan(append([]any{b.seq}, dest...)...)
}

func scanChannel(row scanner) (ch channel.Channel, err error) {
	err = row.Scan(&ch.ID, &ch.Name)
	return ch, err
}

func scanMembership(row scanner) (m channel.Membership, err error) {
	err = row.Scan(&m.Channel.ID, &m.Channel.Name, &m.Level, &m.Pending)
	return m, err
}

func scanSub(row scanner) (sub channel.SubChannel, err error) {
	err = row.Scan(&sub.ID, &sub.Name, &sub.Lowest, &sub.Active)
	return sub, err
}

func scanFlag(row scanner) (f channel.Flag, err error) {
	err = row.Scan(&f.Sub, &f.Level)
	return f, err
}

func scanMember(row scanner) (m channel.Member, err error) {
	m.User, err = scanChannelUser(row, &m.Level, &m.Pending)
	return m, err
}

// scanChannelUser reads a user, with further columns behind it.
func scanChannelUser(row scanner, more ...any) (u channel.User, err error) {
	var id []byte
	if err := row.Scan(append([]any{&id, &u.Name, &u.Display}, more...)...); err != nil {
		return channel.User{}, err
	}
	u.ID, err = userID(id)
	return u, err
}

func userID(b []byte) (id wire.UserID, err error) {
	if copy(id[:], b) != len(id) || len(b) != len(id) {
		return id, fmt.Errorf("user_id of %d bytes", len(b))
	}
	return id, nil
}
