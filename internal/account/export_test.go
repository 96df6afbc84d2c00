package account

import (
	"context"
	"time"

	"mrci.dev/mrci/internal/names"
	"mrci.dev/mrci/wire"
)

// ParseHash checks the text of a hash and returns it as it would be written.
func ParseHash(text string) (string, error) {
	r, err := parseRecord(text)
	if err != nil {
		return "", err
	}
	return r.String(), nil
}

// Enter and Leave take and give back a slot, as a hash does.
func (h *Hasher) Enter(ctx context.Context) error { return h.enter(ctx) }

// Leave gives back a slot.
func (h *Hasher) Leave() { h.leave() }

// Hash and Verify compute one hash.
func (h *Hasher) Hash(ctx context.Context, pw Secret) (string, error) { return h.hash(ctx, pw) }

// Verify checks one password.
func (h *Hasher) Verify(ctx context.Context, stored string, pw Secret) (ok, stale bool, err error) {
	return h.verify(ctx, stored, pw)
}

// ErrBadRecord is what Verify returns for a text that is not a hash.
var ErrBadRecord = errBadRecord

// ArgonInput is what Argon2 gets in place of a password.
func ArgonInput(salt []byte, pw Secret) []byte { return digest(salt, pw) }

// FoldSecret is Fold for a secret. It reports whether the space for it grew.
func FoldSecret(s Secret) (folded Secret, grew bool) {
	composed := composeSecret(s)
	return foldSecret(s), cap(composed) > 4*len(s)
}

// Generate makes a password.
func Generate(n NewAccount) Secret { return generate(n) }

// CommonPasswords is the number of entries of the built-in list.
func CommonPasswords() int { return len(common()) }

// DelayOf is how long the nth refusal is held back.
func DelayOf(n int) time.Duration { return delayOf(n) }

// Delayed is the number of names whose refusals are counted.
func (s *Service) Delayed() int {
	s.delays.mu.Lock()
	defer s.delays.mu.Unlock()
	return len(s.delays.names)
}

// CountRefusal counts a refusal of a name without waiting.
func (s *Service) CountRefusal(name string) int {
	return s.delays.count(Key{Name: names.Fold(name)}, s.now())
}

// ForgetRefusals makes the next refusal of a name come at once.
func (s *Service) ForgetRefusals(name string) {
	s.delays.forget(Key{Name: names.Fold(name)})
	s.recoveryDelays.forget(Key{Name: names.Fold(name)})
}

// The bounds of the tables in memory.
const (
	MaxDelayed   = maxDelayed
	ManyFailures = manyFailures
)

// Failed counts one failure in a tally.
func (t Tally) Failed(now time.Time, local bool, limit int) (Tally, bool) {
	return t.failed(now, local, limit)
}

// SetLocked is Lock without a caller.
func (s *Service) SetLocked(ctx context.Context, id wire.UserID, locked bool) (User, error) {
	return s.change(ctx, id, func(r *Record) error {
		r.lock(locked)
		return nil
	})
}

// RecoveryTries is the wrong try that voids a recovery password.
const RecoveryTries = recoveryTries
