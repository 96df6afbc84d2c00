// Package store keeps the host's state in SQL: accounts, channels, the ranks
// of commands, and logs. It implements account.Store and channel.Store over an
// SQLite file; the tables are made and brought up to date by the migrations
// embedded here.
//
// It knows no rules: what a name may be, when an account is locked or who may
// remove a channel is decided in packages account and channel, inside the
// transaction where that matters. No driver's error leaves the package: a
// missing row or a duplicate becomes a sentinel, everything else a text that
// says what was being done.
//
// A Store is safe for concurrent use. Writing transactions of one Store run
// one after another on one connection; reading ones run beside them and see
// the last commit. What a method acknowledged survives a crash (WAL,
// synchronous=FULL). Another process may open the same file at the same time;
// writers wait for each other up to Config.BusyTimeout. See state 1.
//
// Package storetest has the suite that every implementation must pass.
package store
