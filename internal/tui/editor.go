package tui

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// key is a character that was typed, or one of those below.
type key rune

const (
	keyNone key = -1 - iota // no key is complete yet
	keyEnter
	keyInterrupt // Ctrl-C
	keySuspend   // Ctrl-Z
	keyEnd       // of the input, or delete: Ctrl-D
	keyErase     // the character before the cursor
	keyDelete    // the one below it
	keyEraseWord
	keyEraseBefore
	keyEraseBehind
	keyLeft
	keyRight
	keyFirst
	keyLast
	keyUp
	keyDown
	keyOther // anything that does nothing
)

var controlKeys = map[byte]key{
	'\r': keyEnter, '\n': keyEnter, 3: keyInterrupt, 26: keySuspend, 4: keyEnd, 8: keyErase, 127: keyErase,
	23: keyEraseWord, 21: keyEraseBefore, 11: keyEraseBehind, 2: keyLeft, 6: keyRight, 1: keyFirst, 5: keyLast,
	16: keyUp, 14: keyDown, '\t': '\t',
}

// What terminals send for keys that are no characters, behind ESC [ or ESC O.
var sequenceKeys = map[string]key{
	"A": keyUp, "B": keyDown, "C": keyRight, "D": keyLeft, "H": keyFirst, "F": keyLast,
	"1~": keyFirst, "7~": keyFirst, "4~": keyLast, "8~": keyLast, "3~": keyDelete,
}

// maxSequence is more than any key sends: what is longer is none.
const maxSequence = 32

// nextKey cuts the first key off what was typed.
func nextKey(b []byte) (key, []byte) {
	if len(b) == 0 {
		return keyNone, b
	}
	if b[0] == 0x1b {
		return nextSequence(b)
	}
	if k, ok := controlKeys[b[0]]; ok {
		if b[0] == '\r' && len(b) > 1 && b[1] == '\n' {
			b = b[1:]
		}
		return k, b[1:]
	}
	if b[0] < ' ' {
		return keyOther, b[1:]
	}
	if !utf8.FullRune(b) {
		return keyNone, b
	}
	r, size := utf8.DecodeRune(b)
	if unicode.IsControl(r) {
		return keyOther, b[size:]
	}
	return key(r), b[size:]
}

// nextSequence is nextKey for what begins with ESC.
func nextSequence(b []byte) (key, []byte) {
	if len(b) < 2 {
		return keyNone, b
	}
	if b[1] != '[' && b[1] != 'O' {
		return keyOther, b[2:] // Alt and a key, or the key ESC
	}
	end := bytes.IndexFunc(b[2:min(len(b), maxSequence)], func(r rune) bool { return r >= '@' && r <= '~' })
	switch {
	case end < 0 && len(b) < maxSequence:
		return keyNone, b
	case end < 0:
		return keyOther, b[2:]
	}
	rest := b[2+end+1:]
	if k, ok := sequenceKeys[string(b[2:2+end+1])]; ok {
		return k, rest
	}
	return keyOther, rest
}

// editor is a line that is being typed. The zero value is an empty one.
type editor struct {
	text    []rune
	at      int      // the cursor stands before text[at]
	from    int      // text[from:] is shown, as far as it fits
	history []string // the newest is the last
	back    int      // text is history[len(history)-back], if that is not 0
	own     []rune   // what was typed before
}

// press does what a key does. text is the line when the key was Enter; end is
// io.EOF when it was Ctrl-D in an empty line.
func (e *editor) press(k key) (text string, end error) {
	switch k {
	case keyEnter:
		return string(e.text), nil
	case keyInterrupt:
		*e = editor{history: e.history}
	case keyEnd:
		if len(e.text) == 0 {
			return "", io.EOF
		}
		e.erase(e.at, e.at+1)
	case keyDelete:
		e.erase(e.at, e.at+1)
	case keyErase:
		e.erase(e.at-1, e.at)
	case keyEraseWord:
		from := e.at
		for from > 0 && e.text[from-1] == ' ' {
			from--
		}
		for from > 0 && e.text[from-1] != ' ' {
			from--
		}
		e.erase(from, e.at)
	case keyEraseBefore:
		e.erase(0, e.at)
	case keyEraseBehind:
		e.erase(e.at, len(e.text))
	case keyLeft:
		e.at = max(e.at-1, 0)
	case keyRight:
		e.at = min(e.at+1, len(e.text))
	case keyFirst:
		e.at = 0
	case keyLast:
		e.at = len(e.text)
	case keyUp:
		e.recall(e.back + 1)
	case keyDown:
		e.recall(e.back - 1)
	default:
		if k >= 0 {
			e.text = slices.Insert(e.text, e.at, rune(k))
			e.at++
		}
	}
	return "", nil
}

func (e *editor) erase(from, to int) {
	from, to = max(from, 0), min(to, len(e.text))
	if from < to {
		e.text = slices.Delete(e.text, from, to)
		e.at = from
	}
}

// recall shows an older line, or with 0 what was typed before.
func (e *editor) recall(back int) {
	if back < 0 || back > len(e.history) {
		return
	}
	if e.back == 0 {
		e.own = e.text
	}
	e.back, e.text = back, e.own
	if back > 0 {
		e.text = []rune(e.history[len(e.history)-back])
	}
	e.at = len(e.text)
}

// show returns the part of the line around the cursor that fits in so many
// columns, with the cursor moved back to where it is.
func (e *editor) show(columns int) string {
	e.from = min(e.from, e.at)
	for textWidth(e.text[e.from:e.at]) >= columns && e.from < e.at {
		e.from += max(1, (e.at-e.from)/2) // not for each key
	}
	to, used := e.at, textWidth(e.text[e.from:e.at])
	for to < len(e.text) && used+textWidth(e.text[to:to+1]) < columns {
		used += textWidth(e.text[to : to+1])
		to++
	}
	shown := strings.ReplaceAll(Printable(string(e.text[e.from:to])), "\t", " ")
	return shown + strings.Repeat("\b", textWidth(e.text[e.at:to]))
}

// Width returns how many columns a terminal needs for a text without control
// characters.
func Width(text string) int { return textWidth([]rune(text)) }

// textWidth counts characters one by one, as the cursor moves. Terminals do not
// agree on how wide several are that make one picture.
func textWidth(text []rune) (columns int) {
	for _, r := range text {
		switch kind := width.LookupRune(r).Kind(); {
		case unprintable(r):
			columns += len(Printable(string(r)))
		case joins(r):
		case kind == width.EastAsianWide || kind == width.EastAsianFullwidth:
			columns += 2
		default:
			columns++
		}
	}
	return columns
}

// joins reports whether a character becomes a part of the one before it, or is
// not seen at all.
func joins(r rune) bool {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me):
		return true
	case unicode.Is(unicode.Cf, r): // but for a soft hyphen, and marks around numbers
		return r != 0xad && !unicode.Is(unicode.Prepended_Concatenation_Mark, r)
	}
	return r >= 0x1160 && r <= 0x11ff || r >= 0xd7b0 && r <= 0xd7ff // vowels and ends of Korean syllables
}
