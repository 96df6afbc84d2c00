package mail

import "strings"

// keyword is a place for a value in a template or in a command line.
type keyword string

// The keywords of state 5.2 and 5.3, as the defaults spell them; any case is
// understood.
const (
	userName    keyword = "%user_name%"
	date        keyword = "%date%"
	otp         keyword = "%otp%"
	messageBody keyword = "%message_body%"
	subject     keyword = "%subject%"
	targetEmail keyword = "%target_email%"
)

// part is a piece of text, or a keyword: the other is empty.
type part struct {
	text    string
	keyword keyword
}

// cut divides a text at the keywords. Values come in later, part by part, so
// that nothing inside a value is ever taken for a keyword.
func cut(text string, keywords ...keyword) []part {
	var parts []part
	begin := 0
	for i := 0; i < len(text); {
		k := keywordAt(text[i:], keywords)
		if k == "" {
			i++
			continue
		}
		if begin < i {
			parts = append(parts, part{text: text[begin:i]})
		}
		parts = append(parts, part{keyword: k})
		i += len(k)
		begin = i
	}
	if begin < len(text) {
		parts = append(parts, part{text: text[begin:]})
	}
	return parts
}

// keywordAt returns the keyword that the text begins with, or "". They are
// ASCII, where letters of both cases have one length.
func keywordAt(text string, keywords []keyword) keyword {
	if text[0] != '%' {
		return ""
	}
	for _, k := range keywords {
		if len(text) >= len(k) && strings.EqualFold(text[:len(k)], string(k)) {
			return k
		}
	}
	return ""
}

// fill puts the parts together, with values in place of their keywords.
func fill(parts []part, values map[keyword]string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(p.text)
		b.WriteString(values[p.keyword])
	}
	return b.String()
}

// has reports whether one of the parts is the keyword.
func has(parts []part, k keyword) bool {
	for _, p := range parts {
		if p.keyword == k {
			return true
		}
	}
	return false
}

// hasAny reports whether one of the parts is a keyword.
func hasAny(parts []part) bool {
	for _, p := range parts {
		if p.keyword != "" {
			return true
		}
	}
	return false
}
