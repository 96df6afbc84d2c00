package client

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Reasons not to trust a key, found in a CertificateError.
var (
	// ErrUnknownKey: no authority vouches for the key and it was never seen.
	ErrUnknownKey = errors.New("the key is not known")
	// ErrChangedKey: the host had another key before.
	ErrChangedKey = errors.New("the key has changed")
)

// ChangedKeyError is an ErrChangedKey with the key that the host had before.
type ChangedKeyError struct {
	Addr       string
	Known, Now string // fingerprints
}

// Error gives both fingerprints.
func (e *ChangedKeyError) Error() string {
	return fmt.Sprintf("%v: known %s, now %s", ErrChangedKey, e.Known, e.Now)
}

// Is makes errors.Is with ErrChangedKey true.
func (e *ChangedKeyError) Is(target error) bool { return target == ErrChangedKey }

// KnownHosts is a file of hosts and the fingerprints of their keys: a line
// each, the address with its port, a blank, the fingerprint. Lines that begin
// with # are kept. Programs may share the file: it is replaced as a whole, never
// rewritten in place.
type KnownHosts struct {
	Path string
}

// Verify returns nil for a key that is known, an ErrUnknownKey, a
// *ChangedKeyError, or why the file cannot be read. It can be Config.VerifyKey.
func (k KnownHosts) Verify(addr, fingerprint string) error {
	lines, err := k.lines()
	if err != nil {
		return err
	}
	for _, line := range lines {
		known, isHost := cutHost(line, addr)
		switch {
		case !isHost:
		case known == fingerprint:
			return nil
		default:
			return &ChangedKeyError{Addr: addr, Known: known, Now: fingerprint}
		}
	}
	return ErrUnknownKey
}

// Add remembers the key of a host, in place of any that it had.
func (k KnownHosts) Add(addr, fingerprint string) error {
	return k.edit(addr, addr+" "+fingerprint)
}

// Forget removes a host, and tells whether it was there.
func (k KnownHosts) Forget(addr string) (bool, error) {
	if err := k.Verify(addr, ""); errors.Is(err, ErrUnknownKey) {
		return false, nil
	}
	return true, k.edit(addr, "")
}

// Hosts returns the addresses in the file, in its order, each with its
// fingerprint.
func (k KnownHosts) Hosts() ([][2]string, error) {
	lines, err := k.lines()
	if err != nil {
		return nil, err
	}
	var hosts [][2]string
	for _, line := range lines {
		if fields := strings.Fields(line); len(fields) == 2 && !strings.HasPrefix(line, "#") {
			hosts = append(hosts, [2]string{fields[0], fields[1]})
		}
	}
	return hosts, nil
}

// cutHost returns the fingerprint in a line about the host.
func cutHost(line, addr string) (string, bool) {
	fields := strings.Fields(line)
	if len(fields) != 2 || strings.HasPrefix(line, "#") || !strings.EqualFold(fields[0], addr) {
		return "", false
	}
	return fields[1], true
}

func (k KnownHosts) lines() ([]string, error) {
	text, err := os.ReadFile(k.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read known hosts: %w", err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"), nil
}

// edit replaces the lines about a host by one, or by none, through a new file
// that takes the place of the old one.
func (k KnownHosts) edit(addr, line string) error {
	lines, err := k.lines()
	if err != nil {
		return err
	}
	var kept []string
	for _, old := range lines {
		if _, isHost := cutHost(old, addr); !isHost && old != "" {
			kept = append(kept, old)
		}
	}
	if line != "" {
		kept = append(kept, line)
	}
	text := strings.Join(kept, "\n")
	if text != "" {
		text += "\n"
	}
	dir := filepath.Dir(k.Path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write known hosts: %w", err)
	}
	next, err := os.CreateTemp(dir, filepath.Base(k.Path)+".*")
	if err != nil {
		return fmt.Errorf("write known hosts: %w", err)
	}
	defer os.Remove(next.Name()) // gone when all went well
	_, err = next.WriteString(text)
	if err == nil {
		err = next.Sync()
	}
	if err2 := next.Close(); err == nil {
		err = err2
	}
	if err == nil {
		err = os.Rename(next.Name(), k.Path)
	}
	if err != nil {
		return fmt.Errorf("write known hosts: %w", err)
	}
	return nil
}
