package conn

import "sync"

// recordHead is the size of a TLS record's header, in bytes: its type, its
// version, and the length of what follows (RFC 8446, 5.1).
const recordHead = 5

// aheadSize is how much ciphertext is asked for when a record begins, in bytes.
// It holds the records of most calls whole.
const aheadSize = 4 << 10

var aheadPool = sync.Pool{New: func() any { return new(ahead) }}

// ahead is ciphertext that has been read and not been handed on: b[from:to].
type ahead struct {
	b        [aheadSize]byte
	from, to int
}

// records hands crypto/tls one record at a time. crypto/tls decrypts where the
// ciphertext stands, in a buffer that it keeps, and that it gives up with all
// that is in it when a piece of the next record is there already and the rest
// does not fit. With nothing behind a record the buffer is empty when the next
// one is asked for, and can be wiped as a whole.
type records struct {
	ahead *ahead // nil while it is empty
	head  [recordHead]byte
	heads int  // bytes of head that were handed on
	left  int  // bytes of the record behind its header that were not
	wiped bool // nothing was handed on since the buffer was wiped
}

// next hands on as much of a record as there is, into p. All of p may be
// written to (io.Reader): between two records it is what crypto/tls has of the
// one before, and is wiped.
func (r *records) next(p []byte, read func(p []byte) (int, error)) (int, error) {
	if r.heads == 0 && !r.wiped {
		clear(p)
		r.wiped = true
	}
	if r.ahead == nil && r.left > 0 { // no copy of a long record
		n, err := read(p[:min(len(p), r.left)])
		r.took(n)
		return n, err
	}
	if r.ahead == nil {
		a := aheadPool.Get().(*ahead)
		n, err := read(a.b[:])
		if n == 0 {
			aheadPool.Put(a)
			return 0, err
		}
		a.from, a.to = 0, n // an error that came with bytes comes again without
		r.ahead = a
	}
	n := 0
	if r.heads < recordHead {
		n = r.hand(p, recordHead-r.heads)
		r.heads += copy(r.head[r.heads:], p[:n])
		if r.heads == recordHead {
			r.left = int(r.head[3])<<8 | int(r.head[4])
		}
	}
	m := r.hand(p[n:], r.left)
	if r.ahead.from == r.ahead.to {
		aheadPool.Put(r.ahead)
		r.ahead = nil
	}
	r.wiped = false
	r.took(m)
	return n + m, nil
}

// hand moves at most limit bytes to p.
func (r *records) hand(p []byte, limit int) int {
	a := r.ahead
	n := copy(p, a.b[a.from:min(a.to, a.from+limit)])
	a.from += n
	return n
}

// took counts bytes behind a header.
func (r *records) took(n int) {
	r.left -= n
	if r.heads == recordHead && r.left == 0 {
		r.heads = 0
	}
}
