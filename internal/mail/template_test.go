package mail_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/mail"
)

var values = mail.Values{
	UserName: "ann",
	Time:     time.Date(2026, 2, 3, 4, 5, 6, 7, time.FixedZone("CET", 3600)),
	OTP:      account.Secret("123456"),
}

func TestTemplateFill(t *testing.T) {
	hostile := values
	hostile.UserName = "%otp%%DATE%%%"
	for _, tt := range []struct {
		name, text string
		values     mail.Values
		want       string
	}{
		{"each once", "%user_name% %date% %otp%\n", values, "ann 2026-02-03 03:05:06 UTC 123456\n"},
		{"any case", "%User_Name% %DATE% %oTp%\n", values, "ann 2026-02-03 03:05:06 UTC 123456\n"},
		{"repeated, without space", "%otp%%otp%%user_name%%date%", values, "123456123456ann2026-02-03 03:05:06 UTC\n"},
		{"a shared percent sign", "%user_name%otp% %otp%date% %date%\n", values, "annotp% 123456date% 2026-02-03 03:05:06 UTC\n"},
		{"percent signs around", "%%otp%% %user_name %user_name% 100% %date%\n", values, "%123456% %user_name ann 100% 2026-02-03 03:05:06 UTC\n"},
		{"values are not expanded", "%user_name%|%otp%|%date%\n", hostile, "%otp%%DATE%%%|123456|2026-02-03 03:05:06 UTC\n"},
		{"byte order mark, CRLF", "\ufeffä %user_name%\r\n\t%date%\r\n%otp%\r\n", values, "ä ann\n\t2026-02-03 03:05:06 UTC\n123456\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tpl, err := mail.ParseTemplate(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			got, err := tpl.Fill(tt.values)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTemplateFillRefuses(t *testing.T) {
	tpl, err := mail.ParseTemplate(mail.DefaultReset)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "ann\nBcc: x@y.z", "ann\r", "a\x00b", "a\x1b[2J", "a\u2028b", "a\u202eb", "a\xff"} {
		v := values
		v.UserName = bad
		_, err := tpl.Fill(v)
		wantField(t, err, "user name", bad)
		v = values
		v.OTP = account.Secret(bad)
		_, err = tpl.Message("ann@example.org", "s", v)
		wantField(t, err, "code", bad)
	}
}

func TestLoadTemplate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "t.txt")
	for _, tt := range []struct{ name, text, want string }{
		{"good", "%user_name% %date% %otp%", ""},
		{"as long as allowed", "%user_name% %date% %otp%" + strings.Repeat("x", mail.MaxTemplate-24), ""},
		{"no user name", "%date% %otp%", "%user_name% is missing"},
		{"no date", "%otp% %user_name% %date %", "%date% is missing"},
		{"no code", "%date% %user_name%", "%otp% is missing"},
		{"empty", "", "%user_name% is missing"},
		{"too long", "%user_name% %date% %otp%" + strings.Repeat("x", mail.MaxTemplate), "longer than 65536 bytes"},
		{"not UTF-8", "%user_name% %date% %otp% \xe4", "not UTF-8"},
		{"UTF-16", "\xff\xfe%\x00", "not UTF-8"},
		{"control character", "%user_name% %date% %otp% \x1b[1m", "control character"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := mail.LoadTemplate(path)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantText(t, err, tt.want, path)
		})
	}
	_, err := mail.LoadTemplate(filepath.Join(dir, "none"))
	wantText(t, err, "none")
	_, err = mail.LoadTemplate(dir)
	wantText(t, err, "is not a file")
}

func TestWriteDefaults(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	p := mail.Paths{Reset: filepath.Join(dir, "r.txt"), Verify: filepath.Join(dir, "v.txt")}
	made, err := mail.WriteDefaults(p)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{p.Reset, p.Verify}, made); diff != "" {
		t.Error(diff)
	}
	for _, path := range made {
		tpl, err := mail.LoadTemplate(path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := tpl.Fill(values)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"\n123456\n", "ann", "2026-02-03 03:05:06 UTC", "ignore this mail"} {
			if !strings.Contains(string(body), want) {
				t.Errorf("%s: %q is not in it", path, want)
			}
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v", path, info.Mode())
		}
	}

	if err := os.WriteFile(p.Reset, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(p.Verify); err != nil {
		t.Fatal(err)
	}
	made, err = mail.WriteDefaults(p)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{p.Verify}, made); diff != "" {
		t.Error(diff)
	}
	if text, err := os.ReadFile(p.Reset); err != nil || string(text) != "mine" {
		t.Errorf("the administrator's file: %q, %v", text, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}

	// A directory that cannot be made.
	_, err = mail.WriteDefaults(mail.Paths{Reset: filepath.Join(p.Reset, "below", "r.txt")})
	wantText(t, err, "write mail template")
}

func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{mail.DefaultReset, mail.DefaultVerify, "%user_name%%date%%otp%", "%%otp%%date%date%%user_name%", "%USER_NAME%%Date%%oTP%\r\n%"} {
		f.Add(seed, "ann")
	}
	f.Add(mail.DefaultReset, "%otp%")
	f.Fuzz(func(t *testing.T, text, name string) {
		tpl, err := mail.ParseTemplate(text)
		if err != nil {
			return
		}
		v := values
		v.UserName = name
		got, err := tpl.Fill(v)
		if err != nil {
			return
		}
		// Names are told apart by a mark that no template has, so that the
		// result can be compared with replacing one keyword after the other.
		const mark = "\ue000"
		if strings.Contains(text, mark) || strings.Contains(name, mark) {
			return
		}
		v.UserName = mark
		marked, err := tpl.Fill(v)
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.ReplaceAll(string(marked), mark, name); string(got) != want {
			t.Errorf("got %q, want %q", string(got), want)
		}
		lower := strings.ToLower(string(marked))
		for _, k := range []string{"%user_name%", "%otp%", "%date%"} {
			// A value next to signs of the template may look like a keyword.
			if strings.Contains(lower, k) && !strings.Contains(lower, mark) {
				t.Errorf("%s is left in %q", k, lower)
			}
		}
	})
}
