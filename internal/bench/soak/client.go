package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/wire"
)

// Whom clients of a soak log in as. Each has an account of rank 1 and one of a
// lower rank, which no other client uses.
const (
	password      = "Measured-twice1"
	otherPassword = "Counted-again22"
)

func bossName(n int) string { return fmt.Sprintf("boss-%03d", n) }
func UserName(n int) string { return fmt.Sprintf("user-%03d", n) }
func tempName(n int) string { return fmt.Sprintf("temp-%03d", n) }

// Patience bounds all that a client does without a look at the end of the
// soak; it counts as unexpected when it takes so long.
const Patience = time.Minute

// Load is what the clients of a process do.
type Load struct {
	Addr    string // of the host
	First   int    // number of the first client
	Clients int
	Rate    float64 // steps of all of them a second
	Seed    uint64
}

// Run lets clients work until ctx ends, and each then end what it is
// at. out gets what they tell, a line for each thing: see tally. calls counts
// their calls.
func Run(ctx context.Context, l Load, out io.Writer, calls *atomic.Uint64) error {
	work := &ledger{calls: calls, did: make(map[string]uint64), out: out}
	var group sync.WaitGroup
	for i := range l.Clients {
		s := &soaker{
			addr: l.Addr, number: l.First + i, work: work,
			random: rand.New(rand.NewPCG(l.Seed, uint64(l.First+i))),
			pause:  time.Duration(float64(time.Second) * float64(l.Clients) / l.Rate),
		}
		group.Go(func() { s.run(ctx) })
	}
	group.Wait()
	return work.close()
}

// soaker is one client of a soak. It does one scene after the other, and in a
// scene one step after the other.
type soaker struct {
	addr   string
	number int
	random *rand.Rand
	pause  time.Duration // before a step, on average
	work   *ledger
}

func (s *soaker) run(ctx context.Context) {
	for s.rest(ctx) {
		one := pick(s.random, scenes)
		// A scene goes on to its end when the soak is over, so that what it
		// has begun to change is changed back.
		scene, cancel := context.WithTimeout(context.WithoutCancel(ctx), Patience)
		err := one.play(s, scene, ctx)
		cancel()
		s.work.done(one.name)
		if err != nil {
			s.work.unexpected(s.number, one.name, err)
		}
	}
}

// rest waits a while and reports whether the soak goes on.
func (s *soaker) rest(soak context.Context) bool {
	timer := time.NewTimer(time.Duration(s.random.ExpFloat64() * float64(s.pause)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return soak.Err() == nil
	case <-soak.Done():
		return false
	}
}

// one reports true once in n times.
func (s *soaker) one(n int) bool { return s.random.IntN(n) == 0 }

// weighted is something to choose, the more often the higher its weight.
type weighted interface{ share() int }

func pick[W weighted](random *rand.Rand, all []W) W {
	total := 0
	for _, w := range all {
		total += w.share()
	}
	at := random.IntN(total)
	for _, w := range all {
		if at -= w.share(); at < 0 {
			return w
		}
	}
	panic("soak: nothing to choose from")
}

// visit is one session of a client.
type visit struct {
	c    *client.Client
	raw  net.Conn // below TLS
	work *ledger
	// news is what the host has told, of what hears lets in, as far as there is
	// room.
	news  chan client.Event
	hears func(client.Event) bool
}

// newsKept is more than a scene waits for.
const newsKept = 32

// visitHost hears what concerns the account.
func visitHost(ctx context.Context, addr string, work *ledger) (*visit, error) {
	return visitAndHear(ctx, addr, work, newsKept, func(e client.Event) bool {
		return e.ID == wire.AsyncSysMsg || e.ID == wire.AsyncUserDeleted
	})
}

func visitAndHear(ctx context.Context, addr string, work *ledger, kept int, hears func(client.Event) bool) (*visit, error) {
	v := &visit{work: work, news: make(chan client.Event, kept), hears: hears}
	c, err := client.Dial(ctx, addr, client.Config{
		App:       "mrci bench soak",
		VerifyKey: func(string, string) error { return nil }, // both ends are this program, on loopback
		DialContext: func(ctx context.Context, _, addr string) (nc net.Conn, err error) {
			nc, err = raw.DialTCP(ctx, addr)
			if err == nil {
				err = nc.SetDeadline(time.Time{})
			}
			v.raw = nc
			return nc, err
		},
		Timeout: Patience,
		Grace:   Patience,
		OnEvent: func(e client.Event) {
			if !v.hears(e) {
				return
			}
			select {
			case v.news <- e:
			default:
			}
		},
	})
	v.c = c
	return v, err
}

// leave ends the session, in good order or by a reset.
func (v *visit) leave(reset bool) {
	if reset {
		raw.Reset(v.raw)
	}
	v.c.Close()
}

// expect is a call with what must come of it.
type expect struct {
	name    string
	args    []string
	answers []string        // to the questions, in order
	rest    string          // the answer to any further question
	more    bool            // there may be further questions
	code    wire.ReturnCode // 0: NO_ERRORS
	says    string          // a part of what the command writes, errors included
}

func (v *visit) run(ctx context.Context, want expect) error {
	v.work.call()
	var said strings.Builder
	asked := 0
	result, err := v.c.Run(ctx, want.name, want.args, client.Handlers{
		Frame: func(f wire.Frame) error {
			if client.IsText(f.Type) {
				said.Write(f.Payload)
			}
			return nil
		},
		Answer: func(_ context.Context, q client.Question) (string, error) {
			asked++
			switch {
			case asked <= len(want.answers):
				return want.answers[asked-1], nil
			case want.more:
				return want.rest, nil
			}
			return "", fmt.Errorf("asks %q, which is question %d", q.Text, asked)
		},
	})
	if err != nil {
		return fmt.Errorf("%s: %w", want.name, err)
	}
	return want.check(result, said.String(), asked)
}

func (want expect) check(result client.Result, said string, asked int) error {
	code := want.code
	if code == 0 {
		code = wire.NoErrors
	}
	switch {
	case result.Code != code:
		return fmt.Errorf("%s %s ends with %v, want %v; it says %.300q", want.name, strings.Join(want.args, " "), result.Code, code, said)
	case !strings.Contains(said, want.says):
		return fmt.Errorf("%s %s says %.300q, want %q in it", want.name, strings.Join(want.args, " "), said, want.says)
	case asked < len(want.answers):
		return fmt.Errorf("%s asks %d times, want %d", want.name, asked, len(want.answers))
	}
	return nil
}

// asked begins a call and returns when it has asked something.
func (v *visit) asked(ctx context.Context, name string, args ...string) (*client.Call, error) {
	v.work.call()
	call, err := v.c.Call(ctx, name, args...)
	if err != nil {
		return nil, err
	}
	for {
		f, err := call.Next(ctx)
		if err == io.EOF {
			return nil, fmt.Errorf("%s ends with %v and asks nothing", name, call.Result().Code)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if f.Type == wire.PrivText || f.Type == wire.PromptText {
			return call, nil
		}
	}
}

// ends waits for the end of a call.
func ends(ctx context.Context, call *client.Call, want wire.ReturnCode) error {
	result, err := call.Wait(ctx)
	if err == nil && result.Code != want {
		err = fmt.Errorf("ends with %v, want %v", result.Code, want)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", call.Command().Name, err)
	}
	return nil
}

// login logs in, behind wrong passwords, if there are any.
func (v *visit) login(ctx context.Context, a raw.Account, wrong ...string) error {
	refused := ""
	if len(wrong) > 0 {
		refused = "wrong"
	}
	if err := v.run(ctx, expect{name: "auth", args: []string{"-user", a.Name}, answers: append(wrong, a.Password), says: refused}); err != nil {
		return err
	}
	return v.c.Settle(ctx)
}

func (v *visit) addAccount(ctx context.Context, name string) error {
	return v.run(ctx, expect{
		name: "add_acct", args: []string{"-name", name, "-email", name + "@example.org"},
		answers: []string{password}, says: "has been made",
	})
}

var errNoNews = errors.New("the host does not tell of it")

// told waits for something that the host tells.
func (v *visit) told(ctx context.Context, what string, is func(client.Event) bool) error {
	for {
		select {
		case e := <-v.news:
			if is(e) {
				return nil
			}
		case <-v.c.Done():
			return fmt.Errorf("wait for %s: %w", what, v.c.Err())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, errNoNews)
		}
	}
}

// forget drops what the host has told so far, so that there is room.
func (v *visit) forget() {
	for {
		select {
		case <-v.news:
		default:
			return
		}
	}
}
