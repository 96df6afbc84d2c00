//go:build unix

package control_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"mrci.dev/mrci/internal/control"
)

func env(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

func TestNotify(t *testing.T) {
	sockets := map[string]string{"path": filepath.Join(shortDir(t), "notify")}
	if runtime.GOOS == "linux" {
		sockets["abstract"] = fmt.Sprintf("@mrci-control-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	}
	for kind, socket := range sockets {
		t.Run(kind, func(t *testing.T) {
			manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer manager.Close()
			n := control.NewNotifier(env(map[string]string{"NOTIFY_SOCKET": socket}))
			reloading := `^RELOADING=1$`
			if runtime.GOOS == "linux" {
				reloading = `^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*$`
			}
			for _, step := range []struct {
				tell func() error
				want string
			}{
				{n.Ready, `^READY=1$`},
				{n.Reloading, reloading},
				{n.Stopping, `^STOPPING=1$`},
				{n.Alive, `^WATCHDOG=1$`},
				{func() error { return n.Status("12 sessions\nREADY=1") }, `^STATUS=12 sessions\?READY=1$`},
				{func() error { return n.Status("x" + strings.Repeat("ä", 5000)) }, `^STATUS=xä{511}$`},
			} {
				if err := step.tell(); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, 8192)
				manager.SetReadDeadline(time.Now().Add(2 * time.Minute))
				size, _, err := manager.ReadFromUnix(got)
				if err != nil {
					t.Fatal(err)
				}
				if !regexp.MustCompile(step.want).Match(got[:size]) {
					t.Errorf("got %q, want %s", got[:size], step.want)
				}
			}
		})
	}
}

func TestNotifyNobody(t *testing.T) {
	n := control.NewNotifier(env(nil))
	if err := n.Ready(); err != nil {
		t.Errorf("no NOTIFY_SOCKET: %v", err)
	}
	for _, socket := range []string{"relative", "vsock:2:1234", filepath.Join(shortDir(t), "missing")} {
		if err := control.NewNotifier(env(map[string]string{"NOTIFY_SOCKET": socket})).Ready(); err == nil {
			t.Errorf("%s: want an error", socket)
		}
	}
}

func TestWatchdog(t *testing.T) {
	own, other := strconv.Itoa(os.Getpid()), strconv.Itoa(os.Getpid()+1)
	for name, test := range map[string]struct {
		usec, pid, socket string
		want              time.Duration
	}{
		"set":             {"30000000", own, "/run/x", 30 * time.Second},
		"for whoever":     {"1500", "", "/run/x", 1500 * time.Microsecond},
		"for another":     {"30000000", other, "/run/x", 0},
		"nobody to tell":  {"30000000", own, "", 0},
		"unset":           {"", "", "/run/x", 0},
		"garbage":         {"soon", own, "/run/x", 0},
		"negative":        {"-5", own, "/run/x", 0},
		"longer than all": {"9223372036854775807", own, "/run/x", 0},
	} {
		t.Run(name, func(t *testing.T) {
			n := control.NewNotifier(env(map[string]string{"WATCHDOG_USEC": test.usec, "WATCHDOG_PID": test.pid, "NOTIFY_SOCKET": test.socket}))
			if got := n.Watchdog(); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
