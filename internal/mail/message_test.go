package mail_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/mail"
)

// TestHostileMessage gives to both senders what could become a header, an
// argument or more than one address.
func TestHostileMessage(t *testing.T) {
	path := fakeProgram(t)
	command, err := mail.NewCommand(path + " -s %subject% -- %target_email% %message_body%")
	if err != nil {
		t.Fatal(err)
	}
	server := startServer(t, serverConfig{})
	smtp := newSMTP(t, server.config(mail.NoTLS))
	m, err := mail.New(mail.Config{Sender: smtp})
	if err != nil {
		t.Fatal(err)
	}

	type field struct {
		name string
		set  func(*mail.Message, string)
		bad  []string
	}
	for _, f := range []field{
		{"target", func(m *mail.Message, s string) { m.To = s }, []string{
			"", "ann", "@example.org", "ann@", "ann@.org", "ann@example..org", "-ann@example.org", "-oQ/tmp@x.org", "ann@-x.org",
			"ann@example.org\nBcc: eve@example.org", "ann@example.org\r\n", "ann\x00@example.org", "ann@example.org\u2028x",
			"ann@example.org, eve@example.org", "ann@example.org eve@example.org", "Ann <ann@example.org>", "<ann@example.org>",
			"<ann@example.org>,eve@example.org", "\"a b\"@example.org", "ann(x)@example.org", "ann@[127.0.0.1]", "ann@exam;ple.org",
			"$(touch\u00a0x)@example.org", "$(touch)@example.org", "ann@example.org>", "ann@b@example.org", "a:b@example.org;", "ann\xff@example.org",
			"a\u200bnn@example.org", "ann@ex`id`.org", "ann@$(id).org", strings.Repeat("a", 250) + "@x.org",
		}},
		{"subject", func(m *mail.Message, s string) { m.Subject = s }, []string{
			"", "x\nBcc: eve@example.org", "x\r\n\r\nbody", "x\x00", "x\x85y", "x\u2029y", "x\u202ey", "x\xff", strings.Repeat("x", 801),
		}},
		{"body", func(m *mail.Message, s string) { m.Body = account.Secret(s) }, []string{
			"", "x\x00y", "x\ry", "x\x1b[2J", "x\xff", strings.Repeat("x", mail.MaxBody+1),
		}},
	} {
		for _, bad := range f.bad {
			msg := message()
			f.set(&msg, bad)
			wantField(t, command.Send(t.Context(), msg), f.name, bad)
			wantField(t, smtp.Send(t.Context(), msg), f.name, bad)
			wantField(t, m.Send(t.Context(), msg), f.name, bad)
		}
	}
	if g, ran := record(t); ran {
		t.Errorf("the program ran: %+v", g)
	}
	if got := server.received(); len(got) > 0 {
		t.Errorf("the server got %+v", got)
	}
	m.Close(t.Context())
}

func TestMessageHides(t *testing.T) {
	msg := message()
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "mail", msg, "pointer", &msg)
	fmt.Fprintf(&b, "%v %+v %#v %s %q", msg, msg, msg, &msg, msg)
	for _, secret := range []string{"ann@", "s3cr3t", "Hello"} {
		if strings.Contains(b.String(), secret) {
			t.Errorf("%q is in %s", secret, b.String())
		}
	}
	for addr, want := range map[string]string{
		"ann@example.org": "a***@example.org",
		"é@example.org":   "é***@example.org",
		"@example.org":    "***",
		"ann":             "***",
		"":                "***",
		"ann@x\ny":        "***",
	} {
		if got := mail.Mask(addr); got != want {
			t.Errorf("%q: got %q, want %q", addr, got, want)
		}
	}
}
