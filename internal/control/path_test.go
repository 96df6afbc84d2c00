package control_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"mrci.dev/mrci/internal/control"
)

func TestSocketPath(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the paths here are those of Unix")
	}
	of := func(n int) string { return "/" + strings.Repeat("d", n-1) } // a path of n bytes
	const name = "/control.sock"
	tests := map[string]struct {
		goos         string
		dir, account string
		want         string // "": an error; ending in *: a hash follows
	}{
		"usual":              {"linux", "/run/mrci", "/run/mrci", "/run/mrci/control.sock"},
		"longest":            {"linux", of(107 - len(name)), "/run/mrci", of(107-len(name)) + name},
		"too long":           {"linux", of(108 - len(name)), "/run/mrci", "/run/mrci/*"},
		"longest on macOS":   {"darwin", of(103 - len(name)), "/run/mrci", of(103-len(name)) + name},
		"too long on macOS":  {"darwin", of(104 - len(name)), "/run/mrci", "/run/mrci/*"},
		"both too long":      {"linux", of(200), of(100), ""},
		"itself too long":    {"linux", of(200), of(200), ""},
		"account, just fits": {"linux", of(200), of(107 - len("/01234567890123456789.sock")), of(107-len("/01234567890123456789.sock")) + "/*"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := control.PathOn(test.goos, test.dir, test.account)
			prefix, hashed := strings.CutSuffix(test.want, "*")
			switch {
			case test.want == "":
				if err == nil || !strings.Contains(err.Error(), "too long") || !strings.Contains(err.Error(), "--dir") {
					t.Errorf("got %q, %v; want an error that tells what to do", got, err)
				}
			case err != nil:
				t.Error(err)
			case hashed && (!strings.HasPrefix(got, prefix) || len(got) != len(prefix)+20+len(".sock")):
				t.Errorf("got %q, want a hash in %q", got, prefix)
			case !hashed && got != test.want:
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestSocketPathNames: host and client agree though they name the directory
// differently, and other directories have other sockets.
func TestSocketPathNames(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a privilege there")
	}
	base := shortDir(t)
	long := filepath.Join(base, strings.Repeat("d", 100))
	other := filepath.Join(base, strings.Repeat("e", 100))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	alias := filepath.Join(base, strings.Repeat("a", 100))
	if err := os.Symlink(long, alias); err != nil {
		t.Fatal(err)
	}
	path := func(dir string) string {
		p, err := control.SocketPath(dir, base)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if a, b := path(long), path(alias+"/"); a != b {
		t.Errorf("%q by its name, %q by a link", a, b)
	}
	if a, b := path(long), path(other); a == b {
		t.Errorf("two directories have one socket, %q", a)
	}
}
