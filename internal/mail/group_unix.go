//go:build unix

package mail

import (
	"os"
	"os/exec"
	"syscall"
)

// contain starts the command in a process group of its own and has the whole
// group killed when its time is over: a shell is usually between the host and
// the program that hangs.
func contain(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Not called once the program has been waited for, so that the id is still
	// that of its group.
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if err == syscall.ESRCH {
			return os.ErrProcessDone
		}
		return err
	}
}
