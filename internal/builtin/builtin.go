// Package builtin lists the commands that the host itself brings, in the order
// of their ids. The commands stand in the packages below it, one per subject.
//
// They are written with package module, as commands of third parties are, and
// reach the host only through the small interfaces of their Config.
package builtin

import (
	"slices"

	"mrci.dev/mrci/internal/builtin/accounts"
	"mrci.dev/mrci/internal/builtin/channels"
	"mrci.dev/mrci/internal/builtin/hostinfo"
	"mrci.dev/mrci/internal/builtin/modules"
	"mrci.dev/mrci/internal/builtin/peers"
	"mrci.dev/mrci/internal/registry"
)

// Config is what the commands need of the host.
type Config struct {
	Accounts accounts.Config
	Host     hostinfo.Config
	Modules  modules.Config
	Channels channels.Config
	Peers    peers.Config
}

// Commands returns all built-in commands. Their ids follow this order, so that
// new ones are added at the end of their package's list.
func Commands(cfg Config) []registry.Builtin {
	return slices.Concat(
		accounts.Commands(cfg.Accounts),
		hostinfo.Commands(cfg.Host),
		modules.Commands(cfg.Modules),
		channels.Commands(cfg.Channels),
		peers.Commands(cfg.Peers),
	)
}
