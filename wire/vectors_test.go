package wire_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/wire"
)

// vectorFile is one file of testdata; testdata/README.md tells the format.
type vectorFile struct {
	layout string
	uses   []vectorUse
	cases  []vectorCase
}

type vectorUse struct {
	kind string // "type", "async" or "client"
	id   int
	name string
}

type vectorCase struct {
	name    string
	lenient bool
	refused bool
	field   string // of the error, when refused
	offset  int
	hex     []byte
	value   []string // "name JSON"
	encoded []byte
}

// readVectors parses a file of testdata.
func readVectors(path string) (*vectorFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var (
		file  vectorFile
		block string
		c     *vectorCase
	)
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		bad := func(why string) error { return fmt.Errorf("%s:%d: %s: %q", path, n, why, line) }
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "  ") && block == "value":
			name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			var compact bytes.Buffer
			if err := json.Compact(&compact, []byte(value)); err != nil {
				return nil, bad(err.Error())
			}
			c.value = append(c.value, name+" "+compact.String())
		case strings.HasPrefix(line, "  ") && (block == "hex" || block == "encoded"):
			b, err := parseHex(line)
			if err != nil {
				return nil, bad(err.Error())
			}
			if block == "hex" {
				c.hex = append(c.hex, b...)
			} else {
				c.encoded = append(c.encoded, b...)
			}
		case words[0] == "layout":
			file.layout = strings.TrimPrefix(line, "layout ")
		case words[0] == "type", words[0] == "async", words[0] == "client":
			if len(words) != 3 {
				return nil, bad("want id and name")
			}
			id, err := strconv.Atoi(words[1])
			if err != nil {
				return nil, bad(err.Error())
			}
			file.uses = append(file.uses, vectorUse{words[0], id, words[2]})
		case words[0] == "case" && len(words) >= 2:
			file.cases = append(file.cases, vectorCase{name: words[1]})
			c, block = &file.cases[len(file.cases)-1], ""
			switch {
			case len(words) == 2:
			case len(words) == 3 && words[2] == "lenient":
				c.lenient = true
			case len(words) == 5 && words[2] == "refused":
				c.refused = true
				c.field = strings.TrimPrefix(words[3], "-")
				if c.offset, err = strconv.Atoi(words[4]); err != nil {
					return nil, bad(err.Error())
				}
			default:
				return nil, bad("unknown form of a case")
			}
		case c != nil && (line == "hex" || line == "value" || line == "encoded"):
			block = line
		default:
			return nil, bad("unknown line")
		}
	}
	return &file, lines.Err()
}

func parseHex(line string) ([]byte, error) {
	line, _, _ = strings.Cut(line, "#")
	var out []byte
	for _, word := range strings.Fields(line) {
		digits, times, folded := strings.Cut(word, "*")
		count := 1
		if folded {
			var err error
			if count, err = strconv.Atoi(times); err != nil {
				return nil, err
			}
		}
		b, err := hex.DecodeString(digits)
		if err != nil {
			return nil, err
		}
		out = append(out, bytes.Repeat(b, count)...)
	}
	return out, nil
}

// showField renders a field as the vector files do.
func showField(name string, value any) string {
	switch v := value.(type) {
	case []byte:
		value = hex.EncodeToString(v)
	case wire.SubList:
		pairs := make([][2]uint64, 0, len(v))
		for _, ref := range v {
			pairs = append(pairs, [2]uint64{uint64(ref.Channel), uint64(ref.Sub)})
		}
		value = pairs
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return fmt.Sprintf("%s: %v", name, err)
	}
	return name + " " + strings.TrimSuffix(b.String(), "\n")
}

func showFields(fields []wire.Field) []string {
	var out []string
	for _, f := range fields {
		out = append(out, showField(f.Name, f.Value))
	}
	return out
}

// vectorDecoder decodes the bytes of a case, and gives back the fields and
// what the decoded value encodes to.
type vectorDecoder func(b []byte) (fields []string, encoded []byte, err error)

// errNotWhole is for layouts whose size the Go type fixes.
var errNotWhole = errors.New("not the size of the layout")

// specialLayouts are those that are not a wire.Payload.
var specialLayouts = map[string]vectorDecoder{
	"client header": func(b []byte) ([]string, []byte, error) {
		if len(b) != wire.ClientHeaderSize {
			return nil, nil, errNotWhole
		}
		h, err := wire.ParseClientHeader((*[wire.ClientHeaderSize]byte)(b))
		return []string{
			showField("app_name", h.AppName), showField("mod_inst", h.ModInst),
			showField("requested", h.Requested), showField("wanted", h.Wanted),
		}, h.Append(nil), err
	},
	"host header": func(b []byte) ([]string, []byte, error) {
		if len(b) != wire.HostHeaderSize {
			return nil, nil, errNotWhole
		}
		h, err := wire.ParseHostHeader((*[wire.HostHeaderSize]byte)(b))
		return []string{
			showField("reply", h.Reply), showField("major", h.Version.Major),
			showField("minor", h.Version.Minor), showField("tcp_rev", h.Version.TCPRev),
			showField("mod_rev", h.Version.ModRev), showField("session_id", h.Session),
		}, h.Append(nil), err
	},
	"frame": func(b []byte) ([]string, []byte, error) {
		f, rest, ok := wire.CutFrame(b)
		if !ok || len(rest) != 0 {
			return nil, nil, errNotWhole
		}
		return []string{
			showField("type", uint8(f.Type)), showField("cmd", uint16(f.Cmd)),
			showField("branch", f.Branch), showField("payload", f.Payload),
		}, wire.AppendFrame(nil, f.Type, f.Cmd, f.Branch, f.Payload), nil
	},
	"IDLE": func(b []byte) ([]string, []byte, error) {
		code, data, err := wire.ParseIdle(b)
		encoded := wire.AppendIdle(nil, 0, 0, code, data)[wire.FrameHeaderSize:]
		return []string{showField("code", uint16(code)), showField("data", data)}, encoded, err
	},
	"ASYNC_PAYLOAD": func(b []byte) ([]string, []byte, error) {
		id, payload, err := wire.CutAsync(b)
		encoded := append(wire.AppendAsync(nil, id, nil), payload...)
		return []string{showField("async_id", uint16(id)), showField("payload", payload)}, encoded, err
	},
}

func payloadDecoder(newPayload func() wire.Payload) vectorDecoder {
	return func(b []byte) ([]string, []byte, error) {
		p := newPayload()
		if err := wire.Parse(b, p); err != nil {
			return nil, nil, err
		}
		return showFields(wire.Fields(p)), wire.Append(nil, p), nil
	}
}

// decoders returns one decoder per use of the layout.
func (f *vectorFile) decoders(t *testing.T) map[string]vectorDecoder {
	t.Helper()
	if d := specialLayouts[f.layout]; d != nil {
		return map[string]vectorDecoder{f.layout: d}
	}
	if f.layout == "sub-channel list" {
		return map[string]vectorDecoder{f.layout: payloadDecoder(func() wire.Payload { return new(wire.SubList) })}
	}
	all := make(map[string]vectorDecoder)
	for _, use := range f.uses {
		var newPayload func() wire.Payload
		switch use.kind {
		case "type":
			typ, ok := wire.TypeByName(use.name)
			if !ok || int(typ) != use.id {
				t.Errorf("type %s has the id %d, want %d", use.name, typ, use.id)
			}
			newPayload = func() wire.Payload { return wire.NewClientPayload(256, typ) }
		case "async":
			id := wire.AsyncID(use.id)
			if id.String() != use.name {
				t.Errorf("async %d is named %s, want %s", use.id, id, use.name)
			}
			newPayload = func() wire.Payload { return wire.NewAsyncPayload(id) }
		case "client":
			typ, ok := wire.TypeByName(use.name)
			if !ok {
				t.Errorf("no type %s", use.name)
			}
			newPayload = func() wire.Payload { return wire.NewClientPayload(wire.CmdID(use.id), typ) }
		}
		name := use.kind + " " + use.name
		if newPayload() == nil {
			t.Errorf("%s has no layout", name)
			continue
		}
		all[name] = payloadDecoder(newPayload)
	}
	return all
}

// TestVectors decodes every case of testdata, compares it with the value
// beside it, and encodes it again.
func TestVectors(t *testing.T) {
	for _, path := range vectorPaths(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			file, err := readVectors(path)
			if err != nil {
				t.Fatal(err)
			}
			decoders := file.decoders(t)
			if len(decoders) == 0 || len(file.cases) == 0 {
				t.Fatalf("%d uses and %d cases, want some of both", len(decoders), len(file.cases))
			}
			for use, decode := range decoders {
				for _, c := range file.cases {
					t.Run(use+"/"+c.name, func(t *testing.T) { c.check(t, file.layout, decode) })
				}
			}
		})
	}
}

func (c *vectorCase) check(t *testing.T, layout string, decode vectorDecoder) {
	fields, encoded, err := decode(c.hex)
	if c.refused {
		var bad *wire.FormatError
		if !errors.As(err, &bad) {
			t.Fatalf("decoded to %v, %v; want a *FormatError", fields, err)
		}
		if bad.Layout != layout || bad.Field != c.field || bad.Offset != c.offset {
			t.Errorf("refused with %q (field %q, offset %d), want layout %q, field %q, offset %d",
				err, bad.Field, bad.Offset, layout, c.field, c.offset)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c.value, fields); diff != "" {
		t.Errorf("decoded value (-want +got):\n%s", diff)
	}
	want := c.hex
	if c.lenient {
		want = c.encoded
		if bytes.Equal(want, c.hex) {
			t.Error("a lenient case encodes to other bytes")
		}
	}
	if !bytes.Equal(encoded, want) {
		t.Errorf("encoded to\n%s, want\n%s", hex.Dump(encoded), hex.Dump(want))
	}
}

// TestVectorsAreComplete holds the files against everything that has a layout.
func TestVectorsAreComplete(t *testing.T) {
	have := make(map[vectorUse]bool)
	for _, path := range vectorPaths(t) {
		file, err := readVectors(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, use := range file.uses {
			have[vectorUse{kind: use.kind, id: use.id}] = true
		}
	}
	for id := range 256 {
		if typ := wire.TypeID(id); wire.NewClientPayload(256, typ) != nil && !have[vectorUse{kind: "type", id: id}] {
			t.Errorf("no file in testdata for the type %s", typ)
		}
		if async := wire.AsyncID(id); wire.NewAsyncPayload(async) != nil && !have[vectorUse{kind: "async", id: id}] {
			t.Errorf("no file in testdata for the async %s", async)
		}
	}
}

func vectorPaths(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no vectors in testdata: %v", err)
	}
	return paths
}
