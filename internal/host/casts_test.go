package host_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"

	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/internal/host/hosttest/bare"
)

// castSizes are what casts of a flood carry: mostly little, now and then much.
func castSize(i int) int {
	switch {
	case i%4001 == 4000:
		return 1 << 20
	case i%997 == 996:
		return 100_000
	case i%101 == 100:
		return 20_000
	case i%13 == 12:
		return 1500
	}
	return i % 5 * 16 // none at all, too
}

// castPayload is a cast that its number and size tell. Small ones have no room
// for that: their place tells.
func castPayload(i int) []byte {
	b := make([]byte, castSize(i))
	for at := 0; at+4 <= len(b); at += 4096 {
		copy(b[at:], bare.Cat(uint32(i+at)))
	}
	return b
}

// TestCastOrder floods several receivers with casts of all sizes on many
// branches: each gets all of them, in order, and the sender one IDLE for each
// (commands 7, cast; protocol 9).
func TestCastOrder(t *testing.T) {
	casts := 20_000
	if testing.Short() {
		casts = 4_500
	}
	s := newStage(t)
	receivers := []string{"hank1", "hank2", "hank3"}
	s.enter("olga1")
	s.enter(receivers...)
	s.quiet("olga1", "add_ch -ch_name Lobby", "add_sub_ch -ch_name Lobby -sub_name Open", "set_sub_ch_level -ch_name Lobby -sub_name Open -level 5")
	for _, who := range append(receivers, "olga1") {
		s.quiet(who, "open_sub_ch -ch_name Lobby -sub_name Open")
	}
	olga := s.clients["olga1"]
	cast := olga.Cmd("cast")
	largest := make([]byte, 1<<24-1)
	for i := range largest {
		largest[i] = byte(i * 31 >> 5)
	}
	sum := sha256.Sum256(largest)
	at := casts / 2 // where the largest one stands
	var all sync.WaitGroup
	errs := make([]error, len(receivers)+1)
	all.Go(func() {
		errs[0] = func() error {
			var batch []byte
			for i := range casts {
				f := bare.Frame{Type: byte(bare.Bytes), Cmd: cast, Branch: uint16(i % 300), Payload: castPayload(i)}
				if i == at {
					f.Payload = largest
				}
				batch = append(batch, f.Raw()...)
				if len(batch) > 64<<10 || i == casts-1 {
					if err := olga.TryWrite(batch); err != nil {
						return fmt.Errorf("cast %d: %w", i, err)
					}
					batch = batch[:0]
				}
			}
			return nil
		}()
	})
	for n, who := range receivers {
		all.Go(func() {
			errs[n+1] = func() error {
				for i := range casts {
					f, err := s.clients[who].Read()
					if err != nil {
						return fmt.Errorf("%s: cast %d: %w", who, i, err)
					}
					want := bare.At(bare.CastID, bare.Bytes, castPayload(i))
					switch {
					case i == at:
						if len(f.Payload) != len(largest) || sha256.Sum256(f.Payload) != sum {
							return fmt.Errorf("%s: the largest cast arrives as %.100v", who, f)
						}
					case string(f.Raw()) != string(want.Raw()):
						return fmt.Errorf("%s: cast %d arrives as %v, want %v", who, i, f, want)
					}
				}
				return nil
			}()
		})
	}
	for i := range casts {
		f := olga.Next()
		if f.Code() != 1 || f.Cmd != cast || f.Branch != uint16(i%300) || len(f.Payload) != 2 {
			t.Fatalf("cast %d ends with %v", i, f)
		}
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	s.settled("all have arrived", "")
}

// TestCastLimits sends more casts than cast_rate and cast_bytes allow at once:
// they are delayed, and none is lost; one that is too large for ever is refused
// in its place.
func TestCastLimits(t *testing.T) {
	for _, limit := range []struct {
		name  string
		set   []string
		casts int
		size  int
	}{
		{"cast_rate", []string{"cast_rate=100", "cast_bytes=0"}, 180, 10},
		{"cast_bytes", []string{"cast_rate=0", "cast_bytes=10000"}, 18, 1000},
		{"both", []string{"cast_rate=150", "cast_bytes=20000"}, 200, 150},
	} {
		t.Run(limit.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, hosttest.Set(limit.set...))
			s.enter("olga1", "hank1", "sven1")
			s.quiet("olga1", "add_ch -ch_name Lobby", "add_sub_ch -ch_name Lobby -sub_name Open", "set_sub_ch_level -ch_name Lobby -sub_name Open -level 5")
			for _, who := range []string{"olga1", "hank1"} {
				s.quiet(who, "open_sub_ch -ch_name Lobby -sub_name Open")
			}
			olga, hank := s.clients["olga1"], s.clients["hank1"]
			cast := olga.Cmd("cast")
			var b []byte
			for i := range limit.casts {
				b = append(b, bare.Frame{Type: bare.Bytes, Cmd: cast, Branch: uint16(i), Payload: bare.Cat(uint32(i), make([]byte, limit.size-4))}.Raw()...)
				if i == limit.casts/2 && limit.name != "cast_rate" {
					b = append(b, bare.Frame{Type: bare.Bytes, Cmd: cast, Branch: 5000, Payload: make([]byte, 20_001)}.Raw()...)
				}
			}
			olga.Write(b)
			// Others are not held up.
			s.clients["sven1"].Fence()
			s.clients["sven1"].SoFar()
			refused := 0
			for i := 0; i < limit.casts; {
				f := olga.Next()
				switch {
				case f.Type == bare.Err && f.Branch == 5000, f.Code() == 3 && f.Branch == 5000:
					refused++
				case f.Code() != 1 || f.Branch != uint16(i):
					t.Fatalf("cast %d ends with %v", i, f)
				default:
					i++
				}
			}
			if want := map[bool]int{true: 0, false: 2}[limit.name == "cast_rate"]; refused != want {
				t.Errorf("%d frames about the cast that is too large, want %d", refused, want)
			}
			for i := range limit.casts {
				want := bare.At(bare.CastID, bare.Bytes, uint32(i), make([]byte, limit.size-4))
				if got := hank.Next(); got.String() != want.String() {
					t.Fatalf("cast %d arrives as %v", i, got)
				}
			}
			s.settled("all have arrived", "")
		})
	}
}

// TestCastToSmallQueue: on a host whose send queues are smaller than the largest
// frame, no single cast ends those who listen: what has no place there is refused.
func TestCastToSmallQueue(t *testing.T) {
	const bound = 1 << 20
	s := newStage(t, hosttest.Set(fmt.Sprintf("send_queue_bytes=%d", bound), "pace_bytes=65536"))
	s.enter("olga1", "hank1")
	s.quiet("olga1", "add_ch -ch_name Lobby", "add_sub_ch -ch_name Lobby -sub_name Open", "set_sub_ch_level -ch_name Lobby -sub_name Open -level 5")
	for _, who := range []string{"olga1", "hank1"} {
		s.quiet(who, "open_sub_ch -ch_name Lobby -sub_name Open")
	}
	for _, size := range []int{bound / 2, bound/2 + 1, bound + 1, 1<<24 - 1} {
		data := make([]byte, size)
		if size > bound/2 {
			s.frame("olga1", "E3", bare.Bytes, "cast", data)
			continue
		}
		s.frame("olga1", "I1", bare.Bytes, "cast", data, to("hank1", bare.At(bare.CastID, bare.Bytes, data)))
	}
}

// TestCastWithoutReader casts to somebody who never reads: who does read gets
// all of it, the sender goes on, and the slow one loses its session, not a frame
// out of the middle (protocol 9).
func TestCastWithoutReader(t *testing.T) {
	s := newStage(t, hosttest.Set("send_queue_bytes=4194304", "pace_bytes=262144"))
	s.enter("olga1", "hank1", "sven1")
	s.quiet("olga1", "add_ch -ch_name Lobby", "add_sub_ch -ch_name Lobby -sub_name Open", "set_sub_ch_level -ch_name Lobby -sub_name Open -level 5")
	for _, who := range []string{"olga1", "hank1", "sven1"} {
		s.quiet(who, "open_sub_ch -ch_name Lobby -sub_name Open")
	}
	olga, hank, slow := s.clients["olga1"], s.clients["hank1"], s.leave("sven1")
	const casts = 400
	payload := func(i int) []byte { return bare.Cat(uint32(i), make([]byte, 64<<10)) }
	// One after the other: whoever reads is never behind, whatever the machine
	// does meanwhile.
	for i := range casts {
		olga.Send(bare.Bytes, "cast", uint16(i), payload(i))
		if f := olga.Next(); f.Code() != 1 || f.Branch != uint16(i) {
			t.Fatalf("cast %d ends with %v", i, f)
		}
		if got, want := hank.Next(), bare.At(bare.CastID, bare.Bytes, payload(i)); got.String() != want.String() {
			t.Fatalf("cast %d arrives as %v", i, got)
		}
	}
	for i := 0; ; i++ { // what it gets is whole and in order, up to an end
		f, err := slow.Read()
		if err != nil {
			t.Logf("the slow one gets %d of %d casts: %v", i, casts, err)
			break
		}
		if want := bare.At(bare.CastID, bare.Bytes, payload(i)); f.String() != want.String() {
			t.Fatalf("the slow one gets %v, want %v", f, want)
		}
		if i >= casts {
			t.Fatal("the slow one gets everything")
		}
	}
	s.settled("the slow one has gone", "")
}
