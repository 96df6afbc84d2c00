package host

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/wire"
)

// loaded is what is known of the configuration that binds. It never changes: a
// reload replaces it, and who shows it does not wait for one.
type loaded struct {
	at           time.Time // when it was read
	err          error     // of the last attempt to read it again
	needsRestart []string  // keys that have another value in the file
}

// Reload reads the configuration and the certificates again. No session is
// lost: new values bind at their next use. The report says what is different;
// after an error everything that could not be taken over is as it was.
func (h *Host) Reload(ctx context.Context) (report string, err error) {
	h.reloading.Lock()
	defer h.reloading.Unlock()
	var lines []string
	settings, waiting, confErr := h.reloadConf(ctx, &lines)
	known := *h.loaded.Load()
	known.err = confErr
	if confErr == nil && h.cfg.Load != nil {
		known.at, known.needsRestart = time.Now(), waiting
	}
	h.loaded.Store(&known)
	certErr := h.reloadCert(settings, &lines)
	err = errors.Join(confErr, certErr)
	if err != nil {
		h.counters.reloads.add("failed")
		h.log.Error("reload", "err", strings.ReplaceAll(err.Error(), "\n", "; "))
	} else {
		h.counters.reloads.add("done")
		h.log.Info("reloaded", "changes", strings.Join(lines, "; "))
	}
	return strings.Join(lines, "\n"), err
}

// reloadConf makes the configuration in the file the one that binds, and
// returns it; after an error that is the one before.
func (h *Host) reloadConf(ctx context.Context, lines *[]string) (_ *conf.Config, waiting []string, err error) {
	before := h.conf.Load()
	if h.cfg.Load == nil {
		return before, nil, nil
	}
	read, err := h.cfg.Load()
	if err != nil {
		return before, nil, fmt.Errorf("%w; the host goes on with what it had", err)
	}
	next, waiting := before.Reloaded(read)
	changed := changes(before, &next)
	if err := h.hasher.SetParams(hashParams(&next)); err != nil {
		return before, nil, fmt.Errorf("settings argon2_*: %w; the host goes on with what it had", err)
	}
	if err := h.mail.reload(&next); err != nil {
		// The parameters of hashes go back to what has been accepted before.
		return before, nil, errors.Join(fmt.Errorf("%w; the host goes on with what it had", err), h.hasher.SetParams(hashParams(before)))
	}
	h.limits.SetConfig(h.limitConfig(&next))
	h.guard.reload(&next)
	h.bounds.Store(sessionLimits(&next))
	h.conn.Store(connConfig(&next, h.cert.TLSConfig(), h.handshakes, h.input))
	for _, s := range h.everySession() { // those that come later look themselves
		s.SetConn(h.conn.Load())
	}
	h.conf.Store(&next)
	h.memory.SetPace(next.PaceBytes)
	if h.hubBehind || hubSettings(&next) != hubSettings(before) {
		err := h.hub.Reloaded(ctx)
		if h.hubBehind = err != nil; h.hubBehind {
			const text = "sub-channels that are open were not brought up to the settings; reload again"
			h.log.Error(text, "err", err)
			*lines = append(*lines, "attention: "+text)
		}
	}
	if flags := registryFlags(&next); flags != registryFlags(before) {
		h.registry.SetFlags(flags)
		h.bus.Publish(bus.Everybody(), bus.Event{Async: wire.AsyncCmdRanksChg})
	}
	if h.watcher != nil { // otherwise Run has not begun, and watches what counts then
		if err := h.watcher.Set(h.watched()); err != nil {
			h.log.Warn("files are not watched; after a change use mrci reload", "err", err)
		}
	}
	if h.cfg.Loaded != nil {
		h.cfg.Loaded(next)
	}
	switch {
	case len(changed) > 0:
		*lines = append(*lines, "configuration: changed "+strings.Join(changed, ", "))
	default:
		*lines = append(*lines, "configuration: nothing has changed")
	}
	if len(waiting) > 0 {
		*lines = append(*lines, "at the next start: "+strings.Join(waiting, ", "))
	}
	return &next, waiting, nil
}

// changes names the keys that differ.
func changes(a, b *conf.Config) []string {
	var names []string
	after := b.Keys()
	for i, k := range a.Keys() {
		if !reflect.DeepEqual(k.Value, after[i].Value) {
			names = append(names, k.Name)
		}
	}
	return names
}

// ReloadCertificates reads the certificates again, and nothing else. The
// report describes the one in use afterwards.
func (h *Host) ReloadCertificates() (report string, err error) {
	h.reloading.Lock()
	defer h.reloading.Unlock()
	var lines []string
	err = h.reloadCert(h.conf.Load(), &lines)
	return strings.Join(lines, "\n"), err
}

// reloadCert puts the certificates that c names in use.
func (h *Host) reloadCert(c *conf.Config, lines *[]string) error {
	before := h.cert.Fingerprint()
	err := h.cert.SetConfig(certConfig(c, h.log))
	info := h.cert.Info()
	line := fmt.Sprintf("certificate in use: %s, valid until %s, key SHA256:%s",
		strings.Join(info.Chain, ", "), info.NotAfter.UTC().Format(time.DateOnly), info.SHA256)
	if info.SHA256 != before {
		line += ", another key than before: clients that know the old one will refuse it"
	}
	*lines = append(*lines, line)
	for _, text := range info.Warnings {
		*lines = append(*lines, "attention: "+text)
	}
	return err
}

// watched is the files that are read again when they change.
func (h *Host) watched() []string {
	c := h.conf.Load()
	files := append([]string{c.TLSPrivKey}, c.TLSCertChain...)
	if h.cfg.Load != nil {
		files = append(files, c.Dirs.File())
	}
	return files
}

// filesChanged reads again what has changed. Errors are in the log and in the
// status; the next change is another try.
func (h *Host) filesChanged(ctx context.Context, files []string) {
	if slices.Contains(files, h.conf.Load().Dirs.File()) {
		_, _ = h.Reload(ctx)
		return
	}
	h.reloading.Lock()
	defer h.reloading.Unlock()
	if err := h.cert.Reload(); err != nil {
		h.log.Error("reload certificates", "err", err)
	}
}
