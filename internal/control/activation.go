package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

const (
	// firstActivated is where the sockets of a service manager begin.
	firstActivated = 3
	// maxActivated is more sockets than a host can have a use for.
	maxActivated = 64
)

// Listeners returns the TCP listeners that a service manager has opened for
// this process (systemd's socket activation), in its order; none is no error.
// getenv and unset stand for os.Getenv and os.Unsetenv: LISTEN_PID, LISTEN_FDS
// and LISTEN_FDNAMES are read and removed, so that processes that the host
// starts do not take the sockets for theirs. Call it once, before anything
// else opens files. The listeners are the caller's to close; after an error
// there are none.
func Listeners(getenv func(string) string, unset func(string) error) ([]net.Listener, error) {
	pid, count, names := getenv("LISTEN_PID"), getenv("LISTEN_FDS"), getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		if err := unset(name); err != nil {
			return nil, fmt.Errorf("remove %s from the environment: %w", name, err)
		}
	}
	if pid != strconv.Itoa(os.Getpid()) || count == "" {
		return nil, nil // meant for another process
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxActivated {
		return nil, fmt.Errorf("take over the sockets of the service manager: LISTEN_FDS is %q, want 0 to %d", count, maxActivated)
	}
	called := strings.Split(names, ":")
	var all []net.Listener
	var problems []error
	for i := range n {
		fd := firstActivated + i
		l, err := takeListener(fd)
		if err != nil {
			what := fmt.Sprintf("descriptor %d", fd)
			if names != "" && i < len(called) {
				what += fmt.Sprintf(" (%q)", called[i])
			}
			problems = append(problems, fmt.Errorf("%s: %w", what, err))
			continue
		}
		all = append(all, l)
	}
	if len(problems) > 0 {
		for _, l := range all {
			l.Close()
		}
		return nil, fmt.Errorf("take over the sockets of the service manager: %w", errors.Join(problems...))
	}
	return all, nil
}
