package registry

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"mrci.dev/mrci/internal/access"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/wire"
)

// BuiltinModule is the module name under which ranks of built-in commands are
// stored (commands, add_ranked_cmd).
const BuiltinModule = "builtin"

// Flags are the settings that decide whether some commands are offered
// (commands 1.1).
type Flags struct {
	PublicReg   bool // enable_public_reg
	EmailVerify bool // enable_email_verify
	PWReset     bool // enable_pw_reset
}

// Has reports whether every flag of want is set.
func (f Flags) Has(want Flags) bool {
	return (f.PublicReg || !want.PublicReg) && (f.EmailVerify || !want.EmailVerify) && (f.PWReset || !want.PWReset)
}

// Builtin is a built-in command as the host offers it.
type Builtin struct {
	Command *module.Command
	// Further classes that the command is of while all of When are set.
	Further module.Class
	When    Flags
	// Needs are flags without which the command is offered to nobody.
	Needs Flags
	// Cast marks the command whose frames go to other clients as they are
	// (commands 7, cast), so that sessions can send them by the batch.
	Cast bool
	// Override marks the command that sets the owner override (commands 6,
	// ch_owner_override), which ends with the right to it.
	Override bool
}

// RankKey names a command that a rank can be assigned to (state 1.7).
type RankKey struct {
	Module  string
	Command string // lower case
}

// Ranks are the ranks assigned to commands.
type Ranks map[RankKey]wire.Rank

// Registry is the host's list of commands.
type Registry struct {
	// Fixed after New.
	entries        []*entry
	cast, override wire.CmdID // 0: there is none

	current atomic.Pointer[listing]

	mu    sync.Mutex // guards what listings are made from
	flags Flags
	ranks Ranks
}

// entry is one command with its id and its ready-made frames.
type entry struct {
	listed  *module.Listed
	module  string
	class   module.Class
	further module.Class
	when    Flags
	needs   Flags
	// add is the ADD_CMD frame, withSchema the one for clients that asked for
	// the schema, remove the RM_CMD frame.
	add, withSchema, remove []byte
}

// New gives every command an id, in the order given, and makes its frames.
// library is what clients are told the commands belong to, at most 64 bytes.
// It fails on a description that no client could work with, and on a name that
// stands twice.
func New(builtins []Builtin, library string, flags Flags, ranks Ranks) (*Registry, error) {
	r := &Registry{flags: flags, ranks: maps.Clone(ranks)}
	names := make(map[string]bool)
	for i, b := range builtins {
		cmd := b.Command
		if err := cmd.Validate(); err != nil {
			return nil, err
		}
		if name := strings.ToLower(cmd.Name); names[name] {
			return nil, fmt.Errorf("command %s stands twice", cmd.Name)
		} else {
			names[name] = true
		}
		id := int(wire.FirstCmdID) + i
		if id > 0xffff {
			return nil, fmt.Errorf("command %s: no id left", cmd.Name)
		}
		if b.Cast {
			r.cast = wire.CmdID(id)
		}
		if b.Override {
			r.override = wire.CmdID(id)
		}
		listed := &module.Listed{ID: wire.CmdID(id), Name: cmd.Name, Library: library, Command: cmd}
		r.entries = append(r.entries, newEntry(listed, b))
	}
	r.relist()
	return r, nil
}

func newEntry(l *module.Listed, b Builtin) *entry {
	info := wire.CommandInfo{
		ID: l.ID, GenFile: l.Command.GenFile, Name: l.Name, Library: l.Library,
		Short: l.Command.Short, IO: l.Command.IOText(), Long: l.Command.Long,
	}
	add := func() []byte {
		return wire.AppendFrame(nil, wire.NewCmd, wire.CmdID(wire.AsyncAddCmd), 0, wire.Append(nil, &info))
	}
	e := &entry{listed: l, module: BuiltinModule, class: b.Command.Class, further: b.Further, when: b.When, needs: b.Needs}
	e.add = add()
	info.Schema = l.Command.Schema()
	e.withSchema = add()
	e.remove = wire.AppendFrame(nil, wire.CommandID, wire.CmdID(wire.AsyncRmCmd), 0, wire.Append(nil, &wire.CommandRef{ID: l.ID}))
	return e
}

// SetFlags makes new listings with other settings. Sessions see them when they
// ask for their list the next time.
func (r *Registry) SetFlags(flags Flags) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flags = flags
	r.relist()
}

// SetRanks makes new listings with other ranks.
func (r *Registry) SetRanks(ranks Ranks) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ranks = maps.Clone(ranks)
	r.relist()
}

// Offer returns the commands for a session with the rank; wire.NoRank is a
// session that is not logged in.
func (r *Registry) Offer(rank wire.Rank) *Snapshot {
	return r.current.Load().offer(rank)
}

// Current reports whether a snapshot is of the present listing: ranks and
// settings have not changed since it was offered.
func (r *Registry) Current(s *Snapshot) bool { return s != nil && s.listing == r.current.Load() }

// Cast returns the id of the command that is marked so; 0 when there is none.
func (r *Registry) Cast() wire.CmdID { return r.cast }

// Override is Cast for the command that sets the owner override.
func (r *Registry) Override() wire.CmdID { return r.override }

// Known returns the command with the id, offered or not; nil when there is none.
func (r *Registry) Known(id wire.CmdID) *module.Listed {
	if i := int(id) - int(wire.FirstCmdID); i >= 0 && i < len(r.entries) {
		return r.entries[i].listed
	}
	return nil
}

// relist makes a listing of the present settings. Snapshots of it are made
// when they are first asked for.
func (r *Registry) relist() {
	l := &listing{snapshots: make(map[int]*Snapshot)}
	thresholds := map[wire.Rank]bool{1: true}
	for _, e := range r.entries {
		class := e.class
		if r.flags.Has(e.when) {
			class |= e.further
		}
		if !r.flags.Has(e.needs) {
			class = 0
		}
		assigned := r.ranks[RankKey{e.module, strings.ToLower(e.listed.Command.Name)}]
		if assigned != wire.NoRank {
			thresholds[assigned] = true
		}
		l.commands = append(l.commands, guarded{e, access.Command{
			Public:   class.Has(module.Public),
			Exempt:   class.Has(module.Exempt),
			Ranked:   class.Has(module.Ranked),
			Assigned: assigned,
		}})
	}
	l.thresholds = slices.Sorted(maps.Keys(thresholds))
	r.current.Store(l)
}

// guarded is a command with what decides who may run it.
type guarded struct {
	entry *entry
	guard access.Command
}

// listing is one version of who is offered what.
type listing struct {
	commands []guarded
	// thresholds are the ranks at which the list changes, ascending: sessions
	// whose ranks lie between the same two share a snapshot, so that there are
	// never more snapshots than assigned ranks.
	thresholds []wire.Rank

	mu        sync.Mutex
	snapshots map[int]*Snapshot // by index of the first threshold >= rank; -1 without login
}

func (l *listing) offer(rank wire.Rank) *Snapshot {
	key := -1
	if rank != wire.NoRank {
		key, _ = slices.BinarySearch(l.thresholds, rank)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.snapshots[key]
	if !ok {
		s = l.snapshot(rank)
		l.snapshots[key] = s
	}
	return s
}

func (l *listing) snapshot(rank wire.Rank) *Snapshot {
	s := &Snapshot{listing: l}
	for _, c := range l.commands {
		if access.MayRun(c.guard, rank) {
			s.entries = append(s.entries, c.entry)
			s.listed = append(s.listed, c.entry.listed)
		}
	}
	if n := len(s.entries); n > 0 {
		s.byID = make([]*module.Listed, int(s.listed[n-1].ID-wire.FirstCmdID)+1)
		for _, c := range s.listed {
			s.byID[c.ID-wire.FirstCmdID] = c
		}
	}
	return s
}
