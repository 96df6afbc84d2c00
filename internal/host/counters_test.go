package host

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mrci.dev/mrci/internal/conn"
	"mrci.dev/mrci/internal/session"
)

// TestReasons: wrapped errors are counted under their word, unknown ones under
// another.
func TestReasons(t *testing.T) {
	for _, tt := range []struct {
		err   error
		table []reason
		want  string
	}{
		{session.ErrClientLeft, ends, "client_left"},
		{fmt.Errorf("%w: more than 5 bytes", conn.ErrSlowConsumer), ends, "slow_consumer"},
		{fmt.Errorf("%w: 70000 bytes", session.ErrFrameTooLarge), ends, "frame_too_large"},
		{errors.New("read: reset"), ends, "other"},
		{fmt.Errorf("client header: %w", io.ErrUnexpectedEOF), failures, "client_left"},
		{fmt.Errorf("%w: no common version", conn.ErrHandshake), failures, "tls_handshake"},
	} {
		if got := nameOf(tt.err, tt.table, "other"); got != tt.want {
			t.Errorf("%v is counted as %s, want %s", tt.err, got, tt.want)
		}
	}
}

// TestQuietLog: a flood is a few lines a second, and the next line after it
// says how many are missing.
func TestQuietLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		q := quietLog{log: slog.New(slog.NewTextHandler(&out, nil)), level: slog.LevelWarn, msg: "flood"}
		for range 1000 {
			q.line("n", 1)
		}
		if got := strings.Count(out.String(), "\n"); got != linesPerSecond {
			t.Errorf("%d lines at once, want %d", got, linesPerSecond)
		}
		time.Sleep(time.Second)
		out.Reset()
		q.line("n", 2)
		if want := fmt.Sprintf("omitted=%d", 1000-linesPerSecond); !strings.Contains(out.String(), want) {
			t.Errorf("the next line is %q, want %s", out.String(), want)
		}
		out.Reset()
		q.line("n", 3)
		if strings.Contains(out.String(), "omitted") {
			t.Errorf("a line behind it: %q", out.String())
		}
	})
}
