package tui_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"mrci.dev/mrci/internal/tui"
	"mrci.dev/mrci/wire"
)

func TestInput(t *testing.T) {
	in := tui.NewInput(strings.NewReader("one\r\n\n last"))
	for _, want := range []string{"one", "", " last"} {
		if got, err := in.Line(t.Context()); got != want || err != nil {
			t.Errorf("Line = %q, %v; want %q", got, err, want)
		}
	}
	if _, err := in.Line(t.Context()); err != io.EOF {
		t.Errorf("Line behind the last one = %v, want io.EOF", err)
	}
	if in.Terminal() {
		t.Error("a string is no terminal")
	}
}

// A line that nobody waited for any more is the next one.
func TestInputGivenUp(t *testing.T) {
	r, w := io.Pipe()
	in := tui.NewInput(r)
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if _, err := in.Line(ctx); err != gone {
		t.Errorf("Line = %v, want the cause", err)
	}
	go func() {
		io.WriteString(w, "typed late\n")
		w.Close()
	}()
	if got, err := in.Hidden(t.Context()); got != "typed late" || err != nil {
		t.Errorf("Hidden = %q, %v", got, err)
	}
	if _, err := in.Line(t.Context()); err != io.EOF {
		t.Errorf("Line = %v, want io.EOF", err)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\n": "plain\ttext\n", "ü\x1b[31m": `ü\x1b[31m`, "a\rb\x00": `a\x0db\x00`, "\xff\uFFFD": `\xff` + "\uFFFD", "\u009b": `\x9b`, "a\u202eb\u2028": `a\u202eb\u2028`, "\u200fשלום": "\u200fשלום",
	} {
		if got := tui.Printable(in); got != want {
			t.Errorf("Printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestLineIsOneLine(t *testing.T) {
	f := wire.Frame{Type: wire.PeerInfo, Cmd: 256, Payload: wire.Append(nil, &wire.Peer{Name: "a\nb", App: "x\x1by"})}
	if got := tui.Line(f); strings.ContainsAny(got, "\n\x1b") || !strings.Contains(got, `user_name="a\nb"`) {
		t.Errorf("Line = %q", got)
	}
}

// A person types at a terminal that hands over each key.
func TestEdit(t *testing.T) {
	long := strings.Repeat("x", 10_000) + "END"
	for _, tt := range []struct{ name, keys, want string }{
		{"plain", "cast hi\r", "cast hi"},
		{"longer than a terminal's own line", long + "\r", long},
		{"characters", "grüße 世界\r", "grüße 世界"},
		{"erase", "abü\x7f\x08c\r", "ac"},
		{"erase nothing", "\x7f\x7fa\r", "a"},
		{"erase a word", "one two  \x17x\r", "one x"},
		{"erase before and behind", "abc\x02\x15d\r", "dc"},
		{"erase behind", "abc\x1b[D\x1b[D\x0bd\r", "ad"},
		{"move", "bd\x01a\x06c\x05e\x1bOHx\x1b[4~y\r", "xabcdey"},
		{"delete", "abc\x1b[H\x1b[3~\x04\r", "c"},
		{"end of a line that is not empty", "ab\x04\r", "ab"},
		{"interrupt", "abc\x03d\r", "d"},
		{"keys without a meaning", "a\x1b[15~\x1bx\x07\x1b[1;5Cb\u009b\r", "ab"},
		{"tab", "a\tb\r", "a\tb"},
		{"line feed", "a\n", "a"},
		{"no end", "abc", "abc"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(tt.keys), iotest.OneByteReader(strings.NewReader(tt.keys))} {
				in := tui.NewInput(r)
				in.Edit(func() {}, nil)
				if got, err := in.Command(t.Context()); got != tt.want || err != nil {
					t.Errorf("Command = %q, %v; want %q", got, err, tt.want)
				}
				if _, err := in.Command(t.Context()); err != io.EOF {
					t.Errorf("Command behind the last one = %v, want io.EOF", err)
				}
			}
		})
	}
}

// The keys up and down bring back commands, and nothing else that was typed.
func TestEditHistory(t *testing.T) {
	const up, down = "\x1b[A", "\x1b[B"
	in := tui.NewInput(strings.NewReader("one\rtwo\rtwo\r  \rsecret\ranswer\r" + up + up + up + "!\r" + "own" + up + down + down + "\r\x04"))
	in.Edit(func() {}, nil)
	for _, want := range []string{"one", "two", "two", "  "} {
		if got, err := in.Command(t.Context()); got != want || err != nil {
			t.Fatalf("Command = %q, %v; want %q", got, err, want)
		}
	}
	if got, err := in.Hidden(t.Context()); got != "secret" || err != nil {
		t.Fatalf("Hidden = %q, %v", got, err)
	}
	if got, err := in.Line(t.Context()); got != "answer" || err != nil {
		t.Fatalf("Line = %q, %v", got, err)
	}
	for _, want := range []string{"one!", "own"} {
		if got, err := in.Command(t.Context()); got != want || err != nil {
			t.Fatalf("Command = %q, %v; want %q", got, err, want)
		}
	}
	if _, err := in.Command(t.Context()); err != io.EOF {
		t.Errorf("Ctrl-D in an empty line: %v, want io.EOF", err)
	}
}

// What is shown of a line fits the terminal and cannot give it orders.
func TestEditShows(t *testing.T) {
	for _, tt := range []struct{ keys, want string }{
		{"abc", "abc"},
		{"abc\x1b[D", "abc\b"},
		{"a\tb\u202e", `a b\u202e`},
		{"世界\x02", "世界\b\b"},
		{strings.Repeat("0123456789", 3), "23456789"},
		{strings.Repeat("世", 30), "世世"},
		{"0123456789012\x01", "01234567890\b\b\b\b\b\b\b\b\b\b\b"},
	} {
		r, w := io.Pipe()
		in := tui.NewInput(r)
		typed := make(chan string, 1)
		in.Edit(func() { typed <- in.Typed(12) }, nil)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			in.Command(t.Context())
		}()
		io.WriteString(w, tt.keys)
		got := <-typed
		if text := strings.TrimRight(got, "\b"); !strings.HasSuffix(text, strings.TrimRight(tt.want, "\b")) || tui.Width(text) > 11 ||
			strings.Count(got, "\b") != strings.Count(tt.want, "\b") {
			t.Errorf("%q is shown as %q, want %q", tt.keys, got, tt.want)
		}
		w.Close()
		<-ended
		if got := in.Typed(12); got != "" {
			t.Errorf("%q is shown when nothing is typed any more", got)
		}
	}
}

// A text takes as many columns as a terminal gives it, which counts characters
// one by one.
func TestWidth(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       int
	}{
		{"nothing", "", 0},
		{"one column each", "grüße", 5},
		{"East Asia", "世界한ア", 8},
		{"half and full width", "\uff71\uff21", 3},
		{"a script of another plane", "\U00017006", 2},
		{"pictures", "🚀🙂⌚", 6},
		{"pictures that are text", "\U0001f321\u2600", 2},
		{"an accent", "e\u0301", 1},
		{"jamo that make one syllable", "\u1112\u1161\u11ab", 2},
		{"joiners", "\u200d\u200b\ufe0f", 0},
		{"formats that are seen", "a\u00adb\u0600", 4},
		{"what is shown in other words", "\u202e\x07", 10},
	} {
		if got := tui.Width(tt.text); got != tt.want {
			t.Errorf("%s: Width(%+q) = %d, want %d", tt.name, tt.text, got, tt.want)
		}
	}
}

// Of a question that is gone nothing stays, and what was hidden is never shown
// nor taken for another answer.
func TestEditGivenUp(t *testing.T) {
	r, w := io.Pipe()
	in := tui.NewInput(r)
	changed := make(chan string, 9)
	in.Edit(func() { changed <- in.Typed(80) }, nil)
	interrupted := make(chan struct{}, 9)
	in.OnInterrupt(func() { interrupted <- struct{}{} })
	type read func(context.Context) (string, error)
	giveUp := func(read read, keys, shown string) {
		t.Helper()
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		go func() {
			io.WriteString(w, keys)
			if got := <-changed; got != shown {
				t.Errorf("%q is shown as %q, want %q", keys, got, shown)
			}
			cancel(gone)
		}()
		if _, err := read(ctx); err != gone {
			t.Errorf("%q: %v, want the cause", keys, err)
		}
	}
	next := func(read read, keys, want string) {
		t.Helper()
		go io.WriteString(w, keys)
		if got, err := read(t.Context()); got != want || err != nil {
			t.Errorf("%q is %q, %v; want %q", keys, got, err, want)
		}
	}
	giveUp(in.Line, "half", "half")
	next(in.Command, "ls\r", "ls")
	giveUp(in.Hidden, "Sec", "")
	next(in.Command, "ret\rls\r", "ls")
	giveUp(in.Hidden, "Sec\x03", "")
	<-interrupted
	next(in.Command, "ls\r", "ls")
	next(in.Hidden, "secret\r", "secret")
}

func TestArguments(t *testing.T) {
	const io = "[-ch_name (text) {-level (int)} {-all}]/[]"
	for _, tt := range []struct{ name, schema, want string }{
		{"in the order of the io text", `{"properties":{"level":{"description":"1 owner, 2 admin"},"all":{"type":"boolean","description":"no pages"},"ch_name":{"description":"the channel"}}}`,
			"  -ch_name  the channel\n  -level    1 owner, 2 admin\n  -all      no pages"},
		{"orders for a terminal", `{"properties":{"a b":{"description":"x\u001b[2J\n* not\tyou"}}}`, "  -\"a b\"  x\\x1b[2J * not you"},
		{"nothing said", `{"properties":{"level":{"type":"integer"}}}`, ""},
		{"no schema", "", ""},
		{"no object", "[1]", ""},
	} {
		if got := tui.Arguments(wire.CommandInfo{IO: io, Schema: tt.schema}); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
