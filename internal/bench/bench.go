package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"mrci.dev/mrci/internal/bench/raw"
	"mrci.dev/mrci/internal/conf"
)

// Options say how to measure. All fields but Profile are set.
type Options struct {
	Rounds   int           // of each measurement, alternating with the floor's
	Round    time.Duration // how long one lasts, where time is what bounds it
	Connects int           // connections in a round of connect, and logins in one of login
	Sessions int           // held by idle
	Clients  int           // at once, for call
	Depth    int           // calls in flight of each, for the pipelined call
	// Attackers is how many connections misbehave at once in abuse.
	Attackers int
	Modes     []Mode // clear text, TLS or both
	Cast      CastOptions
	Profile   string // directory for profiles of the host; empty: none

	// Program is a command line that plays a role, when the role is appended to
	// it as JSON: see Role and Serve.
	Program []string
	// Progress gets a line now and then.
	Progress io.Writer
}

// Mode tells whether sessions are encrypted.
type Mode string

// The modes.
const (
	Plain Mode = "plain"
	TLS   Mode = "tls"
)

// Bench measures. Close ends what it has started.
type Bench struct {
	opts    Options
	dir     string
	running []*process
	// settlePause is the time between two looks at a host's memory.
	settlePause time.Duration
	// files is how many files a host that is started may have open; 0: no matter.
	files int
}

// New returns a Bench with a temporary directory.
func New(opts Options) (*Bench, error) {
	dir, err := os.MkdirTemp("", "mrci-bench-")
	if err != nil {
		return nil, err
	}
	if opts.Profile != "" {
		if opts.Profile, err = filepath.Abs(opts.Profile); err == nil {
			err = os.MkdirAll(opts.Profile, 0o755)
		}
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	return &Bench{opts: opts, dir: dir, settlePause: 250 * time.Millisecond}, nil
}

// Close ends every process that was started and removes their files.
func (b *Bench) Close() error {
	b.stopAll()
	return os.RemoveAll(b.dir)
}

func (b *Bench) stopAll() {
	for _, p := range b.running {
		p.stop()
	}
	b.running = nil
}

// Names are the measurements, in the order of All.
var Names = []string{"call", "connect", "login", "idle", "tls", "abuse"}

// CastNames are the measurements of casts, which take longer and are not in
// Names.
var CastNames = []string{"cast", "slow", "crowd"}

// Run makes one of the measurements of Names and CastNames.
func (b *Bench) Run(ctx context.Context, name string) ([]Row, error) {
	do, ok := map[string]func(context.Context) ([]Row, error){
		"call": b.call, "connect": b.connect, "login": b.login, "idle": b.idle, "tls": b.tls, "abuse": b.abuse,
		"cast": b.cast, "slow": b.slow, "crowd": b.crowd,
	}[name]
	if !ok {
		return nil, fmt.Errorf("no measurement %q", name)
	}
	defer b.stopAll()
	rows, err := do(ctx)
	if err != nil {
		return nil, fmt.Errorf("measure %s: %w", name, err)
	}
	return rows, nil
}

func (b *Bench) say(format string, args ...any) {
	fmt.Fprintf(b.opts.Progress, format+"\n", args...)
}

// Cheap password hashing, the least that the configuration allows: logins that
// only prepare a measurement should not take long.
const (
	cheapKiB  = 1024
	cheapTime = 1
)

var cheapHashing = []string{fmt.Sprintf("argon2_kib=%d", cheapKiB), fmt.Sprintf("argon2_time=%d", cheapTime)}

// lab is a host and a floor that says what this host says.
type lab struct {
	host, floor *process
	dir         string // the host's
	script      *Script
	account     raw.Account
	chain, key  string // the host's certificate
	scriptFile  string
}

// hostPassword is what the administrator of a host gets.
const hostPassword = "Measured-twice1"

// hostLab starts a host alone.
func (b *Bench) hostLab(ctx context.Context, mode Mode, set ...string) (*lab, error) {
	dir, err := os.MkdirTemp(b.dir, "host-")
	if err != nil {
		return nil, err
	}
	if mode == TLS {
		set = append(set, "tls_on_loopback=true")
	}
	l := &lab{dir: dir, scriptFile: filepath.Join(dir, "script.json")}
	if l.host, err = b.start(ctx, Role{Kind: RoleHost, Dir: dir, Set: set}); err != nil {
		return nil, err
	}
	if l.host.user == "" || l.host.once == "" {
		return nil, errors.New("the host has not made its first administrator")
	}
	l.account = raw.Account{Name: l.host.user, Password: hostPassword}
	if err := l.takeAccount(ctx); err != nil {
		return nil, err
	}
	return l, l.findCertificate(dir)
}

// lab starts both.
func (b *Bench) lab(ctx context.Context, mode Mode, set ...string) (*lab, error) {
	l, err := b.hostLab(ctx, mode, set...)
	if err != nil {
		return nil, err
	}
	if l.script, err = recordScript(ctx, l.host.addr, l.account); err != nil {
		return nil, fmt.Errorf("record what the host says: %w", err)
	}
	text, err := json.Marshal(l.script)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(l.scriptFile, text, 0o600); err != nil {
		return nil, err
	}
	role := Role{Kind: RoleFloor, Script: l.scriptFile}
	if mode == TLS {
		role.Chain, role.Key = l.chain, l.key
	}
	l.floor, err = b.start(ctx, role)
	return l, err
}

// takeAccount gives the administrator a password that stays.
func (l *lab) takeAccount(ctx context.Context) error {
	p, err := raw.Dial(ctx, l.host.addr)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.FirstLogin(l.account, l.host.once); err != nil {
		return fmt.Errorf("first login: %w", err)
	}
	return nil
}

// findCertificate finds the files that the host has made.
func (l *lab) findCertificate(dir string) error {
	dirs, err := conf.Locate(dir, func(string) string { return "" }, 0, "")
	if err != nil {
		return err
	}
	c := conf.Defaults(dirs)
	l.chain, l.key = c.TLSCertChain[0], c.TLSPrivKey
	return nil
}

// servers are what is compared.
func (l *lab) servers() []*process { return []*process{l.host, l.floor} }

// turns is the order of a round: each begins every second one, so that a
// machine that becomes busier treats both alike.
func (l *lab) turns(round int) []*process {
	if round%2 == 1 {
		return []*process{l.floor, l.host}
	}
	return l.servers()
}

// join returns a client that is logged in.
func (l *lab) join(ctx context.Context, addr string) (*raw.Client, error) {
	p, err := raw.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	if _, err := p.Login(l.account, l.script.ListFrames); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}
