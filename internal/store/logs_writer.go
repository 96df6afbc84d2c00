package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"
)

var insertLog = [logKinds]string{
	activityKind: `INSERT INTO ip_history (time_stamp, ip_address, client_app, session_id, log_entry)
		VALUES ($1, $2, $3, $4, $5)`,
	authKind: `INSERT INTO auth_log (time_stamp, ip_address, user_id, auth_attempt, recover_attempt, count_to_threshold, accepted)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`,
	auditKind: `INSERT INTO audit_log (time_stamp, ip_address, user_id, user_name, command, arguments, code)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`,
	nobodyKind: updateNobody,
}

// logWriter is the goroutine of Logs: the one that writes.
type logWriter struct {
	*Logs

	// owned by run
	batch    []logEntry // taken from the queue
	sent     int        // how many of the batch are written
	failing  bool       // the last transaction failed
	reported uint64     // dropped rows that the log has told of
	quiet    bool       // a line about them was written a moment ago
	prune    []oldRows  // what is left of the current round
}

// run writes until Close. The queue is looked at when it gets its first row,
// when a batch is together, when somebody waits for it, and a second after its
// first row.
func (w *logWriter) run(ctx context.Context) {
	defer close(w.ended)
	flush, report := stoppedTimer(), stoppedTimer()
	defer flush.Stop()
	defer report.Stop()
	hour := time.NewTicker(pruneEvery)
	defer hour.Stop()
	// A select with this in it does not wait.
	ready := make(chan struct{})
	close(ready)

	w.startPruning()
	armed := false // flush runs
	for {
		var pruning <-chan struct{}
		if len(w.prune) > 0 {
			pruning = ready
		}
		due := false
		select {
		case <-w.wake:
		case <-flush.C:
			armed, due = false, true
		case <-report.C:
			w.quiet = false
		case <-hour.C:
			w.startPruning()
		case <-pruning:
			w.pruneSome(ctx)
		}
		rows, now, closed := w.look()
		if closed {
			w.end(ctx)
			return
		}
		if due || now {
			armed = false
			flush.Stop()
			rows = w.writeAll(ctx)
		}
		if rows > 0 && !armed {
			armed = true
			flush.Reset(flushEvery)
		}
		if !w.quiet && w.reportDropped() {
			w.quiet = true
			report.Reset(reportEvery)
		}
	}
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// look returns how many rows are not written, and whether they are to be
// written now.
func (w *logWriter) look() (rows int, now, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rows = len(w.batch) - w.sent + len(w.queue)
	// While the disk refuses, only time and Flush lead to another try.
	enough := !w.failing && (len(w.queue) >= batchRows || w.bytes >= w.bound/2)
	return rows, enough || len(w.waiters) > 0, w.closed
}

// writeAll writes the rows that are there now, answers the calls of Flush, and
// returns how many rows wait.
func (w *logWriter) writeAll(ctx context.Context) int {
	w.mu.Lock()
	limit := w.handed
	w.mu.Unlock()
	var err error
	for err == nil && w.take(limit) {
		err = w.writeBatch(ctx)
	}
	switch {
	case err != nil && !w.failing:
		w.log.Error("log rows cannot be written, they are tried again", "err", err)
	case err == nil && w.failing:
		w.log.Info("log rows are written again")
	}
	w.failing = err != nil

	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiters = slices.DeleteFunc(w.waiters, func(f flushed) bool {
		if f.rows > w.written && err == nil {
			return false // it came meanwhile
		}
		f.done <- err
		return true
	})
	return len(w.batch) - w.sent + len(w.queue)
}

// keepRows is the room that a queue keeps when it is empty.
const keepRows = 4 * batchRows

// take makes sure that there is a batch, unless all rows up to the number
// limit are written.
func (w *logWriter) take(limit uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.written >= limit {
		return false
	}
	if w.sent == len(w.batch) {
		empty := w.batch[:0]
		if cap(empty) > keepRows {
			empty = nil
		}
		w.batch, w.sent, w.queue = w.queue, 0, empty
	}
	return true
}

// writeBatch writes up to batchRows rows in one transaction.
func (w *logWriter) writeBatch(ctx context.Context) error {
	rows := w.batch[w.sent:min(w.sent+batchRows, len(w.batch))]
	limited, cancel := context.WithTimeoutCause(ctx, writeTimeout, errWriteTimeout)
	defer cancel()
	err := w.store.write(limited, "write log rows", func(tx *sql.Tx) error {
		var stmts [logKinds]*sql.Stmt
		for i := range rows {
			e := &rows[i]
			if stmts[e.kind] == nil {
				stmts[e.kind] = tx.StmtContext(ctx, w.insert[e.kind])
			}
			// Without the time limit: the driver would start a goroutine for
			// each row to watch it.
			if _, err := stmts[e.kind].ExecContext(ctx, e.values()...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.log.Debug("log rows written", "rows", len(rows))
	size := 0
	for i := range rows {
		size += rows[i].size()
	}
	clear(rows) // lets go of the texts
	w.sent += len(rows)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes -= size
	w.written += uint64(len(rows))
	return nil
}

var errWriteTimeout = fmt.Errorf("the database was busy for %v", writeTimeout)

// values returns the parameters of the statement that stores the row.
func (e *logEntry) values() []any {
	if e.kind == nobodyKind {
		return nil
	}
	addr := ""
	if e.addr.IsValid() {
		addr = clean(e.addr.Unmap().String(), maxLogText)
	}
	at := e.at.UTC().Format(timeLayout)
	switch e.kind {
	case activityKind:
		return []any{at, addr, clean(e.text[0], maxLogText), e.id[:len(ActivityRow{}.Session)], clean(e.text[1], maxLogText)}
	case authKind:
		return []any{at, addr, e.id[:], flag(e.auth), flag(e.recover), flag(e.counted), flag(e.accepted)}
	}
	return []any{at, addr, e.id[:],
		clean(e.text[0], maxLogText), clean(e.text[1], maxLogText), clean(e.text[2], maxArguments), int64(e.code)}
}

// reportDropped logs how many rows were dropped since it last did.
func (w *logWriter) reportDropped() bool {
	dropped := w.Dropped()
	n := dropped - w.reported
	if n == 0 {
		return false
	}
	w.log.Error("log rows dropped, the queue is full", "rows", n)
	w.reported = dropped
	return true
}

// end writes what waits, or gives it up.
func (w *logWriter) end(ctx context.Context) {
	for {
		rows := w.writeAll(ctx)
		if rows == 0 {
			break
		}
		if w.failing {
			w.reportDropped() // before others are added that the error tells of
			w.mu.Lock()
			w.dropped += uint64(rows)
			w.mu.Unlock()
			w.err = fmt.Errorf("close logs: %d rows could not be written", rows)
			w.reported += uint64(rows)
			break
		}
	}
	w.reportDropped()
	if err := w.closeStatements(); err != nil && w.err == nil {
		w.err = wrap(ctx, "close logs", err)
	}
}
