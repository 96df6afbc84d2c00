// Package listing shows rows of a table to a client, page by page, with a
// filter for every column: the one way in which commands print tables
// (commands 1.7).
//
// A command says which columns it has and where a page of rows comes from; the
// arguments, the layout, the questions between pages and the total are the
// package's.
package listing

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"mrci.dev/mrci/module"
)

// PageRows is how many rows a page has (protocol 8).
const PageRows = 50

// Column is one column of a listing.
type Column struct {
	Name string // the header, and the filter switch
	Doc  string // what the column holds
}

// Request asks for a page of rows. K is a place in the listing, behind the
// last row of a page; its zero value is the beginning.
type Request[K any] struct {
	Filter map[string]string // substring by column name; only filters that were given
	After  K
	Limit  int
}

// Page is an answer to a Request.
type Page[K any] struct {
	Rows  [][]string // one text per column
	Next  K
	More  bool // there are rows behind this page
	Total int  // rows that match, on all pages
}

// Listing describes a listing.
type Listing[K any] struct {
	Columns []Column
	// Rows returns a page. It is called once per page.
	Rows func(ctx context.Context, c *module.Call, r Request[K]) (Page[K], error)
}

// Args returns the arguments of a listing: a filter per column, and -all.
func Args(columns []Column) []module.Arg {
	args := make([]module.Arg, 0, len(columns)+1)
	for _, c := range columns {
		args = append(args, module.Arg{Name: c.Name, Doc: "only rows whose " + c.Name + " contains this text"})
	}
	return append(args, module.Arg{Name: "all", Kind: module.Flag, Doc: "all pages, without a question between them"})
}

// Run shows the listing: it is the function of the command, or its end.
func (l Listing[K]) Run(ctx context.Context, c *module.Call) error {
	r := Request[K]{Filter: make(map[string]string), Limit: PageRows}
	for _, col := range l.Columns {
		if v := c.Args.String(col.Name); v != "" {
			r.Filter[col.Name] = v
		}
	}
	shown := 0
	for {
		if err := c.Checkpoint(ctx); err != nil {
			return err
		}
		page, err := l.Rows(ctx, c, r)
		if err != nil {
			return err
		}
		shown += len(page.Rows)
		text := Table(l.Columns, page.Rows)
		if !page.More {
			return c.Text(ctx, text+fmt.Sprintf("\n%s.\n", rows(shown, page.Total)))
		}
		if err := c.Text(ctx, text); err != nil {
			return err
		}
		r.After = page.Next
		if c.Args.Bool("all") {
			continue
		}
		more, err := c.Confirm(ctx, fmt.Sprintf("\n%d of %s shown. Show the next page (y/n)? ", shown, rows(page.Total, page.Total)))
		if err != nil || !more {
			return err
		}
	}
}

func rows(n, total int) string {
	switch {
	case n != total: // rows came or went meanwhile, or the end was not reached
		return fmt.Sprintf("%d rows of %d", n, total)
	case n == 1:
		return "1 row"
	}
	return fmt.Sprintf("%d rows", n)
}

// gap is how much wider a column is than its widest cell.
const gap = 4

// Table lays out rows under a header line and a line of seven dashes per
// column. Every column is as wide as its widest cell plus four blanks; control
// characters in cells are shown as '?', so that a cell cannot look like a row.
func Table(columns []Column, rows [][]string) string {
	lines := make([][]string, 0, len(rows)+2)
	header, dashes := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		header[i], dashes[i] = c.Name, "-------"
	}
	lines = append(append(lines, header, dashes), rows...)
	width := make([]int, len(columns))
	for _, line := range lines {
		for i, cell := range line {
			width[i] = max(width[i], utf8.RuneCountInString(cell)+gap)
		}
	}
	var b strings.Builder
	for _, line := range lines {
		padding := 0 // not written behind the last cell of a line
		for i, cell := range line {
			for range padding {
				b.WriteByte(' ')
			}
			b.WriteString(strings.Map(visible, cell))
			padding = width[i] - utf8.RuneCountInString(cell)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func visible(r rune) rune {
	if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
		return '?'
	}
	return r
}

// FromSlice makes a page of rows that are all known: the place is an index.
func FromSlice(all [][]string, columns []Column, r Request[int]) Page[int] {
	var matching [][]string
	for _, row := range all {
		if matches(row, columns, r.Filter) {
			matching = append(matching, row)
		}
	}
	first := min(r.After, len(matching))
	last := min(first+r.Limit, len(matching))
	return Page[int]{Rows: matching[first:last], Next: last, More: last < len(matching), Total: len(matching)}
}

func matches(row []string, columns []Column, filter map[string]string) bool {
	for i, c := range columns {
		if want, ok := filter[c.Name]; ok && !strings.Contains(lower(row[i]), lower(want)) {
			return false
		}
	}
	return true
}

// lower folds ASCII letters, the only ones that filters fold (commands 1.7).
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// Text is a value as it stands in a cell: a truth as 0 or 1.
func Text(truth bool) string {
	if truth {
		return "1"
	}
	return "0"
}
