package host_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mrci.dev/mrci/internal/cert"
	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/control"
	"mrci.dev/mrci/internal/host"
	"mrci.dev/mrci/internal/host/hosttest"
	"mrci.dev/mrci/internal/host/hosttest/bare"
	"mrci.dev/mrci/wire"
)

// TestReloadBinds: what the new configuration says binds at its next use, in
// sessions that were there before as well, and nobody loses a session.
func TestReloadBinds(t *testing.T) {
	h := hosttest.Start(t)
	h.User("ann", 2)
	anon, ann := h.Connect(), h.Connect()
	ann.Login("ann")
	if _, offered := anon.Commands["add_acct"]; offered {
		t.Fatal("registration is open before the reload")
	}
	h.Write(`{"enable_public_reg": true, "initial_rank": 7, "max_instances": 1, "max_sessions": 2, "first_admin": false, "listening_port": 4}`)
	report, err := h.Reload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The host may have seen by itself that the file has changed, and then there
	// was nothing more to do: what it reports is in the log as well.
	reported := ""
	for line := range strings.Lines(h.Log()) {
		if strings.Contains(line, "msg=reloaded") {
			reported += line
		}
	}
	for line := range strings.Lines(report) {
		if !strings.Contains(reported, strings.TrimSuffix(line, "\n")) {
			t.Errorf("%q was reported, the log has %q", line, reported)
		}
	}
	for _, want := range []string{"enable_public_reg", "initial_rank", "max_instances", "at the next start: first_admin"} {
		if !strings.Contains(reported, want) {
			t.Errorf("the report does not have %q: %q", want, reported)
		}
	}
	if strings.Contains(reported, "listening_port") {
		t.Errorf("listening_port stands above the file: %q", reported)
	}

	// The command is offered to those who are there, and the rank is the new one.
	anon.Until(func(wire.Frame) bool { return anon.Commands["add_acct"].Name != "" })
	wantKinds(t, dialogue(anon, "add_acct", "-name bob -email bob@example.org", right), "PRIV_TEXT, TEXT, IDLE 1")
	anon.Login("bob")
	if got := hosttest.Texts(wire.Text, anon.Call("my_info", "")); !strings.Contains(got, "7") {
		t.Errorf("my_info of a new account: %q, want rank 7", got)
	}
	// One call at once, and no more.
	id := ann.ID("set_pw")
	ann.Send(wire.Text, id, 0, "")
	ann.UntilType(wire.PrivText)
	ann.Send(wire.Text, id, 1, "")
	if got := hosttest.Kinds(ann.UntilIdle(id, 1)); got != "ERR, IDLE 6" {
		t.Errorf("a second call: %s", got)
	}
	// Two sessions and the one for loopback.
	h.Connect()
	hosttest.Refused(t, h.Address())

	h.Write(`{}`)
	if _, err := h.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := h.Status(); len(s.Configuration.NeedsRestart) != 0 || s.Sessions.Max != h.Conf.MaxSessions {
		t.Errorf("after the old file is back: %+v, %+v", s.Configuration, s.Sessions)
	}
	if ann.Send(wire.TermCmd, id, 0, ""); !strings.HasSuffix(hosttest.Kinds(ann.UntilIdle(id, 0)), "IDLE 2") {
		t.Error("the session that was there has lost its call")
	}
}

// TestReloadOfQueues: send_queue_bytes binds the sessions that are there as well
// as those that come later.
func TestReloadOfQueues(t *testing.T) {
	s := newStage(t)
	s.enter("olga1", "hank1")
	s.link("olga1", "hank1")
	reload := func(text string) {
		t.Helper()
		s.h.Write(text)
		if _, err := s.h.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	data := make([]byte, 2<<20)
	send := func(peer, answer string) {
		t.Helper()
		var wants []want
		if answer == "I1" {
			wants = []want{to(peer, bare.At(bare.P2P, bare.Bytes, s.id("olga1"), data))}
		}
		s.frame("olga1", answer, bare.Bytes, "to_peer", bare.Cat(s.id(peer), data), wants...)
	}
	send("hank1", "I1")
	reload(`{"send_queue_bytes": 1048576}`)
	s.enter("sven1")
	s.link("olga1", "sven1")
	send("hank1", "E3")
	send("sven1", "E3")
	reload(`{"send_queue_bytes": 16777216}`)
	send("hank1", "I1")
	send("sven1", "I1")
}

// TestReloadAgain: what a reload could not bring up to the settings, because who
// asked for it has left, the next one does, though the file is the same. The
// host does not run, and so does not watch the file.
func TestReloadAgain(t *testing.T) {
	dirs, err := conf.Locate(t.TempDir(), func(string) string { return "" }, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	c := conf.Defaults(dirs)
	if err := c.Set("listening_addr=127.0.0.1", "listening_port=0"); err != nil {
		t.Fatal(err)
	}
	next := c
	if err := next.Set("all_channels_active_update=true"); err != nil {
		t.Fatal(err)
	}
	h, err := host.Open(t.Context(), host.Config{
		Conf: c, Version: "test", Log: slog.New(slog.DiscardHandler),
		Load: func() (conf.Config, error) { return next, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	gone, leave := context.WithCancel(t.Context())
	leave()
	for n, ctx := range []context.Context{gone, gone, t.Context(), gone} {
		report, err := h.Reload(ctx)
		if behind := strings.Contains(report, "attention: sub-channels"); err != nil || behind != (n < 2) {
			t.Errorf("reload %d: %q, %v", n, report, err)
		}
	}
}

// A host can be asked to reload before it runs: SIGHUP comes when it likes.
func TestReloadBeforeRun(t *testing.T) {
	dirs, err := conf.Locate(t.TempDir(), func(string) string { return "" }, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	c := conf.Defaults(dirs)
	if err := c.Set("listening_addr=127.0.0.1", "listening_port=0"); err != nil {
		t.Fatal(err)
	}
	h, err := host.Open(t.Context(), host.Config{
		Conf: c, Version: "test", Log: slog.New(slog.DiscardHandler),
		Load: func() (conf.Config, error) { return c, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, err := h.Reload(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestReloadKeeps: a file with a fault changes nothing, and everybody is told
// why: who asked, the log, the status.
func TestReloadKeeps(t *testing.T) {
	h := hosttest.Start(t)
	h.Write(`{"auto_lock_limit": 3}`)
	if _, err := h.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	file := h.Conf.Dirs.File()
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key", `{"auto_lok_limit": 4}`, "auto_lock_limit"},
		{"value", `{"auto_lock_limit": 0}`, "auto_lock_limit"},
		{"half", `{"auto_lock_limit": 4`, file + ":1:"},
		{"empty", ``, "empty"},
		{"mail", `{"mail_client_cmd": "mail '"}`, "mail_client_cmd"},
		{"several keys", `{"pace_bytes": 70000000, "auto_lock_limit": 4}`, "send_queue_bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.Write(tt.text)
			got := h.Ask(host.RequestReload)
			if got.Status != 1 || !strings.Contains(got.Error, tt.want) || strings.Contains(got.Error, "\n") {
				t.Errorf("reload: %+v, want an error with %q", got, tt.want)
			}
			s := h.Status()
			if !strings.Contains(s.Configuration.LastError, tt.want) {
				t.Errorf("status: %+v", s.Configuration)
			}
		})
	}
	// Without a file nothing changes either: the defaults are not meant.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := h.Ask(host.RequestReload); got.Status != 1 || !strings.Contains(got.Error, file) {
		t.Errorf("reload without a file: %+v", got)
	}
	if !strings.Contains(h.Log(), "level=ERROR msg=reload") {
		t.Error("the log does not say that reloading has failed")
	}
	h.Write(`{"auto_lock_limit": 3}`)
	if got := h.Ask(host.RequestReload); got.Status != 0 || !strings.Contains(got.Text, "nothing has changed") {
		t.Errorf("reload of what binds already: %+v", got)
	}
	if s := h.Status(); s.Configuration.LastError != "" {
		t.Errorf("status after a good reload: %+v", s.Configuration)
	}
}

// TestReloadOfAPipe: a file that would never end is refused, and nobody waits
// for it.
func TestReloadOfAPipe(t *testing.T) {
	h := hosttest.Start(t)
	file := h.Conf.Dirs.File()
	if err := os.MkdirAll(file, 0o700); err != nil { // as little a file as a pipe is
		t.Fatal(err)
	}
	if got := h.Ask(host.RequestReload); got.Status != 1 || !strings.Contains(got.Error, "no regular file") {
		t.Errorf("reload: %+v", got)
	}
	if s := h.Status(); !strings.Contains(s.Configuration.LastError, "no regular file") {
		t.Errorf("status: %+v", s.Configuration)
	}
}

// pairs are certificates with their keys, each in a directory of its own.
func pairs(t *testing.T, n int) (files []cert.Config, sums map[[32]byte]bool) {
	t.Helper()
	sums = make(map[[32]byte]bool)
	for i := range n {
		dir := filepath.Join(t.TempDir(), fmt.Sprint(i))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		c := cert.Config{Chain: []string{filepath.Join(dir, "chain.pem")}, Key: filepath.Join(dir, "key.pem"), Make: true}
		s, err := cert.Open(c)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, c)
		sums[sha256.Sum256(s.Leaf().Raw)] = true
	}
	return files, sums
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestReloadUnderLoad: a hundred reloads of good and broken files while clients
// work and others come. No session is lost, and every handshake sees a whole
// certificate that was good.
func TestReloadUnderLoad(t *testing.T) {
	files, sums := pairs(t, 3)
	dir := t.TempDir()
	chain, key := filepath.Join(dir, "chain.pem"), filepath.Join(dir, "key.pem")
	put := func(file string, text []byte) {
		t.Helper()
		if err := os.WriteFile(file, text, 0o600); err != nil { // in place: half of it can be seen
			t.Error(err)
		}
	}
	put(chain, read(t, files[0].Chain[0]))
	put(key, read(t, files[0].Key))
	h := hosttest.Start(t, hosttest.Set("tls_on_loopback=true", "tls_cert_chain="+chain, "tls_priv_key="+key))
	h.User("ann", 2)

	done := make(chan struct{})
	var clients sync.WaitGroup
	var calls, handshakes atomic.Int64
	const workers, visitors = 6, 2
	for range workers {
		c := h.Connect()
		c.Login("ann")
		clients.Go(func() {
			for {
				if got := hosttest.Kinds(c.Call("my_info", "")); got != "TEXT, IDLE 1" {
					t.Errorf("a call during reloads: %s", got)
					return
				}
				calls.Add(1)
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for range visitors {
		clients.Go(func() {
			for {
				c := h.Connect()
				leaf := c.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
				if !sums[sha256.Sum256(leaf.Raw)] {
					t.Error("a handshake with a certificate that is none of the good ones")
				}
				c.Conn.Close()
				handshakes.Add(1)
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}

	good, bad := 0, 0
	reload := func(wantErr bool) {
		t.Helper()
		_, err := h.Reload(t.Context())
		if (err != nil) != wantErr {
			t.Errorf("reload: %v, want an error: %v", err, wantErr)
		}
		if err != nil {
			bad++
		} else {
			good++
		}
	}
	h.Write(`{}`)
	for round := range 20 {
		pair := files[round%len(files)]
		newChain, newKey := read(t, pair.Chain[0]), read(t, pair.Key)
		put(chain, newChain[:len(newChain)/2])
		reload(true)
		put(chain, newChain)
		_, _ = h.Reload(t.Context()) // the key may be the other one still
		put(key, newKey)
		reload(false)
		h.Write(fmt.Sprintf(`{"max_instances": %d, "tls_min": "1.%d"}`, 8+round, 2+round%2))
		reload(false)
		h.Write(`{"max_instances": `)
		reload(true)
		h.Write(`{"max_instances": 9}`)
		reload(false)
	}
	close(done)
	clients.Wait()
	t.Logf("%d good and %d bad reloads, %d calls and %d handshakes meanwhile", good, bad, calls.Load(), handshakes.Load())
	if now := h.Status(); now.Counters["ended"]["slow_consumer"] != 0 || now.Counters["not_started"]["tls_handshake"] != 0 {
		t.Errorf("counters: %v", now.Counters)
	}
	for n, c := range []int{good, bad} {
		if c < 40 {
			t.Errorf("only %d of kind %d", c, n)
		}
	}
}

// TestWatched: a changed file is read without being asked for.
func TestWatched(t *testing.T) {
	h := hosttest.Start(t)
	anon := h.Connect()
	h.Write(`{"enable_public_reg": true}`)
	anon.Until(func(wire.Frame) bool { return anon.Commands["add_acct"].Name != "" })
	h.Write(`{}`)
	anon.Until(func(wire.Frame) bool { _, offered := anon.Commands["add_acct"]; return !offered })
}

// TestStatus: the status says what there is, and is the same in JSON.
func TestStatus(t *testing.T) {
	h := hosttest.Start(t)
	h.User("ann", 2)
	h.User("root2", 1)
	h.Connect()
	h.Connect().Login("ann")
	h.Connect().Login("root2")
	c := h.Connect()
	dialogue(c, "auth", "-user ann", "Wrong-horse7", "")
	c.Send(wire.Text, 60000, 0, "") // no such command
	c.UntilIdle(60000, 0)

	answer := h.Ask(host.RequestStatus)
	var s control.Status
	if err := json.Unmarshal(answer.Data, &s); err != nil {
		t.Fatal(err)
	}
	if s.Sessions.Now != 4 || s.Sessions.Anonymous != 2 || s.Sessions.ByRank["1"] != 1 || s.Sessions.ByRank["2"] != 1 {
		t.Errorf("sessions: %+v", s.Sessions)
	}
	for _, tt := range []struct {
		group, reason string
		want          uint64
	}{
		{"connections", "accepted", 4}, {"logins", "login_accepted", 2}, {"logins", "login_refused", 1},
		{"refused_calls", "not_offered", 1}, {"ended", "client_left", 0},
	} {
		if got := s.Counters[tt.group][tt.reason]; got != tt.want {
			t.Errorf("counter %s %s: %d, want %d", tt.group, tt.reason, got, tt.want)
		}
	}
	if s.Addr != h.Address() || s.Certificate.SHA256 != h.Fingerprint() || !s.Certificate.RenewsItself ||
		s.Memory.HeapBytes == 0 || s.Database.SizeBytes == 0 || s.Version != "test" || s.PID != os.Getpid() {
		t.Errorf("status: %+v", s)
	}
	for _, want := range []string{h.Address(), h.Fingerprint(), h.Conf.DBHostName, "not_offered 1"} {
		if !strings.Contains(answer.Text, want) {
			t.Errorf("the text does not have %q:\n%s", want, answer.Text)
		}
	}
}

// TestListen: the host moves, sessions stay, and a place that cannot be had
// changes nothing.
func TestListen(t *testing.T) {
	h := hosttest.Start(t)
	c := h.Connect()
	before := h.Address()
	if got := h.Ask(host.RequestListen, "127.0.0.1:0"); got.Status != 0 || got.Text != "listening on "+h.Address()+"\n" {
		t.Fatalf("listen: %+v", got)
	}
	if h.Address() == before {
		t.Fatal("the host has not moved")
	}
	hosttest.Refused(t, before)
	h.Connect()
	c.Call("ls_cmds", "")
	// The same port at every address excludes the place where it is.
	if got := h.Ask(host.RequestListen, fmt.Sprintf("0.0.0.0:%d", h.Addr().Port())); got.Status != 0 {
		t.Errorf("listen everywhere: %+v", got)
	}
	h.Connect()
	now := h.Address()
	for _, addr := range []string{"192.0.2.77:1", "nonsense", "127.0.0.1:99999", fmt.Sprintf("192.0.2.77:%d", h.Addr().Port())} {
		if got := h.Ask(host.RequestListen, addr); got.Status != 1 || got.Error == "" {
			t.Errorf("listen on %s: %+v", addr, got)
		}
	}
	if h.Address() != now {
		t.Errorf("the host is at %s, want %s", h.Address(), now)
	}
	h.Connect()
	c.Call("ls_cmds", "")
}

// TestAccountRequest: sessions act on what another process has changed.
func TestAccountRequest(t *testing.T) {
	h := hosttest.Start(t)
	h.User("ann", 2)
	c := h.Connect()
	c.Login("ann")
	if _, offered := c.Commands["ls_act_log"]; offered {
		t.Fatal("rank 2 is offered the log")
	}
	if _, err := h.Accounts().Elevate(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	if got := h.Ask(host.RequestAccount, "ANN"); got.Status != 0 {
		t.Fatalf("account: %+v", got)
	}
	// The answer has come: the session has acted.
	c.Until(func(wire.Frame) bool { return c.Commands["ls_act_log"].Name != "" })
	if got := h.Ask(host.RequestAccount, "nobody"); got.Status != 1 || !strings.Contains(got.Error, "nobody") {
		t.Errorf("account nobody: %+v", got)
	}
	for _, tt := range [][]string{{"account"}, {"status", "x"}, {"nosuch"}} {
		if got := h.Ask(tt[0], tt[1:]...); got.Status != 1 || got.Error == "" {
			t.Errorf("%q: %+v", tt, got)
		}
	}
}

// TestStopRequest: who asks the host to stop learns when it has ended, and
// clients are told.
func TestStopRequest(t *testing.T) {
	h := hosttest.Start(t)
	c := h.Connect()
	path, err := control.SocketPath(h.Conf.Dirs.Runtime, h.Conf.Dirs.AccountRuntime)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if got, err := control.CallUntilEnd(ctx, path, control.Request{Command: host.RequestStop}); err != nil || got.Status != 0 {
		t.Fatalf("stop: %+v, %v", got, err)
	}
	if got := hosttest.Texts(wire.Text, c.Ended()); got != "The host stops now.\n" {
		t.Errorf("the client was told %q", got)
	}
	for _, file := range []string{path, filepath.Join(h.Conf.Dirs.Runtime, "host.lock")} {
		if _, err := os.Lstat(file); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", file, err)
		}
	}
	// The directory is free.
	hosttest.Start(t, hosttest.Dir(h.Dir)).Connect()
}

// TestSecondHost: a directory has one host.
func TestSecondHost(t *testing.T) {
	h := hosttest.Start(t)
	config := host.Config{Conf: h.Conf, Version: "test", Log: hosttest.Silent()}
	if second, err := host.Open(t.Context(), config); err == nil {
		second.Close()
		t.Fatal("a second host has opened the directory")
	} else if !strings.Contains(err.Error(), h.Dir) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("error: %v", err)
	}
	h.Connect().Call("ls_cmds", "")
	h.Ask(host.RequestStatus)
}

// TestFilesThatOthersRead: the log tells of them.
func TestFilesThatOthersRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes say nothing there")
	}
	h := hosttest.Start(t)
	if strings.Contains(h.Log(), "chmod") {
		t.Error("files that the host has made are open to others")
	}
	h.Stop()
	if err := os.Chmod(h.Conf.TLSPrivKey, 0o644); err != nil {
		t.Fatal(err)
	}
	if log := hosttest.Start(t, hosttest.Dir(h.Dir)).Log(); !strings.Contains(log, "use chmod 600") || !strings.Contains(log, h.Conf.TLSPrivKey) {
		t.Errorf("no warning:\n%s", log)
	}
}
