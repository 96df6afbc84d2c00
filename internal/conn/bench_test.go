package conn_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"mrci.dev/mrci/internal/conn"
	"mrci.dev/mrci/wire"
)

// echo answers every frame with itself until the connection ends.
func echo(c *conn.Conn) {
	for {
		batch, err := c.ReadBatch()
		if err != nil {
			return
		}
		// An error has ended the connection, and ReadBatch says so.
		_ = c.Append(batch.Bytes())
		batch.Release()
		c.Flush()
	}
}

// connectBase returns a function that makes connections, with a host that
// echoes, from one listener.
func connectBase(t testing.TB, m mode) func() (*conn.Conn, net.Conn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	var group sync.WaitGroup
	t.Cleanup(func() { ln.Close(); group.Wait() })
	cfg, _ := config(m)
	return func() (*conn.Conn, net.Conn) {
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatalf("dial: %v", err)
		}
		t.Cleanup(func() { nc.Close() })
		server, err := ln.Accept()
		if err != nil {
			t.Fatalf("accept: %v", err)
		}
		result := make(chan accepted, 1)
		group.Go(func() {
			c, err := conn.Accept(t.Context(), server, &cfg)
			result <- accepted{c, err}
		})
		client, _, err := greet(nc, clientTLS())
		if err != nil {
			t.Fatalf("greet: %v", err)
		}
		a := <-result
		if a.err != nil {
			t.Fatalf("Accept: %v", a.err)
		}
		group.Go(func() { echo(a.conn) })
		return a.conn, client
	}
}

func roundTrips(b *testing.B, client net.Conn) {
	frame := frames(128)
	got := make([]byte, len(frame))
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	for b.Loop() {
		if _, err := client.Write(frame); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(client, got); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEcho is one small frame there and back. The floors do the same
// without frames, queue and deadlines.
func BenchmarkEcho(b *testing.B) {
	for _, m := range []mode{clear, secure} {
		b.Run(m.String(), func(b *testing.B) {
			c, client := connectBase(b, m)()
			roundTrips(b, client)
			c.End(conn.ErrClosed)
		})
		b.Run(m.String()+"-floor", func(b *testing.B) {
			client, server := floor(b, m)
			var group sync.WaitGroup
			group.Go(func() {
				buf := make([]byte, 16<<10)
				for {
					n, err := server.Read(buf)
					if err != nil {
						return
					}
					if _, err := server.Write(buf[:n]); err != nil {
						return
					}
				}
			})
			roundTrips(b, client)
			client.Close()
			group.Wait()
		})
	}
}

// floor returns a plain connection, with TLS when m says so.
func floor(b *testing.B, m mode) (client, server net.Conn) {
	c, s := sockets(b)
	if m == clear {
		return c, s
	}
	tc, ts := tls.Client(c, clientTLS()), tls.Server(s, serverTLS())
	done := make(chan error, 1)
	go func() { done <- ts.Handshake() }()
	if err := errors.Join(tc.Handshake(), <-done); err != nil {
		b.Fatal(err)
	}
	return tc, ts
}

// BenchmarkWrite sends frames of 128 bytes, 64 of them for each Flush, to a
// client that reads as fast as it can. The floor writes the same 64 frames
// with one call.
func BenchmarkWrite(b *testing.B) {
	const group = 64
	frame := frames(128)
	for _, m := range []mode{clear, secure} {
		b.Run(m.String(), func(b *testing.B) {
			cfg, _ := config(m)
			c, client := connect(b, m, cfg)
			drained := make(chan struct{}, 1)
			c.OnDrain(func() { drained <- struct{}{} })
			received := drain(client)
			b.ReportAllocs()
			b.SetBytes(int64(len(frame)))
			n := 0
			for b.Loop() {
				if err := c.Append(frame); err != nil {
					b.Fatal(err)
				}
				if n++; n%group == 0 {
					c.Flush()
					for c.Congested() {
						<-drained
					}
				}
			}
			c.StopReading()
			go c.Finish(cfg.WriteTimeout, cfg.WriteTimeout)
			if got := <-received; got != n*len(frame) {
				b.Errorf("%d bytes arrived of %d", got, n*len(frame))
			}
			client.Close()
			<-c.Ended()
		})
		b.Run(m.String()+"-floor", func(b *testing.B) {
			client, server := floor(b, m)
			received := drain(client)
			b.ReportAllocs()
			b.SetBytes(int64(len(frame)))
			out, n := make([]byte, 0, group*len(frame)), 0
			for b.Loop() {
				out = append(out, frame...)
				if n++; n%group == 0 {
					if _, err := server.Write(out); err != nil {
						b.Fatal(err)
					}
					out = out[:0]
				}
			}
			server.Close()
			<-received
		})
	}
}

// drain reads to the end, and says how much came.
func drain(nc net.Conn) <-chan int {
	received := make(chan int, 1)
	go func() {
		total, buf := 0, make([]byte, 256<<10)
		for {
			n, err := nc.Read(buf)
			total += n
			if err != nil {
				received <- total
				return
			}
		}
	}()
	return received
}

// BenchmarkIdle measures the memory of connections on which nothing happens:
// heap and stacks, with the client's socket, without the client's TLS.
func BenchmarkIdle(b *testing.B) {
	for _, m := range []mode{clear, secure} {
		b.Run(m.String(), func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(float64(idleBytes(b, m, 1000)), "bytes/conn")
			}
		})
	}
}

// BenchmarkQueue is the cost of queueing alone: a frame that is copied, and
// one that is shared.
func BenchmarkQueue(b *testing.B) {
	frame := wire.AppendFrame(nil, wire.Bytes, 256, 0, make([]byte, 128))
	cfg, _ := config(clear)
	for name, queue := range map[string]func(*conn.Conn, []byte) error{
		"copied": (*conn.Conn).Append, "shared": (*conn.Conn).AppendShared,
	} {
		b.Run(name, func(b *testing.B) {
			nc := &script{stream: header()}
			c, err := conn.Accept(b.Context(), nc, &cfg)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if err := queue(c, frame); err != nil {
					b.Fatal(err)
				}
				if n++; n%1024 == 0 {
					c.Kick()
					for c.Queued() > conn.HighWater {
						c.Kick()
					}
				}
			}
			c.Finish(cfg.WriteTimeout, cfg.WriteTimeout)
		})
	}
}
