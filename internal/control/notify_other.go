//go:build !linux

package control

// monotonicUsec says that there is no systemd here.
func monotonicUsec() (usec int64, ok bool) { return 0, false }
