package cert_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"log/slog"
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
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"mrci.dev/mrci/internal/cert"
	"mrci.dev/mrci/internal/fsys"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const day = 24 * time.Hour

// machine is one whose clock, addresses and disk a test can change.
type machine struct {
	mu     sync.Mutex
	offset time.Duration // of the wall clock
	addrs  []netip.Addr
	full   error       // of every write
	writes []time.Time // attempts, by the time that passes
	log    bytes.Buffer
}

func newMachine(addrs ...string) *machine {
	m := &machine{}
	m.move(addrs...)
	return m
}

func (m *machine) now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Now().Add(m.offset)
}

func (m *machine) jump(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.offset += d
}

func (m *machine) move(addrs ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.addrs = nil
	for _, a := range addrs {
		m.addrs = append(m.addrs, netip.MustParseAddr(a))
	}
}

func (m *machine) fill(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.full = err
}

func (m *machine) replace(path string, text []byte, mode fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes = append(m.writes, time.Now())
	if m.full != nil {
		return m.full
	}
	return fsys.Replace(path, text, mode)
}

func (m *machine) written() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.writes)
}

func (m *machine) open(t *testing.T, cfg cert.Config) (*cert.Store, cert.Config) {
	t.Helper()
	cfg.Log = slog.New(slog.NewTextHandler(&m.log, nil))
	s, err := cert.OpenOn(cert.Machine{
		Now:     m.now,
		Addrs:   func() []netip.Addr { m.mu.Lock(); defer m.mu.Unlock(); return slices.Clone(m.addrs) },
		Replace: m.replace,
	}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, cfg
}

// run runs s until the test ends it.
func run(s *cert.Store) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	return func() { cancel(); wg.Wait() }
}

// pass lets time go by.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func wantWrites(t *testing.T, m *machine, want int) {
	t.Helper()
	if got := m.written(); got != want {
		t.Fatalf("the certificate was written %d times, want %d\n%s", got, want, m.log.String())
	}
}

func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine("192.0.2.1")
		s, cfg := m.open(t, own(t.TempDir()))
		key, print := read(t, cfg.Key), s.Fingerprint()
		if err := os.Chmod(cfg.Chain[0], 0o640); err != nil {
			t.Fatal(err)
		}
		end := run(s)
		defer end()
		for year := range 3 {
			first := s.Leaf()
			if info := s.Info(); !info.OwnCertificate || !info.Renewal.Equal(first.NotAfter.Add(-30*day)) {
				t.Errorf("own %v, renewal %v, end %v", info.OwnCertificate, info.Renewal, first.NotAfter)
			}
			pass(time.Until(first.NotAfter.Add(-30*day)) - time.Second)
			wantWrites(t, m, 1+year)
			pass(time.Hour)
			wantWrites(t, m, 2+year)
			leaf := s.Leaf()
			if leaf.SerialNumber.Cmp(first.SerialNumber) == 0 || leaf.NotAfter.Sub(first.NotAfter) < 334*day {
				t.Errorf("renewed: serial %v, end %v", leaf.SerialNumber, leaf.NotAfter)
			}
			if s.Fingerprint() != print || read(t, cfg.Key) != key {
				t.Error("the key was replaced")
			}
			if served := current(t, s.TLSConfig()); !bytes.Equal(served.Certificate[0], leaf.Raw) {
				t.Error("handshakes use another certificate")
			}
			if again := open(t, cert.Config{Chain: cfg.Chain, Key: cfg.Key}).Leaf(); !again.Equal(leaf) {
				t.Error("the file has another certificate")
			}
		}
		if info, err := os.Stat(cfg.Chain[0]); err != nil || runtime.GOOS != "windows" && info.Mode() != 0o640 {
			t.Errorf("mode %v, %v, want the one given by the administrator", info.Mode(), err)
		}
		end()
		if n := strings.Count(m.log.String(), `msg="certificate renewed" reason="it expires"`); n != 3 || strings.Contains(m.log.String(), "WARN") {
			t.Errorf("log:\n%s", m.log.String())
		}
	})
}

// A host that was switched off renews before its first handshake.
func TestRenewalAtStart(t *testing.T) {
	for _, off := range []time.Duration{336 * day, 3 * 366 * day} {
		synctest.Test(t, func(t *testing.T) {
			m := newMachine()
			first, cfg := m.open(t, own(t.TempDir()))
			pass(off)
			s, _ := m.open(t, cfg)
			if s.Fingerprint() != first.Fingerprint() || time.Until(s.Leaf().NotAfter) != 365*day {
				t.Errorf("valid until %v", s.Leaf().NotAfter)
			}
			wantWrites(t, m, 2)
			pass(day)
			m.open(t, cfg)
			wantWrites(t, m, 2)
		})
	}
}

func TestRenewalFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		s, cfg := m.open(t, own(t.TempDir()))
		first, text := s.Leaf(), read(t, cfg.Chain[0])
		pass(340 * day)
		m.fill(errors.New("no space left on device"))
		end := run(s)
		defer end()
		pass(4*time.Hour + 30*time.Minute)
		start := m.writes[1]
		var at []int
		for _, w := range m.writes[1:] {
			at = append(at, int(w.Sub(start)/time.Minute))
		}
		if want := []int{0, 1, 3, 7, 15, 31, 63, 123, 183, 243}; !slices.Equal(at, want) {
			t.Errorf("attempts after minutes %v, want %v", at, want)
		}
		if !s.Leaf().Equal(first) || read(t, cfg.Chain[0]) != text {
			t.Error("the certificate has changed")
		}
		if got := s.Info().LastError; !strings.Contains(got, "no space left on device: make it possible to write "+cfg.Chain[0]) {
			t.Errorf("last error %q", got)
		}
		// Reading the files again does not hide it.
		if err := s.Reload(); err != nil || s.Info().LastError == "" {
			t.Errorf("reload: %v, last error %q", err, s.Info().LastError)
		}
		// Neither does it keep a configuration from being used.
		cfg.MinVersion = 0x304
		if err := s.SetConfig(cfg); err != nil || s.Info().LastError == "" {
			t.Errorf("new configuration: %v, last error %q", err, s.Info().LastError)
		}
		m.fill(nil)
		pass(time.Hour)
		if s.Leaf().Equal(first) || s.Info().LastError != "" {
			t.Errorf("valid until %v, last error %q", s.Leaf().NotAfter, s.Info().LastError)
		}
		n := m.written()
		pass(30 * day)
		wantWrites(t, m, n)
	})
}

// What the host did not make stays as it is, also at the host's own path.
func TestRenewalLeavesOthersAlone(t *testing.T) {
	selfSigned := func(change func(*x509.Certificate)) func(t *testing.T, cfg cert.Config) {
		return func(t *testing.T, cfg cert.Config) {
			key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
			template := ownForm()
			change(template)
			write(t, cfg.Chain[0], block("CERTIFICATE", must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))))
			write(t, cfg.Key, block("PRIVATE KEY", pkcs8(key)))
		}
	}
	tests := []struct {
		name string
		put  func(t *testing.T, cfg cert.Config)
		own  bool
	}{
		{"the form itself", selfSigned(func(*x509.Certificate) {}), true},
		{"an authority's", func(t *testing.T, cfg cert.Config) {
			is := issue("ca", time.Now(), time.Now().Add(365*day))
			write(t, cfg.Chain[0], slices.Concat(is.leaf, is.middle, is.root))
			write(t, cfg.Key, is.key)
		}, false},
		{"an authority's without a chain and in the host's form", func(t *testing.T, cfg cert.Config) {
			ca := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
			key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
			write(t, cfg.Chain[0], block("CERTIFICATE", must(x509.CreateCertificate(rand.Reader, ownForm(), ownForm(), key.Public(), ca))))
			write(t, cfg.Key, block("PRIVATE KEY", pkcs8(key)))
		}, false},
		{"self-signed, an authority as OpenSSL makes it", selfSigned(func(c *x509.Certificate) { c.IsCA = true }), false},
		{"self-signed for a year", selfSigned(func(c *x509.Certificate) { c.NotBefore = c.NotBefore.Add(time.Hour) }), false},
		{"self-signed with a key usage", selfSigned(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), false},
		{"self-signed for clients too", selfSigned(func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) }), false},
		{"self-signed of a company", selfSigned(func(c *x509.Certificate) { c.Subject.Organization = []string{"Company"} }), false},
		{"self-signed for one name", selfSigned(func(c *x509.Certificate) { c.DNSNames = []string{"host.example"} }), false},
		{"the host's behind a link", func(t *testing.T, cfg cert.Config) {
			selfSigned(func(*x509.Certificate) {})(t, cfg)
			real := filepath.Join(filepath.Dir(cfg.Key), "real.pem")
			if err := os.Rename(cfg.Chain[0], real); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(real, cfg.Chain[0]); err != nil {
				t.Skip("no symbolic links here:", err)
			}
		}, false},
		{"the host's with another behind it", func(t *testing.T, cfg cert.Config) {
			selfSigned(func(*x509.Certificate) {})(t, cfg)
			write(t, cfg.Chain[0], append([]byte(read(t, cfg.Chain[0])), makeAuthority().ca...))
		}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine("192.0.2.1")
				cfg := own(t.TempDir())
				test.put(t, cfg)
				text, key := read(t, cfg.Chain[0]), read(t, cfg.Key)
				s, cfg := m.open(t, cfg)
				if got := s.Info().OwnCertificate; got != test.own {
					t.Fatalf("made by the host: %v, want %v", got, test.own)
				}
				if test.own {
					return
				}
				cfg.Names = []string{"other.example"}
				set := func() {
					t.Helper()
					if err := s.SetConfig(cfg); err != nil {
						t.Fatal(err)
					}
				}
				set()
				pass(334 * day)
				end := run(s)
				defer end()
				pass(2 * day)
				set()
				pass(30 * day)
				set()
				wantWrites(t, m, 0)
				if read(t, cfg.Chain[0]) != text || read(t, cfg.Key) != key {
					t.Error("files have changed")
				}
				end()
				log := m.log.String()
				if strings.Count(log, "is not renewed by the host") == 0 || strings.Count(log, "certificate number 1 ") > 3 || !strings.Contains(log, "expired on") {
					t.Errorf("log:\n%s", log)
				}
				if !s.Info().Renewal.IsZero() {
					t.Error("a renewal is announced")
				}
			})
		})
	}
	t.Run("the host's at a configured path", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newMachine()
			_, cfg := m.open(t, own(t.TempDir()))
			cfg.Make, cfg.Names = false, []string{"other.example"}
			s, _ := m.open(t, cfg)
			end := run(s)
			defer end()
			pass(400 * day)
			wantWrites(t, m, 1)
			if s.Info().OwnCertificate {
				t.Error("the host takes it for its own")
			}
		})
	})
}

// ownForm is a certificate that looks as if the host had made it.
func ownForm() *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "host.example"}, DNSNames: []string{"host.example", "localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * day),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
}

// What was put there since the last Reload is taken over, not overwritten.
func TestRenewalReadsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		s, cfg := m.open(t, own(t.TempDir()))
		end := run(s)
		defer end()
		is := issue("ca", time.Now(), time.Now().Add(10*365*day))
		write(t, cfg.Chain[0], is.leaf)
		pass(340 * day)
		wantWrites(t, m, 1)
		if got := s.Info().LastError; !strings.Contains(got, "renew certificate: load private key "+cfg.Key+": it does not fit") {
			t.Errorf("last error %q", got)
		}
		if read(t, cfg.Chain[0]) != string(is.leaf) {
			t.Error("the file was overwritten")
		}
		write(t, cfg.Key, is.key)
		pass(time.Hour)
		wantWrites(t, m, 1)
		if info := s.Info(); info.LastError != "" || info.Subject != "CN=ca leaf" || info.OwnCertificate {
			t.Errorf("in use: %+v", info)
		}
	})
}

func TestNamesChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine("192.0.2.1", "fe80::1", "2001:db8::1")
		s, cfg := m.open(t, own(t.TempDir()))
		print := s.Fingerprint()
		set := func() {
			t.Helper()
			if err := s.SetConfig(cfg); err != nil {
				t.Fatal(err)
			}
		}
		set()
		wantWrites(t, m, 1)

		cfg.Names = []string{"host.example", "203.0.113.9"}
		set()
		wantWrites(t, m, 2)
		for _, name := range []string{"host.example", "203.0.113.9", "192.0.2.1", "box"} {
			if err := s.Leaf().VerifyHostname(name); err != nil {
				t.Error(err)
			}
		}
		cfg.Names[0] = "changed by the caller"
		cfg.Names = []string{"203.0.113.9", "host.example"} // another common name
		set()
		wantWrites(t, m, 3)
		if cn := s.Leaf().Subject.CommonName; cn != "203.0.113.9" {
			t.Errorf("common name %s", cn)
		}
		cfg.Names = nil
		set()
		wantWrites(t, m, 4)
		if s.Leaf().VerifyHostname("host.example") == nil || s.Leaf().VerifyHostname("203.0.113.9") == nil {
			t.Error("a name that was taken away is still there")
		}

		m.move("192.0.2.1", "fe80::2", "fe80::3", "2001:db8::1") // containers
		set()
		wantWrites(t, m, 4)
		m.move("192.0.2.2", "fe80::2", "2001:db8::1")
		if err := s.Reload(); err != nil {
			t.Fatal(err)
		}
		end := run(s)
		pass(3 * time.Hour)
		end()
		wantWrites(t, m, 4) // nobody has asked
		s, _ = m.open(t, cfg)
		wantWrites(t, m, 5)
		if err := s.Leaf().VerifyHostname("192.0.2.2"); err != nil {
			t.Error(err)
		}

		// What could not be written is tried again.
		cfg.Names = []string{"late.example"}
		m.fill(errors.New("read-only file system"))
		set()
		if s.Info().LastError == "" || s.Leaf().VerifyHostname("192.0.2.2") != nil {
			t.Errorf("last error %q", s.Info().LastError)
		}
		m.fill(nil)
		end = run(s)
		defer end()
		pass(time.Hour)
		if err := s.Leaf().VerifyHostname("late.example"); err != nil || s.Info().LastError != "" {
			t.Errorf("%v, last error %q", err, s.Info().LastError)
		}
		wantWrites(t, m, 7)
		if s.Fingerprint() != print {
			t.Error("the key was replaced")
		}
	})
}

func TestClockJumps(t *testing.T) {
	const year = 365 * day
	tests := []struct {
		name  string
		jumps []time.Duration // one every half hour
		most  int             // renewals
	}{
		{"an hour forth and back", repeat(50, time.Hour, -time.Hour), 0},
		{"an hour back and forth", repeat(50, -time.Hour, time.Hour), 0},
		{"a day back", []time.Duration{-day}, 1},
		{"a year forward", []time.Duration{year}, 1},
		{"a year forward and back at once", []time.Duration{year, -year}, 2},
		{"a year back", []time.Duration{-year}, 1},
		{"a year back and forward at once", []time.Duration{-year, year}, 0},
		{"a year forth and back all the time", repeat(50, year, -year), 2},
		{"ever on", repeat(20, year), 40},
		{"to 1970 and back", []time.Duration{-30 * year, 30 * year}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine()
				s, _ := m.open(t, own(t.TempDir()))
				print := s.Fingerprint()
				end := run(s)
				defer end()
				pass(time.Hour)
				for _, jump := range test.jumps {
					m.jump(jump)
					pass(30 * time.Minute)
				}
				pass(3 * day)
				if got := m.written() - 1; got > test.most {
					t.Errorf("renewed %d times, want at most %d", got, test.most)
				}
				if now := m.now(); now.Before(s.Leaf().NotBefore) || now.After(s.Leaf().NotAfter) {
					t.Errorf("at %v the certificate is valid from %v until %v", now, s.Leaf().NotBefore, s.Leaf().NotAfter)
				}
				if s.Fingerprint() != print {
					t.Error("the key was replaced")
				}
			})
		})
	}
}

func repeat(n int, jumps ...time.Duration) (all []time.Duration) {
	for range n {
		all = append(all, jumps...)
	}
	return all
}

// A machine that knows the time only after the host has started.
func TestClockSetLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		_, cfg := m.open(t, own(t.TempDir()))
		pass(100 * day)
		m.jump(-25 * 365 * day)
		s, _ := m.open(t, cfg)
		end := run(s)
		defer end()
		if w := s.Info().Warnings; len(w) != 1 || !strings.Contains(w[0], "is not valid before 1999-12-31 23:00 UTC: check the clock") {
			t.Errorf("warnings %q", w)
		}
		pass(30 * time.Minute)
		m.jump(25 * 365 * day)
		pass(day)
		wantWrites(t, m, 1)
		if w := s.Info().Warnings; len(w) != 0 {
			t.Errorf("warnings %q", w)
		}
	})
}

// issued is what an authority gives: a chain of three certificates, in PEM, and the key of the first.
type issued struct {
	leaf, middle, root, key []byte
	trust                   *x509.CertPool // with the root only
}

func issue(name string, notBefore, notAfter time.Time) issued {
	key := func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }
	serial := int64(0)
	sign := func(role string, public crypto.PublicKey, parent *x509.Certificate, by crypto.Signer) *x509.Certificate {
		serial++
		c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name + " " + role}, NotBefore: notBefore, NotAfter: notAfter}
		if role == "leaf" {
			c.DNSNames = []string{"host.example"}
		} else {
			c.IsCA, c.BasicConstraintsValid = true, true
		}
		if parent == nil {
			parent = c
		}
		return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, c, parent, public, by))))
	}
	rootKey, middleKey, leafKey := key(), key(), key()
	root := sign("root", rootKey.Public(), nil, rootKey)
	middle := sign("intermediate", middleKey.Public(), root, rootKey)
	leaf := sign("leaf", leafKey.Public(), middle, middleKey)
	is := issued{
		leaf: block("CERTIFICATE", leaf.Raw), middle: block("CERTIFICATE", middle.Raw), root: block("CERTIFICATE", root.Raw),
		key: block("PRIVATE KEY", pkcs8(leafKey)), trust: x509.NewCertPool(),
	}
	is.trust.AddCert(root)
	return is
}
