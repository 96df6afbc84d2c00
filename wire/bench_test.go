package wire_test

import (
	"fmt"
	"io"
	"testing"

	"mrci.dev/mrci/wire"
)

// Sizes of payloads: a cast, a listing, a piece of a file.
var benchSizes = []int{128, 4 << 10, 256 << 10}

func BenchmarkAppendFrame(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			payload, dst := make([]byte, size), make([]byte, 0, size+wire.FrameHeaderSize)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				dst = wire.AppendFrame(dst[:0], wire.Bytes, 256, 0, payload)
			}
		})
	}
}

func BenchmarkCutFrame(b *testing.B) {
	frame := wire.AppendFrame(nil, wire.Bytes, 256, 0, make([]byte, 128))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := wire.CutFrame(frame); !ok {
			b.Fatal("not a whole frame")
		}
	}
}

func BenchmarkReader(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			_, stream := frames(size)
			r := wire.NewReader(&loopReader{b: stream}, 0)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWriter(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			payload, w := make([]byte, size), wire.NewWriter(io.Discard)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := w.WriteFrame(wire.Bytes, 256, 0, payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPayload(b *testing.B) {
	payloads := map[string]wire.Payload{
		"CAST":      &wire.Cast{To: wire.SubList{{Channel: 2, Sub: 1}}, Type: wire.Text, Data: make([]byte, 128)},
		"PEER_INFO": &wire.Peer{Name: "ann", App: "mrci", Display: "Ann"},
		"NEW_CMD":   &wire.CommandInfo{ID: 256, Name: "echo", Library: "mrci", Short: "says it again", IO: "[text]/[text]", Long: "Says it again."},
	}
	for name, p := range payloads {
		encoded := wire.Append(nil, p)
		b.Run("encode/"+name, func(b *testing.B) {
			dst := make([]byte, 0, len(encoded))
			b.ReportAllocs()
			for b.Loop() {
				dst = wire.Append(dst[:0], p)
			}
		})
		b.Run("decode/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := wire.Parse(encoded, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
