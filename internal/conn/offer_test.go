package conn_test

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"mrci.dev/mrci/internal/conn"
)

// What passes the bound is not taken, and the connection ends when its caller
// says so, not before.
func TestOfferPastTheBound(t *testing.T) {
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			cfg, _ := config(m)
			cfg.QueueBytes = 1 << 20
			c, _ := connect(t, m, cfg)
			frame := frames(1000)
			offered := 0
			for ok := true; ok; offered++ {
				_, _, ok = c.Offer(frame)
			}
			if want := cfg.QueueBytes/(len(frame)+40) + 1; offered != want {
				t.Errorf("the bound was passed by frame %d, want %d", offered, want)
			}
			if c.Cause() != nil {
				t.Fatalf("Offer has ended the connection: %v", c.Cause())
			}
			if _, _, ok := c.Offer(frame); ok {
				t.Error("a frame was taken behind the bound")
			}
			c.Overrun()
			checkError(t, c.Cause(), conn.ErrSlowConsumer)
			queued, written := c.Progress()
			if queued != written {
				t.Errorf("Progress() = %d, %d after the end, want them to be equal", queued, written)
			}
		})
	}
}

// Overrun leaves a connection alone whose queue has room.
func TestOverrunWithRoom(t *testing.T) {
	cfg, _ := config(clear)
	c, _ := connect(t, clear, cfg)
	c.Offer(frames(10))
	c.Overrun()
	if c.Cause() != nil {
		t.Errorf("the connection was ended: %v", c.Cause())
	}
	c.End(conn.ErrClosed)
}

// Await reports a position when it has been written, the stalled writer says
// for how long it stands, and the end calls whoever waits.
func TestAwaitAndStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, _ := config(pipe)
		c, client := connect(t, pipe, cfg)
		first, second := frames(100), frames(200)
		at, _, _ := c.Offer(first)
		end, _, _ := c.Offer(second)
		if queued, written := c.Progress(); queued != end || written != 0 || end != uint64(len(first)+len(second)+80) {
			t.Errorf("Progress() = %d, %d; Offer returned %d", queued, written, end)
		}
		if c.Stalled() != 0 {
			t.Errorf("Stalled() = %v before anybody writes", c.Stalled())
		}
		var calls []string
		c.Await(at, func() { calls = append(calls, "first") })
		c.Await(end, func() { calls = append(calls, "second") })
		c.Await(end, func() { calls = append(calls, "never") })()
		c.Kick()
		time.Sleep(3 * time.Second)
		if c.Stalled() != 3*time.Second || len(calls) > 0 {
			t.Errorf("Stalled() = %v after 3 s, calls %q", c.Stalled(), calls)
		}
		if _, err := io.ReadFull(client, make([]byte, len(first)+len(second))); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if c.Stalled() != 0 || len(calls) != 2 {
			t.Errorf("Stalled() = %v when all is written, calls %q", c.Stalled(), calls)
		}
		c.Await(end, func() { calls = append(calls, "at once") })
		c.Offer(first)
		after, _ := c.Progress()
		c.Await(after, func() { calls = append(calls, "end") })
		c.End(conn.ErrClosed)
		c.Await(after, func() { calls = append(calls, "ended") })
		if len(calls) != 5 {
			t.Errorf("calls %q", calls)
		}
	})
}
