package host_test

import (
	"mrci.dev/mrci/internal/host/hosttest/bare"
)

// link makes a link between two sessions.
func (s *stage) link(from, peer string) {
	s.t.Helper()
	a, b := s.clients[from], s.clients[peer]
	s.frame(from, "I1", bare.SessionID, "p2p_request", b.ID[:], to(peer, bare.At(bare.P2P, bare.P2PRequest, s.peerInfo(from, ""))))
	s.frame(peer, "I1", bare.SessionID, "p2p_open", a.ID[:], to(from, bare.At(bare.P2P, bare.P2POpen, b.ID)))
}
