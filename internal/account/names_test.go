package account_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/names"
)

func TestCheckName(t *testing.T) {
	for _, tt := range []struct {
		name string
		ok   bool
	}{
		{"ab", true},
		{"Änne", true},
		{"名前", true},
		{"a;b", true},
		{"a@b", true}, // no dot behind it: not an address
		{"x-ray_1.2", true},
		{"toor", true},
		{strings.Repeat("a", 24), true},
		{strings.Repeat("é", 12), true},

		{"", false},
		{"a", false},
		{"😀", false}, // one character
		{strings.Repeat("a", 25), false},
		{strings.Repeat("é", 13), false}, // 26 bytes
		{"a b", false},
		{"a\tb", false},
		{"a\x00b", false},
		{"a\u00a0b", false},
		{"a\u2028b", false},
		{"a\u3000b", false},
		{"a\u200bb", false}, // zero width space
		{"a\u200db", false}, // zero width joiner
		{"a\u202eb", false}, // right-to-left override
		{"a\u2066b", false},
		{"a\u061cb", false},
		{"a\ufeffb", false},
		{"a\u3164b", false}, // Hangul filler
		{"a\ufe0fb", false}, // variation selector
		{"a\x85b", false},   // not UTF-8
		{"a\xff", false},
		{"root", false},
		{"ROOT", false},
		{"rOOt", false},
		{"a@b.c", false},
		{"@a.b", false},
		{"a@.b", false},
	} {
		err := account.CheckName(tt.name)
		if tt.ok && err != nil {
			t.Errorf("%q: %v", tt.name, err)
		}
		if !tt.ok {
			checkRuleText(t, tt.name, err, "user_name")
		}
	}
}

func TestCheckEmail(t *testing.T) {
	for _, tt := range []struct {
		addr string
		ok   bool
	}{
		{"a@b.c", true},
		{"first.last+tag@mail.example.org", true},
		{"o'neil$%&*!#=?^_`{|}~@example.org", true},
		{"jörg@exämple.org", true},
		{"NAME@change_me.null", true},
		{"a@1.2.3.4", true},
		{"a-b@x-y.org", true},
		{strings.Repeat("a", 52) + "@example.org", true}, // 64

		{"", false},
		{"abcd", false},
		{"@a.b", false},
		{"a@", false},
		{"a@.", false},
		{"a@b", false},
		{"a@.b", false},
		{"a@b.", false},
		{"a@b..c", false},
		{"a@@b.c", false},
		{"a@b@c.d", false},
		{"-a@b.c", false},
		{"a@-b.c", false},
		{"a@b-.c", false},
		{".a@b.c", false},
		{"a.@b.c", false},
		{"a..b@c.d", false},
		{"a b@c.d", false},
		{"a\tb@c.d", false},
		{"a\nb@c.d", false},
		{"a@b\u00a0.c", false},
		{"a\u202e@b.c", false},
		{"a<b@c.d", false}, {"a>b@c.d", false}, {"a(b@c.d", false}, {"a)b@c.d", false},
		{"a[b@c.d", false}, {"a]b@c.d", false}, {"a,b@c.d", false}, {"a;b@c.d", false},
		{"a:b@c.d", false}, {`a\b@c.d`, false}, {`a"b@c.d`, false}, {`"a b"@c.d`, false},
		{"a@b$c.d", false}, {"a@b`c.d", false}, {"a@b|c.d", false}, {"a@b&c.d", false}, {"a@b'c.d", false},
		{"a@[1.2.3.4]", false},
		{"a@" + strings.Repeat("b", 64) + ".c", false},
		{strings.Repeat("a", 53) + "@example.org", false}, // 65
		{"a\xff@b.c", false},
	} {
		err := account.CheckEmail(tt.addr)
		if tt.ok && err != nil {
			t.Errorf("%q: %v", tt.addr, err)
		}
		if !tt.ok {
			checkRuleText(t, tt.addr, err, "email_address")
		}
	}
}

func TestCleanDisplay(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		ok       bool
	}{
		{"", "", true},
		{"  ", "", true},
		{" Ann Lee\t", "Ann Lee", true},
		{"\u00a0Ann\u3000", "Ann", true},
		{strings.Repeat("x", 24), strings.Repeat("x", 24), true},
		{" " + strings.Repeat("x", 24) + " ", strings.Repeat("x", 24), true},

		{strings.Repeat("x", 25), "", false},
		{strings.Repeat("é", 13), "", false},
		{"a\tb", "", false},
		{"a\x1bb", "", false},
		{"a\u2028b", "", false},
		{"a\u202eb", "", false},
		{"a\xffb", "", false},
	} {
		got, err := account.CleanDisplay(tt.in)
		if got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
		}
		if tt.ok && err != nil {
			t.Errorf("%q: %v", tt.in, err)
		}
		if !tt.ok {
			checkRuleText(t, tt.in, err, "display_name")
		}
	}
}

// checkRuleText checks that err is a *RuleError of one line that says what to
// do.
func checkRuleText(t *testing.T, value string, err error, field string) {
	t.Helper()
	var rule *account.RuleError
	if !errors.As(err, &rule) {
		t.Errorf("%q: got %v, want a *RuleError", value, err)
		return
	}
	if rule.Field != field {
		t.Errorf("%q: field %q, want %q", value, rule.Field, field)
	}
	if strings.ContainsAny(rule.Text, "\r\n") || !strings.Contains(rule.Text, ";") {
		t.Errorf("%q: %q is not one line with advice", value, rule.Text)
	}
}

func TestCheckLogin(t *testing.T) {
	for _, tt := range []struct {
		name  string
		login account.Login
		ok    bool
	}{
		{"name", account.Login{Name: "ann"}, true},
		{"address", account.Login{Email: "a@b.c"}, true},
		{"both", account.Login{Name: "ann", Email: "a@b.c"}, true},
		{"bad address, good name", account.Login{Name: "ann", Email: "nope"}, true},
		{"imported name", account.Login{Name: "a\u00a0b"}, true},
		{"root does not show that it cannot be", account.Login{Name: "root"}, true},

		{"nothing", account.Login{}, false},
		{"bad address", account.Login{Email: "nope"}, false},
		{"address as name", account.Login{Name: "a@b.c"}, false},
		{"too short", account.Login{Name: "a"}, false},
		{"too long", account.Login{Name: strings.Repeat("a", 25)}, false},
		{"blank", account.Login{Name: "a b"}, false},
		{"not UTF-8", account.Login{Name: "a\xff"}, false},
	} {
		if err := account.CheckLogin(tt.login); (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want ok %v", tt.name, err, tt.ok)
		}
	}
}

func FuzzNames(f *testing.F) {
	for _, seed := range []string{
		"", "ann", "Jo\u0308rg", "root", "a@b.c", "\u0345α", "\u1fb3", "a\u202eb", "\xff", "ẞ", "İ", "K",
		"\u0390\ufb2c\U0001d160", "a" + strings.Repeat("\u0344", 40), strings.Repeat("\u0344", 31), "Ångstro\u0308m-\u212b",
		"ΜΑΪ\u0301ΟΥ", "\u017f\u0323", "\u0386\u0345",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key := names.Fold(s)
		if again := names.Fold(key); again != key {
			t.Errorf("fold %q: %q, folded again %q", s, key, again)
		}
		if secret, grew := account.FoldSecret(account.Secret(s)); string(secret) != key || grew {
			t.Errorf("fold %q: %q as a secret, %q as a name, grew %v", s, string(secret), key, grew)
		}
		if account.CheckName(s) == nil {
			if len(s) > 24 || utf8.RuneCountInString(s) < 2 || !utf8.ValidString(s) || key == "root" {
				t.Errorf("accepted as a name: %q", s)
			}
			if strings.TrimSpace(s) != s || len(strings.Fields(s)) != 1 {
				t.Errorf("accepted as a name with white space: %q", s)
			}
			if account.CheckEmail(s) == nil {
				t.Errorf("both a name and an address: %q", s)
			}
			if account.CheckLogin(account.Login{Name: s}) != nil {
				t.Errorf("a name that cannot log in: %q", s)
			}
		}
		if account.CheckEmail(s) == nil {
			if strings.Count(s, "@") != 1 || len(s) > 64 || strings.ContainsAny(s, "<>()[],;:\\\" \r\n\t") || s[0] == '-' {
				t.Errorf("accepted as an address: %q", s)
			}
			if account.CheckLogin(account.Login{Email: s}) != nil {
				t.Errorf("an address that cannot log in: %q", s)
			}
		}
		if display, err := account.CleanDisplay(s); err == nil && (len(display) > 24 || strings.TrimSpace(display) != display) {
			t.Errorf("accepted as a display name: %q", display)
		}
	})
}
