// Package clienttest is a scripted host for tests of programs that use package
// client: real sockets on loopback, real TLS, and commands that are functions.
// It keeps no accounts and makes no decisions; what it answers is what the
// test says. A script can also misbehave, byte by byte.
//
// Start serves until the test ends and then waits for every goroutine that it
// started.
package clienttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/wire"
)

// Command is a command of the scripted host.
type Command struct {
	Info wire.CommandInfo // ID 0: assigned in order, from 256 on
	// Run is the command. What it returns is sent as IDLE; 0 sends none. It
	// runs on a goroutine of its own.
	Run func(i *Instance) wire.ReturnCode
}

// Options say what the host does.
type Options struct {
	TLS         bool
	Certificate *tls.Certificate // nil: one that is made for this host
	Grant       wire.Extensions  // answered to clients that ask for extensions
	Commands    []Command        // offered to every session

	// Script takes over a session behind the headers and TLS, before anything
	// else is sent; the connection closes when it returns.
	Script func(s *Session)
	// Raw takes over a connection before anything is read from it.
	Raw func(conn net.Conn)
}

// Host is a running scripted host.
type Host struct {
	Addr        string // ADDR:PORT
	Fingerprint string // of its key; empty without TLS

	opts Options
	ln   net.Listener
	wg   sync.WaitGroup

	// guarded by mu
	mu      sync.Mutex
	closed  bool
	conns   map[net.Conn]bool
	headers []wire.ClientHeader
}

// Start starts a host that ends with the test.
func Start(t testing.TB, opts Options) *Host {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	h := &Host{Addr: ln.Addr().String(), opts: opts, ln: ln, conns: make(map[net.Conn]bool)}
	if opts.TLS {
		if h.opts.Certificate == nil {
			h.opts.Certificate = NewCertificate(t)
		}
		h.Fingerprint = client.Fingerprint(h.opts.Certificate.Leaf)
	}
	for i := range h.opts.Commands {
		if info := &h.opts.Commands[i].Info; info.ID == 0 {
			info.ID = wire.FirstCmdID + wire.CmdID(i)
		}
	}
	h.wg.Go(h.accept)
	t.Cleanup(h.Close)
	return h
}

// NewCertificate makes a self-signed certificate for localhost.
func NewCertificate(t testing.TB) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("make key: %v", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "localhost"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:         true, // so that a test can make it a root

		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatalf("make certificate: %v", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("parse certificate: %v", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// Close ends every connection and waits for the scripts.
func (h *Host) Close() {
	h.ln.Close()
	h.mu.Lock()
	h.closed = true
	for conn := range h.conns {
		conn.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
}

// Headers returns the headers of all clients so far.
func (h *Host) Headers() []wire.ClientHeader {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]wire.ClientHeader(nil), h.headers...)
}

func (h *Host) accept() {
	for {
		conn, err := h.ln.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		if h.closed {
			conn.Close()
		} else {
			h.conns[conn] = true
			h.wg.Go(func() {
				h.serve(conn)
				conn.Close()
				h.mu.Lock()
				delete(h.conns, conn)
				h.mu.Unlock()
			})
		}
		h.mu.Unlock()
	}
}

func (h *Host) serve(conn net.Conn) {
	if h.opts.Raw != nil {
		h.opts.Raw(conn)
		return
	}
	var b [wire.ClientHeaderSize]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return
	}
	header, err := wire.ParseClientHeader(&b)
	if err != nil {
		return
	}
	h.mu.Lock()
	h.headers = append(h.headers, header)
	h.mu.Unlock()
	answer := wire.HostHeader{Reply: wire.ReplyClear, Version: wire.Served, Session: wire.SessionID{1, 2, 3}}
	if h.opts.TLS {
		answer.Reply = wire.ReplyTLS
	}
	conn.Write(answer.Append(nil))
	if h.opts.TLS {
		conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{*h.opts.Certificate}})
	}
	s := &Session{Header: header, Conn: conn, host: h, in: wire.NewReader(conn, 0), instances: make(map[[2]uint16]*Instance)}
	if h.opts.Script != nil {
		h.opts.Script(s)
		return
	}
	s.Begin()
	s.Serve()
}

// Session is one connected client.
type Session struct {
	Header wire.ClientHeader
	Conn   net.Conn // TLS included

	host *Host
	in   *wire.Reader

	writing sync.Mutex

	mu        sync.Mutex
	instances map[[2]uint16]*Instance
	wg        sync.WaitGroup
}

// Begin answers a request for extensions, offers the commands and says that
// the session is ready.
func (s *Session) Begin() {
	if s.Header.Requested {
		s.SendValue(wire.Bytes, wire.CmdID(wire.AsyncExtensions), 0, &wire.ExtensionsGranted{Granted: s.host.opts.Grant})
	}
	for _, cmd := range s.host.opts.Commands {
		s.Offer(cmd.Info)
	}
	s.Send(wire.Text, wire.CmdID(wire.AsyncRdy), 0, nil)
}

// Offer sends ADD_CMD.
func (s *Session) Offer(info wire.CommandInfo) {
	s.SendValue(wire.NewCmd, wire.CmdID(wire.AsyncAddCmd), 0, &info)
}

// Withdraw sends RM_CMD.
func (s *Session) Withdraw(id wire.CmdID) {
	s.SendValue(wire.CommandID, wire.CmdID(wire.AsyncRmCmd), 0, &wire.CommandRef{ID: id})
}

// Send sends a frame. Errors are left to the next Read.
func (s *Session) Send(t wire.TypeID, cmd wire.CmdID, branch wire.BranchID, payload []byte) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.Conn.Write(wire.AppendFrame(nil, t, cmd, branch, payload))
}

// SendValue sends a frame with an encoded payload.
func (s *Session) SendValue(t wire.TypeID, cmd wire.CmdID, branch wire.BranchID, p wire.Payload) {
	s.Send(t, cmd, branch, wire.Append(nil, p))
}

// Read returns the client's next frame; the payload is valid until the next
// Read.
func (s *Session) Read() (wire.Frame, error) { return s.in.Next() }

// Serve runs the host's commands for the client until it goes away, and waits
// for those that still run: each sees its In closed.
func (s *Session) Serve() {
	for {
		f, err := s.Read()
		if err != nil {
			break
		}
		f.Payload = append([]byte(nil), f.Payload...)
		s.route(f)
	}
	s.mu.Lock()
	for _, i := range s.instances {
		close(i.in)
	}
	s.instances = nil
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *Session) route(f wire.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]uint16{uint16(f.Cmd), uint16(f.Branch)}
	if i := s.instances[key]; i != nil {
		i.in <- f
		return
	}
	if f.Type.IsControl() {
		return
	}
	for _, cmd := range s.host.opts.Commands {
		if cmd.Info.ID != f.Cmd {
			continue
		}
		i := &Instance{Session: s, First: f, in: make(chan wire.Frame, 64)}
		i.In = i.in
		s.instances[key] = i
		s.wg.Go(func() {
			code := cmd.Run(i)
			s.mu.Lock()
			delete(s.instances, key)
			s.mu.Unlock()
			if code != 0 {
				s.Send(wire.Idle, f.Cmd, f.Branch, append([]byte{byte(code), byte(code >> 8)}, i.Data...))
			}
		})
		return
	}
	s.Send(wire.Err, f.Cmd, f.Branch, []byte("no such command\n"))
	s.Send(wire.Idle, f.Cmd, f.Branch, []byte{byte(wire.InvalidParams), 0})
}

// Instance is one running command.
type Instance struct {
	*Session
	First wire.Frame        // that started it
	In    <-chan wire.Frame // later frames; closed when the client goes away
	Data  []byte            // sent behind the return code

	in chan wire.Frame
}

// Args returns the argument text of the call.
func (i *Instance) Args() string { return string(i.First.Payload) }

// Reply sends a frame of this call.
func (i *Instance) Reply(t wire.TypeID, payload []byte) {
	i.Send(t, i.First.Cmd, i.First.Branch, payload)
}

// Text sends TEXT.
func (i *Instance) Text(text string) { i.Reply(wire.Text, []byte(text)) }

// ErrStopped is returned by Ask when the client cancels instead of answering.
var ErrStopped = errors.New("stopped")

// Ask sends a prompt of the type and returns the answer.
func (i *Instance) Ask(t wire.TypeID, prompt string) (string, error) {
	i.Reply(t, []byte(prompt))
	for f := range i.In {
		switch f.Type {
		case wire.Text:
			return string(f.Payload), nil
		case wire.TermCmd, wire.KillCmd:
			return "", ErrStopped
		}
	}
	return "", io.EOF
}

// Stopped waits for TERM_CMD or KILL_CMD, and reports false when the client
// went away instead.
func (i *Instance) Stopped() bool {
	for f := range i.In {
		if f.Type == wire.TermCmd || f.Type == wire.KillCmd {
			return true
		}
	}
	return false
}
