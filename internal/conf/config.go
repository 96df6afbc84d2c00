package conf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"mrci.dev/mrci/wire"
)

// FileName is the name of the configuration file in its directory.
const FileName = "conf.json"

// Driver is a database engine.
type Driver string

// Embedded is the store inside the host's process; the original's name for it
// is QSQLITE.
const Embedded Driver = "sqlite"

// The values of PasswordRule.
const (
	PasswordClasses = "classes" // four classes of characters (state 2.5)
	PasswordLength  = "length"  // 12 characters and more
)

// The values of LogFormat.
const (
	LogText = "text"
	LogJSON = "json"
)

// The values of SMTPTLS.
const (
	SMTPStartTLS = "starttls" // clear at first, then STARTTLS is demanded
	SMTPImplicit = "tls"      // TLS from the first byte
	SMTPClear    = "none"     // no TLS at all
)

// Config is everything that conf.json can say. Field by field it is what the
// key of the same name means (state 4); paths are absolute.
type Config struct {
	// Dirs are the directories that the defaults were made for. Relative paths
	// count from Dirs.Config, where conf.json stands.
	Dirs Dirs

	// Listening and TLS.
	ListeningAddr string // an IP address or a host name
	ListeningPort int    // 0: any free port
	TLSOnLoopback bool
	TLSMin        uint16   // as in crypto/tls
	TLSNames      []string // host names and IP addresses
	TLSCertChain  []string // PEM files in order, leaf first
	TLSPrivKey    string   // PEM file

	// Limits.
	MaxSessions          int
	LimitLoopback        bool
	HeaderTimeout        time.Duration
	TLSTimeout           time.Duration
	WriteTimeout         time.Duration // without one byte accepted
	SendQueueBytes       int           // per session
	PaceBytes            int           // per session
	MaxInstances         int           // per session
	PreLoginFrameBytes   int
	CastRate             int           // per session and second; 0: no limit
	CastBytes            int           // per session and second; 0, and wire.MaxPayload, which is the default: no limit
	PromptTimeout        time.Duration // 0: for ever
	HalfOpenPerAddr      int
	FailuresPerAddr      int // per hour
	RegistrationsPerAddr int // per hour
	MailsPerAccount      int // per hour
	P2PRequestsPerMin    int // per session

	// Accounts.
	AutoLockLimit      int
	InitialRank        wire.Rank
	EnablePublicReg    bool
	EnableEmailVerify  bool
	EnablePwReset      bool
	FirstAdmin         bool
	PasswordRule       string // PasswordClasses or PasswordLength
	AskCurrentPassword bool
	VerifiedLoginOnly  bool
	MailUnverified     bool
	Argon2Time         int // passes
	Argon2KiB          int // memory of one hash
	Argon2Parallel     int // hashes at once

	// Channels.
	MaxSubChannels          int
	AllChannelsActiveUpdate bool

	// Files.
	FSRoots        Roots
	FSQuotaBytes   int64 // per user; 0: no limit
	FSSync         bool
	FSFileMask     fs.FileMode
	FSMaxTransfers int // at once per user

	// Database.
	DBDriver   Driver
	DBHostName string // the file of the embedded store
	DBUserName string
	DBPassword Secret

	// Mail.
	MailClientCmd       string // empty: none
	ResetPwMailSubject  string
	EmailVerifySubject  string
	ResetPwMailTemplate string // UTF-8 text file
	EmailVerifyTemplate string // UTF-8 text file
	SMTPHost            string // empty: none
	SMTPPort            int
	SMTPUser            string
	SMTPPassword        Secret
	SMTPFrom            string
	SMTPTLS             string // SMTPStartTLS, SMTPImplicit or SMTPClear

	// Operation.
	StopTimeout    time.Duration
	LogFormat      string // LogText or LogJSON
	LogLevel       slog.Level
	LogRetention   time.Duration // 0: for ever
	AuditRetention time.Duration // 0: for ever
	MetricsAddr    string        // ADDR:PORT on loopback; empty: none
}

// Roots says below which directory the file commands of an account act. An
// entry for the user name goes before one for the rank; an account with neither
// has what files 1.1 gives without configuration. Names are as typed; the file
// has none that differ only in case.
type Roots struct {
	ByRank map[wire.Rank]string
	ByUser map[string]string
}

// Defaults returns the configuration of a host whose file says nothing.
func Defaults(dirs Dirs) Config {
	c := Config{Dirs: dirs}
	for i := range entries {
		entries[i].reset(&c)
	}
	return c
}

// ListenAddr returns address and port in the form that net.Listen takes.
func (c *Config) ListenAddr() string {
	return net.JoinHostPort(c.ListeningAddr, strconv.Itoa(c.ListeningPort))
}

// OwnCertificate reports whether both TLS paths are the defaults: only then may
// the host make certificate and key itself (state 8).
func (c *Config) OwnCertificate() bool {
	return slices.Equal(c.TLSCertChain, []string{c.Dirs.certChain()}) && c.TLSPrivKey == c.Dirs.privKey()
}

// Set changes keys by assignments of the form KEY=VALUE. Text stands without
// quotes, whole numbers and booleans as in JSON, lists with commas or as JSON,
// objects as JSON; relative paths count from the directory of conf.json. All
// assignments are applied together: after an error c is as it was.
func (c *Config) Set(assignments ...string) error {
	next := *c
	for _, a := range assignments {
		if err := next.assign(a); err != nil {
			return err
		}
	}
	if err := next.check(); err != nil {
		return err
	}
	*c = next
	return nil
}

// assign applies one assignment without looking at the other keys.
func (c *Config) assign(assignment string) error {
	name, text, found := strings.Cut(assignment, "=")
	if !found {
		// What follows the name may be a password that was meant as its value.
		end := strings.IndexFunc(name, func(r rune) bool { return !isKeyRune(r) })
		if end >= 0 {
			name = name[:end]
		}
		return fmt.Errorf("assignment %s: want KEY=VALUE", quote(name))
	}
	e, err := find(strings.TrimSpace(name))
	if err != nil {
		return err
	}
	return e.assign(c, text)
}

func isKeyRune(r rune) bool {
	return r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

// check finds the first fault that only several keys together show.
func (c *Config) check() error {
	for _, rule := range together {
		if err := rule.check(c); err != nil {
			return err
		}
	}
	return nil
}

// together are the rules on several keys. The first key of a rule is the one
// that its error is about.
var together = []struct {
	keys  []string
	check func(c *Config) error
}{
	{[]string{"pace_bytes", "send_queue_bytes"}, func(c *Config) error {
		if c.PaceBytes > c.SendQueueBytes {
			return fmt.Errorf("pace_bytes: %d is not valid: want at most send_queue_bytes, which is %d", c.PaceBytes, c.SendQueueBytes)
		}
		return nil
	}},
	{[]string{"smtp_from", "smtp_host"}, func(c *Config) error {
		if c.SMTPHost != "" && c.SMTPFrom == "" {
			return errors.New("smtp_from: \"\" is not valid: want the sender's e-mail address, because smtp_host is set")
		}
		return nil
	}},
}

// Reloaded returns what a running host uses after its configuration has been
// read again as next, and the names of the keys whose change waits for the next
// start: those keep the values of c, and so do the directories. What stood
// above the file when the host was started, such as --set, must stand above
// next already. Neither c nor next is changed.
func (c *Config) Reloaded(next Config) (applied Config, waiting []string) {
	applied = next
	applied.Dirs = c.Dirs
	for i := range entries {
		if e := &entries[i]; e.atStart && !e.same(c, &next) {
			e.take(&applied, c)
			waiting = append(waiting, e.name)
		}
	}
	return applied, waiting
}

// Key is one key of the configuration, for documents and for showing it.
type Key struct {
	Name    string
	Value   any    // what JSON would hold; a Secret where Secret is set
	Default any    // likewise, for the directories of this configuration
	Preset  string // the default in words, the same on every machine
	Want    string // the values that are allowed, in words
	Doc     string // what the key does
	Why     string // the reason for the default
	Secret  bool   // the value is for nobody's eyes
	AtStart bool   // a change takes effect at the next start, not on reload
	Changed bool   // the value is not the default
}

// Keys returns every key in the order of the documents.
func (c *Config) Keys() []Key {
	defaults := Defaults(c.Dirs)
	keys := make([]Key, len(entries))
	for i := range entries {
		keys[i] = entries[i].key(c, &defaults)
	}
	return keys
}

// Key returns the key of that name, or an error that names the nearest one.
func (c *Config) Key(name string) (Key, error) {
	e, err := find(name)
	if err != nil {
		return Key{}, err
	}
	defaults := Defaults(c.Dirs)
	return e.key(c, &defaults), nil
}

func (e *entry) key(c, defaults *Config) Key {
	k := Key{
		Name: e.name, Value: e.show(c, ""), Default: e.show(defaults, ""), Preset: e.preset,
		Want: e.want, Doc: e.doc, Why: e.why, Secret: e.secret, AtStart: e.atStart,
		Changed: !e.same(c, defaults),
	}
	if k.Preset == "" {
		k.Preset = render(k.Default)
	}
	return k
}

// String returns what differs from the defaults, as KEY=VALUE, with secrets
// hidden.
func (c Config) String() string {
	var b strings.Builder
	for _, k := range c.Keys() {
		if k.Changed {
			if b.Len() > 0 {
				b.WriteByte(' ')
			}
			fmt.Fprintf(&b, "%s=%s", k.Name, render(k.Value))
		}
	}
	return b.String()
}

// LogValue makes a log line show what differs from the defaults, with secrets
// hidden.
func (c Config) LogValue() slog.Value {
	var attrs []slog.Attr
	for _, k := range c.Keys() {
		if k.Changed {
			attrs = append(attrs, slog.Any(k.Name, k.Value))
		}
	}
	return slog.GroupValue(attrs...)
}

// hidden stands for a secret wherever it would be shown.
const hidden = "[hidden]"

// Secret is a text that printing, logging and encoding hide. The conversion
// string(s) is the only way to see it.
type Secret string

// String returns a fixed text, or "" when there is no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// Format hides the secret from every verb of package fmt.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue hides the secret from package slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText hides the secret from encoders such as JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
