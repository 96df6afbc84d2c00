//go:build unix

package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/wire"
)

// program runs the program to its end and returns its exit status and what it
// said.
func program(t testing.TB, args ...string) (status int, text string) {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = cleanEnv(t)
	p, err := start(cmd, true)
	if err != nil {
		t.Fatal(err)
	}
	if !p.finish(patience) {
		t.Fatalf("%v does not end:\n%s", args, p.stdout)
	}
	p.check(t)
	return p.status, p.stdout.String()
}

func mustProgram(t testing.TB, args ...string) string {
	t.Helper()
	status, text := program(t, args...)
	if status != 0 {
		t.Fatalf("%v: exit status %d: %s", args, status, text)
	}
	return text
}

// at is a site whose host keeps its files there.
func at(t testing.TB, dir string) *site {
	s := newSite(t, cheap...)
	s.dir = dir
	return s
}

// ranks returns the rank of each account.
func (s *site) ranks() map[string]uint32 {
	s.t.Helper()
	db := s.open()
	defer db.Close()
	s.integrity(db)
	accounts, _ := s.stored(db)
	all := make(map[string]uint32)
	for _, e := range accounts {
		all[e.name] = e.rank
	}
	return all
}

// changes makes accounts and gives them a rank, and knows what was acknowledged.
type changes struct {
	mu    sync.Mutex
	ranks map[string]uint32 // by name; of new accounts the initial one
}

func (c *changes) run(ctx context.Context, t *testing.T, addr string, n int) {
	admin := dial(t, addr, client.Config{})
	login(t, admin, "admin", "")
	for i := 0; ctx.Err() == nil; i++ {
		name := fmt.Sprintf("load%d-%d", n, i)
		mustRun(t, admin, "add_acct", "-name", name, "-email", name+"@example.org")
		c.acknowledge(name, initialRank)
		mustRun(t, admin, "set_user_rank", "-user", name, "-rank", "3")
		c.acknowledge(name, 3)
	}
}

func (c *changes) acknowledge(name string, rank uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ranks[name] = rank
}

// await waits until there are more accounts, and returns all.
func (c *changes) await(t *testing.T, more int) map[string]uint32 {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	first := -1
	for {
		c.mu.Lock()
		now := maps.Clone(c.ranks)
		c.mu.Unlock()
		if first < 0 {
			first = len(now)
		}
		if len(now) >= first+more {
			return now
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%d accounts were made, and no more", len(now))
		}
	}
}

// A backup that is made while clients change accounts has all that was
// acknowledged before it began, and a host that is restored from it is whole.
func TestBackupUnderLoad(t *testing.T) {
	s := newSite(t, cheap...)
	s.start()
	admin := dial(t, s.addr, client.Config{})
	login(t, admin, s.user, s.password)
	if err := os.MkdirAll(filepath.Join(s.dir, "files", "u"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "files", "u", "f"), []byte("of a user"), 0o600); err != nil {
		t.Fatal(err)
	}

	c := &changes{ranks: make(map[string]uint32)}
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for n := range 3 {
		group.Go(func() { c.run(ctx, t, s.addr, n) })
	}
	out := t.TempDir()
	type saved struct {
		file   string
		before map[string]uint32
	}
	var all []saved
	for round := range 3 {
		v := saved{file: filepath.Join(out, fmt.Sprint(round)), before: c.await(t, 10)}
		mustProgram(t, "--dir", s.dir, "backup", "--files", v.file)
		all = append(all, v)
	}
	c.await(t, 3) // the host goes on
	stop()
	group.Wait()
	// The last one knows everything, and is the one to restore.
	last := saved{file: filepath.Join(out, "last"), before: c.await(t, 0)}
	mustProgram(t, "--dir", s.dir, "backup", "--files", last.file)
	source := s.ranks()

	for _, v := range append(all, last) {
		dir := filepath.Join(t.TempDir(), "restored")
		mustProgram(t, "--dir", dir, "restore", v.file)
		r := at(t, dir)
		r.start()
		if r.fingerprint != s.fingerprint {
			t.Error("the restored host has another certificate")
		}
		if r.user != "" {
			t.Error("the restored host has made an administrator")
		}
		got := r.ranks()
		for name, rank := range v.before {
			if now, ok := got[name]; !ok || now != rank && now != 3 {
				t.Errorf("%s: account %s has rank %d (%t), acknowledged before: %d", v.file, name, now, ok, rank)
			}
		}
		for name := range got {
			if _, ok := source[name]; !ok {
				t.Errorf("%s: account %s is not one of the source", v.file, name)
			}
		}
		if v.file == last.file {
			if !maps.Equal(got, source) {
				t.Errorf("got %v, want %v", got, source)
			}
			if text, err := os.ReadFile(filepath.Join(dir, "files", "u", "f")); err != nil || string(text) != "of a user" {
				t.Errorf("the user's file: %q, %v", text, err)
			}
		}
		smoke(t, r, slices.Sorted(maps.Keys(v.before))[0])
		r.stop(t, syscall.SIGINT)
	}
}

// smoke uses a restored host: old passwords, new accounts, logs.
func smoke(t *testing.T, s *site, user string) {
	t.Helper()
	admin := dial(t, s.addr, client.Config{})
	login(t, admin, "admin", "")
	mustRun(t, admin, "add_acct", "-name", "newcomer", "-email", "newcomer@example.org")
	mustRun(t, admin, "set_user_rank", "-user", "newcomer", "-rank", "2")
	if text := mustRun(t, admin, "ls_users", "-user_name", "newcomer"); !strings.Contains(text, "newcomer") {
		t.Errorf("ls_users: %s", text)
	}
	for command, column := range map[string]string{"ls_audit": "command", "ls_act_log": "ip_address", "ls_auth_log": "auth_attempt"} {
		if text := firstPage(t, admin, command); !strings.Contains(text, column) {
			t.Errorf("%s: %s", command, text)
		}
	}
	for _, name := range []string{user, "newcomer"} {
		c := dial(t, s.addr, client.Config{})
		err := c.Login(deadline(t), name, func(_ context.Context, q client.Question) (string, error) {
			if q.Try > 1 {
				return "", client.ErrNoAnswer
			}
			return password, nil
		})
		if err != nil {
			t.Errorf("log in as %s: %v", name, err)
			continue
		}
		if text := mustRun(t, c, "my_info"); !strings.Contains(text, name) {
			t.Errorf("my_info: %s", text)
		}
	}
	c := dial(t, s.addr, client.Config{})
	if err := c.Login(deadline(t), user, client.WithPassword("Wrong-horse7")); err == nil {
		t.Error("a wrong password was taken")
	}
}

// firstPage runs a command that lists something and returns its first page.
func firstPage(t *testing.T, c *client.Client, command string) string {
	t.Helper()
	var text strings.Builder
	result, err := c.Run(deadline(t), command, nil, client.Handlers{
		Frame: func(f wire.Frame) error {
			text.Write(f.Payload)
			return nil
		},
		Answer: func(context.Context, client.Question) (string, error) { return "n", nil },
	})
	if err != nil || result.Code != wire.NoErrors {
		t.Fatalf("%s: %v, %v: %s", command, result.Code, err, &text)
	}
	return text.String()
}

// killed starts the program and kills it after that time, unless it ends by
// itself.
func killed(t *testing.T, after time.Duration, args ...string) (ended bool) {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = cleanEnv(t)
	p, err := start(cmd, true)
	if err != nil {
		t.Fatal(err)
	}
	ended = p.finish(after)
	p.check(t)
	if ended && p.status != 0 {
		t.Fatalf("%v: exit status %d: %s", args, p.status, p.stdout)
	}
	return ended
}

// A backup that is killed leaves the host as it was and no half of an archive,
// and the next one tidies up.
func TestKilledBackup(t *testing.T) {
	s := newSite(t, cheap...)
	s.start()
	login(t, dial(t, s.addr, client.Config{}), s.user, s.password)
	before := s.ranks()
	out := t.TempDir()
	began := time.Now()
	mustProgram(t, "--dir", s.dir, "backup", filepath.Join(out, "first"))
	took := time.Since(began)
	rounds := 8
	if long(t) {
		rounds = 200
	}
	cut := 0
	for round := range rounds {
		file := filepath.Join(out, fmt.Sprint(round))
		ended := killed(t, rand.N(took), "--dir", s.dir, "backup", file)
		if _, err := os.Stat(file); err == nil {
			mustProgram(t, "--dir", out, "restore", "--check", file)
		} else if ended {
			t.Error("there is no archive, and no error")
		}
		switch {
		case !ended:
			cut++
		case cut == 0: // the first one may have taken longer than they do
			took = took/2 + 1
		}
		if round == rounds/2 { // the rest without a host
			s.stop(t, syscall.SIGINT)
		}
	}
	if cut == 0 {
		t.Error("no backup was killed in time")
	}
	mustProgram(t, "--dir", s.dir, "backup", filepath.Join(out, "last"))
	for _, dir := range []string{out, s.dir} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") {
				t.Errorf("%s is left", e.Name())
			}
		}
	}
	s.start()
	if after := s.ranks(); !maps.Equal(before, after) {
		t.Errorf("the accounts were %v and are %v", before, after)
	}
}

// A restore that is killed leaves a directory in which the old host starts or
// the new one, or in which none starts until the next restore; and that one
// always mends it.
func TestKilledRestore(t *testing.T) {
	archive := filepath.Join(t.TempDir(), "archive")
	s := newSite(t, cheap...)
	s.start()
	c := dial(t, s.addr, client.Config{})
	login(t, c, s.user, s.password)
	mustRun(t, c, "add_acct", "-name", "new", "-email", "new@example.org")
	mustProgram(t, "--dir", s.dir, "backup", archive)

	old := newSite(t, cheap...)
	old.start()
	c = dial(t, old.addr, client.Config{})
	login(t, c, old.user, old.password)
	mustRun(t, c, "add_acct", "-name", "old", "-email", "old@example.org")
	old.stop(t, syscall.SIGINT)

	began := time.Now()
	mustProgram(t, "--dir", filepath.Join(t.TempDir(), "first"), "restore", archive)
	took := time.Since(began)
	rounds := 8
	if long(t) {
		rounds = 300
	}
	outcomes := make(map[string]int)
	for round := range rounds {
		dir := filepath.Join(t.TempDir(), "host")
		was := ""
		if round%2 == 0 {
			was = "old"
			if err := os.CopyFS(dir, os.DirFS(old.dir)); err != nil {
				t.Fatal(err)
			}
		}
		// Most of the time goes into the check; the moves are at the end.
		killed(t, took*7/10+rand.N(took*4/10), "--dir", dir, "restore", "--force", archive)
		_, markErr := os.Stat(filepath.Join(dir, "restore-unfinished"))
		_, dataErr := os.Stat(filepath.Join(dir, "data.db"))
		switch {
		case markErr == nil:
			outcomes["unfinished"]++
			if status, text := program(t, "--dir", dir, "host", "--listen", "127.0.0.1:0"); status != 1 || !unfinished.MatchString(text) {
				t.Errorf("a host in an unfinished directory: %d, %s", status, text)
			}
		case dataErr == nil:
			r := at(t, dir)
			r.start()
			ranks := r.ranks()
			r.stop(t, syscall.SIGINT)
			_, isOld := ranks["old"]
			_, isNew := ranks["new"]
			if isOld == isNew || isOld && was == "" || isNew && r.fingerprint != s.fingerprint || isOld && r.fingerprint != old.fingerprint {
				t.Errorf("neither the old nor the new: %v", ranks)
			}
			outcomes[fmt.Sprintf("old %t", isOld)]++
		case was != "":
			t.Error("the old database is gone")
		default:
			outcomes["nothing there"]++
		}
		mustProgram(t, "--dir", dir, "restore", "--force", archive)
		r := at(t, dir)
		r.start()
		if _, ok := r.ranks()["new"]; !ok || r.fingerprint != s.fingerprint {
			t.Error("the second restore has not put everything back")
		}
		r.stop(t, syscall.SIGINT)
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		kept := was == ""
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".mrci") || e.Name() == "restore-unfinished" {
				t.Errorf("%s is left", e.Name())
			}
			if _, err := os.Stat(filepath.Join(dir, e.Name(), "data.db")); err == nil && strings.HasPrefix(e.Name(), "before-restore-") {
				kept = true
			}
		}
		if !kept {
			t.Error("the database that was there before was not kept")
		}
	}
	t.Log(outcomes)
}

var unfinished = regexp.MustCompile(`^mrci: .*a restore was interrupted; run mrci restore again`)

// Standard output that takes nothing is an error, and so is a signal.
func TestBackupOutput(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("there is no /dev/full here")
	}
	defer full.Close()
	s := newSite(t, cheap...)
	s.start()
	cmd := exec.Command(binary, "--dir", s.dir, "backup", "-")
	cmd.Env = cleanEnv(t)
	var stderr strings.Builder
	cmd.Stdout, cmd.Stderr = full, &stderr
	if err := cmd.Run(); err == nil || !strings.Contains(stderr.String(), "no space left on device") || strings.Count(stderr.String(), "\n") != 1 {
		t.Errorf("%v: %s", err, &stderr)
	}
}
