package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Row is one figure, with what it is compared to.
type Row struct {
	What  string  `json:"what"`
	Mode  Mode    `json:"mode"`
	Unit  string  `json:"unit"`
	Host  float64 `json:"host"`
	Floor float64 `json:"floor,omitempty"` // 0: there is none
	// Ratio is that of host to floor in one round, the median of all rounds: it
	// stays when the machine is busier in one round than in another. 0 without
	// a floor.
	Ratio float64 `json:"ratio,omitempty"`
	// Peer is the figure of another program that was measured in the same run,
	// PeerRatio that of the host to it, as Ratio. 0: there is none.
	Peer      float64 `json:"peer,omitempty"`
	PeerRatio float64 `json:"peer_ratio,omitempty"`
	Target    string  `json:"target,omitempty"`
	// Met tells whether the target is reached; nil without one.
	Met  *bool  `json:"met,omitempty"`
	Note string `json:"note,omitempty"`
	// Beside has the figures of an innocent client beside an attack; nil in
	// other rows.
	Beside *Beside `json:"beside,omitempty"`
}

// Beside is what an attack does to others. Figures are the medians of rounds,
// but for the longest time, which is that of all rounds.
type Beside struct {
	Host   Quantiles  `json:"host_ms"`
	Floor  *Quantiles `json:"floor_ms,omitempty"` // nil: the floor was not attacked
	Memory *Memory    `json:"host_mib"`
}

// Quantiles are times of calls in milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Memory is what the operating system holds for the host, in MiB: before the
// attack and after it, when garbage has been collected, and the most that was
// seen meanwhile. 0 where the system does not tell.
type Memory struct {
	Before  float64 `json:"before"`
	Highest float64 `json:"highest"`
	After   float64 `json:"after"`
}

// compare returns the row of one figure that both have in their rounds.
func compare(what string, mode Mode, unit string, host, floor []float64) Row {
	return Row{What: what, Mode: mode, Unit: unit, Host: median(host), Floor: median(floor), Ratio: medianRatio(host, floor)}
}

// medianRatio is the median of the ratios in each round; 0 without any.
func medianRatio(host, floor []float64) float64 {
	ratios := make([]float64, 0, len(host))
	for i := range min(len(host), len(floor)) {
		if floor[i] != 0 {
			ratios = append(ratios, host[i]/floor[i])
		}
	}
	return median(ratios)
}

// besidePeer adds the peer's figures.
func (r Row) besidePeer(host, peer []float64) Row {
	r.Peer, r.PeerRatio = median(peer), medianRatio(host, peer)
	return r
}

func (r Row) noting(note string) Row {
	r.Note = note
	return r
}

// ratioAtMost and ratioAtLeast give a row a target for its ratio, atMost one
// for the figure itself.
func (r Row) ratioAtMost(limit float64) Row {
	return r.judged(fmt.Sprintf("<= %gx floor", limit), r.Ratio <= limit)
}

func (r Row) ratioAtLeast(limit float64) Row {
	return r.judged(fmt.Sprintf(">= %g%% of floor", limit*100), r.Ratio >= limit)
}

func (r Row) atMost(limit float64) Row {
	return r.judged(fmt.Sprintf("<= %g %s", limit, r.Unit), r.Host <= limit)
}

func (r Row) judged(target string, met bool) Row {
	r.Target, r.Met = target, &met
	return r
}

// Report is the result of a run.
type Report struct {
	Machine string `json:"machine"`
	Rows    []Row  `json:"rows"`
}

// NewReport returns a report of rows that were measured on this machine.
func NewReport(rows []Row) Report {
	return Report{
		Machine: fmt.Sprintf("%d cores, %s/%s, %s; clients on the same cores", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version()),
		Rows:    rows,
	}
}

// WriteJSON writes the report for programs.
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteTable writes the report for people.
func (r Report) WriteTable(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", r.Machine)
	t := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	peers := slices.ContainsFunc(r.Rows, func(row Row) bool { return row.Peer != 0 })
	peerTitle := ""
	if peers {
		peerTitle = "peer\tratio\t"
	}
	fmt.Fprintf(t, "what\tmode\thost\tfloor\tunit\tratio\t%starget\t\tnote\n", peerTitle)
	attacks := false
	for _, row := range r.Rows {
		if row.Beside != nil {
			attacks = true
			continue
		}
		host, floor, met := figure(row.Host), figure(row.Floor), ""
		if row.Floor == 0 {
			floor = ""
		}
		if row.Host == 0 && row.Floor+row.Peer != 0 {
			host = "" // it was left out
		}
		peer := ""
		if peers {
			peer = "\t\t"
		}
		if row.Peer != 0 {
			peer = figure(row.Peer) + "\t" + ratioText(row.PeerRatio) + "\t"
		}
		if row.Met != nil {
			met = map[bool]string{true: "yes", false: "NO"}[*row.Met]
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s%s\t%s\t%s\n",
			row.What, row.Mode, host, floor, row.Unit, ratioText(row.Ratio), peer, row.Target, met, row.Note)
	}
	if attacks {
		r.appendAttacks(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	// The writer pads the last column too.
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

func ratioText(ratio float64) string {
	if ratio == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", ratio)
}

// appendAttacks writes the rows of attacks, which have columns of their own.
func (r Report) appendAttacks(w io.Writer) {
	fmt.Fprintln(w, "\nwhat\tmode\thost p50\tp99\tmax ms\tfloor p50\tp99\tmax ms\tMiB before\thighest\tafter\tnote")
	for _, row := range r.Rows {
		if row.Beside == nil {
			continue
		}
		h, f, m := row.Beside.Host, Quantiles{}, row.Beside.Memory
		if row.Beside.Floor != nil {
			f = *row.Beside.Floor
		}
		fmt.Fprintf(w, "%s\t%s", row.What, row.Mode)
		for _, v := range []float64{h.P50, h.P99, h.Max, f.P50, f.P99, f.Max, m.Before, m.Highest, m.After} {
			text := ""
			if v != 0 {
				text = figure(v)
			}
			fmt.Fprintf(w, "\t%s", text)
		}
		fmt.Fprintf(w, "\t%s\n", row.Note)
	}
}

// figure writes three digits that count, and no exponent.
func figure(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// median returns the middle of the values; 0 without any.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	switch {
	case n == 0:
		return 0
	case n%2 == 1:
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// mean returns the average of the values; 0 without any.
func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(max(len(values), 1))
}

// percentile returns the value below which a share of the sorted durations
// lies, in milliseconds.
func percentile(sorted []time.Duration, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := min(int(share*float64(len(sorted))), len(sorted)-1)
	return float64(sorted[at]) / float64(time.Millisecond)
}

// rounds collects the figures of several rounds under their names.
type rounds map[string][]float64

func (r rounds) add(name string, value float64) { r[name] = append(r[name], value) }

func (r rounds) addTimes(times []time.Duration) {
	slices.Sort(times)
	r.add("p50", percentile(times, 0.50))
	r.add("p99", percentile(times, 0.99))
	r.add("max", percentile(times, 1))
}
