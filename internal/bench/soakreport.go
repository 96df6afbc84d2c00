package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// This file has what a soak finds out, and how that is judged and printed.

// Changes that are no growth: what 2 % of a small number does not allow. A
// collection leaves some tens of KiB more or less behind, depending on which
// pools are filled at that moment. Resident memory has the page caches of the
// database in it, up to 2 MiB for each of five connections: the system
// does not tell how much of it they are.
const (
	soakShare        = 0.02
	slackGoroutines  = 1
	slackDescriptors = 1
	slackHeap        = 128 << 10
	slackResident    = 10 << 20
)

// SoakRow is one figure at rest, before the load and after it.
type SoakRow struct {
	What   string  `json:"what"`
	Unit   string  `json:"unit"`
	Before float64 `json:"before"`
	After  float64 `json:"after"`
	// Change is the difference in percent of Before.
	Change float64 `json:"change_percent"`
	// Limit is the most that After may be; nil: the figure is not judged.
	Limit *float64 `json:"limit,omitempty"`
	Met   *bool    `json:"met,omitempty"`
	Note  string   `json:"note,omitempty"`
}

func soakRow(what, unit string, before, after float64) SoakRow {
	r := SoakRow{What: what, Unit: unit, Before: before, After: after}
	if before != 0 {
		r.Change = 100 * (after - before) / before
	}
	return r
}

// atMost judges the row: 2 % and slack more are no growth.
func (r SoakRow) atMost(slack float64) SoakRow {
	limit := r.Before*(1+soakShare) + slack
	met := r.After <= limit
	r.Limit, r.Met = &limit, &met
	return r
}

// SoakSample is how the host was under load.
type SoakSample struct {
	Seconds     float64 `json:"seconds"` // since the load began
	Sessions    int     `json:"sessions"`
	Goroutines  int     `json:"goroutines"`
	Descriptors int     `json:"descriptors"` // 0: unknown
	HeapBytes   uint64  `json:"heap_bytes"`
	RSSBytes    uint64  `json:"rss_bytes"` // 0: unknown
	Calls       uint64  `json:"calls"`
	Unexpected  int     `json:"unexpected"`
}

// SoakReport is the result of a soak.
type SoakReport struct {
	Machine    string            `json:"machine"`
	DurationS  float64           `json:"duration_s"`
	WarmUpS    float64           `json:"warm_up_s"`
	Clients    int               `json:"clients"`
	Rate       float64           `json:"rate"`
	Seed       uint64            `json:"seed"`
	HostCPU    float64           `json:"host_cpu_s,omitempty"` // that the load has cost the host; 0: unknown
	Calls      uint64            `json:"calls"`
	Did        map[string]uint64 `json:"did"` // how often, by what clients and administrator do
	Rows       []SoakRow         `json:"rows"`
	Samples    []SoakSample      `json:"samples"`
	Unexpected int               `json:"unexpected"`
	// Texts are the first unexpected answers.
	Texts []string `json:"texts"`
}

// Good reports whether nothing has grown and nothing was unexpected.
func (r SoakReport) Good() bool {
	return r.Unexpected == 0 && !slices.ContainsFunc(r.Rows, func(row SoakRow) bool { return row.Met != nil && !*row.Met })
}

// WriteJSON writes the report for programs.
func (r SoakReport) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteTable writes the report for people.
func (r SoakReport) WriteTable(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s of load after %s to warm up, %d clients, %g steps a second, seed %d\n",
		r.Machine, seconds(r.DurationS), seconds(r.WarmUpS), r.Clients, r.Rate, r.Seed)
	fmt.Fprintf(&b, "%d calls, %d unexpected answers", r.Calls, r.Unexpected)
	if r.HostCPU > 0 {
		fmt.Fprintf(&b, "; the host took %.0f %% of one core", 100*r.HostCPU/r.DurationS)
	}
	b.WriteString("\n\n")
	t := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "at rest\tbefore\tafter\tunit\tchange\tat most\t\tnote")
	for _, row := range r.Rows {
		limit, met := "", ""
		if row.Met != nil {
			limit, met = figure(*row.Limit), map[bool]string{true: "yes", false: "NO"}[*row.Met]
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%+.1f %%\t%s\t%s\t%s\n",
			row.What, figure(row.Before), figure(row.After), row.Unit, row.Change, limit, met, row.Note)
	}
	fmt.Fprintln(t, "\t\ndone\ttimes")
	for _, what := range slices.Sorted(maps.Keys(r.Did)) {
		fmt.Fprintf(t, "%s\t%d\n", what, r.Did[what])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, text := range r.Texts {
		fmt.Fprintf(&b, "unexpected: %s\n", text)
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(time.Second)
}

// atRest is what the host has in use when nobody is connected.
type atRest struct {
	stat        Stat
	descriptors int
	resident    uint64 // without pages of files; 0: unknown
	database    int64
	calls       uint64
}

// compare fills in the rows of the report.
func (s *soakRun) compare(before, after atRest) {
	count := func(what string, before, after, slack int) SoakRow {
		return soakRow(what, "", float64(before), float64(after)).atMost(float64(slack))
	}
	kib := func(what string, before, after uint64) SoakRow {
		return soakRow(what, "KiB", float64(before)/1024, float64(after)/1024)
	}
	rows := []SoakRow{count("goroutines", before.stat.Goroutines, after.stat.Goroutines, slackGoroutines)}
	if before.descriptors > 0 {
		rows = append(rows, count("descriptors", before.descriptors, after.descriptors, slackDescriptors))
	}
	rows = append(rows,
		kib("heap, collected", before.stat.Heap, after.stat.Heap).atMost(slackHeap/1024),
		kib("stacks", before.stat.Stack, after.stat.Stack))
	if before.resident > 0 {
		resident := kib("resident", before.resident, after.resident).atMost(slackResident / 1024)
		resident.Note = "without pages of files and free ones that Go keeps; 10 MiB may be page caches of the database"
		was, is := before.stat.Parts, after.stat.Parts
		rows = append(rows, resident, kib("  of Go's runtime", before.stat.Go, after.stat.Go),
			kib("    holes between objects", was.Holes, is.Holes), kib("    free and kept", was.Kept, is.Kept),
			kib("    allocator", was.Spans, is.Spans), kib("    collector", was.Collector, is.Collector),
			kib("    heap profile", was.Profiles, is.Profiles), kib("    other", was.Other, is.Other))
	}
	database := kib("database", uint64(before.database), uint64(after.database))
	database.Note = "grows by rows of the logs"
	s.report.Rows = append(rows, database)
}
