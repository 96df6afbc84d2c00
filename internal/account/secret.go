package account

import (
	"fmt"
	"io"
	"log/slog"
)

// hidden stands wherever a secret would be printed.
const hidden = "[hidden]"

// Secret is a password, in memory that can be wiped. Printing, logging or
// encoding it shows [hidden]. Whoever was given one calls Wipe when it has been
// used; the functions of this package only read what is passed to them. It is
// never made a string, except where it is shown: nobody can wipe that.
type Secret []byte

// Wipe overwrites the text.
func (s Secret) Wipe() { clear(s) }

// String hides the text.
func (Secret) String() string { return hidden }

// GoString hides the text.
func (Secret) GoString() string { return hidden }

// Format hides the text from every verb of fmt, %x included.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, hidden) } // fmt keeps errors of its writer

// LogValue hides the text.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText hides the text.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// MarshalJSON hides the text.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }
