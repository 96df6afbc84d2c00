package cert

import "net/netip"

// Names returns what a certificate would name: its common name, then its
// addresses and host names.
func Names(further []string, addrs []netip.Addr, host string) (common string, ips []netip.Addr, hosts []string) {
	s := names(further, addrs, host)
	return s.common, s.addrs, s.hosts
}

// MaxNames is how many names a certificate has without configuration.
const MaxNames = maxNames
