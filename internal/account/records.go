package account

import (
	"context"
	"time"

	"mrci.dev/mrci/wire"
)

// Record is an account as it is stored: the user, the hash of the password as
// text (state 3.1), the counters of failed logins (state 3.2) and the recovery
// password. A store takes the end of a lock from Tally and copies it to User
// when it returns a record.
type Record struct {
	User
	Hash     string
	Tally    Tally
	Recovery Recovery
}

// Key names one account. Exactly one field is set; Name and Email hold the
// results of Fold.
type Key struct {
	ID    wire.UserID
	Name  string
	Email string
}

// Query selects a page of accounts.
type Query struct {
	Filter Filter
	After  Cursor
	Limit  int
	Now    time.Time // decides which locks by failures count as locked
}

// Filter selects rows of a listing of users. Empty fields select everything;
// several are combined with AND. Text is matched as a substring of what the
// listing shows, without regard to ASCII case (commands 1.7).
type Filter struct {
	TimeStamp     string
	UserName      string
	HostRank      string
	UserID        string // a prefix of the hex form
	EmailVerified string // of "0" or "1"
	Locked        string // of "0" or "1"; a lock of either kind

	// OutrankedBy leaves only users whom this rank outranks; NoRank: all.
	OutrankedBy wire.Rank
}

// Cursor is a place in a listing, behind the last row of a page. The zero
// value is the beginning. It stays valid whatever is added or removed.
type Cursor int64

// Page is a part of a listing, in the order in which the accounts were made.
type Page struct {
	Users []User
	Total int    // rows that match, on all pages
	Next  Cursor // where the next page begins
	More  bool   // whether there is a next page
}

// Outcome is what a change of one account by the holder of another has done.
type Outcome struct {
	Record  Record // as stored; of an account that was removed: as it was
	Vacated bool   // the account had a rank that no account has now
	Left    []Departure
}

// Departure is a channel that an account which was removed had to do with.
type Departure struct {
	Channel wire.ChannelID
	Name    string
	Level   wire.Level
	Pending bool          // was invited, and no member
	Members []wire.UserID // who are members now
}

// Ties are what else a store keeps that can forbid to remove an account.
type Ties struct {
	OwnedChannels int // channels in which the account has level 1
}

// Store keeps accounts. Every method is one transaction, durable when it
// returns nil, and isolated from all others, those of another process
// included. Rows that are not there are ErrNotFound. Functions that are passed
// in run inside the transaction, at most once, and must be quick.
//
// Package storetest has the suite that every implementation passes.
type Store interface {
	// Account reads one account.
	Account(ctx context.Context, key Key) (Record, error)

	// Candidate reads one account for an attempt. For a key that nobody has it
	// reads a stand-in: another account, the same one for that key as long as
	// the store is open, of which it returns all but the User. So the attempt
	// costs what it costs for an account, the parameters of the hash included.
	// A store without accounts returns the zero Record.
	Candidate(ctx context.Context, key Key) (Record, error)

	// Create adds an account with a new id. It returns ErrNameTaken or
	// ErrEmailTaken, in this order, if a folded name or address exists, and
	// ErrNotFirst if first is set and there is any account.
	Create(ctx context.Context, r Record, first bool) error

	// Change reads an account, lets change alter it, and stores it; an error
	// of change undoes everything and is returned as it is. ID and Registered
	// cannot be altered. It returns ErrNameTaken and ErrEmailTaken as Create
	// does, and the record as stored.
	Change(ctx context.Context, id wire.UserID, change func(*Record) error) (Record, error)

	// Attempt reads an account, lets judge decide about one login, and stores
	// the tally that judge returns if judge also returns true. For a key that
	// nobody has it reads the stand-in and writes its tally as it was before it
	// returns ErrNotFound, so that the cost tells nothing.
	Attempt(ctx context.Context, key Key, judge func(Record) (Tally, bool)) error

	// AttemptRecovery is Attempt for a recovery password: judge returns what is
	// left of it. A recovery password that stays as it was costs a write too
	// if judge returns true.
	AttemptRecovery(ctx context.Context, key Key, judge func(Record) (Recovery, bool)) error

	// ChangeBy is Change on behalf of caller: change also gets the caller's
	// account as it is stored, which may be the same one. It returns
	// ErrCallerGone if that does not exist, which comes before ErrNotFound.
	ChangeBy(ctx context.Context, caller wire.UserID, target Key, change func(caller User, target *Record) error) (Outcome, error)

	// RemoveBy removes an account with everything that belongs to it, unless
	// judge returns an error, which is returned as it is. Caller and target are
	// read as by ChangeBy.
	RemoveBy(ctx context.Context, caller wire.UserID, target Key, judge func(caller, target User, ties Ties) error) (Outcome, error)

	// Ties returns what would forbid to remove an account. An account that is
	// not there has none.
	Ties(ctx context.Context, id wire.UserID) (Ties, error)

	// Accounts reads a page of accounts in the order of their creation.
	Accounts(ctx context.Context, q Query) (Page, error)
}
