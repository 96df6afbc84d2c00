package store

import (
	"context"
	"database/sql"
	"math"
	"slices"

	"mrci.dev/mrci/internal/access"
	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/channel"
	"mrci.dev/mrci/internal/names"
	"mrci.dev/mrci/wire"
)

// channelStatements are all about channels.
type channelStatements struct {
	view, find channelReads // the same on r and on w

	factsByID, factsByName *sql.Stmt // on r

	// on w
	caller, user, owner, audience, invited, inviteCount, counts, subIDs, subName *sql.Stmt

	addChannel, renameChannel, removeChannel *sql.Stmt
	putMember, removeMember                  *sql.Stmt
	putSub, removeSub                        *sql.Stmt
	addFlag, removeFlag                      *sql.Stmt
	owned, left                              *sql.Stmt // of an account that is removed
	ownedRead                                *sql.Stmt // on r
}

const countOwned = `SELECT count(*) FROM channel_members WHERE user_id = $1 AND pending_invite = 0 AND access_level = 1`

func (c *channelStatements) onReader() []preparation {
	return append(c.view.texts(),
		preparation{&c.factsByID, factsByID},
		preparation{&c.factsByName, factsByName},
		preparation{&c.ownedRead, countOwned},
	)
}

func (c *channelStatements) onWriter() []preparation {
	return append(c.find.texts(), []preparation{
		{&c.caller, `SELECT user_id, user_name, display_name, locked FROM users WHERE user_id = $1`},
		{&c.user, `SELECT user_id, user_name, display_name FROM users WHERE name_key = $1`},
		{&c.owner, `SELECT user_id, user_name, display_name FROM channel_members JOIN users USING (user_id)
			WHERE channel_id = $1 AND access_level = 1`},
		{&c.audience, `SELECT user_id FROM channel_members WHERE channel_id = $1 AND pending_invite = 0 ORDER BY user_id`},
		{&c.invited, `SELECT user_id, user_name, display_name FROM channel_members JOIN users USING (user_id)
			WHERE channel_id = $1 AND pending_invite = 1 ORDER BY user_id`},
		{&c.inviteCount, `SELECT count(*) FROM channel_members WHERE channel_id = $1 AND pending_invite = 1`},
		{&c.counts, `SELECT count(*), coalesce(sum(pending_invite), 0) FROM channel_members WHERE user_id = $1`},
		{&c.subIDs, `SELECT sub_channel_id FROM sub_channels WHERE channel_id = $1 ORDER BY sub_channel_id`},
		{&c.subName, `SELECT sub_channel_name FROM sub_channels WHERE channel_id = $1 AND sub_channel_id = $2`},

		{&c.addChannel, `INSERT INTO channels (channel_name, channel_key) VALUES ($1, $2) RETURNING channel_id`},
		{&c.renameChannel, `UPDATE channels SET channel_name = $2, channel_key = $3 WHERE channel_id = $1`},
		{&c.removeChannel, `DELETE FROM channels WHERE channel_id = $1`},
		{&c.putMember, `INSERT INTO channel_members (channel_id, user_id, pending_invite, access_level) VALUES ($1, $2, $3, $4)
			ON CONFLICT (channel_id, user_id) DO UPDATE SET pending_invite = excluded.pending_invite, access_level = excluded.access_level`},
		{&c.removeMember, `DELETE FROM channel_members WHERE channel_id = $1 AND user_id = $2`},
		{&c.putSub, `INSERT INTO sub_channels (channel_id, sub_channel_id, sub_channel_name, sub_channel_key, lowest_access_level, active_updates)
			VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (channel_id, sub_channel_id) DO UPDATE SET sub_channel_name = excluded.sub_channel_name,
				sub_channel_key = excluded.sub_channel_key, lowest_access_level = excluded.lowest_access_level,
				active_updates = excluded.active_updates`},
		{&c.removeSub, `DELETE FROM sub_channels WHERE channel_id = $1 AND sub_channel_id = $2`},
		{&c.addFlag, `INSERT INTO read_only_flags (channel_id, sub_channel_id, access_level) VALUES ($1, $2, $3)
			ON CONFLICT (channel_id, sub_channel_id, access_level) DO NOTHING`},
		{&c.removeFlag, `DELETE FROM read_only_flags WHERE channel_id = $1 AND sub_channel_id = $2 AND access_level = $3`},
		{&c.owned, countOwned},
		{&c.left, `SELECT channel_id, channel_name, access_level, pending_invite
			FROM channel_members CROSS JOIN channels USING (channel_id) WHERE user_id = $1 ORDER BY pending_invite, seq`},
	}...)
}

// channelTx is a channel.Tx.
type channelTx struct {
	channelReader
	all *channelStatements
}

func (t *channelTx) exec(stmt *sql.Stmt, args ...any) (changed bool, _ error) {
	result, err := t.tx.StmtContext(t.ctx, stmt).ExecContext(t.ctx, args...)
	if err != nil {
		return false, broken(err)
	}
	n, err := result.RowsAffected()
	return n > 0, broken(err)
}

// Caller returns the account of the caller.
func (t *channelTx) Caller(id wire.UserID) (u channel.User, locked bool, err error) {
	u, err = scanChannelUser(t.row(t.all.caller, id[:]), &locked)
	return u, locked, found(err, channel.ErrCallerGone)
}

func (t *channelTx) User(key string) (channel.User, error) {
	u, err := scanChannelUser(t.row(t.all.user, key))
	return u, found(err, channel.ErrNoUser)
}

func (t *channelTx) Owner(ch wire.ChannelID) (channel.User, error) {
	u, err := scanChannelUser(t.row(t.all.owner, int64(ch)))
	return u, broken(err)
}

func (t *channelTx) Audience(ch wire.ChannelID) ([]wire.UserID, error) {
	rows, err := t.rows(t.all.audience, int64(ch))
	ids, err := userIDs(rows, err)
	return ids, broken(err)
}

func (t *channelTx) Invited(ch wire.ChannelID) ([]channel.User, error) {
	rows, err := t.rows(t.all.invited, int64(ch))
	users, err := collectAll(rows, err, func(row scanner) (channel.User, error) { return scanChannelUser(row) })
	return users, broken(err)
}

func (t *channelTx) InviteCount(ch wire.ChannelID) (n int, err error) {
	err = t.row(t.all.inviteCount, int64(ch)).Scan(&n)
	return n, broken(err)
}

func (t *channelTx) Counts(user wire.UserID) (channels, invites int, err error) {
	var all int
	err = t.row(t.all.counts, user[:]).Scan(&all, &invites)
	return all - invites, invites, broken(err)
}

func (t *channelTx) SubIDs(ch wire.ChannelID) ([]wire.SubID, error) {
	rows, err := t.rows(t.all.subIDs, int64(ch))
	ids, err := collectAll(rows, err, func(row scanner) (id wire.SubID, err error) {
		err = row.Scan(&id)
		return id, err
	})
	return ids, broken(err)
}

func (t *channelTx) SubName(ch wire.ChannelID, sub wire.SubID) (string, error) {
	var name string
	err := t.row(t.all.subName, int64(ch), int64(sub)).Scan(&name)
	return name, found(err, channel.ErrNoSubChannel)
}

func (t *channelTx) AddChannel(name string) (wire.ChannelID, error) {
	var id wire.ChannelID
	err := t.row(t.all.addChannel, name, names.Fold(name)).Scan(&id)
	return id, broken(err)
}

func (t *channelTx) RenameChannel(ch wire.ChannelID, name string) error {
	_, err := t.exec(t.all.renameChannel, int64(ch), name, names.Fold(name))
	return err
}

// RemoveChannel removes a channel; the rest follows by foreign keys.
func (t *channelTx) RemoveChannel(ch wire.ChannelID) error {
	_, err := t.exec(t.all.removeChannel, int64(ch))
	return err
}

func (t *channelTx) PutMember(ch wire.ChannelID, user wire.UserID, s access.Standing) error {
	_, err := t.exec(t.all.putMember, int64(ch), user[:], flag(s.Pending), int64(s.Level))
	return err
}

func (t *channelTx) RemoveMember(ch wire.ChannelID, user wire.UserID) error {
	_, err := t.exec(t.all.removeMember, int64(ch), user[:])
	return err
}

func (t *channelTx) PutSubChannel(ch wire.ChannelID, sub channel.SubChannel) error {
	_, err := t.exec(t.all.putSub, int64(ch), int64(sub.ID), sub.Name, names.Fold(sub.Name), int64(sub.Lowest), flag(sub.Active))
	return err
}

func (t *channelTx) RemoveSubChannel(ch wire.ChannelID, sub wire.SubID) error {
	_, err := t.exec(t.all.removeSub, int64(ch), int64(sub))
	return err
}

func (t *channelTx) AddFlag(ch wire.ChannelID, f channel.Flag) (bool, error) {
	return t.exec(t.all.addFlag, int64(ch), int64(f.Sub), int64(f.Level))
}

func (t *channelTx) RemoveFlag(ch wire.ChannelID, f channel.Flag) (bool, error) {
	return t.exec(t.all.removeFlag, int64(ch), int64(f.Sub), int64(f.Level))
}

// Ties returns what would forbid to remove an account.
func (s *Store) Ties(ctx context.Context, id wire.UserID) (account.Ties, error) {
	var ties account.Ties
	err := s.channel.ownedRead.QueryRowContext(ctx, id[:]).Scan(&ties.OwnedChannels)
	return ties, wrap(ctx, "read what an account holds", err)
}

// ties is Ties within a transaction.
func (s *Store) ties(ctx context.Context, tx *sql.Tx, id wire.UserID) (ties account.Ties, err error) {
	err = tx.StmtContext(ctx, s.channel.owned).QueryRowContext(ctx, id[:]).Scan(&ties.OwnedChannels)
	return ties, err
}

// departures returns the channels that an account has to do with, as they are
// without it.
func (s *Store) departures(ctx context.Context, tx *sql.Tx, id wire.UserID) ([]account.Departure, error) {
	rows, err := tx.StmtContext(ctx, s.channel.left).QueryContext(ctx, id[:])
	left, err := collectAll(rows, err, func(row scanner) (account.Departure, error) {
		m, err := scanMembership(row)
		return account.Departure{Channel: m.Channel.ID, Name: m.Channel.Name, Level: m.Level, Pending: m.Pending}, err
	})
	for i := 0; err == nil && i < len(left); i++ {
		rows, err = tx.StmtContext(ctx, s.channel.audience).QueryContext(ctx, int64(left[i].Channel))
		left[i].Members, err = userIDs(rows, err)
		left[i].Members = slices.DeleteFunc(left[i].Members, func(other wire.UserID) bool { return other == id })
	}
	return left, err
}

func userIDs(rows *sql.Rows, err error) ([]wire.UserID, error) {
	return collectAll(rows, err, func(row scanner) (wire.UserID, error) {
		var id []byte
		if err := row.Scan(&id); err != nil {
			return wire.UserID{}, err
		}
		return userID(id)
	})
}

// collectAll reads all rows.
func collectAll[R any](rows *sql.Rows, err error, scan func(scanner) (R, error)) ([]R, error) {
	list, _, err := collect(rows, err, math.MaxInt, scan)
	return list, err
}
