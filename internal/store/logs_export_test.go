package store

import (
	"reflect"
	"testing"
)

// Limits of the writer that tests count with.
const (
	BatchRows     = batchRows
	FlushEvery    = flushEvery
	LogEntryBytes = logEntryBytes
	MaxArguments  = maxArguments
	MaxLogText    = maxLogText
	CutMark       = cutMark
	PruneEvery    = pruneEvery
	PruneRows     = pruneRows
	ReportEvery   = reportEvery
	DeleteRows    = deleteRows
)

// LogEntrySize is what LogEntryBytes must cover.
func LogEntrySize() int { return int(reflect.TypeFor[logEntry]().Size()) }

// Plan returns how SQLite reads a table.
func (s *Store) Plan(t *testing.T, query string, args ...any) (plan string) {
	t.Helper()
	rows, err := s.r.Query("EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		plan += detail + "\n"
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan
}

// Execute runs a statement on the writing connection.
func (s *Store) Execute(t *testing.T, statement string, args ...any) {
	t.Helper()
	if _, err := s.w.Exec(statement, args...); err != nil {
		t.Fatal(err)
	}
}

// IdleLogs returns Logs without a writer.
func IdleLogs() *Logs { return &Logs{bound: defaultQueueBytes, wake: make(chan struct{}, 1)} }

// Discard empties the queue of IdleLogs, as its writer would.
func (l *Logs) Discard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue, l.bytes = l.queue[:0], 0
	select {
	case <-l.wake:
	default:
	}
}
