package backup

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/fsys"
	"mrci.dev/mrci/internal/store"
)

// restoreScratch begins the names of directories in which archives are checked.
const restoreScratch = ".mrci-restore-"

// RestoreConfig says where to put what an archive holds.
type RestoreConfig struct {
	Dirs conf.Dirs
	// Running returns an error, with what to do, while a host runs for Dirs;
	// nil: only the database is looked at.
	Running func() error
	Force   bool // though there is a database already
	// MoveDatabase puts the database into the data directory, and writes
	// conf.json accordingly, when conf.json names another place for it.
	MoveDatabase bool
	// Free tells how many bytes a directory has room for; default fsys.Free.
	Free func(dir string) (uint64, error)
}

// Restored tells what Restore did.
type Restored struct {
	Report
	Aside []string // directories that hold what was there before
}

// Check reads the whole archive and checks all that Restore would, in a scratch
// directory for temporary files. name is that of the archive, for messages.
func Check(ctx context.Context, name string, from io.Reader) (*Report, error) {
	dir := os.TempDir()
	r := &restorer{cfg: &RestoreConfig{
		Dirs: conf.Dirs{Config: dir, Data: dir, Cert: dir, Runtime: dir}, Free: fsys.Free,
	}}
	if err := errors.Join(r.check(ctx, from), r.close()); err != nil {
		return nil, fmt.Errorf("check %s: %w", name, err)
	}
	if path := r.settings.DBHostName; path != databasePath(r.cfg.Dirs) {
		r.notef("db_host_name names %s: where that is not the place of the database, restore needs --move-database", path)
	}
	return &r.report.Report, nil
}

// Restore puts what an archive holds into cfg.Dirs, which are made if they are
// missing. It checks everything before it changes anything. Existing files of
// the host are moved into a new directory beside them, except for the users'
// files when the archive has none. After an error all is as before, unless the
// error says otherwise; after a crash all is as before, or Unfinished says so
// and the next Restore mends it.
func Restore(ctx context.Context, name string, from io.Reader, cfg RestoreConfig) (*Restored, error) {
	if cfg.Free == nil {
		cfg.Free = fsys.Free
	}
	r := &restorer{cfg: &cfg}
	err := r.run(ctx, from)
	if closeErr := r.close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("restore %s: %w", name, err)
	}
	return &r.report, nil
}

// restorer is one call of Restore or Check.
type restorer struct {
	cfg      *RestoreConfig
	report   Restored
	made     []string // directories that were not there
	scratch  *fsys.Scratch
	beside   *fsys.Scratch // for conf.json and the like, if that is elsewhere
	files    *os.Root      // the users' files in scratch; nil: none
	settings conf.Config
	step     func() // see mover
}

func (r *restorer) run(ctx context.Context, from io.Reader) error {
	if err := r.ready(ctx); err != nil {
		return err
	}
	if err := r.check(ctx, from); err != nil {
		return err
	}
	if err := r.databaseHere(); err != nil {
		return err
	}
	// Windows renames no directory that is open.
	if r.files != nil {
		if err := r.files.Close(); err != nil {
			return err
		}
	}
	if err := r.persist(); err != nil {
		return err
	}
	// Reading may have taken a while.
	if err := r.ready(ctx); err != nil {
		return err
	}
	return r.install(ctx)
}

// ready looks whether the target may be written.
func (r *restorer) ready(ctx context.Context) error {
	if r.cfg.Running != nil {
		if err := r.cfg.Running(); err != nil {
			return err
		}
	}
	path := databasePath(r.cfg.Dirs)
	// A damaged database does not say whether it is in use, and is a reason to
	// restore.
	if used, err := store.InUse(ctx, path); err == nil && used {
		return fmt.Errorf("a program has %s open; stop the host first", path)
	}
	if _, err := os.Lstat(path); err == nil && !r.cfg.Force && Unfinished(r.cfg.Dirs) == nil {
		return fmt.Errorf("%s is there already; restore into another directory, or move it away with --force", path)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// check reads and checks the archive.
func (r *restorer) check(ctx context.Context, from io.Reader) error {
	d := r.cfg.Dirs
	var err error
	if r.scratch, err = r.openScratch(d.Data); err != nil {
		return err
	}
	r.beside = r.scratch
	if filepath.Clean(d.Config) != filepath.Clean(d.Data) {
		if r.beside, err = r.openScratch(d.Config); err != nil {
			return err
		}
	}
	count := &counter{Reader: from}
	m, err := read(ctx, count, r)
	if err != nil {
		if fsys.IsFull(err) {
			err = fmt.Errorf("%w; make room in %s", err, d.Data)
		}
		return err
	}
	r.report.Manifest, r.report.Size = *m, count.n
	version, err := store.Verify(ctx, r.scratch.Path(databaseName))
	if err != nil {
		return err
	}
	if version != m.Schema {
		return fmt.Errorf("its database has tables of version %d and its manifest announces %d", version, m.Schema)
	}
	text, err := r.beside.Root().ReadFile(conf.FileName)
	if err != nil {
		return err
	}
	if r.settings, err = conf.Parse(conf.FileName, text, d); err != nil {
		return fmt.Errorf("the configuration in it: %w", err)
	}
	r.note()
	return nil
}

// note collects what the host needs and the archive does not hold.
func (r *restorer) note() {
	for i := range smalls {
		s := &smalls[i]
		for _, path := range s.elsewhere(&r.settings, r.cfg.Dirs) {
			r.notef("%s names %s, which the backup does not hold: it has to be there when the host starts", s.setting, path)
		}
	}
	var roots []string
	for _, path := range r.settings.FSRoots.ByUser {
		roots = append(roots, path)
	}
	for _, path := range r.settings.FSRoots.ByRank {
		roots = append(roots, path)
	}
	slices.Sort(roots)
	for _, path := range slices.Compact(roots) {
		r.notef("fs_roots names %s, which the backup does not hold", path)
	}
	chain, chainErr := r.beside.Root().ReadFile("tls_chain.pem")
	key, keyErr := r.beside.Root().ReadFile("tls_priv.pem")
	if chainErr == nil && keyErr == nil {
		if _, err := tls.X509KeyPair(chain, key); err != nil {
			r.notef("the certificate and the key do not fit: %v", err)
		}
	}
}

func (r *restorer) notef(format string, args ...any) {
	r.report.Notes = append(r.report.Notes, fmt.Sprintf(format, args...))
}

// databaseHere makes sure that the configuration and the place where the
// database is put agree.
func (r *restorer) databaseHere() error {
	path := databasePath(r.cfg.Dirs)
	if r.settings.DBHostName == path {
		return nil
	}
	if !r.cfg.MoveDatabase {
		return fmt.Errorf("db_host_name in its configuration names %s, and only %s is written: change it to that with --move-database",
			r.settings.DBHostName, path)
	}
	text, err := r.beside.Root().ReadFile(conf.FileName)
	if err != nil {
		return err
	}
	r.notef("db_host_name in conf.json was %s and is now %s", r.settings.DBHostName, path)
	if text, err = conf.WithDatabase(text, r.cfg.Dirs); err != nil {
		return err
	}
	if r.settings, err = conf.Parse(conf.FileName, text, r.cfg.Dirs); err != nil {
		return err
	}
	f, err := r.beside.Root().OpenFile(conf.FileName, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// staged is where a member lies until it is moved into place.
func (r *restorer) staged(name string) *fsys.Scratch {
	if name == databaseName || name == filesName {
		return r.scratch
	}
	return r.beside
}

// openScratch makes a directory, and one below it.
func (r *restorer) openScratch(dir string) (*fsys.Scratch, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		r.made = append(r.made, dir)
	}
	return fsys.OpenScratch(dir, restoreScratch)
}

// close removes what is only for the time of the restore.
func (r *restorer) close() error {
	var errs []error
	if r.files != nil {
		errs = append(errs, r.files.Close())
	}
	for _, s := range []*fsys.Scratch{r.scratch, r.beside} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	for _, dir := range r.made {
		_ = os.Remove(dir) // if nothing came into it
	}
	return errors.Join(errs...)
}

// begin implements sink.
func (r *restorer) begin(m *Manifest) error {
	dir := r.cfg.Dirs.Data
	free, err := r.cfg.Free(dir)
	if err != nil {
		return err
	}
	if need := m.size(); uint64(need) > free {
		return fmt.Errorf("%s has room for %s; %s are needed", dir, Bytes(int64(free)), Bytes(need))
	}
	if m.Files == nil {
		return nil
	}
	if err := r.scratch.Root().Mkdir(filesName, 0o700); err != nil {
		return err
	}
	r.files, err = r.scratch.Root().OpenRoot(filesName)
	return err
}

// member implements sink.
func (r *restorer) member(m *Member, mode fs.FileMode) (io.WriteCloser, error) {
	mode &^= 0o022
	if i := slices.IndexFunc(smalls, func(s small) bool { return s.name == m.Name }); i < 0 || smalls[i].private {
		mode = 0o600
	}
	dir := r.staged(m.Name).Root()
	f, err := dir.OpenFile(m.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &stagedFile{File: f, done: func() error { return dir.Chmod(m.Name, mode|0o600) }}, nil
}

// entry implements sink.
func (r *restorer) entry(e *fileEntry) (io.WriteCloser, error) {
	name := filepath.FromSlash(e.name)
	if e.dir {
		return nil, r.files.Mkdir(name, e.mode|0o700)
	}
	f, err := r.files.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	modified := time.Unix(e.modified, 0)
	return &stagedFile{File: f, done: func() error {
		if err := r.files.Chtimes(name, modified, modified); err != nil {
			return err
		}
		return r.files.Chmod(name, e.mode)
	}}, nil
}

// stagedFile survives a crash when it is closed.
type stagedFile struct {
	*os.File
	done func() error
}

func (f *stagedFile) Close() error {
	err := f.File.Sync()
	if closeErr := f.File.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = f.done()
	}
	return err
}

// counter counts what is read.
type counter struct {
	io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}
