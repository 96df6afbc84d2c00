package conf_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/wire"
)

// testDirs are absolute on every operating system.
func testDirs(t testing.TB) conf.Dirs {
	t.Helper()
	abs := func(s string) string {
		p, err := filepath.Abs(filepath.FromSlash(s))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	return conf.Dirs{Config: abs("/c"), Data: abs("/d"), Cert: abs("/c"), Runtime: abs("/r"), AccountRuntime: abs("/r")}
}

func parse(t *testing.T, text string) conf.Config {
	t.Helper()
	c, err := conf.Parse("conf.json", []byte(text), testDirs(t))
	if err != nil {
		t.Fatalf("parse %s: %v", text, err)
	}
	return c
}

// specDefaults are the defaults of state 4 that are the same on every machine.
var specDefaults = map[string]string{
	"listening_addr": `"0.0.0.0"`, "listening_port": `35516`, "max_sessions": `10000`, "auto_lock_limit": `20`,
	"max_sub_channels": `50`, "initial_rank": `2`, "enable_public_reg": `false`, "enable_email_verify": `true`,
	"enable_pw_reset": `true`, "all_channels_active_update": `false`, "db_driver": `"QSQLITE"`,
	"db_host_name": ``, "db_user_name": `""`, "db_password": `""`, "mail_client_cmd": `""`,
	"reset_pw_mail_subject": ``, "email_verify_subject": ``, "reset_pw_mail_template": ``,
	"email_verify_template": ``, "tls_cert_chain": ``, "tls_priv_key": ``,

	"tls_on_loopback": `false`, "tls_min": `"1.2"`, "tls_names": `[]`, "limit_loopback": `false`,
	"header_timeout_s": `10`, "tls_timeout_s": `10`, "write_timeout_s": `60`, "send_queue_bytes": `67108864`,
	"pace_bytes": `1048576`, "max_instances": `256`, "pre_login_frame_bytes": `16384`, "cast_rate": `0`,
	"cast_bytes": `16777215`, "prompt_timeout_s": `0`, "half_open_per_addr": `64`, "failures_per_addr": `60`,
	"registrations_per_addr": `10`, "mails_per_account": `5`, "argon2_time": `2`, "argon2_kib": `19456`,
	"argon2_parallel": ``, "log_retention_days": `90`, "audit_retention_days": `0`, "first_admin": `true`,
	"fs_roots": `{}`, "fs_quota_bytes": `0`, "fs_sync": `false`, "fs_file_mask": `"0077"`, "fs_max_transfers": `8`,
	"p2p_requests_per_min": `30`, "password_rule": `"classes"`, "ask_current_password": `false`,
	"verified_login_only": `false`, "mail_unverified": `false`, "stop_timeout_s": `10`, "log_format": `"text"`,
	"log_level": `"info"`, "metrics_addr": `""`, "smtp_host": `""`, "smtp_port": `587`, "smtp_user": `""`,
	"smtp_password": `""`, "smtp_from": `""`, "smtp_tls": `"starttls"`,
}

func TestKeysAreThoseOfTheSpecification(t *testing.T) {
	c := conf.Defaults(testDirs(t))
	seen := map[string]bool{}
	for _, k := range c.Keys() {
		if seen[k.Name] {
			t.Errorf("key %s stands in the table twice", k.Name)
		}
		seen[k.Name] = true
		want, known := specDefaults[k.Name]
		if !known {
			t.Errorf("key %s is not in the specification", k.Name)
		}
		got, err := json.Marshal(k.Value)
		if err != nil {
			t.Errorf("key %s: %v", k.Name, err)
		}
		if want != "" && string(got) != want {
			t.Errorf("key %s: default %s, want %s", k.Name, got, want)
		}
		if k.Changed {
			t.Errorf("key %s: the default counts as changed", k.Name)
		}
		if k.Doc == "" || k.Why == "" || k.Want == "" || k.Preset == "" {
			t.Errorf("key %s lacks a text: %+v", k.Name, k)
		}
		if secret := strings.HasSuffix(k.Name, "_password") && k.Name != "ask_current_password"; k.Secret != secret {
			t.Errorf("key %s: secret %v, want %v", k.Name, k.Secret, secret)
		}
	}
	for name := range specDefaults {
		if !seen[name] {
			t.Errorf("key %s is missing", name)
		}
	}
}

func TestDefaultPaths(t *testing.T) {
	dirs := testDirs(t)
	c := conf.Defaults(dirs)
	for _, p := range []struct{ name, got, want string }{
		{"db_host_name", c.DBHostName, filepath.Join(dirs.Data, "data.db")},
		{"tls_cert_chain", strings.Join(c.TLSCertChain, "|"), filepath.Join(dirs.Cert, "tls_chain.pem")},
		{"tls_priv_key", c.TLSPrivKey, filepath.Join(dirs.Cert, "tls_priv.pem")},
		{"reset_pw_mail_template", c.ResetPwMailTemplate, filepath.Join(dirs.Config, "res_pw_template.txt")},
		{"email_verify_template", c.EmailVerifyTemplate, filepath.Join(dirs.Config, "email_verify_template.txt")},
	} {
		if p.got != p.want {
			t.Errorf("%s: %s, want %s", p.name, p.got, p.want)
		}
	}
	if c.Argon2Parallel < 1 {
		t.Errorf("argon2_parallel: %d", c.Argon2Parallel)
	}
	if got := c.ListenAddr(); got != "0.0.0.0:35516" {
		t.Errorf("ListenAddr: %s", got)
	}
	if !c.OwnCertificate() {
		t.Error("OwnCertificate: false with the defaults")
	}
	for _, set := range []string{"tls_priv_key=other.pem", "tls_cert_chain=other.pem", "tls_cert_chain=tls_chain.pem:ca.pem"} {
		c := conf.Defaults(dirs)
		if err := c.Set(set); err != nil {
			t.Fatal(err)
		}
		if c.OwnCertificate() {
			t.Errorf("OwnCertificate: true with %s", set)
		}
	}
	same := conf.Defaults(dirs)
	if err := same.Set("tls_priv_key=tls_priv.pem", "tls_cert_chain=./tls_chain.pem"); err != nil || !same.OwnCertificate() {
		t.Errorf("OwnCertificate: false with the defaults written out (%v)", err)
	}
}

func TestParseValues(t *testing.T) {
	dirs := testDirs(t)
	below := func(p string) string { return filepath.Join(dirs.Config, filepath.FromSlash(p)) }
	tests := []struct {
		name, text string
		got        func(c conf.Config) any
		want       any
	}{
		{"no keys", `{}`, func(c conf.Config) any { return c.ListeningPort }, 35516},
		{"byte order mark", "\ufeff{\"listening_port\": 1}", func(c conf.Config) any { return c.ListeningPort }, 1},
		{"port 0", `{"listening_port": 0}`, func(c conf.Config) any { return c.ListeningPort }, 0},
		{"all addresses", `{"listening_addr": "::"}`, func(c conf.Config) any { return c.ListenAddr() }, "[::]:35516"},
		{"host name", `{"listening_addr": "host-1.example.com"}`, func(c conf.Config) any { return c.ListeningAddr }, "host-1.example.com"},
		{"largest rank", `{"initial_rank": 4294967295}`, func(c conf.Config) any { return c.InitialRank }, wire.Rank(4294967295)},
		{"seconds", `{"write_timeout_s": 90}`, func(c conf.Config) any { return c.WriteTimeout }, 90 * time.Second},
		{"no time-out", `{"prompt_timeout_s": 0}`, func(c conf.Config) any { return c.PromptTimeout }, time.Duration(0)},
		{"days", `{"audit_retention_days": 400}`, func(c conf.Config) any { return c.AuditRetention }, 400 * 24 * time.Hour},
		{"quota", `{"fs_quota_bytes": 9223372036854775807}`, func(c conf.Config) any { return c.FSQuotaBytes }, int64(9223372036854775807)},
		{"mask", `{"fs_file_mask": "027"}`, func(c conf.Config) any { return c.FSFileMask }, fs.FileMode(0o27)},
		{"tls version", `{"tls_min": "1.3"}`, func(c conf.Config) any { return c.TLSMin }, uint16(0x304)},
		{"log level", `{"log_level": "debug"}`, func(c conf.Config) any { return c.LogLevel }, slog.LevelDebug},
		{"original driver", `{"db_driver": "QSQLITE"}`, func(c conf.Config) any { return c.DBDriver }, conf.Embedded},
		{"secret", `{"smtp_password": "pa55"}`, func(c conf.Config) any { return string(c.SMTPPassword) }, "pa55"},
		{"relative path", `{"db_host_name": "x/../data.db"}`, func(c conf.Config) any { return c.DBHostName }, below("data.db")},
		{"absolute path", fmt.Sprintf(`{"db_host_name": %q}`, below("../x.db")), func(c conf.Config) any { return c.DBHostName }, below("../x.db")},
		{"chain", `{"tls_cert_chain": "a.pem:b/c.pem"}`, func(c conf.Config) any { return c.TLSCertChain }, []string{below("a.pem"), below("b/c.pem")}},
		{"names", `{"tls_names": ["a.example", "*.b.example", "10.0.0.1", "::1"]}`, func(c conf.Config) any { return c.TLSNames }, []string{"a.example", "*.b.example", "10.0.0.1", "::1"}},
		{"names as text", `{"tls_names": "a.example, 10.0.0.1"}`, func(c conf.Config) any { return c.TLSNames }, []string{"a.example", "10.0.0.1"}},
		{"roots", `{"fs_roots": {"1": "all", "4294967295": "low", "Ann": "ann"}}`, func(c conf.Config) any { return c.FSRoots }, conf.Roots{
			ByRank: map[wire.Rank]string{1: below("all"), 4294967295: below("low")}, ByUser: map[string]string{"Ann": below("ann")}}},
		{"metrics", `{"metrics_addr": "[::1]:9100"}`, func(c conf.Config) any { return c.MetricsAddr }, "[::1]:9100"},
		{"mail command", `{"mail_client_cmd": "send -s %subject% %target_email%"}`, func(c conf.Config) any { return c.MailClientCmd }, "send -s %subject% %target_email%"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, test.got(parse(t, test.text))); diff != "" {
				t.Errorf("%s (-want +got)\n%s", test.text, diff)
			}
		})
	}
}

// Every message is one line and says where, which key, which value and what is allowed.
func TestParseRefuses(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"empty", "\n", `conf.json:1:1: the file is empty: want a JSON object; without the file the host writes a new one`},
		{"no object", `[]`, `conf.json:1:1: want a JSON object with the keys of the configuration`},
		{"missing comma", "{\n  \"max_sessions\": 5\n  \"tls_min\": \"1.2\"\n}", `conf.json:3:3: unexpected character "\"" after object key:value pair`},
		{"trailing comma", "{\n \"max_sessions\": 5,\n}", `conf.json:3:1: unexpected character "}" looking for beginning of object key string`},
		{"unfinished", "{\"max_sessions\": 5\n", `conf.json:1:19: unexpected end of JSON input`},
		{"something behind", "{} {}", `conf.json:1:4: unexpected character "{" after top-level value`},
		{"password without quotes", `{"smtp_password": hunter2}`, `conf.json:1:19: unexpected character looking for beginning of value`},
		{"columns count characters", "{\"reset_pw_mail_subject\": \"größe\" x}", `conf.json:1:35: unexpected character after object key:value pair`},
		{"not UTF-8", "{\n\"log_level\": \"\xff\"}", `conf.json:2:15: the text is not valid UTF-8`},
		{"twice", "{\"tls_min\": \"1.2\",\n \"tls_min\": \"1.3\"}", `conf.json:2:2: key "tls_min" stands there twice: keep one of them`},
		{"twice below", `{"fs_roots": {"ann": "a", "ann": "b"}}`, `conf.json:1:27: key "ann" stands there twice: keep one of them`},
		{"unknown", `{"listning_port": 1}`, `conf.json:1:2: unknown key "listning_port": the nearest known key is "listening_port"`},
		{"other case", `{"Max-Sessions": 1}`, `conf.json:1:2: unknown key "Max-Sessions": the nearest known key is "max_sessions"`},
		{"swapped", `{"tsl_min": 1}`, `conf.json:1:2: unknown key "tsl_min": the nearest known key is "tls_min"`},
		{"unknown secret", `{"smtp_pasword": "hunter2"}`, `conf.json:1:2: unknown key "smtp_pasword": the nearest known key is "smtp_password"`},
		{"strange name", `{"a\nb": 1}`, `conf.json:1:2: unknown key "a\nb": the nearest known key is "tls_min"`},
		{"text for number", "{\n\"listening_port\": \"35516\"}", `conf.json:2:19: listening_port: "35516" is not valid: want a whole number from 0 to 65535`},
		{"fraction", `{"listening_port": 1.5}`, `conf.json:1:20: listening_port: 1.5 is not valid: want a whole number from 0 to 65535`},
		{"huge number", `{"listening_port": 1e999}`, `conf.json:1:20: listening_port: 1e999 is not valid: want a whole number from 0 to 65535`},
		{"null", `{"listening_port": null}`, `conf.json:1:20: listening_port: null is not valid: want a whole number from 0 to 65535`},
		{"port too large", `{"listening_port": 70000}`, `conf.json:1:20: listening_port: 70000 is not valid: want a whole number from 0 to 65535`},
		{"no sessions", `{"max_sessions": 0}`, `conf.json:1:18: max_sessions: 0 is not valid: want a whole number from 1 to 2147483647`},
		{"sub-channels", `{"max_sub_channels": 256}`, `conf.json:1:22: max_sub_channels: 256 is not valid: want a whole number from 1 to 255`},
		{"rank 0", `{"initial_rank": 0}`, `conf.json:1:18: initial_rank: 0 is not valid: want a whole number from 1 to 4294967295`},
		{"number for boolean", `{"fs_sync": 1}`, `conf.json:1:13: fs_sync: 1 is not valid: want true or false`},
		{"seconds", `{"tls_timeout_s": 0}`, `conf.json:1:19: tls_timeout_s: 0 is not valid: want a whole number of seconds from 1 to 3600`},
		{"choice", `{"log_format": "xml"}`, `conf.json:1:16: log_format: "xml" is not valid: want "text" or "json"`},
		{"three choices", `{"smtp_tls": "yes"}`, `conf.json:1:14: smtp_tls: "yes" is not valid: want "starttls", "tls" or "none"`},
		{"version as number", `{"tls_min": 1.2}`, `conf.json:1:13: tls_min: 1.2 is not valid: want "1.2" or "1.3"`},
		{"address", `{"listening_addr": "300.1.1.1"}`, `conf.json:1:20: listening_addr: "300.1.1.1" is not valid: want an IP address or a host name`},
		{"address with port", `{"listening_addr": "127.0.0.1:80"}`, `conf.json:1:20: listening_addr: "127.0.0.1:80" is not valid: want an IP address or a host name`},
		{"no address", `{"listening_addr": ""}`, `conf.json:1:20: listening_addr: "" is not valid: want an IP address or a host name`},
		{"driver", `{"db_driver": "QPSQL"}`, `conf.json:1:15: db_driver: "QPSQL" is not valid: want "QSQLITE", the embedded store: this version serves no other driver`},
		{"no path", `{"tls_priv_key": ""}`, `conf.json:1:18: tls_priv_key: "" is not valid: want a path, absolute or relative to the directory of conf.json`},
		{"hole in chain", `{"tls_cert_chain": "a::b"}`, `conf.json:1:20: tls_cert_chain: "a::b" is not valid: want one or more paths with ":" between them, absolute or relative to the directory of conf.json`},
		{"chain as list", `{"tls_cert_chain": ["a"]}`, `conf.json:1:20: tls_cert_chain: a list is not valid: want one or more paths with ":" between them, absolute or relative to the directory of conf.json`},
		{"certificate name", `{"tls_names": ["a b"]}`, `conf.json:1:15: tls_names: "a b" is not a host name or an IP address: want a list of host names and IP addresses`},
		{"mask", `{"fs_file_mask": "0789"}`, `conf.json:1:18: fs_file_mask: "0789" is not valid: want octal digits from "0000" to "0777", in quotes`},
		{"mask too large", `{"fs_file_mask": "1777"}`, `conf.json:1:18: fs_file_mask: "1777" is not valid: want octal digits from "0000" to "0777", in quotes`},
		{"rank of roots", `{"fs_roots": {"0": "x"}}`, `conf.json:1:14: fs_roots: entry "0" is not a rank: want an object with a path for each rank or user name`},
		{"user of roots", `{"fs_roots": {"a b": "x"}}`, `conf.json:1:14: fs_roots: entry "a b" is neither a rank nor a user name: want an object with a path for each rank or user name`},
		{"user in two cases", `{"fs_roots": {"ann": "x", "ANN": "y"}}`, `conf.json:1:14: fs_roots: entry "ANN" stands there twice: want an object with a path for each rank or user name`},
		{"path of roots", `{"fs_roots": {"ann": 5}}`, `conf.json:1:14: fs_roots: 5 of entry "ann" is not a path: want an object with a path for each rank or user name`},
		{"metrics elsewhere", `{"metrics_addr": "0.0.0.0:9100"}`, `conf.json:1:18: metrics_addr: "0.0.0.0:9100" is not valid: want ADDR:PORT with a loopback address, or nothing`},
		{"mail command", `{"mail_client_cmd": "mutt %subject%"}`, `conf.json:1:21: mail_client_cmd: "mutt %subject%" is not valid: want a command line with %subject% and %target_email%, or nothing`},
		{"two lines", `{"reset_pw_mail_subject": "a\nBcc: b"}`, `conf.json:1:27: reset_pw_mail_subject: "a\nBcc: b" is not valid: want one line of 1 to 200 characters`},
		{"secret", `{"db_password": 12345}`, `conf.json:1:17: db_password: the value is not valid: want a text without control characters`},
		{"long value", `{"log_level": "` + strings.Repeat("x", 500) + `"}`, `conf.json:1:15: log_level: "` + strings.Repeat("x", 80) + `..." is not valid: want "debug", "info", "warn" or "error"`},
		{"pace above queue", `{"pace_bytes": 2097152, "send_queue_bytes": 1048576}`, `conf.json:1:16: pace_bytes: 2097152 is not valid: want at most send_queue_bytes, which is 1048576`},
		{"no sender", `{"smtp_host": "mail"}`, `conf.json:1:15: smtp_from: "" is not valid: want the sender's e-mail address, because smtp_host is set`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := conf.Parse("conf.json", []byte(test.text), testDirs(t))
			if err == nil {
				t.Fatalf("%s was taken", test.text)
			}
			if err.Error() != test.want {
				t.Errorf("%s\n got %s\nwant %s", test.text, err, test.want)
			}
		})
	}
}

func TestAllFaults(t *testing.T) {
	text := "\ufeff" + `{
  "max_sessions": "many", "listning_port": 1,
  "tls_min": "1.3", "tls_min": "1.2",
  "smtp_password": 12345,
  "fs_roots": {"ann": "x", "ann": "y", "a b": "z"},
  "smtp_host": "mail", "smtp_from": "nobody",
  "pace_bytes": 2097152,
  "send_queue_bytes": 1048576
}`
	want := []string{
		`conf.json:2:19: max_sessions: "many" is not valid: want a whole number from 1 to 2147483647`,
		`conf.json:2:27: unknown key "listning_port": the nearest known key is "listening_port"`,
		`conf.json:3:21: key "tls_min" stands there twice: keep one of them`,
		`conf.json:4:20: smtp_password: the value is not valid: want a text without control characters`,
		`conf.json:5:15: fs_roots: entry "a b" is neither a rank nor a user name: want an object with a path for each rank or user name`,
		`conf.json:5:28: key "ann" stands there twice: keep one of them`,
		`conf.json:6:37: smtp_from: "nobody" is not valid: want an e-mail address or nothing`,
		`conf.json:7:17: pace_bytes: 2097152 is not valid: want at most send_queue_bytes, which is 1048576`,
	}
	f := conf.Inspect("conf.json", []byte(text), testDirs(t))
	var got, keys []string
	for _, fault := range f.Faults {
		got = append(got, fault.Error())
		keys = append(keys, fault.Key)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"max_sessions", "", "", "smtp_password", "fs_roots", "", "smtp_from", "pace_bytes"}, keys); diff != "" {
		t.Errorf("keys (-want +got)\n%s", diff)
	}
	if f.Config.TLSMin != tls.VersionTLS13 || f.Config.SMTPHost != "mail" || f.Config.MaxSessions != 10000 {
		t.Errorf("values beside the faults: %s", f.Config)
	}
	if got, want := f.Places["smtp_host"], (conf.Place{Line: 6, Column: 16}); got != want {
		t.Errorf("smtp_host stands at %v, want %v", got, want)
	}
	if got, want := f.Fault("smtp_host", errors.New("gone")).Error(), "conf.json:6:16: smtp_host: gone"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := f.Fault("smtp_port", errors.New("gone")).Error(), "conf.json: smtp_port: gone"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}

	_, err := conf.Parse("conf.json", []byte(text), testDirs(t))
	if err == nil || err.Error() != want[0]+"; and 7 more faults, which config check shows" {
		t.Errorf("Parse: %v", err)
	}
	if fault, ok := errors.AsType[*conf.Fault](err); !ok || fault.Key != "max_sessions" {
		t.Errorf("the error is no fault: %v", err)
	}
	_, err = conf.Parse("conf.json", []byte(`{"x":1,"fs_sync":2}`), testDirs(t))
	if err == nil || !strings.HasSuffix(err.Error(), "; and one more fault, which config check shows") {
		t.Errorf("Parse: %v", err)
	}
}

func TestFaultsAreBounded(t *testing.T) {
	var text strings.Builder
	separator := "{"
	for i := range 30_000 {
		fmt.Fprintf(&text, `%s"an unknown key %d": 0`, separator, i)
		separator = ","
	}
	f := conf.Inspect("conf.json", []byte(text.String()+"}"), testDirs(t))
	if len(f.Faults) != 101 || !strings.Contains(f.Faults[100].Error(), "more faults") {
		t.Errorf("%d faults, the last is %v", len(f.Faults), f.Faults[len(f.Faults)-1])
	}
}

func TestKey(t *testing.T) {
	c := parse(t, `{"tls_min": "1.3"}`)
	k, err := c.Key("tls_min")
	if err != nil || k.Value != "1.3" || k.Default != "1.2" || !k.Changed || k.AtStart {
		t.Errorf("%+v, %v", k, err)
	}
	if _, err := c.Key("tls-mn"); err == nil || err.Error() != `unknown key "tls-mn": the nearest known key is "tls_min"` {
		t.Errorf("%v", err)
	}
	// A secret that has changed counts, though it looks the same.
	secret := parse(t, `{"db_password": "x"}`)
	if k, err := secret.Key("db_password"); err != nil || !k.Changed || fmt.Sprint(k.Value) != "[hidden]" {
		t.Errorf("%+v, %v", k, err)
	}
}

// others has another valid value for every key.
var others = map[string]string{
	"listening_addr": "::1", "listening_port": "1", "max_sessions": "1", "auto_lock_limit": "1", "max_sub_channels": "1",
	"initial_rank": "3", "enable_public_reg": "true", "enable_email_verify": "false", "enable_pw_reset": "false",
	"all_channels_active_update": "true", "db_driver": "", "db_host_name": "other.db", "db_user_name": "x",
	"db_password": "x", "mail_client_cmd": "m %subject% %target_email%", "reset_pw_mail_subject": "x",
	"email_verify_subject": "x", "reset_pw_mail_template": "x", "email_verify_template": "x", "tls_cert_chain": "a:b",
	"tls_priv_key": "x", "tls_on_loopback": "true", "tls_min": "1.3", "tls_names": "x", "limit_loopback": "true",
	"header_timeout_s": "1", "tls_timeout_s": "1", "write_timeout_s": "1", "send_queue_bytes": "1048576",
	"pace_bytes": "4096", "max_instances": "1", "pre_login_frame_bytes": "1024", "cast_rate": "1", "cast_bytes": "1",
	"prompt_timeout_s": "1", "half_open_per_addr": "1", "failures_per_addr": "1", "registrations_per_addr": "1",
	"mails_per_account": "1", "argon2_time": "1", "argon2_kib": "1024", "argon2_parallel": "1024",
	"log_retention_days": "1", "audit_retention_days": "1", "first_admin": "false", "fs_roots": `{"1":"x"}`,
	"fs_quota_bytes": "1", "fs_sync": "true", "fs_file_mask": "0022", "fs_max_transfers": "1",
	"p2p_requests_per_min": "1", "password_rule": "length", "ask_current_password": "true",
	"verified_login_only": "true", "mail_unverified": "true", "stop_timeout_s": "1", "log_format": "json",
	"log_level": "debug", "metrics_addr": "127.0.0.1:1", "smtp_host": "", "smtp_port": "1", "smtp_user": "x",
	"smtp_password": "x", "smtp_from": "a@b.example", "smtp_tls": "none",
}

// atStart are the keys that cannot change while a host runs: its ports, its
// database, how many hashes it has memory for, and what is done at start only.
var atStart = []string{
	"listening_addr", "listening_port", "db_driver", "db_host_name", "db_user_name", "db_password",
	"argon2_parallel", "first_admin", "metrics_addr",
}

func TestReloaded(t *testing.T) {
	dirs := testDirs(t)
	running := conf.Defaults(dirs)
	elsewhere := dirs
	elsewhere.Data += "2"
	for _, k := range running.Keys() {
		t.Run(k.Name, func(t *testing.T) {
			if waits := slices.Contains(atStart, k.Name); k.AtStart != waits {
				t.Errorf("AtStart is %v, want %v", k.AtStart, waits)
			}
			other, known := others[k.Name]
			if !known {
				t.Fatalf("the test has no other value for it")
			}
			next := conf.Defaults(dirs)
			switch {
			case k.Name == "smtp_host":
				next.SMTPHost = "mail" // with a sender only
			case other != "": // db_driver has one value
				if err := next.Set(k.Name + "=" + other); err != nil {
					t.Fatal(err)
				}
			default:
				next.DBDriver = "other"
			}
			if n, err := next.Key(k.Name); err != nil || !n.Changed {
				t.Fatalf("%v is no other value (%v)", n.Value, err)
			}
			next.Dirs = elsewhere
			before := fmt.Sprintf("%+v %+v", running, next)
			applied, waiting := running.Reloaded(next)
			want, names := next, []string(nil)
			if k.AtStart {
				want, names = running, []string{k.Name}
			}
			want.Dirs = dirs
			if diff := cmp.Diff(want, applied); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(names, waiting); diff != "" {
				t.Errorf("waiting (-want +got)\n%s", diff)
			}
			if after := fmt.Sprintf("%+v %+v", running, next); after != before {
				t.Errorf("changed what it was given:\n%s\n%s", before, after)
			}
		})
	}
	if applied, waiting := running.Reloaded(conf.Defaults(dirs)); waiting != nil || !reflect.DeepEqual(applied, running) {
		t.Errorf("the same again: %s, %v", applied, waiting)
	}
}

func TestSet(t *testing.T) {
	c := conf.Defaults(testDirs(t))
	err := c.Set("listening_port=0", "listening_addr=::1", "enable_public_reg=true", "tls_names=a.example,10.0.0.1",
		`fs_roots={"2": "two"}`, "fs_file_mask=0022", "smtp_password=a=b \"c", "reset_pw_mail_subject=5",
		// Only together are these two valid.
		"smtp_host=mail", "smtp_from=host@example.com", "log_level=debug", "prompt_timeout_s= 7")
	if err != nil {
		t.Fatal(err)
	}
	want := conf.Defaults(testDirs(t))
	want.ListeningPort, want.ListeningAddr, want.EnablePublicReg = 0, "::1", true
	want.TLSNames = []string{"a.example", "10.0.0.1"}
	want.FSRoots.ByRank[2] = filepath.Join(want.Dirs.Config, "two")
	want.FSFileMask = 0o22
	want.SMTPPassword, want.ResetPwMailSubject, want.SMTPHost, want.SMTPFrom = `a=b "c`, "5", "mail", "host@example.com"
	want.LogLevel, want.PromptTimeout = slog.LevelDebug, 7*time.Second
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := c.Set(`tls_names=["b.example"]`); err != nil || c.TLSNames[0] != "b.example" {
		t.Errorf("list as JSON: %v, %v", c.TLSNames, err)
	}
	if err := c.Set("tls_names="); err != nil || c.TLSNames != nil {
		t.Errorf("empty list: %v, %v", c.TLSNames, err)
	}
}

func TestSetRefuses(t *testing.T) {
	tests := []struct{ name, assignment, want string }{
		{"no value", "listening_port", `assignment "listening_port": want KEY=VALUE`},
		{"no value but a password", "smtp_password hunter2", `assignment "smtp_password": want KEY=VALUE`},
		{"unknown", "listening_prot=hunter2", `unknown key "listening_prot": the nearest known key is "listening_port"`},
		{"word for number", "max_sessions=many", `max_sessions: "many" is not valid: want a whole number from 1 to 2147483647`},
		{"out of range", "max_sessions=0", `max_sessions: 0 is not valid: want a whole number from 1 to 2147483647`},
		{"word for boolean", "fs_sync=yes", `fs_sync: "yes" is not valid: want true or false`},
		{"secret", "smtp_password=hun\nter2", `smtp_password: the value is not valid: want a text without control characters`},
		{"broken object", `fs_roots={"1"`, `fs_roots: "{\"1\"" is not valid: want an object with a path for each rank or user name`},
		{"together", "pace_bytes=1073741824", `pace_bytes: 1073741824 is not valid: want at most send_queue_bytes, which is 67108864`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := conf.Defaults(testDirs(t))
			err := c.Set("listening_port=1", test.assignment)
			if err == nil || err.Error() != test.want {
				t.Errorf("%q\n got %v\nwant %s", test.assignment, err, test.want)
			}
			if diff := cmp.Diff(conf.Defaults(testDirs(t)), c); diff != "" {
				t.Errorf("changed in spite of the error (-want +got)\n%s", diff)
			}
		})
	}
}

func TestSecretsStayHidden(t *testing.T) {
	c := conf.Defaults(testDirs(t))
	if err := c.Set("db_password=hunter2", "smtp_password=hunter2", "listening_port=7"); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("configuration", "conf", c, "password", c.DBPassword)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("configuration", "conf", &c, "keys", c.Keys())
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for name, shown := range map[string]string{
		"String": c.String(), "%v": fmt.Sprintf("%v", c), "%+v": fmt.Sprintf("%+v", &c), "%#v": fmt.Sprintf("%#v", c),
		"%d": fmt.Sprintf("%d", c.SMTPPassword), "%x": fmt.Sprintf("%x", c.SMTPPassword),
		"keys": fmt.Sprintf("%#v", c.Keys()), "json": string(raw), "log": log.String(),
	} {
		if strings.Contains(shown, "hunter2") || strings.Contains(shown, "68756e74657232") {
			t.Errorf("%s shows a secret: %s", name, shown)
		}
	}
	if got, want := c.String(), `listening_port=7 db_password="[hidden]" smtp_password="[hidden]"`; got != want {
		t.Errorf("String: %s, want %s", got, want)
	}
	if !strings.Contains(log.String(), "conf.listening_port=7") {
		t.Errorf("log line lacks what was changed: %s", log.String())
	}
}

func TestLoadOrCreate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "mrci")
	dirs, err := conf.Locate(dir, func(string) string { return "" }, 1000, "")
	if err != nil {
		t.Fatal(err)
	}
	c, created, err := conf.LoadOrCreate(dirs.File(), dirs)
	if err != nil || !created {
		t.Fatalf("created %v, %v", created, err)
	}
	if diff := cmp.Diff(conf.Defaults(dirs), c); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if runtime.GOOS != "windows" {
		for path, mode := range map[string]fs.FileMode{dirs.File(): 0o600, dir: 0o700 | fs.ModeDir} {
			info, err := os.Stat(path)
			if err != nil || info.Mode() != mode {
				t.Errorf("%s: mode %v, want %v (%v)", path, info.Mode(), mode, err)
			}
		}
	}
	text := read(t, dirs.File())
	for _, line := range []string{`"listening_port": 35516,`, `"tls_priv_key": "tls_priv.pem"`, `"db_host_name": "data.db",`} {
		if !strings.Contains(text, line) {
			t.Errorf("new file lacks %s:\n%s", line, text)
		}
	}
	for _, key := range []string{"db_password", "tls_min", "smtp_"} {
		if strings.Contains(text, key) {
			t.Errorf("new file has %s:\n%s", key, text)
		}
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("left behind: %v, %v", names, err)
	}

	// The directory can be moved: nothing in the file names it.
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	dirs, err = conf.Locate(moved, func(string) string { return "" }, 1000, "")
	if err != nil {
		t.Fatal(err)
	}
	c, created, err = conf.LoadOrCreate(dirs.File(), dirs)
	if err != nil || created || c.TLSPrivKey != filepath.Join(moved, "tls_priv.pem") || !c.OwnCertificate() {
		t.Errorf("moved: created %v, key %s, %v", created, c.TLSPrivKey, err)
	}
}

func TestLoadNeverChangesAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "conf.json")
	dirs := testDirs(t)
	for _, text := range []string{"", "{", `{"x": 1}`, `{"listening_port": 1}`} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, created, err := conf.LoadOrCreate(path, dirs)
		if created {
			t.Errorf("%q counts as created", text)
		}
		if err != nil && !strings.HasPrefix(err.Error(), path+":1:") {
			t.Errorf("%q: error does not begin with the file: %v", text, err)
		}
		if got := read(t, path); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestLoadErrors(t *testing.T) {
	dir := t.TempDir()
	dirs := testDirs(t)
	if _, err := conf.Load(filepath.Join(dir, "none.json"), dirs); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, _, err := conf.LoadOrCreate(dir, dirs); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("directory for file: %v", err)
	}
	big := filepath.Join(dir, "big.json")
	if err := os.WriteFile(big, bytes.Repeat([]byte(" "), 1<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := conf.Load(big, dirs); err == nil || !strings.Contains(err.Error(), "larger than 1048576 bytes") {
		t.Errorf("large file: %v", err)
	}
	// A link that leads nowhere is somebody's: nothing is written through it.
	dangling := filepath.Join(dir, "link.json")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), dangling); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	if _, created, err := conf.LoadOrCreate(dangling, dirs); err == nil || created {
		t.Errorf("dangling link: created %v, %v", created, err)
	}
}

func TestPathsCountFromTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.json")
	if err := os.WriteFile(path, []byte(`{"tls_priv_key": "key.pem"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := conf.Load(path, testDirs(t))
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(filepath.Dir(path), "key.pem"); c.TLSPrivKey != want {
		t.Errorf("tls_priv_key: %s, want %s", c.TLSPrivKey, want)
	}
}

func TestChainOnWindows(t *testing.T) {
	got := conf.SplitPathsOn("windows", `C:\a\chain.pem:d:/ca.pem:beside.pem:x`)
	want := []string{`C:\a\chain.pem`, "d:/ca.pem", "beside.pem", "x"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What is shown for every key is taken again and means the same.
func TestEncodedValuesAreTaken(t *testing.T) {
	c := conf.Defaults(testDirs(t))
	err := c.Set("db_password=x", "tls_names=a,b.example", `fs_roots={"1":"a","bob":"/b"}`, "tls_cert_chain=a:b",
		"smtp_from=a@b.example", "metrics_addr=127.0.0.1:1", "prompt_timeout_s=3", "email_verify_subject=<&> \\ ü")
	if err != nil {
		t.Fatal(err)
	}
	again, err := conf.Parse("conf.json", conf.EncodeAll(&c), testDirs(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, again); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestWithDatabase(t *testing.T) {
	one := testDirs(t)
	one.Data = one.Config
	apart, err := json.Marshal(filepath.Join(testDirs(t).Data, "data.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ text, want string }{
		{`{}`, `{}`},
		{`{"max_sessions": 5}`, `{"max_sessions": 5}`},
		{`{"db_host_name":"/x/\"y\".db"}`, `{"db_host_name":"data.db"}`},
		{"\xef\xbb\xbf{\n  \"a_note\": 1,\n  \"db_host_name\" : \"x\" ,\n\t\"max_sessions\": 5}\n", ""},
		{"{\n  \"max_sessions\": 5,\n  \"db_host_name\" : \"x\" ,\n\t\"db_user_name\": \"db_host_name\"}\n", "{\n  \"max_sessions\": 5,\n  \"db_host_name\" : \"data.db\" ,\n\t\"db_user_name\": \"db_host_name\"}\n"},
		{`[]`, ""},
		{`{`, ""},
	} {
		got, err := conf.WithDatabase([]byte(test.text), one)
		if string(got) != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s: %s, %v", test.text, got, err)
		}
	}
	got, err := conf.WithDatabase([]byte(`{"db_host_name": "x"}`), testDirs(t))
	if want := `{"db_host_name": ` + string(apart) + `}`; string(got) != want || err != nil {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
	if c := parse(t, string(got)); c.DBHostName != conf.Defaults(testDirs(t)).DBHostName {
		t.Errorf("the database is at %s", c.DBHostName)
	}
}
