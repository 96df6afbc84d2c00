package mail

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"mrci.dev/mrci/internal/account"
)

// The values of SMTPConfig.TLS.
const (
	StartTLS    = "starttls" // clear at first, then STARTTLS is demanded
	ImplicitTLS = "tls"      // TLS from the first byte
	NoTLS       = "none"
)

// submission is the port of RFC 6409.
const submission = 587

// maxReplies is how much a server may say about one mail. The client keeps
// replies of any length in memory.
const maxReplies = 1 << 20

// SMTPConfig says which server takes the mails (smtp_* in state 4).
type SMTPConfig struct {
	Host     string
	Port     int    // 0: 587
	User     string // empty: no login
	Password account.Secret
	From     string         // an address, with or without a name
	TLS      string         // empty: StartTLS
	RootCAs  *x509.CertPool // who may have signed the server's certificate; nil: whom the system trusts
}

// SMTP sends each mail over a connection of its own.
type SMTP struct {
	cfg  SMTPConfig
	from netmail.Address
	tls  *tls.Config
	helo string
}

// NewSMTP checks the configuration. It does not talk to the server.
func NewSMTP(cfg SMTPConfig) (*SMTP, error) {
	if cfg.Host == "" {
		return nil, errors.New("smtp_host: missing")
	}
	if cfg.Port == 0 {
		cfg.Port = submission
	}
	if cfg.TLS == "" {
		cfg.TLS = StartTLS
	}
	if cfg.TLS != StartTLS && cfg.TLS != ImplicitTLS && cfg.TLS != NoTLS {
		return nil, fmt.Errorf("smtp_tls: %q is not valid: want %s, %s or %s", cfg.TLS, StartTLS, ImplicitTLS, NoTLS)
	}
	from, err := netmail.ParseAddress(cfg.From)
	if err == nil {
		err = checkAddress("smtp_from", from.Address)
	}
	if err == nil && from.Name != "" {
		err = checkLine("smtp_from", []byte(from.Name))
	}
	if err != nil {
		return nil, fmt.Errorf("smtp_from: want the sender's e-mail address: %w", err)
	}
	s := &SMTP{
		cfg:  cfg,
		from: *from,
		tls:  &tls.Config{ServerName: cfg.Host, RootCAs: cfg.RootCAs, MinVersion: tls.VersionTLS12},
		helo: "localhost",
	}
	// A machine without a usable name still may send.
	if name, err := os.Hostname(); err == nil && name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r >= utf8.RuneSelf || r != '.' && unfitForHost(r)
	}) {
		s.helo = name
	}
	return s, nil
}

// Send gives the mail to the server. A nil error means that the server took
// responsibility for it. The error has what the server said, with the address
// masked.
func (s *SMTP) Send(ctx context.Context, m Message) error {
	if err := m.check(); err != nil {
		return err
	}
	addr := net.JoinHostPort(s.cfg.Host, strconv.Itoa(s.cfg.Port))
	step, err := s.send(ctx, addr, m)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		// The connection was closed because of it: what that broke is no news.
		return fmt.Errorf("smtp server %s: %s: %w", addr, step, context.Cause(ctx))
	}
	return fmt.Errorf("smtp server %s: %s: %s", addr, step, m.scrub(err.Error(), false, s.cfg.Password))
}

// send returns how far it came, for the error.
func (s *SMTP) send(ctx context.Context, addr string, m Message) (step string, err error) {
	text, err := s.compose(m)
	if err != nil {
		return "compose mail", err
	}
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "connect", err
	}
	defer raw.Close() // the result is known by then
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	if deadline, ok := ctx.Deadline(); ok {
		if err := raw.SetDeadline(deadline); err != nil {
			return "connect", err
		}
	}

	var conn net.Conn = &boundedConn{Conn: raw, left: maxReplies}
	if s.cfg.TLS == ImplicitTLS {
		secure := tls.Client(conn, s.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return "start TLS", err
		}
		conn = secure
	}
	c, err := smtp.NewClient(conn, s.cfg.Host)
	if err != nil {
		return "read greeting", err
	}
	if err := c.Hello(s.helo); err != nil {
		return "say hello", err
	}
	if s.cfg.TLS == StartTLS {
		if ok, _ := c.Extension("STARTTLS"); !ok {
			return "start TLS", errors.New(`the server does not offer STARTTLS: set smtp_tls to "tls" or "none" if that is right`)
		}
		if err := c.StartTLS(s.tls); err != nil {
			return "start TLS", err
		}
	}
	if s.cfg.User != "" {
		if err := s.login(c); err != nil {
			return "log in", err
		}
	}
	return s.hand(c, m, text)
}

// hand gives the mail to a server that is ready for it.
func (s *SMTP) hand(c *smtp.Client, m Message, text *gomail.Msg) (step string, err error) {
	unicodeAddress := !ascii(m.To) || !ascii(s.from.Address)
	if ok, _ := c.Extension("SMTPUTF8"); unicodeAddress && !ok {
		return "name recipient", errors.New("the server takes addresses of ASCII characters only")
	}
	c.SkipSMTPUTF8(!unicodeAddress)
	if err := c.Mail("<" + s.from.Address + ">"); err != nil {
		return "name sender", err
	}
	if err := c.Rcpt("<" + m.To + ">"); err != nil {
		return "name recipient", err
	}
	w, err := c.Data()
	if err != nil {
		return "send text", err
	}
	if _, err := text.WriteTo(w); err != nil {
		return "send text", err
	}
	if err := w.Close(); err != nil {
		return "send text", err
	}
	_ = c.Quit() // the server has the mail, however the farewell goes
	return "", nil
}

// compose makes the text on the wire.
func (s *SMTP) compose(m Message) (*gomail.Msg, error) {
	_, domain, _ := strings.Cut(s.from.Address, "@")
	text := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	if err := text.FromFormat(s.from.Name, s.from.Address); err != nil {
		return nil, err
	}
	if err := text.To(m.To); err != nil {
		return nil, err
	}
	text.Subject(m.Subject)
	text.SetDate()
	text.SetMessageIDWithValue(rand.Text() + "@" + domain)
	text.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: nobody's holiday greeting comes back
	text.SetBodyString(gomail.TypeTextPlain, string(m.Body))
	return text, nil
}

// login picks the strongest mechanism that the server offers. The clear ones
// are refused by their implementation on a connection without TLS, unless that
// stays on this machine.
func (s *SMTP) login(c *smtp.Client) error {
	_, list := c.Extension("AUTH")
	offered := strings.Fields(strings.ToUpper(list))
	user, password, host := s.cfg.User, string(s.cfg.Password), s.cfg.Host
	mechanisms := []struct {
		name string
		auth smtp.Auth
	}{
		{"SCRAM-SHA-256", smtp.ScramSHA256Auth(user, password)},
		{"SCRAM-SHA-1", smtp.ScramSHA1Auth(user, password)},
		{"PLAIN", smtp.PlainAuth("", user, password, host, false)},
		{"LOGIN", smtp.LoginAuth(user, password, host, false)},
		{"CRAM-MD5", smtp.CRAMMD5Auth(user, password)},
	}
	if s.cfg.TLS == NoTLS && slices.Contains(offered, "CRAM-MD5") {
		mechanisms = slices.Delete(mechanisms, 2, 4)
	}
	for _, m := range mechanisms {
		if slices.Contains(offered, m.name) {
			return c.Auth(m.auth)
		}
	}
	if len(offered) == 0 {
		return errors.New("the server offers no login: clear smtp_user if it needs none")
	}
	return fmt.Errorf("none of the server's ways to log in is known: %s", strings.Join(offered, " "))
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// boundedConn ends reading after so many bytes.
type boundedConn struct {
	net.Conn
	left int
}

var errTalkative = fmt.Errorf("the server said more than %d bytes", maxReplies)

func (c *boundedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTalkative
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
