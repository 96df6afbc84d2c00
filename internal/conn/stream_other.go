//go:build !unix

package conn

import "errors"

// canTry tells that sockets cannot be read and written without waiting.
const canTry = false

func rawRead(uintptr, []byte) (int, error)  { return 0, errors.ErrUnsupported }
func rawWrite(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
