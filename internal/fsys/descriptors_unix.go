//go:build unix

package fsys

import "golang.org/x/sys/unix"

// Descriptors returns how many files this process may have open at once,
// connections among them; 0 when nothing bounds them.
func Descriptors() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) > maxDescriptors {
		return 0
	}
	return int(limit.Cur)
}

// maxDescriptors is more than any system has: a limit above it is none.
const maxDescriptors = 1 << 30
