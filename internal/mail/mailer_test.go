package mail_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mrci.dev/mrci/internal/mail"
)

// sender takes mails one at a time when the test lets it.
type sender struct {
	began chan mail.Message
	end   chan error
}

func newSender() *sender {
	return &sender{began: make(chan mail.Message), end: make(chan error)}
}

func (s *sender) Send(ctx context.Context, m mail.Message) error {
	select {
	case s.began <- m:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-s.end:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// sendFunc is a sender that does at once what the function does.
type sendFunc func(mail.Message) error

func (f sendFunc) Send(_ context.Context, m mail.Message) error { return f(m) }

// logged is a log that several goroutines write.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newMailer(t *testing.T, s mail.Sender) (*mail.Mailer, *logged) {
	t.Helper()
	l := new(logged)
	m, err := mail.New(mail.Config{Sender: s, Log: slog.New(slog.NewTextHandler(l, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return m, l
}

func TestMailerNotConfigured(t *testing.T) {
	m, err := mail.New(mail.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if m.Configured() {
		t.Error("configured")
	}
	if err := m.Send(t.Context(), message()); !errors.Is(err, mail.ErrNotConfigured) {
		t.Errorf("Send: %v", err)
	}
	m.Close(t.Context())
}

func TestMailerChooses(t *testing.T) {
	path := fakeProgram(t)
	srv := startServer(t, serverConfig{})
	line := path + " %subject% %target_email%"
	for _, tt := range []struct {
		name string
		cfg  mail.Config
		smtp int // mails at the server afterwards
	}{
		{"command", mail.Config{Command: line}, 0},
		{"SMTP before command", mail.Config{SMTP: srv.config(mail.NoTLS), Command: line}, 1},
	} {
		m, err := mail.New(tt.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if !m.Configured() {
			t.Errorf("%s: not configured", tt.name)
		}
		if err := m.Send(t.Context(), message()); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got := len(srv.received()); got != tt.smtp {
			t.Errorf("%s: %d mails at the server, want %d", tt.name, got, tt.smtp)
		}
		m.Close(t.Context())
	}
	if _, ran := record(t); !ran {
		t.Error("the command did not run")
	}
	for _, bad := range []mail.Config{{Command: "mail"}, {SMTP: mail.SMTPConfig{Host: "x"}}} {
		if _, err := mail.New(bad); err == nil {
			t.Errorf("%+v: no error", bad)
		}
	}
}

func TestMailerSend(t *testing.T) {
	refused := errors.New("refused")
	var result error
	m, log := newMailer(t, sendFunc(func(mail.Message) error { return result }))
	if err := m.Send(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	if got := log.String(); !strings.Contains(got, "mail sent") || !strings.Contains(got, "a***@example.org") {
		t.Errorf("log: %s", got)
	}
	before := log.String()
	result = refused
	if err := m.Send(t.Context(), message()); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	if log.String() != before {
		t.Errorf("what is returned is not logged: %s", log.String())
	}
	if got, want := m.Stats(), (mail.Stats{Sent: 1, Failed: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	m.Close(t.Context())
	if err := m.Send(t.Context(), message()); !errors.Is(err, mail.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestMailerTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSender()
		m, _ := newMailer(t, s)
		begin := time.Now()
		var sends sync.WaitGroup
		for range mail.MaxSends + 1 {
			sends.Go(func() {
				if err := m.Send(t.Context(), message()); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
			})
		}
		sends.Wait()
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("took %v", took)
		}
		// The caller's own deadline counts, too.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin = time.Now()
		if err := m.Send(ctx, message()); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(begin))
		}
		m.Close(t.Context())
	})
}

// Only so many Sends run at once; the others wait.
func TestMailerSendsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSender()
		m, _ := newMailer(t, s)
		var sends sync.WaitGroup
		for range mail.MaxSends + 1 {
			sends.Go(func() {
				if err := m.Send(t.Context(), message()); err != nil {
					t.Error(err)
				}
			})
		}
		for range mail.MaxSends {
			<-s.began
		}
		synctest.Wait()
		select {
		case <-s.began:
			t.Error("one too many")
		default:
		}
		s.end <- nil
		<-s.began
		for range mail.MaxSends {
			s.end <- nil
		}
		sends.Wait()
	})
}

// Close lets what is on its way end within its time, and breaks it off later.
func TestMailerClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSender()
		m, _ := newMailer(t, s)
		results := make(chan error, 1)
		var sends sync.WaitGroup
		sends.Go(func() { results <- m.Send(t.Context(), message()) })
		<-s.began
		if got, want := m.Stats(), (mail.Stats{Waiting: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		begin := time.Now()
		m.Close(ctx)
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("took %v", took)
		}
		if err := <-results; !errors.Is(err, mail.ErrClosed) {
			t.Errorf("Send: %v", err)
		}
		sends.Wait()
		if got, want := m.Stats(), (mail.Stats{Failed: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// Callers on many goroutines, and Close in the middle.
func TestMailerRaces(t *testing.T) {
	m, _ := newMailer(t, sendFunc(func(mail.Message) error { return nil }))
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 100 {
				if err := m.Send(t.Context(), message()); err != nil && !errors.Is(err, mail.ErrClosed) {
					t.Error(err)
				}
			}
		})
	}
	callers.Go(func() {
		for range 50 {
			m.Stats()
		}
		m.Close(t.Context())
	})
	callers.Wait()
	m.Close(t.Context())
}
