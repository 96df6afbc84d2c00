package control

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// Status is how a running host is: the contract of `mrci status --json`. Members
// are added, and never renamed or removed. It has no secrets. Times are UTC.
type Status struct {
	Version       string              `json:"version"`
	PID           int                 `json:"pid"`
	Started       time.Time           `json:"started"`
	UptimeS       int64               `json:"uptime_s"`
	Addr          string              `json:"addr"` // ADDR:PORT that it listens on
	Sessions      SessionStatus       `json:"sessions"`
	HalfOpen      int                 `json:"half_open"` // connections whose handshake is not over
	Memory        MemoryStatus        `json:"memory"`
	Queues        QueueStatus         `json:"queues"`
	Database      DatabaseStatus      `json:"database"`
	Certificate   CertificateStatus   `json:"certificate"`
	Configuration ConfigurationStatus `json:"configuration"`
	Modules       []ModuleStatus      `json:"modules,omitempty"`
	// Counters is what has happened since the start: by group, by reason.
	Counters map[string]map[string]uint64 `json:"counters"`
}

// SessionStatus counts sessions.
type SessionStatus struct {
	Now       int `json:"now"`
	Max       int `json:"max"`
	Anonymous int `json:"anonymous"` // not logged in
	// ByRank counts those that are logged in, by host rank in decimal.
	ByRank map[string]int `json:"by_rank"`
}

// MemoryStatus is what the process has in use.
type MemoryStatus struct {
	HeapBytes      uint64 `json:"heap_bytes"`
	RSSBytes       uint64 `json:"rss_bytes"` // 0: unknown
	Goroutines     int    `json:"goroutines"`
	Descriptors    int    `json:"descriptors"`     // 0: unknown
	DescriptorsMax uint64 `json:"descriptors_max"` // 0: unknown, or no limit
}

// QueueStatus is what waits in the host.
type QueueStatus struct {
	SendBytes      uint64 `json:"send_bytes"`      // for clients
	InputBytes     uint64 `json:"input_bytes"`     // of large frames that arrive
	InputMaxBytes  uint64 `json:"input_max_bytes"` // budget of these
	HashesRunning  int    `json:"hashes_running"`  // of passwords
	HashesWaiting  int    `json:"hashes_waiting"`  //
	MailsWaiting   int    `json:"mails_waiting"`   // mails being sent included
	BackgroundJobs int    `json:"background_jobs"` // running included
	LogRows        int    `json:"log_rows"`        // not yet in the database
}

// DatabaseStatus names the database.
type DatabaseStatus struct {
	Driver    string `json:"driver"`
	File      string `json:"file"`
	SizeBytes int64  `json:"size_bytes"`
}

// CertificateStatus is the certificate in use and, in Chain and Key, the files
// that it comes from.
type CertificateStatus struct {
	Chain        []string  `json:"chain"`
	Key          string    `json:"key"`
	Subject      string    `json:"subject"`
	Names        []string  `json:"names"`
	NotBefore    time.Time `json:"not_before,omitzero"`
	NotAfter     time.Time `json:"not_after,omitzero"`
	SHA256       string    `json:"sha256"`               // of the public key
	LastError    string    `json:"last_error,omitempty"` // of the last loading; the one before is in use
	RenewsItself bool      `json:"renews_itself"`
}

// ConfigurationStatus is where the configuration in effect comes from.
type ConfigurationStatus struct {
	File         string    `json:"file"`
	Loaded       time.Time `json:"loaded,omitzero"`
	LastError    string    `json:"last_error,omitempty"`    // of the last loading; the one before is in effect
	NeedsRestart []string  `json:"needs_restart,omitempty"` // keys whose change waits for a start
}

// ModuleStatus is an external module.
type ModuleStatus struct {
	Path      string `json:"path"`
	State     string `json:"state"`
	Commands  int    `json:"commands"`
	Processes int    `json:"processes"`
	LastError string `json:"last_error,omitempty"`
}

// MarshalJSON writes times to the second in UTC, and an empty list or object
// where there is nothing to list.
func (s Status) MarshalJSON() ([]byte, error) {
	type plain Status
	p := plain(s)
	for _, at := range []*time.Time{&p.Started, &p.Certificate.NotBefore, &p.Certificate.NotAfter, &p.Configuration.Loaded} {
		*at = at.UTC().Truncate(time.Second)
	}
	p.Sessions.ByRank = orEmpty(p.Sessions.ByRank)
	p.Counters = orEmpty(p.Counters)
	p.Certificate.Chain = append([]string{}, p.Certificate.Chain...)
	p.Certificate.Names = append([]string{}, p.Certificate.Names...)
	return json.Marshal(p)
}

func orEmpty[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}

// Text returns the status for people: one screen, without what is zero among
// the counters.
func (s Status) Text() string {
	var t table
	now := s.Started.Add(time.Duration(s.UptimeS) * time.Second)
	t.row("mrci "+s.Version, "pid %d, up %s, since %s", s.PID, span(s.UptimeS), stamp(s.Started))
	t.row("listening on", "%s", s.Addr)
	t.row("sessions", "%s", s.Sessions.text(s.HalfOpen))
	t.row("memory", "%s", s.Memory.text())
	q := s.Queues
	t.row("queues", "to clients %s; from clients %s of %s", size(q.SendBytes), size(q.InputBytes), size(q.InputMaxBytes))
	t.row("", "hashes %d running, %d waiting; mails %d; background %d; log rows %d",
		q.HashesRunning, q.HashesWaiting, q.MailsWaiting, q.BackgroundJobs, q.LogRows)
	t.row("database", "%s %s, %s", s.Database.Driver, s.Database.File, size(uint64(max(s.Database.SizeBytes, 0))))
	s.Certificate.rows(&t, now)
	c := s.Configuration
	t.row("configuration", "%s, loaded %s", c.File, stamp(c.Loaded))
	if c.LastError != "" {
		t.row("", "last error: %s", c.LastError)
	}
	if len(c.NeedsRestart) > 0 {
		t.row("", "needs a restart: %s", strings.Join(c.NeedsRestart, ", "))
	}
	for i, m := range s.Modules {
		line := fmt.Sprintf("%s: %s, %s, %s", m.Path, m.State, plural(m.Commands, "command"), plural(m.Processes, "process"))
		if m.LastError != "" {
			line += ", last error: " + m.LastError
		}
		t.row(first(i, "modules"), "%s", line)
	}
	i := 0
	for _, group := range slices.Sorted(maps.Keys(s.Counters)) {
		if line := counts(s.Counters[group]); line != "" {
			t.row(first(i, "counters"), "%s: %s", group, line)
			i++
		}
	}
	return t.String()
}

func (s SessionStatus) text(halfOpen int) string {
	parts := []string{fmt.Sprintf("%d of %d", s.Now, s.Max)}
	var by []string
	if s.Anonymous > 0 {
		by = append(by, fmt.Sprintf("not logged in %d", s.Anonymous))
	}
	for _, rank := range slices.SortedFunc(maps.Keys(s.ByRank), byNumber) {
		if n := s.ByRank[rank]; n > 0 {
			by = append(by, fmt.Sprintf("rank %s: %d", rank, n))
		}
	}
	if len(by) > 0 {
		parts = append(parts, strings.Join(by, ", "))
	}
	return strings.Join(append(parts, fmt.Sprintf("half-open %d", halfOpen)), "; ")
}

// byNumber orders decimal numbers of any length, and texts behind them.
func byNumber(a, b string) int {
	x, errA := strconv.ParseUint(a, 10, 64)
	y, errB := strconv.ParseUint(b, 10, 64)
	switch {
	case errA != nil && errB != nil:
		return strings.Compare(a, b)
	case errA != nil:
		return 1
	case errB != nil:
		return -1
	}
	return cmp.Compare(x, y)
}

func (m MemoryStatus) text() string {
	parts := []string{"heap " + size(m.HeapBytes)}
	if m.RSSBytes > 0 {
		parts = append(parts, "resident "+size(m.RSSBytes))
	}
	parts = append(parts, plural(m.Goroutines, "goroutine"))
	if m.Descriptors > 0 {
		line := plural(m.Descriptors, "descriptor")
		if m.DescriptorsMax > 0 {
			line = fmt.Sprintf("%d of %d descriptors", m.Descriptors, m.DescriptorsMax)
		}
		parts = append(parts, line)
	}
	return strings.Join(parts, ", ")
}

func (c CertificateStatus) rows(t *table, now time.Time) {
	t.row("certificate", "%s, key %s", cmp.Or(strings.Join(c.Chain, ", "), "none"), cmp.Or(c.Key, "none"))
	if c.SHA256 != "" {
		t.row("", "%s for %s", cmp.Or(c.Subject, "no subject"), cmp.Or(strings.Join(c.Names, ", "), "no names"))
		renews := ""
		if c.RenewsItself {
			renews = ", renews itself"
		}
		switch left := c.NotAfter.Sub(now); {
		case now.Before(c.NotBefore):
			t.row("", "NOT YET VALID, from %s to %s%s", stamp(c.NotBefore), stamp(c.NotAfter), renews)
		case left <= 0:
			t.row("", "EXPIRED at %s%s", stamp(c.NotAfter), renews)
		default:
			t.row("", "valid to %s (%s)%s", stamp(c.NotAfter), span(int64(left/time.Second)), renews)
		}
		t.row("", "key SHA256:%s", strings.TrimPrefix(c.SHA256, "SHA256:"))
	}
	if c.LastError != "" {
		t.row("", "last error: %s", c.LastError)
	}
}

// counts returns the counters that are not zero, by name.
func counts(of map[string]uint64) string {
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(of)) {
		if n := of[reason]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", reason, n))
		}
	}
	return strings.Join(parts, ", ")
}

// table gathers rows of a name and a value.
type table struct{ b strings.Builder }

func (t *table) row(name, format string, args ...any) {
	fmt.Fprintf(&t.b, "%s\t%s\n", printable(name), printable(fmt.Sprintf(format, args...)))
}

func (t *table) String() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	_, _ = w.Write([]byte(t.b.String())) // a Builder takes everything
	_ = w.Flush()
	return out.String()
}

// printable replaces what could move the cursor, or change what stands
// elsewhere: names in certificates and errors come from outside.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// first is the name for the first row of several.
func first(i int, name string) string {
	if i == 0 {
		return name
	}
	return ""
}

func plural(n int, what string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(what, "s"):
		what += "es"
	default:
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.DateTime) + " UTC"
}

// span returns seconds in the two largest units.
func span(seconds int64) string {
	switch d, h, m := seconds/86400, seconds/3600%24, seconds/60%60; {
	case seconds < 0:
		return "0s"
	case d >= 100:
		return fmt.Sprintf("%dd", d)
	case d > 0:
		return fmt.Sprintf("%dd %dh", d, h)
	case h > 0:
		return fmt.Sprintf("%dh %dm", h, m)
	case m > 0:
		return fmt.Sprintf("%dm %ds", m, seconds%60)
	}
	return fmt.Sprintf("%ds", seconds)
}

func size(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/1024, 0
	for f >= 1023.95 && unit < 3 { // what would be shown as 1024.0
		f /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %s", f, [...]string{"KiB", "MiB", "GiB", "TiB"}[unit])
}
