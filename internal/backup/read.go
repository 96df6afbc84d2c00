package backup

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// endRoom is what may stand behind the last member: zeros that fill a block of
// the tar.
const endRoom = 64 << 10

// sink takes what is in an archive, before all of it is known to be right.
type sink interface {
	// begin may refuse what the manifest announces.
	begin(m *Manifest) error
	member(m *Member, mode fs.FileMode) (io.WriteCloser, error)
	entry(e *fileEntry) (io.WriteCloser, error) // nil for a directory
}

// errMore: the archive goes on where it should have ended.
var errMore = errors.New("it holds more than its manifest announces")

// read reads a whole archive. What the sink took counts only when read returns
// no error.
func read(ctx context.Context, from io.Reader, to sink) (*Manifest, error) {
	in := bufio.NewReaderSize(ctxReader{ctx, from}, 64<<10)
	if _, err := in.Peek(1); errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty")
	}
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, broken(err)
	}
	plain := &bounded{Reader: z, left: entryRoom + maxManifest}
	m, err := readAll(plain, to)
	if err != nil {
		return nil, broken(err)
	}
	// The last of the checksums of gzip is behind the end of the tar.
	buf := make([]byte, 4096)
	for rest := 0; ; {
		n, err := plain.Read(buf)
		for _, b := range buf[:n] {
			if b != 0 {
				return nil, errMore
			}
		}
		if rest += n; rest > endRoom {
			return nil, errMore
		}
		if errors.Is(err, io.EOF) {
			return m, nil
		}
		if err != nil {
			return nil, broken(err)
		}
	}
}

// broken says for errors of the format what they mean.
func broken(err error) error {
	switch {
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, tar.ErrHeader):
		return errors.New("it is not a backup, or it is damaged")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errors.New("it ends too early: a part of it is missing")
	case errors.Is(err, gzip.ErrChecksum):
		return errors.New("it is damaged")
	}
	return err
}

// bounded ends a reader that gives more than was announced, however little the
// archive itself is.
type bounded struct {
	io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errMore
	}
	n, err := b.Reader.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

func readAll(plain *bounded, to sink) (*Manifest, error) {
	t := tar.NewReader(plain)
	h, err := next(t)
	if err != nil {
		return nil, err
	}
	if h.Name != manifestName || h.Typeflag != tar.TypeReg || h.Size > maxManifest {
		return nil, errors.New("it is not a backup of mrci: its first member is no manifest")
	}
	text, err := io.ReadAll(t)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(text)
	if err != nil {
		return nil, err
	}
	if err := to.begin(m); err != nil {
		return nil, err
	}
	plain.left += m.room()
	for i := range m.Members {
		if err := readMember(t, &m.Members[i], to); err != nil {
			return nil, err
		}
	}
	files := &treeReader{sum: sha256.New()}
	if m.Files != nil {
		files.announced = *m.Files
	}
	for {
		h, err := next(t)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if m.Files == nil {
			return nil, errMore
		}
		if err := readEntry(t, h, files, to); err != nil {
			return nil, err
		}
	}
	if m.Files != nil {
		return m, files.check()
	}
	return m, nil
}

// next returns a header without anything that we do not write.
func next(t *tar.Reader) (*tar.Header, error) {
	h, err := t.Next()
	if err != nil {
		return nil, err
	}
	known := h.Format == tar.FormatUSTAR || h.Format == tar.FormatPAX
	for key := range h.PAXRecords {
		known = known && (key == "path" || key == "size" || key == "mtime")
	}
	if !known || h.Linkname != "" || h.Devmajor != 0 || h.Devminor != 0 || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || h.Size < 0 {
		return nil, fmt.Errorf("the header of %s is not one that mrci writes", printable(h.Name))
	}
	return h, nil
}

func readMember(t *tar.Reader, member *Member, to sink) error {
	h, err := next(t)
	if err != nil {
		return err
	}
	mode, err := parseMode(member.Mode)
	if err != nil {
		return err
	}
	if h.Name != member.Name || h.Typeflag != tar.TypeReg || h.Size != member.Size || h.Mode != int64(mode) {
		return fmt.Errorf("it holds %s where its manifest announces %s: it is damaged", printable(h.Name), member.Name)
	}
	w, err := to.member(member, mode)
	if err != nil {
		return err
	}
	sum, err := drain(w, t)
	if err != nil {
		return err
	}
	if hex.EncodeToString(sum) != member.SHA256 {
		return fmt.Errorf("%s is not what its manifest announces: it is damaged", member.Name)
	}
	return nil
}

func readEntry(t *tar.Reader, h *tar.Header, files *treeReader, to sink) error {
	e, err := files.begin(h)
	if err != nil {
		return err
	}
	w, err := to.entry(e)
	if err != nil {
		return err
	}
	if !e.dir {
		if e.sum, err = drain(w, t); err != nil {
			return err
		}
	}
	files.end(e)
	return nil
}

// drain writes all of r, closes w, and returns the SHA-256.
func drain(w io.WriteCloser, r io.Reader) ([]byte, error) {
	sum := sha256.New()
	_, err := io.Copy(io.MultiWriter(w, sum), r)
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	return sum.Sum(nil), err
}
