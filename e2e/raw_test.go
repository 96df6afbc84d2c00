//go:build unix

package e2e_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/wire"
)

const password = "Correct-horse7"

// deadline is a context for a test against a program that may be broken.
func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// dial connects without looking at the key.
func dial(t testing.TB, addr string, cfg client.Config) *client.Client {
	t.Helper()
	if cfg.VerifyKey == nil {
		cfg.VerifyKey = func(string, string) error { return nil }
	}
	c, err := client.Dial(deadline(t), addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// login logs in, with a new password where the host demands one.
func login(t testing.TB, c *client.Client, user, oneTime string) {
	t.Helper()
	err := c.Login(deadline(t), user, func(_ context.Context, q client.Question) (string, error) {
		switch {
		case q.Try > 1:
			return "", client.ErrNoAnswer
		case q.Kind == client.Password && oneTime != "":
			return oneTime, nil
		}
		return password, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// hello opens a connection, sends a client header and returns the answer.
func hello(t testing.TB, addr string, h wire.ClientHeader) (net.Conn, wire.HostHeader) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(h.Append(nil)); err != nil {
		t.Fatal(err)
	}
	var b [wire.HostHeaderSize]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		t.Fatal(err)
	}
	answer, err := wire.ParseHostHeader(&b)
	if err != nil {
		t.Fatal(err)
	}
	return conn, answer
}

// The answer to an extension request is the first frame, inside TLS where
// there is TLS; who does not ask sees nothing new.
func TestExtensions(t *testing.T) {
	const unknown = wire.Extensions(1 << 31)
	for _, test := range []struct {
		name  string
		tls   string
		reply wire.Reply
		ask   bool
		want  wire.Extensions
	}{
		{"plain", "false", wire.ReplyClear, true, wire.ExtSchema | unknown},
		{"plain, nothing wanted", "false", wire.ReplyClear, true, 0},
		{"plain, not asked", "false", wire.ReplyClear, false, 0},
		{"TLS", "true", wire.ReplyTLS, true, wire.ExtSchema | unknown},
		{"TLS, not asked", "true", wire.ReplyTLS, false, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "--set", "tls_on_loopback="+test.tls)
			conn, answer := hello(t, h.addr, wire.ClientHeader{AppName: "e2e", Requested: test.ask, Wanted: test.want})
			if answer.Reply != test.reply {
				t.Fatalf("reply %v, want %v", answer.Reply, test.reply)
			}
			if test.reply == wire.ReplyTLS {
				secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
				if err := secure.HandshakeContext(deadline(t)); err != nil {
					t.Fatal(err)
				}
				conn = secure
			}
			frames := wire.NewReader(conn, wire.MaxPayload)
			first, err := frames.Next()
			if err != nil {
				t.Fatal(err)
			}
			granted := wire.CmdID(wire.AsyncExtensions)
			if test.ask {
				want := []byte{byte(test.want & wire.ExtSchema), 0, 0, 0}
				if first.Type != wire.Bytes || first.Cmd != granted || first.Branch != 0 || string(first.Payload) != string(want) {
					t.Fatalf("first frame %v %d/%d %x, want BYTES 100/0 %x", first.Type, first.Cmd, first.Branch, first.Payload, want)
				}
				if first, err = frames.Next(); err != nil {
					t.Fatal(err)
				}
			}
			commands := 0
			for f := first; f.Cmd != wire.CmdID(wire.AsyncRdy); {
				if f.Cmd == granted {
					t.Errorf("another frame under id 100: %v", f.Type)
				}
				if f.Type == wire.NewCmd {
					commands++
					checkSchema(t, f.Payload, test.want.Has(wire.ExtSchema))
				}
				if f, err = frames.Next(); err != nil {
					t.Fatal(err)
				}
			}
			if commands == 0 {
				t.Error("no command is offered")
			}
		})
	}
}

// checkSchema looks at the texts of a NEW_CMD: three, or four with the schema.
func checkSchema(t *testing.T, payload []byte, want bool) {
	t.Helper()
	var info wire.CommandInfo
	if err := wire.Parse(payload, &info); err != nil {
		t.Error(err)
		return
	}
	if !want {
		if info.Schema != "" {
			t.Errorf("%s: a schema that nobody asked for: %s", info.Name, info.Schema)
		}
		return
	}
	var schema struct {
		Type       string
		Properties map[string]any
	}
	if err := json.Unmarshal([]byte(info.Schema), &schema); err != nil || schema.Type != "object" {
		t.Errorf("%s: schema %q: %v", info.Name, info.Schema, err)
	}
	if info.Name == "auth" && schema.Properties["user"] == nil {
		t.Errorf("auth: no argument user in %s", info.Schema)
	}
}

// Stopping tells clients, ends running commands and does not wait for a client
// that reads nothing.
func TestStop(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": syscall.SIGINT} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "SIGINT" && testing.Short() {
				t.Skip("slow: waits for a client that reads nothing; SIGTERM does it too")
			}
			h := newHost(t)
			told := make(chan string, 16)
			c := dial(t, h.addr, client.Config{OnEvent: func(e client.Event) {
				if e.ID == wire.AsyncSysMsg && e.Type == wire.Text {
					told <- string(e.Payload)
				}
			}})
			login(t, c, h.user, h.password)
			// Calls that wait for an answer.
			ctx := deadline(t)
			for range 3 {
				call, err := c.Call(ctx, "set_pw")
				if err != nil {
					t.Fatal(err)
				}
				if f, err := call.Next(ctx); err != nil || f.Type != wire.PrivText {
					t.Fatalf("set_pw: %v, %v", f.Type, err)
				}
			}
			deaf(t, h)

			began := time.Now()
			h.stop(t, sig)
			t.Logf("stopped within %v", time.Since(began).Round(time.Millisecond))
			<-c.Done()
			if err := c.Err(); !errors.Is(err, client.ErrLost) {
				t.Errorf("the session ended with %v, want ErrLost", err)
			}
			// The time of the calls has gone to those that nobody read.
			late := deadline(t)
			for {
				select {
				case text := <-told:
					if strings.Contains(text, "host stops") {
						return
					}
				case <-late.Done():
					t.Fatal("the client was not told that the host stops")
				}
			}
		})
	}
}

// deaf logs in a client that calls commands and reads nothing until the host
// takes no more from it.
func deaf(t *testing.T, h *hostProcess) {
	t.Helper()
	conn, err := client.Connect(deadline(t), h.addr, client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.Conn.(*net.TCPConn).SetReadBuffer(4096)
	frames := wire.NewReader(conn, wire.MaxPayload)
	list := wire.CmdID(0)
	for {
		f, err := frames.Next()
		if err != nil {
			t.Fatal(err)
		}
		if f.Type == wire.NewCmd {
			var info wire.CommandInfo
			if err := wire.Parse(f.Payload, &info); err != nil {
				t.Fatal(err)
			}
			if info.Name == "ls_cmds" {
				list = info.ID
			}
		}
		if f.Cmd == wire.CmdID(wire.AsyncRdy) {
			break
		}
	}
	out := wire.NewWriter(conn)
	args := []byte("-find " + strings.Repeat("x", 8<<10)) // fills the sockets sooner
	for sent := 0; ; sent++ {
		conn.SetWriteDeadline(time.Now().Add(time.Second))
		if err := out.WriteFrame(wire.Text, list, 1, args); err != nil {
			if !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "timeout") {
				t.Fatalf("after %d calls: %v", sent, err)
			}
			t.Logf("the host takes no more after %d calls", sent)
			return
		}
	}
}
