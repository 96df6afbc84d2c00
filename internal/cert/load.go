package cert

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"mrci.dev/mrci/internal/fsys"
)

// maxFile is how large a PEM file may be, in bytes; a chain of four
// certificates has about 8 KiB.
const maxFile = 1 << 20

// load reads a chain and its key. The result is complete: key and leaf fit.
func load(chain []string, keyFile string) (*tls.Certificate, []*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, file := range chain {
		more, err := loadCerts(file)
		if err != nil {
			return nil, nil, err
		}
		certs = append(certs, more...)
	}
	key, err := loadKey(keyFile)
	if err != nil {
		return nil, nil, err
	}
	if chainErr, keyErr := fit(chain[0], keyFile, key, certs); chainErr != nil || keyErr != nil {
		return nil, nil, cmp.Or(chainErr, keyErr)
	}
	result := &tls.Certificate{PrivateKey: key, Leaf: certs[0]}
	for _, c := range certs {
		result.Certificate = append(result.Certificate, c.Raw)
	}
	return result, certs, nil
}

// fit says why the key is not that of the first certificate: the order of the
// chain is wrong, or the key.
func fit(chainFile, keyFile string, key crypto.Signer, certs []*x509.Certificate) (chainErr, keyErr error) {
	switch n := ownerOf(key, certs); {
	case n > 0:
		return fmt.Errorf("load certificate chain %s: private key %s belongs to certificate number %d: put that one first", chainFile, keyFile, n+1), nil
	case n < 0:
		return nil, fmt.Errorf("load private key %s: it does not fit the certificate in %s: set tls_cert_chain and tls_priv_key to files made together", keyFile, chainFile)
	}
	return nil, nil
}

// ownerOf returns the index of the first certificate that key fits, or -1.
func ownerOf(key crypto.Signer, certs []*x509.Certificate) int {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if ok {
		for i, c := range certs {
			if public.Equal(c.PublicKey) {
				return i
			}
		}
	}
	return -1
}

// readFile reads a whole file of bounded size. Whatever is not a file is
// refused before it is opened: opening a pipe would wait for its other end.
func readFile(file string) ([]byte, error) {
	text, err := fsys.ReadFile(file, maxFile)
	switch {
	case errors.Is(err, fsys.ErrNoFile):
		return nil, fmt.Errorf("%s is not a file", file)
	case errors.Is(err, fsys.ErrTooLarge):
		return nil, fmt.Errorf("%s is larger than %d KiB", file, maxFile>>10)
	}
	return text, err
}

// loadCerts reads the certificates of one file, and passes over anything else
// in it, except for what a program has written half.
func loadCerts(file string) ([]*x509.Certificate, error) {
	text, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("load certificate chain: %w: correct tls_cert_chain or put the file there", err)
	}
	// The decoder passes over blocks that it does not understand; a chain
	// without its end would go unnoticed until a client cannot verify it.
	begun := bytes.Count(text, []byte("-----BEGIN CERTIFICATE-----"))
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("load certificate chain %s: certificate number %d: %w: put a valid PEM file there", file, len(certs)+1, err)
		}
		certs = append(certs, c)
	}
	const begin = "-----BEGIN "
	last := text[bytes.LastIndexByte(text, '\n')+1:]
	if begun > len(certs) || bytes.Contains(text, []byte(begin)) || len(last) > 0 && strings.HasPrefix(begin, string(last)) {
		return nil, fmt.Errorf("load certificate chain %s: behind %d whole certificates there is a damaged or half-written one: put a complete PEM file there", file, len(certs))
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("load certificate chain %s: no certificate in the file: put a PEM file there, with lines BEGIN CERTIFICATE and END CERTIFICATE", file)
	}
	return certs, nil
}

// loadKey reads the private key of a file: EC, RSA or PKCS #8. Its errors show
// nothing of the file.
func loadKey(file string) (crypto.Signer, error) {
	text, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("load private key: %w: correct tls_priv_key or put the file there", err)
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, fmt.Errorf("load private key %s: no private key in the file: put a PEM file there, with lines BEGIN PRIVATE KEY and END PRIVATE KEY", file)
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return nil, fmt.Errorf("load private key %s: the key has a password: store it without one, for example with: openssl pkey", file)
		}
		var key any
		switch block.Type {
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		default:
			continue // EC PARAMETERS, or a certificate in the same file
		}
		signer, ok := key.(crypto.Signer)
		if err == nil && !ok {
			err = errors.New("this kind of key cannot sign")
		}
		if err != nil {
			return nil, fmt.Errorf("load private key %s: %w: put an EC or RSA key in PEM there", file, err)
		}
		return signer, nil
	}
}
