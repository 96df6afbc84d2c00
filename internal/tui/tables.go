package tui

import "strings"

// Opened is what the output of ls_open_chs says: how many sub-channels are open
// for casting, and a line for each in which the session may only listen,
// without a line feed behind the last. known is false for any other text.
func Opened(text string) (writable int, listening string, known bool) {
	var lines []string
	for row := range tableRows(text) {
		switch {
		case row["read_only"] == "0":
			writable++
		case row["channel_name"] != "" && row["sub_channel_name"] != "":
			lines = append(lines, "* you may listen in "+word(row["channel_name"])+"/"+word(row["sub_channel_name"])+", but not cast")
		}
	}
	return writable, strings.Join(lines, "\n"), strings.Contains(text, "read_only")
}

// tableRows yields the rows of the tables in a listing (commands 1.7) by the
// names of their columns. Every column begins where its dashes do, counted in
// characters.
func tableRows(text string) func(yield func(map[string]string) bool) {
	return func(yield func(map[string]string) bool) {
		lines := strings.Split(text, "\n")
		for i := 1; i < len(lines); i++ {
			starts := columnStarts(lines[i])
			names := cells(lines[i-1], starts)
			if len(starts) == 0 || len(names) != len(starts) {
				continue
			}
			for i++; i < len(lines) && lines[i] != ""; i++ {
				if i+1 < len(lines) && columnStarts(lines[i+1]) != nil {
					break // a header
				}
				row := make(map[string]string)
				for k, cell := range cells(lines[i], starts) {
					row[names[k]] = cell
				}
				if len(row) > 0 && !yield(row) {
					return
				}
			}
		}
	}
}

// columnStarts returns where the dashes of a line below a header begin, nil if
// it is none.
func columnStarts(line string) (starts []int) {
	at := 0
	for line != "" {
		rest, dashes := strings.CutPrefix(line, "-------")
		if !dashes || rest != "" && rest[0] != ' ' {
			return nil
		}
		starts = append(starts, at)
		next := strings.TrimLeft(rest, " ")
		at += len(line) - len(next)
		line = next
	}
	return starts
}

// cells cuts a line at the columns; nil if a column does not begin behind a
// blank.
func cells(line string, starts []int) []string {
	runes := []rune(line)
	out := make([]string, len(starts))
	for k, start := range starts {
		end := len(runes)
		if k+1 < len(starts) {
			end = min(end, starts[k+1])
		}
		if start >= end {
			continue // nothing stands there
		}
		if start > 0 && runes[start-1] != ' ' {
			return nil
		}
		out[k] = strings.TrimRight(string(runes[start:end]), " ")
	}
	return out
}
