//go:build !unix

package main

import "os"

var resumeSignals []os.Signal

// suspend is nil: there is no shell to go back to.
var suspend func()
