-- Accounts and the ranks of commands (state 1.1, 1.7, 3.2).
-- A *_key column holds the text beside it after NFC and case folding.

-- +goose Up
-- Of two processes that apply one migration, the second fails and undoes it.
CREATE UNIQUE INDEX goose_once ON goose_db_version (version_id);

CREATE TABLE users (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT, -- order of the listings
    user_id          BLOB    NOT NULL UNIQUE CHECK (length(user_id) = 32),
    user_name        TEXT    NOT NULL,
    name_key         TEXT    NOT NULL UNIQUE,
    email_address    TEXT    NOT NULL,
    email_key        TEXT    NOT NULL UNIQUE,
    display_name     TEXT    NOT NULL,
    host_rank        INTEGER NOT NULL CHECK (host_rank BETWEEN 1 AND 4294967295),
    time_stamp       TEXT    NOT NULL, -- UTC, YYYY-MM-DD HH:MM:SS
    hash             TEXT    NOT NULL,
    new_password_req INTEGER NOT NULL CHECK (new_password_req IN (0, 1)),
    new_name_req     INTEGER NOT NULL CHECK (new_name_req IN (0, 1)),
    locked           INTEGER NOT NULL CHECK (locked IN (0, 1)),
    email_verified   INTEGER NOT NULL CHECK (email_verified IN (0, 1)),
    failures         TEXT    NOT NULL,           -- second:count:local, oldest first; blanks behind them
    locked_until     INTEGER NOT NULL,           -- seconds since 1970, 0: never
    lock_local       INTEGER NOT NULL CHECK (lock_local IN (0, 1)),
    lock_streak      INTEGER NOT NULL,
    attempts         INTEGER NOT NULL DEFAULT 0  -- logins that wrote to the row
) STRICT;

-- Takes writes without a meaning: the one that shows that the file can be
-- written, and those that belong to a user who does not exist and have to cost
-- what they cost for one who does.
CREATE TABLE nobody (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    attempts INTEGER NOT NULL
) STRICT;
INSERT INTO nobody (id, attempts) VALUES (1, 0);

CREATE TABLE command_ranks (
    seq               INTEGER PRIMARY KEY AUTOINCREMENT,
    module_executable TEXT    NOT NULL,
    command_name      TEXT    NOT NULL,
    command_key       TEXT    NOT NULL,
    host_rank         INTEGER NOT NULL CHECK (host_rank BETWEEN 1 AND 4294967295),
    UNIQUE (module_executable, command_key)
) STRICT;
