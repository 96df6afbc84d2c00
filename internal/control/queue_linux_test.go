package control_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"mrci.dev/mrci/internal/control"
)

// TestFullQueue connects to a host that takes connections slowly.
func TestFullQueue(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	full := false
	for range 16 { // the system takes one more than it is told, at least
		c, err := net.Dial("unix", path)
		if full = errors.Is(err, unix.EAGAIN); full {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if !full {
		t.Skip("the queue does not fill")
	}
	if _, err := control.Call(deadline(t), path, control.Request{Command: "status"}); err == nil || errors.Is(err, control.ErrNotRunning) {
		t.Errorf("nobody accepts: got %v, want an error, but not that there is no host", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "{\"status\":0,\"text\":\"at last\"}\n")
			c.Close()
		}
	}()
	if a, err := control.Call(deadline(t), path, control.Request{Command: "status"}); err != nil || a.Text != "at last" {
		t.Errorf("got %+v, %v; want the answer", a, err)
	}
	l.Close()
	<-done
}
