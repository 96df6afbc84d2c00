package conn

// NewSessionID makes ids without a connection for each.
var NewSessionID = newSessionID

// The marks of the send queue.
const (
	HighWater   = highWater
	LowWater    = lowWater
	LingerBytes = lingerBytes
)
