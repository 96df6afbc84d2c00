package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The file in place of another has a call before every statement, and none
// where no statement may stand.
func TestHeld(t *testing.T) {
	const src = `package p

func f(c chan int) int {
	defer func() { <-c }()
loop:
	for i := 0; ; i++ {
		switch x := i; {
		case x > 1:
			break loop
		}
		select {
		case <-c:
		default:
			c <- i; c <- i
		}
	}
	if c == nil { return 0 } else if len(c) > 0 {
		return 1
	}
	return 2
}
`
	const want = `package p

func f(c chan int) int {
	H; defer func() { H; <-c }()
H; loop:
	for i := 0; ; i++ {
		H; switch x := i; {
		case x > 1:
			H; break loop
		}
		H; select {
		case <-c:
		default:
			H; c <- i; H; c <- i
		}
	}
	H; if c == nil { H; return 0 } else if len(c) > 0 {
		H; return 1
	}
	H; return 2
}
`
	name, text, err := held("p.go", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.ReplaceAll(string(text), "preemptHoldUp();", "H;"); name != "p" || got != want {
		t.Errorf("package %s:\n%s\nwant\n%s", name, got, want)
	}
	if _, _, err := held("p.go", []byte("package p\nfunc {")); err == nil {
		t.Error("a file that does not parse gives no error")
	}
}

// A module passes its tests with the overlay, though all is held up.
func TestOverlay(t *testing.T) {
	module, out := t.TempDir(), filepath.Join(t.TempDir(), "new")
	for path, text := range map[string]string{
		"go.mod":               "module example.org/m\n\ngo 1.26\n",
		"m.go":                 "package m\n\nfunc one() int { return 1 }\n",
		"m_test.go":            "package m\n\nimport \"testing\"\n\nfunc TestOne(t *testing.T) {\n\tif one() != 1 {\n\t\tt.Error(one())\n\t}\n}\n",
		"x_test.go":            "package m_test\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) { t.Log() }\n",
		"only/only_test.go":    "package only\n\nimport \"testing\"\n\nfunc TestOnly(t *testing.T) { t.Log() }\n",
		"testdata/not.go":      "this is no Go",
		".hidden/not.go":       "this is no Go",
		"another/go.mod":       "module example.org/another\n",
		"another/not.go":       "this is no Go",
		"command/main.go":      "package main\n\nfunc main() { println() }\n",
		"command/main_test.go": "package main\n\nimport \"testing\"\n\nfunc TestMain(m *testing.M) { main(); m.Run() }\n",
	} {
		path = filepath.Join(module, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := run(module, out); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(out, "overlay.json")
	var o overlay
	if text, err := os.ReadFile(file); err != nil || json.Unmarshal(text, &o) != nil || len(o.Replace) != 6+4 {
		t.Fatalf("%v, %s", err, text)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay", file, "./...")
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "PREEMPT_ODDS=1", "PREEMPT_HOLD=1ms")
	if text, err := cmd.CombinedOutput(); err != nil || strings.Count(string(text), "ok ") != 3 {
		t.Errorf("%v\n%s", err, text)
	}
}
