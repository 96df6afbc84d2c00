package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/client/clienttest"
	"mrci.dev/mrci/wire"
)

// sent records the frames that start calls of a command.
type sent struct {
	mu     sync.Mutex
	frames []string
}

func (s *sent) add(i *clienttest.Instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frames = append(s.frames, fmt.Sprintf("%v %q", i.First.Type, i.First.Payload))
}

func (s *sent) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.frames)
}

// refuse is a command that refuses calls with this payload.
func refuse(s *sent, payload string) func(*clienttest.Instance) wire.ReturnCode {
	return func(i *clienttest.Instance) wire.ReturnCode {
		s.add(i)
		if i.Args() == payload {
			i.Reply(wire.Err, []byte("Not that one.\n"))
			return wire.InvalidParams
		}
		return wire.NoErrors
	}
}

func TestCast(t *testing.T) {
	var got sent
	h := clienttest.Start(t, clienttest.Options{Commands: []clienttest.Command{command("cast", refuse(&got, "bad"))}})
	c := dial(t, h, client.Config{})
	tests := []struct {
		name    string
		typ     wire.TypeID
		payload string
		want    error
	}{
		{"text", wire.Text, "hello", nil},
		{"bytes", wire.Bytes, "\x00\xff", nil},
		{"empty", wire.GenFile, "", nil},
		{"refused", wire.Text, "bad", new(client.CommandError)},
		{"too large", wire.Text, strings.Repeat("x", wire.MaxPayload+1), wire.ErrTooLarge},
		{"no type", 0, "x", client.ErrNotRelayable},
		{"control", wire.TermCmd, "", client.ErrNotRelayable},
		{"end of a call", wire.Idle, "", client.ErrNotRelayable},
		{"the host's own", wire.PeerInfo, "", client.ErrNotRelayable},
		{"unknown", 200, "", client.ErrNotRelayable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for name, send := range map[string]func() error{
				"Cast": func() error { return c.Cast(limit(t), tt.typ, []byte(tt.payload)) },
				"Caster": func() error {
					row := c.Caster()
					return errors.Join(row.Send(limit(t), tt.typ, []byte(tt.payload)), row.Wait(limit(t)))
				},
			} {
				err := send()
				if _, command := tt.want.(*client.CommandError); command {
					refused, ok := errors.AsType[*client.CommandError](err)
					if !ok || refused.Command != "cast" || refused.Code != wire.InvalidParams || refused.Text != "Not that one." {
						t.Errorf("%s = %v, want a CommandError", name, err)
					}
				} else if !errors.Is(err, tt.want) {
					t.Errorf("%s = %v, want %v", name, err, tt.want)
				}
			}
		})
	}
	var want []string
	for _, frame := range []string{`TEXT "hello"`, `BYTES "\x00\xff"`, `GEN_FILE ""`, `TEXT "bad"`} {
		want = append(want, frame, frame) // by both
	}
	if !slices.Equal(got.all(), want) {
		t.Errorf("the host got %q, want %q", got.all(), want)
	}
}

func TestNotOffered(t *testing.T) {
	h := clienttest.Start(t, clienttest.Options{Commands: []clienttest.Command{command("cats", echo)}})
	c := dial(t, h, client.Config{})
	peer := wire.Peer{Session: wire.SessionID{9}}
	for name, call := range map[string]func(ctx context.Context) error{
		"cast":        func(ctx context.Context) error { return c.Cast(ctx, wire.Text, nil) },
		"caster":      func(ctx context.Context) error { return c.Caster().Send(ctx, wire.Text, nil) },
		"open_sub_ch": func(ctx context.Context) error { return c.OpenSubChannel(ctx, "news", "all") },
		"ping_peers": func(ctx context.Context) error {
			for _, err := range c.Peers(ctx) {
				return err
			}
			return nil
		},
		"p2p_request": func(ctx context.Context) error { _, err := c.RequestLink(ctx, peer); return err },
		"p2p_open":    func(ctx context.Context) error { _, err := c.AcceptLink(ctx, peer); return err },
		"p2p_close":   func(ctx context.Context) error { return c.DeclineLink(ctx, peer.Session) },
	} {
		err := call(limit(t))
		if missing, ok := errors.AsType[*client.NoCommandError](err); !ok || missing.Name != strings.Replace(name, "caster", "cast", 1) {
			t.Errorf("%s = %v, want a NoCommandError", name, err)
		}
	}
}

func TestSubChannels(t *testing.T) {
	var got sent
	h := clienttest.Start(t, clienttest.Options{Commands: []clienttest.Command{
		command("open_sub_ch", refuse(&got, `-ch_name news -sub_name full`)),
		command("close_sub_ch", refuse(&got, "")),
	}})
	c := dial(t, h, client.Config{})
	if err := c.OpenSubChannel(limit(t), "two words", `-o'b`); err != nil {
		t.Error(err)
	}
	if err := c.CloseSubChannel(limit(t), "-ch_name", "all"); err != nil {
		t.Error(err)
	}
	err := c.OpenSubChannel(limit(t), "news", "full")
	if err == nil || err.Error() != "open_sub_ch: Not that one." {
		t.Errorf("OpenSubChannel = %v, want the host's reason", err)
	}
	want := []string{
		`TEXT "-ch_name \"two words\" -sub_name \"-o\\'b\""`,
		`TEXT "-ch_name \"-ch_name\" -sub_name all"`,
		`TEXT "-ch_name news -sub_name full"`,
	}
	if !slices.Equal(got.all(), want) {
		t.Errorf("the host got %q, want %q", got.all(), want)
	}
}

// dialScript connects to a host in memory that offers the commands, from 256
// on, and then does what the script says until the test ends.
func dialScript(t *testing.T, cfg client.Config, commands []string, script func(s *clienttest.Session, in *wire.Reader)) *client.Client {
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
		for n, name := range commands {
			s.Offer(wire.CommandInfo{ID: wire.FirstCmdID + wire.CmdID(n), Name: name})
		}
		s.Send(wire.Text, wire.CmdID(wire.AsyncRdy), 0, nil)
		script(s, wire.NewReader(far, 0))
	}()
	c, err := client.Dial(t.Context(), "pipe", cfg)
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	return c
}

// idle is the host's answer to a call.
func idle(s *clienttest.Session, f wire.Frame, code wire.ReturnCode) {
	s.Send(wire.Idle, f.Cmd, f.Branch, []byte{byte(code), byte(code >> 8)})
}

// Casts go out in their order, on one branch, before the first is answered, and
// no more than 1,024 of them.
func TestCasterIsBounded(t *testing.T) {
	const window, casts = 1024, 3000
	synctest.Test(t, func(t *testing.T) {
		c := dialScript(t, client.Config{}, []string{"cast"}, func(s *clienttest.Session, in *wire.Reader) {
			for n := range casts {
				if n == window {
					s.Conn.SetReadDeadline(time.Now().Add(time.Second))
					if f, err := in.Next(); err == nil {
						t.Errorf("got cast %q before any was answered", f.Payload)
					}
					s.Conn.SetReadDeadline(time.Time{})
					for range window {
						idle(s, wire.Frame{Cmd: 256, Branch: 1}, wire.NoErrors)
					}
				}
				f, err := in.Next()
				if err != nil || string(f.Payload) != fmt.Sprint(n) || f.Branch != 1 {
					t.Errorf("cast %d is %q on branch %d, %v", n, f.Payload, f.Branch, err)
					return
				}
				if n > window {
					idle(s, f, wire.NoErrors)
				}
			}
			idle(s, wire.Frame{Cmd: 256, Branch: 1}, wire.NoErrors) // for number window
			in.Next()
		})
		defer c.Close()
		row := c.Caster()
		for n := range casts {
			if err := row.Send(t.Context(), wire.Text, fmt.Append(nil, n)); err != nil {
				t.Fatalf("Send %d: %v", n, err)
			}
		}
		if err := row.Wait(t.Context()); err != nil {
			t.Errorf("Wait = %v", err)
		}
	})
}

func TestCasterTellsTheFirstFailure(t *testing.T) {
	h := clienttest.Start(t, clienttest.Options{
		Commands: []clienttest.Command{command("cast", nil)},
		Script: func(s *clienttest.Session) {
			s.Begin()
			for {
				f, err := s.Read()
				if err != nil {
					return
				}
				code := wire.NoErrors
				if n := string(f.Payload); n == "3" || n == "5" {
					s.Send(wire.Err, f.Cmd, f.Branch, []byte("reason "+n+"\n"))
					code = wire.ExecutionFail
				}
				idle(s, f, code)
			}
		},
	})
	c := dial(t, h, client.Config{})
	row := c.Caster()
	var err error
	for n := 1; n < 1_000_000 && err == nil; n++ {
		err = row.Send(limit(t), wire.Bytes, fmt.Append(nil, n))
	}
	wait := row.Wait(limit(t))
	refused, ok := errors.AsType[*client.CommandError](wait)
	if !ok || refused.Text != "reason 3" || refused.Code != wire.ExecutionFail || !strings.Contains(wait.Error(), "number 3") {
		t.Errorf("Wait = %v, want the failure of cast 3", wait)
	}
	if err != wait {
		t.Errorf("Send = %v, want what Wait says: %v", err, wait)
	}
	// Another row is not concerned, and its branch is free again.
	other := c.Caster()
	for range 3 {
		if err := errors.Join(other.Send(limit(t), wire.Text, nil), other.Wait(limit(t))); err != nil {
			t.Errorf("another row: %v", err)
		}
	}
}

// A host that answers nothing: who waits can go, and the end of the connection
// is the end of the row.
func TestCasterOnADeafHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan struct{})
		c := dialScript(t, client.Config{}, []string{"cast"}, func(s *clienttest.Session, in *wire.Reader) {
			for range 1024 {
				in.Next()
			}
			<-gone
		})
		defer c.Close()
		row := c.Caster()
		for range 1024 {
			if err := row.Send(t.Context(), wire.Text, nil); err != nil {
				t.Fatal(err)
			}
		}
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(enough) })
		if err := row.Send(ctx, wire.Text, nil); err != enough {
			t.Errorf("Send = %v, want the cause of its context", err)
		}
		if err := row.Wait(ctx); err != enough {
			t.Errorf("Wait = %v, want the cause of its context", err)
		}
		close(gone)
		if err := row.Wait(t.Context()); !errors.Is(err, client.ErrLost) {
			t.Errorf("Wait after the end = %v, want ErrLost", err)
		}
		if err := row.Send(t.Context(), wire.Text, nil); !errors.Is(err, client.ErrLost) {
			t.Errorf("Send after the end = %v, want ErrLost", err)
		}
	})
}

// While the host reads nothing, one frame is stuck in the connection. Who waits
// behind it can go.
func TestHostReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := make(chan struct{})
		c := dialScript(t, client.Config{}, []string{"cast"}, func(s *clienttest.Session, in *wire.Reader) {
			<-read
			for {
				f, err := in.Next()
				if err != nil {
					return
				}
				idle(s, f, wire.NoErrors)
			}
		})
		defer c.Close()
		stuck := make(chan error, 1)
		go func() { stuck <- c.Cast(t.Context(), wire.Text, []byte("first")) }()
		synctest.Wait()
		row := c.Caster()
		for _, send := range []func(context.Context, wire.TypeID, []byte) error{c.Cast, row.Send, row.Send} {
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := send(ctx, wire.Text, []byte("not sent")); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
				t.Errorf("%v after %v, want the error of the context after 1s", err, time.Since(start))
			}
			cancel()
		}
		if err := row.Wait(limit(t)); err != nil {
			t.Errorf("Wait, when nothing was sent: %v", err)
		}
		close(read)
		if err := <-stuck; err != nil {
			t.Errorf("the cast that was stuck: %v", err)
		}
		if err := row.Send(limit(t), wire.Text, []byte("now")); err != nil {
			t.Errorf("a cast of the row behind those that were not sent: %v", err)
		}
		if err := row.Wait(limit(t)); err != nil {
			t.Errorf("Wait: %v", err)
		}
	})
}

func TestCasterOfManyGoroutines(t *testing.T) {
	var mu sync.Mutex
	got := make(map[string]int)
	h := clienttest.Start(t, clienttest.Options{TLS: true,
		Commands: []clienttest.Command{command("cast", nil)},
		Script: func(s *clienttest.Session) {
			s.Begin()
			for {
				f, err := s.Read()
				if err != nil {
					return
				}
				mu.Lock()
				got[string(f.Payload)]++
				mu.Unlock()
				idle(s, f, wire.NoErrors)
			}
		},
	})
	c := dial(t, h, client.Config{})
	row := c.Caster()
	ctx := limit(t)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for k := range 500 {
				if err := row.Send(ctx, wire.Text, fmt.Appendf(nil, "%d.%d", n, k)); err != nil {
					t.Errorf("Send: %v", err)
				}
				if k%100 == 0 {
					if err := row.Wait(ctx); err != nil {
						t.Errorf("Wait: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := row.Wait(ctx); err != nil {
		t.Errorf("Wait: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 8*500 {
		t.Errorf("the host got %d casts, want %d", len(got), 8*500)
	}
}

// peersHost answers ping_peers as the script says.
func peersHost(t *testing.T, run func(i *clienttest.Instance) wire.ReturnCode) *clienttest.Host {
	return clienttest.Start(t, clienttest.Options{Commands: []clienttest.Command{command("ping_peers", run)}})
}

func tellPeer(s *clienttest.Session, t wire.TypeID, name string) {
	s.SendValue(t, wire.CmdID(wire.AsyncLimitedCast), 0, &wire.Peer{Session: wire.SessionID{name[0]}, Name: name})
}

func TestPeers(t *testing.T) {
	h := peersHost(t, func(i *clienttest.Instance) wire.ReturnCode {
		tellPeer(i.Session, wire.PeerInfo, "ann")
		tellPeer(i.Session, wire.PingPeers, "asks too")
		i.Send(wire.PeerInfo, wire.CmdID(wire.AsyncLimitedCast), 0, []byte("broken"))
		idle(i.Session, i.First, wire.NoErrors)
		tellPeer(i.Session, wire.PeerInfo, "bob")
		return 0
	})
	var events sync.WaitGroup
	events.Add(4)
	c := dial(t, h, client.Config{OnEvent: func(client.Event) { events.Done() }})
	ctx, cancel := context.WithCancel(limit(t))
	defer cancel()
	var got []string
	for peer, err := range c.Peers(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, peer.Name)
		if len(got) == 2 {
			cancel() // which is the end, and no error
		}
	}
	if !slices.Equal(got, []string{"ann", "bob"}) {
		t.Errorf("Peers = %q", got)
	}
	events.Wait()
}

func TestPeersEnds(t *testing.T) {
	collect := func(ctx context.Context, c *client.Client) (n int, last error) {
		for _, err := range c.Peers(ctx) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	t.Run("refused", func(t *testing.T) {
		h := peersHost(t, func(i *clienttest.Instance) wire.ReturnCode {
			i.Reply(wire.Err, []byte("Nothing is active.\n"))
			return wire.InvalidParams
		})
		if n, err := collect(limit(t), dial(t, h, client.Config{})); n != 0 || err == nil || err.Error() != "ping_peers: Nothing is active." {
			t.Errorf("Peers = %d answers, %v", n, err)
		}
	})
	t.Run("lost", func(t *testing.T) {
		h := peersHost(t, func(i *clienttest.Instance) wire.ReturnCode {
			tellPeer(i.Session, wire.PeerInfo, "ann")
			idle(i.Session, i.First, wire.NoErrors)
			i.Conn.Close()
			return 0
		})
		if n, err := collect(limit(t), dial(t, h, client.Config{})); n != 1 || !errors.Is(err, client.ErrLost) {
			t.Errorf("Peers = %d answers, %v; want 1 and ErrLost", n, err)
		}
	})
	t.Run("too many for a slow consumer", func(t *testing.T) {
		h := peersHost(t, func(i *clienttest.Instance) wire.ReturnCode {
			for range 100 {
				tellPeer(i.Session, wire.PeerInfo, "ann")
			}
			return wire.NoErrors
		})
		// The answers come before the end of ping_peers: they wait.
		if n, err := collect(limit(t), dial(t, h, client.Config{QueueBytes: 2040})); n != 10 || !errors.Is(err, client.ErrSlowConsumer) {
			t.Errorf("Peers = %d answers, %v; want 10 of 204 bytes and ErrSlowConsumer", n, err)
		}
	})
}
