package client

import (
	"cmp"
	"slices"
	"strings"
	"unique"

	"mrci.dev/mrci/wire"
)

// Commands returns what the host offers to this session now, by name. The list
// follows the host's ADD_CMD and RM_CMD.
func (c *Client) Commands() []wire.CommandInfo {
	c.mu.Lock()
	list := make([]wire.CommandInfo, 0, len(c.commands))
	for _, entry := range c.commands {
		list = append(list, entry.Value())
	}
	c.mu.Unlock()
	slices.SortFunc(list, func(a, b wire.CommandInfo) int {
		return cmp.Or(strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// Lookup returns the command with the name, upper and lower case being the
// same, or a *NoCommandError with the nearest names.
func (c *Client) Lookup(name string) (wire.CommandInfo, error) {
	c.mu.Lock()
	for _, entry := range c.commands {
		if info := entry.Value(); strings.EqualFold(info.Name, name) {
			c.mu.Unlock()
			return info, nil
		}
	}
	err := c.err
	c.mu.Unlock()
	if err != nil {
		return wire.CommandInfo{}, err
	}
	var names []string
	for _, info := range c.Commands() {
		names = append(names, info.Name)
	}
	return wire.CommandInfo{}, &NoCommandError{Name: name, Nearest: Nearest(name, names)}
}

// commandLocked returns where the command stands, or belongs, in the list,
// which is sorted by id.
func (c *Client) commandLocked(id wire.CmdID) (int, bool) {
	return slices.BinarySearchFunc(c.commands, id, func(entry unique.Handle[wire.CommandInfo], id wire.CmdID) int {
		return cmp.Compare(entry.Value().ID, id)
	})
}

// Nearest returns up to three of the names that look like the given one,
// nearest first: those that begin with it, then those within a few typing
// mistakes.
func Nearest(name string, names []string) []string {
	const most = 3
	type candidate struct {
		name     string
		distance int
	}
	name = strings.ToLower(name)
	if name == "" {
		return nil
	}
	var near []candidate
	for _, n := range names {
		lower := strings.ToLower(n)
		distance := 0
		if !strings.HasPrefix(lower, name) {
			distance = editDistance(name, lower)
			if distance > max(1, len(name)/3) {
				continue
			}
		}
		near = append(near, candidate{n, distance})
	}
	slices.SortStableFunc(near, func(a, b candidate) int { return cmp.Compare(a.distance, b.distance) })
	var out []string
	for _, n := range near[:min(most, len(near))] {
		out = append(out, n.name)
	}
	return out
}

// editDistance counts the characters to insert, delete, change or swap with
// their neighbour to make b of a.
func editDistance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, row, next := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := range x {
		next[0] = i + 1
		for j := range y {
			cost := 1
			if x[i] == y[j] {
				cost = 0
			}
			next[j+1] = min(row[j+1]+1, next[j]+1, row[j]+cost)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(y)]
}
