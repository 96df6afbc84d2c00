package e2e_test

import (
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"mrci.dev/mrci/client"
)

// tmpfs returns a directory that takes so many bytes.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skip("no small file systems can be mounted here:", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// empty fails when anything is left in a directory.
func empty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// Where there is no room, an error says how much is needed, nothing is left,
// and the host goes on.
func TestBackupWithoutRoom(t *testing.T) {
	s := newSite(t, cheap...)
	s.start()
	noise := make([]byte, 400<<10)
	_, _ = rand.Read(noise) // never fails
	if err := os.MkdirAll(filepath.Join(s.dir, "files"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "files", "noise"), noise, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ size, want string }{
		{"64k", `^mrci: save /\S+/archive: /\S+ has room for \d+ \S+; up to \d+ \S+ are needed\n$`},
		// The database has room, the users' files have not.
		{"512k", `^mrci: save /\S+/archive: .*no space left on device; /\S+ needs room for up to \d+ KiB\n$`},
	}
	for _, test := range tests {
		dir := tmpfs(t, test.size)
		status, text := program(t, "--dir", s.dir, "backup", "--files", filepath.Join(dir, "archive"))
		if status != 1 || !regexp.MustCompile(test.want).MatchString(text) {
			t.Errorf("%s: exit status %d: %s", test.size, status, text)
		}
		empty(t, dir)
	}
	archive := filepath.Join(t.TempDir(), "archive")
	mustProgram(t, "--dir", s.dir, "backup", "--files", archive)
	dir := tmpfs(t, "256k")
	status, text := program(t, "--dir", filepath.Join(dir, "host"), "restore", archive)
	if status != 1 || !regexp.MustCompile(`^mrci: restore /\S+: /\S+ has room for \d+ KiB; \d+ KiB are needed\n$`).MatchString(text) {
		t.Errorf("restore: exit status %d: %s", status, text)
	}
	empty(t, dir)
	login(t, dial(t, s.addr, client.Config{}), s.user, s.password)
}

// What root restores into the directory of another account is that account's.
func TestRestoreForAnotherAccount(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	s := newSite(t, cheap...)
	s.start()
	archive := filepath.Join(t.TempDir(), "archive")
	mustProgram(t, "--dir", s.dir, "backup", "--files", archive)
	dir := t.TempDir()
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Skip("root cannot give files away here:", err)
	}
	mustProgram(t, "--dir", dir, "restore", archive)
	mustProgram(t, "--dir", dir, "restore", "--force", archive)
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != nobody {
			t.Errorf("%s belongs to %d", path, info.Sys().(*syscall.Stat_t).Uid)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Root, who saves and restores the host of another account, takes no link of
// that account to what the account cannot read, and makes nothing behind one.
func TestBackupFollowsNoLinks(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	s := newSite(t, cheap...)
	s.start()
	archive := filepath.Join(t.TempDir(), "archive")
	mustProgram(t, "--dir", s.dir, "backup", archive)
	dir, private := t.TempDir(), t.TempDir()
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Skip("root cannot give files away here:", err)
	}
	mustProgram(t, "--dir", dir, "restore", archive)
	secret := filepath.Join(private, "secret")
	if err := os.WriteFile(secret, []byte("of root"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := func(to, name string) string {
		path := filepath.Join(dir, name)
		_ = os.Remove(path) // what the host made
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		if err := os.Lchown(path, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := link(secret, "res_pw_template.txt")
	status, text := program(t, "--dir", dir, "backup", filepath.Join(private, "archive"))
	if status != 1 || !regexp.MustCompile(`^mrci: save /\S+: /\S+/res_pw_template.txt is a symbolic link .*: put the file itself there\n$`).MatchString(text) {
		t.Errorf("backup: exit status %d: %s", status, text)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	path = link(filepath.Join(private, "made"), "restore-unfinished")
	status, text = program(t, "--dir", dir, "restore", "--force", archive)
	if status != 1 || !regexp.MustCompile(`^mrci: restore /\S+: /\S+/restore-unfinished is in the way: .*\n$`).MatchString(text) {
		t.Errorf("restore: exit status %d: %s", status, text)
	}
	if entries, err := os.ReadDir(private); err != nil || len(entries) != 1 {
		t.Errorf("in root's directory: %v, %v", entries, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mustProgram(t, "--dir", dir, "restore", "--force", archive)
	mustProgram(t, "--dir", dir, "backup", filepath.Join(private, "archive"))
}

// A signal ends a backup at once, with one line, and nothing is left.
func TestInterruptedBackup(t *testing.T) {
	s := newSite(t, cheap...)
	s.start()
	if err := os.MkdirAll(filepath.Join(s.dir, "files"), 0o700); err != nil {
		t.Fatal(err)
	}
	// Takes longer than the test waits, and no room.
	hole := filepath.Join(s.dir, "files", "hole")
	if err := os.WriteFile(hole, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(hole, 1<<40); err != nil {
		t.Skip("no large files here:", err)
	}
	dir := t.TempDir()
	cmd := exec.Command(binary, "--dir", s.dir, "backup", "--files", filepath.Join(dir, "archive"))
	cmd.Env = cleanEnv(t)
	p, err := start(cmd, true)
	if err != nil {
		t.Fatal(err)
	}
	defer p.finish(0)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(patience); ; <-tick.C {
		if found, _ := filepath.Glob(filepath.Join(dir, ".mrci-backup-*", "rest")); len(found) > 0 {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("it has not begun: %s", p.stdout)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if !p.finish(patience) || p.status != 1 || p.stdout.String() != "mrci: interrupted; nothing was changed\n" {
		t.Errorf("exit status %d: %s", p.status, p.stdout)
	}
	empty(t, dir)
}
