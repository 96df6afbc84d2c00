package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"mrci.dev/mrci/internal/backup"
	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/host"
)

// standardStream is the name that stands for standard input or output.
const standardStream = "-"

// backupCmd works beside a running host, and without one.
type backupCmd struct {
	File  string   `arg:"" name:"FILE" help:"The archive to write; - is standard output."`
	Force bool     `help:"Replace FILE if it exists."`
	Files bool     `help:"Save the users' files too."`
	Set   []string `sep:"none" placeholder:"KEY=VALUE" help:"Set a key of conf.json for this run, as the host has it."`
}

type restoreCmd struct {
	File         string `arg:"" name:"FILE" help:"The archive to read; - is standard input."`
	Check        bool   `help:"Only check FILE and print what is in it."`
	Force        bool   `help:"Restore though there is a database; what was there is moved into before-restore-TIME."`
	MoveDatabase bool   `help:"Put the database into the data directory though the configuration in FILE names another place, and change conf.json."`
}

// Run saves what the host keeps.
func (cmd *backupCmd) Run(a *app) error {
	dirs, err := a.hostDirs()
	if err != nil {
		return err
	}
	settings, err := conf.Load(dirs.File(), dirs)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("there is no host to save: %s is missing; name its directory with --dir", dirs.File())
	}
	if err != nil {
		return err
	}
	if err := settings.Set(cmd.Set...); err != nil {
		return err
	}
	ctx, stop := untilSignal()
	defer stop()
	cfg := backup.SaveConfig{Settings: settings, Version: version(), File: cmd.File, Force: cmd.Force, Files: cmd.Files}
	// The archive may be on standard output.
	say := a.stdout
	if cmd.File == standardStream {
		cfg.File, cfg.Out, say = "", a.stdout, a.stderr
	} else if cfg.File, err = filepath.Abs(cmd.File); err != nil {
		return err
	}
	report, err := backup.Save(ctx, cfg)
	if err != nil {
		return interruptedBy(ctx, err)
	}
	a.notes(report)
	where := cmd.File
	if cfg.File == "" {
		where = "to standard output"
	}
	_, err = fmt.Fprintf(say, "saved %s: %s; %s; it holds password hashes and private keys: keep it secret\n",
		where, contents(&report.Manifest), backup.Bytes(report.Size))
	return err
}

// Run checks an archive, and puts what is in it back.
func (cmd *restoreCmd) Run(a *app) error {
	dirs, err := a.hostDirs()
	if err != nil {
		return err
	}
	from, name := a.stdin, "from standard input"
	if cmd.File != standardStream {
		f, err := os.Open(cmd.File)
		if err != nil {
			return fmt.Errorf("restore %w", err)
		}
		defer f.Close() // only read
		from, name = f, cmd.File
	}
	ctx, stop := untilSignal()
	defer stop()
	if cmd.Check {
		report, err := backup.Check(ctx, name, from)
		if err != nil {
			return interruptedBy(ctx, err)
		}
		a.notes(report)
		text, err := json.MarshalIndent(report.Manifest, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.stdout, "%s\n", text)
		return err
	}
	// No host runs there when it begins, and none starts meanwhile.
	var leave func() error
	occupied := false
	occupy := func() (err error) {
		if !occupied {
			leave, err = host.Occupy(dirs)
			occupied = err == nil
		}
		return err
	}
	done, err := backup.Restore(ctx, name, from, backup.RestoreConfig{
		Dirs: dirs, Running: occupy, Force: cmd.Force, MoveDatabase: cmd.MoveDatabase,
	})
	if occupied {
		_ = leave() // the lock ends with the process at the latest
	}
	if err != nil {
		return interruptedBy(ctx, err)
	}
	a.notes(&done.Report)
	m := &done.Manifest
	var b strings.Builder
	fmt.Fprintf(&b, "restored %s of %s into %s: %s\n", name, m.Created.Format("2006-01-02 15:04:05 UTC"), dirs.Data, contents(m))
	if len(done.Aside) > 0 {
		fmt.Fprintf(&b, "what was there before: %s\n", strings.Join(done.Aside, ", "))
	}
	_, err = io.WriteString(a.stdout, b.String())
	return err
}

// untilSignal is the context of work that a signal ends. A second signal ends
// the program, which may be waiting for whoever reads its output.
func untilSignal() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// notes tells what else a person should know.
func (a *app) notes(r *backup.Report) {
	for _, note := range r.Notes {
		fmt.Fprintf(a.stderr, "mrci: note: %s\n", note)
	}
}

// contents says on a part of a line what an archive has.
func contents(m *backup.Manifest) string {
	var names []string
	for _, member := range m.Members {
		names = append(names, member.Name)
	}
	text := strings.Join(names, ", ")
	if m.Files != nil {
		text += fmt.Sprintf(", %d users' files and directories", m.Files.Entries)
	}
	return text
}

// interruptedBy says which signal ended the work.
func interruptedBy(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return errors.New("interrupted; nothing was changed")
	}
	return err
}
