package cert

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"time"
)

const (
	// renewBefore is how long a made certificate still is valid when it is
	// renewed (state 8): time enough for a full disk to be noticed.
	renewBefore = 30 * 24 * time.Hour
	// checkEvery is how often Run looks at the wall clock. Timers alone would
	// sleep through a suspended machine and a clock that is set.
	checkEvery = 10 * time.Minute
	// earlyFor is how long a made certificate may be not valid yet before it is
	// renewed. Machines without a battery start in 1970; what they have is
	// right as soon as somebody has told them the time.
	earlyFor = time.Hour
	// After a failure Run tries again soon, and then ever less often.
	firstRetry = time.Minute
	lastRetry  = time.Hour
)

// Run renews a certificate that the host made, 30 days before it expires, and
// tells the log about certificates that need attention. It ends with ctx, and
// is called once.
func (s *Store) Run(ctx context.Context) {
	retry := firstRetry
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		s.mu.Lock()
		err := s.renewLocked()
		s.reportLocked()
		s.mu.Unlock()
		if err == nil {
			retry = firstRetry
			timer.Reset(checkEvery)
			continue
		}
		timer.Reset(retry)
		retry = min(2*retry, lastRetry)
	}
}

// renewLocked renews the certificate if it is time, and notes and logs how that went.
func (s *Store) renewLocked() error {
	err := s.tryRenewLocked()
	text := ""
	if err != nil {
		text = err.Error()
		used := s.inUse.Load()
		used.cfg.Log.Error("certificate was not renewed", "err", err, "until", used.tls.Leaf.NotAfter)
	}
	s.failed.Store(&failures{load: s.failed.Load().load, renew: text})
	return err
}

func (s *Store) tryRenewLocked() error {
	used := s.inUse.Load()
	if s.dueLocked(used) == "" {
		return nil
	}
	// The files again: what has been put there meanwhile is not overwritten.
	next, err := s.read(used.cfg)
	if err == nil {
		err = s.tooOld(next)
	}
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	reason := s.dueLocked(next)
	if reason == "" {
		s.useLocked(next)
		return nil
	}
	path := used.cfg.Chain[0]
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	text, err := newLeaf(next.tls.PrivateKey.(crypto.Signer), s.sys.names(used.cfg.Names), s.sys.now())
	if err == nil {
		err = s.sys.replace(path, text, info.Mode().Perm())
	}
	if err == nil {
		next, err = s.read(used.cfg)
	}
	if err != nil {
		return fmt.Errorf("renew certificate: %w: make it possible to write %s, which is tried again", err, path)
	}
	s.namesOpen, s.early = false, time.Time{}
	used.cfg.Log.Info("certificate renewed", "reason", reason, "chain", path)
	s.useLocked(next)
	return nil
}

// dueLocked returns why a certificate is to be renewed now, or nothing.
func (s *Store) dueLocked(st *state) string {
	if !st.own {
		return ""
	}
	now, leaf := s.sys.now(), st.tls.Leaf
	if !now.Before(leaf.NotAfter.Add(-renewBefore)) {
		return "it expires"
	}
	if !now.Before(leaf.NotBefore) {
		s.early = time.Time{}
	} else if s.early.IsZero() {
		s.early = time.Now() // not the wall clock, which is in doubt
	} else if time.Since(s.early) >= earlyFor {
		return "it is not valid yet"
	}
	if s.namesOpen {
		if !s.sys.names(st.cfg.Names).namedBy(leaf) {
			return "names or addresses have changed"
		}
		s.namesOpen = false
	}
	return ""
}
