//go:build linux

package e2e_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/wire"
)

// children returns the process and everything that it has started.
func children(t testing.TB, pid int) []int {
	t.Helper()
	all := []int{pid}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for _, child := range strings.Fields(string(text)) {
			n, err := strconv.Atoi(child)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, children(t, n)...)
		}
	}
	return all
}

// secret is something that nobody but its owner should ever see.
type secret struct{ what, text string }

// found reports secrets in a text, each once.
func found(secrets []secret, text []byte) (whats []string) {
	for _, s := range secrets {
		if bytes.Contains(text, []byte(s.text)) {
			whats = append(whats, s.what)
		}
	}
	return whats
}

// hit is a place in memory where a secret stands.
type hit struct {
	what, region, around string
}

// memory looks through all that the process can read. It says how many bytes
// that were.
func memory(t testing.TB, pid int, secrets []secret) (hits []hit, size int64) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Skipf("the memory of another process cannot be read here: %v", err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Skipf("the memory of another process cannot be read here: %v", err)
	}
	defer mem.Close()
	const chunk, overlap = 1 << 20, 256
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(line)
		region := "anonymous"
		if len(fields) > 5 {
			region = fields[5]
		}
		if mode[0] != 'r' || region == "[vvar]" || region == "[vsyscall]" || to-from > 1<<32 {
			continue
		}
		for at := int64(from); at < int64(to); at += chunk {
			buf := make([]byte, min(chunk+overlap, int64(to)-at))
			n, _ := mem.ReadAt(buf, at) // what cannot be read holds nothing
			size += int64(min(n, chunk))
			for _, s := range secrets {
				for i := 0; ; {
					next := bytes.Index(buf[i:n], []byte(s.text))
					if next < 0 || i+next >= chunk {
						break
					}
					i += next
					around := buf[max(0, i-40):min(n, i+len(s.text)+40)]
					hits = append(hits, hit{s.what, region, strconv.QuoteToASCII(string(around))})
					i++
				}
			}
		}
	}
	return hits, size
}

// Passwords and codes are nowhere but in the hands of their owners: not in
// logs, files, listings or process tables. What is left of them in the memory
// of the host is said, not judged.
func TestSecrets(t *testing.T) {
	full := long(t)
	box := newMailbox(t, true, "ann")
	s := newSite(t, "--set", "argon2_kib=1024", "--set", "argon2_time=1", "--set", "log_level=debug",
		"--set", "mail_unverified=true", "--set", "mail_client_cmd="+box.command())
	s.start()
	pid := s.cmd.Process.Pid
	root := dial(t, s.addr, client.Config{})
	secrets := []secret{
		{"password of the first minute", s.password},
		{"password at auth", "Auth-bridge-41!"},
		{"wrong password at auth", "Wrong-bridge-42!"},
		{"new password in set_pw", "Next-bridge-43!"},
		{"refused new password", "refused-bridge-44"},
		{"new password in recover_acct", "Recov-bridge-45!"},
		{"demanded password", "Demand-bridge-46!"},
	}
	text := func(i int) string { return secrets[i].text }
	login(t, root, s.user, s.password)
	run := func(c *client.Client, want wire.ReturnCode, given []string, command string, args ...string) {
		t.Helper()
		if code, said, used := answers(t, c, given, command, args...); code != want || used != len(given) {
			t.Fatalf("%s: %v, %q after %d answers", command, code, said, used)
		}
	}
	var seen []string
	look := func(where string, b []byte, known []secret) {
		for _, what := range found(known, b) {
			seen = append(seen, what+" in "+where)
		}
	}
	processes := func() {
		for _, p := range children(t, pid) {
			for _, file := range []string{"cmdline", "environ"} {
				if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p, file)); err == nil {
					look(fmt.Sprintf("%s of a process", file), b, secrets)
				}
			}
		}
	}

	run(root, wire.NoErrors, []string{text(1)}, "add_acct", "-name", "ann", "-email", "ann@example.org")
	ann := dial(t, s.addr, client.Config{})
	run(ann, wire.NoErrors, []string{text(2), text(1)}, "auth", "-user", "ann")
	run(ann, wire.NoErrors, []string{text(4), text(3)}, "set_pw")
	// While a mail is on its way its command can be seen by everybody.
	call, err := ann.Call(deadline(t), "verify_email")
	if err != nil {
		t.Fatal(err)
	}
	code := box.take("ann")
	secrets = append(secrets, secret{"verification code", code})
	if n := len(children(t, pid)); n < 2 {
		t.Errorf("the mail command is not among the %d processes", n)
	}
	processes()
	box.open()
	if f, err := call.Next(deadline(t)); err != nil || f.Type != wire.PrivText {
		t.Fatalf("verify_email: %v %q, %v", f.Type, f.Payload, err)
	}
	if err := call.Send(wire.Text, []byte(code)); err != nil {
		t.Fatal(err)
	}
	if r, err := call.Wait(deadline(t)); err != nil || r.Code != wire.NoErrors {
		t.Fatalf("verify_email: %v, %v", r.Code, err)
	}
	other := dial(t, s.addr, client.Config{})
	run(other, wire.NoErrors, nil, "request_pw_reset", "-user", "ann")
	recovery := box.take("ann")
	secrets = append(secrets, secret{"recovery password", recovery})
	processes()
	box.open()
	run(other, wire.NoErrors, []string{recovery, text(5)}, "recover_acct", "-user", "ann")
	mustRun(t, root, "request_new_pw", "-user", "ann", "-req", "1")
	run(other, wire.NoErrors, []string{text(5), text(6)}, "auth", "-user", "ann")

	// Six digits turn up by chance, so the code is looked for where digits are few.
	noCode := slices.DeleteFunc(slices.Clone(secrets), func(s secret) bool { return s.what == "verification code" })
	report := func(when string) {
		t.Helper()
		hits, size := memory(t, pid, secrets)
		counts := make(map[string]int)
		for _, h := range hits {
			counts[h.what]++
			if full && h.what != "verification code" {
				t.Logf("%s, in %s: %s", h.what, h.region, h.around)
			}
		}
		t.Logf("in %d MiB of memory %s: %v", size>>20, when, counts)
	}
	if !raceEnabled { // whose shadow memory is enormous
		report("right after the calls")
		other.Close()
		ann.Close()
		report("after the sessions")
		for i := range 200 {
			c := dial(t, s.addr, client.Config{})
			run(c, wire.Aborted, []string{"Somebody-else-1!"}, "auth", "-user", fmt.Sprint("nobody", i))
			mustRun(t, root, "ls_users", "-all")
			c.Close()
		}
		report("after 200 other sessions")
		for range 2000 {
			mustRun(t, root, "ls_audit", "-command", "nothing")
		}
		report("after 2000 other calls")
	}
	for _, list := range [][]string{{"ls_audit"}, {"ls_auth_log"}, {"ls_act_log"}, {"ls_users"}} {
		look(list[0], []byte(mustRun(t, root, list[0], "-all")), secrets)
	}
	processes()
	look("standard error", []byte(s.stderr.String()), noCode)
	// The one line that is meant to be seen.
	look("standard output", []byte(strings.ReplaceAll(s.stdout.String(), "password: "+s.password, "")), noCode)
	files := 0
	search := func() {
		err := filepath.WalkDir(s.dir, func(file string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(file)
			files++
			look(filepath.Base(file), b, noCode)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	search()
	root.Close()
	s.kill()
	search()
	slices.Sort(seen)
	for _, what := range slices.Compact(seen) {
		t.Error(what)
	}
	if files < 4 {
		t.Errorf("only %d files were looked at", files)
	}
}
