package session_test

import (
	"strings"
	"sync"
	"testing"

	"mrci.dev/mrci/wire"
)

// TestCastsBesideLargeFrames: what others cast never comes between the header of
// a frame and its payload, however large that is.
func TestCastsBesideLargeFrames(t *testing.T) {
	st := perform(t, nil)
	st.hears.Close(room)
	opening, err := st.hears.Open(room)
	if err != nil || !opening.Enable(true, true) {
		t.Fatalf("open: %v", err)
	}
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		cast := wire.AppendText(nil, wire.Text, wire.CmdID(wire.AsyncCast), 0, "from others")
		for {
			select {
			case <-stop:
				return
			default:
			}
			sent := st.hears.Cast(cast)
			if sent.Behind == nil {
				continue
			}
			taken := make(chan struct{})
			unwait := sent.Behind.Await(sent.Position, func() { close(taken) })
			select {
			case <-stop:
			case <-taken:
			}
			unwait()
		}
	})
	defer others.Wait()
	defer close(stop)
	want := strings.Repeat("z", 8<<10)
	id := st.ID("fence")
	for n := range 3000 {
		st.Send(wire.Bytes, id, 0, want)
		frames := st.Until(func(f wire.Frame) bool { return f.Cmd != wire.CmdID(wire.AsyncCast) })
		if f := frames[len(frames)-1]; f.Type != wire.Bytes || string(f.Payload) != want {
			t.Fatalf("frame %d: %v of %d bytes under %d", n, f.Type, len(f.Payload), f.Cmd)
		}
		st.UntilIdle(id, 0)
	}
}
