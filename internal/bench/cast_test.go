package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"mrci.dev/mrci/internal/bench/fanout"
)

var smallCasts = CastOptions{
	Receivers: []int{3}, Sizes: []int{128, 20_000}, Idle: 5,
	Sessions: 12, Group: 4, Casts: 3,
	// A slow reader is soon too slow.
	SlowSize: 60_000, SlowRate: 1000,
}

// TestCastMeasurements has a host in them.
func TestCastMeasurements(t *testing.T) {
	for _, name := range CastNames {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rows, err := smallBench(t).Run(t.Context(), name)
			if errors.Is(err, errNoCast) {
				t.Skip("the host has no command named cast")
			}
			if err != nil {
				t.Fatal(err)
			}
			checkReport(t, rows)
		})
	}
}

// TestCastsOfFloor measures the floor, and NATS where `make peers` has built it.
func TestCastsOfFloor(t *testing.T) {
	for _, name := range []string{"cast", "crowd"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := smallBench(t)
			b.opts.Cast.NoHost = true
			if file := "../../bin/nats-peer"; name == "cast" {
				if _, err := os.Stat(file); err == nil {
					b.opts.Cast.Peer = file
				}
			}
			rows, err := b.Run(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			checkReport(t, rows)
			for _, row := range rows {
				if row.Floor == 0 || name == "cast" && (row.Peer == 0) != (b.opts.Cast.Peer == "") || row.Met != nil {
					t.Errorf("got %+v, want figures of the floor, and of the peer if there is one", row)
				}
			}
		})
	}
}

// floorGroup is a floor with a sender and receivers.
func floorGroup(t *testing.T, b *Bench, receivers int) *castGroup {
	t.Helper()
	s, err := b.startCastFloor(t.Context(), Plain, "", "")
	if err != nil {
		t.Fatal(err)
	}
	g, err := b.newCastGroup(t.Context(), s, receivers)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestServerThatEnds(t *testing.T) {
	b := smallBench(t)
	g := floorGroup(t, b, 2)
	if _, err := g.run(t.Context(), 128, fanout.Load{Casts: 10}); err != nil {
		t.Fatal(err)
	}
	g.server.process.stop()
	_, err := g.run(t.Context(), 128, fanout.Load{Casts: 10})
	if err == nil || !strings.Contains(err.Error(), "the connection has ended") {
		t.Errorf("casts without a server: got %v, want that the connection has ended", err)
	}
}

func TestOrderThatFails(t *testing.T) {
	b := smallBench(t)
	ts, err := b.startTeams(t.Context(), "test", 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []teamOrder{
		{Do: "dance"},
		{Do: doConnect, Addr: "192.0.2.1:1", Members: 1, Protocol: fanout.MRCI},
	} {
		if _, err := ts.order(t.Context(), o, 0); err == nil || !strings.Contains(err.Error(), o.Do) {
			t.Errorf("order %q: got %v, want an error that names it", o.Do, err)
		}
	}
	if _, err := ts[0].ask(t.Context(), teamWord+" {", time.Minute); err == nil {
		t.Error("half an order was obeyed")
	}
}

// TestTeamIsStopped: a team ends although it waits for casts that do not come.
func TestTeamIsStopped(t *testing.T) {
	b := smallBench(t)
	g := floorGroup(t, b, 1)
	if _, err := g.run(t.Context(), 128, fanout.Load{Casts: 1}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() { // awaited below
		_, err := g.receivers.order(ctx, teamOrder{Do: doReceive, Casts: 2}, 0)
		waiting <- err
	}()
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
	g.stop()
}

func TestGreetingOfNATS(t *testing.T) {
	for text, good := range map[string]bool{"INFO {\"tls_required\":false}\r\n": true, "INFO {": false, "": false} {
		near, far := pipe(t)
		go func() { // ends with far, which pipe closes
			_, _ = io.WriteString(far, text)
			far.Close()
		}()
		if nc, err := greetNATS(t.Context(), near); (err == nil) != good || good && nc != near {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func pipe(t *testing.T) (near, far net.Conn) {
	t.Helper()
	near, far = net.Pipe()
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	return near, far
}
