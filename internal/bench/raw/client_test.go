package raw_test

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"testing"

	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/wire"
)

func TestOnlyLoopback(t *testing.T) {
	if _, err := raw.Dial(t.Context(), "192.0.2.1:1"); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("dial of another machine: got %v, want a refusal", err)
	}
}

// Frames are cut wherever the reads end, and what stands behind them is left
// for who takes the connection over.
func TestNext(t *testing.T) {
	large := bytes.Repeat([]byte("x"), 1000)
	var sent []byte
	for _, payload := range [][]byte{nil, []byte("abc"), large, []byte("d")} {
		sent = wire.AppendFrame(sent, wire.Bytes, 7, raw.Branch, payload)
	}
	for _, size := range []int{1, 7, 64, len(sent)} {
		near, far := net.Pipe()
		var server sync.WaitGroup
		server.Go(func() { // ends with far
			for b := append(sent, "rest"...); len(b) > 0; b = b[min(size, len(b)):] {
				if _, err := far.Write(b[:min(size, len(b))]); err != nil {
					return
				}
			}
		})
		c := raw.New(near, 16)
		var record []byte
		c.Record = &record
		for _, want := range []int{0, 3, len(large), 1} {
			f, err := c.Next()
			if err != nil {
				t.Fatalf("in pieces of %d: %v", size, err)
			}
			if f.Type != wire.Bytes || f.Cmd != 7 || len(f.Payload) != want {
				t.Errorf("in pieces of %d: got %v for %d with %d bytes, want BYTES for 7 with %d", size, f.Type, f.Cmd, len(f.Payload), want)
			}
		}
		if !bytes.Equal(record, sent) {
			t.Errorf("in pieces of %d: recorded %d bytes, want %d", size, len(record), len(sent))
		}
		for len(c.Unread()) < len("rest") {
			if err := c.Fill(); err != nil {
				t.Fatal(err)
			}
		}
		if rest := string(c.Release()); rest != "rest" {
			t.Errorf("in pieces of %d: %q is left, want rest", size, rest)
		}
		c.Close()
		far.Close()
		server.Wait()
	}
}
