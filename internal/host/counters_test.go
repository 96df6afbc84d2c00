package host

import (
	"errors"
	"fmt"
	"io"
	"testing"

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
