package conn

import (
	"crypto/rand"
	"crypto/sha3"
	"strconv"
	"sync/atomic"

	"mrci.dev/mrci/wire"
)

var sessionCount atomic.Uint64

// newSessionID returns an id that nobody can guess and that this process never
// gives twice: SHA3-224 over 32 random bytes and a counter (state 3.6).
func newSessionID() wire.SessionID {
	seed := make([]byte, 32, 64)
	rand.Read(seed) // never fails: crypto/rand ends the program instead
	return wire.SessionID(sha3.Sum224(strconv.AppendUint(seed, sessionCount.Add(1), 10)))
}
