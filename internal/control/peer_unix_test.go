//go:build unix

package control_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"mrci.dev/mrci/internal/control"
)

// TestOtherAccount has a process of another account connect, to which the
// test opens directory and socket.
func TestOtherAccount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to start a process of another account")
	}
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc to start the test's own program")
	}
	s := start(t, control.Config{}, echo)
	as := func(uid uint32) string {
		cmd := exec.Command("/proc/self/exe", s.Path()) // not by its path, which others cannot enter
		cmd.Env = []string{quickExit, childEnv + "=call"}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("as %d: %v\n%s", uid, err, out)
		}
		return string(out)
	}
	if got := as(12345); !strings.Contains(got, "no permission") {
		t.Errorf("closed directory: got %q, want no permission", got)
	}
	for path, mode := range map[string]os.FileMode{
		s.Path(): 0o666, filepath.Dir(s.Path()): 0o755, filepath.Dir(filepath.Dir(s.Path())): 0o755,
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if got := as(12345); !strings.Contains(got, "status 1") || !strings.Contains(got, "you are uid 12345") {
		t.Errorf("another account: got %q, want a refusal", got)
	}
	if got := as(0); !strings.Contains(got, "status 0") {
		t.Errorf("own account: got %q, want an answer", got)
	}
	if log := s.log.String(); !strings.Contains(log, "uid=12345") {
		t.Errorf("log: %q, want the uid", log)
	}
}
