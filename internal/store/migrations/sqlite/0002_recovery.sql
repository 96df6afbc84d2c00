-- Recovery passwords (state 1.2, 3.3).

-- +goose Up
-- At most one for each user. An empty hash: there is none. A row is emptied
-- rather than deleted, so that the disk does not tell a wrong try from the one
-- that voids the password.
CREATE TABLE pw_recovery (
    user_id           BLOB    PRIMARY KEY REFERENCES users (user_id) ON DELETE CASCADE,
    recovery_hash     TEXT    NOT NULL,
    recovery_time     INTEGER NOT NULL, -- seconds since 1970
    recovery_failures INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Tells whether anybody is left of a rank.
CREATE INDEX users_rank ON users (host_rank);
