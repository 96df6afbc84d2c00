// Package bare is a client that makes frames and takes them apart by hand, after
// the tables of the protocol alone. It shares nothing with package wire, so that
// a test which uses it does not believe the host's own idea of its bytes.
//
// A Client belongs to one goroutine at a time; its sending half may belong to
// another one than its receiving half.
package bare

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// Patience is how long a client waits for what must come; only a broken host
// reaches it.
const Patience = 30 * time.Second

// Type ids (protocol 3).
const (
	Text       = 2
	Err        = 3
	PrivText   = 4
	Idle       = 5
	PeerInfo   = 8
	MyInfo     = 9
	PeerStat   = 10
	P2PRequest = 11
	P2PClose   = 12
	P2POpen    = 13
	Bytes      = 14
	SessionID  = 15
	NewCmd     = 16
	CmdID      = 17
	TermCmd    = 19
	MemberInfo = 22
	ChID       = 23
	KillCmd    = 24
)

// Async ids (protocol 5).
const (
	Ready      = 1
	SysMsg     = 2
	CastID     = 4
	UserGone   = 7
	Limited    = 17
	P2P        = 19
	NewMember  = 21
	DelCh      = 22
	RenameCh   = 23
	NewSub     = 25
	RmSub      = 26
	RenameSub  = 27
	Invited    = 28
	RmMember   = 29
	Accepted   = 30
	LevelSet   = 31
	SubLevel   = 32
	AddRdOnly  = 33
	RmRdOnly   = 34
	AddCmd     = 35
	RmCmd      = 36
	headerSize = 8
)

// Frame is a frame as it stands on the wire (protocol 2).
type Frame struct {
	Type        byte
	Cmd, Branch uint16
	Payload     []byte
}

// At is a frame of an async: branch 0, and the parts as Cat puts them.
func At(async uint16, typ byte, parts ...any) Frame {
	return Frame{Type: typ, Cmd: async, Payload: Cat(parts...)}
}

// Raw returns the bytes of the frame.
func (f Frame) Raw() []byte {
	n := len(f.Payload)
	return append(Cat(f.Type, f.Cmd, f.Branch, byte(n), byte(n>>8), byte(n>>16)), f.Payload...)
}

// String shows all of a short frame and the beginning of a long one.
func (f Frame) String() string {
	const most = 300
	raw := f.Raw()
	shown := hex.EncodeToString(raw[headerSize:min(len(raw), most)])
	if len(raw) > most {
		shown += fmt.Sprintf("... (%d bytes)", len(f.Payload))
	}
	return fmt.Sprintf("%x|%s", raw[:headerSize], shown)
}

// Code returns the code of an IDLE; 0 for anything else.
func (f Frame) Code() int {
	if f.Type != Idle || len(f.Payload) < 2 {
		return 0
	}
	return int(f.Payload[0]) | int(f.Payload[1])<<8
}

// Cat puts parts behind each other: numbers little endian, texts and bytes as
// they are.
func Cat(parts ...any) []byte {
	var b []byte
	number := func(n uint64, bytes int) {
		for i := range bytes {
			b = append(b, byte(n>>(8*i)))
		}
	}
	for _, part := range parts {
		switch p := part.(type) {
		case byte:
			b = append(b, p)
		case uint16:
			number(uint64(p), 2)
		case uint32:
			number(uint64(p), 4)
		case uint64:
			number(p, 8)
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		case [28]byte:
			b = append(b, p[:]...)
		case [32]byte:
			b = append(b, p[:]...)
		default:
			panic(fmt.Sprintf("bare: %T has no bytes", part))
		}
	}
	return b
}

// Pad returns a text in a field of n bytes.
func Pad(text string, n int) []byte {
	return append([]byte(text), make([]byte, n-len(text))...)
}

// Client is one connection.
type Client struct {
	ID       [28]byte          // of the session
	Reply    byte              // of the host: 1 clear text, 2 TLS
	Commands map[string]uint16 // what is offered now

	t    testing.TB
	conn net.Conn // of the frames
	tcp  *net.TCPConn
	r    *bufio.Reader
}

// Dial connects, exchanges headers, makes TLS where the host wants it, and
// reads on until the session is ready.
func Dial(t testing.TB, addr, app string) *Client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &Client{t: t, conn: conn, tcp: conn.(*net.TCPConn), Commands: make(map[string]uint16)}
	c.Write(Cat("MRCI", Pad(app, 32), Pad("", 128), Pad("", 128)))
	head := make([]byte, 37)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatalf("header of the host: %v", err)
	}
	if want := Cat(uint16(5), uint16(1), uint16(2), uint16(1)); !bytes.Equal(head[1:9], want) {
		t.Fatalf("the host serves %x, want %x", head[1:9], want)
	}
	c.Reply = head[0]
	copy(c.ID[:], head[9:])
	if c.Reply == 2 {
		c.conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // whom a test talks to is not in doubt
	}
	c.r = bufio.NewReaderSize(c.conn, 64<<10)
	c.Until(func(f Frame) bool { return f.Cmd == Ready })
	return c
}

// Write sends bytes as they are.
func (c *Client) Write(b []byte) {
	c.t.Helper()
	if err := c.TryWrite(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// TryWrite is Write for a connection that the host may end.
func (c *Client) TryWrite(b []byte) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(Patience)); err != nil {
		return err
	}
	_, err := c.conn.Write(b)
	return err
}

// Send sends a frame to a command that is offered.
func (c *Client) Send(typ byte, command string, branch uint16, payload []byte) {
	c.t.Helper()
	c.Write(Frame{typ, c.Cmd(command), branch, payload}.Raw())
}

// Cmd returns the id of a command that is offered.
func (c *Client) Cmd(command string) uint16 {
	c.t.Helper()
	id, ok := c.Commands[command]
	if !ok {
		c.t.Fatalf("%s is not offered", command)
	}
	return id
}

// Read reads a frame, or says why there is none.
func (c *Client) Read() (Frame, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		return Frame{}, err
	}
	var head [headerSize]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return Frame{}, err
	}
	f := Frame{Type: head[0], Cmd: uint16(head[1]) | uint16(head[2])<<8, Branch: uint16(head[3]) | uint16(head[4])<<8}
	f.Payload = make([]byte, int(head[5])|int(head[6])<<8|int(head[7])<<16)
	if _, err := io.ReadFull(c.r, f.Payload); err != nil {
		return Frame{}, err
	}
	switch {
	case f.Cmd == AddCmd && f.Type == NewCmd && len(f.Payload) >= 131:
		name, _, _ := strings.Cut(string(f.Payload[3:67]), "\x00")
		c.Commands[name] = uint16(f.Payload[0]) | uint16(f.Payload[1])<<8
	case f.Cmd == RmCmd && f.Type == CmdID && len(f.Payload) == 2:
		for name, id := range c.Commands {
			if id == uint16(f.Payload[0])|uint16(f.Payload[1])<<8 {
				delete(c.Commands, name)
			}
		}
	}
	return f, nil
}

// Next is Read for a frame that must come.
func (c *Client) Next() Frame {
	c.t.Helper()
	f, err := c.Read()
	if err != nil {
		c.t.Fatalf("waiting for a frame: %v", err)
	}
	return f
}

// Until reads up to a frame that matches and returns all.
func (c *Client) Until(match func(Frame) bool) []Frame {
	c.t.Helper()
	var frames []Frame
	for {
		f, err := c.Read()
		if err != nil {
			c.t.Fatalf("after %v: %v", frames, err)
		}
		frames = append(frames, f)
		if match(f) {
			return frames
		}
	}
}

// UntilIdle reads up to the end of a call and returns all.
func (c *Client) UntilIdle(cmd, branch uint16) []Frame {
	c.t.Helper()
	return c.Until(func(f Frame) bool { return f.Type == Idle && f.Cmd == cmd && f.Branch == branch })
}

// Call runs a command on branch 0 and returns all that comes up to its IDLE.
func (c *Client) Call(command, arguments string) []Frame {
	c.t.Helper()
	id := c.Cmd(command)
	c.Write(Frame{Text, id, 0, []byte(arguments)}.Raw())
	return c.UntilIdle(id, 0)
}

// fence is a branch that nothing else uses.
const fence = 0xfedc

// Fence sends a call that SoFar waits for.
func (c *Client) Fence() {
	c.t.Helper()
	c.Send(Text, "my_info", fence, nil)
}

// SoFar returns what has come before the end of the call of Fence, without
// that call's own frames.
func (c *Client) SoFar() []Frame {
	c.t.Helper()
	var frames []Frame
	for _, f := range c.UntilIdle(c.Cmd("my_info"), fence) {
		if f.Branch != fence {
			frames = append(frames, f)
		}
	}
	return frames
}

// Login logs in and reads on to the complete list of commands.
func (c *Client) Login(user, password string) {
	c.t.Helper()
	auth := c.Cmd("auth")
	c.Write(Frame{Text, auth, 0, []byte("-user " + user)}.Raw())
	c.Until(func(f Frame) bool { return f.Type == PrivText })
	c.Write(Frame{Text, auth, 0, []byte(password)}.Raw())
	all := c.UntilIdle(auth, 0)
	if last := all[len(all)-1]; last.Code() != 1 {
		c.t.Fatalf("login as %s: %v", user, all)
	}
	c.Fence()
	c.SoFar()
}

// Close closes the connection.
func (c *Client) Close() { c.tcp.Close() }

// Reset breaks the connection off: the host gets RST.
func (c *Client) Reset() {
	c.tcp.SetLinger(0)
	c.tcp.Close()
}
