package host

import (
	"errors"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"mrci.dev/mrci/internal/control"
)

// Status returns how the host is now. It waits for nothing but the file
// system.
func (h *Host) Status() control.Status {
	c := h.conf.Load()
	info := h.cert.Info()
	limits, hashes, mails := h.limits.Counters(), h.hasher.Stats(), h.mail.stats()
	loaded := h.loaded.Load()
	s := control.Status{
		Version: h.cfg.Version, PID: os.Getpid(),
		Started: h.started.UTC(), UptimeS: int64(time.Since(h.started) / time.Second),
		Addr:     h.Addr().String(),
		HalfOpen: limits.HalfOpen,
		Memory:   memory(h.descriptors),
		Queues: control.QueueStatus{
			InputBytes: uint64(max(h.input.used.Load(), 0)), InputMaxBytes: uint64(h.input.limit),
			HashesRunning: hashes.Running, HashesWaiting: hashes.Waiting,
			MailsWaiting: mails.Waiting, BackgroundJobs: len(h.later.slots), LogRows: h.logs.Waiting(),
		},
		Database: control.DatabaseStatus{Driver: string(c.DBDriver), File: c.DBHostName, SizeBytes: sizeOf(c.DBHostName) + sizeOf(c.DBHostName+"-wal")},
		Certificate: control.CertificateStatus{
			Chain: info.Chain, Key: info.Key, Subject: info.Subject, Names: info.Names,
			NotBefore: info.NotBefore.UTC(), NotAfter: info.NotAfter.UTC(), SHA256: info.SHA256,
			LastError: info.LastError, Warnings: info.Warnings, RenewsItself: info.OwnCertificate,
		},
		Configuration: control.ConfigurationStatus{
			File: c.Dirs.File(), Loaded: loaded.at.UTC(), NeedsRestart: loaded.needsRestart,
		},
		Counters: h.counts(),
	}
	if loaded.err != nil {
		s.Configuration.LastError = loaded.err.Error()
	}
	s.Sessions, s.Queues.SendBytes = h.sessionStatus()
	s.Sessions.Max = h.maxSessions(c)
	return s
}

// sessionStatus counts the sessions, and what waits for their clients.
func (h *Host) sessionStatus() (s control.SessionStatus, queued uint64) {
	s.ByRank = make(map[string]int)
	for _, one := range h.everySession() {
		s.Now++
		if user := one.View().User; user != nil {
			s.ByRank[strconv.FormatUint(uint64(user.Rank), 10)]++
		} else {
			s.Anonymous++
		}
		queued += uint64(one.Queued())
	}
	return s, queued
}

// counts gathers every counter of the host: by group, by reason.
func (h *Host) counts() map[string]map[string]uint64 {
	n := &h.counters
	mails, hashes, limits := h.mail.stats(), h.hasher.Stats(), h.limits.Counters()
	all := map[string]map[string]uint64{
		"connections": {"accepted": n.accepted.Load()},
		// Every refusal names the setting that is behind it, where there is one.
		"refused":     {"half_open_per_addr": limits.RefusedHalfOpen, "max_sessions": limits.RefusedSessions, "argon2_parallel": hashes.Refused, "metrics_connections": h.metrics.refused()},
		"not_started": {},
		"ended":       {},
		"logins":      {},
		"calls": {
			"started": h.counted.Calls.Load(), "failed": h.counted.Failed.Load(), "crashed": h.counted.Crashed.Load(),
		},
		"refused_calls": {
			"not_offered": h.counted.NotOffered.Load(), "max_instances": h.counted.TooMany.Load(),
			"pre_login_frame_bytes": h.counted.TooLarge.Load(), "cast_bytes": h.counted.CastBytes.Load(),
			"p2p_requests_per_min": h.hub.RefusedRequests(), "host_only_types": n.hostOnly.Load(),
		},
		"cut_off": {"takes_no_input": h.counted.NoInput.Load(), "ignores_kill": h.counted.Forced.Load()},
		"mails":   {"sent": mails.Sent, "failed": mails.Failed},
		"hashes":  {"computed": hashes.Hashes},
		"dropped": {
			"log_rows": h.logs.Dropped(), "stranger_rows": h.strangers.dropped(), "background_jobs": h.later.dropped.Load(),
			"peer_frames": n.untaken.Load(),
		},
		"reloads": {},
		"control": h.door.Counters(),
	}
	h.guard.refused(all["refused"])
	n.unstarted.into(all["not_started"])
	n.ended.into(all["ended"])
	n.logins.into(all["logins"])
	n.reloads.into(all["reloads"])
	return all
}

func sizeOf(file string) int64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0 // the status is not where one learns of that
	}
	return info.Size()
}

// memory returns what the process uses, and that it may have so many
// descriptors. What the system does not tell is 0.
func memory(descriptors int) control.MemoryStatus {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap)
	m := control.MemoryStatus{
		HeapBytes: heap[0].Value.Uint64(), Goroutines: runtime.NumGoroutine(),
		RSSBytes: resident(), DescriptorsMax: uint64(descriptors),
	}
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		m.Descriptors = len(open) - 1 // without the one that reads them
	} else if !errors.Is(err, os.ErrNotExist) {
		m.Descriptors = int(m.DescriptorsMax) // none is left to look with
	}
	return m
}

// resident returns the memory of this process that is in use, in bytes; 0 where
// the system is not Linux.
func resident() uint64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, found := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(rest)
	if !found || len(fields) == 0 {
		return 0
	}
	kib, err := strconv.ParseUint(fields[0], 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}
