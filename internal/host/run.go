package host

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"mrci.dev/mrci/internal/conn"
	"mrci.dev/mrci/internal/control"
	"mrci.dev/mrci/internal/fsys"
	"mrci.dev/mrci/internal/session"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// Run accepts connections and serves them until ctx ends or somebody asks the
// host to stop; then it shuts down in order, within the configured time, and
// returns nil. It closes the host, and is called once.
func (h *Host) Run(ctx context.Context) error {
	defer h.Close()
	ctx, h.stop = context.WithCancel(ctx)
	defer h.stop()
	// What goes on beside the sessions ends with ctx, but for the control
	// socket: it tells how far the end has come.
	var duties sync.WaitGroup
	answering, silence := context.WithCancel(context.WithoutCancel(ctx))
	defer duties.Wait()
	defer silence()
	if err := h.beginDuties(ctx, answering, &duties); err != nil {
		h.stop()
		return err
	}

	// Sessions live on while the host tells them that it stops.
	handshakes, stopHandshakes := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopHandshakes(nil)

	var clients sync.WaitGroup
	unblock := context.AfterFunc(ctx, h.entrance.Close)
	defer unblock()
	h.ready.Store(true)
	h.notify((*control.Notifier).Ready)
	h.notify(func(n *control.Notifier) error { return n.Status("listening on " + h.Addr().String()) })
	err := h.accept(ctx, func(nc net.Conn, release func()) {
		clients.Go(func() {
			defer release()
			h.serve(handshakes, nc)
		})
	})
	h.ready.Store(false)
	h.notify((*control.Notifier).Stopping)
	h.entrance.Close()
	h.stop() // if accepting has failed

	began := time.Now()
	stopHandshakes(session.ErrHostStops)
	for _, s := range h.everySession() {
		s.Stop("The host stops now.")
	}
	gone := make(chan struct{})
	go func() { // ends with the last client, which Cut makes sure of
		clients.Wait()
		close(gone)
	}()
	timeout := h.conf.Load().StopTimeout
	deadline := time.NewTimer(timeout - cutGrace(timeout))
	defer deadline.Stop()
	select {
	case <-gone:
	case <-deadline.C:
		h.log.Warn("sessions cut off", "reason", "stop_timeout_s", "sessions", h.Sessions())
		for _, s := range h.everySession() {
			s.Cut(session.ErrHostStops)
		}
		h.awaitCut(gone, cutGrace(timeout))
	}
	h.log.Info("host stopped", "took", time.Since(began).Round(time.Millisecond))
	return err
}

// beginDuties starts what the host does beside serving sessions.
func (h *Host) beginDuties(ctx, answering context.Context, duties *sync.WaitGroup) error {
	var err error
	h.reloading.Lock() // nobody reloads without the watcher
	h.watcher, err = fsys.Watch(ctx, fsys.WatchConfig{Files: h.watched(), Changed: h.filesChanged, Log: h.log})
	h.reloading.Unlock()
	if err != nil {
		return err
	}
	duties.Go(func() {
		<-ctx.Done()
		h.watcher.Close()
	})
	h.ran = true
	duties.Go(func() {
		if err := h.door.Serve(answering, h.operate); err != nil {
			h.log.Error("control socket", "err", err)
		}
	})
	duties.Go(func() { h.cert.Run(ctx) })
	if h.metrics != nil {
		duties.Go(func() { h.metrics.serve(answering) })
	}
	if pulse := h.pulse(); pulse > 0 {
		duties.Go(func() { h.showAlive(answering, pulse) })
	}
	return nil
}

// notify tells the service manager something. It is never important enough to
// stop for.
func (h *Host) notify(what func(*control.Notifier) error) {
	if h.cfg.Notify == nil {
		return
	}
	if err := what(h.cfg.Notify); err != nil {
		h.log.Warn("service manager not told", "err", err)
	}
}

// pulse is how often the service manager wants a sign of life; 0: never.
func (h *Host) pulse() time.Duration {
	if h.cfg.Notify == nil {
		return 0
	}
	return h.cfg.Notify.Watchdog() / 2
}

// showAlive gives a sign of life as long as the database answers: a host that
// cannot read accounts is better started again.
func (h *Host) showAlive(ctx context.Context, pulse time.Duration) {
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := h.check(ctx, pulse); err != nil {
			h.log.Error("no sign of life given", "err", err)
			continue
		}
		h.notify((*control.Notifier).Alive)
	}
}

// check asks the database something, for its health.
func (h *Host) check(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return h.store.Ping(ctx)
}

// cutGrace is the part of the time for stopping that is kept for sessions that
// have to be cut off.
func cutGrace(stop time.Duration) time.Duration { return min(stop/4, time.Second) }

// awaitCut waits for sessions that have been cut off. A command that ignores
// the end of its context must not keep the host from stopping.
func (h *Host) awaitCut(gone <-chan struct{}, patience time.Duration) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-gone:
	case <-timer.C:
		h.log.Error("commands did not end", "sessions", h.Sessions())
	}
}

// acceptPause is how long accepting rests when the system has no descriptor or
// memory left for a connection.
const acceptPause = 50 * time.Millisecond

// accept takes connections until ctx ends, and hands over those that no limit
// refuses; release is called when the connection is done with.
func (h *Host) accept(ctx context.Context, serve func(nc net.Conn, release func())) error {
	for {
		nc, err := h.entrance.Accept()
		if ctx.Err() != nil {
			if err == nil {
				nc.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			h.quiet.accept.line(h.log, "err", err)
			timer := time.NewTimer(acceptPause)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
			}
			continue
		}
		h.counters.accepted.Add(1)
		release, err := h.limits.AcquireSession(peer(nc))
		if err != nil {
			h.refuse(nc, err)
			continue
		}
		serve(nc, release)
	}
}

func (h *Host) refuse(nc net.Conn, reason error) {
	h.quiet.refused.line(h.log, "addr", nc.RemoteAddr().String(), "reason", reason.Error())
	nc.Close()
}

func peer(nc net.Conn) netip.Addr {
	return nc.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
}

// serve is one client from its first byte to its last. What stands below here
// while a session is idle is kept small: see admit.
func (h *Host) serve(handshakes context.Context, nc net.Conn) {
	s := h.admit(handshakes, nc)
	if s == nil {
		return
	}
	defer h.remove(s)
	h.ended(s, s.Run())
}

// admit does the handshake; it returns nil when there is no session. It has a
// frame of its own, so that an idle session's stack fits 4 KiB.
//
//go:noinline
func (h *Host) admit(handshakes context.Context, nc net.Conn) *session.Session {
	release, err := h.limits.AcquireConn(peer(nc))
	if err != nil {
		h.refuse(nc, err)
		return nil
	}
	c, err := conn.Accept(handshakes, nc, h.conn.Load())
	release()
	if err != nil {
		h.counters.unstarted.add(nameOf(err, failures, "connection_lost"))
		h.quiet.unstarted.line(h.log, "addr", nc.RemoteAddr().String(), "reason", err.Error())
		return nil
	}
	s := session.New(c, &h.session)
	if !h.add(handshakes, s) {
		c.End(session.ErrHostStops)
		return nil
	}
	h.quiet.started.line(s.Log(), "app", c.Header().AppName, "tls", c.Encrypted())
	return s
}

// ended counts and logs why a session has ended. The end of one that was
// logged in is always logged: it took a password. It has a frame of its own, as
// admit has.
//
//go:noinline
func (h *Host) ended(s *session.Session, reason error) {
	h.counters.ended.add(nameOf(reason, ends, "connection_lost"))
	if s.View().User != nil {
		s.Log().Info(h.quiet.ended.msg, "reason", reason.Error())
		return
	}
	h.quiet.ended.line(s.Log(), "reason", reason.Error())
}

// refusedFrame counts and logs what a session wanted other clients to believe that the host
// had said (commands 7, cast).
func (h *Host) refusedFrame(from *module.Session, command string, t wire.TypeID) {
	h.counters.hostOnly.Add(1)
	args := []any{"session", from.ID.String()[:12], "addr", from.Addr.String()}
	if from.User != nil {
		args = append(args, "user", from.User.Name)
	}
	h.quiet.frames.line(h.log, append(args, "cmd", command, "reason", "only the host sends frames of type "+t.String())...)
}

// add enters a session, unless the host stops already. What was configured
// during its handshake counts for it.
func (h *Host) add(handshakes context.Context, s *session.Session) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if handshakes.Err() != nil {
		return false
	}
	h.sessions[s] = struct{}{}
	s.SetConn(h.conn.Load())
	return true
}

func (h *Host) remove(s *session.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sessions, s)
}

func (h *Host) everySession() []*session.Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*session.Session, 0, len(h.sessions))
	for s := range h.sessions {
		all = append(all, s)
	}
	return all
}
