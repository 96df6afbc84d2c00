package fsys

import (
	"errors"
	"io"
	"os"
)

// What ReadFile does not read.
var (
	ErrNoFile   = errors.New("it is not a regular file")
	ErrTooLarge = errors.New("the file is too large")
)

// ReadFile reads a regular file of at most limit bytes. Anything else might
// never end, such as a named pipe, whose opening alone waits for somebody to
// write.
func ReadFile(path string, limit int) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, ErrNoFile
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read: nothing can be lost
	text, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(text) > limit {
		return nil, ErrTooLarge
	}
	return text, err
}
