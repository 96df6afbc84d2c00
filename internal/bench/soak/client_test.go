package soak

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/wire"
)

// Chance decides what a short soak does. Here everything that sessions do in
// channels and over links is done twice, and has to reach somebody.
func TestSoakMeetings(t *testing.T) {
	h := hosttest.Start(t, hosttest.Set("log_level=info"))
	h.User("administrator", 1)
	administrator := raw.Account{Name: "administrator", Password: hosttest.Password}
	if err := MakeAccounts(t.Context(), h.Address(), administrator, 1); err != nil {
		t.Fatal(err)
	}
	work := &ledger{did: make(map[string]uint64), out: io.Discard}
	seed := uint64(time.Now().UnixNano())
	client := &soaker{addr: h.Address(), work: work, random: rand.New(rand.NewPCG(seed, 0)), pause: time.Millisecond}
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	err := client.withRoom(ctx, func(r *room) error {
		for _, one := range slices.Concat(roomSteps, roomSteps) {
			if err := r.step(ctx, one); err != nil {
				return err
			}
		}
		return nil
	})
	err = errors.Join(err, client.withTable(ctx, func(table *table) error {
		for _, one := range slices.Concat(linkSteps, linkSteps) {
			if err := table.step(ctx, one); err != nil {
				return err
			}
		}
		return nil
	}))
	if err != nil {
		t.Errorf("seed %d: %v", seed, err)
	}
	for _, one := range roomSteps {
		if n := work.did["channel: "+one.name]; n != 2 {
			t.Errorf("%s was done %d times", one.name, n)
		}
	}
	for _, one := range linkSteps {
		if n := work.did["link: "+one.name]; n != 2 {
			t.Errorf("%s was done %d times", one.name, n)
		}
	}
	for _, what := range []string{"casts heard", "link messages received"} {
		if work.did[what] == 0 {
			t.Errorf("no %s", what)
		}
	}
	for _, name := range []string{"channel", "peer links"} {
		if !slices.ContainsFunc(scenes, func(s scene) bool { return s.name == name && s.weight > 0 }) {
			t.Errorf("clients of a soak never choose %s", name)
		}
	}
	// The host has nothing of it any more.
	v, err := visitHost(t.Context(), h.Address(), work)
	if err != nil {
		t.Fatal(err)
	}
	defer v.c.Close()
	if err := errors.Join(v.login(t.Context(), administrator), v.run(t.Context(), expect{name: "find_ch", says: "0 rows"})); err != nil {
		t.Error(err)
	}
}

func TestEar(t *testing.T) {
	type said struct {
		letter byte
		n      uint64
		size   int
	}
	broken := func(change func([]byte) []byte) func(wire.TypeID, []byte) (wire.TypeID, []byte) {
		return func(t wire.TypeID, b []byte) (wire.TypeID, []byte) { return t, change(b) }
	}
	tests := map[string]struct {
		said   []said
		before func(*ear)
		change func(wire.TypeID, []byte) (wire.TypeID, []byte)
		bad    string // part of the error; empty: none
	}{
		"in order":                  {said: []said{{'a', 1, 0}, {'b', 1, small}, {'a', 2, large}, {'a', 3, huge}}},
		"one missing":               {said: []said{{'a', 1, small}, {'a', 3, small}}, bad: "heard 3 of a behind 1"},
		"the first missing":         {said: []said{{'a', 2, small}}, bad: "heard 2 of a behind 0"},
		"twice":                     {said: []said{{'a', 1, small}, {'a', 1, small}}, bad: "heard 1 of a behind 1"},
		"other way round":           {said: []said{{'a', 2, small}, {'a', 1, small}}, before: func(e *ear) { e.loosen('a', 2) }, bad: "heard 1 of a behind 2"},
		"may be missing":            {said: []said{{'a', 2, small}, {'a', 5, small}}, before: func(e *ear) { e.loosen('a', 4) }},
		"missing behind those":      {said: []said{{'a', 6, small}}, before: func(e *ear) { e.loosen('a', 4) }, bad: "may be missing"},
		"must not be heard":         {said: []said{{'a', 3, small}}, before: func(e *ear) { e.bar('a', 1, 3) }, bad: "no right"},
		"behind what must not be":   {said: []said{{'a', 4, small}}, before: func(e *ear) { e.bar('a', 1, 3) }},
		"another type":              {said: []said{{'a', 1, small}}, change: func(_ wire.TypeID, b []byte) (wire.TypeID, []byte) { return wire.GenFile, b }, bad: "nobody has said"},
		"cut off":                   {said: []said{{'a', 1, small}}, change: broken(func(b []byte) []byte { return b[:len(b)-1] }), bad: "nobody has said"},
		"a byte of another payload": {said: []said{{'a', 1, huge}}, change: broken(func(b []byte) []byte { b[huge/2] ^= 1; return b }), bad: "nobody has said"},
		"a piece missing":           {said: []said{{'a', 1, huge}}, change: broken(func(b []byte) []byte { return append(b[:large], b[2*large:]...) }), bad: "nobody has said"},
		"nothing":                   {said: []said{{'a', 1, small}}, change: broken(func([]byte) []byte { return nil }), bad: "nobody has said"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := newEar()
			if test.before != nil {
				test.before(e)
			}
			for _, one := range test.said {
				typ, b := sayType(one.n), saying(one.letter, one.n, one.size)
				if test.change != nil {
					typ, b = test.change(typ, b)
				}
				e.take(typ, b)
			}
			count, err := e.state()
			if count != uint64(len(test.said)) {
				t.Errorf("heard %d, want %d", count, len(test.said))
			}
			switch {
			case test.bad == "" && err != nil:
				t.Error(err)
			case test.bad != "" && (err == nil || !strings.Contains(err.Error(), test.bad)):
				t.Errorf("got %v, want %q in it", err, test.bad)
			}
		})
	}
}

func TestExpect(t *testing.T) {
	tests := map[string]struct {
		want   expect
		result wire.ReturnCode
		said   string
		asked  int
		bad    string // part of the error; empty: none
	}{
		"as expected":       {expect{says: "row"}, wire.NoErrors, "1 row.", 0, ""},
		"another code":      {expect{}, wire.Crash, "oops", 0, "ends with CRASH, want NO_ERRORS; it says \"oops\""},
		"no failure":        {expect{code: wire.Aborted}, wire.NoErrors, "", 0, "want ABORTED"},
		"another text":      {expect{says: "row"}, wire.NoErrors, "nothing", 0, "want \"row\" in it"},
		"too few questions": {expect{answers: []string{"y", "n"}}, wire.NoErrors, "", 1, "asks 1 times, want 2"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := test.want.check(client.Result{Code: test.result}, test.said, test.asked)
			switch {
			case test.bad == "" && err != nil:
				t.Error(err)
			case test.bad != "" && (err == nil || !strings.Contains(err.Error(), test.bad)):
				t.Errorf("got %v, want %q in it", err, test.bad)
			}
		})
	}
}

// watcher calls seen when a text with part was written to it.
type watcher struct {
	part string
	seen func()

	mu   sync.Mutex
	text strings.Builder
}

func (w *watcher) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.Contains(string(b), w.part) {
		w.seen()
	}
	return w.text.Write(b)
}

// What is no host must not pass.
func TestSoakOfNoHost(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var server sync.WaitGroup
	defer server.Wait()
	defer l.Close()
	server.Go(func() { // ends with the listener
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			nc.Close()
		}
	})
	out := &watcher{part: unexpected + "client 7, session: ", seen: stop}
	var calls atomic.Uint64
	if err := Run(ctx, Load{Addr: l.Addr().String(), First: 7, Clients: 1, Rate: 1000, Seed: 1}, out, &calls); err != nil {
		t.Fatal(err)
	}
	var heard Tally
	for line := range strings.Lines(out.text.String()) {
		if !heard.Hear(strings.TrimSpace(line)) {
			t.Errorf("line %q is not understood", line)
		}
	}
	did, troubles, n := heard.Told()
	if did["session"] == 0 || n == 0 || len(troubles) != min(n, TextsKept) {
		b, _ := json.Marshal(did)
		t.Errorf("got %s, %d unexpected, %d texts", b, n, len(troubles))
	}
}
