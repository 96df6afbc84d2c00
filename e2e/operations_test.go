//go:build linux

package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/control"
)

const operationsPage = "../docs/operations.md"

// block is an indented block of the page.
type block struct {
	line  int // of its first line
	lines []string
}

// followed reports whether a block is a dialogue, which the test follows. The
// others need root, systemd or another machine and begin with a comment.
func (b *block) followed() bool { return strings.HasPrefix(b.lines[0], "$ ") }

// step is a command of the page and what the page says that it prints.
type step struct {
	line    int
	command string
	typed   []string // behind >, at the prompts of the command
	prints  []string
}

func operationsText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(operationsPage)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocks returns the indented blocks of a page.
func blocks(page string) []block {
	var all []block
	inside := false
	for i, line := range strings.Split(page, "\n") {
		text, indented := strings.CutPrefix(line, "    ")
		if indented && !inside {
			all = append(all, block{line: i + 1})
		}
		if inside = indented; inside {
			b := &all[len(all)-1]
			b.lines = append(b.lines, strings.TrimPrefix(text, "  ")) // inside a list
		}
	}
	return all
}

// steps returns the dialogue of a block.
func (b *block) steps(t *testing.T) []step {
	var all []step
	for i, line := range b.lines {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			all = append(all, step{line: b.line + i, command: command})
			continue
		}
		s := &all[len(all)-1]
		if typed, ok := strings.CutPrefix(line, "> "); ok {
			s.typed = append(s.typed, typed)
		} else {
			s.prints = append(s.prints, line)
		}
	}
	return all
}

// promised is what a command must print: "..." stands for anything within a
// line, and alone for any lines, or none.
func promised(t *testing.T, lines []string) *regexp.Regexp {
	t.Helper()
	var b strings.Builder
	b.WriteString(`^`)
	for _, line := range lines {
		if line == "..." {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		b.WriteString(strings.ReplaceAll(spaces.ReplaceAllString(regexp.QuoteMeta(line), ` +`), `\.\.\.`, `.*`) + `\n`)
	}
	b.WriteString(`$`)
	re, err := regexp.Compile(b.String())
	if err != nil {
		t.Fatal(err)
	}
	return re
}

var spaces = regexp.MustCompile(` +`)

// TestOperationsPage does what the page for operators says, line by line, as an
// ordinary account with an empty home, on a machine whose ports are free and
// where no other host runs: in namespaces where that is possible.
func TestOperationsPage(t *testing.T) {
	if program := os.Getenv(helperEnv); program != "" {
		binary = program
		loopbackUp(t)
		emptyDirs(t, "/run") // a host of root would be there
		followPage(t)
		return
	}
	if testing.Short() {
		t.Skip("slow: starts several hosts")
	}
	for _, tool := range []string{"sh", "sed", "grep", "tail", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the page uses %s: %v", tool, err)
		}
	}
	if os.Getuid() != 0 {
		l, err := net.Listen("tcp", "127.0.0.1:35516")
		if err != nil {
			t.Skipf("the page uses the usual port: %v", err)
		}
		l.Close()
		followPage(t)
		return
	}
	if !canDrop() {
		t.Skip("the page is for an account without rights, and root cannot give its rights up here")
	}
	again(t, "TestOperationsPage", unix.CLONE_NEWNET|unix.CLONE_NEWNS)
}

// again runs a test of this package again in namespaces of its own.
func again(t *testing.T, name string, namespaces uintptr) {
	t.Helper()
	probe := exec.Command(binary, "version")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	if err := probe.Run(); err != nil {
		t.Skipf("namespaces cannot be made here: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^"+name+"$", "-test.v")
	cmd.Env = append(os.Environ(), helperEnv+"="+binary)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	p, err := start(cmd, true)
	if err != nil {
		t.Fatal(err)
	}
	if !p.finish(4 * patience) {
		t.Error("it does not end")
	}
	if p.status != 0 {
		t.Fail()
	}
	t.Logf("in its own namespace:\n%s", p.stdout)
}

// loopbackUp switches the loopback interface of a new network namespace on.
func loopbackUp(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatal(err)
	}
}

// emptyDirs replaces directories of a new mount namespace by empty ones.
func emptyDirs(t *testing.T, dirs ...string) {
	t.Helper()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Skipf("mounts cannot be changed here: %v", err)
	}
	for _, dir := range dirs {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			t.Skipf("mounts cannot be changed here: %v", err)
		}
	}
}

// reader is somebody who follows the page.
type reader struct {
	home     string
	prelude  string // variables that have been set
	password string // of the administrator
}

func followPage(t *testing.T) {
	r := &reader{home: newHome(t)}
	t.Cleanup(func() { // they have stopped, unless the test failed
		r.do(t, step{command: "mrci stop"})
		r.do(t, step{command: "mrci --dir try stop"})
		if t.Failed() {
			text, err := os.ReadFile(filepath.Join(r.home, ".local/share/mrci/host.log"))
			t.Logf("log of the host: %v\n%s", err, text)
		}
	})
	page := operationsText(t)
	done := 0
	for _, b := range blocks(page) {
		if !b.followed() {
			continue
		}
		for _, s := range b.steps(t) {
			r.follow(t, s)
			done++
		}
	}
	if done < 20 {
		t.Errorf("%s has %d commands to follow", operationsPage, done)
	}
	r.counters(t, page)
}

// newHome is an empty home of an account without rights, with the files of a
// certification authority in it.
func newHome(t *testing.T) string {
	t.Helper()
	home, err := os.MkdirTemp("", "mrci-operations-") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) }) // the machine cleans up what is left
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "host.example.org"}, DNSNames: []string{"host.example.org"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 3, 0),
	}
	chain, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{
		"fullchain.pem": {Type: "CERTIFICATE", Bytes: chain}, "privkey.pem": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(home, name), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() == 0 {
		for _, name := range []string{"", "fullchain.pem", "privkey.pem"} {
			if err := os.Chown(filepath.Join(home, name), nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
	}
	return home
}

var assignment = regexp.MustCompile(`^(?:export )?[A-Za-z]\w*=\S*(?:\s+[A-Za-z]\w*=\S*)*(?:\s+#.*)?$`)

// do runs a command of the page.
func (r *reader) do(t *testing.T, s step) *process {
	t.Helper()
	cmd := exec.Command("sh", "-c", r.prelude+s.command)
	cmd.Dir = r.home
	cmd.Env = raceEnv("HOME="+r.home, "PATH="+filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"))
	dropRights(cmd)
	var typed strings.Builder
	for _, line := range s.typed {
		fmt.Fprintln(&typed, line)
	}
	if len(s.typed) > 0 { // at the first login: the passwords that it asks for
		fmt.Fprintf(&typed, "%s\n%s\n", r.password, password)
		r.password = password
	}
	cmd.Stdin = strings.NewReader(typed.String())
	p, err := start(cmd, true)
	if err != nil {
		t.Fatal(err)
	}
	if !p.finish(patience) {
		t.Fatalf("%s:%d: %s does not end:\n%s", operationsPage, s.line, s.command, p.stdout)
	}
	p.check(t)
	return p
}

// follow runs a command and compares what it prints with what the page says.
func (r *reader) follow(t *testing.T, s step) {
	t.Helper()
	if assignment.MatchString(s.command) {
		set, _, _ := strings.Cut(s.command, " #")
		r.prelude += strings.ReplaceAll(set, "MRCI_PASSWORD=...", "MRCI_PASSWORD="+r.password) + "\n"
		return
	}
	p := r.do(t, s)
	printed := p.stdout.String()
	if m := madePass.FindStringSubmatch(printed); m != nil && r.password == "" {
		r.password = m[1]
	}
	if p.status != 0 {
		t.Fatalf("%s:%d: %s: exit status %d\n%s", operationsPage, s.line, s.command, p.status, printed)
	}
	want := promised(t, s.prints)
	if len(s.typed) > 0 { // only the beginning of the dialogue is on the page
		want = promised(t, append(s.prints, "..."))
	}
	if !want.MatchString(printed) {
		t.Errorf("%s:%d: %s prints\n%s\nand the page says\n%s", operationsPage, s.line, s.command, printed, strings.Join(s.prints, "\n"))
	}
}

// counters looks whether the page has every counter of the host, which its last
// command has started.
func (r *reader) counters(t *testing.T, page string) {
	t.Helper()
	p := r.do(t, step{command: "mrci status --json"})
	var got control.Status
	if err := json.Unmarshal([]byte(p.stdout.String()), &got); err != nil {
		t.Fatalf("status: %v\n%s", err, p.stdout)
	}
	for group, reasons := range got.Counters {
		for reason := range reasons {
			if !strings.Contains(page, "`"+reason+"`") {
				t.Errorf("%s does not explain the counter %s of %s", operationsPage, reason, group)
			}
		}
	}
}

// Places of a command line where another command can begin.
var (
	separators = regexp.MustCompile(`&&|\|\||[;|]`)
	inline     = regexp.MustCompile("`([^`\n]+)`")
	aName      = regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)+$`)
	substitute = regexp.MustCompile(`\$\([^)]*\)`)
	cronTime   = regexp.MustCompile(`^(\S+ ){5}root `)
)

// TestOperationsPageNamesWhatIsThere checks what cannot be followed: every
// command line of the program on the page has sub-commands and options that
// there are, and every name is one of a key, a counter, a metric or a command.
func TestOperationsPageNamesWhatIsThere(t *testing.T) {
	page := operationsText(t)
	var lines []string
	for _, b := range blocks(page) {
		for i, line := range b.lines {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				line = command
			} else if b.followed() {
				continue
			} else if i == 0 && !strings.HasPrefix(line, "# as root") {
				t.Errorf("%s:%d: the block begins neither with $ nor with # as root", operationsPage, b.line)
			}
			lines = append(lines, cronTime.ReplaceAllString(line, ""))
		}
		if b.followed() {
			continue
		}
		script := exec.Command("sh", "-n")
		if text := strings.Join(b.lines, "\n"); !strings.HasPrefix(text, "# as root: cron") {
			script.Stdin = strings.NewReader(text)
		}
		if out, err := script.CombinedOutput(); err != nil {
			t.Errorf("%s:%d: sh does not understand the block: %v %s", operationsPage, b.line, err, out)
		}
	}
	for _, m := range inline.FindAllStringSubmatch(page, -1) {
		lines = append(lines, m[1])
	}
	commands, files := 0, 0
	for _, line := range lines {
		for _, command := range separators.Split(substitute.ReplaceAllString(line, "X"), -1) {
			words := strings.Fields(command)
			for i, word := range words {
				if strings.HasPrefix(word, "#") {
					words = words[:i]
					break
				}
				if strings.HasPrefix(word, "packaging/") {
					files++
					if _, err := os.Stat(filepath.Join("..", word)); err != nil {
						t.Errorf("%s names a file that is not there: %v", operationsPage, err)
					}
				}
			}
			if len(words) < 2 || filepath.Base(words[0]) != "mrci" {
				continue
			}
			commands++
			checkCommandLine(t, words[1:])
		}
	}
	if commands < 20 || files < 3 {
		t.Errorf("%s: found %d commands and %d files", operationsPage, commands, files)
	}
	known := knownNames(t)
	for _, m := range inline.FindAllStringSubmatch(page, -1) {
		if name := m[1]; aName.MatchString(name) && !known[name] && !joined(known, name) {
			t.Errorf("%s: there is no key, counter, metric or command %q", operationsPage, name)
		}
	}
}

// checkCommandLine lets the program read a command line without acting on it.
func checkCommandLine(t *testing.T, words []string) {
	t.Helper()
	at := len(words)
	if i := slices.Index(words, "run"); i >= 0 {
		at = i + 1 // behind it are the words of a command of the host
	}
	cmd := exec.Command(binary, slices.Insert(slices.Clone(words), at, "--help")...)
	cmd.Env = cleanEnv(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("mrci %s: %s", strings.Join(words, " "), out)
	}
}

// joined reports whether a name is put together from two known parts, of which
// the first ends with an underscore.
func joined(known map[string]bool, name string) bool {
	for i, r := range name {
		if r == '_' && known[name[:i+1]] && known[name[i+1:]] {
			return true
		}
	}
	return false
}

// knownNames are the names that a page may use.
func knownNames(t *testing.T) map[string]bool {
	t.Helper()
	known := make(map[string]bool)
	c := conf.Defaults(conf.Dirs{})
	for _, k := range c.Keys() {
		known[k.Name] = true
	}
	// Counters, metrics and commands stand in the sources as words of their own.
	word := regexp.MustCompile(`"([a-z0-9_]+)"`)
	for _, pattern := range []string{"../internal/host/*.go", "../internal/control/*.go", "../internal/builtin/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range word.FindAllStringSubmatch(string(text), -1) {
				known[m[1]] = true
				known["mrci_"+m[1]] = true
				known["mrci_"+m[1]+"_total"] = true
			}
		}
	}
	return known
}
