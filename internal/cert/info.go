package cert

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// lateBefore is when a certificate that somebody else renews should have been
// renewed: long before, or at the last quarter of a short life. Their programs
// are due at 30 days or a third.
const lateBefore = 14 * 24 * time.Hour

// Info is what an administrator may want to know of the certificate.
type Info struct {
	Chain     []string // paths
	Key       string   // path
	Subject   string
	Names     []string // host names, then IP addresses
	NotBefore time.Time
	NotAfter  time.Time
	SHA256    string // of the public key, as Fingerprint returns it
	// OwnCertificate tells that the host made the certificate, and renews it.
	OwnCertificate bool
	Renewal        time.Time // when that is due; zero for any other certificate
	Loaded         time.Time
	LastError      string   // of loading or renewing, unless it has succeeded since
	Warnings       []string // what is wrong with the certificate in use
}

// Info returns how things stand now. It never waits for a file.
func (s *Store) Info() Info {
	st, failed := s.inUse.Load(), s.failed.Load()
	leaf := st.tls.Leaf
	i := Info{
		Chain: slices.Clone(st.cfg.Chain), Key: st.cfg.Key,
		Subject: leaf.Subject.String(), Names: slices.Clone(leaf.DNSNames), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		SHA256: st.fingerprint, OwnCertificate: st.own, Loaded: st.loaded,
		LastError: failed.load, Warnings: st.warnings(s.sys.now()),
	}
	for _, addr := range addrsOf(leaf) {
		i.Names = append(i.Names, addr.String())
	}
	if st.own {
		i.Renewal = leaf.NotAfter.Add(-renewBefore)
	}
	if i.LastError == "" {
		i.LastError = failed.renew
	}
	return i
}

// warnings tells what is wrong with the certificates at a time. The texts stay
// the same from one look to the next, so that each is logged once.
func (st *state) warnings(now time.Time) []string {
	list := slices.Clone(st.notes)
	for i, c := range st.certs {
		switch life := c.NotAfter.Sub(c.NotBefore); {
		case now.After(c.NotAfter):
			list = append(list, fmt.Sprintf("certificate number %d (%s) expired on %s: clients refuse it", i+1, c.Subject, date(c.NotAfter)))
		case now.Before(c.NotBefore):
			list = append(list, fmt.Sprintf("certificate number %d (%s) is not valid before %s: check the clock of this machine", i+1, c.Subject, date(c.NotBefore)))
		case !st.own && now.After(c.NotAfter.Add(-min(lateBefore, life/4))):
			list = append(list, fmt.Sprintf("certificate number %d (%s) expires on %s and is not renewed by the host: put a newer one there", i+1, c.Subject, date(c.NotAfter)))
		}
	}
	return list
}

// orderNotes tells where a certificate is not vouched for by the next one.
func orderNotes(chain []string, certs []*x509.Certificate) []string {
	var notes []string
	for i := range len(certs) - 1 {
		if err := certs[i].CheckSignatureFrom(certs[i+1]); err != nil {
			notes = append(notes, fmt.Sprintf("in %s certificate number %d (%s) is not signed by the one behind it (%s): clients may not be able to verify it; put them in order",
				chain[0], i+1, certs[i].Subject, certs[i+1].Subject))
		}
	}
	return notes
}

// reportLocked tells the log what has become wrong since it was told last.
func (s *Store) reportLocked() {
	st := s.inUse.Load()
	list := st.warnings(s.sys.now())
	for _, text := range list {
		if !slices.Contains(s.reported, text) {
			st.cfg.Log.Warn("certificate needs attention", "reason", text)
		}
	}
	s.reported = list
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
