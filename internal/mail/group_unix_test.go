//go:build unix

package mail_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestCommandContained(t *testing.T) {
	path := fakeProgram(t)
	t.Setenv(modeEnv, "family")
	l := lifeline(t)
	c := newCommand(t, path+" %subject% %target_email%")
	ctx, cancel := context.WithCancel(t.Context())
	var send sync.WaitGroup
	send.Go(func() { wantText(t, c.Send(ctx, message()), "killed") })
	parent, child := accept(t, l), accept(t, l)
	cancel()
	send.Wait()
	wantEnd(t, parent)
	wantEnd(t, child)
}

// When the time of a shell is over, what it runs in the background ends too.
// The FIFO is open in each of them: its end is read when the last is gone.
func TestShellContained(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "alive")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// A reader alone would wait here for the shell to come.
	both, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer both.Close()
	alive, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	if err := alive.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	c := newCommand(t, `sh -c 'exec 3> "$1"; sleep 60 & echo $! >&3; wait' mail `+fifo+` %subject% %target_email%`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var send sync.WaitGroup
	send.Go(func() { wantText(t, c.Send(ctx, message()), "killed") })
	text := bufio.NewReader(alive)
	sleeper, err := text.ReadString('\n')
	if err != nil {
		t.Fatalf("the shell does not start: %v", err)
	}
	both.Close()
	cancel()
	send.Wait()
	if rest, err := io.ReadAll(text); err != nil || len(rest) > 0 {
		t.Errorf("the shell or its child %s lives: %q, %v", sleeper, rest, err)
	}
}
