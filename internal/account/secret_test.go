package account_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"mrci.dev/mrci/internal/account"
)

func TestSecretIsHidden(t *testing.T) {
	const text = "hunter2"
	secret := account.Secret(text)
	within := struct {
		P account.Secret
		Q *account.Secret
	}{secret, &secret}

	var out bytes.Buffer
	for _, verb := range []string{"%s", "%v", "%+v", "%#v", "%q", "%x", "%X", "%d", "%10s", "%T"} {
		fmt.Fprintf(&out, verb+"\n", secret)
		fmt.Fprintf(&out, verb+"\n", within)
		fmt.Fprintf(&out, verb+"\n", []account.Secret{secret})
	}
	fmt.Fprintln(&out, secret.String(), secret.GoString())
	encoded, err := json.Marshal(within)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(encoded)
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("x", "secret", secret, "within", within)
	}

	hex := fmt.Sprintf("%x", text)
	if s := out.String(); strings.Contains(s, text) || strings.Contains(strings.ToLower(s), hex) {
		t.Errorf("the secret shows:\n%s", s)
	}
	if string(secret) != text {
		t.Errorf("conversion: got %q", string(secret))
	}
}
