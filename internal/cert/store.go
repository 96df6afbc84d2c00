package cert

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Config says where certificate and key are.
type Config struct {
	Chain []string // PEM files in order, leaf first (tls_cert_chain)
	Key   string   // PEM file without a password (tls_priv_key)
	// Make lets Open write the files when they are missing. It is for the
	// paths that the host chose itself; elsewhere a missing file is a mistake.
	Make  bool
	Names []string // further host names and IP addresses in a made certificate
}

// Store has the certificate that TLS handshakes use.
type Store struct {
	cfg     Config     // fixed after Open
	reload  sync.Mutex // held by Reload: one at a time, so that the newest files win
	current atomic.Pointer[pair]
}

// pair is a certificate chain with its key; it never changes.
type pair struct {
	tls         *tls.Certificate
	fingerprint string
}

// Open loads certificate and key, and makes them before if they are missing
// and cfg.Make is set: both, or a certificate for the key that is there. Its
// errors name the file and what to do about it.
func Open(cfg Config) (*Store, error) {
	if len(cfg.Chain) == 0 || cfg.Key == "" {
		return nil, errors.New("open certificate: tls_cert_chain and tls_priv_key must both be set")
	}
	if cfg.Make && len(cfg.Chain) == 1 {
		if err := ensure(cfg, time.Now()); err != nil {
			return nil, err
		}
	}
	s := &Store{cfg: cfg}
	if err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// ensure makes what is missing.
func ensure(cfg Config, now time.Time) error {
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
	if err := makeLeaf(chain, key, machineNames(cfg.Names), now); err != nil {
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

// Reload reads the files again. New handshakes then use what they hold; after
// an error everything stays as it was.
func (s *Store) Reload() error {
	s.reload.Lock()
	defer s.reload.Unlock()
	certificate, err := load(s.cfg.Chain, s.cfg.Key)
	if err != nil {
		return err
	}
	s.current.Store(&pair{tls: certificate, fingerprint: fingerprint(certificate.Leaf)})
	return nil
}

// Close ends what the Store does by itself, which is nothing yet. It may be
// called twice; the certificate can still be used.
func (s *Store) Close() error { return nil }

// TLSConfig returns a new configuration for serving, whose handshakes use the
// certificate that is current then. lowest is the lowest version, as in
// crypto/tls; it is at least TLS 1.2.
func (s *Store) TLSConfig(lowest uint16) *tls.Config {
	return &tls.Config{
		MinVersion: max(lowest, tls.VersionTLS12),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.current.Load().tls, nil
		},
		// Small first records would cost a system call each; the frames of one
		// write are to leave together (design 4).
		DynamicRecordSizingDisabled: true,
	}
}

// Fingerprint returns the SHA-256 of the current public key (its DER form,
// SubjectPublicKeyInfo) in lower-case hex: what clients pin.
func (s *Store) Fingerprint() string { return s.current.Load().fingerprint }

// Leaf returns the current certificate itself; it must not be changed.
func (s *Store) Leaf() *x509.Certificate { return s.current.Load().tls.Leaf }

func fingerprint(leaf *x509.Certificate) string {
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}
