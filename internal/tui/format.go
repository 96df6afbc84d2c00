package tui

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/wire"
)

// Line returns a structured frame as one readable line, without a line feed:
// the name of its type, then name=value for each field. What cannot be decoded
// is shown as data_base64.
func Line(f wire.Frame) string {
	var b strings.Builder
	b.WriteString(f.Type.String())
	for _, m := range members(f) {
		b.WriteByte(' ')
		b.WriteString(m.name)
		b.WriteByte('=')
		switch v := m.value.(type) {
		case string:
			if v == "" || strings.ContainsFunc(v, func(r rune) bool { return r == '"' || r == '=' || r == ' ' || !unicode.IsPrint(r) }) {
				v = strconv.Quote(v)
			}
			b.WriteString(v)
		case []subChannel:
			for i, ref := range v {
				if i > 0 {
					b.WriteByte(',')
				}
				fmt.Fprintf(&b, "%s/%d", ref.Channel, ref.Sub)
			}
		default:
			fmt.Fprint(&b, v)
		}
	}
	return b.String()
}

// AppendJSON adds a frame to dst as one JSON object and a line feed (cli 2).
// command is the name of the command that the frame belongs to; async frames
// need none.
func AppendJSON(dst []byte, f wire.Frame, command string) []byte {
	o := object{dst: dst}
	o.add("type", f.Type.String())
	if f.Cmd.IsAsync() {
		o.add("async", wire.AsyncID(f.Cmd).String())
		o.add("id", uint16(f.Cmd))
	} else {
		o.call(f.Cmd, f.Branch, command)
	}
	for _, m := range members(f) {
		o.add(m.name, m.value)
	}
	return o.end()
}

// AppendResultJSON adds the end of a call, the IDLE frame, in the form of
// AppendJSON.
func AppendResultJSON(dst []byte, result client.Result, cmd wire.CmdID, branch wire.BranchID, command string) []byte {
	o := object{dst: dst}
	o.add("type", wire.Idle.String())
	o.add("code", uint16(result.Code))
	o.add("name", result.Code.String())
	o.call(cmd, branch, command)
	if len(result.Data) > 0 {
		o.add("data_base64", base64.StdEncoding.EncodeToString(result.Data))
	}
	return o.end()
}

// object writes the members of a JSON object in the order in which they come.
type object struct {
	dst   []byte
	begun bool
}

func (o *object) call(cmd wire.CmdID, branch wire.BranchID, command string) {
	o.add("cmd", command)
	o.add("id", uint16(cmd))
	o.add("branch", uint16(branch))
}

func (o *object) add(name string, value any) {
	sep := byte(',')
	if !o.begun {
		sep = '{'
		o.begun = true
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		panic(err) // every value is made in this file
	}
	o.dst = append(o.dst, sep)
	o.dst = strconv.AppendQuote(o.dst, name)
	o.dst = append(o.dst, ':')
	o.dst = append(o.dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}

func (o *object) end() []byte { return append(o.dst, '}', '\n') }

// member is one field of a frame: string, bool, a number or []subChannel.
type member struct {
	name  string
	value any
}

type subChannel struct {
	Channel string     `json:"channel_id"`
	Sub     wire.SubID `json:"sub_id"`
}

// members returns what a payload says: its text, the fields of its layout, or
// its bytes.
func members(f wire.Frame) []member {
	if client.IsText(f.Type) && f.Cmd != wire.CmdID(wire.AsyncP2P) {
		return data(f.Type, f.Payload)
	}
	v, err := client.Decode(f)
	if v == nil || err != nil {
		return data(f.Type, f.Payload)
	}
	var list []member
	for _, field := range wire.Fields(v) {
		switch value := field.Value.(type) {
		case []byte:
			list = append(list, data(f.Type, value)...)
		case wire.SubList:
			refs := []subChannel{}
			for _, ref := range value.Open() {
				refs = append(refs, subChannel{strconv.FormatUint(uint64(ref.Channel), 10), ref.Sub})
			}
			list = append(list, member{field.Name, refs})
		case wire.SessionID:
			list = append(list, member{field.Name, value.String()})
		case wire.UserID:
			list = append(list, member{field.Name, value.String()})
		case uint64:
			// Ids of 64 bits do not survive readers that know only doubles.
			if strings.HasSuffix(field.Name, "_id") {
				list = append(list, member{field.Name, strconv.FormatUint(value, 10)})
			} else {
				list = append(list, member{field.Name, value})
			}
		default:
			list = append(list, member{field.Name, value})
		}
	}
	return list
}

// data is a payload without a layout: text if the type is and the bytes are.
func data(t wire.TypeID, p []byte) []member {
	if client.IsText(t) && utf8.Valid(p) {
		return []member{{"text", string(p)}}
	}
	return []member{{"data_base64", base64.StdEncoding.EncodeToString(p)}}
}

// Printable returns text that cannot give orders to a terminal, nor change the
// order in which it shows other characters: control characters other than line
// feed and tab, bidirectional overrides, line separators, and bytes that are
// not UTF-8, are shown as \xHH or \uHHHH.
func Printable(text string) string {
	if !strings.ContainsFunc(text, unprintable) && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case unprintable(r) && r > 0xff:
			fmt.Fprintf(&b, `\u%04x`, r)
		case unprintable(r):
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069: // separators, embeddings, overrides, isolates
		return true
	}
	return unicode.IsControl(r)
}
