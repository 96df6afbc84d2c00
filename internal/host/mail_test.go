package host_test

import (
	"fmt"
	"io"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	smtpserver "github.com/emersion/go-smtp"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/wire"
)

// mailbox is a mail server that keeps what it gets.
type mailbox struct {
	t     *testing.T
	port  int
	mails chan letter
}

type letter struct{ to, text string }

func startMail(t *testing.T) *mailbox {
	t.Helper()
	m := &mailbox{t: t, mails: make(chan letter, 1000)} // more than any test sends
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.port = l.Addr().(*net.TCPAddr).Port
	srv := smtpserver.NewServer(smtpserver.BackendFunc(func(*smtpserver.Conn) (smtpserver.Session, error) {
		return &delivery{box: m}, nil
	}))
	srv.Domain = "mail.example.org"
	srv.EnableSMTPUTF8 = true
	var served sync.WaitGroup
	served.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() {
		_ = srv.Close()
		l.Close()
		served.Wait()
	})
	return m
}

type delivery struct {
	box *mailbox
	to  string
}

func (d *delivery) Reset()        {}
func (d *delivery) Logout() error { return nil }
func (d *delivery) Mail(string, *smtpserver.MailOptions) error {
	return nil
}
func (d *delivery) Rcpt(to string, _ *smtpserver.RcptOptions) error {
	d.to = to
	return nil
}
func (d *delivery) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	d.box.mails <- letter{d.to, string(text)}
	return err
}

// settings make a host use the server.
func (m *mailbox) settings() hosttest.Option {
	return hosttest.Set("smtp_host=127.0.0.1", fmt.Sprintf("smtp_port=%d", m.port), "smtp_tls=none", "smtp_from=mrci@example.org")
}

// next returns the next mail, which must be to an address.
func (m *mailbox) next(to string) string {
	m.t.Helper()
	select {
	case l := <-m.mails:
		if l.to != to {
			m.t.Fatalf("a mail to %s, want one to %s", l.to, to)
		}
		return decoded(m.t, l.text)
	case <-time.After(20 * time.Second):
		m.t.Fatalf("no mail to %s", to)
	}
	return ""
}

func (m *mailbox) none() {
	m.t.Helper()
	select {
	case l := <-m.mails:
		m.t.Errorf("a mail to %s that nobody wanted", l.to)
	default:
	}
}

var (
	oneTime = regexp.MustCompile(`(?m)^(\S{20})\r?$`)
	sixDig  = regexp.MustCompile(`(?m)^(\d{6})\r?$`)
)

func found(t *testing.T, re *regexp.Regexp, text string) string {
	t.Helper()
	m := re.FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in\n%s", re, text)
	}
	return m[1]
}

func verified(r *account.Record) error { r.EmailVerified = true; return nil }

// TestRecover: a recovery password comes by mail and opens the account once;
// other sessions are logged out; who is unknown gets the same answers.
func TestRecover(t *testing.T) {
	m := startMail(t)
	h := hosttest.Start(t, m.settings())
	u := h.User("user", 2)
	h.User("unverified", 2)
	h.Change(u.ID, verified)
	inside, c := h.Connect(), h.Connect()
	inside.Login("user")
	said := make(map[string]bool)
	for _, name := range []string{"stranger", "unverified", "user"} {
		frames := c.Call("request_pw_reset", "-user "+name)
		wantKinds(t, frames, "TEXT, IDLE 1")
		said[string(frames[0].Payload)] = true
	}
	if len(said) != 1 {
		t.Errorf("answers differ: %v", said)
	}
	pw := found(t, oneTime, m.next("user@example.org"))
	m.none()
	const again = ", ERR, PRIV_TEXT"
	wantKinds(t, dialogue(c, "recover_acct", "-user stranger", "x", "y", ""), "PRIV_TEXT"+again+again+", TEXT, IDLE 2")
	wantKinds(t, dialogue(c, "recover_acct", "-user user", right, pw, "weak", right, ""), "PRIV_TEXT"+again+", PRIV_TEXT"+again+again+", TEXT, IDLE 2")
	wantKinds(t, dialogue(c, "recover_acct", "-email user@example.org", pw, other), "PRIV_TEXT, PRIV_TEXT, TEXT, IDLE 1")
	if who(c) != "" || who(inside) != "" {
		t.Errorf("logged in: %q, %q", who(c), who(inside))
	}
	wantKinds(t, dialogue(c, "auth", "-user user", right, other), "PRIV_TEXT"+again+", MY_INFO@SYS_MSG, TEXT, IDLE 1")
	c = h.Connect()
	wantKinds(t, dialogue(c, "recover_acct", "-user user", pw, ""), "PRIV_TEXT"+again+", TEXT, IDLE 2") // it is used up

	// Five wrong ones void it, and look the same for nobody.
	c.Call("request_pw_reset", "-user user")
	pw = found(t, oneTime, m.next("user@example.org"))
	wrong := []string{"1", "2", "3", "4", "5"}
	five := "PRIV_TEXT" + strings.Repeat(again, 4) + ", ERR, IDLE 3"
	wantKinds(t, dialogue(c, "recover_acct", "-user user", wrong...), five)
	wantKinds(t, dialogue(c, "recover_acct", "-user stranger", wrong...), five)
	wantKinds(t, dialogue(c, "recover_acct", "-user user", pw, ""), "PRIV_TEXT"+again+", TEXT, IDLE 2")
	if strings.Contains(h.Log(), pw) {
		t.Error("a recovery password is in the log")
	}
}

// TestVerifyEmail: the code comes by mail; every session is told.
func TestVerifyEmail(t *testing.T) {
	m := startMail(t)
	h := hosttest.Start(t, m.settings(), hosttest.Set("mails_per_account=2"))
	h.User("user", 2)
	h.User("clumsy", 2)
	c, second := h.Connect(), h.Connect()
	c.Login("user")
	second.Login("user")
	dialogue(c, "verify_email", "")
	code := found(t, sixDig, m.next("user@example.org"))
	id := c.ID("verify_email")
	c.Send(wire.Text, id, 0, "000000")
	wantKinds(t, c.UntilType(wire.PrivText), "ERR, PRIV_TEXT")
	c.Send(wire.Text, id, 0, code)
	wantKinds(t, c.UntilIdle(id, 0), "MY_INFO@SYS_MSG, TEXT, IDLE 1")
	wantKinds(t, second.Call("is_email_verified", ""), "MY_INFO@SYS_MSG, TEXT, IDLE 1")
	step{"verify_email", "", nil, "TEXT, IDLE 1", "already"}.run(t, c)
	m.none()

	// Another address has to be verified again, and the old one is told.
	wantKinds(t, c.Call("set_email", "-new_email new@example.org"), "MY_INFO@SYS_MSG, IDLE 1")
	if text := m.next("user@example.org"); !strings.Contains(text, "user") {
		t.Errorf("the old address gets\n%s", text)
	}
	step{"is_email_verified", "", nil, "TEXT, IDLE 1", "false\n"}.run(t, c)
	step{"verify_email", "", nil, "ERR, IDLE 6", "wait"}.run(t, c) // one a minute

	c = h.Connect()
	c.Login("clumsy")
	wantKinds(t, dialogue(c, "verify_email", "", "1", "2", "3", "4", "5"), "PRIV_TEXT"+strings.Repeat(", ERR, PRIV_TEXT", 4)+", ERR, IDLE 3")
	m.next("clumsy@example.org")
	h.Stop()
	if strings.Contains(h.Log(), code) {
		t.Error("a code is in the log")
	}
}

// TestMailBroken: the reason is in the log, not in the answer.
func TestMailBroken(t *testing.T) {
	m := startMail(t)
	h := hosttest.Start(t, m.settings())
	h.User("user", 2)
	if err := os.WriteFile(h.Conf.ResetPwMailTemplate, []byte("no keyword"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := h.Connect()
	c.Login("user")
	anonymous := h.Connect()
	for command, frames := range map[string][]wire.Frame{
		"verify_email": c.Call("verify_email", ""), "request_pw_reset": anonymous.Call("request_pw_reset", "-user user"),
	} {
		text := hosttest.Texts(wire.Err, frames)
		if got := hosttest.Kinds(frames); got != "ERR, IDLE 6" || !strings.Contains(text, "message id") || strings.Contains(text, "%otp%") {
			t.Errorf("%s: got %s %q", command, got, text)
		}
	}
	if !strings.Contains(h.Log(), "%otp%") && !strings.Contains(h.Log(), "%user_name%") {
		t.Error("the log has no reason")
	}
	m.none()
}

// TestLimitsPerAddress: state 10.
func TestLimitsPerAddress(t *testing.T) {
	m := startMail(t)
	h := hosttest.Start(t, m.settings(), hosttest.Set("limit_loopback=true", "failures_per_addr=3", "registrations_per_addr=2",
		"mails_per_account=2", "mail_unverified=true", "enable_public_reg=true"))
	h.User("user", 2)
	c := h.Connect()
	for i, want := range []string{"PRIV_TEXT", "PRIV_TEXT", "ERR, IDLE 3"} {
		wantKinds(t, dialogue(c, "add_acct", fmt.Sprintf("-name new%d -email new%d@example.org", i, i)), want)
		c.Send(wire.KillCmd, c.ID("add_acct"), 0, "")
		if i < 2 {
			c.UntilIdle(c.ID("add_acct"), 0)
		}
	}
	for range 4 {
		wantKinds(t, c.Call("request_pw_reset", "-user user"), "TEXT, IDLE 1")
	}
	m.next("user@example.org")
	m.next("user@example.org")
	const again = ", ERR, PRIV_TEXT"
	frames := dialogue(c, "auth", "-user user", right)
	wantKinds(t, frames, "PRIV_TEXT, MY_INFO@SYS_MSG, TEXT, IDLE 1")
	c = h.Connect()
	wantKinds(t, dialogue(c, "auth", "-user user", "1", "2", "3", right), "PRIV_TEXT"+again+again+again+", ERR, IDLE 3")
	wantKinds(t, dialogue(c, "recover_acct", "-user user", "1"), "PRIV_TEXT, ERR, IDLE 3")
	waitUntil(t, "the log says why there were no more mails", func() bool { return strings.Count(h.Log(), "mails_per_account") >= 2 })
	h.Stop()
	m.none()
}

// decoded is the text of a mail behind its header.
func decoded(t *testing.T, mail string) string {
	t.Helper()
	_, body, _ := strings.Cut(mail, "\r\n\r\n")
	text, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestMailHeaders: whatever users have typed, and whatever an account has that
// did not come through the rules, no mail leaves with a header or a recipient
// that is not the host's.
func TestMailHeaders(t *testing.T) {
	m := startMail(t)
	h := hosttest.Start(t, m.settings(), hosttest.Set("mail_unverified=true", "enable_pw_reset=true", "enable_email_verify=true",
		"reset_pw_mail_subject=Bcc: %user_name% ?", "email_verify_subject==?utf-8?q?a=0D=0ABcc:_x?="))
	for _, bad := range []string{"a\r\nBcc: x@y.example", "a\nBcc: x@y.example", "a\rBcc: x@y.example"} {
		c := h.Conf
		for _, key := range []string{"reset_pw_mail_subject", "email_verify_subject"} {
			if err := c.Set(key + "=" + bad); err == nil {
				t.Errorf("%s may be %q", key, bad)
			}
		}
	}
	h.User("admin", 1)
	root, stranger := h.Connect(), h.Connect()
	root.Login("admin")

	s, err := store.Open(t.Context(), store.Config{Path: h.Conf.DBHostName})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	alter := func(user account.User, change func(*account.Record) error) account.User {
		t.Helper()
		r, err := s.Change(t.Context(), user.ID, change)
		if err != nil {
			t.Fatal(err)
		}
		return r.User
	}
	allowed := make(map[string]bool) // addresses that may get mail
	var letters []letter
	// mails asks for each kind of mail, and waits for it if it must come.
	mails := func(user account.User, c *hosttest.Client, must bool) {
		t.Helper()
		next := fmt.Sprintf("next-%s@example.org", user.ID.String()[:8])
		allowed[next] = true
		for _, ask := range []func(){
			func() {
				dialogue(c, "verify_email", "")
				c.Send(wire.KillCmd, c.ID("verify_email"), 0, "")
			},
			func() { // the old address is told
				alter(user, verified)
				c.Call("set_email", "-new_email "+next)
			},
			func() { stranger.Call("request_pw_reset", `-user "`+user.Name+`"`) },
		} {
			ask()
			if !must {
				continue
			}
			select {
			case l := <-m.mails:
				letters = append(letters, l)
			case <-time.After(20 * time.Second):
				t.Fatalf("no mail for %q", user.Name)
			}
		}
	}
	for i, ending := range []string{"\r\n", "\n", "\r", "\r\n\r\n", "\u0085", "\u2028", "\v"} {
		line := ending + "Bcc: x@y.zz"
		// What a user can type.
		name := fmt.Sprintf("typed%d", i)
		user := h.User(name, 2)
		allowed[user.Email] = true
		c := h.Connect()
		c.Login(name)
		for _, form := range []string{
			`set_disp_name -new_name "a%s"`, `set_user_name -new_name "%s"`, `set_email -new_email "%s"`,
			`set_user_name -new_name "a%s"`, `set_email -new_email "a@b.example%s"`, `set_email -new_email "a%s@b.example"`,
		} {
			command, args, _ := strings.Cut(fmt.Sprintf(form, line), " ")
			c.Call(command, args)
		}
		root.Call("force_set_email", fmt.Sprintf(`-user %s -new_email "a@b.example%s"`, name, line))
		now, err := h.Accounts().User(t.Context(), user.ID)
		if err != nil || now.Email != user.Email {
			t.Errorf("%q became an address: %q, %v", line, now.Email, err)
		}
		mails(now, c, true)

		// What another program may have stored.
		for k, change := range []func(*account.Record){
			func(r *account.Record) { r.Display += line },
			func(r *account.Record) { r.Name += line },
			func(r *account.Record) { r.Email += line },
			func(r *account.Record) { r.Email = "a" + line + r.Email },
		} {
			name := fmt.Sprintf("stored%d%d", i, k)
			user := h.User(name, 2)
			c := h.Connect()
			c.Login(name)
			user = alter(user, func(r *account.Record) error { change(r); return nil })
			allowed[name+"@example.org"] = true
			mails(user, c, k == 0) // a display name is in no mail
		}
	}
	h.Stop()

	for len(m.mails) > 0 {
		letters = append(letters, <-m.mails)
	}
	host := []string{"Auto-Submitted", "Content-Transfer-Encoding", "Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Subject", "To"}
	for _, l := range letters {
		if !allowed[l.to] {
			t.Errorf("a mail to %q", l.to)
		}
		msg, err := netmail.ReadMessage(strings.NewReader(l.text))
		if err != nil {
			t.Fatalf("%v in\n%s", err, l.text)
		}
		for key, values := range msg.Header {
			if !slices.Contains(host, key) && !strings.EqualFold(key, "User-Agent") && !strings.EqualFold(key, "X-Mailer") || len(values) != 1 {
				t.Errorf("header %s: %q", key, values)
			}
		}
		to, err := msg.Header.AddressList("To")
		if err != nil || len(to) != 1 || to[0].Address != l.to {
			t.Errorf("to %v, %v, want %s", to, err, l.to)
		}
		head, _, _ := strings.Cut(l.text, "\r\n\r\n")
		if strings.Contains(strings.ReplaceAll(head, "\r\n", ""), "\n") || strings.Contains(strings.ReplaceAll(head, "\r\n", ""), "\r") {
			t.Errorf("a bare line end in the header: %q", head)
		}
	}
	t.Logf("%d mails", len(letters))
}
