package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mrci.dev/mrci/internal/conf"
)

// Every key is shown once, in all forms, and no secret is.
func TestConfigShow(t *testing.T) {
	dir := t.TempDir()
	text := `{"smtp_password": "hunter2", "db_password": "hunter2", "fs_roots": {"1": "/<a&b>"}}`
	if err := os.WriteFile(filepath.Join(dir, conf.FileName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	show := func(args ...string) string {
		t.Helper()
		p := process{env: map[string]string{"MRCI_DIR": dir}}
		status, stdout, stderr := p.run(t, append([]string{"config", "show"}, args...)...)
		if status != 0 || stderr != "" {
			t.Errorf("%v: status %d, %s", args, status, stderr)
		}
		if strings.Contains(stdout, "hunter2") {
			t.Errorf("%v: shows a secret", args)
		}
		return stdout
	}
	defaults := conf.Defaults(conf.Dirs{})
	lines := strings.Split(strings.TrimSuffix(show(), "\n"), "\n")
	var objects []map[string]any
	if err := json.Unmarshal([]byte(show("--json")), &objects); err != nil {
		t.Fatal(err)
	}
	if len(lines) != len(defaults.Keys()) || len(objects) != len(lines) {
		t.Fatalf("%d lines, %d objects, want %d", len(lines), len(objects), len(defaults.Keys()))
	}
	for i, k := range defaults.Keys() {
		if f := strings.Fields(lines[i][2:]); f[0] != k.Name {
			t.Errorf("line %d: %s, want %s", i, lines[i], k.Name)
		}
		o := objects[i]
		if o["name"] != k.Name || o["secret"] != k.Secret || o["at_start"] != k.AtStart || o["doc"] != k.Doc || len(o) != 7 {
			t.Errorf("object of %s: %v", k.Name, o)
		}
		all := show(k.Name)
		for _, want := range []string{k.Name, k.Want, k.Doc, k.Why} {
			if !strings.Contains(all, want) {
				t.Errorf("%s: %q is missing in\n%s", k.Name, want, all)
			}
		}
	}
	if got, want := show("--changed"), "* db_password    \"[hidden]\"      conf.json:1\n"+
		"* fs_roots       {\"1\":\"/<a&b>\"}  conf.json:1\n* smtp_password  \"[hidden]\"      conf.json:1\n"; got != want {
		t.Errorf("changed:\n%s\nwant\n%s", got, want)
	}
	if got := show("--json", "--changed", "tls_min"); got != "[]\n" {
		t.Errorf("nothing: %q", got)
	}
	if got := show("--set", "listening_port=1", "--listen", "[::1]:2", "--changed", "listening_port"); !strings.Contains(got, "listening_port: 2\n  from:           --listen\n") {
		t.Errorf("--listen and --set: %s", got)
	}
}

func TestConfigCheckSMTP(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, conf.FileName)
	for _, tt := range []struct{ text, want string }{
		{`{"smtp_host": "mail", "smtp_from": "a@b.example"}`, file + " is fine: 2 keys set\n"},
		{`{}`, file + " is fine: 0 keys set\n"},
		{`{"fs_sync": true}`, file + " is fine: 1 key set\n"},
		{`{"smtp_host": "mail", "smtp_from": "<a\\\"b@c.example>"}`, file + ":1:36: smtp_from: "},
		{`{"smtp_host": "a b", "mail_client_cmd": "none %subject% %target_email%"}`, file + ":1:15: smtp_host: "},
		{`{"mail_client_cmd": "%subject% %target_email%"}`, file + ":1:21: mail_client_cmd: begins with a keyword"},
		{`{"db_host_name": "conf.json/data.db"}`, file + ":1:18: db_host_name: "},
	} {
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		p := process{env: map[string]string{"MRCI_DIR": dir}}
		status, stdout, stderr := p.run(t, "config", "check")
		if !strings.HasPrefix(stdout, tt.want) || strings.Count(stdout, "\n") != 1 || stderr != "" || (status == 0) != strings.Contains(tt.want, "fine") {
			t.Errorf("%s: status %d\n got %s%swant %s", tt.text, status, stdout, stderr, tt.want)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("made something: %v, %v", entries, err)
	}
}
