package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/conn"
	"mrci.dev/mrci/internal/hub"
	"mrci.dev/mrci/internal/instance"
	"mrci.dev/mrci/internal/registry"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// Users is where a session finds the account that it is logged in as.
type Users interface {
	User(ctx context.Context, id wire.UserID) (account.User, error)
	// Login is User with the channels of which the user is a member, in one
	// query.
	Login(ctx context.Context, id wire.UserID) (account.User, []wire.ChannelID, error)
}

// Journal is where a session leaves its records. Its methods never wait.
type Journal interface {
	// Activity records the beginning and the end of a session (state 1.10).
	Activity(view *module.Session, entry string)
	// Audit records a call that has changed something, or that was refused for
	// its rights. arguments never hold an answer to PRIV_TEXT.
	Audit(view *module.Session, command, arguments string, code wire.ReturnCode)
}

// Limits bound what one session may ask of the host.
type Limits struct {
	Instances       int           // calls at once (state 4, max_instances)
	AnonymousCalls  int           // the same before login
	AnonymousFrame  int           // payload bytes of a frame before login (state 4)
	AnonymousInput  int           // InputBytes before login (DESIGN 2, promise 2)
	AnonymousOutput int           // queued for a client before login, before it has to read (the same)
	Output          int           // the same after login
	InputBytes      int           // read for commands and not taken by them
	InstanceBytes   int           // the same for one call, before it is watched
	StuckAfter      time.Duration // a watched call that takes nothing ends (DESIGN D4)
	KillGrace       time.Duration // from KILL_CMD to the forced end (protocol 8)
	PromptTimeout   time.Duration // 0: prompts wait for ever (state 4)
	FlushTimeout    time.Duration // for what is queued when the session ends
	// SettleTimeout is how long frames wait at most for the end of a call that
	// has changed the login (commands 1.3).
	SettleTimeout time.Duration
	// OutcomeTimeout is how long the audit log waits for the outcome of a call
	// that was given up.
	OutcomeTimeout time.Duration
	// PaceTimeout is how long a sender rests at most for those who have not
	// taken what it has sent (protocol 9).
	PaceTimeout time.Duration
	CastRate    int // casts in a second (state 4); 0: no limit
	CastBytes   int // their bytes in a second, and the most that one may have; 0: no limit
	// CastSize is how many bytes one cast may have at most, because larger ones
	// have no place in the receivers' queues; 0: no limit.
	CastSize int
}

// DefaultLimits are the limits of the specification.
func DefaultLimits() Limits {
	return Limits{
		Instances:       256,
		AnonymousCalls:  4,
		AnonymousFrame:  16 << 10,
		AnonymousInput:  8 << 10, // with a frame and a batch more, and the output: 60 KiB
		AnonymousOutput: 16 << 10,
		Output:          256 << 10,
		InputBytes:      32 << 20, // two of the largest frames
		InstanceBytes:   1 << 20,
		StuckAfter:      10 * time.Second,
		KillGrace:       3 * time.Second,
		FlushTimeout:    2 * time.Second,
		SettleTimeout:   time.Second,      // auth needs microseconds; a module might prompt
		OutcomeTimeout:  10 * time.Second, // a writer waits for another process half as long
		PaceTimeout:     10 * time.Millisecond,
	}
}

// Config is what a session needs. All fields are set.
type Config struct {
	Registry *registry.Registry
	Users    Users
	Bus      bus.Bus
	Hub      *hub.Hub // on the same bus
	Journal  Journal
	// Limits returns the limits that bind now. It is called often, from any
	// goroutine; what it returns is not changed.
	Limits   func() *Limits
	Counters *Counters
	Log      *slog.Logger
	// Greeting is the text of ASYNC_RDY, which clients may show.
	Greeting string
}

// Reasons for which a session ends, besides those of package conn.
var (
	// ErrClientLeft: the client closed the connection.
	ErrClientLeft = errors.New("client left")
	// ErrHostStops: the host shuts down.
	ErrHostStops = errors.New("host stops")
	// ErrFrameTooLarge: a frame above the limit before login.
	ErrFrameTooLarge = errors.New("frame too large before login")
)

// callKey names a running call: (cmd id, branch id) (protocol 2).
type callKey struct {
	cmd    wire.CmdID
	branch wire.BranchID
}

// Session is one connected client. Its exported methods may be called from any
// goroutine.
type Session struct {
	// Fixed after New.
	cfg     *Config
	conn    *conn.Conn
	ctx     context.Context // the session's life; its cause is why it ended
	cancel  context.CancelCauseFunc
	granted wire.Extensions // of the protocol
	debug   *slog.Logger    // nil: no line per frame is wanted

	mailbox mailbox
	seat    *hub.Seat

	// used counts the bytes that commands have not taken, over all calls,
	// budget is how many that may be, and taken how many they ever took.
	used, budget, taken atomic.Int64
	// view is what commands may know of the session, and all that is known of its
	// owner override. It is replaced under viewing.
	view    atomic.Pointer[module.Session]
	viewing sync.Mutex
	// overridable: the session may run the command that sets the override.
	// Guarded by viewing.
	overridable bool
	// paced is what Pace was last called with, and the owner has not seen.
	paced atomic.Pointer[bus.Sent]
	// group counts the goroutines of owner and commands.
	group sync.WaitGroup

	// Owned by the owner.
	user    *module.User
	rights  *registry.Snapshot
	offered *registry.Snapshot
	calls   map[callKey]*call // nil while there are none: an idle session holds next to nothing
	inline  *call             // the inline command that runs at this moment
	job     *instance.Async   // what the job under way will answer; nil: no job
	out     *scratch          // frames that are on their way to the send queue
	queued  bool              // something was queued since the last flush
	waiting []*instance.Instance
	// incoming is the user of a login that is under way; zero: none.
	incoming wire.UserID
	// reading: the account is being read again, for those who left refreshers
	// before; refreshers came since.
	reading    bool
	refreshers []refresher
	// ending: an override has ended, and its sub-channels are being judged; nil:
	// none has.
	ending *ending
	// asked are asyncs that have not been answered yet; nil: none ever were.
	asked map[*instance.Async]struct{}
	// settling has changed the login and is about to end: frames wait, so that
	// the client has its new list before anything else (commands 1.3).
	settling *call
	// held are events that came meanwhile.
	held     []bus.Delivery
	starving *time.Timer // watches a budget that is spent
	pause    *rest       // others have to take first what the session has sent; nil: none
	casting  *castLimit  // nil while there is none
	refusals int         // that were recorded in the audit log
	// closing: the last frames have been queued, nothing more is read.
	closing  bool
	offering bool // the client's list is being told
}

// New returns a session on an accepted connection. Run brings it to life. cfg
// may serve many sessions and is not changed.
func New(c *conn.Conn, cfg *Config) *Session {
	s := &Session{cfg: cfg, conn: c}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	if cfg.Log.Enabled(context.Background(), slog.LevelDebug) {
		s.debug = s.Log()
	}
	s.mailbox.init()
	limits := cfg.Limits()
	s.budget.Store(int64(limits.AnonymousInput))
	c.SetHighWater(limits.AnonymousOutput)
	s.granted = c.Header().Wanted & wire.ExtSchema
	c.OnDrain(s.wake)
	s.renewView()
	return s
}

// ID returns the session id.
func (s *Session) ID() wire.SessionID { return s.conn.ID() }

// SetConn lets the session's connection have what a new configuration says.
func (s *Session) SetConn(cfg *conn.Config) { s.conn.SetConfig(cfg) }

// Log returns a logger that names the session. It is made for each use, because
// hardly any session that stands idle has something to log.
func (s *Session) Log() *slog.Logger {
	return s.cfg.Log.With("session", s.conn.ID().String()[:12], "addr", s.conn.Remote().String())
}

// View returns what commands may know of the session, as of now.
func (s *Session) View() *module.Session { return s.view.Load() }

// Run serves the client until the session ends, and returns the reason. It
// returns when every goroutine of the session has ended.
func (s *Session) Run() error {
	s.begin()
	reason := s.read()
	s.close(reason)
	s.noteEnd(reason)
	return reason
}

// noteEnd has a frame of its own, as begin has.
//
//go:noinline
func (s *Session) noteEnd(reason error) {
	s.cfg.Journal.Activity(s.View(), "session ended: "+reason.Error())
}

// begin greets the client. It has a frame of its own, so that the stack of an
// idle session stays below a quarter of 8 KiB and shrinks to 4.
//
//go:noinline
func (s *Session) begin() {
	s.seat = s.cfg.Hub.Join(s.conn.ID(), s, s.conn)
	s.cfg.Journal.Activity(s.View(), "session started")
	s.start()
	s.own(true)
}

// Cut ends the session and its connection at once, for a reason: what is queued
// is lost, also that of a session which is ending already. Before Run, Run
// returns at once.
func (s *Session) Cut(reason error) {
	s.cancel(reason)
	s.conn.End(reason)
}

// end lets the reader end, and all that the session has started, for a reason.
func (s *Session) end(reason error) {
	s.cancel(reason)
	s.conn.StopReading()
}

// Stop ends the session in good order: the client gets text under SYS_MSG,
// what is queued is sent, and Run returns.
func (s *Session) Stop(text string) {
	s.post(func() {
		s.frame(wire.Text, wire.CmdID(wire.AsyncSysMsg), 0, []byte(text+"\n"))
		s.closing = true
		s.end(ErrHostStops)
	})
}

// start greets the client (protocol 1): extensions, commands, RDY.
func (s *Session) start() {
	if s.conn.Header().Requested {
		s.frame(wire.Bytes, wire.CmdID(wire.AsyncExtensions), 0, wire.Append(nil, &wire.ExtensionsGranted{Granted: s.granted}))
	}
	s.entitle()
	s.offer()
	s.frame(wire.Text, wire.CmdID(wire.AsyncRdy), 0, []byte(s.cfg.Greeting+"\n"))
}

// read hands batches to the owner until the session ends, and says why it did.
func (s *Session) read() error {
	defer s.conn.DropInput()
	for {
		// Before login nothing is read ahead: what it would be kept in counts
		// (DESIGN 2, promise 2).
		if s.View().User == nil && !s.awaitSlot() {
			return s.cut()
		}
		batch, err := s.conn.ReadBatch()
		if err != nil {
			return s.readEnded(err)
		}
		if !s.deliver(batch) {
			return s.cut()
		}
	}
}

// cut says why the session has ended though the client is still there.
func (s *Session) cut() error {
	if cause := s.conn.Cause(); cause != nil {
		return cause
	}
	return context.Cause(s.ctx)
}

// readEnded turns an error of ReadBatch into the reason of the session's end.
func (s *Session) readEnded(err error) error {
	var tooLarge *conn.FrameTooLargeError
	switch {
	case s.ctx.Err() != nil:
		return context.Cause(s.ctx)
	case errors.As(err, &tooLarge):
		s.refuseFrame(tooLarge)
		return fmt.Errorf("%w: %v", ErrFrameTooLarge, err)
	case errors.Is(err, io.EOF):
		// What the client sent before it left counts.
		s.afterBatch(func() {}, s.cfg.Limits().FlushTimeout)
		return ErrClientLeft
	}
	return err
}

// refuseFrame answers a frame that is not read, after the frames before it.
func (s *Session) refuseFrame(e *conn.FrameTooLargeError) {
	s.afterBatch(func() {
		s.cfg.Counters.TooLarge.Add(1)
		s.refuse(e.Header.Cmd, e.Header.Branch, wire.InvalidParams,
			fmt.Sprintf("A frame may carry %d bytes before login, not %d.", e.Limit, e.Header.Len))
	}, s.cfg.Limits().StuckAfter)
}

// close ends everything that the session has started and the connection. The
// client is told before a command is waited for that ignores its context.
func (s *Session) close(reason error) {
	s.cancel(reason)
	s.mailbox.close()
	s.seat.Leave()
	// The mailbox runs nothing any more: the session's state is the reader's.
	for _, c := range s.calls {
		s.giveUp(c, wire.Aborted, reason)
	}
	if s.job != nil {
		s.job.Done(reason)
	}
	for a := range s.asked {
		s.answer(a, nil) // its change has been made, and the bus has it
	}
	if s.starving != nil {
		s.starving.Stop()
	}
	if s.pause != nil {
		s.pause.end()
	}
	s.flush()
	if orderly(reason) {
		s.conn.Finish(s.cfg.Limits().FlushTimeout, time.Second)
	}
	s.conn.End(reason)
	s.group.Wait()
}

// orderly reports whether the client is still there to get what is queued.
func orderly(reason error) bool {
	return errors.Is(reason, ErrHostStops) || errors.Is(reason, ErrFrameTooLarge) || errors.Is(reason, ErrClientLeft)
}
