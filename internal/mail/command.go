package mail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
)

// maxOutput is how much of a command's output is kept; more is read and
// dropped, so that the command never waits for us.
const maxOutput = 8 << 10

// waitDelay is how long a command's pipes may stay open after its end or its
// kill: something that it started can hold them.
const waitDelay = 2 * time.Second

// The environment variables through which a shell gets the values.
var variables = map[keyword]string{
	messageBody: "MRCI_MESSAGE_BODY",
	subject:     "MRCI_SUBJECT",
	targetEmail: "MRCI_TARGET_EMAIL",
}

// Command sends each mail by running a program.
//
// The line is cut into words by the rules of commands 1.2 before any value is
// put in, so a value is never more than the argument, or the piece of one, in
// which its keyword stands. Without %message_body% the program reads the body
// from its standard input, where other accounts of the machine cannot see it.
//
// After sh -c (also bash, dash, zsh and others, and behind programs such as
// env) the script gets references to the environment in place of the keywords,
// quoted as their place in the script needs it. The values themselves are
// never shell text. Words behind the script are its positional parameters and
// get values as they are. What cannot be made safe is refused by NewCommand:
// a shell inside the script or one that would run the body, eval,
// here-documents, backticks, other shells and programs that hand their
// arguments to one. What a program does with an argument that it is given is
// for the administrator to know: sed and perl, too, can be made to run one.
type Command struct {
	program string
	args    [][]part
	inArgs  map[keyword]bool // what goes into arguments, or into the script of a shell
	shell   bool
	delay   time.Duration // for cmd.WaitDelay
}

// NewCommand takes the line of mail_client_cmd.
func NewCommand(line string) (*Command, error) {
	c, err := parseCommand(line)
	if err != nil {
		return nil, fmt.Errorf("mail_client_cmd: %w", err)
	}
	c.delay = waitDelay
	return c, nil
}

// Find looks for the program, where Send would. It may come and go.
func (c *Command) Find() error {
	if _, err := exec.LookPath(c.program); err != nil {
		if cause, ok := errors.AsType[*exec.Error](err); ok {
			err = cause.Err
		}
		return fmt.Errorf("mail_client_cmd: program %s: %w", c.program, err)
	}
	return nil
}

func parseCommand(line string) (*Command, error) {
	words, err := splitLine(line)
	if err != nil {
		return nil, err
	}
	if len(words) == 0 {
		return nil, errors.New("empty: want a program and its arguments")
	}
	c := &Command{program: words[0], inArgs: make(map[keyword]bool)}
	parts := make([][]part, len(words))
	for i, w := range words {
		parts[i] = cut(w, messageBody, subject, targetEmail)
		for _, p := range parts[i] {
			if p.keyword != "" {
				c.inArgs[p.keyword] = true
			}
		}
	}
	if hasAny(parts[0]) {
		return nil, errors.New("begins with a keyword: want the name of a program")
	}
	for _, k := range []keyword{subject, targetEmail} {
		if !c.inArgs[k] {
			return nil, fmt.Errorf("%s is missing: put it where the value belongs", k)
		}
	}
	script, err := findScript(words, parts, !c.inArgs[messageBody])
	if err != nil {
		return nil, err
	}
	for i := range parts {
		switch {
		case !hasAny(parts[i]):
		case i == script:
			c.shell = true
			if parts[i], err = references(parts[i]); err != nil {
				return nil, err
			}
		default:
			if err := checkWord(words[i-1], words[i], parts[i]); err != nil {
				return nil, err
			}
		}
	}
	c.args = parts[1:]
	return c, nil
}

// codeOptions announce that the next word is program text or is cut into words
// again.
var codeOptions = []string{"-c", "-e", "-r", "-S", "--command", "--eval", "--exec", "--execute", "--split-string"}

// checkWord refuses words in which a value would meet program text that only
// another program understands.
func checkWord(before, word string, parts []part) error {
	blank := false
	for _, p := range parts {
		if strings.ContainsAny(p.text, "'\"`$;|&(){}\\\n\r") {
			return fmt.Errorf("%q: a keyword stands beside quotes or signs of a shell; give it a word of its own, or use sh -c", word)
		}
		blank = blank || strings.ContainsFunc(p.text, unicode.IsSpace)
	}
	if blank && slices.Contains(codeOptions, before) {
		return fmt.Errorf("%q: a keyword stands in what looks like program text; give it a word of its own, or use sh -c", word)
	}
	return nil
}

// Send runs the program and waits for its end; when ctx ends before, it is
// killed together with what it has started (on Windows it alone). The error has the exit status and the output, with
// address, body and code taken out.
func (c *Command) Send(ctx context.Context, m Message) error {
	if err := m.check(); err != nil {
		return err
	}
	if err := checkForProgram(m.To); err != nil {
		return err
	}
	values := map[keyword]string{subject: m.Subject, targetEmail: m.To}
	if c.inArgs[messageBody] {
		values[messageBody] = string(m.Body)
	}
	for _, k := range slices.Sorted(maps.Keys(c.inArgs)) {
		// Most programs take the first for an option, and some the second for
		// the name of a file to read.
		if v := values[k]; v[0] == '-' || v[0] == '@' {
			return &FieldError{strings.Trim(string(k), "%"), "begins with a dash or an @, which the mail command could take for an option"}
		}
	}

	args := make([]string, len(c.args))
	for i, parts := range c.args {
		args[i] = fill(parts, values)
	}
	cmd := exec.CommandContext(ctx, c.program, args...)
	name := filepath.Base(c.program)
	if ext := strings.ToLower(filepath.Ext(cmd.Path)); ext == ".bat" || ext == ".cmd" {
		return fmt.Errorf("mail command %s: batch files read their arguments as commands: use another program", name)
	}
	cmd.WaitDelay = c.delay
	if c.shell {
		cmd.Env = os.Environ()
		for _, k := range []keyword{messageBody, subject, targetEmail} {
			// The body is long, and nobody's business but the script's.
			if c.inArgs[k] {
				cmd.Env = append(cmd.Env, variables[k]+"="+values[k])
			}
		}
	}
	if !c.inArgs[messageBody] {
		cmd.Stdin = bytes.NewReader(m.Body)
	}
	out := new(capture)
	cmd.Stdout, cmd.Stderr = out, out
	contain(cmd)

	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success():
		return nil // it left something behind that goes on with the mail
	}
	output := ""
	if len(out.kept) > 0 {
		output = fmt.Sprintf(", output %q", m.scrub(string(out.kept), out.more))
	}
	if ctx.Err() != nil {
		return fmt.Errorf("mail command %s: killed: %w%s", name, context.Cause(ctx), output)
	}
	return fmt.Errorf("mail command %s: %s%s", name, m.scrub(err.Error(), false), output)
}

// checkForProgram is stricter than checkAddress: some mail programs take a
// recipient with these signs for a pipe, a file, a folder or a route through
// another host, and mutt runs backticks in its own commands.
func checkForProgram(addr string) error {
	first := addr[0]
	letter := first >= 0x80 || first == '_' || first|0x20 >= 'a' && first|0x20 <= 'z' || first >= '0' && first <= '9'
	if !letter || strings.ContainsAny(addr, "|/!%`$") {
		return &FieldError{"target", "has a sign that mail programs give a meaning to"}
	}
	return nil
}

// capture keeps the beginning of what is written.
type capture struct {
	kept []byte
	more bool // something was dropped
}

func (c *capture) Write(p []byte) (int, error) {
	n := min(len(p), maxOutput-len(c.kept))
	c.kept = append(c.kept, p[:n]...)
	c.more = c.more || n < len(p)
	return len(p), nil
}
