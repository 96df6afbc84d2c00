package backup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"

	"mrci.dev/mrci/internal/fsys"
)

// Names and parts for tests.
const (
	SaveScratch    = saveScratch
	RestoreScratch = restoreScratch
	MarkerName     = markerName
	MaxName        = maxName
	MaxDepth       = maxDepth
)

var (
	CompareNames = compareNames
	CheckName    = checkName
)

// memory keeps what a reader accepts.
type memory struct {
	files map[string]*bytes.Buffer
}

func (m *memory) begin(*Manifest) error { return nil }

func (m *memory) member(what *Member, _ fs.FileMode) (io.WriteCloser, error) {
	return m.put(what.Name), nil
}

func (m *memory) entry(e *fileEntry) (io.WriteCloser, error) {
	if e.dir {
		m.put("files/" + e.name + "/")
		return nil, nil
	}
	return m.put("files/" + e.name), nil
}

func (m *memory) put(name string) io.WriteCloser {
	b := new(bytes.Buffer)
	m.files[name] = b
	return closer{b}
}

type closer struct{ io.Writer }

func (closer) Close() error { return nil }

// Contents reads an archive into memory.
func Contents(ctx context.Context, r io.Reader) (*Manifest, map[string]string, error) {
	sink := &memory{files: make(map[string]*bytes.Buffer)}
	m, err := read(ctx, r, sink)
	if err != nil {
		return nil, nil, err
	}
	texts := make(map[string]string)
	for name, b := range sink.files {
		texts[name] = b.String()
	}
	return m, texts, nil
}

// Line is what the sum over the users' files counts of a regular file.
func Line(name string, mode fs.FileMode, modified, size int64, sum []byte) []byte {
	e := fileEntry{name: name, mode: mode, modified: modified, size: size, sum: sum}
	return e.line()
}

// RestoreWith is Restore, and calls step before each rename.
func RestoreWith(ctx context.Context, from io.Reader, cfg RestoreConfig, step func()) error {
	cfg.Free = fsys.Free
	r := &restorer{cfg: &cfg, step: step}
	err := r.run(ctx, from)
	return errors.Join(err, r.close())
}
