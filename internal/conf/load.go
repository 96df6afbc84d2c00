package conf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"mrci.dev/mrci/internal/fsys"
)

// maxFile is far above what all keys together can need.
const maxFile = 1 << 20

// Load reads the configuration file at path. Keys that it does not have keep
// their defaults for dirs, where dirs.Config becomes the directory of the file.
// The error wraps fs.ErrNotExist when there is no file; faults of what is in it
// are Faults.
func Load(path string, dirs Dirs) (Config, error) {
	f, err := Read(path, dirs)
	if err != nil {
		return Config{}, err
	}
	return f.valid()
}

// Read is Load for those who look at a file rather than use it: faults of what
// is in it are no error.
func Read(path string, dirs Dirs) (File, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return File{}, fmt.Errorf("read configuration: %w", err)
	}
	text, err := readFile(path)
	if err != nil {
		return File{}, fmt.Errorf("read configuration: %w", err)
	}
	dirs.Config = filepath.Dir(path)
	return Inspect(path, text, dirs), nil
}

func readFile(path string) ([]byte, error) {
	text, err := fsys.ReadFile(path, maxFile)
	switch {
	case errors.Is(err, fsys.ErrNoFile):
		return nil, fmt.Errorf("%s: it is no regular file: put the configuration there", path)
	case errors.Is(err, fsys.ErrTooLarge):
		return nil, fmt.Errorf("%s: the file is larger than %d bytes", path, maxFile)
	}
	return text, err
}

// Parse reads the text of a configuration file. The error is Faults; relative
// paths in the text count from dirs.Config.
func Parse(file string, text []byte, dirs Dirs) (Config, error) {
	f := Inspect(file, text, dirs)
	return f.valid()
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
	v, faults := decodeValue(text)
	if len(faults) > 0 {
		return nil, faults[0].err
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
