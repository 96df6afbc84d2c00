package backup

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mrci.dev/mrci/internal/conf"
)

// Format is the number of the archives that this program writes, and the
// highest that it reads.
const Format = 1

// Names of members.
const (
	manifestName = "manifest.json"
	databaseName = "data.db"
	filesName    = "files" // directory of the users' files (files 1.1)
)

// Bounds of what is read.
const (
	maxManifest = 1 << 20
	maxSmall    = 1 << 20 // a member other than the database: what conf takes
	maxBytes    = 1 << 60 // sums of a few stay in range
	maxName     = 4096    // of a user's file; what systems take for a whole path
	maxDepth    = 100     // directories in directories; each costs a descriptor
	maxFiles    = 1 << 40
	// What a member takes in a tar beside its content: its header, the record
	// of a long name with its own header, and padding.
	entryRoom = 3*512 + 2*maxName
)

// Manifest says what is in an archive.
type Manifest struct {
	Format  int       `json:"format"`
	Program string    `json:"program"` // version of the mrci that made it
	Created time.Time `json:"created"` // UTC
	Schema  int64     `json:"schema"`  // version of the database's tables
	Members []Member  `json:"members"`
	Files   *Files    `json:"files,omitempty"`
	Absent  []Absent  `json:"absent,omitempty"`
}

// Member is one file of the archive.
type Member struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	Mode   string `json:"mode"` // octal, such as 0600
	SHA256 string `json:"sha256"`
}

// Files are the users' files together, which may be too many to name.
type Files struct {
	Entries int64  `json:"entries"` // files and directories
	Size    int64  `json:"size"`    // of all files
	SHA256  string `json:"sha256"`  // of the line of each entry, see fileEntry
}

// Absent is a file that the configuration names and the archive does not have.
type Absent struct {
	Key  string `json:"key"`
	Path string `json:"path"`
}

// small is a member beside the database.
type small struct {
	name    string
	private bool // for the host's account alone
	// path returns where the host keeps it.
	path func(conf.Dirs) string
	// setting is the key that can name another place, and what it names.
	setting string
	named   func(*conf.Config) []string
}

// smalls are the members beside the database, in the order of the archive.
var smalls = []small{
	{name: conf.FileName, private: true, path: conf.Dirs.File},
	{name: "tls_chain.pem",
		path:    func(d conf.Dirs) string { c := conf.Defaults(d); return c.TLSCertChain[0] },
		setting: "tls_cert_chain", named: func(c *conf.Config) []string { return c.TLSCertChain }},
	{name: "tls_priv.pem", private: true,
		path:    func(d conf.Dirs) string { c := conf.Defaults(d); return c.TLSPrivKey },
		setting: "tls_priv_key", named: func(c *conf.Config) []string { return []string{c.TLSPrivKey} }},
	{name: "res_pw_template.txt",
		path:    func(d conf.Dirs) string { c := conf.Defaults(d); return c.ResetPwMailTemplate },
		setting: "reset_pw_mail_template", named: func(c *conf.Config) []string { return []string{c.ResetPwMailTemplate} }},
	{name: "email_verify_template.txt",
		path:    func(d conf.Dirs) string { c := conf.Defaults(d); return c.EmailVerifyTemplate },
		setting: "email_verify_template", named: func(c *conf.Config) []string { return []string{c.EmailVerifyTemplate} }},
}

// elsewhere returns the paths that the configuration names in place of the
// host's own one.
func (s *small) elsewhere(settings *conf.Config, dirs conf.Dirs) []string {
	if s.named == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.named(settings)), func(path string) bool { return path == s.path(dirs) })
}

// databasePath is where the host keeps the database unless told otherwise.
func databasePath(dirs conf.Dirs) string {
	c := conf.Defaults(dirs)
	return c.DBHostName
}

func filesPath(dirs conf.Dirs) string { return filepath.Join(dirs.Data, filesName) }

// size is the sum of what the archive holds.
func (m *Manifest) size() int64 {
	var sum int64
	for _, member := range m.Members {
		sum += member.Size
	}
	if m.Files != nil {
		sum += m.Files.Size
	}
	return sum
}

// room is the most that the tar takes behind the manifest.
func (m *Manifest) room() int64 {
	entries := int64(len(m.Members)) + 1
	if m.Files != nil {
		entries += m.Files.Entries
	}
	return m.size() + entries*entryRoom + endRoom
}

// encode returns the text of the manifest.
func (m *Manifest) encode() ([]byte, error) {
	text, err := json.MarshalIndent(m, "", "  ")
	if err == nil && len(text) >= maxManifest {
		err = errors.New("the manifest becomes too large")
	}
	return append(text, '\n'), err
}

// parseManifest takes the text of a manifest whose numbers can be trusted to
// be in range afterwards, though not to be true.
func parseManifest(text []byte) (*Manifest, error) {
	var head struct {
		Format  int    `json:"format"`
		Program string `json:"program"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, fmt.Errorf("its manifest cannot be read: %v", err)
	}
	if head.Format > Format {
		return nil, fmt.Errorf("it has format %d and this mrci reads up to %d: restore it with mrci %s or newer", head.Format, Format, printable(head.Program))
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	m := new(Manifest)
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("its manifest cannot be read: %v", err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("its manifest is not valid: %w", err)
	}
	return m, nil
}

func (m *Manifest) check() error {
	if m.Format != Format {
		return fmt.Errorf("format %d", m.Format)
	}
	if m.Schema < 1 || m.Created.IsZero() {
		return errors.New("a value is missing")
	}
	last := -1
	for _, member := range m.Members {
		limit, at := int64(maxBytes), 0
		if member.Name != databaseName {
			limit, at = maxSmall, 1+slices.IndexFunc(smalls, func(s small) bool { return s.name == member.Name })
			if at == 0 {
				return fmt.Errorf("no member can have the name %s", printable(member.Name))
			}
		}
		if at <= last {
			return fmt.Errorf("member %s stands twice or in the wrong place", member.Name)
		}
		last = at
		if member.Size < 0 || member.Size > limit {
			return fmt.Errorf("member %s cannot have %d bytes", member.Name, member.Size)
		}
		if _, err := parseMode(member.Mode); err != nil || !isSum(member.SHA256) {
			return fmt.Errorf("mode or SHA-256 of member %s", member.Name)
		}
	}
	if len(m.Members) < 2 || m.Members[0].Name != databaseName || m.Members[1].Name != conf.FileName {
		return fmt.Errorf("%s or %s is missing", databaseName, conf.FileName)
	}
	if f := m.Files; f != nil && (f.Entries < 0 || f.Entries > maxFiles || f.Size < 0 || f.Size > maxBytes || !isSum(f.SHA256)) {
		return errors.New("the sums of the users' files")
	}
	return nil
}

// parseMode takes the permissions of a file.
func parseMode(text string) (fs.FileMode, error) {
	var n fs.FileMode
	if len(text) != 4 || text[0] != '0' {
		return 0, errors.New("want four octal digits")
	}
	for _, digit := range []byte(text) {
		if digit < '0' || digit > '7' {
			return 0, errors.New("want four octal digits")
		}
		n = n<<3 | fs.FileMode(digit-'0')
	}
	return n, nil
}

func formatMode(mode fs.FileMode) string { return fmt.Sprintf("%04o", uint32(mode.Perm())) }

func isSum(text string) bool {
	sum, err := hex.DecodeString(text)
	return err == nil && len(sum) == 32 && strings.ToLower(text) == text
}

// printable makes a text of an archive fit for one line of a terminal.
func printable(text string) string {
	if len(text) > 100 {
		text = text[:100] + "..."
	}
	return fmt.Sprintf("%q", text)
}

// fileEntry is a user's file or directory. Entries stand in the archive in the
// order of compareNames.
type fileEntry struct {
	name     string // below the directory of all users' files, with slashes
	dir      bool
	mode     fs.FileMode
	modified int64 // seconds since 1970; 0 of a directory
	size     int64
	sum      []byte // SHA-256; nil of a directory
}

// line is what the sum over all entries counts of this one.
func (e *fileEntry) line() []byte {
	kind := 'f'
	if e.dir {
		kind = 'd'
	}
	return fmt.Appendf(nil, "%c %04o %d %d %x %s\x00", kind, uint32(e.mode), e.modified, e.size, e.sum, e.name)
}

// compareNames orders names as a walk finds them: a directory, what is in it,
// and then what stands beside it.
func compareNames(a, b string) int {
	for a != "" && b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, "/")
		y, b, _ = strings.Cut(b, "/")
		if c := cmp.Compare(x, y); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// checkName takes the name of a user's file.
func checkName(name string) error {
	if len(name) > maxName || strings.Count(name, "/") >= maxDepth || strings.ContainsRune(name, 0) ||
		strings.Contains(name, "//") || strings.HasSuffix(name, "/") || !filepath.IsLocal(filepath.FromSlash(name)) ||
		filepath.Separator != '/' && strings.ContainsAny(name, `\:`) {
		return fmt.Errorf("a file cannot have the name %s", printable(name))
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "." || part == ".." {
			return fmt.Errorf("a file cannot have the name %s", printable(name))
		}
	}
	return nil
}
