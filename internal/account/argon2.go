package account

import (
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// HashParams are the costs of Argon2id (state 3.1). Zero fields mean the
// defaults: 19456 KiB, 2 passes, 1 lane.
type HashParams struct {
	KiB   uint32
	Time  uint32
	Lanes uint8
}

// CheapHash returns parameters for tests: a hash takes microseconds and
// protects nothing.
func CheapHash() HashParams { return HashParams{KiB: 8, Time: 1, Lanes: 1} }

// Costs. The upper limits keep a record that somebody else wrote from asking
// for more than one GiB, or for minutes; 8 KiB per lane is the least that Argon2 takes.
const (
	defaultKiB   = 19456
	defaultTime  = 2
	defaultLanes = 1
	maxKiB       = 1 << 20
	maxTime      = 64
	maxLanes     = 16
	kibPerLane   = 8

	saltSize = 16
	sumSize  = 32

	// What a record made elsewhere may have.
	minSaltSize, maxSaltSize = 8, 64
	minSumSize, maxSumSize   = 16, 64
)

func (p HashParams) withDefaults() HashParams {
	if p.KiB == 0 {
		p.KiB = defaultKiB
	}
	if p.Time == 0 {
		p.Time = defaultTime
	}
	if p.Lanes == 0 {
		p.Lanes = defaultLanes
	}
	return p
}

func (p HashParams) check() error {
	switch {
	case p.Lanes < 1 || p.Lanes > maxLanes:
		return fmt.Errorf("argon2 lanes: %d is not in 1..%d", p.Lanes, maxLanes)
	case p.Time < 1 || p.Time > maxTime:
		return fmt.Errorf("argon2 passes: %d is not in 1..%d", p.Time, maxTime)
	case p.KiB < kibPerLane*uint32(p.Lanes) || p.KiB > maxKiB:
		return fmt.Errorf("argon2 memory: %d KiB is not in %d..%d", p.KiB, kibPerLane*uint32(p.Lanes), maxKiB)
	}
	return nil
}

// errBadRecord marks the text of a hash that cannot be read.
var errBadRecord = errors.New("not a record of an argon2id hash")

// Schemes of stored hashes: the first word of their text.
const (
	// argon2id of a digest of the password; see digest.
	schemeDigest = "argon2id-sha512"
	// argon2id of the password itself, as others store it. It is checked, and
	// replaced at the next login.
	schemePlain = "argon2id"
)

// hashRecord is the hash of one password with everything needed to check it.
type hashRecord struct {
	plain  bool // schemePlain; false: schemeDigest
	params HashParams
	salt   []byte
	sum    []byte
}

// newRecord hashes pw with a new salt. It takes as long and as much memory as
// the parameters say.
func newRecord(p HashParams, pw Secret) hashRecord {
	salt := make([]byte, saltSize)
	rand.Read(salt) // never fails
	r := hashRecord{params: p, salt: salt, sum: make([]byte, sumSize)}
	r.sum = r.compute(pw)
	return r
}

func (r hashRecord) compute(pw Secret) []byte {
	input := []byte(pw)
	if !r.plain {
		input = digest(r.salt, pw)
		defer clear(input)
	}
	return argon2.IDKey(input, r.salt, r.params.Time, r.params.KiB, r.params.Lanes, uint32(len(r.sum)))
}

// digest returns what is given to Argon2 in place of the password: package
// argon2 copies its input into hash states that nobody can wipe. It is SHA-512
// of the salt in the first 64 bytes, the length of the password in the eight
// behind them, most significant first, the password, and zeros up to a whole
// number of blocks: SHA-512 works on whole blocks where they are and copies
// none of them. The salt makes the digest one of this record alone.
func digest(salt []byte, pw Secret) []byte {
	const lengthAt, textAt = maxSaltSize, maxSaltSize + 8
	blocks := (textAt + len(pw) + sha512.BlockSize - 1) / sha512.BlockSize
	b := make([]byte, blocks*sha512.BlockSize)
	copy(b[:lengthAt], salt)
	for i := range 8 {
		b[lengthAt+i] = byte(uint64(len(pw)) >> (56 - 8*i))
	}
	copy(b[textAt:], pw)
	h := sha512.New()
	h.Write(b)
	sum := h.Sum(nil)
	// The blocks' words are still on the stack and in registers, and the result
	// in the state: zeros take their places.
	clear(b)
	h.Reset()
	h.Write(b)
	return sum
}

// matches hashes pw and compares in constant time.
func (r hashRecord) matches(pw Secret) bool {
	return subtle.ConstantTimeCompare(r.compute(pw), r.sum) == 1
}

// String returns the text that is stored, in the usual form of Argon2.
func (r hashRecord) String() string {
	scheme := schemeDigest
	if r.plain {
		scheme = schemePlain
	}
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$%s$v=%d$m=%d,t=%d,p=%d$%s$%s",
		scheme, argon2.Version, r.params.KiB, r.params.Time, r.params.Lanes, b64(r.salt), b64(r.sum))
}

// parseRecord reads what String writes and nothing else: one hash has one text.
func parseRecord(text string) (hashRecord, error) {
	var none hashRecord
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != schemeDigest && parts[1] != schemePlain || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return none, errBadRecord
	}
	costs := strings.Split(parts[3], ",")
	if len(costs) != 3 {
		return none, errBadRecord
	}
	var values [3]uint64
	for i, name := range []string{"m=", "t=", "p="} {
		digits, ok := strings.CutPrefix(costs[i], name)
		if !ok {
			return none, errBadRecord
		}
		bits := 32
		if name == "p=" {
			bits = 8
		}
		v, err := strconv.ParseUint(digits, 10, bits)
		if err != nil {
			return none, errBadRecord
		}
		values[i] = v
	}
	r := hashRecord{plain: parts[1] == schemePlain, params: HashParams{KiB: uint32(values[0]), Time: uint32(values[1]), Lanes: uint8(values[2])}}
	if err := r.params.check(); err != nil {
		return none, fmt.Errorf("%w: %v", errBadRecord, err)
	}
	b64 := base64.RawStdEncoding.Strict()
	var saltErr, sumErr error
	r.salt, saltErr = b64.DecodeString(parts[4])
	r.sum, sumErr = b64.DecodeString(parts[5])
	if saltErr != nil || sumErr != nil ||
		len(r.salt) < minSaltSize || len(r.salt) > maxSaltSize || len(r.sum) < minSumSize || len(r.sum) > maxSumSize {
		return none, errBadRecord
	}
	// Signs, leading zeros, and line ends that base64 skips.
	if r.String() != text {
		return none, errBadRecord
	}
	return r, nil
}
