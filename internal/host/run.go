package host

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"mrci.dev/mrci/internal/conn"
	"mrci.dev/mrci/internal/session"
)

// Run accepts connections and serves them until ctx ends; then it shuts down
// in order, within the configured time, and returns nil. It closes the host.
func (h *Host) Run(ctx context.Context) error {
	defer h.Close()
	// Sessions live on while the host tells them that it stops.
	serving, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	handshakes, stopHandshakes := context.WithCancelCause(serving)
	defer stopHandshakes(nil)

	var clients sync.WaitGroup
	unblock := context.AfterFunc(ctx, func() { h.listener.Close() })
	defer unblock()
	err := h.accept(ctx, func(nc net.Conn, release func()) {
		clients.Go(func() {
			defer release()
			h.serve(handshakes, serving, nc)
		})
	})
	h.listener.Close()

	began := time.Now()
	stopHandshakes(session.ErrHostStops)
	for _, s := range h.everySession() {
		s.Stop("The host stops now.")
	}
	gone := make(chan struct{})
	go func() { // ends with the last client, which cut makes sure of
		clients.Wait()
		close(gone)
	}()
	deadline := time.NewTimer(h.cfg.Conf.StopTimeout - cutGrace(h.cfg.Conf.StopTimeout))
	defer deadline.Stop()
	select {
	case <-gone:
	case <-deadline.C:
		h.log.Warn("sessions cut off", "reason", "stop_timeout_s", "sessions", h.Sessions())
		cut(session.ErrHostStops)
		h.awaitCut(gone)
	}
	h.log.Info("host stopped", "took", time.Since(began).Round(time.Millisecond))
	return err
}

// cutGrace is the part of the time for stopping that is kept for sessions that
// have to be cut off.
func cutGrace(stop time.Duration) time.Duration { return min(stop/4, time.Second) }

// awaitCut waits for sessions that have been cut off. A command that ignores
// the end of its context must not keep the host from stopping.
func (h *Host) awaitCut(gone <-chan struct{}) {
	timer := time.NewTimer(cutGrace(h.cfg.Conf.StopTimeout))
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
	resting := false
	for {
		nc, err := h.listener.Accept()
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
			if !resting { // once, not for every attempt
				h.log.Error("accept", "err", err)
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
	h.counters.refused.Add(1)
	h.log.Warn("connection refused", "addr", nc.RemoteAddr().String(), "reason", reason.Error())
	nc.Close()
}

func peer(nc net.Conn) netip.Addr {
	return nc.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
}

// serve is one client from its first byte to its last. What stands below here
// while a session is idle is kept small: see admit.
func (h *Host) serve(handshakes, serving context.Context, nc net.Conn) {
	s := h.admit(handshakes, nc)
	if s == nil {
		return
	}
	defer h.remove(s)
	_ = s.Run(serving) // the session has logged the reason
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
	c, err := conn.Accept(handshakes, nc, h.conn)
	release()
	if err != nil {
		h.counters.failed.Add(1)
		h.log.Info("no session", "addr", nc.RemoteAddr().String(), "reason", err.Error())
		return nil
	}
	s := session.New(c, &h.session)
	if !h.add(handshakes, s) {
		c.End(session.ErrHostStops)
		return nil
	}
	return s
}

// add enters a session, unless the host stops already.
func (h *Host) add(handshakes context.Context, s *session.Session) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if handshakes.Err() != nil {
		return false
	}
	h.sessions[s] = struct{}{}
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
