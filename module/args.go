package module

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kind is the type of an argument's value.
type Kind uint8

// The kinds.
const (
	String Kind = iota // a text of one word
	Int                // a decimal integer without sign, Min..Max
	Bool               // 0 or 1
	Flag               // no value: the switch stands there or not
)

// Arg describes one argument: a switch "-name" and its value (commands 1.2).
type Arg struct {
	Name     string // without the dash
	Kind     Kind
	Required bool // the switch must stand there, with a value that is not empty
	// MayBeEmpty means that the switch may stand without a value, and that a
	// Required argument may be empty.
	MayBeEmpty bool
	Min, Max   uint64 // bounds of an Int; Max 0 means 2^64-1
	Doc        string // what the value means, for help and schema
}

func (a Arg) maximum() uint64 {
	if a.Max == 0 {
		return math.MaxUint64
	}
	return a.Max
}

func (a Arg) writeUsage(b *strings.Builder) {
	b.WriteString("-" + a.Name)
	value := ""
	switch a.Kind {
	case Flag:
		return
	case String:
		value = "(text)"
	case Int:
		value = "(int)"
	case Bool:
		value = "(0 or 1)"
	}
	if a.MayBeEmpty {
		value = "{" + value + "}"
	}
	b.WriteString(" " + value)
}

// check reports what is wrong with a value, as an error for the caller.
func (a Arg) check(v string) error {
	switch a.Kind {
	case Int:
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil || strings.HasPrefix(v, "+") || n < a.Min || n > a.maximum() {
			return Invalid("-%s must be a whole number from %d to %d, not %q.", a.Name, a.Min, a.maximum(), v)
		}
	case Bool:
		if n, err := strconv.ParseUint(v, 10, 64); err != nil || n > 1 {
			return Invalid("-%s must be 0 or 1, not %q.", a.Name, v)
		}
	}
	return nil
}

// Args are the arguments of a call, checked against the description.
type Args struct {
	values map[string]string // by lower-case name; present means that the switch stood there
}

// Has reports whether the switch stood in the call.
func (a Args) Has(name string) bool {
	_, ok := a.values[strings.ToLower(name)]
	return ok
}

// String returns the value of a switch; empty when it was not there.
func (a Args) String(name string) string { return a.values[strings.ToLower(name)] }

// Uint returns the value of an Int switch; 0 when it was not there.
func (a Args) Uint(name string) uint64 {
	n, _ := strconv.ParseUint(a.String(name), 10, 64) // checked when the call was parsed
	return n
}

// Bool returns the value of a Bool switch, and whether a Flag stood there.
func (a Args) Bool(name string) bool {
	v, ok := a.values[strings.ToLower(name)]
	if v == "" {
		return ok
	}
	return a.Uint(name) == 1
}

// ParseArgs reads the argument text of a call (commands 1.2) against the
// description. The error is a *Failure with INVALID_PARAMS: for text that is
// not UTF-8, a quote that is not closed, a required argument that is missing,
// or a value that does not fit its kind, in that order. unknown lists the
// switches that the command does not have, as typed: the call goes on. Nothing
// else of the text is kept, in no copy.
func (c *Command) ParseArgs(text []byte) (args Args, unknown []string, err error) {
	scratch := make([]byte, 0, len(text))
	defer func() { clear(scratch[:len(text)]) }()
	words, err := splitWords(text, scratch)
	if err != nil {
		return Args{}, nil, err
	}
	if len(words) > 0 {
		args.values = make(map[string]string)
	}
	for i := 0; i < len(words); i++ {
		w := words[i]
		if !w.isSwitch() {
			continue
		}
		arg, ok := c.arg(w.text[1:])
		if !ok {
			unknown = append(unknown, string(w.text))
			continue
		}
		value := ""
		if arg.Kind != Flag && i+1 < len(words) && !words[i+1].isSwitch() {
			i++
			value = string(words[i].text)
		}
		name := strings.ToLower(arg.Name)
		if _, again := args.values[name]; !again { // the first occurrence counts
			args.values[name] = value
		}
	}
	return args, unknown, c.checkArgs(args)
}

func (c *Command) checkArgs(args Args) error {
	if c.OneOf {
		given := 0
		for _, a := range c.Args {
			if args.String(a.Name) != "" || a.Kind == Flag && args.Has(a.Name) {
				given++
			}
		}
		if given == 0 && len(c.Args) > 0 {
			return Invalid("Missing %s.", c.switchNames(" or "))
		}
	}
	for _, a := range c.Args {
		mayBeEmpty := a.MayBeEmpty || a.Kind == Flag
		if a.Required && (!args.Has(a.Name) || args.String(a.Name) == "" && !mayBeEmpty) {
			return Invalid("Missing -%s.", a.Name)
		}
	}
	for _, a := range c.Args {
		v := args.String(a.Name)
		switch {
		case a.Kind == Flag || !args.Has(a.Name):
		case v == "" && (a.MayBeEmpty || c.OneOf):
		case v == "":
			return Invalid("-%s needs a value.", a.Name)
		default:
			if err := a.check(v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Command) arg(name []byte) (Arg, bool) {
	for _, a := range c.Args {
		if bytes.EqualFold([]byte(a.Name), name) {
			return a, true
		}
	}
	return Arg{}, false
}

func (c *Command) switchNames(separator string) string {
	names := make([]string, len(c.Args))
	for i, a := range c.Args {
		names[i] = "-" + a.Name
	}
	return strings.Join(names, separator)
}

// UnknownSwitches is the text of the ERR that names switches which the command
// does not have, with the nearest one that it has (commands 1.2).
func (c *Command) UnknownSwitches(unknown []string) string {
	var b strings.Builder
	for i, u := range unknown {
		if i > 0 {
			b.WriteByte(' ')
		}
		if i == 3 { // a line is enough to see what went wrong
			fmt.Fprintf(&b, "(and %d more)", len(unknown)-i)
			break
		}
		fmt.Fprintf(&b, "%s does not know %q, ignored", c.Name, shorten(u))
		if near := c.nearest(u); near != "" {
			fmt.Fprintf(&b, "; did you mean %s?", near)
		} else {
			b.WriteByte('.')
		}
	}
	return b.String()
}

func (c *Command) nearest(unknown string) string {
	best, bestDistance := "", 3 // two typing errors at most
	typed := strings.ToLower(strings.TrimPrefix(shorten(unknown), "-"))
	for _, a := range c.Args {
		if d := distance(typed, strings.ToLower(a.Name)); d < bestDistance {
			best, bestDistance = "-"+a.Name, d
		}
	}
	return best
}

func shorten(s string) string {
	const longest = 40
	if utf8.RuneCountInString(s) <= longest {
		return s
	}
	return string([]rune(s)[:longest]) + "..."
}

// distance is the number of single-character changes between two short texts.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// word is one word of an argument text.
type word struct {
	text   []byte
	quoted bool // it begins with a quote, so it is never a switch
}

func (w word) isSwitch() bool { return !w.quoted && len(w.text) > 0 && w.text[0] == '-' }

// splitWords cuts an argument text into words (commands 1.2): white space
// outside quotes separates, '...' and "..." group and may start inside a word,
// \' and \" are literal quotes anywhere, a backslash before anything else is
// itself, and an empty pair of quotes yields no word. The words are put into
// scratch, which has room for len(text) bytes.
func splitWords(text, scratch []byte) ([]word, error) {
	if !utf8.Valid(text) {
		return nil, Invalid("The arguments are not UTF-8 text.")
	}
	var (
		words []word
		start int // of the word in scratch
		w     word
		begun bool // a word has begun, though it may still be empty
		open  rune // the quote that is open, or 0
	)
	flush := func() {
		if len(scratch) > start {
			w.text = scratch[start:]
			words = append(words, w)
		}
		start = len(scratch)
		w, begun = word{}, false
	}
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		i += size
		switch {
		case r == '\\' && i < len(text) && (text[i] == '\'' || text[i] == '"'):
			scratch = append(scratch, text[i])
			i++
			begun = true
		case open != 0 && r == open:
			open = 0
		case open != 0:
			scratch = utf8.AppendRune(scratch, r)
		case r == '\'' || r == '"':
			open = r
			if !begun {
				w.quoted, begun = true, true
			}
		case unicode.IsSpace(r):
			flush()
		default:
			scratch = utf8.AppendRune(scratch, r)
			begun = true
		}
	}
	if open != 0 {
		return nil, Invalid("A quote (%c) is not closed.", open)
	}
	flush()
	return words, nil
}

// validText reports whether s is UTF-8 without zero bytes.
func validText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsRune(s, 0)
}

// unfitForName reports characters that no name may hold: white space, control,
// format and bidirectional marks (state 2).
func unfitForName(r rune) bool {
	return unicode.IsSpace(r) || unicode.Is(unicode.C, r) || r == utf8.RuneError
}
