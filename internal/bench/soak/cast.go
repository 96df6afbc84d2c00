package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/wire"
)

// This file has what sessions of a soak say to each other, and how they make
// sure that all of it arrives, whole and in order, where it should.

// Sizes of what is said, in bytes. The larger ones take memory that the host
// shares between queues, and more than one read.
const (
	small = 100
	large = 4 << 10
	huge  = 64 << 10
)

// sayTypes are the types of frames that carry what is said, in turn.
var sayTypes = [...]wire.TypeID{wire.Bytes, wire.Text, wire.BigText}

func sayType(n uint64) wire.TypeID { return sayTypes[n%uint64(len(sayTypes))] }

// sayShifts is how many different fillings there are.
const sayShifts = 251

// filling is text without a period, so that a piece that is missing shows.
var filling = func() []byte {
	random := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, huge+sayShifts)
	for i := range b {
		b[i] = byte(' ' + random.IntN('~'-' '))
	}
	return b
}()

// saying is the n-th thing, from 1, that the one with this letter says. It is
// of this size, or of as much as it takes.
func saying(letter byte, n uint64, size int) []byte {
	b := make([]byte, 0, size)
	b = fmt.Appendf(b, "%c %d %d ", letter, n, size)
	return append(b, filling[n%sayShifts:][:max(size-len(b), 0)]...)
}

// parseSaying tells who says it, and as what number.
func parseSaying(t wire.TypeID, b []byte) (letter byte, n uint64, err error) {
	words := bytes.SplitN(b, []byte(" "), 4)
	if len(words) == 4 && len(words[0]) == 1 {
		letter = words[0][0]
		n, err = strconv.ParseUint(string(words[1]), 10, 64)
		size, sizeErr := strconv.Atoi(string(words[2]))
		if err == nil && sizeErr == nil && size >= 0 && size <= huge && t == sayType(n) && bytes.Equal(b, saying(letter, n, size)) {
			return letter, n, nil
		}
	}
	return 0, 0, fmt.Errorf("got a %v of %d bytes that nobody has said: %.60q", t, len(b), b)
}

// ear takes what others say to a session. It is safe for concurrent use.
type ear struct {
	moved chan struct{} // has an element when there is something new

	// guarded by mu
	mu    sync.Mutex
	from  map[byte]*hearing
	count uint64
	wrong error // the first thing that was not as it has to be
}

// hearing is what an ear knows of one who speaks.
type hearing struct {
	last  uint64 // heard
	loose uint64 // up to here something may be missing
	// first to final must not be heard.
	first, final uint64
}

func newEar() *ear { return &ear{moved: make(chan struct{}, 1), from: make(map[byte]*hearing)} }

func (e *ear) ofLocked(letter byte) *hearing {
	h := e.from[letter]
	if h == nil {
		h = new(hearing)
		e.from[letter] = h
	}
	return h
}

// take takes the next thing that arrives.
func (e *ear) take(t wire.TypeID, b []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	letter, n, err := parseSaying(t, b)
	if err == nil {
		h := e.ofLocked(letter)
		switch {
		case n >= h.first && n <= h.final:
			err = fmt.Errorf("heard %d of %c, who had no right any more, or this session had none", n, letter)
		case n <= h.last:
			err = fmt.Errorf("heard %d of %c behind %d", n, letter, h.last)
		case n-1 > max(h.last, h.loose):
			err = fmt.Errorf("heard %d of %c behind %d, and all up to %d may be missing", n, letter, h.last, h.loose)
		}
		h.last = max(h.last, n)
	}
	e.count++
	if e.wrong == nil {
		e.wrong = err
	}
	select {
	case e.moved <- struct{}{}:
	default:
	}
}

// loosen lets everything be missing up to the n-th.
func (e *ear) loosen(letter byte, n uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.ofLocked(letter)
	h.loose = max(h.loose, n)
}

// bar makes the first to the final one things that must not be heard.
func (e *ear) bar(letter byte, first, final uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.ofLocked(letter)
	h.first, h.final = first, final
	h.loose = max(h.loose, final)
}

// heard waits for the n-th, and so for all before it.
func (e *ear) heard(ctx context.Context, letter byte, n uint64) error {
	for {
		e.mu.Lock()
		last, wrong := e.ofLocked(letter).last, e.wrong
		e.mu.Unlock()
		if wrong != nil || last >= n {
			return wrong
		}
		select {
		case <-e.moved:
		case <-ctx.Done():
			return fmt.Errorf("heard %c up to %d only, want %d", letter, last, n)
		}
	}
}

// state returns how much was heard, and what of it was not as it has to be.
func (e *ear) state() (uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.count, e.wrong
}

// guest is a session that takes part in something with others.
type guest struct {
	*visit
	account string
	letter  byte   // by which others know it
	said    uint64 // casts, and messages over its links
	ear     *ear
}

// guestNews is more than others can cause until a step looks.
const guestNews = 256

// enter logs in with an ear for casts and for what concerns channels, presence
// and links.
func (s *soaker) enter(ctx context.Context, name string, letter byte) (*guest, error) {
	g := &guest{account: name, letter: letter, ear: newEar()}
	v, err := visitAndHear(ctx, s.addr, s.work, guestNews, func(e client.Event) bool {
		switch e.ID {
		case wire.AsyncCast:
			g.ear.take(e.Type, e.Payload)
			return false
		case wire.AsyncAddCmd, wire.AsyncRmCmd:
			return false
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	g.visit = v
	if err := g.login(ctx, raw.Account{Name: name, Password: password}); err != nil {
		v.c.Close()
		return nil, err
	}
	return g, nil
}

// cast says so many things, one behind the other.
func (g *guest) cast(ctx context.Context, times, size int) error {
	c := g.c.Caster()
	for range times {
		g.said++
		g.work.call()
		if err := c.Send(ctx, sayType(g.said), saying(g.letter, g.said, size)); err != nil {
			return fmt.Errorf("cast: %w", err)
		}
	}
	if err := c.Wait(ctx); err != nil {
		return fmt.Errorf("cast: %w", err)
	}
	return nil
}

// toldOf waits until the host tells something under an async id.
func toldOf[P wire.Payload](ctx context.Context, g *guest, id wire.AsyncID, is func(P) bool) error {
	return g.told(ctx, id.String(), func(e client.Event) bool {
		p, ok := e.Value.(P)
		return ok && e.ID == id && is(p)
	})
}

// refusals runs calls that are refused because of what they ask for.
func (v *visit) refusals(ctx context.Context, all ...expect) error {
	var failed error
	for _, want := range all {
		want.code = wire.InvalidParams
		failed = errors.Join(failed, v.run(ctx, want))
	}
	return failed
}
