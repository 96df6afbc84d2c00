// Package hostinfo has the built-in commands that tell about the host: itself,
// the commands that it offers, and its logs (commands 5).
package hostinfo

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"mrci.dev/mrci/internal/registry"
	"mrci.dev/mrci/module"
	"mrci.dev/mrci/module/listing"
	"mrci.dev/mrci/wire"
)

// Facts are what host_info shows of the running host.
type Facts struct {
	Program     string // name and version
	Sessions    int
	MaxSessions int
	Addr        string // that the host listens on
	Port        int
}

// Config is what the commands need.
type Config struct {
	Facts func() Facts
	Logs  func() Logs
}

// Commands returns the package's commands.
func Commands(cfg Config) []registry.Builtin {
	return []registry.Builtin{
		{Command: listCommands()},
		{Command: commandInfo()},
		{Command: hostInfo(cfg.Facts)},
		{Command: listActivity(cfg.Logs)},
		{Command: listAuth(cfg.Logs)},
		{Command: listAudit(cfg.Logs)},
	}
}

// The columns of ls_cmds.
var commandColumns = []listing.Column{
	{Name: "command_id", Doc: "id of the command"},
	{Name: "command_name", Doc: "name of the command"},
	{Name: "short_text", Doc: "what it does"},
}

func listCommands() *module.Command {
	find := module.Arg{Name: "find", Doc: "only commands whose name or short text contains this text"}
	return &module.Command{
		Name:   "ls_cmds",
		Class:  module.Public | module.Exempt,
		Args:   append([]module.Arg{find}, listing.Args(commandColumns)...),
		Output: []string{"text"},
		Short:  "list your commands",
		Long:   "Lists the commands that you may run, sorted by name. With -find only those whose name or short text contains the text.",
		Hints:  module.Hints{ReadOnly: true, Idempotent: true},
		Run: func(ctx context.Context, c *module.Call) error {
			rows := commandRows(c.Session().Commands, c.Args.String("find"))
			l := listing.Listing[int]{
				Columns: commandColumns,
				Rows: func(_ context.Context, _ *module.Call, r listing.Request[int]) (listing.Page[int], error) {
					return listing.FromSlice(rows, commandColumns, r), nil
				},
			}
			return l.Run(ctx, c)
		},
	}
}

func commandRows(commands []*module.Listed, find string) [][]string {
	find = strings.ToLower(find)
	sorted := slices.SortedFunc(slices.Values(commands), func(a, b *module.Listed) int { return cmp.Compare(a.Name, b.Name) })
	rows := make([][]string, 0, len(sorted))
	for _, c := range sorted {
		if strings.Contains(strings.ToLower(c.Name+"\n"+c.Command.Short), find) {
			rows = append(rows, []string{strconv.Itoa(int(c.ID)), c.Name, c.Command.Short})
		}
	}
	return rows
}

func commandInfo() *module.Command {
	return &module.Command{
		Name:  "cmd_info",
		Class: module.Public | module.Exempt,
		OneOf: true,
		Args: []module.Arg{
			{Name: "cmd_name", Doc: "name of the command"},
			{Name: "cmd_id", Kind: module.Int, Min: uint64(wire.FirstCmdID), Max: 0xffff, Doc: "id of the command"},
		},
		Output: []string{"text"},
		Short:  "explain a command",
		Long:   "Shows the name, the library, the arguments and the description of one of your commands.",
		Hints:  module.Hints{ReadOnly: true, Idempotent: true},
		Run: func(ctx context.Context, c *module.Call) error {
			l, err := lookup(c)
			if err != nil {
				return err
			}
			text := fmt.Sprintf("name: %s\nlibrary: %s\narguments: %s\n\n%s\n", l.Name, l.Library, l.Command.IOText(), l.Command.Long)
			return c.Send(ctx, wire.BigText, []byte(text))
		},
	}
}

func lookup(c *module.Call) (*module.Listed, error) {
	name, id := c.Args.String("cmd_name"), c.Args.Uint("cmd_id")
	for _, l := range c.Session().Commands {
		if name != "" && strings.EqualFold(l.Name, name) || name == "" && uint64(l.ID) == id {
			return l, nil
		}
	}
	if name == "" {
		return nil, module.Invalid("You have no command with the id %d; ls_cmds lists yours.", id)
	}
	return nil, module.Invalid("You have no command %q; ls_cmds lists yours.", name)
}

func hostInfo(facts func() Facts) *module.Command {
	return &module.Command{
		Name:   "host_info",
		Class:  module.Ranked,
		Output: []string{"text"},
		Short:  "show what this host is",
		Long:   "Shows program and version, the machine, how many sessions there are, and where the host listens.",
		Hints:  module.Hints{ReadOnly: true, Idempotent: true},
		Run: func(ctx context.Context, c *module.Call) error {
			f := facts()
			machine, err := os.Hostname()
			if err != nil {
				machine = "(unknown)"
			}
			return c.Text(ctx, fmt.Sprintf("program: %s %d bit\nruntime: %s\nmachine: %s\nsystem: %s %s\nsessions: %d/%d\naddress: %s\nport: %d\n",
				f.Program, strconv.IntSize, runtime.Version(), machine, runtime.GOOS, runtime.GOARCH,
				f.Sessions, f.MaxSessions, f.Addr, f.Port))
		},
	}
}
