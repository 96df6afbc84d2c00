package cert_test

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mrci.dev/mrci/internal/cert"
)

// own returns the configuration of a host that makes its pair in dir.
func own(dir string) cert.Config {
	return cert.Config{Chain: []string{filepath.Join(dir, "tls_chain.pem")}, Key: filepath.Join(dir, "tls_priv.pem"), Make: true}
}

func open(t *testing.T, cfg cert.Config) *cert.Store {
	t.Helper()
	s, err := cert.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMakePair(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	cfg := own(dir)
	cfg.Names = []string{"host.example.com", "192.0.2.77"}
	before := time.Now()
	s := open(t, cfg)
	leaf := s.Leaf()

	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() || leaf.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		t.Errorf("key %T, signature %v, want ECDSA P-256 with SHA-256", leaf.PublicKey, leaf.SignatureAlgorithm)
	}
	if leaf.Subject.CommonName != "host.example.com" || leaf.Issuer.String() != leaf.Subject.String() {
		t.Errorf("subject %v, issuer %v", leaf.Subject, leaf.Issuer)
	}
	for _, name := range []string{"host.example.com", "192.0.2.77", "localhost", "127.0.0.1", "::1"} {
		if err := leaf.VerifyHostname(name); err != nil {
			t.Errorf("name %s: %v", name, err)
		}
	}
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range interfaces {
		if ip := a.(*net.IPNet).IP; leaf.VerifyHostname(ip.String()) != nil && len(leaf.IPAddresses) < cert.MaxNames/2 {
			t.Errorf("address %s of this machine is missing in %v", ip, leaf.IPAddresses)
		}
	}
	if err := leaf.VerifyHostname("other.example.com"); err == nil {
		t.Error("the certificate is for any name")
	}
	if leaf.IsCA || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || leaf.KeyUsage != 0 {
		t.Errorf("authority %v, usages %v and %v", leaf.IsCA, leaf.ExtKeyUsage, leaf.KeyUsage)
	}
	about := func(name string, got, want time.Time) {
		t.Helper()
		if d := got.Sub(want); d < -2*time.Second || d > time.Minute {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	about("not before", leaf.NotBefore, before.Add(-time.Hour))
	about("not after", leaf.NotAfter, before.Add(365*24*time.Hour))
	other := open(t, own(t.TempDir())).Leaf()
	if n := leaf.SerialNumber.BitLen(); n > 128 || n < 64 || leaf.SerialNumber.Cmp(other.SerialNumber) == 0 {
		t.Errorf("serials %v and %v, want random ones of 128 bits", leaf.SerialNumber, other.SerialNumber)
	}

	spki, err := x509.MarshalPKIXPublicKey(leaf.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(spki)
	if got, want := s.Fingerprint(), hex.EncodeToString(sum[:]); got != want {
		t.Errorf("fingerprint %s, want %s", got, want)
	}

	if runtime.GOOS != "windows" {
		for path, mode := range map[string]fs.FileMode{cfg.Key: 0o600, cfg.Chain[0]: 0o600, dir: 0o700 | fs.ModeDir} {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != mode {
				t.Errorf("%s: mode %v, want %v", path, info.Mode(), mode)
			}
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("files in the directory: %v, %v", left, err)
	}

	key1, chain1 := read(t, cfg.Key), read(t, cfg.Chain[0])
	if again := open(t, cfg); again.Fingerprint() != s.Fingerprint() || read(t, cfg.Key) != key1 || read(t, cfg.Chain[0]) != chain1 {
		t.Error("a later start made another pair")
	}
}

func TestMissingFiles(t *testing.T) {
	t.Run("certificate", func(t *testing.T) {
		cfg := own(t.TempDir())
		first := open(t, cfg)
		key := read(t, cfg.Key)
		remove(t, cfg.Chain[0])
		second := open(t, cfg)
		if second.Fingerprint() != first.Fingerprint() || read(t, cfg.Key) != key {
			t.Error("the key was replaced")
		}
		if second.Leaf().SerialNumber.Cmp(first.Leaf().SerialNumber) == 0 {
			t.Error("the same certificate again")
		}
	})
	t.Run("key", func(t *testing.T) {
		cfg := own(t.TempDir())
		open(t, cfg)
		chain := read(t, cfg.Chain[0])
		remove(t, cfg.Key)
		_, err := cert.Open(cfg)
		if err == nil || !strings.Contains(err.Error(), cfg.Key+" is missing") {
			t.Errorf("error: %v", err)
		}
		if read(t, cfg.Chain[0]) != chain {
			t.Error("the certificate was replaced")
		}
		if _, err := os.Stat(cfg.Key); err == nil {
			t.Error("a key was made for somebody's certificate")
		}
	})
	t.Run("broken key", func(t *testing.T) {
		cfg := own(t.TempDir())
		write(t, cfg.Key, []byte("nothing"))
		if _, err := cert.Open(cfg); err == nil || !strings.Contains(err.Error(), cfg.Key) {
			t.Errorf("error: %v", err)
		}
		if read(t, cfg.Key) != "nothing" {
			t.Error("the key was replaced")
		}
	})
	t.Run("at other paths", func(t *testing.T) {
		dir := t.TempDir()
		cfg := own(dir)
		cfg.Make = false
		if _, err := cert.Open(cfg); err == nil || !strings.Contains(err.Error(), cfg.Chain[0]) || !strings.Contains(err.Error(), "tls_cert_chain") {
			t.Errorf("error: %v", err)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("made %v", left)
		}
	})
	t.Run("no paths", func(t *testing.T) {
		if _, err := cert.Open(cert.Config{Make: true}); err == nil {
			t.Error("no error")
		}
	})
}

func TestCheck(t *testing.T) {
	// pairs returns two configurations with files that do not belong together.
	pairs := func(t *testing.T) (a, b cert.Config) {
		t.Helper()
		a, b = own(t.TempDir()), own(t.TempDir())
		open(t, a)
		open(t, b)
		return a, b
	}
	for _, tt := range []struct {
		name       string
		change     func(t *testing.T, cfg *cert.Config, other cert.Config)
		chain, key string // part of the error; empty: none
		none       bool   // there is no certificate yet
	}{
		{name: "good", change: func(t *testing.T, cfg *cert.Config, _ cert.Config) { cfg.Make = false }},
		{name: "own, both missing", none: true, change: func(t *testing.T, cfg *cert.Config, _ cert.Config) {
			remove(t, cfg.Chain[0])
			remove(t, cfg.Key)
		}},
		{name: "own, certificate missing", none: true, change: func(t *testing.T, cfg *cert.Config, _ cert.Config) {
			remove(t, cfg.Chain[0])
		}},
		{name: "own, certificate missing, broken key", key: "no private key", change: func(t *testing.T, cfg *cert.Config, _ cert.Config) {
			remove(t, cfg.Chain[0])
			write(t, cfg.Key, []byte("nothing"))
		}},
		{name: "own, key missing", key: "is missing, but its certificate", change: func(t *testing.T, cfg *cert.Config, _ cert.Config) {
			remove(t, cfg.Key)
		}},
		{name: "both missing", chain: "no such file", key: "no such file", change: func(t *testing.T, cfg *cert.Config, _ cert.Config) {
			cfg.Make = false
			remove(t, cfg.Chain[0])
			remove(t, cfg.Key)
		}},
		{name: "both broken", chain: "no certificate in the file", key: "no private key", change: func(t *testing.T, cfg *cert.Config, _ cert.Config) {
			write(t, cfg.Chain[0], []byte("nothing"))
			write(t, cfg.Key, []byte("nothing"))
		}},
		{name: "another key", key: "does not fit", change: func(t *testing.T, cfg *cert.Config, other cert.Config) {
			cfg.Key = other.Key
		}},
		{name: "wrong order", chain: "put that one first", change: func(t *testing.T, cfg *cert.Config, other cert.Config) {
			cfg.Chain = []string{other.Chain[0], cfg.Chain[0]}
		}},
		{name: "no chain", chain: "names no file", change: func(t *testing.T, cfg *cert.Config, _ cert.Config) { cfg.Chain = nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, other := pairs(t)
			tt.change(t, &cfg, other)
			got := cert.Check(cfg)
			for _, e := range []struct {
				name string
				err  error
				want string
			}{{"chain", got.Chain, tt.chain}, {"key", got.Key, tt.key}} {
				if (e.err == nil) != (e.want == "") || e.err != nil && !strings.Contains(e.err.Error(), e.want) {
					t.Errorf("%s: %v, want %q", e.name, e.err, e.want)
				}
			}
			if fine := tt.chain == "" && tt.key == ""; (got.Leaf != nil) != (fine && !tt.none) {
				t.Errorf("certificate: %v", got.Leaf != nil)
			}
			// Open agrees; it comes last, because it makes files.
			if _, err := cert.Open(cfg); (err == nil) != (got.Chain == nil && got.Key == nil) {
				t.Errorf("Open: %v", err)
			}
		})
	}
}

// Processes that start together end with one pair.
func TestMakeTogether(t *testing.T) {
	cfg := own(t.TempDir())
	var wg sync.WaitGroup
	prints := make([]string, 4)
	for i := range prints {
		wg.Go(func() {
			s, err := cert.Open(cfg)
			if err != nil {
				t.Error(err)
				return
			}
			prints[i] = s.Fingerprint()
		})
	}
	wg.Wait()
	if different := slices.Compact(slices.Sorted(slices.Values(prints))); len(different) != 1 {
		t.Errorf("several keys: %v", different)
	}
}

func TestNames(t *testing.T) {
	parse := func(list ...string) (addrs []netip.Addr) {
		for _, s := range list {
			addrs = append(addrs, netip.MustParseAddr(s))
		}
		return addrs
	}
	var many []netip.Addr
	for i := range 300 {
		many = append(many, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
	}
	tests := []struct {
		name    string
		further []string
		addrs   []netip.Addr
		host    string
		common  string
		ips     []netip.Addr
		hosts   []string
	}{
		{"ordinary", nil, parse("127.0.0.1", "::1", "fe80::1", "2001:db8::1", "192.0.2.1"), "Box.example.",
			"192.0.2.1", parse("192.0.2.1", "127.0.0.1", "::1", "2001:db8::1", "fe80::1"), []string{"box.example", "localhost"}},
		{"configured", []string{"*.a.example", "203.0.113.5", "192.0.2.1"}, parse("192.0.2.1"), "localhost",
			"*.a.example", parse("203.0.113.5", "192.0.2.1", "127.0.0.1", "::1"), []string{"*.a.example", "localhost"}},
		{"only link-local", nil, parse("fe80::1%eth0"), "box",
			"box", parse("127.0.0.1", "::1", "fe80::1"), []string{"box", "localhost"}},
		{"nothing known", nil, nil, "", "localhost", parse("127.0.0.1", "::1"), []string{"localhost"}},
		{"unusable", []string{"a b", "0.0.0.0", "224.0.0.1", ""}, nil, "bóx", "localhost", parse("127.0.0.1", "::1"), []string{"localhost"}},
		{"too long for the common name", []string{strings.Repeat("long.", 13) + "example"}, nil, "box",
			"box", parse("127.0.0.1", "::1"), []string{strings.Repeat("long.", 13) + "example", "box", "localhost"}},
		{"very many", nil, many, "box", "10.0.0.0",
			slices.Concat(many[:1], parse("127.0.0.1", "::1"), many[1:cert.MaxNames-4]), []string{"box", "localhost"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			common, ips, hosts := cert.Names(test.further, test.addrs, test.host)
			if common != test.common || !slices.Equal(ips, test.ips) || !slices.Equal(hosts, test.hosts) {
				t.Errorf("got  %q %v %q\nwant %q %v %q", common, ips, hosts, test.common, test.ips, test.hosts)
			}
		})
	}
}

// authority is a chain of two certificates and the key of the first.
type authority struct {
	leaf, ca, key, rsaLeaf, rsaKey []byte // PEM
	ec                             *ecdsa.PrivateKey
	rsa                            *rsa.PrivateKey
	caKey                          *ecdsa.PrivateKey
}

var makeAuthority = sync.OnceValue(func() authority {
	newKey := func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }
	caKey, ec := newKey(), newKey()
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	issuer := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	sign := func(serial int64, name string, public crypto.PublicKey) []byte {
		return block("CERTIFICATE", must(x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			DNSNames: []string{"host.example"}, NotBefore: issuer.NotBefore, NotAfter: issuer.NotAfter}, issuer, public, caKey)))
	}
	caDER := must(x509.CreateCertificate(rand.Reader, issuer, issuer, caKey.Public(), caKey))
	return authority{
		leaf: sign(2, "leaf", ec.Public()), ca: block("CERTIFICATE", caDER), rsaLeaf: sign(3, "rsa", rsaKey.Public()),
		key: block("PRIVATE KEY", pkcs8(ec)), rsaKey: block("PRIVATE KEY", pkcs8(rsaKey)), ec: ec, rsa: rsaKey, caKey: caKey,
	}
})

func pkcs8(key any) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return der
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestLoad(t *testing.T) {
	a := makeAuthority()
	ecDER, err := x509.MarshalECPrivateKey(a.ec)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		chain [][]byte
		key   []byte
		certs int
	}{
		{"PKCS 8", [][]byte{a.leaf}, a.key, 1},
		{"EC", [][]byte{a.leaf}, block("EC PRIVATE KEY", ecDER), 1},
		{"EC behind its parameters", [][]byte{a.leaf}, append(block("EC PARAMETERS", []byte{6, 8}), block("EC PRIVATE KEY", ecDER)...), 1},
		{"RSA", [][]byte{a.rsaLeaf}, block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(a.rsa)), 1},
		{"RSA in PKCS 8", [][]byte{a.rsaLeaf}, a.rsaKey, 1},
		{"chain in one file", [][]byte{append(slices.Clone(a.leaf), a.ca...)}, a.key, 2},
		{"chain in two files", [][]byte{a.leaf, a.ca}, a.key, 2},
		{"unknown blocks", [][]byte{slices.Concat(block("X", []byte{1}), a.leaf, block("X509 CRL", []byte{2}), []byte("end\n"))}, a.key, 1},
		{"as large as can be", [][]byte{append(slices.Clone(a.leaf), make([]byte, cert.MaxFile-len(a.leaf))...)}, a.key, 1},
		{"text between", [][]byte{append([]byte("subject: leaf\n"), a.leaf...)}, a.key, 1},
		{"all in one file", [][]byte{append(slices.Clone(a.key), a.leaf...)}, append(slices.Clone(a.leaf), a.key...), 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, files(t, test.chain, test.key))
			if got := current(t, s.TLSConfig()); len(got.Certificate) != test.certs || s.Leaf().Subject.CommonName == "authority" {
				t.Errorf("%d certificates, leaf %v, want %d", len(current(t, s.TLSConfig()).Certificate), s.Leaf().Subject, test.certs)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	a := makeAuthority()
	tests := []struct {
		name  string
		chain [][]byte
		key   []byte
		want  string // CHAIN and KEY stand for the paths
	}{
		{"other key", [][]byte{a.leaf}, a.rsaKey, "load private key KEY: it does not fit the certificate in CHAIN: "},
		{"authority first", [][]byte{a.ca, a.leaf}, a.key, "load certificate chain CHAIN: private key KEY belongs to certificate number 2: put that one first"},
		{"half a certificate behind a whole one", [][]byte{append(slices.Clone(a.leaf), a.ca[:len(a.ca)/2]...)}, a.key, "load certificate chain CHAIN: behind 1 whole certificates there is a damaged or half-written one: "},
		{"half a line", [][]byte{append(slices.Clone(a.leaf), "-----BEG"...)}, a.key, "load certificate chain CHAIN: behind 1 whole certificates "},
		{"half a certificate before a whole one", [][]byte{append(slices.Clone(a.ca[:len(a.ca)/2]), a.leaf...)}, a.key, "load certificate chain CHAIN: "},
		{"large chain", [][]byte{append(slices.Clone(a.leaf), make([]byte, cert.MaxFile)...)}, a.key, "load certificate chain: CHAIN is larger than 1024 KiB: "},
		{"large key", [][]byte{a.leaf}, append(slices.Clone(a.key), make([]byte, cert.MaxFile)...), "load private key: KEY is larger than 1024 KiB: "},
		{"key that cannot sign", [][]byte{a.leaf}, block("PRIVATE KEY", pkcs8(must(ecdh.X25519().GenerateKey(rand.Reader)))), "load private key KEY: this kind of key cannot sign: "},
		{"no PEM in chain", [][]byte{[]byte("junk")}, a.key, "load certificate chain CHAIN: no certificate in the file: "},
		{"key for chain", [][]byte{a.key}, a.key, "load certificate chain CHAIN: no certificate in the file: "},
		{"broken certificate", [][]byte{append(slices.Clone(a.leaf), block("CERTIFICATE", []byte{1, 2})...)}, a.key, "load certificate chain CHAIN: certificate number 2: "},
		{"empty key file", [][]byte{a.leaf}, nil, "load private key KEY: no private key in the file: "},
		{"certificate for key", [][]byte{a.leaf}, a.leaf, "load private key KEY: no private key in the file: "},
		{"broken key", [][]byte{a.leaf}, block("PRIVATE KEY", []byte{1, 2}), "load private key KEY: "},
		{"key with a password", [][]byte{a.leaf}, block("ENCRYPTED PRIVATE KEY", []byte{1, 2}), "load private key KEY: the key has a password: "},
		{"old key with a password", [][]byte{a.leaf}, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY",
			Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, Bytes: []byte{1}}), "load private key KEY: the key has a password: "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := files(t, test.chain, test.key)
			_, err := cert.Open(cfg)
			if err == nil {
				t.Fatal("it was taken")
			}
			want := strings.NewReplacer("CHAIN", cfg.Chain[0], "KEY", cfg.Key).Replace(test.want)
			if !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

func TestHandshake(t *testing.T) {
	cfg := own(t.TempDir())
	s := open(t, cfg)
	trust := x509.NewCertPool()
	trust.AddCert(s.Leaf())
	tests := []struct {
		name    string
		lowest  uint16
		client  *tls.Config
		version uint16 // 0: refused
	}{
		{"newest", 0, &tls.Config{}, tls.VersionTLS13},
		{"1.2", tls.VersionTLS12, &tls.Config{MaxVersion: tls.VersionTLS12}, tls.VersionTLS12},
		{"1.1", 0, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, 0},
		{"1.1 wanted by the host", tls.VersionTLS11, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, 0},
		{"1.2 but 1.3 demanded", tls.VersionTLS13, &tls.Config{MaxVersion: tls.VersionTLS12}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			changed := cfg
			changed.MinVersion = test.lowest
			if err := s.SetConfig(changed); err != nil {
				t.Fatal(err)
			}
			client := test.client.Clone()
			client.RootCAs, client.ServerName = trust, "127.0.0.1"
			state, err := handshake(t, s, client)
			if (err == nil) != (test.version != 0) || state.Version != test.version {
				t.Errorf("version %#x, %v, want %#x", state.Version, err, test.version)
			}
		})
	}
	used, err := s.TLSConfig().GetConfigForClient(nil)
	if err != nil || !used.DynamicRecordSizingDisabled || !s.TLSConfig().DynamicRecordSizingDisabled {
		t.Error("records change their size")
	}
}

func handshake(t *testing.T, s *cert.Store, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		defer far.Close()
		c := tls.Server(far, s.TLSConfig())
		if c.Handshake() == nil {
			_, _ = c.Write([]byte{1}) // carries the tickets, which the pipe cannot hold
		}
	}()
	defer func() { near.Close(); <-served }()
	c := tls.Client(near, client)
	if err := c.Handshake(); err != nil {
		return tls.ConnectionState{}, err
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		return tls.ConnectionState{}, fmt.Errorf("read: %w", err)
	}
	return c.ConnectionState(), nil
}

func current(t *testing.T, config *tls.Config) tls.Certificate {
	t.Helper()
	c, err := config.GetConfigForClient(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Certificates[0]
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// files writes a chain and a key that were made elsewhere.
func files(t *testing.T, chain [][]byte, key []byte) cert.Config {
	t.Helper()
	dir := t.TempDir()
	cfg := cert.Config{Key: filepath.Join(dir, "key.pem")}
	for i, text := range chain {
		path := filepath.Join(dir, fmt.Sprintf("chain%d.pem", i))
		write(t, path, text)
		cfg.Chain = append(cfg.Chain, path)
	}
	write(t, cfg.Key, key)
	return cfg
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
