package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"mrci.dev/mrci/internal/control"
)

// Bounds of the metrics listener. Who reads it is on this machine, but need not
// mean well.
const (
	metricsTimeout     = 10 * time.Second // for a request and for its answer
	metricsIdle        = 5 * time.Second  // without a request
	metricsHeader      = 8 << 10          // bytes of a request
	metricsConnections = 8                // at once
	metricsConcurrent  = 4                // scrapes at once
	metricsClose       = 2 * time.Second  // for requests that run when the host stops
	healthPatience     = 2 * time.Second  // with the database
	healthAge          = time.Second      // of an answer of the database that is still good
)

// metricsServer serves metrics and health on a listener of its own.
type metricsServer struct {
	listener *fewListener
	server   *http.Server
	log      *slog.Logger
	patience time.Duration // fixed; when it closes
	// ctx is what handlers do for more than one request in; it ends with close.
	ctx    context.Context
	cancel context.CancelFunc

	closing sync.Once
	mu      sync.Mutex
	closed  bool           // guarded by mu; no handler begins any more
	running sync.WaitGroup // handlers; added to under mu
}

// newMetricsServer takes the port. addr is a loopback address (state 4).
func newMetricsServer(ctx context.Context, h *Host, addr string) (*metricsServer, error) {
	l, err := takePort(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s for metrics: %v; choose another address or port with metrics_addr", addr, err)
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok || !tcp.Addr().(*net.TCPAddr).IP.IsLoopback() {
		l.Close()
		return nil, fmt.Errorf("metrics_addr %s: it is no loopback address; use 127.0.0.1:PORT or [::1]:PORT", addr)
	}
	m := serverOn(tcp, h.log)
	m.server.Handler = h.metricsHandler(m)
	return m, nil
}

// serverOn makes a server that has no handler yet.
func serverOn(l *net.TCPListener, log *slog.Logger) *metricsServer {
	m := &metricsServer{
		listener: &fewListener{TCPListener: l}, log: log, patience: metricsClose,
		server: &http.Server{
			ReadHeaderTimeout: metricsIdle, ReadTimeout: metricsTimeout,
			WriteTimeout: metricsTimeout, IdleTimeout: metricsIdle,
			MaxHeaderBytes: metricsHeader,
			ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		},
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

// serve answers until ctx ends, and returns when no handler runs.
func (m *metricsServer) serve(ctx context.Context) {
	unblock := context.AfterFunc(ctx, m.close)
	defer unblock()
	if err := m.server.Serve(m.listener); !errors.Is(err, http.ErrServerClosed) {
		m.log.Error("metrics listener", "err", err)
	}
	m.close()
}

// close ends serving: requests that run may end, for a moment, then they are
// cut off. No handler runs when it returns. It may be called twice.
func (m *metricsServer) close() {
	m.closing.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), m.patience)
		defer cancel()
		if m.server.Shutdown(ctx) != nil {
			m.server.Close()
		}
		m.listener.Close()
		m.mu.Lock()
		m.closed = true
		m.mu.Unlock()
		m.cancel()
		m.running.Wait()
	})
}

// refused counts connections for which there was no room. m may be nil.
func (m *metricsServer) refused() uint64 {
	if m == nil {
		return 0
	}
	return m.listener.refused.Load()
}

// awaited makes close wait for a handler.
func (m *metricsServer) awaited(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		if m.closed {
			m.mu.Unlock()
			http.Error(w, "the host stops", http.StatusServiceUnavailable)
			return
		}
		m.running.Add(1)
		m.mu.Unlock()
		defer m.running.Done()
		handler.ServeHTTP(w, r)
	})
}

// fewListener holds few connections at once. More are closed at once, so that
// they cost the host no descriptors.
type fewListener struct {
	*net.TCPListener
	held    atomic.Int64
	refused atomic.Uint64
}

// Accept implements net.Listener.
func (l *fewListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		if l.held.Add(1) <= metricsConnections {
			return &heldConn{TCPConn: c, release: sync.OnceFunc(func() { l.held.Add(-1) })}, nil
		}
		l.held.Add(-1)
		l.refused.Add(1)
		c.Close()
	}
}

type heldConn struct {
	*net.TCPConn
	release func()
}

// Close makes room for another connection.
func (c *heldConn) Close() error {
	defer c.release()
	return c.TCPConn.Close()
}

// sharedAnswer asks one question for many, of whom one asks at a time: an answer
// is good for all who ask within healthAge.
type sharedAnswer struct {
	ask  func() error
	turn chan struct{} // holds who may look at the rest
	at   time.Time
	err  error
}

func newSharedAnswer(ask func() error) *sharedAnswer {
	return &sharedAnswer{ask: ask, turn: make(chan struct{}, 1)}
}

func (s *sharedAnswer) get(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.at.IsZero() || time.Since(s.at) >= healthAge {
		s.err = s.ask()
		s.at = time.Now()
	}
	return s.err
}

func (h *Host) metricsHandler(m *metricsServer) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		hostCollector{h},
	)
	scrape := promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: metricsConcurrent,
		ErrorLog:            slog.NewLogLogger(h.log.Handler(), slog.LevelWarn),
	})
	// Not who asks is the measure of its patience: others share the answer.
	health := newSharedAnswer(func() error { return h.check(m.ctx, healthPatience) })
	mux := http.NewServeMux()
	// What takes too long goes on behind the answer; that has to be awaited.
	mux.Handle("GET /metrics", http.TimeoutHandler(m.awaited(scrape), metricsTimeout, "the metrics took too long\n"))
	mux.Handle("GET /healthz", m.awaited(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sayHealth(w, "the host works", health.get(r.Context()))
	})))
	mux.Handle("GET /readyz", m.awaited(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.ready.Load() {
			sayHealth(w, "", errors.New("the host accepts no connections"))
			return
		}
		sayHealth(w, "the host accepts connections", health.get(r.Context()))
	})))
	return mux
}

// sayHealth answers 200 when all is well, and 503 with what is not.
func sayHealth(w http.ResponseWriter, well string, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		well = err.Error()
	}
	fmt.Fprintln(w, well) // a client that has gone does not need it
}

// hostCollector makes metrics of the status, so that both say the same.
type hostCollector struct{ host *Host }

// Describe implements prometheus.Collector. It sends nothing: which counters
// there are depends on what has happened.
func (hostCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c hostCollector) Collect(out chan<- prometheus.Metric) {
	for _, s := range samples(c.host.Status()) {
		desc := prometheus.NewDesc("mrci_"+s.name, s.help, slices.Sorted(maps.Keys(s.labels)), nil)
		values := make([]string, 0, len(s.labels))
		for _, label := range slices.Sorted(maps.Keys(s.labels)) {
			values = append(values, s.labels[label])
		}
		m, err := prometheus.NewConstMetric(desc, s.kind, s.value, values...)
		if err != nil {
			m = prometheus.NewInvalidMetric(desc, err)
		}
		out <- m
	}
}

// sample is one value of a metric.
type sample struct {
	name, help string
	kind       prometheus.ValueType
	labels     map[string]string
	value      float64
}

// samples are the metrics that a status holds.
func samples(s control.Status) []sample {
	gauge := func(name, help string, value float64) sample {
		return sample{name: name, help: help, kind: prometheus.GaugeValue, value: value}
	}
	all := []sample{
		{name: "build_info", help: "The version of the program; always 1.", kind: prometheus.GaugeValue, labels: map[string]string{"version": s.Version}, value: 1},
		gauge("start_time_seconds", "When the host was started, in seconds since 1970.", float64(s.Started.Unix())),
		gauge("sessions", "Sessions now.", float64(s.Sessions.Now)),
		gauge("sessions_max", "Sessions that there may be at once.", float64(s.Sessions.Max)),
		gauge("sessions_anonymous", "Sessions now that are not logged in.", float64(s.Sessions.Anonymous)),
		gauge("half_open_connections", "Connections now whose handshake is not over and that are counted.", float64(s.HalfOpen)),
		gauge("send_queue_bytes", "Bytes that wait for clients.", float64(s.Queues.SendBytes)),
		gauge("input_bytes", "Bytes that wait for commands.", float64(s.Queues.InputBytes)),
		gauge("hashes_running", "Password hashes that are being computed.", float64(s.Queues.HashesRunning)),
		gauge("hashes_waiting", "Password hashes that wait.", float64(s.Queues.HashesWaiting)),
		gauge("mails_waiting", "Mails that wait.", float64(s.Queues.MailsWaiting)),
		gauge("log_rows_waiting", "Rows of the logs that wait to be written.", float64(s.Queues.LogRows)),
		gauge("database_size_bytes", "Size of the database file.", float64(s.Database.SizeBytes)),
		gauge("certificate_not_after_seconds", "When the certificate expires, in seconds since 1970.", float64(s.Certificate.NotAfter.Unix())),
		gauge("certificate_error", "1 while the certificate files could not be loaded or renewed.", indicator(s.Certificate.LastError != "")),
		gauge("configuration_error", "1 while the configuration file could not be loaded.", indicator(s.Configuration.LastError != "")),
	}
	for rank, n := range s.Sessions.ByRank {
		all = append(all, sample{
			name: "sessions_of_rank", help: "Sessions now by the rank of their user.", kind: prometheus.GaugeValue,
			labels: map[string]string{"rank": rank}, value: float64(n),
		})
	}
	for group, reasons := range s.Counters {
		for reason, n := range reasons {
			all = append(all, sample{
				name: metricName(group) + "_total", help: "What has happened since the start: " + strings.ReplaceAll(group, "_", " ") + ", by reason.",
				kind: prometheus.CounterValue, labels: map[string]string{"reason": reason}, value: float64(n),
			})
		}
	}
	return all
}

func indicator(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// metricName makes a group of counters the name of a metric.
func metricName(group string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(group))
}
