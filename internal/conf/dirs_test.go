package conf_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/internal/conf"
)

func TestLocate(t *testing.T) {
	work, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	at := func(parts ...string) string { return filepath.Join(append([]string{work}, parts...)...) }
	home := at("home")
	one := func(dir, account string) conf.Dirs {
		return conf.Dirs{Config: dir, Data: dir, Cert: dir, Runtime: filepath.Join(dir, "run"), AccountRuntime: account}
	}
	root := func(run string) conf.Dirs {
		return conf.Dirs{Config: "/etc/mrci", Data: "/var/lib/mrci", Cert: "/etc/mrci", Runtime: run, AccountRuntime: run}
	}
	tests := []struct {
		name, goos, flag string
		env              map[string]string
		uid              int
		home             string
		want             conf.Dirs
	}{
		{"flag", "linux", "x", map[string]string{"MRCI_DIR": at("y")}, 1000, "", one(at("x"), at("x", "run"))},
		{"flag with a runtime directory", "linux", at("x"), map[string]string{"XDG_RUNTIME_DIR": at("run")}, 1000, home, one(at("x"), at("run", "mrci"))},
		{"environment", "linux", "", map[string]string{"MRCI_DIR": "y"}, 0, "", one(at("y"), "/run/mrci")},
		{"root", "linux", "", map[string]string{"XDG_CONFIG_HOME": at("c")}, 0, home, root("/run/mrci")},
		{"root on macOS", "darwin", "", nil, 0, home, root("/var/run/mrci")},
		{"home", "linux", "", nil, 1000, home, conf.Dirs{
			Config: at("home", ".config", "mrci"), Cert: at("home", ".config", "mrci"), Data: at("home", ".local", "share", "mrci"),
			Runtime: at("home", ".local", "share", "mrci", "run"), AccountRuntime: at("home", ".local", "share", "mrci", "run")}},
		{"xdg", "linux", "", map[string]string{"XDG_CONFIG_HOME": at("c"), "XDG_DATA_HOME": at("d"), "XDG_RUNTIME_DIR": at("r")}, 1000, "", conf.Dirs{
			Config: at("c", "mrci"), Cert: at("c", "mrci"), Data: at("d", "mrci"), Runtime: at("r", "mrci"), AccountRuntime: at("r", "mrci")}},
		{"relative xdg", "linux", "", map[string]string{"XDG_CONFIG_HOME": "c", "XDG_DATA_HOME": at("d")}, 1000, home, conf.Dirs{
			Config: at("home", ".config", "mrci"), Cert: at("home", ".config", "mrci"), Data: at("d", "mrci"),
			Runtime: at("d", "mrci", "run"), AccountRuntime: at("d", "mrci", "run")}},
		{"macOS", "darwin", "", nil, 501, home, conf.Dirs{
			Config: at("home", "Library", "Application Support", "mrci"), Cert: at("home", "Library", "Application Support", "mrci"),
			Data:    at("home", "Library", "Application Support", "mrci"),
			Runtime: at("home", "Library", "Application Support", "mrci", "run"), AccountRuntime: at("home", "Library", "Application Support", "mrci", "run")}},
		{"windows", "windows", "", map[string]string{"AppData": at("roaming"), "LocalAppData": at("local")}, -1, home, conf.Dirs{
			Config: at("roaming", "mrci"), Cert: at("roaming", "mrci"), Data: at("local", "mrci"),
			Runtime: at("local", "mrci", "run"), AccountRuntime: at("local", "mrci", "run")}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := conf.LocateOn(test.goos, test.flag, func(name string) string { return test.env[name] }, test.uid, test.home)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestLocateWithoutHome(t *testing.T) {
	_, err := conf.Locate("", func(string) string { return "" }, 1000, "")
	if err == nil || !strings.Contains(err.Error(), "--dir") || !strings.Contains(err.Error(), "MRCI_DIR") {
		t.Errorf("the error does not say what to do: %v", err)
	}
}
