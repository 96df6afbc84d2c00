package fanout

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"mrci.dev/mrci/wire"
)

// Member is one connection that is ready for casts. See New and NewNATS.
type Member struct {
	// fixed
	nc       net.Conn
	clock    Clock
	protocol Protocol
	cast     wire.CmdID
	branch   wire.BranchID

	mu sync.Mutex
	// guarded by mu
	skip    int    // bytes that follow of a payload and are not looked at
	held    []byte // the beginning of a frame of which more is to come
	bytes   uint64 // that have come
	check   checker
	answers uint64 // IDLEs to casts; PONGs
	refusal string // the last text of a cast that was refused
	pings   int    // of NATS, to be answered
	window  window // of a sender to NATS
	ended   error  // why nothing comes any more
	reached chan struct{}
	wanted  func() bool // with mu held; reached is closed when it is true

	// owned by the reader
	number   int    // of a receiver from NATS
	every    uint64 // casts after which it tells the sender; guarded by mu
	reported uint64 // casts that it has told of; guarded by mu
	report   []byte
}

// New returns a member that is connected to a server of the protocol, has the
// sub-channel open, and casts with a command.
func New(nc net.Conn, cast wire.CmdID, branch wire.BranchID, clock Clock) *Member {
	return &Member{nc: nc, clock: clock, protocol: MRCI, cast: cast, branch: branch}
}

// NewNATS returns a member that is connected to a NATS server and has
// subscribed, see Subscribe. Receivers are numbered from 0 on.
func NewNATS(nc net.Conn, number int, clock Clock) *Member {
	return &Member{nc: nc, clock: clock, protocol: NATS, number: number}
}

// Subscribe returns what a client of NATS says when the server and TLS are
// there; the server answers with a line that is PONG.
func Subscribe(sender bool) string {
	subject := castSubject
	if sender {
		subject = progressSubject
	}
	return `CONNECT {"verbose":false,"pedantic":false,"protocol":1,"lang":"go","version":"0","name":"mrci bench"}` +
		"\r\nSUB " + subject + " 1\r\nPING\r\n"
}

// Read takes what the server sends, until the connection ends, which is the
// result. rest was read before; buf is what to read into.
func (m *Member) Read(rest, buf []byte) error {
	err := m.hear(rest)
	for err == nil {
		var n int
		if n, err = m.nc.Read(buf); n > 0 {
			err = errors.Join(m.hear(buf[:n]), err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = fmt.Errorf("the connection has ended: %w", err)
	m.wakeLocked()
	return err
}

// hear takes what was read, and answers a NATS server.
func (m *Member) hear(b []byte) error {
	now := m.clock.Now()
	m.mu.Lock()
	err := m.feed(b, now)
	m.report = m.report[:0]
	for ; m.pings > 0; m.pings-- {
		m.report = append(m.report, "PONG\r\n"...)
	}
	for m.every > 0 && m.reported+m.every <= m.check.got {
		m.reported += m.every
		m.report = append(m.report, "PUB "+progressSubject+" 2\r\n"...)
		m.report = append(m.report, byte(m.number), byte(m.number>>8), '\r', '\n')
	}
	m.wakeLocked()
	m.mu.Unlock()
	if len(m.report) > 0 && err == nil {
		_, err = m.nc.Write(m.report)
	}
	return err
}

func (m *Member) wakeLocked() {
	if m.wanted != nil && (m.ended != nil || m.wanted()) {
		m.wanted = nil
		close(m.reached)
	}
}

// stall is how long nothing may come while something is awaited.
const stall = 30 * time.Second

// await returns when wanted is true. It is called with mu held, one call at a
// time.
func (m *Member) await(ctx context.Context, wanted func() bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if wanted() {
		return nil
	}
	if m.ended != nil {
		return m.ended
	}
	m.wanted, m.reached = wanted, make(chan struct{})
	defer func() { m.wanted = nil }()
	reached := m.reached
	ticker := time.NewTicker(stall)
	defer ticker.Stop()
	for {
		before := m.bytes
		m.mu.Unlock()
		select {
		case <-reached:
			m.mu.Lock()
			if !wanted() {
				return m.ended
			}
			return nil
		case <-ctx.Done():
			m.mu.Lock()
			return context.Cause(ctx)
		case <-ticker.C:
			m.mu.Lock()
			if m.bytes == before {
				return errStall
			}
		}
	}
}

var errStall = fmt.Errorf("nothing has come for %v", stall)

// Run is what members take part in.
type Run struct {
	Size    int  `json:"size"`    // of a payload
	Senders int  `json:"senders"` // numbered from 0 on
	Timed   bool `json:"timed"`   // receivers note times
	// Receivers is how many there are; a sender to NATS needs to know.
	Receivers int `json:"receivers"`
}

// How many bytes may be under way from a NATS server: to all receivers
// together, and to one of them, which is what a host lets wait for a receiver
// before it slows a sender down. With more the server is not faster.
const (
	natsAhead      = 512 << 20
	natsAheadOfOne = 1 << 20
)

// Begin makes the member ready for a run, which follows when all members are.
func (m *Member) Begin(r Run) error {
	if r.Size < MinSize || r.Size > wire.MaxPayload || r.Senders < 1 || r.Senders > 1<<16 || r.Receivers > 1<<16 {
		return fmt.Errorf("a run with %d senders to %d and %d bytes is not possible", r.Senders, r.Receivers, r.Size)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended != nil {
		return m.ended
	}
	m.check = checker{size: r.Size, next: make([]uint64, r.Senders)}
	if r.Timed {
		m.check.times = new(Histogram)
	}
	m.answers, m.reported = 0, 0
	if m.protocol == NATS {
		ahead := uint64(max(4, min(natsAheadOfOne, natsAhead/max(r.Receivers, 1))/r.Size))
		m.every = max(1, ahead/8)
		m.window = newWindow(r.Receivers, m.every, ahead)
	}
	return nil
}

// Received is what a member was sent in a run.
type Received struct {
	Casts uint64    `json:"casts"`
	Lost  uint64    `json:"lost"`  // gaps, and what has not come at the end
	Wrong uint64    `json:"wrong"` // out of order, twice, or of another size
	Last  int64     `json:"last"`  // when the last one came, as a Clock has it
	Times Histogram `json:"times"` // from sender to receiver
}

// Add adds what other members were sent.
func (r *Received) Add(other *Received) {
	r.Casts += other.Casts
	r.Lost += other.Lost
	r.Wrong += other.Wrong
	r.Last = max(r.Last, other.Last)
	r.Times.Merge(&other.Times)
}

// Receive waits for the last of so many casts of all senders together, and
// returns what has come. Casts that do not come are lost.
func (m *Member) Receive(ctx context.Context, casts uint64) (Received, error) {
	err := m.await(ctx, func() bool { return m.check.got+m.check.lost+m.check.wrong >= casts })
	if ctx.Err() != nil {
		return Received{}, context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &m.check
	r := Received{Casts: c.got, Lost: c.lost, Wrong: c.wrong, Last: c.last}
	if c.times != nil {
		r.Times.Merge(c.times)
	}
	if err != nil && !errors.Is(err, errStall) {
		return r, err
	}
	r.Lost = max(r.Lost, casts-min(casts, c.got))
	return r, nil
}
