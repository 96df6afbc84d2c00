package conf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"mrci.dev/mrci/internal/fsys"
)

// maxFile is far above what all keys together can need.
const maxFile = 1 << 20

// Load reads the configuration file at path. Keys that it does not have keep
// their defaults for dirs, where dirs.Config becomes the directory of the file.
// The error wraps fs.ErrNotExist when there is no file.
func Load(path string, dirs Dirs) (Config, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	text, err := readFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	dirs.Config = filepath.Dir(path)
	return Parse(path, text, dirs)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read: nothing can be lost
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s: the file is larger than %d bytes", path, maxFile)
	}
	return text, err
}

// Parse reads the text of a configuration file. Errors begin with file, line
// and column; relative paths in the text count from dirs.Config.
func Parse(file string, text []byte, dirs Dirs) (Config, error) {
	// Some editors begin a text with a byte order mark.
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	fail := func(at int, err error) (Config, error) {
		line, column := place(text, at)
		return Config{}, fmt.Errorf("%s:%d:%d: %w", file, line, column, err)
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return fail(0, errors.New("the file is empty: want a JSON object; without the file the host writes a new one"))
	}
	v, err := decodeValue(text)
	if err != nil {
		var f *fault
		if errors.As(err, &f) {
			return fail(f.at, f.err)
		}
		return fail(0, err)
	}
	members, ok := v.([]member)
	if !ok {
		return fail(0, errors.New("want a JSON object with the keys of the configuration"))
	}
	c := Defaults(dirs)
	for _, m := range members {
		e, err := find(m.name)
		if err != nil {
			return fail(m.nameAt, err)
		}
		if err := e.put(&c, m.value); err != nil {
			return fail(m.valueAt, err)
		}
	}
	if err := c.check(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

// LoadOrCreate is Load, but writes a file with the defaults of the main keys
// when there is none, and the directory for it. It reports whether it did so.
// Both are for the host's account alone, because the file can hold passwords.
func LoadOrCreate(path string, dirs Dirs) (c Config, created bool, err error) {
	c, err = Load(path, dirs)
	if !errors.Is(err, fs.ErrNotExist) {
		return c, false, err
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return Config{}, false, fmt.Errorf("write configuration: %w", err)
	}
	dirs.Config = filepath.Dir(path)
	defaults := Defaults(dirs)
	created, err = fsys.Create(path, encode(&defaults, func(e *entry) bool { return e.main }), 0o600)
	if err != nil {
		return Config{}, false, fmt.Errorf("write configuration: %w", err)
	}
	c, err = Load(path, dirs)
	return c, created, err
}

// WithDatabase returns the text of a configuration file with db_host_name
// changed to its default for dirs, and all else as it was. A text without the
// key has the default already.
func WithDatabase(text []byte, dirs Dirs) ([]byte, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	v, err := decodeValue(text)
	if err != nil {
		return nil, err
	}
	members, ok := v.([]member)
	if !ok {
		return nil, errors.New("want a JSON object with the keys of the configuration")
	}
	c := Defaults(dirs)
	for _, m := range members {
		e, err := find(m.name)
		if err != nil {
			return nil, err
		}
		if e.name != "db_host_name" {
			continue
		}
		rest := json.NewDecoder(bytes.NewReader(text[m.valueAt:]))
		if err := rest.Decode(new(json.RawMessage)); err != nil {
			return nil, err
		}
		value, err := json.Marshal(relative(c.DBHostName, dirs.Config))
		if err != nil {
			return nil, err
		}
		return slices.Concat(text[:m.valueAt], value, text[m.valueAt+int(rest.InputOffset()):]), nil
	}
	return text, nil
}

// encode returns the text of a file with the chosen keys. Paths below the
// directory of the file are relative, so that the directory can be moved.
func encode(c *Config, chosen func(*entry) bool) []byte {
	var b bytes.Buffer
	for i := range entries {
		e := &entries[i]
		if !chosen(e) {
			continue
		}
		v := e.show(c, c.Dirs.Config)
		if s, ok := v.(Secret); ok {
			v = string(s)
		}
		separator := ",\n"
		if b.Len() == 0 {
			separator = "{\n"
		}
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(v); err != nil {
			panic("conf: key " + e.name + " has no JSON form: " + err.Error())
		}
		fmt.Fprintf(&b, "%s  %q: %s", separator, e.name, bytes.TrimSpace(text.Bytes()))
	}
	b.WriteString("\n}\n")
	return b.Bytes()
}
