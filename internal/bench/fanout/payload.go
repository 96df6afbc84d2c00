package fanout

// A payload begins with a sequence number (8 bytes), the time when it was sent
// in nanoseconds (8; 0: it is not measured) and the number of its sender (2).
// The rest is zeros.
const (
	seqAt, stampAt, senderAt = 0, 8, 16

	headSize = 18
)

// MinSize is the size of the smallest payload.
const MinSize = 32

func put64(b []byte, v uint64) {
	_ = b[7]
	b[0], b[1], b[2], b[3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
	b[4], b[5], b[6], b[7] = byte(v>>32), byte(v>>40), byte(v>>48), byte(v>>56)
}

func get64(b []byte) uint64 {
	_ = b[7]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

func put16(b []byte, v int) { b[0], b[1] = byte(v), byte(v>>8) }

func get16(b []byte) int { return int(b[0]) | int(b[1])<<8 }

// checker checks what one member is sent.
type checker struct {
	size int      // of each payload
	next []uint64 // the sequence number that follows, by sender

	got   uint64
	lost  uint64 // numbers that were left out
	wrong uint64 // payloads out of order, twice, or of another size
	last  int64  // when the last one came
	times *Histogram
}

// take checks the payload of this size that begins with head.
func (c *checker) take(head []byte, size int, now int64) {
	if size != c.size || len(head) < headSize {
		c.wrong++
		return
	}
	sender, seq := get16(head[senderAt:]), get64(head)
	if sender >= len(c.next) {
		c.wrong++
		return
	}
	if next := c.next[sender]; seq != next {
		if seq < next {
			c.wrong++
			return
		}
		c.lost += seq - next
	}
	c.next[sender] = seq + 1
	c.got++
	c.last = now
	if c.times != nil {
		if stamp := int64(get64(head[stampAt:])); stamp != 0 {
			c.times.Add(now - stamp)
		}
	}
}
