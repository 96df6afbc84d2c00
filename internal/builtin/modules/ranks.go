// Package modules has the built-in commands about commands: which rank may run
// which (commands 4).
package modules

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"mrci.dev/mrci/internal/registry"
	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/module/listing"
	"mrci.dev/mrci/wire"
)

// Ranks are the ranks assigned to commands. A change counts for every session
// when the method returns: nobody starts a command under the old right.
type Ranks interface {
	Ranks(ctx context.Context) ([]store.Rank, error)
	AddRank(ctx context.Context, r store.Rank) error              // store.ErrExists
	RemoveRank(ctx context.Context, module, command string) error // store.ErrNotFound
}

// Config is what the commands need.
type Config struct {
	Ranks Ranks
}

// Commands returns the package's commands.
func Commands(cfg Config) []registry.Builtin {
	return []registry.Builtin{
		{Command: addRank(cfg.Ranks)},
		{Command: removeRank(cfg.Ranks)},
		{Command: listRanks(cfg.Ranks)},
	}
}

// maxModulePath is the longest module path, in bytes (state 2.8).
const maxModulePath = 512

// modulePath returns the module that a switch means: built-in commands when it
// is missing, "builtin", or the path of this program.
func modulePath(typed string) (string, error) {
	if typed == "" || strings.EqualFold(typed, registry.BuiltinModule) {
		return registry.BuiltinModule, nil
	}
	if exe, err := os.Executable(); err == nil && typed == exe {
		return registry.BuiltinModule, nil
	}
	rest := typed
	if len(rest) > 1 && rest[1] == ':' { // a drive letter
		rest = rest[2:]
	}
	if len(typed) > maxModulePath || strings.ContainsAny(rest, "|*:\"?<>") || strings.ContainsFunc(rest, control) {
		return "", module.Invalid("%q is no module path: it has at most %d bytes and none of | * : \" ? < >.", typed, maxModulePath)
	}
	return typed, nil
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// key reads the command and the module that a call is about.
func key(call *module.Call) (path, command string, err error) {
	command = call.Args.String("command")
	if !module.ValidName(command) {
		return "", "", module.Invalid("%q is no command name: it has 1 to %d bytes and no blanks.", command, wire.CommandNameSize)
	}
	path, err = modulePath(call.Args.String("mod"))
	return path, command, err
}

var (
	argModule  = module.Arg{Name: "mod", Doc: "path of the module; without it the built-in commands"}
	argCommand = module.Arg{Name: "command", Required: true, Doc: "name of the command"}
)

func addRank(ranks Ranks) *module.Command {
	return &module.Command{
		Name:  "add_ranked_cmd",
		Class: module.Ranked,
		Args: []module.Arg{
			argModule, argCommand,
			{Name: "rank", Kind: module.Int, Required: true, Min: 1, Max: 1<<32 - 1, Doc: "who may run it: users of this rank and higher ones (smaller numbers)"},
		},
		Short: "let a rank run a command",
		Long: "Assigns a rank to a command: users of that rank, and of higher ones, may run it from now on. " +
			"A command without an assigned rank is for rank 1. Neither the module nor the command needs to exist. " +
			"You cannot assign a rank above your own.",
		Run: func(ctx context.Context, call *module.Call) error {
			path, command, err := key(call)
			if err != nil {
				return err
			}
			rank, own := wire.Rank(call.Args.Uint("rank")), call.Session().Rank()
			if own == wire.NoRank || rank.Outranks(own) {
				return module.Invalid("You may not assign a rank above your own, which is %d.", uint32(own))
			}
			switch err := ranks.AddRank(ctx, store.Rank{Module: path, Command: command, Rank: rank}); {
			case errors.Is(err, store.ErrExists):
				return module.Invalid("The command %s of %s has a rank already; remove it first with rm_ranked_cmd.", command, path)
			case err != nil:
				return err
			}
			return call.Async(context.WithoutCancel(ctx), wire.AsyncCmdRanksChg, nil)
		},
	}
}

func removeRank(ranks Ranks) *module.Command {
	return &module.Command{
		Name:  "rm_ranked_cmd",
		Class: module.Ranked,
		Args:  []module.Arg{argCommand, argModule},
		Short: "take the rank of a command away",
		Long:  "Removes the rank that was assigned to a command; it is for rank 1 alone then.",
		Run: func(ctx context.Context, call *module.Call) error {
			path, command, err := key(call)
			if err != nil {
				return err
			}
			switch err := ranks.RemoveRank(ctx, path, command); {
			case errors.Is(err, store.ErrNotFound):
				return module.Invalid("The command %s of %s has no rank; ls_ranked_cmds lists those that have.", command, path)
			case err != nil:
				return err
			}
			return call.Async(context.WithoutCancel(ctx), wire.AsyncCmdRanksChg, nil)
		},
	}
}

// The columns of ls_ranked_cmds.
var rankColumns = []listing.Column{
	{Name: "module_executable", Doc: "path of the module, or builtin"},
	{Name: "command_name", Doc: "name of the command"},
	{Name: "host_rank", Doc: "the rank that it needs"},
}

func listRanks(ranks Ranks) *module.Command {
	return &module.Command{
		Name:   "ls_ranked_cmds",
		Class:  module.Ranked,
		Args:   listing.Args(rankColumns),
		Output: []string{"text"},
		Short:  "list the ranks of commands",
		Long:   "Lists the commands that a rank was assigned to, 50 on a page, or all with -all.",
		Hints:  module.Hints{ReadOnly: true, Idempotent: true},
		Run: func(ctx context.Context, call *module.Call) error {
			all, err := ranks.Ranks(ctx)
			if err != nil {
				return err
			}
			rows := make([][]string, len(all))
			for i, r := range all {
				rows[i] = []string{r.Module, r.Command, fmt.Sprint(uint32(r.Rank))}
			}
			l := listing.Listing[int]{
				Columns: rankColumns,
				Rows: func(_ context.Context, _ *module.Call, r listing.Request[int]) (listing.Page[int], error) {
					return listing.FromSlice(rows, rankColumns, r), nil
				},
			}
			return l.Run(ctx, call)
		},
	}
}
