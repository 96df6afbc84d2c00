package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// module is the path of this module; the tables name packages without it.
const module = "mrci.dev/mrci"

// layers are the packages, lowest layer first. A package imports packages of
// lower layers only; the one exception is a parent and its children. A child
// that is not named stands in the layer of its parent.
var layers = [][]string{
	0: {"wire"},
	1: {"wire/legacy", "wire/ipc", "internal/genfile", "internal/shmem", "internal/fsys", "internal/names", "internal/access"},
	2: {"client", "module", "internal/account", "internal/channel", "internal/conf", "internal/limit", "internal/cert", "internal/bench/raw"},
	3: {"internal/conn", "internal/bus", "internal/store", "internal/proc", "internal/mail", "internal/control", "internal/tui", "internal/execmod"},
	4: {"internal/registry", "internal/instance", "internal/backup", "internal/hub"},
	5: {"internal/session", "internal/builtin", "internal/cluster", "internal/web"},
	6: {"internal/host", "internal/bench"},
	7: {"cmd", "examples", "e2e"},
}

// public are the packages for third parties, with their children. They may
// have nothing below them but the standard library and packages of layers 0
// and 1 (and their own parent).
var public = []string{"wire", "client", "module"}

// noLayer are packages that are no part of the program.
var noLayer = []string{"internal/archtest"}

// confined are imports that have a place, with the reason. A path stands for
// itself and all below it.
var confined = []struct {
	imports []string
	only    []string
	why     string
}{
	{
		imports: []string{"database/sql", "modernc.org/sqlite", "github.com/pressly/goose", "github.com/jackc/pgx"},
		only:    []string{"internal/store"},
		why:     "the rest of the program speaks of users and channels, not of rows; drivers' errors end at the store",
	},
	{
		imports: []string{"os/exec"},
		only: []string{
			"internal/proc", "internal/mail",
			"internal/execmod", // runs on the module's side, where starting an executable is its purpose
			"internal/bench",   // starts the program itself: a host to measure, and floors on cores of their own
			"internal/control", // starts the program itself, to run in the background
		},
		why: "who starts a process answers for its group, its output and its end, and for what a user's text may reach",
	},
	{
		imports: []string{"os/signal"},
		only:    []string{"cmd"},
		why:     "a signal is for the whole program; packages are stopped through their context",
	},
	{
		imports: []string{"syscall", "golang.org/x/sys"},
		only: []string{
			"internal/proc", "internal/shmem", "internal/fsys", "internal/control", "internal/conn",
			"internal/mail", // ends the mail command with all that it has started
			"cmd",           // the names of signals are there
			"client",        // an option of its sockets
		},
		why: "system calls differ between Linux, macOS and Windows; each of these packages hides them behind files of its own",
	},
	{
		imports: []string{"encoding/binary"},
		only:    []string{"wire", "internal/shmem"},
		why:     "byte order is a matter of the protocol; above wire there are values",
	},
	{
		imports: []string{"github.com/fsnotify/fsnotify"},
		only:    []string{"internal/fsys"},
		why:     "one watcher for all files that a running host reads again: events alone do not tell that a file has changed",
	},
}

// Below this layer only the dependencies in lowDeps are allowed.
const freeLayer = 3

// lowDeps are the dependencies of packages below freeLayer, and who may have
// them; no name means everybody there.
var lowDeps = []struct {
	path string
	only []string
}{
	{path: "golang.org/x"},
	{path: "github.com/fsnotify/fsnotify", only: []string{"internal/fsys"}},
}

// pkg is what the rules look at: a package and what it imports, tests excepted.
type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

// breaches returns a line for every import that breaks a rule, sorted.
func breaches(pkgs map[string]pkg) []string {
	found := make(map[string]bool)
	breach := func(format string, args ...any) { found[fmt.Sprintf(format, args...)] = true }
	for path, p := range pkgs {
		name, ours := ownName(path)
		if !ours || within(name, noLayer) {
			continue
		}
		layer, known := layerOf(name)
		if !known {
			breach("%s has no layer: add it to the table in internal/archtest, so that everybody knows who may import it", name)
			continue
		}
		for _, imported := range p.Imports {
			for _, rule := range confined {
				if within(imported, rule.imports) && !within(name, rule.only) {
					breach("%s imports %s, which only %s may: %s", name, imported, strings.Join(rule.only, ", "), rule.why)
				}
			}
			below, ours := ownName(imported)
			if !ours {
				if layer < freeLayer && !pkgs[imported].Standard && !lowDep(name, imported) {
					breach("%s imports %s: below layer %d there are no dependencies but golang.org/x (fsnotify in fsys), so that rules can be read and tested without the rest", name, imported, freeLayer)
				}
				continue
			}
			switch other, known := layerOf(below); {
			case !known: // said once, above
			case other > layer:
				breach("%s (layer %d) imports %s (layer %d): imports point downwards only; declare the methods that you call as an interface in your own package", name, layer, below, other)
			case other == layer && !family(name, below):
				breach("%s imports %s, both of layer %d: packages of one layer do not know each other; declare the methods that you call as an interface in your own package", name, below, layer)
			}
			if strings.HasPrefix(name, "examples/") && !within(below, public) {
				breach("%s imports %s: an example shows what third parties can do, and they cannot import it", name, below)
			}
		}
		if within(name, public) {
			for _, dep := range reachable(pkgs, path) {
				below, ours := ownName(dep)
				switch {
				case !ours && !pkgs[dep].Standard:
					breach("%s depends on %s: wire, client and module need only the standard library, so that third parties can use them without the host's dependencies", name, dep)
				case ours:
					if other, _ := layerOf(below); other > 1 && !family(name, below) {
						breach("%s depends on %s (layer %d): wire, client and module stand on layers 0 and 1 only, so that third parties can use them without the host", name, below, other)
					}
				}
			}
		}
	}
	var lines []string
	for line := range found {
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

// ownName is the path without that of the module, and whether the package is
// one of it.
func ownName(path string) (string, bool) { return strings.CutPrefix(path, module+"/") }

// within reports whether the path is one of the places, or below one.
func within(path string, places []string) bool {
	return slices.ContainsFunc(places, func(place string) bool {
		return path == place || strings.HasPrefix(path, place+"/")
	})
}

// layerOf returns the layer of the closest package in the table.
func layerOf(name string) (layer int, known bool) {
	longest := -1
	for n, names := range layers {
		for _, entry := range names {
			if within(name, []string{entry}) && len(entry) > longest {
				layer, known, longest = n, true, len(entry)
			}
		}
	}
	return layer, known
}

// family reports whether one of the two stands below the other.
func family(a, b string) bool {
	return strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}

func lowDep(name, imported string) bool {
	for _, dep := range lowDeps {
		if within(imported, []string{dep.path}) && (dep.only == nil || within(name, dep.only)) {
			return true
		}
	}
	return false
}

// reachable lists all that the package imports, directly or not.
func reachable(pkgs map[string]pkg, path string) []string {
	seen := map[string]bool{path: true}
	all := []string{path}
	for i := 0; i < len(all); i++ {
		for _, imported := range pkgs[all[i]].Imports {
			if !seen[imported] {
				seen[imported] = true
				all = append(all, imported)
			}
		}
	}
	return all[1:]
}
