package soak

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
)

// Lines by which clients tell what they do.
const (
	unexpected = "unexpected: " // before what a client did not expect
	didWhat    = "did: "        // before how often they did what, at their end
)

// TextsKept is how many texts of what was unexpected are kept.
const TextsKept = 50

// ledger is what the clients of a process have done.
type ledger struct {
	calls *atomic.Uint64 // nil: nobody counts

	// guarded by mu
	mu  sync.Mutex
	did map[string]uint64
	out io.Writer // gets a line for each answer that was not expected
}

func (w *ledger) call() {
	if w.calls != nil {
		w.calls.Add(1)
	}
}

func (w *ledger) done(what string) { w.add(what, 1) }

// add notes that something was done so often.
func (w *ledger) add(what string, times uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.did[what] += times
}

func (w *ledger) unexpected(client int, scene string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", " / ")
	// When nobody reads it any more, nobody wants to know.
	fmt.Fprintf(w.out, "%sclient %d, %s: %s\n", unexpected, client, scene, text)
}

// close tells how often what was done.
func (w *ledger) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	text, err := json.Marshal(w.did)
	if err == nil {
		_, err = fmt.Fprintf(w.out, "%s%s\n", didWhat, text)
	}
	return err
}

// Tally is what the clients of another process have told. It is safe for
// concurrent use.
type Tally struct {
	// guarded by mu
	mu         sync.Mutex
	did        map[string]uint64 // how often; nil until they have ended
	troubles   []string          // the first unexpected answers
	unexpected int
}

// Hear keeps what clients tell, and reports whether line was that.
func (t *Tally) Hear(line string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if text, ok := strings.CutPrefix(line, unexpected); ok {
		t.unexpected++
		if len(t.troubles) < TextsKept {
			t.troubles = append(t.troubles, text)
		}
		return true
	}
	text, ok := strings.CutPrefix(line, didWhat)
	if ok {
		// What is not understood is missed, as if it had not come.
		_ = json.Unmarshal([]byte(text), &t.did)
	}
	return ok
}

// Told returns how often they did what, once they have ended, the first
// unexpected answers, and how many there were.
func (t *Tally) Told() (did map[string]uint64, troubles []string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.did, t.troubles, t.unexpected
}
