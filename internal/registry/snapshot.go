package registry

import (
	"maps"
	"sync"
	"weak"

	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// Snapshot is the list of commands that some sessions are offered. It never
// changes. The nil Snapshot is the empty list.
type Snapshot struct {
	listing *listing         // that it was made from
	entries []*entry         // ordered by id
	listed  []*module.Listed // the same
	byID    []*module.Listed // index: id - 256

	mu      sync.Mutex
	changes map[changeKey]*Change
}

// changeKey does not keep the older snapshot alive: that one remembers changes
// too, and so every listing that there ever was would stay.
type changeKey struct {
	from   weak.Pointer[Snapshot] // zero: the empty list
	schema bool
}

// gone reports whether nobody can ask for the change any more.
func (k changeKey) gone() bool { return k.from != (weak.Pointer[Snapshot]{}) && k.from.Value() == nil }

// maxChanges bounds the changes that a snapshot remembers: there are as many
// as there are kinds of sessions.
const maxChanges = 64

// Change is what happens to a session's list: ready-made frames, and the
// commands that go away.
type Change struct {
	// Frames are RM_CMD for each command that goes, then ADD_CMD for each that
	// comes. They are shared and must not be changed.
	Frames  []byte
	Removed []wire.CmdID
}

// Lookup returns the command with the id, nil when it is not in the list.
func (s *Snapshot) Lookup(id wire.CmdID) *module.Listed {
	if s == nil || id < wire.FirstCmdID || int(id-wire.FirstCmdID) >= len(s.byID) {
		return nil
	}
	return s.byID[id-wire.FirstCmdID]
}

// Commands returns the list, ordered by id. It is shared and must not be
// changed.
func (s *Snapshot) Commands() []*module.Listed {
	if s == nil {
		return nil
	}
	return s.listed
}

// From returns the change from an older list to this one. With schema, ADD_CMD
// carries the schema of the arguments (wire.ExtSchema).
func (s *Snapshot) From(old *Snapshot, schema bool) *Change {
	if s == old {
		return &Change{}
	}
	key := changeKey{weak.Make(old), schema}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.changes[key]; ok {
		return c
	}
	c := s.change(old, schema)
	maps.DeleteFunc(s.changes, func(k changeKey, _ *Change) bool { return k.gone() })
	if s.changes == nil || len(s.changes) >= maxChanges {
		s.changes = make(map[changeKey]*Change)
	}
	s.changes[key] = c
	return c
}

func (s *Snapshot) change(old *Snapshot, schema bool) *Change {
	c := &Change{}
	if old != nil {
		for _, e := range old.entries {
			if s.Lookup(e.listed.ID) != e.listed {
				c.Removed = append(c.Removed, e.listed.ID)
				c.Frames = append(c.Frames, e.remove...)
			}
		}
	}
	for _, e := range s.entries {
		if old.Lookup(e.listed.ID) == e.listed {
			continue
		}
		if schema {
			c.Frames = append(c.Frames, e.withSchema...)
		} else {
			c.Frames = append(c.Frames, e.add...)
		}
	}
	return c
}
