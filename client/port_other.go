//go:build !unix

package client

import "syscall"

// givePort does nothing: on Windows the option that it sets elsewhere would let
// two programs listen on one port.
func givePort(_, _ string, _ syscall.RawConn) error { return nil }
