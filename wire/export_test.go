package wire

// ReaderBuffer is how many bytes the Reader holds.
func ReaderBuffer(r *Reader) int { return cap(r.buf) }
