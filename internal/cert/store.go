package cert

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mrci.dev/mrci/internal/fsys"
)

// Config says where certificate and key are, and how handshakes use them.
type Config struct {
	Chain []string // PEM files in order, leaf first (tls_cert_chain)
	Key   string   // PEM file without a password (tls_priv_key)
	// Make lets the Store write the files when they are missing, and renew a
	// certificate that it made. It is for the paths that the host chose itself;
	// elsewhere a missing file is a mistake.
	Make       bool
	Names      []string // further host names and IP addresses in a made certificate (tls_names)
	MinVersion uint16   // as in crypto/tls; at least TLS 1.2, which is also the default (tls_min)
	Log        *slog.Logger
}

// Store has the certificate that TLS handshakes use.
type Store struct {
	sys    system      // fixed after Open
	serve  *tls.Config // fixed after Open; has the keys of session tickets
	inUse  atomic.Pointer[state]
	failed atomic.Pointer[failures]

	// One at a time, also while files are read and written, so that the newest
	// ones win. Handshakes and Info do not wait for it.
	mu sync.Mutex
	// Guarded by mu.
	wanted    *Config   // of the last SetConfig, whether or not it could be had; nil: that of Open
	namesOpen bool      // the names in a made certificate are to be compared
	early     time.Time // since when a made certificate is not valid yet; not of the wall clock
	reported  []string  // the warnings that the log has
}

// system is what the Store asks the machine for.
type system struct {
	now     func() time.Time // the wall clock
	names   func(further []string) subject
	replace func(path string, text []byte, mode fs.FileMode) error
}

// state is a configuration with the certificate chain and key that were loaded
// by it; it never changes.
type state struct {
	cfg         Config
	tls         *tls.Certificate
	certs       []*x509.Certificate
	serve       *tls.Config // what one handshake uses
	fingerprint string
	own         bool // made by the host, and to be renewed by it
	loaded      time.Time
	notes       []string // warnings that time does not change
}

// failures are the errors since the last success; empty for none.
type failures struct{ load, renew string }

// Open loads certificate and key, and makes them before if they are missing
// and cfg.Make is set: both, or a certificate for the key that is there. A
// certificate that the host made is renewed when it is time or when its names
// have changed; if that fails, it is used as it is, and Run tries again. Open's
// errors name the file and what to do about it.
func Open(cfg Config) (*Store, error) {
	return open(cfg, system{now: time.Now, names: machineNames, replace: fsys.Replace})
}

func open(cfg Config, sys system) (*Store, error) {
	s := &Store{sys: sys}
	s.failed.Store(&failures{})
	s.serve = &tls.Config{
		MinVersion: tls.VersionTLS12,
		// The state's configuration has no ticket keys of its own: those of
		// this one stay in use, and crypto/tls changes them every day.
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return s.inUse.Load().serve, nil
		},
		DynamicRecordSizingDisabled: true,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.applyLocked(cfg); err != nil {
		return nil, err
	}
	return s, nil
}

// SetConfig loads what a new configuration names, or the same one again, as
// Open does. New handshakes then follow it; after an error the old
// configuration and the old pair stay in use. It is for what an administrator
// has asked for, and therefore takes an expired certificate too.
func (s *Store) SetConfig(cfg Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Files that come later are read by this configuration, too.
	cfg.Chain, cfg.Names = slices.Clone(cfg.Chain), slices.Clone(cfg.Names)
	s.wanted = &cfg
	if err := s.applyLocked(cfg); err != nil {
		return s.keptLocked(err)
	}
	return nil
}

// Reload reads the files again. New handshakes then use what they hold; after
// an error everything stays as it was, and the error says so. It never writes:
// neither what is missing nor what should be renewed. An expired certificate
// does not take the place of one that is valid. When the last SetConfig has
// failed, Reload tries that again instead.
//
// Where a program replaces chain and key one after the other, they do not fit
// in between, and Reload fails; it is to be called again after every change. A
// chain whose end has not been written yet can look complete, so a caller that
// watches the files waits until they have been quiet for a moment.
func (s *Store) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wanted != nil && !sameFiles(*s.wanted, s.inUse.Load().cfg) {
		// What an administrator has asked for could not be had then.
		if err := s.applyLocked(*s.wanted); err != nil {
			return s.keptLocked(err)
		}
		return nil
	}
	next, err := s.read(s.inUse.Load().cfg)
	if err == nil {
		err = s.tooOld(next)
	}
	if err != nil {
		return s.keptLocked(err)
	}
	s.useLocked(next)
	return nil
}

// sameFiles reports whether two configurations come to the same.
func sameFiles(a, b Config) bool {
	return slices.Equal(a.Chain, b.Chain) && a.Key == b.Key && a.Make == b.Make &&
		slices.Equal(a.Names, b.Names) && a.MinVersion == b.MinVersion
}

// applyLocked puts a configuration in use.
func (s *Store) applyLocked(cfg Config) error {
	if len(cfg.Chain) == 0 || cfg.Key == "" {
		return errors.New("open certificate: tls_cert_chain and tls_priv_key must both be set")
	}
	cfg.Chain, cfg.Names = slices.Clone(cfg.Chain), slices.Clone(cfg.Names)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Make && len(cfg.Chain) == 1 {
		if err := s.ensure(cfg); err != nil {
			return err
		}
	}
	next, err := s.read(cfg)
	if err != nil {
		return err
	}
	s.namesOpen = true
	s.useLocked(next)
	_ = s.renewLocked() // the log and Info have the error; Run tries again
	return nil
}

// ensure makes what is missing.
func (s *Store) ensure(cfg Config) error {
	chain := cfg.Chain[0]
	hasChain, err := exists(chain)
	if err != nil {
		return fmt.Errorf("open certificate: %w", err)
	}
	hasKey, err := exists(cfg.Key)
	if err != nil {
		return fmt.Errorf("open private key: %w", err)
	}
	switch {
	case hasChain && hasKey:
		return nil
	case hasChain:
		return keyMissing(cfg)
	case !hasKey:
		if err := makeKey(cfg.Key); err != nil {
			return fmt.Errorf("make private key: %w", err)
		}
	}
	// The file again, also for a new key: another process may have been first.
	key, err := loadKey(cfg.Key)
	if err != nil {
		return err
	}
	text, err := newLeaf(key, s.sys.names(cfg.Names), s.sys.now())
	if err == nil {
		err = s.sys.replace(chain, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	return nil
}

func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// read makes a state of what the files hold now.
func (s *Store) read(cfg Config) (*state, error) {
	pair, certs, err := load(cfg.Chain, cfg.Key)
	if err != nil {
		return nil, err
	}
	return &state{
		cfg: cfg, tls: pair, certs: certs,
		serve: &tls.Config{
			MinVersion:   max(cfg.MinVersion, tls.VersionTLS12),
			Certificates: []tls.Certificate{*pair},
			// Small first records would cost a system call each; the frames of
			// one write are to leave together (design 4).
			DynamicRecordSizingDisabled: true,
		},
		fingerprint: fingerprint(pair.Leaf),
		own:         cfg.Make && len(cfg.Chain) == 1 && len(certs) == 1 && isFile(cfg.Chain[0]) && made(pair.Leaf),
		loaded:      s.sys.now(),
		notes:       orderNotes(cfg.Chain, certs),
	}, nil
}

// isFile reports whether path is a file itself: a link there is the work of an
// administrator.
func isFile(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}

// tooOld is an error when next has expired but the pair in use has not.
func (s *Store) tooOld(next *state) error {
	now := s.sys.now()
	ends, used := next.tls.Leaf.NotAfter, s.inUse.Load().tls.Leaf.NotAfter
	if now.After(ends) && !now.After(used) {
		return fmt.Errorf("load certificate chain %s: the certificate expired on %s, the one in use is valid until %s: put a newer one there",
			next.cfg.Chain[0], date(ends), date(used))
	}
	return nil
}

// useLocked puts a state in use.
func (s *Store) useLocked(next *state) {
	previous := s.inUse.Swap(next)
	s.failed.Store(&failures{renew: s.failed.Load().renew})
	if !next.own {
		s.failed.Store(&failures{})
	}
	if previous == nil || !slices.EqualFunc(previous.tls.Certificate, next.tls.Certificate, bytes.Equal) {
		next.cfg.Log.Info("certificate in use", "chain", next.cfg.Chain, "sha256", next.fingerprint, "until", next.tls.Leaf.NotAfter)
	}
	s.reportLocked()
}

// keptLocked notes that what could not be loaded has changed nothing.
func (s *Store) keptLocked(err error) error {
	err = fmt.Errorf("%w; the certificate and settings loaded before stay in use", err)
	s.failed.Store(&failures{load: err.Error(), renew: s.failed.Load().renew})
	return err
}

// TLSConfig returns the configuration for serving, always the same one: its
// handshakes use the certificate and the lowest version that are current then,
// and resume sessions from before a change. It must not be changed, as nothing
// else in it would hold for a handshake.
func (s *Store) TLSConfig() *tls.Config { return s.serve }

// Fingerprint returns the SHA-256 of the current public key (its DER form,
// SubjectPublicKeyInfo) in lower-case hex: what clients pin.
func (s *Store) Fingerprint() string { return s.inUse.Load().fingerprint }

// Leaf returns the current certificate itself; it must not be changed.
func (s *Store) Leaf() *x509.Certificate { return s.inUse.Load().tls.Leaf }

func fingerprint(leaf *x509.Certificate) string {
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}
