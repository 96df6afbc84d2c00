package cert

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
)

// Findings is what Check finds.
type Findings struct {
	Leaf  *x509.Certificate // nil where there is none yet, or a fault
	Chain error             // what is wrong with the certificate files
	Key   error             // what is wrong with the private key, alone or for these certificates
}

// Check reads what Open would read and reports what Open would refuse. It makes
// nothing: files that Open would make may be missing.
func Check(cfg Config) Findings {
	var f Findings
	var certs []*x509.Certificate
	chainMissing := false
	for _, file := range cfg.Chain {
		more, err := loadCerts(file)
		if err != nil {
			f.Chain, chainMissing = err, errors.Is(err, fs.ErrNotExist)
			break
		}
		certs = append(certs, more...)
	}
	key, err := loadKey(cfg.Key)
	f.Key = err
	if cfg.Make && len(cfg.Chain) == 1 {
		if chainMissing {
			f.Chain = nil // Open makes one
			if errors.Is(err, fs.ErrNotExist) {
				f.Key = nil
			}
			return f
		}
		if errors.Is(err, fs.ErrNotExist) {
			f.Key = keyMissing(cfg)
			return f
		}
	}
	if f.Chain != nil || f.Key != nil {
		return f
	}
	if len(certs) == 0 {
		f.Chain = errors.New("tls_cert_chain names no file")
		return f
	}
	if f.Chain, f.Key = fit(cfg.Chain[0], cfg.Key, key, certs); f.Chain == nil && f.Key == nil {
		f.Leaf = certs[0]
	}
	return f
}

// keyMissing is the error for a certificate whose key is gone.
func keyMissing(cfg Config) error {
	return fmt.Errorf("open private key: %s is missing, but its certificate %s is there: "+
		"put the key back, or move the certificate away to have a new pair made", cfg.Key, cfg.Chain[0])
}
