package fsys_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"mrci.dev/mrci/internal/fsys"
)

func TestCanWrite(t *testing.T) {
	dir := t.TempDir()
	file, readOnly, closed := filepath.Join(dir, "file"), filepath.Join(dir, "read-only"), filepath.Join(dir, "closed")
	put(t, file, "x")
	put(t, readOnly, "x")
	mkdir(t, closed)
	for _, path := range []string{readOnly, closed} {
		if err := os.Chmod(path, 0o500); err != nil {
			t.Fatal(err)
		}
	}
	limited := runtime.GOOS != "windows" && os.Getuid() != 0 // who has to ask
	for _, tt := range []struct {
		name, path string
		want       bool
	}{
		{"a file", file, true},
		{"a new file", filepath.Join(dir, "new"), true},
		{"new directories", filepath.Join(dir, "a", "b", "c"), true},
		{"a directory", dir, false},
		{"below a file", filepath.Join(file, "below"), false},
		{"further below a file", filepath.Join(file, "far", "below"), false},
		{"a read-only file", readOnly, !limited},
		{"a closed directory", filepath.Join(closed, "new"), !limited},
		{"below a closed directory", filepath.Join(closed, "a", "b"), !limited},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := fsys.CanWrite(tt.path); (err == nil) != tt.want {
				t.Errorf("%s: %v, want %v", tt.path, err, tt.want)
			}
		})
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("made something: %v, %v", entries, err)
	}
}
