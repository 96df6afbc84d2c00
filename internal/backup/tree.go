package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"mrci.dev/mrci/internal/fsys"
)

// treeWriter saves the users' files. Their owners may change them meanwhile:
// no link is followed, nothing is waited for, and each file is saved as it is
// when its turn comes.
type treeWriter struct {
	tar   *tar.Writer
	need  *int64
	sum   hash.Hash // over the lines of all entries
	files Files

	other, deep int // entries that are no files, or too deep
}

// add saves all that is below a directory, which may be missing.
func (w *treeWriter) add(ctx context.Context, path string) (files *Files, notes []string, err error) {
	root, err := fsys.OpenKeptDir(path)
	switch {
	case err == nil:
		defer root.Close() // only read
		err = w.walk(ctx, root, "", 0)
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err != nil {
		return nil, nil, err
	}
	w.files.SHA256 = hex.EncodeToString(w.sum.Sum(nil))
	if w.other > 0 {
		notes = append(notes, fmt.Sprintf("left out of the users' files: %d links, sockets, pipes or devices", w.other))
	}
	if w.deep > 0 {
		notes = append(notes, fmt.Sprintf("left out of the users' files: %d entries with paths longer than %d bytes or deeper than %d directories", w.deep, maxName, maxDepth))
	}
	return &w.files, notes, nil
}

// walk saves what is in a directory whose name, with a slash, is prefix.
func (w *treeWriter) walk(ctx context.Context, dir *os.Root, prefix string, depth int) error {
	here, err := dir.Stat(".")
	if err != nil {
		return err
	}
	names, err := namesIn(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := w.entry(ctx, dir, here, name, prefix+name, depth)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fsys.ErrOther) {
			return fmt.Errorf("user's file %s: %w", printable(prefix+name), err)
		}
		// Gone or exchanged while we looked: as if it had never been there.
	}
	return nil
}

func namesIn(dir *os.Root) ([]string, error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	slices.Sort(names)
	return names, err
}

func (w *treeWriter) entry(ctx context.Context, dir *os.Root, here fs.FileInfo, name, full string, depth int) error {
	info, err := dir.Lstat(name)
	if err != nil {
		return err
	}
	switch {
	case !info.IsDir() && !info.Mode().IsRegular():
		w.other++
		return nil
	case depth >= maxDepth || checkName(full) != nil:
		w.deep++
		return nil
	case info.IsDir():
		sub, err := fsys.OpenSameDir(dir, name, info)
		if err != nil {
			return err
		}
		defer sub.Close() // only read
		e := fileEntry{name: full, dir: true, mode: info.Mode().Perm()}
		if err := w.header(&e, tar.TypeDir, "/"); err != nil {
			return err
		}
		w.sum.Write(e.line()) // a hash takes everything
		return w.walk(ctx, sub, full+"/", depth+1)
	}
	f, err := fsys.OpenSame(dir, name, info)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	if info, err = f.Stat(); err != nil {
		return err
	}
	if fsys.Foreign(info, here) { // a link of the other kind
		w.other++
		return nil
	}
	// It may grow: what it has now is saved.
	e := fileEntry{name: full, mode: info.Mode().Perm(), modified: info.ModTime().Unix(), size: info.Size()}
	if err := w.header(&e, tar.TypeReg, ""); err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w.tar, sum), io.LimitReader(ctxReader{ctx, f}, e.size))
	if err == nil && n < e.size {
		err = errors.New("it became shorter while it was saved; try again")
	}
	if err != nil {
		return err
	}
	e.sum = sum.Sum(nil)
	w.files.Size += e.size
	*w.need += e.size
	w.sum.Write(e.line())
	return nil
}

func (w *treeWriter) header(e *fileEntry, kind byte, suffix string) error {
	w.files.Entries++
	return w.tar.WriteHeader(&tar.Header{Typeflag: kind, Name: filesName + "/" + e.name + suffix, Size: e.size,
		Mode: int64(e.mode), ModTime: time.Unix(e.modified, 0), Format: tar.FormatPAX})
}

// treeReader checks the entries of the users' files in an archive.
type treeReader struct {
	announced Files
	seen      Files
	last      string
	sum       hash.Hash
}

// begin takes the header of the next entry.
func (r *treeReader) begin(h *tar.Header) (*fileEntry, error) {
	name, ok := strings.CutPrefix(h.Name, filesName+"/")
	e := &fileEntry{name: name, mode: fs.FileMode(h.Mode), modified: h.ModTime.Unix(), size: h.Size}
	switch {
	case !ok:
		return nil, fmt.Errorf("it holds %s, which its manifest does not announce", printable(h.Name))
	case h.Typeflag == tar.TypeDir && strings.HasSuffix(name, "/"):
		e.dir, e.name = true, strings.TrimSuffix(name, "/")
	case h.Typeflag != tar.TypeReg:
		return nil, fmt.Errorf("%s is neither file nor directory", printable(h.Name))
	}
	if err := checkName(e.name); err != nil {
		return nil, err
	}
	switch {
	case h.Mode < 0 || h.Mode > 0o777 || e.dir && (e.size != 0 || e.modified != 0):
		return nil, fmt.Errorf("the header of %s is not valid", printable(h.Name))
	case r.last != "" && compareNames(r.last, e.name) >= 0:
		return nil, fmt.Errorf("%s stands twice or in the wrong place", printable(h.Name))
	case r.seen.Entries == r.announced.Entries || e.size > r.announced.Size-r.seen.Size:
		return nil, errors.New("it holds more of the users' files than its manifest announces")
	}
	r.seen.Entries++
	r.seen.Size += e.size
	r.last = e.name
	return e, nil
}

func (r *treeReader) end(e *fileEntry) { r.sum.Write(e.line()) } // a hash takes everything

// check compares the sums.
func (r *treeReader) check() error {
	r.seen.SHA256 = hex.EncodeToString(r.sum.Sum(nil))
	if r.seen != r.announced {
		return errors.New("the users' files are not what its manifest announces: it is damaged")
	}
	return nil
}
