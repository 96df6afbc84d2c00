package wire_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/wire"
)

// FuzzHeaders decodes client headers (first byte even) and host headers (odd).
func FuzzHeaders(f *testing.F) {
	for _, c := range vectorCases(f, "client_header") {
		f.Add(append([]byte{0}, c.hex...))
	}
	for _, c := range vectorCases(f, "host_header") {
		f.Add(append([]byte{1}, c.hex...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		if data[0]%2 == 0 {
			// Shorter input is a header whose end is zero.
			b := (*[wire.ClientHeaderSize]byte)(slices.Concat(data[1:], make([]byte, wire.ClientHeaderSize)))
			h, err := wire.ParseClientHeader(b)
			if refused(t, err) {
				return
			}
			again, err := wire.ParseClientHeader((*[wire.ClientHeaderSize]byte)(h.Append(nil)))
			if err != nil || again != h {
				t.Errorf("%+v became %+v, %v", h, again, err)
			}
			return
		}
		b := (*[wire.HostHeaderSize]byte)(slices.Concat(data[1:], make([]byte, wire.HostHeaderSize)))
		h, err := wire.ParseHostHeader(b)
		if refused(t, err) {
			return
		}
		if got := h.Append(nil); !bytes.Equal(got, b[:]) {
			t.Errorf("%x encoded to %x", b[:], got)
		}
	})
}

// FuzzFrames reads a stream in pieces whose sizes the first bytes give, and
// compares with what CutFrame finds in the whole of it.
func FuzzFrames(f *testing.F) {
	_, stream := frames(0, 1, 7, 300, 0)
	f.Add([]byte{1}, uint32(0), stream)
	f.Add([]byte{3, 0, 255}, uint32(100), stream)
	f.Add([]byte{200}, uint32(7), append(stream, 1, 0, 1, 0, 0, 255, 255, 255))
	for _, path := range sessionFiles(f) {
		var recording []byte
		for _, row := range readRecorded(f, path) {
			if row.Kind != "header" {
				recording = append(recording, row.bytes...)
			}
		}
		f.Add([]byte{13, 200}, uint32(0), recording)
	}
	f.Fuzz(func(t *testing.T, pieces []byte, limit uint32, stream []byte) {
		sizes := make([]int, 0, len(pieces)+1)
		for _, size := range pieces {
			sizes = append(sizes, int(size))
		}
		source := &chunkReader{b: stream, sizes: append(sizes, 1)}
		most := int(limit % (wire.MaxPayload + 1))
		if most == 0 {
			most = wire.MaxPayload
		}
		r := wire.NewReader(source, most)
		rest := stream
		for {
			got, err := r.Next()
			if errors.Is(err, io.ErrNoProgress) {
				return // too many empty pieces in a row
			}
			if len(rest) >= wire.FrameHeaderSize {
				if h := wire.ParseFrameHeader((*[wire.FrameHeaderSize]byte)(rest)); h.Len > most {
					if err != wire.ErrTooLarge {
						t.Fatalf("payload of %d with the limit %d: %v", h.Len, most, err)
					}
					return
				}
			}
			want, after, ok := wire.CutFrame(rest)
			if !ok {
				end := io.EOF
				if len(rest) > 0 {
					end = io.ErrUnexpectedEOF
				}
				if err != end {
					t.Fatalf("%d bytes left: %v, want %v", len(rest), err, end)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("frame (-CutFrame +Reader):\n%s", diff)
			}
			encoded := wire.AppendFrame(nil, got.Type, got.Cmd, got.Branch, got.Payload)
			if !bytes.Equal(encoded, rest[:len(rest)-len(after)]) {
				t.Fatalf("%x encoded to %x", rest[:len(rest)-len(after)], encoded)
			}
			rest = after
		}
	})
}

// FuzzAsyncPayloads decodes the payload of ASYNC_PAYLOAD, whose first two
// bytes choose the layout.
func FuzzAsyncPayloads(f *testing.F) {
	addPayloads(f, "async")
	f.Fuzz(func(t *testing.T, data []byte) {
		id, payload, err := wire.CutAsync(data)
		if refused(t, err) {
			return
		}
		if encoded := append(wire.AppendAsync(nil, id, nil), payload...); !bytes.Equal(encoded, data) {
			t.Fatalf("%x encoded to %x", data, encoded)
		}
		checkPayload(t, payload, func() wire.Payload { return wire.NewAsyncPayload(id) })
	})
}

// FuzzClientPayloads decodes what clients receive; the first two bytes choose
// id and type.
func FuzzClientPayloads(f *testing.F) {
	addPayloads(f, "type")
	f.Add([]byte{0, byte(wire.Idle), 1, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 2 {
			return
		}
		id, typ, payload := wire.CmdID(data[0]), wire.TypeID(data[1]), data[2:]
		if typ == wire.Idle {
			code, rest, err := wire.ParseIdle(payload)
			if refused(t, err) || len(payload) == 0 { // empty is NO_ERRORS, and sent as such
				return
			}
			if encoded := wire.AppendIdle(nil, 0, 0, code, rest)[wire.FrameHeaderSize:]; !bytes.Equal(encoded, payload) {
				t.Errorf("%x encoded to %x", payload, encoded)
			}
			return
		}
		checkPayload(t, payload, func() wire.Payload { return wire.NewClientPayload(id, typ) })
	})
}

// checkPayload decodes b and encodes it again: to the same bytes, or, where
// the decoder is documented as lenient, to bytes that decode to the same value.
func checkPayload(t *testing.T, b []byte, newPayload func() wire.Payload) {
	t.Helper()
	p := newPayload()
	if p == nil {
		return
	}
	if refused(t, wire.Parse(b, p)) {
		return
	}
	encoded := wire.Append(nil, p)
	if !lenient(p) && !bytes.Equal(encoded, b) {
		t.Errorf("%T: %x encoded to %x", p, b, encoded)
	}
	again := newPayload()
	if err := wire.Parse(encoded, again); err != nil {
		t.Fatalf("%T: %x encoded to %x: %v", p, b, encoded, err)
	}
	if diff := cmp.Diff(p, again); diff != "" {
		t.Errorf("%T: %x encoded to %x, another value:\n%s", p, b, encoded, diff)
	}
	if diff := cmp.Diff(wire.Fields(p), wire.Fields(again)); diff != "" {
		t.Errorf("%T: fields differ:\n%s", p, diff)
	}
}

// lenient reports whether the layout has forms that decode and are not sent:
// texts of a fixed size with something behind the zero byte or that is not
// UTF-8, slots without a channel, and the older forms of protocol 3 and 5.
func lenient(p wire.Payload) bool {
	switch p.(type) {
	case *wire.Peer, *wire.Account, *wire.CommandInfo, *wire.PeerStatus, *wire.Cast, *wire.HostVersion,
		*wire.DispRenamed, *wire.UserRenamed, *wire.ChannelRenamed, *wire.SubAdded, *wire.SubRenamed, *wire.SubLevel:
		return true
	}
	return false
}

// refused reports whether decoding failed, which it does with a *FormatError
// only.
func refused(t *testing.T, err error) bool {
	t.Helper()
	var bad *wire.FormatError
	if err != nil && !errors.As(err, &bad) {
		t.Fatalf("%v is no *FormatError", err)
	}
	return err != nil
}

// addPayloads seeds a target with the vectors of one kind, two bytes that
// choose the layout in front.
func addPayloads(f *testing.F, kind string) {
	for _, path := range vectorPaths(f) {
		file, err := readVectors(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, use := range file.uses {
			if use.kind != kind {
				continue
			}
			choose := []byte{byte(use.id), 0}
			if kind == "type" {
				choose = []byte{0, byte(use.id)}
			}
			for _, c := range file.cases {
				f.Add(append(choose, c.hex...))
			}
		}
	}
}

func vectorCases(f *testing.F, name string) []vectorCase {
	file, err := readVectors("testdata/" + name + ".txt")
	if err != nil {
		f.Fatal(err)
	}
	return file.cases
}
