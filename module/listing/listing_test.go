package listing_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"mrci.dev/mrci/module"
	"mrci.dev/mrci/module/listing"
	"mrci.dev/mrci/wire"
)

var columns = []listing.Column{{Name: "id", Doc: "number"}, {Name: "name", Doc: "name"}}

// script is a client that answers prompts from a list.
type script struct {
	answers []string
	sent    []wire.Frame
	stopped error
}

func (s *script) Session() *module.Session { return &module.Session{} }

func (s *script) Send(_ context.Context, t wire.TypeID, p []byte) error {
	s.sent = append(s.sent, wire.Frame{Type: t, Payload: p})
	return nil
}

var errNoAnswer = errors.New("no answer")

func (s *script) Receive(context.Context) (wire.TypeID, []byte, error) {
	if len(s.answers) == 0 {
		return 0, nil, errNoAnswer
	}
	answer := s.answers[0]
	s.answers = s.answers[1:]
	return wire.Text, []byte(answer), nil
}

func (s *script) Checkpoint(context.Context) error                        { return s.stopped }
func (s *script) Async(context.Context, wire.AsyncID, wire.Payload) error { return nil }

// rows makes n rows, the i-th named after it.
func rows(n int) [][]string {
	all := make([][]string, n)
	for i := range all {
		all[i] = []string{fmt.Sprint(i + 1), fmt.Sprintf("Row%d", i+1)}
	}
	return all
}

// run runs a listing of n rows and returns how many rows each page had.
func run(t *testing.T, s *script, n int, arguments string) (pages []int, last string, err error) {
	t.Helper()
	cmd := module.Command{Name: "ls", Args: listing.Args(columns)}
	args, unknown, err := cmd.ParseArgs([]byte(arguments))
	if err != nil || len(unknown) > 0 {
		t.Fatalf("arguments: %v %v", unknown, err)
	}
	l := listing.Listing[int]{Columns: columns, Rows: func(_ context.Context, _ *module.Call, r listing.Request[int]) (listing.Page[int], error) {
		return listing.FromSlice(rows(n), columns, r), nil
	}}
	err = l.Run(t.Context(), module.NewCall(s, 300, "ls", wire.Frame{Type: wire.Text}, args))
	for _, f := range s.sent {
		if f.Type == wire.Text {
			last = string(f.Payload)
			if !strings.HasPrefix(last, "id") || !strings.Contains(last, "\n-------") {
				t.Errorf("a page without a header: %q", last)
			}
			pages = append(pages, strings.Count(last, "Row"))
		}
	}
	return pages, last, err
}

func TestPages(t *testing.T) {
	tests := []struct {
		name      string
		rows      int
		arguments string
		answers   []string
		pages     string
		end       string // of the last page
	}{
		{"none", 0, "", nil, "[0]", "\n0 rows.\n"},
		{"one", 1, "", nil, "[1]", "\n1 row.\n"},
		{"49", 49, "", nil, "[49]", "\n49 rows.\n"},
		{"50", 50, "", nil, "[50]", "\n50 rows.\n"},
		{"51, yes", 51, "", []string{"y"}, "[50 1]", "\n51 rows.\n"},
		{"51, no", 51, "", []string{"n"}, "[50]", "Row50\n"},
		{"51, something else, yes", 51, "", []string{"", "what", " YES\n"}, "[50 1]", "\n51 rows.\n"},
		{"100", 100, "", []string{"y"}, "[50 50]", "\n100 rows.\n"},
		{"101, all", 101, "-all", nil, "[50 50 1]", "\n101 rows.\n"},
		{"filter", 100, "-name ROW1 -id 0", nil, "[2]", "\n2 rows.\n"}, // 10, 100
		{"filter with nothing", 100, "-name x", nil, "[0]", "\n0 rows.\n"},
		{"filter over pages", 600, "-name row -all", nil, "[50 50 50 50 50 50 50 50 50 50 50 50]", "\n600 rows.\n"},
		{"empty filter", 1, "-name", nil, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.pages == "" {
				cmd := module.Command{Name: "ls", Args: listing.Args(columns)}
				if _, _, err := cmd.ParseArgs([]byte(tt.arguments)); err == nil {
					t.Error("no error")
				}
				return
			}
			pages, last, err := run(t, &script{answers: tt.answers}, tt.rows, tt.arguments)
			if err != nil || fmt.Sprint(pages) != tt.pages || !strings.HasSuffix(last, tt.end) {
				t.Errorf("pages %v, %v, ends with %q; want %s and %q", pages, err, last[max(0, len(last)-40):], tt.pages, tt.end)
			}
		})
	}
}

func TestStopped(t *testing.T) {
	if _, _, err := run(t, &script{}, 51, ""); !errors.Is(err, errNoAnswer) {
		t.Errorf("at the prompt: %v", err)
	}
	if pages, _, err := run(t, &script{stopped: module.ErrTerminated}, 51, "-all"); !errors.Is(err, module.ErrTerminated) || pages != nil {
		t.Errorf("between pages: %v after %v", err, pages)
	}
	broken := listing.Listing[int]{Columns: columns, Rows: func(context.Context, *module.Call, listing.Request[int]) (listing.Page[int], error) {
		return listing.Page[int]{}, errNoAnswer
	}}
	if err := broken.Run(t.Context(), module.NewCall(&script{}, 300, "ls", wire.Frame{}, module.Args{})); !errors.Is(err, errNoAnswer) {
		t.Errorf("broken rows: %v", err)
	}
}

func TestTable(t *testing.T) {
	got := listing.Table(columns, [][]string{{"1", "short"}, {"22222222", "ä\n\tü\u0085"}, {"3", ""}})
	want := "id          name\n" +
		"-------     -------\n" +
		"1           short\n" +
		"22222222    ä??ü?\n" +
		"3           \n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if listing.Text(true) != "1" || listing.Text(false) != "0" {
		t.Error("a truth is 0 or 1")
	}
}

// TestFromSlice: a place beyond the end is an empty page.
func TestFromSlice(t *testing.T) {
	p := listing.FromSlice(rows(3), columns, listing.Request[int]{After: 10, Limit: 2})
	if len(p.Rows) != 0 || p.More || p.Total != 3 {
		t.Errorf("%+v", p)
	}
	p = listing.FromSlice(rows(3), columns, listing.Request[int]{Limit: 2})
	if len(p.Rows) != 2 || !p.More || p.Next != 2 {
		t.Errorf("%+v", p)
	}
}
