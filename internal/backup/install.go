package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/fsys"
)

// markerName is the file in the data directory while files are moved.
const markerName = "restore-unfinished"

// asideName begins the names of directories for what was there before.
const asideName = "before-restore-"

func markerPath(d conf.Dirs) string { return filepath.Join(d.Data, markerName) }

// Unfinished returns an error, with what to do, when a Restore into these
// directories began to move files and has not come to its end. A host must not
// start then: it could make a new database beside the restored certificate.
func Unfinished(d conf.Dirs) error {
	if _, err := os.Lstat(markerPath(d)); err != nil {
		return nil // none, or nothing that can be read at all: others say so
	}
	return fmt.Errorf("%s: a restore was interrupted; run mrci restore again, or put the files of %s* back and remove that file",
		markerPath(d), filepath.Join(d.Data, asideName))
}

// persist makes what was read survive a crash, and gives it to the account
// whose directory it goes to. The scratch directory itself stays this
// program's: that account could exchange what is in it.
func (r *restorer) persist() error {
	for _, s := range []*fsys.Scratch{r.scratch, r.beside} {
		if err := persistIn(s.Root(), s.Parent()); err != nil {
			return err
		}
		if err := fsys.SyncDirIn(s.Parent(), "."); err != nil {
			return err
		}
	}
	return nil
}

// persistIn does it with what is in a directory, which is at most as deep as
// what is read.
func persistIn(dir, like *os.Root) error {
	names, err := namesIn(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		info, err := dir.Lstat(name)
		if err != nil {
			return err
		}
		if info.IsDir() {
			sub, err := dir.OpenRoot(name)
			if err != nil {
				return err
			}
			err = persistIn(sub, like)
			_ = sub.Close() // nothing is written through it
			if err != nil {
				return err
			}
		}
		if err := fsys.OwnIn(dir, name, like); err != nil {
			return err
		}
	}
	return fsys.SyncDirIn(dir, ".")
}

// move is a rename that was done, in a directory or between those below it.
type move struct {
	in       *os.Root
	from, to string
}

// mover does renames that can be taken back. It works in directories that are
// open since the restore began: root is not led elsewhere by whoever can rename
// them.
type mover struct {
	places map[string]*os.Root // by path
	done   []move
	aside  map[*os.Root]string // where the old files of a directory are
	stamp  string
	step   func() // before each rename; nil but in tests
}

// install moves the files into place.
func (r *restorer) install(ctx context.Context) (err error) {
	data := r.scratch.Parent()
	marker, locked, err := fsys.LockFile(data, markerName)
	if err != nil {
		return err
	}
	if !locked {
		return fmt.Errorf("another restore into %s is running", r.cfg.Dirs.Data)
	}
	left := false
	defer func() {
		if !left {
			removeErr := fsys.RemoveLocked(data, markerName, marker)
			if removeErr == nil {
				removeErr = fsys.SyncDirIn(data, ".")
			}
			if removeErr != nil && err != nil {
				err = fmt.Errorf("%v; and %s could not be removed: %v; remove that file", err, markerPath(r.cfg.Dirs), removeErr)
			} else if removeErr != nil {
				err = removeErr
			}
			return
		}
		_ = marker.Close() // nothing was written to it
	}()
	if err := fsys.SyncDirIn(data, "."); err != nil {
		return err
	}
	m := &mover{
		places: map[string]*os.Root{filepath.Clean(r.cfg.Dirs.Data): data, filepath.Clean(r.cfg.Dirs.Config): r.beside.Parent()},
		aside:  make(map[*os.Root]string), stamp: time.Now().UTC().Format("20060102T150405Z"), step: r.step,
	}
	if err := m.all(ctx, r); err != nil {
		if undoErr := m.undo(); undoErr != nil {
			left = true
			// Not %w: who looks for the cause takes nothing for changed then.
			return fmt.Errorf("%v; and what was moved could not be put back: %v; run mrci restore again, or put the files of %s* back and remove %s",
				err, undoErr, filepath.Join(r.cfg.Dirs.Data, asideName), markerPath(r.cfg.Dirs))
		}
		return err
	}
	for dir, name := range m.aside {
		r.report.Aside = append(r.report.Aside, filepath.Join(dir.Name(), name))
	}
	slices.Sort(r.report.Aside)
	return nil
}

// all moves the database last: without it nobody takes the directory for one
// of a host that has everything.
func (m *mover) all(ctx context.Context, r *restorer) error {
	d := r.cfg.Dirs
	database := databasePath(d)
	// Its log belongs to it.
	for _, companion := range []string{"", "-wal", "-shm", "-journal"} {
		if err := m.away(database + companion); err != nil {
			return err
		}
	}
	for i := range smalls {
		path := smalls[i].path(d)
		if err := m.away(path); err != nil {
			return err
		}
		if r.has(smalls[i].name) {
			if err := m.put(r.staged(smalls[i].name), smalls[i].name, path); err != nil {
				return err
			}
		}
	}
	if r.report.Manifest.Files != nil {
		if err := m.away(filesPath(d)); err != nil {
			return err
		}
		if err := m.put(r.scratch, filesName, filesPath(d)); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := m.put(r.scratch, databaseName, database); err != nil {
		return err
	}
	return m.sync()
}

func (r *restorer) has(name string) bool {
	return slices.ContainsFunc(r.report.Manifest.Members, func(m Member) bool { return m.Name == name })
}

// place returns the open directory of a path and the name there.
func (m *mover) place(path string) (*os.Root, string, error) {
	dir := m.places[filepath.Dir(path)]
	if dir == nil {
		return nil, "", fmt.Errorf("%s is neither in the data directory nor in that of the configuration", path)
	}
	return dir, filepath.Base(path), nil
}

// away moves a file, if there is one, into a directory beside it.
func (m *mover) away(path string) error {
	dir, name, err := m.place(path)
	if err != nil {
		return err
	}
	if _, err := dir.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if m.aside[dir] == "" {
		for n := 1; ; n++ {
			aside := asideName + m.stamp
			if n > 1 {
				aside += "-" + strconv.Itoa(n)
			}
			err := fsys.MkdirAs(dir, aside)
			if errors.Is(err, fs.ErrExist) {
				continue
			}
			if err != nil {
				return err
			}
			m.aside[dir] = aside
			break
		}
	}
	return m.move(dir, name, filepath.Join(m.aside[dir], name))
}

// put moves what is in a scratch directory to a path beside that.
func (m *mover) put(from *fsys.Scratch, name, path string) error {
	dir, to, err := m.place(path)
	if err != nil {
		return err
	}
	if dir != from.Parent() {
		return fmt.Errorf("%s is not beside %s", path, from.Path(""))
	}
	return m.move(dir, from.In(name), to)
}

func (m *mover) move(in *os.Root, from, to string) error {
	if m.step != nil {
		m.step()
	}
	if err := in.Rename(from, to); err != nil {
		return err
	}
	m.done = append(m.done, move{in, from, to})
	return nil
}

// undo takes the renames back.
func (m *mover) undo() error {
	var errs []error
	for _, done := range slices.Backward(m.done) {
		errs = append(errs, done.in.Rename(done.to, done.from))
	}
	for dir, name := range m.aside {
		_ = dir.Remove(name) // if it is empty
	}
	return errors.Join(append(errs, m.sync())...)
}

// sync makes the renames survive a crash.
func (m *mover) sync() error {
	type place struct {
		in  *os.Root
		dir string
	}
	dirs := make(map[place]bool)
	for _, done := range m.done {
		dirs[place{done.in, filepath.Dir(done.from)}] = true
		dirs[place{done.in, filepath.Dir(done.to)}] = true
	}
	for p := range dirs {
		// undo has removed those for old files.
		if err := fsys.SyncDirIn(p.in, p.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
