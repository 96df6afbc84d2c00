package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/cert"
	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/fsys"
	"mrci.dev/mrci/internal/mail"
)

type configCmd struct {
	Show  configShowCmd  `cmd:"" help:"Show every key, or all about the named ones."`
	Check configCheckCmd `cmd:"" help:"Find every fault of the configuration file."`
}

// configShowCmd shows the configuration that a host would have that is started
// with the same options. It makes nothing.
type configShowCmd struct {
	Changed bool     `help:"Show only keys whose value is not the default."`
	JSON    bool     `name:"json" help:"Print a JSON array with an object per key."`
	Listen  string   `placeholder:"ADDR:PORT" help:"As for mrci host."`
	Set     []string `sep:"none" placeholder:"KEY=VALUE" help:"As for mrci host; may be given more than once."`

	Keys []string `arg:"" optional:"" name:"KEY" help:"Keys of conf.json; without any, all of them."`
}

// shownKey is a key with the place that its value comes from.
type shownKey struct {
	conf.Key
	Source string
}

// MarshalJSON leaves out what is only for people.
func (k shownKey) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Name    string `json:"name"`
		Value   any    `json:"value"`
		Default any    `json:"default"`
		Source  string `json:"source"`
		Doc     string `json:"doc"`
		Secret  bool   `json:"secret"`
		AtStart bool   `json:"at_start"`
	}{k.Name, k.Value, k.Default, k.Source, k.Doc, k.Secret, k.AtStart})
}

func (cmd *configShowCmd) Run(a *app) error {
	dirs, err := a.hostDirs()
	if err != nil {
		return err
	}
	file, err := conf.Read(dirs.File(), dirs)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case missing:
		file = conf.File{Config: conf.Defaults(dirs)}
	case err != nil:
		return err
	case len(file.Faults) > 0:
		return file.Faults
	}
	keys, err := cmd.choose(&file)
	if err != nil {
		return err
	}
	if missing {
		fmt.Fprintf(a.stderr, "There is no file %s yet: the defaults count, and the first start of the host writes it.\n", dirs.File())
	}
	switch {
	case cmd.JSON:
		return printJSON(a.stdout, keys)
	case len(cmd.Keys) > 0:
		return explain(a.stdout, keys)
	}
	return list(a.stdout, keys)
}

// choose returns the keys that are asked for, under what the command line says
// on top of the file.
func (cmd *configShowCmd) choose(file *conf.File) ([]shownKey, error) {
	listen, err := listenAssignments(cmd.Listen)
	if err != nil {
		return nil, err
	}
	c := file.Config
	if err := c.Set(slices.Concat(cmd.Set, listen)...); err != nil {
		return nil, err
	}
	sources := make(map[string]string)
	for key, at := range file.Places {
		sources[key] = fmt.Sprintf("%s:%d", conf.FileName, at.Line)
	}
	name := func(source string, assignments []string) {
		for _, assignment := range assignments {
			key, _, _ := strings.Cut(assignment, "=")
			sources[strings.TrimSpace(key)] = source
		}
	}
	name("--set", cmd.Set)
	name("--listen", listen)
	keys := c.Keys()
	if len(cmd.Keys) > 0 {
		keys = keys[:0]
		for _, name := range cmd.Keys {
			k, err := c.Key(name)
			if err != nil {
				return nil, err
			}
			keys = append(keys, k)
		}
	}
	shown := []shownKey{}
	for _, k := range keys {
		if source := sources[k.Name]; k.Changed || !cmd.Changed {
			if source == "" {
				source = "default"
			}
			shown = append(shown, shownKey{k, source})
		}
	}
	return shown, nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// list prints a line per key; an asterisk marks what is not the default.
func list(w io.Writer, keys []shownKey) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, k := range keys {
		mark := ' '
		if k.Changed {
			mark = '*'
		}
		fmt.Fprintf(t, "%c %s\t%s\t%s\n", mark, k.Name, jsonText(k.Value), k.Source)
	}
	return t.Flush()
}

// explain prints all about each key.
func explain(w io.Writer, keys []shownKey) error {
	var b strings.Builder
	for i, k := range keys {
		if i > 0 {
			b.WriteByte('\n')
		}
		value, preset := jsonText(k.Default), k.Preset
		if preset != value {
			preset += ": " + value
		}
		takes := "when the file is read again"
		if k.AtStart {
			takes = "at the next start of the host"
		}
		fmt.Fprintf(&b, "%s: %s\n  from:           %s\n  default:        %s\n  allowed:        %s\n  what it does:   %s\n  why so:         %s\n  takes effect:   %s\n",
			k.Name, jsonText(k.Value), k.Source, preset, k.Want, k.Doc, k.Why, takes)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// jsonText is a value as the file would have it.
func jsonText(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// configCheckCmd looks at a configuration file and at what it points to.
type configCheckCmd struct {
	File string `arg:"" optional:"" name:"FILE" help:"The file to check; without it, the host's conf.json."`
}

func (cmd *configCheckCmd) Run(a *app) error {
	dirs, err := a.hostDirs()
	if err != nil {
		return err
	}
	path := cmd.File
	if path == "" {
		path = dirs.File()
	}
	file, err := conf.Read(path, dirs)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; the first start of the host writes it", err)
	}
	if err != nil {
		return err
	}
	x := newExaminer(&file)
	x.examine(time.Now())
	var b strings.Builder
	all := slices.Concat(file.Faults, x.faults, x.warnings)
	slices.SortStableFunc(all, func(a, b *conf.Fault) int { return cmp.Or(a.Line-b.Line, a.Column-b.Column) })
	for _, fault := range all {
		fmt.Fprintln(&b, fault)
	}
	wrong := len(file.Faults)+len(x.faults) > 0
	if !wrong {
		keys := "keys"
		if len(file.Places) == 1 {
			keys = "key"
		}
		fmt.Fprintf(&b, "%s is fine: %d %s set\n", file.Name, len(file.Places), keys)
	}
	if _, err := io.WriteString(a.stdout, b.String()); err != nil {
		return err
	}
	if wrong {
		return exitError{code: 1}
	}
	return nil
}

// examiner looks at what the values of a configuration point to. Keys whose
// value is a fault already are left alone.
type examiner struct {
	file             *conf.File
	wrong            map[string]bool
	faults, warnings conf.Faults
}

func newExaminer(file *conf.File) *examiner {
	x := &examiner{file: file, wrong: make(map[string]bool)}
	for _, fault := range file.Faults {
		x.wrong[fault.Key] = true
	}
	return x
}

func (x *examiner) examine(now time.Time) {
	c := &x.file.Config
	if !x.wrong["db_host_name"] {
		x.fault("db_host_name", fsys.CanWrite(c.DBHostName))
	}
	x.certificate(now)
	for _, template := range []struct{ key, path string }{
		{"reset_pw_mail_template", c.ResetPwMailTemplate},
		{"email_verify_template", c.EmailVerifyTemplate},
	} {
		if x.wrong[template.key] {
			continue
		}
		_, err := mail.LoadTemplate(template.path)
		if errors.Is(err, fs.ErrNotExist) {
			err = fsys.CanWrite(template.path) // the host makes it
		}
		x.fault(template.key, err)
	}
	x.mail()
	x.roots()
	x.rights()
}

func (x *examiner) certificate(now time.Time) {
	if x.wrong["tls_cert_chain"] || x.wrong["tls_priv_key"] {
		return
	}
	c := &x.file.Config
	own := c.OwnCertificate()
	found := cert.Check(cert.Config{Chain: c.TLSCertChain, Key: c.TLSPrivKey, Make: own})
	x.fault("tls_cert_chain", found.Chain)
	x.fault("tls_priv_key", found.Key)
	switch leaf := found.Leaf; {
	case found.Chain != nil || found.Key != nil:
	case leaf == nil: // the host makes it
		x.fault("tls_cert_chain", fsys.CanWrite(c.TLSCertChain[0]))
	case own: // kept valid by the host
	case now.After(leaf.NotAfter):
		x.warn("tls_cert_chain", fmt.Errorf("the certificate in %s has expired on %s", c.TLSCertChain[0], leaf.NotAfter.Format(time.DateOnly)))
	case now.Before(leaf.NotBefore):
		x.warn("tls_cert_chain", fmt.Errorf("the certificate in %s is not valid before %s", c.TLSCertChain[0], leaf.NotBefore.Format(time.DateOnly)))
	}
}

// mail looks at the way that mails would take. Nobody is talked to.
func (x *examiner) mail() {
	c := &x.file.Config
	switch {
	case c.SMTPHost != "":
		if x.wrong["smtp_from"] {
			return
		}
		_, err := mail.NewSMTP(mail.SMTPConfig{
			Host: c.SMTPHost, Port: c.SMTPPort, User: c.SMTPUser, Password: account.Secret(string(c.SMTPPassword)),
			From: c.SMTPFrom, TLS: c.SMTPTLS,
		})
		x.fault("smtp_from", err)
	case c.MailClientCmd != "" && !x.wrong["smtp_host"]:
		command, err := mail.NewCommand(c.MailClientCmd)
		if err == nil {
			err = command.Find()
		}
		x.fault("mail_client_cmd", err)
	}
}

func (x *examiner) roots() {
	c := &x.file.Config
	var dirs []string
	for _, dir := range c.FSRoots.ByRank {
		dirs = append(dirs, dir)
	}
	for _, dir := range c.FSRoots.ByUser {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is not a directory", dir)
		}
		if err != nil {
			x.warn("fs_roots", err)
		}
	}
}

// rights looks at who else may read the passwords in the file.
func (x *examiner) rights() {
	c := &x.file.Config
	info, err := os.Stat(x.file.Name)
	if err != nil || runtime.GOOS == "windows" || info.Mode().Perm()&0o077 == 0 {
		return
	}
	for _, k := range c.Keys() {
		if k.Secret && k.Changed {
			x.warn(k.Name, fmt.Errorf("other accounts may read the file: chmod 600 %s", filepath.Clean(x.file.Name)))
			return
		}
	}
}

// fault notes what keeps the host from starting, or from using a key.
func (x *examiner) fault(key string, err error) {
	if err != nil {
		x.faults = append(x.faults, x.about(key, err))
	}
}

// warn notes what is likely to be a mistake.
func (x *examiner) warn(key string, err error) {
	fault := x.about(key, err)
	fault.Err = fmt.Errorf("warning: %w", fault.Err)
	x.warnings = append(x.warnings, fault)
}

// about makes a fault of a key. Some packages name the key themselves.
func (x *examiner) about(key string, err error) *conf.Fault {
	fault := x.file.Fault(key, err)
	if strings.HasPrefix(err.Error(), key+": ") {
		fault.Err = err
	}
	return fault
}
