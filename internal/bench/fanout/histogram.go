package fanout

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"time"
)

// Buckets of a histogram: each power of two has 64 of the same width, so that a
// time is known to 1.6 %. Times of more than 2^40 ns, 18 minutes, count as that.
const (
	fineBits = 6
	fine     = 1 << fineBits
	buckets  = (40 - fineBits + 1) * fine
)

// Histogram counts times. The zero value is empty. It belongs to one goroutine.
type Histogram struct {
	counts []uint64 // nil: empty
	total  uint64
	most   int64
}

// Add counts a time in nanoseconds; one below 0 counts as 0.
func (h *Histogram) Add(ns int64) {
	if h.counts == nil {
		h.counts = make([]uint64, buckets)
	}
	ns = max(ns, 0)
	h.counts[bucketOf(uint64(ns))]++
	h.total++
	h.most = max(h.most, ns)
}

func bucketOf(ns uint64) int {
	if ns < fine {
		return int(ns)
	}
	shift := bits.Len64(ns) - fineBits - 1
	return min((shift+1)<<fineBits+int(ns>>shift)-fine, buckets-1)
}

// edges returns the least time of a bucket and how many there are in it.
func edges(bucket int) (least, width uint64) {
	if bucket < fine {
		return uint64(bucket), 1
	}
	shift := bucket>>fineBits - 1
	return uint64(fine+bucket&(fine-1)) << shift, 1 << shift
}

// Merge adds the times of other.
func (h *Histogram) Merge(other *Histogram) {
	if other.total == 0 {
		return
	}
	if h.counts == nil {
		h.counts = make([]uint64, buckets)
	}
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.most = max(h.most, other.most)
}

// Count returns how many times there are.
func (h *Histogram) Count() uint64 { return h.total }

// Max returns the longest time.
func (h *Histogram) Max() time.Duration { return time.Duration(h.most) }

// Quantile returns the time below which a share of all lies; 0 without any.
func (h *Histogram) Quantile(share float64) time.Duration {
	rank := share * float64(h.total)
	below := 0.0
	for i, n := range h.counts {
		if n > 0 && below+float64(n) >= rank {
			least, width := edges(i)
			at := float64(least) + float64(width)*(rank-below)/float64(n)
			return time.Duration(min(int64(at), h.most))
		}
		below += float64(n)
	}
	return time.Duration(h.most)
}

// histogramText is a Histogram between processes.
type histogramText struct {
	Most   int64       `json:"most"`
	Counts [][2]uint64 `json:"counts"` // bucket and how many, where there are any
}

// MarshalJSON writes the histogram for another process of the same program.
func (h Histogram) MarshalJSON() ([]byte, error) {
	t := histogramText{Most: h.most}
	for i, n := range h.counts {
		if n > 0 {
			t.Counts = append(t.Counts, [2]uint64{uint64(i), n})
		}
	}
	return json.Marshal(t)
}

// UnmarshalJSON reads what MarshalJSON has written.
func (h *Histogram) UnmarshalJSON(b []byte) error {
	var t histogramText
	if err := json.Unmarshal(b, &t); err != nil {
		return err
	}
	read := Histogram{most: t.Most}
	for _, one := range t.Counts {
		if one[0] >= buckets {
			return fmt.Errorf("histogram has no bucket %d", one[0])
		}
		if read.counts == nil {
			read.counts = make([]uint64, buckets)
		}
		read.counts[one[0]] += one[1]
		read.total += one[1]
	}
	*h = read
	return nil
}
