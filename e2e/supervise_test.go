//go:build unix

package e2e_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/internal/cert"
	"mrci.dev/mrci/wire"
)

// The accounts of the workers and of the people that each of them looks after.
const (
	workers     = 50
	workerRank  = 2
	workerRanks = 6 // people have 3 to 8
	workerPool  = 6 // people of one worker
)

// passwords are what workers change theirs to, in turn.
var passwords = [2]string{password, "Battery-staple8"}

// person is an account that a worker looks after.
type person struct {
	rank   uint32
	locked bool
}

// holding is all that only one worker changes.
type holding struct {
	name, display, password string
	people                  map[string]person
}

func (h holding) clone() holding {
	h.people = maps.Clone(h.people)
	return h
}

// looksLike reports whether o shows the same, but for the password, which
// nobody can see.
func (h holding) looksLike(o holding) bool {
	return h.name == o.name && h.display == o.display && maps.Equal(h.people, o.people)
}

// chaos is what the workers of one host share.
type chaos struct {
	addr string

	stopping atomic.Bool  // workers end as soon as they know where they are
	killed   atomic.Int64 // when, in Unix nanoseconds; 0: somebody has logged in since
	acked    atomic.Int64 // changes
	calls    atomic.Int64
	cut      atomic.Int64 // changes that were under way when the host was killed
	survived atomic.Int64 // those of them that are there
	logins   atomic.Int64
	dials    atomic.Int64 // that found nobody

	mu      sync.Mutex
	admits  []time.Duration // from a kill to the first login
	awaited int64           // so many changes acknowledged close reached
	reached chan struct{}
}

// after returns a channel that is closed when so many more changes have been
// acknowledged. Only the last one counts.
func (c *chaos) after(changes int) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.awaited, c.reached = c.acked.Load()+int64(max(changes, 1)), make(chan struct{})
	return c.reached
}

// acknowledged counts a change.
func (c *chaos) acknowledged() {
	n := c.acked.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reached != nil && n >= c.awaited {
		close(c.reached)
		c.reached = nil
	}
}

// admitted notes that somebody is logged in who began to connect then.
func (c *chaos) admitted(began time.Time) {
	c.logins.Add(1)
	at := c.killed.Load()
	if at == 0 || began.UnixNano() < at || !c.killed.CompareAndSwap(at, 0) {
		return // the last words of the host that was killed
	}
	took := time.Since(time.Unix(0, at))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.admits = append(c.admits, took)
}

// worker is a client that changes its own account and those of its people, one
// call after another, so that it knows what there has to be.
type worker struct {
	chaos *chaos
	base  string // of its names
	rnd   *rand.Rand
	conn  *client.Client
	now   holding  // what was acknowledged
	next  *holding // what the call has made of it, if any, that the end of the host cut off
	mails int
}

// errCut says that the host has gone, errRefused that it takes no password.
var (
	errCut     = errors.New("the host has gone")
	errRefused = errors.New("the user or the password is wrong")
)

// run makes one call and returns what the host printed. It must succeed, or be
// cut off by the end of the host.
func (w *worker) run(ctx context.Context, command string, args ...string) (string, error) {
	return w.answer(ctx, password, command, args...)
}

// answer is run for a command that asks for a password.
func (w *worker) answer(ctx context.Context, password, command string, args ...string) (string, error) {
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var text, said strings.Builder
	result, err := w.conn.Run(within, command, args, client.Handlers{
		Frame: func(f wire.Frame) error {
			switch f.Type {
			case wire.Err:
				said.Write(f.Payload)
			case wire.Text, wire.BigText:
				text.Write(f.Payload)
			}
			return nil
		},
		Answer: func(_ context.Context, q client.Question) (string, error) {
			if q.Refused != "" {
				return "", nil
			}
			return password, nil
		},
	})
	switch {
	case within.Err() != nil:
		return "", fmt.Errorf("%s: no answer: %w", command, err)
	case err != nil:
		if missing := (*client.NoCommandError)(nil); errors.As(err, &missing) {
			return "", err
		}
		return "", errCut
	case result.Code != wire.NoErrors || said.Len() > 0:
		return "", fmt.Errorf("%s %q: code %v, %q", command, args, result.Code, said.String())
	}
	w.chaos.calls.Add(1)
	return text.String(), nil
}

// login connects and logs in.
func (w *worker) login(ctx context.Context, name, password string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if w.conn != nil {
		w.conn.Close()
	}
	began := time.Now()
	var err error
	w.conn, err = client.Dial(ctx, w.chaos.addr, client.Config{VerifyKey: func(string, string) error { return nil }})
	if err == nil {
		err = w.conn.Login(ctx, name, func(_ context.Context, q client.Question) (string, error) {
			if q.Kind != client.Password || q.Refused != "" {
				return "", client.ErrNoAnswer
			}
			return password, nil
		})
	} else {
		w.conn = nil
		w.chaos.dials.Add(1)
	}
	refused := (*client.LoginError)(nil)
	switch {
	case err == nil:
		w.chaos.admitted(began)
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("log in as %s: no answer: %w", name, err)
	case !errors.As(err, &refused):
		return errCut
	case strings.Contains(refused.Text, "too many logins at once"):
		return errCut
	case strings.Contains(refused.Text, "password is wrong"):
		return errRefused
	}
	return fmt.Errorf("log in as %s: %w", name, err)
}

var displayed = regexp.MustCompile(`(?m)^display name: (.*)$`)

// look reads the holding over the wire; its password is what let it in.
func (w *worker) look(ctx context.Context, password string) (holding, error) {
	info, err := w.run(ctx, "my_info")
	if err != nil {
		return holding{}, err
	}
	name, display := myself.FindStringSubmatch(info), displayed.FindStringSubmatch(info)
	if name == nil || display == nil || name[3] != strconv.Itoa(workerRank) {
		return holding{}, fmt.Errorf("my_info says\n%s", info)
	}
	h := holding{name: name[1], display: display[1], password: password, people: make(map[string]person)}
	all, err := w.run(ctx, "ls_users", "-user_name", w.base+"c", "-all")
	if err != nil {
		return holding{}, err
	}
	locked, err := w.run(ctx, "ls_users", "-user_name", w.base+"c", "-locked", "1", "-all")
	if err != nil {
		return holding{}, err
	}
	rows, err := parseUsers(all)
	if err != nil {
		return holding{}, err
	}
	shut, err := parseUsers(locked)
	if err != nil {
		return holding{}, err
	}
	for _, e := range rows {
		if _, twice := h.people[e.name]; twice {
			return holding{}, fmt.Errorf("two accounts have the name %s", e.name)
		}
		h.people[e.name] = person{rank: e.rank, locked: slices.ContainsFunc(shut, func(o entry) bool { return o.name == e.name })}
	}
	return h, nil
}

// settle logs in and finds out what has become of the call that was cut off:
// all of it or nothing.
func (w *worker) settle(ctx context.Context) error {
	as := w.now
	err := w.login(ctx, as.name, as.password)
	if errors.Is(err, errRefused) && w.next != nil {
		as = *w.next
		err = w.login(ctx, as.name, as.password)
	}
	if err != nil {
		return err
	}
	found, err := w.look(ctx, as.password)
	switch {
	case err != nil:
		return err
	case as.password == w.now.password && found.looksLike(w.now):
	case w.next != nil && as.password == w.next.password && found.looksLike(*w.next):
		w.now = *w.next
		w.chaos.survived.Add(1)
	default:
		return fmt.Errorf("acknowledged is %+v, under way was %+v, but there is %+v", w.now, w.next, found)
	}
	w.next = nil
	return nil
}

// step makes one call.
func (w *worker) step(ctx context.Context) error {
	next := w.now.clone()
	answer := password
	var call []string
	child := fmt.Sprintf("%sc%d", w.base, w.rnd.IntN(workerPool))
	p, there := next.people[child]
	switch n := w.rnd.IntN(100); {
	case n < 10:
		found, err := w.look(ctx, w.now.password)
		if err == nil && !found.looksLike(w.now) {
			err = fmt.Errorf("acknowledged is %+v, but there is %+v", w.now, found)
		}
		return err
	case n < 25:
		next.display = fmt.Sprintf("D%d", w.rnd.IntN(1e6))
		call = []string{"set_disp_name", "-new_name", next.display}
	case n < 30:
		if next.name = w.base; w.now.name == w.base {
			next.name += "x"
		}
		call = []string{"set_user_name", "-new_name", next.name}
	case n < 35:
		if next.password = passwords[0]; w.now.password == passwords[0] {
			next.password = passwords[1]
		}
		answer = next.password
		call = []string{"set_pw"}
	case !there:
		w.mails++
		next.people[child] = person{rank: initialRank}
		call = []string{"add_acct", "-name", child, "-email", fmt.Sprintf("%s-%d@example.org", child, w.mails)}
	case n < 50:
		delete(next.people, child)
		call = []string{"rm_acct", "-name", child, "-force"}
	case n < 75:
		p.rank = workerRank + 1 + uint32(w.rnd.IntN(workerRanks))
		next.people[child] = p
		call = []string{"set_user_rank", "-user", child, "-rank", strconv.Itoa(int(p.rank))}
	default:
		p.locked = !p.locked
		next.people[child] = p
		call = []string{"lock_acct", "-user", child, "-state", map[bool]string{false: "0", true: "1"}[p.locked]}
	}
	_, err := w.answer(ctx, answer, call[0], call[1:]...)
	switch {
	case err == nil:
		w.now = next
		w.chaos.acknowledged()
	case errors.Is(err, errCut):
		w.next = &next
		w.chaos.cut.Add(1)
	}
	return err
}

// Bounds of the back-off of workers that find no host.
const (
	firstBackOff   = 2 * time.Millisecond
	longestBackOff = 64 * time.Millisecond
)

// work goes on until it is to stop and knows what there has to be.
func (w *worker) work(ctx context.Context) error {
	defer func() {
		if w.conn != nil {
			w.conn.Close()
		}
	}()
	backOff := firstBackOff
	for settled := false; ctx.Err() == nil; {
		var err error
		switch {
		case !settled:
			err = w.settle(ctx)
		case w.chaos.stopping.Load():
			return nil
		default:
			err = w.step(ctx)
		}
		switch {
		case err == nil:
			settled, backOff = true, firstBackOff
			continue
		case !errors.Is(err, errCut):
			return fmt.Errorf("%s: %w", w.base, err)
		}
		settled = false
		pause := time.NewTimer(backOff/2 + time.Duration(w.rnd.Int64N(int64(backOff))))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
		backOff = min(2*backOff, longestBackOff)
	}
	return ctx.Err()
}

// supervised is a host under the supervisor.
type supervised struct {
	t testing.TB
	*process
	seen int // of what it has printed
}

var startedLine = regexp.MustCompile(`(?m)^started (\d+)$`)

// supervise starts the supervisor, in a process group of its own.
func supervise(t testing.TB, dir string, env []string, addr string, options ...string) *supervised {
	t.Helper()
	args := append([]string{"testdata/supervise.sh", binary}, hostArgs(dir, append(options, "--listen", addr))...)
	cmd := exec.Command("/bin/sh", args...)
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p, err := start(cmd, false)
	if err != nil {
		t.Fatal(err)
	}
	s := &supervised{t: t, process: p}
	t.Cleanup(func() {
		// All of the group, which is empty after a clean end.
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		p.finish(stopTime)
		p.check(t)
		if t.Failed() {
			log := p.stderr.String()
			t.Logf("last output:\n%s\nlast log:\n%s", p.stdout.String()[s.seen:], log[max(0, len(log)-8<<10):])
		}
	})
	return s
}

// next waits for the next start and returns the host's pid.
func (s *supervised) next() int {
	s.t.Helper()
	end, ok := s.await(s.stdout, s.seen, startedLine)
	if !ok {
		s.t.Fatal("the host is not started again")
	}
	pid, err := strconv.Atoi(startedLine.FindStringSubmatch(s.stdout.String()[s.seen:end])[1])
	if err != nil {
		s.t.Fatal(err)
	}
	s.seen = end
	return pid
}

// listens waits until the host that was started last listens.
func (s *supervised) listens() {
	s.t.Helper()
	end, ok := s.await(s.stdout, s.seen, listening)
	if !ok {
		s.t.Fatal("the host does not listen")
	}
	if said := s.stdout.String()[s.seen:end]; startedLine.MatchString(said) {
		s.t.Fatalf("the host did not start at once:\n%s\n%s", said, s.stderr)
	}
	s.seen = end
}

// hurry makes the figures of a list of times.
func hurry(list []time.Duration) string {
	if len(list) == 0 {
		return "never"
	}
	slices.Sort(list)
	at := func(share int) time.Duration {
		return list[min(len(list)*share/100, len(list)-1)].Round(time.Millisecond)
	}
	return fmt.Sprintf("median %v, 99th %v, longest %v of %d", at(50), at(99), list[len(list)-1].Round(time.Millisecond), len(list))
}

// operator asks the host over its control socket now and then, until ctx ends.
// Whatever happens to the host, each request has an answer or one line that
// says why not.
func operator(ctx context.Context, dir string, env []string, rnd *rand.Rand) (outcomes map[string]int, err error) {
	outcomes = make(map[string]int)
	requests := [][]string{{"status"}, {"status", "--json"}, {"reload"}, {"reload", "--certificates"}, {"reset-password", "spare"}}
	for {
		pause := time.NewTimer(time.Duration(rnd.IntN(200)) * time.Millisecond)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return outcomes, nil
		}
		request := requests[rnd.IntN(len(requests))]
		cmd := exec.Command(binary, append([]string{"--dir", dir}, request...)...)
		cmd.Env = env
		p, err := start(cmd, false)
		if err != nil {
			return outcomes, err
		}
		if !p.finish(2 * patience) { // the program gives a host its own patience
			return outcomes, fmt.Errorf("mrci %q hangs", request)
		}
		said := p.stderr.String()
		switch {
		case p.status == 0:
			outcomes[request[0]+": done"]++
		case p.status == 1 && strings.HasPrefix(said, "mrci: ") && strings.Count(said, "\n") == 1:
			why := regexp.MustCompile(`/\S*|\d+`).ReplaceAllString(strings.TrimSpace(said), "*")
			outcomes[request[0]+": "+why]++
		default:
			return outcomes, fmt.Errorf("mrci %q: status %d: %q", request, p.status, said)
		}
	}
}

// A supervisor starts the host again whenever it is killed, at whatever moment,
// while clients work and an administrator asks for this and that. It starts
// without help every time; what was acknowledged is there, what was under way
// is there as a whole or not at all; and after a clean stop nothing is left
// but what belongs there.
func TestSupervisedHost(t *testing.T) {
	kills := 15
	if long(t) {
		kills = 500
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	rnd := rand.New(rand.NewPCG(seed, 0))

	s := newSite(t, cheap...)
	s.start()
	team, ids := s.hire(ctx, seed)
	s.stop(t, syscall.SIGTERM)

	shared := &chaos{addr: s.addr}
	h := supervise(t, s.dir, s.env, s.addr, cheap...)
	var all, operating sync.WaitGroup
	defer operating.Wait()
	defer all.Wait()
	defer cancel()
	failures := make(chan error, workers+1)
	for _, w := range team {
		w.chaos = shared
		all.Go(func() {
			if err := w.work(ctx); err != nil {
				failures <- err
			}
		})
	}
	operation, rest := context.WithCancel(ctx)
	defer rest()
	var outcomes map[string]int
	operating.Go(func() {
		var err error
		if outcomes, err = operator(operation, s.dir, s.env, rand.New(rand.NewPCG(seed, 1))); err != nil {
			failures <- err
		}
	})
	healthy := func() {
		t.Helper()
		select {
		case err := <-failures:
			t.Fatal(err)
		default:
		}
	}

	began := time.Now()
	var starts []time.Duration // from the kill to listening
	early := 0
	var killed time.Time
	pid := h.next()
	for range kills {
		healthy()
		// Every fifth time in the middle of starting, else in the middle of
		// whatever comes after some changes.
		most := 60 * time.Millisecond
		if rnd.IntN(5) == 0 {
			early++
		} else {
			h.listens()
			if !killed.IsZero() {
				starts = append(starts, time.Since(killed))
			}
			most = 20 * time.Millisecond
			select {
			case <-shared.after(rnd.IntN(100)):
			case err := <-failures:
				t.Fatal(err)
			case <-ctx.Done():
				t.Fatal("no answers")
			}
		}
		pause := time.NewTimer(time.Duration(rnd.Int64N(int64(most))))
		<-pause.C
		killed = time.Now()
		shared.killed.CompareAndSwap(0, killed.UnixNano())
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatalf("kill the host: %v", err)
		}
		pid = h.next()
	}
	h.listens()
	starts = append(starts, time.Since(killed))
	took := time.Since(began)
	rest()
	operating.Wait()
	shared.stopping.Store(true)
	all.Wait()
	healthy()

	want := []entry{{name: admin, rank: 1}, {name: "spare", rank: initialRank}}
	displays := map[string]string{admin: "", "spare": ""}
	for i, w := range team {
		want = append(want, entry{id: ids[i], name: w.now.name, rank: workerRank})
		displays[w.now.name] = w.now.display
		for name, p := range w.now.people {
			want = append(want, entry{name: name, rank: p.rank, locked: p.locked})
			displays[name] = ""
		}
	}
	db := s.open()
	s.holds(db, want, displays)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	// The supervisor first: it would take an end for a failure.
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	stop := exec.Command(binary, "--dir", s.dir, "stop")
	stop.Env = s.env
	if out, err := stop.CombinedOutput(); err != nil {
		t.Fatalf("mrci stop: %v: %s", err, out)
	}
	if !h.finish(stopTime) || h.status != 0 {
		t.Fatalf("the supervisor ended with status %d", h.status)
	}
	if err := syscall.Kill(-h.cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("a process is left: %v", err)
	}
	for line := range strings.Lines(h.stderr.String()) {
		if strings.HasPrefix(line, "mrci: ") || strings.HasPrefix(line, "gave up") || strings.Contains(line, "level=ERROR") {
			t.Errorf("a host said: %s", line)
		}
	}
	s.tidy()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.dir, "data.db")+"?mode=ro&immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s.holds(db, want, displays) // all of it is in the file

	var lines []string
	for _, what := range slices.Sorted(maps.Keys(outcomes)) {
		lines = append(lines, fmt.Sprintf("%7d %s", outcomes[what], what))
	}
	t.Logf("%d kills in %v, %d of them at a random moment after the fork; from kill to listening: %s; from kill to the first login: %s",
		kills, took.Round(time.Millisecond), early, hurry(starts), hurry(shared.admits))
	t.Logf("%d calls, %d changes acknowledged, %d under way when the host was killed, %d of these are there; %d logins, %d connects that found no host",
		shared.calls.Load(), shared.acked.Load(), shared.cut.Load(), shared.survived.Load(), shared.logins.Load(), shared.dials.Load())
	t.Logf("control requests:\n%s", strings.Join(lines, "\n"))
}

// hire makes the workers and their accounts, and returns the ids of these.
func (s *site) hire(ctx context.Context, seed uint64) ([]*worker, []string) {
	s.t.Helper()
	c, err := client.Dial(ctx, s.addr, client.Config{})
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	login(s.t, c, s.user, s.hostProcess.password)
	for _, name := range []string{"set_user_rank", "lock_acct", "rm_acct", "add_acct", "ls_users"} {
		mustRun(s.t, c, "add_ranked_cmd", "-command", name, "-rank", strconv.Itoa(workerRank))
	}
	mustRun(s.t, c, "add_acct", "-name", "spare", "-email", "spare@example.org")
	team := make([]*worker, workers)
	for i := range team {
		base := fmt.Sprintf("w%02d", i)
		mustRun(s.t, c, "add_acct", "-name", base, "-email", base+"@example.org")
		mustRun(s.t, c, "set_user_rank", "-user", base, "-rank", strconv.Itoa(workerRank))
		team[i] = &worker{
			base: base, rnd: rand.New(rand.NewPCG(seed, uint64(i)<<8)),
			now: holding{name: base, password: password, people: make(map[string]person)},
		}
	}
	rows, err := parseUsers(mustRun(s.t, c, "ls_users", "-all"))
	if err != nil {
		s.t.Fatal(err)
	}
	ids := make([]string, workers)
	for i, w := range team {
		for _, e := range rows {
			if e.name == w.base {
				ids[i] = e.id
			}
		}
	}
	return team, ids
}

// holds compares the whole database with what there has to be. An id that
// nobody knows is not compared.
func (s *site) holds(db *sql.DB, want []entry, displays map[string]string) {
	s.t.Helper()
	s.integrity(db)
	have, _ := s.stored(db)
	byName := make(map[string]entry)
	ids := make(map[string]bool)
	for _, e := range have {
		if _, twice := byName[e.name]; twice || ids[e.id] {
			s.t.Errorf("two accounts of the name %s or the id %s", e.name, e.id)
		}
		byName[e.name], ids[e.id] = e, true
	}
	for _, w := range want {
		e, there := byName[w.name]
		delete(byName, w.name)
		id := e.id
		if w.id == "" {
			e.id = ""
		}
		if w.name == "spare" {
			e.pwReq = false // whether its password was reset is not written down
		}
		if !there || e.id != w.id || e.rank != w.rank || e.locked != w.locked || e.pwReq || e.nameReq {
			s.t.Errorf("there has to be %+v, but there is %+v", w, e)
			continue
		}
		var display string
		if err := db.QueryRow(`SELECT display_name FROM users WHERE lower(hex(user_id)) = $1`, id).Scan(&display); err != nil || display != displays[w.name] {
			s.t.Errorf("%s: display name %q, want %q (%v)", w.name, display, displays[w.name], err)
		}
	}
	for _, e := range byName {
		s.t.Errorf("an account that nobody has acknowledged: %+v", e)
	}
	s.logs(db)
}

// logs looks at every row of the logs. Their columns are also checked by the
// database.
func (s *site) logs(db *sql.DB) {
	s.t.Helper()
	for _, table := range []string{
		`SELECT time_stamp, ip_address, 'x' FROM auth_log`,
		`SELECT time_stamp, ip_address, command FROM audit_log`,
		`SELECT time_stamp, ip_address, log_entry FROM ip_history`,
	} {
		rows, err := db.Query(table)
		if err != nil {
			s.t.Fatal(err)
		}
		defer rows.Close()
		n := 0
		for ; rows.Next(); n++ {
			var at, addr, text string
			if err := rows.Scan(&at, &addr, &text); err != nil {
				s.t.Fatal(err)
			}
			_, timeErr := time.Parse(time.DateTime, at)
			_, addrErr := netip.ParseAddr(addr)
			local := addr == "" && strings.HasPrefix(text, "mrci ") // from the command line
			if timeErr != nil || addrErr != nil && !local || text == "" {
				s.t.Errorf("%s: row %q %q %q", table, at, addr, text)
			}
		}
		if err := rows.Err(); err != nil || n == 0 {
			s.t.Errorf("%s: %d rows, %v", table, n, err)
		}
	}
}

// belongs are the files that a host leaves when it has stopped.
var belongs = []string{
	"conf.json", "data.db", "email_verify_template.txt", "res_pw_template.txt", "tls_chain.pem", "tls_priv.pem",
}

// tidy fails when a host that has stopped has left anything else.
func (s *site) tidy() {
	s.t.Helper()
	noneLeft(s.t, s.dir, belongs)
	for _, v := range s.env {
		name, dir, _ := strings.Cut(v, "=")
		if name == "TMPDIR" || name == "HOME" {
			noneLeft(s.t, dir, nil)
		}
	}
}

// noneLeft fails when there is a file below dir that is not allowed.
func noneLeft(t testing.TB, dir string, allowed []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if name, _ := filepath.Rel(dir, path); !slices.Contains(allowed, name) {
			t.Errorf("left: %s", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A host that is killed at its first start, wherever it was, starts the next
// time as if nothing had been: certificate and key belong together, and the
// last password that was printed lets the administrator in.
func TestKilledFirstStart(t *testing.T) {
	rounds := 8
	if long(t) {
		rounds = 100
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	// The moments are spread over a first start as long as it takes here, and
	// over 150 ms; some are chosen.
	whole := newSite(t, cheap...)
	spans := []time.Duration{whole.start(), 150 * time.Millisecond}
	whole.stop(t, syscall.SIGTERM)
	whole.tidy()

	reached := make(map[string]int)
	var starts []time.Duration
	for round := range rounds {
		s := newSite(t, cheap...)
		shown := ""
		for range 1 + rnd.IntN(2) {
			cmd := exec.Command(binary, hostArgs(s.dir, cheap)...)
			cmd.Env = s.env
			moment := time.NewTimer(time.Duration(rnd.Int64N(int64(spans[round%2]))))
			p, err := start(cmd, false)
			if err != nil {
				t.Fatal(err)
			}
			if round%4 == 3 {
				// While the account is stored whose password has been shown.
				if _, ok := p.await(p.stdout, 0, passwordOrListening); !ok {
					t.Fatalf("the host says nothing:\n%s", p.stderr)
				}
				moment.Reset(time.Duration(rnd.IntN(3000)) * time.Microsecond)
			}
			<-moment.C
			if p.finish(0) {
				t.Fatalf("the host ended by itself:\n%s", p.stderr)
			}
			p.check(t)
			if m := madePass.FindStringSubmatch(p.stdout.String()); m != nil {
				shown = m[1]
			}
			reached[s.reached(p.stdout.String())]++
		}
		starts = append(starts, s.start())
		if s.hostProcess.password != "" {
			shown = s.hostProcess.password
		}
		if shown == "" {
			t.Fatalf("nobody was told the password of the administrator:\n%s", s.stdout)
		}
		c := dial(t, s.addr, client.Config{})
		login(t, c, admin, shown)
		c.Close()
		certs, err := cert.Open(cert.Config{Chain: []string{filepath.Join(s.dir, "tls_chain.pem")}, Key: filepath.Join(s.dir, "tls_priv.pem")})
		if err != nil {
			t.Fatalf("certificate and key: %v", err)
		}
		if key := "SHA256:" + certs.Fingerprint(); key != s.fingerprint {
			t.Errorf("key %s, want %s", key, s.fingerprint)
		}
		db := s.open()
		s.integrity(db)
		if have, _ := s.stored(db); len(have) != 1 || have[0].name != admin || have[0].rank != 1 || have[0].pwReq {
			t.Errorf("accounts: %+v", have)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		s.stop(t, syscall.SIGTERM)
		s.tidy()
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	t.Logf("a first start takes %v; killed there (what the last thing was): %v; the start after that: %s", spans[0].Round(time.Millisecond), reached, hurry(starts))
}

var passwordOrListening = regexp.MustCompile(`(?m)^(password: \S+|listening on \S+)$`)

// reached says how far a first start has come that printed this.
func (s *site) reached(printed string) string {
	has := func(name string) bool {
		_, err := os.Lstat(filepath.Join(s.dir, name))
		return err == nil
	}
	text, _ := os.ReadFile(filepath.Join(s.dir, "data.db-wal"))
	switch {
	case listening.MatchString(printed):
		return "9 listening"
	case madePass.MatchString(printed):
		return "8 password"
	case has("run/listening"):
		return "7 announced"
	case has("tls_chain.pem"):
		return "6 certificate"
	case has("tls_priv.pem"):
		return "5 key"
	case bytes.Contains(text, []byte("audit_log")):
		return "4 tables"
	case has("data.db"):
		return "3 database"
	case has("run/control.sock"):
		return "2 socket"
	case has("conf.json"):
		return "1 configuration"
	}
	return "0 nothing"
}
