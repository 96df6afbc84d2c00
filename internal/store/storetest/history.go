package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/names"
	"mrci.dev/mrci/wire"
)

// The size of a history: so many administrators, and so many operations
// between two looks at the whole store.
const (
	historyWorkers = 20
	historyRound   = 500
)

// History lets many administrators change the same few accounts at the same
// time, through stores that share one database, and returns an error unless
// everything that they saw could have come from one after another.
//
// Functions that are passed to the stores must be called in the order in which
// their transactions take effect, as they are where one writer runs at a time:
// the calls are the witnesses of that order. An operation that ended without
// such a call must fit at some place between its beginning and its end.
func History(seed uint64, ops int, hasher *account.Hasher, stores ...account.Store) (HistoryStats, error) {
	h := &history{hasher: hasher, stores: stores, ids: make(map[wire.UserID]bool), stats: HistoryStats{Results: make(map[string]int)}}
	for round := uint64(0); h.stats.Operations < ops; round++ {
		if err := h.run(seed, round); err != nil {
			return h.stats, fmt.Errorf("seed %d, round %d: %w", seed, round, err)
		}
	}
	return h.stats, nil
}

// HistoryStats says what a history was made of.
type HistoryStats struct {
	Operations int
	Results    map[string]int // by operation and result
}

type history struct {
	hasher *account.Hasher
	stores []account.Store
	ids    map[wire.UserID]bool // all that were ever given
	stats  HistoryStats
}

// clock orders the transactions of a round.
type clock struct {
	begun atomic.Int64 // transactions that have begun to decide
	over  atomic.Int64 // the last one of those whose operations have returned
}

func (c *clock) finish(at int64) {
	for {
		over := c.over.Load()
		if at <= over || c.over.CompareAndSwap(over, at) {
			return
		}
	}
}

// operation is one call of a Service and what came of it.
type operation struct {
	verb   string
	caller wire.UserID
	name   string // of the target
	rank   wire.Rank
	on     bool
	text   string // a new name, address or display name

	user    account.User
	noAdmin bool
	err     error

	// It took effect behind the transaction with number after or a later one,
	// and no later than behind that with number before.
	after, before          int64
	at                     int64 // its own number; 0: it decided nothing
	callerSeen, targetSeen account.User
}

func (o operation) String() string {
	return fmt.Sprintf("%s by %.8s: target %q, rank %d, on %v, text %q, at %d in [%d, %d]: %+v, last admin %v, error %v",
		o.verb, o.caller, o.name, o.rank, o.on, o.text, o.at, o.after, o.before, o.user, o.noAdmin, o.err)
}

// witness notes what the function of one operation is called with, and when.
// It belongs to one goroutine.
type witness struct {
	account.Store
	clock *clock
	op    *operation
}

func (w *witness) saw(caller, target account.User) {
	w.op.at = w.clock.begun.Add(1)
	w.op.callerSeen, w.op.targetSeen = caller, target
}

func (w *witness) Change(ctx context.Context, id wire.UserID, change func(*account.Record) error) (account.Record, error) {
	return w.Store.Change(ctx, id, func(r *account.Record) error {
		w.saw(r.User, r.User)
		return change(r)
	})
}

func (w *witness) ChangeBy(ctx context.Context, caller wire.UserID, target account.Key, change func(account.User, *account.Record) error) (account.Outcome, error) {
	return w.Store.ChangeBy(ctx, caller, target, func(c account.User, r *account.Record) error {
		w.saw(c, r.User)
		return change(c, r)
	})
}

func (w *witness) RemoveBy(ctx context.Context, caller wire.UserID, target account.Key, judge func(caller, target account.User, ties account.Ties) error) (account.Outcome, error) {
	return w.Store.RemoveBy(ctx, caller, target, func(c, u account.User, ties account.Ties) error {
		w.saw(c, u)
		return judge(c, u, ties)
	})
}

var errDenied = errors.New("denied")

// mayChange is the rule of the history: who is not locked may change whom they
// outrank.
func mayChange(caller, target account.User) error {
	if caller.Locked || !caller.Rank.Outranks(target.Rank) {
		return errDenied
	}
	return nil
}

func orSelf(caller, target account.User) error {
	if caller.ID == target.ID && !caller.Locked {
		return nil
	}
	return mayChange(caller, target)
}

func mayGive(rank wire.Rank) account.Allow {
	return func(caller, target account.User) error {
		if rank.Outranks(caller.Rank) {
			return errDenied
		}
		return orSelf(caller, target)
	}
}

// draw chooses an operation. Names and addresses are few, so that they meet,
// and many are about the caller's own account.
func draw(rnd *rand.Rand, ids []wire.UserID) operation {
	name := func() string { return fmt.Sprintf("user%d", rnd.IntN(16)) }
	caller := rnd.IntN(len(ids))
	o := operation{
		caller: ids[caller], name: name(),
		rank: wire.Rank(1 + rnd.IntN(5)), on: rnd.IntN(3) == 0,
	}
	verbs := []struct {
		verb   string
		weight int
	}{
		{"rank", 8}, {"lock", 8}, {"force email", 4}, {"demand password", 3}, {"demand name", 3}, {"remove", 3},
		{"rename", 6}, {"display", 2}, {"email", 3}, {"verify", 3}, {"find", 4},
	}
	total := 0
	for _, v := range verbs {
		total += v.weight
	}
	n := rnd.IntN(total)
	for _, v := range verbs {
		if n -= v.weight; n < 0 {
			o.verb = v.verb
			break
		}
	}
	switch o.verb {
	case "rename", "display":
		o.text = name()
	case "force email", "email", "verify":
		o.text = name() + "@example.org"
	}
	if rnd.IntN(4) == 0 {
		o.name = fmt.Sprintf("user%d", caller)
	}
	if rnd.IntN(4) == 0 {
		o.name = "U" + o.name[1:] // compared without regard to case
	}
	return o
}

func (o *operation) call(ctx context.Context, s *account.Service) {
	switch o.verb {
	case "rank":
		o.user, o.noAdmin, o.err = s.SetRank(ctx, o.caller, o.name, o.rank, mayGive(o.rank))
	case "lock":
		o.user, o.err = s.Lock(ctx, o.caller, o.name, o.on, mayChange)
	case "force email":
		o.user, o.err = s.ForceEmail(ctx, o.caller, o.name, o.text, mayChange)
	case "demand password":
		o.user, o.err = s.DemandPassword(ctx, o.caller, o.name, o.on, mayChange)
	case "demand name":
		o.user, o.err = s.DemandName(ctx, o.caller, o.name, o.on, mayChange)
	case "remove":
		var out account.Removal
		out, o.err = s.Remove(ctx, o.caller, o.name, orSelf)
		o.user, o.noAdmin = out.User, out.NoAdmin
	case "rename":
		o.user, o.err = s.Rename(ctx, o.caller, o.text)
	case "display":
		o.user, o.err = s.SetDisplay(ctx, o.caller, o.text)
	case "email":
		_, o.user, o.err = s.SetEmail(ctx, o.caller, o.text)
	case "verify":
		o.user, o.err = s.MarkVerified(ctx, o.caller, o.text)
	case "find":
		o.user, o.err = s.Find(ctx, o.name)
	}
}

// own reports whether the operation is about the caller's own account.
func (o *operation) own() bool {
	switch o.verb {
	case "rename", "display", "email", "verify":
		return true
	}
	return false
}

// state is what a store should hold.
type state map[wire.UserID]account.User

func (s state) named(name string) (account.User, bool) {
	for _, u := range s {
		if names.Fold(u.Name) == names.Fold(name) {
			return u, true
		}
	}
	return account.User{}, false
}

func (s state) withEmail(addr string) (account.User, bool) {
	for _, u := range s {
		if names.Fold(u.Email) == names.Fold(addr) {
			return u, true
		}
	}
	return account.User{}, false
}

// admins counts the accounts of rank 1.
func (s state) admins() int {
	n := 0
	for _, u := range s {
		if u.Rank == 1 {
			n++
		}
	}
	return n
}

// Texts of rules that have no sentinel.
const (
	sameName  = "the user name is the current one; choose another one"
	sameEmail = "the e-mail address is the current one; use another one"
)

// apply says what an operation does to a state if nothing runs beside it.
func (s state) apply(o operation) (next state, user account.User, noAdmin bool, err error) {
	none := func(err error) (state, account.User, bool, error) { return s, account.User{}, false, err }
	if o.verb == "find" {
		u, ok := s.named(o.name)
		if !ok {
			return none(account.ErrNotFound)
		}
		return s, u, false, nil
	}
	caller, ok := s[o.caller]
	u := caller
	switch {
	case !ok && o.own():
		return none(account.ErrNotFound)
	case !ok:
		return none(account.ErrCallerGone)
	case !o.own():
		if u, ok = s.named(o.name); !ok {
			return none(account.ErrNotFound)
		}
	}
	allow := mayChange
	switch {
	case o.own():
		allow = func(account.User, account.User) error { return nil }
	case o.verb == "rank":
		allow = mayGive(o.rank)
	case o.verb == "remove":
		allow = orSelf
	}
	if err := allow(caller, u); err != nil {
		return none(err)
	}
	switch o.verb {
	case "rank":
		u.Rank = o.rank
	case "lock":
		u.Locked = o.on
	case "demand password":
		u.NewPasswordReq = o.on
	case "demand name":
		u.NewNameReq = o.on
	case "force email", "email":
		if u.Email == o.text {
			return none(errors.New(sameEmail))
		}
		if other, ok := s.withEmail(o.text); ok && other.ID != u.ID {
			return none(account.ErrEmailTaken)
		}
		u.Email, u.EmailVerified = o.text, false
	case "rename":
		if u.Name == o.text {
			return none(errors.New(sameName))
		}
		if other, ok := s.named(o.text); ok && other.ID != u.ID {
			return none(account.ErrNameTaken)
		}
		u.Name, u.NewNameReq = o.text, false
	case "display":
		u.Display = o.text
	case "verify":
		if u.Email != o.text {
			return none(account.ErrEmailChanged)
		}
		u.EmailVerified = true
	}
	next = maps.Clone(s)
	next[u.ID] = u
	if o.verb == "remove" {
		delete(next, u.ID)
	}
	return next, u, s.admins() > 0 && next.admins() == 0, nil
}

// agrees reports whether the operation ended as apply says.
func (o *operation) agrees(user account.User, noAdmin bool, err error) bool {
	sameErr := (err == nil) == (o.err == nil) && (err == nil || err.Error() == o.err.Error())
	return sameErr && o.user == user && o.noAdmin == noAdmin
}

// fits reports whether an operation that decided nothing could have ended so
// in this state.
func (o *operation) fits(s state) bool {
	if o.verb == "force email" && errors.Is(o.err, account.ErrEmailTaken) {
		// The look at the address comes before all else.
		u, ok := s.withEmail(o.text)
		return ok && names.Fold(u.Name) != names.Fold(o.name)
	}
	next, user, noAdmin, err := s.apply(*o)
	return o.agrees(user, noAdmin, err) && maps.Equal(next, s)
}

// run makes new accounts, lets the administrators at them, and checks.
func (h *history) run(seed, round uint64) error {
	ctx := context.Background()
	begin, ids, err := h.populate(ctx, int(round%2))
	if err != nil {
		return err
	}
	clock := new(clock)
	logs := make([][]operation, historyWorkers)
	var all sync.WaitGroup
	for i := range logs {
		all.Go(func() {
			w := &witness{Store: h.stores[i%len(h.stores)], clock: clock}
			service := account.New(account.Config{Store: w, Hasher: h.hasher})
			rnd := rand.New(rand.NewPCG(seed, round<<8|uint64(i)))
			for range historyRound / historyWorkers {
				o := draw(rnd, ids)
				w.op = &o
				o.after = clock.over.Load()
				o.call(ctx, service)
				o.before = clock.begun.Load()
				clock.finish(o.at)
				logs[i] = append(logs[i], o)
			}
		})
	}
	all.Wait()
	end, err := h.check(begin, logs, clock.begun.Load())
	if err != nil {
		return err
	}
	return h.compare(ctx, end)
}

// populate empties the store and fills it with accounts, two of each rank; of
// rank 1 there are fewer by missing.
func (h *history) populate(ctx context.Context, missing int) (state, []wire.UserID, error) {
	s := h.stores[0]
	page, err := s.Accounts(ctx, account.Query{Limit: 100})
	if err != nil {
		return nil, nil, err
	}
	for _, u := range page.Users {
		if _, err := s.RemoveBy(ctx, u.ID, account.Key{ID: u.ID}, func(account.User, account.User, account.Ties) error { return nil }); err != nil {
			return nil, nil, err
		}
	}
	service := account.New(account.Config{Store: s, Hasher: h.hasher, Now: func() time.Time { return start }})
	begin := make(state)
	var ids []wire.UserID
	for i := range 12 {
		name := fmt.Sprintf("user%d", i)
		u, err := service.Create(ctx, account.NewAccount{Name: name, Email: name + "@example.org"}, account.Secret("Tr0ub4dor&3"))
		if err != nil {
			return nil, nil, err
		}
		r, err := s.Change(ctx, u.ID, func(r *account.Record) error { r.Rank = wire.Rank(1 + (i+missing)/2); return nil })
		if err != nil {
			return nil, nil, err
		}
		if h.ids[u.ID] {
			return nil, nil, fmt.Errorf("the id %s was used before", u.ID)
		}
		h.ids[u.ID] = true
		begin[u.ID] = r.User
		ids = append(ids, u.ID)
	}
	return begin, ids, nil
}

// check replays the operations in the order of their witnesses and returns the
// state at the end.
func (h *history) check(begin state, logs [][]operation, last int64) (state, error) {
	decided := make([]*operation, last+1)
	for _, log := range logs {
		for i := range log {
			o := &log[i]
			h.stats.Operations++
			result := "ok"
			if o.err != nil {
				result = o.err.Error()
			}
			if o.noAdmin {
				result = "ok, the last of rank 1"
			}
			h.stats.Results[o.verb+": "+result]++
			if o.at != 0 {
				decided[o.at] = o
			}
		}
	}
	states := []state{begin} // by the number of transactions behind it
	for _, o := range decided[1:] {
		now := states[len(states)-1]
		if o == nil {
			return nil, fmt.Errorf("transaction %d has no operation", len(states))
		}
		if o.at <= o.after || o.at > o.before {
			return nil, fmt.Errorf("took effect outside of its time: %v", o)
		}
		target := now[o.caller]
		if !o.own() {
			target, _ = now.named(o.name)
		}
		if o.callerSeen != now[o.caller] || o.targetSeen != target {
			return nil, fmt.Errorf("saw what is not stored: %v\ncaller %+v, is %+v\ntarget %+v, is %+v",
				o, o.callerSeen, now[o.caller], o.targetSeen, target)
		}
		next, user, noAdmin, err := now.apply(*o)
		if !o.agrees(user, noAdmin, err) {
			return nil, fmt.Errorf("%v\nwant %+v, last admin %v, error %v", o, user, noAdmin, err)
		}
		states = append(states, next)
	}
	for _, log := range logs {
		for i := range log {
			o := &log[i]
			ok := o.at != 0
			for n := o.after; !ok && n <= o.before; n++ {
				ok = o.fits(states[n])
			}
			if !ok {
				return nil, fmt.Errorf("fits nowhere: %v", o)
			}
		}
	}
	return states[len(states)-1], nil
}

// compare checks that every store holds just this.
func (h *history) compare(ctx context.Context, want state) error {
	for _, s := range h.stores {
		page, err := s.Accounts(ctx, account.Query{Limit: 100})
		if err != nil {
			return err
		}
		got := make(state)
		for _, u := range page.Users {
			got[u.ID] = u
		}
		if !maps.Equal(got, want) {
			return fmt.Errorf("at the end the store holds %+v, want %+v", got, want)
		}
	}
	return nil
}
