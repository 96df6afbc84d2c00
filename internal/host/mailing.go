package host

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/mail"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// mailing fills the host's templates and sends the mails, by the settings of
// the moment.
type mailing struct {
	settings func() *conf.Config
	log      *slog.Logger

	mu      sync.Mutex
	mailer  *mail.Mailer
	way     mailWay        // that mailer was made for
	retired []*mail.Mailer // replaced; their mails are still on their way
	past    mail.Stats     // of mailers that are gone
}

// newMailing writes the templates that are missing.
func newMailing(settings func() *conf.Config, log *slog.Logger) (*mailing, error) {
	m := &mailing{settings: settings, log: log}
	if err := m.reload(settings()); err != nil {
		return nil, err
	}
	return m, nil
}

// mailWay is what the configuration says about how mails leave.
type mailWay struct {
	host     string
	port     int
	user     string
	password conf.Secret
	from     string
	tls      string
	command  string
}

func mailWayOf(c *conf.Config) mailWay {
	return mailWay{c.SMTPHost, c.SMTPPort, c.SMTPUser, c.SMTPPassword, c.SMTPFrom, c.SMTPTLS, c.MailClientCmd}
}

func mailConfig(c *conf.Config, log *slog.Logger) mail.Config {
	return mail.Config{
		SMTP: mail.SMTPConfig{
			Host: c.SMTPHost, Port: c.SMTPPort, User: c.SMTPUser, Password: account.Secret(string(c.SMTPPassword)),
			From: c.SMTPFrom, TLS: c.SMTPTLS,
		},
		Command: c.MailClientCmd,
		Log:     log,
	}
}

// reload prepares for the settings that are about to be in use. After an error
// nothing has changed.
func (m *mailing) reload(c *conf.Config) error {
	made, err := mail.WriteDefaults(mail.Paths{Reset: c.ResetPwMailTemplate, Verify: c.EmailVerifyTemplate})
	if err != nil {
		return err
	}
	for _, file := range made {
		m.log.Info("mail template written", "file", file)
	}
	way := mailWayOf(c)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mailer != nil && way == m.way {
		return nil
	}
	next, err := mail.New(mailConfig(c, m.log))
	if err != nil {
		return err
	}
	if m.mailer != nil {
		m.retire()
	}
	m.mailer, m.way = next, way
	return nil
}

// maxRetired bounds the mailers whose mails are awaited. An older one has had
// the time of many reloads.
const maxRetired = 4

// retire keeps the mailer until the host stops, so that its mails are not
// lost. mu is held.
func (m *mailing) retire() {
	m.retired = append(m.retired, m.mailer)
	if len(m.retired) > maxRetired {
		oldest := m.retired[0]
		m.retired = m.retired[1:]
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		oldest.Close(ended)
		m.past = sum(m.past, oldest.Stats())
	}
}

// close waits for mails that are on their way.
func (m *mailing) close(ctx context.Context) {
	m.mu.Lock()
	all := append(m.retired, m.mailer)
	m.mu.Unlock()
	for _, mailer := range all {
		mailer.Close(ctx)
	}
}

// stats adds up what all mailers have counted.
func (m *mailing) stats() mail.Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	total := sum(m.past, m.mailer.Stats())
	for _, old := range m.retired {
		total = sum(total, old.Stats())
	}
	return total
}

func sum(a, b mail.Stats) mail.Stats {
	return mail.Stats{Waiting: a.Waiting + b.Waiting, Sent: a.Sent + b.Sent, Failed: a.Failed + b.Failed}
}

func (m *mailing) present() *mail.Mailer {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mailer
}

// Ready implements accounts.Mail.
func (m *mailing) Ready() error {
	if !m.present().Configured() {
		return module.Fail(wire.ExecutionFail, "This host cannot send mail: its administrator has to set smtp_host or mail_client_cmd.")
	}
	for _, file := range []string{m.settings().ResetPwMailTemplate, m.settings().EmailVerifyTemplate} {
		if _, err := mail.LoadTemplate(file); err != nil {
			return err
		}
	}
	return nil
}

// RecoveryPassword implements accounts.Mail.
func (m *mailing) RecoveryPassword(ctx context.Context, to account.User, pw account.Secret) error {
	return m.send(ctx, m.settings().ResetPwMailTemplate, m.settings().ResetPwMailSubject, to, pw)
}

// VerificationCode implements accounts.Mail.
func (m *mailing) VerificationCode(ctx context.Context, to account.User, code account.Secret) error {
	return m.send(ctx, m.settings().EmailVerifyTemplate, m.settings().EmailVerifySubject, to, code)
}

func (m *mailing) send(ctx context.Context, template, subject string, to account.User, secret account.Secret) error {
	t, err := mail.LoadTemplate(template)
	if err != nil {
		return err
	}
	msg, err := t.Message(to.Email, subject, mail.Values{UserName: to.Name, Time: time.Now(), OTP: secret})
	if err != nil {
		return err
	}
	defer msg.Body.Wipe()
	return m.present().Send(ctx, msg)
}

// AddressChanged implements accounts.Mail.
func (m *mailing) AddressChanged(ctx context.Context, before account.User) error {
	err := m.present().Send(ctx, mail.Message{
		To:      before.Email,
		Subject: "The e-mail address of your account was changed",
		Body: account.Secret("The account " + before.Name + " had this e-mail address until now. It has another one since " +
			time.Now().UTC().Format(time.DateTime) + " UTC.\n\nIf you did not ask for that, tell the administrator of the host.\n"),
	})
	if errors.Is(err, mail.ErrNotConfigured) {
		return nil // nobody expects a mail of a host that sends none
	}
	return err
}
