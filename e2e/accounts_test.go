//go:build unix

package e2e_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
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
	"mrci.dev/mrci/wire"
)

// longEnv asks for the full versions of tests that take minutes.
const longEnv = "MRCI_TEST_LONG"

// long reports whether the full version of a test is asked for, and says how
// to ask.
func long(t testing.TB) bool {
	if os.Getenv(longEnv) == "1" {
		return true
	}
	t.Logf("the short version; %s=1 runs the full one", longEnv)
	return false
}

// The accounts of these tests: the administrator, whom nobody else can change,
// and a few names that come and go. Rank 1 is the administrator's alone.
const (
	initialRank = 5
	lowestRank  = 5
	pooledNames = 16
	poolModule  = "/test/module" // has ranks, and need not exist
)

// cheap are the settings of a host whose logins cost little.
var cheap = []string{
	"--set", "argon2_kib=1024", "--set", "argon2_time=1", "--set", "argon2_parallel=2",
	"--set", "auto_lock_limit=1000000", "--set", "initial_rank=" + strconv.Itoa(initialRank), "--set", "log_level=warn",
}

// site is a directory and an address, for one host after another.
type site struct {
	t       testing.TB
	dir     string
	env     []string
	addr    string
	options []string
	*hostProcess

	clock atomic.Int64 // counts the beginnings and ends of calls
	mails atomic.Int64 // makes addresses that nobody else has
}

func newSite(t testing.TB, options ...string) *site {
	s := &site{t: t, dir: t.TempDir(), env: cleanEnv(t), options: options}
	t.Cleanup(func() {
		if h := s.hostProcess; h != nil {
			h.finish(0)
			h.check(t)
			if t.Failed() {
				t.Logf("log of the last host:\n%s", h.stderr)
			}
		}
	})
	return s
}

// start starts a host and returns how long it took to listen.
func (s *site) start() time.Duration {
	options := slices.Clone(s.options)
	if s.addr != "" {
		options = append(options, "--listen", s.addr)
	}
	cmd := exec.Command(binary, hostArgs(s.dir, options)...)
	cmd.Env = s.env
	began := time.Now()
	h := startHost(s.t, cmd, s.dir)
	took := time.Since(began)
	s.hostProcess = h
	if h.addr == "" {
		s.t.Fatalf("the host did not start:\n%s", h.stderr)
	}
	s.addr = h.addr
	return took
}

// kill ends the host as a power cut would end the process.
func (s *site) kill() { s.stop(s.t, syscall.SIGKILL) }

// actor is one client that makes calls and writes down what it saw.
type actor struct {
	s    *site
	n    int // number among the clients
	rnd  *rand.Rand
	conn *client.Client
	acts []*act
	user string // who it is logged in as, as far as it knows
	err  error  // of the test, not of a call
}

// texts are what the host says, by result.
var texts = []struct{ part, result string }{
	{"There is no such user.", resNone},
	{"has no rank; ls_ranked_cmds lists", resNone},
	{"your rank is not higher than its.", resDenied},
	{"above your own, which is ", resAbove},
	{"The user name is taken; ", resTaken},
	{"has a rank already; ", resTaken},
	{"The user name is the current one; ", resSame},
	{"Your own account has been removed.", resGone},
	{"The user or the password is wrong, or the account is locked.", resRefused},
	{"The account was locked, recovered or removed a moment ago; ", resOvertaken},
	{"You are not logged in.", resLost},
	{"There is no command with the id ", resLost},
}

var ownRank = regexp.MustCompile(`above your own, which is (\d+)\.`)

// call makes one call, which a carries out, and notes how it ended. It reports
// whether the connection lives.
func (c *actor) call(ctx context.Context, a *act, command string, args ...string) (alive bool) {
	a.client = c.n
	a.begin = c.s.clock.Add(1)
	var said, text strings.Builder
	demand, passwords := "", 0
	result, err := c.conn.Run(ctx, command, args, client.Handlers{
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
			switch {
			case q.Refused != "":
				return "", nil // an empty answer cancels
			case !q.Hidden:
				demand = resName
				return "", nil
			case passwords > 0:
				demand = resPassword
				return "", nil
			}
			passwords++
			return password, nil
		},
	})
	cutOff := err == nil && result.Code == wire.Aborted && said.Len() == 0 && demand == ""
	if cutOff && !c.awaitWrites(ctx) {
		a.result, a.end = resCut, never
		c.acts = append(c.acts, a)
		return false
	}
	a.end = c.s.clock.Add(1)
	c.acts = append(c.acts, a)
	missing := (*client.NoCommandError)(nil)
	switch {
	case errors.As(err, &missing):
		a.result = resLost
	case err != nil:
		if ctx.Err() != nil {
			c.err = fmt.Errorf("%s: no answer: %w", command, err)
		}
		a.result, a.end = resCut, never
		return false
	case result.Code == wire.NoErrors && said.Len() == 0:
		a.result = resOK
	case demand != "":
		a.result = demand
	case result.Code == wire.Aborted && said.Len() == 0:
		a.result = resUnknown
	default:
		for _, t := range texts {
			if strings.Contains(said.String(), t.part) {
				a.result = t.result
			}
		}
		// Whoever cancels after the refusal of a login gets ABORTED.
		want := wire.InvalidParams
		if a.result == resRefused {
			want = wire.Aborted
		}
		if a.result == "" || result.Code != want {
			c.err = fmt.Errorf("%v: code %v, %q", a, result.Code, said.String())
		}
		if m := ownRank.FindStringSubmatch(said.String()); m != nil {
			n, _ := strconv.ParseUint(m[1], 10, 32)
			a.seenRank = uint32(n)
		}
	}
	switch {
	case a.result == resLost, a.result == resUnknown:
		// Both end in the same: a session without a login. What was unknown
		// about the call is written down, and that it was lost beside it.
		if a.result == resUnknown {
			now := c.s.clock.Add(1)
			c.acts = append(c.acts, &act{client: c.n, verb: "notice", begin: now, end: c.s.clock.Add(1), result: resLost})
		}
		c.user = ""
		if err := c.conn.Settle(ctx); err != nil {
			return false
		}
	case a.verb == "list" && a.result == resOK:
		a.seen, err = parseUsers(text.String())
		if err != nil {
			c.err = err
		}
	case a.verb == "login" && a.result == resOK:
		c.user = a.name
		if err := c.conn.Settle(ctx); err != nil {
			return false
		}
	case a.verb == "rename" && a.result == resOK:
		c.user = a.name
	}
	return true
}

// awaitWrites makes sure that what a call that was cut off had begun to write
// is there: writes come one after the other, and the refused login of a
// stranger is one.
func (c *actor) awaitWrites(ctx context.Context) (alive bool) {
	stranger := fmt.Sprintf("x%d", c.s.mails.Add(1)) // refusals of one name are held back
	_, err := c.conn.Run(ctx, "auth", []string{"-user", stranger}, client.Handlers{
		Answer: func(_ context.Context, q client.Question) (string, error) {
			if q.Refused != "" {
				return "", nil
			}
			return password, nil
		},
	})
	return err == nil
}

// parseUsers reads what ls_users prints.
func parseUsers(text string) ([]entry, error) {
	var rows []entry
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 5 || f[0] == "time_stamp" || strings.HasPrefix(f[0], "-") {
			continue // header, dashes, total
		}
		rank, err := strconv.ParseUint(f[3], 10, 32)
		if err != nil || len(f[4]) != 64 {
			return nil, fmt.Errorf("row of ls_users: %q", line)
		}
		rows = append(rows, entry{name: f[2], rank: uint32(rank), id: f[4]})
	}
	return rows, nil
}

// connect makes a new session.
func (c *actor) connect(ctx context.Context) error {
	if c.conn != nil {
		c.conn.Close()
	}
	c.user = ""
	var err error
	c.conn, err = client.Dial(ctx, c.s.addr, client.Config{VerifyKey: func(string, string) error { return nil }})
	return err
}

// login tries to become a user.
func (c *actor) login(ctx context.Context, name string) (alive bool) {
	return c.call(ctx, &act{verb: "login", name: name}, "auth", "-user", name)
}

func (c *actor) pooled() string { return fmt.Sprintf("user%d", c.rnd.IntN(pooledNames)) }

// random makes one call that may change accounts. The first clients are
// administrators, who let back in whom the others have shut out.
func (c *actor) random(ctx context.Context) (alive bool) {
	janitor := c.user == admin
	if c.user == "" {
		name := c.pooled()
		if c.n < janitors {
			name = admin
		}
		return c.login(ctx, name)
	}
	name := c.pooled()
	a := &act{name: name, rank: uint32(2 + c.rnd.IntN(lowestRank-1)), on: c.rnd.IntN(3) == 0}
	kind := c.rnd.IntN(40)
	if janitor {
		a.on = c.rnd.IntN(10) == 0
		if c.rnd.IntN(2) == 0 { // rather what lets somebody in
			kind = 8 + c.rnd.IntN(2)*20
		}
	}
	flag := "0"
	if a.on {
		flag = "1"
	}
	rank := strconv.Itoa(int(a.rank))
	do := func(verb, command string, args ...string) bool {
		a.verb = verb
		return c.call(ctx, a, command, args...)
	}
	if c.rnd.IntN(6) == 0 && !janitor {
		a.name = c.user // one's own account
	}
	if c.rnd.IntN(4) == 0 {
		name = "U" + a.name[1:] // compared without regard to case
	} else {
		name = a.name
	}
	switch n := kind; {
	case n < 8:
		return do("rank", "set_user_rank", "-user", name, "-rank", rank)
	case n < 14:
		return do("lock", "lock_acct", "-user", name, "-state", flag)
	case n < 17:
		return do("demand password", "request_new_pw", "-user", name, "-req", flag)
	case n < 20:
		return do("demand name", "request_new_user_name", "-user", name, "-req", flag)
	case n < 22:
		return do("remove", "rm_acct", "-name", name, "-force")
	case n < 26 && !janitor:
		a.name = c.pooled()
		return do("rename", "set_user_name", "-new_name", a.name)
	case n < 32:
		a.name = c.pooled()
		email := fmt.Sprintf("m%d@example.org", c.s.mails.Add(1))
		return do("create", "add_acct", "-name", a.name, "-email", email)
	case n < 34:
		a.name = fmt.Sprintf("cmd%d", c.rnd.IntN(4))
		return do("add command", "add_ranked_cmd", "-mod", poolModule, "-command", a.name, "-rank", rank)
	case n < 36:
		a.name = fmt.Sprintf("cmd%d", c.rnd.IntN(4))
		return do("remove command", "rm_ranked_cmd", "-mod", poolModule, "-command", a.name)
	default:
		a.name = ""
		return do("list", "ls_users", "-all")
	}
}

const (
	admin    = "admin"
	janitors = 3
)

// populate makes the first accounts and lets everybody run what is tested.
func (s *site) populate(ctx context.Context) {
	s.t.Helper()
	c, err := client.Dial(ctx, s.addr, client.Config{})
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	login(s.t, c, s.user, s.password)
	for _, name := range []string{
		"set_user_rank", "lock_acct", "request_new_pw", "request_new_user_name", "rm_acct", "add_acct", "ls_users",
		"add_ranked_cmd", "rm_ranked_cmd",
	} {
		mustRun(s.t, c, "add_ranked_cmd", "-command", name, "-rank", strconv.Itoa(lowestRank))
	}
	for i := range pooledNames * 3 / 4 {
		name := fmt.Sprintf("user%d", i)
		mustRun(s.t, c, "add_acct", "-name", name, "-email", name+"@example.org")
		mustRun(s.t, c, "set_user_rank", "-user", name, "-rank", strconv.Itoa(2+i%(lowestRank-1)))
	}
}

// mustRun runs a command that has to succeed and returns what it printed.
func mustRun(t testing.TB, c *client.Client, command string, args ...string) string {
	t.Helper()
	var text strings.Builder
	result, err := c.Run(deadline(t), command, args, client.Handlers{
		Frame: func(f wire.Frame) error {
			text.Write(f.Payload)
			return nil
		},
		Answer: func(context.Context, client.Question) (string, error) { return password, nil },
	})
	if err != nil || result.Code != wire.NoErrors {
		t.Fatalf("%s %v: %v, %v: %s", command, args, result.Code, err, &text)
	}
	return text.String()
}

// open opens the database of the host, which must be running: the last one to
// leave it would tidy it up.
func (s *site) open() *sql.DB {
	s.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.dir, "data.db")+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		s.t.Fatal(err)
	}
	return db
}

// stored reads what the database holds.
func (s *site) stored(db *sql.DB) ([]entry, map[string]uint32) {
	s.t.Helper()
	fail := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatalf("read the database: %v", err)
		}
	}
	rows, err := db.Query(`SELECT lower(hex(user_id)), user_name, host_rank, locked, new_password_req, new_name_req FROM users ORDER BY seq`)
	fail(err)
	defer rows.Close()
	var all []entry
	for rows.Next() {
		var e entry
		fail(rows.Scan(&e.id, &e.name, &e.rank, &e.locked, &e.pwReq, &e.nameReq))
		all = append(all, e)
	}
	fail(rows.Err())
	ranks, err := db.Query(`SELECT command_name, host_rank FROM command_ranks WHERE module_executable = $1`, poolModule)
	fail(err)
	defer ranks.Close()
	commands := make(map[string]uint32)
	for ranks.Next() {
		var name string
		var rank uint32
		fail(ranks.Scan(&name, &rank))
		commands[name] = rank
	}
	fail(ranks.Err())
	return all, commands
}

// integrity lets the engine look for damage.
func (s *site) integrity(db *sql.DB) {
	s.t.Helper()
	var verdict string
	if err := db.QueryRow(`PRAGMA integrity_check`).Scan(&verdict); err != nil || verdict != "ok" {
		s.t.Fatalf("integrity of the database: %q, %v", verdict, err)
	}
	rows, err := db.Query(`PRAGMA foreign_key_check`)
	if err != nil {
		s.t.Fatal(err)
	}
	defer rows.Close()
	if rows.Next() {
		s.t.Fatal("the database has a row that hangs on nothing")
	}
}

// tally counts acts by what came of them.
type tally map[string]int

func (t tally) add(acts [][]*act) {
	for _, list := range acts {
		for _, a := range list {
			t[a.verb+": "+a.result]++
		}
	}
}

func (t tally) sum() (n int) {
	for _, c := range t {
		n += c
	}
	return n
}

func (t tally) String() string {
	var lines []string
	for k, n := range t {
		lines = append(lines, fmt.Sprintf("%7d %s", n, k))
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[8:], b[8:]) })
	return strings.Join(lines, "\n")
}

// Many clients change the same few accounts at the same time. What they are
// told must be what one of them after another would have been told, and what
// is stored at the end must be what that leads to: ranks are judged as they
// are at the moment of the change, nobody acts for an account after the call
// that locked or removed it has ended, no name is given twice, no change is
// lost or done by half.
//
// What a session may go by for a moment is part of the model: until a call
// that changes a rank has ended, the account's sessions may be refused by the
// rank that it had before (commands 1.3).
func TestHistory(t *testing.T) {
	const clients = 20
	operations, round := 3000, 4*clients
	if long(t) {
		operations = 100_000
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	s := newSite(t, cheap...)
	s.start()
	s.populate(ctx)
	db := s.open()
	defer db.Close()
	actors := make([]*actor, clients)
	for i := range actors {
		actors[i] = &actor{s: s, n: i, rnd: rand.New(rand.NewPCG(seed, uint64(i)))}
		if err := actors[i].connect(ctx); err != nil {
			t.Fatal(err)
		}
		defer actors[i].conn.Close()
	}
	total := make(tally)
	var calling, checking time.Duration
	steps := 0
	for total.sum() < operations {
		begin := &world{clients: make([]standing, clients+1)}
		begin.accounts, begin.commands = s.stored(db)
		ids := make(map[string]int)
		for i, e := range begin.accounts {
			ids[e.id] = i
		}
		for i := range begin.clients {
			begin.clients[i] = standing{account: -1}
		}
		for i, c := range actors {
			// Between the rounds nothing moves: what a session says of itself
			// is what is stored.
			info := mustRun(t, c.conn, "my_info")
			m := myself.FindStringSubmatch(info)
			if (m != nil) != (c.user != "") {
				// The logout was noticed by no call.
				if m != nil {
					t.Fatalf("client %d should not be logged in:\n%s", i, info)
				}
				c.user = ""
			}
			if m == nil {
				continue
			}
			account, ok := ids[m[2]]
			if !ok {
				t.Fatalf("client %d is logged in as nobody who is stored:\n%s", i, info)
			}
			if e := begin.accounts[account]; e.name != m[1] || strconv.Itoa(int(e.rank)) != m[3] || e.locked {
				t.Fatalf("client %d says of itself\n%sbut stored is %+v", i, info, e)
			}
			c.user = m[1]
			begin.clients[i].account = account
		}
		began := time.Now()
		var all sync.WaitGroup
		for _, c := range actors {
			c.acts = nil
			all.Go(func() {
				for range round / clients {
					if alive := c.random(ctx); !alive || c.err != nil {
						if c.err == nil {
							c.err = fmt.Errorf("client %d: %w", c.n, c.conn.Err())
						}
						return
					}
				}
			})
		}
		all.Wait()
		calling += time.Since(began)
		acts := make([][]*act, clients+1)
		for i, c := range actors {
			if c.err != nil {
				t.Fatal(c.err)
			}
			acts[i] = c.acts
		}
		before := total.sum()
		if total.add(acts); total.sum()/10_000 > before/10_000 {
			t.Logf("%d operations in %v", total.sum(), calling.Round(time.Second))
		}
		last := &act{verb: "observe", begin: s.clock.Add(1)}
		last.seen, last.seenCmds = s.stored(db)
		last.end = s.clock.Add(1)
		acts[clients] = []*act{last}
		began = time.Now()
		n, err := explainSteps(begin, acts)
		if steps += n; err != nil {
			t.Fatalf("after %d operations: %v", total.sum(), err)
		}
		checking += time.Since(began)
		listed, err := parseUsers(mustRun(t, actors[0].conn, "ls_users", "-all"))
		if w := (&world{accounts: last.seen}); err != nil || !w.shows(listed, false) {
			t.Fatalf("ls_users says %+v, %v; stored is %+v", listed, err, last.seen)
		}
	}
	s.integrity(db)
	t.Logf("%d operations in %v, checked in %v (%d steps):\n%v", total.sum(), calling.Round(time.Millisecond), checking.Round(time.Millisecond), steps, total)
}

// myself finds name, id and rank in my_info.
var myself = regexp.MustCompile(`(?s)user name: (\S+)\n.*user id: ([0-9a-f]{64})\n.*host rank: (\d+)\n`)

// The host is killed while clients change accounts, and starts again at once.
// Whatever it has acknowledged is there then; what was under way is there as a
// whole or not at all.
func TestKilledHost(t *testing.T) {
	const clients = 6
	kills := 5
	if long(t) {
		kills = 200
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	s := newSite(t, cheap...)
	s.start()
	s.populate(ctx)
	rnd := rand.New(rand.NewPCG(seed, 0))
	total := make(tally)
	var starts []time.Duration
	inFlight, survived := 0, 0
	var begin *world
	observe := func() *world {
		db := s.open()
		defer db.Close()
		s.integrity(db)
		w := &world{clients: make([]standing, clients+1)}
		w.accounts, w.commands = s.stored(db)
		for i := range w.clients {
			w.clients[i].account = -1
		}
		return w
	}
	begin = observe()
	for kill := range kills {
		var acknowledged atomic.Int64
		after := int64(1 + rnd.IntN(120)) // so many answers
		reached := make(chan struct{})
		actors := make([]*actor, clients)
		var all sync.WaitGroup
		for i := range actors {
			c := &actor{s: s, n: i, rnd: rand.New(rand.NewPCG(seed, uint64(kill)<<8|uint64(i)))}
			actors[i] = c
			if err := c.connect(ctx); err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				defer c.conn.Close()
				for c.random(ctx) && c.err == nil {
					if acknowledged.Add(1) == after {
						close(reached)
					}
				}
			})
		}
		select {
		case <-reached:
		case <-ctx.Done():
			t.Fatal("no answers")
		}
		// Somewhere in the middle of whatever comes next.
		pause := time.NewTimer(time.Duration(rnd.IntN(3000)) * time.Microsecond)
		<-pause.C
		s.kill()
		all.Wait()
		acts := make([][]*act, clients+1)
		for i, c := range actors {
			if c.err != nil {
				t.Fatal(c.err)
			}
			acts[i] = c.acts
			if n := len(c.acts); n > 0 && c.acts[n-1].result == resCut && c.acts[n-1].verb != "list" && c.acts[n-1].verb != "login" {
				inFlight++
			}
		}
		total.add(acts)
		starts = append(starts, s.start())
		now := observe()
		last := &act{client: clients, verb: "observe", begin: never, end: never, seen: now.accounts, seenCmds: now.commands}
		acts[clients] = []*act{last}
		if err := explain(begin, acts); err != nil {
			t.Fatalf("kill %d: %v\nstored: %+v %v", kill, err, now.accounts, now.commands)
		}
		// The same without what was under way: it has been done where that
		// explains nothing.
		for i := range acts[:clients] {
			acts[i] = slices.DeleteFunc(acts[i], func(a *act) bool { return a.result == resCut })
		}
		if explain(begin, acts) != nil {
			survived++
		}
		c, err := client.Dial(ctx, s.addr, client.Config{})
		if err != nil {
			t.Fatal(err)
		}
		login(t, c, admin, "")
		listed, err := parseUsers(mustRun(t, c, "ls_users", "-all"))
		if err != nil || !now.shows(listed, false) {
			t.Fatalf("ls_users says %+v, %v; stored is %+v", listed, err, now.accounts)
		}
		c.Close()
		begin = now
	}
	s.stop(t, syscall.SIGTERM)
	slices.Sort(starts)
	t.Logf("%d kills, %d calls, %d changes under way when the host was killed (in %d kills at least one of them is there); start to listening: median %v, longest %v\n%v",
		kills, total.sum(), inFlight, survived, starts[len(starts)/2].Round(time.Millisecond), starts[len(starts)-1].Round(time.Millisecond), total)
}
