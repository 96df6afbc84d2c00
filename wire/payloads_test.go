package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/wire"
)

// allPayloads returns an empty value of every layout, by what carries it.
func allPayloads() map[string]func() wire.Payload {
	all := map[string]func() wire.Payload{
		"sub-channel list": func() wire.Payload { return new(wire.SubList) },
		"data of a peer":   func() wire.Payload { return new(wire.PeerData) },
	}
	for id := range 256 {
		if typ := wire.TypeID(id); wire.NewClientPayload(256, typ) != nil {
			all["type "+typ.String()] = func() wire.Payload { return wire.NewClientPayload(256, typ) }
		}
		if async := wire.AsyncID(id); wire.NewAsyncPayload(async) != nil {
			all["async "+async.String()] = func() wire.Payload { return wire.NewAsyncPayload(async) }
		}
	}
	return all
}

func TestFormatErrorText(t *testing.T) {
	tests := map[string]error{
		"MY_INFO: field host_rank at byte 204: want 4 bytes": wire.Parse(make([]byte, 206), new(wire.Account)),
		"PEER_INFO: want 140 bytes, not 141":                 wire.Parse(make([]byte, 141), new(wire.Peer)),
	}
	for want, err := range tests {
		if err == nil || err.Error() != want {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}

// TestParseEveryPrefix cuts each vector after every byte: what is left is
// refused with a place inside it, or is one of the shorter forms that exist.
func TestParseEveryPrefix(t *testing.T) {
	for _, path := range vectorPaths(t) {
		file, err := readVectors(path)
		if err != nil {
			t.Fatal(err)
		}
		for use, decode := range file.decoders(t) {
			for _, c := range file.cases {
				if c.refused {
					continue
				}
				for n := range c.hex {
					_, _, err := decode(c.hex[:n])
					var bad *wire.FormatError
					switch {
					case err == nil || errors.Is(err, errNotWhole):
					case !errors.As(err, &bad):
						t.Errorf("%s %s: %d bytes: %v is no *FormatError", use, c.name, n, err)
					case bad.Layout != file.layout || bad.Offset < 0 || bad.Offset > n || bad.Want == "":
						t.Errorf("%s %s: %d bytes: the error is %+v", use, c.name, n, *bad)
					}
				}
			}
		}
	}
}

// TestParseOverwrites decodes every vector into a value that already holds
// something else: no field of the old value may stay.
func TestParseOverwrites(t *testing.T) {
	full := []wire.Payload{
		&wire.SubLevel{Channel: 9, Sub: 9, Level: 9},
		&wire.HostVersion{Version: wire.Version{Major: 9, Minor: 9, TCPRev: 9, ModRev: 9}},
		&wire.CommandInfo{ID: 9, GenFile: 9, Name: "9", Library: "9", Short: "9", IO: "9", Long: "9", Schema: "9"},
		&wire.SubList{{9, 9}, {9, 9}, {9, 9}, {9, 9}, {9, 9}, {9, 9}},
	}
	empty := []wire.Payload{new(wire.SubLevel), new(wire.HostVersion), new(wire.CommandInfo), new(wire.SubList)}
	shortest := [][]byte{
		append([]byte{1}, make([]byte, 8)...),
		make([]byte, 6),
		make([]byte, wire.MinNewCmdSize),
		make([]byte, wire.SubListSize),
	}
	for i, p := range full {
		if err := errors.Join(wire.Parse(shortest[i], p), wire.Parse(shortest[i], empty[i])); err != nil {
			t.Errorf("%T: %v", p, err)
		}
		if diff := cmp.Diff(empty[i], p); diff != "" {
			t.Errorf("%T keeps what it held (-fresh +reused):\n%s", p, diff)
		}
	}
}

func TestParseSharesOnlyData(t *testing.T) {
	cast := wire.Cast{To: wire.SubList{{Channel: 2}}, Type: wire.Text, Data: []byte("data")}
	b := wire.Append(nil, &cast)
	var got wire.Cast
	if err := wire.Parse(b, &got); err != nil {
		t.Fatal(err)
	}
	if &got.Data[0] != &b[len(b)-4] {
		t.Error("data is a copy, want a part of the input")
	}
	if cap(got.Data) != len(got.Data) {
		t.Error("who appends to the data writes behind the input")
	}
}

func TestAppendKeepsWhatIsThere(t *testing.T) {
	for name, newPayload := range allPayloads() {
		b := wire.Append([]byte("front"), newPayload())
		if !bytes.HasPrefix(b, []byte("front")) || !bytes.Equal(b[5:], wire.Append(nil, newPayload())) {
			t.Errorf("%s: Append does not append", name)
		}
	}
	if got := wire.AppendAsync([]byte("front"), wire.AsyncLogout, nil); string(got) != "front\x06\x00" {
		t.Errorf("AppendAsync without payload: %q", got)
	}
	got := wire.AppendAsync(nil, wire.AsyncOpenSubCh, &wire.SubRef{Channel: 2, Sub: 1})
	if want := "\x27\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01"; string(got) != want {
		t.Errorf("AppendAsync: %q, want %q", got, want)
	}
}

// TestEncodingCuts is what becomes of texts that do not fit.
func TestEncodingCuts(t *testing.T) {
	tests := []struct {
		name string
		size int
		text string
		want string
	}{
		{"fits", 5, "abcde", "abcde"},
		{"cut", 5, "abcdef", "abcde"},
		{"two-byte character", 5, "abcdé", "abcd"},
		{"three-byte character", 5, "abc日", "abc"},
		{"four-byte character", 5, "ab𝄞", "ab"},
		{"character at the border", 5, "abc日本"[:6], "abc"},
		{"nothing fits", 1, "日", ""},
		{"no characters at all", 2, "\x80\x80\x80\x80", ""},
		{"no room", 0, "a", ""},
	}
	for _, test := range tests {
		if got := wire.CutText(test.text, test.size); got != test.want {
			t.Errorf("%s: CutText(%q, %d) = %q, want %q", test.name, test.text, test.size, got, test.want)
		}
	}
	p := wire.Peer{Name: strings.Repeat("é", 13), App: strings.Repeat("a", 40), Display: "x"}
	b := wire.Append(nil, &p)
	var got wire.Peer
	if err := wire.Parse(b, &got); len(b) != wire.PeerSize || err != nil {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	if got.Name != strings.Repeat("é", 12) || got.App != strings.Repeat("a", 32) {
		t.Errorf("texts were cut to %q and %q", got.Name, got.App)
	}
	// A zero byte would hide what follows it from the reader, or forge a field.
	m := wire.Member{Channel: 2, Name: "ann\x00forged", Display: "d", ChannelName: "c"}
	var member wire.Member
	if err := wire.Parse(wire.Append(nil, &m), &member); err != nil || member.Name != "ann" || member.Display != "d" {
		t.Errorf("a zero byte in a text: decoded %+v, %v", member, err)
	}
}

// TestDecodedTextsFit: whatever is in a field, the decoded text is UTF-8 and
// not longer than the field.
func TestDecodedTextsFit(t *testing.T) {
	for _, junk := range []string{"\xff", "a\xff", "\xff\x00", "\xc3", "é\xe6\x97", "\xf0\x9d\x84", "\x80"} {
		b := make([]byte, wire.PeerSize)
		for i := range b {
			b[i] = junk[i%len(junk)]
		}
		var p wire.Peer
		if err := wire.Parse(b, &p); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{p.Name, p.Display} {
			if len(text) > wire.UserNameSize || strings.ToValidUTF8(text, "") != text || strings.Contains(text, "\x00") {
				t.Errorf("%q decoded to %q", junk, text)
			}
		}
	}
}

func TestSubListOpen(t *testing.T) {
	list := wire.SubList{1: {Channel: 2, Sub: 1}, 5: {Channel: 7}}
	if diff := cmp.Diff([]wire.SubRef{{Channel: 2, Sub: 1}, {Channel: 7}}, list.Open()); diff != "" {
		t.Errorf("open slots (-want +got):\n%s", diff)
	}
	if open := new(wire.SubList).Open(); len(open) != 0 {
		t.Errorf("an empty list has %v open", open)
	}
}

func TestFields(t *testing.T) {
	p := &wire.PeerStatus{Session: wire.SessionID{1}, Open: wire.SubList{{Channel: 2, Sub: 1}}, Disconnected: true}
	want := []wire.Field{{"session_id", p.Session}, {"sub_channels", p.Open}, {"disconnected", true}}
	if diff := cmp.Diff(want, wire.Fields(p)); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	p.Session[0] = 9
	if want[0].Value != (wire.SessionID{1}) {
		t.Error("a field changes with its payload")
	}
	for name, newPayload := range allPayloads() {
		seen := make(map[string]bool)
		for _, f := range wire.Fields(newPayload()) {
			if seen[f.Name] || f.Name != strings.ToLower(f.Name) {
				t.Errorf("%s: field %q appears twice or is not in snake_case", name, f.Name)
			}
			seen[f.Name] = true
			switch f.Value.(type) {
			case string, bool, uint8, uint32, uint64, []byte, wire.SessionID, wire.UserID, wire.SubList:
			default:
				t.Errorf("%s: field %s is a %T", name, f.Name, f.Value)
			}
		}
		if len(seen) == 0 {
			t.Errorf("%s has no fields", name)
		}
	}
}

// TestNewClientPayload names what decides about the layout: the id as well as
// the type.
func TestNewClientPayload(t *testing.T) {
	tests := []struct {
		id   wire.CmdID
		typ  wire.TypeID
		want wire.Payload
	}{
		{256, wire.Text, nil},
		{256, wire.Bytes, nil},
		{256, wire.FileInfo, new(wire.FileRecord)},
		{0, wire.Bytes, nil},
		{7, wire.Bytes, new(wire.UserRef)},
		{7, wire.Text, nil},
		{263, wire.Bytes, nil}, // a command, not async 7
		{2, wire.MyInfo, new(wire.Account)},
		{4, wire.Bytes, nil}, // a cast carries anything
		{4, wire.Prog, new(wire.Percent)},
		{16, wire.PeerInfo, new(wire.Peer)},
		{17, wire.PeerStat, new(wire.PeerStatus)},
		{17, wire.PingPeers, new(wire.Peer)},
		{19, wire.Text, new(wire.PeerData)},
		{19, wire.Prog, new(wire.PeerData)},
		{19, wire.P2PRequest, new(wire.Peer)},
		{19, wire.P2POpen, new(wire.SessionRef)},
		{19, wire.P2PClose, new(wire.SessionRef)},
		{22, wire.ChID, new(wire.ChannelRef)},
		{23, wire.Bytes, new(wire.ChannelRenamed)},
		{24, wire.Bytes, nil}, // clients get nothing
		{25, wire.Bytes, new(wire.SubAdded)},
		{26, wire.Bytes, new(wire.SubRef)},
		{27, wire.Bytes, new(wire.SubRenamed)},
		{28, wire.ChMemberInfo, new(wire.Member)},
		{29, wire.Bytes, new(wire.MemberRemoved)},
		{31, wire.Bytes, new(wire.MemberLevel)},
		{32, wire.Bytes, new(wire.SubLevel)},
		{33, wire.Bytes, new(wire.SubLevel)},
		{34, wire.Bytes, new(wire.SubLevel)},
		{35, wire.NewCmd, new(wire.CommandInfo)},
		{36, wire.CommandID, new(wire.CommandRef)},
		{100, wire.Bytes, new(wire.ExtensionsGranted)},
		{256, 200, nil},
	}
	for _, test := range tests {
		got := wire.NewClientPayload(test.id, test.typ)
		if fmt.Sprintf("%T", got) != fmt.Sprintf("%T", test.want) {
			t.Errorf("%s under %s: %T, want %T", test.typ, test.id, got, test.want)
		}
	}
}

func TestNewAsyncPayloadNone(t *testing.T) {
	for _, id := range []wire.AsyncID{0, 1, 2, 3, 5, 6, 10, 11, 14, 38, 41, 42, 44, 45, 46, 47, 99, 101, 65535} {
		if p := wire.NewAsyncPayload(id); p != nil {
			t.Errorf("%s has the layout %T, want none", id, p)
		}
	}
}

func TestHeadersCutLongTexts(t *testing.T) {
	h := wire.ClientHeader{AppName: strings.Repeat("é", 20), ModInst: strings.Repeat("m", 200), Requested: true, Wanted: wire.ExtSchema}
	b := h.Append(nil)
	if len(b) != wire.ClientHeaderSize {
		t.Fatalf("header of %d bytes", len(b))
	}
	got, err := wire.ParseClientHeader((*[wire.ClientHeaderSize]byte)(b))
	h.AppName, h.ModInst = strings.Repeat("é", 16), strings.Repeat("m", 128)
	if err != nil || got != h {
		t.Errorf("decoded %+v, %v; want %+v", got, err, h)
	}
}
