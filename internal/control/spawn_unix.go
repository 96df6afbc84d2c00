//go:build unix

package control

import "syscall"

// detached makes a process the leader of a session of its own, so that the end
// of this terminal does not end it.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
