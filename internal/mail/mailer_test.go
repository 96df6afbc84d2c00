package mail_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mrci.dev/mrci/internal/account"
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

func numbered(n int) mail.Message {
	m := message()
	m.Subject = fmt.Sprint("mail ", n)
	return m
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
	if err := m.Enqueue(message()); !errors.Is(err, mail.ErrNotConfigured) {
		t.Errorf("Enqueue: %v", err)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
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
		if err := m.Close(t.Context()); err != nil {
			t.Error(err)
		}
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
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := m.Send(t.Context(), message()); !errors.Is(err, mail.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestMailerTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSender()
		m, log := newMailer(t, s)
		begin := time.Now()
		var sends sync.WaitGroup
		for range mail.MaxSends + 1 {
			sends.Go(func() {
				if err := m.Send(t.Context(), message()); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
			})
		}
		if err := m.Enqueue(message()); err != nil {
			t.Fatal(err)
		}
		sends.Wait()
		synctest.Wait()
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("took %v", took)
		}
		if got := log.String(); !strings.Contains(got, "mail not sent") || !strings.Contains(got, "1m0s") {
			t.Errorf("log: %s", got)
		}
		// The caller's own deadline counts, too.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin = time.Now()
		if err := m.Send(ctx, message()); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(begin))
		}
		if err := m.Close(t.Context()); err != nil {
			t.Error(err)
		}
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

func TestMailerBackground(t *testing.T) {
	s := newSender()
	m, log := newMailer(t, s)
	for n := range 3 {
		if err := m.Enqueue(numbered(n)); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 3 {
		if got := <-s.began; got.Subject != numbered(n).Subject {
			t.Errorf("got %q as mail %d", got.Subject, n)
		}
		s.end <- map[bool]error{n == 1: errors.New("away")}[true]
	}
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if got, want := m.Stats(), (mail.Stats{Sent: 2, Failed: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	got := log.String()
	if strings.Count(got, "mail sent") != 2 || strings.Count(got, "mail not sent") != 1 || !strings.Contains(got, "err=away") {
		t.Errorf("log: %s", got)
	}
	for _, secret := range []string{"ann@", "s3cr3t", "Hello"} {
		if strings.Contains(got, secret) {
			t.Errorf("%q is in the log: %s", secret, got)
		}
	}
	if err := m.Enqueue(message()); !errors.Is(err, mail.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestMailerQueueFull(t *testing.T) {
	large := message()
	large.Body = account.Secret(strings.Repeat("x", mail.MaxBody))
	for _, tt := range []struct {
		name string
		msg  mail.Message
		fit  int
	}{
		{"mails", message(), mail.MaxQueued},
		{"bytes", large, mail.MaxQueuedBytes / mail.MaxBody},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSender()
			m, log := newMailer(t, s)
			if err := m.Enqueue(tt.msg); err != nil {
				t.Fatal(err)
			}
			<-s.began // on its way: it takes no place in the queue
			for n := range tt.fit {
				if err := m.Enqueue(tt.msg); err != nil {
					t.Fatalf("mail %d: %v", n, err)
				}
			}
			if err := m.Enqueue(tt.msg); !errors.Is(err, mail.ErrQueueFull) {
				t.Errorf("got %v", err)
			}
			s.end <- nil
			<-s.began // a place is free again
			if err := m.Enqueue(tt.msg); err != nil {
				t.Error(err)
			}

			// Nothing gives way, so Close breaks off.
			ctx, cancel := context.WithCancelCause(t.Context())
			stopped := errors.New("out of time")
			cancel(stopped)
			err := m.Close(ctx)
			if !errors.Is(err, stopped) || !errors.Is(err, mail.ErrClosed) || !strings.Contains(err.Error(), fmt.Sprint(tt.fit)) {
				t.Errorf("Close: %v", err)
			}
			if got, want := m.Stats(), (mail.Stats{Sent: 1, Failed: 1, Dropped: uint64(tt.fit) + 1}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if !strings.Contains(log.String(), "mails dropped") {
				t.Errorf("log: %s", log.String())
			}
		})
	}
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
		if err := m.Enqueue(message()); err != nil {
			t.Fatal(err)
		}
		<-s.began
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		begin := time.Now()
		if err := m.Close(ctx); err != nil {
			t.Errorf("nothing was dropped: %v", err)
		}
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("took %v", took)
		}
		if err := <-results; !errors.Is(err, mail.ErrClosed) {
			t.Errorf("Send: %v", err)
		}
		sends.Wait()
		if got, want := m.Stats(), (mail.Stats{Failed: 2}); got != want {
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
				if err := m.Enqueue(message()); err != nil && !errors.Is(err, mail.ErrQueueFull) && !errors.Is(err, mail.ErrClosed) {
					t.Error(err)
				}
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
		if err := m.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	callers.Wait()
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
