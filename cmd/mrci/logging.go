package main

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/fsys"
)

// hostLog is the log of a running host, whose form and level may change.
type hostLog struct {
	*slog.Logger
	handler *switchingHandler
	close   func() error
}

// openLog opens the log of a host: the file that the command line names, or
// standard error.
func (cmd *hostCmd) openLog(a *app, settings *conf.Config) (*hostLog, error) {
	w, closeFile := a.stderr, func() error { return nil }
	if cmd.LogFile != "" {
		f, err := fsys.OpenLog(cmd.LogFile)
		if err != nil {
			return nil, err
		}
		w, closeFile = f, f.Close
	}
	h := &switchingHandler{forms: newLogForms(w)}
	l := &hostLog{Logger: slog.New(h), handler: h, close: closeFile}
	l.use(*settings)
	return l, nil
}

// use follows log_format and log_level.
func (l *hostLog) use(settings conf.Config) {
	l.handler.forms.json.Store(settings.LogFormat == conf.LogJSON)
	l.handler.forms.level.Set(settings.LogLevel)
}

// Close closes the file.
func (l *hostLog) Close() { _ = l.close() } // there is no log left to say it in

// newLogger writes the log of a short program in the configured form. What it
// did it says on standard output; only what went wrong is logged as well.
func newLogger(w io.Writer, settings *conf.Config) *slog.Logger {
	l := &hostLog{handler: &switchingHandler{forms: newLogForms(w)}}
	l.use(*settings)
	l.handler.forms.level.Set(max(settings.LogLevel, slog.LevelWarn))
	return slog.New(l.handler)
}

// logForms are the two forms of one log, and which of them is in use.
type logForms struct {
	level      slog.LevelVar
	json       atomic.Bool
	lost       atomic.Uint64 // lines that could not be written and were not told of yet
	text, data slog.Handler
}

func newLogForms(w io.Writer) *logForms {
	f := new(logForms)
	options := &slog.HandlerOptions{Level: &f.level}
	f.text, f.data = slog.NewTextHandler(w, options), slog.NewJSONHandler(w, options)
	return f
}

// switchingHandler writes in the form that is in use when a line is logged. Of
// a logger with attributes of its own, such as each session has, it keeps what
// was asked for, and makes a handler of that for a line: there are many
// loggers and few lines.
type switchingHandler struct {
	forms  *logForms
	parent *switchingHandler               // nil: forms
	derive func(slog.Handler) slog.Handler // from that of the parent
}

func (h *switchingHandler) now() slog.Handler {
	switch {
	case h.parent != nil:
		return h.derive(h.parent.now())
	case h.forms.json.Load():
		return h.forms.data
	}
	return h.forms.text
}

// Enabled implements slog.Handler.
func (h *switchingHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.forms.level.Level()
}

// Handle implements slog.Handler. The next line that can be written says how
// many could not.
func (h *switchingHandler) Handle(ctx context.Context, r slog.Record) error {
	lost := h.forms.lost.Swap(0)
	if lost > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Uint64("lost", lost))
	}
	err := h.now().Handle(ctx, r)
	if err != nil {
		h.forms.lost.Add(lost + 1)
	}
	return err
}

// WithAttrs implements slog.Handler.
func (h *switchingHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(func(below slog.Handler) slog.Handler { return below.WithAttrs(attrs) })
}

// WithGroup implements slog.Handler.
func (h *switchingHandler) WithGroup(name string) slog.Handler {
	return h.with(func(below slog.Handler) slog.Handler { return below.WithGroup(name) })
}

func (h *switchingHandler) with(derive func(slog.Handler) slog.Handler) slog.Handler {
	return &switchingHandler{forms: h.forms, parent: h, derive: derive}
}
