package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"mrci.dev/mrci/wire"
)

// DefaultPort is the port of a host that is named without one (cli 1).
const DefaultPort = "35516"

// Address completes ADDR[:PORT] with the default port; an IPv6 address with a
// port stands in brackets (cli 1).
func Address(host string) (string, error) {
	if host == "" {
		return "", errors.New("empty host name")
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		return net.JoinHostPort(host[1:len(host)-1], DefaultPort), nil
	}
	if !strings.Contains(host, ":") || net.ParseIP(host) != nil {
		return net.JoinHostPort(host, DefaultPort), nil // a name, or IPv6 without brackets
	}
	name, port, err := net.SplitHostPort(host)
	if err != nil || name == "" || port == "" {
		return "", fmt.Errorf("host %q: want ADDR[:PORT], IPv6 in brackets", host)
	}
	return host, nil
}

// Fingerprint returns how a certificate's key is named: SHA256: and the hex
// digest of its SubjectPublicKeyInfo (cli 1).
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return fingerprintPrefix + hex.EncodeToString(sum[:])
}

const fingerprintPrefix = "SHA256:"

// ParseFingerprint brings a typed fingerprint into the form that Fingerprint
// returns, or tells what is wrong with it.
func ParseFingerprint(text string) (string, error) {
	text = strings.TrimSpace(text)
	if len(text) >= len(fingerprintPrefix) && strings.EqualFold(text[:len(fingerprintPrefix)], fingerprintPrefix) {
		text = text[len(fingerprintPrefix):]
	}
	sum, err := hex.DecodeString(text)
	if err != nil || len(sum) != sha256.Size {
		return "", fmt.Errorf("fingerprint: want %s and %d hex digits", fingerprintPrefix, 2*sha256.Size)
	}
	return fingerprintPrefix + hex.EncodeToString(sum), nil
}

// Connection is a connection to a host on which the headers have been
// exchanged, encryption has been set up and the host's key is trusted. The
// next bytes on it are frames.
type Connection struct {
	net.Conn
	Session     wire.SessionID // of this connection
	Version     wire.Version   // that the host announces
	Fingerprint string         // of the host's key; empty in clear text
}

// Connect makes a Connection and does nothing else; it is for programs that
// read and write frames themselves. Of cfg it heeds what concerns the headers,
// trust and Timeout. The context bounds the call, not the connection.
func Connect(ctx context.Context, addr string, cfg Config) (*Connection, error) {
	cfg = cfg.withDefaults()
	addr, err := Address(addr)
	if err != nil {
		return nil, err
	}
	if cfg.Pin != "" {
		if cfg.Pin, err = ParseFingerprint(cfg.Pin); err != nil {
			return nil, err
		}
	}
	dialCtx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	raw, err := cfg.DialContext(dialCtx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	conn, state, err := handshake(dialCtx, raw, addr, cfg)
	if err == nil && state != nil {
		// The key is judged after the handshake and before anything is sent
		// or believed, so that a person who is asked has time to answer.
		err = judge(state, addr, cfg)
		conn.Fingerprint = Fingerprint(state.PeerCertificates[0])
	}
	if err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

// handshake exchanges the headers (protocol 1) and starts TLS if the host asks
// for it; state is nil otherwise.
func handshake(ctx context.Context, raw net.Conn, addr string, cfg Config) (_ *Connection, _ *tls.ConnectionState, err error) {
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil && ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
			err = fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}()
	request := wire.ClientHeader{AppName: cfg.App, ModInst: cfg.ModInst, Requested: cfg.Extensions != 0, Wanted: cfg.Extensions}
	if _, err := raw.Write(request.Append(nil)); err != nil {
		return nil, nil, fmt.Errorf("%w: send header: %w", ErrLost, err)
	}
	var b [wire.HostHeaderSize]byte
	if _, err := io.ReadFull(raw, b[:]); err != nil {
		return nil, nil, fmt.Errorf("%w: read host header: %w", ErrLost, err)
	}
	h, err := wire.ParseHostHeader(&b)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	conn := &Connection{Conn: raw, Session: h.Session, Version: h.Version}
	if h.Reply == wire.ReplyClear {
		if !cfg.AllowPlain && !loopback(raw.RemoteAddr()) {
			return nil, nil, ErrPlain
		}
		return conn, nil, nil
	}
	name, _, _ := net.SplitHostPort(addr)
	secure := tls.Client(raw, &tls.Config{
		ServerName:                  name,
		InsecureSkipVerify:          true, // judge decides, by more than one rule
		MinVersion:                  tls.VersionTLS12,
		DynamicRecordSizingDisabled: true,
	})
	if err := secure.HandshakeContext(ctx); err != nil {
		if isNetwork(err) {
			return nil, nil, fmt.Errorf("%w: TLS handshake: %w", ErrLost, err)
		}
		return nil, nil, fmt.Errorf("%w: TLS handshake: %w", ErrProtocol, err)
	}
	conn.Conn = secure
	state := secure.ConnectionState()
	return conn, &state, nil
}

// isNetwork tells a connection that broke from a handshake that was refused.
func isNetwork(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error") {
		return false // a TLS alert
	}
	var netErr net.Error
	return errors.As(err, &netErr) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.Canceled)
}

func loopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// judge decides whether the host's key is trusted (cli 1): a pin must match;
// what an authority vouches for under the typed name is fine; the rest is
// VerifyKey's, or needs a pin.
func judge(state *tls.ConnectionState, addr string, cfg Config) error {
	leaf := state.PeerCertificates[0]
	fingerprint := Fingerprint(leaf)
	refuse := func(err error) error {
		return &CertificateError{Addr: addr, Fingerprint: fingerprint, Err: err}
	}
	if cfg.Pin != "" && cfg.Pin != fingerprint {
		return refuse(fmt.Errorf("the key is not the expected %s", cfg.Pin))
	}
	name, _, _ := net.SplitHostPort(addr)
	opts := x509.VerifyOptions{DNSName: name, Roots: cfg.Roots, Intermediates: x509.NewCertPool()}
	for _, cert := range state.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	_, err := leaf.Verify(opts)
	if err == nil {
		return nil
	}
	if cfg.VerifyKey != nil {
		if err := cfg.VerifyKey(addr, fingerprint); err != nil {
			return refuse(err)
		}
		return nil
	}
	if cfg.Pin != "" {
		return nil
	}
	return refuse(err)
}
