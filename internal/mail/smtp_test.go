package mail_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	smtpserver "github.com/emersion/go-smtp"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/mail"
)

// serverConfig is how the test's mail server behaves.
type serverConfig struct {
	tls       string // mail.StartTLS: offered; mail.ImplicitTLS; else none
	user      string // demanded when set, with password
	password  string
	mechanism []string
	utf8      bool
	refuse    bool // every recipient
}

type received struct {
	user, from, to string
	utf8           bool
	text           []byte
}

// server is a mail server that keeps what it gets.
type server struct {
	serverConfig
	addr  *net.TCPAddr
	roots *x509.CertPool

	mu    sync.Mutex
	mails []received
}

func startServer(t *testing.T, cfg serverConfig) *server {
	t.Helper()
	certificate, roots := makeCertificate(t)
	s := &server{serverConfig: cfg, roots: roots}
	srv := smtpserver.NewServer(smtpserver.BackendFunc(func(c *smtpserver.Conn) (smtpserver.Session, error) {
		return &session{server: s, conn: c}, nil
	}))
	srv.Domain = "mail.example.org"
	srv.AllowInsecureAuth = true
	srv.EnableSMTPUTF8 = cfg.utf8
	srv.ErrorLog = log.New(io.Discard, "", 0)
	config := &tls.Config{Certificates: []tls.Certificate{certificate}}
	l := listen(t)
	s.addr = l.Addr().(*net.TCPAddr)
	switch cfg.tls {
	case mail.StartTLS:
		srv.TLSConfig = config
	case mail.ImplicitTLS:
		l = tls.NewListener(l, config)
	}
	var served sync.WaitGroup
	served.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() {
		_ = srv.Close()
		l.Close() // the server knows it only once Serve has begun
		served.Wait()
	})
	return s
}

func (s *server) config(mode string) mail.SMTPConfig {
	return mail.SMTPConfig{
		Host: s.addr.IP.String(), Port: s.addr.Port, TLS: mode, RootCAs: s.roots,
		User: s.user, Password: account.Secret(s.password), From: "MRCI Hösting <mrci@example.org>",
	}
}

func (s *server) received() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

type session struct {
	server *server
	conn   *smtpserver.Conn
	mail   received
}

func (s *session) Reset() {}

func (s *session) Logout() error { return nil }

func (s *session) AuthMechanisms() []string {
	if s.server.user == "" {
		return nil
	}
	if s.server.mechanism != nil {
		return s.server.mechanism
	}
	return []string{sasl.Plain}
}

func (s *session) Auth(mechanism string) (sasl.Server, error) {
	check := func(user, password string) error {
		if user != s.server.user || password != s.server.password {
			return errors.New("wrong password sesame2")
		}
		s.mail.user = user
		return nil
	}
	if mechanism == sasl.Login {
		return &loginServer{check: check}, nil
	}
	return sasl.NewPlainServer(func(_, user, password string) error { return check(user, password) }), nil
}

// loginServer is the mechanism LOGIN.
type loginServer struct {
	step  int
	user  string
	check func(user, password string) error
}

func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	l.step++
	switch l.step {
	case 1:
		return []byte("Username:"), false, nil
	case 2:
		l.user = string(response)
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(l.user, string(response))
}

func (s *session) Mail(from string, opts *smtpserver.MailOptions) error {
	if s.server.user != "" && s.mail.user == "" {
		return smtpserver.ErrAuthRequired
	}
	s.mail.from, s.mail.utf8 = from, opts.UTF8
	return nil
}

func (s *session) Rcpt(to string, _ *smtpserver.RcptOptions) error {
	if s.server.refuse {
		return &smtpserver.SMTPError{Code: 550, EnhancedCode: smtpserver.EnhancedCode{5, 1, 1},
			Message: "no such user\n<" + strings.ToUpper(to) + "> or " + to}
	}
	s.mail.to = to
	return nil
}

func (s *session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.mail.text = text
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.mails = append(s.server.mails, s.mail)
	return nil
}

func makeCertificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

func newSMTP(t *testing.T, cfg mail.SMTPConfig) *mail.SMTP {
	t.Helper()
	s, err := mail.NewSMTP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSMTP(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  serverConfig
		mode string
	}{
		{"clear", serverConfig{}, mail.NoTLS},
		{"clear, though STARTTLS is offered", serverConfig{tls: mail.StartTLS}, mail.NoTLS},
		{"STARTTLS", serverConfig{tls: mail.StartTLS}, mail.StartTLS},
		{"STARTTLS by default, login", serverConfig{tls: mail.StartTLS, user: "host", password: "sesame"}, ""},
		{"implicit TLS", serverConfig{tls: mail.ImplicitTLS}, mail.ImplicitTLS},
		{"implicit TLS, login", serverConfig{tls: mail.ImplicitTLS, user: "host", password: "sesame"}, mail.ImplicitTLS},
		{"mechanism LOGIN", serverConfig{tls: mail.StartTLS, user: "host", password: "sesame", mechanism: []string{"XYZ", "LOGIN"}}, mail.StartTLS},
		{"login in clear on this machine", serverConfig{user: "host", password: "sesame"}, mail.NoTLS},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := startServer(t, tt.cfg)
			msg := message()
			msg.Subject = "Prüfung: " + strings.Repeat("lang ", 30) + "Ende"
			msg.Body = account.Secret("Hällo,\n.\n..\nFrom me\n\n1=2\n" + strings.Repeat("x", 2000) + "\n")
			if err := newSMTP(t, srv.config(tt.mode)).Send(t.Context(), msg); err != nil {
				t.Fatal(err)
			}
			mails := srv.received()
			if len(mails) != 1 {
				t.Fatalf("got %d mails", len(mails))
			}
			got := mails[0]
			if got.from != "mrci@example.org" || got.to != msg.To || got.user != tt.cfg.user || got.utf8 {
				t.Errorf("envelope: %s to %s by %q, UTF-8 %v", got.from, got.to, got.user, got.utf8)
			}
			parsed, err := netmail.ReadMessage(bytes.NewReader(got.text))
			if err != nil {
				t.Fatal(err)
			}
			subject, err := new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject"))
			if err != nil || subject != msg.Subject {
				t.Errorf("subject: %q, %v", subject, err)
			}
			if from, err := parsed.Header.AddressList("From"); err != nil || len(from) != 1 || from[0].Name != "MRCI Hösting" || from[0].Address != "mrci@example.org" {
				t.Errorf("From: %v, %v", from, err)
			}
			if to, err := parsed.Header.AddressList("To"); err != nil || len(to) != 1 || to[0].Address != msg.To {
				t.Errorf("To: %v, %v", to, err)
			}
			if parsed.Header.Get("Auto-Submitted") != "auto-generated" || !strings.HasSuffix(parsed.Header.Get("Message-ID"), "@example.org>") {
				t.Errorf("headers: %v", parsed.Header)
			}
			body, err := io.ReadAll(quotedprintable.NewReader(parsed.Body))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimRight(strings.ReplaceAll(string(body), "\r\n", "\n"), "\n") + "\n"; got != string(msg.Body) {
				t.Errorf("body: %q", got)
			}
		})
	}
}

func TestSMTPRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		cfg    serverConfig
		mode   string
		change func(*mail.SMTPConfig, *mail.Message)
		want   []string
	}{
		{"STARTTLS is not offered", serverConfig{}, mail.StartTLS, nil, []string{"start TLS", "does not offer STARTTLS"}},
		{"unknown certificate after STARTTLS", serverConfig{tls: mail.StartTLS}, mail.StartTLS,
			func(c *mail.SMTPConfig, _ *mail.Message) { c.RootCAs = x509.NewCertPool() }, []string{"start TLS", "unknown authority"}},
		{"unknown certificate", serverConfig{tls: mail.ImplicitTLS}, mail.ImplicitTLS,
			func(c *mail.SMTPConfig, _ *mail.Message) { c.RootCAs = x509.NewCertPool() }, []string{"start TLS", "unknown authority"}},
		{"certificate for another name", serverConfig{tls: mail.ImplicitTLS}, mail.ImplicitTLS,
			func(c *mail.SMTPConfig, _ *mail.Message) { c.Host = "localhost" }, []string{"start TLS", "localhost"}},
		{"wrong password", serverConfig{tls: mail.StartTLS, user: "host", password: "sesame"}, mail.StartTLS,
			func(c *mail.SMTPConfig, _ *mail.Message) { c.Password = account.Secret("sesame2") }, []string{"log in", "[hidden]"}},
		{"no login offered", serverConfig{}, mail.NoTLS,
			func(c *mail.SMTPConfig, _ *mail.Message) { c.User = "host" }, []string{"log in", "clear smtp_user"}},
		{"no known mechanism", serverConfig{user: "host", mechanism: []string{"XYZ"}}, mail.NoTLS, nil, []string{"log in", "XYZ"}},
		{"login in clear over the network", serverConfig{user: "host", password: "sesame"}, mail.NoTLS,
			func(c *mail.SMTPConfig, _ *mail.Message) { c.Host = "::ffff:127.0.0.1" }, []string{"log in", "unencrypted"}},
		{"login missing", serverConfig{user: "host"}, mail.NoTLS,
			func(c *mail.SMTPConfig, _ *mail.Message) { c.User = "" }, []string{"name sender", "authenticate"}},
		{"recipient", serverConfig{refuse: true}, mail.NoTLS, nil,
			[]string{"name recipient", "550", "no such user", "<a***@example.org> or a***@example.org"}},
		{"address beyond ASCII", serverConfig{}, mail.NoTLS,
			func(_ *mail.SMTPConfig, m *mail.Message) { m.To = "änn@example.org" }, []string{"name recipient", "ASCII"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := startServer(t, tt.cfg)
			cfg, msg := srv.config(tt.mode), message()
			if tt.change != nil {
				tt.change(&cfg, &msg)
			}
			wantText(t, newSMTP(t, cfg).Send(t.Context(), msg), tt.want...)
			if got := srv.received(); len(got) > 0 {
				t.Errorf("the server got %+v", got)
			}
		})
	}
}

func TestSMTPUnicodeAddress(t *testing.T) {
	srv := startServer(t, serverConfig{utf8: true})
	msg := message()
	msg.To = "änn@exämple.org"
	if err := newSMTP(t, srv.config(mail.NoTLS)).Send(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	if got := srv.received(); len(got) != 1 || got[0].to != msg.To || !got[0].utf8 {
		t.Errorf("got %+v", got)
	}
}

func TestNewSMTP(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*mail.SMTPConfig)
		want   string
	}{
		{"no host", func(c *mail.SMTPConfig) { c.Host = "" }, "smtp_host"},
		{"unknown TLS", func(c *mail.SMTPConfig) { c.TLS = "ssl" }, `smtp_tls: "ssl"`},
		{"no sender", func(c *mail.SMTPConfig) { c.From = "" }, "smtp_from"},
		{"two senders", func(c *mail.SMTPConfig) { c.From = "a@b.c, d@e.f" }, "smtp_from"},
		{"dash", func(c *mail.SMTPConfig) { c.From = "-a@b.c" }, "smtp_from"},
		{"control character in the name", func(c *mail.SMTPConfig) { c.From = "=?utf-8?q?a=0ABcc:_x@y.z?= <a@b.c>" }, "smtp_from"},
	} {
		cfg := mail.SMTPConfig{Host: "mail.example.org", From: "mrci@example.org"}
		tt.change(&cfg)
		_, err := mail.NewSMTP(cfg)
		wantText(t, err, tt.want)
	}
}

// scripted starts a server that says one line after another, each after a line
// of the client but the first, and then does what end says.
func scripted(t *testing.T, lines []string, end func(net.Conn)) mail.SMTPConfig {
	t.Helper()
	l := listen(t)
	var served sync.WaitGroup
	served.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		in := bufio.NewReader(conn)
		for i, line := range lines {
			if i > 0 {
				got, err := in.ReadString('\n')
				// After DATA comes a text that ends with a dot.
				for strings.HasPrefix(lines[i-1], "354") && err == nil && got != ".\r\n" {
					got, err = in.ReadString('\n')
				}
				if err != nil {
					return
				}
			}
			if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
				return
			}
		}
		end(conn)
	})
	t.Cleanup(func() {
		l.Close()
		served.Wait()
	})
	addr := l.Addr().(*net.TCPAddr)
	return mail.SMTPConfig{Host: addr.IP.String(), Port: addr.Port, TLS: mail.NoTLS, From: "mrci@example.org"}
}

// conversation is what a server says to one mail.
var conversation = []string{"220 hello", "250 mail.example.org", "250 sender", "250 recipient", "354 go on", "250 taken"}

func TestSMTPConnectionLost(t *testing.T) {
	for said, step := range []string{"read greeting", "say hello", "name sender", "name recipient", "send text", "send text", ""} {
		cfg := scripted(t, conversation[:said], func(net.Conn) {})
		err := newSMTP(t, cfg).Send(t.Context(), message())
		if step == "" {
			if err != nil {
				t.Errorf("the server had taken the mail: %v", err)
			}
			continue
		}
		wantText(t, err, step)
	}
}

func TestSMTPHangs(t *testing.T) {
	for said := range conversation {
		hangs := make(chan struct{})
		cfg := scripted(t, conversation[:said], func(conn net.Conn) {
			close(hangs)
			_, _ = io.Copy(io.Discard, conn) // until the client gives up
		})
		ctx, cancel := context.WithCancelCause(t.Context())
		gaveUp := errors.New("gave up")
		var waits sync.WaitGroup
		waits.Go(func() {
			<-hangs
			cancel(gaveUp)
		})
		err := newSMTP(t, cfg).Send(ctx, message())
		waits.Wait()
		if !errors.Is(err, gaveUp) {
			t.Errorf("silent after %d lines: %v", said, err)
		}
	}
}

func TestSMTPDeadline(t *testing.T) {
	cfg := scripted(t, nil, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	// Whichever is first, the deadline of the socket or that of the context.
	if err := newSMTP(t, cfg).Send(ctx, message()); err == nil {
		t.Error("no error")
	}
}

func TestSMTPTalksForEver(t *testing.T) {
	cfg := scripted(t, conversation[:1], func(conn net.Conn) {
		line := []byte("250-" + strings.Repeat("x", 1000) + "\r\n")
		for {
			if _, err := conn.Write(line); err != nil {
				return
			}
		}
	})
	wantText(t, newSMTP(t, cfg).Send(t.Context(), message()), "said more than")
}

func TestSMTPNobodyThere(t *testing.T) {
	l := listen(t)
	addr := l.Addr().(*net.TCPAddr)
	l.Close()
	cfg := mail.SMTPConfig{Host: addr.IP.String(), Port: addr.Port, From: "mrci@example.org"}
	wantText(t, newSMTP(t, cfg).Send(t.Context(), message()), "connect")
}
