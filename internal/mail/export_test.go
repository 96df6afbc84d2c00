package mail

import "time"

// SetWaitDelay shortens the time that a command's pipes may stay open.
func (c *Command) SetWaitDelay(d time.Duration) { c.delay = d }

// SplitLine is how a command line is cut into words.
func SplitLine(line string) ([]string, error) { return splitLine(line) }

// Mask is how logs show an address.
func Mask(addr string) string { return mask(addr) }

// The bounds.
const (
	MaxBody     = maxBody
	MaxTemplate = maxTemplate
	MaxSends    = maxSends
)
