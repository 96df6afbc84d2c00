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
	ErrQueueFull     = errors.New("too many mails wait to be sent")
	ErrClosed        = errors.New("mailer is closed")
)

// defaultTimeout is for one mail: servers that delay every client on purpose
// take up to about 30 seconds, and verify_email waits meanwhile.
const defaultTimeout = time.Minute

// The bounds of the queue. A server that hangs takes the time-out for each
// mail, and a recovery password counts one hour (state 3.3).
const (
	maxQueued      = 64
	maxQueuedBytes = 1 << 20
)

// maxSends is how many Send calls talk to the server, or run the command, at
// once; others wait for them within their time-out.
const maxSends = 4

// Config says how mails leave. With nothing set there is no way, and Send and
// Enqueue return ErrNotConfigured.
type Config struct {
	SMTP    SMTPConfig    // used when Host is set
	Command string        // mail_client_cmd, used when there is no SMTP.Host
	Sender  Sender        // takes the mails in place of both, when set
	Timeout time.Duration // for one mail; 0: one minute
	Log     *slog.Logger  // nil: silent
}

// Stats counts mails since New.
type Stats struct {
	Waiting int // now: queued or being sent
	Sent    uint64
	Failed  uint64 // by Send and in the background
	Dropped uint64 // by a full queue, or when Close ran out of time
}

// Mailer sends mails, at once or in the background.
type Mailer struct {
	// Fixed after New.
	sender  Sender // nil: not configured
	timeout time.Duration
	log     *slog.Logger
	life    context.Context // of everything that is sent; ends with Close
	end     context.CancelCauseFunc
	sends   chan struct{} // a slot for each Send that is on its way
	work    sync.WaitGroup

	mu      sync.Mutex // guards what follows; Add of work is called with it held and closed unset
	closed  bool
	running bool // the goroutine that works off the queue
	queue   []Message
	bytes   int // of the bodies in queue
	sending int // mails that are on their way
	stats   Stats
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
	// Mails in the background outlive the calls that ask for them.
	m.life, m.end = context.WithCancelCause(context.Background())
	return m, nil
}

// Configured reports whether there is a way to send.
func (m *Mailer) Configured() bool { return m.sender != nil }

// Stats returns the counts so far.
func (m *Mailer) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	stats := m.stats
	stats.Waiting = len(m.queue) + m.sending
	return stats
}

// Send sends one mail and waits for the result, not longer than the time-out.
// A failure is returned and not logged: its text is fit for the log, not for
// clients.
func (m *Mailer) Send(ctx context.Context, msg Message) error {
	if err := m.accept(msg); err != nil {
		return err
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	m.work.Add(1)
	m.mu.Unlock()
	defer m.work.Done()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(m.life, func() { cancel(context.Cause(m.life)) })
	defer stop()
	return m.deliver(ctx, msg, func(ctx context.Context) error {
		select {
		case m.sends <- struct{}{}:
			defer func() { <-m.sends }()
			return m.sender.Send(ctx, msg)
		case <-ctx.Done():
			return fmt.Errorf("wait for other mails: %w", context.Cause(ctx))
		}
	})
}

// Enqueue leaves a mail to the background and returns at once; the result goes
// to the log. It returns a *FieldError for a mail that must not be sent, and
// ErrQueueFull when too much waits already.
func (m *Mailer) Enqueue(msg Message) error {
	if err := m.accept(msg); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	if len(m.queue) >= maxQueued || m.bytes+len(msg.Body) > maxQueuedBytes {
		m.stats.Dropped++
		return ErrQueueFull
	}
	m.queue = append(m.queue, msg)
	m.bytes += len(msg.Body)
	if !m.running {
		m.running = true
		m.work.Go(m.drain)
	}
	return nil
}

func (m *Mailer) accept(msg Message) error {
	if m.sender == nil {
		return ErrNotConfigured
	}
	return msg.check()
}

// drain sends what waits, and ends when nothing does.
func (m *Mailer) drain() {
	for {
		msg, ok := m.next()
		if !ok {
			return
		}
		err := m.deliver(m.life, msg, func(ctx context.Context) error { return m.sender.Send(ctx, msg) })
		if err != nil {
			m.log.Error("mail not sent", "to", mask(msg.To), "err", err)
		}
	}
}

func (m *Mailer) next() (msg Message, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.queue) == 0 || m.life.Err() != nil {
		m.running = false
		return Message{}, false
	}
	msg = m.queue[0]
	m.queue[0] = Message{} // the code is not kept longer than needed
	m.queue = m.queue[1:]
	m.bytes -= len(msg.Body)
	return msg, true
}

// deliver runs send within the time-out, counts the result and logs a success.
func (m *Mailer) deliver(ctx context.Context, msg Message, send func(context.Context) error) error {
	late := fmt.Errorf("not done within %v: %w", m.timeout, context.DeadlineExceeded)
	ctx, cancel := context.WithTimeoutCause(ctx, m.timeout, late)
	defer cancel()
	begin := time.Now()
	m.mu.Lock()
	m.sending++
	m.mu.Unlock()
	err := send(ctx)
	m.mu.Lock()
	m.sending--
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

// Close refuses further mails, sends what waits and returns when all is done.
// When ctx ends before, it breaks off, drops the rest and returns an error with
// their number. It may be called twice.
func (m *Mailer) Close(ctx context.Context) error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { m.end(fmt.Errorf("%w: %w", ErrClosed, context.Cause(ctx))) })
	defer stop()
	m.work.Wait()
	m.end(ErrClosed) // nothing runs any more

	m.mu.Lock()
	defer m.mu.Unlock()
	left := len(m.queue)
	m.stats.Dropped += uint64(left)
	m.queue, m.bytes = nil, 0
	if left > 0 {
		m.log.Error("mails dropped", "count", left, "reason", context.Cause(m.life))
		return fmt.Errorf("close mailer: %d mails not sent: %w", left, context.Cause(m.life))
	}
	return nil
}
