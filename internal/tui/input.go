package tui

import (
	"bufio"
	"context"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// Input reads lines, from a terminal or from anything else. Reads can be given
// up: a line that is typed for a question that is gone is the next line that
// somebody asks for, unless part of it may have been typed hidden; then it is
// dropped.
//
// A read from a terminal cannot be interrupted. Its goroutine then ends with
// the input, which for standard input is the end of the process.
type Input struct {
	r        *bufio.Reader
	fd       int // of the terminal
	terminal bool

	// owned by the caller
	pending chan line // of a read that was given up
	secret  bool      // that read began hidden: drop its line

	// guarded by mu
	mu          sync.Mutex
	saved       *term.State // while echo is off
	interrupted bool        // what was typed since is gone
}

type line struct {
	text string
	err  error
}

// NewInput returns an Input that reads r, and treats it as a terminal if it
// is one.
func NewInput(r io.Reader) *Input {
	in := &Input{r: bufio.NewReader(r)}
	if f, ok := r.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		in.fd, in.terminal = int(f.Fd()), true
	}
	return in
}

// IsTerminal reports whether w, or r, is a terminal.
func IsTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Terminal reports whether a person types the lines.
func (in *Input) Terminal() bool { return in.terminal }

// Line returns the next line without its end, or io.EOF behind the last one.
func (in *Input) Line(ctx context.Context) (string, error) {
	return in.read(ctx, func() line {
		text, err := in.r.ReadString('\n')
		if err == io.EOF && text != "" {
			err = nil
		}
		return line{strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r"), err}
	})
}

// Hidden is Line without showing what is typed.
func (in *Input) Hidden(ctx context.Context) (string, error) {
	if !in.terminal {
		return in.Line(ctx)
	}
	if in.pending != nil {
		// What is being typed already is visible; it cannot be the answer.
		in.secret = true
	}
	state, err := term.GetState(in.fd)
	if err != nil {
		return "", err
	}
	in.mu.Lock()
	in.saved, in.interrupted = state, false
	in.mu.Unlock()
	text, err := in.read(ctx, func() line {
		password, err := term.ReadPassword(in.fd)
		return line{string(password), err}
	})
	in.Restore()
	in.mu.Lock()
	in.secret = in.pending != nil && !in.interrupted
	in.mu.Unlock()
	return text, err
}

// Interrupted tells that the terminal has dropped what was typed so far, as it
// does with Ctrl-C. It may be called from any goroutine.
func (in *Input) Interrupted() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.interrupted = true
}

// Restore makes the terminal show what is typed again. A program that ends
// while a Hidden runs calls it last; at other times it does nothing.
func (in *Input) Restore() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.saved != nil {
		term.Restore(in.fd, in.saved) // it was read from the same terminal
		in.saved = nil
	}
}

// read waits for the read that is under way, or starts one.
func (in *Input) read(ctx context.Context, start func() line) (string, error) {
	if in.pending != nil && in.secret {
		select {
		case <-in.pending:
			in.pending, in.secret = nil, false
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
	if in.pending == nil {
		lines := make(chan line, 1)
		in.pending = lines
		go func() { lines <- start() }() // ends with the line, see Input
	}
	select {
	case got := <-in.pending:
		in.pending = nil
		return got.text, got.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
