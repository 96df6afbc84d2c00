package modeltest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"mrci.dev/mrci/wire"
)

// lane is the session that causes a frame; 0: the host. Frames of one lane
// keep their order (DESIGN D5, commands 7, cast), frames of two lanes have
// none: "frames that tell other clients may follow a moment later" (commands
// 1.3), and presence is every session's own.
type lane int

// want is a frame that a session has to get.
type want struct {
	lane    lane
	typ     wire.TypeID
	cmd     wire.CmdID
	branch  wire.BranchID
	payload []byte
	// words is a text for people, whose wording is the host's; payload is nil.
	words bool
	// check looks at a payload that can be written in several ways: it returns
	// what is wrong with it.
	check func(payload []byte) string
	// either is shared by two wants of which one at most comes true; nil: the
	// frame has to come.
	either *either
}

// either tells whether one of two wants has come true.
type either struct{ came bool }

// fits reports whether f is the frame, and if not what is wrong with its text.
func (w *want) fits(f wire.Frame) (bool, string) {
	if f.Type != w.typ || f.Cmd != w.cmd || f.Branch != w.branch {
		return false, ""
	}
	switch {
	case w.check != nil:
		wrong := w.check(f.Payload)
		return wrong == "", wrong
	case w.words:
		// TEXT ends with a line feed (commands 1.3).
		if f.Type == wire.Text && !bytes.HasSuffix(f.Payload, []byte("\n")) {
			return false, "a text without a line feed at its end"
		}
		return len(f.Payload) > 0, "an empty text"
	}
	return bytes.Equal(f.Payload, w.payload), ""
}

// inbox is what a session has to get and has not got yet.
type inbox struct {
	wants []want
}

func (b *inbox) expect(w want) { b.wants = append(b.wants, w) }

// waits reports whether a frame has to come.
func (b *inbox) waits() bool {
	return slices.ContainsFunc(b.wants, func(w want) bool { return w.either == nil })
}

// close forgets what could have come and has not.
func (b *inbox) close() {
	if !b.waits() {
		b.wants = nil
	}
}

// take takes a frame that has come off the list. An error says that the frame
// is not due: it is none of those that come next in their lanes.
func (b *inbox) take(f wire.Frame) error {
	var (
		passed [16]lane
		behind = passed[:0] // lanes whose next frame is another one
		why    string
	)
	for i := range b.wants {
		w := &b.wants[i]
		if slices.Contains(behind, w.lane) {
			continue
		}
		ok, wrong := w.fits(f)
		if w.either != nil && (!ok || w.either.came) {
			continue // it stands in nobody's way
		}
		if ok {
			if w.either != nil {
				w.either.came = true
			}
			if i == 0 {
				b.wants = b.wants[1:]
				if len(b.wants) == 0 {
					b.wants = nil
				}
			} else {
				b.wants = slices.Delete(b.wants, i, i+1)
			}
			return nil
		}
		if wrong != "" {
			why = " (" + wrong + ")"
		}
		behind = append(behind, w.lane)
	}
	return fmt.Errorf("got    %s%s\nwanted %s", describe(f), why, b)
}

// String lists what is due.
func (b *inbox) String() string {
	if len(b.wants) == 0 {
		return "nothing"
	}
	lines := make([]string, len(b.wants))
	for i, w := range b.wants {
		lines[i] = w.String()
	}
	return strings.Join(lines, "\n       ")
}

func (w *want) String() string {
	what := describe(wire.Frame{Type: w.typ, Cmd: w.cmd, Branch: w.branch, Payload: w.payload})
	switch {
	case w.check != nil:
		what = fmt.Sprintf("%s under %s, checked", w.typ, w.cmd)
	case w.words:
		what = fmt.Sprintf("%s under %s, some words", w.typ, w.cmd)
	}
	if w.either != nil {
		what += ", or another session gets the like"
	}
	return fmt.Sprintf("%s, caused by %d", what, w.lane)
}

// describe decodes a frame for a person.
func describe(f wire.Frame) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s under %s", f.Type, f.Cmd)
	if f.Branch != 0 {
		fmt.Fprintf(&b, " branch %d", f.Branch)
	}
	if f.Type == wire.Idle {
		if code, _, err := wire.ParseIdle(f.Payload); err == nil {
			fmt.Fprintf(&b, " %d", code)
			return b.String()
		}
	}
	if p := wire.NewClientPayload(f.Cmd, f.Type); p != nil && wire.Parse(f.Payload, p) == nil {
		for _, field := range wire.Fields(p) {
			fmt.Fprintf(&b, " %s=%s", field.Name, short(fmt.Sprint(field.Value)))
		}
		return b.String()
	}
	fmt.Fprintf(&b, " %q", f.Payload[:min(len(f.Payload), 200)])
	if len(f.Payload) > 200 {
		fmt.Fprintf(&b, "... (%d bytes)", len(f.Payload))
	}
	return b.String()
}

// short leaves enough of an id to tell it from others.
func short(s string) string {
	if len(s) >= 2*wire.SessionIDSize && strings.Trim(s, "0123456789abcdef") == "" {
		return s[:12]
	}
	return s
}
