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
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"mrci.dev/mrci/internal/control"
)

// Bounds of the metrics listener. Who reads it is on this machine.
const (
	metricsTimeout    = 10 * time.Second // for a request and for its answer
	metricsHeader     = 8 << 10          // bytes of a request
	metricsConcurrent = 4                // scrapes at once
	healthPatience    = 2 * time.Second  // with the database
)

// metricsServer serves metrics and health on a listener of its own.
type metricsServer struct {
	listener net.Listener
	server   *http.Server
	log      *slog.Logger
}

// newMetricsServer takes the port. addr is a loopback address (state 4).
func newMetricsServer(ctx context.Context, h *Host, addr string) (*metricsServer, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		cause := err
		var op *net.OpError
		if errors.As(err, &op) {
			cause = op.Err
		}
		return nil, fmt.Errorf("listen on %s for metrics: %v; choose another address or port with metrics_addr", addr, cause)
	}
	if tcp, ok := l.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		l.Close()
		return nil, fmt.Errorf("metrics_addr %s: it is no loopback address; use 127.0.0.1:PORT or [::1]:PORT", addr)
	}
	return &metricsServer{
		listener: l, log: h.log,
		server: &http.Server{
			Handler:           h.metricsHandler(),
			ReadHeaderTimeout: metricsTimeout, ReadTimeout: metricsTimeout,
			WriteTimeout: metricsTimeout, IdleTimeout: time.Minute,
			MaxHeaderBytes: metricsHeader,
			ErrorLog:       slog.NewLogLogger(h.log.Handler(), slog.LevelWarn),
		},
	}, nil
}

// serve answers until ctx ends.
func (m *metricsServer) serve(ctx context.Context) {
	unblock := context.AfterFunc(ctx, m.close)
	defer unblock()
	if err := m.server.Serve(m.listener); !errors.Is(err, http.ErrServerClosed) {
		m.log.Error("metrics listener", "err", err)
	}
}

// close ends serving at once. It may be called twice.
func (m *metricsServer) close() {
	m.server.Close()
	m.listener.Close()
}

func (h *Host) metricsHandler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		hostCollector{h},
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: metricsConcurrent, Timeout: metricsTimeout,
		ErrorLog: slog.NewLogLogger(h.log.Handler(), slog.LevelWarn),
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		h.sayHealth(w, r, "the host works", nil)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		var err error
		if !h.ready.Load() {
			err = errors.New("the host accepts no connections")
		}
		h.sayHealth(w, r, "the host accepts connections", err)
	})
	return mux
}

// sayHealth answers 200 when all is well, and 503 with what is not.
func (h *Host) sayHealth(w http.ResponseWriter, r *http.Request, well string, err error) {
	if err == nil {
		err = h.check(r.Context(), healthPatience)
	}
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
	ctx, cancel := context.WithTimeout(context.Background(), healthPatience)
	defer cancel()
	for _, s := range samples(c.host.Status(ctx)) {
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
