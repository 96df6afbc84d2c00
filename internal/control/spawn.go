package control

import (
	"fmt"
	"io"
	"os"
	"os/exec"
)

// Spawned is a program that runs on its own.
type Spawned struct {
	// Output is its standard output, which ends when the program does.
	Output io.Reader
	cmd    *exec.Cmd
}

// Spawn starts a program that goes on when this one ends and when its terminal
// closes. What it writes to standard error goes to log. Release or Wait is
// called at the end.
func Spawn(program string, args []string, log *os.File) (*Spawned, error) {
	cmd := exec.Command(program, args...)
	cmd.Stderr = log
	cmd.SysProcAttr = detached()
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return &Spawned{Output: output, cmd: cmd}, nil
}

// Release leaves the program running.
func (s *Spawned) Release() error { return s.cmd.Process.Release() }

// Wait waits for the end of the program; the error tells of a bad one.
func (s *Spawned) Wait() error { return s.cmd.Wait() }
