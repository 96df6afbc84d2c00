package bench

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

// branch is the branch of every call: a recorded answer then fits any call.
const branch wire.BranchID = 1

// patience bounds every conversation with a server. What takes longer is
// broken, and a benchmark that hangs tells nobody.
const patience = 2 * time.Minute

// clientTLS trusts any certificate: both ends are this program, on loopback.
var clientTLS = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}

// peer is a client with nothing around the bytes: what it costs is the same
// whatever server it talks to.
type peer struct {
	nc  net.Conn
	buf []byte
	// unread bytes are buf[start:end].
	start, end int

	ids map[string]wire.CmdID // commands by name, as the greeting told
	// record collects what next returns, when it is not nil.
	record *[]byte
}

// dial connects to a server and returns when it is ready for commands.
func dial(ctx context.Context, addr string) (*peer, error) {
	p, err := connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	if err := p.readGreeting(); err != nil {
		p.Close()
		return nil, fmt.Errorf("greeting of %s: %w", addr, err)
	}
	return p, nil
}

// connect exchanges headers and does the TLS handshake.
func connect(ctx context.Context, addr string) (*peer, error) {
	nc, err := dialTCP(ctx, addr)
	if err != nil {
		return nil, err
	}
	if nc, err = exchangeHeaders(ctx, nc); err != nil {
		return nil, err
	}
	return newPeer(nc, 32<<10), nil
}

// newPeer returns a client for a connection that is ready for frames. The
// buffer has this size at first.
func newPeer(nc net.Conn, buffer int) *peer {
	return &peer{nc: nc, buf: make([]byte, buffer), ids: make(map[string]wire.CmdID)}
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	ip, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, err
	}
	if !ip.IP.IsLoopback() {
		return nil, fmt.Errorf("%s is no loopback address", addr)
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, descriptors(err)
	}
	return nc, nc.SetDeadline(time.Now().Add(patience))
}

// descriptors makes the usual reason for a failing dial one that can be acted
// on. The system's error has no name here that all systems share.
func descriptors(err error) error {
	if err != nil && strings.Contains(err.Error(), "too many open files") {
		return fmt.Errorf("%w: raise the limit (ulimit -n) or measure fewer sessions", err)
	}
	return err
}

// exchangeHeaders returns the connection for frames. On error it has closed nc.
func exchangeHeaders(ctx context.Context, nc net.Conn) (_ net.Conn, err error) {
	defer func() {
		if err != nil {
			nc.Close()
		}
	}()
	if _, err := nc.Write(wire.ClientHeader{AppName: "mrci bench"}.Append(nil)); err != nil {
		return nil, err
	}
	h, err := readHostHeader(nc)
	if err != nil || h.Reply != wire.ReplyTLS {
		return nc, err
	}
	secured := tls.Client(nc, clientTLS)
	return secured, secured.HandshakeContext(ctx)
}

func readHostHeader(nc net.Conn) (wire.HostHeader, error) {
	var b [wire.HostHeaderSize]byte
	if _, err := io.ReadFull(nc, b[:]); err != nil {
		return wire.HostHeader{}, err
	}
	return wire.ParseHostHeader(&b)
}

// Close closes the connection.
func (p *peer) Close() error { return p.nc.Close() }

// patient renews the time that the server has to answer.
func (p *peer) patient() { _ = p.nc.SetDeadline(time.Now().Add(patience)) }

// next returns the next frame; its payload is valid until the following call.
func (p *peer) next() (wire.Frame, error) {
	for {
		f, rest, ok := wire.CutFrame(p.buf[p.start:p.end])
		if ok {
			if p.record != nil {
				*p.record = append(*p.record, p.buf[p.start:p.end-len(rest)]...)
			}
			p.start = p.end - len(rest)
			return f, nil
		}
		if err := p.fill(); err != nil {
			return wire.Frame{}, err
		}
	}
}

// fill reads more into the buffer, which grows when it is full.
func (p *peer) fill() error {
	if p.start > 0 {
		p.end = copy(p.buf, p.buf[p.start:p.end])
		p.start = 0
	}
	if p.end == len(p.buf) {
		p.buf = append(p.buf, make([]byte, len(p.buf))...)
	}
	n, err := p.nc.Read(p.buf[p.end:])
	p.end += n
	if n > 0 {
		return nil
	}
	return err
}

// unread is what was read and is no frame that next has returned. It is valid
// until more is read.
func (p *peer) unread() []byte { return p.buf[p.start:p.end] }

// release gives the buffer up and returns what stands unread in it: from now
// on somebody else reads the connection.
func (p *peer) release() []byte {
	rest := bytes.Clone(p.unread())
	p.buf, p.start, p.end = nil, 0, 0
	return rest
}

func (p *peer) readGreeting() error {
	for {
		f, err := p.next()
		switch {
		case err != nil:
			return err
		case f.Cmd == wire.CmdID(wire.AsyncRdy):
			return nil
		}
		if err := p.noteCommand(f); err != nil {
			return err
		}
	}
}

// noteCommand enters a command that the server tells of.
func (p *peer) noteCommand(f wire.Frame) error {
	if f.Cmd != wire.CmdID(wire.AsyncAddCmd) || f.Type != wire.NewCmd {
		return nil
	}
	var info wire.CommandInfo
	if err := wire.Parse(f.Payload, &info); err != nil {
		return err
	}
	p.ids[info.Name] = info.ID
	return nil
}

// id returns the id of a command that the server has offered.
func (p *peer) id(name string) (wire.CmdID, error) {
	if id, ok := p.ids[name]; ok {
		return id, nil
	}
	return 0, fmt.Errorf("the server offers no command %s", name)
}

// call sends a request and returns when the IDLE of cmd has come.
func (p *peer) call(request []byte, cmd wire.CmdID) error {
	if _, err := p.nc.Write(request); err != nil {
		return err
	}
	return p.untilIdle(cmd)
}

func (p *peer) untilIdle(cmd wire.CmdID) error {
	var said []byte
	for {
		f, err := p.next()
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

// account is who logs in.
type account struct {
	Name     string `json:"name"`
	Password string `json:"password"`
}

// ask begins a login and returns when the server has asked for the password.
func (p *peer) ask(name string) (auth wire.CmdID, err error) {
	if auth, err = p.id("auth"); err != nil {
		return 0, err
	}
	if _, err := p.nc.Write(wire.AppendText(nil, wire.Text, auth, branch, "-user "+name)); err != nil {
		return 0, err
	}
	return auth, p.prompted(auth)
}

// prompted returns when the server has asked for something hidden.
func (p *peer) prompted(auth wire.CmdID) error {
	var said []byte
	for {
		f, err := p.next()
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

// login logs in and returns when the list frames that follow a login have come,
// and how long that took from the password on.
func (p *peer) login(a account, listFrames int) (time.Duration, error) {
	auth, err := p.ask(a.Name)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := p.nc.Write(wire.AppendText(nil, wire.Text, auth, branch, a.Password)); err != nil {
		return 0, err
	}
	if err := p.untilIdle(auth); err != nil {
		return 0, err
	}
	for range listFrames {
		if _, err := p.next(); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// firstLogin logs in with a one-time password and sets the one of a.
func (p *peer) firstLogin(a account, once string) error {
	auth, err := p.ask(a.Name)
	if err != nil {
		return err
	}
	if _, err := p.nc.Write(wire.AppendText(nil, wire.Text, auth, branch, once)); err != nil {
		return err
	}
	if err := p.prompted(auth); err != nil {
		return err
	}
	return p.call(wire.AppendText(nil, wire.Text, auth, branch, a.Password), auth)
}

// enlist logs in and learns all commands.
func (p *peer) enlist(a account) error {
	auth, err := p.ask(a.Name)
	if err != nil {
		return err
	}
	if err := p.call(wire.AppendText(nil, wire.Text, auth, branch, a.Password), auth); err != nil {
		return err
	}
	myInfo, err := p.id("my_info")
	if err != nil {
		return err
	}
	// What comes before the answer belongs to the login.
	return p.noteUntilIdle(wire.AppendText(nil, wire.Text, myInfo, branch, ""), myInfo)
}

// shrink gives up a buffer that has grown: there may be many clients.
func (p *peer) shrink() {
	unread := p.unread()
	p.buf = make([]byte, max(len(unread), 512))
	p.start, p.end = 0, copy(p.buf, unread)
}

// run calls a command with a command line.
func (p *peer) run(name, line string) error {
	id, err := p.id(name)
	if err != nil {
		return err
	}
	p.patient()
	if err := p.call(wire.AppendText(nil, wire.Text, id, branch, line), id); err != nil {
		return fmt.Errorf("%s %s: %w", name, line, err)
	}
	return nil
}

// noteUntilIdle is call that enters the commands that the server tells of.
func (p *peer) noteUntilIdle(request []byte, cmd wire.CmdID) error {
	if _, err := p.nc.Write(request); err != nil {
		return err
	}
	for {
		f, err := p.next()
		if err != nil {
			return err
		}
		if f.Cmd == cmd && f.Type == wire.Idle {
			return nil
		}
		if err := p.noteCommand(f); err != nil {
			return err
		}
	}
}

// resetTCP breaks a connection off: the other end gets RST instead of FIN.
func resetTCP(nc net.Conn) {
	if secured, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = secured.NetConn()
	}
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // the close that follows is what counts
	}
	nc.Close()
}

// nowhere is the id of no command.
const nowhere wire.CmdID = 0xfffe
