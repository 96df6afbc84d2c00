package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/wire"
)

// This file has the attacks of connections that get nowhere.

// Attackers come from several addresses, of which 127/8 has enough. Only Linux
// has all of them without being told.
const sources = 8

func dialFrom(ctx context.Context, addr string, n int) (*net.TCPConn, error) {
	tcp, err := dialSource(ctx, addr, n)
	if err != nil {
		return nil, err
	}
	// Closing leaves nothing behind: ports would run out.
	_ = tcp.SetLinger(0)
	return tcp, nil
}

// dialSource connects from the nth of these addresses.
func dialSource(ctx context.Context, addr string, n int) (*net.TCPConn, error) {
	ip, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, err
	}
	var from net.IP
	if runtime.GOOS == "linux" && ip.IP.To4() != nil {
		from = net.IPv4(127, 0, 1, byte(1+n%sources))
	}
	return raw.DialFrom(ctx, addr, from)
}

// speech is what an attacker says on one connection.
type speech struct {
	first    func() []byte // at once
	tls      bool          // first goes inside TLS where the server wants it
	answered bool          // the server's header is awaited, and then first goes on
	header   bool          // the client's header goes before it
	drip     func() []byte // a byte or more now and then; nil: silence
	pause    time.Duration // before each drip
	again    bool          // every connection counts as work: the server ends them
}

// Pauses of attackers.
const (
	dripPause  = 200 * time.Millisecond
	againPause = 500 * time.Millisecond // before an attacker that was sent away comes again
)

func nothing() []byte { return nil }

func zero() []byte { return []byte{0} }

// frameStart is the beginning of a frame that announces a payload.
func frameStart(announced int) func() []byte {
	return sync.OnceValue(func() []byte { // once: the whole frame is made for it
		frame := wire.AppendFrame(nil, wire.Text, raw.Nowhere, raw.Branch, make([]byte, announced))
		return bytes.Clone(frame[:wire.FrameHeaderSize+1])
	})
}

// preLoginFrame is the largest frame that a host takes before login by default.
const preLoginFrame = 16 << 10

// clientHello begins a TLS record of a ClientHello of which more is to come.
func clientHello() []byte { return []byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3} }

// record is a TLS record of a handshake.
func record(payload ...byte) []byte {
	return append([]byte{22, 3, 1, byte(len(payload) >> 8), byte(len(payload))}, payload...)
}

// speeches are the attacks of connections that are held.
var speeches = map[string]speech{
	attackSilent:   {first: nothing},
	attackHalf:     {first: func() []byte { return wire.ClientHeader{AppName: "mrci bench"}.Append(nil)[:100] }},
	attackAnnounce: {header: true, answered: true, tls: true, first: frameStart(wire.MaxPayload), drip: zero, pause: dripPause, again: true},
	attackTrickle:  {header: true, answered: true, tls: true, first: frameStart(preLoginFrame), drip: zero, pause: dripPause},
	attackBytewise: {header: true, answered: true, first: clientHello, drip: zero, pause: dripPause},
	attackHello:    {header: true, answered: true, first: wholeHello},
	attackMessage: {
		header: true, answered: true, again: true,
		first: func() []byte { return record(append([]byte{1, 0xff, 0xff, 0xff}, make([]byte, 8<<10)...)...) },
		drip:  func() []byte { return record(make([]byte, 8<<10)...) },
	},
	attackRecords: {header: true, answered: true, again: true, first: func() []byte { return record(1, 0, 0x3f, 0xff) }, drip: func() []byte { return record(0) }},
}

// wholeHello is what a TLS client says first.
var wholeHello = sync.OnceValue(func() []byte {
	near, far := net.Pipe()
	var client sync.WaitGroup
	defer client.Wait()
	client.Go(func() { // ends when far is closed
		_ = tls.Client(near, raw.TLSConfig).Handshake()
	})
	defer far.Close()
	b := make([]byte, 4<<10)
	n, _ := far.Read(b) // a pipe to oneself does not fail
	return b[:n]
})

// besiege holds connections until ctx ends; who is sent away comes again. work
// is above 0 when all have been there once.
func besiege(ctx context.Context, r Role, s speech, work *atomic.Uint64) error {
	var group sync.WaitGroup
	var there sync.WaitGroup
	there.Add(r.Conns)
	for n := range r.Conns {
		group.Go(func() { // ends with ctx
			first := sync.OnceFunc(there.Done)
			defer first()
			for ctx.Err() == nil {
				nc, err := dialFrom(ctx, r.Addr, n)
				if err == nil {
					stop := context.AfterFunc(ctx, func() { nc.Close() })
					s.hold(ctx, nc, first)
					stop()
					nc.Close()
				}
				first()
				if s.again && err == nil {
					work.Add(1)
				}
				rest(ctx, againPause)
			}
		})
	}
	there.Wait()
	work.Add(1)
	group.Wait()
	return nil
}

// hold says what is to be said on one connection and returns when the server
// has ended it. there is called when the first words are said.
func (s speech) hold(ctx context.Context, tcp *net.TCPConn, there func()) {
	if err := tcp.SetDeadline(time.Now().Add(raw.Patience)); err != nil {
		return
	}
	var nc net.Conn = tcp
	if s.header {
		if _, err := nc.Write(wire.ClientHeader{AppName: "mrci bench"}.Append(nil)); err != nil {
			return
		}
	}
	if s.answered {
		h, err := raw.ReadHostHeader(nc)
		if err != nil {
			return
		}
		if s.tls && h.Reply == wire.ReplyTLS {
			secured := tls.Client(nc, raw.TLSConfig)
			if secured.HandshakeContext(ctx) != nil {
				return
			}
			nc = secured
		}
	}
	if _, err := nc.Write(s.first()); err != nil {
		return
	}
	there()
	drop := make([]byte, 4<<10)
	for {
		// What the server says is read from below TLS: only its end matters.
		var deadline time.Time
		if s.drip != nil {
			deadline = time.Now().Add(max(s.pause, time.Millisecond))
		}
		if tcp.SetReadDeadline(deadline) != nil {
			return
		}
		_, err := tcp.Read(drop)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if _, err := nc.Write(s.drip()); err != nil {
				return
			}
		case err != nil:
			return
		}
	}
}

func rest(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// rushRate is how many connections are made a second.
const rushRate = 10_000

// rush connects and closes at once, as often as it is told and the machine
// can. work counts the connections.
func rush(ctx context.Context, r Role, work *atomic.Uint64) error {
	began := time.Now()
	var due atomic.Int64
	var group sync.WaitGroup
	for range stormers {
		group.Go(func() { // ends with ctx
			for ctx.Err() == nil {
				n := due.Add(1)
				if ahead := time.Duration(n)*time.Second/rushRate - time.Since(began); ahead > 0 {
					rest(ctx, ahead)
				}
				nc, err := dialFrom(ctx, r.Addr, int(n))
				if err != nil {
					continue
				}
				nc.Close()
				work.Add(1)
			}
		})
	}
	group.Wait()
	return nil
}
