package raw

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"mrci.dev/mrci/wire"
)

// Branch is the branch of every call: a recorded answer then fits any call.
const Branch wire.BranchID = 1

// Nowhere is the id of no command.
const Nowhere wire.CmdID = 0xfffe

// Patience bounds every conversation with a server. What takes longer is
// broken, and a benchmark that hangs tells nobody.
const Patience = 2 * time.Minute

// TLSConfig trusts any certificate: both ends are this program, on loopback.
var TLSConfig = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}

// Client is a client with nothing around the bytes: what it costs is the same
// whatever server it talks to.
type Client struct {
	// Conn is the connection, inside TLS if the server wants that.
	Conn net.Conn
	// Record collects what Next returns, when it is not nil.
	Record *[]byte

	buf []byte
	// unread bytes are buf[start:end].
	start, end int

	ids map[string]wire.CmdID // commands by name, as the server told
}

// Dial connects to a server and returns when it is ready for commands.
func Dial(ctx context.Context, addr string) (*Client, error) {
	c, err := Connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	if err := c.ReadGreeting(); err != nil {
		c.Close()
		return nil, fmt.Errorf("greeting of %s: %w", addr, err)
	}
	return c, nil
}

// Connect exchanges headers and does the TLS handshake.
func Connect(ctx context.Context, addr string) (*Client, error) {
	nc, err := DialTCP(ctx, addr)
	if err != nil {
		return nil, err
	}
	if nc, err = ExchangeHeaders(ctx, nc); err != nil {
		return nil, err
	}
	return New(nc, 32<<10), nil
}

// New returns a client for a connection that is ready for frames. The
// buffer has this size at first, which is above 0.
func New(nc net.Conn, buffer int) *Client {
	return &Client{Conn: nc, buf: make([]byte, buffer), ids: make(map[string]wire.CmdID)}
}

// DialTCP connects to a loopback address, and to no other.
func DialTCP(ctx context.Context, addr string) (net.Conn, error) {
	nc, err := DialFrom(ctx, addr, nil)
	if err != nil {
		return nil, err
	}
	return nc, nc.SetDeadline(time.Now().Add(Patience))
}

// DialFrom is DialTCP from an address of the caller's choice, nil: any, and
// without a deadline.
func DialFrom(ctx context.Context, addr string, from net.IP) (*net.TCPConn, error) {
	to, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, err
	}
	if !to.IP.IsLoopback() {
		return nil, fmt.Errorf("%s is no loopback address", addr)
	}
	var d net.Dialer
	if from != nil {
		d.LocalAddr = &net.TCPAddr{IP: from}
	}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, Explain(err)
	}
	return nc.(*net.TCPConn), nil
}

// Explain makes the usual reason for a failing dial one that can be acted
// on. The system's error has no name here that all systems share.
func Explain(err error) error {
	if err != nil && strings.Contains(err.Error(), "too many open files") {
		return fmt.Errorf("%w: raise the limit (ulimit -n) or measure fewer sessions", err)
	}
	return err
}

// ExchangeHeaders returns the connection for frames. On error it has closed nc.
func ExchangeHeaders(ctx context.Context, nc net.Conn) (_ net.Conn, err error) {
	defer func() {
		if err != nil {
			nc.Close()
		}
	}()
	if _, err := nc.Write(wire.ClientHeader{AppName: "mrci bench"}.Append(nil)); err != nil {
		return nil, err
	}
	h, err := ReadHostHeader(nc)
	if err != nil || h.Reply != wire.ReplyTLS {
		return nc, err
	}
	secured := tls.Client(nc, TLSConfig)
	return secured, secured.HandshakeContext(ctx)
}

// ReadHostHeader reads the header that a host answers with.
func ReadHostHeader(nc net.Conn) (wire.HostHeader, error) {
	var b [wire.HostHeaderSize]byte
	if _, err := io.ReadFull(nc, b[:]); err != nil {
		return wire.HostHeader{}, err
	}
	return wire.ParseHostHeader(&b)
}

// Close closes the connection.
func (c *Client) Close() error { return c.Conn.Close() }

// Renew renews the time that the server has to answer.
func (c *Client) Renew() { _ = c.Conn.SetDeadline(time.Now().Add(Patience)) }

// Next returns the next frame; its payload is valid until more is read.
func (c *Client) Next() (wire.Frame, error) {
	for {
		f, rest, ok := wire.CutFrame(c.buf[c.start:c.end])
		if ok {
			if c.Record != nil {
				*c.Record = append(*c.Record, c.buf[c.start:c.end-len(rest)]...)
			}
			c.start = c.end - len(rest)
			return f, nil
		}
		if err := c.Fill(); err != nil {
			return wire.Frame{}, err
		}
	}
}

// Fill reads more into the buffer, which grows when it is full.
func (c *Client) Fill() error {
	if c.start > 0 {
		c.end = copy(c.buf, c.buf[c.start:c.end])
		c.start = 0
	}
	if c.end == len(c.buf) {
		c.buf = append(c.buf, make([]byte, len(c.buf))...)
	}
	n, err := c.Conn.Read(c.buf[c.end:])
	c.end += n
	if n > 0 {
		return nil
	}
	return err
}

// Unread is what was read and is no frame that Next has returned. It is valid
// until more is read.
func (c *Client) Unread() []byte { return c.buf[c.start:c.end] }

// Release gives the buffer up and returns what stands unread in it: from now
// on somebody else reads the connection.
func (c *Client) Release() []byte {
	rest := bytes.Clone(c.Unread())
	c.buf, c.start, c.end = nil, 0, 0
	return rest
}

// ReadGreeting enters the commands that the server offers, up to RDY.
func (c *Client) ReadGreeting() error {
	for {
		f, err := c.Next()
		switch {
		case err != nil:
			return err
		case f.Cmd == wire.CmdID(wire.AsyncRdy):
			return nil
		}
		if err := c.NoteCommand(f); err != nil {
			return err
		}
	}
}

// NoteCommand enters a command that the server tells of.
func (c *Client) NoteCommand(f wire.Frame) error {
	if f.Cmd != wire.CmdID(wire.AsyncAddCmd) || f.Type != wire.NewCmd {
		return nil
	}
	var info wire.CommandInfo
	if err := wire.Parse(f.Payload, &info); err != nil {
		return err
	}
	c.ids[info.Name] = info.ID
	return nil
}

// ID returns the id of a command that the server has offered.
func (c *Client) ID(name string) (wire.CmdID, error) {
	if id, ok := c.ids[name]; ok {
		return id, nil
	}
	return 0, fmt.Errorf("the server offers no command %s", name)
}

// Call sends a request and returns when the IDLE of cmd has come.
func (c *Client) Call(request []byte, cmd wire.CmdID) error {
	if _, err := c.Conn.Write(request); err != nil {
		return err
	}
	return c.UntilIdle(cmd)
}

// UntilIdle returns when the IDLE of cmd has come; a code that is no NO_ERRORS
// is an error with what the command said.
func (c *Client) UntilIdle(cmd wire.CmdID) error {
	var said []byte
	for {
		f, err := c.Next()
		if err != nil {
			return err
		}
		if f.Cmd != cmd {
			continue
		}
		switch f.Type {
		case wire.Err:
			said = bytes.Clone(f.Payload)
		case wire.Idle:
			code, _, err := wire.ParseIdle(f.Payload)
			if err == nil && code != wire.NoErrors {
				err = fmt.Errorf("command %d ended with %v: %s", cmd, code, bytes.TrimSpace(said))
			}
			return err
		}
	}
}

// Account is who logs in.
type Account struct {
	Name     string `json:"name"`
	Password string `json:"password"`
}

// Ask begins a login and returns when the server has asked for the password.
func (c *Client) Ask(name string) (auth wire.CmdID, err error) {
	if auth, err = c.ID("auth"); err != nil {
		return 0, err
	}
	if _, err := c.Conn.Write(wire.AppendText(nil, wire.Text, auth, Branch, "-user "+name)); err != nil {
		return 0, err
	}
	return auth, c.Prompted(auth)
}

// Prompted returns when the server has asked for something hidden.
func (c *Client) Prompted(auth wire.CmdID) error {
	var said []byte
	for {
		f, err := c.Next()
		switch {
		case err != nil:
			return err
		case f.Cmd != auth:
		case f.Type == wire.PrivText:
			return nil
		case f.Type == wire.Err:
			said = bytes.Clone(f.Payload)
		case f.Type == wire.Idle:
			return fmt.Errorf("no login: %s", bytes.TrimSpace(said))
		}
	}
}

// Login logs in and returns when so many frames have come behind the login,
// which are its list of commands, and how long that took from the password on.
func (c *Client) Login(a Account, listFrames int) (time.Duration, error) {
	auth, err := c.Ask(a.Name)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := c.Conn.Write(wire.AppendText(nil, wire.Text, auth, Branch, a.Password)); err != nil {
		return 0, err
	}
	if err := c.UntilIdle(auth); err != nil {
		return 0, err
	}
	for range listFrames {
		if _, err := c.Next(); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// FirstLogin logs in with a one-time password and sets the one of a.
func (c *Client) FirstLogin(a Account, once string) error {
	auth, err := c.Ask(a.Name)
	if err != nil {
		return err
	}
	if _, err := c.Conn.Write(wire.AppendText(nil, wire.Text, auth, Branch, once)); err != nil {
		return err
	}
	if err := c.Prompted(auth); err != nil {
		return err
	}
	return c.Call(wire.AppendText(nil, wire.Text, auth, Branch, a.Password), auth)
}

// Enlist logs in and enters the commands that the server offers then.
func (c *Client) Enlist(a Account) error {
	auth, err := c.Ask(a.Name)
	if err != nil {
		return err
	}
	if err := c.Call(wire.AppendText(nil, wire.Text, auth, Branch, a.Password), auth); err != nil {
		return err
	}
	myInfo, err := c.ID("my_info")
	if err != nil {
		return err
	}
	// What comes before the answer belongs to the login.
	return c.noteUntilIdle(wire.AppendText(nil, wire.Text, myInfo, Branch, ""), myInfo)
}

// Shrink gives up a buffer that has grown: there may be many clients.
func (c *Client) Shrink() {
	unread := c.Unread()
	c.buf = make([]byte, max(len(unread), 512))
	c.start, c.end = 0, copy(c.buf, unread)
}

// Run calls a command with a command line.
func (c *Client) Run(name, line string) error {
	id, err := c.ID(name)
	if err != nil {
		return err
	}
	c.Renew()
	if err := c.Call(wire.AppendText(nil, wire.Text, id, Branch, line), id); err != nil {
		return fmt.Errorf("%s %s: %w", name, line, err)
	}
	return nil
}

// noteUntilIdle is Call that enters the commands that the server tells of, and
// takes any code.
func (c *Client) noteUntilIdle(request []byte, cmd wire.CmdID) error {
	if _, err := c.Conn.Write(request); err != nil {
		return err
	}
	for {
		f, err := c.Next()
		if err != nil {
			return err
		}
		if f.Cmd == cmd && f.Type == wire.Idle {
			return nil
		}
		if err := c.NoteCommand(f); err != nil {
			return err
		}
	}
}

// Reset breaks a connection off: the other end gets RST instead of FIN.
func Reset(nc net.Conn) {
	if secured, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = secured.NetConn()
	}
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // the close that follows is what counts
	}
	nc.Close()
}
