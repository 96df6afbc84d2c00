package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/backup"
	"mrci.dev/mrci/internal/cert"
	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/internal/store/storetest"
)

var ctx = context.Background()

// dyingEnv turns the test binary into a program that restores an archive and
// ends without a word before one of the renames: its value is the number of
// that rename, the archive and the directory.
const dyingEnv = "MRCI_TEST_DYING"

const died = 9 // its exit status then

func TestMain(m *testing.M) {
	if what := os.Getenv(dyingEnv); what != "" {
		dying(strings.Split(what, "|"))
	}
	goleak.VerifyTestMain(m)
}

func dying(args []string) {
	left, err := strconv.Atoi(args[0])
	if err != nil {
		panic(err)
	}
	f, err := os.Open(args[1])
	if err != nil {
		panic(err)
	}
	err = backup.RestoreWith(ctx, f, backup.RestoreConfig{Dirs: split(args[2]), Force: true}, func() {
		if left--; left == 0 {
			os.Exit(died)
		}
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Wherever between the renames a restore ends: no host starts, the next
// restore mends it, and the old files are all kept.
func TestDiesBetweenRenames(t *testing.T) {
	dir := t.TempDir()
	from := one(filepath.Join(dir, "from"))
	write(t, from.File(), "{}") // no paths
	write(t, filepath.Join(from.Data, "files", "f"), "of alice")
	archive := filepath.Join(dir, "archive")
	write(t, archive, string(save(t, newHost(t, from, "alice"), true)))
	old := filepath.Join(dir, "old")
	write(t, split(old).File(), "{}")
	newHost(t, split(old), "bob")
	write(t, filepath.Join(split(old).Data, "files", "f"), "of bob")
	write(t, filepath.Join(split(old).Data, "data.db-journal"), "")
	key := readFile(t, filepath.Join(split(old).Cert, "tls_priv.pem"))
	rounds := 1
	for ; ; rounds++ {
		root := filepath.Join(dir, fmt.Sprint("to", rounds))
		if err := os.CopyFS(root, os.DirFS(old)); err != nil {
			t.Fatal(err)
		}
		to := split(root)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d|%s|%s", dyingEnv, rounds, archive, root))
		cmd.Stderr = os.Stderr
		err := cmd.Run()
		if err == nil {
			break
		}
		if cmd.ProcessState.ExitCode() != died {
			t.Fatal(err)
		}
		if backup.Unfinished(to) == nil {
			t.Errorf("rename %d: a host would start", rounds)
		}
		if _, err := restore([]byte(readFile(t, archive)), backup.RestoreConfig{Dirs: to}); err != nil {
			t.Fatal(err)
		}
		if err := backup.Unfinished(to); err != nil {
			t.Errorf("rename %d: %v", rounds, err)
		}
		has(t, filepath.Join(to.Data, "data.db"), "alice")
		leftovers(t, root)
		kept := map[string]bool{}
		for name, text := range tree(t, root) {
			if strings.Contains(name, "before-restore-") {
				base := filepath.Base(name)
				kept[base] = kept[base] || base == "data.db" || base == "f" && strings.HasSuffix(text, "of bob") ||
					base == "tls_priv.pem" && strings.HasSuffix(text, key)
			}
		}
		if !kept["data.db"] || !kept["f"] || !kept["tls_priv.pem"] {
			t.Errorf("rename %d: kept is only %v", rounds, kept)
		}
		if rounds > 50 {
			t.Fatal("it never comes to an end")
		}
	}
	if rounds < 10 {
		t.Errorf("only %d renames", rounds)
	}
}

// one puts everything below one directory.
func one(dir string) conf.Dirs {
	return conf.Dirs{Config: dir, Data: dir, Cert: dir, Runtime: dir, AccountRuntime: dir}
}

// split has a directory for each kind, as root's host.
func split(dir string) conf.Dirs {
	etc := filepath.Join(dir, "etc")
	return conf.Dirs{Config: etc, Data: filepath.Join(dir, "var"), Cert: etc, Runtime: dir, AccountRuntime: dir}
}

// newHost makes what a host keeps, with an account of that name.
func newHost(t testing.TB, dirs conf.Dirs, user string) conf.Config {
	t.Helper()
	settings, _, err := conf.LoadOrCreate(dirs.File(), dirs)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(ctx, store.Config{Path: settings.DBHostName})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Create(ctx, storetest.Record(user), false); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if settings.OwnCertificate() {
		if _, err := cert.Open(cert.Config{Chain: settings.TLSCertChain, Key: settings.TLSPrivKey, Make: true}); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dirs.Config, "res_pw_template.txt"), "reset "+user)
	return settings
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// save returns an archive of the host.
func save(t testing.TB, settings conf.Config, files bool) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := backup.Save(ctx, backup.SaveConfig{Settings: settings, Version: "1.2.3", Out: &b, Files: files}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func restore(archive []byte, cfg backup.RestoreConfig) (*backup.Restored, error) {
	return backup.Restore(ctx, "b", bytes.NewReader(archive), cfg)
}

// has fails unless the database has the account.
func has(t testing.TB, path, user string) {
	t.Helper()
	s, err := store.Open(ctx, store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Account(ctx, account.Key{Name: user}); err != nil {
		t.Errorf("account %s: %v", user, err)
	}
}

// tree returns all below a directory: names, and what they hold.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			all[rel+"/"] = ""
		case d.Type().IsRegular():
			info, err := d.Info()
			if err != nil {
				return err
			}
			all[rel] = fmt.Sprint(info.Mode(), " ", info.ModTime().Unix(), " ", readFile(t, path))
		default:
			all[rel] = d.Type().String()
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return all
}

// leftovers fails when a scratch directory or the marker is left.
func leftovers(t testing.TB, dir string) {
	t.Helper()
	for name := range tree(t, dir) {
		base := filepath.Base(name)
		if strings.HasPrefix(base, ".mrci") || base == backup.MarkerName {
			t.Errorf("left: %s", name)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for name, dirs := range map[string]func(string) conf.Dirs{"one directory": one, "several": split} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			from, to := dirs(filepath.Join(dir, "from")), dirs(filepath.Join(dir, "to"))
			settings := newHost(t, from, "alice")
			files := filepath.Join(from.Data, "files")
			for _, name := range []string{"a", "a.txt", "b/c", "b.txt", "b/d/e", "b-/x", strings.Repeat("long/", 60) + "name", "z w"} {
				write(t, filepath.Join(files, name), "text of "+name)
			}
			if err := os.MkdirAll(filepath.Join(files, "empty"), 0o750); err != nil {
				t.Fatal(err)
			}
			old := time.Unix(1e9, 0)
			if err := os.Chtimes(filepath.Join(files, "a"), old, old); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Join(files, "a"), 0o640); err != nil {
				t.Fatal(err)
			}
			if runtime.GOOS == "linux" { // any bytes are a name there
				write(t, filepath.Join(files, "\xff\n"), "x")
			}
			want := tree(t, files)
			if err := os.Symlink("/etc", filepath.Join(files, "link")); err != nil {
				t.Fatal(err)
			}
			socket, err := net.Listen("unix", filepath.Join(files, "s"))
			if err != nil {
				t.Log("no sockets here:", err)
			} else {
				defer socket.Close()
			}
			archive := filepath.Join(dir, "archive")
			report, err := backup.Save(ctx, backup.SaveConfig{Settings: settings, Version: "1.2.3", File: archive, Files: true})
			if err != nil {
				t.Fatal(err)
			}
			if len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "links, sockets") {
				t.Errorf("notes: %q", report.Notes)
			}
			info, err := os.Stat(archive)
			if err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 || info.Size() != report.Size {
				t.Errorf("the archive: %v %d, %v; reported: %d", info.Mode(), info.Size(), err, report.Size)
			}
			leftovers(t, dir)

			move := name == "several" // conf.json has the absolute path of the old database
			restored, err := restore([]byte(readFile(t, archive)), backup.RestoreConfig{Dirs: to, MoveDatabase: move})
			if err != nil {
				t.Fatal(err)
			}
			if len(restored.Aside) != 0 || restored.Manifest.Program != "1.2.3" || restored.Size != report.Size {
				t.Errorf("restored: %+v", restored)
			}
			if d := cmp.Diff(want, tree(t, filepath.Join(to.Data, "files"))); d != "" {
				t.Errorf("users' files: %s", d)
			}
			for _, name := range []string{"tls_chain.pem", "tls_priv.pem", "res_pw_template.txt"} {
				if got, want := readFile(t, filepath.Join(to.Config, name)), readFile(t, filepath.Join(from.Config, name)); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if got, want := readFile(t, to.File()), readFile(t, from.File()); (got == want) == move {
				t.Errorf("conf.json:\n%s\nwas\n%s", got, want)
			}
			again, err := conf.Load(to.File(), to)
			if err != nil {
				t.Fatal(err)
			}
			has(t, again.DBHostName, "alice")
			leftovers(t, dir)
		})
	}
}

// An archive of a host that has nothing yet but its configuration and database
// has what is there.
func TestSaveLittle(t *testing.T) {
	dirs := one(t.TempDir())
	write(t, dirs.File(), `{"tls_cert_chain": "/etc/letsencrypt/a.pem:b.pem", "tls_priv_key": "/etc/letsencrypt/k.pem"}`)
	settings := newHost(t, dirs, "alice")
	var b bytes.Buffer
	report, err := backup.Save(ctx, backup.SaveConfig{Settings: settings, Out: &b, Files: true})
	if err != nil {
		t.Fatal(err)
	}
	want := []backup.Absent{{Key: "tls_cert_chain", Path: "/etc/letsencrypt/a.pem"},
		{Key: "tls_cert_chain", Path: filepath.Join(dirs.Config, "b.pem")}, {Key: "tls_priv_key", Path: "/etc/letsencrypt/k.pem"}}
	if runtime.GOOS != "windows" && !slices.Equal(report.Manifest.Absent, want) || len(report.Notes) != 3 {
		t.Errorf("absent: %+v, notes: %q", report.Manifest.Absent, report.Notes)
	}
	checked, err := backup.Check(ctx, "b", bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if len(checked.Notes) != 3 || !strings.Contains(checked.Notes[0], "has to be there when the host starts") {
		t.Errorf("notes: %q", checked.Notes)
	}
}

func TestSaveRefuses(t *testing.T) {
	dir := t.TempDir()
	settings := newHost(t, one(filepath.Join(dir, "host")), "alice")
	taken := filepath.Join(dir, "taken")
	write(t, taken, "mine")
	missing := conf.Defaults(one(filepath.Join(dir, "none")))
	gone := settings
	gone.DBHostName += "x"
	tests := []struct {
		name, want string
		cfg        backup.SaveConfig
	}{
		{"existing file", "taken: the file exists already; name another one, or replace it with --force", backup.SaveConfig{File: taken}},
		{"directory", "it is not a regular file", backup.SaveConfig{File: dir, Force: true}},
		{"no directory", "no such file or directory", backup.SaveConfig{File: filepath.Join(dir, "no", "b")}},
		{"no host", "there is no host: ", backup.SaveConfig{File: filepath.Join(dir, "b"), Settings: missing}},
		{"no database", "there is no such file", backup.SaveConfig{File: filepath.Join(dir, "b"), Settings: gone}},
		{"no room", "has room for 1000 bytes; up to ", backup.SaveConfig{File: filepath.Join(dir, "b"),
			Free: func(string) (uint64, error) { return 1000, nil }}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.cfg.Settings.DBHostName == "" {
				test.cfg.Settings = settings
			}
			_, err := backup.Save(ctx, test.cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) && runtime.GOOS != "windows" || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
			leftovers(t, dir)
			if _, err := os.Stat(filepath.Join(dir, "b")); err == nil {
				t.Error("there is an archive")
			}
		})
	}
	if readFile(t, taken) != "mine" {
		t.Error("the existing file was changed")
	}
	if _, err := backup.Save(ctx, backup.SaveConfig{Settings: settings, File: taken, Force: true}); err != nil {
		t.Error(err)
	}
	if _, err := backup.Check(ctx, taken, strings.NewReader(readFile(t, taken))); err != nil {
		t.Error(err)
	}
	// What takes the archive refuses it.
	full := errors.New("no more")
	if _, err := backup.Save(ctx, backup.SaveConfig{Settings: settings, Out: refusing{full}}); !errors.Is(err, full) {
		t.Errorf("error: %v", err)
	}
	ended, cancel := context.WithCancelCause(ctx)
	cancel(full)
	if _, err := backup.Save(ended, backup.SaveConfig{Settings: settings, File: taken, Force: true}); !errors.Is(err, full) {
		t.Errorf("error: %v", err)
	}
	leftovers(t, dir)
}

type refusing struct{ err error }

func (r refusing) Write([]byte) (int, error) { return 0, r.err }

func TestRestoreRefuses(t *testing.T) {
	dir := t.TempDir()
	from := one(filepath.Join(dir, "from"))
	settings := newHost(t, from, "alice")
	archive := save(t, settings, false)
	elsewhere := one(filepath.Join(dir, "elsewhere"))
	write(t, elsewhere.File(), fmt.Sprintf(`{"db_host_name": %q}`, filepath.Join(dir, "disk", "mrci.db")))
	moved := save(t, newHost(t, elsewhere, "bob"), false)

	occupied := one(filepath.Join(dir, "occupied"))
	newHost(t, occupied, "carol")
	open := one(filepath.Join(dir, "open"))
	s, err := store.Open(ctx, store.Config{Path: newHost(t, open, "dave").DBHostName})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	running := errors.New("a host runs here; stop it first")
	fresh := one(filepath.Join(dir, "fresh"))
	tests := []struct {
		name    string
		archive []byte
		cfg     backup.RestoreConfig
		want    string
	}{
		{"running host", archive, backup.RestoreConfig{Dirs: fresh, Force: true, Running: func() error { return running }}, "a host runs here; stop it first"},
		{"open database", archive, backup.RestoreConfig{Dirs: open, Force: true}, "data.db open; stop the host first"},
		{"database there", archive, backup.RestoreConfig{Dirs: occupied}, "data.db is there already; restore into another directory, or move it away with --force"},
		{"no room", archive, backup.RestoreConfig{Dirs: fresh, Free: func(string) (uint64, error) { return 1000, nil }}, "has room for 1000 bytes; "},
		{"database elsewhere", moved, backup.RestoreConfig{Dirs: fresh}, "--move-database"},
		{"empty", nil, backup.RestoreConfig{Dirs: fresh}, "the file is empty"},
		{"garbage", bytes.Repeat([]byte("garbage"), 100), backup.RestoreConfig{Dirs: fresh}, "not a backup"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := tree(t, test.cfg.Dirs.Data)
			_, err := restore(test.archive, test.cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
			if d := cmp.Diff(before, tree(t, test.cfg.Dirs.Data)); d != "" && test.name != "open database" {
				t.Errorf("the target was changed: %s", d)
			}
		})
	}
	if _, err := os.Stat(fresh.Data); err == nil {
		t.Error("a directory was made and left")
	}
	done, err := restore(moved, backup.RestoreConfig{Dirs: fresh, MoveDatabase: true})
	if err != nil {
		t.Fatal(err)
	}
	has(t, filepath.Join(fresh.Data, "data.db"), "bob")
	if len(done.Notes) != 1 || !strings.Contains(done.Notes[0], "db_host_name in conf.json was") {
		t.Errorf("notes: %q", done.Notes)
	}
	if got := readFile(t, fresh.File()); got != `{"db_host_name": "data.db"}` {
		t.Errorf("conf.json: %s", got)
	}
}

// What was there before a restore is all kept, and nothing of it is in use.
func TestRestoreForce(t *testing.T) {
	dir := t.TempDir()
	from, to := one(filepath.Join(dir, "from")), one(filepath.Join(dir, "to"))
	archive := save(t, newHost(t, from, "alice"), false)
	newHost(t, to, "bob")
	write(t, filepath.Join(to.Config, "email_verify_template.txt"), "of bob")
	write(t, filepath.Join(to.Data, "files", "u", "f"), "of bob")
	write(t, filepath.Join(to.Data, "data.db-journal"), "of bob")
	before := tree(t, to.Data)
	done, err := restore(archive, backup.RestoreConfig{Dirs: to, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(done.Aside) != 1 || filepath.Dir(done.Aside[0]) != to.Data {
		t.Fatalf("aside: %q", done.Aside)
	}
	has(t, filepath.Join(to.Data, "data.db"), "alice")
	aside := tree(t, done.Aside[0])
	for name, text := range before {
		if strings.HasPrefix(name, "files/") {
			continue // stay, because the archive has none
		}
		if name != "./" && aside[name] != text {
			t.Errorf("%s was not kept", name)
		}
	}
	if readFile(t, filepath.Join(to.Data, "files", "u", "f")) != "of bob" {
		t.Error("users' files were touched")
	}
	for _, name := range []string{"email_verify_template.txt", "data.db-journal"} {
		if _, err := os.Stat(filepath.Join(to.Data, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	// A second one at once finds another name.
	again, err := restore(archive, backup.RestoreConfig{Dirs: to, Force: true})
	if err != nil || len(again.Aside) != 1 || again.Aside[0] == done.Aside[0] {
		t.Errorf("again: %+v, %v", again, err)
	}
	leftovers(t, to.Data)
}

// An error between the renames takes them back.
func TestRestoreUndone(t *testing.T) {
	dir := t.TempDir()
	from, to := one(filepath.Join(dir, "from")), one(filepath.Join(dir, "to"))
	archive := save(t, newHost(t, from, "alice"), true)
	newHost(t, to, "bob")
	before := tree(t, to.Data)
	late, cancel := context.WithCancelCause(ctx)
	cause := errors.New("enough")
	asked := 0
	_, err := backup.Restore(late, "b", bytes.NewReader(archive), backup.RestoreConfig{Dirs: to, Force: true, Running: func() error {
		if asked++; asked == 2 { // after all was checked
			cancel(cause)
		}
		return nil
	}})
	if !errors.Is(err, cause) {
		t.Fatalf("error: %v", err)
	}
	if d := cmp.Diff(before, tree(t, to.Data)); d != "" {
		t.Errorf("changed: %s", d)
	}
	has(t, filepath.Join(to.Data, "data.db"), "bob")
}

// A restore that ended in the middle of the renames is told, and mended by the
// next one.
func TestUnfinished(t *testing.T) {
	dir := t.TempDir()
	from, to := one(filepath.Join(dir, "from")), one(filepath.Join(dir, "to"))
	archive := save(t, newHost(t, from, "alice"), false)
	if err := backup.Unfinished(to); err != nil {
		t.Errorf("without a directory: %v", err)
	}
	newHost(t, to, "bob")
	write(t, filepath.Join(to.Data, backup.MarkerName), "")
	write(t, filepath.Join(to.Data, backup.RestoreScratch+"1", "data.db"), "half")
	write(t, filepath.Join(to.Data, backup.RestoreScratch+"1", "lock"), "")
	if err := backup.Unfinished(to); err == nil || !strings.Contains(err.Error(), "run mrci restore again") {
		t.Errorf("error: %v", err)
	}
	if _, err := restore(archive[:len(archive)/2], backup.RestoreConfig{Dirs: to}); err == nil {
		t.Error("half an archive was restored")
	}
	if err := backup.Unfinished(to); err == nil {
		t.Error("a failure has mended it")
	}
	if _, err := restore(archive, backup.RestoreConfig{Dirs: to}); err != nil {
		t.Fatal(err)
	}
	if err := backup.Unfinished(to); err != nil {
		t.Error(err)
	}
	has(t, filepath.Join(to.Data, "data.db"), "alice")
	leftovers(t, to.Data)
}

// Whatever happens to the bytes of an archive: it is refused, or what it holds
// is the same.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	from := one(filepath.Join(dir, "from"))
	settings := newHost(t, from, "alice")
	noise := make([]byte, 20_000)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	write(t, filepath.Join(from.Data, "files", "noise"), string(noise))
	archive := save(t, settings, true)
	manifest, want, err := backup.Contents(ctx, bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	accepted := 0
	same := func(what string, text []byte) {
		t.Helper()
		m, got, err := backup.Contents(ctx, bytes.NewReader(text))
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v", what, err)
			}
			return
		}
		accepted++
		if d := cmp.Diff(want, got) + cmp.Diff(manifest, m); d != "" {
			t.Errorf("%s was accepted with other content: %s", what, d)
		}
	}
	for at := 0; at < len(archive); at += 37 {
		damaged := slices.Clone(archive)
		damaged[at] ^= 1 << (at % 8)
		same(fmt.Sprint("bit flip at ", at), damaged)
	}
	if accepted > 10 { // in what gzip keeps of a file's name and age
		t.Errorf("%d damaged archives were accepted", accepted)
	}
	accepted = 0
	for at := 0; at < len(archive); at += 307 {
		same(fmt.Sprint("the first bytes up to ", at), archive[:at])
	}
	same("something behind it", append(slices.Clone(archive), 0))
	same("the archive twice", append(slices.Clone(archive), archive...))
	same("a piece twice", slices.Concat(archive[:500], archive[400:]))
	if accepted != 0 {
		t.Errorf("%d incomplete archives were accepted", accepted)
	}
	// And as the program sees it.
	for at := 0; at < len(archive); at += 1000 {
		damaged := slices.Clone(archive)
		damaged[at] ^= 0xff
		to := one(filepath.Join(dir, fmt.Sprint("to", at)))
		if _, err := restore(damaged, backup.RestoreConfig{Dirs: to}); err == nil {
			t.Errorf("a flip at %d was accepted", at)
		}
		if _, err := os.Stat(to.Data); err == nil {
			t.Errorf("a flip at %d has left a directory", at)
		}
	}
}

// When what was moved cannot be put back, the error is not that of an
// interruption, after which all is as before: it says what to do.
func TestInterruptedAndNotUndone(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write(t, one(from).File(), "{}") // no paths
	archive := save(t, newHost(t, one(from), "alice"), false)
	newHost(t, one(to), "bob")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	moves := 0
	err := backup.RestoreWith(ctx, bytes.NewReader(archive), backup.RestoreConfig{Dirs: one(to), Force: true}, func() {
		if moves++; moves != 2 {
			return
		}
		cancel()
		aside, err := filepath.Glob(filepath.Join(to, "before-restore-*", "data.db"))
		if err != nil || len(aside) != 1 {
			t.Fatal(aside, err)
		}
		if err := os.Remove(aside[0]); err != nil {
			t.Fatal(err)
		}
	})
	if err == nil || errors.Is(err, context.Canceled) ||
		!strings.Contains(err.Error(), "before-restore-") || !strings.Contains(err.Error(), backup.MarkerName) {
		t.Errorf("got %v", err)
	}
	if backup.Unfinished(one(to)) == nil {
		t.Error("a host would start")
	}
}
