package cert_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mrci.dev/mrci/internal/cert"
)

// put writes a chain and a key to the paths of cfg.
func put(t *testing.T, cfg cert.Config, chain, key []byte) {
	t.Helper()
	write(t, cfg.Chain[0], chain)
	write(t, cfg.Key, key)
}

func (is issued) chain() []byte { return slices.Concat(is.leaf, is.middle, is.root) }

func valid(name string) issued {
	return issue(name, time.Now().Add(-time.Hour), time.Now().Add(90*day))
}

func TestReload(t *testing.T) {
	a, b, old := valid("a"), valid("b"), issue("old", time.Now().Add(-9*day), time.Now().Add(-day))
	cfg := files(t, [][]byte{a.chain()}, a.key)
	s := open(t, cfg)
	config := s.TLSConfig() // made before: its handshakes follow
	first := s.Fingerprint()
	tests := []struct {
		name       string
		chain, key []byte
		want       string // CHAIN and KEY stand for the paths
	}{
		{"key first", a.chain(), b.key, "load private key KEY: it does not fit the certificate in CHAIN: "},
		{"chain first", b.chain(), a.key, "load private key KEY: it does not fit the certificate in CHAIN: "},
		{"half a chain", b.chain()[:len(b.leaf)+100], b.key, "load certificate chain CHAIN: behind 1 whole certificates there is a damaged or half-written one: "},
		{"half a leaf", b.leaf[:100], b.key, "load certificate chain CHAIN: behind 0 whole certificates there is a damaged or half-written one: "},
		{"half a key", b.chain(), b.key[:60], "load private key KEY: no private key in the file: "},
		{"empty chain", nil, b.key, "load certificate chain CHAIN: no certificate in the file: "},
		{"wrong order", slices.Concat(b.middle, b.leaf), b.key, "load certificate chain CHAIN: private key KEY belongs to certificate number 2: "},
		{"expired", old.chain(), old.key, "load certificate chain CHAIN: the certificate expired on "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			put(t, cfg, test.chain, test.key)
			err := s.Reload()
			if err == nil {
				t.Fatal("it was taken")
			}
			want := strings.NewReplacer("CHAIN", cfg.Chain[0], "KEY", cfg.Key).Replace(test.want)
			if got := err.Error(); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "; the certificate and settings loaded before stay in use") || strings.Contains(got, "\n") {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if s.Fingerprint() != first || current(t, config).Leaf.Subject.CommonName != "a leaf" || len(current(t, config).Certificate) != 3 {
				t.Error("an error changed the pair")
			}
			if got := s.Info().LastError; got != err.Error() {
				t.Errorf("last error %q", got)
			}
		})
	}
	put(t, cfg, b.chain(), b.key)
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if s.Fingerprint() == first || s.Leaf().Subject.CommonName != "b leaf" || current(t, config).Leaf.Subject.CommonName != "b leaf" {
		t.Error("the new pair is not in use")
	}
	if got := s.Info().LastError; got != "" {
		t.Errorf("last error %q", got)
	}
	remove(t, cfg.Key)
	if err := s.Reload(); err == nil || s.Leaf().Subject.CommonName != "b leaf" {
		t.Errorf("without a key: %v", err)
	}
}

// Reload makes nothing, also where the host may.
func TestReloadWritesNothing(t *testing.T) {
	cfg := own(t.TempDir())
	s := open(t, cfg)
	leaf := s.Leaf()
	remove(t, cfg.Chain[0])
	if err := s.Reload(); err == nil || !s.Leaf().Equal(leaf) {
		t.Errorf("reload: %v", err)
	}
	if _, err := os.Stat(cfg.Chain[0]); err == nil {
		t.Error("a certificate was made")
	}
	if err := s.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	if s.Leaf().Equal(leaf) || !slices.Equal(s.Leaf().RawSubjectPublicKeyInfo, leaf.RawSubjectPublicKeyInfo) {
		t.Error("want another certificate for the same key")
	}
}

func TestSetConfig(t *testing.T) {
	a, b := valid("a"), valid("b")
	first, second := files(t, [][]byte{a.chain()}, a.key), files(t, [][]byte{b.leaf, b.middle}, b.key)
	s := open(t, first)
	lowest := func() uint16 {
		c, err := s.TLSConfig().GetConfigForClient(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.MinVersion
	}
	broken := second
	broken.Key, broken.MinVersion = filepath.Join(t.TempDir(), "none.pem"), tls.VersionTLS13
	for _, cfg := range []cert.Config{broken, {}, {Chain: first.Chain}, {Chain: []string{t.TempDir()}, Key: first.Key}} {
		err := s.SetConfig(cfg)
		if err == nil || !strings.HasSuffix(err.Error(), "stay in use") {
			t.Errorf("error %v", err)
		}
		if info := s.Info(); info.Subject != "CN=a leaf" || info.Key != first.Key || lowest() != tls.VersionTLS12 {
			t.Errorf("in use: %+v", info)
		}
	}
	if err := s.Reload(); err == nil { // what was asked for last
		t.Error("a reload has forgotten what was asked for")
	}
	// What was asked for comes later.
	late := second
	late.Key, late.MinVersion = filepath.Join(t.TempDir(), "late.pem"), tls.VersionTLS13
	if err := s.SetConfig(late); err == nil {
		t.Error("a key that is not there was loaded")
	}
	text, err := os.ReadFile(second.Key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, late.Key, text)
	if err := s.Reload(); err != nil {
		t.Error(err)
	}
	if info := s.Info(); info.Key != late.Key || info.LastError != "" || lowest() != tls.VersionTLS13 {
		t.Errorf("in use: %+v", info)
	}
	second.MinVersion = tls.VersionTLS13
	if err := s.SetConfig(second); err != nil {
		t.Fatal(err)
	}
	if info := s.Info(); info.Subject != "CN=b leaf" || !slices.Equal(info.Chain, second.Chain) || info.LastError != "" || lowest() != tls.VersionTLS13 {
		t.Errorf("in use: %+v", info)
	}
	second.Chain[0] = "changed by the caller"
	if err := s.Reload(); err != nil {
		t.Error(err)
	}

	// To the host's own paths, where nothing is yet.
	made := own(t.TempDir())
	if err := s.SetConfig(made); err != nil || !s.Info().OwnCertificate {
		t.Errorf("made: %v, %+v", err, s.Info())
	}
}

func TestMakeFails(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	write(t, file, nil)
	for name, cfg := range map[string]cert.Config{
		"directory is a file": own(filepath.Join(file, "below")),
		"chain below a file":  {Chain: []string{filepath.Join(file, "chain.pem")}, Key: filepath.Join(dir, "key.pem"), Make: true},
		"key below a file":    {Chain: []string{filepath.Join(dir, "chain.pem")}, Key: filepath.Join(file, "key.pem"), Make: true},
	} {
		if _, err := cert.Open(cfg); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInfo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine("192.0.2.1", "2001:db8::1")
		cfg := own(t.TempDir())
		cfg.Names = []string{"host.example"}
		s, cfg := m.open(t, cfg)
		info := s.Info()
		now := time.Now().UTC()
		if !slices.Equal(info.Chain, cfg.Chain) || info.Key != cfg.Key || info.Subject != "CN=host.example" ||
			!slices.Equal(info.Names, []string{"host.example", "box", "localhost", "127.0.0.1", "::1", "192.0.2.1", "2001:db8::1"}) ||
			!info.NotBefore.Equal(now.Add(-time.Hour)) || !info.NotAfter.Equal(now.Add(365*day)) || info.SHA256 != s.Fingerprint() ||
			!info.OwnCertificate || !info.Renewal.Equal(now.Add(335*day)) || !info.Loaded.Equal(now) || info.LastError != "" || info.Warnings != nil {
			t.Errorf("%+v", info)
		}
		pass(time.Hour)
		if err := s.Reload(); err != nil {
			t.Fatal(err)
		}
		if got := s.Info().Loaded; !got.Equal(now.Add(time.Hour)) {
			t.Errorf("loaded %v", got)
		}
	})
}

func TestWarnings(t *testing.T) {
	now := time.Now()
	at := func(d time.Duration) string { return now.Add(d).UTC().Format("2006-01-02 15:04 MST") }
	old, early, soon, short := issue("old", now.Add(-9*day), now.Add(-day)), issue("early", now.Add(day), now.Add(9*day)),
		issue("soon", now.Add(-80*day), now.Add(10*day)), issue("short", now.Add(-day), now.Add(5*day))
	a, b := valid("a"), valid("b")
	tests := []struct {
		name  string
		chain []byte
		key   []byte
		want  []string
	}{
		{"none", a.chain(), a.key, nil},
		{"without the root", slices.Concat(a.leaf, a.middle), a.key, nil},
		{"short life", short.leaf, short.key, nil},
		{"expired", old.leaf, old.key, []string{"certificate number 1 (CN=old leaf) expired on " + at(-day) + ": clients refuse it"}},
		{"not valid yet", early.leaf, early.key, []string{"certificate number 1 (CN=early leaf) is not valid before " + at(day) + ": check the clock of this machine"}},
		{"soon", soon.leaf, soon.key, []string{"certificate number 1 (CN=soon leaf) expires on " + at(10*day) + " and is not renewed by the host: put a newer one there"}},
		{"not one chain", slices.Concat(a.leaf, b.middle, old.root), a.key, []string{
			"in CHAIN certificate number 1 (CN=a leaf) is not signed by the one behind it (CN=b intermediate): clients may not be able to verify it; put them in order",
			"in CHAIN certificate number 2 (CN=b intermediate) is not signed by the one behind it (CN=old root): clients may not be able to verify it; put them in order",
			"certificate number 3 (CN=old root) expired on " + at(-day) + ": clients refuse it",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := files(t, [][]byte{test.chain}, test.key)
			check := func(s *cert.Store) {
				t.Helper()
				got := s.Info().Warnings
				for i := range got {
					got[i] = strings.ReplaceAll(got[i], cfg.Chain[0], "CHAIN")
				}
				if !slices.Equal(got, test.want) {
					t.Errorf("got  %q\nwant %q", got, test.want)
				}
			}
			check(open(t, cfg))
			s := open(t, own(t.TempDir()))
			if err := s.SetConfig(cfg); err != nil { // asked for: an expired one too
				t.Fatal(err)
			}
			check(s)
			if err := s.Reload(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A client that knows the root only can verify a chain in one file.
func TestChainHandshake(t *testing.T) {
	a := valid("a")
	tests := []struct {
		name  string
		files [][]byte
		ok    bool
	}{
		{"all three", [][]byte{a.chain()}, true},
		{"without the root", [][]byte{slices.Concat(a.leaf, a.middle)}, true},
		{"in several files", [][]byte{a.leaf, slices.Concat(a.middle, a.root)}, true},
		{"with other blocks", [][]byte{slices.Concat(block("X509 CRL", []byte{1}), a.leaf, []byte("text\n"), block("X", nil), a.middle)}, true},
		{"others in another order", [][]byte{slices.Concat(a.leaf, a.root, a.middle)}, true}, // with a warning
		{"leaf only", [][]byte{a.leaf}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, files(t, test.files, a.key))
			state, err := handshake(t, s, &tls.Config{RootCAs: a.trust, ServerName: "host.example"})
			if (err == nil) != test.ok {
				t.Errorf("handshake: %v", err)
			}
			if test.ok && len(state.VerifiedChains[0]) != 3 {
				t.Errorf("verified: %v", state.VerifiedChains)
			}
		})
	}
}

// Sessions are resumed across reloads, but not below the lowest version.
func TestTickets(t *testing.T) {
	a, b := valid("a"), valid("b")
	cfg := files(t, [][]byte{a.chain()}, a.key)
	s := open(t, cfg)
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM(slices.Concat(a.root, b.root))
	client := func(most uint16) *tls.Config {
		return &tls.Config{RootCAs: trust, ServerName: "host.example", MaxVersion: most, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	}
	newest, old := client(0), client(tls.VersionTLS12)
	connect := func(name string, c *tls.Config, resumed bool) {
		t.Helper()
		state, err := handshake(t, s, c)
		if err != nil || state.DidResume != resumed {
			t.Errorf("%s: resumed %v, %v, want %v", name, state.DidResume, err, resumed)
		}
	}
	connect("first", newest, false)
	connect("first, 1.2", old, false)
	connect("again", newest, true)
	connect("again, 1.2", old, true)
	put(t, cfg, b.chain(), b.key)
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	connect("after a reload", newest, true)
	connect("after a reload, 1.2", old, true)
	cfg.MinVersion = tls.VersionTLS13
	if err := s.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	connect("with 1.3 demanded", newest, true)
	if state, err := handshake(t, s, old); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("with 1.3 demanded, 1.2: resumed %v, %v", state.DidResume, err)
	}
	old.MaxVersion = 0 // has a ticket of 1.2
	connect("newer client", old, false)
	cfg.MinVersion = 0
	if err := s.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	connect("with 1.2 allowed again", client(tls.VersionTLS12), false)
}

// listen serves handshakes on a port, each with one byte behind it, until the
// test ends.
func listen(t testing.TB, s *cert.Store) (addr string, end func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				c := tls.Server(nc, s.TLSConfig())
				if c.Handshake() == nil {
					_, _ = c.Write([]byte{1})
				}
			})
		}
	})
	return l.Addr().String(), func() { l.Close(); wg.Wait() }
}

// connect makes a handshake and reads the byte behind it.
func connect(addr string, config *tls.Config) (tls.ConnectionState, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer nc.Close()
	c := tls.Client(nc, config)
	if _, err := c.Read(make([]byte, 1)); err != nil {
		return tls.ConnectionState{}, err
	}
	return c.ConnectionState(), nil
}

// While files are replaced in every bad way and read again, each handshake
// works and sees one of the two chains whole.
func TestReloadUnderHandshakes(t *testing.T) {
	pairs := []issued{valid("a"), valid("b")}
	cfg := files(t, [][]byte{pairs[0].chain()}, pairs[0].key)
	s := open(t, cfg)
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM(slices.Concat(pairs[0].root, pairs[1].root))
	addr, end := listen(t, s)
	defer end()

	var clients sync.WaitGroup
	defer clients.Wait()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan struct{}, 1) // a handshake is done since somebody looked
	var seen [2]atomic.Int64
	for range 8 {
		clients.Go(func() {
			for ctx.Err() == nil {
				state, err := connect(addr, &tls.Config{RootCAs: trust, ServerName: "host.example"})
				if err != nil {
					t.Error(err)
					stop()
					return
				}
				var got []byte
				for _, c := range state.PeerCertificates {
					got = append(got, block("CERTIFICATE", c.Raw)...)
				}
				which := slices.IndexFunc(pairs, func(p issued) bool { return bytes.Equal(p.chain(), got) })
				if which < 0 {
					t.Errorf("a chain of %d certificates that nobody has put there", len(state.PeerCertificates))
					stop()
					return
				}
				seen[which].Add(1)
				select {
				case done <- struct{}{}:
				default:
				}
			}
		})
	}
	clients.Go(func() { s.Run(ctx) })

	random := rand.New(rand.NewPCG(1, 2))
	half := func(text []byte) []byte { return text[:1+random.IntN(40)] }
	reload := func(ok bool) {
		t.Helper()
		if err := s.Reload(); (err == nil) != ok {
			t.Errorf("reload: %v", err)
		}
	}
	for i := range 100 {
		before, next := pairs[i%2], pairs[(i+1)%2]
		switch i % 5 {
		case 0: // whole
		case 1: // half a certificate, and none
			write(t, cfg.Chain[0], half(next.leaf))
			reload(false)
			write(t, cfg.Chain[0], nil)
			reload(false)
		case 2: // the chain before the key
			write(t, cfg.Chain[0], next.chain())
			reload(false)
		case 3: // the key before the chain, and both of them half
			write(t, cfg.Key, half(next.key))
			reload(false)
			write(t, cfg.Key, next.key)
			reload(false)
			write(t, cfg.Chain[0], append(slices.Clone(next.leaf), half(next.middle)...))
			reload(false)
		case 4: // gone, and another configuration meanwhile
			remove(t, cfg.Chain[0])
			reload(false)
			if err := s.SetConfig(cfg); err == nil {
				t.Error("a configuration without a chain was taken")
			}
			write(t, cfg.Chain[0], before.chain())
			reload(true)
		}
		put(t, cfg, next.chain(), next.key)
		reload(true)
		// Both pairs are to be seen, however slow this machine is.
		for range 3 {
			select {
			case <-done:
			case <-ctx.Done():
				return
			}
		}
	}
	stop()
	clients.Wait()
	t.Logf("handshakes: %d and %d", seen[0].Load(), seen[1].Load())
	if seen[0].Load() == 0 || seen[1].Load() == 0 {
		t.Error("not both pairs were seen")
	}
}

// Reload, SetConfig and Run do not disturb each other.
func TestAllAtOnce(t *testing.T) {
	m := newMachine("192.0.2.1")
	s, cfg := m.open(t, own(t.TempDir()))
	print := s.Fingerprint()
	end := run(s)
	defer end()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 25 {
				changed := cfg
				changed.Names = []string{strings.Repeat("x", 1+j%3) + ".example"}
				if i%2 == 0 {
					changed.MinVersion = tls.VersionTLS13
				}
				if err := s.SetConfig(changed); err != nil {
					t.Error(err)
				}
				if err := s.Reload(); err != nil {
					t.Error(err)
				}
				if info := s.Info(); info.SHA256 != print || !info.OwnCertificate || info.LastError != "" {
					t.Errorf("%+v", info)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkHandshake(b *testing.B) {
	cfg := own(b.TempDir())
	s, err := cert.Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	addr, end := listen(b, s)
	defer end()
	for name, cache := range map[string]tls.ClientSessionCache{"full": nil, "resumed": tls.NewLRUClientSessionCache(1)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			config := &tls.Config{InsecureSkipVerify: true, ServerName: "host.example", ClientSessionCache: cache}
			for b.Loop() {
				if _, err := connect(addr, config); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "handshakes/s")
		})
	}
}
