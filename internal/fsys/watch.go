package fsys

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

// timing is when a Watcher looks at its files.
type timing struct {
	quiet time.Duration // without an event before it looks: a tool writes in several steps
	most  time.Duration // from the first event on, when they do not end
	poll  time.Duration // between looks while the system cannot tell of a change
	idle  time.Duration // between looks otherwise: some network file systems tell nothing
}

var usual = timing{quiet: 200 * time.Millisecond, most: 2 * time.Second, poll: 5 * time.Second, idle: time.Minute}

// arming is how often one look follows links that change meanwhile.
const arming = 8

// WatchConfig says what a Watcher watches and whom it tells.
type WatchConfig struct {
	Files []string // as for Set
	// Changed gets the files, as Files or Set named them, that are not what
	// they were when Changed was called last or, before that, when they were
	// named. It is called by one goroutine, one call at a time; meanwhile
	// changes are gathered. Its context ends with the Watcher.
	Changed func(ctx context.Context, files []string)
	Log     *slog.Logger // nil: silent
}

// Watcher tells when files change: in place, by a rename over them, by a
// symbolic link on the way to them that leads elsewhere, by removal or by
// return. A file that is written again with its old content has changed too;
// other files in its directory never count.
//
// The system tells it about directories; it then waits until they are quiet
// for 200 ms, 2 s at most, and compares what the files are with what they were.
// Where the system cannot tell, because a directory is gone or there are no
// watches left, it looks every 5 s and says so once in the log. Its memory
// depends on the number of files alone.
type Watcher struct {
	// fixed after Watch
	changed func(context.Context, []string)
	log     *slog.Logger
	timing  timing
	open    func() (notifier, error)
	cancel  context.CancelFunc
	running sync.WaitGroup // run, and a pump for each notifier
	dirty   chan struct{}  // capacity 1: something may have changed
	again   chan struct{}  // capacity 1: the list has changed

	names atomic.Pointer[map[string]bool] // base names, folded, and directories that matter; replaced as a whole

	mu    sync.Mutex
	files []*watched // guarded by mu; replaced as a whole

	// owned by run
	notify notifier               // nil: there is none
	pumped *atomic.Bool           // false once its pump has ended
	armed  map[string]fs.FileInfo // directories that notify watches
	blind  string                 // why it has to look every now and then; empty: it need not
}

// watched is one file of the list.
type watched struct {
	name string // as it was given
	path string // absolute
	last state  // owned by run once the file is in the list
}

// notifier is what a Watcher needs of a watcher of package fsnotify.
type notifier interface {
	Add(dir string) error
	Remove(dir string) error
	WatchList() []string
	Close() error
	events() <-chan fsnotify.Event
	errors() <-chan error
}

type systemNotifier struct{ *fsnotify.Watcher }

func (n systemNotifier) events() <-chan fsnotify.Event { return n.Events }
func (n systemNotifier) errors() <-chan error          { return n.Errors }

func openNotifier() (notifier, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	return systemNotifier{w}, nil
}

// Watch starts to watch. Whatever happens to the files after Watch has been
// called is told, so read them afterwards. The Watcher ends with its context or
// by Close.
func Watch(ctx context.Context, cfg WatchConfig) (*Watcher, error) {
	return watch(ctx, cfg, usual, openNotifier)
}

func watch(ctx context.Context, cfg WatchConfig, t timing, open func() (notifier, error)) (*Watcher, error) {
	if cfg.Changed == nil {
		return nil, errors.New("watch files: nobody is to be told")
	}
	w := &Watcher{
		changed: cfg.Changed, log: cfg.Log, timing: t, open: open,
		dirty: make(chan struct{}, 1), again: make(chan struct{}, 1),
		armed: make(map[string]fs.FileInfo),
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.names.Store(new(map[string]bool))
	if err := w.Set(cfg.Files); err != nil {
		return nil, err
	}
	ctx, w.cancel = context.WithCancel(ctx)
	w.running.Go(func() { w.run(ctx) })
	return w, nil
}

// Set replaces the list of files, which need not exist. A file that stays in
// the list keeps what is known of it; of a new one, changes from now on are
// told, so read it afterwards. Set may be called by Changed, and by several
// goroutines; a call of Changed that has begun may still name a file that is no
// longer in the list. After an error the list is as it was.
func (w *Watcher) Set(files []string) error {
	paths := make([]string, len(files))
	for i, name := range files {
		path, err := filepath.Abs(name)
		if name == "" {
			err = errors.New("a name is empty")
		}
		if err != nil {
			return fmt.Errorf("watch files: %w", err)
		}
		paths[i] = path
	}
	w.mu.Lock()
	old := w.files
	w.mu.Unlock()
	var list []*watched
	for i, path := range paths {
		known := func(f *watched) bool { return f.path == path && f.name == files[i] }
		switch at := slices.IndexFunc(old, known); {
		case slices.ContainsFunc(list, func(f *watched) bool { return f.path == path }):
		case at >= 0:
			list = append(list, old[at])
		default:
			list = append(list, &watched{name: files[i], path: path, last: look(path)})
		}
	}
	w.mu.Lock()
	w.files = list
	w.mu.Unlock()
	signal(w.again)
	return nil
}

// Close ends the Watcher and waits until a call of Changed has returned, whose
// context it cancels. It may be called twice, but not by Changed.
func (w *Watcher) Close() error {
	w.cancel()
	w.running.Wait()
	return nil
}

// signal leaves word in a Go channel of capacity 1.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // word is there already
	}
}

func (w *Watcher) run(ctx context.Context) {
	defer w.closeNotifier()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var first time.Time // event since the last look; zero: there was none
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.dirty:
			now := time.Now()
			if first.IsZero() {
				first = now
			}
			timer.Reset(min(w.timing.quiet, first.Add(w.timing.most).Sub(now)))
			continue
		case <-w.again:
		case <-timer.C:
		}
		first = time.Time{}
		if files := w.compare(); len(files) > 0 && ctx.Err() == nil {
			w.changed(ctx, files)
		}
		if w.blind != "" {
			timer.Reset(w.timing.poll)
		} else {
			timer.Reset(w.timing.idle)
		}
	}
}

// compare looks at all files and returns the names of those that have changed.
// Whatever happens behind its back is told by an event: it looks only after the
// directories are being watched.
func (w *Watcher) compare() []string {
	w.mu.Lock()
	files := w.files
	w.mu.Unlock()
	w.arm(files)
	var changed []*watched
	for _, f := range files {
		if now := look(f.path); !now.same(f.last) {
			f.last = now
			changed = append(changed, f)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for _, f := range changed {
		if slices.Contains(w.files, f) { // still
			names = append(names, f.name)
		}
	}
	return names
}

// arm has the system watch every directory on the way to the files.
func (w *Watcher) arm(files []*watched) {
	blind := ""
	for range arming {
		dirs, names := make(map[string]bool), make(map[string]bool)
		blind = ""
		for _, f := range files {
			way := follow(f.path)
			for _, p := range way.places {
				dirs[p.dir], names[p.dir] = true, true
				names[fold(p.name)] = true
			}
			if way.lost != nil {
				blind = way.lost.Error()
			}
		}
		w.names.Store(&names) // before the watches: the first event must find it
		added, err := w.watchDirs(dirs)
		if err != nil {
			blind = err.Error()
		}
		if !added {
			break
		}
		// A link may have changed before its directory was watched.
	}
	switch {
	case blind != "" && w.blind == "":
		w.log.Warn("files cannot be watched; looking at them every few seconds", "err", blind)
	case blind == "" && w.blind != "":
		w.log.Info("files can be watched again")
	}
	w.blind = blind
}

// watchDirs makes the watches those of dirs. It reports whether there is a new
// one, and an error for what is not watched.
func (w *Watcher) watchDirs(dirs map[string]bool) (added bool, err error) {
	if w.notify != nil && !w.pumped.Load() {
		w.closeNotifier()
	}
	if w.notify == nil {
		if w.notify, err = w.open(); err != nil {
			w.notify = nil
			return false, err
		}
		pumped := new(atomic.Bool)
		pumped.Store(true)
		w.pumped = pumped
		notify := w.notify
		w.running.Go(func() {
			defer signal(w.dirty)
			defer pumped.Store(false)
			w.pump(notify)
		})
	}
	// The system forgets directories by itself, and says so too late to rely on.
	kept := w.notify.WatchList()
	for dir, was := range w.armed {
		if !dirs[dir] || !slices.Contains(kept, dir) || !os.SameFile(was, stat(dir)) {
			_ = w.notify.Remove(dir) // it may be gone
			delete(w.armed, dir)
		}
	}
	for dir := range dirs {
		if _, there := w.armed[dir]; there {
			continue
		}
		now := stat(dir)
		if addErr := w.notify.Add(dir); addErr != nil {
			err = fmt.Errorf("watch %s: %w", dir, addErr)
			continue
		}
		w.armed[dir] = now
		added = true
	}
	return added, err
}

// pump takes what a notifier says for as long as it lives. It never waits for
// run: a notifier can hold a lock that its other methods need while nobody
// takes its errors.
func (w *Watcher) pump(n notifier) {
	events, problems := n.events(), n.errors()
	for events != nil && problems != nil {
		select {
		case e, ok := <-events:
			if !ok {
				events = nil
			} else if names := *w.names.Load(); names[fold(filepath.Base(e.Name))] || names[e.Name] {
				signal(w.dirty)
			}
		case _, ok := <-problems:
			// Mostly that events were lost: look.
			if !ok {
				problems = nil
			}
			signal(w.dirty)
		}
	}
}

func (w *Watcher) closeNotifier() {
	if w.notify != nil {
		_ = w.notify.Close() // nothing can be lost
		w.notify = nil
		clear(w.armed)
	}
}

// fold is for file systems that do not tell cases apart; elsewhere it causes a
// look too many.
func fold(name string) string { return strings.ToLower(name) }
