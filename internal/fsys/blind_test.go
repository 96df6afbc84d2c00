package fsys

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

// deaf is a system that tells what the test makes it tell.
type deaf struct {
	mu   sync.Mutex
	dirs []string
	err  error // of Add

	told     chan fsnotify.Event
	problems chan error
}

func newDeaf() *deaf {
	return &deaf{told: make(chan fsnotify.Event), problems: make(chan error)}
}

func (d *deaf) Add(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.dirs = append(d.dirs, dir)
	}
	return d.err
}

func (d *deaf) Remove(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dirs = slices.DeleteFunc(d.dirs, func(have string) bool { return have == dir })
	return nil
}

func (d *deaf) WatchList() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.dirs)
}

func (d *deaf) Close() error {
	close(d.told)
	close(d.problems)
	return nil
}

func (d *deaf) events() <-chan fsnotify.Event { return d.told }
func (d *deaf) errors() <-chan error          { return d.problems }

func (d *deaf) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

// stage is a Watcher on a deaf system, in the time of the test.
type stage struct {
	path  string
	calls atomic.Int32
	log   bytes.Buffer
}

func newStage(t *testing.T, open func() (notifier, error)) *stage {
	t.Helper()
	s := &stage{path: filepath.Join(t.TempDir(), "conf.json")}
	s.write(t, "0")
	w, err := watch(context.Background(), WatchConfig{
		Files:   []string{s.path},
		Changed: func(context.Context, []string) { s.calls.Add(1) },
		Log:     slog.New(slog.NewTextHandler(&s.log, nil)),
	}, usual, open)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	synctest.Wait()
	return s
}

func (s *stage) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(s.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// after lets time pass and wants so many calls until then.
func (s *stage) after(t *testing.T, d time.Duration, calls int) {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	if got := int(s.calls.Load()); got != calls {
		t.Fatalf("told %d times, want %d", got, calls)
	}
}

func TestWithoutWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDeaf()
		d.fail(syscall.ENOSPC)
		s := newStage(t, func() (notifier, error) { return d, nil })
		for i := range 5 {
			s.write(t, strings.Repeat("x", i+1))
			s.after(t, usual.poll, i+1)
			s.after(t, 3*usual.poll, i+1)
		}
		if n := strings.Count(s.log.String(), "\n"); n != 1 || !strings.Contains(s.log.String(), "no space left") {
			t.Errorf("log: %s", &s.log)
		}
		// Somebody has given watches back.
		d.fail(nil)
		s.after(t, usual.poll, 5)
		if n := strings.Count(s.log.String(), "\n"); n != 2 {
			t.Errorf("log: %s", &s.log)
		}
		s.write(t, "changed")
		d.told <- fsnotify.Event{Name: s.path, Op: fsnotify.Write}
		s.after(t, usual.quiet, 6)
	})
}

func TestWithoutSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var opened []*deaf
		var fail atomic.Bool
		fail.Store(true)
		s := newStage(t, func() (notifier, error) {
			if fail.Load() {
				return nil, errors.New("too many open files")
			}
			opened = append(opened, newDeaf())
			return opened[len(opened)-1], nil
		})
		s.write(t, "1")
		s.after(t, usual.poll, 1)
		fail.Store(false)
		s.after(t, usual.poll, 1)
		if len(opened) != 1 || len(opened[0].dirs) != 1 {
			t.Fatalf("opened %v", opened)
		}
		if n := strings.Count(s.log.String(), "\n"); n != 2 {
			t.Errorf("log: %s", &s.log)
		}
	})
}

func TestSilentSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, func() (notifier, error) { return newDeaf(), nil })
		s.write(t, "changed")
		s.after(t, usual.idle, 1)
	})
}

func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDeaf()
		s := newStage(t, func() (notifier, error) { return d, nil })
		event := fsnotify.Event{Name: s.path, Op: fsnotify.Write}
		s.write(t, "half")
		d.told <- event
		s.after(t, usual.quiet-1, 0)
		s.write(t, "whole")
		d.told <- event
		s.after(t, usual.quiet-1, 0)
		s.after(t, 1, 1)

		// Events that do not end.
		s.write(t, "again")
		for step := usual.quiet / 2; step <= usual.most; step += usual.quiet / 2 {
			d.told <- event
			if step < usual.most {
				s.after(t, usual.quiet/2, 1)
			}
		}
		s.after(t, usual.quiet/2, 2)

		// Lost events, and those of others.
		s.write(t, "once more")
		d.told <- fsnotify.Event{Name: s.path + "-wal", Op: fsnotify.Write}
		s.after(t, 2*usual.most, 2)
		d.problems <- fsnotify.ErrEventOverflow
		s.after(t, usual.quiet, 3)
	})
}
