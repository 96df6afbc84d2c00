package control

import "golang.org/x/sys/unix"

// monotonicUsec is the clock by which systemd tells a reload that begins now
// from an earlier one.
func monotonicUsec() (usec int64, ok bool) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, false
	}
	return now.Nano() / 1000, true
}
