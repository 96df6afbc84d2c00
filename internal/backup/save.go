package backup

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/fsys"
	"mrci.dev/mrci/internal/store"
)

// saveScratch begins the names of directories in which archives are made.
const saveScratch = ".mrci-backup-"

// archiveName is the archive's in such a directory.
const archiveName = "archive"

// SaveConfig says what to save and where.
type SaveConfig struct {
	Settings conf.Config // of the host; its conf.json must be there
	Version  string      // of this program
	File     string      // the archive; empty: Out
	Out      io.Writer   // takes the archive when there is no File
	Force    bool        // replace File
	Files    bool        // the users' files too
	// Free tells how many bytes a directory has room for; default fsys.Free.
	Free func(dir string) (uint64, error)
}

// Report tells what was saved, checked or restored.
type Report struct {
	Manifest Manifest
	Size     int64    // of the archive
	Notes    []string // what a person should know, one line each
}

// Save writes an archive. Everything that was acknowledged before Save was
// called is in it. File appears when it is complete, with mode 0600; after an
// error, and also after a crash once another archive is made in the same
// directory, nothing is left.
func Save(ctx context.Context, cfg SaveConfig) (*Report, error) {
	name := cfg.File
	if name == "" {
		name = "to standard output"
	}
	r, err := save(ctx, &cfg)
	if err != nil {
		return nil, fmt.Errorf("save %s: %w", name, err)
	}
	return r, nil
}

func save(ctx context.Context, cfg *SaveConfig) (_ *Report, err error) {
	if cfg.Free == nil {
		cfg.Free = fsys.Free
	}
	if _, err := os.Stat(cfg.Settings.Dirs.File()); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no host: %s is missing; name its directory with --dir", cfg.Settings.Dirs.File())
		}
		return nil, err
	}
	if err := fsys.CheckKept(cfg.Settings.DBHostName, filepath.Dir(cfg.Settings.Dirs.File())); err != nil {
		return nil, err
	}
	// The database's own directory is private and has room for it.
	dir := filepath.Dir(cfg.Settings.DBHostName)
	if cfg.File != "" {
		dir = filepath.Dir(cfg.File)
		if err := cfg.mayWrite(); err != nil {
			return nil, err
		}
	}
	if other := filepath.Dir(cfg.Settings.DBHostName); other != dir {
		// Of one that went to standard output and was killed. It is in nobody's
		// way if it cannot be removed.
		_ = fsys.CleanScratch(other, saveScratch)
	}
	scratch, err := fsys.OpenScratch(dir, saveScratch)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := scratch.Close(); err == nil && closeErr != nil {
			err = closeErr
		}
	}()
	s := &saver{cfg: cfg, scratch: scratch}
	report, err := s.run(ctx)
	if err != nil && fsys.IsFull(err) {
		err = fmt.Errorf("%w; %s needs room for up to %s", err, dir, Bytes(s.need))
	}
	return report, err
}

// mayWrite looks at what is under the name of the archive.
func (cfg *SaveConfig) mayWrite() error {
	info, err := os.Lstat(cfg.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is not a regular file; name another one")
	case !cfg.Force:
		return errors.New("the file exists already; name another one, or replace it with --force")
	}
	return nil
}

// saver makes one archive.
type saver struct {
	cfg     *SaveConfig
	scratch *fsys.Scratch
	report  Report
	need    int64 // bytes of room
}

func (s *saver) run(ctx context.Context) (*Report, error) {
	settings := &s.cfg.Settings
	m := &s.report.Manifest
	m.Format, m.Program, m.Created = Format, s.cfg.Version, time.Now().UTC().Truncate(time.Second)

	for _, path := range []string{settings.DBHostName, settings.DBHostName + "-wal"} {
		if info, err := os.Stat(path); err == nil {
			s.need += info.Size()
		}
	}
	free, err := s.cfg.Free(s.scratch.Path(""))
	if err != nil {
		return nil, err
	}
	if uint64(s.need) > free {
		return nil, fmt.Errorf("%s has room for %s; up to %s are needed", filepath.Dir(s.scratch.Path("")), Bytes(int64(free)), Bytes(s.need))
	}
	if m.Schema, err = store.Snapshot(ctx, settings.DBHostName, s.scratch.Path(databaseName)); err != nil {
		return nil, err
	}
	// The manifest stands first and is known last: what follows it is packed
	// into a file of its own. One gzip stream may follow another.
	rest, err := s.scratch.Root().OpenFile("rest", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer rest.Close() // only a copy of it counts
	if err := s.pack(ctx, rest); err != nil {
		return nil, err
	}
	if _, err := rest.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	if s.cfg.File == "" {
		s.report.Size, err = s.join(ctx, s.cfg.Out, rest)
		return &s.report, err
	}
	return &s.report, s.place(ctx, rest)
}

// place makes the archive and gives it its name.
func (s *saver) place(ctx context.Context, rest io.Reader) error {
	f, err := s.scratch.Root().OpenFile(archiveName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	s.report.Size, err = s.join(ctx, f, rest)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	dir, made, name := s.scratch.Parent(), s.scratch.In(archiveName), filepath.Base(s.cfg.File)
	if s.cfg.Force {
		err = dir.Rename(made, name)
	} else {
		err = fsys.LinkNewIn(dir, made, name)
	}
	if err != nil {
		return err
	}
	return fsys.SyncDirIn(dir, ".")
}

// join writes the manifest and what follows it.
func (s *saver) join(ctx context.Context, w io.Writer, rest io.Reader) (int64, error) {
	text, err := s.report.Manifest.encode()
	if err != nil {
		return 0, err
	}
	var first bytes.Buffer
	z := gzip.NewWriter(&first)
	t := tar.NewWriter(z)
	err = addHeader(t, manifestName, int64(len(text)), 0o600, s.report.Manifest.Created.Unix())
	if err == nil {
		_, err = t.Write(text)
	}
	// Flush, not Close: the tar goes on in the next stream.
	if err := errors.Join(err, t.Flush(), z.Close()); err != nil {
		return 0, err
	}
	return io.Copy(w, ctxReader{ctx, io.MultiReader(&first, rest)})
}

// pack writes everything but the manifest, and completes the manifest.
func (s *saver) pack(ctx context.Context, w io.Writer) error {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	if err := s.addDatabase(ctx, t); err != nil {
		return err
	}
	for i := range smalls {
		if err := s.addSmall(ctx, t, &smalls[i]); err != nil {
			return err
		}
	}
	if s.cfg.Files {
		tree := &treeWriter{tar: t, need: &s.need, sum: sha256.New()}
		files, notes, err := tree.add(ctx, filesPath(s.cfg.Settings.Dirs))
		if err != nil {
			return err
		}
		s.report.Manifest.Files = files
		s.report.Notes = append(s.report.Notes, notes...)
	}
	return errors.Join(t.Close(), z.Close())
}

func (s *saver) addDatabase(ctx context.Context, t *tar.Writer) error {
	f, err := s.scratch.Root().Open(databaseName)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	s.need = max(s.need, 2*info.Size())
	if err := s.addMember(ctx, t, databaseName, f, info.Size(), 0o600); err != nil {
		return err
	}
	// Room for what follows.
	return s.scratch.Root().Remove(databaseName)
}

func (s *saver) addSmall(ctx context.Context, t *tar.Writer, what *small) error {
	settings := &s.cfg.Settings
	m := &s.report.Manifest
	other := what.elsewhere(settings, settings.Dirs)
	for _, path := range other {
		m.Absent = append(m.Absent, Absent{Key: what.setting, Path: path})
		s.report.Notes = append(s.report.Notes, fmt.Sprintf("%s names %s, which is not saved: keep a copy of it yourself", what.setting, path))
	}
	if len(other) > 0 {
		return nil
	}
	path := what.path(settings.Dirs)
	f, err := fsys.OpenKept(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the host makes it
	}
	if err != nil {
		return err
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err != nil {
		return err
	}
	if len(text) > maxSmall {
		return fmt.Errorf("%s is larger than %d bytes", path, maxSmall)
	}
	mode := info.Mode().Perm()
	if what.private {
		mode &= 0o700
	}
	return s.addMember(ctx, t, what.name, bytes.NewReader(text), int64(len(text)), mode)
}

func (s *saver) addMember(ctx context.Context, t *tar.Writer, name string, r io.Reader, size int64, mode fs.FileMode) error {
	m := &s.report.Manifest
	if err := addHeader(t, name, size, mode, m.Created.Unix()); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(t, sum), ctxReader{ctx, r}); err != nil {
		return err
	}
	m.Members = append(m.Members, Member{Name: name, Size: size, Mode: formatMode(mode), SHA256: hex.EncodeToString(sum.Sum(nil))})
	return nil
}

func addHeader(t *tar.Writer, name string, size int64, mode fs.FileMode, modified int64) error {
	return t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size,
		Mode: int64(mode.Perm()), ModTime: time.Unix(modified, 0), Format: tar.FormatPAX})
}

// ctxReader ends with its context.
type ctxReader struct {
	ctx context.Context
	io.Reader
}

func (r ctxReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
}

// Bytes is a number of bytes for people.
func Bytes(n int64) string {
	switch {
	case n < 10<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", (n+1<<10-1)>>10)
	case n < 10<<30:
		return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20)
	}
	return fmt.Sprintf("%d GiB", (n+1<<30-1)>>30)
}
