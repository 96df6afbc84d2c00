package conf

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/mail"
	"net/netip"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"mrci.dev/mrci/wire"
)

// errInvalid stands for "the value as it was given is not valid"; other errors
// of a kind say more precisely what is wrong.
var errInvalid = errors.New("not valid")

// form is how a value is written in an assignment KEY=VALUE.
type form int

const (
	asJSON form = iota // as in the file
	asText             // as it is, without quotes
	asList             // a text with commas, or JSON
)

// kind is how one sort of value is read, checked and shown.
type kind[T any] struct {
	form form
	want string // what is allowed, in words
	// read takes what decodeValue returns; relative paths count from base.
	read func(v any, base string) (T, error)
	// show returns what JSON holds; paths below base are relative to it, and
	// absolute when base is empty.
	show func(v T, base string) any
}

// value ties a kind to a field of Config and its default.
type value struct {
	form   form
	want   string
	reset  func(c *Config)
	read   func(c *Config, v any) error
	show   func(c *Config, base string) any
	take   func(c, from *Config)
	same   func(a, b *Config) bool
	secret bool
}

func bind[T any](field func(*Config) *T, k kind[T], preset func(Dirs) T) value {
	_, secret := any(*new(T)).(Secret)
	return value{
		form:  k.form,
		want:  k.want,
		reset: func(c *Config) { *field(c) = preset(c.Dirs) },
		read: func(c *Config, v any) error {
			got, err := k.read(v, c.Dirs.Config)
			if err != nil {
				return err
			}
			*field(c) = got
			return nil
		},
		show:   func(c *Config, base string) any { return k.show(*field(c), base) },
		take:   func(c, from *Config) { *field(c) = *field(from) },
		same:   func(a, b *Config) bool { return reflect.DeepEqual(*field(a), *field(b)) },
		secret: secret,
	}
}

// fixed is a default that is the same everywhere.
func fixed[T any](v T) func(Dirs) T { return func(Dirs) T { return v } }

func plain[T any](v T, _ string) any { return v }

var boolean = kind[bool]{
	want: "true or false",
	read: func(v any, _ string) (bool, error) {
		b, ok := v.(bool)
		if !ok {
			return false, errInvalid
		}
		return b, nil
	},
	show: plain[bool],
}

func readInt(v any, lo, hi int64) (int64, error) {
	number, ok := v.(json.Number)
	if !ok {
		return 0, errInvalid
	}
	n, err := strconv.ParseInt(number.String(), 10, 64)
	if err != nil || n < lo || n > hi {
		return 0, errInvalid
	}
	return n, nil
}

// whole is a whole number from lo to hi.
func whole[T ~int | ~int64 | ~uint32](lo, hi int64) kind[T] {
	return kind[T]{
		want: fmt.Sprintf("a whole number from %d to %d", lo, hi),
		read: func(v any, _ string) (T, error) {
			n, err := readInt(v, lo, hi)
			return T(n), err
		},
		show: func(v T, _ string) any { return int64(v) },
	}
}

// span is a time from lo to hi, as a whole number of units.
func span(unit time.Duration, units string, lo, hi int64) kind[time.Duration] {
	return kind[time.Duration]{
		want: fmt.Sprintf("a whole number of %s from %d to %d", units, lo, hi),
		read: func(v any, _ string) (time.Duration, error) {
			n, err := readInt(v, lo, hi)
			return time.Duration(n) * unit, err
		},
		show: func(v time.Duration, _ string) any { return int64(v / unit) },
	}
}

func seconds(lo, hi int64) kind[time.Duration] { return span(time.Second, "seconds", lo, hi) }
func days(lo, hi int64) kind[time.Duration]    { return span(24*time.Hour, "days", lo, hi) }

// textOf is a text that valid accepts. Control characters are never accepted:
// they break lines in mails, logs and paths.
func textOf[T ~string](want string, valid func(string) bool) kind[T] {
	return kind[T]{
		form: asText,
		want: want,
		read: func(v any, _ string) (T, error) {
			s, ok := v.(string)
			if !ok || strings.ContainsFunc(s, unicode.IsControl) || !valid(s) {
				return "", errInvalid
			}
			return T(s), nil
		},
		show: func(v T, _ string) any { return string(v) },
	}
}

func anyText(want string) kind[string] {
	return textOf[string](want, func(string) bool { return true })
}

// secretText is a text that is never shown.
func secretText(want string) kind[Secret] {
	k := textOf[Secret](want, func(string) bool { return true })
	k.show = plain[Secret]
	return k
}

// orNone lets a text also be empty.
func orNone(valid func(string) bool) func(string) bool {
	return func(s string) bool { return s == "" || valid(s) }
}

// option is one value of a choice and how the file writes it.
type option[T comparable] struct {
	text  string
	value T
}

func choice[T comparable](options ...option[T]) kind[T] {
	texts := make([]string, len(options))
	for i, o := range options {
		texts[i] = strconv.Quote(o.text)
	}
	want := texts[0]
	if last := len(texts) - 1; last > 0 {
		want = strings.Join(texts[:last], ", ") + " or " + texts[last]
	}
	return kind[T]{
		form: asText,
		want: want,
		read: func(v any, _ string) (T, error) {
			for _, o := range options {
				if v == any(o.text) {
					return o.value, nil
				}
			}
			return *new(T), errInvalid
		},
		show: func(v T, _ string) any {
			for _, o := range options {
				if o.value == v {
					return o.text
				}
			}
			return fmt.Sprint(v)
		},
	}
}

func words(texts ...string) kind[string] {
	options := make([]option[string], len(texts))
	for i, s := range texts {
		options[i] = option[string]{s, s}
	}
	return choice(options...)
}

var tlsVersion = choice(
	option[uint16]{"1.2", tls.VersionTLS12},
	option[uint16]{"1.3", tls.VersionTLS13},
)

var logLevel = choice(
	option[slog.Level]{"debug", slog.LevelDebug},
	option[slog.Level]{"info", slog.LevelInfo},
	option[slog.Level]{"warn", slog.LevelWarn},
	option[slog.Level]{"error", slog.LevelError},
)

var driver = func() kind[Driver] {
	k := choice(option[Driver]{"QSQLITE", Embedded})
	k.want = `"QSQLITE", the embedded store: this version serves no other driver`
	return k
}()

// resolve makes a path absolute; relative ones count from base.
func resolve(path, base string) (string, error) {
	if path == "" || strings.ContainsFunc(path, unicode.IsControl) {
		return "", errInvalid
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(base, path)
	}
	return filepath.Clean(path), nil
}

// relative is the opposite of resolve for paths below base.
func relative(path, base string) string {
	if base == "" {
		return path
	}
	if rel, err := filepath.Rel(base, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

var path = kind[string]{
	form: asText,
	want: "a path, absolute or relative to the directory of " + FileName,
	read: func(v any, base string) (string, error) {
		s, _ := v.(string)
		return resolve(s, base)
	},
	show: func(v, base string) any { return relative(v, base) },
}

var paths = kind[[]string]{
	form: asText,
	want: `one or more paths with ":" between them, absolute or relative to the directory of ` + FileName,
	read: func(v any, base string) ([]string, error) {
		s, _ := v.(string)
		list := splitPaths(runtime.GOOS, s)
		for i := range list {
			var err error
			if list[i], err = resolve(list[i], base); err != nil {
				return nil, err
			}
		}
		return list, nil
	},
	show: func(v []string, base string) any {
		list := make([]string, len(v))
		for i := range v {
			list[i] = relative(v[i], base)
		}
		return strings.Join(list, ":")
	},
}

// splitPaths splits at colons, except behind a drive letter of Windows.
func splitPaths(goos, s string) []string {
	parts := strings.Split(s, ":")
	if goos != "windows" {
		return parts
	}
	var list []string
	for i := 0; i < len(parts); i++ {
		p := parts[i]
		if len(p) == 1 && isLetter(p[0]) && i+1 < len(parts) && strings.IndexAny(parts[i+1], `/\`) == 0 {
			i++
			p += ":" + parts[i]
		}
		list = append(list, p)
	}
	return list
}

func isLetter(b byte) bool { return b|0x20 >= 'a' && b|0x20 <= 'z' }

// isHost accepts an IP address or the syntax of a host name.
func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return isHostName(s)
}

// isHostName accepts letters, digits, '-' and '_' (which container networks
// use) in labels between dots. A last label of digits alone is a mistyped
// address.
func isHostName(s string) bool {
	if len(s) > 253 {
		return false
	}
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if b := label[i]; !isLetter(b) && !isDigit(b) && b != '-' && b != '_' {
				return false
			}
		}
	}
	last := labels[len(labels)-1]
	return strings.Trim(last, "0123456789") != ""
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

// isCertName accepts what a certificate may name: an address without a zone,
// or a host name, also with "*" as its first label.
func isCertName(s string) bool {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Zone() == ""
	}
	return isHostName(strings.TrimPrefix(s, "*."))
}

var certNames = kind[[]string]{
	form: asList,
	want: "a list of host names and IP addresses",
	read: func(v any, _ string) ([]string, error) {
		var names []string
		switch v := v.(type) {
		case string:
			if v != "" {
				names = strings.Split(v, ",")
			}
		case []any:
			for _, item := range v {
				s, ok := item.(string)
				if !ok {
					return nil, fmt.Errorf("%s is not a host name or an IP address", render(item))
				}
				names = append(names, s)
			}
		default:
			return nil, errInvalid
		}
		for i := range names {
			names[i] = strings.TrimSpace(names[i])
			if !isCertName(names[i]) {
				return nil, fmt.Errorf("%s is not a host name or an IP address", quote(names[i]))
			}
		}
		return names, nil
	},
	show: func(v []string, _ string) any {
		if v == nil {
			return []string{}
		}
		return slices.Clone(v)
	},
}

// isLoopbackPort accepts ADDR:PORT with a loopback address.
func isLoopbackPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

func isMailAddress(s string) bool {
	_, err := mail.ParseAddress(s)
	return err == nil
}

// isMailCommand looks for the keywords of state 5.3. Without %message_body%
// the command gets the body on its standard input.
func isMailCommand(s string) bool {
	s = strings.ToLower(s)
	return strings.Contains(s, "%subject%") && strings.Contains(s, "%target_email%")
}

func isSubject(s string) bool {
	return strings.TrimSpace(s) != "" && utf8.RuneCountInString(s) <= 200
}

// mask is a file mode in octal digits, as a text: JSON has no octal numbers.
var mask = kind[fs.FileMode]{
	form: asText,
	want: `octal digits from "0000" to "0777", in quotes`,
	read: func(v any, _ string) (fs.FileMode, error) {
		s, _ := v.(string)
		n, err := strconv.ParseUint(s, 8, 32)
		if err != nil || n > uint64(fs.ModePerm) {
			return 0, errInvalid
		}
		return fs.FileMode(n), nil
	},
	show: func(v fs.FileMode, _ string) any { return fmt.Sprintf("%04o", uint32(v)) },
}

// roots is an object with a path for each rank (a name of digits alone) or
// user name.
var roots = kind[Roots]{
	want: "an object with a path for each rank or user name",
	read: func(v any, base string) (Roots, error) {
		members, ok := v.([]member)
		if !ok {
			return Roots{}, errInvalid
		}
		r := Roots{ByRank: map[wire.Rank]string{}, ByUser: map[string]string{}}
		users := map[string]bool{} // names without regard to case, as accounts have them
		for _, m := range members {
			s, _ := m.value.(string)
			dir, err := resolve(s, base)
			if err != nil {
				return Roots{}, fmt.Errorf("%s of entry %s is not a path", render(m.value), quote(m.name))
			}
			if strings.Trim(m.name, "0123456789") == "" {
				rank, err := strconv.ParseUint(m.name, 10, 32)
				if err != nil || rank == 0 || m.name[0] == '0' {
					return Roots{}, fmt.Errorf("entry %s is not a rank", quote(m.name))
				}
				r.ByRank[wire.Rank(rank)] = dir
				continue
			}
			if !isUserName(m.name) {
				return Roots{}, fmt.Errorf("entry %s is neither a rank nor a user name", quote(m.name))
			}
			folded := strings.ToLower(strings.ToUpper(m.name))
			if users[folded] {
				return Roots{}, fmt.Errorf("entry %s stands there twice", quote(m.name))
			}
			users[folded] = true
			r.ByUser[m.name] = dir
		}
		return r, nil
	},
	show: func(v Roots, base string) any {
		m := make(map[string]string, len(v.ByRank)+len(v.ByUser))
		for rank, dir := range v.ByRank {
			m[strconv.FormatUint(uint64(rank), 10)] = relative(dir, base)
		}
		for user, dir := range v.ByUser {
			m[user] = relative(dir, base)
		}
		return m
	},
}

// isUserName applies the part of state 2.1 that can be told from the text
// alone; the rest is decided when an account is made.
func isUserName(s string) bool {
	return utf8.RuneCountInString(s) >= 2 && len(s) <= 24 && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })
}
