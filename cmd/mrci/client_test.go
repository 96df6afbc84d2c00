package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"mrci.dev/mrci/client"
	"mrci.dev/mrci/client/clienttest"
	"mrci.dev/mrci/internal/tui"
	"mrci.dev/mrci/wire"
)

var update = flag.Bool("update", false, "rewrite golden files")

// process is one run of the program inside the test.
type process struct {
	stdin      io.Reader
	env        map[string]string
	files      map[int]*os.File
	interrupts chan os.Signal
	watch      io.Writer // gets standard output too
}

// lockedBuffer may be written by several goroutines.
type lockedBuffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	also io.Writer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.also != nil {
		l.also.Write(p)
	}
	return l.b.Write(p)
}

func (p process) run(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	if p.stdin == nil {
		p.stdin = strings.NewReader("")
	}
	if p.env == nil {
		p.env = map[string]string{}
	}
	if p.env["XDG_CONFIG_HOME"] == "" {
		p.env["XDG_CONFIG_HOME"] = t.TempDir()
	}
	out, errs := lockedBuffer{also: p.watch}, lockedBuffer{}
	a := &app{stdin: p.stdin, stdout: &out, stderr: &errs, files: p.files,
		getenv: func(name string) string { return p.env[name] }}
	if p.interrupts != nil {
		a.interrupts = p.interrupts
	}
	status = a.main(args)
	return status, out.b.String(), errs.b.String()
}

// noLeaks fails the test if goroutines are left, after the host has ended.
func noLeaks(t *testing.T) {
	known := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, known) })
}

func startHost(t *testing.T, tls bool) *clienttest.Host {
	t.Helper()
	noLeaks(t)
	return clienttest.Start(t, clienttest.Options{TLS: tls, Commands: commands()})
}

func commands() []clienttest.Command {
	command := func(name string, run func(i *clienttest.Instance) wire.ReturnCode) clienttest.Command {
		return clienttest.Command{
			Info: wire.CommandInfo{Name: name, Short: "does " + name, IO: "[-name (text) {-all}]/[text]", Long: "More about " + name + "."},
			Run:  run,
		}
	}
	end := func(code wire.ReturnCode) func(*clienttest.Instance) wire.ReturnCode {
		return func(i *clienttest.Instance) wire.ReturnCode {
			i.Reply(wire.Err, []byte("reason\n"))
			return code
		}
	}
	upload := command("send", end(1))
	upload.Info.GenFile = wire.Upload
	return []clienttest.Command{
		command("echo", func(i *clienttest.Instance) wire.ReturnCode {
			i.Text(i.First.Type.String() + ":" + i.Args() + "\n")
			return wire.NoErrors
		}),
		command("ask", func(i *clienttest.Instance) wire.ReturnCode {
			name, err := i.Ask(wire.PromptText, "name? ")
			if err != nil {
				return wire.Aborted
			}
			secret, err := i.Ask(wire.PrivText, "secret? ")
			if err != nil {
				return wire.Aborted
			}
			i.Text(name + " " + secret + "\n")
			return wire.NoErrors
		}),
		command("my_info", func(i *clienttest.Instance) wire.ReturnCode { return wire.NoErrors }),
		command("auth", func(i *clienttest.Instance) wire.ReturnCode {
			for {
				password, err := i.Ask(wire.PrivText, "password: ")
				switch {
				case err != nil || password == "":
					return wire.Aborted
				case password == "demand":
					if fresh, err := i.Ask(wire.PrivText, "new password: "); err != nil || fresh != "fresh" {
						return wire.Aborted
					}
					fallthrough
				case password == "right":
					i.Offer(wire.CommandInfo{ID: 500, Name: "secret_command"})
					i.Text("welcome\n")
					return wire.NoErrors
				}
				i.Reply(wire.Err, []byte("wrong\n"))
			}
		}),
		command("loop", func(i *clienttest.Instance) wire.ReturnCode {
			i.Text("started\n")
			if !i.Stopped() {
				return 0
			}
			return wire.Aborted
		}),
		command("deaf", func(i *clienttest.Instance) wire.ReturnCode {
			i.Text("started\n")
			for f := range i.In {
				i.Text(f.Type.String() + "\n")
			}
			return 0
		}),
		command("quit_host", func(i *clienttest.Instance) wire.ReturnCode {
			i.Conn.Close()
			return 0
		}),
		command("all_kinds", allKinds),
		command("invalid", end(wire.InvalidParams)),
		command("own", end(42)),
		command("odd", end(300)),
		command("crash", end(wire.Crash)),
		upload,
	}
}

// allKinds sends a frame of every kind that has a form of its own.
func allKinds(i *clienttest.Instance) wire.ReturnCode {
	reply := func(t wire.TypeID, p wire.Payload) { i.Reply(t, wire.Append(nil, p)) }
	async := func(id wire.AsyncID, t wire.TypeID, p []byte) { i.Send(t, wire.CmdID(id), 0, p) }
	peer := wire.Peer{Session: wire.SessionID{1}, User: wire.UserID{2}, Name: "ann", App: "app 1", Display: `An "n"`}
	i.Text("text <&> ü\n")
	i.Reply(wire.Text, []byte{0xff, 0x00})
	i.Reply(wire.BigText, []byte("big\n"))
	i.Reply(wire.Err, []byte("err\n"))
	i.Reply(wire.Bytes, []byte{0, 1, 2})
	i.Reply(77, []byte("type 77"))
	i.Reply(wire.Prog, []byte{50})
	i.Reply(wire.ProgLast, []byte{100})
	reply(wire.PeerInfo, &peer)
	reply(wire.MyInfo, &wire.Account{Peer: peer, Email: "a@b.c", Rank: 3, EmailVerified: true})
	reply(wire.PeerStat, &wire.PeerStatus{Open: wire.SubList{1: {Channel: 1 << 60, Sub: 3}, 4: {Channel: 2, Sub: 1}}})
	reply(wire.PeerStat, &wire.PeerStatus{Disconnected: true})
	reply(wire.FileInfo, &wire.FileRecord{Flags: wire.FileIsFile | wire.FileExists, Size: 5, Modified: 7, Name: "a b"})
	reply(wire.ChMemberInfo, &wire.Member{Channel: 9, Level: wire.Officer, Name: "bob", ChannelName: "c"})
	reply(wire.ChID, &wire.ChannelRef{Channel: 1<<64 - 1})
	i.Reply(wire.PeerInfo, []byte("too short"))
	async(wire.AsyncSysMsg, wire.Text, []byte("system says\n"))
	async(wire.AsyncCast, wire.Text, []byte("cast\n"))
	async(wire.AsyncRenameCh, wire.Bytes, wire.Append(nil, &wire.ChannelRenamed{Channel: 9, Name: "new"}))
	async(wire.AsyncP2P, wire.Text, wire.Append(nil, &wire.PeerData{Src: wire.SessionID{3}, Data: []byte("psst")}))
	async(wire.AsyncP2P, wire.Bytes, wire.Append(nil, &wire.PeerData{Data: []byte{9}}))
	async(101, wire.Bytes, []byte("new id"))
	i.Data = []byte("own")
	return wire.Custom
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestRunPrintsEveryKind(t *testing.T) {
	h := startHost(t, false)
	for _, form := range []string{"text", "json"} {
		args := []string{"run", h.Addr, "all_kinds"}
		if form == "json" {
			args = []string{"run", "--json", h.Addr, "all_kinds"}
		}
		status, stdout, stderr := process{}.run(t, args...)
		if status != 7 {
			t.Errorf("%s: exit %d, want 7: %s", form, status, stderr)
		}
		golden(t, "all_kinds."+form+".stdout", stdout)
		golden(t, "all_kinds."+form+".stderr", stderr)
	}
}

func TestRun(t *testing.T) {
	h := startHost(t, false)
	file := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(file, []byte("bob\r\nb c"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused.Close()
	tests := []struct {
		name   string
		args   string // separated by |
		stdin  string
		status int
		stdout string
		stderr string // a part of it; all of it is empty when this is
	}{
		{"words are quoted", "HOST|echo|-name|two words|-all", "", 0, "TEXT:-name \"two words\" -all\n", ""},
		{"value with a dash", "HOST|echo|-name|-x", "", 0, "TEXT:-name \"-x\"\n", ""},
		{"options behind the command are the command's", "HOST|echo|--json|--|-x|--dir", "", 0, "TEXT:\"--json\" \"--\" -x \"--dir\"\n", ""},
		{"upper case", "HOST|ECHO", "", 0, "TEXT:\n", ""},
		{"raw", "--raw|'a b' c|HOST|echo", "", 0, "TEXT:'a b' c\n", ""},
		{"type and data", "--type|bytes|--data|-|HOST|echo", "some data", 0, "BYTES:some data\n", ""},
		{"data of a file", "--data|" + file + "|HOST|echo", "", 0, "TEXT:bob\r\nb c\n", ""},
		{"input from a file", "--input|" + file + "|HOST|ask", "", 0, "bob b c\n", "name? secret? "},
		{"input from stdin", "--input|-|HOST|ask", "x\n\n", 0, "x \n", "name? secret? "},
		{"input ends", "--input|-|HOST|ask", "x\n", 2, "", "name? secret? "},
		{"no input", "HOST|ask", "x\ny\n", 2, "", "name? "},
		{"json prompts", "--json|--input|-|HOST|ask", "x\ny\n", 0, `{"type":"PROMPT_TEXT","cmd":"ask","id":257,"branch":1,"text":"name? "}
{"type":"PRIV_TEXT","cmd":"ask","id":257,"branch":1,"text":"secret? "}
{"type":"TEXT","cmd":"ask","id":257,"branch":1,"text":"x y\n"}
{"type":"IDLE","code":1,"name":"NO_ERRORS","cmd":"ask","id":257,"branch":1}
`, ""},
		{"invalid parameters", "HOST|invalid", "", 3, "", "reason\n"},
		{"crash", "HOST|crash", "", 4, "", "reason\n"},
		{"code of a module's own", "HOST|own", "", 42, "", "reason\n"},
		{"code beyond", "HOST|odd", "", 6, "", "reason\n"},
		{"no such command", "HOST|ehco", "", 65, "", `no command "ehco"; nearest: echo`},
		{"transfer command", "HOST|send", "", 64, "", "mrci put"},
		{"connection lost", "HOST|quit_host", "", 69, "", "connection lost"},
		{"unreachable", refused.Addr().String() + "|echo", "", 69, "", "unreachable"},
		{"wrong option", "--jsom|HOST|echo", "", 64, "", "--json"},
		{"no command", "HOST", "", 64, "", "COMMAND"},
		{"bad host", "host:|echo", "", 64, "", "ADDR[:PORT]"},
		{"nothing to send", "--data|-|HOST|echo|x", "", 64, "", "--data"},
		{"bad pin", "--pin|12|HOST|echo", "", 64, "", "hex digits"},
		{"bad duration", "--timeout|soon|HOST|echo", "", 64, "", "--timeout"},
		{"bad type", "--type|NOPE|HOST|echo", "", 64, "", "no such type"},
		{"control type", "--type|TERM_CMD|HOST|echo", "", 64, "", "TERM_CMD"},
		{"raw and arguments", "--raw|x|HOST|echo|y", "", 64, "", "--raw"},
		{"data and arguments", "--data|x|HOST|echo|y", "", 64, "", "--data"},
		{"one stdin for two", "--data|-|--input|-|HOST|ask", "", 64, "", "standard input"},
		{"missing data", "--data|" + file + "x|HOST|echo", "", 64, "", file + "x"},
		{"missing input", "--input|" + file + "x|HOST|echo", "", 64, "", file + "x"},
		{"descriptor that is not open", "--user|ann|--password-fd|987|HOST|echo", "", 64, "", "987"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"run"}, strings.Split(tt.args, "|")...)
			for n := range args {
				if args[n] == "HOST" {
					args[n] = h.Addr
				}
			}
			status, stdout, stderr := process{stdin: strings.NewReader(tt.stdin)}.run(t, args...)
			if status != tt.status || stdout != tt.stdout {
				t.Errorf("exit %d, stdout %q; want %d, %q", status, stdout, tt.status, tt.stdout)
			}
			if !strings.Contains(stderr, tt.stderr) || tt.stderr == "" && stderr != "" {
				t.Errorf("stderr %q, want %q in it", stderr, tt.stderr)
			}
			if strings.HasPrefix(stderr, "mrci:") && strings.Count(stderr, "\n") != 1 {
				t.Errorf("more than one line on stderr: %q", stderr)
			}
		})
	}
}

// TestTimeIsUp: --timeout ends a command wherever it is, with what it has said
// until then.
func TestTimeIsUp(t *testing.T) {
	h := startHost(t, false)
	// How far it comes in 50 ms is the machine's affair.
	for timeout, said := 50*time.Millisecond, ""; said != "started\n"; timeout *= 2 {
		if timeout > time.Minute {
			t.Fatalf("in %v it says %q", timeout/2, said)
		}
		status, stdout, stderr := process{}.run(t, "run", "--timeout", timeout.String(), h.Addr, "loop")
		if said = stdout; status != 75 || said != "" && said != "started\n" || stderr != "mrci: time is up\n" {
			t.Fatalf("%v: exit %d, stdout %q, stderr %q; want 75", timeout, status, stdout, stderr)
		}
	}
}

func TestLogin(t *testing.T) {
	h := startHost(t, false)
	pipe := func(text string) (int, *os.File) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		io.WriteString(w, text)
		w.Close()
		return int(r.Fd()), r
	}
	fd, r := pipe("demand\nfresh\n")
	tests := []struct {
		name   string
		env    map[string]string
		args   []string
		status int
		stderr string
	}{
		{"environment", map[string]string{"MRCI_USER": "ann", "MRCI_PASSWORD": "right"}, nil, 0, ""},
		{"demanded password", map[string]string{"MRCI_PASSWORD": "demand", "MRCI_NEW_PASSWORD": "fresh"}, []string{"--user", "ann"}, 0, ""},
		{"both on one descriptor", nil, []string{"--user", "ann", "--password-fd", fmt.Sprint(fd), "--new-password-fd", fmt.Sprint(fd)}, 0, ""},
		{"wrong", map[string]string{"MRCI_PASSWORD": "wrong"}, []string{"--user", "ann"}, 77, "log in as ann: wrong"},
		{"demand not met", map[string]string{"MRCI_PASSWORD": "demand"}, []string{"--user", "ann"}, 77, "a new password"},
		{"nobody to ask", nil, []string{"--user", "ann"}, 77, "nobody to ask"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := append(append([]string{"run"}, tt.args...), h.Addr, "echo")
			status, stdout, stderr := process{env: tt.env, files: map[int]*os.File{fd: r}}.run(t, args...)
			if status != tt.status || !strings.Contains(stderr, tt.stderr) || tt.stderr == "" && stderr != "" {
				t.Errorf("exit %d, stderr %q; want %d, %q", status, stderr, tt.status, tt.stderr)
			}
			if status == 0 && stdout != "TEXT:\n" {
				t.Errorf("stdout %q: only the command's own output is printed", stdout)
			}
		})
	}
}

func TestTrust(t *testing.T) {
	h := startHost(t, true)
	env := map[string]string{"XDG_CONFIG_HOME": t.TempDir()}
	run := func(args ...string) (int, string) {
		t.Helper()
		status, stdout, stderr := process{env: env}.run(t, args...)
		return status, stdout + stderr
	}
	if status, out := run("run", h.Addr, "echo"); status != 76 || !strings.Contains(out, h.Fingerprint) || !strings.Contains(out, "--accept-new") {
		t.Errorf("unknown key: exit %d, %q", status, out)
	}
	if status, out := run("run", "--pin", h.Fingerprint, h.Addr, "echo"); status != 0 {
		t.Errorf("pinned key: exit %d, %q", status, out)
	}
	if status, out := run("run", "--pin", "SHA256:"+strings.Repeat("00", 32), "--accept-new", h.Addr, "echo"); status != 76 {
		t.Errorf("wrong pin: exit %d, %q", status, out)
	}
	if status, out := run("run", "--accept-new", h.Addr, "echo"); status != 0 {
		t.Errorf("--accept-new: exit %d, %q", status, out)
	}
	if status, out := run("run", h.Addr, "echo"); status != 0 {
		t.Errorf("known key: exit %d, %q", status, out)
	}
	if status, out := run("known-hosts"); status != 0 || out != h.Addr+" "+h.Fingerprint+"\n" {
		t.Errorf("known-hosts: exit %d, %q", status, out)
	}

	// The same address with another key.
	old := "SHA256:" + strings.Repeat("ab", 32)
	path := filepath.Join(env["XDG_CONFIG_HOME"], "mrci", "known_hosts")
	if err := os.WriteFile(path, []byte(h.Addr+" "+old+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, out := run("run", "--accept-new", "--pin", h.Fingerprint, h.Addr, "echo")
	forget := "mrci known-hosts forget " + h.Addr
	if status != 76 || !strings.Contains(out, old) || !strings.Contains(out, h.Fingerprint) || !strings.Contains(out, forget) {
		t.Errorf("changed key: exit %d, %q", status, out)
	}
	if status, out := run("known-hosts", "forget", h.Addr); status != 0 {
		t.Errorf("forget: exit %d, %q", status, out)
	}
	if status, out := run("run", "--accept-new", h.Addr, "echo"); status != 0 {
		t.Errorf("after forget: exit %d, %q", status, out)
	}
}

// interrupter presses Ctrl-C when a text appears on standard output.
type interrupter struct {
	interrupts chan os.Signal
	on         []string
	seen       string
}

func (i *interrupter) Write(p []byte) (int, error) {
	i.seen += string(p)
	if len(i.on) > 0 && strings.Contains(i.seen, i.on[0]) {
		i.on, i.seen = i.on[1:], ""
		i.interrupts <- os.Interrupt
	}
	return len(p), nil
}

func TestInterrupts(t *testing.T) {
	h := startHost(t, false)
	tests := []struct {
		name    string
		command string
		on      []string
		stdout  string
	}{
		{"once", "loop", []string{"started"}, "started\n"},
		{"three times", "deaf", []string{"started", "TERM_CMD", "KILL_CMD"}, "started\nTERM_CMD\nKILL_CMD\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			interrupts := make(chan os.Signal, 3)
			p := process{interrupts: interrupts, watch: &interrupter{interrupts: interrupts, on: tt.on}}
			status, stdout, stderr := p.run(t, "run", h.Addr, tt.command)
			if status != 2 || stdout != tt.stdout {
				t.Errorf("exit %d, stdout %q, stderr %q; want 2, %q", status, stdout, stderr, tt.stdout)
			}
		})
	}
}

func TestConnectFromAFile(t *testing.T) {
	h := startHost(t, false)
	tests := []struct {
		name   string
		stdin  string
		status int
		stdout string
		stderr string
	}{
		{"as typed", "echo  'a b'  -x\n\n  ECHO\n", 0, "TEXT:'a b'  -x\nTEXT:\n", "[IDLE 1 NO_ERRORS]\n[IDLE 1 NO_ERRORS]\n"},
		{"prompts", "ask\nbob\npw\necho\n", 0, "bob pw\nTEXT:\n", "name? \nsecret? \n[IDLE 1 NO_ERRORS]\n[IDLE 1 NO_ERRORS]\n"},
		{"input ends at a prompt", "ask\nbob\n", 2, "", "name? \nsecret? \n[IDLE 2 ABORTED]\n"},
		{"status of the last call", "echo\ninvalid\n", 3, "TEXT:\n", "[IDLE 1 NO_ERRORS]\nreason\n[IDLE 3 INVALID_PARAMS]\n"},
		{"a refusal before", "invalid\necho", 0, "TEXT:\n", "reason\n[IDLE 3 INVALID_PARAMS]\n[IDLE 1 NO_ERRORS]\n"},
		{"no such command", "ehco\n", 65, "", "mrci: no command \"ehco\"; nearest: echo\n"},
		{"a command that the login brings", "auth -user ann\nright\nsecret_command\n", 3, "welcome\n", "password: \n[IDLE 1 NO_ERRORS]\nno such command\n[IDLE 3 INVALID_PARAMS]\n"},
		{"system messages", "all_kinds\n", 7, "", "err\nsystem says\n[IDLE 7 CUSTOM]\n"},
		{"help", "help echo\n", 0, "echo - does echo\n[-name (text) {-all}]/[text]\nMore about echo.\n", ""},
		{"exit", "exit\necho\n", 0, "", ""},
		{"transfer", "send x\n", 64, "", "mrci: send transfers files: use mrci put\n"},
		{"lost", "quit_host\necho\n", 69, "", "mrci: connection lost: the host closed it\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, stdout, stderr := process{stdin: strings.NewReader(tt.stdin)}.run(t, "connect", h.Addr)
			if status != tt.status || stdout != tt.stdout && tt.stdout != "" || stderr != tt.stderr {
				t.Errorf("exit %d\nstdout %q\nstderr %q\nwant %d, %q, %q", status, stdout, stderr, tt.status, tt.stdout, tt.stderr)
			}
		})
	}
}

func TestConnectFindsTheLocalHost(t *testing.T) {
	h := startHost(t, false)
	_, port, err := net.SplitHostPort(h.Addr)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "run", listeningFile), []byte("0.0.0.0:"+port+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--dir", dir, "connect"}, {"connect", "--dir", dir}, {"connect"}} {
		status, stdout, stderr := process{stdin: strings.NewReader("echo\n"), env: map[string]string{"MRCI_DIR": dir}}.run(t, args...)
		if status != 0 || stdout != "TEXT:\n" {
			t.Errorf("%q: exit %d, %q, %q", args, status, stdout, stderr)
		}
	}
}

// An interrupt while nothing runs ends the client.
func TestConnectInterruptedAtThePrompt(t *testing.T) {
	h := startHost(t, false)
	r, w := io.Pipe()
	defer w.Close() // lets the read of standard input end
	interrupts := make(chan os.Signal, 1)
	interrupts <- os.Interrupt
	if status, _, stderr := (process{stdin: r, interrupts: interrupts}).run(t, "connect", h.Addr); status != 0 && status != 2 {
		t.Errorf("exit %d, %q", status, stderr)
	}
}

// What arrives while a person types goes above the prompt, and cannot give the
// terminal orders.
func TestScreen(t *testing.T) {
	var b strings.Builder
	s := &screen{out: &b}
	s.write("no line end")
	s.prompt("> ")
	var news tui.News
	s.line(news.Lines(client.Event{ID: wire.AsyncCast, Type: wire.Text, Payload: []byte("hi\x1b[2J\n* not you\n")}))
	s.prompted("", true)
	s.progress(50, false)
	s.write("more\n")
	bar := "[" + strings.Repeat("#", barWidth/2) + strings.Repeat(".", barWidth/2) + "]  50%"
	want := "no line end\n> \r\x1b[K[CAST] hi\\x1b[2J\n[CAST] * not you\n> \r" + bar + "\nmore\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("screen (-want +got):\n%s", diff)
	}
}

func TestMainCommandLine(t *testing.T) {
	tests := []struct {
		args   string
		status int
		stdout string
		stderr string
	}{
		{"version", 0, "mrci ", ""},
		{"-about", 0, "mrci ", ""},
		{"", 0, "Usage: mrci", ""},
		{"-help", 0, "Usage: mrci", ""},
		{"run --help", 0, "Usage: mrci run", ""},
		{"conect", 1, "", "connect"},
		{"version --dri x", 1, "", "--dir"},
		{"connect --usr x", 64, "", "--user"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			status, stdout, stderr := process{}.run(t, strings.Fields(tt.args)...)
			if status != tt.status || !strings.Contains(stdout, tt.stdout) || !strings.Contains(stderr, tt.stderr) || strings.Count(stderr, "\n") > 1 {
				t.Errorf("exit %d, %q, %q; want %d, %q, %q", status, stdout, stderr, tt.status, tt.stdout, tt.stderr)
			}
		})
	}
}
