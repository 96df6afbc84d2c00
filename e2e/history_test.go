//go:build unix

package e2e_test

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// This file decides whether what several clients saw of the accounts could
// have come from one operation after another (linearizability). It knows the
// commands as the manual tells them and nothing of the host's inside.

// entry is an account as it is stored. Accounts stand in the order in which
// they were made; a removed one keeps its place.
type entry struct {
	gone           bool
	id             string // hex; empty: made in this history, nobody has seen it
	name           string
	rank           uint32
	locked         bool
	pwReq, nameReq bool
	earlier        []formerRank // what its sessions may still go by
	cutUntil       int64        // the last end of a call that ended its logins
}

// formerRank is a rank that an account had before a change; until is the end of
// the call that changed it. Until then a session may go by it (commands 1.3).
type formerRank struct {
	rank  uint32
	until int64
}

// world is the state of the model: the accounts, the ranks of commands, and
// who each client is.
type world struct {
	accounts []entry
	commands map[string]uint32
	clients  []standing
}

// standing is what a client's session is: an account, and since when (the end of
// a call) it must not act for it any more.
type standing struct {
	account int   // index; -1: nobody
	cut     int64 // 0: it may
}

// act is one call of one client. Its effect comes between begin and end, which
// count all beginnings and ends of the history.
type act struct {
	client     int
	verb       string
	name       string // target, new name, or command
	rank       uint32
	on         bool
	begin, end int64
	result     string
	seenRank   uint32  // what a refusal says is the caller's rank
	seen       []entry // of a listing
	seenCmds   map[string]uint32
}

func (e entry) String() string {
	return fmt.Sprintf("%.4s %s rank %d gone %t locked %t demands %t %t", e.id, e.name, e.rank, e.gone, e.locked, e.pwReq, e.nameReq)
}

func (a *act) String() string {
	return fmt.Sprintf("[%d %d] client %d: %s %q rank %d on %v: %s %d %v", a.begin, a.end, a.client, a.verb, a.name, a.rank, a.on, a.result, a.seenRank, a.seen)
}

// Results of an act.
const (
	resOK        = "ok"
	resNone      = "there is no such user or command rank"
	resDenied    = "not outranked"
	resAbove     = "rank above the caller's own"
	resTaken     = "taken"
	resSame      = "is the same"
	resGone      = "caller removed"
	resRefused   = "login refused"
	resOvertaken = "login overtaken by a lock or removal"
	resPassword  = "login demands a password"
	resName      = "login demands a name"
	resLost      = "not logged in any more"  // without effect
	resUnknown   = "cut off by a logout"     // with its effect or without
	resCut       = "the connection was lost" // with its effect or without
)

// never is the end of an act that was never answered.
const never = math.MaxInt64

func (w *world) clone() *world {
	n := &world{accounts: slices.Clone(w.accounts), commands: w.commands, clients: slices.Clone(w.clients)}
	return n
}

func (w *world) named(name string) int {
	for i := range w.accounts {
		if !w.accounts[i].gone && strings.EqualFold(w.accounts[i].name, name) {
			return i
		}
	}
	return -1
}

// cut ends the logins to an account by a call that ends at end.
func (w *world) cut(account int, end int64) {
	w.accounts[account].cutUntil = max(w.accounts[account].cutUntil, end)
	for i := range w.clients {
		if c := &w.clients[i]; c.account == account && (c.cut == 0 || end < c.cut) {
			c.cut = end
		}
	}
}

// views reports whether ok holds for a rank that the session may go by.
func (w *world) views(account int, begin int64, ok func(uint32) bool) bool {
	e := &w.accounts[account]
	if ok(e.rank) {
		return true
	}
	for _, f := range e.earlier {
		if f.until >= begin && ok(f.rank) {
			return true
		}
	}
	return false
}

// apply returns the worlds that the act can lead to from this one: none if it
// could not have ended so here. same tells that the act changes nothing that
// another client's act depends on.
func (w *world) apply(a *act) (next []*world, same bool) {
	yes := func() ([]*world, bool) { return []*world{w}, true }
	no := func() ([]*world, bool) { return nil, false }
	if a.verb == "observe" {
		if w.shows(a.seen, true) && equalCommands(w.commands, a.seenCmds) {
			return yes()
		}
		return no()
	}
	me := w.clients[a.client]
	if a.verb == "login" {
		i := w.named(a.name)
		open := i >= 0 && !w.accounts[i].locked
		switch {
		case (a.result == resRefused || a.result == resOvertaken) && !open,
			// A lock that was taken back may still be on its way to the session.
			a.result == resOvertaken && slices.ContainsFunc(w.accounts, func(e entry) bool { return e.cutUntil >= a.begin }),
			a.result == resPassword && open && w.accounts[i].pwReq,
			a.result == resName && open && !w.accounts[i].pwReq && w.accounts[i].nameReq,
			a.result == resCut:
			return yes()
		case a.result == resOK && open && !w.accounts[i].pwReq && !w.accounts[i].nameReq:
			n := w.clone()
			n.clients[a.client] = standing{account: i}
			return []*world{n}, false
		}
		return no()
	}
	switch a.result {
	case resLost:
		if me.cut == 0 {
			return no()
		}
		n := w.clone()
		n.clients[a.client] = standing{account: -1}
		return []*world{n}, true
	case resUnknown, resCut:
		done := *a
		done.result = resOK
		next, _ := w.apply(&done)
		if a.result == resCut || me.cut != 0 {
			next = append(next, w)
		}
		return next, false
	}
	if me.account < 0 || me.cut != 0 && me.cut < a.begin {
		return no() // it should not have been able to do anything
	}
	caller := &w.accounts[me.account]
	target := w.named(a.name)
	above := a.result == resAbove && w.views(me.account, a.begin, func(own uint32) bool { return own == a.seenRank && a.rank < own })
	switch a.verb {
	case "list":
		if w.shows(a.seen, false) {
			return yes()
		}
		return no()
	case "add command", "remove command":
		_, there := w.commands[a.name]
		adding := a.verb == "add command"
		switch {
		case above, a.result == resTaken && adding && there, a.result == resNone && !adding && !there:
			return yes()
		case a.result == resOK && adding != there:
			n := w.clone()
			n.commands = make(map[string]uint32)
			for k, v := range w.commands {
				n.commands[k] = v
			}
			if delete(n.commands, a.name); adding {
				if !w.views(me.account, a.begin, func(own uint32) bool { return a.rank >= own }) {
					return no()
				}
				n.commands[a.name] = a.rank
			}
			return []*world{n}, false
		}
		return no()
	case "create":
		switch {
		case a.result == resTaken && target >= 0:
			return yes()
		case a.result == resOK && target < 0:
			n := w.clone()
			n.accounts = append(n.accounts, entry{name: a.name, rank: initialRank})
			return []*world{n}, false
		}
		return no()
	case "rename":
		switch {
		case a.result == resNone && caller.gone, // there is no such user any more
			a.result == resSame && !caller.gone && caller.name == a.name,
			a.result == resTaken && !caller.gone && target >= 0 && target != me.account:
			return yes()
		case a.result == resOK && !caller.gone && caller.name != a.name && (target < 0 || target == me.account):
			n := w.clone()
			n.accounts[me.account].name, n.accounts[me.account].nameReq = a.name, false
			return []*world{n}, false
		}
		return no()
	}

	// What is left is about another account, or perhaps about one's own.
	own := target == me.account && (a.verb == "rank" || a.verb == "remove")
	switch a.result {
	case resGone:
		if caller.gone {
			return yes()
		}
	case resNone:
		if target < 0 && (!caller.gone || a.verb == "remove") {
			return yes()
		}
	case resAbove:
		if above && a.verb == "rank" {
			return yes()
		}
	case resDenied:
		if target < 0 || own {
			return no()
		}
		outranks := func(r uint32) bool { return r < w.accounts[target].rank }
		if !caller.gone && (caller.locked || !outranks(caller.rank)) && (a.verb != "rank" || a.rank >= caller.rank) {
			return yes()
		}
		// rm_acct looks before it asks, with what the session goes by.
		if a.verb == "remove" && w.views(me.account, a.begin, func(r uint32) bool { return !outranks(r) }) {
			return yes()
		}
	case resOK:
		if caller.gone || target < 0 || !own && (caller.locked || caller.rank >= w.accounts[target].rank) ||
			a.verb == "rank" && a.rank < caller.rank {
			return no()
		}
		n := w.clone()
		e := &n.accounts[target]
		switch a.verb {
		case "rank":
			if e.rank != a.rank {
				e.earlier = append(slices.Clone(e.earlier), formerRank{e.rank, a.end})
			}
			e.rank = a.rank
		case "lock":
			if e.locked = a.on; a.on {
				n.cut(target, a.end)
			}
		case "demand password":
			e.pwReq = a.on
		case "demand name":
			e.nameReq = a.on
		case "remove":
			e.gone = true
			n.cut(target, a.end)
		default:
			panic("unknown verb " + a.verb)
		}
		return []*world{n}, false
	}
	return no()
}

// shows reports whether these are the accounts: all that is known of them
// (full), or what ls_users shows.
func (w *world) shows(seen []entry, full bool) bool {
	i := 0
	for _, e := range w.accounts {
		if e.gone {
			continue
		}
		if i == len(seen) {
			return false
		}
		s := seen[i]
		if e.name != s.name || e.rank != s.rank || e.id != "" && e.id != s.id ||
			full && (e.locked != s.locked || e.pwReq != s.pwReq || e.nameReq != s.nameReq) {
			return false
		}
		i++
	}
	return i == len(seen)
}

func equalCommands(a, b map[string]uint32) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// key is the same for worlds that differ in nothing that matters to acts which
// begin at oldest or later.
func (w *world) key(b []byte, oldest int64) []byte {
	number := func(sign byte, n int64) { b = strconv.AppendInt(append(b, sign), n, 10) }
	for i := range w.accounts {
		e := &w.accounts[i]
		if e.gone {
			b = append(b, '-')
			if e.cutUntil >= oldest {
				number('~', e.cutUntil)
			}
			continue
		}
		b = append(b, e.name...)
		number(' ', int64(e.rank))
		for _, flag := range []bool{e.locked, e.pwReq, e.nameReq} {
			if flag {
				b = append(b, '!')
			} else {
				b = append(b, '.')
			}
		}
		if e.cutUntil >= oldest {
			number('~', e.cutUntil)
		}
		for _, f := range e.earlier {
			if f.until >= oldest {
				number('<', int64(f.rank))
				number(' ', f.until)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.commands)) {
		b = append(append(b, '/'), name...)
		number(' ', int64(w.commands[name]))
	}
	for _, c := range w.clients {
		number(';', int64(c.account))
		number(' ', c.cut)
	}
	return b
}

// search looks for an order of the acts that explains them.
type search struct {
	acts   [][]*act // by client, in their order
	failed map[string]bool
	steps  int
	deep   int
	stuck  func() string // describes where it got furthest
}

// maxSteps is where a search gives up without an answer.
const maxSteps = 2_000_000

// explain returns nil if some order of the acts, which must respect that one
// ended before another began, leads from begin through all their results.

func explain(begin *world, acts [][]*act) error {
	_, err := explainSteps(begin, acts)
	return err
}

func explainSteps(begin *world, acts [][]*act) (steps int, err error) {
	s := &search{acts: acts, failed: make(map[string]bool), deep: -1}
	pos := make([]int, len(acts))
	if s.from(begin, pos) {
		return s.steps, nil
	}
	if s.steps >= maxSteps {
		return s.steps, fmt.Errorf("no answer after %d steps; got as far as\n%s", s.steps, s.stuck())
	}
	return s.steps, fmt.Errorf("no order of the calls explains their results (%d steps); got as far as\n%s", s.steps, s.stuck())
}

// candidates returns the clients whose next act may be the next one, those
// that ended first before the others.
func (s *search) candidates(pos []int) (clients []int, done int, oldest int64) {
	firstEnd := int64(never)
	oldest = never
	for c, p := range pos {
		done += p
		if p < len(s.acts[c]) {
			firstEnd = min(firstEnd, s.acts[c][p].end)
			oldest = min(oldest, s.acts[c][p].begin)
		}
	}
	for c, p := range pos {
		if p < len(s.acts[c]) && s.acts[c][p].begin <= firstEnd {
			clients = append(clients, c)
		}
	}
	slices.SortFunc(clients, func(a, b int) int {
		return cmp.Compare(s.acts[a][pos[a]].end, s.acts[b][pos[b]].end)
	})
	return clients, done, oldest
}

func (s *search) from(w *world, pos []int) bool {
	pos = slices.Clone(pos)
	// An act that changes nothing for others can as well come now.
	var clients []int
	var done int
	var oldest int64
	for again := true; again; {
		again = false
		clients, done, oldest = s.candidates(pos)
		for _, c := range clients {
			if next, same := w.apply(s.acts[c][pos[c]]); same {
				w = next[0]
				pos[c]++
				again = true
				break
			}
		}
	}
	if len(clients) == 0 {
		return true
	}
	if s.steps++; s.steps > maxSteps {
		return false
	}
	if done > s.deep {
		s.deep = done
		s.stuck = func() string {
			var b strings.Builder
			fmt.Fprintf(&b, "%d acts explained; accounts %v\ncommands %v\nclients %v\nnext:\n", done, w.accounts, w.commands, w.clients)
			for _, c := range clients {
				fmt.Fprintln(&b, s.acts[c][pos[c]])
			}
			b.WriteString("the last before them:\n")
			var last []*act
			for c, p := range pos {
				last = append(last, s.acts[c][max(0, p-4):p]...)
			}
			slices.SortFunc(last, func(a, b *act) int { return cmp.Compare(a.begin, b.begin) })
			for _, a := range last {
				fmt.Fprintln(&b, a)
			}
			return b.String()
		}
	}
	var b []byte
	for _, p := range pos {
		b = strconv.AppendInt(append(b, ' '), int64(p), 10)
	}
	key := string(w.key(b, oldest))
	if s.failed[key] {
		return false
	}
	for _, c := range clients {
		next, _ := w.apply(s.acts[c][pos[c]])
		for _, n := range next {
			pos[c]++
			if s.from(n, pos) {
				return true
			}
			pos[c]--
		}
	}
	s.failed[key] = true
	return false
}

// The search finds what is wrong, and only that.
func TestExplain(t *testing.T) {
	begin := func() *world {
		return &world{
			accounts: []entry{{name: "admin", rank: 1}, {name: "ann", rank: 2}, {name: "bob", rank: 3}},
			clients:  []standing{{account: 0}, {account: 1}, {account: 2}},
			commands: map[string]uint32{},
		}
	}
	seen := func(ranks ...uint32) []entry {
		return []entry{{name: "admin", rank: 1}, {name: "ann", rank: ranks[0]}, {name: "bob", rank: ranks[1]}}
	}
	for _, test := range []struct {
		name string
		acts []*act
		ok   bool
	}{
		{"a change is seen", []*act{
			{client: 0, verb: "rank", name: "ann", rank: 4, begin: 1, end: 2, result: resOK},
			{client: 1, verb: "list", begin: 3, end: 4, result: resOK, seen: seen(4, 3)},
		}, true},
		{"a change is lost", []*act{
			{client: 0, verb: "rank", name: "ann", rank: 4, begin: 1, end: 2, result: resOK},
			{client: 1, verb: "list", begin: 3, end: 4, result: resOK, seen: seen(2, 3)},
		}, false},
		{"a change is on its way", []*act{
			{client: 0, verb: "rank", name: "ann", rank: 4, begin: 1, end: 3, result: resOK},
			{client: 1, verb: "list", begin: 2, end: 4, result: resOK, seen: seen(2, 3)},
		}, true},
		{"half of a cut change", []*act{
			{client: 0, verb: "remove", name: "ann", begin: 1, end: never, result: resCut},
			{client: 2, verb: "list", begin: 2, end: 4, result: resOK, seen: seen(2, 3)},
			{client: 2, verb: "list", begin: 5, end: 6, result: resOK, seen: seen(2, 3)[:1]},
		}, false},
		{"a change by a former rank", []*act{
			{client: 0, verb: "rank", name: "ann", rank: 4, begin: 1, end: 2, result: resOK},
			{client: 1, verb: "lock", name: "bob", on: true, begin: 3, end: 4, result: resOK},
		}, false},
		{"a change by a rank that is going", []*act{
			{client: 0, verb: "rank", name: "ann", rank: 4, begin: 1, end: 4, result: resOK},
			{client: 1, verb: "lock", name: "bob", on: true, begin: 2, end: 3, result: resOK},
		}, true},
		{"a login that outlives its lock", []*act{
			{client: 0, verb: "lock", name: "ann", on: true, begin: 1, end: 2, result: resOK},
			{client: 1, verb: "list", begin: 3, end: 4, result: resOK, seen: seen(2, 3)},
		}, false},
		{"a login that ends by its lock", []*act{
			{client: 0, verb: "lock", name: "ann", on: true, begin: 1, end: 2, result: resOK},
			{client: 1, verb: "list", begin: 3, end: 4, result: resLost},
			{client: 1, verb: "login", name: "ann", begin: 5, end: 6, result: resRefused},
		}, true},
		{"a login that ends without a reason", []*act{
			{client: 1, verb: "list", begin: 3, end: 4, result: resLost},
		}, false},
		{"two accounts of one name", []*act{
			{client: 0, verb: "create", name: "eve", begin: 1, end: 4, result: resOK},
			{client: 1, verb: "create", name: "eve", begin: 2, end: 3, result: resOK},
		}, false},
		{"a cycle: each wins over the other", []*act{
			{client: 0, verb: "rank", name: "ann", rank: 3, begin: 1, end: 4, result: resOK},
			{client: 1, verb: "list", begin: 1, end: 2, result: resOK, seen: seen(3, 3)},
			{client: 1, verb: "list", begin: 3, end: 5, result: resOK, seen: seen(2, 3)},
		}, false},
	} {
		acts := make([][]*act, 3)
		for _, a := range test.acts {
			acts[a.client] = append(acts[a.client], a)
		}
		if err := explain(begin(), acts); (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
