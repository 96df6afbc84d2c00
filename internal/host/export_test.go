package host

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// QuietLog returns what decides about the lines of a new quietLog.
func QuietLog() func(now time.Time) (omitted uint64, ok bool) { return new(quietLog).admit }

// MetricsConnections is how many connections for metrics there may be at once.
const MetricsConnections = metricsConnections

// FewListener returns l with that bound, and how many connections it refused.
func FewListener(l *net.TCPListener) (few net.Listener, refused func() uint64) {
	f := &fewListener{TCPListener: l}
	return f, f.refused.Load
}

// ImpatientMetrics returns how to serve handler as metrics are served, but
// without patience when that closes, and how to close it.
func ImpatientMetrics(l *net.TCPListener, handler http.Handler, log *slog.Logger) (serve func(context.Context), closeServer func()) {
	m := serverOn(l, log)
	m.patience = 0
	m.server.Handler = m.awaited(handler)
	return m.serve, m.close
}

// SharedAnswer returns how to get the answer of ask, and how long one is good.
func SharedAnswer(ask func() error) (get func(context.Context) error, age time.Duration) {
	return newSharedAnswer(ask).get, healthAge
}
