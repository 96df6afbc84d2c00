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
// whose directory it goes to.
func (r *restorer) persist() error {
	for _, s := range []*fsys.Scratch{r.scratch, r.beside} {
		dir := s.Path("")
		owner := filepath.Dir(dir)
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				if err := fsys.SyncDir(path); err != nil {
					return err
				}
			}
			return fsys.OwnAs(path, owner)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// move is a rename that was done.
type move struct{ from, to string }

// mover does renames that can be taken back.
type mover struct {
	done  []move
	aside map[string]string // by directory: where its old files are
	stamp string
	step  func() // before each rename; nil but in tests
}

// install moves the files into place.
func (r *restorer) install(ctx context.Context) (err error) {
	marker, locked, err := fsys.LockFile(markerPath(r.cfg.Dirs))
	if err != nil {
		return err
	}
	if !locked {
		return fmt.Errorf("another restore into %s is running", r.cfg.Dirs.Data)
	}
	left := false
	defer func() {
		if !left {
			if removeErr := fsys.RemoveLocked(marker); err == nil {
				err = removeErr
			}
			if syncErr := fsys.SyncDir(r.cfg.Dirs.Data); err == nil {
				err = syncErr
			}
			return
		}
		_ = marker.Close() // nothing was written to it
	}()
	if err := fsys.SyncDir(r.cfg.Dirs.Data); err != nil {
		return err
	}
	m := &mover{aside: make(map[string]string), stamp: time.Now().UTC().Format("20060102T150405Z"), step: r.step}
	if err := m.all(ctx, r); err != nil {
		if undoErr := m.undo(); undoErr != nil {
			left = true
			return fmt.Errorf("%w; and what was moved could not be put back: %v; run mrci restore again, or put the files of %s* back and remove %s",
				err, undoErr, filepath.Join(r.cfg.Dirs.Data, asideName), markerPath(r.cfg.Dirs))
		}
		return err
	}
	for _, dir := range m.aside {
		r.report.Aside = append(r.report.Aside, dir)
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
			if err := m.move(r.staged(smalls[i].name), path); err != nil {
				return err
			}
		}
	}
	if r.report.Manifest.Files != nil {
		if err := m.away(filesPath(d)); err != nil {
			return err
		}
		if err := m.move(r.staged(filesName), filesPath(d)); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := m.move(r.staged(databaseName), database); err != nil {
		return err
	}
	return m.sync()
}

func (r *restorer) has(name string) bool {
	return slices.ContainsFunc(r.report.Manifest.Members, func(m Member) bool { return m.Name == name })
}

// away moves a file, if there is one, into a directory beside it.
func (m *mover) away(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if m.aside[dir] == "" {
		for n := 1; ; n++ {
			aside := filepath.Join(dir, asideName+m.stamp)
			if n > 1 {
				aside += "-" + strconv.Itoa(n)
			}
			err := os.Mkdir(aside, 0o700)
			if errors.Is(err, fs.ErrExist) {
				continue
			}
			if err == nil {
				err = fsys.OwnAs(aside, dir)
			}
			if err != nil {
				return err
			}
			m.aside[dir] = aside
			break
		}
	}
	return m.move(path, filepath.Join(m.aside[dir], filepath.Base(path)))
}

func (m *mover) move(from, to string) error {
	if m.step != nil {
		m.step()
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	m.done = append(m.done, move{from, to})
	return nil
}

// undo takes the renames back.
func (m *mover) undo() error {
	var errs []error
	for _, done := range slices.Backward(m.done) {
		errs = append(errs, os.Rename(done.to, done.from))
	}
	for _, dir := range m.aside {
		_ = os.Remove(dir) // if it is empty
	}
	return errors.Join(append(errs, m.sync())...)
}

// sync makes the renames survive a crash.
func (m *mover) sync() error {
	dirs := make(map[string]bool)
	for _, done := range m.done {
		dirs[filepath.Dir(done.from)] = true
		dirs[filepath.Dir(done.to)] = true
	}
	for dir := range dirs {
		// undo has removed those for old files.
		if err := fsys.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
