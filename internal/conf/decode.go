package conf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// member is one name and value of a JSON object, in the order of the file.
type member struct {
	name            string
	value           any // string, bool, json.Number, nil, []any or []member
	nameAt, valueAt int
}

// fault is an error at a byte of the text.
type fault struct {
	at  int
	err error
}

// decodeValue reads one JSON value, strictly: valid UTF-8, nothing behind it,
// and no name twice in one object. Faults of the text itself leave no value;
// of members with one name the value has the first, and each other is a fault.
func decodeValue(text []byte) (any, []*fault) {
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size == 1 {
			return nil, []*fault{{at, errors.New("the text is not valid UTF-8")}}
		}
		at += size
	}
	// The whole text first: reading by tokens alone would report a name that
	// stands twice before a fault of syntax above it.
	if err := json.Unmarshal(text, new(json.RawMessage)); err != nil {
		return nil, []*fault{syntaxFault(text, err)}
	}
	d := decoder{text: text, json: json.NewDecoder(bytes.NewReader(text))}
	d.json.UseNumber()
	v, err := d.value()
	if err != nil {
		return nil, []*fault{err}
	}
	return v, d.twice
}

// syntaxFault puts the words of encoding/json at the byte they are about. They
// quote a character of the text, which may be one of a password that lacks its
// quotation marks: only punctuation is shown.
func syntaxFault(text []byte, err error) *fault {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return &fault{0, err}
	}
	at := max(int(syntax.Offset)-1, 0)
	what := syntax.Error()
	if rest, ok := strings.CutPrefix(what, "invalid character "); ok {
		what = "unexpected character"
		// The quoted character may be a quotation mark itself.
		if end := strings.Index(rest[1:], "' "); end >= 0 {
			if at < len(text) && strings.IndexByte("{}[],:\"'", text[at]) >= 0 {
				what += " " + quote(string(text[at]))
			}
			what += rest[end+2:]
		}
	}
	if strings.HasPrefix(what, "unexpected end") {
		at = len(bytes.TrimRight(text, " \t\r\n"))
	}
	return &fault{at, errors.New(what)}
}

// decoder turns tokens into values that keep their order and their place.
type decoder struct {
	text  []byte
	json  *json.Decoder
	twice []*fault // members whose name is taken
}

// next returns where the next token begins.
func (d *decoder) next() int {
	at := int(d.json.InputOffset())
	for at < len(d.text) && strings.IndexByte(" \t\r\n,:", d.text[at]) >= 0 {
		at++
	}
	return at
}

func (d *decoder) value() (any, *fault) {
	at := d.next()
	token, err := d.json.Token()
	if err != nil {
		return nil, &fault{at, err}
	}
	switch token {
	case json.Delim('['):
		list := []any{}
		for d.json.More() {
			v, err := d.value()
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, d.end()
	case json.Delim('{'):
		members := []member{}
		seen := map[string]bool{}
		for d.json.More() {
			m := member{nameAt: d.next()}
			name, err := d.json.Token()
			if err != nil {
				return nil, &fault{m.nameAt, err}
			}
			m.name, _ = name.(string)
			m.valueAt = d.next()
			var fault *fault
			if m.value, fault = d.value(); fault != nil {
				return nil, fault
			}
			if seen[m.name] {
				d.twice = append(d.twice, twice(m))
				continue
			}
			seen[m.name] = true
			members = append(members, m)
		}
		return members, d.end()
	}
	return token, nil
}

// end takes the closing bracket or brace.
func (d *decoder) end() *fault {
	at := d.next()
	if _, err := d.json.Token(); err != nil {
		return &fault{at, err}
	}
	return nil
}

func twice(m member) *fault {
	return &fault{m.nameAt, fmt.Errorf("key %s stands there twice: keep one of them", quote(m.name))}
}

// place returns where a byte stands.
func place(text []byte, at int) Place {
	before := text[:min(at, len(text))]
	return Place{
		Line:   bytes.Count(before, []byte("\n")) + 1,
		Column: utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1,
	}
}

// maxShown is how much of a value an error repeats, in bytes.
const maxShown = 80

// quote makes a text one short line.
func quote(s string) string {
	if len(s) > maxShown {
		cut := maxShown
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "..."
	}
	return strconv.Quote(s)
}

// render shows a value as the file would have it, in one short line.
func render(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return quote(v)
	case []member:
		return "an object"
	case []any:
		return "a list"
	case json.Number:
		if len(v) > maxShown {
			return "a very long number"
		}
		return v.String()
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}
