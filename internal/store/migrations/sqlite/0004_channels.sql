-- Channels (state 1.3 to 1.6).
-- A *_key column holds the text beside it after NFC and case folding; seq is
-- the order of the listings and never used twice.

-- +goose Up
CREATE TABLE channels (
    channel_id   INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again
    channel_name TEXT    NOT NULL,
    channel_key  TEXT    NOT NULL UNIQUE
) STRICT;

CREATE TABLE channel_members (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    channel_id     INTEGER NOT NULL REFERENCES channels (channel_id) ON DELETE CASCADE,
    user_id        BLOB    NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    pending_invite INTEGER NOT NULL CHECK (pending_invite IN (0, 1)),
    access_level   INTEGER NOT NULL CHECK (access_level BETWEEN 1 AND 4),
    UNIQUE (channel_id, user_id),
    CHECK (pending_invite = 0 OR access_level = 4)
) STRICT;
-- A channel has one owner at most; the rules see to it that it has one.
CREATE UNIQUE INDEX channel_members_owner ON channel_members (channel_id) WHERE access_level = 1;
-- The listing of a channel's members.
CREATE INDEX channel_members_order ON channel_members (channel_id);
-- Who hears of what happens in a channel, and how many are invited.
CREATE INDEX channel_members_audience ON channel_members (channel_id, pending_invite, user_id);
-- What a login reads.
CREATE INDEX channel_members_user ON channel_members (user_id, pending_invite);

CREATE TABLE sub_channels (
    seq                 INTEGER PRIMARY KEY AUTOINCREMENT,
    channel_id          INTEGER NOT NULL REFERENCES channels (channel_id) ON DELETE CASCADE,
    sub_channel_id      INTEGER NOT NULL CHECK (sub_channel_id BETWEEN 0 AND 255),
    sub_channel_name    TEXT    NOT NULL,
    sub_channel_key     TEXT    NOT NULL,
    lowest_access_level INTEGER NOT NULL CHECK (lowest_access_level BETWEEN 1 AND 5),
    active_updates      INTEGER NOT NULL CHECK (active_updates IN (0, 1)),
    UNIQUE (channel_id, sub_channel_id),
    UNIQUE (channel_id, sub_channel_key)
) STRICT;

-- Flags belong to ids, not to the sub-channels that have them now.
CREATE TABLE read_only_flags (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    channel_id     INTEGER NOT NULL REFERENCES channels (channel_id) ON DELETE CASCADE,
    sub_channel_id INTEGER NOT NULL CHECK (sub_channel_id BETWEEN 0 AND 255),
    access_level   INTEGER NOT NULL CHECK (access_level BETWEEN 1 AND 5),
    UNIQUE (channel_id, sub_channel_id, access_level)
) STRICT;
