package wire_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/wire"
)

// recorded is one line of testdata/recorded.
type recorded struct {
	Dir      string `json:"dir"`
	Session  string `json:"session"`
	Kind     string `json:"kind"`
	Cmd      int    `json:"cmd"`
	Hex      string `json:"hex"`
	Deviates string `json:"deviates"`

	Rev int    `json:"rev"`
	App string `json:"app"`

	line  int
	bytes []byte
}

func readRecorded(t testing.TB, path string) []recorded {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rows []recorded
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		row := recorded{line: n}
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatalf("%s:%d: %v", path, n, err)
		}
		if row.bytes, err = hex.DecodeString(row.Hex); err != nil {
			t.Fatalf("%s:%d: %v", path, n, err)
		}
		rows = append(rows, row)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}

// sessionFiles are the recorded conversations.
func sessionFiles(t testing.TB) []string {
	t.Helper()
	all, err := filepath.Glob("testdata/recorded/*.jsonl")
	if err != nil || len(all) < 2 {
		t.Fatalf("no recordings in testdata: %v", err)
	}
	var paths []string
	for _, path := range all {
		if filepath.Base(path) != "client-headers.jsonl" {
			paths = append(paths, path)
		}
	}
	return paths
}

func TestRecordedClientHeaders(t *testing.T) {
	for _, row := range readRecorded(t, "testdata/recorded/client-headers.jsonl") {
		h, err := wire.ParseClientHeader((*[wire.ClientHeaderSize]byte)(row.bytes))
		if err != nil {
			t.Errorf("line %d: %v", row.line, err)
			continue
		}
		if h.AppName != row.App || h.Requested || h.Wanted != 0 {
			t.Errorf("line %d: %+v, want the name %q and no request", row.line, h, row.App)
		}
		if h.ModInst != "" && h.ModInst != `-mod x "y z"` {
			t.Errorf("line %d: module arguments %q", row.line, h.ModInst)
		}
		if got := h.Append(nil); !bytes.Equal(got, row.bytes) {
			t.Errorf("line %d: encoded to\n%s, want\n%s", row.line, hex.Dump(got), hex.Dump(row.bytes))
		}
	}
}

// TestRecordedSessions decodes whole conversations, and encodes what has a
// layout to the same bytes.
func TestRecordedSessions(t *testing.T) {
	for _, path := range sessionFiles(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".jsonl"), func(t *testing.T) {
			for _, row := range readRecorded(t, path) {
				switch {
				case row.Kind == "header" && row.Dir == "c>h":
					h, err := wire.ParseClientHeader((*[wire.ClientHeaderSize]byte)(row.bytes))
					checkSame(t, row, h.Append(nil), err)
				case row.Kind == "header":
					h, err := wire.ParseHostHeader((*[wire.HostHeaderSize]byte)(row.bytes))
					checkSame(t, row, h.Append(nil), err)
					if h.Version != wire.Served {
						t.Errorf("line %d: version %v, want %v", row.line, h.Version, wire.Served)
					}
				case row.Deviates == "": // TestRecordedDeviations has the others
					f := cutRecorded(t, row)
					encoded, err := reencode(f)
					checkSame(t, row, wire.AppendFrame(nil, f.Type, f.Cmd, f.Branch, encoded), err)
				default:
					cutRecorded(t, row)
				}
			}
		})
	}
}

func checkSame(t *testing.T, row recorded, encoded []byte, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("line %d: %s %s: %v", row.line, row.Dir, row.Kind, err)
	} else if !bytes.Equal(encoded, row.bytes) {
		t.Errorf("line %d: %s %s encoded to\n%s, want\n%s", row.line, row.Dir, row.Kind, hex.Dump(encoded), hex.Dump(row.bytes))
	}
}

func cutRecorded(t *testing.T, row recorded) wire.Frame {
	t.Helper()
	f, rest, ok := wire.CutFrame(row.bytes)
	if !ok || len(rest) != 0 {
		t.Fatalf("line %d: not one frame: whole %v, %d bytes left", row.line, ok, len(rest))
	}
	if f.Type.String() != row.Kind || int(f.Cmd) != row.Cmd {
		t.Errorf("line %d: %s under %d, want %s under %d", row.line, f.Type, f.Cmd, row.Kind, row.Cmd)
	}
	if f.Cmd.IsAsync() && f.Branch != 0 {
		t.Errorf("line %d: branch %d under an async id, want 0", row.line, f.Branch)
	}
	return f
}

// reencode decodes the payload of a frame to a client, if it has a layout, and
// encodes it again.
func reencode(f wire.Frame) ([]byte, error) {
	if f.Type == wire.Idle {
		code, data, err := wire.ParseIdle(f.Payload)
		return wire.AppendIdle(nil, f.Cmd, f.Branch, code, data)[wire.FrameHeaderSize:], err
	}
	p := wire.NewClientPayload(f.Cmd, f.Type)
	if p == nil {
		return f.Payload, nil
	}
	if err := wire.Parse(f.Payload, p); err != nil {
		return nil, err
	}
	return wire.Append(nil, p), nil
}

// TestRecordedDeviations is what becomes of the frames in which a host in use
// broke the protocol: refused, or read for what they mean.
func TestRecordedDeviations(t *testing.T) {
	member := wire.UserID(mustHex(t, "acef56b5a15f22451fb01cac46ce2fb56d91942a12c2593fffbc9f5f2e193c42"))
	tests := map[wire.AsyncID]struct {
		refused string       // the field
		read    wire.Payload // what the bytes mean, when they are not refused
		sent    string       // the payload that this host sends for read, when it differs from the bytes
	}{
		wire.AsyncInviteAccepted: {refused: "is_invite"}, // 40 bytes
		wire.AsyncNewSubCh: {
			read: &wire.SubAdded{Channel: 2, Level: 4, Name: "subone"},
			sent: "0200000000000000" + "00" + "04" + "7375626f6e6500",
		},
		// The channel id is garbled to 0, which no channel has ...
		wire.AsyncSubChLevelChg: {refused: "channel_id"},
		wire.AsyncAddRdOnly:     {refused: "channel_id"},
		wire.AsyncRmRdOnly:      {refused: "channel_id"},
		wire.AsyncRenameCh:      {refused: "channel_id"},
		wire.AsyncDelCh:         {refused: "channel_id"},
		// ... or to a number that could be one: no reader can tell.
		wire.AsyncMemLevelChg: {read: &wire.MemberLevel{Channel: 0x2000001, User: member, Level: wire.Officer}},
		wire.AsyncRmChMember:  {read: &wire.MemberRemoved{Channel: 0x2000001, User: member}},
		// Right, but sent to somebody who should not have got it.
		wire.AsyncRmSubCh: {read: &wire.SubRef{Channel: 2, Sub: 0}},
	}
	seen := 0
	for _, path := range sessionFiles(t) {
		for _, row := range readRecorded(t, path) {
			if row.Deviates == "" {
				continue
			}
			seen++
			f := cutRecorded(t, row)
			t.Run(wire.AsyncID(f.Cmd).String(), func(t *testing.T) {
				test, ok := tests[wire.AsyncID(f.Cmd)]
				if !ok {
					t.Fatalf("nobody has decided what becomes of line %d: %s", row.line, row.Deviates)
				}
				got := wire.NewClientPayload(f.Cmd, f.Type)
				err := wire.Parse(f.Payload, got)
				if test.refused != "" {
					var bad *wire.FormatError
					if !errors.As(err, &bad) || bad.Field != test.refused {
						t.Errorf("decoded with the error %v, want one about %s", err, test.refused)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.read, got); diff != "" {
					t.Errorf("decoded (-want +got):\n%s", diff)
				}
				want := f.Payload
				if test.sent != "" {
					want = mustHex(t, test.sent)
				}
				if sent := wire.Append(nil, got); !bytes.Equal(sent, want) {
					t.Errorf("encoded to %x, want %x", sent, want)
				}
			})
		}
	}
	if seen != len(tests) {
		t.Errorf("%d recorded deviations, want %d", seen, len(tests))
	}
}

func mustHex(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
