package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestImports holds the module against the rules, on every system that it is
// built for: files of one system have imports that others do not.
func TestImports(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		t.Run(goos, func(t *testing.T) {
			t.Parallel()
			for _, line := range breaches(listPackages(t, goos)) {
				t.Error(line)
			}
		})
	}
}

// listPackages asks the go command for the packages of the module and all that
// they stand on.
func listPackages(t *testing.T, goos string) map[string]pkg {
	t.Helper()
	// -e: what does not compile is reported by the compiler, not here.
	cmd := exec.Command("go", "list", "-e", "-deps", "-json=ImportPath,Standard,Imports", "./...")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &problems)
	}
	pkgs := make(map[string]pkg)
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		pkgs[p.ImportPath] = p
	}
	if _, ok := pkgs[module+"/wire"]; !ok {
		t.Fatalf("go list names %d packages, but not wire\n%s", len(pkgs), &problems)
	}
	return pkgs
}

// TestRules breaks each rule once: a rule that cannot fail guards nothing.
func TestRules(t *testing.T) {
	tests := map[string]struct {
		imports map[string]string // package, and what it imports
		want    string            // part of a breach; empty: there is none
	}{
		"downwards":                  {map[string]string{"internal/session": "fmt internal/registry internal/access wire"}, ""},
		"upwards":                    {map[string]string{"internal/access": "internal/store"}, "imports point downwards only"},
		"sideways":                   {map[string]string{"internal/conn": "internal/bus"}, "both of layer 3"},
		"parent and child":           {map[string]string{"internal/builtin": "internal/builtin/files", "internal/bus/bustest": "internal/bus"}, ""},
		"children of one parent":     {map[string]string{"internal/builtin/files": "internal/builtin/peers"}, "both of layer 5"},
		"child above its parent":     {map[string]string{"wire": "wire/legacy"}, "imports point downwards only"},
		"unknown package":            {map[string]string{"internal/util": "fmt"}, "internal/util has no layer"},
		"not part of the program":    {map[string]string{"internal/archtest": "os/exec"}, ""},
		"public on the library":      {map[string]string{"client": "net wire internal/genfile"}, ""},
		"public on a dependency":     {map[string]string{"client": "internal/genfile", "internal/genfile": "golang.org/x/text/width"}, "client depends on golang.org/x/text/width"},
		"public on the host":         {map[string]string{"module/moduletest": "internal/limit"}, "module/moduletest depends on internal/limit"},
		"public child on its parent": {map[string]string{"module/moduletest": "module wire"}, ""},
		"SQL":                        {map[string]string{"internal/session": "database/sql"}, "which only internal/store may"},
		"SQL driver":                 {map[string]string{"internal/host": "modernc.org/sqlite"}, "drivers' errors end at the store"},
		"SQL in the store":           {map[string]string{"internal/store/storetest": "database/sql github.com/pressly/goose/v3"}, ""},
		"processes":                  {map[string]string{"internal/instance": "os/exec"}, "who starts a process"},
		"processes of the benchmark": {map[string]string{"internal/bench": "os/exec client wire"}, ""},
		"signals":                    {map[string]string{"internal/host": "os/signal"}, "a signal is for the whole program"},
		"signals in a command":       {map[string]string{"cmd/mrci": "os/signal"}, ""},
		"system calls":               {map[string]string{"internal/cert": "syscall"}, "system calls differ"},
		"more system calls":          {map[string]string{"internal/store": "golang.org/x/sys/unix"}, "system calls differ"},
		"system calls, their place":  {map[string]string{"internal/fsys": "golang.org/x/sys/unix syscall"}, ""},
		"byte order":                 {map[string]string{"internal/session": "encoding/binary"}, "byte order"},
		"byte order below wire":      {map[string]string{"wire/legacy": "encoding/binary wire"}, ""},
		"dependency of a rule":       {map[string]string{"internal/access": "github.com/some/thing"}, "below layer 3"},
		"golang.org/x in a rule":     {map[string]string{"internal/account": "golang.org/x/crypto/argon2"}, ""},
		"fsnotify in fsys":           {map[string]string{"internal/fsys": "github.com/fsnotify/fsnotify"}, ""},
		"fsnotify in a rule":         {map[string]string{"internal/conf": "github.com/fsnotify/fsnotify"}, "below layer 3"},
		"fsnotify above":             {map[string]string{"internal/host": "github.com/fsnotify/fsnotify"}, "one watcher for all files"},
		"dependency above":           {map[string]string{"cmd/mrci": "github.com/alecthomas/kong"}, ""},
		"example":                    {map[string]string{"examples/echo": "module wire"}, ""},
		"example of the inside":      {map[string]string{"examples/echo": "internal/store"}, "third parties"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pkgs := make(map[string]pkg)
			for from, imports := range test.imports {
				p := pkg{ImportPath: module + "/" + from}
				for _, to := range strings.Fields(imports) {
					if _, known := layerOf(to); known {
						to = module + "/" + to
					} else if first, _, _ := strings.Cut(to, "/"); !strings.Contains(first, ".") {
						pkgs[to] = pkg{ImportPath: to, Standard: true}
					}
					p.Imports = append(p.Imports, to)
				}
				pkgs[p.ImportPath] = p
			}
			got := breaches(pkgs)
			switch {
			case test.want == "" && len(got) > 0:
				t.Errorf("breaches: %q, want none", got)
			case !strings.Contains(strings.Join(got, "\n"), test.want):
				t.Errorf("breaches: %q, want one with %q", got, test.want)
			}
		})
	}
}
