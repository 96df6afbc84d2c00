package account

import (
	"fmt"
	"io"
	"log/slog"
)

// hidden stands wherever a secret would be printed.
const hidden = "[hidden]"

// Secret is a password. Printing, logging or encoding it shows [hidden];
// string(s) is the way to the text. Do not use it as the key of a map: JSON
// takes keys of a string type as they are.
type Secret string

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
