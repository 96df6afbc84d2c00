package client

import (
	"strings"
	"unicode"
)

// Quote joins argument words into the text of a call, with the quotes that the
// host's rules need (commands 1.2): a host takes it apart into the same words.
// A word like -name, a dash and then letters, digits, dashes or underscores,
// is left bare, because it may be a switch; other words that begin with a dash
// are quoted, which makes them values. QuoteFor knows better. An empty word
// cannot be told to a host: it yields none.
func Quote(words ...string) string {
	return QuoteFor("", words...)
}

// QuoteFor is Quote for a command whose io text is known (protocol 4): a word
// with a dash that follows a switch which takes a value is that value, unless
// the command has a switch of that name. What a command takes as it is, whatever
// it is, such as cast, gets the words as they are, with a blank between them.
func QuoteFor(io string, words ...string) string {
	if strings.HasPrefix(io, "[any]") {
		return strings.Join(words, " ")
	}
	switches := parseSwitches(io)
	var b strings.Builder
	wantsValue := false
	for i, word := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		takesValue, isSwitch := switches[strings.ToLower(word)]
		bare := isSwitch || !wantsValue && looksLikeSwitch(word)
		if strings.HasPrefix(word, "-") && !bare {
			quoteWord(&b, word)
		} else if needsQuotes(word) {
			quoteWord(&b, word)
		} else {
			escapeQuotes(&b, word)
		}
		wantsValue = isSwitch && takesValue
	}
	return b.String()
}

// QuoteValue returns one word as a value, in quotes if there is any need.
func QuoteValue(word string) string {
	var b strings.Builder
	if strings.HasPrefix(word, "-") || needsQuotes(word) {
		quoteWord(&b, word)
	} else {
		escapeQuotes(&b, word)
	}
	return b.String()
}

// quoteWord writes a word in quotes. A backslash before the closing quote
// would make it a literal one, so those at the end stand behind it.
func quoteWord(b *strings.Builder, word string) {
	body := strings.TrimRight(word, `\`)
	b.WriteByte('"')
	escapeQuotes(b, body)
	b.WriteByte('"')
	b.WriteString(word[len(body):])
}

func escapeQuotes(b *strings.Builder, text string) {
	for i := range len(text) {
		if text[i] == '"' || text[i] == '\'' {
			b.WriteByte('\\')
		}
		b.WriteByte(text[i])
	}
}

func needsQuotes(word string) bool {
	return word == "" || strings.ContainsFunc(word, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Z, r)
	})
}

func looksLikeSwitch(word string) bool {
	name, dash := strings.CutPrefix(word, "-")
	if !dash || name == "" || !isLetter(rune(name[0])) {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return !isLetter(r) && (r < '0' || r > '9') && r != '_' && r != '-'
	})
}

func isLetter(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

// parseSwitches reads the switches of an io text, such as
// [-ch_name (text) {-sub_id (int)}]/[text], in lower case, and whether each
// takes a value. What stands in parentheses describes a value.
func parseSwitches(io string) map[string]bool {
	if i := strings.Index(io, "]/["); i >= 0 {
		io = io[:i]
	}
	if !strings.Contains(io, "-") {
		return nil
	}
	switches := make(map[string]bool)
	last := ""
	for io != "" {
		switch c := io[0]; {
		case c == '(':
			if last != "" {
				switches[last] = true
			}
			last = ""
			end := strings.IndexByte(io, ')')
			if end < 0 {
				return switches
			}
			io = io[end+1:]
		case strings.IndexByte(" \t\r\n[]{}", c) >= 0:
			io = io[1:]
		default:
			end := strings.IndexAny(io, " \t\r\n[]{}(")
			if end < 0 {
				end = len(io)
			}
			last = ""
			if c == '-' {
				last = strings.ToLower(io[:end])
				switches[last] = false
			}
			io = io[end:]
		}
	}
	return switches
}
