package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"mrci.dev/mrci/internal/control"
)

// background starts this program again as a host of its own, passes on what it
// prints until it listens, and leaves it running.
func (cmd *hostCmd) background(a *app) error {
	settings, _, err := a.settings(cmd.Set, cmd.Listen)
	if err != nil {
		return err
	}
	file := cmd.LogFile
	if file == "" {
		file = filepath.Join(settings.Dirs.Data, "host.log")
	}
	if file, err = filepath.Abs(file); err != nil {
		return fmt.Errorf("name the log file: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("make the directory of the log file: %w", err)
	}
	// What is said besides the log, above all why the host could not start,
	// goes there as well.
	log, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open the log file: %w", err)
	}
	defer log.Close()
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("open the log file: %w", err)
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	child, err := control.Spawn(program, cmd.line(a, file), log)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(child.Output)
	for lines.Scan() {
		if _, err := fmt.Fprintln(a.stdout, lines.Text()); err != nil {
			return err
		}
		if strings.HasPrefix(lines.Text(), "listening on ") {
			_, err := fmt.Fprintf(a.stdout, "It runs in the background; its log is %s, and %s ends it.\n", file, a.invocation("stop"))
			return errors.Join(err, child.Release())
		}
	}
	// It has ended: the pipe is closed.
	_ = child.Wait() // its log says more than its status
	return errors.New(lastWords(log, from))
}

// line is the command line of the host in the background.
func (cmd *hostCmd) line(a *app, log string) []string {
	var line []string
	if a.dir != "" {
		line = append(line, "--dir", a.dir)
	}
	line = append(line, "host", "--log-file", log)
	if cmd.Listen != "" {
		line = append(line, "--listen", cmd.Listen)
	}
	for _, set := range cmd.Set {
		line = append(line, "--set", set)
	}
	return line
}

// lastWordsSize bounds what is looked through for the reason of an end, in
// bytes.
const lastWordsSize = 64 << 10

// lastWords returns why a host has ended that wrote to log from an offset on.
func lastWords(log *os.File, from int64) string {
	text, err := io.ReadAll(io.NewSectionReader(log, from, lastWordsSize))
	if err != nil {
		return fmt.Sprintf("the host has ended; its log %s cannot be read: %v", log.Name(), err)
	}
	for line := range bytes.Lines(text) {
		if reason, found := bytes.CutPrefix(line, []byte("mrci: ")); found {
			return string(bytes.TrimSpace(reason))
		}
	}
	return fmt.Sprintf("the host has ended; its log is %s", log.Name())
}
