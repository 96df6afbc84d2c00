// Command preempt writes an overlay for the go command in which every statement
// of a module's code and tests may be held up at random, as by a busy machine.
// Tests that pass only because one goroutine is usually quicker than another
// fail with it: in minutes, instead of once a month. Nothing of the module is
// changed.
//
//	preempt -root MODULE -out DIR
//	PREEMPT_ODDS=2000 PREEMPT_HOLD=10ms go test -overlay DIR/overlay.json ./...
//
// Then one statement in 2,000 waits for up to 10 ms; without PREEMPT_ODDS none
// does. With GOFLAGS=-overlay=DIR/overlay.json the programs that tests build are
// held up, too. It needs a system that has nanosleep: not Windows.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	root := flag.String("root", ".", "folder of the module")
	out := flag.String("out", "", "folder for the overlay and its files; required")
	flag.Parse()
	if *out == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*root, *out); err != nil {
		fmt.Fprintln(os.Stderr, "preempt:", err)
		os.Exit(1)
	}
}

// run writes the overlay of the module at root, overlay.json, to out.
func run(root, out string) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o777); err != nil {
		return err
	}
	o := overlay{out: out, Replace: make(map[string]string)}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && foreign(path):
			return fs.SkipDir
		case d.IsDir():
			return o.addFolder(path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "overlay.json"), text, 0o666)
}

// foreign reports whether a folder holds no code of the module.
func foreign(dir string) bool {
	name := filepath.Base(dir)
	if name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return !errors.Is(err, fs.ErrNotExist)
}

// overlay is the file that the go command reads (go help build, -overlay).
type overlay struct {
	Replace map[string]string // path of a file to what is read in its place
	out     string
}

// add puts text in place of a file.
func (o *overlay) add(path string, text []byte) error {
	to := filepath.Join(o.out, fmt.Sprintf("%04d_%s", len(o.Replace), filepath.Base(path)))
	o.Replace[path] = to
	return os.WriteFile(to, text, 0o666)
}

// addFolder adds the Go files of a folder, and for each of its packages a file
// with the function that holds up.
func (o *overlay) addFolder(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return err
	}
	packages := make(map[string]bool) // whether all files are tests
	for _, path := range paths {
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, text, err := held(path, src)
		if err != nil {
			return err
		}
		if err := o.add(path, text); err != nil {
			return err
		}
		tests, known := packages[name]
		packages[name] = strings.HasSuffix(path, "_test.go") && (tests || !known)
	}
	for name, tests := range packages {
		file := "preempt_" + name + "_in" // what ends with a name alone may be for one system
		if tests {
			file += "_test"
		}
		if err := o.add(filepath.Join(dir, file+".go"), []byte("package "+name+"\n"+holdUp)); err != nil {
			return err
		}
	}
	return nil
}

// held returns a file in which every statement of a block may be held up, and
// the name of its package. The lines stay what they are.
func held(path string, src []byte) (name string, text []byte, err error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, src, parser.SkipObjectResolution)
	if err != nil {
		return "", nil, err
	}
	var at []int // offsets of the statements
	add := func(list []ast.Stmt) {
		for _, s := range list {
			switch s.(type) {
			case *ast.EmptyStmt, *ast.CaseClause, *ast.CommClause: // not where a statement may stand
			default:
				at = append(at, files.Position(s.Pos()).Offset)
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BlockStmt:
			add(n.List)
		case *ast.CaseClause:
			add(n.Body)
		case *ast.CommClause:
			add(n.Body)
		}
		return true
	})
	slices.Sort(at)
	from := 0
	for _, to := range at {
		text = append(text, src[from:to]...)
		text = append(text, "preemptHoldUp(); "...)
		from = to
	}
	return file.Name.Name, append(text, src[from:]...), nil
}

// holdUp sleeps in the system, not in package time: below a fake clock
// (testing/synctest) no time passes by it, and it may hold locks.
const holdUp = `
import (
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"time"
)

var (
	preemptOdds, _ = strconv.ParseUint(os.Getenv("PREEMPT_ODDS"), 10, 32)
	preemptHold, _ = time.ParseDuration(os.Getenv("PREEMPT_HOLD"))
)

func preemptHoldUp() {
	if preemptOdds == 0 || preemptHold <= 0 || rand.Uint64N(preemptOdds) != 0 {
		return
	}
	for d := syscall.NsecToTimespec(rand.Int64N(int64(preemptHold))); ; {
		if syscall.Nanosleep(&d, &d) != syscall.EINTR {
			return
		}
	}
}
`
