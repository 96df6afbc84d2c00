package tui

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// Input reads lines, from a terminal or from anything else. Reads can be given
// up: what has been typed until then is gone, and if that was hidden, so is the
// rest of its line.
//
// A read from a terminal cannot be interrupted. Its goroutine then ends with
// the input, which for standard input is the end of the process.
type Input struct {
	// fixed after NewInput, OnInterrupt and Edit
	r           io.Reader
	fd          int // of the terminal
	terminal    bool
	interrupted func() // Ctrl-C
	changed     func() // what has been typed looks different now
	suspend     func() // Ctrl-Z; may be nil

	// owned by the caller
	unread  []byte     // has been read and not been taken
	pending chan chunk // of a read that is under way, or that was given up
	drop    bool       // what comes is the rest of a line that began hidden

	// guarded by mu
	mu      sync.Mutex
	saved   *term.State // while the terminal hands over each key
	line    editor
	reading bool // keys are read
	hidden  bool // and not shown
	history []string
}

// chunk is what one read has brought.
type chunk struct {
	data []byte
	err  error
}

// maxHistory is how many commands the arrow keys bring back.
const maxHistory = 100

// NewInput returns an Input that reads r, and treats it as a terminal if it
// is one.
func NewInput(r io.Reader) *Input {
	in := &Input{r: r}
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

// Columns returns how wide the terminal is that w is, 80 if it does not tell.
func Columns(w any) int {
	if f, ok := w.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			return columns
		}
	}
	return 80
}

// Terminal reports whether a person types the lines.
func (in *Input) Terminal() bool { return in.terminal }

// OnInterrupt says what Ctrl-C does while the terminal hands over each key, and
// so makes no signal of it. It drops what has been typed, and f is called on
// the goroutine that reads. It is called before the first read.
func (in *Input) OnInterrupt(f func()) { in.interrupted = f }

// Edit makes the input hand over each key, so that a line can be of any length,
// can be edited, and can be shown again (Typed) below what is shown meanwhile.
// The terminal then shows nothing that is typed, nor does it begin a new line:
// changed is called on the goroutine that reads, whenever what Typed returns
// may be another. suspend is called for Ctrl-Z, with the terminal restored;
// Resume goes on. It is called before the first read or between two.
func (in *Input) Edit(changed, suspend func()) { in.changed, in.suspend = changed, suspend }

// Line returns the next line without its end, or io.EOF behind the last one.
func (in *Input) Line(ctx context.Context) (string, error) {
	if in.changed != nil {
		return in.typed(ctx, false, false)
	}
	return in.plain(ctx)
}

// Command is Line for what a person may want to type again.
func (in *Input) Command(ctx context.Context) (string, error) {
	if in.changed != nil {
		return in.typed(ctx, false, true)
	}
	return in.plain(ctx)
}

// Hidden is Line without showing what is typed.
func (in *Input) Hidden(ctx context.Context) (string, error) {
	if in.terminal || in.changed != nil {
		return in.typed(ctx, true, false)
	}
	return in.plain(ctx)
}

// Typed returns how the line that is being typed is shown behind a prompt, in
// so many columns that the cursor always fits; it moves the cursor to where it
// belongs. There is nothing to show of what is hidden. It may be called from
// any goroutine.
func (in *Input) Typed(columns int) string {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.reading || in.hidden {
		return ""
	}
	return in.line.show(columns)
}

// Restore makes the terminal show what is typed again. A program that ends
// while something is read calls it last; at other times it does nothing. It may
// be called from any goroutine, as Resume may.
func (in *Input) Restore() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.saved != nil {
		term.Restore(in.fd, in.saved) // it was read from the same terminal
		in.saved = nil
	}
}

// Resume goes on reading behind Restore, if something is being read.
func (in *Input) Resume() {
	in.mu.Lock()
	reading := in.reading
	if reading {
		_ = in.rawLocked() // it worked before
	}
	in.mu.Unlock()
	if reading && in.changed != nil {
		in.changed()
	}
}

func (in *Input) rawLocked() (err error) {
	if in.terminal && in.saved == nil {
		in.saved, err = term.MakeRaw(in.fd)
	}
	return err
}

// plain reads a line as the terminal, or whatever it is, has made it.
func (in *Input) plain(ctx context.Context) (string, error) {
	for {
		if text, rest, ok := bytes.Cut(in.unread, []byte("\n")); ok {
			in.unread = rest
			if in.drop {
				in.drop = false
				continue
			}
			return strings.TrimSuffix(string(text), "\r"), nil
		}
		err := in.fill(ctx)
		if err == io.EOF && len(in.unread) > 0 && !in.drop {
			text := string(in.unread)
			in.unread = nil
			return strings.TrimSuffix(text, "\r"), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// typed reads keys up to the end of a line.
func (in *Input) typed(ctx context.Context, hidden, command bool) (string, error) {
	in.mu.Lock()
	err := in.rawLocked()
	in.line, in.reading, in.hidden = editor{}, true, hidden
	if command {
		in.line.history = in.history
	}
	in.mu.Unlock()
	text := ""
	if err == nil {
		text, err = in.keys(ctx)
	}
	in.Restore()
	in.mu.Lock()
	defer in.mu.Unlock()
	if err != nil && err != io.EOF && hidden && len(in.line.text) > 0 {
		in.drop = true
	}
	in.reading = false
	in.line = editor{}
	if n := len(in.history); err == nil && command && strings.TrimSpace(text) != "" && (n == 0 || in.history[n-1] != text) {
		in.history = append(in.history[max(0, n+1-maxHistory):n:n], text)
	}
	return text, err
}

// keys hands keys to the line until that has ended.
func (in *Input) keys(ctx context.Context) (string, error) {
	for {
		changed := false
		for {
			k, rest := nextKey(in.unread)
			if k == keyNone {
				break
			}
			in.unread = rest
			if in.drop {
				in.drop = k != keyEnter && k != keyInterrupt
				continue
			}
			in.mu.Lock()
			text, end := in.line.press(k)
			in.mu.Unlock()
			switch {
			case end != nil:
				return "", end
			case k == keyEnter:
				return text, nil
			case k == keyInterrupt && in.interrupted != nil:
				in.interrupted()
			case k == keySuspend && in.suspend != nil:
				in.Restore()
				in.suspend()
			}
			changed = true
		}
		if changed && in.changed != nil {
			in.changed()
		}
		if err := in.fill(ctx); err == io.EOF {
			in.mu.Lock()
			text := string(in.line.text)
			in.mu.Unlock()
			if text != "" {
				err = nil
			}
			return text, err
		} else if err != nil {
			return "", err
		}
	}
}

// fill waits for the read that is under way, or for a new one.
func (in *Input) fill(ctx context.Context) error {
	if in.pending == nil {
		chunks := make(chan chunk, 1)
		in.pending = chunks
		go func() { // ends with the read, see Input
			data := make([]byte, 4096)
			n, err := in.r.Read(data)
			chunks <- chunk{data[:n], err}
		}()
	}
	select {
	case got := <-in.pending:
		in.pending = nil
		in.unread = append(in.unread, got.data...)
		if len(got.data) > 0 {
			return nil // an error comes again
		}
		return got.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
