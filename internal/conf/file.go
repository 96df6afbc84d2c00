package conf

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// File is what a configuration file says.
type File struct {
	Name   string
	Places map[string]Place // where the value of each key stands that the file has
	// Config has the values that are valid; every other key has its default.
	// Only without Faults is it a configuration.
	Config Config
	Faults Faults
}

// Place is a place in a file. Lines and columns count from 1, columns in
// characters; zero is the file as a whole.
type Place struct{ Line, Column int }

// Fault is one thing that is wrong with a configuration file.
type Fault struct {
	File string
	Place
	Key string // what it is about; empty: no key that there is
	Err error  // begins with the key, if there is one
}

// Error returns the file, the place and what is wrong, in one line.
func (f *Fault) Error() string { return f.at() + ": " + f.Err.Error() }

// Unwrap returns what is wrong.
func (f *Fault) Unwrap() error { return f.Err }

func (f *Fault) at() string {
	if f.Line == 0 {
		return f.File
	}
	return fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
}

// Faults is everything that is wrong with a configuration file, in the order
// of the file. As an error there is at least one.
type Faults []*Fault

// Error returns the first fault and the number of the others, in one line.
func (f Faults) Error() string {
	switch others := len(f) - 1; {
	case others < 0:
		return "no fault"
	case others == 0:
		return f[0].Error()
	case others == 1:
		return f[0].Error() + "; and one more fault, which config check shows"
	default:
		return fmt.Sprintf("%s; and %d more faults, which config check shows", f[0].Error(), others)
	}
}

// Unwrap returns the faults one by one.
func (f Faults) Unwrap() []error {
	list := make([]error, len(f))
	for i := range f {
		list[i] = f[i]
	}
	return list
}

// valid returns the configuration, or the faults.
func (f *File) valid() (Config, error) {
	if len(f.Faults) > 0 {
		return Config{}, f.Faults
	}
	return f.Config, nil
}

// Fault makes a fault of a key that is in the file or has its default.
func (f *File) Fault(key string, err error) *Fault {
	return &Fault{f.Name, f.Places[key], key, fmt.Errorf("%s: %w", key, err)}
}

// maxFaults is more than a person corrects at once. To find the nearest of all
// keys takes its time, and a file has room for many that are unknown.
const maxFaults = 100

// Inspect reads the text of a configuration file and goes on behind faults, as
// far as the text is JSON. Relative paths count from dirs.Config.
func Inspect(file string, text []byte, dirs Dirs) File {
	// Some editors begin a text with a byte order mark.
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	f := File{Name: file, Places: make(map[string]Place), Config: Defaults(dirs)}
	fail := func(at int, key string, err error) {
		f.Faults = append(f.Faults, &Fault{file, place(text, at), key, err})
	}
	if len(bytes.TrimSpace(text)) == 0 {
		fail(0, "", errors.New("the file is empty: want a JSON object; without the file the host writes a new one"))
		return f
	}
	v, faults := decodeValue(text)
	for _, fault := range faults {
		fail(fault.at, "", fault.err)
	}
	members, ok := v.([]member)
	if !ok {
		if len(faults) == 0 {
			fail(0, "", errors.New("want a JSON object with the keys of the configuration"))
		}
		return f
	}
	wrong := make(map[string]bool)
	for _, m := range members {
		if len(f.Faults) >= maxFaults {
			fail(m.nameAt, "", errors.New("there are more faults than are shown: correct those above first"))
			break
		}
		e, err := find(m.name)
		if err != nil {
			fail(m.nameAt, "", err)
			continue
		}
		f.Places[e.name] = place(text, m.valueAt)
		if err := e.put(&f.Config, m.value); err != nil {
			wrong[e.name] = true
			fail(m.valueAt, e.name, err)
		}
	}
	for _, rule := range together {
		// A value that is wrong has said so, and its default says nothing.
		if slices.ContainsFunc(rule.keys, func(key string) bool { return wrong[key] }) {
			continue
		}
		if err := rule.check(&f.Config); err != nil {
			fault := &Fault{File: file, Key: rule.keys[0], Err: err}
			for _, key := range rule.keys {
				if at, there := f.Places[key]; there {
					fault.Place = at
					break
				}
			}
			f.Faults = append(f.Faults, fault)
		}
	}
	slices.SortStableFunc(f.Faults, func(a, b *Fault) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column)
	})
	return f
}
