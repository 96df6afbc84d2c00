package moduletest

// HasOutput reports whether the command has sent what was not taken yet.
func (c *Call) HasOutput() bool {
	c.rt.mu.Lock()
	defer c.rt.mu.Unlock()
	return len(c.rt.out) > 0
}
