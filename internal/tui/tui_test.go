package tui_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

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
