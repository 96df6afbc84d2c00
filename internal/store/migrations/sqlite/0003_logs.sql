-- The logs: activity, logins, audit (state 1.9, 1.10; commands 5).
-- seq is the order in which rows were handed over, and never used twice, so
-- that a place in a listing stays valid whatever is deleted. The filters of
-- most columns look for a part of the text, which no index can find; those of
-- time_stamp and of ids usually give the beginning. There is no foreign key:
-- logs outlive accounts.

-- +goose Up
CREATE TABLE ip_history (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    time_stamp TEXT    NOT NULL, -- UTC, YYYY-MM-DD HH:MM:SS
    ip_address TEXT    NOT NULL,
    client_app TEXT    NOT NULL,
    session_id BLOB    NOT NULL CHECK (length(session_id) = 28),
    log_entry  TEXT    NOT NULL
) STRICT;
CREATE INDEX ip_history_time ON ip_history (time_stamp);
CREATE INDEX ip_history_session ON ip_history (session_id);

CREATE TABLE auth_log (
    seq                INTEGER PRIMARY KEY AUTOINCREMENT,
    time_stamp         TEXT    NOT NULL,
    ip_address         TEXT    NOT NULL,
    user_id            BLOB    NOT NULL CHECK (length(user_id) = 32),
    auth_attempt       INTEGER NOT NULL CHECK (auth_attempt IN (0, 1)),
    recover_attempt    INTEGER NOT NULL CHECK (recover_attempt IN (0, 1)),
    count_to_threshold INTEGER NOT NULL CHECK (count_to_threshold IN (0, 1)),
    accepted           INTEGER NOT NULL CHECK (accepted IN (0, 1))
) STRICT;
CREATE INDEX auth_log_time ON auth_log (time_stamp);
CREATE INDEX auth_log_user ON auth_log (user_id);

CREATE TABLE audit_log (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    time_stamp TEXT    NOT NULL,
    ip_address TEXT    NOT NULL,
    user_id    BLOB    NOT NULL CHECK (length(user_id) = 32), -- zeros: nobody was logged in
    user_name  TEXT    NOT NULL,                              -- as it was at that time
    command    TEXT    NOT NULL,
    arguments  TEXT    NOT NULL,
    code       INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_log_time ON audit_log (time_stamp);
