package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"mrci.dev/mrci/wire"
)

type versionCmd struct{}

func (*versionCmd) Run(a *app) error {
	_, err := fmt.Fprintf(a.stdout, "mrci %s\nprotocol revision %d\n%s %s/%s\n",
		version(), wire.Served.TCPRev, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// version returns the version of the product: that of the module when it was
// installed by version, else the revision it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "+"
		}
	}
	if revision == "" {
		return "devel"
	}
	return "devel-" + revision + modified
}
