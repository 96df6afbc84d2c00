//go:build !unix

package mail

import "os/exec"

// contain does nothing: only the program itself is killed.
func contain(*exec.Cmd) {}
