package conn

// errWouldBlock says that the socket has nothing, or takes nothing, at the
// moment. It is a temporary net.Error, because crypto/tls goes on after those
// and after no others.
var errWouldBlock error = wouldBlock{}

type wouldBlock struct{}

func (wouldBlock) Error() string   { return "would block" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }
