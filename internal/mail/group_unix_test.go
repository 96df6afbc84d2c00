//go:build unix

package mail_test

import (
	"context"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"mrci.dev/mrci/internal/mail"
)

func TestCommandContained(t *testing.T) {
	path := fakeProgram(t)
	t.Setenv(modeEnv, "family")
	l := lifeline(t)
	c, err := mail.NewCommand(path+" %subject% %target_email%", func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var send sync.WaitGroup
	send.Go(func() { wantText(t, c.Send(ctx, message()), "killed") })
	parent, child := accept(t, l), accept(t, l)
	cancel()
	send.Wait()
	wantEnd(t, parent)
	wantEnd(t, child)
}
