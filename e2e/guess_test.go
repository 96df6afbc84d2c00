//go:build linux

package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/wire"
)

// from returns a session whose client has the given address: all of 127/8 is
// this machine on Linux.
func from(t testing.TB, s *site, addr string) *client.Client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	return dial(t, s.addr, client.Config{DialContext: d.DialContext})
}

// answers runs a command, gives the answers to its prompts in their order, and
// then empty ones. It returns the code, what ERR frames said, and how many of
// the answers were asked for.
func answers(t testing.TB, c *client.Client, texts []string, command string, args ...string) (code wire.ReturnCode, said []string, used int) {
	t.Helper()
	result, err := c.Run(deadline(t), command, args, client.Handlers{
		Frame: func(f wire.Frame) error {
			if f.Type == wire.Err {
				said = append(said, string(f.Payload))
			}
			return nil
		},
		Answer: func(context.Context, client.Question) (string, error) {
			if used == len(texts) {
				return "", nil
			}
			used++
			return texts[used-1], nil
		},
	})
	if err == nil && result.Code == wire.NoErrors {
		err = c.Settle(deadline(t)) // it may have been a login
	}
	if err != nil {
		t.Fatalf("%s %v: %v", command, args, err)
	}
	return result.Code, said, used
}

// mailbox is a mail command whose mails the test reads. Every address is a FIFO.
type mailbox struct {
	t     testing.TB
	dir   string
	boxes map[string]*bufio.Reader
	gate  *os.File // holds the command back behind every mail, if there is one
}

func newMailbox(t testing.TB, held bool, users ...string) *mailbox {
	m := &mailbox{t: t, dir: t.TempDir(), boxes: make(map[string]*bufio.Reader)}
	for _, user := range users {
		m.boxes[user] = bufio.NewReader(m.fifo(user + "@example.org"))
	}
	if held {
		m.gate = m.fifo("gate")
	}
	return m
}

// fifo makes a FIFO and opens both of its ends, so that nobody waits for the
// other to come.
func (m *mailbox) fifo(name string) *os.File {
	m.t.Helper()
	file := filepath.Join(m.dir, name)
	if err := unix.Mkfifo(file, 0o600); err != nil {
		m.t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err == nil {
		err = f.SetReadDeadline(time.Now().Add(2 * patience))
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { f.Close() })
	return f
}

// command is the value of mail_client_cmd.
func (m *mailbox) command() string {
	wait := ""
	if m.gate != nil {
		wait = " && read -r go < " + m.gate.Name()
	}
	return `sh -c 'cat > "$1"` + wait + `' mail ` + m.dir + `/%target_email% %subject%`
}

// open lets the command of one mail end.
func (m *mailbox) open() {
	m.t.Helper()
	if _, err := m.gate.WriteString("go\n"); err != nil {
		m.t.Fatal(err)
	}
}

var oneTime = regexp.MustCompile(`^\s*(\d{6}|[!-~]{20})\s*$`)

// take waits for a mail to a user and returns the secret in it.
func (m *mailbox) take(user string) string {
	m.t.Helper()
	for {
		line, err := m.boxes[user].ReadString('\n')
		if err != nil {
			m.t.Fatalf("mail to %s: %v", user, err)
		}
		if found := oneTime.FindStringSubmatch(line); found != nil {
			return found[1]
		}
	}
}

// addAccounts makes accounts with the usual password.
func addAccounts(t testing.TB, c *client.Client, names ...string) {
	t.Helper()
	for _, name := range names {
		mustRun(t, c, "add_acct", "-name", name, "-email", name+"@example.org")
	}
}

const wrongPassword = "Wrong-horse7"

// Guessing gets nowhere: the limits of state 3 and 4 hold, whichever way the
// guesses come.
func TestGuessing(t *testing.T) {
	// Behind the first refusals of a name each takes half a second, so that the
	// default limit is for the full version.
	lockLimit, addrLimit := 8, 60
	if long(t) {
		lockLimit = 20
	}
	box := newMailbox(t, false, "ann", "bob", "cat", "dan")
	s := newSite(t, "--set", fmt.Sprintf("auto_lock_limit=%d", lockLimit), "--set", "argon2_kib=1024", "--set", "argon2_time=1", "--set", "limit_loopback=true",
		"--set", "mail_unverified=true", "--set", "mail_client_cmd="+box.command())
	s.start()
	root := from(t, s, "127.0.0.1")
	login(t, root, s.user, s.password)
	addAccounts(t, root, "nearly", "locked", "oncall", "good", "ann", "bob", "cat", "dan")
	try := func(c *client.Client, name, pw string) bool {
		code, _, _ := answers(t, c, []string{pw}, "auth", "-user", name)
		return code == wire.NoErrors
	}

	t.Run("one account from many addresses", func(t *testing.T) {
		for i := range lockLimit {
			c := from(t, s, fmt.Sprintf("127.0.1.%d", i+1))
			if try(c, "locked", wrongPassword) || i < lockLimit-1 && try(c, "nearly", wrongPassword) {
				t.Fatal("logged in with a wrong password")
			}
			c.Close()
		}
		for _, addr := range []string{"127.0.1.1", "127.0.1.200", "127.0.0.1"} {
			if c := from(t, s, addr); try(c, "locked", password) {
				t.Errorf("%d wrong passwords do not lock for %s", lockLimit, addr)
			}
		}
		if c := from(t, s, "127.0.1.201"); !try(c, "nearly", password) {
			t.Errorf("%d wrong passwords lock", lockLimit-1)
		}
		mustRun(t, root, "lock_acct", "-user", "locked", "-state", "0")
		if c := from(t, s, "127.0.1.202"); !try(c, "locked", password) {
			t.Error("lock_acct -state 0 does not unlock")
		}
	})

	t.Run("one account in one call", func(t *testing.T) {
		guesses := slices.Repeat([]string{wrongPassword}, lockLimit+5)
		code, said, used := answers(t, from(t, s, "127.0.2.1"), guesses, "auth", "-user", "oncall")
		if code != wire.InvalidParams || used != lockLimit || len(said) != lockLimit || !strings.Contains(said[lockLimit-1], "Too many attempts") {
			t.Errorf("code %v after %d guesses: %q", code, used, said)
		}
		if try(from(t, s, "127.0.2.2"), "oncall", password) {
			t.Error("it is not locked")
		}
	})

	t.Run("many accounts from one address", func(t *testing.T) {
		c := from(t, s, "127.0.3.1")
		if !try(c, "good", password) { // counts for nothing
			t.Error("no login")
		}
		c = from(t, s, "127.0.3.1")
		for i := range addrLimit {
			if code, said, _ := answers(t, c, []string{wrongPassword}, "auth", "-user", fmt.Sprintf("name%d", i)); len(said) != 1 || !strings.HasPrefix(said[0], "The user or the password is wrong") {
				t.Fatalf("guess %d: %v, %q", i+1, code, said)
			}
		}
		code, said, _ := answers(t, c, []string{password}, "auth", "-user", "good")
		if code != wire.InvalidParams || len(said) != 1 || !strings.Contains(said[0], "from your address") {
			t.Errorf("guess %d: %v, %q", addrLimit+1, code, said)
		}
		code, said, _ = answers(t, c, []string{"x"}, "recover_acct", "-user", "good")
		if code != wire.InvalidParams || len(said) != 1 || !strings.Contains(said[0], "from your address") {
			t.Errorf("a recovery password after that: %v, %q", code, said)
		}
		if !try(from(t, s, "127.0.3.2"), "good", password) {
			t.Error("another address is shut out too")
		}
	})

	t.Run("recovery passwords", func(t *testing.T) {
		for name, wrong := range map[string]int{"ann": 4, "bob": 5} {
			mustRun(t, from(t, s, "127.0.4.1"), "request_pw_reset", "-user", name)
			secret := box.take(name)
			for i := range wrong {
				c := from(t, s, fmt.Sprintf("127.0.4.%d", 10+i))
				if code, said, _ := answers(t, c, []string{wrongPassword}, "recover_acct", "-user", name); code != wire.Aborted || len(said) != 1 {
					t.Fatalf("wrong try: %v, %q", code, said)
				}
				c.Close()
			}
			const next = "Other-horse8"
			code, said, _ := answers(t, from(t, s, "127.0.4.100"), []string{secret, next}, "recover_acct", "-user", name)
			recovered := code == wire.NoErrors
			if recovered != (wrong < 5) {
				t.Errorf("the right one after %d wrong ones: %v, %q", wrong, code, said)
			}
			if try(from(t, s, "127.0.4.101"), name, password) == recovered {
				t.Errorf("after %d wrong ones the old password works: %v", wrong, !recovered)
			}
		}
		// In one call.
		mustRun(t, from(t, s, "127.0.4.1"), "request_pw_reset", "-user", "cat")
		secret := box.take("cat")
		guesses := append(slices.Repeat([]string{wrongPassword}, 5), secret, password)
		if code, said, used := answers(t, from(t, s, "127.0.4.102"), guesses, "recover_acct", "-user", "cat"); code != wire.InvalidParams || used != 5 {
			t.Errorf("%v after %d guesses: %q", code, used, said)
		}
	})

	t.Run("verification codes", func(t *testing.T) {
		for name, wrong := range map[string]int{"cat": 4, "dan": 5} {
			c := from(t, s, "127.0.5.1")
			if !try(c, name, password) {
				t.Fatal("no login")
			}
			tries := 0
			result, err := c.Run(deadline(t), "verify_email", nil, client.Handlers{
				Answer: func(context.Context, client.Question) (string, error) {
					if tries++; tries <= wrong {
						return "000000", nil
					}
					return box.take(name), nil
				},
			})
			verified := strings.TrimSpace(mustRun(t, c, "is_email_verified"))
			want, tried := "true", wrong+1
			if wrong == 5 {
				want, tried = "false", 5
			}
			if err != nil || verified != want || tries != tried {
				t.Errorf("%d wrong codes: %v, %v, verified %s after %d tries", wrong, result.Code, err, verified, tries)
			}
			if want == "false" {
				if code, _, used := answers(t, c, []string{"000000"}, "verify_email"); code != wire.ExecutionFail || used != 0 {
					t.Errorf("another code at once: %v", code)
				}
			}
		}
	})
}

// While others guess, everybody else gets in. How long that takes is said, not
// judged.
func TestLoginsBesideGuessing(t *testing.T) {
	const attackers = 8
	logins := 10
	if long(t) {
		logins = 300
	}
	s := newSite(t, "--set", "limit_loopback=true", "--set", "failures_per_addr=1000000", "--set", "log_level=warn")
	s.start()
	root := from(t, s, "127.0.0.1")
	login(t, root, s.user, s.password)
	var names []string
	for i := range attackers {
		names = append(names, fmt.Sprintf("victim%d", i))
	}
	addAccounts(t, root, append(names, "good")...)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	var guesses atomic.Int64
	for i := range attackers {
		c := from(t, s, fmt.Sprintf("127.0.6.%d", i+1))
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				name := names[i]
				if n%2 == 0 {
					name = fmt.Sprintf("nobody%d", n)
				}
				_, err := c.Run(ctx, "auth", []string{"-user", name}, client.Handlers{
					Answer: func(_ context.Context, q client.Question) (string, error) {
						if q.Try > 1 {
							return "", nil
						}
						return wrongPassword, nil
					},
				})
				if err != nil {
					return // the end
				}
				guesses.Add(1)
			}
		})
	}
	var took []float64
	began := time.Now()
	for range logins {
		c := from(t, s, "127.0.0.1")
		at := time.Now()
		if code, said, _ := answers(t, c, []string{password}, "auth", "-user", "good"); code != wire.NoErrors {
			t.Fatalf("a good login fails: %v, %q", code, said)
		}
		took = append(took, time.Since(at).Seconds()*1000)
		c.Close()
	}
	rate := float64(guesses.Load()) / time.Since(began).Seconds()
	stop()
	all.Wait()
	slices.Sort(took)
	t.Logf("%d logins beside %d attackers with %.0f guesses a second: median %.0f ms, 99%% %.0f ms, longest %.0f ms",
		logins, attackers, rate, took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
}

// Who tries a password learns from no byte of the answers whether the user is
// unknown, the password wrong, or the account locked.
func TestRefusalsLookAlike(t *testing.T) {
	s := newSite(t, "--set", "argon2_kib=1024", "--set", "argon2_time=1", "--set", "auto_lock_limit=3")
	s.start()
	root := dial(t, s.addr, client.Config{})
	login(t, root, s.user, s.password)
	addAccounts(t, root, "wrong", "locked", "failed", "guessed")
	mustRun(t, root, "lock_acct", "-user", "locked", "-state", "1")
	fail := func(name string, n int) {
		answers(t, dial(t, s.addr, client.Config{}), slices.Repeat([]string{wrongPassword}, n), "auth", "-user", name)
	}
	fail("failed", 3) // locked by failures
	conversation := func(command, name string, secrets ...string) string {
		var seen strings.Builder
		c := dial(t, s.addr, client.Config{Tap: func(f wire.Frame) { fmt.Fprintf(&seen, "%v %d %d %q\n", f.Type, f.Cmd, f.Branch, f.Payload) }})
		// The session before the call is not what is compared, nor is its id.
		begin := seen.Len()
		answers(t, c, secrets, command, "-user", name)
		c.Close()
		return seen.String()[begin:]
	}
	for _, secrets := range [][]string{{wrongPassword}, {wrongPassword, wrongPassword}, {wrongPassword, "x", wrongPassword}} {
		want := ""
		for _, name := range []string{"wrong", "locked", "failed", "nobody", "NOBODY2"} {
			pw := slices.Clone(secrets)
			if name == "locked" || name == "failed" {
				pw[0] = password // not even the right one says anything
			}
			got := conversation("auth", name, pw...)
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("%d tries for %s:\n%swant\n%s", len(secrets), name, got, want)
			}
		}
		mustRun(t, root, "lock_acct", "-user", "wrong", "-state", "0")
	}
	// An account without a recovery password and none at all.
	if a, b := conversation("recover_acct", "wrong", "x", "y"), conversation("recover_acct", "nobody", "x", "y"); a != b {
		t.Errorf("recover_acct of an account\n%sand of none\n%s", a, b)
	}
}

// How long a refusal takes must say nothing either. The figures are for
// people: no clock is trusted to fail a test.
func TestRefusalTimes(t *testing.T) {
	if !long(t) {
		t.Skip("measures for a minute: " + longEnv + "=1 runs it")
	}
	const samples, perName = 10_000, 5 // so many refusals of a name are not held back
	s := newSite(t, append(slices.Clone(cheap), "--set", "log_level=error")...)
	s.start()
	root := dial(t, s.addr, client.Config{})
	login(t, root, s.user, s.password)
	kinds := []string{"unknown", "wrong", "locked"}
	for i := range samples / perName {
		addAccounts(t, root, fmt.Sprintf("wrong%05d", i), fmt.Sprintf("locked%05d", i))
		mustRun(t, root, "lock_acct", "-user", fmt.Sprintf("locked%05d", i), "-state", "1")
	}
	var order []int
	for i := range samples * len(kinds) {
		order = append(order, i)
	}
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	c := dial(t, s.addr, client.Config{})
	ctx := t.Context()
	took := make([][]float64, len(kinds))
	next := func(call *client.Call, want wire.TypeID) {
		t.Helper()
		f, err := call.Next(ctx)
		if err != nil || f.Type != want {
			t.Fatalf("%v %q, %v; want %v", f.Type, f.Payload, err, want)
		}
	}
	for _, n := range order {
		kind, i := n%len(kinds), n/len(kinds)
		call, err := c.Call(ctx, "auth", "-user", fmt.Sprintf("%s%05d", kinds[kind], i/perName))
		if err != nil {
			t.Fatal(err)
		}
		next(call, wire.PrivText)
		began := time.Now()
		if err := call.Send(wire.Text, []byte(wrongPassword)); err != nil {
			t.Fatal(err)
		}
		next(call, wire.Err)
		took[kind] = append(took[kind], float64(time.Since(began).Nanoseconds())/1000)
		next(call, wire.PrivText)
		if err := call.Send(wire.Text, nil); err != nil {
			t.Fatal(err)
		}
		next(call, wire.Text)
		if _, err := call.Next(ctx); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	for k, kind := range kinds {
		sorted := slices.Sorted(slices.Values(took[k]))
		mean, _ := moments(sorted)
		q := func(p float64) float64 { return sorted[int(p*float64(len(sorted)-1))] }
		t.Logf("%-8s mean %.1f us, 10%% %.1f, 25%% %.1f, median %.1f, 75%% %.1f, 90%% %.1f, 99%% %.1f", kind, mean, q(.1), q(.25), q(.5), q(.75), q(.9), q(.99))
	}
	for a := range kinds {
		for b := range a {
			u, z := mannWhitney(took[a], took[b])
			w, dw := welch(took[a], took[b])
			t.Logf("%s against %s: Welch t %.2f (difference of the means %+.1f us); Mann-Whitney z %.2f, P(%s slower) %.3f",
				kinds[a], kinds[b], w, dw, z, kinds[a], u)
		}
	}
}

func moments(x []float64) (mean, variance float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		variance += (v - mean) * (v - mean) / float64(len(x)-1)
	}
	return mean, variance
}

// welch returns the statistic of Welch's test, near to normal for so many
// samples, and the difference of the means.
func welch(a, b []float64) (t, difference float64) {
	ma, va := moments(a)
	mb, vb := moments(b)
	return (ma - mb) / math.Sqrt(va/float64(len(a))+vb/float64(len(b))), ma - mb
}

// mannWhitney returns how likely a sample of a is larger than one of b, and
// the standardized statistic. Equal values are too rare to matter.
func mannWhitney(a, b []float64) (p, z float64) {
	type sample struct {
		value float64
		ofA   bool
	}
	var all []sample
	for _, v := range a {
		all = append(all, sample{v, true})
	}
	for _, v := range b {
		all = append(all, sample{v, false})
	}
	slices.SortFunc(all, func(x, y sample) int {
		switch {
		case x.value < y.value:
			return -1
		case x.value > y.value:
			return 1
		}
		return 0
	})
	ranks := 0.0
	for i, s := range all {
		if s.ofA {
			ranks += float64(i + 1)
		}
	}
	n, m := float64(len(a)), float64(len(b))
	u := ranks - n*(n+1)/2
	return u / (n * m), (u - n*m/2) / math.Sqrt(n*m*(n+m+1)/12)
}
