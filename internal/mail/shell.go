package mail

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// splitLine cuts a command line into words (commands 1.2): white space outside
// quotes separates, '...' and "..." group and may start inside a word, \' and
// \" are literal quotes anywhere, a backslash before anything else is itself,
// and an empty pair of quotes yields no word.
func splitLine(line string) ([]string, error) {
	if !utf8.ValidString(line) || strings.ContainsRune(line, 0) {
		return nil, errors.New("not UTF-8 text without zero bytes")
	}
	var (
		words []string
		b     strings.Builder
		open  rune // the quote that is open, or 0
	)
	flush := func() {
		if b.Len() > 0 {
			words = append(words, b.String())
		}
		b.Reset()
	}
	runes := []rune(line)
	for i := 0; i < len(runes); i++ {
		r := runes[i]
		switch {
		case r == '\\' && i+1 < len(runes) && (runes[i+1] == '\'' || runes[i+1] == '"'):
			i++
			b.WriteRune(runes[i])
		case open != 0 && r == open:
			open = 0
		case open != 0:
			b.WriteRune(r)
		case r == '\'' || r == '"':
			open = r
		case unicode.IsSpace(r):
			flush()
		default:
			b.WriteRune(r)
		}
	}
	if open != 0 {
		return nil, fmt.Errorf("a quote (%c) is not closed", open)
	}
	flush()
	return words, nil
}

var (
	// shells understand the references that are put into their scripts.
	shells = []string{"sh", "bash", "dash", "ash", "zsh", "ksh", "ksh93", "mksh", "lksh", "oksh", "pdksh", "yash", "posh", "rbash", "rksh", "rzsh"}
	// otherShells have rules of their own.
	otherShells = []string{"cmd", "command.com", "powershell", "pwsh", "fish", "csh", "tcsh", "nu", "xonsh", "elvish"}
	// relays hand their arguments to a shell that nobody sees on the line.
	relays = []string{"ssh", "rsh", "su", "runuser", "sg", "script", "parallel", "watch", "eval"}
)

// program returns what a word is called as a program.
func program(word string) string {
	word = word[strings.LastIndexAny(word, `/\`)+1:]
	return strings.TrimSuffix(strings.ToLower(word), ".exe")
}

// findScript returns the index of the word that a shell will read as its
// script, or -1, and an error if a shell would read a value in a way that
// cannot be made safe. Shells are looked for in all words: programs such as env
// and nice start what their arguments name. bodyOnInput says that the body goes
// to the standard input.
func findScript(words []string, parts [][]part, bodyOnInput bool) (int, error) {
	values := false // what follows a value is no other program any more
	for i, w := range words {
		values = values || hasAny(parts[i])
		name := program(w)
		switch {
		case slices.Contains(shells, name):
			script, input := scriptOf(words, i)
			if input && bodyOnInput {
				return -1, fmt.Errorf("%s would run the body as its script: use sh -c", name)
			}
			if script >= 0 {
				return script, nil
			}
		case values:
		case (name == "powershell" || name == "pwsh") && runsFile(words[i+1:]):
			// A script file gets its arguments as they are.
		case slices.Contains(otherShells, name):
			return -1, fmt.Errorf("%s reads values as program text: use sh -c, another program, or smtp_host", name)
		case slices.Contains(relays, name):
			return -1, fmt.Errorf("%s hands its arguments to a shell: call a script that does so instead", name)
		}
	}
	return -1, nil
}

// scriptOf returns the index of the script of the shell at i: the first
// operand, if there was an option c. Without one it is -1; input then tells
// whether the shell reads its script from the standard input instead of from
// a file.
func scriptOf(words []string, i int) (script int, input bool) {
	option := false
	for i++; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "--rcfile" || w == "--init-file":
			i++
		case w == "--" || w == "-":
			i++
			return operand(i, len(words), option, input)
		case strings.HasPrefix(w, "--"):
		case w[0] == '-' || w[0] == '+':
			option = option || w[0] == '-' && strings.Contains(w, "c")
			input = input || w[0] == '-' && strings.Contains(w, "s")
			if last := w[len(w)-1]; last == 'o' || last == 'O' {
				i++ // the name of a shell option
			}
		default:
			return operand(i, len(words), option, input)
		}
	}
	return operand(i, len(words), option, input)
}

// operand tells what the word at i is to a shell with these options.
func operand(i, n int, option, input bool) (int, bool) {
	switch {
	case option && i < n:
		return i, false
	case option:
		return -1, false
	}
	return -1, input || i >= n
}

// runsFile reports whether these arguments make PowerShell run a script file.
// Anything else before -File could be a command.
func runsFile(words []string) bool {
	for len(words) > 0 {
		switch strings.ToLower(words[0]) {
		case "-file":
			return true
		case "-noprofile", "-nologo", "-noninteractive":
			words = words[1:]
		case "-executionpolicy":
			words = words[min(2, len(words)):]
		default:
			return false
		}
	}
	return false
}

// references returns a shell script with a reference to the environment in
// place of each keyword, so that the shell inserts the value after it has read
// the script. An unset or empty variable, as behind a sudo that clears the
// environment, ends the script.
func references(script []part) ([]part, error) {
	if err := checkScript(script); err != nil {
		return nil, err
	}
	var (
		b strings.Builder
		q quoting
	)
	for _, p := range script {
		if p.keyword == "" {
			q.read(p.text)
			b.WriteString(p.text)
			continue
		}
		ref := "${" + variables[p.keyword] + ":?}"
		if q.escaped || q.dollar {
			return nil, fmt.Errorf(`in the script, \ or $ stands right before %s`, p.keyword)
		}
		switch q.state() {
		case inDouble:
			b.WriteString(ref)
		case inSingle:
			b.WriteString(`'"` + ref + `"'`)
		case inBackticks:
			return nil, fmt.Errorf("in the script, %s stands between backticks: use $(...)", p.keyword)
		default:
			b.WriteString(`"` + ref + `"`)
		}
		q.before = '"' // a # behind it begins no comment
	}
	if q.state() != plain || len(q.open) > 0 || q.escaped {
		return nil, errors.New("in the script, a quote or parenthesis is not closed")
	}
	return []part{{text: b.String()}}, nil
}

// checkScript refuses what would make a shell read values as text of a script
// although they are references, or what quoting does not follow.
func checkScript(script []part) error {
	for _, p := range script {
		switch {
		case strings.Contains(p.text, "<<"):
			return errors.New("the script has a here-document or here-string: use printf, or leave out %message_body% and read standard input")
		case strings.Contains(p.text, "$'"):
			return errors.New(`the script has a $'...' quote: use "..." or '...'`)
		case strings.Contains(p.text, "(("), strings.Contains(p.text, "$["):
			return errors.New("the script has arithmetic, which would read a value as an expression")
		}
		for w := range strings.FieldsFuncSeq(p.text, func(r rune) bool {
			return !strings.ContainsRune(`./\_-`, r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
		}) {
			name := program(w)
			if name == "case" || name == "esac" {
				return errors.New("the script has a case: put it into a file")
			}
			if slices.Contains(shells, name) || slices.Contains(otherShells, name) || slices.Contains(relays, name) {
				return fmt.Errorf("the script has %s, which would read values as a script again: put it into a file", name)
			}
		}
	}
	return nil
}

// state is how a shell reads the next character.
type state byte

const (
	plain       state = iota
	inParens          // ( or $(: plain until the )
	inDouble          // "
	inSingle          // '
	inBackticks       // `
	inComment         // # until the end of the line
)

// quoting follows the quotes of a shell script.
type quoting struct {
	open    []state // innermost last
	escaped bool    // the last character was a backslash that counts
	dollar  bool    // the last character was a dollar sign
	before  rune    // the last character
}

func (q *quoting) state() state {
	if len(q.open) == 0 {
		return plain
	}
	return q.open[len(q.open)-1]
}

func (q *quoting) push(s state) { q.open = append(q.open, s) }
func (q *quoting) pop()         { q.open = q.open[:len(q.open)-1] }

func (q *quoting) read(text string) {
	for _, r := range text {
		dollar := q.dollar
		q.dollar = false
		if q.escaped {
			q.escaped = false
		} else {
			q.step(r, dollar)
		}
		q.before = r
	}
}

func (q *quoting) step(r rune, dollar bool) {
	switch s := q.state(); s {
	case inSingle:
		if r == '\'' {
			q.pop()
		}
	case inComment:
		if r == '\n' {
			q.pop()
		}
	case inDouble, inBackticks:
		switch {
		case r == '\\':
			q.escaped = true
		case s == inDouble && r == '"', s == inBackticks && r == '`':
			q.pop()
		case r == '`':
			q.push(inBackticks)
		case r == '$':
			q.dollar = true
		case r == '(' && dollar:
			q.push(inParens)
		}
	default:
		switch {
		case r == '\\':
			q.escaped = true
		case r == '\'':
			q.push(inSingle)
		case r == '"':
			q.push(inDouble)
		case r == '`':
			q.push(inBackticks)
		case r == '$':
			q.dollar = true
		case r == '(':
			q.push(inParens)
		case r == ')' && s == inParens:
			q.pop()
		case r == '#' && (q.before == 0 || strings.ContainsRune(" \t\n;|&()", q.before)):
			q.push(inComment)
		}
	}
}
