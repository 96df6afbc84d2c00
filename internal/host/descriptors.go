package host

import (
	"fmt"

	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/limit"
)

// reservedDescriptors are kept from sessions. The database has 15 and opens
// none later; listeners, lock, watcher, poller and streams have about as many;
// the rest is for clients of the control socket and of the metrics, mails,
// files that are read again, and connections that are refused.
const reservedDescriptors = 64

// leastDescriptors leave as many for sessions.
const leastDescriptors = 2 * reservedDescriptors

// checkDescriptors says why a host with so few descriptors is not started; 0
// are enough, for there is no limit.
func checkDescriptors(have int) error {
	if have > 0 && have < leastDescriptors {
		return fmt.Errorf("this process may have %d files open, a host needs %d: raise the limit (ulimit -n, LimitNOFILE of systemd)", have, leastDescriptors)
	}
	return nil
}

// maxSessions is how many sessions there may be: max_sessions, or fewer when
// the process has not so many descriptors. One that is not left for a
// connection is missing elsewhere: where an account is read, or the status.
func (h *Host) maxSessions(c *conf.Config) int {
	if h.descriptors == 0 {
		return c.MaxSessions
	}
	// One more session is for loopback.
	return min(c.MaxSessions, h.descriptors-reservedDescriptors-1)
}

func (h *Host) limitConfig(c *conf.Config) limit.Config {
	most := h.maxSessions(c)
	if most < c.MaxSessions {
		h.log.Warn("fewer sessions than max_sessions", "sessions", most, "max_sessions", c.MaxSessions,
			"reason", fmt.Sprintf("this process may have %d files open; raise the limit (ulimit -n, LimitNOFILE of systemd)", h.descriptors))
	}
	return limit.Config{HalfOpenPerAddr: c.HalfOpenPerAddr, MaxSessions: most, LimitLoopback: c.LimitLoopback}
}
