package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// failing is a log that may take no lines.
type failing struct {
	bytes.Buffer
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return f.Buffer.Write(p)
}

// TestLostLinesAreTold: the line after them says how many there were.
func TestLostLinesAreTold(t *testing.T) {
	w := &failing{}
	log := slog.New(&switchingHandler{forms: newLogForms(w)})
	log.Info("one")
	w.err = errors.New("no space")
	log.Info("two")
	log.With("session", 1).Info("three")
	w.err = nil
	log.Info("four")
	log.Info("five")
	lines := strings.Split(strings.TrimSpace(w.String()), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], "msg=one") || !strings.HasSuffix(lines[1], "msg=four lost=2") || !strings.HasSuffix(lines[2], "msg=five") {
		t.Errorf("log:\n%s", w)
	}
}
