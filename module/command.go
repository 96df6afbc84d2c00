package module

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"mrci.dev/mrci/wire"
)

// Class says to whom a command is offered (commands 1.1). A command may be of
// several classes.
type Class uint8

// The classes.
const (
	Public Class = 1 << iota // sessions that are not logged in
	Exempt                   // everybody who is logged in, whatever the rank
	Ranked                   // logged in, guarded by the command's assigned rank
)

// Has reports whether all of want are in c.
func (c Class) Has(want Class) bool { return c&want == want }

// Input says what a call of a command begins with (commands 1.3).
type Input uint8

// The inputs.
const (
	TextInput    Input = iota // TEXT with arguments
	GenFileInput              // GEN_FILE with arguments
	AnyInput                  // a frame of any type, handed over as it is
	SessionInput              // SESSION_ID, 28 bytes
)

// Hints tell clients what to expect of a command before they run it. They
// promise, they do not guard.
type Hints struct {
	ReadOnly    bool // changes nothing
	Destructive bool // may remove what cannot be brought back
	Idempotent  bool // a second identical call changes nothing more
	Confirm     bool // ask the user before running it
}

// Command describes one command and holds the function that runs it. It is
// not changed after it has been handed to a host.
type Command struct {
	Name    string // 1 to 64 bytes, no white space (state 2.6)
	Class   Class
	GenFile wire.GenFileKind
	Input   Input
	Args    []Arg
	// OneOf means that the Args are alternatives: the call needs one of them.
	OneOf  bool
	Short  string   // one line
	Long   string   // what it does, in plain text of any length
	Output []string // what it sends besides ERR and IDLE, for IOText: "text", "file"
	Hints  Hints
	// Inline marks a short command that never blocks: it neither prompts nor
	// receives, waits for nothing, and may run on the session's own goroutine.
	// One that now and then has to wait returns ErrMustWait there.
	Inline bool
	Run    func(ctx context.Context, c *Call) error
}

// Validate reports the first fault of a description that no client could
// work with.
func (c *Command) Validate() error {
	switch {
	case !ValidName(c.Name):
		return fmt.Errorf("command %q: a name has 1 to 64 bytes without white space or control characters", c.Name)
	case c.Run == nil:
		return fmt.Errorf("command %s: no function to run", c.Name)
	case c.Class == 0:
		return fmt.Errorf("command %s: offered to nobody", c.Name)
	}
	seen := make(map[string]bool)
	for i, a := range c.Args {
		name := strings.ToLower(a.Name)
		if !ValidName(a.Name) || strings.HasPrefix(a.Name, "-") {
			return fmt.Errorf("command %s: argument %d: %q is not a name", c.Name, i+1, a.Name)
		}
		if seen[name] {
			return fmt.Errorf("command %s: argument %s stands twice", c.Name, a.Name)
		}
		seen[name] = true
		if a.Kind == Int && a.Min > a.maximum() {
			return fmt.Errorf("command %s: argument %s: no number is from %d to %d", c.Name, a.Name, a.Min, a.maximum())
		}
	}
	return nil
}

// ValidName reports whether name can be a command's name: 1 to 64 bytes of
// UTF-8, no white space, no control characters (state 2.6, modules 1.3).
func ValidName(name string) bool {
	return name != "" && len(name) <= wire.CommandNameSize && validText(name) &&
		!strings.ContainsFunc(name, unfitForName)
}

// IOText describes input and output in the grammar that clients build help and
// forms from (protocol 4), for example
// "[-ch_name (text) {-sub_id (int)}]/[text]".
func (c *Command) IOText() string {
	var b strings.Builder
	c.writeInput(&b)
	b.WriteByte('/')
	if len(c.Output) == 0 {
		b.WriteString("[]")
	}
	for i, out := range c.Output {
		if i > 0 {
			b.WriteString(" or ")
		}
		b.WriteString("[" + out + "]")
	}
	return b.String()
}

func (c *Command) writeInput(b *strings.Builder) {
	switch c.Input {
	case AnyInput:
		b.WriteString("[any]")
		return
	case SessionInput:
		b.WriteString("[session_id]")
		return
	}
	if c.OneOf && len(c.Args) > 0 {
		for i, a := range c.Args {
			if i > 0 {
				b.WriteString(" or ")
			}
			b.WriteString("[")
			a.writeUsage(b)
			b.WriteString("]")
		}
		return
	}
	b.WriteByte('[')
	for i, a := range c.Args {
		if i > 0 {
			b.WriteByte(' ')
		}
		if !a.Required {
			b.WriteByte('{')
		}
		a.writeUsage(b)
		if !a.Required {
			b.WriteByte('}')
		}
	}
	b.WriteByte(']')
}

// Failure is an error that the caller of a command may see: its text is sent
// as ERR, and its code ends the call.
type Failure struct {
	Code wire.ReturnCode
	Text string // one line, says what happened and what to do; empty: no ERR is sent
	Data []byte // the command's own bytes behind the code in IDLE; usually nil
}

// Error returns the text, or the name of the code when there is none.
func (f *Failure) Error() string {
	if f.Text == "" {
		return f.Code.String()
	}
	return f.Text
}

// Fail returns an error that ends the call with ERR, carrying the formatted
// text, and the code.
func Fail(code wire.ReturnCode, format string, args ...any) error {
	return &Failure{Code: code, Text: fmt.Sprintf(format, args...)}
}

// Invalid is Fail with INVALID_PARAMS, the code of bad arguments and of
// refusals (commands, introduction).
func Invalid(format string, args ...any) error {
	return Fail(wire.InvalidParams, format, args...)
}

// Sentence makes a sentence for people of the text of an error, as errors are
// written in Go: a capital at its beginning, one full stop at its end.
func Sentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	if size == 0 {
		return ""
	}
	return string(unicode.ToUpper(first)) + strings.TrimRight(text[size:], ".") + "."
}

// ErrAborted ends the call with ABORTED and no text: the user has answered a
// prompt with nothing, or has said no.
var ErrAborted error = &Failure{Code: wire.Aborted}

// ErrMustWait is what an inline command returns when it finds that it has to
// wait where it may not (Call.MayWait). The host then runs its function again
// from the beginning, with the same frame, on a goroutine where it may. Until
// it returns ErrMustWait the command has sent nothing, changed nothing and left
// its input as it was. Any other command that returns it fails.
var ErrMustWait = errors.New("the command has to wait")

// The causes with which the context of a call ends.
var (
	// ErrTerminated is the cause after TERM_CMD.
	ErrTerminated = fmt.Errorf("stopped by TERM_CMD")
	// ErrKilled is the cause after KILL_CMD, and when the host takes the
	// command away.
	ErrKilled = fmt.Errorf("stopped by KILL_CMD")
)
