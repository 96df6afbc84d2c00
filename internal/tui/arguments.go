package tui

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"text/tabwriter"

	"mrci.dev/mrci/wire"
)

// Arguments says what the arguments of a command mean, a line each, in the order
// of its io text; without a line feed behind the last. It takes that from the
// schema, which a host sends to who asks for it (wire.ExtSchema), and is empty
// without one.
func Arguments(info wire.CommandInfo) string {
	var schema struct {
		Properties map[string]struct {
			Description string `json:"description"`
		} `json:"properties"`
	}
	if json.Unmarshal([]byte(info.Schema), &schema) != nil {
		return ""
	}
	type argument struct {
		name, text string
		at         int
	}
	words := strings.FieldsFunc(info.IO, func(r rune) bool { return strings.ContainsRune(" []{}()/", r) })
	var all []argument
	for name, p := range schema.Properties {
		// A module has written this.
		if text := Printable(strings.Join(strings.Fields(p.Description), " ")); text != "" {
			all = append(all, argument{word(name), text, slices.Index(words, "-"+name)})
		}
	}
	slices.SortFunc(all, func(a, b argument) int {
		return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.name, b.name))
	})
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, a := range all {
		table.Write([]byte("  -" + a.name + "\t" + a.text + "\n"))
	}
	table.Flush() // into memory
	return strings.TrimSuffix(b.String(), "\n")
}
