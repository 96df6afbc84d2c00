package conf

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"mrci.dev/mrci/wire"
)

// entry is one key of the file; everything that is known about it stands here.
type entry struct {
	name string
	value
	preset  string // the default in words, where it depends on the machine
	doc     string // what the key does
	why     string // the reason for the default
	main    bool   // a new file shows it
	atStart bool   // a change takes effect at the next start
}

// Bounds that several keys share.
const (
	maxCount   = math.MaxInt32 // no opinion, but an int on every machine
	maxPayload = 1<<24 - 1     // payload of one frame (protocol 2)
	maxBuffer  = 1 << 30       // more is a mistyped number, and fits an int everywhere
	million    = 1_000_000
	hour       = 3600 // seconds
	week       = 7 * 24 * hour
)

// entries is the table of all keys, in the order of the documents (state 4).
var entries = []entry{
	{
		name: "listening_addr", main: true, atStart: true,
		value: bind(func(c *Config) *string { return &c.ListeningAddr },
			textOf[string]("an IP address or a host name", isHost), fixed("0.0.0.0")),
		doc: "Address on which the host listens: an IP address, :: for all of both families, or a host name.",
		why: "what existing installations have; a host is for other machines",
	},
	{
		name: "listening_port", main: true, atStart: true,
		value: bind(func(c *Config) *int { return &c.ListeningPort },
			whole[int](0, math.MaxUint16), fixed(35516)),
		doc: "TCP port on which the host listens; 0 takes any free port.",
		why: "the port that existing clients suggest",
	},
	{
		name: "max_sessions", main: true,
		value: bind(func(c *Config) *int { return &c.MaxSessions },
			whole[int](1, maxCount), fixed(10000)),
		doc: "Sessions at once; one more is kept for loopback.",
		why: "what two cores and a few hundred MiB hold",
	},
	{
		name: "auto_lock_limit", main: true,
		value: bind(func(c *Config) *int { return &c.AutoLockLimit },
			whole[int](1, maxCount), fixed(20)),
		doc: "Wrong passwords after which an account is locked.",
		why: "guessing stays hopeless and people who mistype are not shut out",
	},
	{
		name: "max_sub_channels", main: true,
		value: bind(func(c *Config) *int { return &c.MaxSubChannels },
			whole[int](1, math.MaxUint8), fixed(50)),
		doc: "Sub-channels that one channel can have.",
		why: "more than people keep apart; the protocol has 256 ids",
	},
	{
		name: "initial_rank", main: true,
		value: bind(func(c *Config) *wire.Rank { return &c.InitialRank },
			whole[wire.Rank](1, math.MaxUint32), fixed(wire.Rank(2))),
		doc: "Rank of a new account; 1 is the most powerful.",
		why: "the most powerful rank that does not administer the host",
	},
	{
		name: "enable_public_reg", main: true,
		value: bind(func(c *Config) *bool { return &c.EnablePublicReg }, boolean, fixed(false)),
		doc:   "Lets clients that are not logged in create an account.",
		why:   "strangers get in only when somebody decided so",
	},
	{
		name: "enable_email_verify", main: true,
		value: bind(func(c *Config) *bool { return &c.EnableEmailVerify }, boolean, fixed(true)),
		doc:   "Lets users verify their e-mail address by a code.",
		why:   "addresses that nobody proved are worth little",
	},
	{
		name: "enable_pw_reset", main: true,
		value: bind(func(c *Config) *bool { return &c.EnablePwReset }, boolean, fixed(true)),
		doc:   "Lets users who forgot their password ask for a recovery password by mail.",
		why:   "saves an administrator's time, and does nothing until mail is set up",
	},
	{
		name: "all_channels_active_update", main: true,
		value: bind(func(c *Config) *bool { return &c.AllChannelsActiveUpdate }, boolean, fixed(false)),
		doc:   "Makes every sub-channel show the presence of its members, whatever its own flag says.",
		why:   "presence is for the owners of a channel to decide",
	},
	{
		name: "db_driver", main: true, atStart: true,
		value: bind(func(c *Config) *Driver { return &c.DBDriver }, driver, fixed(Embedded)),
		doc:   "Database engine, by the original's name of its driver.",
		why:   "needs nothing else installed",
	},
	{
		name: "db_host_name", main: true, atStart: true, preset: "data.db in the data directory",
		value: bind(func(c *Config) *string { return &c.DBHostName }, path,
			func(d Dirs) string { return filepath.Join(d.Data, "data.db") }),
		doc: "File of the embedded store.",
		why: "data stands apart from what people edit",
	},
	{
		name: "db_user_name", atStart: true,
		value: bind(func(c *Config) *string { return &c.DBUserName },
			anyText("a text without control characters"), fixed("")),
		doc: "User name at a database server; the embedded store has none.",
		why: "not used by the embedded store",
	},
	{
		name: "db_password", atStart: true,
		value: bind(func(c *Config) *Secret { return &c.DBPassword },
			secretText("a text without control characters"), fixed(Secret(""))),
		doc: "Password at a database server; the embedded store has none.",
		why: "not used by the embedded store; anything guessable would be worse than nothing",
	},
	{
		name: "mail_client_cmd", main: true,
		value: bind(func(c *Config) *string { return &c.MailClientCmd },
			textOf[string]("a command line with %subject% and %target_email%, or nothing", orNone(isMailCommand)), fixed("")),
		doc: "Command that sends a mail when smtp_host is not set; it gets the body for %message_body% or on standard input.",
		why: "no command is on every machine, and sending by SMTP needs none",
	},
	{
		name: "reset_pw_mail_subject", main: true,
		value: bind(func(c *Config) *string { return &c.ResetPwMailSubject },
			textOf[string]("one line of 1 to 200 characters", isSubject), fixed("MRCI password reset")),
		doc: "Subject of the mail with a recovery password.",
		why: "says what was asked for and by which program",
	},
	{
		name: "email_verify_subject", main: true,
		value: bind(func(c *Config) *string { return &c.EmailVerifySubject },
			textOf[string]("one line of 1 to 200 characters", isSubject), fixed("MRCI e-mail verification")),
		doc: "Subject of the mail with a verification code.",
		why: "says what was asked for and by which program",
	},
	{
		name: "reset_pw_mail_template", main: true, preset: "res_pw_template.txt beside conf.json",
		value: bind(func(c *Config) *string { return &c.ResetPwMailTemplate }, path,
			func(d Dirs) string { return filepath.Join(d.Config, "res_pw_template.txt") }),
		doc: "Text of the mail with a recovery password; has %user_name%, %date% and %otp%.",
		why: "people edit it together with the configuration",
	},
	{
		name: "email_verify_template", main: true, preset: "email_verify_template.txt beside conf.json",
		value: bind(func(c *Config) *string { return &c.EmailVerifyTemplate }, path,
			func(d Dirs) string { return filepath.Join(d.Config, "email_verify_template.txt") }),
		doc: "Text of the mail with a verification code; has %user_name%, %date% and %otp%.",
		why: "people edit it together with the configuration",
	},
	{
		name: "tls_cert_chain", main: true, preset: "tls_chain.pem beside conf.json",
		value: bind(func(c *Config) *[]string { return &c.TLSCertChain }, paths,
			func(d Dirs) []string { return []string{d.certChain()} }),
		doc: "Certificate files in PEM, leaf first, with \":\" between them; made by the host when this and tls_priv_key have their defaults.",
		why: "the host makes it there",
	},
	{
		name: "tls_priv_key", main: true, preset: "tls_priv.pem beside conf.json",
		value: bind(func(c *Config) *string { return &c.TLSPrivKey }, path, Dirs.privKey),
		doc:   "Private key file in PEM, without a password.",
		why:   "the host makes it there",
	},
	{
		name:  "tls_on_loopback",
		value: bind(func(c *Config) *bool { return &c.TLSOnLoopback }, boolean, fixed(false)),
		doc:   "Demands TLS of clients on this machine too.",
		why:   "the protocol's clients expect clear text on loopback, which nobody else can read",
	},
	{
		name:  "tls_min",
		value: bind(func(c *Config) *uint16 { return &c.TLSMin }, tlsVersion, fixed(uint16(tls.VersionTLS12))),
		doc:   "Lowest TLS version that is spoken.",
		why:   "existing clients speak it, and it is still sound",
	},
	{
		name:  "tls_names",
		value: bind(func(c *Config) *[]string { return &c.TLSNames }, certNames, fixed[[]string](nil)),
		doc:   "Further host names and IP addresses in a certificate that the host makes.",
		why:   "the machine's own addresses and name are in it anyway",
	},
	{
		name:  "limit_loopback",
		value: bind(func(c *Config) *bool { return &c.LimitLoopback }, boolean, fixed(false)),
		doc:   "Applies the limits per address to loopback too.",
		why:   "an administrator on the machine is never shut out",
	},
	{
		name: "header_timeout_s",
		value: bind(func(c *Config) *time.Duration { return &c.HeaderTimeout },
			seconds(1, hour), fixed(10*time.Second)),
		doc: "Time that a client has to send its header.",
		why: "clients send it at once; the rest is a slow network",
	},
	{
		name: "tls_timeout_s",
		value: bind(func(c *Config) *time.Duration { return &c.TLSTimeout },
			seconds(1, hour), fixed(10*time.Second)),
		doc: "Time that a client has for the TLS handshake.",
		why: "two round trips; the rest is a slow network or machine",
	},
	{
		name: "write_timeout_s",
		value: bind(func(c *Config) *time.Duration { return &c.WriteTimeout },
			seconds(1, 24*hour), fixed(60*time.Second)),
		doc: "Time without one byte accepted after which a client that has data to take is gone.",
		why: "outlives a change of network, and frees the queue of a dead client soon",
	},
	{
		name: "send_queue_bytes",
		value: bind(func(c *Config) *int { return &c.SendQueueBytes },
			whole[int](1<<20, maxBuffer), fixed(64<<20)),
		doc: "Bytes that may wait for one session before it ends as too slow; one cast may have half of that.",
		why: "four frames of the largest size",
	},
	{
		name: "pace_bytes",
		value: bind(func(c *Config) *int { return &c.PaceBytes },
			whole[int](4096, maxBuffer), fixed(1<<20)),
		doc: "Bytes waiting for a session above which those who send to it are slowed down; at most send_queue_bytes.",
		why: "keeps a fast network busy and the queue far from its end",
	},
	{
		name: "max_instances",
		value: bind(func(c *Config) *int { return &c.MaxInstances },
			whole[int](1, math.MaxUint16), fixed(256)),
		doc: "Commands running at once in one session; 4 before login.",
		why: "more than a person or a script runs, few enough for memory",
	},
	{
		name: "pre_login_frame_bytes",
		value: bind(func(c *Config) *int { return &c.PreLoginFrameBytes },
			whole[int](1024, maxPayload), fixed(16<<10)),
		doc: "Largest payload of a frame before login.",
		why: "the longest command line of a registration is far smaller; keeps strangers cheap",
	},
	{
		name: "cast_rate",
		value: bind(func(c *Config) *int { return &c.CastRate },
			whole[int](0, maxCount), fixed(0)),
		doc: "Casts of one session in a second; 0 is no limit.",
		why: "slow receivers already slow their senders down",
	},
	{
		name: "cast_bytes",
		value: bind(func(c *Config) *int { return &c.CastBytes },
			whole[int](0, maxBuffer), fixed(maxPayload)),
		doc: "Bytes of casts of one session in a second, and the most that one cast may have; 0, and the default, are no limit.",
		why: "the largest frame; slow receivers already slow their senders down",
	},
	{
		name: "prompt_timeout_s",
		value: bind(func(c *Config) *time.Duration { return &c.PromptTimeout },
			seconds(0, week), fixed(time.Duration(0))),
		doc: "Time after which a prompt without an answer ends its command; 0 is for ever.",
		why: "existing clients let people take their time",
	},
	{
		name: "half_open_per_addr",
		value: bind(func(c *Config) *int { return &c.HalfOpenPerAddr },
			whole[int](1, million), fixed(64)),
		doc: "Connections of one address that are not through header and handshake yet.",
		why: "an office behind one address comes back at once after a restart",
	},
	{
		name: "failures_per_addr",
		value: bind(func(c *Config) *int { return &c.FailuresPerAddr },
			whole[int](1, million), fixed(60)),
		doc: "Failed logins of one address in an hour, over all accounts.",
		why: "many people behind one address may mistype; guessing gets nowhere",
	},
	{
		name: "registrations_per_addr",
		value: bind(func(c *Config) *int { return &c.RegistrationsPerAddr },
			whole[int](1, million), fixed(10)),
		doc: "Accounts that one address may create in an hour.",
		why: "a class registers together; a script does not get far",
	},
	{
		name: "mails_per_account",
		value: bind(func(c *Config) *int { return &c.MailsPerAccount },
			whole[int](1, million), fixed(5)),
		doc: "Mails to one account in an hour.",
		why: "enough for lost mails, too few to annoy somebody",
	},
	{
		name: "argon2_time",
		value: bind(func(c *Config) *int { return &c.Argon2Time },
			whole[int](1, 64), fixed(2)),
		doc: "Passes of Argon2id over its memory for one password hash.",
		why: "the usual advice for 19 MiB",
	},
	{
		name: "argon2_kib",
		value: bind(func(c *Config) *int { return &c.Argon2KiB },
			whole[int](1024, 1<<20), fixed(19456)),
		doc: "Memory of one password hash in KiB.",
		why: "about 30 ms on an ordinary core: hard on guessers, not on logins",
	},
	{
		name: "argon2_parallel", atStart: true, preset: "the number of cores less one, at least 1",
		value: bind(func(c *Config) *int { return &c.Argon2Parallel },
			whole[int](1, 1024), func(Dirs) int { return min(max(runtime.GOMAXPROCS(0)-1, 1), 1024) }),
		doc: "Password hashes computed at once; further logins wait.",
		why: "a hash keeps its core busy for some 20 ms: one core stays free for everybody who is logged in already",
	},
	{
		name: "log_retention_days",
		value: bind(func(c *Config) *time.Duration { return &c.LogRetention },
			days(0, 36500), fixed(90*24*time.Hour)),
		doc: "Days that the log of logins and the activity log are kept; 0 is for ever.",
		why: "a quarter of a year answers most questions; addresses are personal data",
	},
	{
		name: "audit_retention_days",
		value: bind(func(c *Config) *time.Duration { return &c.AuditRetention },
			days(0, 36500), fixed(time.Duration(0))),
		doc: "Days that the audit log is kept; 0 is for ever.",
		why: "evidence goes only when somebody decided so",
	},
	{
		name: "first_admin", atStart: true,
		value: bind(func(c *Config) *bool { return &c.FirstAdmin }, boolean, fixed(true)),
		doc:   "Makes an administrator with a one-time password at start when there is no account at all.",
		why:   "a new host can be used within its first minute",
	},
	{
		name: "fs_roots", preset: "rank 1: everything; others: their own directory below the data directory",
		value: bind(func(c *Config) *Roots { return &c.FSRoots }, roots,
			func(Dirs) Roots { return Roots{ByRank: map[wire.Rank]string{}, ByUser: map[string]string{}} }),
		doc: "Directory below which file commands act, by rank or user name.",
		why: "administrators manage the machine; nobody else sees files that are not theirs",
	},
	{
		name: "fs_quota_bytes",
		value: bind(func(c *Config) *int64 { return &c.FSQuotaBytes },
			whole[int64](0, math.MaxInt64), fixed(int64(0))),
		doc: "Bytes that each user may keep in their own directory; 0 is no limit.",
		why: "only the administrator knows the disk",
	},
	{
		name:  "fs_sync",
		value: bind(func(c *Config) *bool { return &c.FSSync }, boolean, fixed(false)),
		doc:   "Writes an upload through to the disk before it gets its name.",
		why:   "uploads can be repeated, and this costs much of their speed",
	},
	{
		name:  "fs_file_mask",
		value: bind(func(c *Config) *fs.FileMode { return &c.FSFileMask }, mask, fixed(fs.FileMode(0o077))),
		doc:   "Permissions that new files and directories do not get, in octal.",
		why:   "what users upload is for no other account of the machine",
	},
	{
		name: "fs_max_transfers",
		value: bind(func(c *Config) *int { return &c.FSMaxTransfers },
			whole[int](1, 65535), fixed(8)),
		doc: "Uploads and downloads of one user at once.",
		why: "fills any network without taking the disk from others",
	},
	{
		name: "p2p_requests_per_min",
		value: bind(func(c *Config) *int { return &c.P2PRequestsPerMin },
			whole[int](1, million), fixed(30)),
		doc: "Requests for a peer-to-peer link that one session may make in a minute.",
		why: "each one disturbs somebody",
	},
	{
		name: "password_rule",
		value: bind(func(c *Config) *string { return &c.PasswordRule },
			words(PasswordClasses, PasswordLength), fixed(PasswordClasses)),
		doc: "Rule for new passwords: four classes of characters, or 12 characters and more of any class.",
		why: "what users of existing hosts know",
	},
	{
		name:  "ask_current_password",
		value: bind(func(c *Config) *bool { return &c.AskCurrentPassword }, boolean, fixed(false)),
		doc:   "Makes set_pw ask for the current password first.",
		why:   "scripts written for existing hosts do not expect the question",
	},
	{
		name:  "verified_login_only",
		value: bind(func(c *Config) *bool { return &c.VerifiedLoginOnly }, boolean, fixed(false)),
		doc:   "Refuses logins of accounts whose e-mail address is not verified, except at rank 1.",
		why:   "needs working mail",
	},
	{
		name:  "mail_unverified",
		value: bind(func(c *Config) *bool { return &c.MailUnverified }, boolean, fixed(false)),
		doc:   "Sends recovery passwords also to addresses that are not verified.",
		why:   "a mistyped address would hand the account to a stranger",
	},
	{
		name: "stop_timeout_s",
		value: bind(func(c *Config) *time.Duration { return &c.StopTimeout },
			seconds(1, hour), fixed(10*time.Second)),
		doc: "Time for running commands when the host stops; then they are killed.",
		why: "shorter than what service managers wait",
	},
	{
		name: "log_format",
		value: bind(func(c *Config) *string { return &c.LogFormat },
			words(LogText, LogJSON), fixed(LogText)),
		doc: "Form of the log lines on standard error.",
		why: "people read the first ones",
	},
	{
		name:  "log_level",
		value: bind(func(c *Config) *slog.Level { return &c.LogLevel }, logLevel, fixed(slog.LevelInfo)),
		doc:   "Least important lines that are logged; debug has one per frame, never its payload.",
		why:   "starts, logins and refusals without the traffic",
	},
	{
		name: "metrics_addr", atStart: true,
		value: bind(func(c *Config) *string { return &c.MetricsAddr },
			textOf[string]("ADDR:PORT with a loopback address, or nothing", orNone(isLoopbackPort)), fixed("")),
		doc: "Address and port of metrics and health checks.",
		why: "nothing listens that nobody asked for",
	},
	{
		name: "smtp_host",
		value: bind(func(c *Config) *string { return &c.SMTPHost },
			textOf[string]("a host name, an IP address or nothing", orNone(isHost)), fixed("")),
		doc: "Mail server that takes outgoing mail; needs smtp_from.",
		why: "only the administrator knows it",
	},
	{
		name: "smtp_port",
		value: bind(func(c *Config) *int { return &c.SMTPPort },
			whole[int](1, math.MaxUint16), fixed(587)),
		doc: "Port of the mail server.",
		why: "the port for submission with STARTTLS",
	},
	{
		name: "smtp_user",
		value: bind(func(c *Config) *string { return &c.SMTPUser },
			anyText("a text without control characters"), fixed("")),
		doc: "User name at the mail server; without it there is no login.",
		why: "only the administrator knows it",
	},
	{
		name: "smtp_password",
		value: bind(func(c *Config) *Secret { return &c.SMTPPassword },
			secretText("a text without control characters"), fixed(Secret(""))),
		doc: "Password at the mail server.",
		why: "only the administrator knows it",
	},
	{
		name: "smtp_from",
		value: bind(func(c *Config) *string { return &c.SMTPFrom },
			textOf[string]("an e-mail address or nothing", orNone(isMailAddress)), fixed("")),
		doc: "Sender of mails.",
		why: "only the administrator knows it",
	},
	{
		name: "smtp_tls",
		value: bind(func(c *Config) *string { return &c.SMTPTLS },
			words(SMTPStartTLS, SMTPImplicit, SMTPClear), fixed(SMTPStartTLS)),
		doc: "Encryption towards the mail server: after STARTTLS, from the first byte, or none.",
		why: "what servers offer on port 587; mails hold passwords",
	},
}

// find returns the entry of a key, or an error that names the nearest one.
func find(name string) (*entry, error) {
	var nearest *entry
	best := math.MaxInt
	for i := range entries {
		e := &entries[i]
		if e.name == name {
			return e, nil
		}
		if d := distance(normal(name), e.name); d < best {
			nearest, best = e, d
		}
	}
	return nil, fmt.Errorf("unknown key %s: the nearest known key is %s", quote(name), quote(nearest.name))
}

// normal takes away differences that only habit makes.
func normal(name string) string {
	if len(name) > 64 { // longer than any key: the rest only costs time
		name = name[:64]
	}
	return strings.ReplaceAll(strings.ToLower(name), "-", "_")
}

// distance counts the characters to insert, delete, replace or swap with their
// neighbour until a is b.
func distance(a, b string) int {
	previous, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], previous[j-2]+1)
			}
		}
		previous, row, next = row, next, previous
	}
	return row[len(b)]
}

// put checks a decoded value and stores it.
func (e *entry) put(c *Config, v any) error {
	err := e.read(c, v)
	switch {
	case err == nil:
		return nil
	case e.secret:
		return fmt.Errorf("%s: the value is not valid: want %s", e.name, e.want)
	case err == errInvalid:
		return fmt.Errorf("%s: %s is not valid: want %s", e.name, render(v), e.want)
	}
	return fmt.Errorf("%s: %w: want %s", e.name, err, e.want)
}

// assign checks the text of an assignment and stores its value.
func (e *entry) assign(c *Config, text string) error {
	if e.form == asJSON || e.form == asList && strings.HasPrefix(strings.TrimSpace(text), "[") {
		// What is no JSON is judged as a text, and refused as one.
		if v, faults := decodeValue([]byte(text)); len(faults) == 0 {
			return e.put(c, v)
		}
	}
	return e.put(c, text)
}
