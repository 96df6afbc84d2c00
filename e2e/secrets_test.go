//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

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

// forms are the ways in which a secret may stand in memory: its beginning or
// its end as typed, folded, as runes, and as what a hash function makes of it,
// words of eight bytes with the most significant byte first.
func (s secret) forms() (forms [][]byte) {
	const enough = 10
	for _, text := range []string{s.text, strings.ToLower(s.text)} {
		forms = append(forms, []byte(text[:enough]), []byte(text[len(text)-enough:]))
		var runes []byte
		for _, r := range []rune(text)[:enough] {
			runes = append(runes, byte(r), byte(r>>8), byte(r>>16), 0) // little-endian
		}
		forms = append(forms, runes)
	}
	swapped := []byte(s.text[:8])
	slices.Reverse(swapped)
	return append(forms, swapped)
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
	const chunk, overlap = 1 << 20, 4096
	space := make([]byte, chunk+overlap)
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
			buf := space[:min(chunk+overlap, int64(to)-at)]
			n, _ := mem.ReadAt(buf, at) // what cannot be read holds nothing
			size += int64(min(n, chunk))
			for _, s := range secrets {
				for _, form := range s.forms() {
					for i := 0; ; i++ {
						next := bytes.Index(buf[i:n], form)
						if next < 0 || i+next >= chunk {
							break
						}
						i += next
						around := buf[max(0, i-40):min(n, i+len(form)+40)]
						hits = append(hits, hit{s.what, fmt.Sprintf("%x in %s", at+int64(i), region), strconv.QuoteToASCII(string(around))})
					}
				}
			}
		}
	}
	return hits, size
}

// forgotten checks that no secret is in the memory of a process. What is wiped
// behind an answer may be so a moment after it; what was forgotten stays.
func forgotten(t testing.TB, pid int, secrets []secret, when string) {
	t.Helper()
	until := time.Now().Add(3 * time.Second)
	for {
		hits, size := memory(t, pid, secrets)
		switch {
		case len(hits) == 0:
			t.Logf("nothing in %d MiB of memory %s", size>>20, when)
			return
		case time.Now().After(until):
			for _, h := range hits {
				t.Errorf("%s: %s at %s: %s", when, h.what, h.region, h.around)
			}
			return
		}
		t.Logf("%s: %d places, first %s at %s: %s", when, len(hits), hits[0].what, hits[0].region, hits[0].around)
	}
}

// tooLate sends, in one write, a call of auth with a wrong password, KILL_CMD
// and one more answer, which thus is the first frame of another call.
func tooLate(t testing.TB, addr string, c *client.Client, wrong, late string) {
	t.Helper()
	auth, err := c.Lookup("auth")
	if err != nil {
		t.Fatal(err)
	}
	conn, answer := hello(t, addr, wire.ClientHeader{AppName: "e2e"})
	if answer.Reply == wire.ReplyTLS {
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		if err := secure.HandshakeContext(deadline(t)); err != nil {
			t.Fatal(err)
		}
		conn = secure
	}
	var b []byte
	for _, f := range []wire.Frame{
		{Type: wire.Text, Payload: []byte("-user ann")}, {Type: wire.Text, Payload: []byte(wrong)},
		{Type: wire.KillCmd}, {Type: wire.Text, Payload: []byte(late)},
	} {
		b = wire.FrameHeader{Type: f.Type, Cmd: auth.ID, Branch: 1, Len: len(f.Payload)}.Append(b)
		b = append(b, f.Payload...)
	}
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
	frames := wire.NewReader(conn, wire.MaxPayload)
	for ended := 0; ended < 2; {
		f, err := frames.Next()
		if err != nil {
			t.Fatal(err)
		}
		if f.Type == wire.Idle && f.Cmd == auth.ID {
			ended++
		}
	}
}

// Passwords and codes are nowhere but in the hands of their owners: not in
// logs, files, listings or process tables, nor in the memory of the host once
// they were judged.
func TestSecrets(t *testing.T) {
	for mode, encrypted := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(mode, func(t *testing.T) { testSecrets(t, encrypted) })
	}
}

func testSecrets(t *testing.T, encrypted bool) {
	full := long(t)
	box := newMailbox(t, true, "ann")
	s := newSite(t, "--set", "argon2_kib=1024", "--set", "argon2_time=1", "--set", "log_level=debug",
		"--set", "mail_unverified=true", "--set", "ask_current_password=true", "--set", "mail_client_cmd="+box.command(),
		"--set", fmt.Sprintf("tls_on_loopback=%v", encrypted))
	// Where the runtime preempts a goroutine it stores all registers on its stack,
	// and a copy leaves 16 bytes in some of them. Nobody can wipe that.
	s.env = append(s.env, "GODEBUG=asyncpreemptoff=1")
	s.start()
	pid := s.cmd.Process.Pid
	quiet := func(when string, secrets ...secret) {
		t.Helper()
		if !raceEnabled { // whose shadow memory is enormous
			forgotten(t, pid, secrets, when)
		}
	}
	quiet("before the first login", secret{"password of the first minute", s.password})
	root := dial(t, s.addr, client.Config{})
	secrets := []secret{
		{"password of the first minute", s.password},
		{"password at auth", "Auth-bridge-41!"},
		{"wrong password at auth", "Wrong-bridge-42!"},
		{"new password in set_pw", "Next-bridge-43!"},
		{"refused new password", "refused-bridge-44"},
		{"new password in recover_acct", "Recov-bridge-45!"},
		{"demanded password", "Demand-bridge-46!"},
		{"wrong current password in set_pw", "Other-bridge-47!"},
		{"password with other letters", "Br\u00fccke-A\u030angstr\u00f6m-48"},
		{"long refused password", strings.Repeat("Long-bridge-49! ", 60)},
		{"very long refused password", strings.Repeat("Vast-bridge-50! ", 5000)[:4000]},
		{"wrong password that was sent ahead", "Early-bridge-51!"},
		{"password that was sent behind KILL_CMD", "Later-bridge-52!"},
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
	quiet("after a login", secrets...)
	if hits, _ := memory(t, pid, []secret{{"address", "ann@example.org"}}); len(hits) == 0 {
		t.Error("the search does not find what the host remembers")
	}
	run(ann, wire.InvalidParams, []string{text(7)}, "set_pw")
	run(ann, wire.Aborted, []string{text(1), text(4), text(9), strings.Repeat(text(10), 20), text(1)}, "set_pw")
	run(ann, wire.NoErrors, []string{text(1), text(8)}, "set_pw")
	run(ann, wire.NoErrors, []string{text(8), text(3)}, "set_pw")
	quiet("after set_pw", secrets...)
	tooLate(t, s.addr, root, text(11), text(12))
	quiet("after an answer that came too late", secrets...)
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
	quiet("after the calls", noCode...)
	other.Close()
	ann.Close()
	quiet("after the sessions", noCode...)
	if full {
		const crowd, tries = 16, 5
		var all sync.WaitGroup
		for i := range crowd {
			c := dial(t, s.addr, client.Config{})
			all.Go(func() {
				defer c.Close()
				for n := range tries {
					err := c.Login(t.Context(), fmt.Sprintf("nobody%d-%d", i, n), func(_ context.Context, q client.Question) (string, error) {
						if q.Try > 1 {
							return "", client.ErrNoAnswer
						}
						return fmt.Sprintf("Crowd-%02d-bridge!", i), nil
					})
					if err == nil {
						t.Error("nobody has logged in")
					}
				}
			})
		}
		all.Wait()
		for i := range crowd {
			secrets = append(secrets, secret{"password of the crowd", fmt.Sprintf("Crowd-%02d-bridge!", i)})
		}
		quiet("after many logins at once", append(noCode, secrets[len(secrets)-crowd:]...)...)
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
