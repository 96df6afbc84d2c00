package hosttest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"mrci.dev/mrci/wire"
)

// patience is how long a test waits for a frame that must come.
const patience = 20 * time.Second

// Client speaks frames with a host: for tests that have to see every one of
// them, or to send what the client library never would. It belongs to the
// test's goroutine and ends the test when the host breaks off.
type Client struct {
	Conn   net.Conn // of the frames: TLS when the host wanted it
	Header wire.HostHeader
	// Commands are what the host offers now, by ADD_CMD and RM_CMD.
	Commands map[string]wire.CommandInfo

	t testing.TB
	r *wire.Reader
}

// Dial connects to a host and exchanges headers. It reads no frame.
func Dial(t testing.TB, addr string, header wire.ClientHeader) *Client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{Conn: nc, Commands: make(map[string]wire.CommandInfo), t: t}
	t.Cleanup(func() { c.Conn.Close() })
	if _, err := nc.Write(header.Append(nil)); err != nil {
		t.Fatal(err)
	}
	var b [wire.HostHeaderSize]byte
	if err := nc.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(nc, b[:]); err != nil {
		t.Fatalf("host header: %v", err)
	}
	if c.Header, err = wire.ParseHostHeader(&b); err != nil {
		t.Fatal(err)
	}
	if c.Header.Reply == wire.ReplyTLS {
		// Whom a test talks to is not in doubt.
		c.Conn = tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	}
	c.r = wire.NewReader(c.Conn, 0)
	return c
}

// Connect is Dial, and reading until the session is ready.
func (h *Host) Connect() *Client {
	h.t.Helper()
	c := Dial(h.t, h.Address(), wire.ClientHeader{AppName: "hosttest"})
	c.Ready()
	return c
}

// Ready reads until ASYNC_RDY and returns what came before.
func (c *Client) Ready() []wire.Frame {
	c.t.Helper()
	return c.Until(func(f wire.Frame) bool { return f.Cmd == wire.CmdID(wire.AsyncRdy) })
}

// Write sends bytes as they are.
func (c *Client) Write(b []byte) {
	c.t.Helper()
	if err := c.Conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.Conn.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// Send sends one frame.
func (c *Client) Send(t wire.TypeID, cmd wire.CmdID, branch wire.BranchID, payload string) {
	c.t.Helper()
	c.Write(wire.AppendText(nil, t, cmd, branch, payload))
}

// ID returns the id of a command that the host offers.
func (c *Client) ID(name string) wire.CmdID {
	c.t.Helper()
	info, ok := c.Commands[name]
	if !ok {
		c.t.Fatalf("the host does not offer %s", name)
	}
	return info.ID
}

// Read reads a frame, or says why there is none. The payload is the caller's.
func (c *Client) Read() (wire.Frame, error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return wire.Frame{}, err
	}
	f, err := c.r.Next()
	if err != nil {
		return wire.Frame{}, err
	}
	f.Payload = bytes.Clone(f.Payload)
	// ERR and IDLE for a frame that was sent to these ids are no news.
	switch {
	case f.Cmd == wire.CmdID(wire.AsyncAddCmd) && f.Type == wire.NewCmd:
		var info wire.CommandInfo
		if err := wire.Parse(f.Payload, &info); err != nil {
			return f, err
		}
		c.Commands[info.Name] = info
	case f.Cmd == wire.CmdID(wire.AsyncRmCmd) && f.Type == wire.CommandID:
		var gone wire.CommandRef
		if err := wire.Parse(f.Payload, &gone); err != nil {
			return f, err
		}
		known := false
		for name, info := range c.Commands {
			if info.ID == gone.ID {
				delete(c.Commands, name)
				known = true
			}
		}
		if !known {
			return f, fmt.Errorf("RM_CMD for %d, which was not offered", gone.ID)
		}
	}
	return f, nil
}

// Next is Read for a frame that must come.
func (c *Client) Next() wire.Frame {
	c.t.Helper()
	f, err := c.Read()
	if err != nil {
		c.t.Fatalf("waiting for a frame: %v", err)
	}
	return f
}

// Until reads up to a frame that matches, and returns all.
func (c *Client) Until(match func(wire.Frame) bool) []wire.Frame {
	c.t.Helper()
	var frames []wire.Frame
	for {
		f, err := c.Read()
		if err != nil {
			c.t.Fatalf("after %s: %v", Kinds(frames), err)
		}
		frames = append(frames, f)
		if match(f) {
			return frames
		}
	}
}

// UntilIdle reads up to the IDLE of a call and returns all.
func (c *Client) UntilIdle(cmd wire.CmdID, branch wire.BranchID) []wire.Frame {
	c.t.Helper()
	return c.Until(func(f wire.Frame) bool { return f.Type == wire.Idle && f.Cmd == cmd && f.Branch == branch })
}

// UntilType reads up to a frame of the type and returns all.
func (c *Client) UntilType(t wire.TypeID) []wire.Frame {
	c.t.Helper()
	return c.Until(func(f wire.Frame) bool { return f.Type == t })
}

// Call runs a command that asks nothing, on branch 0, and returns what came up
// to its IDLE.
func (c *Client) Call(name, arguments string) []wire.Frame {
	c.t.Helper()
	id := c.ID(name)
	c.Send(wire.Text, id, 0, arguments)
	return c.UntilIdle(id, 0)
}

// Login logs in with Password and reads on to the complete list.
func (c *Client) Login(user string) {
	c.t.Helper()
	id := c.ID("auth")
	c.Send(wire.Text, id, 0, "-user "+user)
	c.UntilType(wire.PrivText)
	c.Send(wire.Text, id, 0, Password)
	if got := Kinds(c.UntilIdle(id, 0)); !strings.HasSuffix(got, "IDLE 1") {
		c.t.Fatalf("login as %s: %s", user, got)
	}
	c.Call("my_info", "")
}

// Ended reads until the host closes the connection and returns what came.
func (c *Client) Ended() []wire.Frame {
	c.t.Helper()
	var frames []wire.Frame
	for {
		f, err := c.Read()
		switch {
		case errors.Is(err, io.EOF):
			return frames
		case err != nil:
			c.t.Fatalf("after %s: %v, want the end of the connection", Kinds(frames), err)
		}
		frames = append(frames, f)
	}
}

// Kinds tells what frames are, for comparing: the type, behind it the code of
// an IDLE and the async id, if any.
func Kinds(frames []wire.Frame) string {
	kinds := make([]string, len(frames))
	for i, f := range frames {
		kinds[i] = f.Type.String()
		if f.Type == wire.Idle {
			code, _, err := wire.ParseIdle(f.Payload)
			if err != nil {
				kinds[i] += " ?"
			} else {
				kinds[i] += fmt.Sprintf(" %d", code)
			}
		}
		if f.Cmd.IsAsync() {
			kinds[i] += "@" + wire.AsyncID(f.Cmd).String()
		}
	}
	return strings.Join(kinds, ", ")
}

// Texts returns the payloads of all frames of the type, one behind the other.
func Texts(t wire.TypeID, frames []wire.Frame) string {
	var b strings.Builder
	for _, f := range frames {
		if f.Type == t {
			b.Write(f.Payload)
		}
	}
	return b.String()
}
