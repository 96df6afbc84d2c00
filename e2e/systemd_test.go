//go:build linux

package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mrci.dev/mrci/internal/conf"
)

const (
	units         = "../packaging/systemd/"
	installedPath = "/usr/local/bin/mrci" // of the program, in the units
)

// directives are those that the units use, by section: what a machine without
// systemd can check.
var directives = map[string][]string{
	"Unit": {"Description", "Wants", "After", "StartLimitIntervalSec", "StartLimitBurst"},
	"Service": {
		"Type", "NotifyAccess", "ExecStart", "ExecReload", "WatchdogSec", "Restart", "RestartSec", "TimeoutStopSec", "KillMode",
		"User", "Group", "Environment", "StateDirectory", "StateDirectoryMode", "RuntimeDirectory", "RuntimeDirectoryMode",
		"ReadWritePaths", "UMask", "LimitNOFILE", "NoNewPrivileges", "CapabilityBoundingSet", "ProtectSystem", "ProtectHome",
		"PrivateTmp", "PrivateDevices", "ProtectProc", "ProtectClock", "ProtectHostname", "ProtectKernelLogs",
		"ProtectKernelModules", "ProtectKernelTunables", "ProtectControlGroups", "RestrictAddressFamilies",
		"RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID", "LockPersonality", "MemoryDenyWriteExecute",
		"SystemCallArchitectures", "SystemCallFilter", "SystemCallErrorNumber",
	},
	"Socket":  {"ListenStream", "Accept", "Backlog", "NoDelay"},
	"Install": {"WantedBy"},
}

// readUnit returns the directives of a unit.
func readUnit(t *testing.T, name string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(units + name)
	if err != nil {
		t.Fatal(err)
	}
	unit, section := make(map[string]string), ""
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
			continue
		}
		key, value, found := strings.Cut(line, "=")
		switch {
		case !found || !slices.Contains(directives[section], key):
			t.Errorf("%s:%d: no directive of [%s]: %s", name, i+1, section, line)
		case unit[key] != "":
			t.Errorf("%s:%d: %s stands twice", name, i+1, key)
		}
		unit[key] = value
	}
	return unit
}

func TestUnits(t *testing.T) {
	service, socket := readUnit(t, "mrci.service"), readUnit(t, "mrci.socket")
	for _, key := range []string{"ExecStart", "ExecReload"} {
		words := strings.Fields(service[key])
		if len(words) < 2 || words[0] != installedPath {
			t.Fatalf("%s=%s", key, service[key])
		}
		checkCommandLine(t, words[1:])
	}
	defaults := conf.Defaults(conf.Dirs{})
	if seconds, err := strconv.Atoi(service["TimeoutStopSec"]); err != nil || time.Duration(seconds)*time.Second <= defaults.StopTimeout {
		t.Errorf("TimeoutStopSec=%s is not longer than stop_timeout_s, which is %v", service["TimeoutStopSec"], defaults.StopTimeout)
	}
	if got, want := socket["ListenStream"], strconv.Itoa(defaults.ListeningPort); got != want {
		t.Errorf("ListenStream=%s, and the usual port is %s", got, want)
	}
}

// TestUnitsVerified asks systemd about the units.
func TestUnitsVerified(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skipf("needs systemd: %v", err)
	}
	dir := t.TempDir()
	args := []string{"verify"}
	for _, name := range []string{"mrci.service", "mrci.socket"} {
		text, err := os.ReadFile(units + name)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		args = append(args, path)
		// It looks whether the program is there.
		text = []byte(strings.ReplaceAll(string(text), installedPath, binary))
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// TestServiceOfItsOwnAccount runs the host as the service does, as an account of
// its own, and root works with it without an option. Files that root makes
// must stay readable for the host. The machine's directories are replaced by
// empty ones in a mount namespace.
func TestServiceOfItsOwnAccount(t *testing.T) {
	if program := os.Getenv(helperEnv); program != "" {
		binary = program
		serveAccount(t)
		return
	}
	if os.Getuid() != 0 || !canDrop() {
		t.Skip("needs root that can give its rights up")
	}
	again(t, "TestServiceOfItsOwnAccount", unix.CLONE_NEWNS)
}

func serveAccount(t *testing.T) {
	emptyDirs(t, "/etc", "/var/lib", "/run")
	own := func(dir string) {
		t.Helper()
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	own("/etc/mrci")     // as systemd-tmpfiles does
	own("/var/lib/mrci") // likewise
	home := t.TempDir()
	asRoot := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(binary, args...)
		cmd.Env = raceEnv("HOME="+home, "PATH="+os.Getenv("PATH"))
		cmd.Dir = home
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("mrci %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	serve := func() *hostProcess {
		t.Helper()
		own("/run/mrci") // as RuntimeDirectory does
		unit := readUnit(t, "mrci.service")
		args := append(strings.Fields(unit["ExecStart"])[1:], "--listen", "127.0.0.1:0")
		cmd := exec.Command(binary, args...)
		cmd.Env = append(strings.Fields(unit["Environment"]), "HOME=/var/lib/mrci")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		h := startHost(t, cmd, "/etc/mrci")
		if h.addr == "" {
			t.Fatalf("the host did not start:\n%s", h.stderr)
		}
		t.Cleanup(func() { h.finish(0) })
		if h.password != "" {
			t.Error("a password is in the journal")
		}
		return h
	}
	stop := func(h *hostProcess) {
		t.Helper()
		asRoot("stop")
		if !h.finish(stopTime) || h.status != 0 {
			t.Fatalf("the host ended with status %d:\n%s", h.status, h.stderr)
		}
		if err := os.RemoveAll("/run/mrci"); err != nil {
			t.Fatal(err)
		}
	}

	asRoot("add-admin", "early") // before the host ever ran: makes conf.json and data.db
	h := serve()
	if got := asRoot("status"); !strings.Contains(got, h.addr) || !strings.Contains(got, "/var/lib/mrci/data.db") {
		t.Errorf("status of root:\n%s", got)
	}
	asRoot("add-admin", "carol")
	asRoot("reset-password", "carol")
	asRoot("reload")
	asRoot("config", "check")
	asRoot("backup", "saved.tar.gz")
	stop(h)
	asRoot("add-admin", "late") // makes data.db-wal anew
	asRoot("restore", "--force", "saved.tar.gz")
	asRoot("elevate", "carol")
	h = serve()
	stop(h)
	for _, dir := range []string{"/etc/mrci", "/var/lib/mrci"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			if owner := info.Sys().(*syscall.Stat_t).Uid; owner != nobody {
				t.Errorf("%s belongs to uid %d", filepath.Join(dir, e.Name()), owner)
			}
		}
	}
}
