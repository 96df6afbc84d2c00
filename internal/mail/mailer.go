package mail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// What callers branch on.
var (
	ErrNotConfigured = errors.New("mail is not configured: set smtp_host or mail_client_cmd")
	ErrClosed        = errors.New("mailer is closed")
)

// defaultTimeout is for one mail: servers that delay every client on purpose
// take up to about 30 seconds, and verify_email waits meanwhile.
const defaultTimeout = time.Minute

// maxSends is how many Send calls talk to the server, or run the command, at
// once; others wait for them within their time-out.
const maxSends = 4

// Config says how mails leave. With nothing set there is no way, and Send
// returns ErrNotConfigured.
type Config struct {
	SMTP    SMTPConfig    // used when Host is set
	Command string        // mail_client_cmd, used when there is no SMTP.Host
	Sender  Sender        // takes the mails in place of both, when set
	Timeout time.Duration // for one mail; 0: one minute
	Log     *slog.Logger  // nil: silent
}

// Stats counts mails since New.
type Stats struct {
	Waiting int // now: being sent, or waiting for others that are
	Sent    uint64
	Failed  uint64
}

// Mailer sends mails.
type Mailer struct {
	// Fixed after New.
	sender  Sender // nil: not configured
	timeout time.Duration
	log     *slog.Logger
	life    context.Context // of everything that is sent; ends with Close
	end     context.CancelCauseFunc
	sends   chan struct{} // a slot for each Send that is on its way
	work    sync.WaitGroup

	mu     sync.Mutex // guards what follows; Add of work is called with it held and closed unset
	closed bool
	stats  Stats
}

// New checks the configuration and returns a Mailer, which Close ends. It
// talks to nobody: a mail server that is away is found out by the first mail.
func New(cfg Config) (*Mailer, error) {
	m := &Mailer{
		sender:  cfg.Sender,
		timeout: cfg.Timeout,
		log:     cfg.Log,
		sends:   make(chan struct{}, maxSends),
	}
	if m.timeout <= 0 {
		m.timeout = defaultTimeout
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	switch {
	case cfg.Sender != nil:
	case cfg.SMTP.Host != "":
		s, err := NewSMTP(cfg.SMTP)
		if err != nil {
			return nil, err
		}
		m.sender = s
	case cfg.Command != "":
		c, err := NewCommand(cfg.Command)
		if err != nil {
			return nil, err
		}
		m.sender = c
	}
	m.life, m.end = context.WithCancelCause(context.Background())
	return m, nil
}

// Configured reports whether there is a way to send.
func (m *Mailer) Configured() bool { return m.sender != nil }

// Stats returns the counts so far.
func (m *Mailer) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}

// Send sends one mail and waits for the result, not longer than the time-out.
// A failure is returned and not logged: its text is fit for the log, not for
// clients.
func (m *Mailer) Send(ctx context.Context, msg Message) error {
	if m.sender == nil {
		return ErrNotConfigured
	}
	if err := msg.check(); err != nil {
		return err
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	m.work.Add(1)
	m.stats.Waiting++
	m.mu.Unlock()
	defer m.work.Done()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(m.life, func() { cancel(context.Cause(m.life)) })
	defer stop()
	return m.deliver(ctx, msg)
}

// deliver sends within the time-out, counts the result and logs a success.
func (m *Mailer) deliver(ctx context.Context, msg Message) error {
	late := fmt.Errorf("not done within %v: %w", m.timeout, context.DeadlineExceeded)
	ctx, cancel := context.WithTimeoutCause(ctx, m.timeout, late)
	defer cancel()
	begin := time.Now()
	err := m.inTurn(ctx, msg)
	m.mu.Lock()
	m.stats.Waiting--
	if err == nil {
		m.stats.Sent++
	} else {
		m.stats.Failed++
	}
	m.mu.Unlock()
	if err == nil {
		m.log.Info("mail sent", "to", mask(msg.To), "took", time.Since(begin).Round(time.Millisecond))
	}
	return err
}

// inTurn sends when few enough others do.
func (m *Mailer) inTurn(ctx context.Context, msg Message) error {
	select {
	case m.sends <- struct{}{}:
		defer func() { <-m.sends }()
		return m.sender.Send(ctx, msg)
	case <-ctx.Done():
		return fmt.Errorf("wait for other mails: %w", context.Cause(ctx))
	}
}

// Close refuses further mails and returns when those on their way have left.
// When ctx ends before, it breaks them off, and their Send returns ErrClosed. It
// may be called twice.
func (m *Mailer) Close(ctx context.Context) {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { m.end(fmt.Errorf("%w: %w", ErrClosed, context.Cause(ctx))) })
	defer stop()
	m.work.Wait()
	m.end(ErrClosed) // nothing runs any more
}
