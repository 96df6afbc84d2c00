package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mrci.dev/mrci/internal/bench/soak"
)

// process is a server or an attacker that was started.
type process struct {
	kind  string // as in Role
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // closed at the end of its output
	log   *os.File
	addr  string
	// user and once are the administrator that a new host has made.
	user, once string
	// grace is how long it may take to end in good order.
	grace time.Duration

	stopOnce sync.Once

	clients soak.Tally // of a soak
}

// longestLine is more than the times of a team take, which is the longest that
// a process says.
const longestLine = 1 << 20

// startPatience bounds how long a process may take to be there.
const startPatience = 30 * time.Second

// start starts a process of this role, which ends with stop, or with this
// process.
func (b *Bench) start(ctx context.Context, r Role) (*process, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	line := append(slices.Clone(b.opts.Program), string(text))
	if b.files > 0 && r.Kind == RoleHost {
		line = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, b.files)}, line...)
	}
	kind := r.Kind
	if r.Team != "" {
		kind += "-" + r.Team
	}
	// A host that still has sessions needs its time for them, and so do clients
	// that are in the middle of something.
	grace := 15 * time.Second
	if r.Kind == RoleSoak {
		grace = 2 * soak.Patience
	}
	return b.launch(ctx, kind, grace, line...)
}

// launch starts a command that tells where it listens, or that it is there, and
// ends with its standard input.
func (b *Bench) launch(ctx context.Context, kind string, grace time.Duration, line ...string) (_ *process, err error) {
	cmd := exec.Command(line[0], line[1:]...)
	p := &process{kind: kind, cmd: cmd, lines: make(chan string, 64), grace: grace}
	if p.log, err = os.CreateTemp(b.dir, kind+"-*.log"); err != nil {
		return nil, err
	}
	cmd.Stderr = p.log
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", kind, err)
	}
	go func() { // ends with the output, which stop waits for
		defer close(p.lines)
		scanner := bufio.NewScanner(stdout)
		scanner.Buffer(nil, longestLine)
		for scanner.Scan() {
			if line := scanner.Text(); !p.clients.Hear(line) {
				p.lines <- line
			}
		}
	}()
	b.running = append(b.running, p)
	if err := p.ready(ctx); err != nil {
		p.stop()
		return nil, fmt.Errorf("start %s: %w%s", kind, err, p.complaint())
	}
	return p, nil
}

// ready reads what the process says until it is there.
func (p *process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		line, err := p.line(ctx)
		if err != nil {
			return err
		}
		if line == atWork {
			return nil
		}
		if name, ok := strings.CutPrefix(line, "user: "); ok {
			p.user = name
		}
		if once, ok := strings.CutPrefix(line, "password: "); ok {
			p.once = once
		}
		if addr, ok := strings.CutPrefix(line, listening); ok {
			p.addr = addr
			return nil
		}
	}
}

var errEnded = errors.New("the process has ended")

func (p *process) line(ctx context.Context) (string, error) {
	select {
	case line, ok := <-p.lines:
		if !ok {
			return "", errEnded
		}
		return line, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// complaint is the last line that the process has logged.
func (p *process) complaint() string {
	b, err := os.ReadFile(p.log.Name())
	if err != nil || len(b) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return ": " + lines[len(lines)-1]
}

// request asks the process for something (see Control).
func (p *process) request(ctx context.Context, text string) (string, error) {
	return p.ask(ctx, text, startPatience)
}

func (p *process) ask(ctx context.Context, text string, patience time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := fmt.Fprintln(p.stdin, text); err != nil {
		return "", err
	}
	for {
		line, err := p.line(ctx)
		if err != nil {
			return "", err
		}
		if said, ok := strings.CutPrefix(line, answer); ok {
			if complaint, bad := strings.CutPrefix(said, "error: "); bad {
				return "", errors.New(complaint)
			}
			return said, nil
		}
	}
}

func (p *process) stat(ctx context.Context, request string) (Stat, error) {
	var s Stat
	text, err := p.request(ctx, request)
	if err == nil {
		err = json.Unmarshal([]byte(text), &s)
	}
	return s, err
}

// resident returns the bytes of the process that are in memory; 0 where the
// system does not tell.
func (p *process) resident() uint64 { return p.memory("VmRSS:") }

// own is resident without the pages of files, such as those of the program,
// which the system drops and reads again as it likes.
func (p *process) own() uint64 { return p.memory("RssAnon:") }

func (p *process) memory(key string) uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if text, ok := strings.CutPrefix(line, key); ok {
			kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 10, 64)
			if err == nil {
				return kib << 10
			}
		}
	}
	return 0
}

// highest looks at the memory of the process until ctx ends, and returns the
// most that it has seen.
func (p *process) highest(ctx context.Context) (most uint64) {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		most = max(most, p.resident())
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return most
		}
	}
}

// clockTick is the unit of times in /proc/PID/stat.
const clockTick = 100 // a second; every Linux has it so

// cpu returns the seconds of processor time that the process has used; 0 where
// the system does not tell.
func (p *process) cpu() float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	// The name of the program stands in parentheses and may hold anything.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	const user, system = 11, 12 // behind the name
	if len(fields) <= system {
		return 0
	}
	ticks := 0.0
	for _, at := range []int{user, system} {
		n, err := strconv.ParseUint(fields[at], 10, 64)
		if err != nil {
			return 0
		}
		ticks += float64(n)
	}
	return ticks / clockTick
}

// stop ends the process and waits for it. It may be called twice.
func (p *process) stop() {
	p.stopOnce.Do(func() {
		p.stdin.Close()
		timer := time.AfterFunc(p.grace, func() { _ = p.cmd.Process.Kill() })
		defer timer.Stop()
		for range p.lines {
		}
		_ = p.cmd.Wait() // how it ends changes no figure
		p.log.Close()
	})
}

// descriptorsOfProcess returns how many descriptors a process may have open; 0
// where the system does not tell.
func descriptorsOfProcess() int {
	b, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if text, ok := strings.CutPrefix(line, "Max open files"); ok {
			if fields := strings.Fields(text); len(fields) > 0 {
				n, _ := strconv.Atoi(fields[0]) // "unlimited" is 0, no limit known
				return n
			}
		}
	}
	return 0
}

// needDescriptors fails when so many connections cannot be open at once.
func needDescriptors(connections int, option string) error {
	const others = 100 // listener, store, log, and what the runtime needs
	have := descriptorsOfProcess()
	if have > 0 && connections+others > have {
		return fmt.Errorf("%d connections need %d file descriptors in host and client, the limit is %d: raise it (ulimit -n %d) or use a smaller %s",
			connections, connections+others, have, connections+others, option)
	}
	return nil
}

// profile takes a CPU profile of the process until the function returned is
// called, which adds one of its memory; without a directory for profiles both
// do nothing.
func (b *Bench) profile(ctx context.Context, p *process, name string) func() {
	if b.opts.Profile == "" {
		return func() {}
	}
	file := filepath.Join(b.opts.Profile, strings.ReplaceAll(name, " ", "-")+"-"+p.kind)
	ask := func(request string) {
		if _, err := p.request(ctx, request); err != nil {
			b.say("no profile %s: %v", file, err)
		}
	}
	ask("cpu " + file + ".cpu")
	return func() {
		ask("cpu")
		ask("heap " + file + ".heap")
	}
}
