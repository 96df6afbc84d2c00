package fsys

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// state is what a file was at one moment.
type state struct {
	target   string // where its path led to
	found    bool
	readable bool
	info     fs.FileInfo       // if found
	sum      [sha256.Size]byte // of the content, if readable and not too long
}

// maxSummed is how long a file may be for its content to count. Beyond it a
// write within one tick of the clock that leaves the length alone is missed.
const maxSummed = 1 << 20

// look returns the state of a file. It waits for nobody, also if the path leads
// to a pipe.
func look(path string) state {
	s := state{target: follow(path).target}
	info, err := os.Stat(path)
	if err != nil {
		s.found = !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR)
		return s
	}
	s.found, s.info = true, info
	os.SameFile(info, info) // as in stat
	if !info.Mode().IsRegular() {
		return s
	}
	flags := os.O_RDONLY
	if runtime.GOOS != "windows" {
		flags |= syscall.O_NONBLOCK
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return s
	}
	defer f.Close() // only read: nothing can be lost
	if opened, err := f.Stat(); err == nil && opened.Mode().IsRegular() {
		s.info = opened
		hash := sha256.New()
		_, err = io.Copy(hash, io.LimitReader(f, maxSummed))
		s.readable = err == nil
		hash.Sum(s.sum[:0])
	}
	return s
}

// same reports whether nothing about the file has changed.
func (s state) same(t state) bool {
	if s.target != t.target || s.found != t.found || s.readable != t.readable || s.sum != t.sum || (s.info == nil) != (t.info == nil) {
		return false
	}
	return s.info == nil || os.SameFile(s.info, t.info) && s.info.Size() == t.info.Size() && s.info.ModTime().Equal(t.info.ModTime())
}

// place is a name in a directory on which it depends what a path leads to.
type place struct{ dir, name string }

// way is how a path leads to a file.
type way struct {
	target string  // without links, as far as it can be told
	places []place // every link on the way, and the end of it
	lost   error   // a directory is missing or closed: the way ends before the file
}

// maxLinks is how many links Linux follows.
const maxLinks = 40

// follow goes along an absolute path.
func follow(path string) way {
	var w way
	at, rest := split(path)
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if err == nil && info.Mode()&fs.ModeSymlink == 0 {
			if len(rest) == 0 {
				w.places = append(w.places, place{at, name})
			}
			at = next
			continue
		}
		w.places = append(w.places, place{at, name})
		var target string
		if err == nil {
			if links++; links > maxLinks {
				err = fmt.Errorf("%s: too many links", path)
			} else {
				target, err = os.Readlink(next)
			}
		}
		if err != nil {
			w.target = filepath.Join(append([]string{next}, rest...)...)
			if len(rest) > 0 || !errors.Is(err, fs.ErrNotExist) {
				w.lost = err
			}
			return w
		}
		if filepath.IsAbs(target) {
			var more []string
			at, more = split(target)
			rest = append(more, rest...)
		} else {
			rest = append(strings.FieldsFunc(target, isSeparator), rest...)
		}
	}
	w.target = at
	return w
}

// split returns the root of an absolute path, and the names below it.
func split(path string) (root string, names []string) {
	volume := filepath.VolumeName(path)
	return volume + string(filepath.Separator), strings.FieldsFunc(path[len(volume):], isSeparator)
}

func isSeparator(r rune) bool { return r < 0x80 && os.IsPathSeparator(uint8(r)) }

// stat returns what os.SameFile compares, with the identity of now: Windows
// asks for it only when it is needed, which could be that of a later file. It
// returns nil where there is nothing.
func stat(path string) fs.FileInfo {
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	os.SameFile(info, info)
	return info
}
