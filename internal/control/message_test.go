package control_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/internal/control"
)

func TestDecodeRequest(t *testing.T) {
	tests := map[string]struct {
		line string
		want control.Request
		err  string // part of the error
	}{
		"command alone":      {line: `{"command":"stop"}`, want: control.Request{Command: "stop"}},
		"arguments":          {line: `{"command":"add-admin","args":["Zoë","a\nb",""]}`, want: control.Request{Command: "add-admin", Args: []string{"Zoë", "a\nb", ""}}},
		"of a later version": {line: `{"command":"stop","urgency":{"of":[1,2]}}`, want: control.Request{Command: "stop"}},
		"empty":              {line: ``, err: "not understood"},
		"null":               {line: `null`, err: "0 bytes"},
		"a list":             {line: `["stop"]`, err: "not understood"},
		"two values":         {line: `{"command":"stop"}{}`, err: "not understood"},
		"arguments of numbers": {line: `{"command":"stop","args":[1]}`,
			err: "not understood"},
		"no command":   {line: `{}`, err: "0 bytes"},
		"long command": {line: `{"command":"` + strings.Repeat("x", 65) + `"}`, err: "65 bytes"},
		"no word":      {line: `{"command":"stop\u001b[2J"}`, err: "not a word"},
		"not UTF-8":    {line: "{\"command\":\"stop\",\"args\":[\"\xff\"]}", err: "not UTF-8"},
		"deep":         {line: `{"command":"stop","x":` + strings.Repeat("[", 60000), err: "not understood"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := control.DecodeRequest([]byte(test.line))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %+v, %v; want an error with %q", got, err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// FuzzLine has both decoders: the first byte chooses. What a decoder takes
// comes back from the encoder as one line, and means the same.
func FuzzLine(f *testing.F) {
	for _, seed := range []string{
		`{"command":"stop"}`, `{"command":"add-admin","args":["Zoë","a\nb"]}`, `null`, `{"COMMAND":"x"}`, `{"command":`,
	} {
		f.Add([]byte("r" + seed))
	}
	for _, seed := range []string{
		`{"status":0,"text":"a\nb"}`, `{"status":1,"error":"no"}`, "{\"status\":0,\"data\":{ \"a\":\n[1,2]},\"hold\":true}", `{"status":256}`, `{"data":null}`,
	} {
		f.Add([]byte("a" + seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 {
			return
		}
		if in[0]%2 == 0 {
			checkLine(t, in[1:], control.DecodeRequest, control.EncodeRequest)
		} else {
			checkLine(t, in[1:], control.DecodeAnswer, control.EncodeAnswer)
		}
	})
}

func checkLine[T any](t *testing.T, line []byte, decode func([]byte) (T, error), encode func(T) ([]byte, error)) {
	v, err := decode(line)
	if err != nil {
		return
	}
	out, err := encode(v)
	if err != nil {
		if len(line) < control.MaxRequest/12 { // escapes make a line longer
			t.Fatalf("decoded %q, but not encoded: %v", line, err)
		}
		return
	}
	if n := bytes.IndexByte(out, '\n'); n != len(out)-1 {
		t.Fatalf("encoded as %q, which is not one line", out)
	}
	again, err := decode(out[:len(out)-1])
	if err != nil {
		t.Fatalf("encoded as %q, which is not decoded: %v", out, err)
	}
	a, errA := json.Marshal(v)
	b, errB := json.Marshal(again)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Fatalf("%s (%v) became %s (%v)", a, errA, b, errB)
	}
}
