package client_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/client/clienttest"
	"mrci.dev/mrci/wire"
)

// limit keeps a test that hangs from hanging for minutes.
func limit(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func dial(t *testing.T, h *clienttest.Host, cfg client.Config) *client.Client {
	t.Helper()
	if cfg.Pin == "" && cfg.VerifyKey == nil && cfg.Roots == nil {
		cfg.Pin = h.Fingerprint
	}
	c, err := client.Dial(limit(t), h.Addr, cfg)
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func command(name string, run func(i *clienttest.Instance) wire.ReturnCode) clienttest.Command {
	return clienttest.Command{Info: wire.CommandInfo{Name: name, Short: "short", IO: "[text]/[text]", Long: "long"}, Run: run}
}

func echo(i *clienttest.Instance) wire.ReturnCode {
	i.Text(i.Args() + "\n")
	return wire.NoErrors
}

func untilStopped(i *clienttest.Instance) wire.ReturnCode {
	i.Text("started\n")
	i.Stopped()
	return wire.Aborted
}

// text collects the frames of a call.
func text(t *testing.T, call *client.Call) string {
	t.Helper()
	var b strings.Builder
	for f, err := range call.Frames(limit(t)) {
		if err != nil {
			t.Fatalf("Next: %v", err)
		}
		b.Write(f.Payload)
	}
	return b.String()
}

func TestHeaderBytes(t *testing.T) {
	got := make(chan []byte, 1)
	h := clienttest.Start(t, clienttest.Options{Raw: func(conn net.Conn) {
		b := make([]byte, wire.ClientHeaderSize)
		io.ReadFull(conn, b)
		got <- b
	}})
	_, err := client.Dial(limit(t), h.Addr, client.Config{App: "test 1", ModInst: "-x 1", Extensions: wire.ExtSchema})
	if !errors.Is(err, client.ErrLost) {
		t.Errorf("Dial = %v, want ErrLost", err)
	}
	want := "MRCI" + pad("test 1", 32) + pad("-x 1", 128) + pad("EXT1\x01", 128)
	if diff := cmp.Diff(want, string(<-got)); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
}

func pad(text string, size int) string { return text + strings.Repeat("\x00", size-len(text)) }

func TestTLSAndTrust(t *testing.T) {
	h := clienttest.Start(t, clienttest.Options{TLS: true, Commands: []clienttest.Command{command("echo", echo)}})
	roots := x509.NewCertPool()
	other := "SHA256:" + strings.Repeat("0f", 32)
	known := client.KnownHosts{Path: filepath.Join(t.TempDir(), "a", "known_hosts")}
	changed := client.KnownHosts{Path: filepath.Join(t.TempDir(), "known_hosts")}
	if err := known.Add(h.Addr, h.Fingerprint); err != nil {
		t.Fatal(err)
	}
	if err := changed.Add(h.Addr, other); err != nil {
		t.Fatal(err)
	}
	empty := client.KnownHosts{Path: filepath.Join(t.TempDir(), "none")}
	tests := []struct {
		name string
		cfg  client.Config
		want error
	}{
		{"unknown authority", client.Config{}, new(client.CertificateError)},
		{"pin", client.Config{Pin: strings.ToUpper(h.Fingerprint)}, nil},
		{"wrong pin", client.Config{Pin: other}, new(client.CertificateError)},
		{"known", client.Config{VerifyKey: known.Verify}, nil},
		{"unknown", client.Config{VerifyKey: empty.Verify}, client.ErrUnknownKey},
		{"changed", client.Config{VerifyKey: changed.Verify}, client.ErrChangedKey},
		{"changed, pinned", client.Config{Pin: h.Fingerprint, VerifyKey: changed.Verify}, client.ErrChangedKey},
		{"authority without the name", client.Config{Roots: roots}, new(client.CertificateError)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := client.Dial(limit(t), h.Addr, tt.cfg)
			if err == nil {
				if c.Fingerprint() != h.Fingerprint {
					t.Errorf("Fingerprint = %s, want %s", c.Fingerprint(), h.Fingerprint)
				}
				c.Close()
			}
			var certErr *client.CertificateError
			switch tt.want.(type) {
			case nil:
				if err != nil {
					t.Errorf("Dial = %v", err)
				}
				return
			case *client.CertificateError:
			default:
				if !errors.Is(err, tt.want) {
					t.Errorf("Dial = %v, want %v", err, tt.want)
				}
			}
			if !errors.As(err, &certErr) || certErr.Fingerprint != h.Fingerprint || certErr.Addr != h.Addr {
				t.Errorf("Dial = %v, want a CertificateError of %s", err, h.Addr)
			}
		})
	}
}

func TestAuthorityVouches(t *testing.T) {
	cert := clienttest.NewCertificate(t)
	h := clienttest.Start(t, clienttest.Options{TLS: true, Certificate: cert})
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	never := func(string, string) error { return errors.New("asked about a key that an authority vouches for") }
	dial(t, h, client.Config{Roots: roots, VerifyKey: never})
	_, err := client.Dial(limit(t), h.Addr, client.Config{Roots: roots, Pin: "SHA256:" + strings.Repeat("00", 32)})
	if _, ok := errors.AsType[*client.CertificateError](err); !ok {
		t.Errorf("Dial with a wrong pin = %v, want a CertificateError", err)
	}
}

func TestPlainIsForLoopback(t *testing.T) {
	h := clienttest.Start(t, clienttest.Options{})
	far := client.Config{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, h.Addr)
		return farAway{conn}, err
	}}
	if _, err := client.Dial(limit(t), "192.0.2.1", far); !errors.Is(err, client.ErrPlain) {
		t.Errorf("Dial = %v, want ErrPlain", err)
	}
	far.AllowPlain = true
	c, err := client.Dial(limit(t), "192.0.2.1", far)
	if err != nil {
		t.Fatalf("Dial with AllowPlain: %v", err)
	}
	c.Close()
}

// farAway is a connection whose peer claims an address that is not loopback.
type farAway struct{ net.Conn }

func (farAway) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }

func TestExtensions(t *testing.T) {
	h := clienttest.Start(t, clienttest.Options{Grant: 7, Commands: []clienttest.Command{
		{Info: wire.CommandInfo{Name: "echo", Schema: `{"type":"object"}`}, Run: echo},
	}})
	c := dial(t, h, client.Config{Extensions: wire.ExtSchema})
	if got := c.Extensions(); got != wire.ExtSchema {
		t.Errorf("Extensions = %d, want what was asked for, %d", got, wire.ExtSchema)
	}
	if info, err := c.Lookup("ECHO"); err != nil || info.Schema == "" {
		t.Errorf("Lookup = %+v, %v; want a schema", info, err)
	}
	if dial(t, h, client.Config{}).Extensions() != 0 {
		t.Error("extensions without a request")
	}
}

func TestCommandListFollows(t *testing.T) {
	h := clienttest.Start(t, clienttest.Options{Commands: []clienttest.Command{
		command("my_info", echo),
		command("change", func(i *clienttest.Instance) wire.ReturnCode {
			i.Withdraw(wire.FirstCmdID)
			i.Offer(wire.CommandInfo{ID: 300, Name: "late"})
			return wire.NoErrors
		}),
	}})
	c := dial(t, h, client.Config{})
	if got := names(c); !slices.Equal(got, []string{"change", "my_info"}) {
		t.Errorf("Commands = %q", got)
	}
	if _, err := c.Run(limit(t), "Change", nil, client.Handlers{}); err != nil {
		t.Fatal(err)
	}
	if got := names(c); !slices.Equal(got, []string{"change", "late"}) {
		t.Errorf("Commands after a change = %q", got)
	}
	_, err := c.Call(limit(t), "chnage")
	missing, ok := errors.AsType[*client.NoCommandError](err)
	if !ok || !slices.Equal(missing.Nearest, []string{"change"}) {
		t.Errorf("Call(chnage) = %v, want a NoCommandError that names change", err)
	}
}

func names(c *client.Client) []string {
	var names []string
	for _, info := range c.Commands() {
		names = append(names, info.Name)
	}
	return names
}

func TestBranchesSideBySide(t *testing.T) {
	h := clienttest.Start(t, clienttest.Options{TLS: true, Commands: []clienttest.Command{
		command("ask", func(i *clienttest.Instance) wire.ReturnCode {
			answer, err := i.Ask(wire.PromptText, "which? ")
			if err != nil {
				return wire.Aborted
			}
			i.Text(answer)
			i.Data = []byte(answer)
			return wire.Custom
		}),
	}})
	c := dial(t, h, client.Config{})
	var calls []*client.Call
	for range 3 {
		call, err := c.Call(limit(t), "ask")
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, call)
	}
	// Answered in another order than called.
	for _, n := range []int{2, 0, 1} {
		if got := calls[n].Branch(); int(got) != n+1 {
			t.Errorf("call %d has branch %d", n, got)
		}
		if err := calls[n].Send(wire.Text, fmt.Append(nil, n)); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("which? %d", n)
		if got := text(t, calls[n]); got != want {
			t.Errorf("call %d: got %q, want %q", n, got, want)
		}
		if got := calls[n].Result(); got.Code != wire.Custom || string(got.Data) != fmt.Sprint(n) {
			t.Errorf("call %d: result %+v", n, got)
		}
	}
	if err := calls[0].Send(wire.Text, nil); err != client.ErrEnded {
		t.Errorf("Send after the end = %v, want ErrEnded", err)
	}
	call, err := c.Call(limit(t), "ask")
	if err != nil || call.Branch() != 1 {
		t.Errorf("after all have ended: %v, %v; want branch 1", call, err)
	}
	if err := call.Term(); err != nil {
		t.Fatal(err)
	}
	if result, err := call.Wait(limit(t)); err != nil || result.Code != wire.Aborted {
		t.Errorf("Wait = %+v, %v", result, err)
	}
}

func TestCancelSendsTerm(t *testing.T) {
	h := clienttest.Start(t, clienttest.Options{Commands: []clienttest.Command{command("loop", untilStopped)}})
	c := dial(t, h, client.Config{})
	stop := errors.New("enough")
	ctx, cancel := context.WithCancelCause(limit(t))
	result, err := c.Run(ctx, "loop", nil, client.Handlers{Frame: func(f wire.Frame) error {
		cancel(stop)
		return nil
	}})
	if result.Code != wire.Aborted || !errors.Is(err, stop) {
		t.Errorf("Run = %+v, %v; want ABORTED and the cause", result, err)
	}
}

// A host that ignores TERM_CMD: the call is given up after the grace, its
// branch stays taken, and other calls work.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialPipe(t, client.Config{}, 0, func(s *clienttest.Session) {})
		defer c.Close()
		ctx, cancel := context.WithCancel(t.Context())
		call, err := c.Call(ctx, "deaf")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		cancel()
		_, err = call.Next(t.Context())
		if !errors.Is(err, client.ErrGivenUp) || !errors.Is(err, context.Canceled) || time.Since(start) != 3*time.Second {
			t.Errorf("Next = %v after %v, want ErrGivenUp after 3s", err, time.Since(start))
		}
		other, err := c.Call(t.Context(), "deaf")
		if err != nil || other.Branch() != 2 {
			t.Errorf("next call: %v, branch %d, want 2", err, other.Branch())
		}
	})
}

// dialPipe connects to a host in memory that offers the command "deaf", which
// never ends. then runs when the client has sent that many frames.
func dialPipe(t *testing.T, cfg client.Config, frames int, then func(s *clienttest.Session)) *client.Client {
	t.Helper()
	near, far := net.Pipe()
	cfg.AllowPlain = true
	cfg.DialContext = func(context.Context, string, string) (net.Conn, error) { return near, nil }
	go func() {
		defer far.Close()
		if _, err := io.ReadFull(far, make([]byte, wire.ClientHeaderSize)); err != nil {
			return
		}
		far.Write(wire.HostHeader{Reply: wire.ReplyClear, Version: wire.Served}.Append(nil))
		s := &clienttest.Session{Conn: far}
		s.Offer(wire.CommandInfo{ID: 256, Name: "deaf"})
		s.Send(wire.Text, wire.CmdID(wire.AsyncRdy), 0, nil)
		in := wire.NewReader(far, 0)
		for range frames {
			if _, err := in.Next(); err != nil {
				return
			}
		}
		go io.Copy(io.Discard, far)
		then(s)
		<-t.Context().Done()
	}()
	c, err := client.Dial(t.Context(), "pipe", cfg)
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	return c
}

// A consumer that stands still costs its own call, after Config.Stall, and
// nobody else more than that.
func TestSlowConsumerOfACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dialPipe(t, client.Config{QueueBytes: 4096}, 2, func(s *clienttest.Session) {
			for range 1000 {
				s.Send(wire.Text, 256, 1, make([]byte, 100))
			}
			s.Send(wire.Text, 256, 2, []byte("for the other"))
		})
		defer c.Close()
		slow, err := c.Call(t.Context(), "deaf")
		if err != nil {
			t.Fatal(err)
		}
		other, err := c.Call(t.Context(), "deaf")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		f, err := other.Next(t.Context())
		if err != nil || string(f.Payload) != "for the other" || time.Since(start) != 10*time.Second {
			t.Errorf("the other call got %q, %v after %v; want its frame after 10s", f.Payload, err, time.Since(start))
		}
		n := 0
		for {
			if _, err = slow.Next(t.Context()); err != nil {
				break
			}
			n++
		}
		if err != client.ErrSlowConsumer || n < 20 || n > 30 {
			t.Errorf("the slow call got %d frames and %v; want what 4096 bytes hold and ErrSlowConsumer", n, err)
		}
	})
}

// A consumer that is only slow loses nothing.
func TestSlowButSteadyConsumer(t *testing.T) {
	const frames = 200
	synctest.Test(t, func(t *testing.T) {
		c := dialPipe(t, client.Config{QueueBytes: 4096}, 1, func(s *clienttest.Session) {
			for n := range frames {
				s.Send(wire.Text, 256, 1, fmt.Appendf(nil, "%100d", n))
			}
			s.Send(wire.Idle, 256, 1, []byte{1, 0})
		})
		defer c.Close()
		call, err := c.Call(t.Context(), "deaf")
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for f, err := range call.Frames(t.Context()) {
			if err != nil {
				t.Fatalf("after %d frames: %v", n, err)
			}
			if want := fmt.Sprintf("%100d", n); string(f.Payload) != want {
				t.Fatalf("frame %d is %q", n, f.Payload)
			}
			n++
			time.Sleep(100 * time.Millisecond)
		}
		if n != frames {
			t.Errorf("got %d frames, want %d", n, frames)
		}
	})
}

func TestEvents(t *testing.T) {
	var mu sync.Mutex
	var got []client.Event
	arrived := make(chan struct{}, 10)
	h := clienttest.Start(t, clienttest.Options{Commands: []clienttest.Command{
		command("go", func(i *clienttest.Instance) wire.ReturnCode {
			i.Send(wire.Text, wire.CmdID(wire.AsyncCast), 0, []byte("hello"))
			i.SendValue(wire.PeerInfo, wire.CmdID(wire.AsyncLimitedCast), 0, &wire.Peer{Name: "ann"})
			i.SendValue(wire.Bytes, wire.CmdID(wire.AsyncRenameCh), 0, &wire.ChannelRenamed{Channel: 5, Name: "x"})
			i.Send(wire.Bytes, wire.CmdID(wire.AsyncRenameCh), 0, []byte("odd"))
			i.Send(wire.Bytes, 101, 0, []byte("unknown id"))
			return wire.NoErrors
		}),
	}})
	c := dial(t, h, client.Config{OnEvent: func(e client.Event) {
		mu.Lock()
		got = append(got, e)
		mu.Unlock()
		arrived <- struct{}{}
	}})
	// The call gets the same frames in their places.
	var seen []string
	_, err := c.Do(limit(t), client.Request{Command: "go", Events: true}, client.Handlers{Frame: func(f wire.Frame) error {
		seen = append(seen, f.Cmd.String())
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"CAST", "LIMITED_CAST", "RENAME_CH", "RENAME_CH", "101"}; !slices.Equal(seen, want) {
		t.Errorf("the call saw %q, want %q", seen, want)
	}
	for range 5 {
		<-arrived
	}
	want := []client.Event{
		{ID: wire.AsyncCast, Type: wire.Text, Payload: []byte("hello")},
		{ID: wire.AsyncLimitedCast, Type: wire.PeerInfo, Payload: wire.Append(nil, &wire.Peer{Name: "ann"}), Value: &wire.Peer{Name: "ann"}},
		{ID: wire.AsyncRenameCh, Type: wire.Bytes, Payload: wire.Append(nil, &wire.ChannelRenamed{Channel: 5, Name: "x"}),
			Value: &wire.ChannelRenamed{Channel: 5, Name: "x"}},
		{ID: wire.AsyncRenameCh, Type: wire.Bytes, Payload: []byte("odd")},
		{ID: 101, Type: wire.Bytes, Payload: []byte("unknown id")},
	}
	for i := range want {
		want[i].InCall = true
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// An event handler that stands still delays others by Config.Stall, once, and
// is told how much it missed.
func TestSlowEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sent = 1000
		release := make(chan struct{})
		got, lost := 0, 0
		finished := make(chan struct{})
		again := make(chan struct{})
		c := dialPipe(t, client.Config{QueueBytes: 4096, OnEvent: func(e client.Event) {
			<-release
			lost += e.Lost
			if e.Text() == "last" {
				close(finished)
				return
			}
			got++
		}}, 1, func(s *clienttest.Session) {
			for range sent {
				s.Send(wire.Text, wire.CmdID(wire.AsyncCast), 0, make([]byte, 100))
			}
			s.Send(wire.Text, 256, 1, []byte("for the call"))
			<-again
			s.Send(wire.Text, wire.CmdID(wire.AsyncCast), 0, []byte("last"))
		})
		defer c.Close()
		call, err := c.Call(t.Context(), "deaf")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := call.Next(t.Context()); err != nil || time.Since(start) != 10*time.Second {
			t.Errorf("the call got its frame after %v (%v), want 10s", time.Since(start), err)
		}
		close(release)
		synctest.Wait() // the handler takes what is queued
		close(again)
		<-finished
		if got+lost != sent || lost == 0 {
			t.Errorf("got %d events and was told of %d lost ones, want %d together", got, lost, sent)
		}
	})
}

func TestLostConnection(t *testing.T) {
	h := clienttest.Start(t, clienttest.Options{Commands: []clienttest.Command{
		command("bye", func(i *clienttest.Instance) wire.ReturnCode {
			i.Text("so long\n")
			i.Conn.Close()
			return 0
		}),
	}})
	c := dial(t, h, client.Config{})
	var out strings.Builder
	_, err := c.Run(limit(t), "bye", nil, client.Handlers{Frame: func(f wire.Frame) error {
		out.Write(f.Payload)
		return nil
	}})
	if !errors.Is(err, client.ErrLost) || out.String() != "so long\n" {
		t.Errorf("Run = %q, %v; want the text, then ErrLost", out.String(), err)
	}
	<-c.Done()
	if _, err := c.Call(limit(t), "bye"); !errors.Is(err, client.ErrLost) {
		t.Errorf("Call on a lost connection = %v", err)
	}
	c.Close()
	if !errors.Is(c.Err(), client.ErrLost) {
		t.Errorf("Err = %v", c.Err())
	}
}

func TestCloseEndsCalls(t *testing.T) {
	h := clienttest.Start(t, clienttest.Options{TLS: true, Commands: []clienttest.Command{command("loop", untilStopped)}})
	c := dial(t, h, client.Config{})
	call, err := c.Call(limit(t), "loop")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := call.Wait(limit(t)); !errors.Is(err, client.ErrClosed) {
		t.Errorf("Wait = %v, want ErrClosed", err)
	}
}

func TestUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if _, err := client.Dial(limit(t), ln.Addr().String(), client.Config{}); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("Dial = %v, want ErrUnreachable", err)
	}
}

func TestHostileHost(t *testing.T) {
	good := wire.HostHeader{Reply: wire.ReplyClear, Version: wire.Served}.Append(nil)
	wrongRevision := wire.HostHeader{Reply: wire.ReplyClear, Version: wire.Version{Major: 5, TCPRev: 3}}.Append(nil)
	ready := wire.AppendFrame(nil, wire.Text, wire.CmdID(wire.AsyncRdy), 0, nil)
	tests := []struct {
		name string
		send []byte
		want error // of Dial
		end  error // of the client, if Dial works
	}{
		{"another protocol", []byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), client.ErrProtocol, nil},
		{"half a header", good[:20], client.ErrLost, nil},
		{"wrong revision", wrongRevision, client.ErrProtocol, nil},
		{"TLS that is none", append(wire.HostHeader{Reply: wire.ReplyTLS, Version: wire.Served}.Append(nil), "garbage garbage"...), client.ErrProtocol, nil},
		{"never ready", good, client.ErrLost, nil},
		{"oversized frame", slices.Concat(good, ready, []byte{byte(wire.Text), 4, 0, 0, 0, 0xff, 0xff, 0xff}), nil, client.ErrProtocol},
		{"half a frame", slices.Concat(good, ready, []byte{byte(wire.Text), 4, 0}), nil, client.ErrLost},
		{"unknown ids and types", slices.Concat(good, ready,
			wire.AppendFrame(nil, 200, 0, 0, []byte("zero")),
			wire.AppendFrame(nil, 201, 99, 9, []byte("async")),
			wire.AppendFrame(nil, 202, 999, 9, []byte("command")),
			wire.AppendIdle(nil, 999, 9, 1, nil)), nil, client.ErrLost},
		{"broken ADD_CMD", slices.Concat(good, wire.AppendFrame(nil, wire.NewCmd, 35, 0, make([]byte, 40)), ready), client.ErrProtocol, nil},
		{"ADD_CMD with an async id", slices.Concat(good, wire.AppendFrame(nil, wire.NewCmd, 35, 0, make([]byte, wire.MinNewCmdSize)), ready), client.ErrProtocol, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := clienttest.Start(t, clienttest.Options{Raw: func(conn net.Conn) {
				io.ReadFull(conn, make([]byte, wire.ClientHeaderSize))
				conn.Write(tt.send)
			}})
			c, err := client.Dial(limit(t), h.Addr, client.Config{MaxFrame: 1 << 20})
			if err == nil {
				defer c.Close()
				<-c.Done()
				if tt.end == nil || !errors.Is(c.Err(), tt.end) {
					t.Errorf("the client ended with %v, want %v", c.Err(), tt.end)
				}
				return
			}
			// A host that closes at once may beat the wait for readiness.
			if !errors.Is(err, tt.want) && (tt.end == nil || !errors.Is(err, tt.end)) {
				t.Errorf("Dial = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestTimeouts(t *testing.T) {
	stand := func(send []byte) func(net.Conn) {
		return func(conn net.Conn) {
			conn.Write(send)
			io.Copy(io.Discard, conn)
		}
	}
	tests := []struct {
		name string
		send []byte
	}{
		{"no header", nil},
		{"no TLS", wire.HostHeader{Reply: wire.ReplyTLS, Version: wire.Served}.Append(nil)},
		{"not ready", wire.HostHeader{Reply: wire.ReplyClear, Version: wire.Served}.Append(nil)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := clienttest.Start(t, clienttest.Options{Raw: stand(tt.send)})
			// Connecting is not what takes too long, whatever the machine does.
			connect := func(_ context.Context, network, addr string) (net.Conn, error) { return net.Dial(network, addr) }
			cfg := client.Config{Timeout: 50 * time.Millisecond, DialContext: connect}
			if _, err := client.Dial(limit(t), h.Addr, cfg); !errors.Is(err, client.ErrLost) {
				t.Errorf("Dial = %v, want ErrLost", err)
			}
			ctx, cancel := context.WithCancel(limit(t))
			time.AfterFunc(20*time.Millisecond, cancel)
			if _, err := client.Dial(ctx, h.Addr, client.Config{}); !errors.Is(err, context.Canceled) {
				t.Errorf("Dial, cancelled = %v", err)
			}
		})
	}
}

// auth plays the host's part of a login that demands a new password and a new
// name (commands 2, auth).
func auth(i *clienttest.Instance) wire.ReturnCode {
	refuse := func(ask wire.TypeID, prompt, want string) (bool, error) {
		for {
			answer, err := i.Ask(ask, prompt)
			if err != nil || answer == "" {
				return false, errors.New("cancelled")
			}
			if answer == want {
				return true, nil
			}
			i.Reply(wire.Err, []byte("not "+answer+"\n"))
		}
	}
	if _, err := refuse(wire.PrivText, "password: ", "old"); err != nil {
		return wire.Aborted
	}
	if strings.Contains(i.Args(), "demand") {
		if _, err := refuse(wire.PrivText, "new password: ", "new"); err != nil {
			return wire.Aborted
		}
		if _, err := refuse(wire.PromptText, "new name: ", "ann"); err != nil {
			return wire.Aborted
		}
	}
	i.Text("in\n")
	return wire.NoErrors
}

func TestLogin(t *testing.T) {
	h := clienttest.Start(t, clienttest.Options{TLS: true, Commands: []clienttest.Command{
		command("auth", auth),
		command("my_info", func(i *clienttest.Instance) wire.ReturnCode {
			i.Offer(wire.CommandInfo{ID: 400, Name: "for_users"})
			return wire.NoErrors
		}),
	}})
	c := dial(t, h, client.Config{})
	var asked []string
	answers := []string{"wrong", "old", "weak", "new", "root", "ann"}
	err := c.Login(limit(t), "demand", func(_ context.Context, q client.Question) (string, error) {
		asked = append(asked, fmt.Sprintf("%d %v %d %s%s", q.Kind, q.Hidden, q.Try, q.Text, q.Refused))
		answer := answers[0]
		answers = answers[1:]
		return answer, nil
	})
	if err != nil {
		t.Fatalf("Login: %v", err)
	}
	want := []string{
		"1 true 1 password: ", "1 true 2 password: not wrong\n",
		"2 true 1 new password: ", "2 true 2 new password: not weak\n",
		"3 false 1 new name: ", "3 false 2 new name: not root\n",
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("questions (-want +got):\n%s", diff)
	}
	if got := names(c); !slices.Contains(got, "for_users") {
		t.Errorf("Commands after Login = %q, want the complete list", got)
	}

	if err := c.Login(limit(t), "bob", client.WithPassword("old")); err != nil {
		t.Errorf("Login with WithPassword: %v", err)
	}
	err = c.Login(limit(t), "bob", client.WithPassword("bad"))
	refused, ok := errors.AsType[*client.LoginError](err)
	if !ok || refused.Code != wire.Aborted || refused.Text != "not bad" || !errors.Is(err, client.ErrNoAnswer) {
		t.Errorf("Login with a wrong password = %v, want a LoginError", err)
	}
}

func TestAnswerEndsWithTheCall(t *testing.T) {
	asked := make(chan struct{})
	h := clienttest.Start(t, clienttest.Options{Commands: []clienttest.Command{
		command("impatient", func(i *clienttest.Instance) wire.ReturnCode {
			i.Reply(wire.PromptText, []byte("? "))
			<-asked
			return wire.Aborted
		}),
	}})
	c := dial(t, h, client.Config{})
	result, err := c.Run(limit(t), "impatient", nil, client.Handlers{Answer: func(ctx context.Context, q client.Question) (string, error) {
		close(asked)
		<-ctx.Done()
		return "", ctx.Err()
	}})
	if err != nil || result.Code != wire.Aborted {
		t.Errorf("Run = %+v, %v; want ABORTED", result, err)
	}
}

func TestHandlerErrorCancels(t *testing.T) {
	h := clienttest.Start(t, clienttest.Options{Commands: []clienttest.Command{command("loop", untilStopped)}})
	c := dial(t, h, client.Config{})
	full := errors.New("disk full")
	result, err := c.Run(limit(t), "loop", nil, client.Handlers{Frame: func(wire.Frame) error { return full }})
	if !errors.Is(err, full) || result.Code != wire.Aborted {
		t.Errorf("Run = %+v, %v", result, err)
	}
}

func TestManyCallers(t *testing.T) {
	h := clienttest.Start(t, clienttest.Options{TLS: true, Commands: []clienttest.Command{command("echo", echo)}})
	c := dial(t, h, client.Config{})
	ctx := limit(t)
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			for k := range 50 {
				want := fmt.Sprintf("%d.%d", n, k)
				var got strings.Builder
				result, err := c.Run(ctx, "echo", []string{want}, client.Handlers{Frame: func(f wire.Frame) error {
					got.Write(f.Payload)
					return nil
				}})
				if err != nil || result.Code != wire.NoErrors || got.String() != want+"\n" {
					t.Errorf("Run(%s) = %q, %+v, %v", want, got.String(), result, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestLargeFrames(t *testing.T) {
	sizes := []int{0, 1, 503, 504, 505, 64<<10 - 8, 64 << 10, 1 << 20, wire.MaxPayload}
	h := clienttest.Start(t, clienttest.Options{Commands: []clienttest.Command{
		command("fill", func(i *clienttest.Instance) wire.ReturnCode {
			for n, size := range sizes {
				i.Reply(wire.Bytes, []byte(strings.Repeat(string(rune('a'+n)), size)))
			}
			return wire.NoErrors
		}),
	}})
	c := dial(t, h, client.Config{})
	call, err := c.Call(limit(t), "fill")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for f, err := range call.Frames(limit(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if string(f.Payload) != strings.Repeat(string(rune('a'+n)), sizes[n]) {
			t.Errorf("frame %d has %d bytes or wrong ones, want %d", n, len(f.Payload), sizes[n])
		}
		n++
	}
	if n != len(sizes) {
		t.Errorf("got %d frames, want %d", n, len(sizes))
	}
}

func TestAddress(t *testing.T) {
	for in, want := range map[string]string{
		"host": "host:35516", "host:1": "host:1", "::1": "[::1]:35516", "[::1]": "[::1]:35516",
		"[::1]:7": "[::1]:7", "10.0.0.1": "10.0.0.1:35516",
	} {
		if got, err := client.Address(in); err != nil || got != want {
			t.Errorf("Address(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", ":5", "host:", "[::1", "fd00::2:37451"} {
		if got, err := client.Address(in); err == nil {
			t.Errorf("Address(%q) = %q, want an error", in, got)
		}
	}
}

func TestKnownHosts(t *testing.T) {
	known := client.KnownHosts{Path: filepath.Join(t.TempDir(), "mrci", "known_hosts")}
	if err := os.MkdirAll(filepath.Dir(known.Path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(known.Path, []byte("# mine\na:1 SHA256:aa\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for addr, fingerprint := range map[string]string{"b:2": "SHA256:bb", "A:1": "SHA256:cc"} {
		if err := known.Add(addr, fingerprint); err != nil {
			t.Fatal(err)
		}
		if err := known.Verify(addr, fingerprint); err != nil {
			t.Errorf("Verify(%s) = %v", addr, err)
		}
	}
	if err := known.Verify("a:1", "SHA256:aa"); !errors.Is(err, client.ErrChangedKey) {
		t.Errorf("Verify of an old key = %v", err)
	}
	if found, err := known.Forget("a:1"); !found || err != nil {
		t.Errorf("Forget = %v, %v", found, err)
	}
	if found, err := known.Forget("a:1"); found || err != nil {
		t.Errorf("Forget again = %v, %v", found, err)
	}
	text, err := os.ReadFile(known.Path)
	if err != nil || string(text) != "# mine\nb:2 SHA256:bb\n" {
		t.Errorf("file is %q, %v", text, err)
	}
	entries, err := os.ReadDir(filepath.Dir(known.Path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// Every async frame that a host sends is an event with the value of its layout,
// and nothing that another client makes looks like one of the host's.
func TestEventValues(t *testing.T) {
	session, user := wire.SessionID{1}, wire.UserID{2}
	peer := &wire.Peer{Session: session, User: user, Name: "ann", App: "app", Display: "Ann"}
	member := &wire.Member{Channel: 3, User: user, Level: wire.Regular, Name: "ann", Display: "Ann", ChannelName: "news"}
	ref := &wire.SessionRef{Session: session}
	sub := &wire.SubLevel{Channel: 3, Sub: 4, Level: wire.Regular}
	tests := []struct {
		id    wire.AsyncID
		typ   wire.TypeID
		send  wire.Payload
		value bool
	}{
		{wire.AsyncSysMsg, wire.MyInfo, &wire.Account{Peer: *peer, Email: "a@b.c", Rank: 5}, true},
		{wire.AsyncUserDeleted, wire.Bytes, &wire.UserRef{User: user}, true},
		{wire.AsyncToPeer, wire.PeerInfo, peer, true},
		{wire.AsyncLimitedCast, wire.PeerInfo, peer, true},
		{wire.AsyncLimitedCast, wire.PingPeers, peer, true},
		{wire.AsyncLimitedCast, wire.PeerStat, &wire.PeerStatus{Session: session, Open: wire.SubList{2: {Channel: 3, Sub: 4}}}, true},
		{wire.AsyncP2P, wire.P2PRequest, peer, true},
		{wire.AsyncP2P, wire.P2POpen, ref, true},
		{wire.AsyncP2P, wire.P2PClose, ref, true},
		{wire.AsyncP2P, wire.ChMemberInfo, &wire.PeerData{Src: session, Data: wire.Append(nil, member)}, true},
		{wire.AsyncP2P, wire.Text, &wire.PeerData{Src: session, Data: []byte("psst")}, true},
		{wire.AsyncNewChMember, wire.ChMemberInfo, member, true},
		{wire.AsyncDelCh, wire.ChID, &wire.ChannelRef{Channel: 3}, true},
		{wire.AsyncRenameCh, wire.Bytes, &wire.ChannelRenamed{Channel: 3, Name: "new"}, true},
		{wire.AsyncNewSubCh, wire.Bytes, &wire.SubAdded{Channel: 3, Sub: 4, Level: wire.Public, Name: "main"}, true},
		{wire.AsyncRmSubCh, wire.Bytes, &wire.SubRef{Channel: 3, Sub: 4}, true},
		{wire.AsyncRenameSubCh, wire.Bytes, &wire.SubRenamed{Channel: 3, Sub: 4, Name: "new"}, true},
		{wire.AsyncInvitedToCh, wire.ChMemberInfo, member, true},
		{wire.AsyncRmChMember, wire.Bytes, &wire.MemberRemoved{Channel: 3, User: user}, true},
		{wire.AsyncInviteAccepted, wire.ChMemberInfo, member, true},
		{wire.AsyncMemLevelChg, wire.Bytes, &wire.MemberLevel{Channel: 3, User: user, Level: wire.Admin}, true},
		{wire.AsyncSubChLevelChg, wire.Bytes, sub, true},
		{wire.AsyncAddRdOnly, wire.Bytes, sub, true},
		{wire.AsyncRmRdOnly, wire.Bytes, sub, true},
		{wire.AsyncAddCmd, wire.NewCmd, &wire.CommandInfo{ID: 300, Name: "new"}, true},
		{wire.AsyncRmCmd, wire.CommandID, &wire.CommandRef{ID: 300}, true},

		{wire.AsyncCast, wire.ChMemberInfo, member, false},
		{wire.AsyncCast, wire.PeerStat, &wire.PeerStatus{Session: session}, false},
		{wire.AsyncLimitedCast, wire.ChMemberInfo, member, false},
		{99, wire.ChMemberInfo, member, false},
		{200, 200, ref, false},
	}
	events := make(chan client.Event, len(tests))
	h := clienttest.Start(t, clienttest.Options{Commands: []clienttest.Command{
		command("go", func(i *clienttest.Instance) wire.ReturnCode {
			for _, tt := range tests {
				i.SendValue(tt.typ, wire.CmdID(tt.id), 0, tt.send)
			}
			return wire.NoErrors
		}),
	}})
	c := dial(t, h, client.Config{OnEvent: func(e client.Event) { events <- e }})
	run(t, c, "go")
	for _, tt := range tests {
		want := client.Event{ID: tt.id, Type: tt.typ, Payload: wire.Append(nil, tt.send)}
		if tt.value {
			want.Value = tt.send
		}
		if diff := cmp.Diff(want, <-events); diff != "" {
			t.Errorf("%v %v (-want +got):\n%s", tt.id, tt.typ, diff)
		}
	}
}
