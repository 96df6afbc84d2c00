package module_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"mrci.dev/mrci/module"
	"mrci.dev/mrci/module/moduletest"
	"mrci.dev/mrci/wire"
)

func probing(run func(ctx context.Context, c *module.Call) error) *module.Command {
	return &module.Command{Name: "probe", Class: module.Exempt, Run: run}
}

func TestText(t *testing.T) {
	const most = 64 << 10
	tests := map[string]string{
		"empty":                   "",
		"short":                   "short",
		"exactly 64 KiB":          strings.Repeat("x", most),
		"one byte more":           strings.Repeat("x", most+1),
		"two bytes at the border": "x" + strings.Repeat("é", most),
		"three":                   strings.Repeat("€", most),
		"four":                    "xy" + strings.Repeat("\U0001f600", most/2),
		"not UTF-8":               strings.Repeat("\x80", 3*most+7),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			call := moduletest.Start(t, probing(func(ctx context.Context, c *module.Call) error {
				return c.Text(ctx, text)
			}), "")
			var got strings.Builder
			for frame := 0; frame == 0 || got.Len() < len(text); frame++ {
				typ, payload := call.Next()
				if typ != wire.Text || len(payload) > most || len(payload) == 0 && text != "" {
					t.Fatalf("frame %d is %s with %d bytes", frame, typ, len(payload))
				}
				if utf8.ValidString(text) && !utf8.Valid(payload) {
					t.Errorf("frame %d begins or ends within a character", frame)
				}
				if left := len(text) - got.Len(); left > most && len(payload) < most-3 {
					t.Errorf("frame %d has only %d bytes", frame, len(payload))
				}
				got.Write(payload)
			}
			if got.String() != text {
				t.Error("the frames make up another text")
			}
			call.End(wire.NoErrors)
		})
	}
}

func TestTextFails(t *testing.T) {
	call := moduletest.Start(t, probing(func(ctx context.Context, c *module.Call) error {
		ended, cancel := context.WithCancelCause(ctx)
		cancel(module.ErrKilled)
		return errors.Join(
			failsWith(c.Text(ended, strings.Repeat("x", 1<<20)), module.ErrKilled),
			failsWith(c.Line(ended, "x"), module.ErrKilled),
			failsWith(c.Err(ended, "x"), module.ErrKilled),
			failsWith(c.Async(ended, wire.AsyncLogout, nil), module.ErrKilled),
			failsWith(c.Checkpoint(ended), module.ErrKilled),
		)
	}), "")
	call.End(wire.NoErrors)
}

func failsWith(got, want error) error {
	if !errors.Is(got, want) {
		return fmt.Errorf("got error %v, want %v", got, want)
	}
	return nil
}

func TestFrames(t *testing.T) {
	first := wire.Frame{Type: wire.Bytes, Payload: []byte("first")}
	cmd := probing(func(ctx context.Context, c *module.Call) error {
		if c.Type != first.Type || string(c.Input) != "first" || c.ID != 300 || c.Name != "shown" {
			return fmt.Errorf("the call is %+v", c)
		}
		if rank := c.Session().Rank(); rank != 4 {
			return fmt.Errorf("rank %d", rank)
		}
		typ, payload, err := c.Receive(ctx)
		return errors.Join(err, c.Send(ctx, typ, payload), c.Line(ctx, "line"), c.Err(ctx, "err"),
			c.SendPayload(ctx, wire.SesID, &wire.SessionRef{}), c.Async(ctx, wire.AsyncLogout, nil), c.Checkpoint(ctx))
	})
	cmd.Input = module.AnyInput
	session := &module.Session{User: &module.User{Rank: 4}}
	call := moduletest.StartFrame(t, moduletest.Config{Command: cmd, ID: 300, Name: "shown", Session: session}, first)
	call.Send(wire.Prog, "\x05")
	call.Expect(wire.Prog, "\x05")
	call.Expect(wire.Text, "line\n")
	call.Expect(wire.Err, "err\n")
	call.ExpectPayload(wire.SesID, &wire.SessionRef{})
	call.ExpectAsync(wire.AsyncLogout, nil, nil)
	call.End(wire.NoErrors)
	if got := new(module.Session).Rank(); got != wire.NoRank {
		t.Errorf("Rank() without a login = %d", got)
	}
}

// unbound is a runtime that does not say whether a call may wait; bound does.
type (
	unbound struct{ module.Runtime }
	bound   struct {
		unbound
		may bool
	}
)

func (b bound) MayWait() bool { return b.may }

func TestMayWait(t *testing.T) {
	for _, tt := range []struct {
		runtime module.Runtime
		want    bool
	}{{unbound{}, true}, {bound{may: true}, true}, {bound{may: false}, false}} {
		if got := module.NewCall(tt.runtime, 300, "probe", wire.Frame{}, module.Args{}).MayWait(); got != tt.want {
			t.Errorf("%+v: got %v", tt.runtime, got)
		}
	}
}

// Frames of other types are ignored while a prompt is open.
func TestPrompt(t *testing.T) {
	call := moduletest.Start(t, probing(func(ctx context.Context, c *module.Call) error {
		name, err := c.Prompt(ctx, "Name: ")
		if err != nil {
			return err
		}
		secret, err := c.Secret(ctx, "Secret: ")
		if err != nil {
			return err
		}
		return c.Text(ctx, fmt.Sprintf("%q %q", name, secret))
	}), "")
	call.Expect(wire.PromptText, "Name: ")
	call.Send(wire.Bytes, "no answer")
	call.Send(wire.GenFile, "no answer")
	call.Send(wire.Text, " Ann \n")
	call.AnswerSecret("Secret: ", " never trimmed ")
	call.ExpectText(`" Ann \n" " never trimmed "`)
	call.End(wire.NoErrors)
}

func TestConfirm(t *testing.T) {
	cmd := probing(func(ctx context.Context, c *module.Call) error {
		yes, err := c.Confirm(ctx, "Sure? ")
		if err != nil {
			return err
		}
		return c.Text(ctx, fmt.Sprint(yes))
	})
	tests := []struct {
		answers []string
		want    string
	}{
		{[]string{"y"}, "true"},
		{[]string{"Y\n"}, "true"},
		{[]string{" yes\r\n"}, "true"},
		{[]string{"YeS"}, "true"},
		{[]string{"n"}, "false"},
		{[]string{"\tN "}, "false"},
		{[]string{"No"}, "false"},
		{[]string{"", "maybe", "ye", "yy", "nope", "0", "1", "j", "no"}, "false"},
	}
	for _, test := range tests {
		call := moduletest.Start(t, cmd, "")
		for _, answer := range test.answers {
			call.Answer("Sure? ", answer)
		}
		call.ExpectText(test.want)
		call.End(wire.NoErrors)
	}

	call := moduletest.Start(t, cmd, "")
	call.Expect(wire.PromptText, "Sure? ")
	call.Term()
	call.End(wire.Aborted)
}
