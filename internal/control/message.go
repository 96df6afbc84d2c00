package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Bounds of the lines on the socket, with the line feed.
const (
	maxRequest = 64 << 10
	maxAnswer  = 16 << 20
	maxCommand = 64 // bytes of Request.Command
)

// Request asks the host for something.
type Request struct {
	// Command is one word of letters, digits, '-' and '_'.
	Command string   `json:"command"`
	Args    []string `json:"args,omitempty"`
}

// Answer is what the host says to a Request.
type Answer struct {
	// Status is the exit status that the client's program is to have, 0..255.
	Status int    `json:"status"`
	Text   string `json:"text,omitempty"`  // for standard output
	Error  string `json:"error,omitempty"` // for standard error: what happened, what to do
	// Data is the answer for programs.
	Data json.RawMessage `json:"data,omitempty"`
	// Hold keeps the connection open until the Server is closed, so that the
	// client sees when the host has ended.
	Hold bool `json:"hold,omitempty"`
}

// Fail is the Answer to a Request that was not done.
func Fail(text string) Answer { return Answer{Status: 1, Error: text} }

// decodeRequest takes a line without its end. Members that it does not know
// are those of a later version.
func decodeRequest(line []byte) (Request, error) {
	var r Request
	if !utf8.Valid(line) { // json would put replacement characters there
		return Request{}, errors.New("the request is not UTF-8")
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return Request{}, fmt.Errorf("the request is not understood: %v", err)
	}
	if err := r.check(); err != nil {
		return Request{}, err
	}
	return r, nil
}

func (r Request) check() error {
	if r.Command == "" || len(r.Command) > maxCommand {
		return fmt.Errorf("the request names a command of %d bytes, want 1 to %d", len(r.Command), maxCommand)
	}
	for _, b := range []byte(r.Command) {
		if !(b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '-' || b == '_') {
			return errors.New("the request names a command that is not a word of letters, digits, '-' and '_'")
		}
	}
	for i, arg := range r.Args {
		if !utf8.ValidString(arg) {
			return fmt.Errorf("argument %d is not UTF-8", i+1)
		}
	}
	return nil
}

func encodeRequest(r Request) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	line, err := encodeLine(r)
	if err == nil && len(line) > maxRequest {
		err = fmt.Errorf("the arguments are too long: %d bytes, at most %d", len(line), maxRequest)
	}
	return line, err
}

// decodeAnswer takes a line without its end.
func decodeAnswer(line []byte) (Answer, error) {
	var a Answer
	if err := json.Unmarshal(line, &a); err != nil {
		return Answer{}, fmt.Errorf("the host's answer is not understood: %v", err)
	}
	if a.Status < 0 || a.Status > 255 {
		return Answer{}, fmt.Errorf("the host's answer is not understood: status %d", a.Status)
	}
	return a, nil
}

func encodeAnswer(a Answer) ([]byte, error) {
	line, err := encodeLine(a)
	if err == nil && len(line) > maxAnswer {
		err = fmt.Errorf("the answer is too long: %d bytes, at most %d", len(line), maxAnswer)
	}
	return line, err
}

// encodeLine returns v as one line with its end: a line feed inside v is
// escaped, or dropped between the tokens of raw JSON.
func encodeLine(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
