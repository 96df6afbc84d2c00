//go:build unix

package main

import (
	"os"
	"syscall"
)

// resumeSignals go on with a program that was stopped.
var resumeSignals = []os.Signal{syscall.SIGCONT}

// suspend stops the program and what was started with it, as a terminal does
// for Ctrl-Z.
func suspend() { _ = syscall.Kill(0, syscall.SIGTSTP) } // who cannot be stopped goes on
