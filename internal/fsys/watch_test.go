package fsys_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mrci.dev/mrci/internal/fsys"
)

// patience is far beyond what the slowest machine needs.
const patience = time.Minute

// told is what a Watcher tells.
type told struct {
	*fsys.Watcher
	files chan []string
}

func watch(t *testing.T, files ...string) told {
	t.Helper()
	w := told{files: make(chan []string, 100)}
	var err error
	w.Watcher, err = fsys.Watch(t.Context(), fsys.WatchConfig{
		Files:   files,
		Changed: func(_ context.Context, files []string) { w.files <- files },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// want waits until all the files have been told, and fails if another one is.
func (w told) want(t *testing.T, files ...string) {
	t.Helper()
	missing := slices.Clone(files)
	deadline := time.After(patience)
	for len(missing) > 0 {
		select {
		case got := <-w.files:
			for _, file := range got {
				if !slices.Contains(files, file) {
					t.Fatalf("told of %s, want %s only", file, files)
				}
				missing = slices.DeleteFunc(missing, func(m string) bool { return m == file })
			}
		case <-deadline:
			t.Fatalf("not told of %s", missing)
		}
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace is put in one step, which nobody can see the half of.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := fsys.Replace(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Skip("no symbolic links here:", err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestWatchFile(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "conf.json"), filepath.Join(dir, "other")
	put(t, path, "1")
	w := watch(t, path)

	put(t, path, "2")
	w.want(t, path)
	put(t, path, "3") // of the same length
	w.want(t, path)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("more"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	w.want(t, path)

	put(t, other, "4")
	rename(t, other, path)
	w.want(t, path)
	put(t, path, "5") // the new file is watched like the old one
	w.want(t, path)

	remove(t, path)
	w.want(t, path)
	put(t, path, "6")
	w.want(t, path)

	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	w.want(t, path)
}

func TestWatchUnrelatedFiles(t *testing.T) {
	dir := t.TempDir()
	path, mark := filepath.Join(dir, "conf.json"), filepath.Join(dir, "mark")
	put(t, path, "1")
	w := watch(t, path, mark)
	for i := range 100 {
		put(t, filepath.Join(dir, "data.db-wal"), strconv.Itoa(i))
		put(t, filepath.Join(dir, fmt.Sprintf("conf.json.%d", i)), "x")
	}
	if err := os.Chmod(path, 0o640); err != nil { // not a change of what can be read
		t.Fatal(err)
	}
	mkdir(t, filepath.Join(dir, "sub"))
	put(t, filepath.Join(dir, "sub", "conf.json"), "x")
	put(t, mark, "x")
	w.want(t, mark)
}

// As Kubernetes does it: conf.json -> ..data/conf.json, ..data -> ..1, and a
// change is another ..data.
func TestWatchSwappedLink(t *testing.T) {
	dir := t.TempDir()
	at := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	for _, version := range []string{"..1", "..2"} {
		mkdir(t, at(version))
		put(t, at(version, "conf.json"), "the same")
		put(t, at(version, "key.pem"), "the same")
	}
	link(t, "..1", at("..data"))
	link(t, filepath.Join("..data", "conf.json"), at("conf.json"))
	link(t, filepath.Join("..data", "key.pem"), at("key.pem"))
	mark := at("mark")
	w := watch(t, at("conf.json"), at("key.pem"), mark)

	put(t, at("..1", "conf.json"), "another")
	w.want(t, at("conf.json"))
	link(t, "..2", at("..data_tmp"))
	rename(t, at("..data_tmp"), at("..data"))
	w.want(t, at("conf.json"), at("key.pem"))
	put(t, at("..1", "key.pem"), "nobody's any more")
	remove(t, at("..1"))
	put(t, mark, "x")
	w.want(t, mark)
	put(t, at("..2", "key.pem"), "another")
	w.want(t, at("key.pem"))
	remove(t, at("..2"))
	w.want(t, at("conf.json"), at("key.pem"))
	mkdir(t, at("..2"))
	put(t, at("..2", "key.pem"), "again")
	w.want(t, at("key.pem"))
}

// As certbot does it: live/x.pem is a link to a file in another directory.
func TestWatchLinkElsewhere(t *testing.T) {
	dir := t.TempDir()
	live, archive := filepath.Join(dir, "live"), filepath.Join(dir, "archive")
	mkdir(t, live)
	mkdir(t, archive)
	put(t, filepath.Join(archive, "1.pem"), "x")
	path := filepath.Join(live, "x.pem")
	link(t, filepath.Join("..", "archive", "1.pem"), path)
	// The directory itself is reached by a link too.
	link(t, live, filepath.Join(dir, "current"))
	path = filepath.Join(dir, "current", "x.pem")
	w := watch(t, path)

	put(t, filepath.Join(archive, "1.pem"), "y")
	w.want(t, path)
	put(t, filepath.Join(archive, "2.pem"), "y")
	link(t, filepath.Join(archive, "2.pem"), filepath.Join(live, "new"))
	rename(t, filepath.Join(live, "new"), filepath.Join(live, "x.pem"))
	w.want(t, path)
	put(t, filepath.Join(archive, "2.pem"), "z")
	w.want(t, path)
	next := filepath.Join(dir, "next")
	mkdir(t, next)
	put(t, filepath.Join(next, "x.pem"), "z")
	remove(t, filepath.Join(dir, "current"))
	link(t, next, filepath.Join(dir, "current"))
	w.want(t, path)

	// Links in a circle are a file that is not there.
	remove(t, filepath.Join(next, "x.pem"))
	link(t, "x.pem", filepath.Join(next, "x.pem"))
	w.want(t, path)
	remove(t, filepath.Join(next, "x.pem"))
	put(t, filepath.Join(next, "x.pem"), "end")
	w.want(t, path)
}

func TestWatchDirectoryRecreated(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "a", "b")
	path := filepath.Join(dir, "conf.json")
	w := watch(t, path) // nothing of it is there yet
	for range 3 {
		mkdir(t, dir)
		put(t, path, "1")
		w.want(t, path)
		put(t, path, "2")
		w.want(t, path)
		remove(t, filepath.Join(top, "a"))
		w.want(t, path)
	}

	// Within one burst of events.
	mkdir(t, dir)
	put(t, path, "3")
	w.want(t, path)
	remove(t, dir)
	mkdir(t, dir)
	put(t, path, "4")
	w.want(t, path)
	put(t, path, "5")
	w.want(t, path)

	// Another directory in its place.
	mkdir(t, filepath.Join(top, "c"))
	put(t, filepath.Join(top, "c", "conf.json"), "6")
	if runtime.GOOS != "windows" { // a watched directory cannot be renamed there
		rename(t, dir, filepath.Join(top, "d"))
		rename(t, filepath.Join(top, "c"), dir)
		w.want(t, path)
		put(t, path, "7")
		w.want(t, path)
	}

	// A file in place of the directory.
	remove(t, dir)
	put(t, dir, "no directory")
	w.want(t, path)
	remove(t, dir)
	mkdir(t, dir)
	put(t, path, "8")
	w.want(t, path)
}

func TestWatchSet(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	mkdir(t, "sub")
	a, b, c := filepath.Join(dir, "a"), "b", filepath.Join(dir, "sub", "c")
	replace(t, a, "1")
	w := watch(t, a)
	replace(t, a, "2")
	w.want(t, a)
	if err := w.Set([]string{b, c, c, filepath.Join(dir, "b")}); err != nil {
		t.Fatal(err)
	}
	replace(t, a, "3")
	replace(t, b, "3")
	w.want(t, b) // by the name that was given
	replace(t, c, "3")
	w.want(t, c)
	if err := w.Set([]string{c, ""}); err == nil {
		t.Error("Set took an empty name")
	}
	if err := w.Set([]string{a, c}); err != nil {
		t.Fatal(err)
	}
	replace(t, a, "4")
	w.want(t, a)
	if err := w.Set(nil); err != nil {
		t.Fatal(err)
	}
	replace(t, a, "5")
	if err := w.Set([]string{a, c}); err != nil { // as it is now
		t.Fatal(err)
	}
	replace(t, c, "6")
	w.want(t, c)
}

// A reload names other files while it is told.
func TestWatchSetWhileTold(t *testing.T) {
	dir := t.TempDir()
	var w *fsys.Watcher
	ready, files := make(chan struct{}), make(chan []string, 10)
	name := func(i int) string { return filepath.Join(dir, strconv.Itoa(i)) }
	i := 0
	w, err := fsys.Watch(t.Context(), fsys.WatchConfig{Files: []string{name(0)}, Changed: func(_ context.Context, changed []string) {
		<-ready
		i++
		if err := w.Set([]string{name(i)}); err != nil {
			t.Error(err)
		}
		files <- changed
	}})
	if err != nil {
		t.Fatal(err)
	}
	close(ready)
	defer w.Close()
	for i := range 4 {
		put(t, name(i), "x")
		select {
		case got := <-files:
			if !slices.Equal(got, []string{name(i)}) {
				t.Fatalf("told of %s, want %s", got, name(i))
			}
		case <-time.After(patience):
			t.Fatalf("not told of %s", name(i))
		}
	}
}

func TestWatchBurst(t *testing.T) {
	const writes = 10_000
	path := filepath.Join(t.TempDir(), "conf.json")
	put(t, path, "0")
	texts := make(chan string, writes)
	began := time.Now()
	w, err := fsys.Watch(t.Context(), fsys.WatchConfig{Files: []string{path}, Changed: func(context.Context, []string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		texts <- string(text)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i := range writes {
		put(t, path, strconv.Itoa(i+1))
	}
	calls := 0
	for text := ""; text != strconv.Itoa(writes); calls++ {
		select {
		case text = <-texts:
		case <-time.After(patience):
			t.Fatalf("told of %q in the end", text)
		}
	}
	// Each look waits until 200 ms have passed without an event, or 2 s.
	if most := int(time.Since(began)/(200*time.Millisecond)) + 1; calls > most {
		t.Errorf("%d writes were told %d times, want %d at most", writes, calls, most)
	}
	t.Logf("%d writes in %v: told %d times", writes, time.Since(began).Round(time.Millisecond), calls)
}

func TestWatchCloseDuringEvents(t *testing.T) {
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	for round := range 6 {
		var closed atomic.Bool
		called := make(chan struct{}, 1)
		w, err := fsys.Watch(t.Context(), fsys.WatchConfig{Files: files, Changed: func(ctx context.Context, _ []string) {
			select {
			case called <- struct{}{}:
			default:
			}
			<-ctx.Done() // Close waits, and says so
			if closed.Load() {
				t.Error("Close did not wait")
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		var writer sync.WaitGroup
		writer.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := os.WriteFile(files[i%2], []byte(strconv.Itoa(i)), 0o600); err != nil {
					t.Error(err)
					return
				}
			}
		})
		if round%2 == 0 { // within a call
			select {
			case <-called:
			case <-time.After(patience):
				t.Error("not told of anything")
			}
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		closed.Store(true)
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		close(stop)
		writer.Wait()
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w, err := fsys.Watch(ctx, fsys.WatchConfig{Files: []string{t.TempDir()}, Changed: func(context.Context, []string) {}})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if _, err := fsys.Watch(t.Context(), fsys.WatchConfig{Files: []string{"x"}}); err == nil {
		t.Error("a Watcher that tells nobody")
	}
}
