package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math/bits"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// Bounds of the server (state 7: several clients at once, a time for reading).
const (
	defaultMaxClients   = 16
	defaultReadTimeout  = 5 * time.Second
	defaultWriteTimeout = 10 * time.Second
	// stopWriteTimeout is for answers when the host stops: it does not wait
	// longer for a client that does not read.
	stopWriteTimeout = time.Second
	// refuseTimeout is for an answer that no goroutine waits with. It fits an
	// empty socket buffer, so that nothing ever waits for it.
	refuseTimeout = 100 * time.Millisecond
	// acceptPause is how long accepting rests when the system has no descriptor
	// left for a connection.
	acceptPause = 50 * time.Millisecond
)

// Config is what a Server needs.
type Config struct {
	// Lock on the runtime directory: without it the socket of another host could
	// be taken away.
	Lock *Lock
	// AccountRuntime takes the socket when its path below the runtime directory
	// would be too long.
	AccountRuntime string
	Log            *slog.Logger

	// The following have defaults.
	MaxClients   int           // at once, those that are held included; 16
	ReadTimeout  time.Duration // for the whole request; 5 s
	WriteTimeout time.Duration // for the whole answer; 10 s
}

// Handler answers a request. The context ends when the server stops. Serve waits
// for each handler, so that one must not wait for the end of Serve: it
// returns an Answer with Hold instead.
type Handler func(ctx context.Context, r Request) Answer

// Reasons in Counters.
const (
	countRequests = "requests"
	countBusy     = "refused_busy"
	countStranger = "refused_user"
	countNoUser   = "refused_unknown_user"
	countBad      = "bad_requests"
	countSlow     = "timeouts"
	countPanic    = "panics"
)

// Server listens on the control socket.
type Server struct {
	// Fixed after Listen.
	cfg      Config
	log      *slog.Logger
	path     string
	listener *net.UnixListener
	socket   fs.FileInfo // what stands at path
	admits   func(uid int) bool

	stopOnce sync.Once
	requests sync.WaitGroup // a goroutine for each connection that is not held

	// Guarded by mu.
	mu       sync.Mutex
	stopping bool
	closed   bool
	cancel   context.CancelCauseFunc // not nil once Serve has begun
	served   chan struct{}           // closed when Serve has ended
	conns    map[*net.UnixConn]phase
	counters map[string]uint64
}

// phase is where a connection is.
type phase uint8

const (
	reading phase = iota // the request
	working              // handler, answer
	held                 // until Close
)

// Causes that end requests.
var (
	errStopped = errors.New("the host stops")
	errClosed  = errors.New("the control socket is closed")
)

// Listen opens the control socket, in place of one that a crash has left. It
// serves nobody before Serve does.
func Listen(cfg Config) (*Server, error) {
	if cfg.Lock == nil || cfg.Log == nil {
		return nil, errors.New("open the control socket: Lock and Log are required")
	}
	cfg.MaxClients = orDefault(cfg.MaxClients, defaultMaxClients)
	cfg.ReadTimeout = orDefault(cfg.ReadTimeout, defaultReadTimeout)
	cfg.WriteTimeout = orDefault(cfg.WriteTimeout, defaultWriteTimeout)
	path, err := SocketPath(cfg.Lock.Dir(), cfg.AccountRuntime)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, log: cfg.Log, path: path, admits: admitsUID,
		served:   make(chan struct{}),
		conns:    make(map[*net.UnixConn]phase),
		counters: make(map[string]uint64),
	}
	if dir := filepath.Dir(path); dir != cfg.Lock.Dir() {
		root, err := openPrivate(dir, false)
		if err != nil {
			return nil, err
		}
		root.Close()
	}
	if err := cfg.Lock.whileHeld(s.listen); err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	return s, nil
}

func orDefault[T int | time.Duration](value, otherwise T) T {
	if value <= 0 {
		return otherwise
	}
	return value
}

// listen is called with the lock held.
func (s *Server) listen() error {
	switch info, err := os.Lstat(s.path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	// On Windows a socket may be shown as irregular.
	case info.Mode()&(fs.ModeSocket|fs.ModeIrregular) == 0:
		return fmt.Errorf("%s is in the way: it is not a socket; move it away", s.path)
	default:
		if err := os.Remove(s.path); err != nil {
			return err
		}
	}
	lc := net.ListenConfig{Control: restrictSocket}
	l, err := lc.Listen(context.Background(), "unix", s.path) // no name is looked up: nothing waits
	if err != nil {
		return err
	}
	s.listener = l.(*net.UnixListener)
	s.listener.SetUnlinkOnClose(false) // that takes the lock: stop does it
	if runtime.GOOS != "windows" {
		err = os.Chmod(s.path, 0o600)
	}
	if err == nil {
		s.socket, err = os.Lstat(s.path)
	}
	if err != nil {
		l.Close()
		os.Remove(s.path)
	}
	return err
}

// Path returns where the socket is.
func (s *Server) Path() string { return s.path }

// Counters returns what has happened, by reason.
func (s *Server) Counters() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.counters)
}

// count counts and returns how often that was.
func (s *Server) count(reason string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counters[reason]++
	return s.counters[reason]
}

// Serve answers requests until ctx ends, and returns nil then: the socket
// is gone, requests that had been read have been answered, and what is left are
// connections that are held. It can be called once.
func (s *Server) Serve(ctx context.Context, handle Handler) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.mu.Lock()
	if s.closed || s.cancel != nil {
		s.mu.Unlock()
		return errClosed
	}
	s.cancel = cancel
	s.mu.Unlock()
	defer close(s.served)

	unblock := context.AfterFunc(ctx, s.stop)
	err := s.accept(ctx, handle)
	unblock()
	s.stop() // waits for the one that may be running
	cancel(errStopped)
	s.requests.Wait()
	return err
}

// stop takes the socket away and ends the wait for requests.
func (s *Server) stop() {
	s.stopOnce.Do(func() {
		s.mu.Lock()
		s.stopping = true
		for c, at := range s.conns {
			switch at {
			case reading:
				c.SetReadDeadline(time.Unix(1, 0))
			case working:
				c.SetWriteDeadline(time.Now().Add(min(stopWriteTimeout, s.cfg.WriteTimeout)))
			}
		}
		s.mu.Unlock()
		// Without the lock it is the socket of the next host.
		err := s.cfg.Lock.whileHeld(func() error {
			info, err := os.Lstat(s.path)
			if err != nil || !os.SameFile(info, s.socket) {
				return nil // somebody removed it by hand
			}
			return os.Remove(s.path)
		})
		if err != nil {
			s.log.Warn("control socket not removed", "file", s.path, "err", err)
		}
		s.listener.Close()
	})
}

// Close ends the server: it stops as at the end of Serve's context, waits for
// Serve, and closes the connections that are held, whose clients learn from it
// that the host has ended. It must not be called by a handler. It may be
// called again.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	cancel := s.cancel
	s.mu.Unlock()
	if cancel != nil {
		cancel(errClosed)
		<-s.served
	} else {
		s.stop()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
	clear(s.conns)
	return nil
}

// accept takes connections until ctx ends.
func (s *Server) accept(ctx context.Context, handle Handler) error {
	resting := false
	for {
		c, err := s.listener.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			if !resting { // once, not for every attempt
				s.log.Error("accept on the control socket", "err", err)
			}
			resting = true
			timer := time.NewTimer(acceptPause)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
			}
			continue
		}
		resting = false
		if s.admit(c) {
			s.requests.Go(func() { s.serve(ctx, c, handle) })
		}
	}
}

// admitsUID says who is served: the account of the host, and root.
func admitsUID(uid int) bool {
	self, _ := processUID()
	return uid == self || uid == 0
}

// admit takes a connection in or refuses it. It does not wait.
func (s *Server) admit(c *net.UnixConn) bool {
	uid, known, err := peerUID(c)
	switch {
	case err != nil: // on macOS also when the client has gone already
		s.refuse(c, countNoUser, Fail("the host cannot tell who asks"), "err", err)
		return false
	case known && !s.admits(uid):
		s.refuse(c, countStranger, Fail(fmt.Sprintf("this host serves its own account and root only, and you are uid %d: run this as the account of the host", uid)), "uid", uid)
		return false
	}
	s.mu.Lock()
	room := len(s.conns) < s.cfg.MaxClients
	if room {
		s.conns[c] = reading
	}
	s.mu.Unlock()
	if !room {
		s.refuse(c, countBusy, Fail(fmt.Sprintf("the host is busy: it serves %d clients on its control socket; try again in a few seconds", s.cfg.MaxClients)))
	}
	return room
}

// refuse answers and closes a connection that was not taken in.
func (s *Server) refuse(c *net.UnixConn, reason string, a Answer, attrs ...any) {
	// A flood of them fills no log: the 1st, 2nd, 4th, 8th... is told.
	if n := s.count(reason); bits.OnesCount64(n) == 1 {
		s.log.Warn("control connection refused", append([]any{"reason", reason, "count", n}, attrs...)...)
	}
	if line, err := encodeAnswer(a); err == nil {
		c.SetWriteDeadline(time.Now().Add(refuseTimeout))
		_, _ = c.Write(line) // the client may have gone
	}
	c.Close()
}

// serve is one connection.
func (s *Server) serve(ctx context.Context, c *net.UnixConn, handle Handler) {
	keep := false
	defer func() {
		if !keep {
			s.forget(c)
		}
	}()
	r, err := s.receive(c)
	switch {
	case err == nil:
		s.count(countRequests)
		s.log.Debug("control request", "cmd", r.Command)
		a := s.answer(ctx, handle, r)
		if s.send(c, a) && a.Hold {
			keep = true
			s.hold(c)
		}
	case errors.Is(err, io.EOF): // somebody looked whether there is a host
	default:
		s.send(c, Fail(err.Error()))
	}
}

// receive reads the request. The error is io.EOF when there is none, otherwise
// it is for the client.
func (s *Server) receive(c *net.UnixConn) (Request, error) {
	s.mu.Lock()
	stopping := s.stopping
	if !stopping { // otherwise stop's deadline would be lost
		c.SetReadDeadline(time.Now().Add(s.cfg.ReadTimeout))
	}
	s.mu.Unlock()
	if stopping {
		return Request{}, errStopped
	}
	line, err := bufio.NewReaderSize(c, maxRequest).ReadSlice('\n')
	s.mu.Lock()
	s.conns[c] = working
	stopping = s.stopping
	s.mu.Unlock()
	switch {
	case err == nil:
		r, err := decodeRequest(line[:len(line)-1])
		if err != nil {
			s.count(countBad)
		}
		return r, err
	case errors.Is(err, bufio.ErrBufferFull):
		s.count(countBad)
		return Request{}, fmt.Errorf("the request is too long: at most %d bytes", maxRequest)
	case errors.Is(err, os.ErrDeadlineExceeded) && stopping:
		return Request{}, errStopped
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.count(countSlow)
		return Request{}, fmt.Errorf("no request within %v", s.cfg.ReadTimeout)
	case len(line) == 0:
		return Request{}, io.EOF
	default:
		s.count(countBad)
		return Request{}, errors.New("half a request: it has no line feed at its end")
	}
}

// answer calls the handler, whose panic is answered too.
func (s *Server) answer(ctx context.Context, handle Handler, r Request) (a Answer) {
	defer func() {
		if v := recover(); v != nil {
			s.count(countPanic)
			s.log.Error("control request panicked", "cmd", r.Command, "err", fmt.Sprint(v), "stack", string(debug.Stack()))
			a = Fail("the host made a mistake over this request: its log says more")
		}
	}()
	return handle(ctx, r)
}

// send reports whether the client has the answer.
func (s *Server) send(c *net.UnixConn, a Answer) bool {
	line, err := encodeAnswer(a)
	if err != nil {
		s.log.Error("control answer not sent", "err", err)
		if line, err = encodeAnswer(Fail("the host made a mistake over this answer: its log says more")); err != nil {
			return false
		}
	}
	s.mu.Lock()
	timeout := s.cfg.WriteTimeout
	if s.stopping {
		timeout = min(timeout, stopWriteTimeout)
	}
	c.SetWriteDeadline(time.Now().Add(timeout))
	s.mu.Unlock()
	_, err = c.Write(line)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		n := s.count(countSlow)
		s.log.Warn("control client takes no answer", "reason", countSlow, "count", n)
	}
	return err == nil
}

// hold keeps the connection for Close.
func (s *Server) hold(c *net.UnixConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = held
}

func (s *Server) forget(c *net.UnixConn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	c.Close()
}
