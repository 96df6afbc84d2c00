package bench

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestSoak(t *testing.T) {
	report, err := smallBench(t).Soak(t.Context(), SoakOptions{
		Duration: 3 * time.Second, WarmUp: 300 * time.Millisecond, Every: 500 * time.Millisecond,
		Clients: 8, Processes: 2, Rate: 60, FillBytes: 1, Set: cheapHashing,
	})
	if err != nil {
		t.Fatal(err)
	}
	if report.Unexpected > 0 || len(report.Texts) > 0 {
		t.Errorf("%d unexpected answers with seed %d:\n%s", report.Unexpected, report.Seed, strings.Join(report.Texts, "\n"))
	}
	if report.Calls == 0 || len(report.Samples) == 0 || report.Did["administrator: status"] == 0 {
		t.Errorf("nothing was done: %d calls, %d samples, %v", report.Calls, len(report.Samples), report.Did)
	}
	var table, text bytes.Buffer
	if err := errors.Join(report.WriteTable(&table), report.WriteJSON(&text)); err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{"goroutines", "heap, collected", "database"} {
		if !strings.Contains(table.String(), row) || !strings.Contains(text.String(), row) {
			t.Errorf("row %q is missing in\n%s\n%s", row, &table, &text)
		}
	}
}

func TestSoakRow(t *testing.T) {
	tests := []struct {
		before, after, slack float64
		met                  bool
	}{
		{100, 100, 0, true},
		{100, 102, 0, true},
		{100, 103, 0, false},
		{100, 103, 1, true},
		{20, 22, 1, false},
		{20, 5, 1, true}, // less is no growth
		{0, 1, 0, false},
	}
	for _, test := range tests {
		row := soakRow("x", "", test.before, test.after).atMost(test.slack)
		if *row.Met != test.met {
			t.Errorf("%v after %v with %v more: met %v, want %v", test.after, test.before, test.slack, *row.Met, test.met)
		}
		good := SoakReport{Rows: []SoakRow{{What: "not judged"}, row}}.Good()
		if good != test.met {
			t.Errorf("report with %+v: good %v, want %v", row, good, test.met)
		}
	}
	if (SoakReport{Unexpected: 1}).Good() {
		t.Error("a report with an unexpected answer is good")
	}
}
