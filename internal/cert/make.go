package cert

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"mrci.dev/mrci/internal/fsys"
)

// The life of a made certificate (state 8). Its beginning lies in the past for
// clients whose clock is behind.
const (
	validBefore = time.Hour
	validFor    = 365 * 24 * time.Hour
)

// maxNames is how many names a made certificate has, unless more are
// configured: machines with containers can have hundreds of addresses, and
// every handshake carries all names.
const maxNames = 100

// maxCommonName is the longest text that the field may have (X.520).
const maxCommonName = 64

// subject is what a certificate is made for.
type subject struct {
	common string // CN; also one of the others
	addrs  []netip.Addr
	hosts  []string
}

// machineNames returns the names to be in a certificate of this machine: the
// further ones, its addresses and its host name, and loopback.
func machineNames(further []string) subject {
	// A machine that does not tell its addresses or its name still has the
	// loopback ones and those configured.
	interfaces, _ := net.InterfaceAddrs()
	var addrs []netip.Addr
	for _, a := range interfaces {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				addrs = append(addrs, addr.Unmap())
			}
		}
	}
	host, _ := os.Hostname()
	return names(further, addrs, host)
}

// names puts together and in order what a certificate names. Its common name
// is the text that clients most likely type, because old ones compare it with
// nothing else: a configured name, else an address that others can reach, IPv4
// first, else the host name.
func names(further []string, addrs []netip.Addr, host string) subject {
	var s subject
	add := func(name string) {
		text := ""
		if addr, err := netip.ParseAddr(name); err == nil {
			addr = addr.Unmap().WithZone("")
			if addr.IsUnspecified() || addr.IsMulticast() || slices.Contains(s.addrs, addr) {
				return
			}
			s.addrs = append(s.addrs, addr)
			text = addr.String()
		} else {
			text = strings.ToLower(strings.TrimSuffix(name, "."))
			if !isHostName(text) || slices.Contains(s.hosts, text) {
				return
			}
			s.hosts = append(s.hosts, text)
		}
		if s.common == "" && len(text) <= maxCommonName {
			s.common = text
		}
	}
	for _, name := range further {
		add(name)
	}
	// The most useful addresses first: what does not fit goes from the end.
	addrs = slices.Clone(addrs)
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return usefulness(b) - usefulness(a) })
	if s.common == "" && len(addrs) > 0 && addrs[0].IsGlobalUnicast() {
		add(addrs[0].String())
	}
	for _, name := range []string{host, "localhost", "127.0.0.1", "::1"} {
		add(name)
	}
	for _, addr := range addrs {
		if len(s.addrs)+len(s.hosts) < maxNames {
			add(addr.String())
		}
	}
	return s
}

// usefulness tells apart what other machines can reach well, hardly and not at all.
func usefulness(addr netip.Addr) int {
	switch {
	case !addr.IsGlobalUnicast():
		return 0
	case addr.Is4():
		return 2
	}
	return 1
}

// isHostName keeps out of a certificate what other programs would refuse it for.
func isHostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimPrefix(s, "*."), ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// makeKey writes a new key, unless the file exists by now.
func makeKey(file string) error {
	// P-256 costs a third of the processor time that RSA does.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	_, err = fsys.Create(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	return err
}

// newLeaf returns a new certificate for key, in PEM.
func newLeaf(key crypto.Signer, s subject, now time.Time) ([]byte, error) {
	der, err := leaf(key, s, now)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// leaf returns a self-signed certificate in DER.
func leaf(key crypto.Signer, s subject, now time.Time) ([]byte, error) {
	serial := make([]byte, 16)
	if _, err := rand.Read(serial); err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		Subject:      pkix.Name{CommonName: s.common},
		NotBefore:    now.Add(-validBefore),
		NotAfter:     now.Add(validFor),
		DNSNames:     s.hosts,
		// No key usage: programs built on older OpenSSL take a certificate
		// with one, but without the right to sign others, for one of an
		// unknown issuer instead of a self-signed one, which they accept.
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, // and no authority: this key vouches for nobody else
	}
	for _, addr := range s.addrs {
		template.IPAddresses = append(template.IPAddresses, addr.AsSlice())
	}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}

// made reports whether c has the form that leaf gives, and is signed by its
// own key. Other programs' self-signed certificates differ in several points:
// OpenSSL's are those of an authority, and nobody else's life is some whole
// days and an hour. A later form must be told here beside this one, or
// certificates made before are never renewed again.
func made(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) &&
		len(c.Subject.Names) == 1 && c.Subject.CommonName != "" &&
		c.NotAfter.Sub(c.NotBefore) == validBefore+validFor &&
		c.BasicConstraintsValid && !c.IsCA && c.KeyUsage == 0 &&
		slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) && len(c.UnknownExtKeyUsage) == 0 &&
		slices.Contains(c.DNSNames, "localhost") && slices.Contains(addrsOf(c), netip.AddrFrom4([4]byte{127, 0, 0, 1})) &&
		c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// namedBy reports whether c, made by leaf, still names s, and nothing else.
// Link-local addresses do not count: they come and go with containers, and
// hardly anybody types them.
func (s subject) namedBy(c *x509.Certificate) bool {
	lasting := func(addrs []netip.Addr) []netip.Addr {
		addrs = slices.DeleteFunc(slices.Clone(addrs), netip.Addr.IsLinkLocalUnicast)
		slices.SortFunc(addrs, netip.Addr.Compare)
		return addrs
	}
	return s.common == c.Subject.CommonName &&
		slices.Equal(lasting(s.addrs), lasting(addrsOf(c))) &&
		slices.Equal(slices.Sorted(slices.Values(s.hosts)), slices.Sorted(slices.Values(c.DNSNames)))
}

// addrsOf returns the IP addresses that c names.
func addrsOf(c *x509.Certificate) []netip.Addr {
	var addrs []netip.Addr
	for _, ip := range c.IPAddresses {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs
}
