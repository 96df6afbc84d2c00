package account

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
)

// defaultQueue bounds how many logins may wait for a slot. A waiting one costs
// a few kilobytes, not the memory of a hash; with two slots at the default
// cost the last of 1024 waits about 15 seconds.
const defaultQueue = 1024

// HasherConfig says how passwords are hashed. Zero fields mean the defaults.
type HasherConfig struct {
	Params HashParams
	Slots  int // hashes at the same time (argon2_parallel); default: number of cores
	Queue  int // callers that may wait for a slot; default 1024, negative: none
}

// Hasher hashes and checks passwords, never more at a time than it has slots,
// so that logins cannot exhaust memory (state 3.1). Callers beyond that wait
// in order of arrival; those beyond the queue get ErrBusy. It is safe for
// concurrent use.
type Hasher struct {
	// fixed after NewHasher
	queue int64
	slots chan struct{} // holds one element for each hash that is being computed

	dummy   atomic.Pointer[hashRecord] // has the parameters of new hashes
	waiting atomic.Int64
	done    atomic.Uint64
	refused atomic.Uint64
}

// HasherStats counts what a Hasher has done since it was made.
type HasherStats struct {
	Hashes  uint64 // computed, for whatever purpose
	Refused uint64 // turned away with ErrBusy
	Running int    // now
	Waiting int    // for a slot, now
}

// NewHasher returns a Hasher, or an error if the parameters are out of range.
func NewHasher(cfg HasherConfig) (*Hasher, error) {
	if cfg.Slots <= 0 {
		cfg.Slots = runtime.GOMAXPROCS(0)
	}
	if cfg.Queue == 0 {
		cfg.Queue = defaultQueue
	}
	h := &Hasher{queue: int64(max(cfg.Queue, 0)), slots: make(chan struct{}, cfg.Slots)}
	if err := h.SetParams(cfg.Params); err != nil {
		return nil, err
	}
	return h, nil
}

// SetParams changes the costs of new hashes and of those for unknown users.
// Stored hashes keep theirs until their owners log in. It changes nothing if
// the parameters are out of range.
func (h *Hasher) SetParams(p HashParams) error {
	p = p.withDefaults()
	if err := p.check(); err != nil {
		return err
	}
	// A sum of zeros: no password is known that has it.
	h.dummy.Store(&hashRecord{params: p, salt: make([]byte, saltSize), sum: make([]byte, sumSize)})
	return nil
}

// Stats returns the counters.
func (h *Hasher) Stats() HasherStats {
	return HasherStats{Hashes: h.done.Load(), Refused: h.refused.Load(), Running: len(h.slots), Waiting: int(h.waiting.Load())}
}

// hash returns the text to store for pw.
func (h *Hasher) hash(ctx context.Context, pw Secret) (string, error) {
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.leave()
	return newRecord(h.dummy.Load().params, pw).String(), nil
}

// verify reports whether pw has the stored hash, and whether that was made
// in another way or with other parameters than those in use. It computes exactly one hash,
// whatever the text is: for the empty text, of an account that is not there,
// and for one that cannot be read (errBadRecord) it is a dummy's.
func (h *Hasher) verify(ctx context.Context, stored string, pw Secret) (ok, stale bool, err error) {
	dummy := *h.dummy.Load()
	record, bad := dummy, error(nil)
	if stored != "" {
		if record, bad = parseRecord(stored); bad != nil {
			record = dummy
		}
	}
	if err := h.enter(ctx); err != nil {
		return false, false, err
	}
	defer h.leave()
	match := record.matches(pw)
	if stored == "" || bad != nil {
		return false, false, bad
	}
	return match, record.plain || record.params != dummy.params || len(record.salt) < saltSize || len(record.sum) < sumSize, nil
}

// enter takes a slot. It waits until there is one or ctx ends.
func (h *Hasher) enter(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("hash a password: %w", context.Cause(ctx))
	}
	select {
	case h.slots <- struct{}{}:
		return nil
	default:
	}
	defer h.waiting.Add(-1)
	if h.waiting.Add(1) > h.queue {
		h.refused.Add(1)
		return ErrBusy
	}
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait to hash a password: %w", context.Cause(ctx))
	}
}

func (h *Hasher) leave() {
	h.done.Add(1)
	<-h.slots
}
