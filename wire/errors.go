package wire

import "fmt"

// FormatError says where bytes break a layout. It never holds the bytes
// themselves, which may be private.
type FormatError struct {
	Layout string // the protocol's name of the layout, such as "MY_INFO"
	Field  string // the field that is wrong, in snake_case; empty: the whole
	Offset int    // where the field begins, in bytes from the start of the layout
	Want   string // what should stand there
}

// Error describes layout, field, offset and what was expected.
func (e *FormatError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("%s: want %s", e.Layout, e.Want)
	}
	return fmt.Sprintf("%s: field %s at byte %d: want %s", e.Layout, e.Field, e.Offset, e.Want)
}
