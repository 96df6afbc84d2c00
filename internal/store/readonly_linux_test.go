package store_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"mrci.dev/mrci/internal/store"
)

// nobodyUID is an account without rights on every Linux system.
const nobodyUID = 65534

// A database that this account may not write, or not read, is refused at open.
func TestOpenWithoutRights(t *testing.T) {
	for _, tt := range []struct {
		name            string
		fileMode, below os.FileMode
	}{
		{"file read-only", 0o444, 0o777},
		{"file not readable", 0o000, 0o777},
		{"directory read-only", 0o666, 0o555},
		{"directory closed", 0o666, 0o000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // the way there is not the point
				t.Fatal(err)
			}
			path := filepath.Join(dir, "data.db")
			open(t, path).Close()
			for name, mode := range map[string]os.FileMode{path: tt.fileMode, dir: tt.below} {
				if err := os.Chmod(name, mode); err != nil {
					t.Fatal(err)
				}
			}
			defer os.Chmod(dir, 0o700) // for the clean-up of the test
			asNobody(t)
			s, err := store.Open(ctx, store.Config{Path: path})
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			text := err.Error()
			if !strings.Contains(text, path) || !strings.Contains(text, "writable for this account") || strings.Contains(text, "\n") {
				t.Errorf("got %q", text)
			}
			t.Log(text)
		})
	}
}

// asNobody takes root's rights over files away from this test, which root's
// tests need; opening happens on the calling thread. Others have none anyway.
func asNobody(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	runtime.LockOSThread()
	if err := syscall.Setfsuid(nobodyUID); err != nil {
		t.Skipf("cannot act as another account: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Setfsuid(0); err != nil {
			t.Fatal(err) // the thread stays locked and ends with the goroutine
		}
		runtime.UnlockOSThread()
	})
}
