package account

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Times of state 3.2.
const (
	failureWindow = 24 * time.Hour   // a failure counts so long
	firstLock     = 15 * time.Minute // the first lock by failures; each further one is twice as long
	longestLock   = 4 * time.Hour
)

// Tally counts the failed logins of one account and holds the lock that they
// lead to (state 3.2). The zero value is that of a new account.
type Tally struct {
	Failures    Failures
	LockedUntil time.Time // to the second; zero: never locked by failures
	LockLocal   bool      // a failure behind this lock came from this machine
	LockStreak  int       // locks in a row: decides how long the next one is
}

// isZero reports whether there is nothing to clear.
func (t Tally) isZero() bool {
	return len(t.Failures) == 0 && t.LockedUntil.IsZero() && !t.LockLocal && t.LockStreak == 0
}

// Failures are the failures that count, oldest first.
type Failures []Failure

// Failure counts what failed within one second, or, when there are very many,
// within one minute.
type Failure struct {
	At    int64 // seconds since 1970
	Count int
	Local int // those of Count that came from this machine
}

// manyFailures is where Failures begin to be kept by the minute instead of the
// second, so that an enormous auto_lock_limit cannot make an enormous record:
// this many entries, and one for each minute of a day.
const manyFailures = 256

// lockInForce reports whether a lock that ends at until holds at now. One
// further ahead than any lock is made must come from a clock that was wrong,
// and does not hold.
func lockInForce(until, now time.Time) bool {
	return now.Before(until) && until.Sub(now) <= longestLock
}

// binds reports whether the lock by failures holds for a client. One whose
// failures all came from other machines does not hold for a local client, so
// that nobody outside can lock the administrator out.
func (t Tally) binds(now time.Time, local bool) bool {
	return lockInForce(t.LockedUntil, now) && (t.LockLocal || !local)
}

// failed returns the tally after one more failure at now, and whether that
// made a lock. limit is the failure that locks.
func (t Tally) failed(now time.Time, local bool, limit int) (Tally, bool) {
	at := now.Unix()
	window := int64(failureWindow / time.Second)
	kept := slices.DeleteFunc(slices.Clone(t.Failures), func(f Failure) bool {
		// A failure of the far future comes from a clock that was wrong.
		return f.At < at-window || f.At > at+window
	})
	one := Failure{At: at, Count: 1}
	if local {
		one.Local = 1
	}
	if n := len(kept); n > 0 && (kept[n-1].At == at || n >= manyFailures && kept[n-1].At/60 == at/60) {
		one.Count += kept[n-1].Count
		one.Local += kept[n-1].Local
		kept = kept[:n-1]
	}
	kept = append(kept, one)
	t.Failures = kept

	count, locals := 0, 0
	for _, f := range kept {
		count += f.Count
		locals += f.Local
	}
	if count < limit {
		return t, false
	}
	t.Failures = nil
	if now.Sub(t.LockedUntil) > failureWindow {
		t.LockStreak = 0
	}
	t.LockStreak++
	until := now.Add(lockTime(t.LockStreak)).Truncate(time.Second)
	// A local client can fail while a lock holds that does not bind it.
	if !lockInForce(t.LockedUntil, now) || until.After(t.LockedUntil) {
		t.LockedUntil = until
	}
	t.LockLocal = locals > 0
	return t, true
}

// lockTime returns how long the lock is that stands at this place in a row.
func lockTime(streak int) time.Duration {
	d := firstLock
	for range streak - 1 {
		if d *= 2; d >= longestLock {
			return longestLock
		}
	}
	return d
}

var errBadFailures = errors.New("not a list of failures")

// MarshalText writes the entries as second:count:local with blanks between.
func (f Failures) MarshalText() ([]byte, error) {
	var text []byte
	for i, m := range f {
		if i > 0 {
			text = append(text, ' ')
		}
		text = strconv.AppendInt(text, m.At, 10)
		text = append(text, ':')
		text = strconv.AppendInt(text, int64(m.Count), 10)
		text = append(text, ':')
		text = strconv.AppendInt(text, int64(m.Local), 10)
	}
	return text, nil
}

// UnmarshalText reads what MarshalText writes, with any blanks around it.
func (f *Failures) UnmarshalText(text []byte) error {
	var list Failures
	for entry := range strings.FieldsSeq(string(text)) {
		parts := strings.Split(entry, ":")
		if len(parts) != 3 {
			return errBadFailures
		}
		at, err1 := strconv.ParseInt(parts[0], 10, 64)
		count, err2 := strconv.ParseInt(parts[1], 10, 32)
		local, err3 := strconv.ParseInt(parts[2], 10, 32)
		if errors.Join(err1, err2, err3) != nil || count < 1 || local < 0 || local > count {
			return errBadFailures
		}
		list = append(list, Failure{At: at, Count: int(count), Local: int(local)})
	}
	*f = list
	return nil
}
