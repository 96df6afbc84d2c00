package fsys

// access knows nothing: who may do what there is decided when it is done.
func access(string, uint32) error { return nil }

const (
	mayRead = 1 << iota
	mayWrite
	mayEnter
)
