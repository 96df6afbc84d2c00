package backup_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"mrci.dev/mrci/internal/backup"
)

// item is an entry of a tar that a test writes by hand.
type item struct {
	h    tar.Header
	text string
}

func file(name, text string) item {
	return item{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Format: tar.FormatPAX, ModTime: time.Unix(1, 0)}, text}
}

func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:])
}

// plain makes the tar of a manifest and items, whose sizes it fills in.
func plain(t testing.TB, manifest any, items []item) []byte {
	t.Helper()
	text, ok := manifest.(string)
	if !ok {
		b, err := json.Marshal(manifest)
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, i := range append([]item{file("manifest.json", text)}, items...) {
		if i.h.Typeflag == tar.TypeReg {
			i.h.Size = int64(len(i.text))
		}
		if err := w.WriteHeader(&i.h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, i.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zip(text []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(text) // into memory
	_ = w.Close()
	return b.Bytes()
}

// manifestOf announces these members, and these users' files as they are.
func manifestOf(items ...item) *backup.Manifest {
	m := &backup.Manifest{Format: 1, Program: "1.2.3", Created: time.Unix(1, 0).UTC(), Schema: 1}
	all := sha256.New()
	for _, i := range items {
		name, isFile := strings.CutPrefix(i.h.Name, "files/")
		if !isFile {
			m.Members = append(m.Members, backup.Member{Name: i.h.Name, Size: int64(len(i.text)), Mode: "0600", SHA256: sum(i.text)})
			continue
		}
		if m.Files == nil {
			m.Files = new(backup.Files)
		}
		m.Files.Entries++
		m.Files.Size += int64(len(i.text))
		content := sha256.Sum256([]byte(i.text))
		all.Write(backup.Line(name, 0o600, 1, int64(len(i.text)), content[:]))
	}
	if m.Files != nil {
		m.Files.SHA256 = hex.EncodeToString(all.Sum(nil))
	}
	return m
}

func TestHostileArchives(t *testing.T) {
	database, config := file("data.db", "database"), file("conf.json", "{}")
	base := []item{database, config}
	with := func(i item, change func(*tar.Header)) item {
		change(&i.h)
		return i
	}
	both := func(items ...item) (any, []item) {
		all := slices.Concat(base, items)
		return manifestOf(all...), all
	}
	changed := func(change func(*backup.Manifest)) any {
		m := manifestOf(base...)
		change(m)
		return m
	}
	m, items := both(file("files/a", "1"), file("files/b/c", "2"), file("files/b.txt", "3"))
	if _, got, err := backup.Contents(ctx, bytes.NewReader(zip(plain(t, m, items)))); err != nil || got["files/b/c"] != "2" {
		t.Fatalf("the pattern of these archives is refused: %v, %v", got, err)
	}

	type attack struct {
		name     string
		manifest any
		items    []item
		want     string
	}
	var attacks []attack
	add := func(name, want string, manifest any, items ...item) {
		attacks = append(attacks, attack{name, manifest, items, want})
	}
	bad := func(name string) {
		i := file("files/"+name, "x")
		m, items := both(i)
		add(fmt.Sprintf("file %.20q", name), "cannot have the name", m, items...)
	}
	for _, name := range []string{"../x", "/x", "//x", "a/../x", "a/./x", "a//x", ".", "..", "a/..", strings.Repeat("d/", backup.MaxDepth) + "x", strings.Repeat("x", backup.MaxName+1)} {
		bad(name)
	}
	if runtime.GOOS == "windows" {
		bad(`a\..\x`)
		bad("C:x")
	}
	for name, kind := range map[string]byte{"symbolic link": tar.TypeSymlink, "link": tar.TypeLink, "device": tar.TypeChar, "block device": tar.TypeBlock, "pipe": tar.TypeFifo} {
		i := item{tar.Header{Typeflag: kind, Name: "files/x", Mode: 0o600, Format: tar.FormatPAX, ModTime: time.Unix(1, 0)}, ""}
		if kind == tar.TypeSymlink || kind == tar.TypeLink {
			i.h.Linkname = "/etc/passwd"
		}
		m, items := both(i)
		add(name, "", m, items...)
		m, items = both(file("files/x", ""))
		items[2].h.Typeflag, items[2].h.Linkname = i.h.Typeflag, i.h.Linkname
		add(name+" for a file", "", m, items...)
		member := with(file("conf.json", ""), func(h *tar.Header) { h.Typeflag, h.Linkname = kind, i.h.Linkname })
		add(name+" for conf.json", "", manifestOf(base...), database, member)
	}
	m, items = both(file("files/x", "1"), file("files/x", "2"))
	add("file twice", "twice", m, items...)
	m, items = both(file("files/b", "1"), file("files/a", "2"))
	add("files not in order", "twice or in the wrong place", m, items...)
	m, items = both(file("files/x", "1"))
	add("file missing", "not what its manifest announces", m, items[:2]...)
	add("file too many", "holds more", m, append(items, file("files/y", ""))...)
	add("file not announced", "holds more", manifestOf(base...), items...)
	add("file larger", "holds more", m, append(slices.Clone(items[:2]), file("files/x", "12"))...)
	add("file other", "damaged", m, append(slices.Clone(items[:2]), file("files/x", "2"))...)
	add("file of another name", "damaged", m, append(slices.Clone(items[:2]), file("files/y", "1"))...)
	add("file of another mode", "damaged", m, append(slices.Clone(items[:2]), with(items[2], func(h *tar.Header) { h.Mode = 0o644 }))...)
	add("set-uid file", "not valid", m, append(slices.Clone(items[:2]), with(items[2], func(h *tar.Header) { h.Mode = 0o4755 }))...)
	add("file with an owner", "not one that mrci writes", m, append(slices.Clone(items[:2]), with(items[2], func(h *tar.Header) { h.Uid = 5 }))...)
	add("attributes", "not one that mrci writes", m, append(slices.Clone(items[:2]),
		with(items[2], func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "y"} }))...)
	add("another tar", "not one that mrci writes", manifestOf(base...), database, with(config, func(h *tar.Header) { h.Format = tar.FormatGNU }))

	add("nothing behind the manifest", "a part of it is missing", manifestOf(base...))
	add("member missing", "a part of it is missing", manifestOf(base...), database)
	add("members exchanged", "where its manifest announces", manifestOf(base...), config, database)
	add("member twice", "holds more", manifestOf(base...), database, config, config)
	add("member twice in the manifest", "twice or in the wrong place", manifestOf(database, config, config), database, config, config)
	add("member unknown", "no member can have the name", manifestOf(database, config, file("../evil", "")), database, config, file("../evil", ""))
	add("member other", "conf.json is not what its manifest announces", manifestOf(base...), database, file("conf.json", "[]"))
	add("member longer", "damaged", manifestOf(base...), database, file("conf.json", "{ }"))
	add("no database", "missing", manifestOf(config, file("tls_chain.pem", "")), config, file("tls_chain.pem", ""))
	add("large configuration", "cannot have", manifestOf(database, file("conf.json", strings.Repeat(" ", 1<<20+1))))
	add("negative size", "cannot have", changed(func(m *backup.Manifest) { m.Members[0].Size = -1 }), base...)
	add("huge size", "cannot have", changed(func(m *backup.Manifest) { m.Members[0].Size = 1 << 62 }), base...)
	add("huge files", "users' files", changed(func(m *backup.Manifest) {
		m.Files = &backup.Files{Entries: 1 << 62, SHA256: sum("")}
	}), base...)
	add("newer format", `it has format 2 and this mrci reads up to 1: restore it with mrci "9.9" or newer`, `{"format": 2, "program": "9.9", "what": {}}`)
	add("format 0", "format 0", changed(func(m *backup.Manifest) { m.Format = 0 }), base...)
	add("unknown field", "cannot be read", `{"format": 1, "what": 1}`)
	add("two manifests in one", "cannot be read", `{"format":1}{"format":1}`)
	add("no JSON", "cannot be read", "hello")
	add("large manifest", "no manifest", strings.Repeat(" ", 1<<20+1))
	add("bad mode", "mode or SHA-256", changed(func(m *backup.Manifest) { m.Members[0].Mode = "4755" }), base...)
	add("bad sum", "mode or SHA-256", changed(func(m *backup.Manifest) { m.Members[0].SHA256 = "xx" }), base...)
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			_, _, err := backup.Contents(ctx, bytes.NewReader(zip(plain(t, a.manifest, a.items))))
			if err == nil || !strings.Contains(err.Error(), a.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, a.want)
			}
		})
	}

	good := plain(t, manifestOf(base...), base)
	for name, text := range map[string][]byte{
		"zeros without end":     append(slices.Clone(good), make([]byte, 1<<20)...),
		"something behind":      append(slices.Clone(good), 1),
		"headers without end":   slices.Concat(plain(t, manifestOf(base...), nil)[:1024], bytes.Repeat(longName(t), 1000)),
		"another archive there": append(slices.Clone(good), good...),
	} {
		if _, _, err := backup.Contents(ctx, bytes.NewReader(zip(text))); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// As much as one likes from a few bytes: it ends at what was announced.
	endless := io.MultiReader(bytes.NewReader(zip(good)), &repeated{text: zip(make([]byte, 1<<20))})
	if _, _, err := backup.Contents(ctx, endless); err == nil {
		t.Error("an archive without end was accepted")
	}
}

// longName is the record of a long name, without the header that it is for.
func longName(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	h := file(strings.Repeat("x", 3000), "").h
	if err := w.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()[:b.Len()-512]
}

// repeated gives a text again and again.
type repeated struct {
	text []byte
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}

// What is in the members counts as well, not only that it is what the manifest
// announces.
func TestHostileContents(t *testing.T) {
	dir := t.TempDir()
	archive := save(t, newHost(t, one(filepath.Join(dir, "from")), "alice"), false)
	made, good, err := backup.Contents(ctx, bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "d")
	// A database on which a statement was run.
	changed := func(statement string) string {
		write(t, path, good["data.db"])
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		return readFile(t, path)
	}
	torn := []byte(good["data.db"])
	for at := 4096; at < len(torn); at += 4096 {
		torn[at] ^= 0xff
	}
	for name, test := range map[string]struct{ database, config, want string }{
		"newer tables":       {changed(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)`), "{}", "newer mrci"},
		"other version":      {changed(`DELETE FROM goose_db_version WHERE version_id > 1`), "{}", "its manifest announces"},
		"other program":      {changed(`ALTER TABLE goose_db_version RENAME TO x`), "{}", "another program"},
		"needs a log":        {changed(`PRAGMA journal_mode = WAL`), "{}", "stands alone"},
		"no database":        {strings.Repeat("x", 8192), "{}", "not an SQLite database"},
		"torn database":      {string(torn), "{}", ""},
		"unknown key":        {good["data.db"], `{"max_sesions": 5}`, "the configuration in it: conf.json:1:2: unknown key"},
		"broken conf.json":   {good["data.db"], `{`, "the configuration in it"},
		"conf.json of nulls": {good["data.db"], "\x00\x00", "the configuration in it"},
	} {
		t.Run(name, func(t *testing.T) {
			items := []item{file("data.db", test.database), file("conf.json", test.config)}
			m := manifestOf(items...)
			m.Schema = made.Schema
			to := one(filepath.Join(dir, "to"))
			_, err := restore(zip(plain(t, m, items)), backup.RestoreConfig{Dirs: to})
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
			if _, err := os.Stat(to.Data); err == nil {
				t.Error("the target was made")
			}
		})
	}
	// A pair that does not fit is told and restored all the same.
	items := []item{file("data.db", good["data.db"]), file("conf.json", "{}"), file("tls_chain.pem", good["tls_chain.pem"]), file("tls_priv.pem", "none")}
	m := manifestOf(items...)
	m.Schema = made.Schema
	report, err := backup.Check(ctx, "b", bytes.NewReader(zip(plain(t, m, items))))
	if err != nil || len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "do not fit") {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestNames(t *testing.T) {
	sorted := []string{"a", "a/b", "a/b/c", "a/c", "a.txt", "ab", "b"}
	for i, a := range sorted {
		for j, b := range sorted {
			got := backup.CompareNames(a, b)
			if got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("%s and %s: %d", a, b, got)
			}
		}
		if err := backup.CheckName(a); err != nil {
			t.Error(err)
		}
	}
}

// FuzzRead reads archives, and tars that it packs itself: a random change of
// packed bytes seldom gets past the checksums.
func FuzzRead(f *testing.F) {
	items := []item{file("data.db", "database"), file("conf.json", "{}"), file("files/a", "1"), file("files/b/c", "2")}
	good := plain(f, manifestOf(items...), items)
	f.Add(true, good)
	f.Add(false, zip(good))
	f.Add(true, plain(f, manifestOf(items[:2]...), items[:2]))
	f.Fuzz(func(t *testing.T, pack bool, text []byte) {
		if pack {
			text = zip(text)
		}
		m, contents, err := backup.Contents(ctx, bytes.NewReader(text))
		if err != nil {
			return
		}
		for _, member := range m.Members {
			text, ok := contents[member.Name]
			if !ok || int64(len(text)) != member.Size || sum(text) != member.SHA256 {
				t.Errorf("%s is not what the manifest announces", member.Name)
			}
		}
		files := int64(0)
		for name := range contents {
			if below, ok := strings.CutPrefix(name, "files/"); ok {
				files++
				if !filepath.IsLocal(strings.TrimSuffix(below, "/")) {
					t.Errorf("accepted the name %q", name)
				}
			}
		}
		if len(contents) != len(m.Members)+int(files) || files > 0 && (m.Files == nil || m.Files.Entries != files) {
			t.Errorf("%d members and %d files, announced: %+v", len(contents), files, m)
		}
	})
}
