package cert

import (
	"io/fs"
	"net/netip"
	"time"
)

// Names returns what a certificate would name: its common name, then its
// addresses and host names.
func Names(further []string, addrs []netip.Addr, host string) (common string, ips []netip.Addr, hosts []string) {
	s := names(further, addrs, host)
	return s.common, s.addrs, s.hosts
}

const (
	// MaxNames is how many names a certificate has without configuration.
	MaxNames = maxNames
	// MaxFile is how large a PEM file may be.
	MaxFile = maxFile
)

// Machine is what a Store of a test asks instead of the machine.
type Machine struct {
	Now     func() time.Time
	Addrs   func() []netip.Addr
	Replace func(path string, text []byte, mode fs.FileMode) error
}

// OpenOn opens a Store on that machine, whose name is "box".
func OpenOn(m Machine, cfg Config) (*Store, error) {
	return open(cfg, system{
		now:     m.Now,
		names:   func(further []string) subject { return names(further, m.Addrs(), "box") },
		replace: m.Replace,
	})
}
