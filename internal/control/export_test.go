package control

// Doors for tests.
var (
	PathOn        = socketPath
	DecodeRequest = decodeRequest
	EncodeRequest = encodeRequest
	DecodeAnswer  = decodeAnswer
	EncodeAnswer  = encodeAnswer
	Printable     = printable
	Size          = size
	Span          = span
)

// LockName, MaxRequest and MaxAnswer are constants of the package.
const (
	LockName   = lockName
	MaxRequest = maxRequest
	MaxAnswer  = maxAnswer
)

// AdmitNobody makes the server take every client for one of another account.
func (s *Server) AdmitNobody() { s.admits = func(int) bool { return false } }
